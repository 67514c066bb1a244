"""docs/look.md: its commands work, and the notebook shows what the sandbox accounts for."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import shop_account
from documented_databases import as_text, loaded_from
from documents import TIMEOUT, blocks, write_config
from environments import ROOT

from tap_fullstory.sandbox import EXAMPLE_USER_ID, Sandbox, generated_bundles

USER_INTERFACE, _, GRANTS, SPREADSHEET = blocks("sh", "docs/look.md")
NOTEBOOK = ROOT / "examples/notebook/answers.ipynb"
RUN_NOTEBOOK = ROOT / "tests/helpers/run_notebook.py"
NO_DOWNLOAD = 'Failed to download extension "ui"'


@pytest.fixture
def weeks(request, commands, tmp_path) -> Path:
    """A folder with a fullstory.duckdb of the recipes' weeks; a test may ask for fewer fields."""
    fields = getattr(request, "param", "all")
    bundles = generated_bundles(
        shop_account.BUNDLES, shop_account.EVENTS, until=shop_account.UNTIL, fields=fields
    )
    with Sandbox(bundles) as serving:
        write_config(tmp_path, serving, end_date=shop_account.UNTIL.isoformat())
        load = ROOT / "examples/duckdb/load.py"
        subprocess.run(
            [commands.loader_python, load, "fullstory.duckdb",
             "--", commands.tap, "--config", "config.json"],
            cwd=tmp_path, timeout=TIMEOUT, capture_output=True, check=True,
        )  # fmt: skip
    return tmp_path


def run_notebook(commands: Any, folder: Path) -> list[list[list[str]]]:
    """Return the table that each cell shows."""
    printed = subprocess.run(
        [commands.loader_python, RUN_NOTEBOOK, NOTEBOOK],
        cwd=folder, timeout=TIMEOUT, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    return [boxed(table) for table in json.loads(printed)]


def stored_in_notebook() -> list[list[list[str]]]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return [boxed("".join(output["data"]["text/plain"])) for output in outputs]


def test_the_notebook_runs_and_shows_what_is_stored_in_it(commands, weeks):
    assert run_notebook(commands, weeks) == stored_in_notebook()


@pytest.mark.parametrize("weeks", ["sample"], indirect=True)
def test_the_notebook_answers_on_bundles_with_the_fields_of_the_public_sample(commands, weeks):
    found, stored = run_notebook(commands, weeks), stored_in_notebook()
    assert found[:4] == stored[:4]
    assert len(found[4]) == 5


def test_the_notebook_shows_what_the_sandbox_accounts_for():
    shown = stored_in_notebook()
    account = shop_account.Account("all")
    answers = account.answers()
    assert shown[0][0][0] == str(sum(len(visit.events) for visit in account.visits))
    people = as_text([row[:2] for row in answers["New and returning people"]])
    assert [[week, number] for week, _, number, _ in shown[1]] == people
    assert [row[:6] for row in shown[2]] == as_text(answers["Retention by first week"])
    errors = sorted(
        row[1:3] + row[4:] for row in as_text(answers["Top errors, and how many people they hit"])
    )
    assert sorted(shown[3]) == errors
    visits = max(
        account.by_person(),
        key=lambda visits: sum(
            visit.count(lambda step: step.more.get("EventModFrustrated") == 1) for visit in visits
        ),
    )
    latest = sorted(visits, key=lambda visit: visit.began, reverse=True)[:5]
    assert [row[:3] for row in shown[4]] == [
        [shop_account.naive(visit.began)[:23], visit.device, str(len(visit.steps))]
        for visit in latest
    ]


def boxed(table: str) -> list[list[str]]:
    """Return the cells of a table as DuckDB draws it, without its names and types."""
    lines = [line.strip("│") for line in table.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.split("│")] for line in lines[2:]]


def test_a_spreadsheet_gets_ids_as_text_and_no_formulas(commands, weeks):
    shutil.copy(ROOT / "examples/duckdb/query.py", weeks)
    path = f"{commands.loader_python.parent}:/usr/bin:/bin"
    subprocess.run(
        ["bash", "-e", "-c", SPREADSHEET],
        cwd=weeks,
        env={"PATH": path},
        timeout=TIMEOUT,
        check=True,
    )
    text = (weeks / "people.csv").read_text("utf-8")
    assert text.startswith("\ufeffIndvId,first_seen,sessions\n")
    regulars = shop_account.Account("all").answers()["Who comes most often"]
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [row["IndvId"] for row in rows] == [f"'{person}" for person, *_ in regulars]
    assert [row["sessions"] for row in rows] == [str(sessions) for _, _, sessions, *_ in regulars]

    asked = (
        f"SELECT {EXAMPLE_USER_ID} AS a, '{EXAMPLE_USER_ID}' AS b, '=1+1' AS c, -5 AS d, 'é' AS e"
    )
    printed = subprocess.run(
        [commands.loader_python, "query.py", "--spreadsheet", "fullstory.duckdb", asked],
        cwd=weeks, timeout=TIMEOUT, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed == f"\ufeffa,b,c,d,e\n'{EXAMPLE_USER_ID},'{EXAMPLE_USER_ID},'=1+1,-5,é\n"


def test_duckdbs_own_interface_starts(commands, weeks):
    """Or cannot be downloaded, where there is no network: everything before that works."""
    path = f"{commands.loader_python.parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-e", "-c", USER_INTERFACE], cwd=weeks, env={"PATH": path, "HOME": str(weeks)},
        input="\n", timeout=TIMEOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (
        "http://localhost:4213" in done.stdout
        if done.returncode == 0
        else (NO_DOWNLOAD in done.stderr)
    )


def test_a_chart_tool_can_read_the_view_and_nothing_else(commands, tmp_path):
    bundles = generated_bundles(2, 240, until=shop_account.UNTIL)
    with loaded_from(commands, tmp_path, bundles, shop_account.UNTIL) as postgres:
        address = f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres"
        script = re.sub(r"postgresql://\S+", address, GRANTS)
        psql = ["-XAtq", "-v", "ON_ERROR_STOP=1"]
        script = script.replace("psql ", f"{postgres.programs}/psql {' '.join(psql)} ", 1)
        subprocess.run(["bash", "-e", "-c", script], timeout=TIMEOUT, check=True)

        def ask(sql: str) -> Any:
            as_charts = address.replace("postgres@", "charts@")
            return subprocess.run(
                [postgres.programs / "psql", *psql, as_charts, "-c", sql],
                timeout=TIMEOUT, capture_output=True, text=True, check=False,
            )  # fmt: skip

        counted = ask(
            "SELECT count(*), count(*) FILTER (WHERE rage_click), pg_typeof(min(person)), "
            "pg_typeof(min(happened)) FROM fullstory.chart_events"
        ).stdout.strip()
        series = sum(
            event.get("EventModFrustrated") == 1 for bundle in bundles for event in bundle.events
        )
        assert counted == f"480|{series}|text|timestamp with time zone"
        refused = ask("SELECT count(*) FROM fullstory.events")
        assert "permission denied" in refused.stderr
        assert "permission denied" in ask("DELETE FROM fullstory.chart_events").stderr
