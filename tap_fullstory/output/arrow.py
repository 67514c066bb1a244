"""Files of columns, Arrow or Parquet, from record lines.

The lines are read by a C extension of its own (_columns.c), or by the builder here where nothing is
compiled: both make the same columns. Needs pyarrow, so no module imports this one at its top.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from tap_fullstory.columns import column_kind
from tap_fullstory.output.batch_config import BatchConfig
from tap_fullstory.records.json_text import decode_members, decode_string, encode
from tap_fullstory.times import parse_rfc3339

try:
    from tap_fullstory.output import _columns
except ImportError:
    _IS_COMPILED = False
else:
    _IS_COMPILED = True

# Record lines are written as one record batch, or row group, once they have so many bytes: this
# bounds memory whatever batch_size is.
MAX_PENDING_BYTES = 16 * 1024 * 1024
_ZSTD_LEVEL = 1  # twice as fast as the default, 3, for a tenth more bytes
_TYPES = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "string": pa.utf8(),
    "json": pa.utf8(),
}


class Columns:
    """Writes records to `file`, with a column for each of `properties`, those of a SCHEMA.

    A member that a record lacks is null. Raises OSError if the file cannot be written.
    """

    def __init__(
        self, file: BinaryIO, config: BatchConfig, properties: Mapping[str, Mapping[str, Any]]
    ) -> None:
        kinds = {name: column_kind(schema) for name, schema in properties.items()}
        self._builder = new_builder(kinds)
        self._pending = 0
        schema = arrow_schema(kinds)
        compression = None if config.compression == "none" else config.compression
        self._writer: Any
        if config.format == "parquet":
            self._writer = _parquet_writer(file, schema, compression)
        else:
            options = pa.ipc.IpcWriteOptions(compression=compression)
            self._writer = pa.ipc.new_file(file, schema, options=options)

    def write(self, lines: bytes) -> None:
        """Add records, a JSON object a line."""
        self._builder.append(lines)
        self._pending += len(lines)
        if self._pending >= MAX_PENDING_BYTES:
            self._flush()

    def end(self) -> None:
        """Write the rest."""
        if self._pending:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_batch(self._builder.finish())
        self._pending = 0


def _parquet_writer(file: BinaryIO, schema: pa.Schema, compression: str | None) -> Any:
    import pyarrow.parquet as pq  # takes as long as pyarrow itself, and Arrow files do without

    # A dictionary pays for text, which repeats itself. Its minimum and maximum do not: rows are in
    # no order of their text, so a reader could skip none. It is the other way round for the rest.
    text = [field.name for field in schema if field.type == pa.utf8()]
    other = [field.name for field in schema if field.type != pa.utf8()]
    return pq.ParquetWriter(
        file,
        schema,
        compression=compression or "none",
        compression_level=_ZSTD_LEVEL if compression == "zstd" else None,
        use_dictionary=text,
        write_statistics=other,
    )


class Builder(Protocol):
    """Collects records as columns."""

    def append(self, lines: bytes) -> None:
        """Add records, a JSON object a line. Raises ValueError if the type of a value is not its
        column's.
        """

    def finish(self) -> pa.RecordBatch:
        """Return the records that were added, and start again with none."""


def is_compiled() -> bool:
    """Return whether the C extension is installed, and not turned off in the environment."""
    return _IS_COMPILED and not os.environ.get("TAP_FULLSTORY_PURE_PYTHON")


def new_builder(kinds: Mapping[str, str]) -> Builder:
    """Return a builder of columns of these kinds, as column_kind names them."""
    if is_compiled():
        return NativeBuilder(kinds)
    return ReferenceBuilder(kinds)


def arrow_schema(kinds: Mapping[str, str]) -> pa.Schema:
    """Return the schema of columns of these kinds, in their order."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in kinds.items()])


class ReferenceBuilder:
    """Builds columns value by value. Where the two builders differ, this one is right."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = kinds
        self._begin()

    def _begin(self) -> None:
        self._rows = 0
        self._values: dict[str, list[Any]] = {name: [] for name in self._kinds}

    def append(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            if not line:
                continue
            members = decode_members(line)
            if not members.keys() <= self._values.keys():
                raise ValueError("a line is not a JSON object with these columns")
            for name, values in self._values.items():
                raw = bytes(members.get(name, b"null"))
                values.append(None if raw == b"null" else _value(raw, self._kinds[name]))

    def finish(self) -> pa.RecordBatch:
        schema = arrow_schema(self._kinds)
        arrays = [pa.array(self._values[field.name], field.type) for field in schema]
        self._begin()
        return pa.record_batch(arrays, schema=schema)


def _value(raw: bytes, kind: str) -> Any:
    if kind == "json":
        return raw.decode()
    if kind == "int64":
        return int(raw)
    if kind == "float64":
        return float(raw)
    if kind == "bool":
        return {b"true": True, b"false": False}[raw]
    text = decode_string(raw)
    return parse_rfc3339(text) if kind == "timestamp" else text


class NativeBuilder:
    """Builds columns with the C extension, which makes no Python object of a value."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        numbers = {
            "int64": _columns.INT64,
            "float64": _columns.FLOAT64,
            "bool": _columns.BOOL,
            "timestamp": _columns.TIMESTAMP,
            "string": _columns.STRING,
            "json": _columns.JSON_TEXT,
        }
        self._builder = _columns.Builder(
            tuple((name, encode(name)[1:-1], numbers[kind]) for name, kind in kinds.items())
        )

    def append(self, lines: bytes) -> None:
        self._builder.append(lines)

    def finish(self) -> pa.RecordBatch:
        return pa.record_batch(_Capsules(self._builder.finish()))


class _Capsules:
    """What pyarrow takes a struct array from (the Arrow PyCapsule interface)."""

    def __init__(self, capsules: tuple[object, object]) -> None:
        self._capsules = capsules

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return self._capsules
