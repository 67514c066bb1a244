"""The fast road where the compiled one is not there: whole runs of events whose values all fit, in
one typed decoding.

Why it is exact: a run is taken only if decoding it by a Struct made from the catalog succeeds, with
every key known, every value of its column's type, and every date-time looked at. What it accepts,
the plain road of records.py would pass unchanged; a Hypothesis test runs both. Anything else is
left to that road.

Keys that the catalog does not know are learned as they come, and are fields from then on whose
values are passed on undecoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from tap_fullstory.columns import DECODE_ERRORS, ValueType, needs_no_escape
from tap_fullstory.messages import Frame
from tap_fullstory.times import all_rfc3339

# Each learned key costs every event a little; those beyond go the plain road.
MAX_LEARNED = 500
# Date-times remembered as good: the events of a session and of a page repeat its start.
MAX_GOOD_DATE_TIMES = 20_000

_split = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


class TypedRoad:
    """Decodes runs of events, and makes the lines of those that it can prove right.

    `dropped` are known keys whose values nobody wants. `write_custom` makes a member of a record
    out of the object of CustomVars, or nothing where CustomVars is not wanted.
    """

    def __init__(
        self,
        columns: Mapping[str, ValueType],
        dropped: frozenset[str],
        write_custom: Callable[[bytes], bytes],
    ) -> None:
        self._columns = columns
        self._dropped = dropped
        self._write_custom = write_custom
        self._known: dict[str, None] = {}
        self._learned: list[str] = []
        self._good_date_times: set[object] = {UNSET, None}
        self._build()

    def learn(self, names: Iterable[str]) -> None:
        """As records.Road has it: these are fields from now on, in their order."""
        # msgspec takes no other names for fields; events with such keys go the plain road.
        fresh = [name for name in names if name not in self._known and needs_no_escape(name)]
        unknown = [n for n in fresh if n not in self._columns and n not in self._dropped]
        too_many = unknown[MAX_LEARNED - len(self._learned) :]
        self._learned += unknown[: MAX_LEARNED - len(self._learned)]
        fresh = [name for name in fresh if name not in too_many]
        if fresh:
            self._known.update(dict.fromkeys(fresh))
            self._build()

    def lines(self, run: bytes, frame: Frame) -> tuple[int, bytes, Mapping[str, int]] | None:
        """As records.Road has it; None also if anything in the run is for the plain road."""
        events_json = b"[" + run + b"]"
        try:
            events = self._decode(events_json)
            if self._dropped and not events_json.isascii():
                events_json.decode()  # what is not decoded may hold anything
            checked = self._checked_fit(events)
        except DECODE_ERRORS:
            return None
        if checked is None or not self._date_times_fit(events):
            return None
        learned = list(map(self._learned_values, events)) if self._learned else []
        odd = [index for index, values in enumerate(learned) if values != self._none_learned]
        custom_vars = [_encode(self._custom(*learned[index])) for index in odd]
        records: list[Any]  # bytes, or Raw, which joins as they do
        if self._dropped:
            records = [_encode(self._row(*values)) for values in map(self._kept, events)]
        else:
            records = cast(list[Any], _split(events_json))
        # Values that were not decoded, those of a key's earlier turns with them.
        if not self._dropped and not is_utf8(b"".join([records[i] for i in {*checked, *odd}])):
            return None
        for index, custom in zip(odd, custom_vars, strict=True):
            member = self._write_custom(custom)
            if self._dropped:  # made of columns alone
                records[index] = add_member(records[index], member)
            else:
                # The learned fields are an event's last, so it ends as `custom` does.
                rest = _encode(events[index])[: 1 - len(custom)]
                records[index] = b"%b%b}" % (rest if member else rest[:-1] or b"{", member)
        return len(records), frame.lines(records), self._count([learned[index] for index in odd])

    def _count(self, rows: list[tuple[Any, ...]]) -> dict[str, int]:
        """How often each learned key occurs in events of which `rows` are the learned values."""
        columns = zip(self._learned, zip(*rows, strict=True), strict=False)
        counts = {name: len(rows) - values.count(UNSET) for name, values in columns}
        return {name: count for name, count in counts.items() if count}

    def _date_times_fit(self, events: list[Any]) -> bool:
        texts = set(chain.from_iterable(map(self._date_times, events)))
        texts -= self._good_date_times
        if not all_rfc3339(texts):
            return False
        if len(self._good_date_times) > MAX_GOOD_DATE_TIMES:
            self._good_date_times = {UNSET, None}
        self._good_date_times |= texts
        return True

    def _checked_fit(self, events: list[Any]) -> list[int] | None:
        """Which events have values that no typed decoding can judge; None if one of these does not
        fit as it is.
        """
        found = []
        for get, column in self._checked:
            for index, raw in enumerate(map(get, events)):
                if raw is not UNSET:
                    value = bytes(raw)
                    if column.fit(value) != value:
                        return None
                    found.append(index)
        return found

    def _build(self) -> None:
        fields: list[tuple[str, Any, Any]] = []
        date_times: list[str] = []
        self._checked: list[tuple[Callable[[Any], Any], ValueType]] = []

        def add(name: str, typed: Any) -> str:
            field = f"f{len(fields)}"
            fields.append((field, typed | UnsetType, msgspec.field(default=UNSET, name=name)))
            return field

        for name in self._known:
            column = self._columns.get(name)
            if column is None:
                continue
            typed = _python_type(column)
            field = add(name, typed)
            if typed is Raw:
                self._checked.append((attrgetter(field), column))
            elif column.date_time and "string" in column.names:
                date_times.append(field)
        self._date_times = _values_of(date_times)
        kept = list(fields)
        self._kept = _values_of([field for field, _, _ in kept])
        for name in self._dropped & self._known.keys():
            add(name, Raw)
        learned = [add(name, Raw) for name in self._learned]
        self._learned_values = _values_of(learned)
        self._none_learned = (UNSET,) * len(learned)
        event = msgspec.defstruct("Event", fields, forbid_unknown_fields=True, gc=False)
        self._row = msgspec.defstruct("Row", kept, gc=False)
        self._custom = msgspec.defstruct("Custom", fields[len(fields) - len(learned) :], gc=False)
        self._decode = msgspec.json.Decoder(list[event]).decode  # type: ignore[valid-type]


def add_member(record: bytes, member: bytes) -> bytes:
    """`record`, a JSON object without blanks around it, with one more member if there is one."""
    if not member:
        return record
    members = record[:-1].rstrip()
    return members + (b"," if len(members) > 1 else b"") + member + b"}"


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


def is_utf8(value: bytes) -> bool:
    """Whether `value` is valid UTF-8."""
    try:
        return value.isascii() or bool(value.decode())
    except UnicodeDecodeError:
        return False
