"""The REST streams from outside: the command against the sandbox, over real HTTP."""

from __future__ import annotations

import json
import subprocess

import pytest
from faults import loud
from rest_runs import (
    COUNTS,
    REST,
    answering,
    asked,
    counts,
    records,
    selecting,
)
from running import run_tap

from tap_fullstory.sandbox.people import people
from tap_fullstory.streams import STREAMS, stream_named

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
def test_the_schema_of_users_is_requested_if_a_column_takes_it(sandbox, offered, selected):
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


def test_users_with_more_sessions_than_are_listed_are_counted(sandbox, offered):
    most = [{"id": f"1:{number}"} for number in range(100)]
    for fault in answering("sessions", {"results": most}, {"results": most[1:]}):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "sessions"))
    said = "sessions: users with 100 sessions or more: 1. FullStory lists no more than 100"
    assert said in run.logged("INFO")


def test_sessions_without_a_user_do_not_count_as_users_who_are_gone(sandbox, offered):
    sandbox.fault("sessions:404,times=always")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "sessions"))
    assert run.code == 1
    assert "HTTP 404" in run.critical


# --- rules and subcategories ---


def test_a_rule_that_two_scopes_list_comes_once_and_an_event_type_may_be_gone(sandbox, offered):
    """FullStory says of PAGE and USER alike that they list property rules."""
    of_user, of_page = ({"id": "a", "scope": scope} for scope in ("USER", "PAGE"))
    strange = {"id": "a", "scope": "UNSPECIFIED"}
    answers = [{"rules": [of_user, of_page]}, {"rules": [of_user]}, {"rules": [strange]}, {}]
    for fault in answering("extraction_rules", *answers):
        sandbox.fault(fault)
    sandbox.fault("webhook_event_subcategories:404,skip=1")
    names = ("extraction_rules", "webhook_event_subcategories")
    run = run_tap(sandbox.config(), catalog=selecting(offered, *names))
    assert run.code == 0, run.log
    assert records(run, "extraction_rules") == [
        of_user,
        of_page,
        {"id": "a", "scope": "ELEMENT", "extra": {"scope": "UNSPECIFIED"}},
    ]
    assert [call["scope"] for call in asked(sandbox, "/v2beta/extraction/rules")] == [
        "PAGE", "USER", "ELEMENT", "REQUEST", "EVENT",
    ]  # fmt: skip
    assert {row["eventName"] for row in records(run, names[1])} == {"app/crash %2F & more"}
    warnings = run.logged("WARNING")
    assert any("1 of 3 webhook_event_types were gone" in line for line in warnings)
