"""Damaged bundles through the proof, the reader and the encoder, for as many seconds as given.

    python tests/helpers/fuzz_bundles.py [SECONDS [SEED]]

Nothing but TruncatedFile and Malformed may come out as an error. If Python's json takes the
unpacked bytes for an array of objects, every event has to come out, with the same values; if not,
those before the first thing that is not an event, and then an error. Continuing from every position
that was given on the way has to bring the rest, and the same end.
"""

from __future__ import annotations

import base64
import faulthandler
import io
import os
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import cycle
from typing import Any
from unittest import mock

import oracle
from reading import verify
from strategies import (
    COLUMNS,
    LAYOUTS,
    LONE_PIECES,
    PIECES,
    UNKNOWN,
    Layout,
    Object,
    as_json,
    bundle_bytes,
    cut,
    damaged,
    gzipped,
    oddly,
    some_json,
)

from tap_fullstory.exports.unpack import TruncatedFile, unpack
from tap_fullstory.output.messages import record_envelope
from tap_fullstory.records.encoder import Batch, RecordEncoder
from tap_fullstory.records.reader import EventReader, Malformed, Position
from tap_fullstory.selection import Selection

ENVELOPE = record_envelope("events", datetime(2026, 6, 2, tzinfo=timezone.utc))
LARGE = 10**9
SIZES = [[1], [3, 17], [100], [4096, 1], [LARGE]]  # of blocks, in turn
STUCK = 60  # seconds beyond those given after which the last input counts as one without end
INPUTS_PER_TAP = 300
NAMES = [*COLUMNS, *UNKNOWN]


class Wrong(Exception):
    """What the tap made of an input is not what it should be."""


# --- inputs ---


def some_event(source: random.Random) -> Object:
    pieces = PIECES if source.random() < 0.7 else PIECES + LONE_PIECES
    return Object(
        tuple(
            (as_json(source.choice(NAMES), source.randrange(9)), some_json(source, pieces))
            for _ in range(source.randrange(6))
        )
    )


def some_bundle(source: random.Random) -> bytes:
    events = [some_event(source) for _ in range(source.randrange(6))]
    if source.random() < 0.01:
        events *= 300  # more than a block
    layout: Layout = source.choice([*LAYOUTS, oddly(source.randrange(2**32))])
    return bundle_bytes(events, layout)


def some_file(source: random.Random) -> bytes:
    """A bundle as it might lie on disk, damaged before it was packed, or after, or not at all."""
    text = some_bundle(source)
    if source.random() < 0.8:
        text = damaged(text, source)
    if source.random() < 0.5:
        return text
    packed = gzipped(text, source.choice([1, 1, 2, 5]), compresslevel=source.choice([0, 1, 9]))
    return damaged(packed, source) if source.random() < 0.5 else packed


def some_selection(source: random.Random) -> Selection:
    chosen = source.sample(list(COLUMNS), source.choice([0, 3, len(COLUMNS)]))
    rest = [name for name in NAMES if name not in chosen]
    return Selection(
        name="events",
        columns={name: COLUMNS[name] for name in chosen},
        dropped=frozenset(source.sample(rest, source.choice([0, 0, len(rest) // 2]))),
        keeps_overflow=source.random() < 0.8,
        schema={},
        key_properties=[],
    )


# --- what the tap makes of them ---


@dataclass(frozen=True)
class Tap:
    """One way to set the tap up. It is used for many inputs, since it learns from each."""

    selection: Selection
    digest: bool
    encode: Callable[..., Iterator[Batch]]


def some_tap(source: random.Random) -> Tap:
    selection, digest = some_selection(source), source.random() < 0.3
    # By the C extension, or by the reference encoder.
    with mock.patch.dict(os.environ, TAP_FULLSTORY_PURE_PYTHON=source.choice(["", "1"])):
        encoder = RecordEncoder(selection, text_custom_vars=False, digest=digest)
    return Tap(selection, digest, partial(encoder.encode, envelope=ENVELOPE))


@dataclass(frozen=True)
class Limits:
    """How a file is read: in blocks of `sizes` in turn, and with these limits."""

    sizes: list[int]
    max_event_bytes: int
    max_events: int


def some_limits(source: random.Random, text: bytes) -> Limits:
    large_events = source.choice([LARGE, LARGE, LARGE, 20, 60, 200])
    if len(text) > 5000:  # no time for the small ones
        return Limits([LARGE], large_events, source.choice([500, LARGE]))
    sizes = source.choice(SIZES)
    return Limits(sizes, large_events, source.choice([1, 2, 3, LARGE]))


def in_pieces(blocks: Iterator[bytes], sizes: list[int]) -> Iterator[bytes]:
    """The same bytes in other blocks, of `sizes` in turn where that makes them smaller."""
    turns = cycle(sizes)
    for block in blocks:
        at = 0
        while at < len(block):
            size = next(turns)
            yield block[at : at + size]
            at += size


def records(lines: bytes) -> list[Any]:
    if b"\r" in lines or lines[-1:] not in (b"", b"\n"):
        raise Wrong("lines")
    return [oracle.load(line)["record"] for line in lines.split(b"\n")[:-1]]


def read_on(
    file: bytes, position: Position, tap: Tap, limits: Limits
) -> tuple[list[Any], list[Position], int | None]:
    """The records from a position on, the positions after each batch, and where it stops short."""
    blocks = in_pieces(unpack(io.BytesIO(file)), limits.sizes)
    reader = EventReader(
        blocks, partial(tap.encode, max_events=limits.max_events), limits.max_event_bytes
    )
    reader.skip_to(position)
    found: list[Any] = []
    positions: list[Position] = []
    try:
        for batch, after in reader:
            if not 0 < batch.events <= limits.max_events:
                raise Wrong("size of a batch")
            found += records(batch.lines)
            positions.append(after)
            if after.events != position.events + len(found):
                raise Wrong("events of a position")
    except Malformed as error:
        return found, positions, error.offset
    return found, positions, None


def expected_records(contents: oracle.Contents, tap: Tap, limits: Limits) -> tuple[list[Any], bool]:
    """The records that should come out, and whether that is the whole bundle."""
    expected: list[Any] = []
    for event in contents.events:
        if len(event.text) > limits.max_event_bytes:
            return expected, False
        record = oracle.record(event.value, tap.selection)
        if tap.digest:
            record["EventDigest"] = oracle.digest(event.text)
        expected.append(record)
    return expected, contents.whole


def try_one(source: random.Random, file: bytes, tap: Tap) -> str:
    """What kind of file `file` was taken for.

    Raises Wrong, or whatever the tap raises, if it does not do right by it.
    """
    try:
        verify(cut(file, source.choice(SIZES)))
    except TruncatedFile:
        plain = unpacked_by_zlib(file)
        if plain is not None and oracle.contents_of(plain).whole:
            raise Wrong("a whole bundle was refused") from None
        return "incomplete"
    text = b"".join(unpack(io.BytesIO(file)))
    limits = some_limits(source, text)
    expected, whole = expected_records(oracle.contents_of(text), tap, limits)
    found, positions, stop = read_on(file, Position(), tap, limits)
    if found != expected:
        raise Wrong("records")
    if (stop is None) != whole:
        raise Wrong("an error too many or too few")
    for position in source.sample(positions, min(3, len(positions))):
        rest, _, same_stop = read_on(file, position, tap, limits)
        if rest != expected[position.events :]:
            raise Wrong("records after a position")
        if stop != same_stop:
            raise Wrong("another end after a position")
    return "whole" if whole else "malformed"


def unpacked_by_zlib(file: bytes) -> bytes | None:
    """The bytes as zlib unpacks them, which Python's gzip does without the header's checksum; None
    if it does not.
    """
    try:
        while file.startswith(b"\x1f\x8b"):
            rest, file = file, b""
            while rest := rest.lstrip(b"\0"):
                member = zlib.decompressobj(wbits=31)
                file += member.decompress(rest)
                if not member.eof:
                    return None
                rest = member.unused_data
    except zlib.error:
        return None
    return file


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    sys.stdout.write(f"seed {seed}, {seconds:g} s\n")
    end = time.monotonic() + seconds
    faulthandler.dump_traceback_later(seconds + STUCK, exit=True)
    tried: Counter[str] = Counter()
    while time.monotonic() < end:
        number = tried.total()
        source = random.Random(f"{seed}/{number}")
        if number % INPUTS_PER_TAP == 0:
            tap = some_tap(source)
        file = some_file(source)
        try:
            tried[try_one(source, file, tap)] += 1
        except Exception:
            shown = base64.b64encode(file).decode()
            sys.stdout.write(f"input {number} of seed {seed}, in base64: {shown}\n")
            raise
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tried.items()))
    sys.stdout.write(f"{tried.total()} inputs tried, nothing found: {kinds}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
