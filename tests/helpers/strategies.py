"""Hypothesis strategies for bundles, in all the ways in which JSON lets somebody write them.

JSON is made as text and not from Python values, since one value has many spellings: escapes,
layout, keys twice, numbers with an exponent. What a text means is for oracle.py to say.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle

from date_times import DATE_TIMES, NO_DATE_TIMES, NOT_STORABLE
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tap_fullstory.columns import ValueType


def exhaustive(examples: int) -> settings:
    """As many examples as it takes to find what was once planted; `make check` tries a quarter."""
    assert settings.default
    return settings(
        max_examples=examples * settings.default.max_examples // 100,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# --- JSON as text ---


@dataclass(frozen=True)
class Array:
    items: tuple[Json, ...]


@dataclass(frozen=True)
class Object:
    members: tuple[tuple[str, Json], ...]
    """Keys are JSON strings, quotes and all; one may occur twice."""


Json = str | Array | Object
# Gives the whitespace at a place ("before" or "after" an element, or a ":"; "end" before a closing
# bracket) at a depth.
Layout = Callable[[str, int], str]


def write(json: Json, layout: Layout, depth: int = 0) -> str:
    """`json` as text."""
    if isinstance(json, str):
        return json
    if isinstance(json, Array):
        opening, closing = "[]"
        elements = [write(item, layout, depth + 1) for item in json.items]
    else:
        opening, closing = "{}"
        elements = [
            f"{key}{layout('after key', depth)}:{layout('before value', depth)}"
            f"{write(value, layout, depth + 1)}"
            for key, value in json.members
        ]
    parted = ",".join(
        layout("before", depth + 1) + element + layout("after", depth + 1) for element in elements
    )
    return opening + parted + layout("end", depth) + closing


def one_line(place: str, depth: int) -> str:
    return ""


def spaced(place: str, depth: int) -> str:
    return " " if place in ("before", "before value") else ""


def a_line_each(place: str, depth: int) -> str:
    return "\n" if (place, depth) in (("before", 1), ("end", 0)) else ""


def indented(place: str, depth: int) -> str:
    if place in ("before", "end"):
        return "\n" + "  " * depth
    return " " if place == "before value" else ""


def oddly(seed: int) -> Layout:
    source = random.Random(seed)
    choices = ["", "", "", " ", "\n", "\t", "\r\n", "\r", " \n\t\r ", "\n" * 50]
    return lambda place, depth: source.choice(choices)


LAYOUTS: list[Layout] = [one_line, spaced, a_line_each, indented]
layouts = st.sampled_from(LAYOUTS) | st.integers(0, 2**32).map(oddly)

# Pieces of strings, as they are written between quotes. Several look like the end of an event, or
# like an escape that they are not.
PIECES = [
    *["a", "Save", "é", "💥", "\u2028", "\x7f", "\ufffd", " ", "0", "user_", "'"],
    *['},{\\"', "},{", "}, {", "}]", "[{", "{", "}", "[", "]", ",", ":", "},\\n{", "\\\\"],
    *['\\"', "\\/", "/", "\\b\\f\\n\\r\\t", "\\u0041", "\\u00e9", "\\u0000", "\\u000A", "\\\\\\\\"],
    *[
        "\\ud83d\\ude00",
        "\\uD83D\\uDE00",
        "\\uDbFf\\udFfF",
        "\\\\ud800",
        "\\\\\\\\ud800",
        "\\uffff",
    ],
]
# FullStory cuts long texts, and pairs with them.
LONE_PIECES = ["\\ud800", "\\uDBFF", "\\udc00", "\\udfff", "\\ud83d", "\\\\\\ud83d"]
NUMBERS = [
    *["0", "1", "-0", "-1", "12", "007"[2:], "1920", "-7", "9007199254740993"],
    *["18446744073709551616", "-9223372036854775809", "123456789012345678901234567890", "9" * 400],
    *["1.0", "-0.0", "0.0", "1.5", "1.10", "1E5", "1e3", "1e+3", "1e-3", "100e-2", "12.3400E2"],
    *["1e400", "-1e400", "1e999999999", "1e-999999999", "0e999999999", "1e99999999999999999999"],
    *["1e4299", "1e4300", "0.1e1", "-2.50e1", "3.14159265358979323846264338327950288"],
]


def quoted(text: str) -> str:
    return f'"{text}"'


def _strings(pieces: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=5).map("".join).map(quoted)


strings = _strings(PIECES)
date_time_strings = st.sampled_from(
    [quoted(text.replace("\n", "\\n")) for text in [*DATE_TIMES, *NO_DATE_TIMES, *NOT_STORABLE]]
)
numbers = st.sampled_from(NUMBERS) | st.integers().map(str)
literals = st.sampled_from(["true", "false", "null"])


def some_json(source: random.Random, pieces: list[str], depth: int = 0) -> Json:
    """Any JSON value, of strings made of `pieces`; an array or object more often than not."""

    def string() -> str:
        return quoted("".join(source.choices(pieces, k=source.randrange(4))))

    kind = source.choice(["string", "number", "literal", "date-time", *["array", "object"] * 2])
    if kind == "string" or depth > 3:
        return string()
    if kind == "number":
        return source.choice(NUMBERS)
    if kind == "literal":
        return source.choice(["true", "false", "null"])
    if kind == "date-time":
        return quoted(source.choice(DATE_TIMES))
    values = [some_json(source, pieces, depth + 1) for _ in range(source.randrange(4))]
    if kind == "array":
        return Array(tuple(values))
    return Object(tuple((string(), value) for value in values))


def any_json(pieces: list[str] = PIECES) -> st.SearchStrategy[Json]:
    """Any JSON value. Made from a seed: Hypothesis would take most of a test's time to nest it."""
    return st.integers(0, 2**32).map(lambda seed: some_json(random.Random(seed), pieces))


# --- events ---

# Columns of every type that a catalog may give, some with characters in their names that real keys
# lack.
COLUMNS: dict[str, ValueType] = {
    "PageId": ValueType(frozenset({"null", "integer"})),
    "EventTargetText": ValueType(frozenset({"null", "string"})),
    "EventStart": ValueType(frozenset({"null", "string"}), date_time=True),
    "PageStart": ValueType(frozenset({"null", "string"}), date_time=True),
    "Ratio": ValueType(frozenset({"null", "number"})),
    "Flag": ValueType(frozenset({"null", "boolean"})),
    "Nested": ValueType(frozenset({"null", "object"})),
    "Anything": ValueType(frozenset()),
    "Always": ValueType(frozenset({"integer"})),
    "AlwaysThen": ValueType(frozenset({"string"}), date_time=True),
    "Mixed": ValueType(frozenset({"null", "string", "integer"})),
    "naïve 💥": ValueType(frozenset({"null", "string"})),
    'quo"ted\\': ValueType(frozenset({"null", "string"})),
    "user_plan_str": ValueType(frozenset({"null", "string"})),
    "evt_items_int": ValueType(frozenset({"null", "integer"})),
    "evt_at_dates": ValueType(
        frozenset({"null", "array"}), items=ValueType(frozenset({"null", "string"}), date_time=True)
    ),
    "evt_n_ints": ValueType(frozenset({"null", "array"}), items=ValueType(frozenset({"integer"}))),
    "evt_n_reals": ValueType(
        frozenset({"null", "array"}), items=ValueType(frozenset({"null", "number"}))
    ),
}
UNKNOWN = [
    "evt_new_str",
    "page_x_real",
    "Tomorrow",
    "CustomVars",
    "EventDigest",
    "",
    "type",
    "record",
    "EventType",
]
# Of which some tests leave events out.
EVENT_TYPES = st.sampled_from(['"a"', r'"\u0061"', '"b"', '"c"', '""', "null", "5", '["a"]'])


def as_json(key: str, seed: int) -> str:
    """`key` as a JSON string; with an odd seed, some of its characters as escapes."""
    source = random.Random(seed)
    escapes = 0.2 * (seed % 2)

    def piece(character: str) -> str:
        units = character.encode("utf-16-be").hex()
        if character in '"\\' or source.random() < escapes:
            return "".join("\\u" + units[at : at + 4] for at in range(0, len(units), 4))
        return character

    return quoted("".join(map(piece, key)))


plain_keys = st.sampled_from([*COLUMNS, *UNKNOWN]).map(lambda key: as_json(key, 0))
arrays = st.lists(date_time_strings | numbers | literals, max_size=3).map(
    lambda items: Array(tuple(items))
)
anything = any_json(PIECES + LONE_PIECES * 3) | date_time_strings | numbers | literals | arrays


def _fitting(column: ValueType) -> st.SearchStrategy[Json]:
    """Values that fit `column`, each of its types alike; null is not among them."""
    fits: list[st.SearchStrategy[Json]] = []
    if column.date_time:
        fits.append(st.sampled_from(DATE_TIMES).map(quoted))
    elif "string" in column.names:
        fits.append(strings)
    if column.names & {"integer", "number"}:
        fits.append(st.integers().map(str))
    if "boolean" in column.names:
        fits.append(st.sampled_from(["true", "false"]))
    if "array" in column.names and column.items is not None:
        fits.append(
            st.lists(_fitting(column.items), max_size=3).map(lambda items: Array(tuple(items)))
        )
    if "object" in column.names:
        fits.append(any_json().map(lambda value: Object((('"deep"', value),))))
    return st.one_of(*fits) if fits else any_json()


def _mismatching(column: ValueType) -> st.SearchStrategy[Json]:
    """Values that miss `column` by little, and some that do not miss it."""
    if column.date_time:
        return date_time_strings | literals
    if column.names & {"integer", "number"}:
        return numbers | literals
    return arrays if "array" in column.names else anything


def _members(
    values: Callable[[ValueType], st.SearchStrategy[Json]],
) -> st.SearchStrategy[tuple[str, Json]]:
    return st.one_of(
        [
            st.tuples(
                st.integers(0, 20).map(partial(as_json, name)),
                EVENT_TYPES
                if name == "EventType"
                else values(COLUMNS.get(name, ValueType(frozenset()))),
            )
            for name in [*COLUMNS, *UNKNOWN]
        ]
    )


_good_members = st.lists(_members(_fitting), max_size=5)
good_events = _good_members.map(lambda members: Object(tuple(members)))
# One value that the C extension may hand to the reference encoder.
nearly_good_events = st.tuples(_good_members, _members(_mismatching)).map(
    lambda parts: Object((*parts[0], parts[1]))
)
# Keys twice, values that fit no column, lone surrogates.
any_events = st.lists(_members(_fitting) | _members(lambda _: anything), max_size=6).map(
    lambda members: Object(tuple(members))
)
# Nothing in these looks like a column: for what only cuts events out.
strange_events = st.lists(
    st.tuples(strings | plain_keys, any_json(PIECES + LONE_PIECES * 3)), max_size=4
).map(lambda members: Object(tuple(members)))


# --- bundles ---


def bundle_bytes(events: list[Object], layout: Layout) -> bytes:
    """A whole bundle: the array of `events`, with the layout's whitespace around it."""
    whole = layout("around", 0) + write(Array(tuple(events)), layout) + layout("around", 0)
    return whole.encode()


def bundles(
    events: st.SearchStrategy[Object] = strange_events, max_events: int = 12, times: int = 1
) -> st.SearchStrategy[bytes]:
    """Bundles of one layout each; every tenth has its events `times` times."""
    return st.builds(
        lambda some, often, layout: bundle_bytes(some * often, layout),
        st.lists(events, max_size=max_events),
        st.sampled_from([*[1] * 9, times]),
        layouts,
    )


# Sizes of blocks, taken in turn.
block_sizes = st.lists(st.integers(1, 60), min_size=1, max_size=4) | st.lists(
    st.sampled_from([1000, 4096, 32 * 1024, 10**9]), min_size=1, max_size=2
)


def cut(text: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`text` in blocks of `sizes`, taken in turn."""
    at = 0
    for size in cycle(sizes):
        if at >= len(text):
            return
        yield text[at : at + size]
        at += size


def gzipped(text: bytes, parts: int = 1, **how: int) -> bytes:
    """`text` in `parts` gzip members of about the same size."""
    size = max(1, -(-len(text) // parts))
    pieces = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
    return b"".join(gzip.compress(piece, mtime=0, **how) for piece in pieces)


# Bytes to put into a bundle by force.
SHARDS = [
    *[b",", b"{", b"}", b"[", b"]", b'"', b":", b"\\", b" ", b"\n", b"\r", b"\0", b"\x1f", b"\xff"],
    *[
        b"},{",
        b'},{"',
        b"]}",
        b"[]",
        b"{}",
        b"null",
        b"NaN",
        b"-",
        b"1.",
        b"01",
        b"1e",
        b"0x1",
        b"'",
    ],
    *[
        b"\\ud800",
        b"\\u12",
        b"\\x",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"//",
        b"\x0c",
        b"Infinity",
    ],
    *[b'"CustomVars":', b'"a":1', b"[" * 20, b"{" * 20, b"]" * 20, b"\\" * 3],
]


def damaged(text: bytes, source: random.Random) -> bytes:
    """`text` with one to three places changed; it may mean the same, or nothing at all."""
    for _ in range(source.choice([1, 1, 1, 2, 3])):
        at = source.randrange(len(text) + 1)
        to = min(len(text), at + source.choice([0, 0, 1, 1, 2, 5, 40]))
        shard = source.choice([b"", source.choice(SHARDS), text[at:to] * 2, source.randbytes(1)])
        text = text[:at] + shard + text[to:]
    return text
