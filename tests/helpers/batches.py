"""BATCH messages: the setting that asks for them, and what their files hold."""

from __future__ import annotations

import gzip
import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from running import Json


def batch_config(folder: Path, batch_size: int = 40, compression: str = "gzip") -> Json:
    """Return the settings for files of at most `batch_size` records in `folder`."""
    return {
        "batch_config": {
            "encoding": {"format": "jsonl", "compression": compression},
            "storage": {"root": f"file://{folder}"},
            "batch_size": batch_size,
        }
    }


def file_of(message: Json) -> Path:
    """Return the file that a BATCH message names. Fails if it is not as the contract has it."""
    (url,) = message["manifest"]
    path = Path(url.removeprefix("file://"))
    gzipped = message["encoding"] == {"format": "jsonl", "compression": "gzip"}
    assert gzipped or message["encoding"] == {"format": "jsonl", "compression": "none"}
    assert path.name.endswith(".json.gz" if gzipped else ".json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path


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
            waiting = [json.loads(line) for line in content(message).splitlines()]
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
    return [len(content(message).splitlines()) for message in batches]
