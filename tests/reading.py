"""Bundles read by an EventReader, with the tap's own parser or with one made of json.loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

import oracle

from tap_fullstory.catalog import Selection
from tap_fullstory.events import EventReader, Malformed, Position
from tap_fullstory.messages import record_frame
from tap_fullstory.records import RecordEncoder

LARGE = 10**9
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Run:
    """What parse_with_json makes of a run."""

    values: list[Any]
    malformed: int | None

    @property
    def events(self) -> int:
        return len(self.values)


def parse_with_json(run: bytes) -> Run | None:
    """A parser for EventReader that shares nothing with the tap's: Python's own."""
    try:
        elements = oracle.load(b"[" + run + b"]")
    except (ValueError, RecursionError):
        return None
    if all(isinstance(element, dict) for element in elements):
        return Run(elements, None)
    events = oracle.truth(b"[" + run + b"]").events
    end = events[-1].offset - 1 + len(events[-1].text) if events else 0
    return Run([event.value for event in events], len(run) - len(run[end:].lstrip(b" \t\n\r,")))


def encoder(custom_vars: bool = True) -> RecordEncoder:
    """The tap's own parser, with every event whole in CustomVars."""
    selection = Selection("events", {}, frozenset(), custom_vars, {}, [])
    return RecordEncoder(selection, text_custom_vars=False, digest=False)


@dataclass(frozen=True)
class Lines:
    """What parse_with_encoder makes of a run."""

    values: list[Any]
    malformed: int | None

    @property
    def events(self) -> int:
        return len(self.values)


def encoding() -> Callable[[bytes], Lines | None]:
    """A parser for EventReader: the one that the tap uses, its lines read back."""
    encode = partial(
        encoder().encode, frame=record_frame("events", datetime(2026, 6, 2, tzinfo=timezone.utc))
    )

    def parse(run: bytes) -> Lines | None:
        batch = encode(run)
        if batch is None:
            return None
        values = [
            oracle.load(line)["record"].get("CustomVars", {}) for line in batch.lines.splitlines()
        ]
        assert len(values) == batch.events
        return Lines(values, batch.malformed)

    return parse


def reader(
    blocks: Iterable[bytes],
    parse: Callable[[bytes], Any] = parse_with_json,
    max_event_bytes: int = LARGE,
    max_events: int = LARGE,
) -> EventReader[Any]:
    return EventReader(iter(blocks), parse, max_event_bytes, max_events)


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
