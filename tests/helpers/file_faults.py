"""What can be wrong with a bundle's file: the tables of what the tap refuses, and in what words."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass

from faults import TEXT, array, in_members, packed


@dataclass(frozen=True)
class FileFault:
    """A bundle's file that cannot be read to its end.

    `spoil` makes it of the events' own lines. `whole` is how many events are before what is wrong;
    None where the proof of completeness sees it, and not one of them may go out. `words` are what
    the CRITICAL line says is wrong. `repairable` says whether a good file can begin with the same
    bytes, those between the last good event and what is wrong included.
    """

    name: str
    spoil: Callable[[list[bytes]], bytes]
    words: str
    whole: int | None = None
    repairable: bool = True


def wrapped(data: bytes, times: int) -> bytes:
    """Gzipped, gzipped again, and so on."""
    for _ in range(times):
        data = gzip.compress(data, 0, mtime=0)
    return data


def flipped(data: bytes, at: int) -> bytes:
    """With one bit of a byte wrong."""
    wrong = bytearray(data)
    wrong[at] ^= 0x10
    return bytes(wrong)


def instead(text: bytes) -> Callable[[list[bytes]], bytes]:
    """The array with `text` in the place of one event: that after the first GOOD."""
    return lambda items: packed([*items[:GOOD], text, *items[GOOD + 1 :]])


FILE_EVENTS = 150
GOOD = 90
_NOT_EVENT = "holds an element that is not an event object"

UNPROVEN = [
    FileFault("bit-flip", lambda items: flipped(packed(items), 2000), "damaged gzip member"),
    FileFault("checksum", lambda items: flipped(packed(items), -7), "damaged gzip member"),
    FileFault("length-field", lambda items: flipped(packed(items), -2), "damaged gzip member"),
    FileFault("no-trailer", lambda items: packed(items)[:-8], "cut inside a gzip member"),
    FileFault("half-trailer", lambda items: packed(items)[:-3], "cut inside a gzip member"),
    FileFault("cut", lambda items: packed(items)[:2000], "cut inside a gzip member"),
    FileFault("only-magic", lambda items: packed(items)[:2], "cut inside a gzip member"),
    FileFault("member-cut", lambda items: in_members(items)[:-50], "cut inside a gzip member"),
    FileFault(
        "member-missing",
        lambda items: gzip.compress(array(items)[:-2000]),
        "is truncated or has data after",
    ),
    FileFault(
        "garbage-behind", lambda items: packed(items) + TEXT.encode(), "trailing data that is not"
    ),
    FileFault("plain-cut", lambda items: array(items)[:-1], "is truncated or has data after"),
    FileFault("not-closed", lambda items: gzip.compress(array(items)[:-1]), "is truncated"),
    FileFault("text-behind", lambda items: gzip.compress(array(items) + TEXT.encode()), "data"),
    FileFault("five-levels", lambda items: wrapped(array(items), 5), "more than 4 levels deep"),
    FileFault("1200-levels", lambda items: wrapped(array(items[:1]), 1200), "gzip inside gzip"),
]  # fmt: skip

# Complete, and not what was requested: tried for as long as any failure of a server.
NOT_BUNDLES = [
    FileFault("empty", lambda items: b"", "is empty"),
    FileFault("empty-gzip", lambda items: gzip.compress(b""), "is empty"),
    FileFault("whitespace", lambda items: b" \n\t", "is not a JSON array"),
    FileFault("object", lambda items: items[0], "is a JSON object, not a JSON array"),
    FileFault("page", lambda items: f"<p>{TEXT}</p>".encode(), "is a web page, not a JSON array"),
    FileFault("text", lambda items: TEXT.encode(), "is not a JSON array"),
]

MALFORMED = [
    FileFault("number", instead(b"17"), _NOT_EVENT, GOOD),
    FileFault("null", instead(b"null"), _NOT_EVENT, GOOD),
    FileFault("text", instead(f'"{TEXT}"'.encode()), _NOT_EVENT, GOOD),
    FileFault("array", instead(b'[{"EventType":"click"}]'), _NOT_EVENT, GOOD),
    FileFault("first", lambda items: packed([b"null", *items]), _NOT_EVENT, 0),
    FileFault("last", lambda items: packed([*items, b"null"]), _NOT_EVENT, FILE_EVENTS, False),
    FileFault(
        "broken", instead(f'{{"EventTargetText":"{TEXT}","PageUrl":}}'.encode()), "broken", GOOD
    ),
    FileFault("no-colon", instead(f'{{"EventTargetText" "{TEXT}"}}'.encode()), "broken", GOOD),
    FileFault("quote-missing", instead(f'{{"EventType":"{TEXT}}}'.encode()), "", GOOD),
    FileFault("brace-missing", instead(f'{{"EventType":"{TEXT}"'.encode()), "", GOOD),
    FileFault(
        "brace-too-many",
        lambda items: packed([*items[:GOOD], items[GOOD] + b"}", *items[GOOD + 1 :]]),
        "no comma after",
        GOOD + 1,
    ),
    FileFault(
        "no-utf-8", instead(f'{{"EventTargetText":"{TEXT} '.encode() + b'\xff\xfe"}'), "UTF-8", GOOD
    ),
    FileFault(
        "no-utf-8-in-an-unknown-key", instead(b'{"evt_x_str":"\xff","evt_y":1}'), "UTF-8", GOOD
    ),
    FileFault("too-deep", instead(b'{"evt_x":' + b"[" * 99_999 + b"]" * 99_999 + b"}"), "", GOOD),
    FileFault("two-commas", instead(b""), _NOT_EVENT, GOOD),
    FileFault(
        "no-comma",
        lambda items: packed([*items[:GOOD], b" ".join(items[GOOD:])]),
        "no comma after",
        GOOD + 1,
        repairable=False,
    ),
    FileFault(
        "another-array",
        lambda items: gzip.compress(array(items) + b"[]"),
        "has data after the array's end",
        FILE_EVENTS,
    ),
    FileFault(
        "too-large",
        instead(b'{"EventTargetText":"' + TEXT.encode() * 100_000 + b'"}'),
        "larger than max_event_mb",
        GOOD,
    ),
]
