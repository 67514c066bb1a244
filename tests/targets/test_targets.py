"""Real targets behind a real pipe: what they load is what the bundles hold."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import loading
import pytest
from batches import batch_config
from catalogs import select_streams
from loading import BESIDE, DATE_TIMES, end_of, expected_records, piped, states
from running import columns, counted, run_tap, start_tap

sandbox = loading.sandbox  # two days, and a third that waits to be published


@pytest.mark.parametrize(
    "settings",
    [{}, {"custom_vars_format": "string", "event_digest": True, "checkpoint_events": 10}],
    ids=["default", "other"],
)
def test_singer_check_tap(sandbox, commands, tmp_path, settings):
    """Validates every message and every record against its schema, as Singer's authors see it."""
    printed = piped(sandbox.config(**settings), commands, [commands.singer_check_tap], tmp_path)
    assert b"The output is valid." in printed
    (row,) = [line for line in printed.decode().splitlines() if line.startswith("| events")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["events", "146", "1"]


def test_target_jsonl(sandbox, commands, tmp_path):
    config = tmp_path / "target.json"
    config.write_text(json.dumps({"destination_path": "out", "do_timestamp_file": False}))
    target = [commands.target_jsonl, "--config", config]

    def loaded() -> list[dict[str, Any]]:
        text = (tmp_path / "out/events.jsonl").read_text("utf-8")
        return [json.loads(line) for line in text.split("\n")[:-1]]

    (state,) = states(piped(sandbox.config(), commands, target, tmp_path))
    assert state == end_of(2)
    assert counted(loaded()) == counted(expected_records(sandbox, 2))
    assert loaded() == expected_records(sandbox, 2)

    sandbox.publish()
    (state,) = states(piped(sandbox.config(), commands, target, tmp_path, state))
    assert state == end_of(3)
    assert loaded() == expected_records(sandbox, 3)


class DuckDB:
    """A database file, loaded by target-duckdb and read back by DuckDB itself."""

    def __init__(self, commands: Any, folder: Path, **settings: Any) -> None:
        self._commands, self._folder = commands, folder
        config = {"path": "it.duckdb", "default_target_schema": "main", **settings}
        (folder / "target.json").write_text(json.dumps(config))

    def load(self, config: dict[str, Any], state: Any = None, catalog: Any = None) -> Any:
        """The last state that the target writes."""
        target = [self._commands.target_duckdb, "--config", self._folder / "target.json"]
        return states(piped(config, self._commands, target, self._folder, state, catalog))[-1]

    def query(self, sql: str) -> list[dict[str, Any]]:
        program = (
            "import duckdb, json, sys\n"
            "found = duckdb.connect('it.duckdb', read_only=True).execute(sys.argv[1])\n"
            "names = [column[0] for column in found.description]\n"
            "rows = [dict(zip(names, row)) for row in found.fetchall()]\n"
            "json.dump(rows, sys.stdout, default=str)\n"
        )
        done = subprocess.run(
            [self._commands.duckdb_python, "-c", program, sql],
            cwd=self._folder,
            capture_output=True,
            check=True,
        )
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows


def as_row(record: dict[str, Any]) -> dict[str, Any]:
    """A record as target-duckdb writes it: lower-case names, empty text null, times as such."""
    row = {name.lower(): record.get(name) or None for name in columns()}
    for name, value in record.items():
        if isinstance(value, int | float):
            row[name.lower()] = value
        elif name in DATE_TIMES and value:
            row[name.lower()] = str(datetime.fromisoformat(value.removesuffix("Z")))
    return {**row, "customvars": record.get("CustomVars")}


def test_target_duckdb(sandbox, commands, tmp_path):
    database = DuckDB(commands, tmp_path, primary_key_required=False, add_metadata_columns=True)

    def loaded() -> list[dict[str, Any]]:
        rows = database.query("select * from events")
        for row in rows:
            for name in [name for name in row if name.startswith("_sdc_")]:
                del row[name]
            row["customvars"] = row["customvars"] and json.loads(row["customvars"])
        return rows

    catalog = select_streams("events", *BESIDE)
    state = database.load(sandbox.config(), None, catalog)
    assert state == end_of(2)
    assert counted(loaded()) == counted(map(as_row, expected_records(sandbox, 2)))

    sandbox.publish()
    state = database.load(sandbox.config(), state, catalog)
    assert state == end_of(3)
    assert counted(loaded()) == counted(map(as_row, expected_records(sandbox, 3)))
    for stream, (key, count) in BESIDE.items():
        rows = database.query(f"select * from {stream}")
        names = [name.lower() for name in key]
        if key:  # upserted
            assert len({tuple(row[name] for name in names) for row in rows}) == len(rows) == count
        else:
            assert len(rows) == 2 * count
    (quota, _) = database.query("select server_event_quota from organization_quotas")
    assert json.loads(quota["server_event_quota"])["usage"] == str(2**64 - 1)

    types = {row["column_name"]: row["column_type"] for row in database.query("describe events")}
    assert types["userid"] in ("BIGINT", "HUGEINT")
    assert types["eventstart"].startswith("TIMESTAMP")
    assert types["eventcumulativelayoutshift"] == "DOUBLE"
    assert types["customvars"] == "JSON"
    (row,) = database.query(
        """select count(*) as n from events
           where customvars->>'$."evt_order.total_real"' = '4' and userid = 6606828898126528473"""
    )
    assert row == {"n": 1}


@pytest.mark.parametrize("name", ["target_jsonl", "target_duckdb"])
def test_a_target_that_does_not_know_batch_stores_nothing(sandbox, commands, tmp_path, name):
    """It fails at the first message, and the tap with it."""
    (tmp_path / "batches").mkdir()
    config = sandbox.config(**batch_config(tmp_path / "batches", 1))
    database = DuckDB(commands, tmp_path, primary_key_required=False, add_metadata_columns=True)
    target = [getattr(commands, name), "--config", tmp_path / "target.json"]
    with (
        start_tap(config, executable=commands.tap) as tap,
        subprocess.Popen(
            target, stdin=tap.stdout, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as loading,
    ):
        tap.stdout.close()
        printed, log = loading.communicate(timeout=60)
        assert loading.returncode == 1, log
        assert tap.wait(60) == 1
    assert not states(printed)
    assert not list(tmp_path.rglob("*.jsonl"))
    if name == "target_duckdb":
        assert database.query("select count(*) as n from events") == [{"n": 0}]


def test_a_target_that_upserts_merges_duplicates(sandbox, commands, tmp_path):
    database = DuckDB(commands, tmp_path, add_metadata_columns=True)
    config = sandbox.config(event_digest=True)
    digests = sorted(record["EventDigest"] for record in run_tap(config).records)
    assert len(set(digests)) == 146
    for _ in range(2):
        database.load(config)
        rows = database.query("select eventdigest from events order by 1")
        assert [row["eventdigest"] for row in rows] == digests
