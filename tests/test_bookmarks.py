"""The state: read in every form that people have, refused in words, and moved by each run."""

from __future__ import annotations

import copy
from datetime import datetime, timezone
from typing import Any

import pytest
from running import discover, run_tap, selecting

from tap_fullstory import bookmarks
from tap_fullstory.bookmarks import Partial
from tap_fullstory.errors import UsageError
from tap_fullstory.sandbox import Bundle, Sandbox

DAY = 24 * 60 * 60
EVENTS = ("events",)
FIRST = 1_600_041_600  # 2020-09-14T00:00:00Z
JUNE = "2026-06-02T00:00:00Z"
PARTIAL: dict[str, Any] = {
    "id": "156453120048",
    "events": 20000,
    "bytes": 21513377,
    "crc32": 3610521337,
}


def events_state(**bookmark: Any) -> dict[str, Any]:
    return {"bookmarks": {"events": bookmark}}


# --- pure functions ---


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        ({}, {"bookmarks": {}}),
        ({"bookmarks": {}}, {"bookmarks": {}}),
        ({"bookmarks": {"events": {}}}, {"bookmarks": {"events": {}}}),
        (events_state(bundle_end=JUNE), events_state(bundle_end=JUNE)),
        (
            events_state(bundle_end=JUNE, partial=PARTIAL),
            events_state(bundle_end=JUNE, partial=PARTIAL),
        ),
        ({"events": JUNE}, events_state(bundle_end=JUNE)),
        ({"events": "2026-06-02T02:00:00+02:00"}, events_state(bundle_end=JUNE)),
        # tap 1.x wrote what Python's isoformat gives.
        ({"events": "2026-06-02T00:00:00+00:00"}, events_state(bundle_end=JUNE)),
        (
            {"events": "2020-01-01T00:00:00Z", **events_state(bundle_end=JUNE)},
            events_state(bundle_end=JUNE),
        ),
        # 1.x has run again since, and keeps what it does not know.
        (
            {"events": "2026-06-03T00:00:00Z", **events_state(bundle_end=JUNE, partial=PARTIAL)},
            events_state(bundle_end="2026-06-03T00:00:00Z"),
        ),
        (
            {"events": JUNE, **events_state(bundle_end=JUNE, partial=PARTIAL)},
            events_state(bundle_end=JUNE, partial=PARTIAL),
        ),
        # A stream that 2.x had, and members beside those that are known.
        (
            {"bookmarks": {"user": {"lastUpdated": JUNE}}},
            {"bookmarks": {"user": {"lastUpdated": JUNE}}},
        ),
        (events_state(bundle_end=JUNE, more=1), events_state(bundle_end=JUNE, more=1)),
        (events_state(bundle_end=None, more=None), events_state(bundle_end=None, more=None)),
        (
            {"bookmarks": {"users": {"any": 1}}, "events": JUNE},
            {"bookmarks": {"users": {"any": 1}, "events": {"bundle_end": JUNE}}},
        ),
        (
            {"currently_syncing": "events"},
            {"currently_syncing": "events", "bookmarks": {}},
        ),
    ],
)
def test_what_is_a_state(raw, parsed):
    given = copy.deepcopy(raw)
    assert bookmarks.parse_state(given) == parsed
    assert given == raw


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "not a JSON object but a list"),
        (None, "not a JSON object but null"),
        ("2026-06-02T00:00:00Z", "not a JSON object but a text"),
        (7, "not a JSON object but a number"),
        (True, "not a JSON object but a boolean"),
        ({"type": "STATE", "value": events_state(bundle_end=JUNE)}, "whole STATE message"),
        ({"api_key": "secret"}, "no bookmarks; it has the keys api_key"),
        ({"bookmarks": []}, "bookmarks in the state is a list"),
        ({"bookmarks": None}, "bookmarks in the state is null"),
        (
            {"bookmarks": {"events": JUNE}},
            "bookmark of events in the state must be an object, not a text",
        ),
        (
            {"bookmarks": {"users": 3}},
            "bookmark of users in the state must be an object, not a number",
        ),
        (
            events_state(replication_key_value=JUNE),
            "bookmark of events in the state has none of bundle_end",
        ),
        (events_state(bundleEnd=JUNE), "it has bundleEnd"),
        ({"bookmarks": {"individuals": {"start": JUNE}}}, "bookmark of individuals"),
        ({"bookmarks": {"geo_settings_history": {"bundle_end": JUNE}}}, "none of lastUpdated"),
        ({"bookmarks": {"domain_settings_history": {"Web": JUNE}}}, "none of web, mobile"),
        ({"bookmarks": {"fullstory_events": {"bundle_end": JUNE}}}, "this tap does not have"),
        (events_state(bundle_end="2026-06-02"), "bookmarks.events.bundle_end"),
        (events_state(bundle_end="0000-01-01T00:00:00Z"), "bookmarks.events.bundle_end"),
        (events_state(bundle_end=1780358400), "bookmarks.events.bundle_end"),
        (events_state(bundle_end=[]), "bookmarks.events.bundle_end"),
        ({"events": "yesterday"}, "events in the state is not an RFC 3339"),
        ({"events": 1780358400}, "events in the state is not an RFC 3339"),
        ({"events": {"bundle_end": JUNE}}, "events in the state is not an RFC 3339"),
        (
            events_state(partial=PARTIAL),
            "partial in the state is incomplete: bundle_end is missing",
        ),
        (
            events_state(bundle_end=JUNE, partial=[]),
            "partial in the state is a list, not an object",
        ),
        (events_state(bundle_end=JUNE, partial={}), "partial.events"),
        (events_state(bundle_end=JUNE, partial={**PARTIAL, "events": -1}), "partial.events"),
        (events_state(bundle_end=JUNE, partial={**PARTIAL, "bytes": 1.5}), "partial.bytes"),
        (events_state(bundle_end=JUNE, partial={**PARTIAL, "crc32": "1"}), "partial.crc32"),
        (events_state(bundle_end=JUNE, partial={**PARTIAL, "crc32": True}), "partial.crc32"),
        (events_state(bundle_end=JUNE, partial={**PARTIAL, "id": None}), "partial.id"),
    ],
)
def test_what_is_not_a_state(raw, words):
    with pytest.raises(UsageError) as refusal:
        bookmarks.parse_state(raw)
    assert words in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_the_bookmark_moves_and_the_bundle_in_progress_becomes_null():
    before = {
        "currently_syncing": "events",
        "bookmarks": {"users": {"any": [1]}, "events": {"bundle_end": JUNE, "partial": PARTIAL}},
    }
    kept = copy.deepcopy(before)
    after = bookmarks.with_bundle_end(before, EVENTS, datetime(2026, 6, 3, tzinfo=timezone.utc))
    assert after == {
        "currently_syncing": "events",
        "bookmarks": {
            "users": {"any": [1]},
            "events": {"bundle_end": "2026-06-03T00:00:00Z", "partial": None},
        },
    }
    assert before == kept
    assert bookmarks.partial(after, EVENTS) is None


def test_progress_inside_a_bundle():
    boundary = datetime(2026, 6, 2, tzinfo=timezone.utc)
    progress = Partial(**PARTIAL)
    made = bookmarks.with_partial({}, EVENTS, boundary, progress)
    assert made == events_state(bundle_end=JUNE, partial=PARTIAL)
    assert bookmarks.parse_state(made) == made
    assert bookmarks.partial(made, EVENTS) == progress
    assert bookmarks.bundle_end(made, EVENTS) == boundary


def test_further_inside_a_bundle_only_the_position_changes():
    boundary = datetime(2026, 6, 2, tzinfo=timezone.utc)
    before = {"bookmarks": {"users": {"any": [1]}, "events": {"bundle_end": None, "export": None}}}
    begun = bookmarks.with_partial(before, EVENTS, boundary, Partial("7", 0, 0, 0))
    kept = copy.deepcopy(begun)
    further = bookmarks.with_progress(begun, EVENTS, Partial(**PARTIAL))
    assert further == bookmarks.with_partial(before, EVENTS, boundary, Partial(**PARTIAL))
    assert begun == kept


def test_a_bundle_id_that_became_a_number_on_the_way():
    made = events_state(bundle_end=JUNE, partial={**PARTIAL, "id": 156453120048})
    assert bookmarks.partial(made, EVENTS) == Partial(**PARTIAL)


def test_an_export_that_is_done_becomes_null():
    export = bookmarks.Export("op", datetime(2026, 6, 2, tzinfo=timezone.utc),
                           datetime(2026, 6, 3, tzinfo=timezone.utc), None, "everyone")  # fmt: skip
    made = bookmarks.with_export(events_state(bundle_end=JUNE), EVENTS, export)
    assert bookmarks.export(made, EVENTS) == export
    done = {"events": {"bundle_end": JUNE, "export": None}}
    assert bookmarks.with_export(made, EVENTS, None) == {"bookmarks": done}
    assert bookmarks.with_bundle_end(made, EVENTS, export.start) == {"bookmarks": done}
    assert bookmarks.export({"bookmarks": done}, EVENTS) is None


def test_a_bookmark_of_2x_is_that_of_web():
    may, april = "2026-05-01T00:00:00Z", "2026-04-01T00:00:00Z"
    name = "domain_settings_history"

    def read(bookmark: dict[str, str]) -> list[str]:
        state = {"bookmarks": {name: bookmark}}
        found = [bookmarks.last_updated(state, name, part) for part in ("web", "mobile")]
        return [f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "" for at in found]

    assert read({"lastUpdated": may}) == [may, ""]
    assert read({"lastUpdated": may, "mobile": april}) == [may, april]
    assert read({"lastUpdated": may, "web": april}) == [april, ""]


# --- from outside ---


def event(second: int) -> dict[str, Any]:
    time = datetime.fromtimestamp(second, timezone.utc)
    return {"EventStart": f"{time:%Y-%m-%dT%H:%M:%S}.000Z", "EventType": "click"}


@pytest.fixture(scope="module")
def sandbox():
    days = range(3)
    bundles = [
        Bundle(
            str(day),
            FIRST + day * DAY,
            FIRST + (day + 1) * DAY,
            [event(FIRST + day * DAY + hour * 3600) for hour in (23, 0, 11, 12, 1)],
        )
        for day in days
    ]
    with Sandbox(bundles) as sandbox:
        yield sandbox


def hours(run: Any) -> list[str]:
    return [record["EventStart"][5:13] for record in run.records]


def day(number: int) -> list[str]:
    return [f"09-{14 + number}T{hour:02}" for hour in (23, 0, 11, 12, 1)]


def test_the_state_after_each_bundle(sandbox):
    run = run_tap(sandbox.config())
    assert hours(run) == day(0) + day(1) + day(2)
    ends = ["2020-09-15T00:00:00Z", "2020-09-16T00:00:00Z", "2020-09-17T00:00:00Z"]
    assert run.states == [events_state(bundle_end=end) for end in ends]
    assert [message["type"] for message in run.messages] == [
        "SCHEMA", *3 * [*5 * ["RECORD"], "STATE"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "state",
    [
        {"events": "2020-09-16T00:00:00+00:00"},
        events_state(bundle_end="2020-09-16T00:00:00Z"),
        events_state(bundle_end="2020-09-16T02:00:00.000000+02:00"),
    ],
    ids=["1.x", "today's", "another zone"],
)
def test_a_run_resumes_from_the_state(sandbox, state):
    run = run_tap(sandbox.config(), state=state)
    assert hours(run) == day(2)
    assert run.states == [events_state(bundle_end="2020-09-17T00:00:00Z")]


def test_a_second_run_brings_nothing_and_keeps_the_state(sandbox):
    run = run_tap(sandbox.config(), state=events_state(bundle_end="2020-09-17T00:00:00Z"))
    assert [message["type"] for message in run.messages] == ["SCHEMA", "STATE"]
    assert run.state == events_state(bundle_end="2020-09-17T00:00:00Z")


def test_start_date_is_for_the_first_run_alone(sandbox):
    config = sandbox.config(start_date="2020-09-16T00:00:00Z")
    assert hours(run_tap(config)) == day(2)
    state = events_state(bundle_end="2020-09-15T00:00:00Z")
    assert hours(run_tap(config, state=state)) == day(1) + day(2)
    state = {"bookmarks": {"users": {"any": 1}}}
    assert hours(run_tap(config, state=state)) == day(2)


def test_a_bookmark_inside_a_bundle_leaves_out_what_is_before_it(sandbox):
    run = run_tap(sandbox.config(), state=events_state(bundle_end="2020-09-15T11:30:00Z"))
    assert hours(run) == ["09-15T23", "09-15T12", *day(2)]
    (line,) = [line for line in run.logged("INFO") if "before the bookmark" in line]
    assert ": 3 events" in line
    assert run.logged("WARNING") == []
    assert run.state == events_state(bundle_end="2020-09-17T00:00:00Z")


def test_an_event_at_the_bookmark_itself_is_kept(sandbox):
    """A window's end is excluded from it, so events at that time have not been emitted yet."""
    run = run_tap(sandbox.config(), state=events_state(bundle_end="2020-09-16T11:00:00Z"))
    assert hours(run) == ["09-16T23", "09-16T11", "09-16T12"]


def test_the_first_bundle_is_whole_wherever_start_date_is(sandbox):
    assert hours(run_tap(sandbox.config(start_date="2020-09-15T11:30:00Z"))) == day(1) + day(2)


def test_a_bookmark_in_the_future(sandbox):
    state = events_state(bundle_end="2999-01-01T00:00:00Z")
    run = run_tap(sandbox.config(), state=state)
    assert run.code == 0
    assert run.records == []
    assert run.states == [state]
    (warning,) = run.logged("WARNING")
    assert "2999-01-01T00:00:00Z" in warning
    assert "future" in warning


@pytest.mark.parametrize("selected", [True, False])
def test_bookmarks_of_other_streams_are_carried_along(sandbox, selected):
    others = {"users": {"page": "é"}, "webhook_endpoints": {}}
    run = run_tap(
        sandbox.config(),
        state={"bookmarks": others, "extra": [1]},
        catalog=selecting(discover(), stream=selected),
    )
    moved = {"events": {"bundle_end": "2020-09-17T00:00:00Z"}} if selected else {}
    assert run.state == {"bookmarks": {**others, **moved}, "extra": [1]}


def test_no_bundles_yet_does_not_fail():
    with Sandbox([]) as sandbox:
        run = run_tap(sandbox.config())
    assert run.code == 0
    assert [message["type"] for message in run.messages] == ["SCHEMA", "STATE"]
    assert run.state == {"bookmarks": {}}


@pytest.mark.parametrize("bundle", ["0", "1"])
def test_a_merged_state_resumes_at_its_bookmark(sandbox, bundle):
    """Meltano merges states on request: what is absent in the newer one stays from the older."""
    old = {"id": bundle, "events": 2, "bytes": 100, "crc32": 1}
    run = run_tap(
        sandbox.config(), state=events_state(bundle_end="2020-09-16T00:00:00Z", partial=old)
    )
    assert hours(run) == day(2)
    assert run.logged("WARNING") == []
    assert run.state == events_state(bundle_end="2020-09-17T00:00:00Z", partial=None)


def test_the_bookmark_goes_by_tap_stream_id_whatever_the_stream_is_called(sandbox):
    catalog = discover()
    catalog["streams"][0]["stream"] = "fs_events"
    first = run_tap(sandbox.config(), catalog=catalog)
    assert {message["stream"] for message in first.messages if "stream" in message} == {"fs_events"}
    assert first.state == events_state(bundle_end="2020-09-17T00:00:00Z")
    state = events_state(bundle_end="2020-09-16T00:00:00Z")
    assert hours(run_tap(sandbox.config(), catalog=catalog, state=state)) == day(2)


def test_a_state_that_cannot_be_read_ends_the_run_with_2(sandbox):
    run = run_tap(sandbox.config(), state=events_state(bundle_end="yesterday"))
    assert (run.code, run.stdout) == (2, b"")
    assert "bookmarks.events.bundle_end" in run.critical
