"""The stream of individuals: one export a run, of the people active since its own bookmark."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from catalogs import entry_of, select_streams
from either_api import DATA_EXPORT, UNTIL, days, each_api, orders
from running import discover, run_tap, sync_at

from tap_fullstory.times import format_rfc3339

Json = dict[str, Any]
DAY = timedelta(days=1)


def people_of(bundles: Any) -> dict[int, list[Json]]:
    people: dict[int, list[Json]] = {}
    for bundle in bundles:
        for event in bundle.body:
            people.setdefault(event["IndvId"], []).append(dict(event))
    return people


def test_the_catalog_offers_them_and_says_what_they_are():
    individuals = entry_of(discover(), "individuals")
    (own,) = [one["metadata"] for one in individuals["metadata"] if not one["breadcrumb"]]
    assert own["selected-by-default"] is False
    assert own["table-key-properties"] == individuals["key_properties"] == ["IndvId"]
    assert own["forced-replication-method"] == "INCREMENTAL"
    assert own["valid-replication-keys"] == ["LastEventStart"]
    assert "lifetime" in individuals["schema"]["description"]
    assert "upsert" in individuals["schema"]["description"]


@each_api
def test_without_being_selected_they_are_not_requested(api):
    with api.sandbox(days(1)) as sandbox:
        run = run_tap(api.config(sandbox), catalog=discover(api.config(sandbox)))
        assert [schema["stream"] for schema in run.schemas] == ["events"]
        assert "TYPE_INDIVIDUAL" not in {order["type"] for order in orders(sandbox)}


@each_api
def test_each_person_is_a_row_and_figures_are_of_their_whole_life(api):
    with api.sandbox(days(3, 300)) as sandbox:
        config = api.config(sandbox, start_date=format_rfc3339(UNTIL - DAY))
        run = run_tap(config, catalog=select_streams("individuals"))
        (schema,) = run.schemas
        assert schema["key_properties"] == ["IndvId"]
        assert schema["bookmark_properties"] == ["LastEventStart"]
        everybody = people_of(sandbox.bundles)
        recent = people_of(sandbox.bundles[2:])
        assert sorted(record["IndvId"] for record in run.records) == sorted(recent)
        for record in run.records:
            events = everybody[record["IndvId"]]
            assert record["NumEvents"] == len(events)
            assert record["Email"] == events[0]["UserEmail"]
            custom = {name: value for name, value in events[0].items() if name.startswith("user_")}
            assert record.get("CustomVars", {}) == custom
        assert any("CustomVars" in record for record in run.records)


def test_a_run_requests_one_export_from_its_own_bookmark_to_the_delay():
    now = UNTIL + timedelta(hours=9, minutes=59, seconds=59, microseconds=999_999)
    with DATA_EXPORT.sandbox() as sandbox:
        catalog = select_streams("individuals")
        events = {"bundle_end": "2024-06-05T00:00:00Z"}
        state = {"bookmarks": {"events": events}}
        first = sync_at(now, sandbox.config(export_delay_hours=2), catalog, state)
        (order,) = orders(sandbox)
        assert order["type"] == "TYPE_INDIVIDUAL"
        assert order["timeRange"] == order["segmentTimeRange"]
        assert order["timeRange"]["start"] == sandbox.config()["start_date"]
        assert order["timeRange"]["end"] == "2024-06-07T07:59:59Z"
        assert first["bookmarks"] == {
            "events": events,
            "individuals": {"bundle_end": order["timeRange"]["end"]},
        }
        sync_at(now, sandbox.config(export_delay_hours=1), catalog, first)
        _, again = orders(sandbox)
        assert again["timeRange"]["start"] == order["timeRange"]["end"]
        assert again["timeRange"]["end"] == "2024-06-07T08:59:59Z"


def test_with_nothing_new_no_export_is_requested():
    with DATA_EXPORT.sandbox(days(1)) as sandbox:
        config = DATA_EXPORT.config(sandbox)
        first = run_tap(config, catalog=select_streams("individuals"))
        second = run_tap(config, catalog=select_streams("individuals"), state=first.state)
        assert (second.records, second.state, len(orders(sandbox))) == ([], first.state, 1)


@each_api
def test_they_come_beside_the_events_with_a_bookmark_of_their_own(api):
    with api.sandbox(days(2)) as sandbox:
        run = run_tap(api.config(sandbox), catalog=select_streams("events", "individuals"))
        assert run.code == 0, run.log
        assert set(run.state["bookmarks"]) == {"events", "individuals"}
        streams = {message["stream"] for message in run.messages if message["type"] == "RECORD"}
        assert streams == {"events", "individuals"}


def test_deselected_columns_are_not_requested_and_custom_variables_are_those_of_users():
    with DATA_EXPORT.sandbox(days(1, 60)) as sandbox:
        catalog = select_streams("individuals", individuals=["Email", "LastIp"])
        run = run_tap(DATA_EXPORT.config(sandbox), catalog=catalog)
        (order,) = orders(sandbox)
        assert len(order["fields"]) == len(set(order["fields"]))
        assert [name for name in order["fields"] if "*" in name] == ["user_*"]
        assert {"IndvId", "Uid"} <= set(order["fields"])
        assert run.records
        assert not {"Email", "LastIp"} & set().union(*run.records)


def test_an_event_digest_is_of_events_only():
    with DATA_EXPORT.sandbox(days(1)) as sandbox:
        config = DATA_EXPORT.config(sandbox, event_digest=True)
        run = run_tap(config, catalog=select_streams("events", "individuals"))
        keys = {schema["stream"]: schema["key_properties"] for schema in run.schemas}
        assert keys == {"events": ["EventDigest"], "individuals": ["IndvId"]}


@pytest.mark.parametrize("value", ["yesterday", 7])
def test_a_bookmark_that_cannot_be_read_is_reported(value):
    state = {"bookmarks": {"individuals": {"bundle_end": value}}}
    run = run_tap({"api_key": "na1.secret"}, state=state)
    assert run.code == 2
    assert "bookmarks.individuals.bundle_end" in run.critical
