"""What each row came from: BundleId, and the stream `bundles`."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalogs import select_streams
from either_api import SEGMENT_EXPORT, each_api
from faults import KEY, array, bundle, events, lines
from running import Json, Run, run_tap

from tap_fullstory.sandbox import Sandbox

EVENTS = [events(60), events(1500, 60), []]
BODIES = [array(lines(some)) for some in EVENTS]
BUNDLES = [bundle(day, body) for day, body in enumerate(BODIES)]


def rows(run: Run, stream: str) -> list[Json]:
    return [
        one["record"] for one in run.messages if one["type"] == "RECORD" and one["stream"] == stream
    ]


def by_bundle(*runs: Run) -> Counter[str]:
    return Counter(row["BundleId"] for run in runs for row in rows(run, "events"))


def expected(day: int, **changed: Any) -> Json:
    return {
        "id": BUNDLES[day].id,
        "events": len(EVENTS[day]),
        "left_out": 0,
        "bytes": len(BODIES[day]),
        "crc32": zlib.crc32(BODIES[day]),
        **changed,
    }


def without_times(row: Json) -> Json:
    return {
        name: value for name, value in row.items() if name not in ("start", "end", "fetched_at")
    }


def test_each_bundle_has_a_row_just_before_its_bookmark():
    with Sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = sandbox.config(bundle_id=True)
        run = run_tap(config, catalog=select_streams("events", "bundles"))
        again = run_tap(config, catalog=select_streams("events", "bundles"), state=run.state)
    found = rows(run, "bundles")
    assert [without_times(row) for row in found] == [expected(day) for day in range(3)]
    assert by_bundle(run) == {BUNDLES[day].id: len(EVENTS[day]) for day in range(2)}
    for row in found:
        at = next(n for n, one in enumerate(run.messages) if one.get("record") == row)
        following = run.messages[at + 1]
        assert following["type"] == "STATE"
        assert following["value"]["bookmarks"]["events"]["bundle_end"] == row["end"]
    assert not rows(again, "bundles")
    (keys,) = {
        tuple(one["key_properties"])
        for one in run.messages
        if one.get("stream") == "bundles" and one["type"] == "SCHEMA"
    }
    assert keys == ("id",)


def test_row_of_a_resumed_bundle_does_not_say_what_was_left_out():
    catalog = select_streams("events", "bundles")
    with Sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = sandbox.config(bundle_id=True, checkpoint_events=20)
        whole = run_tap(config, catalog=catalog)
        state = next(one for one in whole.states if "partial" in one["bookmarks"]["events"])
        at = whole.messages.index({"type": "STATE", "value": state})
        first = replace(whole, messages=whole.messages[:at])
        second = run_tap(config, state=state, catalog=catalog)
    found = [without_times(row) for run in (first, second) for row in rows(run, "bundles")]
    assert found == [expected(0, left_out=None), expected(1), expected(2)]
    assert by_bundle(first, second) == {BUNDLES[day].id: len(EVENTS[day]) for day in range(2)}


def test_events_that_are_left_out_are_counted():
    bodies = [b'{"EventType":"%b"}' % name for name in (b"click", b"load", b"click", b"seen")]
    with Sandbox([bundle(0, array(bodies))], api_key=KEY) as sandbox:
        config = sandbox.config(bundle_id=True, event_types="click")
        run = run_tap(config, catalog=select_streams("events", "bundles"))
    (row,) = rows(run, "bundles")
    assert (row["events"], row["left_out"]) == (4, 2)
    assert by_bundle(run) == {row["id"]: 2}


@each_api
@pytest.mark.parametrize("pure", [True, False], ids=["reference", "compiled"])
def test_bundle_id_joins_events_and_bundles(api, pure):
    environment = {"TAP_FULLSTORY_PURE_PYTHON": "1"} if pure else {}
    with api.sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = api.config(sandbox, bundle_id=True)
        run = run_tap(config, catalog=select_streams("events", "bundles"), env=environment)
    counts = {row["id"]: row["events"] - row["left_out"] for row in rows(run, "bundles")}
    assert by_bundle(run) == {name: count for name, count in counts.items() if count}
    assert sum(counts.values()) == 1560


def test_several_segments_have_both_columns():
    with SEGMENT_EXPORT.sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = SEGMENT_EXPORT.config(sandbox, bundle_id=True, segment_id=["everyone", "seg00001"])
        run = run_tap(config, catalog=select_streams("events", "bundles"))
    assert all({"SegmentId", "BundleId"} <= row.keys() for row in rows(run, "events"))
    counts = {row["id"]: row["events"] - row["left_out"] for row in rows(run, "bundles")}
    assert by_bundle(run) == {name: count for name, count in counts.items() if count}


def test_bundle_id_in_batch_files(tmp_path):
    batch = {
        "encoding": {"format": "jsonl", "compression": "none"},
        "storage": {"root": tmp_path.as_uri()},
    }
    with Sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = sandbox.config(bundle_id=True, batch_config=batch)
        run = run_tap(config, catalog=select_streams("events", "bundles"))
    files = [name for one in run.messages if one["type"] == "BATCH" for name in one["manifest"]]
    found = Counter(
        json.loads(line)["BundleId"]
        for name in files
        for line in Path(name.removeprefix("file://")).read_bytes().splitlines()
    )
    assert found == {BUNDLES[day].id: len(EVENTS[day]) for day in range(2)}
    assert [without_times(row) for row in rows(run, "bundles")] == [
        expected(day) for day in range(3)
    ]


def test_event_without_columns_has_the_id_alone():
    bodies = array([b"{}", b'{"EventType":"click"}', b"{ }"])
    with Sandbox([bundle(0, bodies)], api_key=KEY) as sandbox:
        run = run_tap(sandbox.config(bundle_id=True))
    identity = bundle(0, bodies).id
    assert run.records == [
        {"BundleId": identity},
        {"BundleId": identity, "EventType": "click"},
        {"BundleId": identity},
    ]


def test_text_that_looks_like_a_message_is_left_alone():
    text = '{"type":"RECORD","stream":"events","record":{"a":1}}'
    body = array([b'{"evt_x":%b}' % text.encode()])
    with Sandbox([bundle(0, body)], api_key=KEY) as sandbox:
        run = run_tap(sandbox.config(bundle_id=True))
    (row,) = run.records
    assert row["CustomVars"] == {"evt_x": json.loads(text)}


def test_bundle_id_can_be_deselected_excluded_and_hashed():
    with Sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = sandbox.config(bundle_id=True)
        excluded = run_tap({**config, "exclude_fields": ["BundleId"]})
        hashed = run_tap({**config, "hash_fields": ["events.BundleId"], "hash_key": "k" * 32})
    assert not any("BundleId" in row for row in excluded.records)
    assert {BUNDLES[0].id, BUNDLES[1].id}.isdisjoint(row["BundleId"] for row in hashed.records)
    assert len({row["BundleId"] for row in hashed.records}) == 2


def test_bundles_without_events_are_reported():
    with Sandbox(BUNDLES, api_key=KEY) as sandbox:
        run = run_tap(sandbox.config(), catalog=select_streams("bundles"))
    assert run.code == 0
    (line,) = run.logged("WARNING")
    assert "does not select events" in line
    assert not run.records
