"""Bundles with something in them that is not an event: all before it is written, once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import repeat

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import LARGE, MEGABYTE, Reading, encoding, read, reader
from strategies import any_events, block_sizes, bundles, cut, damaged, exhaustive

from tap_fullstory.exports.bundle import CHUNK_BYTES
from tap_fullstory.records.json_text import MAX_DEPTH

# --- malformed bundles: a caret marks the first thing that is not an event ---

DEEP = "[" * 100_000 + "]" * 100_000
DEEPER = '{"a":' * 20_000 + "1" + "}" * 20_000
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
    "no comma but whitespace": '[{},{"a":1}\n ^{"b":2},{}]',
    "no comma before a number": "[{} ^5,{}]",
    "a semicolon": "[{},{} ^;{}]",
    "two commas": '[{},{"a":1},^,{"b":2}]',
    "two commas and whitespace": '[{},{"a":1} , ^, {"b":2}]',
    "a comma first": "[^,{}]",
    "a comma last": '[{},{"a":1},^]',
    "a comma and whitespace last": '[{},{"a":1}, \n^]',
    "only a comma": "[^,]",
    # The array.
    "no array": '^{"a":1}',
    "nothing": "^",
    "whitespace": "  \n^",
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
    "no bracket but whitespace": '[{},{"a":1} \n^',
    "no bracket but a comma": '[{},{"a":1},^',
    "an event that is cut": '[{},^{"a":1',
    "an event that is cut in a string": '[{},^{"a":"x',
    "an event that is cut in an escape": '[{},^{"a":"x\\',
    "an event that is cut in an array": '[{},^{"a":[{},{"b":1}]',
    "an unclosed string": '[{},^{"a":"x},{"b":1},{"c":2}]',
    # Broken JSON.
    "a word": '[{},^{"a":b},{}]',
    "a comma too few in an event": '[{},^{"a":1 "b":2},{}]',
    "brackets crossed": '[{},^{"a":[1}],"b":2},{}]',
    "brackets closed twice": '[{},{"a":1}^},{}]',
    "a bracket instead of a brace": '[{},^{"a":1],{}]',
    "a comment": '[{},^{"a":1/*x*/},{}]',
    "a form feed between events": "[{},^\x0c{},{}]",
    "a no-break space between events": "[{},^\xa0{}]",
    "broken before a nested event's end": '[{},^{"a":[{"b":tru},{"c":1},{"d":2}]},{}]',
    # Strings.
    "a raw line break in a string": '[{},^{"a":"x\ny"},{}]',
    "a NUL in a string": '[{},^{"a":"x\0y"},{}]',
    "an unknown escape": '[{},^{"a":"\\x41"},{}]',
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
    "a lone surrogate in UTF-8": b'[{},^{"a":"\xed\xa0\x80"},{}]',
    "no UTF-8 between events": b"[{},^\xff{},{}]",
    "no UTF-8 after the array": b"[{}^]\xff",
    "no UTF-8 after a lone surrogate": b'[{"a":"\\ud800"},^{"a":"\\ud800\xff"},{}]',
    "UTF-16": b"[^\0{\0}\0]\0",
    **{name: text.encode() for name, text in MALFORMED.items()},
}
# What is before the first event of the table and instead of the last: the same, an event where
# the reader finds an end at once, one where it is mistaken about that, and all that after blocks.
NESTED = '{"z":[{"y":1},{"y":2}]}'
PLACES = {
    "as it is": ("", "{}"),
    "in a run": ('{"n":1},', '{"z":1}'),
    "in no run": ('{"n":1},', NESTED),
    "after blocks": (('{"text":"' + "},{" * 5000 + '","n":[{},{}]}, ') * 4, NESTED),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", MALFORMED_BYTES)
def test_what_comes_before_something_malformed_comes_out(name: str, place: str) -> None:
    before, after = MALFORMED_BYTES[name].split(b"^", 1)
    first, last = (part.encode() for part in PLACES[place])
    if before.startswith(b"[{"):
        before = b"[" + first + before[1:]
    if after.endswith(b",{}]"):
        after = after[: -len(b"{}]")] + last + b"]"
    bundle, offset = before + after, len(before)
    contents = oracle.contents_of(bundle)
    assert not contents.whole
    expected = [oracle.repaired(value) for value in contents.values]
    small = [(1, 1), (1, LARGE), (2, 2), (7, LARGE), (LARGE, 1), (LARGE, LARGE)]
    large = [(CHUNK_BYTES, LARGE), (LARGE, 1000)]
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


@exhaustive(400)
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
    contents = oracle.contents_of(bundle)
    reading = read(reader(cut(bundle, sizes), encoding(), max_events=max_events))
    assert reading.values == oracle.repaired(contents.values)
    assert (reading.malformed is None) == contents.whole
    if reading.malformed is not None:
        assert reading.malformed.offset <= len(bundle)
        assert_the_next_run_stops_there_too(bundle, sizes[0], max_events, reading)


def test_what_is_malformed_is_not_quoted() -> None:
    for bundle in (
        b'[{},{"a":"alice@example.com}]',
        b'[{},{"a":"alice@example.com" 5}]',
        b'[{},{"a":"alice@example.com\xff"}]',
        b'[{},"alice@example.com"]',
        b"[{}] alice@example.com",
    ):
        malformed = read(reader([bundle], encoding())).malformed
        assert malformed is not None
        assert "alice" not in str(malformed)
        assert malformed.__cause__ is None


# --- the largest event ---


@pytest.mark.parametrize(
    ("size", "length"),
    [(1, 200), (60, 200), (LARGE, 200), (CHUNK_BYTES, 5 * CHUNK_BYTES), (LARGE, 5 * CHUNK_BYTES)],
)
def test_an_event_beyond_the_limit(size: int, length: int) -> None:
    """Exactly as large as may be is still an event; whitespace between events does not count."""
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
        for block in repeat(b"x" * CHUNK_BYTES, 10_000):
            read_blocks += 1
            yield block

    reading = read(reader(blocks(), encoding(), max_event_bytes=MEGABYTE))
    assert reading.values == [{}]
    assert reading.malformed is not None
    assert reading.malformed.offset == 4
    assert read_blocks * CHUNK_BYTES < 3 * MEGABYTE


# --- limits, by either encoder ---


@pytest.mark.usefixtures("either_encoder")
@pytest.mark.parametrize("key", ["EventType", "evt_a"])
def test_an_event_nested_deeper_than_the_limit_is_reported(key: str) -> None:
    def event(levels: int) -> str:
        inner = levels - 1
        return f'{{"{key}":{"[" * inner}{"]" * inner}}}'

    for most in (1, LARGE):
        fits = reader([f"[{{}},{event(MAX_DEPTH)},{{}}]".encode()], encoding(), max_events=most)
        assert len(read(fits).values) == 3
        for after in (",{}", ""):
            bundle = f"[{{}},{event(MAX_DEPTH + 1)}{after}]".encode()
            reading = read(reader([bundle], encoding(), max_events=most))
            assert reading.values == [{}]
            assert reading.malformed is not None
            assert str(reading.malformed) == "holds an event nested deeper than 500 levels"
            assert reading.malformed.offset == 4
