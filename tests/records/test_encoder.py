"""Events to RECORD lines: both encoders write what docs/columns.md says."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from unittest import mock

import oracle
import pytest
from column_values import VALUES
from encoders import (
    ENVELOPE,
    EVERY_KEY,
    FETCHED_AT,
    FILTERING,
    SELECTIONS,
    counted,
    encoded,
    encoded_by_reference,
    encoder,
    record_of,
    records_of,
    selection,
    stats_of,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    COLUMNS,
    Object,
    any_events,
    exhaustive,
    good_events,
    layouts,
    nearly_good_events,
    strange_events,
    write,
)

from tap_fullstory.catalog import discover
from tap_fullstory.columns import ValueType, value_type
from tap_fullstory.counts import MAX_NAMES
from tap_fullstory.fields import FieldRules, field_patterns
from tap_fullstory.output.messages import record_envelope
from tap_fullstory.records.encoder import RecordEncoder
from tap_fullstory.records.json_text import decode_items, repair_surrogates
from tap_fullstory.selection import select
from tap_fullstory.settings import parse_config

pytestmark = pytest.mark.usefixtures("either_encoder")

# --- any events, by both encoders and by the oracle ---


@exhaustive(600)
@given(
    chosen=st.sampled_from([*SELECTIONS, *FILTERING]),
    runs=st.lists(
        st.lists(any_events, min_size=1, max_size=3)
        | st.lists(good_events, min_size=1, max_size=4)
        | st.lists(nearly_good_events, min_size=1, max_size=1)
        | st.tuples(good_events, nearly_good_events).map(list)
        | st.lists(strange_events, min_size=1, max_size=2),
        min_size=1,
        max_size=4,
    ),
    layout=layouts,
    knowing=st.booleans(),
    text_custom_vars=st.booleans(),
    digest=st.booleans(),
)
def test_both_encoders_give_what_the_catalog_means(
    chosen: str,
    runs: list[list[Object]],
    layout: Any,
    knowing: bool,
    text_custom_vars: bool,
    digest: bool,
) -> None:
    how = {**SELECTIONS, **FILTERING}[chosen]
    either = encoder(how, text_custom_vars=text_custom_vars, digest=digest)
    plain = encoder(how, text_custom_vars=text_custom_vars, digest=digest)
    if knowing:
        encoded(either, EVERY_KEY)
    for events in runs:
        texts = [write(event, layout).encode() for event in events]
        run = (layout("after", 1) + "," + layout("before", 1)).encode().join(texts)
        expected = []
        for text in texts:
            event = oracle.load(text)
            if not oracle.is_written(event, how):
                continue
            record = oracle.record(event, how)
            if digest:
                record["EventDigest"] = oracle.digest(text)
            expected.append(record)
        for batch in encoded(either, run), encoded_by_reference(plain, run):
            assert batch is not None
            assert (batch.events, batch.malformed) == (len(events), None)
            assert batch.stats.left_out == len(events) - len(expected)
            records = records_of(batch)
            if text_custom_vars:
                for record in records:
                    if "CustomVars" in record:
                        record["CustomVars"] = oracle.load(record["CustomVars"])
            assert records == expected


def test_the_native_encoder_is_used() -> None:
    """Otherwise the test above would run one encoder twice."""
    good = '{"PageId": 5, "EventStart": "2026-06-01T12:00:00Z", "evt_plan_str": "gold"}'
    for chosen, how in SELECTIONS.items():
        encode = encoder(how)
        if encode._native is None:
            continue
        with mock.patch.object(
            RecordEncoder, "_encode_members", side_effect=AssertionError(chosen)
        ):
            batch = encoded(encode, f"{good},{good}".encode())
        assert records_of(batch) == [oracle.record(oracle.load(good), how)] * 2


def test_the_catalog_as_discovered_takes_every_documented_field() -> None:
    config = parse_config({"api_key": "na1.test"}, now=FETCHED_AT, environment={})
    (chosen,) = select(discover(config), config)
    samples = {"integer": "7", "number": "1.10", "string": '"x"', "object": "{}"}
    members = []
    for name, column in chosen.columns.items():
        (kind,) = column.names - {"null"}
        value = '"2026-06-01T12:00:00.123Z"' if column.date_time else samples[kind]
        members.append(f'"{name}":{value}')
    event = "{" + ",".join(members) + "}"
    assert record_of(event, encoder(chosen)) == oracle.load(event)
    assert len(members) >= 70


def test_more_custom_variables_than_are_registered_all_come_out() -> None:
    encode = encoder()
    for start in range(0, 1200, 100):
        event = "{" + ",".join(f'"evt_{n}_int":{n}' for n in range(start, start + 100)) + "}"
        assert record_of(event, encode) == {"CustomVars": oracle.load(event)}
    last = '{"PageId":1,"evt_0_int":0,"evt_1199_int":2}'
    expected = {
        "PageId": ("int", "1"),
        "CustomVars": oracle.load('{"evt_0_int":0,"evt_1199_int":2}'),
    }
    assert record_of(last, encode) == expected


# --- values ---


def test_a_value_that_fits_is_written_and_another_goes_to_custom_vars() -> None:
    for column, value, fitted in VALUES:
        expected: dict[str, Any] = {column: fitted and oracle.load(fitted)}
        if fitted is None:
            expected["CustomVars"] = {column: oracle.load(value)}
            if not COLUMNS[column].nullable:
                del expected[column]
        assert record_of(f'{{"{column}":{value}}}') == expected, value


def test_the_format_of_a_date_time_is_for_texts_alone() -> None:
    """An edited catalog may give it to any column."""
    column = ValueType(frozenset({"null", "integer"}), date_time=True)
    encode = encoder(selection({"At": column}))
    for _ in range(2):  # the second time the key has been learned
        assert record_of('{"At":5}', encode) == {"At": ("int", "5")}
        assert record_of('{"At":null}', encode) == {"At": None}


@pytest.mark.parametrize(
    ("event", "record"),
    [
        ("{}", "{}"),
        ("{ \n }", "{}"),
        ('{"CustomVars":{"a":1}}', '{"CustomVars":{"CustomVars":{"a":1}}}'),
        ('{"EventDigest":"x"}', '{"CustomVars":{"EventDigest":"x"}}'),
        ('{"":0}', '{"CustomVars":{"":0}}'),
        ('{"pageid":1}', '{"CustomVars":{"pageid":1}}'),
        # Duplicate keys: the last wins, whatever the first was.
        ('{"PageId":1,"PageId":2}', '{"PageId":2}'),
        ('{"PageId":"x","PageId":2}', '{"PageId":2}'),
        ('{"PageId":2,"PageId":"x"}', '{"PageId":null,"CustomVars":{"PageId":"x"}}'),
        ('{"PageId":1,"\\u0050ageId":2}', '{"PageId":2}'),
        ('{"evt_a":1,"PageId":2,"evt_a":[3]}', '{"PageId":2,"CustomVars":{"evt_a":[3]}}'),
        ('{"EventStart":"x","EventStart":""}', '{"EventStart":null}'),
        ('{"Nested":5,"Nested":{}}', '{"Nested":{}}'),
    ],
)
def test_the_keys_of_an_event(event: str, record: str) -> None:
    encode = encoder()
    for _ in range(2):  # the second time the unknown keys have been learned
        assert record_of(event, encode) == oracle.load(record)


# --- lone surrogates ---


@pytest.mark.parametrize(
    ("escaped", "text", "repaired"),
    [
        ("\\ud83d\\ude00", "😀", 0),
        ("\\uD83D\\uDE00", "😀", 0),
        ("\\ud83d", "\ufffd", 1),
        ("\\uDE00", "\ufffd", 1),
        ("a\\ud83db", "a\ufffdb", 1),
        ("\\ude00\\ud83d", "\ufffd\ufffd", 2),
        ("\\ud83d\\ud83d\\ude00", "\ufffd😀", 1),
        ("\\ud83d\\ude00\\ude00", "😀\ufffd", 1),
        ("\\ud83d\\u0041", "\ufffdA", 1),
        ("\\ud83d\\ue000", "\ufffd\ue000", 1),
        ("\\ud83d\\n", "\ufffd\n", 1),
        ("\\ud83d\\\\ude00", "\ufffd\\ude00", 1),
        ("\\\\ud800", "\\ud800", 0),
        ("\\\\\\ud800", "\\\ufffd", 1),
        ("\\\\\\\\ud800", "\\\\ud800", 0),
        ("\\ud7ff\\ue000", "\ud7ff\ue000", 0),
    ],
)
def test_a_lone_surrogate_becomes_a_replacement_character(
    escaped: str, text: str, repaired: int
) -> None:
    places = {
        f'{{"EventTargetText":"{escaped}"}}': {"EventTargetText": text},
        f'{{"evt_a":"{escaped}"}}': {"CustomVars": {"evt_a": text}},
        f'{{"evt_a":["{escaped}"]}}': {"CustomVars": {"evt_a": [text]}},
        f'{{"{escaped}":null}}': {"CustomVars": {text: None}},
        f'{{"Nested":{{"{escaped}":true}}}}': {"Nested": {text: True}},
    }
    encode = encoder()
    for event, record in places.items():
        assert record_of(event, encode) == record
        assert record_of(event, encode) == record
        assert stats_of(event).repaired == repaired
    written, count = repair_surrogates(f'"{escaped}"'.encode())
    assert (json.loads(written), count, len(written)) == (text, repaired, len(escaped) + 2)


# --- lines ---


def test_line_breaks_between_tokens_do_not_reach_the_output() -> None:
    for line_break in ("\n", "\r\n", "\r"):
        event = '{"PageId":7,"Nested":{"a":[1,2]},"evt_a":[3,{"b":4}],"evt_n_ints":[5,6]}'
        odd = event.replace(",", line_break + "," + line_break).replace(":", ":" + line_break)
        for how in SELECTIONS.values():
            encode = encoder(how)
            for _ in range(2):
                assert record_of(odd, encode) == oracle.record(oracle.load(event), how)
        text = record_of(odd, encoder(text_custom_vars=True))["CustomVars"]
        assert oracle.load(text) == oracle.load('{"evt_a":[3,{"b":4}]}')
        assert "\n" not in text
        assert "\r" not in text


def test_a_stream_of_another_name_is_framed_with_it() -> None:
    envelope = record_envelope('ev"ents\n', FETCHED_AT - timedelta(microseconds=7))
    batch = next(encoder().encode(b'{"PageId":1}', envelope))
    assert batch.lines.count(b"\n") == 1
    assert json.loads(batch.lines) == {
        "type": "RECORD",
        "stream": 'ev"ents\n',
        "record": {"PageId": 1},
        "time_extracted": "2026-06-02T12:00:00.000000Z",
    }


# --- what a catalog says otherwise ---


def test_numbers_and_booleans_that_a_catalog_declares_as_string() -> None:
    config = parse_config({"api_key": "na1.test"}, now=FETCHED_AT, environment={})
    catalog = discover(config)
    (stream,) = [entry for entry in catalog["streams"] if entry["tap_stream_id"] == "events"]
    properties = stream["schema"]["properties"]
    for name in ("UserId", "EventTargetText"):
        properties[name] = {"type": ["null", "string"]}
    properties["evt_n_int"] = {"type": ["null", "string"], "selected": True}
    (chosen,) = [one for one in select(catalog, config) if one.name == "events"]
    encode = encoder(chosen)
    assert record_of('{"UserId":6606828898126528473}', encode) == {"UserId": "6606828898126528473"}
    assert record_of('{"UserId":1.50}', encode) == {"UserId": "1.50"}
    # What we declare as string, or do not declare, has to be one.
    for name in ("EventTargetText", "evt_n_int"):
        assert record_of(f'{{"{name}":5}}', encode) == {
            name: None,
            "CustomVars": {name: ("int", "5")},
        }


# --- limits ---


def test_a_chunk_is_split_once_however_small_its_batches() -> None:
    encode = encoder()
    chunk = b",".join(b'{"PageId":%d}' % number for number in range(100))
    with (
        mock.patch.object(encode, "_native", None),
        mock.patch("tap_fullstory.records.encoder.decode_items", wraps=decode_items) as split,
    ):
        batches = list(encode.encode(chunk, ENVELOPE, max_events=7))
    assert split.call_count == 1
    assert [batch.events for batch in batches] == [7] * 14 + [2]
    assert batches[-1].consumed == len(chunk)


@pytest.mark.parametrize("max_events", [1, 7, 1000])
def test_batches_of_any_size_have_the_same_lines(max_events: int) -> None:
    texts = ['{"PageId":1}', '{"PageId":2.0}', '{"evt_a":"\\ud83d"}', '{"a":"}, {"}', "{ }"] * 9
    chunk = " ,\n".join(texts).encode()
    whole = encoded(encoder(), chunk)
    assert whole is not None
    batches = list(encoder().encode(chunk, ENVELOPE, max_events=max_events))
    assert b"".join(batch.lines for batch in batches) == whole.lines
    assert sum(batch.events for batch in batches) == 45
    assert sum(batch.stats.repaired for batch in batches) == whole.stats.repaired == 9
    for batch in batches:
        assert 0 < batch.events <= max_events
        assert chunk[: batch.consumed].endswith(b"}")


def test_many_undeclared_names_are_counted_in_bounded_memory() -> None:
    event = "{" + ",".join(f'"evt_{n}_int":{n}' for n in range(40_000)) + "}"
    encode = encoder()
    batch = encoded(encode, event.encode())
    assert records_of(batch) == [{"CustomVars": oracle.load(event)}]
    assert len(counted(batch).undeclared) == MAX_NAMES
    assert counted(batch).undeclared.total() == 40_000


@pytest.mark.parametrize("kind", ['"click"', r'"cl\u0069ck"', r'"\u0063lick"'])
@pytest.mark.parametrize(("types", "written"), [("click", 1), ("!click", 0), ("!load", 1)])
def test_a_type_with_escapes_is_the_type_without(kind: str, types: str, written: int) -> None:
    encode = encoder(selection({}, event_types=types))
    event = f'{{"EventType":{kind}}}'.encode()
    for _ in range(2):  # with the key unknown, and known
        for batch in (encoded(encode, event), encoded_by_reference(encode, event)):
            assert batch is not None
            assert (len(records_of(batch)), counted(batch).left_out) == (written, 1 - written)


# Schemas that an edited catalog may have: any types, formats and members, whatever they mean.
_schemas = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.lists(
                st.sampled_from(
                    ["null", "string", "integer", "number", "boolean", "array", "object"]
                ),
                max_size=4,
            ),
            "format": st.sampled_from(["date-time", "int64", "uri"]),
            "contentMediaType": st.sampled_from(["application/json", "text/html"]),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from([["null", "array"], ["object"], ["null", "array", "object"]])},
        optional={
            "items": inner,
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "additionalProperties": inner | st.booleans(),
        },
    ),
    max_leaves=4,
)
_VALUES = [
    *["null", "true", "1", "1.0", "-0", "1e3", '"x"', '""', '"2026-06-01t00:00:00z"', "[]", "{}"],
    *["[1,2.5]", '["2026-06-01T00:00:00Z",null]', '[{"a":1}]', '{"a":1,"b":"x"}', '[["x"]]'],
]


@exhaustive(300)
@given(
    schemas=st.lists(_schemas, min_size=3, max_size=3),
    values=st.lists(st.sampled_from(_VALUES), min_size=4, max_size=4),
    hashes=st.lists(st.sampled_from(["c0", "c1", "b", "new"]), max_size=2),
    as_text=st.booleans(),
)
def test_both_encoders_write_the_same_bytes_for_any_catalog(
    schemas: list[Any], values: list[str], hashes: list[str], as_text: bool
) -> None:
    rules = FieldRules(("events",), field_patterns([], hashes), oracle.HASH_KEY)
    listed = rules.schema({f"c{n}": schema for n, schema in enumerate(schemas)})
    columns = {name: value_type(schema) for name, schema in listed.items()}
    encode = encoder(selection(columns, rules=rules), text_custom_vars=as_text)
    names = ["c0", "c1", "c2", "new"]
    members = [f'"{name}":{value}' for name, value in zip(names, values, strict=True)]
    event = "{%s}" % ",".join(members)  # noqa: UP031 - braces
    native = encoded(encode, event.encode())
    reference = encoded_by_reference(encode, event.encode())
    assert native is not None
    assert reference is not None
    assert native.lines == reference.lines
    assert counted(native) == counted(reference)
