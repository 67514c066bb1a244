"""examples/duckdb/query.py and day.py: what they print of a database that load.py has loaded."""

from __future__ import annotations

import subprocess
from typing import Any
from xml.etree import ElementTree

import pytest
from environments import ROOT

EXAMPLES = ROOT / "examples/duckdb"
MAKE = """
import duckdb, sys
with duckdb.connect("f.duckdb") as db:
    db.execute("CREATE TABLE events (EventStart TIMESTAMP, UserId BIGINT, SessionId BIGINT, "
        "EventType VARCHAR, PageName VARCHAR, CustomVars JSON)")
    db.execute("INSERT INTO events VALUES ('2026-06-01 12:00:00', 1, 2, 'click', chr(1) || 'a', "
        "'{\\"user_plan_str\\": \\"free\\"}')")
"""


@pytest.fixture
def run(commands, tmp_path) -> Any:
    """Run one of the examples over a database with one event."""
    subprocess.run([commands.loader_python, "-c", MAKE], cwd=tmp_path, check=True)

    def start(name: str, *arguments: str, sql: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [commands.loader_python, EXAMPLES / name, "f.duckdb", *arguments], cwd=tmp_path,
            input=sql, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return start


def test_sql_comes_as_an_argument_from_a_file_or_from_stdin(run, tmp_path):
    sql = "SELECT count(*) AS n FROM events"
    (tmp_path / "question 1.sql").write_text(sql)
    for done in (
        run("query.py", "--csv", sql),
        run("query.py", "--csv", "question 1.sql"),
        run("query.py", "--csv", sql=sql),
    ):
        assert (done.returncode, done.stdout) == (0, "n\n1\n"), done.stderr
    assert run("query.py", "no.sql").returncode == 1
    long = f"SELECT '{'x' * 5000}' = 'y' AS n"  # no name of a file can be so long
    assert run("query.py", "--csv", long).stdout == "n\nFalse\n"


def test_every_statement_prints_its_result(run):
    done = run("query.py", "--csv", "SELECT 1 AS a; SELECT 2 AS b;")
    assert (done.returncode, done.stdout) == (0, "a\n1\nb\n2\n")


def test_a_variable_that_is_no_column_is_looked_for_in_customvars(run):
    done = run("query.py", "SELECT user_plan_str FROM events")
    assert done.returncode == 1
    hint = """CustomVars ->> '$."user_plan_str"'"""
    assert done.stderr.rstrip().endswith(f"It may be in CustomVars: {hint}")
    assert run("query.py", "--csv", f"SELECT {hint} AS plan FROM events").stdout == "plan\nfree\n"
    assert "CustomVars" not in run("query.py", "SELECT EventTyp FROM events").stderr


def test_a_control_character_in_a_name_is_drawn(run):
    picture = run("day.py")
    assert picture.returncode == 0, picture.stderr
    assert "\ufffda" in "".join(ElementTree.fromstring(picture.stdout).itertext())
