"""The databases that the documents' commands load, and their rows as text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from documents import TIMEOUT, blocks, write_config
from environments import ROOT
from postgres import Postgres, programs_or_skip, server

from tap_fullstory.sandbox import Bundle, Sandbox, generated_bundles

UNTIL = datetime(2026, 6, 7, tzinfo=timezone.utc)

Table = list[list[str]]  # the first row has the names of the columns


@pytest.fixture
def loaded(commands, tmp_path) -> Iterator[Postgres]:
    """A server with the same rows as fullstory.duckdb in the test's folder."""
    serving = Sandbox(generated_bundles(6, 240, until=UNTIL), unpublished=1)
    with serving, loading(commands, tmp_path, serving, UNTIL) as (run, postgres):
        replace_nul, first, later = blocks("bash", "docs/postgres.md")
        first, later, load = (
            block.replace("--config config.json", "--config config.json --catalog catalog.json")
            for block in (first, later, blocks("bash", "docs/duckdb.md")[0])
        )
        with_bundles = blocks("bash", "docs/completeness.md")[0]
        run(blocks("bash", "docs/quickstart.md")[0], with_bundles, replace_nul, first, load)
        serving.publish()
        run(*blocks("bash", "docs/custom-variables.md"), with_bundles, later, load)
        yield postgres


@contextmanager
def loaded_from(
    commands: Any, folder: Path, bundles: list[Bundle], until: datetime
) -> Iterator[Postgres]:
    """Give a server with the same rows as fullstory.duckdb in `folder`, of one run into each."""
    with Sandbox(bundles) as serving, loading(commands, folder, serving, until) as (run, postgres):
        run(*blocks("bash", "docs/postgres.md")[:2], blocks("bash", "docs/duckdb.md")[0])
        yield postgres


@contextmanager
def loading(
    commands: Any, folder: Path, serving: Sandbox, until: datetime
) -> Iterator[tuple[Callable[..., None], Postgres]]:
    """Give what runs blocks of the documents in `folder`, and the server that they load."""
    found = programs_or_skip()
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    shutil.copy(ROOT / "examples/duckdb/load.py", folder)
    # The first of these, since each environment has a python.
    path = [commands.loader_python, commands.tap, commands.target_postgres]
    environment = {
        **{name: value for name, value in os.environ.items() if "TAP_FULLSTORY" not in name},
        "PATH": ":".join([*(str(program.parent) for program in path), os.environ["PATH"]]),
        "no_proxy": "127.0.0.1",
    }

    def run(*script: str) -> None:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-e", "-c", "\n".join(script)],
            cwd=folder, env=environment, timeout=TIMEOUT, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    with server(found) as postgres:
        # Discovery looks back from the end_date, whatever day it is.
        write_config(folder, serving, end_date=until.isoformat())
        (target,) = (block for block in blocks("json", "docs/postgres.md") if "sqlalchemy" in block)
        config = json.dumps(json.loads(target) | {"sqlalchemy_url": postgres.url})
        (folder / "target.json").write_text(config, encoding="utf-8")
        postgres.execute("alter role postgres set search_path to fullstory")
        yield run, postgres


def as_text(rows: list[list[Any]]) -> Table:
    return [[cell_text(value) for value in row] for row in rows]


def cell_text(value: Any) -> str:
    """The text of a value, the same whatever its type and database: 1 and 1.0, T and a space."""
    text = "" if value is None else str(value)
    if re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?|-?\d+\.\d+", text):
        text = text.replace("T", " ")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return text
