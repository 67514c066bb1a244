"""What a column takes: JSON values against the type that the catalog gives.

Values are handled as JSON text, in bytes, and go out as they came wherever they fit: that keeps
integers beyond 2^53 exact, and decimals, escapes and date-times as FullStory sent them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from tap_fullstory.times import is_rfc3339

# What decoding raises by itself: broken JSON, a value that does not fit, no UTF-8, nested too deep.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_INTEGER = re.compile(rb"-?[0-9]+")
# Python refuses to read integers of more digits (sys.int_info.default_max_str_digits), and so would
# most targets; a short text such as 1e999999999 must not be written out into one.
MAX_DIGITS = 4300
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_KINDS = {
    ord('"'): "string",
    ord("{"): "object",
    ord("["): "array",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord("n"): "null",
}


@dataclass(frozen=True)
class ValueType:
    """A JSON schema's `type`, `format: date-time`, `items` and `properties`; no names at all take
    any value. Members of an object that `properties` does not name take any value too.
    """

    names: frozenset[str]
    date_time: bool = False
    items: ValueType | None = None
    properties: Mapping[str, ValueType] | None = None

    @property
    def nullable(self) -> bool:
        return not self.names or "null" in self.names

    def fit(self, value: bytes) -> bytes | None:
        """`value`, one JSON value without blanks around it, as this type takes it.

        That is the value itself, save for a decimal such as `1.0` where only integers are taken (it
        becomes the integer), an empty date-time (it becomes null), and blanks between the tokens of
        objects and arrays (they may go, line breaks always do). None if it is a misfit.
        """
        kind = _KINDS.get(value[0], "number")
        if not self.names:
            return without_line_breaks(value)
        if kind == "number":
            if "number" in self.names:
                return value
            return _as_integer(value) if "integer" in self.names else None
        if kind not in self.names:
            return None
        if kind == "string" and self.date_time:
            text = _STRING.decode(value)
            if not text and self.nullable:
                return b"null"
            return value if is_rfc3339(text) else None
        if kind == "array" and self.items is not None:
            fitted = [self.items.fit(bytes(item)) for item in _ARRAY.decode(value)]
            kept = [item for item in fitted if item is not None]
            return b"[" + b",".join(kept) + b"]" if len(kept) == len(fitted) else None
        if kind == "object" and self.properties:
            return _fit_members(value, self.properties)
        return without_line_breaks(value) if kind in ("object", "array") else value


def value_type(schema: Mapping[str, Any]) -> ValueType:
    """The type that a property's JSON schema describes."""
    given = schema.get("type")
    names = frozenset([given] if isinstance(given, str) else given or [])
    items = schema.get("items")
    properties = schema.get("properties") or {}
    return ValueType(
        names,
        date_time=schema.get("format") == "date-time",
        items=value_type(items) if isinstance(items, dict) and items.get("type") else None,
        properties={name: value_type(inner) for name, inner in properties.items()} or None,
    )


def without_line_breaks(json_text: bytes) -> bytes:
    """The same JSON on one line: JSON strings hold no raw line breaks, so they all are blanks."""
    return json_text.translate(None, b"\r\n")


def needs_no_escape(text: str) -> bool:
    """Whether a JSON string of `text` may hold it as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return not any(character in '"\\' or character < " " for character in text)


def _fit_members(value: bytes, properties: Mapping[str, ValueType]) -> bytes | None:
    members = []
    for name, raw in _OBJECT.decode(value).items():
        known = properties.get(name)
        fitted = without_line_breaks(bytes(raw)) if known is None else known.fit(bytes(raw))
        if fitted is None:
            return None
        members.append(msgspec.json.encode(name) + b":" + fitted)
    return b"{" + b",".join(members) + b"}"


def _as_integer(number: bytes) -> bytes | None:
    if _INTEGER.fullmatch(number):
        return number
    try:
        sign, digits, exponent = Decimal(number.decode()).as_tuple()
    except InvalidOperation:  # an exponent of some twenty digits
        return None
    if not isinstance(exponent, int):
        return None
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return b"0"
    if exponent < 0:
        if text[exponent:].strip("0"):
            return None
        text = text[:exponent]
    elif len(text) + exponent > MAX_DIGITS:
        return None
    else:
        text += "0" * exponent
    return ("-" * sign + text).encode()
