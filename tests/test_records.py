"""Events to RECORD lines: the fast road and the plain one give what design section 4 asks for."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    COLUMNS,
    DATE_TIMES,
    NO_DATE_TIMES,
    Object,
    any_events,
    exhaustive,
    good_events,
    layouts,
    strange_events,
    write,
)

from tap_fullstory.catalog import Selection, discover, select
from tap_fullstory.columns import ValueType
from tap_fullstory.config import parse_config
from tap_fullstory.fast import FastRoad
from tap_fullstory.records import (
    Batch,
    RecordEncoder,
    Tally,
    event_digest,
    record_frame,
    repair_surrogates,
)

FETCHED_AT = datetime(2026, 6, 2, 12, 0, 0, 7, tzinfo=timezone.utc)
FRAME = record_frame("events", FETCHED_AT)
PROMOTED = [name for name in COLUMNS if name.startswith(("user_", "evt_"))]


def selection(
    columns: dict[str, ValueType] | None = None,
    dropped: frozenset[str] = frozenset(),
    custom_vars: bool = True,
) -> Selection:
    return Selection(
        stream="events",
        columns=COLUMNS if columns is None else columns,
        dropped=dropped,
        custom_vars=custom_vars,
        schema={},
        key_properties=[],
    )


def without(*names: str) -> dict[str, ValueType]:
    return {name: column for name, column in COLUMNS.items() if name not in names}


SELECTIONS = {
    "all columns": selection(),
    "no custom variable promoted": selection(without(*PROMOTED)),
    "CustomVars deselected": selection(custom_vars=False),
    "few columns": selection(
        {name: COLUMNS[name] for name in ("EventStart", "PageId", "evt_items_int")},
        frozenset(COLUMNS) - {"EventStart", "PageId", "evt_items_int"},
    ),
    "few columns, the rest not listed": selection(
        {name: COLUMNS[name] for name in ("EventTargetText", "PageStart")}
    ),
    "few columns, and no CustomVars": selection(
        {name: COLUMNS[name] for name in ("Always", "Nested")},
        frozenset({"PageId", "evt_new_str"}),
        custom_vars=False,
    ),
    "custom variables dropped": selection(
        without("user_plan_str"), frozenset({"user_plan_str", "page_x_real", "evt_new_str"})
    ),
    "no columns": selection({}),
    "nothing": selection({}, frozenset(COLUMNS), custom_vars=False),
}
ALL_COLUMNS = SELECTIONS["all columns"]


def encoder(
    chosen: Selection = ALL_COLUMNS, *, text_custom_vars: bool = False, digest: bool = False
) -> RecordEncoder:
    return RecordEncoder(chosen, text_custom_vars=text_custom_vars, digest=digest)


def encode_plainly(
    encode: RecordEncoder, run: bytes, since: datetime | None = None
) -> Batch | None:
    """What `encode` makes of a run when nothing takes the fast road."""
    with mock.patch.object(FastRoad, "records", return_value=None):
        return encode.encode(run, FRAME, since)


def records_of(batch: Batch | None) -> list[dict[str, Any]]:
    """The records of a batch's lines, each line looked at: one line, UTF-8, framed right."""
    assert batch is not None
    lines = batch.lines.split(b"\n")
    assert lines.pop() == b""
    assert b"\r" not in batch.lines
    messages = [oracle.load(line) for line in lines]
    for message in messages:
        assert list(message) == ["type", "stream", "record", "time_extracted"]
        assert message["type"] == "RECORD"
        assert message["stream"] == "events"
        assert message["time_extracted"] == "2026-06-02T12:00:00.000007Z"
    return [message["record"] for message in messages]


def record_of(event: str, encode: RecordEncoder | None = None) -> dict[str, Any]:
    """The record of one event, the same by both roads."""
    encode = encode or encoder()
    (record,) = records_of(encode.encode(event.encode(), FRAME))
    assert [record] == records_of(encode_plainly(encode, event.encode()))
    return record


def tally_of(run: str, chosen: Selection = ALL_COLUMNS) -> Tally:
    """What is counted over a run, the same the second time, when its keys are known."""
    encode = encoder(chosen)
    batches = [encode.encode(run.encode(), FRAME) for _ in range(2)]
    assert counted(batches[0]) == counted(batches[1])
    return counted(batches[0])


def counted(batch: Batch | None) -> Tally:
    assert batch is not None
    total = Tally()
    total.add(batch.tally)
    return total


# --- any events, by both roads and by the oracle ---


@exhaustive(400)
@given(
    chosen=st.sampled_from(list(SELECTIONS)),
    runs=st.lists(
        st.lists(any_events, min_size=1, max_size=3)
        | st.lists(good_events, min_size=1, max_size=4)
        | st.lists(strange_events, min_size=1, max_size=2),
        min_size=1,
        max_size=4,
    ),
    blanks=layouts,
    text_custom_vars=st.booleans(),
    digest=st.booleans(),
)
def test_both_roads_give_what_the_catalog_means(
    chosen: str, runs: list[list[Object]], blanks: Any, text_custom_vars: bool, digest: bool
) -> None:
    how = SELECTIONS[chosen]
    either = encoder(how, text_custom_vars=text_custom_vars, digest=digest)
    plain = encoder(how, text_custom_vars=text_custom_vars, digest=digest)
    for events in runs:
        texts = [write(event, blanks).encode() for event in events]
        run = (blanks("after", 1) + "," + blanks("before", 1)).encode().join(texts)
        expected = []
        for text in texts:
            record = oracle.record(oracle.load(text), how)
            if digest:
                record["EventDigest"] = oracle.digest(text)
            expected.append(record)
        for batch in either.encode(run, FRAME), encode_plainly(plain, run):
            assert batch is not None
            assert (batch.events, batch.malformed) == (len(events), None)
            records = records_of(batch)
            if text_custom_vars:
                for record in records:
                    if "CustomVars" in record:
                        record["CustomVars"] = oracle.load(record["CustomVars"])
            assert records == expected


def test_the_fast_road_is_taken() -> None:
    """Otherwise the test above would run one road twice."""
    good = '{"PageId": 5, "EventStart": "2026-06-01T12:00:00Z", "evt_plan_str": "gold"}'
    for chosen, how in SELECTIONS.items():
        encode = encoder(how)
        encode.encode(good.encode(), FRAME)  # learns evt_plan_str
        with mock.patch.object(RecordEncoder, "_plain", side_effect=AssertionError(chosen)):
            batch = encode.encode(f"{good},{good}".encode(), FRAME)
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


def test_more_custom_variables_than_are_learned_all_come_out() -> None:
    encode = encoder()
    for start in range(0, 1200, 100):
        event = "{" + ",".join(f'"evt_{n}_int":{n}' for n in range(start, start + 100)) + "}"
        assert record_of(event, encode) == {"CustomVars": oracle.load(event)}
    last = '{"PageId":1,"evt_0_int":0,"evt_1199_int":2}'
    expected = {"PageId": ("int", "1"), "CustomVars": oracle.load('{"evt_0_int":0,"evt_1199_int":2}')}
    assert record_of(last, encode) == expected


# --- values ---


@pytest.mark.parametrize(
    ("column", "value", "record"),
    [
        # Integers, at any size, and decimals that are integers.
        ("PageId", "12", '{"PageId":12}'),
        ("PageId", "123456789012345678901234567890", None),
        ("PageId", "-18446744073709551617", None),
        ("PageId", "9" * 4000, None),
        ("PageId", "1.0", '{"PageId":1}'),
        ("PageId", "1e3", '{"PageId":1000}'),
        ("PageId", "12.3400E2", '{"PageId":1234}'),
        ("PageId", "-0.0", '{"PageId":0}'),
        ("PageId", "0e999999999", '{"PageId":0}'),
        ("PageId", "1e400", f'{{"PageId":1{"0" * 400}}}'),
        ("PageId", "1e4299", f'{{"PageId":1{"0" * 4299}}}'),
        ("PageId", "1e4300", '{"PageId":null,"CustomVars":{"PageId":1e4300}}'),
        ("PageId", "1e999999999", '{"PageId":null,"CustomVars":{"PageId":1e999999999}}'),
        ("PageId", "1.5", '{"PageId":null,"CustomVars":{"PageId":1.5}}'),
        ("PageId", "1e-999999999", '{"PageId":null,"CustomVars":{"PageId":1e-999999999}}'),
        ("PageId", '"12"', '{"PageId":null,"CustomVars":{"PageId":"12"}}'),
        ("PageId", "true", '{"PageId":null,"CustomVars":{"PageId":true}}'),
        ("PageId", "null", '{"PageId":null}'),
        ("PageId", "{}", '{"PageId":null,"CustomVars":{"PageId":{}}}'),
        # Numbers keep their text.
        ("LoadFirstPaintTime", "1.10", None),
        ("LoadFirstPaintTime", "1E5", None),
        ("LoadFirstPaintTime", "1e999999999", None),
        ("LoadFirstPaintTime", "123456789012345678901234567890", None),
        ("LoadFirstPaintTime", '"1"', '{"LoadFirstPaintTime":null,"CustomVars":{"LoadFirstPaintTime":"1"}}'),
        # Date-times.
        ("EventStart", '""', '{"EventStart":null}'),
        ("EventStart", '"\\u0032026-06-01T12:00:00Z"', '{"EventStart":"2026-06-01T12:00:00Z"}'),
        ("EventStart", "5", '{"EventStart":null,"CustomVars":{"EventStart":5}}'),
        # Others.
        ("Flag", "false", None),
        ("Flag", "0", '{"Flag":null,"CustomVars":{"Flag":0}}'),
        ("Nested", '{ "a" : [ 1.10 ] }', '{"Nested":{"a":[1.10]}}'),
        ("Nested", "[]", '{"Nested":null,"CustomVars":{"Nested":[]}}'),
        ("EventTargetText", '""', None),
        ("EventTargetText", '"\\u0000"', None),
        ("EventTargetText", '"\u2028\x7f\\/"', None),
        ("evt_sizes_ints", "[1,2.0]", '{"evt_sizes_ints":[1,2]}'),
        ("evt_sizes_ints", '[1,"2"]', '{"evt_sizes_ints":null,"CustomVars":{"evt_sizes_ints":[1,"2"]}}'),
        ("evt_when_dates", '["",null,"2016-12-31T23:59:60Z"]', '{"evt_when_dates":[null,null,"2016-12-31T23:59:60Z"]}'),
        ("evt_when_dates", '["soon"]', '{"evt_when_dates":null,"CustomVars":{"evt_when_dates":["soon"]}}'),
        # A column that is never null is absent instead.
        ("Always", '"x"', '{"CustomVars":{"Always":"x"}}'),
        ("AlwaysThen", '""', '{"CustomVars":{"AlwaysThen":""}}'),
    ],
)  # fmt: skip
def test_a_value_in_its_column(column: str, value: str, record: str | None) -> None:
    event = f'{{"{column}":{value}}}'
    assert record_of(event) == oracle.load(record or event)


@pytest.mark.parametrize("text", DATE_TIMES)
def test_a_date_time_goes_out_as_it_came(text: str) -> None:
    assert record_of(json.dumps({"EventStart": text})) == {"EventStart": text}


@pytest.mark.parametrize("text", NO_DATE_TIMES[1:])
def test_what_is_no_date_time_is_a_misfit(text: str) -> None:
    expected = {"EventStart": None, "CustomVars": {"EventStart": text}}
    assert record_of(json.dumps({"EventStart": text})) == expected


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


# --- half surrogate pairs ---


@pytest.mark.parametrize(
    ("spelt", "text", "repaired"),
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
def test_half_a_pair_becomes_a_replacement_character(spelt: str, text: str, repaired: int) -> None:
    places = {
        f'{{"EventTargetText":"{spelt}"}}': {"EventTargetText": text},
        f'{{"evt_a":"{spelt}"}}': {"CustomVars": {"evt_a": text}},
        f'{{"evt_a":["{spelt}"]}}': {"CustomVars": {"evt_a": [text]}},
        f'{{"{spelt}":null}}': {"CustomVars": {text: None}},
        f'{{"Nested":{{"{spelt}":true}}}}': {"Nested": {text: True}},
    }
    encode = encoder()
    for event, record in places.items():
        assert record_of(event, encode) == record
        assert record_of(event, encode) == record
        assert tally_of(event).repaired == repaired
    mended, count = repair_surrogates(f'"{spelt}"'.encode())
    assert (json.loads(mended), count, len(mended)) == (text, repaired, len(spelt) + 2)


# --- lines ---


def test_line_breaks_between_tokens_do_not_reach_the_output() -> None:
    for line_break in ("\n", "\r\n", "\r"):
        event = '{"PageId":7,"Nested":{"a":[1,2]},"evt_a":[3,{"b":4}],"evt_sizes_ints":[5,6]}'
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
    frame = record_frame('ev"ents\n', FETCHED_AT - timedelta(microseconds=7))
    batch = encoder().encode(b'{"PageId":1}', frame)
    assert batch is not None
    assert batch.lines.count(b"\n") == 1
    assert json.loads(batch.lines) == {
        "type": "RECORD",
        "stream": 'ev"ents\n',
        "record": {"PageId": 1},
        "time_extracted": "2026-06-02T12:00:00.000000Z",
    }


# --- what is no event, and what is no JSON ---

GOOD = '{"PageId":1,"evt_a":"x"}'


@pytest.mark.parametrize(
    "bad",
    [
        *[b"5", b"null", b"true", b'"x"', b"[]", b'[{"PageId":1}]', b"-1.5e7"],
        *[b'{"EventTargetText":"\xff"}', b'{"evt_a":"\xff"}', b'{"\xff":1}', b'{"PageId":"\xff"}'],
        *[b'{"evt_b":{"\xff":1}}', b'{"evt_b":["\xed\xa0\x80"]}', b'{"Flag":true,"Mixed":"\xc3"}'],
        *[b'{"evt_a":"\xff","evt_a":1}', b'{"Nested":"\xff","Nested":{}}'],
        *[b'{"LoadFirstPaintTime":"\xff","LoadFirstPaintTime":1.5}', b'{"evt_when_dates":["\xff"]}'],
    ],
)  # fmt: skip
@pytest.mark.parametrize("chosen", SELECTIONS)
def test_what_is_no_event_is_told_by_its_place(chosen: str, bad: bytes) -> None:
    good = GOOD.encode()
    expected = [oracle.record(oracle.load(good), SELECTIONS[chosen])] * 2
    encode = encoder(SELECTIONS[chosen])
    encode.encode(good, FRAME)
    for _ in range(2):
        run = good + b", " + good + b" ,\n " + bad + b"," + good
        batch = encode.encode(run, FRAME)
        assert records_of(batch) == expected
        assert batch is not None
        assert (batch.events, batch.malformed) == (2, run.index(b" ,\n ") + 4)
        first = encode.encode(bad + b"," + good, FRAME)
        assert first is not None
        assert (first.events, first.lines, first.malformed) == (0, b"", 0)


@pytest.mark.parametrize(
    "broken",
    [
        *[b"", b"{", b"{}}", b"{},", b",{}", b"{} {}", b"{},,{}", b"{}]", b"[{}", b"{}],[{}"],
        *[b'{"a"}', b'{"a":}', b'{"a":1,}', b'{a:1}', b"{'a':1}", b'{"a":1 "b":2}', b'{"a":1;}'],
        *[b'{"a":01}', b'{"a":1.}', b'{"a":.5}', b'{"a":+1}', b'{"a":1e}', b'{"a":0x1}', b'{"a":-}'],
        *[b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":True}', b'{"a":nul}'],
        *[b'{"a":"\n"}', b'{"a":"\x00"}', b'{"a":"\x1f"}', b'{"\t":1}', b'{"a":["\r"]}'],
        *[b'{"a":"\\x"}', b'{"a":"\\u12"}', b'{"a":"\\u12G4"}', b'{"a":"\\"}', b'{"a":"x}', b'{"a":"\\ud8"}'],
        *[b'{"a":"\\ud800\\u12"}', b'{"a":"\\\n"}', b'{"a":1}\x0c', b'\xa0{"a":1}', b'{"a":1}//x'],
        *[b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("chosen", ["all columns", "few columns", "CustomVars deselected"])
def test_what_is_no_run_of_events_is_none(chosen: str, broken: bytes) -> None:
    """In keys that nobody knows, in columns, and in those that are deselected."""
    encode = encoder(SELECTIONS[chosen], digest=b"[" in broken)
    for key in (b'"a"', b'"PageId"', b'"EventTargetText"', b'"Nested"'):
        run = broken.replace(b'"a"', key)
        batch = encode.encode(run, FRAME)
        # An empty run is an empty array, which holds no event.
        assert batch is None or batch.events == 0
        assert encode.encode(GOOD.encode() + b"," + run, FRAME) is None


# --- what is counted ---


@pytest.mark.parametrize(
    ("run", "tally"),
    [
        (GOOD, Tally()),
        ('{"PageId":"x"},{"PageId":1},{"PageId":"y","Flag":0}', Tally(misfits={"PageId": 2, "Flag": 1})),
        ('{"EventStart":""},{"PageId":1.0}', Tally()),
        ('{"PageId":"x","PageId":1}', Tally()),
        ('{"evt_a":"\\ud83d"},{"PageId":1},{"EventTargetText":"\\ude00\\ud83d"}', Tally(repaired=3)),
        ('{"Always":null}', Tally(misfits={"Always": 1})),
    ],
)  # fmt: skip
def test_the_tally(run: str, tally: Tally) -> None:
    assert tally_of(run) == tally


def test_what_deselected_custom_vars_drops_is_counted() -> None:
    """Unknown keys and misfits alike; values of deselected columns are not."""
    how = SELECTIONS["few columns, and no CustomVars"]
    run = '{"Always":"x","evt_b":1,"evt_new_str":2,"PageId":"x"},{"evt_b":1,"evt_b":2},{"Always":1}'
    assert tally_of(run, how) == Tally(dropped={"Always": 1, "evt_b": 2})
    encode = encoder(how)
    encode.encode(run.encode(), FRAME)
    # A key learned before that is not there is not even counted as zero.
    assert not counted(encode.encode(b'{"Always":1}', FRAME)).dropped


def test_events_before_a_malformed_one_are_counted_and_those_after_it_are_not() -> None:
    good, bad = '{"evt_b":"\\ud83d","Always":"x"}', '{"evt_b":1},5,{"evt_b":"\\ud83d","Always":"x"}'
    for custom_vars in (True, False):
        batch = encoder(selection(custom_vars=custom_vars)).encode(f"{good},{bad}".encode(), FRAME)
        assert batch is not None
        assert batch.events == 2
        wanted = tally_of(f"{good},{{\"evt_b\":1}}", selection(custom_vars=custom_vars))
        assert counted(batch) == wanted
        assert wanted.repaired == 1


# --- events from before a bookmark ---


@pytest.mark.parametrize("digest", [False, True])
def test_events_from_before_a_moment_are_left_out(digest: bool) -> None:
    since = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
    early = [
        '{"EventStart":"2026-06-01T11:59:59.999999Z","PageId":"x"}',
        '{"EventStart":"2026-06-01T12:00:00.5+05:30"}',
    ]
    kept = [
        '{"EventStart":"2026-06-01T12:00:00Z","evt_a":"\\ud800"}',
        '{"EventStart":"2026-06-01T12:00:00.5+05:30","EventStart":"2026-06-01T12:00:00-23:59"}',
        '{"EventStart":""}',
        '{"EventStart":"soon"}',
        '{"EventStart":5}',
        "{}",
    ]
    run = ",".join([early[0], *kept[:3], early[1], *kept[3:]])
    batch = encoder(digest=digest).encode(run.encode(), FRAME, since)
    assert batch is not None
    assert batch.events == len(early) + len(kept)
    assert counted(batch) == Tally(misfits={"EventStart": 2}, repaired=1, too_early=2)
    expected = [oracle.record(oracle.load(event), ALL_COLUMNS) for event in kept]
    if digest:
        for record, event in zip(expected, kept, strict=True):
            record["EventDigest"] = oracle.digest(event.encode())
    assert records_of(batch) == expected


@exhaustive(50)
@given(events=st.lists(any_events, min_size=1, max_size=3), chosen=st.sampled_from(list(SELECTIONS)))
def test_a_moment_before_all_events_changes_nothing(events: list[Object], chosen: str) -> None:
    run = ",".join(write(event, lambda *_: "") for event in events).encode()
    encode = encoder(SELECTIONS[chosen])
    since = datetime.min.replace(tzinfo=timezone.utc)
    assert records_of(encode.encode(run, FRAME, since)) == records_of(encode.encode(run, FRAME))


# --- the digest ---


@exhaustive(200)
@given(event=any_events | strange_events, one=layouts, other=layouts)
def test_a_digest_is_of_the_tokens_alone(event: Object, one: Any, other: Any) -> None:
    texts = [write(event, blanks).encode() for blanks in (one, other)]
    assert event_digest(texts[0]) == event_digest(texts[1]) == oracle.digest(texts[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":1E5}', '{"a":1e5}'),
        ('{"a":"A"}', '{"a":"\\u0041"}'),
        ('{"a":"/"}', '{"a":"\\/"}'),
        ('{"a":"\\u00e9"}', '{"a":"\\u00E9"}'),
        ('{"a":"x y"}', '{"a":"xy"}'),
        ('{"a":"\\\\ "}', '{"a":"\\\\"}'),
        ('{"a":"\\" "}', '{"a":"\\""}'),
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ('{"a":1,"a":1}', '{"a":1}'),
        ('{"a":"\\ud800"}', '{"a":"\\ufffd"}'),
        ('{"a":"\\ud800"}', '{"a":"\\ud801"}'),
        ('{"a":"\\ud800 "}', '{"a":"\\ud800"}'),
    ],
)
def test_another_spelling_has_another_digest(one: str, other: str) -> None:
    assert event_digest(one.encode()) != event_digest(other.encode())
    digests = [record_of(event, encoder(digest=True))["EventDigest"] for event in (one, other)]
    assert digests == [oracle.digest(one.encode()), oracle.digest(other.encode())]


def test_a_digest_is_32_hexadecimal_digits_of_the_bytes_as_sent() -> None:
    # Of {"a":1}, by b2sum --length 128.
    assert event_digest(b' { "a" : 1 } '.strip()) == "2c6b113b8dd15ffbded9860b43eb0c6c"
