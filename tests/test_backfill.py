"""Airflow runs examples/airflow over the sandbox into one PostgreSQL: `make test-backfill`."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from environments import ENVIRONMENTS
from postgres import programs, server
from running import discover, selecting

from tap_fullstory.sandbox import Sandbox, generated_bundles

ROOT = Path(__file__).parent.parent
TIMEOUT = 300  # seconds for one command
DAYS, EVENTS = 9, 24


def airflow(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [ENVIRONMENTS / "airflow/bin/airflow", *arguments],
        env=environment,
        cwd=environment["AIRFLOW_HOME"],
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()[-8000:]


def test_a_shard_is_loaded_by_the_catalog_of_the_folder(commands, sandbox, tmp_path, monkeypatch):
    """Without Airflow, which only starts the function."""
    target = tmp_path / "target"
    target.write_text(f"#!/bin/sh\nexec cat > '{tmp_path}/out'\n")
    target.chmod(0o755)
    for name, value in (("TAP", commands.tap), ("TARGET", target)):
        monkeypatch.setenv(f"FULLSTORY_{name}", str(value))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("airflow", "airflow.sdk"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    run_shard = runpy.run_path(str(ROOT / "examples/airflow/fullstory_backfill.py"))["run"]
    (tmp_path / "config.json").write_text(json.dumps(sandbox.config()))
    for email, catalog in ((True, None), (False, selecting(discover(), UserEmail=False))):
        if catalog:
            (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        run_shard({}, tmp_path, "shard")
        messages = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert sum(message["type"] == "RECORD" for message in messages) == 144
        assert ("UserEmail" in (tmp_path / "out").read_text()) == email


@pytest.mark.skipif(
    "TEST_BACKFILL" not in os.environ, reason="`make test-backfill` runs this: it takes minutes"
)
def test_the_shards_bring_every_event_once_and_hand_their_bookmark_over(commands, tmp_path):
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed: on Debian, apt-get install postgresql")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "examples/airflow"),
        "PATH": f"{ENVIRONMENTS / 'airflow/bin'}:{os.environ['PATH']}",
        "FULLSTORY_TAP": str(commands.tap),
        "FULLSTORY_TARGET": str(commands.target_postgres),
        "no_proxy": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("PYTHONPATH", None)
    folder = tmp_path / "fullstory"
    folder.mkdir()
    with (
        server(found) as postgres,
        Sandbox(generated_bundles(DAYS + 1, EVENTS), unpublished=1) as sandbox,
    ):
        config = sandbox.config()
        start = config.pop("start_date")
        target = {"sqlalchemy_url": postgres.url, "default_target_schema": "fullstory"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "target.json").write_text(json.dumps(target))
        (folder / "catalog.json").write_text(json.dumps(selecting(discover(), UserEmail=False)))
        # The last shard ends with the bundle that is still to come.
        (end,) = postgres.query(
            f"select to_char('{start}'::timestamp + interval '{DAYS + 1} days', "
            """'YYYY-MM-DD"T"HH24:MI:SS"Z"') as moment"""
        )
        given = {"folder": str(folder), "start": start, "end": end["moment"], "days": 4}
        airflow(environment, "db", "migrate")
        airflow(environment, "dags", "test", "fullstory_backfill", "--conf", json.dumps(given))

        asked = [one.query["id"] for one in sandbox.requests if one.path.endswith("/get")]
        assert sorted(asked) == sorted(bundle.id for bundle in sandbox.bundles[:DAYS])
        assert len(set(asked)) == DAYS
        count = "select count(*) as n from fullstory.events"
        assert postgres.query(count) == [{"n": DAYS * EVENTS}]
        assert len(list((folder / "shards").glob("*Z/states.jsonl"))) == 3

        columns = postgres.query(
            "select column_name from information_schema.columns where table_schema = 'fullstory'"
        )
        names = {column["column_name"] for column in columns}
        assert "UserId" in names
        assert "UserEmail" not in names

        # The regular schedule goes on where the shards have ended.
        sandbox.publish()
        state = json.loads((folder / "state.json").read_text())
        assert state["bookmarks"]["events"]["bundle_end"] < end["moment"]
        line = (
            f"{commands.tap} --config {folder}/config.json --catalog {folder}/catalog.json"
            f" --state {folder}/state.json"
            f" | {commands.target_postgres} --config {folder}/target.json"
        )
        subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, capture_output=True)
        assert postgres.query(count) == [{"n": (DAYS + 1) * EVENTS}]
