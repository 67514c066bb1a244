"""What a setting may be: how each type is parsed, and how its allowed values are told.

Every value may arrive as a string, since Stitch sends `"300"` and `"true"`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from tap_fullstory.records.json_text import decode_string, encode
from tap_fullstory.times import parse_rfc3339

MAX_DIGITS = 18  # of an integer given as text

_JSON_LIST = re.compile(r'\s*\[\s*["\]]')  # rather than a pattern such as [ab]*
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WITHOUT_ZONE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?")


class NotAllowed(ValueError):
    """Raised for a value that is not allowed; its text says why, for those types that can tell."""


@dataclass(frozen=True)
class SettingType:
    """What a setting may be.

    `parse` turns a given value into what the tap works with, and raises ValueError if it is not
    allowed. `allowed` says in words what is, `schema` in JSON Schema.
    """

    parse: Callable[[Any], Any]
    allowed: str
    schema: Mapping[str, Any]


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _parse_header_text(value: Any) -> str:
    # A line break in a header would start a second header; HTTP/1.1 can carry latin-1 only.
    text = _parse_text(value).strip()
    if not text or not text.isprintable() or not text.isascii():
        raise ValueError
    return text


def _parse_integer(value: Any) -> int:
    digits = rf"\s*[+-]?[0-9]{{1,{MAX_DIGITS}}}\s*"
    is_text = isinstance(value, str) and re.fullmatch(digits, value, re.ASCII)
    if is_text or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    return value


def _parse_bool(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _parse_timestamp(value: Any) -> datetime:
    text = _parse_text(value).strip()
    if _DATE.fullmatch(text):
        text += "T00:00:00Z"
    elif _WITHOUT_ZONE.fullmatch(text):
        # YAML drops the zone of an unquoted date-time, and some print it with a space.
        text = f"{text.replace(' ', 'T')}Z"
    return parse_rfc3339(text)


def _parse_url(value: Any) -> str:
    text = _parse_text(value).strip().rstrip("/")
    parts = urlsplit(text)
    # parts.port raises ValueError for a port that is not valid.
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.port == 0:
        raise ValueError
    if parts.query or parts.fragment or parts.username or parts.password or re.search(r"\s", text):
        raise ValueError
    return text


def _parse_ids(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,\[\]\"]+", value) if part]
    elif isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list):
        raise ValueError
    if any(isinstance(item, bool) or not isinstance(item, (int, str)) for item in value):
        raise ValueError
    return frozenset(str(item) for item in value)


def _parse_segment_ids(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _json_list(value)
    given = value if isinstance(value, list) else [value]
    if not given:
        raise ValueError
    # Twice the same would be exported twice.
    return tuple(dict.fromkeys(map(_parse_header_text, given)))


def _parse_names(value: Any) -> tuple[str, ...]:
    """Names may come as a list, or in one text: a JSON list, or with commas between them."""
    if isinstance(value, str) and _JSON_LIST.match(value):
        value = _json_list(value)
    elif isinstance(value, str):
        value = [part for part in re.split(r"\s*[,\n]\s*", value.strip()) if part]
    if not isinstance(value, list):
        raise ValueError
    names = tuple(_parse_text(item).strip() for item in value)
    for name in names:
        name.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair
        if not name:
            raise ValueError
    return tuple(dict.fromkeys(names))


def _json_list(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        raise ValueError from None


def _parse_secret(value: Any) -> str:
    text = _parse_text(value).strip()
    text.encode()
    if not text:
        raise ValueError
    return text


def any_text(allowed: str) -> SettingType:
    """Any text; `allowed` says what it should be."""
    return SettingType(_parse_text, allowed, {"type": "string"})


def header_text(allowed: str) -> SettingType:
    """Printable ASCII, as a header of HTTP/1.1 can carry it; space around it is dropped."""
    return SettingType(_parse_header_text, allowed, {"type": "string"})


def int_range(low: int, high: int, unit: str = "") -> SettingType:
    """A whole number from `low` to `high`, both included."""

    def parse(value: Any) -> int:
        number = _parse_integer(value)
        if not low <= number <= high:
            raise ValueError
        return number

    allowed = f"a whole number{f' of {unit}' if unit else ''} from {low} to {high}"
    return SettingType(parse, allowed, {"type": "integer", "minimum": low, "maximum": high})


def int_choice(*choices: int) -> SettingType:
    """One of the whole numbers `choices`."""

    def parse(value: Any) -> int:
        number = _parse_integer(value)
        if number not in choices:
            raise ValueError
        return number

    return SettingType(parse, _any_of(*map(str, choices)), {"type": "integer", "enum": choices})


def choice(*choices: str, fold: Callable[[str], str] = str) -> SettingType:
    """One of `choices`; `fold` is applied to what is given first."""

    def parse(value: Any) -> str:
        text = fold(_parse_text(value))
        if text not in choices:
            raise ValueError
        return text

    return SettingType(parse, _any_of(*choices), {"type": "string", "enum": choices})


def names(allowed: str, parse: Callable[[tuple[str, ...]], Any] = tuple) -> SettingType:
    """A list of texts, each once; `parse` makes of it what the tap works with, and raises
    ValueError if it is not allowed.
    """
    schema = {"type": "array", "items": {"type": "string"}}
    return SettingType(lambda value: parse(_parse_names(value)), allowed, schema)


@dataclass(frozen=True)
class EventFilter:
    """Which events are written: those whose EventType is among `types`; with `leaves_out`, those
    whose EventType is not.
    """

    types: frozenset[str]
    leaves_out: bool

    @property
    def json_types(self) -> frozenset[bytes]:
        """The types as JSON, in the spelling without needless escapes."""
        return frozenset(map(encode, self.types))

    def keeps(self, event_type: Raw | None) -> bool:
        """Return whether an event of this type is written; None if it has none."""
        is_text = bytes(event_type or b"").startswith(b'"')
        listed = is_text and decode_string(event_type or b"") in self.types
        return listed is not self.leaves_out


def parse_event_types(names: tuple[str, ...]) -> EventFilter | None:
    """Return what `event_types` means; None if it is empty. Raises ValueError if only some of
    it has an exclamation mark.
    """
    if not names:
        return None
    types = frozenset(name.removeprefix("!").strip() for name in names)
    leaves_out = names[0].startswith("!")
    if "" in types or any(name.startswith("!") is not leaves_out for name in names):
        raise ValueError
    return EventFilter(types, leaves_out)


def _any_of(*names: str) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


BOOL = SettingType(_parse_bool, _any_of("true", "false"), {"type": "boolean"})
TIMESTAMP = SettingType(
    _parse_timestamp,
    "an RFC 3339 date-time such as 2026-01-31T00:00:00Z; without a zone it is UTC, a date alone "
    "is its midnight",
    {"type": "string", "format": "date-time"},
)
URL = SettingType(
    _parse_url,
    "an http or https URL without query, such as https://export.fullstory.com",
    {"type": "string"},
)
SECRET = SettingType(_parse_secret, "any text; space around it is dropped", {"type": "string"})
IDS = SettingType(
    _parse_ids, "a list of bundle ids", {"type": "array", "items": {"type": "string"}}
)
SEGMENT_IDS = SettingType(
    _parse_segment_ids,
    "the id of a segment, such as everyone, or a list of such ids",
    {"type": ["string", "array"], "items": {"type": "string"}},
)
