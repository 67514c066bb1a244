"""examples/duckdb/load.py: what a tap writes is in the database once, whatever is killed and when.

KILLS in the environment sets how often each side is killed; the times are seeded.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import loading
import pytest
from batches import batch_config, has_pyarrow, needs_pyarrow
from environments import ROOT
from faults import bundle, events, lines, packed, record
from loading import DATE_TIMES, STRANGE, end_of, expected_records, piped
from running import Json, columns, counted, run_tap, start_tap

from tap_fullstory.sandbox import Sandbox

LOAD = ROOT / "examples/duckdb/load.py"
KILLS = int(os.environ.get("KILLS", "3"))
TIMEOUT = 120
NUMBER = {"properties": {"n": {"type": ["null", "integer"]}}}
SECRET = "jane@example.com"

sandbox = loading.sandbox  # two days, and a third that waits to be published

READ = """\
import duckdb, json, sys
with duckdb.connect("it.duckdb", read_only=True) as connection:
    found = connection.execute(sys.argv[1])
    names = [column[0] for column in found.description]
    json.dump([dict(zip(names, row)) for row in found.fetchall()], sys.stdout, default=str)
"""


class Database:
    """it.duckdb in a folder, filled by load.py."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder = python, folder

    def command(self, *options: str) -> list[str]:
        return [str(self.python), str(LOAD), "it.duckdb", *options]

    def run(self, messages: Any, *options: str) -> subprocess.CompletedProcess[str]:
        """Load messages, or bytes as they are. Fails if there is more than a line on stderr."""
        text = messages if isinstance(messages, bytes) else b"".join(map(line, messages))
        done = subprocess.run(
            self.command(*options),
            input=text,
            capture_output=True,
            cwd=self.folder,
            timeout=TIMEOUT,
        )
        log = done.stderr.decode()
        assert re.fullmatch(r"load\.py: [^\n]+\n", log), log
        assert SECRET not in log
        assert not (self.folder / "it.duckdb.spool").exists()
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), log)

    def load(self, *messages: Json | bytes, options: tuple[str, ...] = ()) -> str:
        done = self.run(messages, *options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refuse(self, *messages: Json | bytes, options: tuple[str, ...] = ()) -> str:
        done = self.run(messages, *options)
        assert done.returncode == 1, done.stderr
        return done.stderr

    def state(self, *options: str) -> Any:
        done = subprocess.run(
            self.command("--print-state", *options),
            cwd=self.folder, capture_output=True, check=True, timeout=TIMEOUT,
        )  # fmt: skip
        return json.loads(done.stdout)

    def execute(self, program: str, *arguments: str) -> bytes:
        return subprocess.run(
            [self.python, "-c", program, *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT,
        ).stdout  # fmt: skip

    def query(self, sql: str) -> list[Json]:
        rows: list[Json] = json.loads(self.execute(READ, sql))
        return rows

    def change(self, sql: str) -> None:
        self.execute("import duckdb, sys; duckdb.connect('it.duckdb').execute(sys.argv[1])", sql)

    def values(self, table: str = "t", column: str = "n") -> list[Any]:
        return [row["v"] for row in self.query(f'SELECT "{column}" AS v FROM "{table}" ORDER BY 1')]

    def types(self, table: str) -> dict[str, str]:
        return {row["column_name"]: row["column_type"] for row in self.query(f'DESCRIBE "{table}"')}

    def tables(self) -> list[str]:
        return [
            row["t"] for row in self.query("SELECT table_name AS t FROM duckdb_tables() ORDER BY 1")
        ]


@pytest.fixture
def database(commands, tmp_path) -> Database:
    return Database(commands.loader_python, tmp_path)


def line(message: Json | bytes) -> bytes:
    """As the tap writes it, for bytes are lines already."""
    if isinstance(message, bytes):
        return message
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def schema(properties: Json, stream: str = "t", key: tuple[str, ...] = ()) -> Json:
    return {
        "type": "SCHEMA", "stream": stream, "key_properties": list(key),
        "schema": {"type": "object", "properties": properties},
    }  # fmt: skip


def integers(*names: str) -> Json:
    return {name: {"type": ["null", "integer"]} for name in names}


def row(stream: str = "t", **values: Any) -> Json:
    return {
        "type": "RECORD", "stream": stream, "record": values,
        "time_extracted": "2026-06-01T00:00:00.000000Z",
    }  # fmt: skip


def batch_message(form: str, path: object, stream: str = "t") -> bytes:
    url = f"file://{path}" if str(path).startswith("/") else str(path)
    message = {
        "type": "BATCH", "stream": stream, "encoding": {"format": form}, "manifest": [url],
    }  # fmt: skip
    return json.dumps(message).encode() + b"\n"


def state(number: int) -> Json:
    return {"type": "STATE", "value": {"bookmarks": {"t": number}}}


# --- values ---


def as_row(event: Json) -> Json:
    """A record as a row; a date-time as Python shows what DuckDB has."""
    found = {name: event.get(name) for name in columns() | {"CustomVars"}}
    for name in DATE_TIMES:
        if found[name]:
            whole, _, fraction = found[name].removesuffix("Z").replace("T", " ").partition(".")
            found[name] = f"{whole}.{fraction:0<6}" if fraction.strip("0") else whole
    return found


def test_what_the_tap_writes_is_what_the_table_holds(database, sandbox, commands, tmp_path):
    def loaded() -> list[Json]:
        rows = database.query("SELECT * FROM events")
        for one in rows:
            one["CustomVars"] = one["CustomVars"] and json.loads(one["CustomVars"])
        return rows

    assert database.state() == {}
    piped(sandbox.config(), commands, database.command(), tmp_path, database.state())
    assert database.state() == end_of(2)
    assert counted(loaded()) == counted(map(as_row, expected_records(sandbox, 2)))

    sandbox.publish()
    for _ in range(2):
        piped(sandbox.config(), commands, database.command(), tmp_path, database.state())
        assert database.state() == end_of(3)
        assert counted(loaded()) == counted(map(as_row, expected_records(sandbox, 3)))

    types = database.types("events")
    assert types["UserId"] == types["PageDuration"] == "BIGINT"
    assert types["EventStart"] == "TIMESTAMP"
    assert types["EventCumulativeLayoutShift"] == "DOUBLE"
    assert types["EventType"] == "VARCHAR"
    assert types["CustomVars"] == "JSON"
    (found,) = database.query(
        """SELECT CustomVars->>'$."evt_ids_ints"[0]' AS id, CustomVars->>'$.Tomorrow.a[1].b' AS b
           FROM events WHERE UserId = 6606828898126528473 AND PageId = 9007199254740993"""
    )
    assert found == {"id": str(2**53 + 1), "b": cast(Any, STRANGE["Tomorrow"])["a"][1]["b"]}


def test_every_type_and_value(database):
    text = {"type": ["null", "string"]}
    given: dict[str, tuple[dict[str, Any], str, list[Any]]] = {
        "id": ({"type": "integer"}, "BIGINT", [2**63 - 1, -(2**63), None]),
        "real": ({"type": ["number", "null"]}, "DOUBLE", [0.1, 4, None]),
        "yes": ({"type": ["null", "boolean"]}, "BOOLEAN", [True, False, None]),
        "text": (text, "VARCHAR", ["", 'Grüße "東京" \U0001f600\n\0', None]),
        "any": ({}, "JSON", [2**70, "x", None]),
        "either": ({"type": ["integer", "string", "null"]}, "JSON", [2**63, "1", None]),
        "list": ({"type": ["null", "array"]}, "JSON", [[1, [None]], [], None]),
        "object": ({"type": "object"}, "JSON", [{"a": {"b": "it's"}, "A": 1}, {}, None]),
        'od"d \'name\' {}.': (text, "VARCHAR", ["a", "b", None]),
    }  # fmt: skip
    database.load(
        schema({name: kind for name, (kind, _, _) in given.items()}, "some stream"),
        *(row("some stream", **{name: one[2][at] for name, one in given.items()}) for at in (0, 1)),
        row("some stream", **dict.fromkeys(given)),
        row("some stream"),
        state(1),
    )
    assert database.types("some stream") == {name: kind for name, (_, kind, _) in given.items()}
    first, second, *empty = database.query('SELECT * FROM "some stream"')
    for name, (_, kind, values) in given.items():
        found = [one[name] for one in (first, second)]
        if kind == "JSON":
            found = [json.loads(text) for text in found]
        assert found == values[:2], name
    assert empty == [dict.fromkeys(given)] * 2


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("2026-06-01T12:00:00.191Z", "2026-06-01 12:00:00.191000"),
        ("2026-06-01T12:00:00+02:00", "2026-06-01 10:00:00"),
        ("2026-06-01T23:30:00-11:45", "2026-06-02 11:15:00"),
        ("2026-06-01t12:00:00z", "2026-06-01 12:00:00"),
        ("2026-06-01T12:00:00.123456789Z", "2026-06-01 12:00:00.123456"),
        ("0001-01-01T00:00:00Z", "0001-01-01 00:00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"),
    ],
)
def test_date_times_are_utc(database, text, stored):
    kind = {"at": {"type": ["null", "string"], "format": "date-time"}}
    database.load(schema(kind), row(at=text), state(1))
    assert database.types("t") == {"at": "TIMESTAMP"}
    assert database.values(column="at") == [stored]


def test_an_event_larger_than_duckdbs_default_limit(database):
    database.load(schema({"s": {"type": "string"}}), row(s="x" * 40_000_000), row(s="y"), state(1))
    assert database.query("SELECT length(s) AS n FROM t ORDER BY 1") == [
        {"n": 1},
        {"n": 40_000_000},
    ]


def test_messages_in_any_layout_and_order_of_members(database):
    database.load(
        json.dumps(schema(integers("n"))).encode() + b"\r\n",
        b'{"type": "RECORD", "stream": "t", "record": {"n": 1}}\n',
        b'{"type": "RECORD", "stream": "t", "record": {"n": 2}, "time_extracted": "2026"}\r\n',
        b'{"type":"RECORD","stream":"t","record":{"n":3}}\n',
        b'{"type":"RECORD","stream":"t","record":{"n":4},"version":5,"time_extracted":"2026"}\n',
        b'{"record":{"n":5},"stream":"t","type":"RECORD"}\n',
        b'\n{"type":"RECORD","stream":"\\u0074","record":{"n":6}}\n',
        b'{"type":"ACTIVATE_VERSION","stream":"t","version":1}\n',
        b'{"type":"RECORD","stream":"t","record":{}}\n',
        state(1),
    )
    assert database.values() == [1, 2, 3, 4, 5, 6, None]


# --- tables ---


def test_several_streams_by_turns(database):
    streams = ["a", "b", "Ünïcode", 'q"uote']
    messages = [schema(integers("n"), name) for name in streams]
    messages += [row(name, n=number) for number in range(50) for name in streams]
    log = database.load(*messages, state(1), options=("--batch-mb", "0.0001"))
    assert "Loaded 50 rows of a, 50 rows of b," in log
    for name in streams:
        assert database.query(f"""SELECT n FROM "{name.replace('"', '""')}" ORDER BY n""") == [
            {"n": number} for number in range(50)
        ]


def test_a_stream_without_records_has_an_empty_table(database):
    database.load(schema(integers("n")), state(1))
    assert database.values() == []


def test_columns_that_a_later_schema_adds(database):
    database.load(schema(integers("a")), row(a=1), state(1))
    database.load(
        schema(integers("a", "b")), row(a=2, b=2), schema(integers("b", "c")), row(b=3, c=3),
        state(2), schema(integers("a", "d")), row(a=4, d=4), state(3),
    )  # fmt: skip
    assert database.query("SELECT * FROM t ORDER BY coalesce(a, b)") == [
        {"a": 1, "b": None, "c": None, "d": None},
        {"a": 2, "b": 2, "c": None, "d": None},
        {"a": None, "b": 3, "c": 3, "d": None},
        {"a": 4, "b": None, "c": None, "d": 4},
    ]


def test_schemas_hold_tables_and_a_state_of_their_own(database):
    database.load(schema(integers("n")), row(n=1), state(1), options=("--schema", "one"))
    database.load(schema(integers("n")), row(n=2), state(2), options=("--schema", "The other"))
    assert database.state("--schema", "one") == {"bookmarks": {"t": 1}}
    assert database.state("--schema", "The other") == {"bookmarks": {"t": 2}}
    assert database.state() == database.state("--schema", "none") == {}
    assert database.query('SELECT n FROM "The other".t') == [{"n": 2}]


# --- keys ---


def test_event_digest_merges_duplicates(database, sandbox, commands, tmp_path):
    config = sandbox.config(event_digest=True)
    digests = sorted(one["EventDigest"] for one in run_tap(config).records)
    for _ in range(2):
        piped(config, commands, database.command(), tmp_path)
        assert database.values("events", "EventDigest") == digests


@pytest.mark.parametrize("batch", ["64", "0.0001"])
def test_the_last_record_of_a_key_wins(database, batch):
    keyed = schema(integers("a", "b", "n", "_singer_position"), key=("a", "b"))
    numbers = list(range(400))
    messages = [row(a=number % 7, b=number % 3 or None, n=number) for number in numbers]
    wanted = {(number % 7, number % 3): number for number in numbers}
    for start in (0, 200):
        half = [keyed, *messages[start : start + 200], state(start)]
        database.load(*half, options=("--batch-mb", batch))
    assert database.values() == sorted(wanted.values())


def test_a_key_that_an_existing_table_did_not_have(database):
    database.load(schema(integers("n")), row(n=1), row(n=1), row(n=2), state(1))
    database.load(schema(integers("n", "m"), key=("n",)), row(n=1, m=5), row(n=3), state(2))
    assert database.query("SELECT * FROM t ORDER BY n") == [
        {"n": 1, "m": 5}, {"n": 2, "m": None}, {"n": 3, "m": None}
    ]  # fmt: skip


# --- what is committed, and what is not ---


@pytest.mark.parametrize("batch", ["64", "0.00001"])
def test_a_run_without_state_changes_nothing(database, batch):
    messages = [schema(integers("n")), *(row(n=number) for number in range(9))]
    log = database.refuse(*messages, options=("--batch-mb", batch))
    assert "no STATE, so nothing is stored" in log
    assert database.tables() == []
    assert database.state() == {}

    database.load(schema(integers("n")), row(n=1), state(1))
    database.refuse(schema(integers("n", "m")), row(n=2, m=2), options=("--batch-mb", batch))
    assert database.query("SELECT * FROM t") == [{"n": 1}]
    assert database.state() == {"bookmarks": {"t": 1}}


@pytest.mark.parametrize("batch", ["64", "0.00001"])
@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (b"", "The next run brings the 2 rows after the last STATE again"),
        (
            b'{"type":"RECORD","stream":"t","record":{"n":5},"time_ex',
            "Line 7, the last one, is cut",
        ),
        (b'{"type":"STATE","value":{"bookmarks":{"t":2', "Line 7, the last one, is cut off"),
        (b'{"type":"STATE"\n', "Line 7 is not valid JSON"),
        (b"[1]\n", "Line 7 is not a JSON object"),
        (b'{"type":"HELLO"}\n', "Line 7 is not a Singer message"),
        (b'{"type":"RECORD","stream":"t","record":5}\n', "Line 7 is not a Singer message"),
        (b'{"type":"RECORD","stream":"u","record":{}}\n', "Line 7 is a RECORD of 'u' before its"),
        (b'{"type":"BATCH","stream":"t"}\n', "Line 7 is not a Singer message"),
        (batch_message("jsonl", "/f"), "is a BATCH message of the format 'jsonl', which"),
        (batch_message("parquet", "s3://b/f"), "names a file that is not on this machine"),
        (batch_message("parquet", "/f", "other"), "is a BATCH of 'other' before its SCHEMA"),
        (b'{"a":' + b"[" * 100_000 + b"\n", "Line 7 is nested more than 100 levels deep"),
        (b"\xff\n", "Line 7 is not valid JSON"),
    ],
)
def test_what_the_last_state_covers_is_stored(database, batch, rest, said):
    log = database.refuse(
        schema(integers("n")), row(n=1), row(n=2), state(1), row(n=3), row(n=4), rest,
        options=("--batch-mb", batch),
    )  # fmt: skip
    assert said in log
    assert database.values() == [1, 2]
    assert database.state() == {"bookmarks": {"t": 1}}


def test_nothing_at_all_is_a_failure(database):
    assert "no STATE" in database.refuse(b"")


def test_rows_beyond_a_batch_wait_for_their_state(database):
    """Without a STATE they go into a transaction that the next one commits."""
    many = [row(n=number) for number in range(1000)]
    database.load(
        schema(integers("n")), *many[:10], state(1), *many[10:], state(2),
        options=("--batch-mb", "0.001"),
    )  # fmt: skip
    assert database.values() == list(range(1000))
    assert database.state() == {"bookmarks": {"t": 2}}


# --- what cannot be stored ---

TIME = {"type": "string", "format": "date-time"}


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ({"type": "integer"}, str(2**63), "has a value in 'n' that BIGINT cannot hold"),
        ({"type": "integer"}, '{"a":1}', "has a value in 'n' that BIGINT cannot hold"),
        ({"type": "number"}, "1e400", "has a value in 'n' that DOUBLE cannot hold"),
        ({"type": "number"}, "NaN", "has a value in 'n' that DOUBLE cannot hold"),
        ({"type": "number"}, f'"{SECRET}"', "has a value in 'n' that DOUBLE cannot hold"),
        (TIME, f'"{SECRET}"', "has a value in 'n' that TIMESTAMP cannot hold"),
        (TIME, '"2026-06-01T23:59:60Z"', "has a value in 'n' that TIMESTAMP cannot hold"),
        ({"type": "integer"}, f'1,"n":"{SECRET}"', "has 'n' twice"),
        ({"type": "string"}, f'"{SECRET}" "', "is not valid JSON"),
        ({"type": "string"}, '"\\ud83d"', "is not valid JSON"),
    ],
)
def test_the_error_names_line_and_column(database, kind, value, said):
    good = [line(row(m=number)) for number in range(20)]
    broken = line(row(n="@")).replace(b'"@"', value.encode())
    messages = [schema({"m": {"type": "integer"}, "n": kind}), good[0], state(1), *good, broken]
    log = database.refuse(*messages, *good, state(2), options=("--batch-mb", "0.000001"))
    assert f"Line 24, a record of 't', {said}" in log
    assert database.values(column="m") == [0]
    assert database.state() == {"bookmarks": {"t": 1}}


def test_larger_integers_after_alter_table_as_the_error_says(database):
    given = [schema(integers("n")), row(n=2**63), row(n=-(2**100)), state(1)]
    database.load(schema(integers("n")), row(n=1), state(0))
    (statement,) = re.findall(r"ALTER TABLE .* TYPE HUGEINT", database.refuse(*given))
    database.change(statement)
    database.load(*given)
    assert database.values() == [-(2**100), 1, 2**63]


@pytest.mark.parametrize(
    ("before", "message", "said"),
    [
        ("", schema(integers("a", "A")), "The columns 'a' and 'A' of 't' differ only in case"),
        ("CREATE TABLE t (N BIGINT)", schema(integers("n")), "a column 'N', and SCHEMA one 'n'"),
        ("CREATE TABLE T (n BIGINT)", schema(integers("n")), "has a table 'T' already"),
        ("CREATE TABLE t (n VARCHAR)", schema(integers("n")),
         "The column 'n' of 't' is VARCHAR, and its SCHEMA asks for BIGINT"),
        ("", schema({}), "lists no properties"),
        ("", schema(integers("n"), key=("m",)), "does not list its key 'm'"),
        ("", schema(integers("")), "has a name that DuckDB cannot take: ''"),
        ("", schema(integers("a\0")), "has a name that DuckDB cannot take: 'a\\x00'"),
        ("", schema(integers("a\n")), "has a name that DuckDB cannot take: 'a\\n'"),
        ("", schema(integers("n"), "_Singer_State"), "has the name of the table for the state"),
    ],
)  # fmt: skip
def test_a_schema_that_the_tables_cannot_have(database, before, message, said):
    if before:
        database.change(before)
    assert said in database.refuse(message, state(1))
    assert database.state() == {}


def test_names_that_differ_are_told_apart_as_duckdb_does(database):
    names = ["é", "É", "a\u00a0b", "a b", "\u200b", "\u017f", "s"]
    for number in (1, 2):
        values: Json = {name: number * 10 + at for at, name in enumerate(names)}
        database.load(schema(integers(*names)), row(**values), state(number))
    for at, name in enumerate(names):
        assert database.values(column=name) == [10 + at, 20 + at]
    database.load(schema(integers("n"), "é"), schema(integers("n"), "É"), row("É", n=1), state(3))
    assert (database.values("é"), database.values("É")) == ([], [1])


def test_descriptions_become_comments(database):
    described = {"n": {"type": "integer", "description": 'It\'s a "number".\nOf \u6771.'}}
    comments = "SELECT column_name AS n, comment AS c FROM duckdb_columns() WHERE table_name = 't'"
    database.load(schema(integers("n")), row(n=1), state(1))
    assert database.query(comments) == [{"n": "n", "c": None}]
    more = {**described, "m": {"type": "string", "description": "New"}}
    for number in (2, 3):
        database.load(schema(more), row(n=number), state(number))
        assert database.query(comments) == [
            {"n": "n", "c": described["n"]["description"]}, {"n": "m", "c": "New"}
        ]  # fmt: skip
    database.change("COMMENT ON COLUMN t.n IS 'ours'")
    database.load(schema(more), row(n=4), state(4))
    assert database.query(comments)[0] == {"n": "n", "c": "ours"}
    assert database.values() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["uid=42", "a[b]c", "*", "[!x]*"])
@pytest.mark.parametrize("in_folder", [True, False])
def test_the_path_of_the_database_is_taken_as_it_is(commands, tmp_path, name, in_folder):
    """Not as a pattern of other loaders' spools, nor as a column and its value."""
    folder = tmp_path / name if in_folder else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / ("it.duckdb" if in_folder else f"{name}.duckdb")
    for other in ("abc.duckdb.spool", "b.duckdb.spool"):
        (folder / other).write_bytes(b'{"uid":7,"n":7}\n')
    text = b"".join(map(line, [schema(integers("uid", "n")), row(uid=1, n=2), state(1)]))
    subprocess.run(
        [commands.loader_python, LOAD, path], input=text, check=True, capture_output=True
    )
    read = "import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute('FROM t').fetchall())"
    found = subprocess.check_output([commands.loader_python, "-c", read, path])
    assert found == b"[(1, 2)]\n"


def test_streams_whose_names_differ_only_in_case(database):
    log = database.refuse(schema(integers("n")), schema(integers("n"), "T"), state(1))
    assert "The stream 'T' has a table 't' already" in log


def test_a_database_that_is_in_use(database):
    database.load(schema(integers("n")), row(n=1), state(1))
    with subprocess.Popen(
        database.command(), cwd=database.folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as other:
        spool = database.folder / "it.duckdb.spool"
        wait_until(spool.exists)
        done = subprocess.run(
            database.command(), input=b"", cwd=database.folder, capture_output=True, text=False
        )
        assert done.returncode == 1
        assert b"load.py: it.duckdb: IO Error: Could not set lock on file" in done.stderr
        assert done.stderr.count(b"\n") == 1
        asked = subprocess.run(
            database.command("--print-state"), cwd=database.folder, capture_output=True
        )
        assert (asked.returncode, asked.stdout) == (1, b""), "no state is not an empty state"
        assert other.stdin
        for message in (schema(integers("n")), row(n=2), state(2)):
            other.stdin.write(line(message))
        other.stdin.close()
        assert other.wait(TIMEOUT) == 0
    assert database.values() == [1, 2]


@pytest.mark.parametrize("options", [["--batch-mb", "0"], ["--batch-mb", "x"], ["--what"]])
def test_a_wrong_option_is_2(database, options):
    done = subprocess.run(database.command(*options), cwd=database.folder, capture_output=True)
    assert done.returncode == 2
    assert not list(database.folder.iterdir())


def test_printing_the_state_makes_no_database(database):
    assert database.state() == {}
    assert not list(database.folder.iterdir())


def test_its_first_lines_ask_for_the_duckdb_that_is_tested():
    (listed,) = re.findall(
        r"^# dependencies = (\[.*?^# \])", LOAD.read_text(), re.MULTILINE | re.DOTALL
    )
    asked = set(re.findall(r'"(duckdb.*?)"', listed))
    pinned = (ROOT / "requirements/duckdb.txt").read_text().replace(" ;", ";")
    assert asked == set(re.findall(r"^duckdb.*$", pinned, re.MULTILINE))


# --- a STATE that is older than the one that the database has ---


def events_state(bundle_end: str | None, events: int = 0, bundle: str = "b") -> Json:
    partial = {"id": bundle, "events": events, "bytes": 9, "crc32": 9} if events else None
    bookmark = {"bundle_end": bundle_end, "partial": partial} if bundle_end else None
    return {"type": "STATE", "value": {"bookmarks": {"t": bookmark} if bookmark else {}}}


JUNE = "2026-06-02T00:00:00Z"


@pytest.mark.parametrize("batch", ["64", "0.00001"])
@pytest.mark.parametrize(
    ("stored", "first", "is_older"),
    [
        (events_state(JUNE), events_state("2026-06-01T23:59:59.999Z"), True),
        (events_state(JUNE), events_state("2026-06-02T01:00:00+02:00"), True),
        (events_state(JUNE), events_state("2026-06-02T02:00:00+02:00"), False),
        (events_state(JUNE), events_state(JUNE), False),
        (events_state(JUNE), events_state(JUNE, 5), False),
        (events_state(JUNE), events_state(None), True),
        (events_state(JUNE, 500), events_state(JUNE, 400), True),
        (events_state(JUNE, 500), events_state(JUNE, 500), False),
        (events_state(JUNE, 500), events_state(JUNE, 400, "rebuilt"), False),
        (events_state(JUNE, 500), events_state(JUNE), False),
        (events_state(None), events_state(JUNE), False),
    ],
)
def test_an_older_state_is_refused(database, batch, stored, first, is_older):
    database.load(schema(integers("n")), row(n=1), stored)
    later = events_state("2027-01-01T00:00:00Z")
    given = [schema(integers("n")), row(n=2), row(n=3), first, row(n=4), later]
    done = database.run(given, "--batch-mb", batch)
    if is_older:
        assert done.returncode == 1
        assert "The first STATE is behind what the database has of 't'" in done.stderr
        assert database.values() == [1]
        assert database.state() == stored["value"]
    else:
        assert done.returncode == 0, done.stderr
        assert database.values() == [1, 2, 3, 4]


def test_an_older_state_of_another_stream_or_segment_is_refused(database):
    def both(a: str, b: str) -> Json:
        segments = {"s1": {"bundle_end": JUNE}, "s2": {"bundle_end": b}}
        bookmarks = {"history": {"web": a}, "events": {"segments": segments}}
        return {"type": "STATE", "value": {"bookmarks": bookmarks}}

    schemas = [schema(integers("n"), name) for name in ("history", "events")]
    rows_of = [row("history", n=1), row("events", n=1)]
    database.load(*schemas, *rows_of, both(JUNE, JUNE))
    old = "2026-06-01T00:00:00Z"
    assert "of 'history'" in database.refuse(*schemas, *rows_of, both(old, JUNE))
    assert "of 'events'" in database.refuse(*schemas, *rows_of, both(JUNE, old))
    # A run without one of them does not bring its rows.
    database.load(schemas[0], rows_of[0], both(JUNE, old))
    assert (database.values("history"), database.values("events")) == ([1, 1], [1])


def test_an_older_state_is_used_where_no_row_can_be_duplicated(database):
    keyed = schema(integers("n"), key=("n",))
    for end in (JUNE, "2026-06-01T00:00:00Z"):
        database.load(keyed, row(n=1), events_state(end))
        assert database.values() == [1]
    database.change("DROP TABLE t")
    database.load(schema(integers("n")), row(n=1), events_state("2026-05-01T00:00:00Z"))
    assert database.values() == [1]


def test_a_tap_started_without_its_state_doubles_nothing(database, sandbox, commands, tmp_path):
    piped(sandbox.config(), commands, database.command(), tmp_path)
    with start_tap(sandbox.config(), executable=commands.tap) as tap:
        assert tap.stdout
        done = subprocess.run(
            database.command(), stdin=tap.stdout, cwd=tmp_path, capture_output=True
        )
        tap.stdout.close()
    assert done.returncode == 1
    assert b"The first STATE is behind what the database has of 'events'" in done.stderr
    assert len(database.values("events", "EventStart")) == len(expected_records(sandbox, 2))


# --- files of columns ---


@pytest.fixture(params=["parquet", "arrow"])
def form(request, commands) -> str:
    found: str = request.param
    if not has_pyarrow:
        pytest.skip("pyarrow has no wheel for this Python")
    has_reader = [commands.loader_python, "-c", "import pyarrow"]
    if found == "arrow" and subprocess.run(has_reader, capture_output=True).returncode:
        pytest.skip("pyarrow is not installed beside load.py: see requirements/duckdb.txt")
    return found


def typed_rows(database: Database) -> Any:
    rows = database.query("SELECT * FROM events")
    for row in rows:
        row["CustomVars"] = row["CustomVars"] and json.loads(row["CustomVars"])
    return counted(rows)


@pytest.mark.parametrize("settings", [{}, {"event_digest": True}], ids=["appended", "upserted"])
def test_files_of_columns_make_the_table_of_records(
    commands, sandbox, tmp_path, batch_folder, form, settings
):
    """The same rows, types and comments, and the state; the files are gone."""
    made = []
    for name, more in (
        ("records", {"checkpoint_events": 50}),
        ("files", batch_config(batch_folder, 50, form=form)),
    ):
        database = Database(commands.loader_python, tmp_path / name)
        database.folder.mkdir()
        served = {**sandbox.config(), **settings, **more}
        for _ in range(1 + bool(settings)):
            piped(served, commands, database.command(), database.folder)
        made.append(database)
    by_record, by_file = made
    assert typed_rows(by_file) == typed_rows(by_record)
    assert by_file.types("events") == by_record.types("events")
    comments = "SELECT column_name, comment FROM duckdb_columns() ORDER BY 1"
    assert by_file.query(comments) == by_record.query(comments)
    assert by_file.state() == by_record.state()
    assert not list(batch_folder.iterdir())


def test_rows_of_a_file_are_stored_with_their_state_alone(database, tmp_path):
    """And what the state before them covers, all the same; the last row of a key wins."""
    paths = [tmp_path / f"[{number}].parquet" for number in range(3)]
    for number, path in enumerate(paths):
        sql = f"SELECT {number} AS n, 'x{number}' AS v UNION ALL SELECT 9, 'y{number}'"
        database.change(f"COPY ({sql}) TO '{path}'")
    given = schema({**integers("n"), "v": {"type": ["null", "string"]}}, key=("n",))
    files = [batch_message("parquet", path) for path in paths]
    assert "nothing is stored" in database.refuse(given, files[0])
    assert (database.tables(), paths[0].exists()) == ([], True)
    said = database.refuse(given, row(n=5, v="r"), files[0], state(1), files[1], state(2), files[2])
    assert "Loaded 5 rows of t. The next run brings the 2 rows after the last STATE again" in said
    assert [path.exists() for path in paths] == [False, False, True]
    assert database.query("FROM t ORDER BY n") == [
        {"n": 0, "v": "x0"}, {"n": 1, "v": "x1"}, {"n": 5, "v": "r"}, {"n": 9, "v": "y1"},
    ]  # fmt: skip
    assert database.state() == state(2)["value"]


@pytest.mark.parametrize("content", [None, b"", b"PAR1, or not", SECRET.encode()])
def test_a_file_that_cannot_be_loaded_is_named(database, tmp_path, content):
    path = tmp_path / "f.parquet"
    if content is not None:
        path.write_bytes(content)
    said = database.refuse(
        schema(integers("n")), row(n=1), state(1), batch_message("parquet", path), state(2)
    )
    assert f"Line 4 names the file {path}, which cannot be loaded" in said
    assert database.values() == [1]
    assert database.state() == state(1)["value"]


def test_a_file_without_a_column_or_with_another_type_is_named(database, tmp_path):
    path = tmp_path / "f.parquet"
    for column in ("1 AS other", f"'{SECRET}' AS n"):
        database.change(f"COPY (SELECT {column}) TO '{path}'")
        given = schema(integers("n")), batch_message("parquet", path), state(1)
        assert "cannot be loaded: it is not there, or is not parquet" in database.refuse(*given)


# --- one command, which starts the tap ---


def one_command(database: Database, *command: str, **more: Any) -> subprocess.Popen[bytes]:
    """Start load.py and its command as a shell does; its stderr goes to the file `log`."""
    with (database.folder / "log").open("ab") as log:
        return subprocess.Popen(
            database.command("--batch-mb", "0.02", "--", *command),
            stderr=log, cwd=database.folder, start_new_session=True,
            env={**os.environ, "no_proxy": "127.0.0.1", "TMPDIR": str(database.folder)}, **more,
        )  # fmt: skip


def tap_command(commands: Any, served: Sandbox, folder: Path, **settings: Any) -> list[str]:
    (folder / "config.json").write_text(json.dumps(served.config(**settings)))
    return [str(commands.tap), "--config", "config.json"]


def test_one_command_continues_from_the_state_in_the_database(
    database, sandbox, commands, tmp_path
):
    tap = tap_command(commands, sandbox, tmp_path)
    for days in (2, 2, 3, 3):
        if days == 3:
            sandbox.publish()
        assert one_command(database, *tap).wait(TIMEOUT) == 0, (tmp_path / "log").read_text()
        assert database.state() == end_of(days)
        assert len(database.values("events", "EventStart")) == len(expected_records(sandbox, days))
    assert not list(tmp_path.glob("state*"))


PRIVATE = """import json, os, sys
path = sys.argv[sys.argv.index("--state") + 1]
n = json.load(open(path))["bookmarks"]["t"]
mode = os.stat(path).st_mode & 0o777
print(json.dumps({"type": "SCHEMA", "stream": "t", "key_properties": [], "schema":
    {"properties": {"n": {"type": "integer"}}}}))
print(json.dumps({"type": "RECORD", "stream": "t", "record": {"n": mode}}))
print(json.dumps({"type": "STATE", "value": {"bookmarks": {"t": n + 1}}}), flush=True)
print("the tap's own", file=sys.stderr)
"""


def test_the_state_is_in_a_file_that_only_its_owner_can_read(database, tmp_path):
    database.load(schema(integers("n")), row(n=1), state(1))
    assert one_command(database, str(database.python), "-c", PRIVATE).wait(TIMEOUT) == 0
    assert database.values() == [1, 0o600]
    assert database.state() == state(2)["value"]
    assert "the tap's own" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("cat messages", 0),
        ("cat messages; exit 1", 1),
        ("cat messages; exit 2", 2),
        ("exit 2", 2),
        ("true", 1),
        ("cat messages; echo nonsense; exec sleep 60", 1),
        ("cat messages; printf '{'; kill -9 $$", 128 + signal.SIGKILL),
        ("cat messages; printf '{'", 1),
        ("cat messages; kill -TERM $$", 128 + signal.SIGTERM),
        ("cat messages overflow; exec sleep 60", 1),
        ("cat messages overflow; exit 2", 1),
    ],
)
def test_the_worse_exit_code_is_the_commands_or_the_loaders(database, tmp_path, script, code):
    given = [schema(integers("n")), row(n=1), state(1)]
    (tmp_path / "messages").write_bytes(b"".join(map(line, given)))
    overflow = [row(n=2**63), *(row(n=9) for _ in range(5000)), state(2)]
    (tmp_path / "overflow").write_bytes(b"".join(map(line, overflow)))
    assert one_command(database, "sh", "-c", script).wait(TIMEOUT) == code
    if "messages" in script:
        assert database.values() == [1]
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--"], 2, 'no command after "--"'),
        (["--print-state", "--", "true"], 2, "--print-state takes no command"),
        (["--", "tap", "--state", "s.json"], 2, "gets its --state from the database"),
        (["--", "tap", "--state=s.json"], 2, "gets its --state from the database"),
        (["--", "not-there"], 1, "not-there cannot be started: No such file or directory."),
    ],
)
def test_a_command_that_cannot_be_used(database, arguments, code, said):
    done = subprocess.run(
        database.command(*arguments), cwd=database.folder, capture_output=True, text=True
    )
    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [False, True])
def test_a_signal_ends_the_tap_and_all_that_it_wrote_is_stored(
    database, commands, days, tmp_path, number, whole_group
):
    served, numbers = days
    tap = tap_command(commands, served, tmp_path, checkpoint_events=CHECKPOINT)
    spool = tmp_path / "it.duckdb.spool"
    with one_command(database, *tap) as running_one:
        wait_until(lambda: running_one.poll() is not None or has_rows(spool))
        running_one.send_signal(number)
        if whole_group:  # as `timeout` does
            os.killpg(running_one.pid, number)
        assert running_one.wait(TIMEOUT) in (0, 128 + number), (tmp_path / "log").read_text()
    assert one_command(database, *tap).wait(TIMEOUT) == 0
    assert database.values("events", "PageNumErrors") == numbers


def test_a_second_signal_ends_both(database, tmp_path):
    """A command that heeds none; the second one comes later than the first is taken for."""
    script = "trap '' TERM; echo > started; while :; do sleep 0.1; done"
    with one_command(database, "bash", "-c", script) as running_one:
        wait_until((tmp_path / "started").exists)
        while running_one.poll() is None:
            running_one.terminate()
            time.sleep(0.1)
        assert running_one.returncode == 128 + signal.SIGTERM
    assert "Ended by SIGTERM" in (tmp_path / "log").read_text()


# --- kills ---

DAYS, EVENTS_A_DAY, CHECKPOINT = 3, 400, 20


@dataclass
class Pipeline:
    """tap | load.py, running."""

    tap: subprocess.Popen[bytes]
    loader: subprocess.Popen[bytes]
    spool: Path

    def wait(self) -> None:
        self.loader.wait(TIMEOUT)
        self.tap.wait(TIMEOUT)

    def is_over(self) -> bool:
        return self.loader.poll() is not None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


@pytest.fixture(scope="module")
def days() -> Iterator[tuple[Sandbox, list[int]]]:
    """A sandbox with events that are numbered by PageNumErrors, and the numbers."""
    made = events(DAYS * EVENTS_A_DAY)
    assert [record(one)["PageNumErrors"] for one in made] == list(range(len(made)))
    bundles = [
        bundle(day, packed(lines(made[day * EVENTS_A_DAY :][:EVENTS_A_DAY]))) for day in range(DAYS)
    ]
    with Sandbox(bundles) as served:
        yield served, list(range(len(made)))


@pytest.mark.parametrize("form", ["records", pytest.param("parquet", marks=needs_pyarrow)])
@pytest.mark.parametrize("killed", ["loader", "tap", "both", "stopped"])
def test_kills_at_random_times_lose_and_repeat_nothing(
    days, commands, tmp_path, batch_folder, killed, form
):
    """Runs, each from the state in the database, until all is loaded; again in another file."""
    served, numbers = days
    chance = random.Random(killed)
    kills = backfills = 0
    files = batch_config(batch_folder, CHECKPOINT, form=form) if form == "parquet" else {}
    while kills < KILLS:
        backfills += 1
        folder = tmp_path / str(backfills)
        folder.mkdir()
        database = Database(commands.loader_python, folder)
        while True:
            for left in batch_folder.iterdir():  # what a killed loader has not removed
                left.unlink()
            with running(database, commands, served, **files) as pipeline:
                if kills < KILLS:
                    wait_a_little(pipeline, chance, batch_folder)
                    kills += not pipeline.is_over()
                    number = signal.SIGTERM if killed == "stopped" else signal.SIGKILL
                    processes = {"tap": [pipeline.tap], "both": [pipeline.tap, pipeline.loader]}
                    for process in processes.get(killed, [pipeline.loader]):
                        process.send_signal(number)
                pipeline.wait()
                codes = (pipeline.tap.returncode, pipeline.loader.returncode)
            log = (folder / "log").read_text("utf-8")
            assert "Traceback" not in log, log
            # By signal, before or after it is handled; at its end; or after a tap that was cut off.
            ended = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM, 0, 1)
            assert codes[1] in ended, log
            if codes == (0, 0):
                break
        assert database.values("events", "PageNumErrors") == numbers
    print(f"{kills} kills, {backfills} backfills")  # noqa: T201 - pytest -rP


def wait_a_little(pipeline: Pipeline, chance: random.Random, files: Path) -> None:
    """Most of the time while rows are being stored; else while either starts."""
    if chance.random() < 0.8:
        wait_until(lambda: pipeline.is_over() or has_rows(pipeline.spool) or any(files.iterdir()))
        time.sleep(chance.uniform(0, 0.25))
    else:
        time.sleep(chance.uniform(0, 0.5))


def has_rows(spool: Path) -> bool:
    try:
        return spool.stat().st_size > 0
    except FileNotFoundError:
        return False


@contextmanager
def running(database: Database, commands: Any, served: Sandbox, **more: Any) -> Iterator[Pipeline]:
    """`tap | load.py`, from the state in the database."""
    spool = database.folder / "it.duckdb.spool"
    spool.unlink(missing_ok=True)  # a killed loader leaves it behind
    config = served.config(checkpoint_events=CHECKPOINT, **more)
    with (
        (database.folder / "log").open("ab") as log,
        start_tap(
            config, state=database.state(), executable=commands.tap_for(config), stderr=log
        ) as tap,
        subprocess.Popen(
            database.command("--batch-mb", "0.02"),
            stdin=tap.stdout, stderr=log, cwd=database.folder,
        ) as loader,
    ):  # fmt: skip
        assert tap.stdout
        tap.stdout.close()  # or the tap would not notice that the loader has gone
        try:
            yield Pipeline(tap, loader, spool)
        finally:
            loader.kill()
