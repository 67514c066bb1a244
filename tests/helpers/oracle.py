"""What must come out, written in plain Python, and slowly: the tests' idea of what is right.

Numbers are compared by their text, so that `1.10` is not `1.1` and a large integer stays exact:
json.loads is told to make ("int", "12") and ("float", "1.10") of them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any

from tap_fullstory.columns import ValueType
from tap_fullstory.fields import Fate, Pattern
from tap_fullstory.selection import Selection

HASH_KEY = "0123456789abcdef"
MAX_DEPTH = 500  # levels of objects and arrays in an event, itself included
MOST_DIGITS = 4300  # of an integer that was written as a decimal, as `1e400` is
_BLANKS = re.compile(r"[ \t\n\r]*")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_DATE_TIME = re.compile(
    r"(\d{4})(-\d\d-\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-](\d\d):(\d\d))", re.ASCII
)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(
    parse_int=lambda text: ("int", "0" if text == "-0" else text),
    parse_float=lambda text: ("float", "0.0" if text == "-0.0" else text),
    parse_constant=_refuse,
)


def load(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError if it is not valid JSON, or not UTF-8."""
    return _DECODER.decode(text if isinstance(text, str) else text.decode())


@dataclass(frozen=True)
class Element:
    """An event of a bundle: its bytes, where they start, and what they mean."""

    offset: int
    text: bytes
    value: dict[str, Any]


@dataclass(frozen=True)
class Contents:
    """The events of a bundle before the first thing that is not one; `whole` if there is no such
    thing, and the array ends where the bundle does.
    """

    events: list[Element]
    whole: bool

    @property
    def values(self) -> list[dict[str, Any]]:
        return [event.value for event in self.events]


def is_nested_deeper(text: str, at: int, limit: int) -> bool:
    """Whether what begins at `at` opens more than `limit` brackets within each other."""
    depth = 0
    for found in _BRACKETS.finditer(text, at):
        if found[0] in "[{":
            depth += 1
        elif found[0] in "]}":
            depth -= 1
        if depth > limit:
            return True
        if depth == 0:
            break
    return False


def contents_of(bundle: bytes) -> Contents:
    """What json.loads makes of a bundle, event by event."""
    text = bundle.decode("utf-8", "surrogateescape")
    events: list[Element] = []

    def ink(at: int) -> int:
        return _BLANKS.match(text, at).end()

    def is_at(at: int, character: str) -> bool:
        return text[at : at + 1] == character

    at = ink(0)
    if not is_at(at, "["):
        return Contents([], whole=False)
    at = ink(at + 1)
    if is_at(at, "]"):
        return Contents([], whole=ink(at + 1) == len(text))
    offset, counted = 0, 0
    while is_at(at, "{"):
        if is_nested_deeper(text, at, MAX_DEPTH):
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError:
            break
        source = text[at:end]
        if _LONE_SURROGATE.search(source):  # bytes that are not UTF-8; escapes are not decoded here
            break
        offset += len(text[counted:at].encode())
        counted = at
        events.append(Element(offset, source.encode(), value))
        at = ink(end)
        if is_at(at, "]"):
            return Contents(events, whole=ink(at + 1) == len(text))
        if not is_at(at, ","):
            break
        at = ink(at + 1)
    return Contents(events, whole=False)


def repaired(value: Any) -> Any:
    """`value` with U+FFFD for each half of a surrogate pair."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [repaired(item) for item in value]
    if isinstance(value, dict):
        return {repaired(key): repaired(item) for key, item in value.items()}
    return value


MISMATCH = object()


def fitted(value: Any, column: ValueType) -> Any:
    """What `column` makes of a value; MISMATCH if it does not take it."""
    if not column.names:
        return value
    if isinstance(value, tuple):
        return _number(value, column.names)
    kinds = {bool: "boolean", str: "string", list: "array", dict: "object", type(None): "null"}
    if kinds[type(value)] not in column.names:
        return MISMATCH
    if isinstance(value, str) and column.date_time:
        if value == "" and "null" in column.names:
            return None
        return value.upper() if is_date_time(value) else MISMATCH
    if isinstance(value, list) and column.items is not None:
        items = [fitted(item, column.items) for item in value]
        if "number" in column.items.names and "integer" not in column.items.names:
            # Up to 300 digits: much longer ones are no doubles, and what reads them may be exact.
            items = [
                ("float", f"{item[1]}.0")
                if isinstance(item, tuple) and item[0] == "int" and len(item[1]) <= 300
                else item
                for item in items
            ]
        return MISMATCH if MISMATCH in items else items
    return value


def is_date_time(text: str) -> bool:
    """Whether targets store `text`: the form of RFC 3339, section 5.6, the bounds of Python."""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return False
    year, day, *clock = match.groups()
    bounds = (23, 59, 59, 15, 59)
    if any(int(part or 0) > most for part, most in zip(clock, bounds, strict=True)):
        return False
    try:
        written = datetime.fromisoformat(f"{year}{day}T{':'.join(clock[:3])}")  # no year 0000
        offset = timedelta(hours=int(clock[3] or 0), minutes=int(clock[4] or 0))
        written + offset if text[-6] == "-" else written - offset
    except (ValueError, OverflowError):
        return False
    return True


def _number(value: tuple[str, str], names: frozenset[str]) -> Any:
    kind, text = value
    if "number" in names or (kind == "int" and "integer" in names):
        return value
    if "integer" not in names:
        return MISMATCH
    try:
        exact = Decimal(text)
    except InvalidOperation:
        return MISMATCH
    if len(text) > MOST_DIGITS:
        return MISMATCH
    if not exact:
        return ("int", "0")
    if not 0 <= exact.adjusted() < MOST_DIGITS or exact != int(exact):
        return MISMATCH
    return ("int", str(int(exact)))


def is_written(event: dict[str, Any], selection: Selection) -> bool:
    """Whether the config has not left out events of this type."""
    chosen, kind = selection.event_filter, event.get("EventType")
    listed = chosen is not None and isinstance(kind, str) and kind in chosen.types
    return chosen is None or listed is not chosen.leaves_out


def record(event: dict[str, Any], selection: Selection) -> dict[str, Any]:
    """The record of an event: design, "The events stream", sentence by sentence."""
    columns: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for name, value in ruled(repaired(event), selection.rules.patterns).items():
        column = selection.columns.get(name)
        if column is None:
            if name not in selection.dropped:
                custom[name] = value
            continue
        columns[name] = fitted(value, column)
        if columns[name] is MISMATCH:
            custom[name] = value
            columns[name] = None
            if "null" not in column.names:
                del columns[name]
    if custom and selection.keeps_overflow:
        columns["CustomVars"] = custom
    return columns


def ruled(value: Any, patterns: Iterable[Pattern], parents: tuple[str, ...] = ()) -> Any:
    """`value` without what the patterns exclude, with hashes of what they hash."""
    if isinstance(value, list):
        return [ruled(item, patterns, parents) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, member in value.items():
        path = ".".join((*parents, name))
        fates = {
            pattern.fate
            for pattern in patterns
            for spelling in (name, path, f"events.{path}")
            if fnmatchcase(spelling, pattern.text)
        }
        if Fate.EXCLUDED in fates:
            continue
        hashes = Fate.HASHED in fates and member is not None
        found[name] = hashed(member) if hashes else ruled(member, patterns, (*parents, name))
    return found


def hashed(value: Any) -> str:
    """The hash of a value under HASH_KEY."""
    text = value if isinstance(value, str) else plain(value)
    return hmac.digest(HASH_KEY.encode(), text.encode(), "sha256").hex()[:32]


def plain(value: Any) -> str:
    """JSON without layout, with integers as their digits and no escape that is not needed."""
    if isinstance(value, tuple):
        number = _number(value, frozenset({"integer"}))
        return value[1] if number is MISMATCH else number[1]
    if isinstance(value, list):
        return "[" + ",".join(map(plain, value)) + "]"
    if isinstance(value, dict):
        members = (f"{plain(name)}:{plain(member)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    return json.dumps(value, ensure_ascii=False)


def compact(json_text: bytes) -> bytes:
    """JSON without the whitespace between its tokens, all tokens as they are."""
    kept = bytearray()
    quoted = escaped = False
    for byte in json_text:
        if quoted or byte not in b" \t\n\r":
            kept.append(byte)
        if escaped:
            escaped = False
        elif quoted and byte == ord("\\"):
            escaped = True
        elif byte == ord('"'):
            quoted = not quoted
    return bytes(kept)


def digest(event: bytes, key: bytes = b"") -> str:
    """EventDigest of an event's own bytes, under `key`."""
    return hashlib.blake2b(compact(event), digest_size=16, key=key).hexdigest()
