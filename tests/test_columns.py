"""JSON values against the type that the catalog gives a column."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import oracle
import pytest
from date_times import DATE_TIMES, LOWER_CASE, NO_DATE_TIMES, NOT_STORABLE
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    COLUMNS,
    Json,
    any_json,
    arrays,
    date_time_strings,
    exhaustive,
    indented,
    layouts,
    numbers,
    write,
)

from tap_fullstory.columns import ValueType, value_type
from tap_fullstory.records.json_text import MAX_DEPTH, without_line_breaks


def names(*given: str) -> frozenset[str]:
    return frozenset(given)


INTEGER = ValueType(names("null", "integer"))
NUMBER = ValueType(names("null", "number"))
STRING = ValueType(names("null", "string"))
DATE_TIME = ValueType(names("null", "string"), date_time=True)


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        ({}, ValueType(names())),
        ({"description": "anything"}, ValueType(names())),
        ({"type": "integer"}, ValueType(names("integer"))),
        ({"type": ["null", "integer"]}, INTEGER),
        ({"type": ["integer", "null"], "minimum": 0}, INTEGER),
        ({"type": ["null", "string"], "format": "date-time"}, DATE_TIME),
        ({"type": ["null", "string"], "format": "uri"}, STRING),
        ({"type": ["null", "array"]}, ValueType(names("null", "array"))),
        ({"type": ["null", "array"], "items": {}}, ValueType(names("null", "array"))),
        (
            {"type": ["null", "array"], "items": {"type": "string", "format": "date-time"}},
            ValueType(
                names("null", "array"), items=ValueType(names("string"), date_time=True)
            ),
        ),
        (
            {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ValueType(
                names("array"),
                items=ValueType(names("array"), items=ValueType(names("integer"))),
            ),
        ),
        ({"type": "array", "items": [{"type": "string"}]}, ValueType(names("array"))),
    ],
)  # fmt: skip
def test_the_type_of_a_schema(schema: dict[str, Any], column: ValueType) -> None:
    assert value_type(schema) == column


def test_what_takes_null() -> None:
    assert INTEGER.nullable
    assert ValueType(names()).nullable
    assert not ValueType(names("integer")).nullable


@pytest.mark.parametrize(
    ("column", "value", "fitted"),
    [
        # An integer is passed on as it is, at any size.
        (INTEGER, "0", "0"),
        (INTEGER, "-0", "-0"),
        (INTEGER, "9" * 5000, "9" * 5000),
        (INTEGER, "-123456789012345678901234567890", "-123456789012345678901234567890"),
        # A decimal that is one becomes one.
        (INTEGER, "1.0", "1"),
        (INTEGER, "-1.000", "-1"),
        (INTEGER, "0.0", "0"),
        (INTEGER, "-0.0", "0"),
        (INTEGER, "1e3", "1000"),
        (INTEGER, "1E+3", "1000"),
        (INTEGER, "-1.5e1", "-15"),
        (INTEGER, "12.3400E2", "1234"),
        (INTEGER, "100e-2", "1"),
        (INTEGER, "10e-1", "1"),
        (INTEGER, "0.1e1", "1"),
        (INTEGER, "0e5", "0"),
        (INTEGER, "0e-999999999", "0"),
        (INTEGER, "123456789012345678901234567890.0", "123456789012345678901234567890"),
        (INTEGER, "1e400", "1" + "0" * 400),
        # As long as Python and what is built with it will read; a few characters are no gigabyte.
        (INTEGER, "1e4299", "1" + "0" * 4299),
        (INTEGER, "9.9e4299", "99" + "0" * 4298),
        (INTEGER, "1e4300", None),
        (INTEGER, "10e4299", None),
        (INTEGER, "1e999999999", None),
        (INTEGER, "1e99999999999999999999", None),
        (INTEGER, "1e-999999999", None),
        (INTEGER, "1.5", None),
        (INTEGER, "-0.5", None),
        (INTEGER, "1e-1", None),
        (INTEGER, "10e-2", None),
        (INTEGER, "true", None),
        (INTEGER, '"1"', None),
        (INTEGER, "[]", None),
        (INTEGER, "null", "null"),
        (ValueType(names("integer")), "null", None),
        # A number keeps its text.
        *[(NUMBER, text, text) for text in ("1.10", "1E5", "-0.0", "1e999999999", "7")],
        (NUMBER, '"1.10"', None),
        (NUMBER, "false", None),
        (ValueType(names("integer", "number")), "1.0", "1.0"),
        # Strings keep their escapes, and an empty one is none but where it should be a date-time.
        (STRING, '""', '""'),
        (STRING, '"\\u0041\\/"', '"\\u0041\\/"'),
        (STRING, "1", None),
        (STRING, "null", "null"),
        (DATE_TIME, '""', "null"),
        (DATE_TIME, '"\\u0032026-06-01T12:00:00Z"', '"\\u0032026-06-01T12:00:00Z"'),
        (DATE_TIME, "1780315200", None),
        (ValueType(names("string"), date_time=True), '""', None),
        (ValueType(names("null", "integer"), date_time=True), "5", "5"),
        # Objects and arrays: on one line.
        (ValueType(names("null", "object")), '{"a":\n [1.10,\r\n2]}', '{"a": [1.10,2]}'),
        (ValueType(names("null", "object")), "[]", None),
        (ValueType(names("null", "array")), '[1,\n"x"]', '[1,"x"]'),
        (ValueType(names("array"), items=INTEGER), "[ 1 , 2.0, null]", "[1,2,null]"),
        (ValueType(names("array"), items=INTEGER), "[]", "[]"),
        (ValueType(names("array"), items=INTEGER), '[1,"2"]', None),
        (ValueType(names("array"), items=DATE_TIME), '["",null]', "[null,null]"),
        (ValueType(names("array"), items=DATE_TIME), '["soon"]', None),
        # No type takes anything.
        (ValueType(names()), "[1,\n2.50]", "[1,2.50]"),
        (ValueType(names()), '"x"', '"x"'),
    ],
)
def test_a_value_as_its_column_takes_it(column: ValueType, value: str, fitted: str | None) -> None:
    assert column.coerce(value.encode()) == (None if fitted is None else fitted.encode())


@pytest.mark.parametrize("text", DATE_TIMES)
def test_a_date_time_fits(text: str) -> None:
    value = f'"{text}"'.encode()
    assert DATE_TIME.coerce(value) == value


@pytest.mark.parametrize(("text", "written"), LOWER_CASE.items())
def test_lower_case_letters_of_a_date_time_become_upper_case(text: str, written: str) -> None:
    assert DATE_TIME.coerce(f'"{text}"'.encode()) == f'"{written}"'.encode()
    escaped = text.replace("t", "\\u0074").replace("z", "\\u007a")
    assert DATE_TIME.coerce(f'"{escaped}"'.encode()) == f'"{written}"'.encode()
    items = ValueType(names("array"), items=DATE_TIME)
    assert items.coerce(f'["{text}"]'.encode()) == f'["{written}"]'.encode()


@pytest.mark.parametrize("text", NO_DATE_TIMES[1:] + NOT_STORABLE)
def test_text_that_is_no_date_time_is_a_misfit(text: str) -> None:
    value = '"{}"'.format(text.replace("\n", "\\n")).encode()
    assert DATE_TIME.coerce(value) is None
    assert STRING.coerce(value) == value


@exhaustive(500)
@given(
    column=st.sampled_from(list(COLUMNS.values())),
    value=any_json() | date_time_strings | numbers | arrays,
    blanks=layouts,
)
def test_any_value_in_any_column(column: ValueType, value: Json, blanks: Any) -> None:
    text = write(value, blanks)
    fitted = column.coerce(text.encode())
    expected = oracle.fitted(oracle.load(text), column)
    if expected is oracle.MISFIT:
        assert fitted is None
    else:
        assert fitted is not None
        assert oracle.load(bytes(fitted)) == expected
        assert b"\n" not in fitted
        assert b"\r" not in fitted


@exhaustive(100)
@given(value=any_json())
def test_line_breaks_go_and_nothing_with_them(value: Json) -> None:
    text = write(value, indented)
    assert oracle.load(without_line_breaks(text.encode())) == oracle.load(text)


# --- members of objects ---

RULE = {"type": "object", "properties": {"groupId": {"type": "integer"}}}
GROUP = {
    "type": ["null", "object"],
    "properties": {"name": {"type": "string"}, "rules": {"additionalProperties": RULE}},
    "additionalProperties": {"type": "array", "items": {"type": "integer"}},
}


@pytest.mark.parametrize(
    ("value", "coerced"),
    [
        ('{"name":"a"}', '{"name":"a"}'),
        ('{"name":5}', None),
        ('{"other":[1, 2.0]}', '{"other":[1,2]}'),
        ('{"other":["1"]}', None),
        ('{"other":1}', None),
        ('{"rules":{"a":{"groupId":1.0,"x":"y"}}}', '{"rules":{"a":{"groupId":1,"x":"y"}}}'),
        ('{"rules":{"a":{"groupId":"1"}}}', None),
        ('{"rules":{"a":1}}', None),
        ('{"rules":7}', '{"rules":7}'),
    ],
)
def test_members_fit_their_schema_at_every_depth(value: str, coerced: str | None) -> None:
    found = value_type(GROUP).coerce(value.encode())
    assert found == (coerced.encode() if coerced else None)


def test_members_that_a_schema_rules_out() -> None:
    column = value_type({"properties": {"a": {}}, "additionalProperties": False})
    assert column.coerce(b'{"a":[1]}') == b'{"a":[1]}'
    assert column.coerce(b'{"a":1,"b":2}') is None
    assert value_type({"type": "object", "additionalProperties": True}).additional is None


def test_schemas_and_values_as_deep_as_json_may_be() -> None:
    levels = MAX_DEPTH - 1
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    column = value_type(schema)
    assert column.coerce(b"[" * levels + b"1.0" + b"]" * levels) is not None
    assert column.coerce(b"[" * levels + b"true" + b"]" * levels) is None


# --- numbers and booleans as text ---


@pytest.mark.parametrize(
    ("value", "coerced"),
    [
        ("6606828898126528473", '"6606828898126528473"'),
        ("-1.50", '"-1.50"'),
        ("true", '"true"'),
        ('"x"', '"x"'),
        ("null", "null"),
        ("[]", None),
        ("{}", None),
    ],
)
def test_numbers_and_booleans_as_text(value: str, coerced: str | None) -> None:
    column = ValueType(names("null", "string"), as_text=True)
    assert column.coerce(value.encode()) == (coerced.encode() if coerced else None)
    either = ValueType(names("null", "string", "integer"), as_text=True)
    assert either.coerce(b"1.0") == b"1"
    assert either.coerce(b"1.5") == b'"1.5"'


@pytest.mark.parametrize("value", ['{"a": [1,\n 2]}', "[]", '"x"', "1.50", "true", "null"])
def test_any_value_as_json_text(value: str) -> None:
    column = value_type({"type": ["null", "string"], "contentMediaType": "application/json"})
    coerced = column.coerce(value.encode())
    assert coerced is not None
    assert ord(value[0]) not in column.passed_on or value == "null"
    text = json.loads(coerced)
    assert (text is None) == (value == "null")
    assert text is None or json.loads(text) == json.loads(value)


@pytest.mark.parametrize("number", [b"1" * 20_000_000 + b".0", b"1." + b"0" * 20_000_000])
def test_decimals_of_megabytes_are_not_converted(number: bytes) -> None:
    with mock.patch("tap_fullstory.columns.Decimal", side_effect=AssertionError):
        assert INTEGER.coerce(number) is None
