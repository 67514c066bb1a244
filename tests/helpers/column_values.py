"""Values, and what becomes of each in a column of strategies.COLUMNS. What takes values one by one,
and both encoders, are held to the same table.
"""

from __future__ import annotations

import json

from date_times import DATE_TIMES, LOWER_CASE, NO_DATE_TIMES, NOT_STORABLE

SAME = "same"  # it is written as it came


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# Column, value, and the value that is written; None: the value does not fit.
_ROWS: list[tuple[str, str, str | None]] = [
    # An integer is passed on as it is, at any size.
    ("PageId", "0", SAME),
    ("PageId", "-0", SAME),
    ("PageId", "9" * 5000, SAME),
    ("PageId", "-123456789012345678901234567890", SAME),
    # A decimal that is an integer becomes one.
    ("PageId", "1.0", "1"),
    ("PageId", "-1.000", "-1"),
    ("PageId", "0.0", "0"),
    ("PageId", "-0.0", "0"),
    ("PageId", "1e3", "1000"),
    ("PageId", "1E+3", "1000"),
    ("PageId", "-1.5e1", "-15"),
    ("PageId", "12.3400E2", "1234"),
    ("PageId", "100e-2", "1"),
    ("PageId", "10e-1", "1"),
    ("PageId", "0.1e1", "1"),
    ("PageId", "0e5", "0"),
    ("PageId", "0e-999999999", "0"),
    ("PageId", "0e999999999", "0"),
    ("PageId", "123456789012345678901234567890.0", "123456789012345678901234567890"),
    ("PageId", "1e400", "1" + "0" * 400),
    # As long as Python and what is built with it will read; a few characters are no gigabyte.
    ("PageId", "1e4299", "1" + "0" * 4299),
    ("PageId", "9.9e4299", "99" + "0" * 4298),
    ("PageId", "1e4300", None),
    ("PageId", "10e4299", None),
    ("PageId", "1e999999999", None),
    ("PageId", "1e99999999999999999999", None),
    ("PageId", "1e-999999999", None),
    ("PageId", "1.5", None),
    ("PageId", "-0.5", None),
    ("PageId", "1e-1", None),
    ("PageId", "10e-2", None),
    ("PageId", "true", None),
    ("PageId", '"1"', None),
    ("PageId", '""', None),
    ("PageId", "[]", None),
    ("PageId", "{}", None),
    ("PageId", "null", SAME),
    ("Always", "null", None),
    ("Always", '"x"', None),
    # A number keeps its text.
    *[("Ratio", text, SAME) for text in ("1.10", "1E5", "-0.0", "1e999999999", "7", "9" * 30)],
    ("Ratio", '"1.10"', None),
    ("Ratio", "false", None),
    ("Flag", "false", SAME),
    ("Flag", "0", None),
    # Strings keep their escapes, and an empty one is null only where a date-time is expected.
    ("EventTargetText", '""', SAME),
    ("EventTargetText", '"\\u0041\\/"', SAME),
    ("EventTargetText", '"\\u0000"', SAME),
    ("EventTargetText", '"\u2028\x7f\\/"', SAME),
    ("EventTargetText", "1", None),
    ("EventTargetText", "null", SAME),
    # Date-times.
    *[("EventStart", _quoted(text), SAME) for text in DATE_TIMES],
    *[("EventStart", _quoted(text), _quoted(LOWER_CASE[text])) for text in LOWER_CASE],
    ("EventStart", '"2026-06-01\\u007412:00:00\\u007a"', '"2026-06-01T12:00:00Z"'),
    *[("EventStart", _quoted(text), None) for text in NO_DATE_TIMES[1:] + NOT_STORABLE],
    ("EventStart", '""', "null"),
    ("EventStart", '"\\u0032026-06-01T12:00:00Z"', SAME),
    ("EventStart", "1780315200", None),
    ("AlwaysThen", '""', None),
    # Objects and arrays: on one line.
    ("Nested", '{"a":\n [1.10,\r\n2]}', '{"a": [1.10,2]}'),
    ("Nested", "[]", None),
    ("evt_n_ints", "[ 1 , 2.0]", "[1,2]"),
    ("evt_n_ints", "[]", SAME),
    ("evt_n_ints", '[1,"2"]', None),
    ("evt_n_ints", "[1,null]", None),
    ("evt_n_reals", "[1.50,null]", SAME),
    ("evt_at_dates", '["",null]', "[null,null]"),
    ("evt_at_dates", '["2016-12-31t23:59:59z"]', '["2016-12-31T23:59:59Z"]'),
    ("evt_at_dates", '["soon"]', None),
    # No type takes anything.
    ("Anything", "[1,\n2.50]", "[1,2.50]"),
    ("Anything", '"x"', SAME),
]
VALUES = [(column, value, value if fitted is SAME else fitted) for column, value, fitted in _ROWS]
