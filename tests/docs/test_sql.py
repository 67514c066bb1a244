"""Every SQL block of the documents gives the result that follows it, on DuckDB and PostgreSQL.

One sandbox, one sync, one database of each kind, loaded with the commands of the documents: five
days as the quickstart does it, then a sixth with the columns that docs/custom-variables.md adds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import documented_databases
from documented_databases import UNTIL, Table, as_text, cell_text
from documents import DOCUMENTS, TIMEOUT, blocks, write_config
from environments import ROOT
from postgres import Postgres

from tap_fullstory.sandbox import Sandbox, generated_bundles

FOUND = re.compile(r"^```sql\n(.*?)^```\n((?:\n(?:\|[^\n]*\n)+)?)", re.MULTILINE | re.DOTALL)
BLOCKS = [(name, *block) for name, text in DOCUMENTS.items() for block in FOUND.findall(text)]
ASK = """\
import duckdb, json, sys
with duckdb.connect("fullstory.duckdb") as db:
    for sql in json.load(sys.stdin):
        found = db.sql(sql)
        rows = found.fetchall() if found else []
        print(json.dumps([found.columns if found else [], rows], default=str))
"""

loaded = documented_databases.loaded


def test_every_block_gives_the_result_that_follows_it(commands, tmp_path, loaded):
    asked = [sql for _, sql, _ in BLOCKS]
    printed = subprocess.run(
        [commands.loader_python, "-c", ASK], cwd=tmp_path, input=json.dumps(asked),
        stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True,
    ).stdout.splitlines()  # fmt: skip
    wrong = []
    for (name, sql, markdown), line in zip(BLOCKS, printed, strict=True):
        columns, rows = json.loads(line)
        in_duckdb = as_text([columns, *rows]) if is_query(sql) else [[]]
        shown = read_table(markdown) if markdown else [[]]
        in_postgres = answer(loaded, sql)
        if not shown == in_duckdb == in_postgres:
            found = {"DuckDB": in_duckdb, "PostgreSQL": in_postgres}
            tables = "\n".join(f"{who}:\n{as_markdown(table)}" for who, table in found.items())
            wrong.append(f"{name}:\n{sql}\n{tables}")
    assert not wrong, "\n\n".join(["These have other results than the documents say.", *wrong])


def answer(postgres: Postgres, sql: str) -> Table:
    """What a query gives; [[]] for another statement."""
    if not is_query(sql):
        postgres.execute(sql)
        return [[]]
    found = postgres.query(sql.rstrip().removesuffix(";"))
    return as_text([list(found[0]), *(list(row.values()) for row in found)])


def is_query(sql: str) -> bool:
    return sql.startswith(("SELECT", "WITH"))


def read_table(markdown: str) -> Table:
    lines = [line.strip("|") for line in markdown.split("\n") if line]
    return [
        [cell_text(cell.strip()) for cell in line.split("|")] for line in (lines[0], *lines[2:])
    ]


def as_markdown(table: Table) -> str:
    lines = [" | ".join(row) for row in table]
    return "\n".join(
        f"| {line} |" for line in (lines[0], " | ".join("-" * len(table[0])), *lines[1:])
    )


# These ask for rage clicks, which FullStory's public sample has none of.
WITHOUT_ROWS_IN_THE_SAMPLE = "first_rage_click"


def test_queries_answer_on_bundles_with_the_fields_of_the_public_sample(commands, tmp_path):
    path = ":".join(
        [str(commands.loader_python.parent), str(commands.tap.parent), os.environ["PATH"]]
    )
    shutil.copy(ROOT / "examples/duckdb/load.py", tmp_path)
    with Sandbox(generated_bundles(6, 240, until=UNTIL, fields="sample")) as serving:
        write_config(tmp_path, serving, end_date=UNTIL.isoformat())
        subprocess.run(
            ["bash", "-c", blocks("bash", "docs/duckdb.md")[0]], cwd=tmp_path, check=True,
            env={**os.environ, "PATH": path, "no_proxy": "127.0.0.1"}, capture_output=True,
        )  # fmt: skip
    queries = [sql for name, sql, _ in BLOCKS if name == "docs/sql.md"]
    shown = [read_table(table) for name, _, table in BLOCKS if name == "docs/sql.md"]
    printed = subprocess.run(
        [commands.loader_python, "-c", ASK], cwd=tmp_path, input=json.dumps(queries),
        stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True,
    ).stdout.splitlines()  # fmt: skip
    funnels = 0
    for sql, line, on_all in zip(queries, printed, shown, strict=True):
        columns, rows = json.loads(line)
        assert rows or WITHOUT_ROWS_IN_THE_SAMPLE in sql, sql
        if "page" in columns:
            assert any(row[columns.index("page")] for row in rows), sql
        if "saw_a_product" in columns:
            funnels += 1
            assert as_text([columns, *rows]) == on_all
    assert funnels == 1


def test_erasing_a_person_leaves_none_of_their_events(commands, tmp_path):
    """Those from before they signed up, too, which have no key."""
    path = ":".join(
        [str(commands.loader_python.parent), str(commands.tap.parent), os.environ["PATH"]]
    )
    shutil.copy(ROOT / "examples/duckdb/load.py", tmp_path)
    with Sandbox(generated_bundles(6, 240, until=UNTIL)) as serving:
        write_config(tmp_path, serving, end_date=UNTIL.isoformat())
        subprocess.run(
            ["bash", "-c", blocks("bash", "docs/duckdb.md")[0]], cwd=tmp_path, check=True,
            env={**os.environ, "PATH": path, "no_proxy": "127.0.0.1"}, capture_output=True,
        )  # fmt: skip
    (erase,) = (sql for name, sql, _ in BLOCKS if name == "docs/privacy.md")
    person = "42002714704240704"
    sign_up = f"""UPDATE events SET "UserAppKey" = NULL WHERE "IndvId" = {person}
        AND "EventStart" < (SELECT max("EventStart") FROM events WHERE "IndvId" = {person})"""
    count = f"""SELECT count(*), count("UserAppKey") FROM events WHERE "IndvId" = {person}"""
    printed = subprocess.run(
        [commands.loader_python, "-c", ASK], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        input=json.dumps([sign_up, count, erase.replace("THE_KEY", "customer-1002"), count]),
        timeout=TIMEOUT, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert [json.loads(printed[at])[1] for at in (1, 3)] == [[[70, 1]], [[0, 0]]]
