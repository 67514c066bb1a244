"""The fast road where it is compiled: `_native.c` reads each event once and writes its line.

The compiled part is optional. Where it could not be built, or TAP_FULLSTORY_PURE_PYTHON is set to
anything, typed.py does the same with msgspec, at two to three times the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from tap_fullstory.columns import ValueType, needs_no_escape
from tap_fullstory.messages import Frame

if TYPE_CHECKING:
    from tap_fullstory._native import Scanner
else:
    try:
        from tap_fullstory._native import Scanner
    except ImportError:
        Scanner = None

# As the enums in _native.c have them.
KEPT, DROPPED = 0, 1
STRING, NUMBER, INTEGER, BOOLEAN, NULL, ARRAY, OBJECT, DATE_TIME, ITEMS = (1 << i for i in range(9))
ANYTHING = STRING | NUMBER | BOOLEAN | NULL | ARRAY | OBJECT
_BY_NAME = {
    "string": STRING,
    "number": NUMBER,
    "integer": INTEGER,
    "boolean": BOOLEAN,
    "null": NULL,
    "array": ARRAY,
    "object": OBJECT,
}


def is_available() -> bool:
    """Whether there is a compiled scanner, and nobody has ruled it out."""
    return Scanner is not None and not os.environ.get("TAP_FULLSTORY_PURE_PYTHON")


class NativeRoad:
    """Runs of events to RECORD lines by the compiled scanner.

    `dropped` are known keys whose values nobody wants. `plain` makes the record of an event that
    the scanner does not take, or None if it is no event.
    """

    def __init__(
        self,
        columns: Mapping[str, ValueType],
        dropped: frozenset[str],
        plain: Callable[[bytes], bytes | None],
        *,
        custom_vars: bool,
        as_text: bool,
    ) -> None:
        known = {name: (KEPT, *_types(column)) for name, column in columns.items()}
        known.update(dict.fromkeys(dropped, (DROPPED, ANYTHING, 0)))
        # The scanner compares keys as they stand; those with escapes it leaves to Python.
        plain_keys = {name: row for name, row in known.items() if needs_no_escape(name)}
        self._scanner = Scanner(plain_keys, custom_vars, as_text)
        self._plain = plain

    def lines(self, run: bytes, frame: Frame) -> tuple[int, bytes, Mapping[str, int]] | None:
        """As records.Road has it."""
        return self._scanner.lines(run, frame.head, frame.tail, self._plain)

    def learn(self, names: Iterable[str]) -> None:
        """As records.Road has it; the scanner learns by itself."""


def _types(column: ValueType) -> tuple[int, int]:
    """What a column and the items of its arrays may be, for the scanner."""
    if not column.names:
        return ANYTHING, 0
    types, items = 0, 0
    for name in column.names:
        types |= _BY_NAME.get(name, 0)
    if column.date_time:
        types |= DATE_TIME
    if column.properties:
        types &= ~OBJECT  # its members have types of their own, which are left to Python
    if column.items is not None:
        items, inner = _types(column.items)
        nested = items & (ARRAY | ITEMS) or column.items.properties
        types = types & ~ARRAY if nested or inner else types | ITEMS
    return types, items
