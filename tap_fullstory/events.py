"""Unpacked bytes to runs of whole events, with the position of each.

The bytes are cut where an event seems to end, `}` `,` `{`, near the end of what has been read, and
the run before the cut is given to a JSON parser between `[` and `]`. If it parses, the cut was
real: a parser that has consumed the run and takes the `]` for the array's stands at depth 0,
outside any string. If not, the seeming end was inside a nested value, or the JSON is broken; then
the events are told apart one by one, by counting brackets outside strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from isal.isal_zlib import crc32

from tap_fullstory.spool import BLOCK_BYTES, JSON_BLANKS

# An event begins with a key. In text that holds JSON itself, logged by somebody's page, the quotes
# are escaped and do not look like this.
_BETWEEN_EVENTS = re.compile(rb'\}[ \t\n\r]*,[ \t\n\r]*(?=\{[ \t\n\r]*")')
_COMMA = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*(?=\{)")
_MARK = re.compile(rb'["{}\[\]]')
NO_EVENT = "holds something that is no event, or no UTF-8, or nested too deep,"
NO_JSON = "holds broken JSON"
QUOTE, BACKSLASH, OPENING = ord('"'), ord("\\"), b"{["


@dataclass(frozen=True)
class Position:
    """A place between two events: `events` counts those before it, `bytes` and `crc32` are the
    number and the CRC-32 of the unpacked bytes before the next one.
    """

    events: int = 0
    bytes: int = 0
    crc32: int = 0


class Parsed(Protocol):
    """What a parser makes of a run of events."""

    @property
    def events(self) -> int:
        """How many events it covers: all of the run, or those before a malformed one."""

    @property
    def malformed(self) -> int | None:
        """Where in the run an element is no event; None if all are."""


P = TypeVar("P", bound=Parsed)


class Malformed(Exception):
    """Something that is no event where an event should be, `offset` unpacked bytes from the start.

    Its text says what, and quotes nothing.
    """

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.offset = offset


class PositionLost(Exception):
    """The bytes before a position are not those that it was taken from."""


class EventReader(Generic[P]):
    """Reads the events of one bundle, from its start or from a position inside it.

    `blocks` are the unpacked bytes from the bundle's start. `parse` takes a run, events parted by
    commas, and gives None if that is not what it is. No batch covers more than `max_events`; an
    event of more than `max_event_bytes` is malformed.
    """

    def __init__(
        self,
        blocks: Iterator[bytes],
        parse: Callable[[bytes], P | None],
        max_event_bytes: int,
        max_events: int,
    ) -> None:
        self._blocks = blocks
        self._parse = parse
        self._max_event_bytes = max_event_bytes
        self._max_events = max_events
        self._buffer = b""
        self._position = Position()
        self._malformed: Malformed | None = None
        self._after_event = False
        self._separator = b""

    def skip_to(self, position: Position) -> None:
        """Go on from `position` instead of the start, without parsing what lies before it.

        Raises PositionLost if the bytes before it are others than they were.
        """
        last = b""
        while self._position.bytes < position.bytes:
            if not self._buffer and not self._read():
                break
            size = min(len(self._buffer), position.bytes - self._position.bytes)
            last = self._buffer[:size].rstrip(JSON_BLANKS)[-1:] or last
            self._consume(size)
        if (self._position.bytes, self._position.crc32) != (position.bytes, position.crc32):
            raise PositionLost
        self._position = position
        self._after_event = last == b"}"

    @property
    def position(self) -> Position:
        """Where the next event is, or the array's end."""
        return self._position

    @property
    def malformed(self) -> Malformed | None:
        """What cannot be read on, once that has been met."""
        return self._malformed

    def __iter__(self) -> Iterator[tuple[P, Position]]:
        """Each batch with the position after it.

        Raises Malformed where something is no event, once all events before it have been yielded.
        """
        more = self.open()
        while more:
            if len(self._buffer) < BLOCK_BYTES:
                self._read()
            batch = self._next_run()
            if batch is None:
                batch, more = self._next_events()
            if batch is not None and batch.events:
                yield batch, self._position
            if self._malformed:
                more = False
        if self._malformed:
            raise self._malformed

    def advance(self, text: bytes | memoryview, events: int) -> None:
        """Move the position past what was taken off."""
        before = self._position
        self._position = Position(
            before.events + events, before.bytes + len(text), crc32(text, before.crc32)
        )

    def _next_run(self) -> P | None:
        """The run up to the last place in the buffer that looks like an event's end."""
        cut = self._last_cut()
        if cut is None or cut[0] > self._max_event_bytes:
            return None
        end, following = cut
        batch = self._parse(self._buffer[:end])
        if batch is None or batch.events > self._max_events:
            return None
        if batch.malformed is not None:
            self._fail(NO_EVENT, batch.malformed)
            following = batch.malformed
        self._consume(following, batch.events)
        return batch

    def _last_cut(self) -> tuple[int, int] | None:
        """Where the run ends, after a `}`, and where the event after it starts."""
        separator = self._separator
        end = self._buffer.rfind(separator) if separator else -1
        if end < 0:
            for match in _BETWEEN_EVENTS.finditer(self._buffer):
                end = match.start()
                # What parts two events here parts them all: looking for the same bytes is quick.
                separator = match.group() + b"{"
            if end < 0:
                return None
            self._separator = separator
        return end + 1, end + len(separator) - 1

    def _next_events(self) -> tuple[P | None, bool]:
        """The events that end in the buffer, told apart one by one, and whether more follow."""
        spans = self._whole_events()
        while not spans:
            if len(self._buffer) > self._max_event_bytes or not self._read():
                self._fail(
                    "holds an event that does not end, or is larger than max_event_mb allows,"
                )
                return None, False
            spans = self._whole_events()
        good = 0
        for start, end in spans:
            if end - start > self._max_event_bytes:
                self._fail("holds an event that is larger than max_event_mb allows,", start)
                break
            if self._parse(self._buffer[start:end]) is None:
                self._fail(NO_JSON, start)
                break
            good = end
        batch = self._parse(self._buffer[:good]) if good else None
        if batch is None:
            return None, False if self._malformed else self._fail(NO_JSON)
        if batch.malformed is not None:
            self._fail(NO_EVENT, batch.malformed)
        if self._malformed:
            self._consume(self._malformed.offset - self._position.bytes, batch.events)
            return batch, False
        self._consume(good, batch.events)
        return batch, self._step()

    def _whole_events(self) -> list[tuple[int, int]]:
        """Where the events at the buffer's start begin and end, at most `max_events` of them."""
        spans: list[tuple[int, int]] = []
        start: int | None = 0
        while start is not None and len(spans) < self._max_events:
            end = _object_end(self._buffer, start)
            if end is None:
                break
            spans.append((start, end))
            comma = _COMMA.match(self._buffer, end)
            start = comma.end() if comma else None
        return spans

    def open(self) -> bool:
        """Go to the next event's `{`; False if there is none."""
        if self._position.bytes:
            # Where a run stopped at a comma missing or too many, this one has to stop as well.
            after_event, self._after_event = self._after_event, False
            return self._step() if after_event else self._at_event()
        if self._next_char() != b"[":
            return self._fail("does not begin with a bracket")
        self._consume(1)
        return self._close() if self._next_char() == b"]" else self._at_event()

    def _step(self) -> bool:
        """Go over what parts two events, to the next one's `{`; False where none follows."""
        char = self._next_char()
        if char == b"]":
            return self._close()
        if char != b",":
            return self._fail("has no comma after an event")
        self._consume(1)
        return self._at_event()

    def _at_event(self) -> bool:
        return self._next_char() == b"{" or self._fail(NO_EVENT)

    def _close(self) -> bool:
        """Look at what follows the array's end; the position stays before that."""
        self._after_event = True
        rest = self._buffer[1:].lstrip(JSON_BLANKS)
        while not rest:
            block = next(self._blocks, b"")
            if not block:
                return False
            rest = block.lstrip(JSON_BLANKS)
        return self._fail("goes on after the array's end")

    def _next_char(self) -> bytes:
        """The next byte that is no blank, still to be consumed; empty at the end of the blocks."""
        while True:
            inked = self._buffer.lstrip(JSON_BLANKS)
            self._consume(len(self._buffer) - len(inked))
            if inked or not self._read():
                return self._buffer[:1]

    def _fail(self, what: str, at: int = 0) -> Literal[False]:
        """Note that something `at` bytes into the buffer cannot be read on."""
        self._malformed = Malformed(what, self._position.bytes + at)
        return False

    def _read(self) -> bool:
        """Read on, to at least twice of what is there; False at the end."""
        blocks = [self._buffer]
        missing = max(len(self._buffer), 1)
        while missing > 0 and (block := next(self._blocks, b"")):
            blocks.append(block)
            missing -= len(block)
        self._buffer = b"".join(blocks)
        return len(blocks) > 1

    def _consume(self, size: int, events: int = 0) -> None:
        self.advance(memoryview(self._buffer)[:size], events)
        self._buffer = self._buffer[size:]


def _object_end(text: bytes, start: int) -> int | None:
    """Where the object that starts at `start` ends, by brackets outside strings; None if it has not
    ended yet.
    """
    depth = 0
    mark = _MARK.search(text, start)
    while mark:
        at = mark.start()
        if text[at] == QUOTE:
            string_end = _string_end(text, at + 1)
            if string_end is None:
                return None
            mark = _MARK.search(text, string_end)
            continue
        depth += 1 if text[at] in OPENING else -1
        if depth == 0:
            return at + 1
        mark = _MARK.search(text, at + 1)
    return None


def _string_end(text: bytes, start: int) -> int | None:
    """Where the string ends whose first character is at `start`."""
    while (quote := text.find(b'"', start)) >= 0:
        escapes = quote
        while text[escapes - 1] == BACKSLASH and escapes > start:
            escapes -= 1
        if (quote - escapes) % 2 == 0:
            return quote + 1
        start = quote + 1
    return None
