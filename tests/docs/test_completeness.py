"""docs/completeness.md finds what is missing and what is there twice, and its commands mend it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import documented_databases
import pytest
from documented_databases import as_text
from documents import TIMEOUT, blocks
from postgres import Postgres

PAGE = "docs/completeness.md"
VIEW, VERDICTS, ROWS_OF_NO_BUNDLE, HOLES = blocks("sql", PAGE)
(DAMAGED,) = blocks("text", PAGE)
SETTINGS, PERIOD, IN_DUCKDB, IN_POSTGRES = blocks("bash", PAGE)
DAY, ANOTHER = (
    "178035840048",
    "178044480048",
)  # the bundles that begin on 2026-06-02 and a day later
RUN = """\
import duckdb, json, sys
with duckdb.connect("fullstory.duckdb") as db:
    for sql in json.load(sys.stdin):
        print(json.dumps(db.execute(sql).fetchall(), default=str))
"""

loaded = documented_databases.loaded


class DuckDB:
    """The file of the documents, asked as PostgreSQL is."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._python, self._folder = python, folder

    def query(self, sql: str) -> list[list[Any]]:
        printed = subprocess.run(
            [self._python, "-c", RUN], input=json.dumps([sql]), cwd=self._folder,
            stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True,
        ).stdout  # fmt: skip
        found: list[list[Any]] = json.loads(printed)
        return found


def rows(database: DuckDB | Postgres, sql: str) -> list[list[str]]:
    found = database.query(sql.rstrip().removesuffix(";"))
    return as_text([list(row.values()) if isinstance(row, dict) else row for row in found])


@pytest.mark.parametrize("name", ["duckdb", "postgres"])
def test_bundles_that_miss_rows_or_have_them_twice_are_found_and_loaded_again(
    commands, tmp_path, loaded, name
):
    database = DuckDB(commands.loader_python, tmp_path) if name == "duckdb" else loaded
    run = database.query if isinstance(database, DuckDB) else database.execute
    events = "events" if name == "duckdb" else "fullstory.events"
    columns = 'count(*), count(distinct "EventStart"), sum("UserId"), max("SessionId")'
    whole = rows(database, f"select {columns} from {events}")
    run(VIEW)
    assert [row[0] for row in rows(database, VERDICTS)] == ["complete"]

    place = f"""from {events} where "BundleId" = '{DAY}'"""
    run(f'delete {place} and "EventStart" = (select min("EventStart") {place})')
    again = f"""insert into {events} select * from again"""
    if name == "postgres":  # where rows with the same key replace each other
        again = f"""update again set "EventDigest" = md5("EventDigest"); {again}"""
    bundle = f"""select * from {events} where "BundleId" = '{ANOTHER}'"""
    run(f"create temp table again as {bundle}; {again}")
    missing, twice = rows(database, DAMAGED)
    assert [missing[0], *missing[3:]] == [DAY, "240", str(int(missing[4]))]
    assert 0 < int(missing[4]) < 240
    assert [twice[0], *twice[3:]] == [ANOTHER, "240", "480"]
    assert [row[0] for row in rows(database, VERDICTS)] == [
        "complete", "rows are missing", "rows are there twice",
    ]  # fmt: skip
    assert rows(database, ROWS_OF_NO_BUNDLE) == rows(database, HOLES) == [["0"]]

    path = [commands.loader_python, commands.tap, commands.target_postgres]
    environment = {
        **os.environ,
        "PATH": ":".join([*(str(program.parent) for program in path), os.environ["PATH"]]),
        "PGHOST": "127.0.0.1", "PGPORT": str(loaded.port), "PGUSER": "postgres",
        "no_proxy": "127.0.0.1",
    }  # fmt: skip
    command = IN_DUCKDB if name == "duckdb" else IN_POSTGRES
    for bundle, start, end in ((DAY, 2, 3), (ANOTHER, 3, 4)):
        period = PERIOD.replace("-03T", "-0xT").replace("-02T", f"-0{start}T")
        script = [period.replace("-0xT", f"-0{end}T"), command.replace(DAY, bundle)]
        subprocess.run(
            ["bash", "-o", "pipefail", "-e", "-c", "\n".join(script)],
            cwd=tmp_path, env=environment, timeout=TIMEOUT, check=True,
        )  # fmt: skip
    assert not rows(database, DAMAGED)
    assert rows(database, VERDICTS) == [["complete", "6", "1440", "1440"]]
    assert rows(database, f"select {columns} from {events}") == whole
