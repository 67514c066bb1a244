"""replace_nul: U+0000, which PostgreSQL does not store, becomes U+FFFD wherever it comes from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from encoders import ENVELOPE, encoded, encoded_by_reference, records_of, selection
from faults import KEY, array, bundle
from running import Json, discover, run_tap

from tap_fullstory.records.digest import event_digest
from tap_fullstory.records.encoder import RecordEncoder
from tap_fullstory.records.json_text import SLICE_BYTES, replace_nul
from tap_fullstory.sandbox import Fault, Sandbox

N, R = "\0", "\ufffd"

TEXTS = [
    (rb'"a"', None, 0),
    (rb'"\u0000"', rb'"\ufffd"', 1),
    (rb'"\\u0000"', None, 0),
    (rb'"\\\u0000\\\\u0000"', rb'"\\\ufffd\\\\u0000"', 1),
    (rb'"\u0000\u0000" x "\u00000"', rb'"\ufffd\ufffd" x "\ufffd0"', 3),
    (rb'{"\u0000":"\u0001\ud83d\u0000"}', rb'{"\ufffd":"\u0001\ud83d\ufffd"}', 2),
    (b'"\0"', None, 0),
]


@pytest.mark.parametrize(("text", "replaced", "count"), TEXTS)
def test_escapes(text, replaced, count):
    assert replace_nul(text) == (replaced or text, count)


@pytest.mark.parametrize("shift", range(8))
def test_where_slices_meet(shift):
    before = b"x" * (SLICE_BYTES - shift)
    assert replace_nul(before + rb"\u0000\u0000") == (before + rb"\ufffd\ufffd", 2)


EVENTS: list[tuple[Json, Json]] = [
    ({"EventTargetText": f"a{N}b{N}"}, {"EventTargetText": f"a{R}b{R}"}),
    ({f"evt_{N}_str": N}, {"CustomVars": {f"evt_{R}_str": R}}),
    ({"Tomorrow": {N: [{N: N}]}}, {"CustomVars": {"Tomorrow": {R: [{R: R}]}}}),
    ({"PageId": N}, {"PageId": None, "CustomVars": {"PageId": R}}),
    ({"EventTargetText": "b"}, {"EventTargetText": "b"}),
]  # fmt: skip


@pytest.mark.parametrize("max_events", [1, 2, 100])
@pytest.mark.parametrize("run", [encoded, encoded_by_reference])
def test_both_encoders(run, max_events):
    encode = RecordEncoder(selection(), text_custom_vars=False, digest=False, replaces_nul=True)
    if run is encoded_by_reference:
        encode._native = None
    chunk = ",".join(json.dumps(event) for event, _ in EVENTS).encode()
    batches = list(encode.encode(chunk, ENVELOPE, None, max_events))
    found = [record for batch in batches for record in records_of(batch)]
    assert found == [record for _, record in EVENTS]
    assert sum(batch.stats.nuls for batch in batches) == 8
    assert batches[-1].consumed == len(chunk)


def test_without_the_setting_it_stays():
    (event, _), *_ = EVENTS
    encode = RecordEncoder(selection(), text_custom_vars=False, digest=False)
    assert records_of(encoded(encode, json.dumps(event).encode())) == [event]


def test_a_digest_is_of_the_event_as_it_came():
    event = rb'{"EventTargetText":"\u0000\ud83d"}'
    encode = RecordEncoder(selection(), text_custom_vars=False, digest=True, replaces_nul=True)
    (record,) = records_of(encoded(encode, event))
    assert record == {"EventTargetText": R + R, "EventDigest": event_digest(event)}


@pytest.fixture(scope="module")
def catalog() -> Json:
    offered = discover()
    for entry in offered["streams"]:
        wanted = entry["tap_stream_id"] in ("events", "users")
        entry["metadata"][0]["metadata"]["selected"] = wanted
    return offered


def test_events_and_users_of_a_run(catalog):
    """In both formats of CustomVars, by the same names as discovery, and counted in a WARNING."""
    events = [event for event, _ in EVENTS]
    users = {"results": [{"id": "1", "uid": f"x{N}", "properties": {f"a{N}": N}, N: 1}]}
    fault = Fault("status", "users", status=200, body=json.dumps(users).encode(), times=None)
    listed = [bundle(0, array([json.dumps(event).encode() for event in events]))]
    with Sandbox(listed, api_key=KEY, faults=[fault]) as sandbox:
        run = run_tap(sandbox.config(replace_nul="true"), catalog=catalog)
        as_text = run_tap(sandbox.config(replace_nul=True, custom_vars_format="string"))
        end = {"end_date": "2026-06-11T00:00:00Z"}  # from which discovery looks back
        found = discover(sandbox.config(replace_nul=True, discover_custom_vars=True, **end))
        plain = run_tap(sandbox.config())
    assert run.code == 0, run.log
    assert rb"\u0000" not in run.stdout
    by_stream: dict[str, list[Any]] = {"events": [], "users": []}
    for message in run.messages:
        if message["type"] == "RECORD":
            by_stream[message["stream"]].append(message["record"])
    assert by_stream["events"] == [record for _, record in EVENTS]
    (user,) = by_stream["users"]
    assert (user["uid"], user["properties"], user["extra"]) == (f"x{R}", {f"a{R}": R}, {R: 1})
    assert "Z): 8 characters U+0000 became U+FFFD (replace_nul)" in run.log
    assert "4 characters U+0000 in a response became U+FFFD (replace_nul)" in run.logged("WARNING")
    assert json.loads(as_text.records[1]["CustomVars"]) == {f"evt_{R}_str": R}
    assert f"evt_{R}_str" in found["streams"][0]["schema"]["properties"]
    assert plain.records[0] == EVENTS[0][0]
