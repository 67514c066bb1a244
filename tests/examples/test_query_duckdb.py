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
# 601 sessions over a day, each of three clicks, which in each tenth one are rage clicks.
BUSY_DAY = """
import duckdb
with duckdb.connect("f.duckdb") as db:
    db.execute("DROP TABLE events")
    db.execute("CREATE TABLE events AS SELECT "
        "TIMESTAMP '2026-06-01' + to_seconds(session * 143 + click) AS EventStart, "
        "session AS UserId, 7 AS SessionId, 'click' AS EventType, "
        "'https://example.com/a?b#c' AS PageUrl, "
        "CASE WHEN session % 10 = 3 THEN click + 1 ELSE 0 END AS EventModFrustrated "
        "FROM range(601) AS s(session), range(3) AS c(click)")
"""
SVG = "{http://www.w3.org/2000/svg}"


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


def test_a_variable_without_a_column_is_looked_for_in_customvars(run):
    done = run("query.py", "SELECT user_plan_str FROM events")
    assert done.returncode == 1
    hint = """CustomVars ->> '$."user_plan_str"'"""
    assert done.stderr.rstrip().endswith(f"It may be in CustomVars: {hint}")
    assert run("query.py", "--csv", f"SELECT {hint} AS plan FROM events").stdout == "plan\nfree\n"
    assert "CustomVars" not in run("query.py", "SELECT EventTyp FROM events").stderr


def test_only_write_changes_the_database(run, tmp_path):
    change = "UPDATE events SET PageName = 'b'; SELECT PageName FROM events"
    refused = run("query.py", change)
    assert refused.returncode == 1
    assert refused.stderr.rstrip().endswith("To change the database, add --write.")
    assert run("query.py", "--csv", "SELECT PageName FROM events").stdout == "PageName\n\x01a\n"
    changed = run("query.py", "--write", "--csv", change)
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout.endswith("PageName\nb\n")
    assert run("query.py", "--csv", "SELECT PageName FROM events").stdout == "PageName\nb\n"
    (tmp_path / "f.duckdb").unlink()
    assert run("query.py", "--write", "SELECT 1").returncode == 2
    assert not (tmp_path / "f.duckdb").exists()


def test_a_control_character_in_a_name_is_drawn(run):
    picture = run("day.py")
    assert picture.returncode == 0, picture.stderr
    assert "\ufffda" in "".join(ElementTree.fromstring(picture.stdout).itertext())


def test_a_busy_day_has_its_totals_and_is_drawn_evenly(commands, run, tmp_path):
    subprocess.run([commands.loader_python, "-c", BUSY_DAY], cwd=tmp_path, check=True)
    picture = run("day.py")
    assert picture.returncode == 0, picture.stderr
    root = ElementTree.fromstring(picture.stdout)
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert texts[:2] == [
        "Sessions of Monday, 01 June 2026, UTC",
        "601 sessions · 1,803 events · 60 rage clicks · 40 of 601 drawn",
    ]
    starts = [path for path in root.iter(f"{SVG}path") if path.get("class") == "start"]
    assert len(starts) == 601
    ticks = [float(path.get("d", "")[1:].split()[0]) for path in starts]
    assert (ticks[0], ticks[-1]) == (270.0, 270 + round(906 * 600 * 143 / 86400, 1))
    drawn = [text for text in texts if text[2:3] == ":" and text[:2] <= "23"]
    began = [int(text[:2]) * 60 + int(text[3:]) for text in drawn[8:]]  # after those of the strip
    assert len(began) == 40
    # Each of 40 parts of the day has one, and one with rage clicks where the part has any.
    assert [minute * 40 // (24 * 60) for minute in began] == pytest.approx(list(range(40)), abs=1)
    assert sum(path.get("transform") == "rotate(60)" for path in root.iter(f"{SVG}path")) > 40
    assert "/a" in texts

    alone = run("day.py", "--sessions", "601")
    assert " drawn" not in alone.stdout
    assert run("day.py", "--sessions", "0").returncode == 2
    assert run("day.py", "2026-06-02").returncode == 1
