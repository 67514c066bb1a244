"""What a setting may be: how each type is parsed, and how its allowed values are told.

Every value may arrive as a string, since Stitch sends `"300"` and `"true"`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from tap_fullstory.fullstory.urls import is_loopback
from tap_fullstory.records.json_text import decode_string, encode
from tap_fullstory.times import parse_rfc3339

MAX_DIGITS = 18  # of an integer given as text

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# As people and programs write them: a space for the T, no seconds, no zone, no colon in the offset.
_DATE_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]+)?)?"
    r" ?(?:[Zz]|UTC|([+-][0-9]{2}):?([0-9]{2})?)?"
)
# At most 1,917 years, so that no time is before the year 1.
_BEFORE_NOW = re.compile(r"([0-9]{1,5})\s+(hour|day|week)s?\s+ago", re.ASCII)
_LIST_SCHEMA = {"type": "array", "items": {"type": "string"}}
_QUOTES = "'\""
_BRACKETS = "[](){}"
# One name of a list in text: in quotes of either kind, or without any.
_ITEM = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^'",\n]*?))\s*(?:[,\n]|$)""")
# Names with only whitespace or a semicolon between them, or an item of a YAML list.
_SEVERAL_WORDS = re.compile(r"[\w*]\s+[\w*]|;|^-\s")
_CHARACTER_CLASS = re.compile(r"\[[^][(){}'\"]+\]")  # of a shell pattern, such as [ab]


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


def _parse_timestamp(value: Any) -> datetime | timedelta:
    text = _parse_text(value).strip()
    if before := _BEFORE_NOW.fullmatch(text):
        return timedelta(**{f"{before[2]}s": int(before[1])})
    if _DATE.fullmatch(text):
        text += "T00:00:00Z"
    elif match := _DATE_TIME.fullmatch(text):
        date, minutes, seconds, hours_off, minutes_off = match.groups()
        # YAML drops the zone of an unquoted date-time.
        offset = f"{hours_off}:{minutes_off or '00'}" if hours_off else "Z"
        text = f"{date}T{minutes}{seconds or ':00'}{offset}"
    return parse_rfc3339(text)


def _parse_url(value: Any) -> str:
    text = _parse_text(value).strip().rstrip("/")
    parts = urlsplit(text)
    # parts.port raises ValueError for a port that is not valid.
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.port == 0:
        raise ValueError
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise NotAllowed("http would send the API key unencrypted. Use https")
    if parts.query or parts.fragment or parts.username or parts.password or re.search(r"\s", text):
        raise ValueError
    return text


def _parse_list(value: Any) -> list[str]:
    """Return the texts of a list: a list, or one text that holds it as JSON, as other programs
    print it (`['A', 'B']`, `[A, B]`), or with commas or line breaks between the names.

    The whole text and each name may be in quotes of either kind. Raises ValueError for what is not
    plainly such a list: a name with a bracket or a quote in it would silently match nothing.
    """
    items = _split(value.strip()) if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError
    names = [_unquoted(_parse_text(item).strip()) for item in items]
    for name in names:
        name.encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
        if not name:
            raise ValueError
        rest = _CHARACTER_CLASS.sub("", name)
        if not rest or set(rest) & set(_QUOTES + _BRACKETS):
            raise ValueError  # `[PageIp]` would be a pattern of one character
    return list(dict.fromkeys(names))


def _split(text: str) -> list[Any]:
    text = _unquoted(text)
    if text.startswith("["):
        try:
            return msgspec.json.decode(text, type=list[str | int])
        except msgspec.ValidationError:
            raise ValueError from None
        except msgspec.DecodeError:
            text = _without_outer_brackets(text)  # as another program prints it, perhaps
    items: list[Any] = []
    at = 0
    while at < len(text):
        match = _ITEM.match(text, at)
        if match is None:  # a quote without an end, or inside a name
            raise ValueError
        quoted = match[1] if match[1] is not None else match[2]
        item = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
        if quoted is None and _SEVERAL_WORDS.search(item):
            raise ValueError
        if item or quoted is not None:
            items.append(item)
        at = match.end()
    return items


def _without_outer_brackets(text: str) -> str:
    inner = text[1:-1]
    if not text.endswith("]"):
        return text  # a pattern such as [ab]*, or not valid
    if set(inner) & set(_BRACKETS):
        raise ValueError
    return inner


def _unquoted(text: str) -> str:
    """Return `text` without a pair of quotes around it, if there is no other quote of its kind."""
    while len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES and text.count(text[0]) == 2:
        text = text[1:-1].strip()
    return text


def _without_brackets(names: list[str]) -> list[str]:
    """Return `names`. Raises ValueError if one has a bracket: only patterns can have one."""
    if any(set(name) & set(_BRACKETS) for name in names):
        raise ValueError
    return names


def _parse_ids(value: Any) -> frozenset[str]:
    """Ids may be numbers, and may have spaces between them in text. Those in a list are taken as
    FullStory has them, whatever characters they contain.
    """
    is_text = isinstance(value, str)
    if is_text:
        value = _split(re.sub(r"(?<=[^\s,])\s+(?=[^\s,\]])", ",", value.strip()))
    items = value if isinstance(value, list) else [value]
    texts = [str(i) if isinstance(i, int) and not isinstance(i, bool) else i for i in items]
    if is_text:
        return frozenset(_without_brackets(_parse_list(texts)))
    ids = frozenset(_unquoted(_parse_text(one)) for one in texts)
    if any(one.startswith("[") and one.endswith("]") for one in ids):
        raise ValueError  # a list in a list
    return ids


def _parse_segment_ids(value: Any) -> tuple[str, ...]:
    given = _without_brackets(_parse_list(value))
    if not given:
        raise ValueError
    return tuple(map(_parse_header_text, given))


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


def patterns(allowed: str) -> SettingType:
    """A list of names or shell patterns, each once."""
    return SettingType(lambda value: tuple(_parse_list(value)), allowed, _LIST_SCHEMA)


def names(allowed: str, parse: Callable[[tuple[str, ...]], Any]) -> SettingType:
    """A list of names, each once; `parse` makes of it what the tap works with, and raises
    ValueError if it is not allowed.
    """

    def parse_names(value: Any) -> Any:
        return parse(tuple(_without_brackets(_parse_list(value))))

    return SettingType(parse_names, allowed, _LIST_SCHEMA)


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
    "is its midnight; or a time before now, such as 30 days ago",
    {"type": "string", "format": "date-time"},
)
URL = SettingType(
    _parse_url,
    "an https URL without query, such as https://export.fullstory.com; http only for this machine",
    {"type": "string"},
)
SECRET = SettingType(_parse_secret, "any text; space around it is dropped", {"type": "string"})
IDS = SettingType(_parse_ids, "a list of bundle ids", _LIST_SCHEMA)
SEGMENT_IDS = SettingType(
    _parse_segment_ids,
    "the id of a segment, such as everyone, or a list of such ids",
    {"type": ["string", "array"], "items": {"type": "string"}},
)
