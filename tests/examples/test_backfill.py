"""Airflow runs examples/airflow over the sandbox into one PostgreSQL: `make test-backfill`."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from typing import Any

import pytest
from airflows import EXAMPLES, airflow, each_airflow, environment_of, functions_of, real
from postgres import programs_or_skip, server
from running import discover, selecting

from tap_fullstory.sandbox import Sandbox, generated_bundles

DAYS, EVENTS = 9, 24


def example(monkeypatch) -> dict[str, Any]:
    return functions_of("fullstory_backfill", monkeypatch)


def test_a_shard_is_loaded_by_the_catalog_of_the_folder(commands, sandbox, tmp_path, monkeypatch):
    target = tmp_path / "target"
    target.write_text(f"#!/bin/sh\nexec cat > '{tmp_path}/out'\n")
    target.chmod(0o755)
    for name, value in (("TAP", commands.tap), ("TARGET", target)):
        monkeypatch.setenv(f"FULLSTORY_{name}", str(value))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    load_shard = example(monkeypatch)["load_shard"]
    config = sandbox.config()
    shard = {"start_date": config.pop("start_date"), "end_date": "2999-01-01T00:00:00Z"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for email, catalog in ((True, None), (False, selecting(discover(), UserEmail=False))):
        if catalog:
            (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        load_shard(shard, tmp_path, "shard")
        (tmp_path / "shards/shard/states.jsonl").unlink()
        (tmp_path / "shards/shard/state.json").unlink(missing_ok=True)
        messages = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert sum(message["type"] == "RECORD" for message in messages) == 144
        assert ("UserEmail" in (tmp_path / "out").read_text()) == email


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-01-01T00:00:00Z", "2025-01-08T00:00:00Z"),
        ("2025-01-01T05:00:00+05:00", "2025-01-07T18:00:00-06:00"),
        ("2025-01-01T00:00:00", "2025-01-08"),
    ],
)
def test_ranges_are_cut_in_utc(monkeypatch, start, end):
    assert example(monkeypatch)["cut"](start, end, 3) == [
        {"start_date": "2025-01-01T00:00:00Z", "end_date": "2025-01-04T00:00:00Z"},
        {"start_date": "2025-01-04T00:00:00Z", "end_date": "2025-01-07T00:00:00Z"},
        {"start_date": "2025-01-07T00:00:00Z", "end_date": "2025-01-08T00:00:00Z"},
    ]


@pytest.mark.parametrize(
    ("start", "end", "days", "refused"),
    [
        ("2025-01-01", "2025-01-31", 10, False),
        ("2025-01-31", "2025-03-31", 20, False),
        ("2024-12-01", "2025-01-01", 7, False),
        ("2025-01-01", "2025-01-31", 15, True),
        ("2025-01-01", "2025-02-28", 10, False),
        ("2024-12-31", "2025-01-31", 10, True),
        ("2025-01-02", "2025-01-31", 10, True),
        ("2025-01-01", "2025-01-25", 10, True),
        ("2024-12-01", "2025-12-31", 365, True),
    ],
    ids=["the same", "after", "before", "days", "longer", "earlier", "later", "shorter", "wider"],
)
def test_range_that_overlaps_with_what_a_shard_has_loaded_is_refused(
    monkeypatch, tmp_path, start, end, days, refused
):
    """Also where a shard of the same name, by its start, has another end."""
    functions = example(monkeypatch)
    for shard in functions["cut"]("2025-01-01", "2025-01-31", 10):
        place = tmp_path / "shards" / shard["start_date"]
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(shard))
        (place / "states.jsonl").touch()
    shards = functions["cut"](start, end, days)
    if not refused:
        functions["require_no_overlap"](shards, tmp_path)
        return
    with pytest.raises(
        ValueError, match=r"2025-01-\d\dT.* overlaps with .*: events would come twice"
    ):
        functions["require_no_overlap"](shards, tmp_path)


def test_latest_bookmark_is_that_of_each_segment(monkeypatch):
    latest = example(monkeypatch)["latest"]
    early, late = ({"bundle_end": f"2025-01-0{day}T00:00:00Z"} for day in (1, 2))
    assert latest(None, early) == latest(early, None) == early
    assert latest(late, early) == latest(early, late) == late
    one, two = {"segments": {"a": late, "b": early}}, {"segments": {"b": late, "c": early}}
    assert latest(one, two) == latest(two, one) == {"segments": {"a": late, "b": late, "c": early}}
    assert latest(early, one) == one


@real
@each_airflow
def test_the_shards_bring_every_event_once_and_hand_their_bookmark_over(
    commands, tmp_path, installed
):
    found = programs_or_skip()
    environment = environment_of(
        installed,
        tmp_path,
        FULLSTORY_TAP=str(commands.tap),
        FULLSTORY_TARGET=str(commands.target_postgres),
    )
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
            """'YYYY-MM-DD"T"HH24:MI:SS"Z"') as end_time"""
        )
        given = {"folder": str(folder), "start": start, "end": end["end_time"], "days": 4}
        airflow(environment, "db", "migrate")
        airflow(environment, "dags", "test", "fullstory_backfill", "--conf", json.dumps(given))

        asked = [one.query["id"] for one in sandbox.requests if one.path.endswith("/get")]
        assert sorted(asked) == sorted(bundle.id for bundle in sandbox.bundles[:DAYS])
        assert len(set(asked)) == DAYS
        count = "select count(*) as n from fullstory.events"
        assert postgres.query(count) == [{"n": DAYS * EVENTS}]
        wider = json.dumps({**given, "days": 5})
        printed = airflow(
            environment, "dags", "test", "fullstory_backfill", "--conf", wider, code=1
        )
        assert "events would come twice" in printed
        assert postgres.query(count) == [{"n": DAYS * EVENTS}]
        assert len(list((folder / "shards").glob("*Z/states.jsonl"))) == 3

        columns = postgres.query(
            "select column_name from information_schema.columns where table_schema = 'fullstory'"
        )
        names = {column["column_name"] for column in columns}
        assert "UserId" in names
        assert "UserEmail" not in names

        # The regular schedule continues where the shards have ended.
        sandbox.publish()
        state = json.loads((folder / "state.json").read_text())
        assert state["bookmarks"]["events"]["bundle_end"] < end["end_time"]
        line = (
            f"{commands.tap} --config {folder}/config.json --catalog {folder}/catalog.json"
            f" --state {folder}/state.json"
            f" | {commands.target_postgres} --config {folder}/target.json"
        )
        subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, capture_output=True)
        assert postgres.query(count) == [{"n": (DAYS + 1) * EVENTS}]


SLOW_TARGET = """\
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
out, state = (folder / "rows.jsonl").open("ab", 0), None
for line in sys.stdin.buffer:
    message = json.loads(line)
    if message["type"] == "RECORD":
        out.write(line)
        if not (folder / "go").exists():
            time.sleep(0.002)
    elif message["type"] == "STATE":
        state = message["value"]
if state is not None:
    print(json.dumps(state), flush=True)
"""
TIMED_OUT = """\
import sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, {examples!r})
import fullstory_pipeline as pipeline
try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

@dag(schedule=None)
def timed_out():
    @task(execution_timeout=timedelta(seconds=3))
    def load():
        pipeline.run(Path({folder!r}), {tap!r}, {target!r})
    load()

timed_out()
"""


@real
@each_airflow
def test_task_that_airflow_times_out_leaves_no_orphan_and_no_row_to_repeat(
    commands, tmp_path, installed
):
    """The target stores rows one by one, and prints a state only at its end."""
    count = 6000  # a quarter of a minute for the target
    dags = tmp_path / "dags"
    dags.mkdir()
    environment = environment_of(installed, tmp_path, AIRFLOW__CORE__DAGS_FOLDER=str(dags))
    with Sandbox(generated_bundles(1, count)) as sandbox:
        (tmp_path / "config.json").write_text(json.dumps(sandbox.config()))
        (tmp_path / "target.py").write_text(SLOW_TARGET)
        tap = [str(commands.tap), "--config", str(tmp_path / "config.json")]
        target = [sys.executable, str(tmp_path / "target.py"), str(tmp_path)]
        (dags / "timed_out.py").write_text(
            TIMED_OUT.format(examples=str(EXAMPLES), folder=str(tmp_path), tap=tap, target=target)
        )
        airflow(environment, "db", "migrate")
        printed = airflow(environment, "dags", "test", "timed_out", code=1)
        assert "AirflowTaskTimeout" in printed
        rows = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
        assert 0 < len(rows) < count
        with (tmp_path / "sync.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody has it any more
        (tmp_path / "go").touch()
        airflow(environment, "dags", "test", "timed_out")
    rows = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == len(set(rows)) == count
