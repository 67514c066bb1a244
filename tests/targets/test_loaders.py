"""More real targets behind a real pipe: CSV files, PostgreSQL, and Stitch's dry run."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import loading
import pytest
from batches import batch_config
from catalogs import select_streams
from environments import ROOT
from loading import (
    BESIDE,
    DATE_TIMES,
    DAY,
    FIRST,
    STRANGE,
    end_of,
    expected_records,
    load_through_kills,
    piped,
    states,
    without_zeros,
)
from postgres import Postgres
from running import as_record, columns, counted, discover, run_tap

from tap_fullstory.sandbox import Bundle, Sandbox, generate_events

sandbox = loading.sandbox  # two days, and a third that waits to be published


# --- PostgreSQL ---


class Schema:
    """A schema of its own in the database, loaded by target-postgres."""

    def __init__(
        self, postgres: Postgres, commands: Any, folder: Path, name: str, **settings: Any
    ) -> None:
        self._postgres, self._name = postgres, name
        config = {"sqlalchemy_url": postgres.url, "default_target_schema": name, **settings}
        (folder / f"{name}.json").write_text(json.dumps(config))
        self.target = [commands.target_postgres, "--config", folder / f"{name}.json"]
        self._commands, self._folder = commands, folder

    def load(self, config: dict[str, Any], state: Any = None, catalog: Any = None) -> Any:
        """The last state that the target writes."""
        printed = piped(config, self._commands, self.target, self._folder, state, catalog)
        return states(printed)[-1]

    def rows(self) -> list[dict[str, Any]]:
        """The table without the columns that the target adds, in the order of loading."""
        rows = self._postgres.query(
            f'select * from {self._name}.events order by _sdc_sequence, "EventStart"'
        )
        return [
            {name: value for name, value in row.items() if not name.startswith("_sdc_")}
            for row in rows
        ]

    def types(self) -> dict[str, str]:
        found = self._postgres.query(
            "select column_name, data_type from information_schema.columns "
            f"where table_schema = '{self._name}' and table_name = 'events'"
        )
        return {row["column_name"]: row["data_type"] for row in found}


def as_row(record: dict[str, Any]) -> dict[str, Any]:
    """A record as target-postgres stores it: absent is null, `""` stays, times have no zone."""
    row = {name: record.get(name) for name in columns() | {"CustomVars"}}
    for name in DATE_TIMES:
        if row[name]:
            row[name] = without_zeros(row[name].removesuffix("Z"))
    return row


def test_target_postgres(postgres, sandbox, commands, tmp_path):
    schema = Schema(postgres, commands, tmp_path, "events_as_objects")
    catalog = select_streams("events", *BESIDE)
    state = schema.load(sandbox.config(), None, catalog)
    assert state == end_of(2)
    assert counted(schema.rows()) == counted(map(as_row, expected_records(sandbox, 2)))

    sandbox.publish()
    state = schema.load(sandbox.config(), state, catalog)
    assert state == end_of(3)
    assert counted(schema.rows()) == counted(map(as_row, expected_records(sandbox, 3)))
    for stream, (key, count) in BESIDE.items():
        (row,) = postgres.query(f"select count(*) as n from events_as_objects.{stream}")
        assert row["n"] == (count if key else 2 * count)  # upserted, or appended
        primary = postgres.query(
            "select a.attname as name from pg_index i join pg_attribute a"
            " on a.attrelid = i.indrelid and a.attnum = any(i.indkey)"
            f" where i.indrelid = 'events_as_objects.{stream}'::regclass and i.indisprimary"
        )
        assert {one["name"] for one in primary} == set(key)

    types = schema.types()
    assert types["UserId"] == "bigint"
    assert types["EventStart"] == "timestamp without time zone"
    assert types["EventCumulativeLayoutShift"] == "numeric"
    assert types["EventType"] == "text"
    assert types["CustomVars"] == "jsonb"
    (row,) = postgres.query(
        """select count(*) as n from events_as_objects.events
           where "CustomVars" ->> 'user_plan_str' like '%gold'
             and "UserId" = 6606828898126528473 and "PageId" = 9007199254740993"""
    )
    assert row == {"n": 1}


# What meltano.yml has for target-postgres, and docs/targets.md recommends.
SHIPPED = {"use_copy": True, "validate_records": False}


def test_target_postgres_with_the_shipped_settings_and_with_files(
    postgres, sandbox, commands, tmp_path, batch_folder
):
    """The same rows as with its defaults, of every kind of value, and from state to state."""
    meltano_yml = (ROOT / "meltano.yml").read_text("utf-8").partition("name: target-postgres")[2]
    for name, value in SHIPPED.items():
        setting = meltano_yml.partition(f"- name: {name}\n")[2].partition("- name")[0]
        assert f"value: {json.dumps(value)}\n" in setting
    config = sandbox.config()
    files = {**config, **batch_config(batch_folder, 100)}
    by_copy = Schema(postgres, commands, tmp_path, "by_copy", **SHIPPED)
    by_file = Schema(postgres, commands, tmp_path, "by_file", **SHIPPED)
    assert by_copy.load(config) == end_of(2)
    state = by_file.load(files)
    rows = counted(map(as_row, expected_records(sandbox, 2)))
    assert counted(by_copy.rows()) == counted(by_file.rows()) == rows
    assert by_copy.types() == by_file.types()

    sandbox.publish()
    by_file.load(files, state)
    assert counted(by_file.rows()) == counted(map(as_row, expected_records(sandbox, 3)))


@pytest.mark.parametrize("victim", ["tap", "target"])
def test_files_into_postgresql_while_something_is_killed(
    postgres, commands, tmp_path, batch_folder, victim
):
    """A tap that is killed doubles nothing. A target that is may have stored rows and printed no
    state: there `event_digest` is the key by which the next run replaces them.
    """
    schema = Schema(postgres, commands, tmp_path, f"killed_{victim}", **SHIPPED)
    made = list(generate_events(FIRST, FIRST + DAY, 280))
    with Sandbox([Bundle("1", FIRST, FIRST + DAY, made)]) as sandbox:
        config = sandbox.config(event_digest=victim == "target", **batch_config(batch_folder, 10))
        # More files than the pipe has room for, so the target has begun.
        load_through_kills(
            config, commands, schema.target, victim, lambda: len(list(batch_folder.iterdir())), 9
        )
    rows = schema.rows()
    for row in rows:
        row.pop("EventDigest", None)
    assert counted(rows) == counted(as_row(as_record(event)) for event in made)


@pytest.mark.parametrize("settings", [{}, SHIPPED], ids=["defaults", "shipped"])
def test_lists_of_numbers_load_into_target_postgres(postgres, commands, tmp_path, settings):
    """Its driver takes no list of integers and decimals together, and no list of two types."""
    values: list[dict[str, Any]] = [
        {"evt_p_reals": [1, 2.5], "evt_n_ints": [1, 3_000_000_000], "user_plan_str": "gold"},
        {"evt_p_reals": [3, 4], "evt_n_ints": [2, 3]},
        {"evt_p_reals": [0.1, None], "evt_n_ints": [], "evt_s_strs": ["a", "b"]},
        {},
    ]
    events = [{"EventStart": f"2026-06-01T00:00:0{n}.000Z", **v} for n, v in enumerate(values)]
    name = f"lists_{len(settings)}"
    schema = Schema(postgres, commands, tmp_path, name, **settings)
    custom = ["evt_p_reals", "evt_n_ints", "evt_s_strs", "user_plan_str"]
    with Sandbox([Bundle("1", FIRST, FIRST + DAY, events)]) as sandbox:
        schema.load(sandbox.config(custom_columns=custom))
    rows = schema.rows()
    assert [{n: row[n] for n in custom if row[n] is not None} for row in rows] == values


@pytest.mark.parametrize("use_copy", [False, True])
def test_what_target_postgres_makes_of_an_offset(postgres, commands, tmp_path, use_copy):
    """As docs/targets.md says, with the way to keep it."""
    schema = Schema(postgres, commands, tmp_path, f"offsets_{use_copy:d}", use_copy=use_copy)
    there = "2026-06-01T05:00:00+05:00"
    event = {"user_a_date": there, "user_b_date": there}
    with Sandbox([Bundle("1", FIRST, FIRST + DAY, [event])]) as sandbox:
        schema.load(sandbox.config(custom_columns=["user_a_date", "user_b_date:str"]))
    (row,) = schema.rows()
    assert row["user_a_date"] == f"2026-06-01T0{5 if use_copy else 0}:00:00"
    assert row["user_b_date"] == there


def test_target_postgres_with_custom_vars_as_text(postgres, sandbox, commands, tmp_path):
    schema = Schema(postgres, commands, tmp_path, "events_as_texts")
    schema.load(
        sandbox.config(custom_vars_format="string"), None, select_streams("events", "users")
    )
    assert schema.types()["CustomVars"] == "text"
    cities = postgres.query(
        """select "properties"::json->'address'->>'city' as city from events_as_texts.users"""
    )
    assert any(row["city"] for row in cities)
    rows = schema.rows()
    for row in rows:
        row["CustomVars"] = row["CustomVars"] and json.loads(row["CustomVars"])
    assert counted(rows) == counted(map(as_row, expected_records(sandbox, 2)))


def test_target_postgres_with_nul_in_texts(postgres, commands, tmp_path):
    """Without replace_nul, the target fails at this batch for ever."""
    event = {"EventTargetText": "a\0b", "evt_\0_str": {"\0": "\0"}, "PageId": 1}
    schema = Schema(postgres, commands, tmp_path, "nul")
    with Sandbox([Bundle("1", FIRST, FIRST + 24 * 60 * 60, [event])]) as sandbox:
        schema.load(sandbox.config(replace_nul=True))
        (row,) = schema.rows()
        assert row["EventTargetText"] == "a\ufffdb"
        assert row["CustomVars"] == {"evt_\ufffd_str": {"\ufffd": "\ufffd"}}
        with pytest.raises(AssertionError, match=r"NUL|0x00|u0000"):
            schema.load(sandbox.config())


def test_target_postgres_gets_a_column_for_a_variable_that_is_promoted(
    postgres, commands, tmp_path
):
    day = 24 * 60 * 60
    starts = [FIRST, FIRST + day]
    bundles = [Bundle(str(start), start, start + day, [STRANGE]) for start in starts]
    schema = Schema(postgres, commands, tmp_path, "promoted")
    with Sandbox(bundles, unpublished=1) as sandbox:
        state = schema.load(sandbox.config())
        assert "user_plan_str" not in schema.types()

        catalog = discover()
        catalog["streams"][0]["schema"]["properties"]["user_plan_str"] = {
            "type": ["null", "string"]
        }
        catalog["streams"][0]["metadata"].append(
            {"breadcrumb": ["properties", "user_plan_str"], "metadata": {"selected": True}}
        )
        sandbox.publish()
        printed = piped(sandbox.config(), commands, schema.target, tmp_path, state, catalog=catalog)
        assert states(printed)[-1] != state
    assert schema.types()["user_plan_str"] == "text"
    before, after = schema.rows()
    assert before["user_plan_str"] is None
    assert before["CustomVars"]["user_plan_str"] == STRANGE["user_plan_str"]
    assert after["user_plan_str"] == STRANGE["user_plan_str"]
    assert "user_plan_str" not in after["CustomVars"]


# --- CSV files ---


@pytest.mark.parametrize("form", ["object", "string"])
def test_target_csv(sandbox, commands, tmp_path, form):
    """`""` and absent are both an empty cell; timestamps and objects are as Python shows them.

    Each run needs a file of its own: it would write over that of the last.
    """

    def target(run: str) -> list[Path]:
        config = tmp_path / f"{run}.json"
        naming = f"{run}-{{stream_name}}.csv"
        config.write_text(json.dumps({"output_path": str(tmp_path), "file_naming_scheme": naming}))
        return [commands.target_csv, "--config", config]

    def cells(record: dict[str, Any]) -> dict[str, str]:
        row = {name: record.get(name) for name in columns()}
        for name in DATE_TIMES:
            if row[name]:
                row[name] = datetime.fromisoformat(row[name].replace("Z", "+00:00"))
        return {name: "" if value is None else str(value) for name, value in row.items()}

    def check(run: str, records: list[dict[str, Any]]) -> None:
        with (tmp_path / f"{run}-events.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        custom = [row.pop("CustomVars") for row in rows]
        assert rows == [cells(record) for record in records]
        wanted = [record.get("CustomVars") for record in records]
        if form == "string":
            assert [json.loads(text) if text else None for text in custom] == wanted
        else:
            assert [bool(text) for text in custom] == [bool(value) for value in wanted]
            assert any(text.startswith("{'") for text in custom), "no JSON"

    settings = sandbox.config(custom_vars_format=form)
    state = states(piped(settings, commands, target("first"), tmp_path))[-1]
    assert state == end_of(2)
    check("first", expected_records(sandbox, 2))
    sandbox.publish()
    assert states(piped(settings, commands, target("second"), tmp_path, state))[-1] == end_of(3)
    check("second", expected_records(sandbox, 3)[146:])


# --- Stitch ---


def test_stitchs_target_takes_the_output(sandbox, commands, tmp_path):
    out = tmp_path / "requests.json"
    target = [commands.target_stitch, "--dry-run", "--output-file", out]
    printed = piped(sandbox.config(), commands, target, tmp_path)
    assert states(printed)[-1] == end_of(2)
    sent = [
        message
        for line in out.read_text("utf-8").splitlines()
        for message in json.loads(line)["messages"]
    ]
    assert len(sent) == len(expected_records(sandbox, 2))


def test_every_setting_works_as_a_text(sandbox):
    """As Stitch sends them."""
    given = sandbox.config(
        request_timeout=60, checkpoint_events=20, prefetch_bundles=0, max_event_mb=1,
        skip_bundles=[str(FIRST)], discover_custom_vars=False, event_digest=True,
    )  # fmt: skip
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in given.items()
    }
    as_texts = run_tap(texts)
    assert as_texts.records == run_tap(given).records
    assert len(as_texts.records) == 2


def test_the_log_has_what_stitchs_orchestrator_reads(sandbox):
    run = run_tap(sandbox.config())
    metrics = [
        json.loads(text.partition(" ")[2])
        for text in run.logged("INFO")
        if text.startswith("METRIC: ")
    ]
    counts = [one["value"] for one in metrics if one["metric"] == "record_count"]
    assert sum(counts) == len(run.records)
    assert {one["type"] for one in metrics} == {"counter", "timer"}
    sandbox.fault("list:401")
    failed = run_tap(sandbox.config())
    assert failed.code == 1
    assert failed.critical
