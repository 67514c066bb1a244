"""examples/airflow/fullstory_sync.py: what is new, run by run, also with a real Airflow."""

from __future__ import annotations

import json
from pathlib import Path

import loading
import pytest
from airflows import airflow, each_airflow, environment_of, functions_of, real
from loading import end_of, expected_records

sandbox = loading.sandbox  # two days, and a third that waits to be published


def fill(folder: Path, config: dict[str, object]) -> None:
    """Write what is expected of the folder, for target-jsonl."""
    folder.mkdir()
    target = {"destination_path": str(folder), "do_timestamp_file": False}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "target.json").write_text(json.dumps(target))


def rows(folder: Path) -> list[dict[str, object]]:
    text = (folder / "events.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def test_each_run_loads_what_is_new(commands, sandbox, tmp_path, monkeypatch):
    """Without Airflow, which only starts the function."""
    monkeypatch.setenv("FULLSTORY_TAP", str(commands.tap))
    monkeypatch.setenv("FULLSTORY_TARGET", str(commands.target_jsonl))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = functions_of("fullstory_sync", monkeypatch)
    folder = tmp_path / "fullstory"
    fill(folder, sandbox.config())
    for days in (2, 2, 3):
        if days == 3:
            sandbox.publish()
        found["load_new"](folder)
        assert rows(folder) == expected_records(sandbox, days)
        assert json.loads((folder / "state.json").read_text()) == end_of(days)
    (folder / "config.json").write_text("{}")
    with pytest.raises(RuntimeError, match="exit code 2: the log above says why"):
        found["load_new"](folder)


@real
@each_airflow
def test_airflow_runs_it_again_and_again(commands, sandbox, tmp_path, installed):
    environment = environment_of(
        installed, tmp_path,
        FULLSTORY_TAP=str(commands.tap), FULLSTORY_TARGET=str(commands.target_jsonl),
    )  # fmt: skip
    folder = tmp_path / "fullstory"
    fill(folder, sandbox.config())
    run = ("dags", "test", "fullstory_sync", "--conf", json.dumps({"folder": str(folder)}))
    airflow(environment, "db", "migrate")
    airflow(environment, *run)
    assert rows(folder) == expected_records(sandbox, 2)
    sandbox.publish()
    airflow(environment, *run)
    assert rows(folder) == expected_records(sandbox, 3)
    schedule = airflow(environment, "dags", "list", "--output", "json")
    assert "fullstory_sync" in schedule
