"""The native encoder: `_native.c` reads each event once and writes its line.

The C extension is optional. Where it could not be built, or TAP_FULLSTORY_PURE_PYTHON is set to
anything, encoder.py encodes event by event.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from tap_fullstory.columns import ValueType
from tap_fullstory.fields import NO_RULES, Fate, FieldRules
from tap_fullstory.records.json_text import NestedTooDeeply, needs_no_escape
from tap_fullstory.setting_types import EventFilter

try:
    from tap_fullstory.records import _native
except ImportError:
    _IS_COMPILED = False
else:
    _IS_COMPILED = True


Encoded = tuple[int, int, bytes, Mapping[str, int], int]


def is_available() -> bool:
    """Return whether the C extension is there, and no setting rules it out."""
    return _IS_COMPILED and not os.environ.get("TAP_FULLSTORY_PURE_PYTHON")


class NativeEncoder:
    """Encodes chunks of events as RECORD lines with the compiled scanner.

    `dropped` are declared keys whose values are not wanted. `fallback` makes the record of an event
    that the scanner does not handle, or returns None if it is not valid, and nothing if it is left
    out. `rules` are for all keys, declared or not.
    """

    def __init__(
        self,
        columns: Mapping[str, ValueType],
        dropped: frozenset[str],
        fallback: Callable[[bytes], bytes | None],
        *,
        custom_vars: bool,
        as_text: bool,
        rules: FieldRules = NO_RULES,
        event_filter: EventFilter | None = None,
    ) -> None:
        declared = {name: (_native.KEPT, *_types(column)) for name, column in columns.items()}
        hashed = [name for name in columns if rules.fate(name) is Fate.HASHED]
        declared.update(dict.fromkeys(hashed, (_native.HASHED, _native.ANYTHING, 0)))
        declared.update(dict.fromkeys(dropped, (_native.DROPPED, _native.ANYTHING, 0)))
        # The scanner compares keys as bytes; those with escapes it leaves to the fallback.
        unescaped = {name: row for name, row in declared.items() if needs_no_escape(name)}
        seed = os.urandom(_native.SEED_BYTES)
        roles = {
            Fate.KEPT: _native.UNDECLARED,
            Fate.EXCLUDED: _native.DROPPED,
            Fate.HASHED: _native.UNDECLARED_HASHED,
        }
        self._scanner = _native.Scanner(
            unescaped,
            custom_vars,
            as_text,
            seed,
            role_of=(lambda name: roles[rules.fate_of_undeclared(name)]) if rules else None,
            hash_value=rules.hash if rules else None,
            event_types=event_filter.json_types if event_filter else None,
            leaves_out=bool(event_filter and event_filter.leaves_out),
        )
        self._fallback = fallback

    def encode(
        self, chunk: bytes, prefix: bytes, suffix: bytes, max_events: int = sys.maxsize
    ) -> Encoded | None:
        """Encode whole events at the start of `chunk`, separated by commas, at most `max_events`.

        Return how many there are, the offset in `chunk` after the last of them, their lines, how
        often each undeclared key occurs in them, and how many are left out; None if the chunk is
        not valid. The time it takes depends on the events taken, not on the chunk.
        """
        return self._scanner.encode(chunk, prefix, suffix, self._fallback, max_events)


def object_end(text: bytes, start: int) -> int | None:
    """Return where the object or array ends that begins at `start`; None if it has not ended yet.

    Raises NestedTooDeeply if it exceeds the limit.
    """
    try:
        end = _native.object_end(text, start)
    except ValueError:
        raise NestedTooDeeply from None
    return None if end < 0 else end


def _types(column: ValueType) -> tuple[int, int]:
    """Return what a column and the items of its arrays may be, for the scanner."""
    if column.as_json:  # all but null is for the fallback
        return _native.NULL if column.nullable else 0, 0
    types, items = 0 if column.names else _native.ANYTHING, 0
    for name in column.names:
        types |= _type_bits().get(name, 0)
    if column.date_time:
        types |= _native.DATE_TIME
    if column.bounded:
        types |= _native.BOUNDED
    if column.properties or column.additional is not None:
        types &= ~_native.OBJECT  # its members have types of their own: left to the fallback
    if column.items is not None:
        items, inner = _types(column.items)
        typed_members = column.items.properties or column.items.additional is not None
        nested = items & (_native.ARRAY | _native.ITEMS) or typed_members
        if column.items.names and "integer" not in column.items.names and items & _native.NUMBER:
            items = items & ~_native.NUMBER | _native.DECIMAL
        types = types & ~_native.ARRAY if nested or inner else types | _native.ITEMS
    return types, items


def _type_bits() -> dict[str, int]:
    return {
        "string": _native.STRING,
        "number": _native.NUMBER,
        "integer": _native.INTEGER,
        "boolean": _native.BOOLEAN,
        "null": _native.NULL,
        "array": _native.ARRAY,
        "object": _native.OBJECT,
    }
