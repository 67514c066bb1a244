"""Every SQL block of the documents gives the result that follows it, on DuckDB and PostgreSQL.

One sandbox, one sync, one database of each kind, loaded with the commands of the documents: five
days as the quickstart does it, then a sixth with the columns that docs/custom-variables.md adds.
The recipes have weeks of their own, and are compared with an account that no SQL has made.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import documented_databases
import pytest
import shop_account
from documented_databases import UNTIL, Table, as_text, cell_text, loaded_from
from documents import DOCUMENTS, TIMEOUT
from postgres import Postgres

from tap_fullstory.sandbox import generated_bundles

FOUND = re.compile(r"^```sql\n(.*?)^```\n((?:\n(?:\|[^\n]*\n)+)?)", re.MULTILINE | re.DOTALL)
RECIPES = tuple(name for name in DOCUMENTS if name.startswith("docs/recipes"))
BLOCKS = [
    (name, *block)
    for name, text in DOCUMENTS.items() if name not in RECIPES for block in FOUND.findall(text)
]  # fmt: skip
RECIPE = re.compile(r"^## ([^\n]+)\n(?:(?!^##).)*?" + FOUND.pattern[1:], FOUND.flags)
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
    wrong = []
    for (name, sql, markdown), in_duckdb in zip(
        BLOCKS, ask_duckdb(commands, tmp_path, [sql for _, sql, _ in BLOCKS]), strict=True
    ):
        shown = read_table(markdown) if markdown else [[]]
        in_postgres = answer(loaded, sql)
        if not shown == in_duckdb == in_postgres:
            found = {"DuckDB": in_duckdb, "PostgreSQL": in_postgres}
            tables = "\n".join(f"{who}:\n{as_markdown(table)}" for who, table in found.items())
            wrong.append(f"{name}:\n{sql}\n{tables}")
    assert not wrong, "\n\n".join(["These have other results than the documents say.", *wrong])


def test_other_pages_show_what_the_sandbox_accounts_for():
    expected = shop_account.Account("all", 6, UNTIL).tables()
    shown = {
        ", ".join(table[0]): table[1:]
        for _, _, markdown in BLOCKS if markdown and (table := read_table(markdown))
    }  # fmt: skip
    for names, rows in expected.items():
        assert shown[names] == as_text(rows), names


@pytest.mark.parametrize("fields", ["all", "sample"])
def test_recipes_find_what_the_sandbox_accounts_for(commands, tmp_path, fields):
    recipes = [found for name in RECIPES for found in RECIPE.findall(DOCUMENTS[name])]
    blocks_in_all = sum(len(FOUND.findall(DOCUMENTS[name])) for name in RECIPES)
    account = shop_account.Account(fields).answers()
    assert sorted(heading for heading, _, _ in recipes) == sorted(account)
    assert len(recipes) == blocks_in_all > 20
    bundles = generated_bundles(
        shop_account.BUNDLES, shop_account.EVENTS, until=shop_account.UNTIL, fields=fields
    )
    with loaded_from(commands, tmp_path, bundles, shop_account.UNTIL) as postgres:
        in_duckdb = ask_duckdb(commands, tmp_path, [sql for _, sql, _ in recipes])
        in_postgres = [answer(postgres, sql) for _, sql, _ in recipes]
    wrong = []
    for (heading, _, markdown), *answers in zip(recipes, in_duckdb, in_postgres, strict=True):
        names, *rows = read_table(markdown)
        expected = as_text(account[heading])
        if fields == "all" and rows != expected:
            wrong.append(f"{heading}, in the document:\n{as_markdown([names, *expected])}")
        for who, (_, *found) in zip(("DuckDB", "PostgreSQL"), answers, strict=True):
            if found != expected:
                both = as_markdown([names, *found]), as_markdown([names, *expected])
                wrong.append("\n".join([f"{heading}, in {who}:", *both]))
    assert not wrong, "\n\n".join(["These differ from the sandbox's account.", *wrong])


def ask_duckdb(commands: Any, folder: Path, asked: list[str]) -> list[Table]:
    """Return what each statement gives; [[]] for one that is not a query."""
    printed = subprocess.run(
        [commands.loader_python, "-c", ASK], cwd=folder, input=json.dumps(asked),
        stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True,
    ).stdout.splitlines()  # fmt: skip
    found = [json.loads(line) for line in printed]
    return [
        as_text([columns, *rows]) if is_query(sql) else [[]]
        for sql, (columns, rows) in zip(asked, found, strict=True)
    ]


def answer(postgres: Postgres, sql: str) -> Table:
    """What a query gives; [[]] for another statement."""
    if not is_query(sql):
        postgres.execute(sql)
        return [[]]
    found = postgres.query(sql.rstrip().removesuffix(";"))
    names = list(found[0]) if found else []
    return as_text([names, *(list(row.values()) for row in found)])


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
    queries = [sql for name, sql, _ in BLOCKS if name == "docs/sql.md"]
    shown = [read_table(table) for name, _, table in BLOCKS if name == "docs/sql.md"]
    bundles = generated_bundles(6, 240, until=UNTIL, fields="sample")
    with loaded_from(commands, tmp_path, bundles, UNTIL) as postgres:
        in_duckdb = ask_duckdb(commands, tmp_path, queries)
        in_postgres = [answer(postgres, sql) for sql in queries]
    funnels = 0
    for sql, on_all, (columns, *rows), (_, *same) in zip(
        queries, shown, in_duckdb, in_postgres, strict=True
    ):
        assert sorted(rows) == sorted(same), sql
        assert rows or WITHOUT_ROWS_IN_THE_SAMPLE in sql, sql
        if "page" in columns:
            assert any(row[columns.index("page")] for row in rows), sql
        if "saw_a_product" in columns:
            funnels += 1
            assert [columns, *rows] == on_all
    assert funnels == 1


def test_erasing_a_person_leaves_no_row_of_theirs(commands, tmp_path):
    """Nor one from before they signed up, which has no key."""
    (erase,) = (sql for name, sql, _ in BLOCKS if name == "docs/privacy.md")
    key = "customer-1001"
    with loaded_from(commands, tmp_path, generated_bundles(2, 240, until=UNTIL), UNTIL) as postgres:
        who = f"""SELECT DISTINCT "IndvId" FROM events WHERE "UserAppKey" = '{key}'"""
        ((_, (person,)),) = ask_duckdb(commands, tmp_path, [who])
        rows = f"""SELECT count("UserAppKey") = 1 AND count(*) > 1 AS some, count(*) = 0 AS none
            FROM events WHERE "IndvId" = {person}"""
        sign_up = f"""UPDATE events SET "UserAppKey" = NULL WHERE "IndvId" = {person} AND
            "EventStart" < (SELECT max("EventStart") FROM events WHERE "IndvId" = {person})"""
        asked = [sign_up, rows, erase.replace("THE_KEY", key), rows]
        expected = [
            [["some", "none"], [*truths]] for truths in (("True", "False"), ("False", "True"))
        ]
        assert ask_duckdb(commands, tmp_path, asked)[1::2] == expected
        assert [answer(postgres, sql) for sql in asked][1::2] == expected
