"""The databases that the documents' commands load, and their rows as text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from documents import TIMEOUT, blocks, write_config
from environments import ROOT
from postgres import Postgres, programs, server

from tap_fullstory.sandbox import Sandbox, generated_bundles

UNTIL = datetime(2026, 6, 7, tzinfo=timezone.utc)

Table = list[list[str]]  # the first row has the names of the columns


@pytest.fixture
def loaded(commands, tmp_path) -> Iterator[Postgres]:
    """A server with the same rows as fullstory.duckdb in the test's folder."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed: on Debian, apt-get install postgresql")
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    shutil.copy(ROOT / "examples/duckdb/load.py", tmp_path)
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
            cwd=tmp_path, env=environment, timeout=TIMEOUT, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    serving = Sandbox(generated_bundles(6, 240, until=UNTIL), unpublished=1)
    with serving, server(found) as postgres:
        # Discovery looks back from the end_date, whatever day it is.
        write_config(tmp_path, serving, end_date=UNTIL.isoformat())
        (target,) = (block for block in blocks("json", "docs/postgres.md") if "sqlalchemy" in block)
        config = json.dumps(json.loads(target) | {"sqlalchemy_url": postgres.url})
        (tmp_path / "target.json").write_text(config, encoding="utf-8")
        replace_nul, first, later = blocks("bash", "docs/postgres.md")
        load = blocks("bash", "docs/duckdb.md")[0]
        run(blocks("bash", "docs/quickstart.md")[0], replace_nul, first, load)
        serving.publish()
        run(*blocks("bash", "docs/custom-variables.md"))
        for again in (later, load):
            run(
                again.replace("--config config.json", "--config config.json --catalog catalog.json")
            )
        postgres.execute("alter role postgres set search_path to fullstory")
        yield postgres


def as_text(rows: list[list[Any]]) -> Table:
    return [[cell_text(value) for value in row] for row in rows]


def cell_text(value: Any) -> str:
    """The text of a value, the same whatever its type and database: 1 and 1.0, T and a space."""
    text = "" if value is None else str(value)
    if re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?|-?\d+\.\d+", text):
        text = text.replace("T", " ")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return text
