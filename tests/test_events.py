"""Unpacked bytes to events: what json.loads reads, in runs, with the position after each."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import repeat
from typing import Any
from zlib import crc32

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    LAYOUTS,
    Object,
    any_events,
    block_sizes,
    bundle_bytes,
    bundles,
    cut,
    damaged,
    exhaustive,
    oddly,
    strange_events,
)

from tap_fullstory.catalog import Selection
from tap_fullstory.events import EventReader, Malformed, Position, PositionLost
from tap_fullstory.records import RecordEncoder, record_frame
from tap_fullstory.spool import BLOCK_BYTES

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


# --- whole bundles ---


@exhaustive(250)
@given(bundle=bundles(times=400), sizes=block_sizes, max_events=st.sampled_from([1, 2, 3, 7, LARGE]))
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
    bundle=bundles(any_events, times=50), sizes=block_sizes, max_events=st.sampled_from([1, 3, LARGE])
)
def test_the_taps_own_parser_gives_the_same(
    bundle: bytes, sizes: list[int], max_events: int
) -> None:
    expected = oracle.mended(oracle.load(bundle))
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
    many = f"[{between.join([trap] * (2 * BLOCK_BYTES // len(between + trap)))}]".encode()
    assert read(reader(cut(many, [BLOCK_BYTES]), encoding())).values == oracle.load(many)


@pytest.mark.parametrize("blanks", [*LAYOUTS, oddly(1), oddly(2)])
def test_bundles_of_many_blocks(blanks: Any) -> None:
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
    bundle = bundle_bytes(events, blanks)
    expected = oracle.load(bundle)
    for size, max_events in ((BLOCK_BYTES, LARGE), (1021, 200), (300_000, 70)):
        reading = read(reader(cut(bundle, [size]), max_events=max_events))
        assert reading.malformed is None
        assert reading.values == expected
        assert max(map(len, reading.batches)) <= max_events


@pytest.mark.parametrize("bundle", [b"[]", b" [ ] ", b"\n[\r\n\t]\n", b"[" + b" " * 99 + b"]"])
def test_no_events(bundle: bytes) -> None:
    for size in (1, 2, LARGE):
        reading = read(reader(cut(bundle, [size])))
        assert (reading.values, reading.malformed) == ([], None)


@pytest.mark.parametrize("inside", ['"x"', '{"b":1},{"c":2}', "[1,2],[3]", '"},{"'])
def test_one_huge_event(inside: str) -> None:
    """Parsed a few times, not once for every block of it."""
    element = f'{{"a":[{",".join([inside] * 60_000)}]}}'.encode()
    parsed = 0

    def parse(run: bytes) -> Run | None:
        nonlocal parsed
        parsed += len(run)
        try:
            values = json.loads(b"[" + run + b"]")
        except ValueError:
            return None
        return Run(values, None)

    for bundle in (b"[" + element + b"]", b"[{}," + element + b",{}]"):
        parsed = 0
        reading = read(reader(cut(bundle, [BLOCK_BYTES]), parse))
        assert reading.malformed is None
        assert reading.values == json.loads(bundle)
        assert parsed < 8 * len(bundle)


def test_traps_in_every_event_cost_no_more_than_a_few_parses_each() -> None:
    event = b'{"a":"},{\\"","b":[{"c":1},{"d":"},{"}]}'
    bundle = b"[" + b",".join([event] * 6_000) + b"]"
    parsed = 0

    def parse(run: bytes) -> Run | None:
        nonlocal parsed
        parsed += len(run)
        try:
            return Run(json.loads(b"[" + run + b"]"), None)
        except ValueError:
            return None

    assert len(read(reader(cut(bundle, [BLOCK_BYTES]), parse)).values) == 6_000
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
def test_blanks_between_events_take_no_memory(around: tuple[str, str]) -> None:
    before, after = (part.encode() for part in around)

    def blocks() -> Iterator[bytes]:
        yield from filter(None, [before])
        yield from repeat(b" \n\t\r" * (BLOCK_BYTES // 4), 512)
        yield from filter(None, [after])

    events, peak = peak_of(blocks())
    assert events == 2
    assert peak < 16 * BLOCK_BYTES < 512 * BLOCK_BYTES


def test_a_large_bundle_takes_no_more_memory_than_a_small_one() -> None:
    events = b'{"PageId":1,"text":"' + b"x" * 900 + b'"},'
    block = events * 32

    def blocks(count: int) -> Iterator[bytes]:
        yield b"["
        yield from repeat(block, count)
        yield b"{}]"

    small, large = peak_of(blocks(20)), peak_of(blocks(400))
    assert (small[0], large[0]) == (20 * 32 + 1, 400 * 32 + 1)
    assert large[1] < small[1] + BLOCK_BYTES


# --- positions ---


def assert_true(position: Position, bundle: bytes, truth: oracle.Truth) -> None:
    """A position is the count and checksum of what lies before the next event."""
    assert position.crc32 == crc32(bundle[: position.bytes])
    if position.events < len(truth.events):
        assert position.bytes == truth.events[position.events].offset
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
    truth = oracle.truth(bundle)
    max_events = max(max_events, len(truth.events) // 50)
    reading = read(reader(cut(bundle, sizes), max_events=max_events))
    counted = 0
    for batch, position in zip(reading.batches, reading.positions, strict=True):
        counted += len(batch)
        assert position.events == counted
        assert_true(position, bundle, truth)
    for position in reading.positions[:: max(1, len(reading.positions) // 6)]:
        resumed = reader(cut(bundle, other_sizes), max_events=max_events)
        resumed.skip_to(position)
        rest = read(resumed)
        assert rest.malformed is None
        assert rest.values == truth.values[position.events :]
        assert all(found.events > position.events for found in rest.positions)
        for found in rest.positions:
            assert_true(found, bundle, truth)


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
            with pytest.raises(PositionLost):
                reader(cut(changed, sizes)).skip_to(position)
    # What lies behind the position is nobody's business yet.
    behind = reader(cut(bundle[: position.bytes] + b"?", sizes))
    behind.skip_to(position)


def test_the_start_is_a_position() -> None:
    whole = reader([b'[{"a":1}]'])
    whole.skip_to(Position())
    assert read(whole).values == [{"a": ("int", "1")}]


@pytest.mark.parametrize("wrong", [Position(1, 9, 0), Position(1, 10**9, 0), Position(0, 0, 7)])
def test_a_position_of_another_bundle_is_lost(wrong: Position) -> None:
    with pytest.raises(PositionLost):
        reader([b'[{"a":1},{"b":2}]']).skip_to(wrong)


# --- malformed bundles: a caret stands where the first thing is that is no event ---

DEEP = "[" * 100_000 + "]" * 100_000
DEEPER = '{"a":' * 100_000 + "1" + "}" * 100_000
MALFORMED = {
    # Something else among the events.
    "a number first": "[^5,{}]",
    "a number between": "[{},^5,{}]",
    "a number last": "[{} , \n^5]",
    "null": "[{},^null,{}]",
    "a string": '[{},^"},{",{}]',
    "an array": "[{},^[],{}]",
    "an array of events": '[{},^[{"a":1},{"b":2}],{}]',
    "true": "[{}, ^true]",
    "words": "[{}, ^events]",
    # Commas.
    "no comma": '[{},{"a":1}^{"b":2},{}]',
    "no comma but a blank": '[{},{"a":1}\n ^{"b":2},{}]',
    "no comma before a number": "[{} ^5,{}]",
    "a semicolon": "[{},{} ^;{}]",
    "two commas": '[{},{"a":1},^,{"b":2}]',
    "two commas and blanks": '[{},{"a":1} , ^, {"b":2}]',
    "a comma first": "[^,{}]",
    "a comma last": '[{},{"a":1},^]',
    "a comma and a blank last": '[{},{"a":1}, \n^]',
    "only a comma": "[^,]",
    # The array.
    "no array": '^{"a":1}',
    "nothing": "^",
    "blanks": "  \n^",
    "a byte order mark": "^\ufeff[{}]",
    "two arrays": '[{},{"a":1}^] [{"b":2}]',
    "an array after the array": '[{}^],[{"a":1},{"b":2}]',
    "an empty array after the array": "[{}^]\n[]",
    "an array after an empty one": '[^][{"a":1}]',
    "text after the array": "[{}^] and more",
    "a comma after the array": "[{}^],",
    "another bracket after the array": "[{}^]]",
    "a NUL after the array": "[{}^]\0",
    "another array's bracket": "[{}^}]",
    # What ends too early.
    "no bracket": '[{},{"a":1}^',
    "no bracket but blanks": '[{},{"a":1} \n^',
    "no bracket but a comma": '[{},{"a":1},^',
    "an event that is cut": '[{},^{"a":1',
    "an event that is cut in a string": '[{},^{"a":"x',
    "an event that is cut in an escape": '[{},^{"a":"x\\',
    "an event that is cut in an array": '[{},^{"a":[{},{"b":1}]',
    "an unclosed string": '[{},^{"a":"x},{"b":1},{"c":2}]',
    # Broken JSON.
    "a word": '[{},^{"a":b},{}]',
    "no colon": '[{},^{"a" 1},{}]',
    "no value": '[{},^{"a":},{}]',
    "a comma too many in an event": '[{},^{"a":1,},{}]',
    "a comma too few in an event": '[{},^{"a":1 "b":2},{}]',
    "a key without quotes": "[{},^{a:1},{}]",
    "single quotes": "[{},^{'a':1},{}]",
    "NaN": '[{},^{"a":NaN},{}]',
    "Infinity": '[{},^{"a":-Infinity},{}]',
    "a leading zero": '[{},^{"a":01},{}]',
    "a plus": '[{},^{"a":+1},{}]',
    "a point without digits": '[{},^{"a":1.},{}]',
    "brackets crossed": '[{},^{"a":[1}],"b":2},{}]',
    "brackets closed twice": '[{},{"a":1}^},{}]',
    "a bracket instead of a brace": '[{},^{"a":1],{}]',
    "a comment": '[{},^{"a":1/*x*/},{}]',
    "a form feed between events": "[{},^\x0c{},{}]",
    "a no-break space between events": "[{},^\xa0{}]",
    "broken before a nested event's end": '[{},^{"a":[{"b":tru},{"c":1},{"d":2}]},{}]',
    # Strings.
    "a raw line break in a string": '[{},^{"a":"x\ny"},{}]',
    "a raw tab in a key": '[{},^{"a\tb":1},{}]',
    "a NUL in a string": '[{},^{"a":"x\0y"},{}]',
    "an unknown escape": '[{},^{"a":"\\x41"},{}]',
    "a short escape": '[{},^{"a":"\\u41"},{}]',
    "an escape of no number": '[{},^{"a":"\\u00G1"},{}]',
    # Depth.
    "arrays too deep": f'[{{}},^{{"a":{DEEP}}},{{}}]',
    "objects too deep": f"[{{}},^{DEEPER},{{}}]",
    "an array too deep among the events": f"[{{}},^{DEEP},{{}}]",
}  # fmt: skip
MALFORMED_BYTES = {
    "no UTF-8 in a value": b'[{},^{"a":"\xff"},{}]',
    "no UTF-8 in a key": b'[{},^{"\xff":1},{}]',
    "no UTF-8 in a nested value": b'[{},^{"a":[{"b":"x\xc3"}]},{}]',
    "no UTF-8 in a nested key": b'[{},^{"a":{"\x80":1}},{}]',
    "half a pair in UTF-8": b'[{},^{"a":"\xed\xa0\x80"},{}]',
    "an overlong slash": b'[{},^{"a":"\xc0\xaf"},{}]',
    "beyond Unicode": b'[{},^{"a":"\xf4\x90\x80\x80"},{}]',
    "no UTF-8 between events": b"[{},^\xff{},{}]",
    "no UTF-8 after the array": b"[{}^]\xff",
    "no UTF-8 after half a pair": b'[{"a":"\\ud800"},^{"a":"\\ud800\xff"},{}]',
    "UTF-16": b"[^\0{\0}\0]\0",
    **{name: text.encode() for name, text in MALFORMED.items()},
}
# What stands before the events of the table: nothing, or more than a block.
# What stands before the events of the table: nothing, or several blocks.
LEADS = {"at once": "", "after blocks": ('{"text":"' + "},{" * 5000 + '","n":[{},{}]}, ') * 4}


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("name", MALFORMED_BYTES)
def test_what_comes_before_something_malformed_comes_out(name: str, lead: str) -> None:
    before, after = MALFORMED_BYTES[name].split(b"^", 1)
    if before.startswith(b"[{"):
        before = b"[" + LEADS[lead].encode() + before[1:]
    elif lead != "at once":
        return  # there is no event before it
    bundle, offset = before + after, len(before)
    truth = oracle.truth(bundle)
    assert not truth.whole
    expected = [oracle.mended(value) for value in truth.values]
    small = [(1, 1), (1, LARGE), (2, 2), (7, LARGE), (LARGE, 1), (LARGE, LARGE)]
    large = [(BLOCK_BYTES, LARGE), (LARGE, 1000)]
    for size, max_events in small if len(bundle) < 1000 else large:
        reading = read(reader(cut(bundle, [size]), encoding(), LARGE, max_events))
        assert reading.values == expected
        assert reading.malformed is not None
        assert reading.malformed.offset == offset
        assert_the_next_run_stops_there_too(bundle, size, max_events, reading)


def assert_the_next_run_stops_there_too(
    bundle: bytes, size: int, max_events: int, before: Reading
) -> None:
    """At the same place, bringing nothing: not twice, and not past it."""
    assert before.malformed is not None
    if before.positions:
        resumed = reader(cut(bundle, [size]), encoding(), LARGE, max_events)
        resumed.skip_to(before.positions[-1])
        after = read(resumed)
        assert after.values == []
        assert after.malformed is not None
        assert after.malformed.offset == before.malformed.offset


@exhaustive(300)
@given(
    bundle=bundles(any_events, max_events=5),
    seed=st.integers(0, 2**32),
    sizes=block_sizes,
    max_events=st.sampled_from([1, 2, LARGE]),
)
def test_a_damaged_bundle_gives_the_events_before_the_damage(
    bundle: bytes, seed: int, sizes: list[int], max_events: int
) -> None:
    bundle = damaged(bundle, random.Random(seed))
    truth = oracle.truth(bundle)
    reading = read(reader(cut(bundle, sizes), encoding(), max_events=max_events))
    assert reading.values == oracle.mended(truth.values)
    assert (reading.malformed is None) == truth.whole
    if reading.malformed is not None:
        assert reading.malformed.offset <= len(bundle)
        assert_the_next_run_stops_there_too(bundle, sizes[0], max_events, reading)


def test_what_is_malformed_is_not_quoted() -> None:
    for bundle in (
        b'[{},{"a":"alice@example.com}]',
        b'[{},{"a":"alice@example.com" 5}]',
        b'[{},{"a":"alice@example.com\xff"}]',
        b'[{},"alice@example.com"]',
        b'[{}] alice@example.com',
    ):
        malformed = read(reader([bundle], encoding())).malformed
        assert malformed is not None
        assert "alice" not in str(malformed)
        assert malformed.__cause__ is None


# --- the largest event ---


@pytest.mark.parametrize(
    ("size", "length"),
    [(1, 200), (60, 200), (LARGE, 200), (BLOCK_BYTES, 5 * BLOCK_BYTES), (LARGE, 5 * BLOCK_BYTES)],
)
def test_an_event_beyond_the_limit(size: int, length: int) -> None:
    """Exactly as large as may be is still an event; blanks between events do not count."""
    event = b'{"a":"' + b"x" * (length - 8) + b'"}'
    lead = b'[{"n":1} ,\n {"n":2},' + b" " * 300
    whole = lead + event + b" " * 300 + b', {"n":3}]'
    for bundle, limit, events in (
        (whole, length, 4),
        (whole, length - 1, 2),
        (whole[: -len(b', {"n":3}]')] + b"]", length - 1, 2),
        (lead + event[:-2], length - 3, 2),  # it does not even end
        (whole, 9, 2),
    ):
        for max_events in (1, LARGE):
            reading = read(reader(cut(bundle, [size]), encoding(), limit, max_events))
            assert len(reading.values) == events
            if events == 4:
                assert reading.malformed is None
            else:
                assert reading.malformed is not None
                assert reading.malformed.offset == len(lead)


def test_an_event_without_end_is_not_read_to_the_end() -> None:
    read_blocks = 0

    def blocks() -> Iterator[bytes]:
        nonlocal read_blocks
        yield b'[{},{"a":"'
        for block in repeat(b"x" * BLOCK_BYTES, 10_000):
            read_blocks += 1
            yield block

    reading = read(reader(blocks(), encoding(), max_event_bytes=MEGABYTE))
    assert reading.values == [{}]
    assert reading.malformed is not None
    assert reading.malformed.offset == 4
    assert read_blocks * BLOCK_BYTES < 3 * MEGABYTE
