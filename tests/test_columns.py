"""JSON values against the type that the catalog gives a column."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import oracle
import pytest
from column_values import VALUES
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


@pytest.mark.parametrize(("column", "value", "fitted"), VALUES)
def test_a_value_is_written_as_its_column_takes_it(
    column: str, value: str, fitted: str | None
) -> None:
    assert COLUMNS[column].coerce(value.encode()) == (fitted.encode() if fitted else None)


def test_a_column_of_two_types_takes_both() -> None:
    assert ValueType(names("integer", "number")).coerce(b"1.0") == b"1.0"
    assert ValueType(names("null", "integer"), date_time=True).coerce(b"5") == b"5"
    assert ValueType(names("null", "array")).coerce(b'[1,\n"x"]') == b'[1,"x"]'


@exhaustive(500)
@given(
    column=st.sampled_from(list(COLUMNS.values())),
    value=any_json() | date_time_strings | numbers | arrays,
    layout=layouts,
)
def test_any_value_in_any_column(column: ValueType, value: Json, layout: Any) -> None:
    text = write(value, layout)
    fitted = column.coerce(text.encode())
    expected = oracle.fitted(oracle.load(text), column)
    if expected is oracle.MISMATCH:
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
