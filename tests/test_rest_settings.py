"""Settings and their histories: pages, versions, bookmarks."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import pytest
from rest_runs import (
    COUNTS,
    HISTORIES,
    REST,
    asked,
    counts,
    records,
    selecting,
)
from running import run_tap

from tap_fullstory.sandbox import Sandbox


def test_settings_of_both_platforms(sandbox, offered):
    names = ("domain_settings", "recording_features", "domain_settings_history")
    run = run_tap(sandbox.config(), catalog=selecting(offered, *names))
    for name in names[:2]:
        assert [record["platform"] for record in records(run, name)] == ["web", "mobile"]
    history = records(run, "domain_settings_history")
    assert Counter(record["platform"] for record in history) == {"web": 3, "mobile": 2}
    for record in history:
        assert record["lastUpdated"] == record["metadata"]["lastUpdated"]
    current = {record["platform"]: record for record in records(run, "domain_settings")}
    newest = {record["platform"]: record for record in reversed(history)}
    assert current == newest  # newest first
    assert asked(sandbox, "/settings/recording/v1/domain") == [
        {"platform": "web"},
        {"platform": "mobile"},
    ]


def test_what_is_nested_arrives_as_it_is(sandbox, offered):
    run = run_tap(sandbox.config(), catalog=selecting(offered, "privacy_settings", "operations"))
    (privacy,) = records(run, "privacy_settings")
    first, second = privacy["elementBlocks"]
    assert first["lastUpdated"] == "0001-01-01T00:00:00Z"
    assert first["targetingConditions"] is None
    values = [
        value
        for condition in second["targetingConditions"]["privacyTargetingConditions"]
        for value in condition["values"]
    ]
    assert values[0] == {"intVal": "9007199254740993"}
    assert values[1]["versionVal"]["revision"] == "18446744073709551615"
    assert privacy["elementRuleGroups"]["7"]["templateId"] == "FORM_PRIVACY"
    operations = records(run, "operations")
    assert [operation["details"] for operation in operations[:4]] == [None, None, None, ""]
    assert operations[1]["finishedAt"] is None  # sent as an empty text
    assert operations[0]["results"]["expires"] == "2026-05-08T10:11:12.345678901Z"


@pytest.mark.parametrize("most", [1, 2, 100])
def test_lists_and_histories_over_pages_of_any_size(offered, most):
    with Sandbox(most_a_page=most) as sandbox:
        names = [name for name in REST if name not in ("users", "sessions")]
        run = run_tap(sandbox.config(), catalog=selecting(offered, *names))
        assert run.code == 0, run.log
        assert counts(run) == {name: COUNTS[name] for name in names}
        calls = asked(sandbox, "/settings/recording/v1/features/history")
    assert [call["platform"] for call in calls] == sorted(
        (call["platform"] for call in calls), reverse=True
    )
    assert all(call["limit"] == "100" for call in calls)
    assert len(calls) == {1: 122, 2: 61, 100: 3}[most]


def test_a_version_in_the_future_is_written_and_the_bookmark_stays_behind_now(sandbox, offered):
    catalog = selecting(offered, "geo_settings_history")
    state = run_tap(sandbox.config(), catalog=catalog).state
    before = state["bookmarks"]["geo_settings_history"]
    future = datetime(9000, 1, 1, tzinfo=timezone.utc)
    sandbox.change_settings("geo", at=future, recordGeoZones=["DE"])
    for _ in range(2):
        run = run_tap(sandbox.config(), catalog=catalog, state=state)
        assert [record["lastUpdated"] for record in run.records] == ["9000-01-01T00:00:00.000000Z"]
        assert "geo_settings_history: versions with a lastUpdated in the future: 1." in run.log
        state = run.state
        assert state["bookmarks"]["geo_settings_history"] == before


def test_a_second_run_brings_only_new_versions(sandbox, offered):
    catalog = selecting(offered, *HISTORIES)
    first = run_tap(sandbox.config(), catalog=catalog)
    assert first.state["bookmarks"]["recording_features_history"] == {
        "web": "2024-08-31T10:57:35.467833Z",
        "mobile": "2020-09-20T20:57:20.953007Z",
    }
    assert first.state["bookmarks"]["block_rules_history"] == {
        "lastUpdated": "2020-10-03T01:57:21.076014Z"
    }
    again = run_tap(sandbox.config(), catalog=catalog, state=first.state)
    assert counts(again) == {}
    assert again.state == first.state
    new = [
        sandbox.change_settings("domain", "mobile", onlyRecordKnownDomains=True),
        sandbox.change_settings("domain", "mobile", onlyRecordKnownDomains=False),
    ]
    before = len(sandbox.requests)
    third = run_tap(sandbox.config(), catalog=catalog, state=again.state)
    assert counts(third) == {"domain_settings_history": 2}
    written = records(third, "domain_settings_history")
    assert {row["platform"] for row in written} == {"mobile"}
    assert [row["metadata"] for row in written] == [version["metadata"] for version in new[::-1]]
    assert third.state["bookmarks"]["domain_settings_history"] == {
        **first.state["bookmarks"]["domain_settings_history"],
        "mobile": new[-1]["metadata"]["lastUpdated"],
    }
    # One call for each history and platform: reading stops at the first version that is known.
    assert len(sandbox.requests) - before == len(HISTORIES) + 2


def test_a_new_version_on_a_page_of_its_own(offered):
    with Sandbox(most_a_page=1) as sandbox:
        catalog = selecting(offered, "geo_settings_history")
        first = run_tap(sandbox.config(), catalog=catalog)
        for zone in ("DE", "FR", "IT"):
            sandbox.change_settings("geo", recordGeoZones=[zone])
        before = len(sandbox.requests)
        second = run_tap(sandbox.config(), catalog=catalog, state=first.state)
        assert len(sandbox.requests) - before == 4
    zones = [record["recordGeoZones"] for record in records(second, "geo_settings_history")]
    assert zones == [["IT"], ["FR"], ["DE"]]


def test_a_bookmark_moves_only_when_all_newer_versions_are_written(offered):
    with Sandbox(most_a_page=1, faults=["domain_settings_history:410,skip=4"]) as sandbox:
        catalog = selecting(offered, "domain_settings_history", "block_rules_history")
        failed = run_tap(sandbox.config(), catalog=catalog)
        assert failed.code == 1
        # Web was through (3 versions), mobile was not (1 of 2).
        assert counts(failed) == {"block_rules_history": 3, "domain_settings_history": 4}
        assert list(failed.state["bookmarks"]["domain_settings_history"]) == ["web"]
        again = run_tap(sandbox.config(), catalog=catalog, state=failed.state)
    assert counts(again) == {"domain_settings_history": 2}


def test_the_state_of_other_streams_is_carried_along(sandbox, offered):
    state = {"bookmarks": {"events": {"bundle_end": "2026-06-02T00:00:00Z"}, "other": {"a": 1}}}
    catalog = selecting(offered, "geo_settings_history", "users")
    run = run_tap(sandbox.config(), catalog=catalog, state=state)
    assert {**run.state["bookmarks"], "geo_settings_history": None} == {
        **state["bookmarks"],
        "geo_settings_history": None,
    }


def test_a_bookmark_that_cannot_be_read_ends_the_run_before_it_begins(sandbox, offered):
    state = {"bookmarks": {"domain_settings_history": {"mobile": "yesterday"}}}
    catalog = selecting(offered, "users", "domain_settings_history")
    run = run_tap(sandbox.config(), catalog=catalog, state=state)
    assert (run.code, run.messages, sandbox.requests) == (2, (), [])
    assert "bookmarks.domain_settings_history.mobile" in run.critical
