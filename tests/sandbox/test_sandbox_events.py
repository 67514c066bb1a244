"""The events that the sandbox makes."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from export_fields import EXPORT_FIELDS
from sandbox_client import DAY, UNTIL

from tap_fullstory.sandbox import (
    EXAMPLE_SESSION_ID,
    EXAMPLE_USER_ID,
    GeneratedEvents,
    generate_events,
    generated_bundles,
)
from tap_fullstory.sandbox.visits import Session, timestamp

EVENT_TYPES = set(
    """
    abandon backgrounded change click click_error console_message copy crashed
    cumulative_layout_shift custom custom_error exception first_input_delay highlight keyboard_open
    keyboard_close load low_memory navigate pageview paste pinch_gesture request seen seen_error
    thrash uservar
    """.split()
)


# --- generated events ---


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return [event for bundle in generated_bundles(until=UNTIL) for event in bundle.events]


def test_144_events_of_every_type_with_every_field(events):
    assert len(events) == 144
    assert {event["EventType"] for event in events} == EVENT_TYPES
    fields = {name for event in events for name in event if name[0].isupper()}
    assert fields == EXPORT_FIELDS


@pytest.mark.parametrize("seed", [1, 6, 20])  # with the last two, few browsers turn up
def test_every_seed_shows_every_field(seed):
    events = [
        event for bundle in generated_bundles(seed=seed, until=UNTIL) for event in bundle.body
    ]
    assert {name for event in events for name in event} >= EXPORT_FIELDS


def test_absent_values_are_absent_keys_and_some_are_empty(events):
    assert all(value is not None for event in events for value in event.values())
    for name in ("UserAppKey", "UserEmail", "PageIp"):
        values = {event[name] for event in events}
        assert "" in values
        assert len(values) > 1
    dead = [event["EventModDead"] for event in events if "EventModDead" in event]
    assert dead
    assert len(dead) < 10


def test_ids_are_integers_mostly_beyond_doubles(events):
    ids = [event[name] for event in events for name in ("IndvId", "UserId", "SessionId", "PageId")]
    assert all(type(number) is int and 10**15 <= number < 2**63 for number in ids)
    assert sum(number > 2**53 for number in ids) > len(ids) / 2


def test_times_are_utc_within_the_bundle_and_not_sorted():
    for bundle in generated_bundles(until=UNTIL):
        starts = [event["EventStart"] for event in bundle.events]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text) for text in starts)
        times = [datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in starts]
        assert all(bundle.start <= time < bundle.stop for time in times)
        assert starts != sorted(starts)


def test_a_third_of_events_has_custom_variables(events):
    custom = [event for event in events if any(name[0].islower() for name in event)]
    assert 0.25 < len(custom) / len(events) < 0.42
    names = {name for event in events for name in event if name[0].islower()}
    assert {name.split("_")[0] for name in names} == {"user", "evt", "page"}
    suffixes = {name.rpartition("_")[2] for name in names}
    assert suffixes == {
        "str",
        "int",
        "real",
        "bool",
        "date",
        "strs",
        "ints",
        "reals",
        "bools",
        "dates",
    }
    assert {"evt_order.order_id_str", "evt_order_id_str"} <= names
    totals = {
        type(event["evt_order.total_real"]) for event in events if "evt_order.total_real" in event
    }
    assert totals == {int, float}


def test_rows_are_distinct_though_sessions_share_milliseconds(events):
    assert len({json.dumps(event, sort_keys=True) for event in events}) == len(events)
    by_time = Counter((event["SessionId"], event["EventStart"]) for event in events)
    assert max(by_time.values()) > 1


def test_text_is_not_just_ascii(events):
    text = json.dumps(events, ensure_ascii=False)
    assert any(ord(character) > 0xFFFF for character in text)
    assert any(0x7F < ord(character) < 0xFFFF for character in text)


def test_the_example_session(events):
    oldest = generated_bundles(until=UNTIL)[0].events
    steps = [event for event in events if event["SessionId"] == EXAMPLE_SESSION_ID]
    assert all(event in oldest for event in steps)
    assert [event for event in events if event["UserId"] == EXAMPLE_USER_ID] == steps
    steps.sort(key=lambda event: event["EventStart"])
    assert len({event["EventStart"] for event in steps}) == 4
    shown = [(event["EventType"], event["EventTargetText"], event["PageUrl"]) for event in steps]
    assert shown == [
        ("click", "Update Address", "https://example.com/my-account"),
        ("click", "Street address", "https://example.com/update-address"),
        ("change", "1339 Chestnut Street", "https://example.com/update-address"),
        ("click", "Save Changes", "https://example.com/update-address"),
    ]
    assert steps[2]["EventTargetSelector"].endswith(' input[aria-label="Street address"]')
    assert steps[2]["EventTargetSelectorTok"].endswith(" input =aria%2Dlabel=Street%20address")
    assert len({event["PageId"] for event in steps[1:]}) == 1


def test_sessions_hang_together(events):
    for session in {event["SessionId"] for event in events}:
        rows = [event for event in events if event["SessionId"] == session]
        assert (
            len({(event["UserId"], event["SessionStart"], event["PagePlatform"]) for event in rows})
            == 1
        )
        rows.sort(key=lambda event: event["EventSessionOffset"])
        assert [row["EventStart"] for row in rows] == sorted(row["EventStart"] for row in rows)
        durations = {(event["PageId"], event["PageDuration"]) for event in rows}
        assert len(durations) == len({event["PageId"] for event in rows})


def test_the_same_seed_and_end_give_the_same_bytes(open_client):
    def files(**options: Any) -> list[bytes]:
        bundles = generated_bundles(2, 30, until=UNTIL, **options)
        client = open_client(*bundles)
        return [client.get(bundle.id).content for bundle in bundles]

    assert files() == files()
    assert files()[0][:10] == b"\x1f\x8b\x08\x00" + bytes(4) + files()[0][8:10]  # no time in it
    assert files()[0] != files(seed=1)[0]


def test_events_are_made_one_by_one():
    events = generate_events(0, DAY, 10**9)
    assert next(events)["EventStart"].startswith("1970-01-01T")
    assert len(list(GeneratedEvents(0, DAY, 1001))) == 1001
    assert len(list(GeneratedEvents(0, 60, 50))) == 50  # a period shorter than a session


# On every row of FullStory's public sample of a bundle, and on some: fullstorydev/hauser,
# testing/testdata/raw.json.
ON_EVERY_ROW = set(
    """
    IndvId UserId SessionId PageId EventStart EventType PageDuration PageActiveDuration PageIp
    PageUserAgent PageBrowser PageDevice PageOperatingSystem PageNumInfos PageNumWarnings
    PageNumErrors PageLatLong PageUrl PageRefererUrl UserAppKey UserDisplayName UserEmail
    """.split()
)
ON_SOME_ROWS = set(
    """
    PageClusterId EventTargetText EventTargetSelectorTok EventCustomName EventModError EventModDead
    LoadDomContentTime LoadFirstPaintTime LoadEventTime
    """.split()
)


def test_fields_of_the_public_sample_and_no_others():
    made = generated_bundles(6, 240, fields="sample")
    events = [event for bundle in made for event in bundle.events]
    names = {name for event in events for name in event}
    documented = {name for name in names if not name.startswith(("evt_", "page_"))}
    assert documented == ON_EVERY_ROW | ON_SOME_ROWS
    assert all(event.keys() >= ON_EVERY_ROW for event in events)
    assert {name.partition("_")[0] for name in names - documented} == {"evt", "page"}
    everything = [event for bundle in generated_bundles(6, 240) for event in bundle.events]
    assert [event["EventStart"] for event in events] == [e["EventStart"] for e in everything]


def test_errors_and_dead_clicks_are_marked_on_clicks_only_and_rage_clicks_are_numbered():
    """As in FullStory's public sample: fullstorydev/hauser, testing/testdata/raw.json."""
    events = [event for bundle in generated_bundles(6, 240) for event in bundle.events]
    for mark in ("EventModError", "EventModDead", "EventModFrustrated"):
        assert {event["EventType"] for event in events if event.get(mark)} == {"click"}
    series: dict[int, list[tuple[str, int]]] = {}
    for event in events:
        if number := event.get("EventModFrustrated"):
            series.setdefault(event["PageId"], []).append((event["EventStart"], number))
    assert series
    for clicks in series.values():
        assert [number for _, number in sorted(clicks)] == [1, 2, 3]


# --- the plan that events are made from ---


def six_weeks() -> list[list[Session]]:
    made = generated_bundles(42, 240, until=UNTIL)
    return [list(bundle.body.plan.sessions()) for bundle in made]


def test_events_follow_the_plan_of_sessions():
    for bundle in generated_bundles(3, 240, until=UNTIL):
        expected: Counter[tuple[int, int, str]] = Counter()
        for session in bundle.body.plan.sessions():
            for _, step in session.steps:
                expected[session.visitor.user_id, session.id, step.kind] += 1
        assert expected == Counter(
            (event["UserId"], event["SessionId"], event["EventType"]) for event in bundle.events
        )


def test_people_come_for_the_first_time_and_return_after_days_and_weeks():
    days: dict[int, set[int]] = {}
    for number, sessions in enumerate(six_weeks()):
        for session in sessions:
            days.setdefault(session.visitor.fields["IndvId"], set()).add(number)
    first_weeks = Counter(min(visited) // 7 for visited in days.values())
    assert set(first_weeks) == set(range(6))
    gaps = {
        later - earlier
        for visited in days.values()
        for earlier, later in zip(sorted(visited), sorted(visited)[1:], strict=False)
    }
    assert {1, 2, 7, 14} <= gaps
    assert any(len(visited) == 1 for visited in days.values())


def test_a_new_visitor_is_created_when_the_first_session_begins():
    first: dict[int, Session] = {}
    created: dict[int, set[str]] = {}
    everything = [session for sessions in six_weeks() for session in sessions]
    for session in everything:
        first.setdefault(session.visitor.user_id, session)
        created.setdefault(session.visitor.user_id, set()).add(
            session.visitor.fields["UserCreated"]
        )
    assert all(len(times) == 1 for times in created.values())
    began = timestamp(min(session.began for session in everything))
    new = {user_id for user_id, (time,) in created.items() if time >= began}
    assert len(new) > 20
    for user_id in new:
        assert created[user_id] == {timestamp(first[user_id].began)}


def test_sessions_begin_with_links_and_campaigns():
    events = [event for bundle in generated_bundles(6, 240) for event in bundle.events]
    addresses = {event["PageUrl"] for event in events if "PageUrl" in event}
    assert any("utm_campaign=spring_sale" in url and url.count("?") == 1 for url in addresses)
    outside = {
        url for event in events
        if (url := event.get("PageRefererUrl")) and not url.startswith("https://example.com/")
    }  # fmt: skip
    assert len(outside) > 1


def test_some_wait_longer_and_some_requests_fail():
    events = [event for bundle in generated_bundles(42, 240) for event in bundle.events]
    slowest: dict[str, int] = {}
    for event in events:
        if "LoadLargestPaintTime" in event:
            device, time = event["PageDevice"], event["LoadLargestPaintTime"]
            slowest[device] = max(slowest.get(device, 0), time)
    assert slowest["Mobile"] > slowest["Tablet"] > slowest["Desktop"] > 2500
    hit: dict[tuple[str, int], set[int]] = {}
    for event in events:
        if event.get("ReqStatus", 0) >= 400:
            hit.setdefault((event["ReqUrl"], event["ReqStatus"]), set()).add(event["IndvId"])
    assert len(hit) >= 4
    assert all(len(people) > 2 for people in hit.values())


def test_an_order_has_its_plan_and_a_whole_amount_is_an_integer():
    for bundle in generated_bundles(42, 240):
        for event in bundle.events:
            if event.get("EventCustomName") == "Order Completed":
                assert event["evt_order.plan_str"] == event.get("user_plan_str", "guest")
                total = event["evt_order.total_real"]
                assert isinstance(total, int) == (total == int(total))
