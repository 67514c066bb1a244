"""Columns: what they take, what custom variables' names tell, and which can hold personal data.

Values are handled as JSON text, in bytes, and are written as they came wherever they fit: that
keeps integers beyond 2^53 exact, and decimals, escapes and date-times as FullStory sent them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from tap_fullstory.records.json_text import (
    JsonText,
    closed,
    decode_members,
    decode_string,
    encode,
    iter_items,
    quoted,
    without_line_breaks,
)
from tap_fullstory.streams import CUSTOM_VARS, Stream
from tap_fullstory.times import is_date_time

_INTEGER = re.compile(rb"-?[0-9]+")
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
_FINER_THAN_MICROSECONDS = re.compile(r"\.[0-9]{6}[0-9]*[1-9]")
# Python refuses to read integers of more digits (sys.int_info.default_max_str_digits), and so would
# most targets. A short text such as 1e999999999 must not be written out into one, nor a decimal of
# megabytes be converted to see whether it is an integer.
MAX_DIGITS = 4300
MAX_DOUBLE_DIGITS = 300  # of an integer that programs can read as a double
# Of a date-time as it is written between its quotes; RFC 3339 allows any number of digits after the
# seconds. As in _native.c.
MAX_DATE_TIME_BYTES = 200
_KINDS = {
    ord('"'): "string",
    ord("{"): "object",
    ord("["): "array",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord("n"): "null",
    **dict.fromkeys(b"-0123456789", "number"),
}


# As OpenAPI has them: 64-bit integers that are sent as text, and now and then as numbers.
_DIGITS = ("int64", "uint64")
JSON_TEXT = "application/json"  # of a string's contentMediaType, as JSON Schema has it


@dataclass(frozen=True)
class ValueType:
    """A JSON schema's `type`, `format: date-time`, `items`, `properties` and
    `additionalProperties`; without names, a value of any type.

    With `as_text`, numbers and booleans become strings of their JSON text; with `as_json`, all
    values but null do. With `bounded`, integers have at most 64 bits, numbers are finite as
    doubles, and date-times have at most microseconds: what columns of a file can hold.
    """

    names: frozenset[str]
    date_time: bool = False
    items: ValueType | None = None
    properties: Mapping[str, ValueType] | None = None
    additional: ValueType | None = None
    as_text: bool = False
    as_json: bool = False
    bounded: bool = False

    @property
    def nullable(self) -> bool:
        return not self.names or "null" in self.names

    @property
    def passed_on(self) -> frozenset[int]:
        """The first bytes of values that fit whatever follows, and go out as they came."""
        found = set()
        for first, kind in _KINDS.items():
            looked_into = (
                (kind != "null" and self.as_json)
                or (kind == "string" and self.date_time)
                or (kind == "number" and self.bounded)
                or (kind == "array" and self.items is not None)
                or (kind == "object" and self._has_typed_members)
            )
            if (not self.names or kind in self.names) and not looked_into:
                found.add(first)
        return frozenset(found)

    def coerce(self, value: bytes) -> JsonText | None:
        """Return `value`, one JSON value without whitespace around it, as this type takes it.

        That is the value itself, except for a decimal such as `1.0` where only integers are taken
        (it becomes the integer), an integer in an array of numbers (it becomes a decimal, since
        databases take arrays of one type), an empty date-time (it becomes null), and whitespace
        between the tokens of objects and arrays (it may go, line breaks always do). None if the
        value is of another type.
        """
        # Recursion depth is bounded by json_text.MAX_DEPTH.
        kind = _KINDS[value[0]]
        if self.as_json and kind != "null":
            return quoted(value)
        if self.names and kind not in self.names:
            coerced = None
            if kind == "number" and "integer" in self.names:
                coerced = as_integer(value)
            if coerced is None and self.as_text and kind in ("number", "boolean"):
                coerced = b'"%b"' % value
            return self._within_bounds(coerced)
        if kind == "string" and self.date_time:
            return self._as_date_time(value)
        if kind == "array" and self.items is not None:
            items = bytearray(b"[")
            for given in iter_items(value):
                item = self.items.coerce(given)
                if item is None:
                    return None
                items += item
                items += b".0," if self.items.needs_decimals(item) else b","
            return closed(items, b"]")
        if kind == "object" and self._has_typed_members:
            members = bytearray(b"{")
            known = self.properties or {}
            for name, raw in decode_members(value).items():
                column = known.get(name, self.additional)
                given = bytes(raw)
                member = without_line_breaks(given) if column is None else column.coerce(given)
                if member is None:
                    return None
                members += encode(name) + b":"
                members += member
                members += b","
            return closed(members, b"}")
        if kind in ("object", "array"):
            return without_line_breaks(value)
        return self._within_bounds(value)

    def _within_bounds(self, value: bytes | None) -> bytes | None:
        if not self.bounded or value is None or _KINDS[value[0]] != "number":
            return value
        if "number" in self.names:
            return value if isfinite(float(value)) else None
        is_short = len(value) <= len(str(_MIN_INT64))
        return value if is_short and _MIN_INT64 <= int(value) <= _MAX_INT64 else None

    def needs_decimals(self, item: JsonText) -> bool:
        """Return whether an item of this type is an integer where numbers of any kind may come."""
        if "number" not in self.names or "integer" in self.names:
            return False
        return len(item) <= MAX_DOUBLE_DIGITS and _INTEGER.fullmatch(item) is not None

    @property
    def _has_typed_members(self) -> bool:
        return bool(self.properties) or self.additional is not None

    def _as_date_time(self, value: bytes) -> bytes | None:
        if value == b'""' and self.nullable:
            return b"null"
        if len(value) - 2 > MAX_DATE_TIME_BYTES or not is_date_time(text := decode_string(value)):
            return None
        if self.bounded and _FINER_THAN_MICROSECONDS.search(text):
            return None
        return value if text.isupper() else encode(text.upper())


ANY_TYPE = ValueType(frozenset())
NO_TYPE = ValueType(frozenset({"nothing"}))  # for members that a schema rules out


def value_type(schema: Mapping[str, Any]) -> ValueType:
    """Return the type that a property's JSON schema describes."""
    # Recursion depth is bounded, as above.
    given = schema.get("type")
    properties = {}
    for name, inner in (schema.get("properties") or {}).items():
        properties[name] = value_type(inner)
    inner_types = []
    for keyword in ("items", "additionalProperties"):
        inner = schema.get(keyword)
        typed = value_type(inner) if isinstance(inner, dict) else ANY_TYPE
        inner_types.append(None if typed == ANY_TYPE else typed)
    items, additional = inner_types
    if schema.get("additionalProperties") is False:
        additional = NO_TYPE
    names = frozenset([given] if isinstance(given, str) else given or [])
    return ValueType(
        names,
        date_time=schema.get("format") == "date-time",
        items=items,
        properties=properties or None,
        additional=additional,
        as_text="string" in names and schema.get("format") in _DIGITS,
        as_json="string" in names and schema.get("contentMediaType") == JSON_TEXT,
    )


def column_kind(schema: Mapping[str, Any]) -> str:
    """Return what a property is in files of columns: int64, float64, bool, timestamp (UTC, to the
    microsecond), string, or json, which is the JSON text of values of any other type.
    """
    types = schema.get("type") or []
    names = {types} if isinstance(types, str) else set(types)
    names.discard("null")
    if names == {"string"}:
        return "timestamp" if schema.get("format") == "date-time" else "string"
    if names in ({"number"}, {"number", "integer"}):
        return "float64"
    if len(names) != 1:
        return "json"
    return {"integer": "int64", "boolean": "bool"}.get(names.pop(), "json")


def as_integer(number: bytes) -> bytes | None:
    """Return a JSON number as an integer, such as 10 for `1e1`; None if it is not one."""
    if _INTEGER.fullmatch(number):
        return number
    if len(number) > MAX_DIGITS:
        return None
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


# developer.fullstory.com, "Create Segment Export": user_ and evt_; page_ is in FullStory's own
# exporter (github.com/fullstorydev/hauser, warehouse/schema.go, wildcardFields).
CUSTOM_PREFIXES = ("user_", "evt_", "page_")

_REAL = {"type": ["null", "number"]}  # never integer: 4 may stand for 4.0, and 4.5 come next
_BY_SUFFIX: dict[str, dict[str, Any]] = {
    "str": {"type": ["null", "string"]},
    "int": {"type": ["null", "integer"]},
    "real": _REAL,
    "bool": {"type": ["null", "boolean"]},
    "date": {"type": ["null", "string"], "format": "date-time"},
}
_KIND_BY_PREFIX = {"user_": "user", "evt_": "event", "page_": "page"}
# What JSON Schema calls these types.
_ALIASES = {"string": "str", "integer": "int", "number": "real", "boolean": "bool",
            "date-time": "date"}  # fmt: skip


def is_custom(name: str) -> bool:
    """Return whether FullStory's naming makes `name` a custom variable."""
    return name.startswith(CUSTOM_PREFIXES)


def kind_of(name: str) -> str:
    """Return what a custom variable belongs to: user, event or page."""
    return next(kind for prefix, kind in _KIND_BY_PREFIX.items() if name.startswith(prefix))


def property_schema(name: str) -> dict[str, Any] | None:
    """Return the JSON schema of a custom variable, by its suffix; None if that implies no type."""
    return _schema_of(name.rpartition("_")[2])


def parse_custom_columns(names: tuple[str, ...]) -> Mapping[str, dict[str, Any]]:
    """Return the schemas of the columns that `custom_columns` names, `name` or `name:type`.

    Raises ValueError if one is not a custom variable, has no type, or has two.
    """
    columns: dict[str, dict[str, Any]] = {}
    for text in names:
        before, colon, given = (part.strip() for part in text.rpartition(":"))
        name = before if colon else given
        schema = _schema_of(_ALIASES.get(given, given)) if colon else property_schema(name)
        if not is_custom(name) or schema is None or columns.get(name, schema) != schema:
            raise ValueError
        columns[name] = schema
    return columns


def _schema_of(suffix: str) -> dict[str, Any] | None:
    if suffix in _BY_SUFFIX:
        return dict(_BY_SUFFIX[suffix])
    if suffix.endswith("s") and suffix[:-1] in _BY_SUFFIX:
        return {"type": ["null", "array"], "items": dict(_BY_SUFFIX[suffix[:-1]])}
    return None


PERSONAL_DATA = "tap-fullstory.personal-data"  # a metadata key of this tap's own

# What the fields of each stream can hold: `yes` identifies a person or their location, `an id` can
# be traced to one, `can` holds what an application or a colleague puts there. A member of an object
# has the name of its property before it. Each stream has a row.
_OF_SETTINGS = {"yes": "metadata.createdBy metadata.lastUpdatedBy", "can": "metadata extra"}
_OF_PRIVACY = {**_OF_SETTINGS, "can": "elementBlocks ajaxWatches elementRuleGroups metadata extra"}
_OF_TARGETING = {**_OF_SETTINGS, "can": "sessionTargetingRules metadata extra"}
_OF_BLOCKING = {**_OF_SETTINGS, "can": "blockedIps metadata extra"}
_OF_STREAMS: dict[str, dict[str, str]] = {
    "events": {
        "yes": "UserAppKey UserDisplayName UserEmail PageIp PageLatLong",
        "an id": "IndvId UserId SessionId PageId",
        "can": """
            EventTargetText EventTargetSelector EventTargetSelectorTok EventVarFields PageUrl
            PageName PageRefererUrl PageUserAgent PageAgent ReqUrl AppViewName EventCustomName
            EventWebSourceFileUrl CustomVars""",
    },
    "individuals": {
        "yes": "Uid DisplayName Email LastIp LastLatLong",
        "an id": "IndvId",
        "can": "LastPage CustomVars",
    },
    "users": {
        "yes": "uid display_name email",
        "an id": "id app_url",
        "can": "properties schema type_conflicts extra",
    },
    "bundles": {},
    "sessions": {"yes": "uid", "an id": "id app_url user_id", "can": "extra"},
    "segments": {"yes": "creator", "can": "name extra"},
    "block_rules": _OF_BLOCKING,
    "block_rules_history": _OF_BLOCKING,
    "domain_settings": _OF_SETTINGS,
    "domain_settings_history": _OF_SETTINGS,
    "geo_settings": _OF_SETTINGS,
    "geo_settings_history": _OF_SETTINGS,
    "privacy_settings": _OF_PRIVACY,
    "privacy_settings_history": _OF_PRIVACY,
    "recording_features": _OF_SETTINGS,
    "recording_features_history": _OF_SETTINGS,
    "target_rule": _OF_TARGETING,
    "target_rule_history": _OF_TARGETING,
    "webhook_endpoints": {"can": "url extra"},
    "webhook_event_types": {"can": "extra"},
    "webhook_event_subcategories": {"can": "extra"},
    "organization_quotas": {"can": "extra"},
    "extraction_rules": {"can": "name description source mappings extra"},
    "privacy_elements": {"yes": "last_updated_by", "can": "name description source extra"},
    "operations": {"can": "errorDetails details results extra"},
}


def personal_data(stream: Stream, path: str) -> str | None:
    """Return what a property of a stream, or a member of one, can hold; None: no personal data.

    Raises KeyError if nobody has said so of this stream.
    """
    if stream.overflow == CUSTOM_VARS and is_custom(path):
        return "can"
    marks = _OF_STREAMS[stream.name].items()
    return next((mark for mark, paths in marks if path in paths.split()), None)


def marked_fields(stream: Stream, mark: str) -> list[str]:
    """Return the paths of a stream's fields that have this mark."""
    return _OF_STREAMS[stream.name].get(mark, "").split()


def marked_members(stream: Stream) -> Iterator[tuple[str, str]]:
    """Yield the path and the mark of each marked field that is a member of a property."""
    for mark in _OF_STREAMS[stream.name]:
        for path in marked_fields(stream, mark):
            if "." in path:
                yield path, mark
