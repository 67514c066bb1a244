"""Chunks with something in them that is not an event, or is counted, or is before a bookmark."""

from __future__ import annotations

import sys
from datetime import datetime, timezone

import oracle
import pytest
from encoders import (
    ALL_COLUMNS,
    SELECTIONS,
    counted,
    encoded,
    encoder,
    records_of,
    selection,
    stats_of,
)
from hypothesis import given
from hypothesis import strategies as st
from json_cases import NOT_VALID
from strategies import Object, any_events, exhaustive, write

from tap_fullstory.counts import BoundedCounter
from tap_fullstory.records.encoder import EncodingStats

pytestmark = pytest.mark.usefixtures("either_encoder")

# --- what is not an event, and what is not JSON ---


def counter(counts: dict[str, int]) -> BoundedCounter:
    counted = BoundedCounter()
    counted.add_all(counts)
    return counted


GOOD = '{"PageId":1,"evt_a":"x"}'


@pytest.mark.parametrize(
    "bad",
    [
        *[b"5", b"null", b"true", b'"x"', b"[]", b'[{"PageId":1}]', b"-1.5e7"],
        *[b'{"EventTargetText":"\xff"}', b'{"evt_a":"\xff"}', b'{"\xff":1}', b'{"PageId":"\xff"}'],
        *[b'{"evt_b":{"\xff":1}}', b'{"evt_b":["\xed\xa0\x80"]}', b'{"Flag":true,"Mixed":"\xc3"}'],
        *[b'{"evt_a":"\xff","evt_a":1}', b'{"Nested":"\xff","Nested":{}}'],
        *[b'{"Ratio":"\xff","Ratio":1.5}', b'{"evt_at_dates":["\xff"]}'],
    ],
)  # fmt: skip
@pytest.mark.parametrize("chosen", SELECTIONS)
def test_what_is_not_an_event_is_reported_by_its_place(chosen: str, bad: bytes) -> None:
    good = GOOD.encode()
    expected = [oracle.record(oracle.load(good), SELECTIONS[chosen])] * 2
    encode = encoder(SELECTIONS[chosen])
    encoded(encode, good)
    for _ in range(2):
        run = good + b", " + good + b" ,\n " + bad + b"," + good
        batch = encoded(encode, run)
        assert records_of(batch) == expected
        assert batch is not None
        assert (batch.events, batch.malformed) == (2, run.index(b" ,\n ") + 4)
        first = encoded(encode, bad + b"," + good)
        assert first is not None
        assert (first.events, first.lines, first.malformed) == (0, b"", 0)


BROKEN = [
    *[b"", b"{", b"{}}", b"{},", b",{}", b"{} {}", b"{},,{}", b"{}]", b"[{}", b"{}],[{}"],
    *[b'{"a"}', b'{"a":1,}', b"{a:1}", b'{"a":1 "b":2}', b'{"a":1;}', b'{"a":1}\x0c', b"\xa0{}"],
    # Bytes that are not UTF-8 are malformed events: see above.
    *[b'{"a":%b}' % value for value in NOT_VALID if value.isascii()],
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize("key", [b'"a"', b'"PageId"', b'"EventTargetText"', b'"Nested"'])
@pytest.mark.parametrize("chosen", ["all columns", "few columns", "CustomVars deselected"])
def test_a_chunk_that_is_not_valid_json_has_no_events(chosen: str, key: bytes) -> None:
    """In undeclared keys, in columns, and in those that are deselected."""
    encode = encoder(SELECTIONS[chosen])
    for broken in BROKEN:
        chunk = broken.replace(b'"a"', key)
        batch = encoded(encode, chunk)
        # An empty chunk is an empty array, which has no event.
        assert batch is None or batch.events == 0, chunk
        assert encoded(encode, GOOD.encode() + b"," + chunk) is None, chunk


@pytest.mark.parametrize("column", ["evt_a", "Nested", "Anything", "PageId", "evt_at_dates"])
def test_the_last_depth_that_can_be_read_does_not_crash(column: str) -> None:
    """Python's limit counts the callers, too: what one can still read, a second one cannot."""
    limit = sys.getrecursionlimit()
    for depth in range(limit - 40, limit + 1):
        for value in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            run = f'{{"{column}":{value}}}'.encode()
            encode = encoder()
            for batch in encoded(encode, run), encoded(encode, run):
                assert batch is None or batch.malformed == 0 or batch.events == 1


# --- what is counted ---


@pytest.mark.parametrize(
    ("run", "stats"),
    [
        (GOOD, EncodingStats(undeclared=counter({"evt_a": 1}))),
        (
            '{"PageId":"x"},{},{"PageId":"y","Flag":0}',
            EncodingStats(counter({"PageId": 2, "Flag": 1})),
        ),
        ('{"EventStart":""},{"PageId":1.0}', EncodingStats()),
        ('{"PageId":"x","PageId":1}', EncodingStats()),
        (
            '{"Flag":null},{"EventTargetText":"\\ude00"},{"Nested":{"\\ud83d":1}}',
            EncodingStats(repaired=2),
        ),
        (
            '{"evt_a":1,"evt_a":2},{"":0,"evt_a":3}',
            EncodingStats(undeclared=counter({"evt_a": 2, "": 1})),
        ),
        ('{"Always":null}', EncodingStats(type_mismatches=counter({"Always": 1}))),
    ],
)  # fmt: skip
def test_the_stats(run: str, stats: EncodingStats) -> None:
    assert stats_of(run) == stats


def test_what_deselected_custom_vars_drops_is_counted() -> None:
    """Unknown keys and type mismatches alike; values of deselected columns are not."""
    how = SELECTIONS["few columns, and no CustomVars"]
    run = '{"Always":"x","evt_b":1,"evt_new_str":2,"PageId":"x"},{"evt_b":1,"evt_b":2},{"Always":1}'
    assert stats_of(run, how) == EncodingStats(
        dropped=counter({"Always": 1, "evt_b": 2}), undeclared=counter({"evt_b": 2})
    )
    encode = encoder(how)
    encoded(encode, f'{run},{{"evt_c":1}}'.encode())
    # A key learned before that is not there is not even counted as zero.
    assert dict(counted(encoded(encode, b'{"evt_c":1}')).dropped) == {"evt_c": 1}


def test_events_before_a_malformed_one_are_counted_and_those_after_it_are_not() -> None:
    good, bad = '{"evt_b":"\\ud83d","Always":"x"}', '{"evt_b":1},5,{"evt_b":"\\ud83d","Always":"x"}'
    for custom_vars in (True, False):
        batch = encoded(encoder(selection(custom_vars=custom_vars)), f"{good},{bad}".encode())
        assert batch is not None
        assert batch.events == 2
        wanted = stats_of(f'{good},{{"evt_b":1}}', selection(custom_vars=custom_vars))
        assert counted(batch) == wanted
        assert wanted.repaired == 1


# --- events from before a bookmark ---


@pytest.mark.parametrize("digest", [False, True])
def test_events_from_before_a_bookmark_are_left_out(digest: bool) -> None:
    since = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
    early = [
        '{"EventStart":"2026-06-01T11:59:59.999999Z","PageId":"x"}',
        '{"EventStart":"2026-06-01T12:00:00.5+05:30"}',
    ]
    kept = [
        '{"EventStart":"2026-06-01T12:00:00Z","evt_a":"\\ud800"}',
        '{"EventStart":"2026-06-01T12:00:00.5+05:30","EventStart":"2026-06-01T12:00:00-15:59"}',
        '{"EventStart":""}',
        '{"EventStart":"soon"}',
        '{"EventStart":5}',
        "{}",
    ]
    run = ",".join([early[0], *kept[:3], early[1], *kept[3:]])
    batch = encoded(encoder(digest=digest), run.encode(), since)
    assert batch is not None
    assert batch.events == len(early) + len(kept)
    assert counted(batch) == EncodingStats(
        type_mismatches=counter({"EventStart": 2}),
        undeclared=counter({"evt_a": 1}),
        repaired=1,
        before_bookmark=2,
    )
    expected = [oracle.record(oracle.load(event), ALL_COLUMNS) for event in kept]
    if digest:
        for record, event in zip(expected, kept, strict=True):
            record["EventDigest"] = oracle.digest(event.encode())
    assert records_of(batch) == expected


@exhaustive(50)
@given(
    events=st.lists(any_events, min_size=1, max_size=3), chosen=st.sampled_from(list(SELECTIONS))
)
def test_a_bookmark_before_all_events_changes_nothing(events: list[Object], chosen: str) -> None:
    run = ",".join(write(event, lambda *_: "") for event in events).encode()
    encode = encoder(SELECTIONS[chosen])
    since = datetime.min.replace(tzinfo=timezone.utc)
    assert records_of(encoded(encode, run, since)) == records_of(encoded(encode, run))
