"""Bundles read by an EventReader, with the tap's own parser or with one made of json.loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

import oracle

from tap_fullstory.exports.unpack import Verifier
from tap_fullstory.output.messages import record_envelope
from tap_fullstory.records.encoder import RecordEncoder
from tap_fullstory.records.reader import EventReader, Malformed, Position
from tap_fullstory.selection import Selection

LARGE = 10**9
MEGABYTE = 1024 * 1024


def verify(pieces: Iterable[bytes]) -> None:
    """Verify a file that comes in pieces. Raises TruncatedFile."""
    verifier = Verifier()
    for piece in pieces:
        verifier.feed(piece)
    verifier.end()


@dataclass(frozen=True)
class Values:
    """What a parser of the tests makes of some events of a chunk."""

    values: list[Any]
    consumed: int
    malformed: int | None

    @property
    def events(self) -> int:
        return len(self.values)


def parse_with_json(chunk: bytes, max_events: int) -> Iterator[Values]:
    """A parser for EventReader that shares nothing with the tap's: Python's own."""
    if oracle.is_nested_deeper(f"[{chunk.decode(errors='replace')}]", 0, oracle.MAX_DEPTH + 1):
        return
    try:
        elements = oracle.load(b"[" + chunk + b"]")
    except ValueError:
        return
    events = oracle.contents_of(b"[" + chunk + b"]").events
    ends = [event.offset - 1 + len(event.text) for event in events]
    for start in range(0, len(events), max_events):
        taken = events[start : start + max_events]
        consumed = ends[start + len(taken) - 1]
        yield Values([event.value for event in taken], consumed, None)
    if not all(isinstance(element, dict) for element in elements):
        end = ends[-1] if ends else 0
        yield Values([], end, len(chunk) - len(chunk[end:].lstrip(b" \t\n\r,")))


def encoder(custom_vars: bool = True) -> RecordEncoder:
    """The tap's own parser, with every event whole in CustomVars."""
    selection = Selection("events", {}, frozenset(), custom_vars, {}, [])
    return RecordEncoder(selection, text_custom_vars=False, digest=False)


def encoding() -> Callable[[bytes, int], Iterator[Values]]:
    """A parser for EventReader: the one that the tap uses, its lines read back."""
    encode = encoder().encode
    envelope = record_envelope("events", datetime(2026, 6, 2, tzinfo=timezone.utc))

    def parse(chunk: bytes, max_events: int) -> Iterator[Values]:
        for batch in encode(chunk, envelope, max_events=max_events):
            values = [
                oracle.load(line)["record"].get("CustomVars", {})
                for line in batch.lines.splitlines()
            ]
            assert len(values) == batch.events
            yield Values(values, batch.consumed, batch.malformed)

    return parse


def reader(
    blocks: Iterable[bytes],
    parse: Callable[..., Any] = parse_with_json,
    max_event_bytes: int = LARGE,
    max_events: int = LARGE,
) -> EventReader[Any]:
    return EventReader(iter(blocks), partial(parse, max_events=max_events), max_event_bytes)


@dataclass
class Reading:
    """What came out of a reader: every batch's values and position, and what it ended with."""

    batches: list[list[Any]]
    positions: list[Position]
    malformed: Malformed | None = None

    @property
    def values(self) -> list[Any]:
        return [value for batch in self.batches for value in batch]


def read(events: EventReader[Any]) -> Reading:
    reading = Reading([], [])
    try:
        for batch, position in events:
            assert batch.events == len(batch.values) > 0
            reading.batches.append(batch.values)
            reading.positions.append(position)
    except Malformed as error:
        reading.malformed = error
    return reading
