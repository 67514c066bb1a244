"""Unpacked bytes to chunks of whole events, with the position of each.

The bytes are cut where an event seems to end, `}` `,` `{`, near the end of what has been read, and
the chunk before the cut is given to a JSON parser. If that gets to the cut, it was real. If not,
the seeming end was inside a nested value, or the JSON is not valid; then the events are told apart
one by one, by counting brackets outside strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from isal.isal_zlib import crc32

from tap_fullstory.exports.bundle import CHUNK_BYTES
from tap_fullstory.records import native
from tap_fullstory.records.json_text import (
    MAX_DEPTH,
    MAX_KEYS,
    WHITESPACE,
    NestedTooDeeply,
    NestingScanner,
)

# An event begins with a key. In text that holds JSON itself, logged by somebody's page, the quotes
# are escaped and do not look like this.
_BETWEEN_EVENTS = re.compile(rb'\}[ \t\n\r]*,[ \t\n\r]*(?=\{[ \t\n\r]*")')
_WHITESPACE = re.compile(rb"[ \t\n\r]*")
_SEPARATOR = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_COMMA = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*(?=\{)")
# A chunk, so that its lines take little memory; one larger event makes a chunk of its own.
MAX_CHUNK_BYTES = 4 * CHUNK_BYTES
NOT_EVENT = (
    f"holds an element that is not an event object, is not UTF-8, or has more than {MAX_KEYS} keys,"
)
NOT_JSON = "holds an event that is not valid JSON"
NOT_ENDED = "holds an event that does not end, or is larger than max_event_mb allows,"
TOO_LARGE = "holds an event that is larger than max_event_mb allows,"
TOO_DEEP = f"holds an event nested deeper than {MAX_DEPTH} levels"


class Position(NamedTuple):
    """A place between two events: `events` counts those before it, `bytes` and `crc32` are the
    number and the CRC-32 of the unpacked bytes before the next one.
    """

    events: int = 0
    bytes: int = 0
    crc32: int = 0


class Parsed(Protocol):
    """What a parser makes of some events of a chunk, in turn."""

    @property
    def events(self) -> int:
        """How many events it covers."""

    @property
    def consumed(self) -> int:
        """The offset in the chunk after the last of them."""

    @property
    def malformed(self) -> int | None:
        """The offset in the chunk of the element after them, if that is valid JSON and not an
        event; otherwise None.
        """


P = TypeVar("P", bound=Parsed)


class Malformed(Exception):
    """Raised for something that is not an event where an event should be, `offset` unpacked bytes
    from the start.

    Its text says what, and quotes nothing.
    """

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.offset = offset


class ChecksumMismatch(Exception):
    """Raised when the bytes before a position are not those that it was taken from."""


class EventReader(Generic[P]):
    """Reads the events of one bundle, from its start or from a position inside it.

    `blocks` are the unpacked bytes from the bundle's start. `parse` takes a chunk, events separated
    by commas, and yields what it makes of it as far as that is valid JSON. An event of more than
    `max_event_bytes` is malformed.
    """

    def __init__(
        self,
        blocks: Iterator[bytes],
        parse: Callable[[bytes], Iterable[P]],
        max_event_bytes: int,
    ) -> None:
        self._blocks = blocks
        self._put_back = b""  # what comes before the next block
        self._parse = parse
        self._max_event_bytes = max_event_bytes
        self._buffer = b""
        self._start = 0  # in the buffer: where the position is
        self._position = Position()
        self._malformed: Malformed | None = None
        self._after_event = False
        self._separator = b""
        self.end: Position | None = None
        """The end of the file, once all of it has been read."""

    def skip_to(self, position: Position) -> None:
        """Continue from `position` instead of the start, without parsing what is before it.

        Raises ChecksumMismatch if the bytes before it are others than they were.
        """
        last = b""
        while self._position.bytes < position.bytes:
            if self._start == len(self._buffer) and not self._read():
                break
            size = min(self._unread(), position.bytes - self._position.bytes)
            skipped = self._buffer[self._start : self._start + size]
            last = skipped.rstrip(WHITESPACE)[-1:] or last
            self._consume(self._start + size)
        if (self._position.bytes, self._position.crc32) != (position.bytes, position.crc32):
            raise ChecksumMismatch
        self._position = position
        self._after_event = last == b"}"

    def __iter__(self) -> Iterator[tuple[P, Position]]:
        """Yield each batch with the position after it.

        Raises Malformed where something is not an event, once all events before it have been
        yielded.
        """
        more = self._open()
        while more:
            if self._unread() < CHUNK_BYTES:
                self._read()
            cut = self._last_cut()
            if cut is None or not (yield from self._take_chunk(*cut)):
                more = not self._malformed and self._at_next_event()
                more = more and (yield from self._take_told_apart())
        if self._malformed:
            raise self._malformed

    def _take_chunk(self, end: int, following: int) -> Generator[tuple[P, Position], None, bool]:
        """Yield the events up to `end` in the buffer, and continue at `following`; or as far as
        they are valid JSON. Return whether that is all of them.
        """
        first = self._start
        chunk = self._buffer[first:end]
        for batch in self._parse(chunk):
            after = following
            if batch.malformed is not None:
                after = first + batch.malformed
                self._fail(NOT_EVENT, after)
            elif batch.consumed < len(chunk):
                after = first + batch.consumed
                separator = _SEPARATOR.match(self._buffer, after)
                self._after_event = separator is None
                after = separator.end() if separator else after
            self._consume(after, batch.events)
            if batch.events:
                yield batch, self._position
        return self._start == following and not self._malformed

    def _last_cut(self) -> tuple[int, int] | None:
        """Return where the chunk ends, after a `}`, and where the event after it starts; None if
        there is no such place, or if an event in the chunk may be too large.
        """
        separator = self._separator
        limit = self._start + MAX_CHUNK_BYTES
        end = self._buffer.rfind(separator, self._start, limit) if separator else -1
        if end < 0:
            end, separator = self._last_separator()
            if end < 0:
                return None
            # What separates two events here separates them all: looking for the same bytes is
            # quick.
            self._separator = separator
        if end + 1 - self._start > self._max_event_bytes:
            return None
        return end + 1, end + len(separator) - 1

    def _last_separator(self) -> tuple[int, bytes]:
        """Return where the last separator of events begins, and it; -1 if there is none."""
        found = -1, b""
        limit = self._start + MAX_CHUNK_BYTES
        for match in _BETWEEN_EVENTS.finditer(self._buffer, self._start, limit):
            found = match.start(), match.group() + b"{"
        return found

    def _take_told_apart(self) -> Generator[tuple[P, Position], None, bool]:
        """Yield the events that end in the buffer, told apart one by one; return whether more
        follow.
        """
        taken = self._take_spans(self._whole_events())
        last: tuple[P, Position] | None = None
        while True:
            try:
                item = next(taken)
            except StopIteration as stop:
                more = stop.value and self._step()
                break
            if last is not None:
                yield last
            last = item
        # A position is before the next event, and that is only known once the comma has been read.
        if last is not None:
            yield last[0], self._position
        return more

    def _take_spans(
        self, spans: list[tuple[int, int]]
    ) -> Generator[tuple[P, Position], None, bool]:
        """Yield the events at `spans`; return whether all of them are valid."""
        if not spans:
            return False
        if len(spans) == 1:
            spans = [self._isolate(*spans[0])]
        end = spans[-1][1]
        if (yield from self._take_chunk(end, end)):
            return True
        for start, end in spans:
            if self._malformed:
                return False
            if start < self._start:
                continue
            self._consume(start)
            if not (yield from self._take_chunk(end, end)) and not self._malformed:
                return self._fail(NOT_JSON, start)
        return not self._malformed

    def _isolate(self, start: int, end: int) -> tuple[int, int]:
        """Return where an event is in the buffer, which holds nothing else if it is large: a copy
        beside all that has been read would take as much memory again.
        """
        if end - start <= MAX_CHUNK_BYTES:
            return start, end
        self._consume(start)
        self._put_back = self._buffer[end:] + self._put_back
        self._buffer, self._start = self._buffer[start:end], 0
        return 0, end - start

    def _whole_events(self) -> list[tuple[int, int]]:
        """Return where the events begin and end that end in the buffer, about MAX_CHUNK_BYTES of
        them; none, and the first is malformed, if it does not end, is too large or too deep.
        """
        find_end = self._end_finder(self._start)
        try:
            while (end := find_end(self._buffer)) is None:
                moved = self._start > 0
                if self._unread() > self._max_event_bytes or not self._read():
                    self._fail(NOT_ENDED)
                    return []
                if moved:
                    find_end = self._end_finder(0)
        except NestedTooDeeply:
            self._fail(TOO_DEEP)
            return []
        if end - self._start > self._max_event_bytes:
            self._fail(TOO_LARGE)
            return []
        spans = [(self._start, end)]
        while end - self._start < MAX_CHUNK_BYTES and (comma := _COMMA.match(self._buffer, end)):
            start = comma.end()
            try:
                next_end = self._end_finder(start)(self._buffer)
            except NestedTooDeeply:
                break
            if next_end is None or next_end - start > self._max_event_bytes:
                break
            end = next_end
            spans.append((start, end))
        return spans

    def _end_finder(self, start: int) -> Callable[[bytes], int | None]:
        """Return a function that tells where the object ends that begins at `start`; None if it has
        not ended yet.
        """
        if native.is_available():
            return partial(native.object_end, start=start)
        return NestingScanner(start).object_end

    def _open(self) -> bool:
        """Go to the next event's `{`; return False if there is none."""
        if self._position.bytes:
            return self._at_next_event()
        if self._next_char() != b"[":
            return self._fail("does not begin with a bracket")
        self._consume(self._start + 1)
        return self._close() if self._next_char() == b"]" else self._at_event()

    def _step(self) -> bool:
        """Go over what separates two events to the next one's `{`; return False if none follows."""
        char = self._next_char()
        if char == b"]":
            return self._close()
        if char != b",":
            return self._fail("has no comma after an event")
        self._consume(self._start + 1)
        return self._at_event()

    def _at_next_event(self) -> bool:
        """Go to the next event's `{` from before it, or from the end of the last one, where a comma
        is missing or something else than an event follows it.
        """
        after_event, self._after_event = self._after_event, False
        return self._step() if after_event else self._at_event()

    def _at_event(self) -> bool:
        return self._next_char() == b"{" or self._fail(NOT_EVENT)

    def _close(self) -> bool:
        """Look at what follows the array's end; the position stays before that."""
        self._after_event = True
        events, size, checksum = self._position
        block = self._buffer[self._start :]
        rest = block[1:].lstrip(WHITESPACE)
        while not rest:
            size, checksum = size + len(block), crc32(block, checksum)
            block = self._next_block()
            if not block:
                self.end = Position(events, size, checksum)
                return False
            rest = block.lstrip(WHITESPACE)
        return self._fail("has data after the array's end")

    def _next_char(self) -> bytes:
        """Return the next byte that is not whitespace, still to be consumed; empty at the end."""
        while True:
            self._consume(_WHITESPACE.match(self._buffer, self._start).end())  # type: ignore[union-attr]
            if self._unread() or not self._read():
                return self._buffer[self._start : self._start + 1]

    def _fail(self, what: str, at: int | None = None) -> Literal[False]:
        """Note that what is at `at` in the buffer, or at the position, cannot be read on."""
        ahead = 0 if at is None else at - self._start
        self._malformed = Malformed(what, self._position.bytes + ahead)
        return False

    def _unread(self) -> int:
        return len(self._buffer) - self._start

    def _next_block(self) -> bytes:
        if self._put_back:
            block, self._put_back = self._put_back, b""
            return block
        return next(self._blocks, b"")

    def _read(self) -> bool:
        """Read on, to at least twice of what is there, but not far beyond the largest event; return
        False at the end.
        """
        blocks = [self._buffer[self._start :]]
        missing = max(min(self._unread(), self._max_event_bytes - self._unread()), 1)
        while missing > 0 and (block := self._next_block()):
            blocks.append(block)
            missing -= len(block)
        self._buffer, self._start = b"".join(blocks), 0
        return len(blocks) > 1

    def _consume(self, end: int, events: int = 0) -> None:
        """Move the position to `end` in the buffer."""
        before, taken = self._position, memoryview(self._buffer)[self._start : end]
        self._position = Position(
            before.events + events, before.bytes + len(taken), crc32(taken, before.crc32)
        )
        self._start = end
