"""Unpacked bytes to events: what json.loads reads, in chunks, with the position after each."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from itertools import repeat
from typing import Any
from unittest import mock
from zlib import crc32

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import LARGE, Values, encoding, parse_with_json, read, reader
from strategies import (
    LAYOUTS,
    Object,
    any_events,
    block_sizes,
    bundle_bytes,
    bundles,
    cut,
    exhaustive,
    oddly,
    strange_events,
)

from tap_fullstory.exports.bundle import CHUNK_BYTES
from tap_fullstory.records import json_text, native
from tap_fullstory.records.reader import ChecksumMismatch, Position

outside_strings = json_text._outside_strings

# --- whole bundles ---


@exhaustive(250)
@given(
    bundle=bundles(times=400), sizes=block_sizes, max_events=st.sampled_from([1, 2, 3, 7, LARGE])
)
def test_any_blocks_and_any_layout_give_what_json_loads_gives(
    bundle: bytes, sizes: list[int], max_events: int
) -> None:
    expected = oracle.load(bundle)
    max_events = max(max_events, len(expected) // 50)
    reading = read(reader(cut(bundle, sizes), max_events=max_events))
    assert reading.malformed is None
    assert reading.values == expected
    assert all(len(batch) <= max_events for batch in reading.batches)


@exhaustive(150)
@given(
    bundle=bundles(any_events, times=50),
    sizes=block_sizes,
    max_events=st.sampled_from([1, 3, LARGE]),
)
def test_the_taps_own_parser_gives_the_same(
    bundle: bytes, sizes: list[int], max_events: int
) -> None:
    expected = oracle.repaired(oracle.load(bundle))
    max_events = max(max_events, len(expected) // 50)
    reading = read(reader(cut(bundle, sizes), encoding(), max_events=max_events))
    assert reading.malformed is None
    assert reading.values == expected


# Events that look like the end of others.
TRAPS = [
    r'{"a":"},{\""}',
    r'{"a":"},{"}',
    r'{"a":"\\"},{"b":"\\\""}',
    r'{"a":"},{\\"}',
    r'{"a":[{"b":1},{"c":2},{"d":[{"e":3},{"f":4}]}]}',
    r'{"a":[{"b":1} , {"c":2}],"d":{"e":{},"f":[]}}',
    r'{"}":"{","{":"}","[":"]","]":"["}',
    r'{"a":"]}","b":"[{"}',
    r'{}',
    r'{"a":{}}',
    r'{"a":"}]"}',
    r'{"a":"\"},{\"b\":\"c"}',
    r'{"a":1,"a":2}',
    r'{"":""}',
]  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("between", [",", ", ", ",\n", "\n,\n  ", " \r\n, "])
def test_what_looks_like_an_events_end(trap: str, between: str) -> None:
    """At every place relative to the blocks, and alone in a bundle of many blocks."""
    bundle = f"[{between.join([trap, '{}', trap, trap])}]".encode()
    expected = oracle.load(bundle)
    for size in range(1, len(bundle) + 1):
        assert read(reader(cut(bundle, [size]))).values == expected
    many = f"[{between.join([trap] * (2 * CHUNK_BYTES // len(between + trap)))}]".encode()
    assert read(reader(cut(many, [CHUNK_BYTES]), encoding())).values == oracle.load(many)


@pytest.mark.parametrize("layout", [*LAYOUTS, oddly(1), oddly(2)])
def test_bundles_of_many_blocks(layout: Any) -> None:
    source = random.Random(5)
    events = [
        Object(
            (
                ('"n"', str(n)),
                ('"text"', json.dumps("},{" * source.randrange(40))),
                ('"nested"', "[" + ",".join(['{"a":1},{"b":[]}'] * source.randrange(9)) + "]"),
            )[: source.choice([0, 1, 2, 3])]
        )
        for n in range(2500)
    ]
    bundle = bundle_bytes(events, layout)
    expected = oracle.load(bundle)
    for size, max_events in ((CHUNK_BYTES, LARGE), (1021, 200), (300_000, 70)):
        reading = read(reader(cut(bundle, [size]), max_events=max_events))
        assert reading.malformed is None
        assert reading.values == expected
        assert max(map(len, reading.batches)) <= max_events


@pytest.mark.parametrize("bundle", [b"[]", b" [ ] ", b"\n[\r\n\t]\n", b"[" + b" " * 99 + b"]"])
def test_no_events(bundle: bytes) -> None:
    for size in (1, 2, LARGE):
        reading = read(reader(cut(bundle, [size])))
        assert (reading.values, reading.malformed) == ([], None)


@pytest.mark.parametrize("bundle", [b"[]", b"[{}]", b"[{},{}]\n", b'[{"a":[]}\n]'])
def test_a_reader_at_its_end_brings_nothing_more(bundle: bytes) -> None:
    exhausted = reader([bundle])
    assert read(exhausted).values == oracle.load(bundle)
    after = read(exhausted)
    assert (after.values, after.malformed) == ([], None)


@pytest.mark.parametrize("inside", ['"x"', '{"b":1},{"c":2}', "[1,2],[3]", '"},{"'])
@pytest.mark.usefixtures("either_encoder")
def test_one_huge_event(inside: str) -> None:
    """Parsed a few times, not once for every block of it."""
    element = f'{{"a":[{",".join([inside] * 10_000)}]}}'.encode()
    parsed = 0

    def parse(chunk: bytes, max_events: int) -> Iterator[Values]:
        nonlocal parsed
        parsed += len(chunk)
        yield from parse_with_json(chunk, max_events)

    for bundle in (b"[" + element + b"]", b"[{}," + element + b",{}]"):
        parsed = 0
        with (
            mock.patch.object(native, "object_end", wraps=native.object_end) as find_end,
            mock.patch.object(json_text, "_outside_strings", wraps=outside_strings) as scan,
        ):
            reading = read(reader(cut(bundle, [4096]), parse))
        assert reading.malformed is None
        assert reading.values == oracle.load(bundle)
        assert parsed < 8 * len(bundle)
        # Twice as far each time.
        assert find_end.call_count < 10 + 2 * (len(bundle) // 4096).bit_length()
        assert sum(len(call.args[0]) for call in scan.mock_calls) < 2.5 * len(bundle)


def test_traps_in_every_event_cost_no_more_than_a_few_parses_each() -> None:
    event = b'{"a":"},{\\"","b":[{"c":1},{"d":"},{"}]}'
    bundle = b"[" + b",".join([event] * 6_000) + b"]"
    parsed = 0

    def parse(chunk: bytes, max_events: int) -> Iterator[Values]:
        nonlocal parsed
        parsed += len(chunk)
        yield from parse_with_json(chunk, max_events)

    assert len(read(reader(cut(bundle, [CHUNK_BYTES]), parse)).values) == 6_000
    assert parsed < 8 * len(bundle)


# --- memory ---


def peak_of(blocks: Iterator[bytes], **limits: int) -> tuple[int, int]:
    """The events read, and the most bytes allocated meanwhile."""
    events = 0
    tracemalloc.start()
    try:
        for batch, _ in reader(blocks, encoding(), **limits):
            events += batch.events
        return events, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "around",
    [
        ("", '[{"a":1},{"b":2}]'),
        ("[", '{"a":1},{"b":2}]'),
        ('[{"a":1}', ',{"b":2}]'),
        ('[{"a":1},', '{"b":2}]'),
        ('[{"a":1},{"b":2}', "]"),
        ('[{"a":1},{"b":2}]', ""),
    ],
)
def test_whitespace_between_events_takes_no_memory(around: tuple[str, str]) -> None:
    before, after = (part.encode() for part in around)

    def blocks() -> Iterator[bytes]:
        yield from filter(None, [before])
        yield from repeat(b" \n\t\r" * (CHUNK_BYTES // 4), 512)
        yield from filter(None, [after])

    events, peak = peak_of(blocks())
    assert events == 2
    assert peak < 16 * CHUNK_BYTES < 512 * CHUNK_BYTES


def test_a_large_bundle_takes_no_more_memory_than_a_small_one() -> None:
    events = b'{"PageId":1,"text":"' + b"x" * 900 + b'"},'
    block = events * 32

    def blocks(count: int) -> Iterator[bytes]:
        yield b"["
        yield from repeat(block, count)
        yield b"{}]"

    small, large = peak_of(blocks(20)), peak_of(blocks(400))
    assert (small[0], large[0]) == (20 * 32 + 1, 400 * 32 + 1)
    assert large[1] < small[1] + CHUNK_BYTES


# --- positions ---


def assert_position_is_right(position: Position, bundle: bytes, contents: oracle.Contents) -> None:
    """A position is the count and checksum of what is before the next event."""
    assert position.crc32 == crc32(bundle[: position.bytes])
    if position.events < len(contents.events):
        assert position.bytes == contents.events[position.events].offset
    else:
        assert bundle[position.bytes :].strip() == b"]"


@exhaustive(150)
@given(
    bundle=bundles(max_events=8, times=100),
    sizes=block_sizes,
    other_sizes=block_sizes,
    max_events=st.sampled_from([1, 1, 2, 3, 50, LARGE]),
)
def test_every_position_is_true_and_leads_to_exactly_the_rest(
    bundle: bytes, sizes: list[int], other_sizes: list[int], max_events: int
) -> None:
    contents = oracle.contents_of(bundle)
    max_events = max(max_events, len(contents.events) // 50)
    reading = read(reader(cut(bundle, sizes), max_events=max_events))
    counted = 0
    for batch, position in zip(reading.batches, reading.positions, strict=True):
        counted += len(batch)
        assert position.events == counted
        assert_position_is_right(position, bundle, contents)
    for position in reading.positions[:: max(1, len(reading.positions) // 6)]:
        resumed = reader(cut(bundle, other_sizes), max_events=max_events)
        resumed.skip_to(position)
        rest = read(resumed)
        assert rest.malformed is None
        assert rest.values == contents.values[position.events :]
        assert all(found.events > position.events for found in rest.positions)
        for found in rest.positions:
            assert_position_is_right(found, bundle, contents)


@exhaustive(150)
@given(
    bundle=bundles(strange_events, max_events=5).filter(lambda bundle: b"}" in bundle),
    sizes=block_sizes,
    data=st.data(),
)
def test_a_change_before_a_position_is_noticed(
    bundle: bytes, sizes: list[int], data: st.DataObject
) -> None:
    positions = read(reader(cut(bundle, sizes), max_events=2)).positions
    position = data.draw(st.sampled_from(positions))
    at = data.draw(st.integers(0, position.bytes - 1))
    flipped = bundle[at] ^ data.draw(st.integers(1, 255))
    for changed in (
        bundle[:at] + bytes([flipped]) + bundle[at + 1 :],
        bundle[:at] + b" " + bundle[at:],
        bundle[: position.bytes - 1],
        b"",
    ):
        if changed[: position.bytes] != bundle[: position.bytes]:
            with pytest.raises(ChecksumMismatch):
                reader(cut(changed, sizes)).skip_to(position)
    # What is after the position has not been looked at yet.
    behind = reader(cut(bundle[: position.bytes] + b"?", sizes))
    behind.skip_to(position)


def test_the_start_is_a_position() -> None:
    whole = reader([b'[{"a":1}]'])
    whole.skip_to(Position())
    assert read(whole).values == [{"a": ("int", "1")}]


PAIR = b'[{"a":1},{"b":2}]'


@pytest.mark.parametrize(
    "wrong",
    [Position(1, 9, 0), Position(1, 10**9, 0), Position(1, 10**9, crc32(PAIR)), Position(0, 0, 7)],
)
def test_a_position_of_another_bundle_is_lost(wrong: Position) -> None:
    with pytest.raises(ChecksumMismatch):
        reader([PAIR]).skip_to(wrong)
