"""The fast road: whole runs of events whose values all fit, in one typed decoding.

Why it is exact: a run is taken only if decoding it by a Struct made from the catalog succeeds, with
every key known, every value of its column's type, and every date-time looked at. What it accepts,
the plain road of records.py would pass unchanged; a Hypothesis test runs both. Anything else is
left to that road.

Keys that the catalog does not know are learned as they come, and are fields from then on whose
values are passed on undecoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from tap_fullstory.columns import ValueType
from tap_fullstory.times import is_rfc3339

# What decoding raises by itself: broken JSON, a value that does not fit, no UTF-8, nested too deep.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
# Each learned key costs every event a little; those beyond go the plain road.
MAX_LEARNED = 500
# Date-times remembered as good: the events of a session and of a page repeat its start.
MAX_GOOD_DATE_TIMES = 20_000

_split = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


class FastRoad:
    """Decodes runs of events, and hands back those that it can prove right.

    `dropped` are known keys whose values nobody wants. `write_custom` makes a member of a record
    out of the members of CustomVars, or nothing where CustomVars is not wanted.
    """

    def __init__(
        self,
        columns: Mapping[str, ValueType],
        dropped: frozenset[str],
        write_custom: Callable[[list[bytes]], bytes],
    ) -> None:
        self._columns = columns
        self._dropped = dropped
        self._write_custom = write_custom
        self._learned: dict[str, None] = {}
        self._good_date_times: set[object] = {UNSET, None}
        self._build()

    def learn(self, names: list[str]) -> None:
        """Take keys that the catalog does not list for known from now on."""
        fresh = [name for name in names if name not in self._learned]
        fresh = fresh[: MAX_LEARNED - len(self._learned)]
        if fresh:
            self._learned.update(dict.fromkeys(fresh))
            self._build()

    def records(self, events_json: bytes) -> tuple[list[bytes | Raw], list[str]] | None:
        """The records of a JSON array of events, and the unknown keys that occur in it.

        None if the array is broken, or anything in it is for the plain road.
        """
        try:
            events = self._decode(events_json)
            if self._dropped and not events_json.isascii():
                events_json.decode()  # what is not decoded may hold anything
        except DECODE_ERRORS:
            return None
        if not self._date_times_fit(events) or not self._checked_fit(events):
            return None
        records: list[Any]  # bytes, or Raw, which joins as they do
        if self._dropped:
            records = [_encode(self._row(*values)) for values in map(self._kept, events)]
        else:
            records = cast(list[Any], _split(events_json))
        unknown: list[str] = []
        if self._learned:
            for index, values in enumerate(map(self._learned_values, events)):
                if values != self._nothing_learned:
                    record = self._without_learned(events[index], records[index])
                    members = self._members(values, unknown)
                    if members is None:
                        return None
                    records[index] = add_member(record, self._write_custom(members))
        return records, unknown

    def _members(self, values: tuple[Any, ...], unknown: list[str]) -> list[bytes] | None:
        """The learned keys that an event has, with their values; None if one is no UTF-8."""
        members = []
        for (name, key), value in zip(self._learned_keys, values, strict=True):
            if value is not UNSET:
                unknown.append(name)
                members.append(b"".join((key, value)))
        return members if all(map(_is_utf8, members)) else None

    def _without_learned(self, event: Any, record: bytes | Raw) -> bytes:
        if self._dropped:
            return bytes(record)  # made of columns alone
        for field in self._learned_fields:
            setattr(event, field, UNSET)
        return _encode(event)

    def _date_times_fit(self, events: list[Any]) -> bool:
        for get in self._date_times:
            fresh = set(map(get, events)) - self._good_date_times
            if not all(is_rfc3339(str(text)) for text in fresh):
                return False
            if len(self._good_date_times) > MAX_GOOD_DATE_TIMES:
                self._good_date_times = {UNSET, None}
            self._good_date_times |= fresh
        return True

    def _checked_fit(self, events: list[Any]) -> bool:
        """Whether the values that no typed decoding can judge fit as they are."""
        for get, column in self._checked:
            for raw in map(get, events):
                if raw is not UNSET:
                    value = bytes(raw)
                    if column.fit(value) != value or not _is_utf8(value):
                        return False
        return True

    def _build(self) -> None:
        fields: list[tuple[str, Any, Any]] = []
        self._date_times: list[Callable[[Any], Any]] = []
        self._checked: list[tuple[Callable[[Any], Any], ValueType]] = []

        def add(name: str, typed: Any) -> str:
            field = f"f{len(fields)}"
            fields.append((field, typed | UnsetType, msgspec.field(default=UNSET, name=name)))
            return field

        for name, column in self._columns.items():
            typed = _python_type(column)
            field = add(name, typed)
            if typed is Raw:
                self._checked.append((attrgetter(field), column))
            elif column.date_time:
                self._date_times.append(attrgetter(field))
        kept = list(fields)
        self._kept = _values_of([field for field, _, _ in kept])
        for name in self._dropped:
            add(name, Raw)
        self._learned_fields = [add(name, Raw) for name in self._learned]
        self._learned_keys = [(name, _encode(name) + b":") for name in self._learned]
        self._learned_values = _values_of(self._learned_fields)
        self._nothing_learned = (UNSET,) * len(self._learned)
        event = msgspec.defstruct("Event", fields, forbid_unknown_fields=True, gc=False)
        self._row = msgspec.defstruct("Row", kept, gc=False)
        self._decode = msgspec.json.Decoder(list[event]).decode  # type: ignore[valid-type]


def add_member(record: bytes, member: bytes) -> bytes:
    """`record`, a JSON object without blanks around it, with one more member if there is one."""
    if not member:
        return record
    return record[:-1] + (b"," if len(record) > 2 else b"") + member + b"}"


def _python_type(column: ValueType) -> Any:
    """A type that takes what fits `column` as it is, and nothing else; Raw if there is none."""
    names = column.names - {"null"}
    if names not in ({"integer"}, {"string"}, {"boolean"}):
        return Raw
    (name,) = names
    typed = {"integer": int, "string": str, "boolean": bool}[name]
    return typed | None if column.nullable else typed


def _values_of(fields: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if not fields:
        return lambda _: ()
    get = attrgetter(*fields)
    return get if len(fields) > 1 else lambda event: (get(event),)


def _is_utf8(value: bytes) -> bool:
    try:
        return value.isascii() or bool(value.decode())
    except UnicodeDecodeError:
        return False
