"""Segments other than everyone, and several at once: what is exported, tagged and remembered."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import Any

import pytest
from catalogs import select_streams
from either_api import SEGMENT_EXPORT, days, orders
from interrupting import interrupted
from running import Json, Run, counted, run_tap

from tap_fullstory.bookmarks import (
    bookmark_of,
    bundle_end,
    furthest_behind,
    parse_state,
    segment_place,
    with_bundle_end,
    with_position_of,
)
from tap_fullstory.errors import UsageError
from tap_fullstory.sandbox import Sandbox
from tap_fullstory.sandbox.segments import rule_of

FIRST, SECOND = "seg00000", "seg00001"  # of clicks, and of navigations
BOTH = [FIRST, SECOND]


def rows(run: Run, stream: str = "events") -> list[Json]:
    return [
        message["record"]
        for message in run.messages
        if message["type"] == "RECORD" and message["stream"] == stream
    ]


def matching(sandbox: Sandbox, segment: str) -> list[Json]:
    """What becomes of the events of a segment, tagged."""
    rule = rule_of(segment)
    records = [record for record in SEGMENT_EXPORT.records(sandbox) if rule(record)]
    return [{**record, "SegmentId": segment} for record in records]


def test_each_of_several_segments_has_rows_and_a_position_of_its_own():
    with SEGMENT_EXPORT.sandbox(days(2, 60)) as sandbox:
        second = sandbox.bundles[1].id
        # The second window of the first segment fails; the other segment continues.
        sandbox.fault(f"create/{second}:403")
        config = SEGMENT_EXPORT.config(
            sandbox, segment_id=BOTH, prefetch_bundles=0, event_digest=True
        )
        catalog = select_streams("events", "individuals")
        run = run_tap(config, catalog=catalog)
        assert run.code == 1
        assert f"1 of 4 streams failed; the others completed. events of segment {FIRST}:" in (
            run.critical
        )
        keys = {schema["stream"]: schema["key_properties"] for schema in run.schemas}
        assert keys == {
            "events": ["SegmentId", "EventDigest"],
            "individuals": ["SegmentId", "IndvId"],
        }
        ends = {
            one: position["bundle_end"]
            for one, position in run.state["bookmarks"]["events"]["segments"].items()
        }
        assert ends == {FIRST: "2024-06-06T00:00:00Z", SECOND: "2024-06-07T00:00:00Z"}
        assert "The state covers events up to 2024-06-06T00:00:00Z" in run.log

        rest = run_tap(config, catalog=catalog, state=run.state)
        assert rest.code == 0, rest.log
        received = [*rows(run), *rows(rest)]
        for record in received:
            del record["EventDigest"]
        assert counted(received) == counted(
            [record for segment in BOTH for record in matching(sandbox, segment)]
        )
        people = Counter(record["SegmentId"] for record in rows(run, "individuals"))
        assert people == {
            segment: len({record["IndvId"] for record in matching(sandbox, segment)})
            for segment in BOTH
        }
        assert not rows(rest, "individuals")
        again = run_tap(config, catalog=catalog, state=rest.state)
        assert (again.records, again.state) == ([], rest.state)

        # A hash tells the segments apart as well.
        hashing = {"hash_fields": "SegmentId", "hash_key": "0123456789abcdef"}
        hashed = run_tap({**config, **hashing}, catalog=select_streams("individuals"))
        tags = {record["SegmentId"] for record in hashed.records}
        assert len(tags) == 2
        assert all(len(tag) == 32 for tag in tags)

        # One of them alone continues where it was, as rows without a tag.
        sandbox.clear_faults()
        alone = run_tap({**config, "segment_id": [SECOND]}, catalog=catalog, state=rest.state)
        assert alone.records == []
        assert alone.schemas[0]["key_properties"] == ["EventDigest"]
        assert alone.state["bookmarks"]["events"]["segments"].keys() == set(BOTH)


def test_a_run_that_is_stopped_in_a_segment_resumes_there():
    with SEGMENT_EXPORT.sandbox(days(1, 3000), reorder=True) as sandbox:
        config = SEGMENT_EXPORT.config(
            sandbox, segment_id=BOTH, checkpoint_events=20, replay_url=True
        )
        first = interrupted(config, in_bundle=True)
        assert first.code == 143
        positions = first.state["bookmarks"]["events"]["segments"]
        assert list(positions) == [FIRST]
        assert positions[FIRST]["partial"]["events"] == len(first.records)
        assert positions[FIRST]["export"]["segment"] == FIRST
        rest = run_tap(config, state=first.state)
        assert rest.code == 0, rest.log
        received = [*first.records, *rest.records]
        assert all(record.pop("ReplayUrl") for record in received)
        assert counted(received) == counted(
            [record for segment in BOTH for record in matching(sandbox, segment)]
        )


def test_segments_that_were_one_before_start_over_with_a_warning():
    with SEGMENT_EXPORT.sandbox(days(1, 40)) as sandbox:
        config = SEGMENT_EXPORT.config(sandbox, segment_id=FIRST)
        single = run_tap(config)
        assert single.state == {"bookmarks": {"events": {"bundle_end": "2024-06-07T00:00:00Z"}}}
        assert not any("SegmentId" in record for record in single.records)
        several = run_tap({**config, "segment_id": '["seg00000", "seg00001"]'}, state=single.state)
        warnings = several.logged("WARNING")
        assert len([line for line in warnings if "begins at start_date" in line]) == 2
        assert Counter(row["SegmentId"] for row in several.records) == {
            segment: len(matching(sandbox, segment)) for segment in BOTH
        }
        again = run_tap({**config, "segment_id": '["seg00000", "seg00001"]'}, state=several.state)
        assert (again.records, again.state, again.logged("WARNING")) == ([], several.state, [])
        back = run_tap(config, state=several.state)
        assert (back.records, back.state) == ([], several.state)
        # Bundles are of everybody, so no segment's position is theirs.
        segments = {"segments": several.state["bookmarks"]["events"]["segments"]}
        bundles = run_tap(
            {**config, "segment_id": "everyone", "export_api": "data_export"},
            state={"bookmarks": {"events": segments}},
        )
        assert len(bundles.records) == 40
        end = {"bundle_end": "2024-06-07T00:00:00Z"}
        assert bundles.state == {"bookmarks": {"events": {**end, **segments}}}


SCOPES = {
    "events": lambda _: None,
    "pages": lambda event: (event["UserId"], event["SessionId"], event["PageId"]),
    "sessions": lambda event: (event["UserId"], event["SessionId"]),
    "individuals": lambda event: event["IndvId"],
}


def test_scope_and_range_say_what_comes_with_an_event_that_matches():
    with SEGMENT_EXPORT.sandbox(days(2, 600)) as sandbox:
        events = SEGMENT_EXPORT.records(sandbox)
        matches = list(filter(rule_of("rageClicks"), events))

        def export(scope: str, time_range: str, hours: int) -> Counter[str]:
            run = run_tap(
                SEGMENT_EXPORT.config(
                    sandbox, segment_id="rageClicks", export_scope=scope,
                    segment_time_range=time_range, export_window_hours=hours,
                )
            )  # fmt: skip
            assert run.code == 0, run.log
            last = orders(sandbox)[-1]
            details = None if scope == "events" else {"scope": f"SCOPE_{scope.upper()}"}
            assert last.get("eventDetails") == details
            ranges = {"window": last["timeRange"], "all": {"start": "", "end": ""}, "own": None}
            assert last.get("segmentTimeRange") == ranges[time_range]
            return counted(run.records)

        sizes = []
        for scope, of_scope in SCOPES.items():
            around = {of_scope(event) for event in matches}
            wanted = matches
            if scope != "events":
                wanted = [event for event in events if of_scope(event) in around]
            assert export(scope, "all", 24) == counted(wanted)
            sizes.append(len(wanted))
        assert 0 < sizes[0] < sizes[1] <= sizes[2] < sizes[3] < len(events)
        # With `window` the rows depend on how wide the windows are.
        narrow, wide = (export("individuals", "window", hours) for hours in (12, 24))
        assert narrow.total() < wide.total() <= sizes[3]
        assert export("individuals", "own", 24).total() == 0  # the last 30 days


def test_everyone_has_no_scope():
    with SEGMENT_EXPORT.sandbox(days(1)) as sandbox:
        config = SEGMENT_EXPORT.config(sandbox, export_scope="sessions", segment_time_range="own")
        run = run_tap(config)
        assert counted(run.records) == counted(SEGMENT_EXPORT.records(sandbox))
        (warning,) = run.logged("WARNING")
        assert "export_scope and segment_time_range in the config have no effect" in warning
        (order,) = orders(sandbox)
        assert order["segmentTimeRange"] == order["timeRange"]
        assert "eventDetails" not in order


# --- the state ---


def state(events: Any) -> Json:
    return {"bookmarks": {"events": events, "users": {}}, "currently_syncing": "events"}


OWN = {"bundle_end": "2026-06-02T00:00:00Z", "partial": None}
EARLIER = {"bundle_end": "2026-06-01T00:00:00Z"}


@pytest.mark.parametrize("own", [{}, OWN])
@pytest.mark.parametrize("segments", [None, {}, {"a": EARLIER}])
@pytest.mark.parametrize("segment", ["a", "b"])
def test_a_bookmark_is_moved_and_the_others_stay(own, segments, segment):
    whole = state({**own, **({} if segments is None else {"segments": segments})})
    end = datetime(2026, 6, 3, tzinfo=timezone.utc)
    place = segment_place("events", segment)
    assert bookmark_of(whole, place) == (segments or {}).get(segment, {})
    moved = with_bundle_end(whole, place, end)
    assert bundle_end(moved, place) == end
    assert moved["currently_syncing"] == "events"
    kept = {**(segments or {}), segment: {"bundle_end": "2026-06-03T00:00:00Z"}}
    assert moved["bookmarks"] == {"events": {**own, "segments": kept}, "users": {}}
    moved = with_bundle_end(whole, ("events",), end)
    assert bundle_end(moved, ("events",)) == end
    assert bookmark_of(moved, ("events", "segments")) == (segments or {})


@pytest.mark.parametrize(
    ("own", "segments", "position"),
    [
        ({}, None, {}),
        ({}, {}, {}),
        ({}, {"b": EARLIER}, {}),
        ({}, {"a": EARLIER}, EARLIER),
        ({"bundle_end": None, "partial": None}, {"a": EARLIER, "b": {}}, EARLIER),
        (OWN, {"a": EARLIER}, OWN),
        (OWN, None, OWN),
    ],
)
def test_the_only_segment_continues_where_it_was_as_one_of_several(own, segments, position):
    whole = state({**own, **({} if segments is None else {"segments": segments})})
    after = with_position_of(whole, "events", "a")
    found = bookmark_of(after, ("events",))
    assert {name: value for name, value in found.items() if name != "segments"} == position
    assert found.get("segments") == segments
    assert after["bookmarks"]["users"] == {}


def test_the_segment_that_is_furthest_behind_tells_how_far_the_state_reaches():
    late, early = {"bundle_end": "2026-06-02T00:00:00Z"}, {"bundle_end": "2026-06-01T00:00:00Z"}
    both = state({"segments": {"a": late, "b": early, "gone": {"bundle_end": "2020"}}})
    assert furthest_behind(both, "events", ["a", "b"]) == ("events", "segments", "b")
    assert furthest_behind(both, "events", ["a", "c"]) == ("events", "segments", "c")
    assert furthest_behind(both, "events", ["a"]) == ("events",)


@pytest.mark.parametrize(
    ("segments", "says"),
    [
        ([], None),
        (None, None),
        ("a", "bookmarks.events.segments in the state is a text"),
        ({"a": 5}, "bookmarks.events.segments.a in the state is a number"),
        ({"a": {"bundle_end": "soon"}}, "bookmarks.events.segments.a.bundle_end in the state"),
        ({"a": {"partial": {}}}, "bookmarks.events.segments.a.partial in the state"),
    ],
)
def test_positions_that_cannot_be_read_are_reported(segments, says):
    given = {"bookmarks": {"events": {"segments": segments}}}
    if says is None:
        assert parse_state(given) == given
        return
    with pytest.raises(UsageError, match=says):
        parse_state(given)
