"""The REST streams from outside: the command against the sandbox, over real HTTP."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from either_api import each_api
from faults import loud
from running import Json, Run, discover, read_messages, run_command, run_tap, start_tap

from tap_fullstory.sandbox import Fault, Sandbox, generated_bundles
from tap_fullstory.sandbox.people import people
from tap_fullstory.streams import STREAMS, RestStream, stream_named

REST = [stream.name for stream in STREAMS if isinstance(stream, RestStream)]
HISTORIES = [name for name in REST if name.endswith("_history")]
ARCHITECT_ONLY = {
    "users",
    "sessions",
    "privacy_settings",
    "privacy_settings_history",
    "webhook_endpoints",
    "webhook_event_types",
    "webhook_event_subcategories",
    "privacy_elements",
}
# How many records the sandbox has of each.
COUNTS = {
    "users": 57,
    "segments": 25,
    "block_rules": 1,
    "block_rules_history": 3,
    "domain_settings": 2,
    "domain_settings_history": 5,
    "geo_settings": 1,
    "geo_settings_history": 2,
    "privacy_settings": 1,
    "privacy_settings_history": 3,
    "recording_features": 2,
    "recording_features_history": 122,
    "target_rule": 1,
    "target_rule_history": 2,
    "webhook_endpoints": 3,
    "webhook_event_types": 5,
    "webhook_event_subcategories": 4,
    "organization_quotas": 1,
    "extraction_rules": 5,
    "privacy_elements": 12,
    "operations": 5,
    "sessions": 11,
}


@pytest.fixture(scope="module")
def offered() -> Json:
    return discover()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def selecting(catalog: Json, *names: str, **properties: dict[str, bool]) -> Json:
    """The catalog with these streams selected and no others, and in them properties by stream."""
    chosen = json.loads(json.dumps(catalog))
    for entry in chosen["streams"]:
        name = entry["tap_stream_id"]
        for item in entry["metadata"]:
            if not item["breadcrumb"]:
                item["metadata"]["selected"] = name in names
            elif item["breadcrumb"][1] in properties.get(name, {}):
                item["metadata"]["selected"] = properties[name][item["breadcrumb"][1]]
    return chosen


def records(run: Run, stream: str) -> list[Json]:
    return [
        message["record"]
        for message in run.messages
        if message["type"] == "RECORD" and message["stream"] == stream
    ]


def counts(run: Run) -> dict[str, int]:
    return dict(Counter(m["stream"] for m in run.messages if m["type"] == "RECORD"))


def asked(sandbox: Sandbox, path: str) -> list[dict[str, str]]:
    return [dict(request.query) for request in sandbox.requests if request.path == path]


def answering(endpoint: str, *bodies: Any) -> list[Fault]:
    """Faults that answer the first requests with these, and all further ones with the last."""
    texts = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    return [
        Fault("status", endpoint, status=200, body=text, times=None if last else 1)
        for text, last in zip(texts, [False] * (len(texts) - 1) + [True], strict=True)
    ]


# --- every stream ---


def test_all_streams_at_once(sandbox, offered):
    run = run_tap(sandbox.config(), catalog=selecting(offered, *REST, "events"))
    assert run.code == 0, run.log
    assert counts(run) == {**COUNTS, "events": 144}
    assert run.logged("WARNING") == []
    assert [schema["stream"] for schema in run.schemas] == [*REST, "events"]  # exports last
    for schema in run.schemas:
        stream = stream_named(schema["stream"])
        assert schema["key_properties"] == list(stream.key_properties)
        key = stream.replication_key
        assert schema["bookmark_properties"] == ([key] if key else [])
    assert [r.path for r in sandbox.requests][-1] == "/api/v1/export/get"


@pytest.mark.parametrize("name", REST)
def test_each_stream_alone_with_its_key_intact(sandbox, offered, name):
    run = run_tap(sandbox.config(), catalog=selecting(offered, name))
    assert run.code == 0, run.log
    assert counts(run) == {name: COUNTS[name]}
    (schema,) = run.schemas
    keys = schema["key_properties"]
    assert all(schema["schema"]["properties"][key]["type"] == ["string"] for key in keys)
    rows = [tuple(record[key] for key in keys) for record in records(run, name)]
    assert all(all(isinstance(value, str) and value for value in row) for row in rows)
    assert not keys or len(set(rows)) == len(rows)
    assert not any("extra" in record for record in records(run, name))
    assert "currently_syncing" not in json.dumps(run.states)  # one stream has no order
    assert not any(request.path.startswith("/api/v1/export") for request in sandbox.requests)


def test_target_jsonl_loads_them_all(sandbox, offered, commands, tmp_path):
    """It checks every record against its schema, dates included."""
    config = tmp_path / "target.json"
    config.write_text(json.dumps({"destination_path": str(tmp_path), "do_timestamp_file": False}))
    run = run_tap(sandbox.config(), catalog=selecting(offered, *REST))
    loading = subprocess.run(
        [commands.target_jsonl, "--config", config], input=run.stdout, capture_output=True
    )
    assert loading.returncode == 0, loading.stderr.decode()
    for name in REST:
        lines = (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line) for line in lines] == records(run, name)


def test_only_events_is_selected_by_default(sandbox, offered):
    for entry in offered["streams"]:
        (of_stream,) = [m["metadata"] for m in entry["metadata"] if not m["breadcrumb"]]
        assert of_stream["selected-by-default"] is (entry["tap_stream_id"] == "events")
    fresh = run_tap(sandbox.config(), catalog=offered)
    without = run_tap(sandbox.config())
    assert counts(fresh) == counts(without) == {"events": 144}
    assert fresh.states == without.states
    assert {r.path.split("/")[1] for r in sandbox.requests} == {"api"}


def test_the_catalog_says_what_the_table_says(offered):
    assert [entry["tap_stream_id"] for entry in offered["streams"]] == [s.name for s in STREAMS]
    for entry, stream in zip(offered["streams"], STREAMS, strict=True):
        described = {tuple(m["breadcrumb"]): m["metadata"] for m in entry["metadata"]}
        keys = list(stream.key_properties)
        assert entry["key_properties"] == described[()]["table-key-properties"] == keys
        assert described[()]["forced-replication-method"] == stream.replication_method
        if stream.replication_key:
            assert described[()]["valid-replication-keys"] == [stream.replication_key]
        for name, schema in entry["schema"]["properties"].items():
            of_property = described["properties", name]
            key = name in keys
            assert of_property["inclusion"] == ("automatic" if key else "available")
            assert of_property["selected-by-default"] is True
            assert ("null" in schema["type"]) is not key
            assert schema["description"]


# --- users and sessions ---


def test_57_users_come_over_pages_of_ten(sandbox, offered):
    run = run_tap(sandbox.config(), catalog=selecting(offered, "users"))
    calls = asked(sandbox, "/v2/users")
    # Nothing undocumented, and the schema only if it is selected.
    assert [sorted(call) for call in calls] == [
        ["include_schema"], *([["include_schema", "page_token"]] * 5)
    ]  # fmt: skip
    assert len({call["page_token"] for call in calls[1:]}) == 5
    crowd = people()
    users = records(run, "users")
    assert [user["id"] for user in users] == [str(person.indv_id) for person in crowd]
    assert [user.get("uid", "") for user in users] == [person.app_key for person in crowd]
    assert users[0]["properties"]["address"]["city"]
    assert isinstance(users[0]["properties"]["favourite_colours"], list)
    assert not any("connection" in request.headers for request in sandbox.requests)  # kept open


@pytest.mark.parametrize("selected", [["schema"], ["type_conflicts"], []])
def test_the_schema_of_users_is_asked_for_if_a_column_takes_it(sandbox, offered, selected):
    columns = {name: name in selected for name in ("schema", "type_conflicts")}
    run = run_tap(sandbox.config(), catalog=selecting(offered, "users", users=columns))
    asks = {call.get("include_schema") for call in asked(sandbox, "/v2/users")}
    assert asks == {"true" if selected else None}
    for name in selected:
        assert any(user[name] for user in records(run, "users"))
    assert not set(columns) - set(selected) & set().union(*records(run, "users"))


def test_users_are_the_people_of_the_events(sandbox, offered):
    run = run_tap(sandbox.config(), catalog=selecting(offered, "users", "events", "sessions"))
    uids = {user["uid"] for user in records(run, "users") if "uid" in user}
    events = records(run, "events")
    assert {event["UserAppKey"] for event in events} - {""} <= uids
    of_events = {
        f"{event['UserId']}:{event['SessionId']}": event["UserAppKey"]
        for event in events
        if event["UserAppKey"]
    }
    sessions = records(run, "sessions")
    assert {session["id"]: session["uid"] for session in sessions} == of_events
    ids = {user["id"]: user.get("uid") for user in records(run, "users")}
    assert all(ids[session["user_id"]] == session["uid"] for session in sessions)


def test_sessions_cost_one_call_for_each_identified_user(sandbox, offered):
    run = run_tap(sandbox.config(), catalog=selecting(offered, "sessions"), env=loud())
    identified = [person.app_key for person in people() if person.app_key]
    calls = asked(sandbox, "/v2/sessions")
    assert calls == [{"uid": uid, "limit": "100"} for uid in identified]
    assert all(call["is_identified"] == "true" for call in asked(sandbox, "/v2/users"))
    assert len(asked(sandbox, "/v2/users")) == 4  # 39 of them
    # Nobody's name in the log.
    assert not any(uid in run.log for uid in identified)
    assert "GET " in run.log


def test_users_who_go_meanwhile_and_users_without_a_name(sandbox, offered):
    users = [
        {"id": "1", "uid": "gone@example.com"},
        {"id": "2", "email": "mail@example.com"},
        {"id": "3"},
        {"id": "4", "uid": "customer-1001", "email": "other@example.com"},
    ]
    for fault in answering("users", {"results": users, "total_records": "4"}):
        sandbox.fault(fault)
    sandbox.fault("sessions:404")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "sessions"))
    assert run.code == 0, run.log
    assert asked(sandbox, "/v2/sessions")[1] == {"email": "mail@example.com", "limit": "100"}
    assert {(row["user_id"], row["uid"]) for row in records(run, "sessions")} == {
        ("4", "customer-1001")
    }
    warnings = run.logged("WARNING")
    assert any("1 of 3 users were gone" in line for line in warnings)
    assert any("1 identified users have neither uid nor email" in line for line in warnings)
    assert "example.com" not in run.log


def test_sessions_of_nobody_are_no_users_who_have_gone(sandbox, offered):
    sandbox.fault("sessions:404,times=always")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "sessions"))
    assert run.code == 1
    assert "HTTP 404" in run.critical


# --- settings ---


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


# --- what does not fit ---


def test_unknown_keys_and_misfits_are_kept_and_counted(sandbox, offered):
    odd = b"""{"segments": [
        {"id": "a", "name": 7, "created": "", "colour": {"r": 1.10,
         "big": 12345678901234567890123}, "extra": null, "url": "u\\ud83d"},
        {"id": "b", "name": null, "creator": "x", "colour": "red"}
    ]}"""
    for fault in answering("segments", odd):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert run.code == 0, run.log
    assert records(run, "segments") == [
        {
            "id": "a",
            "name": None,
            "created": None,
            "url": "u\ufffd",
            "extra": {
                "name": 7,
                "colour": {"r": 1.10, "big": 12345678901234567890123},
                "extra": None,
            },
        },
        {"id": "b", "name": None, "creator": "x", "extra": {"colour": "red"}},
    ]
    assert b"1.10" in run.stdout  # as it came
    warnings = "\n".join(run.logged("WARNING"))
    assert "1 values do not fit their property's type" in warnings
    assert "name (1)" in warnings
    assert "colour (2), extra (1)" in warnings
    assert "red" not in run.log


def test_with_extra_deselected_they_are_dropped_and_counted(sandbox, offered):
    body = {"segments": [{"id": "a", "name": 7, "colour": "red", "url": "here"}]}
    for fault in answering("segments", body):
        sandbox.fault(fault)
    unwanted = {"extra": False, "url": False}
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments", segments=unwanted))
    assert records(run, "segments") == [{"id": "a", "name": None}]
    assert set(run.schema) == {"id", "name", "creator", "created"}
    assert run.logged("WARNING") == []
    assert sum("dropped" in line for line in run.logged("INFO")) == 2


def test_keys_cannot_be_deselected(sandbox, offered):
    unwanted = {"platform": False, "lastUpdated": False, "metadata": False, "domains": False}
    catalog = selecting(offered, "domain_settings_history", domain_settings_history=dict(unwanted))
    run = run_tap(sandbox.config(), catalog=catalog)
    rows = records(run, "domain_settings_history")
    assert all(set(row) == {"platform", "lastUpdated", "onlyRecordKnownDomains"} for row in rows)
    for entry in catalog["streams"]:  # nor be left out of the catalog
        if entry["tap_stream_id"] == "domain_settings_history":
            del entry["schema"]["properties"]["platform"]
    assert records(run_tap(sandbox.config(), catalog=catalog), "domain_settings_history") == [
        {key: row[key] for key in row} for row in rows
    ]


def test_the_other_documented_spelling_of_webhooks(sandbox, offered):
    endpoint = {
        "id": "a",
        "url": "https://hooks.example.com/",
        "event_types": [{"event_name": "note.created", "subcategory": ""}],
    }
    pages = [
        {"endpoints": [endpoint], "next_pagination_token": "more"},
        {"endpoints": [{**endpoint, "id": "b"}]},
    ]
    kinds = {"event_defs": [{"event_name": "a.b", "display_name": "A", "has_subcategories": True}]}
    for fault in (
        *answering("webhook_endpoints", *pages),
        *answering("webhook_event_types", kinds),
    ):
        sandbox.fault(fault)
    catalog = selecting(offered, "webhook_endpoints", "webhook_event_types")
    run = run_tap(sandbox.config(), catalog=catalog)
    assert run.code == 0, run.log
    assert [record["id"] for record in records(run, "webhook_endpoints")] == ["a", "b"]
    assert records(run, "webhook_endpoints")[0]["eventTypes"] == [
        {"eventName": "note.created", "subcategory": ""}
    ]
    assert records(run, "webhook_event_types") == [
        {"eventName": "a.b", "displayName": "A", "hasSubcategories": True}
    ]
    assert run.logged("WARNING") == []
    assert asked(sandbox, "/webhooks/v1/endpoints")[1] == {
        "limit": "100",
        "pagination_token": "more",
    }


def test_page_tokens_stay_out_of_the_log(offered):
    """A webhook's token is its address, which may hold a secret."""
    with Sandbox(most_a_page=1) as sandbox:
        run = run_tap(sandbox.config(), catalog=selecting(offered, "webhook_endpoints"))
        tokens = [call.get("pagination_token") for call in asked(sandbox, "/webhooks/v1/endpoints")]
    assert len(set(tokens)) == 3
    assert b64decode(tokens[1] or "")
    assert not any(token in run.log for token in tokens if token)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"segments": [{"name": "no id"}]}, "whose id is missing"),
        ({"segments": [{"id": None}]}, "whose id is missing"),
        ({"segments": [{"id": 5}]}, "whose id is missing"),
        ({"segments": ["text"]}, "has no list named segments"),
        ({"segments": {"id": "a"}}, "has no list named segments"),
        ({"rows": []}, "has no list named segments"),
        ({"segments": [], "nextPaginationToken": 7}, "nextPaginationToken that is not text"),
        ([], "something other than the JSON promised"),
        (b"<html>", "something other than the JSON promised"),
        (b'{"segments": [{"id": "\xff"}]}', "something other than the JSON promised"),
    ],
)
def test_answers_that_are_not_what_was_promised(sandbox, offered, body, says):
    for fault in answering("segments", body):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert run.code == 1
    assert says in run.critical
    assert counts(run) == {}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"segments": None},
        {"segments": []},
        {"nextPaginationToken": ""},
        {"segments": [], "nextPaginationToken": None, "next_pagination_token": ""},
    ],
)
def test_lists_of_nothing(sandbox, offered, body):
    for fault in answering("segments", body):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert (run.code, counts(run)) == (0, {}), run.log


def test_a_version_without_a_date_is_an_error(sandbox, offered):
    for fault in answering("geo_settings_history", {"versions": [{"metadata": {}}]}):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "geo_settings_history"))
    assert run.code == 1
    assert "whose lastUpdated is missing" in run.critical


# --- pages ---


@pytest.mark.parametrize("spelling", ["nextPaginationToken", "next_pagination_token"])
def test_a_token_that_comes_again_ends_the_stream_with_an_error(sandbox, offered, spelling):
    pages = [
        {"segments": [{"id": str(number)}], spelling: token}
        for number, token in enumerate(["a", "b", "a"])
    ]
    for fault in answering("segments", *pages):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert run.code == 1
    assert "goes round in circles: after 3 pages" in run.critical
    assert [call.get("paginationToken") for call in asked(sandbox, "/segments/v1")] == [
        None,
        "a",
        "b",
    ]


def test_an_empty_page_with_a_token_is_not_the_end(sandbox, offered):
    pages = [{"segments": [], "nextPaginationToken": "a"}, {"segments": [{"id": "late"}]}]
    for fault in answering("segments", *pages):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert records(run, "segments") == [{"id": "late"}]


@pytest.mark.parametrize("fault", ["429,retry-after=1", "503,times=2", "reset", "cut,after=-3"])
def test_a_page_that_fails_for_a_while(sandbox, offered, fault):
    sandbox.fault(f"users:{fault},skip=2")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "users"))
    assert run.code == 0, run.log
    assert counts(run) == {"users": 57}


# --- several streams ---


def test_a_key_too_low_for_some_streams(offered):
    with Sandbox(role="USER") as sandbox:
        run = run_tap(sandbox.config(), catalog=selecting(offered, *REST, "events"))
    assert run.code == 1
    readable = {name: n for name, n in COUNTS.items() if name not in ARCHITECT_ONLY}
    assert counts(run) == readable
    assert f"{len(ARCHITECT_ONLY) + 1} of {len(REST) + 1} streams failed" in run.critical
    assert "events: HTTP 403, it needs a key of level Architect or higher, and the" in run.critical
    for name in ARCHITECT_ONLY:
        reason = f"{name}: HTTP 403, it needs a key of level Architect or higher."
        assert reason in run.critical
        (warning,) = [line for line in run.logged("WARNING") if f"Stream {name} failed" in line]
        assert f"The stream {name} needs a key of level Architect or higher" in warning
    assert "currently_syncing" not in run.state
    assert run.state["bookmarks"].keys() == set(HISTORIES) - ARCHITECT_ONLY


@each_api
def test_a_key_too_low_reads_no_events(api):
    with api.sandbox(role="USER") as sandbox:
        run = run_tap(api.config(sandbox))
    assert run.code == 1
    assert run.records == []
    assert run.critical.startswith("HTTP 403 from http://127.0.0.1")
    assert "It needs the level Architect or Admin" in run.critical


def test_one_stream_too_high_says_it_by_itself(offered):
    with Sandbox(role="USER") as sandbox:
        run = run_tap(sandbox.config(), catalog=selecting(offered, "users"))
    assert run.code == 1
    assert "HTTP 403" in run.critical
    assert "/v2/users" in run.critical
    assert "The stream users needs a key of level Architect or higher" in run.critical
    assert "Data Export" not in run.critical


def test_events_that_fail_among_others_keep_their_checkpoint(sandbox, offered):
    bundle = sandbox.bundles[1].id
    sandbox.fault(f"get/{bundle}:truncate,after=-9,times=always")
    catalog = selecting(offered, "events", "geo_settings")
    run = run_tap(sandbox.config(), catalog=catalog)
    assert run.code == 1
    assert counts(run) == {"events": 24, "geo_settings": 1}
    assert run.critical.startswith("1 of 2 streams failed, the others are done. events: Bundle")
    assert f'"skip_bundles": ["{bundle}"]' in run.critical
    sandbox.clear_faults()
    second = run_tap(sandbox.config(), catalog=catalog, state=run.state)
    assert counts(second) == {"events": 120, "geo_settings": 1}


def test_events_alone_fail_in_their_own_words(sandbox, offered):
    sandbox.fault("list:403,times=always")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "events"))
    assert run.critical.startswith("HTTP 403 from http://127.0.0.1")
    assert "Data Export add-on" in run.critical


def test_events_among_others_need_level_and_add_on(sandbox, offered):
    sandbox.fault("list:403,times=always")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "events", "geo_settings"))
    assert (
        "events: HTTP 403, it needs a key of level Architect or higher, and the Data Export "
        in (run.critical)
    )


def test_a_wrong_key_ends_everything_at_once(sandbox, offered):
    config = sandbox.config(api_key="na1.not-the-key")
    run = run_tap(config, catalog=selecting(offered, *REST))
    assert run.code == 1
    assert run.critical.startswith("HTTP 401")
    assert len(sandbox.requests) == 1


def test_a_target_that_goes_ends_everything_at_once(sandbox, offered):
    with start_tap(sandbox.config(), catalog=selecting(offered, *REST)) as tap:
        tap.stdout.close()
        log = tap.stderr.read().decode()
        assert tap.wait(30) == 1
    (critical,) = [line for line in log.splitlines() if line.startswith("CRITICAL")]
    assert "The target closed the pipe" in critical
    assert len(sandbox.requests) < 10


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="/proc is part of Linux")
def test_no_connection_waits_open_while_a_slow_target_holds_up_the_events(offered):
    with Sandbox(generated_bundles(1, 2000)) as sandbox:
        catalog = selecting(offered, "users", "events")
        with start_tap(sandbox.config(), catalog=catalog) as tap:
            while not any(request.path.endswith("/get") for request in sandbox.requests):
                time.sleep(0.01)
            deadline = time.monotonic() + 10
            while open_connections(sandbox):  # nobody reads: the tap waits
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert tap.poll() is None


def open_connections(sandbox: Sandbox) -> int:
    """How many connections to the sandbox's port are established, as the system sees it."""
    port = f":{int(sandbox.url.rpartition(':')[2]):04X}"
    table = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    established = (line.split() for line in table)
    return sum(row[1].endswith(port) and row[3] == "01" for row in established)


def test_the_state_says_which_stream_is_under_way(sandbox, offered):
    names = ["segments", "geo_settings_history", "operations"]
    run = run_tap(sandbox.config(), catalog=selecting(offered, *names, "events"))
    in_progress = None
    for message in run.messages:
        if message["type"] == "RECORD":
            assert message["stream"] == in_progress
        elif message["type"] == "STATE":
            in_progress = message["value"].get("currently_syncing")
    assert in_progress is None
    seen = [state.get("currently_syncing") for state in run.states]
    assert list(dict.fromkeys(seen)) == [*names, "events", None]


def order(run: Run) -> list[str]:
    return [schema["stream"] for schema in run.schemas]


@pytest.mark.parametrize(
    ("interrupted", "expected"),
    [
        (None, ["users", "segments", "operations", "events"]),
        ("users", ["users", "segments", "operations", "events"]),
        ("segments", ["segments", "operations", "users", "events"]),
        ("operations", ["operations", "users", "segments", "events"]),
        ("events", ["events", "users", "segments", "operations"]),
        ("geo_settings", ["users", "segments", "operations", "events"]),  # not selected any more
        (7, ["users", "segments", "operations", "events"]),
    ],
)
def test_the_interrupted_stream_comes_first(sandbox, offered, interrupted, expected):
    state = {"bookmarks": {}, "currently_syncing": interrupted}
    catalog = selecting(offered, *expected)
    run = run_tap(sandbox.config(), catalog=catalog, state=state)
    assert order(run) == expected
    assert run.state.keys() == {"bookmarks"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_stream_loses_nothing(sandbox, offered, number):
    names = ["segments", "domain_settings_history", "users", "operations"]
    catalog = selecting(offered, *names)
    sandbox.fault("domain_settings_history:silence,skip=1,seconds=30")
    with start_tap(sandbox.config(), catalog=catalog) as tap:
        while len(asked(sandbox, "/settings/recording/v1/domain/history")) < 2:
            time.sleep(0.01)
        began = time.monotonic()
        tap.send_signal(number)
        out, log = tap.communicate(timeout=10)
        assert time.monotonic() - began < 2
    assert tap.returncode == 128 + number, log.decode()
    messages = list(read_messages(out))
    assert messages[-1]["type"] == "STATE"  # nothing behind it that it does not cover
    state = messages[-1]["value"]
    assert state["currently_syncing"] == "domain_settings_history"
    assert list(state["bookmarks"]["domain_settings_history"]) == ["web"]
    sandbox.clear_faults()
    rest = run_tap(sandbox.config(), catalog=catalog, state=state)
    assert order(rest)[0] == "domain_settings_history"
    received = Counter(
        (m["stream"], json.dumps(m["record"]))
        for m in (*messages, *rest.messages)
        if m["type"] == "RECORD"
    )
    assert {name for name, _ in received} == set(names)
    for name in names:
        assert sum(stream == name for stream, _ in received) == COUNTS[name]


# --- discovery ---


@pytest.mark.parametrize(
    ("role", "says"),
    [
        ("ARCHITECT", "The API key has the level Architect, which is enough for all streams."),
        ("ADMIN", "The API key has the level Admin, which is enough for all streams."),
        ("USER", "The API key has the level Standard, which is enough for all streams but events"),
    ],
)
def test_discovery_tells_what_the_key_can_reach(offered, role, says):
    # With data_export, discovery lists bundles first, which a USER may not.
    with Sandbox(role=role, export_api="segment_export") as sandbox:
        run = run_command_with(sandbox, "--discover")
    assert run.code == 0
    assert json.loads(run.stdout) == offered
    (line,) = [line for line in run.logged("INFO") if line.startswith("The API key")]
    assert line.startswith(says)
    assert all((name in line) == (role == "USER") for name in ARCHITECT_ONLY)
    assert "owner@example.com" not in run.log


@pytest.mark.parametrize("fault", ["me:500", "me:404", "me:html", "me:reset"])
def test_discovery_goes_on_without_knowing(sandbox, fault):
    sandbox.fault(f"{fault},times=always")
    run = run_command_with(sandbox, "--discover")
    assert run.code == 0
    (warning,) = run.logged("WARNING")
    assert warning.startswith("Could not determine the API key's level (continuing): ")
    assert len(asked(sandbox, "/me")) == 1


@pytest.mark.parametrize("body", [{}, [], {"role": 5}, {"role": "VIEW_ONLY"}])
def test_roles_that_say_nothing(sandbox, body):
    for fault in answering("me", body):
        sandbox.fault(fault)
    run = run_command_with(sandbox, "--discover")
    assert run.code == 0
    told = [*run.logged("WARNING"), *run.logged("INFO")]
    says = re.compile("Could not determine the API key|The API key has the undocumented role")
    assert sum(bool(says.match(line)) for line in told) == 1


def run_command_with(sandbox: Sandbox, *options: str) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        config.write_text(json.dumps(sandbox.config()))
        return run_command("--config", config, *options)
