"""Files of columns, Arrow and Parquet: the rows of RECORD messages, typed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from batches import FORMATS_OF_COLUMNS as FORMATS
from batches import read_columns
from catalogs import select_streams
from either_api import DATA_EXPORT, days
from faults import KEY, array, bundle, events, lines, packed
from hypothesis import given
from hypothesis import strategies as st
from running import Json, Run, run_tap

from tap_fullstory.columns import column_kind
from tap_fullstory.sandbox import Bundle, Sandbox, generated_bundles
from tap_fullstory.times import parse_rfc3339

pa = pytest.importorskip("pyarrow", reason="pyarrow has no wheel for this Python")
pytest.importorskip("pyarrow.parquet")

from tap_fullstory.output import arrow  # noqa: E402 - needs pyarrow

DAYS_OF_YEAR = 365
KINDS = {
    "int": "int64", "number": "float64", "bool": "bool", "time": "timestamp", "text": "string",
    "json": "json", 'odd "name"': "string", "é": "json",
}  # fmt: skip


def config_of(folder: Path | None, form: str, batch_size: int = 40, **more: Any) -> Json:
    storage = {"storage": {"root": str(folder), **more}} if folder else {}
    return {"batch_config": {"encoding": {"format": form}, "batch_size": batch_size, **storage}}


def files_of(run: Run) -> list[Path]:
    batches = [message for message in run.messages if message["type"] == "BATCH"]
    return [Path(url.removeprefix("file://")) for one in batches for url in one["manifest"]]


def as_rows(records: list[Json], schema: Json) -> list[Json]:
    """What records are as rows: typed, with null for what is absent."""
    kinds = {name: column_kind(one) for name, one in schema["properties"].items()}
    return [
        {name: as_cell(record.get(name), kind) for name, kind in kinds.items()}
        for record in records
    ]


def as_cell(value: Any, kind: str) -> Any:
    if value is None or kind in ("int64", "bool", "string"):
        return value
    if kind == "timestamp":
        return parse_rfc3339(value)
    return float(value) if kind == "float64" else value


def from_table(table: Any, schema: Json) -> list[Json]:
    rows: list[Json] = table.to_pylist()
    texts = [name for name, one in schema["properties"].items() if column_kind(one) == "json"]
    for row in rows:
        row.update({name: json.loads(row[name]) for name in texts if row[name] is not None})
    return rows


# --- the builders ---

ESCAPES = st.sampled_from(["\\n", "\\/", "\\u00e9", "\\ud83d\\ude00", '\\"', "\\\\", "\\u0000"])
PLAIN = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\')
STRINGS = st.lists(PLAIN | ESCAPES, max_size=8).map(lambda parts: f'"{"".join(parts)}"')
TIMES = (
    st.datetimes()
    .filter(lambda at: 1 < at.year < 9999)
    .flatmap(
        lambda at: st.sampled_from(["Z", "+05:30", "-15:59", "+00:00"]).map(
            lambda zone: f'"{at.isoformat()}{zone}"'
        )
    )
)
DECIMALS = st.decimals(-(10**25), 10**25, allow_nan=False, places=6).map(lambda n: f"{n:f}")
NUMBERS = DECIMALS | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
VALUES: Mapping[str, st.SearchStrategy[str]] = {
    "int64": st.integers(-(2**63), 2**63 - 1).map(str),
    "float64": NUMBERS | st.integers(-(2**70), 2**70).map(str),
    "bool": st.sampled_from(["true", "false"]),
    "timestamp": TIMES,
    "string": STRINGS,
    "json": st.recursive(
        STRINGS | NUMBERS | st.just("null"),
        lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(STRINGS, inner, max_size=3).map(
            lambda members: "{" + ",".join(f"{k} : {v}" for k, v in members.items()) + "}"
        ),
        max_leaves=5,
    ),
}  # fmt: skip


@st.composite
def json_lines(draw: Any) -> bytes:
    made = []
    for _ in range(draw(st.integers(0, 20))):
        names = draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True))
        space = draw(st.sampled_from(["", " "]))
        members = []
        for name in names:
            value = draw(VALUES[KINDS[name]] | st.just("null"))
            members.append(f"{json.dumps(name, ensure_ascii=False)}:{space}{value}")
        made.append("{" + f",{space}".join(members) + "}\n")
    return "".join(made).encode()


@pytest.mark.skipif(not arrow.is_compiled(), reason="the C extension has not been compiled")
@given(st.lists(json_lines(), min_size=1, max_size=3))
def test_both_builders_make_the_same_columns(blocks: list[bytes]) -> None:
    native, reference = arrow.NativeBuilder(KINDS), arrow.ReferenceBuilder(KINDS)
    for _ in range(2):  # a builder is used again after `finish`
        for block in blocks:
            native.append(block)
            reference.append(block)
        found, expected = native.finish(), reference.finish()
        found.validate(full=True)
        assert found.schema == expected.schema == arrow.arrow_schema(KINDS)
        assert found.equals(expected)


@pytest.mark.parametrize(
    "line",
    [b'{"int": 9223372036854775808}', b'{"int": 1.5}', b'{"int": ""}', b'{"other": 1}', b"[]", b"{",
     b'{"int": 1', b'{"int"', b'{"int":1,"int":2}', b'{"bool": 1}', b'{"text": 1}', b'{"text": "a',
     b'{"text": "\\ud800"}', b'{"time": "2026-01-01"}', b'{"time": "yesterday, at about noon"}',
     b'{"int": 1}}', b'{"number": "1"}', b'{"number": true}'],
)  # fmt: skip
@pytest.mark.skipif(not arrow.is_compiled(), reason="the C extension has not been compiled")
def test_what_no_encoder_writes_is_refused_and_never_read_past(line: bytes) -> None:
    builder = arrow.NativeBuilder(KINDS)
    with pytest.raises(ValueError, match="column"):
        builder.append(line)


@pytest.mark.skipif(not arrow.is_compiled(), reason="the C extension has not been compiled")
def test_no_line_that_is_cut_anywhere_crashes() -> None:
    whole = (
        '{"int":-12,"number":1.5e3,"bool":true,"time":"2026-01-02T03:04:05.678901+01:00",'
        '"text":"a\\u00e9\\ud83d\\ude00","json":{"a":[1,"}"]},"odd \\"name\\"":"","é":null}\n'
    ).encode()
    for end in range(1, len(whole) - 1):
        with pytest.raises(ValueError, match="column"):
            arrow.NativeBuilder(KINDS).append(whole[:end])
    builder = arrow.NativeBuilder(KINDS)
    builder.append(whole)
    (row,) = builder.finish().to_pylist()
    at = datetime(2026, 1, 2, 2, 4, 5, 678901, timezone.utc)
    assert row == {
        "int": -12, "number": 1500.0, "bool": True, "time": at, "text": "aé😀",
        "json": '{"a":[1,"}"]}', 'odd "name"': "", "é": None,
    }  # fmt: skip


# --- the command ---


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(generated_bundles(3, 120)) as sandbox:
        yield sandbox


@pytest.fixture(params=["native", "reference"])
def each_encoder(request: pytest.FixtureRequest) -> Iterator[None]:
    pure = {"TAP_FULLSTORY_PURE_PYTHON": "1"} if request.param == "reference" else {}
    with mock.patch.dict(os.environ, pure):
        yield


@pytest.mark.parametrize("form", FORMATS)
def test_rows_are_those_of_record_messages(sandbox, batch_folder, form, each_encoder):
    as_records = run_tap(sandbox.config(checkpoint_events=40))
    as_files = run_tap(sandbox.config(**config_of(batch_folder, form)))
    assert as_files.code == 0, as_files.log
    assert as_files.states == as_records.states
    (schema,) = as_records.schemas
    rows = []
    for path, message in zip(
        files_of(as_files), (m for m in as_files.messages if m["type"] == "BATCH"), strict=True
    ):
        assert path.suffix == f".{form}"
        assert path.name.startswith("tap-fullstory--events-")
        assert message["encoding"] == {"format": form}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        table = read_columns(path)
        assert table.column_names == list(schema["schema"]["properties"])
        assert len(table) <= 40
        rows += from_table(table, schema["schema"])
    assert rows == as_rows(as_records.records, schema["schema"])
    assert {path.name for path in batch_folder.iterdir()} == {p.name for p in files_of(as_files)}


@pytest.mark.parametrize("form", FORMATS)
def test_individuals_too(batch_folder, form):
    catalog = select_streams("individuals", "segments")
    with DATA_EXPORT.sandbox(days(2, 30)) as sandbox:
        config = DATA_EXPORT.config(sandbox)
        as_records = run_tap(config, catalog=catalog)
        as_files = run_tap({**config, **config_of(batch_folder, form)}, catalog=catalog)
    assert {m["stream"] for m in as_files.messages if m["type"] == "RECORD"} == {"segments"}
    schema = next(m["schema"] for m in as_records.schemas if m["stream"] == "individuals")
    records = [
        m["record"]
        for m in as_records.messages
        if m["type"] == "RECORD" and m["stream"] == "individuals"
    ]
    rows = [row for path in files_of(as_files) for row in from_table(read_columns(path), schema)]
    assert rows == as_rows(records, schema) != []


@pytest.mark.parametrize(
    ("column", "value", "cell"),
    [
        ("PageId", "9223372036854775807", 2**63 - 1),
        ("PageId", "-9223372036854775808", -(2**63)),
        ("PageId", "9223372036854775808", None),
        ("PageId", "-9223372036854775809", None),
        ("PageId", "12345678901234567890123", None),
        ("PageId", "1e3", 1000),
        ("EventCumulativeLayoutShift", "1e999", None),
        ("EventCumulativeLayoutShift", "0.25", 0.25),
        ("EventCumulativeLayoutShift", "-12345678901234567890.5", -12345678901234567890.5),
        ("SessionStart", '"2026-01-02T03:04:05.123456Z"', "2026-01-02 03:04:05.123456+00:00"),
        ("SessionStart", '"2026-01-02T03:04:05.123456000Z"', "2026-01-02 03:04:05.123456+00:00"),
        ("SessionStart", '"2026-01-02T03:04:05.1234567Z"', None),
        ("SessionStart", '"2026-01-02T03:04:05.12345+01:00"', "2026-01-02 02:04:05.123450+00:00"),
        ("SessionStart", '""', ""),
    ],
)
def test_what_a_column_cannot_hold_is_a_type_mismatch(
    batch_folder, column, value, cell, each_encoder
):
    event = f'{{"{column}": {value}, "EventType": "click"}}'
    with Sandbox([bundle(0, packed([event.encode()]))], api_key=KEY) as sandbox:
        run = run_tap(sandbox.config(**config_of(batch_folder, "parquet")))
    (path,) = files_of(run)
    (row,) = read_columns(path).to_pylist()
    found = row[column]
    assert (str(found) if isinstance(found, datetime) else found) == (cell or None)
    if cell is None:
        held = json.loads(row["CustomVars"], parse_float=Decimal)[column]
        assert held == json.loads(value, parse_float=Decimal)
        assert f"{column} (1)" in run.log
    else:
        assert row["CustomVars"] is None


# --- where they go ---


def test_storage_may_be_left_out(sandbox, tmp_path):
    with mock.patch.dict(os.environ, TMPDIR=str(tmp_path)):
        run = run_tap(sandbox.config(batch_config={"encoding": {"format": "arrow"}}))
        assert run.code == 0, run.log
        folder = tmp_path / "singer-sdk"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.parent for path in files_of(run)} == {folder}
        folder.chmod(0o777)
        refused = run_tap(sandbox.config(batch_config={"encoding": {"format": "arrow"}}))
        assert (refused.code, refused.stdout) == (2, b"")
        assert "is a folder that others may change" in refused.critical
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
        assert run_tap(sandbox.config(batch_config={"encoding": {"format": "arrow"}})).code == 2


def test_a_folder_for_each_day(sandbox, batch_folder):
    config = sandbox.config(**config_of(batch_folder, "parquet", partition="day"))
    for _ in range(2):  # no file is ever written again
        run = run_tap(config)
        assert run.code == 0, run.log
    days_of_bundles = {
        f"day={datetime.fromtimestamp(one.start, timezone.utc):%Y-%m-%d}" for one in sandbox.bundles
    }
    assert {path.name for path in batch_folder.iterdir()} == days_of_bundles
    found = pa.parquet.read_table(batch_folder)
    assert len(found) == 2 * 360
    for folder in batch_folder.iterdir():
        day = datetime.strptime(folder.name, "day=%Y-%m-%d").replace(tzinfo=timezone.utc)
        for path in folder.iterdir():
            starts = read_columns(path)["EventStart"].to_pylist()
            assert all(day <= start < day + timedelta(days=1) for start in starts)
    assert "removed none" not in run.log


def test_without_pyarrow_the_run_says_how_to_install_it(sandbox, batch_folder, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pyarrow' else find(name, *a)\n"
    )
    (tmp_path / "c.json").write_text(json.dumps(sandbox.config(**config_of(batch_folder, "arrow"))))
    done = subprocess.run(
        [sys.executable, "-m", "tap_fullstory", "--config", str(tmp_path / "c.json")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"pip install 'tap-fullstory[arrow]'" in done.stderr


def test_a_bundle_without_events_makes_no_file(batch_folder):
    made: list[Bundle] = [bundle(0, array([])), bundle(1, packed(lines(events(3))))]
    with Sandbox(made, api_key=KEY) as sandbox:
        run = run_tap(sandbox.config(**config_of(batch_folder, "arrow")))
    assert [len(read_columns(path)) for path in files_of(run)] == [3]


def test_duckdb_and_polars_read_a_year_whose_columns_grew(batch_folder, commands):
    """A lake of daily files: a variable became a column of its own in between."""
    polars = pytest.importorskip("polars")
    lake_folder = batch_folder / "events"
    lake_folder.mkdir()
    with Sandbox(generated_bundles(DAYS_OF_YEAR, 3)) as serving:
        start = serving.config()["start_date"]
        half = f"{parse_rfc3339(start) + timedelta(days=DAYS_OF_YEAR // 2):%Y-%m-%dT%H:%M:%SZ}"
        config = serving.config(**config_of(lake_folder, "parquet", partition="day"))
        first = run_tap({**config, "end_date": half})
        second = run_tap({**config, "custom_columns": ["user_plan_str"]}, state=first.state)
    assert (first.code, second.code) == (0, 0)
    pattern = f"{batch_folder}/events/**/*.parquet"
    lake = polars.scan_parquet(
        pattern, missing_columns="insert", extra_columns="ignore", hive_partitioning=True
    )
    found = lake.select(polars.len(), polars.col("day").n_unique()).collect()
    assert found.row(0) == (3 * DAYS_OF_YEAR, DAYS_OF_YEAR)
    sql = (
        "SELECT count(*), count(DISTINCT day), "
        "count(*) FILTER (user_plan_str IS NOT NULL), "
        f"min(day) FILTER (user_plan_str IS NOT NULL) >= '{half[:10]}' FROM "
        f"read_parquet('{pattern}', union_by_name = true, hive_partitioning = true)"
    )
    code = f"import duckdb; print(*duckdb.connect().execute({sql!r}).fetchone())"
    found = subprocess.check_output([commands.loader_python, "-c", code], text=True).split()
    assert found[:2] == [str(3 * DAYS_OF_YEAR), str(DAYS_OF_YEAR)]
    assert 0 < int(found[2]) < 3 * DAYS_OF_YEAR // 2 + 3
    assert found[3] == "True"
