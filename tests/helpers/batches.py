"""BATCH messages: the setting that asks for them, and what their files hold."""

from __future__ import annotations

import gzip
import json
import stat
from collections.abc import Iterable
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from running import Json

from tap_fullstory.catalog import discover
from tap_fullstory.columns import column_kind

FORMATS_OF_COLUMNS = ("arrow", "parquet")
has_pyarrow = find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not has_pyarrow, reason="pyarrow has no wheel for this Python")
each_format = pytest.mark.parametrize(
    "form", ["jsonl", *(pytest.param(form, marks=needs_pyarrow) for form in FORMATS_OF_COLUMNS)]
)
SUFFIXES = {
    ("jsonl", "gzip"): ".json.gz", ("jsonl", "none"): ".json",
    ("arrow", None): ".arrow", ("parquet", None): ".parquet",
}  # fmt: skip


def batch_config(
    folder: Path, batch_size: int = 40, compression: str = "gzip", form: str = "jsonl"
) -> Json:
    """Return the settings for files of at most `batch_size` records in `folder`.

    The compression is that of lines; files of columns have the one of their format.
    """
    more = {"compression": compression} if form == "jsonl" else {}
    return {
        "batch_config": {
            "encoding": {"format": form, **more},
            "storage": {"root": f"file://{folder}"},
            "batch_size": batch_size,
        }
    }


def file_of(message: Json) -> Path:
    """Return the file that a BATCH message names. Fails if it is not as the contract has it."""
    (url,) = message["manifest"]
    path = Path(url.removeprefix("file://"))
    encoding = dict(message["encoding"])
    assert path.name.endswith(SUFFIXES[encoding.pop("format"), encoding.pop("compression", None)])
    assert not encoding
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path


def read_columns(path: Path) -> Any:
    """Return the pyarrow.Table of an Arrow or Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        return pq.read_table(path, partitioning=None)
    with pa.ipc.open_file(path) as file:
        return file.read_all()


def records_in(message: Json) -> list[Json]:
    """Return the records of the file that a BATCH message names, as the tap wrote them.

    Of columns these are the records of events, without what is null.
    """
    if message["encoding"]["format"] == "jsonl":
        return [json.loads(line) for line in content(message).splitlines()]
    rows = read_columns(file_of(message)).to_pylist()
    kinds = {name: column_kind(schema) for name, schema in _events_schema().items()}
    return [
        {name: _as_json(value, kinds[name]) for name, value in row.items() if value is not None}
        for row in rows
    ]


def as_held(record: Json, form: str) -> Json:
    """Return what `records_in` finds of a record in a file of a format."""
    if form == "jsonl":
        return record
    return {name: value for name, value in record.items() if value is not None}


def _events_schema() -> Json:
    (events,) = [one for one in discover()["streams"] if one["tap_stream_id"] == "events"]
    properties: Json = events["schema"]["properties"]
    return properties


def _as_json(value: Any, kind: str) -> Any:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S}Z"  # these events are to the second
    return json.loads(value) if kind == "json" else value


def content(message: Json) -> bytes:
    """Return the lines of the file that a BATCH message names."""
    path = file_of(message)
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def covered(messages: Iterable[Json]) -> list[Json]:
    """Return the records of all files that a STATE follows. Fails if one is in a file that none
    does.
    """
    records: list[Json] = []
    waiting: list[Json] = []
    for message in messages:
        if message["type"] == "BATCH":
            assert not waiting, "two BATCH messages without a STATE between them"
            waiting = records_in(message)
        elif message["type"] == "STATE":
            records += waiting
            waiting = []
    assert not waiting, "a BATCH message without a STATE after it"
    return records


def bare(stdout: bytes, stream: str) -> bytes:
    """Return the records of a stream as RECORD messages have them, byte for byte, one a line."""
    prefix = (
        b'{"type":"RECORD","stream":%b,"record":' % json.dumps(stream, ensure_ascii=False).encode()
    )
    lines = [line for line in stdout.split(b"\n") if line.startswith(prefix)]
    return b"".join(
        line.removeprefix(prefix).rpartition(b',"time_extracted":')[0] + b"\n" for line in lines
    )


def sizes(messages: Iterable[Any]) -> list[int]:
    """Return how many records each file has, in order."""
    batches = [message for message in messages if message["type"] == "BATCH"]
    return [len(records_in(message)) for message in batches]
