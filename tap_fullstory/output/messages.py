"""The only writer to stdout: Singer messages, one JSON object a line.

Lines are gathered and written about 256 kB at a time, as they are: joining them would cost a copy.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import termios
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw

from tap_fullstory.errors import TargetError
from tap_fullstory.records.json_text import without_line_breaks

WRITE_BYTES = 256 * 1024
_MAX_PIECES = 64  # in one call; the systems' limits are 1024 and more


@dataclass(frozen=True)
class RecordEnvelope:
    """What makes a RECORD message of a record: the bytes before it, and those after it with the
    line break.
    """

    prefix: bytes
    suffix: bytes

    def lines(self, records: list[bytes | Raw]) -> bytes:
        """Return one line for each record; line breaks between the tokens of a record go."""
        if not records:
            return b""
        together = b"".join(records)
        if b"\n" in together or b"\r" in together:
            records = [without_line_breaks(bytes(record)) for record in records]
        return b"".join((self.prefix, (self.suffix + self.prefix).join(records), self.suffix))


def record_envelope(stream: str, time_extracted: datetime) -> RecordEnvelope:
    """Return the envelope of a stream's records that were extracted at a time in UTC."""
    name = msgspec.json.encode(stream)
    when = time_extracted.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
    return RecordEnvelope(
        b'{"type":"RECORD","stream":' + name + b',"record":',
        b',"time_extracted":"' + when + b'"}\n',
    )


class MessageWriter:
    """Writes messages to a file descriptor.

    Every method raises TargetError if the other end has gone or the output cannot be written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._added_bytes = 0  # since the start
        self._is_writing = False
        self._offset = 0  # how much of the first pending piece is written
        self._last_state: bytes | None = None
        self.last_state: dict[str, Any] | None = None
        """What the last STATE message carried; None before the first."""

    def schema(self, stream: str, schema: dict[str, Any], key_properties: list[str],
               bookmark_properties: list[str]) -> None:  # fmt: skip
        """Write a SCHEMA message."""
        self._message(
            type="SCHEMA",
            stream=stream,
            schema=schema,
            key_properties=key_properties,
            bookmark_properties=bookmark_properties,
        )

    def records(self, lines: bytes) -> None:
        """Add RECORD messages that are lines already. Does not write them: see flush_if_full."""
        self._add(lines)

    def batch(self, stream: str, encoding: dict[str, str], manifest: list[str]) -> int:
        """Add a BATCH message, which names files; return how many bytes the output has with it."""
        self._message(type="BATCH", stream=stream, encoding=encoding, manifest=manifest)
        return self._added_bytes

    def begin(self, start: datetime) -> None:
        """Do nothing: RECORD messages need not know of the period that they are from."""

    def flush_if_full(self) -> None:
        """Write what is pending if it is enough for one write; to be called once the caller knows
        that the records are accounted for.
        """
        if self._pending_bytes >= WRITE_BYTES:
            self.flush()

    def state(self, value: dict[str, Any]) -> None:
        """Write a STATE message and all before it; nothing if it equals the last one."""
        line = msgspec.json.encode({"type": "STATE", "value": value}) + b"\n"
        if line != self._last_state:
            self._add(line)
            self._last_state = line
        self.last_state = value
        self.flush()

    def flush(self) -> None:
        """Hand all that is pending to the operating system. Whatever ends it early, what is not
        written is still pending.
        """
        while self._pending:
            pieces: list[bytes | memoryview] = list(islice(self._pending, _MAX_PIECES))
            if self._offset:
                pieces[0] = memoryview(self._pending[0])[self._offset :]
            # A signal can still come between the write and its count, and end the process.
            self._is_writing = True
            try:
                self._offset += _write(self._descriptor, pieces)
            finally:
                self._is_writing = False
            while self._pending and self._offset >= len(self._pending[0]):
                self._offset -= len(self._pending[0])
                self._pending_bytes -= len(self._pending[0])
                self._pending.popleft()
        self._pending_bytes = 0

    @property
    def written_bytes(self) -> int:
        """How much of the output has been handed to the operating system."""
        return self._added_bytes - self._pending_bytes + self._offset

    def may_have_written(self, end: int) -> bool:
        """Return whether the first `end` bytes of the output may have been handed over, also while
        a write is under way.
        """
        return self._is_writing or self.written_bytes >= end

    def has_reader(self) -> bool:
        """Return whether a program reads the output as it comes, rather than a file takes it."""
        mode = os.fstat(self._descriptor).st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def read_bytes(self) -> int:
        """Return how much of the output has been read from the pipe; where the system cannot tell,
        all that has been written.
        """
        try:
            unread = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4))
        except OSError:
            return self.written_bytes
        return self.written_bytes - int(*struct.unpack("i", unread))

    def wait(self, seconds: float) -> None:
        """Wait. Raises TargetError at once if the reader goes away."""
        reader = select.poll()
        reader.register(self._descriptor, 0)  # errors, which are always reported
        if reader.poll(seconds * 1000):
            raise TargetError(_why(OSError(errno.EPIPE, "")))

    def _message(self, **message: Any) -> None:
        self._add(msgspec.json.encode(message) + b"\n")

    def _add(self, lines: bytes) -> None:
        self._pending_bytes += len(lines)
        self._added_bytes += len(lines)
        self._pending.append(lines)


def write_all(descriptor: int, data: bytes) -> None:
    """Write `data` past Python's buffering. Raises TargetError if that fails."""
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[_write(descriptor, [remaining]) :]


def _write(descriptor: int, pieces: list[bytes | memoryview]) -> int:
    """Return how many bytes of `pieces` were written: some, not always all."""
    while True:
        try:
            return os.writev(descriptor, pieces)
        except BlockingIOError:
            # Whoever made the pipe for us may have set it to refuse rather than to wait.
            select.select([], [descriptor], [])
        except OSError as error:
            raise TargetError(_why(error)) from None


def _why(error: OSError) -> str:
    if error.errno in (errno.EPIPE, errno.ECONNRESET):
        return (
            "The target closed the pipe before the sync was done. Look at the target's own log for "
            "the reason, then run again with the last state that it wrote."
        )
    return (
        f"The output cannot be written: {error.strerror}. Free up space, or check where stdout "
        "goes, then run again with the last state that the target wrote."
    )
