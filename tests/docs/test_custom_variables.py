"""docs/custom-variables.md: on bundles with few fields, and undoing what it says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import documented_databases
from documented_databases import UNTIL, as_text, loaded_from
from documents import TIMEOUT, blocks
from environments import ROOT
from postgres import Postgres

from tap_fullstory.sandbox import generated_bundles

loaded = documented_databases.loaded

PAGE = "docs/custom-variables.md"
VARIABLES = (
    "SELECT count(page_category_str) AS in_the_column, "
    """count("CustomVars" ->> 'page_category_str') AS in_custom_vars FROM events"""
)


def query(commands: Any, folder: Path, sql: str, *options: str) -> list[list[str]]:
    """Run SQL with query.py, and return the rows of its CSV."""
    done = subprocess.run(
        [commands.loader_python, ROOT / "examples/duckdb/query.py", "fullstory.duckdb", "--csv",
         *options],
        cwd=folder, input=sql, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.split(",") for line in done.stdout.splitlines()]


def test_a_column_becomes_a_variable_in_custom_vars_again(commands, tmp_path, loaded: Postgres):
    in_duckdb, in_postgres = (block for block in blocks("text", PAGE) if "ALTER TABLE" in block)
    (counted,) = loaded.query(VARIABLES)
    everywhere = sum(counted.values())
    assert counted["in_the_column"] > 0
    assert query(commands, tmp_path, VARIABLES)[1] == [str(count) for count in counted.values()]

    (view,) = (block for block in blocks("sql", PAGE) if block.startswith("CREATE VIEW"))
    view = view.replace("user_plan_str", "page_category_str")
    ask = "SELECT count(plan) AS n FROM event_plans"
    loaded.execute(view)
    query(commands, tmp_path, view, "--write")
    assert loaded.query(ask) == [{"n": everywhere}]
    assert query(commands, tmp_path, ask) == [["n"], [str(everywhere)]]
    loaded.execute(in_postgres)
    query(commands, tmp_path, in_duckdb, "--write")
    for sql in (ask, """SELECT count("CustomVars" ->> 'page_category_str') AS n FROM events"""):
        assert loaded.query(sql) == [{"n": everywhere}]
        assert query(commands, tmp_path, sql) == [["n"], [str(everywhere)]]


def test_queries_answer_on_bundles_with_the_fields_of_the_public_sample(commands, tmp_path):
    """Its events have no user variables, and no names of pages."""
    bundles = generated_bundles(6, 240, until=UNTIL, fields="sample")
    columns = "ALTER TABLE events ADD COLUMN page_category_str text"
    numbers = "ALTER TABLE events ADD COLUMN page_price_real double precision"
    with loaded_from(commands, tmp_path, bundles, UNTIL) as postgres:
        for change in (columns, numbers):
            postgres.execute(change)
            query(commands, tmp_path, change, "--write")
        for sql in blocks("sql", PAGE):
            if not sql.startswith(("SELECT", "WITH")):
                postgres.execute(sql)
                query(commands, tmp_path, sql, "--write")
                continue
            found = [list(row.values()) for row in postgres.query(sql.rstrip().removesuffix(";"))]
            assert found, sql
            assert any(all(value is not None for value in row) for row in found), sql
            assert as_text(found) == as_text(query(commands, tmp_path, sql)[1:]), sql
