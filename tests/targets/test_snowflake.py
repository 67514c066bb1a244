"""MeltanoLabs' target-snowflake, with a stand-in for Snowflake's server: `make test-snowflake`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loading
import pytest
from batches import batch_config, needs_pyarrow
from catalogs import select_streams
from loading import (
    BESIDE,
    DATE_TIMES,
    DAY,
    FIRST,
    end_of,
    expected_records,
    load_through_kills,
    piped,
    states,
    without_zeros,
)
from running import as_record, columns, counted, start_tap
from snowflake_server import Snowflake, server

from tap_fullstory.sandbox import Bundle, Sandbox, generate_events

pytestmark = pytest.mark.skipif(
    "TEST_SNOWFLAKE" not in os.environ,
    reason="`make test-snowflake` runs these: the target is 330 MB",
)

sandbox = loading.sandbox  # two days, and a third that waits to be published


@pytest.fixture(scope="module")
def snowflake(commands) -> Iterator[Snowflake]:
    with server(commands.loader_python) as running:
        yield running


class Schema:
    """A schema of its own in the database, loaded by target-snowflake."""

    def __init__(self, snowflake: Snowflake, commands: Any, folder: Path, name: str) -> None:
        self._snowflake, self._name = snowflake, name
        self._commands, self._folder = commands, folder
        self.target = snowflake.command(
            commands.target_snowflake, folder / f"{name}.json", default_target_schema=name
        )

    def load(self, config: dict[str, Any], state: Any = None) -> Any:
        """Load the events and what is beside them; return the last state that the target prints."""
        catalog = select_streams("events", *BESIDE)
        printed = piped(config, self._commands, self.target, self._folder, state, catalog)
        return states(printed)[-1]

    def rows(self) -> list[dict[str, Any]]:
        """The table without the columns that the target adds."""
        rows = self._snowflake.query(f"select * from {self._name}.events")
        return [
            {name: value for name, value in row.items() if not name.startswith("_sdc_")}
            for row in rows
        ]

    def count(self, table: str) -> int:
        """How many rows a table has: 0 if there is none."""
        tables = "select table_name from duckdb_tables() where lower(schema_name || table_name)"
        if not self._snowflake.query(f"{tables} = '{self._name}{table}'"):
            return 0
        (row,) = self._snowflake.query(f"select count(*) as n from {self._name}.{table}")
        return row["n"]

    def types(self) -> dict[str, str]:
        found = self._snowflake.query(
            "select column_name, data_type from duckdb_columns() "
            f"where lower(schema_name) = '{self._name}' and table_name = 'EVENTS'"
        )
        return {row["column_name"].lower(): row["data_type"] for row in found}


def as_row(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it is stored: absent is null, `""` stays, date-times have no zone."""
    row = {name.lower(): record.get(name) for name in columns() | {"CustomVars"}}
    for name in DATE_TIMES:
        if record.get(name):
            timestamp = record[name].replace("T", " ").removesuffix("Z")
            row[name.lower()] = without_zeros(timestamp)
    return row


def test_records_and_files_make_the_same_rows(snowflake, sandbox, commands, tmp_path, batch_folder):
    """Of every kind of value, and from state to state."""
    config = sandbox.config()
    files = {**config, **batch_config(batch_folder, 100)}
    by_record = Schema(snowflake, commands, tmp_path, "by_record")
    by_file = Schema(snowflake, commands, tmp_path, "by_file")
    after_records, after_files = by_record.load(config), by_file.load(files)
    assert after_records == end_of(2)
    rows = counted(map(as_row, expected_records(sandbox, 2)))
    assert counted(by_record.rows()) == rows
    assert counted(by_file.rows()) == rows
    assert by_record.types() == by_file.types()
    assert by_file.types().items() >= {
        "userid": "DECIMAL(38,0)",
        "eventstart": "TIMESTAMP",
        "eventcumulativelayoutshift": "DOUBLE",
        "eventtype": "VARCHAR",
        "customvars": "JSON",
    }.items()  # fmt: skip

    sandbox.publish()
    assert by_record.load(config, after_records) == end_of(3)
    by_file.load(files, after_files)
    rows = counted(map(as_row, expected_records(sandbox, 3)))
    assert counted(by_record.rows()) == rows
    assert counted(by_file.rows()) == rows
    for stream, (key, count) in BESIDE.items():
        # Upserted by MERGE, or appended by COPY.
        assert by_record.count(stream) == by_file.count(stream) == (count if key else 2 * count)
    assert not list(batch_folder.iterdir())  # the target removes what it has loaded


@needs_pyarrow
def test_arrow_files_make_the_same_rows_with_objects_as_text(
    snowflake, sandbox, commands, tmp_path, batch_folder
):
    """The target makes Parquet of them, and casts its columns: a text is not parsed by that."""
    config = {**sandbox.config(), **batch_config(batch_folder, 100, form="arrow")}
    schema = Schema(snowflake, commands, tmp_path, "by_arrow")
    end = schema.load(config)
    sandbox.publish()
    schema.load(config, end)
    rows = schema.rows()
    for row in rows:
        row["customvars"] = row["customvars"] and json.loads(row["customvars"])
    assert counted(rows) == counted(map(as_row, expected_records(sandbox, 3)))
    assert schema.types()["eventstart"] == "TIMESTAMP"
    assert schema.types()["userid"] == "DECIMAL(38,0)"
    for stream, (key, count) in BESIDE.items():
        assert schema.count(stream) == (count if key else 2 * count)
    assert not list(batch_folder.iterdir())  # the target removes what it has loaded


@needs_pyarrow
def test_parquet_files_are_refused_and_nothing_is_stored(
    snowflake, sandbox, commands, tmp_path, batch_folder
):
    schema = Schema(snowflake, commands, tmp_path, "by_parquet")
    config = {**sandbox.config(), **batch_config(batch_folder, 100, form="parquet")}
    with (
        start_tap(config, executable=commands.tap_for(config)) as tap,
        subprocess.Popen(
            schema.target, stdin=tap.stdout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as target,
    ):
        tap.stdout.close()
        printed, _ = target.communicate(timeout=60)
        tap.communicate(timeout=60)
    assert target.returncode == 1
    assert b"NotImplementedError" in printed
    assert not states(printed)
    assert schema.count("events") == 0


@pytest.mark.parametrize("form", ["records", "files"])
def test_a_variable_that_becomes_a_column(
    snowflake, sandbox, commands, tmp_path, batch_folder, form
):
    config = sandbox.config(**(batch_config(batch_folder) if form == "files" else {}))
    schema = Schema(snowflake, commands, tmp_path, f"promoted_in_{form}")
    state = schema.load(config)
    assert "user_plan_str" not in schema.types()
    sandbox.publish()
    schema.load({**config, "custom_columns": ["user_plan_str"]}, state)
    assert schema.types()["user_plan_str"] == "VARCHAR"
    wanted = []
    for number, record in enumerate(expected_records(sandbox, 3)):
        row = {**as_row(record), "user_plan_str": None}
        if number >= len(expected_records(sandbox, 2)) and row["customvars"]:
            row["user_plan_str"] = row["customvars"].pop("user_plan_str", None)
            row["customvars"] = row["customvars"] or None
        wanted.append(row)
    assert counted(schema.rows()) == counted(wanted)
    assert any(row["user_plan_str"] for row in wanted)


@pytest.mark.parametrize("form", ["jsonl", pytest.param("arrow", marks=needs_pyarrow)])
@pytest.mark.parametrize("victim", ["tap", "target"])
def test_files_while_something_is_killed(snowflake, commands, tmp_path, batch_folder, victim, form):
    """A tap that is killed doubles nothing. A target that is may have stored rows and printed no
    state: there `event_digest` is the key by which the next run replaces them.
    """
    schema = Schema(snowflake, commands, tmp_path, f"killed_{victim}_{form}")
    made = list(generate_events(FIRST, FIRST + DAY, 280))
    with Sandbox([Bundle("1", FIRST, FIRST + DAY, made)]) as sandbox:
        files = batch_config(batch_folder, 10, form=form)
        config = sandbox.config(event_digest=victim == "target", **files)
        load_through_kills(
            config, commands, schema.target, victim, lambda: schema.count("events"), 10
        )
    rows = schema.rows()
    for row in rows:
        row.pop("eventdigest", None)
        if form == "arrow" and row["customvars"]:
            row["customvars"] = json.loads(row["customvars"])
    assert counted(rows) == counted(as_row(as_record(event)) for event in made)
