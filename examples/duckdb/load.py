#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = [
#   "duckdb==2.0.1; python_version >= '3.11'",
#   "duckdb==1.5.6; python_version < '3.11'",
# ]
# ///
"""Load the output of tap-fullstory into a DuckDB database, one table for each stream.

    python load.py fullstory.duckdb -- tap-fullstory --config config.json

It starts the command after "--" with the state that the database has, as --state, and loads what
the command writes. Without "--" it loads stdin, from a tap that was started with the state that
--print-state prints. An older state, or none, is refused: it would bring rows twice.

BATCH messages with files of columns are loaded, too, and their files removed when the rows are
committed: Parquet, and Arrow where pyarrow is installed. That takes less time than records do.

Rows are committed in one transaction with the STATE that covers them, which is kept in the table
_singer_state. So whatever ends the tap or this program, at whatever moment, the next run that
starts from that state neither loses nor repeats a row. Rows after the last STATE are not stored.

Types come from SCHEMA: integer BIGINT, number DOUBLE, boolean BOOLEAN, date-time TIMESTAMP (in UTC,
to the microsecond), other text VARCHAR, all else JSON. A column that SCHEMA adds is added to the
table, and a description becomes the comment of a column that has none. A stream with key_properties
is upserted by them, the last record wins; others are appended. A record is taken to fit its SCHEMA,
as the tap guarantees: members that SCHEMA does not list are ignored. Where DuckDB cannot store a
value as it is, such as an integer beyond 64 bits, the load fails and names the column and the line;
ALTER TABLE ... TYPE HUGEINT makes room for such integers.

Signals go to the command after "--"; once it has ended, what it wrote is stored. A second one, more
than a second later, ends both at once.

Exit codes: 0 everything is stored; 1 failed, or the input ended before a STATE: what is stored is
consistent, run again; 2 usage; 129, 130, 143 ended by SIGHUP, SIGINT, SIGTERM. With a command, its
own if it failed or was stopped, unless what it wrote could not be stored.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import signal
import string
import subprocess
import sys
import tempfile
import time
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import duckdb

STATE_TABLE = "_singer_state"
NO_STATE = "{}"
DEFAULT_BATCH_MB = 64
MAX_COMMIT_SECONDS = 10  # what a slow tap has brought is committed at the first STATE after this
MAX_DEPTH = 100  # of arrays and objects in a message; the records of tap-fullstory have no limit
BUFFER_BYTES = 1 << 20  # of stdin and of the spool
PIPE_BYTES = 1 << 20  # the most that Linux allows everybody; its own 64 kB hold some fifty events
# Of committed rows that DuckDB has yet to move from its log into the database proper; its own 16 MB
# would have it do so at each commit.
CHECKPOINT_EVERY = "64MB"
# DuckDB needs some three buffers of the largest object for each thread.
MIN_OBJECT_BYTES = 16 << 20

TYPES = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "string": "VARCHAR"}
# Types of existing columns that hold all that the wanted type holds.
WIDER = {"BIGINT": "HUGEINT"}

FORMATS = ("parquet", "arrow")  # of the files that BATCH messages name

_POSITION = "_singer_position"  # of a record in its batch
_FILE_VIEW = "_singer_file"
# Of upper and lower case, DuckDB takes only these for the same.
_FOLDED = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
SAME_SIGNAL_SECONDS = 1  # `timeout` signals the process that it started, and then its group
MAX_SECONDS_TO_END = 60  # for a command whose output cannot be stored, after SIGTERM
_TAIL = re.compile(rb'\}(?:,\s?"time_extracted":\s?"[^"\\]*")?\}\r?\n\Z')
_MAX_TAIL_BYTES = 100
_BRACKET_OR_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)


class LoadError(Exception):
    """What went wrong, where, and what to do: one line for stderr."""

    code = 1


class InputError(LoadError):
    """Raised when a line is not a message. What the STATE before it covers can be stored."""


class TruncatedError(InputError):
    """Raised when the last line is cut off, as whoever is killed leaves it."""


@dataclass
class Lines:
    """Records as JSON text, each with a line break, and the input's lines that they came from."""

    texts: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def take(self) -> Lines:
        """Return what is here, and leave nothing."""
        taken = Lines(self.texts, self.numbers)
        self.texts, self.numbers = [], []
        return taken

    def extend(self, others: Lines) -> None:
        self.texts += others.texts
        self.numbers += others.numbers


@dataclass
class Table:
    """A stream's table, and its records that are not in the database yet."""

    stream: str
    columns: dict[str, str]
    """The DuckDB type of each column of this run's SCHEMA, in the table's spelling."""
    key: list[str]
    prefixes: tuple[bytes, ...]
    """The ways in which a RECORD message can begin, up to and including the record's "{"."""
    suffix: bytes = b""
    """How the last RECORD message ended, from the record's "}" on."""
    covered: Lines = field(default_factory=Lines)
    uncovered: Lines = field(default_factory=Lines)
    """Records before and after the last STATE."""
    inserted: bool = False
    """Whether the open transaction has rows of it."""
    rows: int = 0
    """Committed by this run."""
    listed: tuple[str, ...] = ()
    """The columns of the last SCHEMA, which files of columns have."""
    may_be_behind: bool = False
    """Whether rows could come twice: it has some, no key, and no STATE since its SCHEMA."""
    uncommitted_rows: int = 0

    def record_in(self, line: bytes) -> bytes | None:
        """Return the record of a line that begins with one of the prefixes, with a line break.

        It is valid JSON if and only if the line is, which DuckDB tells. None if the message does
        not end right after the record, or after time_extracted.
        """
        if not self.suffix or not line.endswith(self.suffix):
            tail = _TAIL.search(line, max(0, len(line) - _MAX_TAIL_BYTES))
            self.suffix = tail[0] if tail else b""
            if not tail:
                return None
        prefix = self.prefixes[line[8:9] == b" "]
        return line[len(prefix) - 1 : 1 - len(self.suffix)] + b"\n"


class Loader:
    """Takes messages in order; `close` stores what the last STATE covers."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: str,
        spool: Path,
        batch_bytes: int,
        stored: Any,
    ) -> None:
        """`stored` is the state that the database has, and None allows any STATE."""
        self._connection = connection
        self._stored = stored
        self._schema = schema
        self._spool = spool
        self._batch_bytes = batch_bytes
        self._covered_bytes = self._uncovered_bytes = 0
        self._state: str | None = None
        """The last STATE, if it is not committed yet."""
        self._in_transaction = False
        self._files: list[Path] = []
        """Of the rows in the open transaction; removed when it is committed."""
        self._committed_at = time.monotonic()
        self.tables: dict[str, Table] = {}
        self.has_state = False
        """Whether any STATE came."""

    @property
    def uncovered_rows(self) -> int:
        """How many rows came after the last STATE."""
        tables = self.tables.values()
        inserted = sum(table.uncommitted_rows for table in tables if table.inserted)
        return inserted + sum(len(table.uncovered.texts) for table in tables)

    def read(self, lines: BinaryIO) -> None:
        """Load messages, one a line. Raises InputError if a line is not a message or is cut off."""
        table = None
        for number, line in enumerate(lines, 1):
            if table is None or not line.startswith(table.prefixes):
                table = self._table_of(line)
            if table is not None and (record := table.record_in(line)) is not None:
                self._add(table, record, number)
            elif not line.endswith(b"\n"):
                raise TruncatedError(
                    f"Line {number}, the last one, is cut off: the tap was ended. Run again."
                )
            elif line.strip():
                self._message(_parse_message(line, number), number)

    def close(self) -> None:
        """Commit the rows that the last STATE covers, and drop those after it."""
        if self._state is not None:
            self._commit()
        elif self._in_transaction:
            self._connection.execute("ROLLBACK")
            self._in_transaction = False

    def _table_of(self, line: bytes) -> Table | None:
        return next((one for one in self.tables.values() if line.startswith(one.prefixes)), None)

    def _message(self, message: dict[str, Any], number: int) -> None:
        match message:
            case {"type": "RECORD", "stream": str(stream), "record": dict(record)}:
                if stream not in self.tables:
                    raise InputError(f"Line {number} is a RECORD of {stream!r} before its SCHEMA.")
                text = json.dumps(record).encode() + b"\n"
                self._add(self.tables[stream], text, number)
            case {"type": "SCHEMA", "stream": str(stream), "schema": {"properties": dict(found)}}:
                self._define(stream, found, message.get("key_properties") or [])
            case {"type": "STATE", "value": value}:
                self._require_newer(value)
                self._cover(json.dumps(value))
            case {"type": "ACTIVATE_VERSION"}:
                pass
            case {
                "type": "BATCH", "stream": str(stream), "encoding": {"format": str(form)},
                "manifest": [*urls],
            }:  # fmt: skip
                self._add_files(stream, form, urls, number)
            case _:
                raise InputError(f"Line {number} is not a Singer message.")

    def _require_newer(self, state: Any) -> None:
        """Raises LoadError if a stream's rows are in its table already, as the states tell."""
        for table in self.tables.values():
            if table.may_be_behind and _is_behind(state, self._stored, table.stream):
                raise LoadError(
                    f"The first STATE is behind what the database has of {table.stream!r}, so its "
                    "rows would come twice: nothing of this run is stored. Let load.py start the "
                    "tap (load.py DATABASE -- tap-fullstory ...), or pass --state with what "
                    "--print-state prints. To load a whole table again, drop it first."
                )
            table.may_be_behind = False

    # --- what is buffered ---

    def _add(self, table: Table, text: bytes, number: int) -> None:
        table.uncovered.texts.append(text)
        table.uncovered.numbers.append(number)
        self._uncovered_bytes += len(text)
        if self._uncovered_bytes >= self._batch_bytes:  # too many to keep in memory
            self._insert_uncovered()

    def _add_files(self, stream: str, form: str, urls: list[Any], number: int) -> None:
        """Put the rows of files into the transaction. Raises InputError if they are none to read,
        and LoadError if they cannot be read.
        """
        if stream not in self.tables:
            raise InputError(f"Line {number} is a BATCH of {stream!r} before its SCHEMA.")
        if form not in FORMATS:
            raise InputError(
                f"Line {number} is a BATCH message of the format {form!r}, which this program does "
                "not read: set batch_config.encoding.format to parquet in the tap's config."
            )
        table = self.tables[stream]
        self._insert_uncovered()
        self._begin()
        for url in urls:
            path = str(url).removeprefix("file://")
            if not path.startswith("/"):
                raise InputError(f"Line {number} names a file that is not on this machine.")
            self._insert_file(table, Path(path), form, number)
            self._files.append(Path(path))

    def _insert_uncovered(self) -> None:
        """Put the rows without a STATE into the transaction, which the next STATE commits. Those
        that the last one covers must not wait for it.
        """
        if self._state is not None:
            self._commit()
        for one in self.tables.values():
            self._insert(one, one.uncovered.take())
        self._uncovered_bytes = 0

    def _cover(self, state: str) -> None:
        self._state, self.has_state = state, True
        inserted = False
        for table in self.tables.values():
            table.covered.extend(table.uncovered.take())
            inserted = inserted or table.inserted
        self._covered_bytes += self._uncovered_bytes
        self._uncovered_bytes = 0
        waited = time.monotonic() - self._committed_at
        if inserted or self._covered_bytes >= self._batch_bytes or waited >= MAX_COMMIT_SECONDS:
            self._commit()

    # --- what goes into the database ---

    def _begin(self) -> None:
        if not self._in_transaction:
            self._connection.execute("BEGIN")
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)}")
            self._in_transaction = True

    def _commit(self) -> None:
        """Commit the covered rows together with the last STATE."""
        self._begin()
        for table in self.tables.values():
            self._insert(table, table.covered.take())
        name = self._name(STATE_TABLE)
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {name} (state VARCHAR, committed_at TIMESTAMP)"
        )
        self._connection.execute(f"DELETE FROM {name}")
        self._connection.execute(
            f"INSERT INTO {name} VALUES (?, make_timestamp(?))",
            [self._state, time.time_ns() // 1000],
        )
        self._connection.execute("COMMIT")
        self._in_transaction = False
        for table in self.tables.values():
            table.rows += table.uncommitted_rows
            table.uncommitted_rows, table.inserted = 0, False
        self._state, self._covered_bytes = None, 0
        self._committed_at = time.monotonic()
        for path in self._files:
            with suppress(OSError):
                path.unlink()
        self._files.clear()

    def _insert(self, table: Table, lines: Lines) -> None:
        if not lines.texts:
            return
        self._begin()
        rows = self._select(table.columns, table.key, lines.texts)
        try:
            self._store(table, table.columns, rows, len(lines.texts))
        except (duckdb.DataError, duckdb.InvalidInputException):
            # Its text can hold values of the record.
            raise self._find_fault(table, lines) from None

    def _insert_file(self, table: Table, path: Path, form: str, number: int) -> None:
        """Insert the rows of a file of columns, which has those that SCHEMA lists."""
        columns = {name: table.columns[name] for name in table.listed}
        try:
            source = _FILE_VIEW if form == "arrow" else _parquet(path)
            if form == "arrow":
                # It needs a connection of which all results have been fetched.
                self._connection.register(_FILE_VIEW, _arrow_table(path))
            ((count,),) = self._connection.execute(f"SELECT count(*) FROM {source}").fetchall()
            rows = _last_of_each_key(_typed_values(columns), columns, table.key, source)
            self._store(table, columns, rows, count)
            if form == "arrow":
                self._connection.unregister(_FILE_VIEW)
        except (duckdb.Error, OSError, ValueError):
            raise LoadError(
                f"Line {number} names the file {path}, which cannot be loaded: it is not there, or "
                f"is not {form} with the columns of its SCHEMA. Run again."
            ) from None

    def _store(self, table: Table, columns: dict[str, str], rows: str, count: int) -> None:
        """Insert what a SELECT finds of so many rows, in place of rows with the same key."""
        name, listed = self._name(table.stream), ", ".join(map(_quoted, columns))
        if table.key:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE _singer_batch AS {rows}")
            same = " AND ".join(
                f"{name}.{_quoted(key)} IS NOT DISTINCT FROM _singer_batch.{_quoted(key)}"
                for key in table.key
            )
            self._connection.execute(f"DELETE FROM {name} USING _singer_batch WHERE {same}")
            rows = "FROM _singer_batch"
        ((done,),) = self._connection.execute(f"INSERT INTO {name} ({listed}) {rows}").fetchall()
        if not table.key and done != count:
            raise LoadError(
                f"DuckDB stored {done} of {count} rows of {table.stream!r}, so none of them is "
                "kept. Please report it."
            )
        table.uncommitted_rows += count
        table.inserted = True

    def _select(self, columns: dict[str, str], key: list[str], texts: list[bytes]) -> str:
        """Write the records to the spool, and return the SELECT that reads them."""
        with self._spool.open("wb", BUFFER_BYTES) as file:
            file.writelines(texts)
        return _select(columns, key, self._spool, max(map(len, texts)))

    def _find_fault(self, table: Table, lines: Lines) -> LoadError:
        """Find the first record that DuckDB does not take, by halves, and its column."""
        self._connection.execute("ROLLBACK")
        self._in_transaction = False

        def fails(texts: list[bytes], columns: dict[str, str]) -> bool:
            select = self._select(columns, [], texts)
            try:
                self._connection.execute(f"CREATE OR REPLACE TEMP TABLE _singer_batch AS {select}")
            except (duckdb.DataError, duckdb.InvalidInputException):
                return True
            return False

        texts, numbers = lines.texts, lines.numbers
        while len(texts) > 1:
            half = len(texts) // 2
            first = slice(half) if fails(texts[:half], table.columns) else slice(half, None)
            texts, numbers = texts[first], numbers[first]
        where = f"Line {numbers[0]}, a record of {table.stream!r},"
        if fails(texts, {_POSITION: "JSON"}):
            return LoadError(f"{where} is not valid JSON. Run again.")
        for name, kind in table.columns.items():
            if fails(texts, {name: "JSON"}):
                return LoadError(f"{where} has {name!r} twice. The tap should not have written it.")
            if fails(texts, {name: kind}):
                hint = (
                    f"If it is a larger integer, ALTER TABLE {self._name(table.stream)} ALTER "
                    f"{_quoted(name)} TYPE HUGEINT makes room for it."
                    if kind == "BIGINT"
                    else "If it does not fit its SCHEMA, the tap should not have written it."
                )
                return LoadError(f"{where} has a value in {name!r} that {kind} cannot hold. {hint}")
        return LoadError(f"DuckDB refused {table.stream!r} records, and each alone is accepted.")

    # --- tables ---

    def _define(self, stream: str, properties: dict[str, Any], key: list[str]) -> None:
        """Make the table of a SCHEMA, or add to it the columns that it does not have."""
        if _fold(stream) == STATE_TABLE:
            raise LoadError(f"The stream {stream!r} has the name of the table for the state.")
        columns = {name: _type_of(schema) for name, schema in properties.items()}
        comments = {name: _description_of(schema) for name, schema in properties.items()}
        _check_names(stream, columns)
        if missing := [name for name in key if name not in columns]:
            raise LoadError(f"The SCHEMA of {stream!r} does not list its key {missing[0]!r}.")
        if not columns:
            raise LoadError(f"The SCHEMA of {stream!r} lists no properties: select some.")
        self._begin()
        there = self._columns_of(stream)
        added = {}
        for name, kind in columns.items():
            found, found_type, comment = there.get(_fold(name), (name, None, None))
            if found != name:
                raise LoadError(
                    f"The table {stream!r} has a column {found!r}, and SCHEMA one {name!r}: DuckDB "
                    "cannot tell them apart. Load into another --schema, or rename the column."
                )
            if comment is not None:
                comments[name] = None  # perhaps somebody's own
            if found_type is None:
                added[name] = kind
            elif found_type in (kind, WIDER.get(kind)):
                columns[name] = found_type
            else:
                raise LoadError(
                    f"The column {name!r} of {stream!r} is {found_type}, and its SCHEMA asks for "
                    f"{kind}. Change either: ALTER TABLE ... TYPE, or the type in the catalog."
                )
        before = self.tables.get(stream)
        name = self._name(stream)
        if added and not there:
            listed = ", ".join(f"{_quoted(one)} {kind}" for one, kind in added.items())
            self._connection.execute(f"CREATE TABLE {name} ({listed})")
        elif added and before and before.inserted:
            # DuckDB 1.5 cannot alter a table that the same transaction has changed.
            raise LoadError(f"The SCHEMA of {stream!r} changes among rows without a STATE.")
        elif added:
            for one, kind in added.items():
                self._connection.execute(f"ALTER TABLE {name} ADD COLUMN {_quoted(one)} {kind}")
        for one, text in comments.items():
            if text:
                self._connection.execute(
                    f"COMMENT ON COLUMN {name}.{_quoted(one)} IS {_literal(text)}"
                )
        if before:
            # Records under both SCHEMAs may wait beside each other: read all columns of both.
            before.columns, before.key = {**before.columns, **columns}, key
            before.listed = tuple(columns)
            return
        text = json.dumps(stream, ensure_ascii=False)
        prefixes = (
            f'{{"type":"RECORD","stream":{text},"record":{{'.encode(),
            f'{{"type": "RECORD", "stream": {text}, "record": {{'.encode(),
        )
        has_rows = bool(there and self._connection.execute(f"FROM {name} LIMIT 1").fetchall())
        self.tables[stream] = Table(
            stream, columns, key, prefixes, listed=tuple(columns),
            may_be_behind=has_rows and not key and self._stored is not None,
        )  # fmt: skip

    def _columns_of(self, stream: str) -> dict[str, tuple[str, str, str | None]]:
        """The name, the type and the comment of each column of the table by its folded name."""
        found = self._connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE database_name = current_database() AND schema_name = ?",
            [self._schema],
        ).fetchall()
        there = {}
        for table, name, kind, comment in found:
            if _fold(table) == _fold(stream):
                if table != stream:
                    raise LoadError(
                        f"The stream {stream!r} has a table {table!r} already, which another "
                        "stream or program made. Load into another --schema."
                    )
                there[_fold(name)] = (name, kind, comment)
        return there

    def _name(self, table: str) -> str:
        return f"{_quoted(self._schema)}.{_quoted(table)}"


def _type_of(schema: object) -> str:
    """Return the DuckDB type of what a property's schema allows; JSON if there is not one type."""
    match schema:
        case {"type": str(kind) | [str(kind)] | ["null", str(kind)] | [str(kind), "null"]}:
            is_time = isinstance(schema, dict) and schema.get("format") == "date-time"
            return "TIMESTAMP" if kind == "string" and is_time else TYPES.get(kind, "JSON")
    return "JSON"


def _description_of(schema: object) -> str | None:
    match schema:
        case {"description": str(text)}:
            return text
    return None


def _fold(name: str) -> str:
    """Return what DuckDB takes for the same name."""
    return name.translate(_FOLDED)


def _check_names(stream: str, columns: dict[str, str]) -> None:
    for name in (stream, *columns):
        if not name or any(unicodedata.category(one) in ("Cc", "Cs") for one in name):
            raise LoadError(f"The stream {stream!r} has a name that DuckDB cannot take: {name!r}.")
    seen: dict[str, str] = {}
    for name in columns:
        other = seen.setdefault(_fold(name), name)
        if other != name:
            raise LoadError(
                f"The columns {other!r} and {name!r} of {stream!r} differ only in case, and DuckDB "
                "cannot tell them apart. Remove one from the catalog's properties: the tap then "
                "keeps its values in CustomVars."
            )


def _select(columns: dict[str, str], key: list[str], spool: Path, largest: int) -> str:
    """The SELECT that reads records from a file, in order; with a key, the last of each."""
    # A TIMESTAMP read from JSON would lose its offset from UTC, and refuse a "t" for the "T".
    read_as = {name: "VARCHAR" if kind == "TIMESTAMP" else kind for name, kind in columns.items()}
    listed = ", ".join(f"{_literal(name)}: '{kind}'" for name, kind in read_as.items())
    options = {
        "columns": f"{{{listed}}}",
        "format": "'newline_delimited'",
        "auto_detect": "false",
        "records": "true",
        "hive_partitioning": "false",  # a folder uid=42 in the path would be a column
        "maximum_object_size": str(max(MIN_OBJECT_BYTES, largest)),
    }
    given = ", ".join(f"{name} = {value}" for name, value in options.items())
    source = f"read_json({_pattern(spool)}, {given})"
    values = ", ".join(_value(name, kind) for name, kind in columns.items())
    return _last_of_each_key(values, columns, key, source)


def _last_of_each_key(values: str, columns: dict[str, str], key: list[str], source: str) -> str:
    """The SELECT of values from a source, in its order; with a key, of the last row of each."""
    if not key:
        return f"SELECT {values} FROM {source}"
    position = _POSITION
    while _fold(position) in map(_fold, columns):
        position += "_"
    keys = ", ".join(map(_quoted, key))
    return (
        f"SELECT {values} FROM (SELECT *, row_number() OVER () AS {position} FROM {source}) "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {position} DESC) = 1"
    )


def _value(name: str, kind: str) -> str:
    column = _quoted(name)
    if kind == "TIMESTAMP":
        return f"make_timestamp(epoch_us(upper({column})::TIMESTAMPTZ)) AS {column}"
    if kind == "DOUBLE":
        # DuckDB reads 1e400 as infinity.
        checked = f"WHEN isfinite({column}) THEN {column} WHEN {column} IS NOT NULL THEN error('')"
        return f"CASE {checked} END AS {column}"
    return column


def _parquet(path: Path) -> str:
    return f"read_parquet({_pattern(path)}, hive_partitioning = false)"


def _arrow_table(path: Path) -> Any:
    """Return the columns of an Arrow file, which stay in the file until they are read."""
    try:
        import pyarrow as pa
    except ImportError:
        raise LoadError(
            "Arrow files need pyarrow, which is not installed beside load.py. Install it, or set "
            "batch_config.encoding.format to parquet in the tap's config."
        ) from None
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


def _typed_values(columns: dict[str, str]) -> str:
    """What is selected of a file of columns, whose date-times are in UTC and objects are text."""
    forms = {"TIMESTAMP": "make_timestamp(epoch_us({0})) AS {0}", "JSON": "{0}::JSON AS {0}"}
    return ", ".join(forms.get(kind, "{0}").format(_quoted(name)) for name, kind in columns.items())


def _pattern(path: Path) -> str:
    """The path as a literal that matches no other file."""
    return _literal(re.sub(r"[\[*?]", r"[\g<0>]", str(path)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _parse_message(line: bytes, number: int) -> dict[str, Any]:
    """Raises InputError if the line is not a JSON object."""
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(line):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise InputError(f"Line {number} is nested more than {MAX_DEPTH} levels deep.")
    try:
        message = json.loads(line)
    except ValueError:
        raise InputError(f"Line {number} is not valid JSON.") from None
    if not isinstance(message, dict):
        raise InputError(f"Line {number} is not a JSON object.")
    return message


def _is_behind(state: Any, stored: Any, stream: str) -> bool:
    """Whether a run that has come to `state` brings rows of the stream again that are stored."""

    def bookmark(state: Any) -> Any:
        match state:
            case {"bookmarks": {**streams}}:
                return streams.get(stream)
        return None

    now, before = bookmark(state), bookmark(stored)
    return bool(before) and (not now or _is_older(now, before))


def _is_older(one: Any, other: Any) -> bool:
    """Whether one of two bookmarks, or anything that both have, is the older one."""
    match one, other:
        case {**first}, {**second}:
            end, other_end = first.get("bundle_end"), second.get("bundle_end")
            if _is_time(end) and _is_time(other_end):
                if end != other_end:
                    return _parse_time(end) < _parse_time(other_end)
                match first.get("partial"), second.get("partial"):
                    case {"id": first_id, "events": int(first_events)}, {
                        "id": second_id, "events": int(second_events)
                    } if first_id == second_id:  # fmt: skip
                        return first_events < second_events
                return False
            both = first.keys() & second.keys()
            return any(_is_older(first[name], second[name]) for name in both)
        case str(), str() if _is_time(one) and _is_time(other):
            return _parse_time(one) < _parse_time(other)
    return False


def _is_time(value: object) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and bool(_parse_time(value))
    except ValueError:
        return False


def _parse_time(text: str) -> datetime:
    """Raises ValueError if the text is not a date-time, such as 2026-06-02T00:00:00Z."""
    fraction = re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", text)  # for Python 3.10
    parsed = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", fraction))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


class Command:
    """The tap, which this program starts in a process group of its own."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._state_file: str | None = None
        self._signalled_at: float | None = None
        self._unsent: int | None = None
        """A signal that came before there was a process."""

    def start(self, state: str) -> int:
        """Start it, and return the descriptor of its output. Raises LoadError if that fails."""
        command = self._command
        if state != NO_STATE:
            descriptor, self._state_file = tempfile.mkstemp(prefix="state-", suffix=".json")  # 0600
            os.write(descriptor, state.encode())
            os.close(descriptor)
            command = [*command, "--state", self._state_file]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # what is sent to this program's group comes only from here
            )
        except OSError as error:
            self.remove_state_file()
            raise LoadError(f"{command[0]} cannot be started: {error.strerror}.") from None
        if self._unsent:
            self._send(self._unsent)
        assert self._process.stdout
        return self._process.stdout.fileno()

    def pass_signal(self, number: int) -> bool:
        """Send it, and return whether it is the second one: one that comes soon is the same."""
        now = time.monotonic()
        if self._signalled_at is not None and now - self._signalled_at < SAME_SIGNAL_SECONDS:
            return False
        is_second = self._signalled_at is not None
        self._signalled_at = now
        self._send(number)
        return is_second

    def wait(self, *, unread: bool = False) -> int:
        """Return the command's exit code, with 128 added to the number of a signal.

        If the rest of its output is `unread`, the command is told to end.
        """
        assert self._process
        assert self._process.stdout
        self._process.stdout.close()
        if unread:
            self._send(signal.SIGTERM)
        try:
            code = self._process.wait(MAX_SECONDS_TO_END if unread else None)
        except subprocess.TimeoutExpired:
            self._send(signal.SIGKILL)
            code = self._process.wait()
        self.remove_state_file()
        if code < 0:
            name = signal.Signals(-code).name
            print(f"load.py: {self._command[0]} was ended by {name}.", file=sys.stderr)
        return 128 - code if code < 0 else code

    def _send(self, number: int) -> None:
        if self._process is None:
            self._unsent = number
        elif self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def end(self) -> None:
        """Let it end by the signal that it was sent, or else by SIGKILL."""
        if self._process:
            for _ in range(20):
                if self._process.poll() is not None:
                    break
                time.sleep(0.05)
            self._send(signal.SIGKILL)
        self.remove_state_file()

    def remove_state_file(self) -> None:
        if self._state_file:
            Path(self._state_file).unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    command: list[str] | None = None
    if "--" in given:
        at = given.index("--")
        given, command = given[:at], given[at + 1 :]
    options = parser.parse_args(given)
    if command is not None:
        if not command:
            parser.error('no command after "--"')
        if options.print_state:
            parser.error('--print-state takes no command after "--"')
        if any(one == "--state" or one.startswith("--state=") for one in command):
            parser.error('the command after "--" gets its --state from the database: remove yours')
    try:
        if options.print_state:
            print(_read_state(options.database, options.schema))
            return 0
        return _load(options, command)
    except LoadError as error:
        problem, code = str(error), error.code
    except (duckdb.Error, OSError) as error:
        first_line = str(error).partition("\n")[0]
        problem, code = f"{options.database}: {first_line} What is committed is consistent.", 1
    print(f"load.py: {problem}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="load.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="load.py DATABASE [options] [-- COMMAND [ARGUMENT ...]]",
    )
    add = parser.add_argument
    add("database", help="the file, made if it is not there, or md:NAME for MotherDuck")
    add("--schema", default="main", help="where the tables and the state are; default: %(default)s")
    add("--batch-mb", type=_positive, default=DEFAULT_BATCH_MB, metavar="MB",
        help="commit at the first STATE after so many MB of records, which bounds memory; "
        "default: %(default)s")  # fmt: skip
    add("--print-state", action="store_true",
        help="print the state for the next run to start from; {} if nothing is loaded")  # fmt: skip
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def _handle_signals(spool: Path, command: Command | None) -> None:
    """Pass a signal on to the command; the second one, or any without a command, ends this."""

    def handle(number: int, _frame: object) -> None:
        if command:
            if not command.pass_signal(number):
                return
            command.end()
        name = signal.Signals(number).name
        print(f"load.py: Ended by {name}. What is committed is consistent.", file=sys.stderr)
        spool.unlink(missing_ok=True)
        sys.stderr.flush()
        # As safe as SIGKILL is. An exception would turn into one of DuckDB's amid a query.
        os._exit(128 + number)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # A script that ignores them lets the tap end first, and its last STATE be stored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def _is_file(database: str) -> bool:
    return not database.startswith(("md:", "motherduck:"))


def _read_state(database: str, schema: str) -> str:
    if _is_file(database) and not Path(database).exists():
        return NO_STATE
    with duckdb.connect(database, read_only=_is_file(database)) as connection:
        return _state_in(connection, schema)


def _state_in(connection: duckdb.DuckDBPyConnection, schema: str) -> str:
    try:
        found = connection.execute(
            f"SELECT state FROM {_quoted(schema)}.{_quoted(STATE_TABLE)}"
        ).fetchone()
    except duckdb.CatalogException:
        found = None
    return str(found[0]) if found else NO_STATE


def _load(options: argparse.Namespace, arguments: list[str] | None) -> int:
    if arguments is None and sys.stdin.isatty():
        raise LoadError("It needs a command: load.py DATABASE -- tap-fullstory --config ...")
    batch_bytes = int(options.batch_mb * 1_000_000)
    # By default DuckDB keeps of the database what 80 % of the machine's memory holds.
    memory_mb = 512 + 4 * batch_bytes // 1_000_000
    is_file = _is_file(options.database)
    # Beside the database, always of the same name: after SIGKILL one is left, not one a run.
    spool = Path(f"{options.database}.spool" if is_file else tempfile.mkdtemp() + "/spool")
    config = {"memory_limit": f"{memory_mb}MB", "wal_autocheckpoint": CHECKPOINT_EVERY}
    command = Command(arguments) if arguments else None
    _handle_signals(spool, command)
    with duckdb.connect(options.database, config=config) as connection:
        # Only now: one program at a time has the database, so this state is the newest.
        state = _state_in(connection, options.schema)
        spool.unlink(missing_ok=True)
        spool.touch(0o600, exist_ok=False)
        loader = Loader(
            connection, options.schema, spool, batch_bytes,
            stored=None if command else json.loads(state),
        )  # fmt: skip
        try:
            if command is None:
                _read(loader, sys.stdin.fileno())
                code = 0
            else:
                code = _read_command(loader, command, state)
        finally:
            spool.unlink(missing_ok=True)
    print(f"load.py: {_loaded(loader)}", file=sys.stderr)
    return code or (1 if loader.uncovered_rows or not loader.has_state else 0)


def _read(loader: Loader, descriptor: int) -> None:
    """Load what comes. Raises InputError if it is damaged, after what is whole has been stored."""
    # So that the tap goes on while rows are being stored. Not every input is a pipe, nor every
    # system Linux.
    with suppress(OSError, AttributeError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with open(descriptor, "rb", buffering=BUFFER_BYTES, closefd=False) as lines:
        try:
            loader.read(lines)
        except InputError as error:
            loader.close()
            raise type(error)(f"{error} {_loaded(loader)}") from None
        loader.close()


def _read_command(loader: Loader, command: Command, state: str) -> int:
    """Load what the command writes, and return its exit code.

    Raises LoadError if the command cannot be started, or what it writes cannot be stored.
    """
    output = command.start(state)
    try:
        _read(loader, output)
    except TruncatedError as error:
        error.code = command.wait() or 1
        raise
    except BaseException:
        command.wait(unread=True)
        raise
    return command.wait()


def _loaded(loader: Loader) -> str:
    counts = [f"{table.rows} rows of {table.stream}" for table in loader.tables.values()]
    said = f"Loaded {', '.join(counts) or 'nothing'}."
    if not loader.has_state:
        return f"{said} The input has no STATE, so nothing is stored."
    if loader.uncovered_rows:
        said += f" The next run brings the {loader.uncovered_rows} rows after the last STATE again."
    return said


if __name__ == "__main__":
    sys.exit(main())
