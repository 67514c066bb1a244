"""Members that are added to records after they are encoded."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from encoders import ALL_COLUMNS, ENVELOPE, encoder, records_of, selection
from hypothesis import given
from strategies import Object, any_events, exhaustive, layouts, strange_events, write

from tap_fullstory.columns import value_type
from tap_fullstory.output.messages import RecordEnvelope
from tap_fullstory.records.added import MakeMember, adding_members, replay_url_maker
from tap_fullstory.records.json_text import MAX_DEPTH
from tap_fullstory.selection import Selection

INTEGER = value_type({"type": ["null", "integer"]})
WITH_IDS = selection({"UserId": INTEGER, "SessionId": INTEGER})
BEGINNING = 'https://app.example.com/ui/o-"A-na1/session/'


def added(chunk: str, *makers: MakeMember, chosen: Selection = ALL_COLUMNS) -> list[dict[str, Any]]:
    """The records of a chunk with what `makers` add to them."""
    parse = adding_members(partial(encoder(chosen).encode, envelope=ENVELOPE), makers, ENVELOPE)
    return [row for batch in parse(chunk.encode()) for row in records_of(batch)]


@exhaustive(200)
@given(event=any_events | strange_events, layout=layouts)
def test_a_record_gets_each_member_and_stays_the_same(event: Object, layout: Any) -> None:
    text = write(event, layout)
    (plain,) = added(text)
    (more,) = added(f"{text}", lambda _: b'"A":1', lambda _: None, lambda _: b'"B":"x"')
    assert more == {"A": ("int", "1"), "B": "x", **plain}


@pytest.mark.usefixtures("either_encoder")
@pytest.mark.parametrize(
    ("event", "url"),
    [
        ('{"UserId":9007199254740993,"SessionId":18446744073709551615}',
         f"{BEGINNING}9007199254740993:18446744073709551615"),
        ('{"EventType":"UserId","SessionId":7, "UserId" : 5}', f"{BEGINNING}5:7"),
        ('{"UserId":5.0,"SessionId":7}', f"{BEGINNING}5:7"),
        ('{"UserId":5}', None),
        ('{"UserId":null,"SessionId":7}', None),
        ('{"UserId":-5,"SessionId":7}', None),
        ('{"UserId":"5","SessionId":7}', None),  # a type mismatch, which is in CustomVars
        ('{"UserId":1844674407370955161500,"SessionId":7}', None),
        ("{}", None),
        ('{"UserId":5,"SessionId":7,"x":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}",
         f"{BEGINNING}5:7"),
    ],
)  # fmt: skip
def test_a_replays_url_has_the_ids_of_the_record(event, url):
    for chunk in (event, f"{event}\n,\n{event}"):
        for record in added(chunk, replay_url_maker(BEGINNING), chosen=WITH_IDS):
            assert record.get("ReplayUrl") == url


def test_an_id_that_a_catalog_has_as_text_is_one_too():
    make = replay_url_maker("x/")
    assert make(b'{"UserId":"5","SessionId":"7"}') == b'"ReplayUrl":"x/5:7"'
    assert make(b'{"UserId":"5e","SessionId":"7"}') is None


def test_lines_without_an_envelope_are_records_alone():
    bare = RecordEnvelope(b"", b"\n")
    encode = partial(encoder(WITH_IDS).encode, envelope=bare)
    (batch,) = adding_members(encode, [lambda _: b'"A":1'], bare)(b'{} , {"UserId":5}')
    assert batch.lines.splitlines() == [b'{"A":1}', b'{"A":1,"UserId":5}']
