"""What is to stay in the tap: a marked value is looked for wherever anything is written."""

from __future__ import annotations

import gzip
import hmac
import json
import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from catalogs import select_streams
from either_api import DATA_EXPORT, SEGMENT_EXPORT, UNTIL, each_api, orders
from interrupting import interrupted
from running import Json, Run, discover, run_command, run_tap, selecting

from tap_fullstory.catalog import discover as offered
from tap_fullstory.columns import personal_data
from tap_fullstory.sandbox import Bundle, Fault, Sandbox
from tap_fullstory.sandbox.people import people
from tap_fullstory.streams import STREAMS, Stream

STOP = int(UNTIL.timestamp())
KEY = "4f1c-of-the-tests-2a"
MARK, HASHED = "marked-5d1", "text to hash"
EVENTS = 400  # more than a pipe holds, so that a signal comes among them
EVENT = {
    "EventType": "custom",
    "IndvId": 4611686018427387905,
    "UserId": 7306828898126528111,
    "UserEmail": f"{MARK}@example.com",
    "PageIp": HASHED,
    "user_phone_str": f"+1 {MARK}",
    "user_plan_str": "gold",
    "evt_reference_str": HASHED,
    "evt_tomorrow": {"name": MARK, "kept": 1, "list": [{"name": MARK, "uid": HASHED}]},
    "evt_names_strs": [MARK, "b"],
}
USER = {
    "id": "7306828898126528111",
    "email": MARK,
    "uid": HASHED,
    "properties": {"phone": MARK, "colours": ["red"], "ref": {"uid": HASHED, "name": [MARK]}},
    "nickname": {"name": MARK},
}
EXCLUDED = ["UserEmail", "user_phone_*", "Email", "users.email", "name", "evt_names_*",
            "properties.phone", "LastIp"]  # fmt: skip
HASHES = ["UserId", "IndvId", "users.id", "PageIp", "evt_ref*", "uid"]


def digest(text: str) -> str:
    return hmac.digest(KEY.encode(), text.encode(), "sha256").hex()[:32]


def bundle(*events: Json) -> Bundle:
    made = [
        {"EventStart": f"2024-06-06T00:{n // 60:02}:{n % 60:02}.000Z", **event}
        for n, event in enumerate(events)
    ]
    return Bundle("1", STOP - 86_400, STOP, made)


def records(stream: str, *runs: Run) -> list[Json]:
    messages = [message for run in runs for message in run.messages]
    return [m["record"] for m in messages if m["type"] == "RECORD" and m["stream"] == stream]


def look_for_marks(folder: Path, *runs: Run) -> None:
    for run in runs:
        for mark in (MARK, HASHED, KEY, str(EVENT["UserId"])):
            assert mark not in run.log
            assert mark.encode() not in run.stdout
    for path in folder.rglob("*"):
        assert path.is_dir() or MARK.encode() not in path.read_bytes()


@each_api
@pytest.mark.parametrize("form", ["object", "string"])
def test_excluded_and_hashed_values_are_nowhere(api, form, tmp_path):
    body = json.dumps({"results": [USER]}).encode()
    faults = [Fault("status", "users", status=200, body=body, times=None)]
    with api.sandbox([bundle(*[EVENT] * EVENTS)], faults=faults) as sandbox:
        config = api.config(
            sandbox, exclude_fields=EXCLUDED, hash_fields=HASHES, hash_key=KEY, workers=2,
            checkpoint_events=7, custom_vars_format=form, log_level="DEBUG",
            spool_dir=str(tmp_path),
        )  # fmt: skip
        catalog = select_streams("events", "individuals", "users", catalog=discover(config))
        first = interrupted(config, in_bundle=True, catalog=catalog)
        assert first.code == 143
        second = run_tap(config, catalog=catalog, state=first.state)
        assert second.code == 0, second.log
    look_for_marks(tmp_path, first, second)

    events = records("events", first, second)
    assert len(events) == EVENTS
    assert len({event.pop("EventStart") for event in events}) == EVENTS
    custom: Any = events[0]["CustomVars"]
    custom = json.loads(custom) if form == "string" else custom
    assert custom == {
        "user_plan_str": "gold", "evt_reference_str": digest(HASHED),
        "evt_tomorrow": {"kept": 1, "list": [{"uid": digest(HASHED)}]},
    }  # fmt: skip
    for event in events:
        event.pop("CustomVars")
        assert event == {
            "EventType": "custom", "IndvId": digest(str(EVENT["IndvId"])),
            "UserId": digest(str(EVENT["UserId"])), "PageIp": digest(HASHED),
        }  # fmt: skip
    # The same id, a number there and text here; "DisplayName" and others are not in these events.
    (user,) = records("users", second)
    assert (user["id"], user["uid"]) == (events[0]["UserId"], digest(HASHED))
    assert "email" not in user
    free = json.loads(user["properties"]) if form == "string" else user["properties"]
    assert free == {"colours": ["red"], "ref": {"uid": digest(HASHED)}}
    (person,) = records("individuals", second)
    assert person["IndvId"] == events[0]["IndvId"]
    assert {"Email", "LastIp", "UserEmail"} & set(person) == set()
    types = {s["stream"]: s["schema"]["properties"] for s in second.schemas}
    assert types["events"]["UserId"]["type"] == ["null", "string"]
    assert types["users"]["id"]["type"] == ["null", "string"]
    assert {"UserEmail", "email", "Email"} & {
        name for made in types.values() for name in made
    } == set()
    # Nothing is counted that was left out, and every pattern has matched.
    assert "user_phone_str" not in second.log
    assert not [line for line in second.logged("WARNING") if "No field matched" in line]
    for order in orders(sandbox):
        fields = set(order.get("fields", ()))
        assert fields
        assert {"UserEmail", "Email", "LastIp"} & fields == set()


def test_batch_files_have_no_more_than_records(tmp_path):
    events = [{**EVENT, "EventType": ("custom", "click")[n % 2]} for n in range(50)]
    batches = {
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "storage": {"root": str(tmp_path)},
        "batch_size": 20,
    }
    with DATA_EXPORT.sandbox([bundle(*events)]) as sandbox:
        config = DATA_EXPORT.config(
            sandbox, exclude_fields=EXCLUDED, hash_fields=HASHES, hash_key=KEY,
            event_types="custom", batch_config=batches,
        )  # fmt: skip
        run = run_tap(config)
    assert run.code == 0, run.log
    files = sorted(tmp_path.glob("*.json.gz"))
    assert len(files) == 3
    text = b"".join(gzip.decompress(path.read_bytes()) for path in files)
    assert text.count(b"\n") == 25
    assert text.count(digest(HASHED).encode()) == 25 * 3
    for mark in (MARK, HASHED, KEY, str(EVENT["UserId"])):
        assert mark.encode() not in text + run.stdout + run.log.encode()


def deselecting(*, schema: str = "", **choices: Any) -> Json:
    """The catalog of events with choices in its metadata, and one in its schema."""
    catalog = json.loads(json.dumps(offered()))  # breadcrumbs are lists in a file
    (entry,) = (one for one in catalog["streams"] if one["stream"] == "events")
    for name, selected in choices.items():
        entry["metadata"] = [one for one in entry["metadata"] if one["breadcrumb"][1:] != [name]]
        choice = {"breadcrumb": ["properties", name], "metadata": {"selected": selected}}
        entry["metadata"].append(choice)
    if schema:
        entry["metadata"] = [one for one in entry["metadata"] if one["breadcrumb"][1:] != [schema]]
        entry["schema"]["properties"][schema] = {"type": ["null", "string"], "selected": False}
    return {"streams": [entry]}


NO_EMAIL: dict[str, Any] = {"UserEmail": False, "evt_tomorrow": False, "evt_names_strs": "false"}
WAYS: dict[str, tuple[Json | None, Json, dict[str, str]]] = {
    "metadata": (deselecting(user_phone_str=False, **NO_EMAIL), {}, {}),
    "metadata as text": (deselecting(user_phone_str="False", **NO_EMAIL), {}, {}),
    "schema": (deselecting(schema="user_phone_str", **NO_EMAIL), {}, {}),
    "a column by config": (
        deselecting(user_phone_str=False, **NO_EMAIL), {"custom_columns": "user_phone_str"}, {},
    ),
    "paths of a row": (
        None,
        {"exclude_fields": ["UserEmail", "CustomVars.user_phone_str", "events.CustomVars.evt_t*",
                            "*.CustomVars.evt_*s"]}, {},
    ),
    "paths of a row, hashed": (
        None,
        {"exclude_fields": "UserEmail", "hash_key": KEY,
         "hash_fields": ["CustomVars.user_phone_str", "events.CustomVars.evt_t*",
                         "CustomVars.evt_names_strs"]}, {},
    ),
    "a path of the catalog": (
        {"streams": [{**entry, "metadata": [*entry["metadata"], *(
            {"breadcrumb": ["properties", "CustomVars", "properties", name],
             "metadata": {"selected": False}}
            for name in ("user_phone_str", "evt_tomorrow", "evt_names_strs")
        )]} for entry in deselecting(UserEmail=False)["streams"]]}, {}, {},
    ),
    "Meltano, paths of a row": (
        deselecting(UserEmail=False), {},
        {"MELTANO_EXTRACT__SELECT": json.dumps(["events.*", *(
            f"!events.CustomVars.{name}" for name in ("user_phone_str", "evt_t*", "evt_*s")
        )])},
    ),
    "no CustomVars": (deselecting(CustomVars=False, UserEmail=False), {}, {}),
    "config alone": (None, {"exclude_fields": "*Email, user_ph*, evt_t*, evt_*s"}, {}),
    "environment": (None, {}, {"TAP_FULLSTORY_EXCLUDE_FIELDS": '["*Email", "user_ph*", "evt_*"]'}),
    "Meltano": (
        deselecting(UserEmail=False), {},
        {"MELTANO_EXTRACT__SELECT": '["events.*", "!events.user_*", "!events.evt_*s"]',
         "MELTANO_EXTRACT__METADATA": '{"events.evt_tomorrow.selected": false}'},
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_no_way_of_leaving_something_out_lets_it_through(way):
    catalog, settings, environment = WAYS[way]
    with DATA_EXPORT.sandbox([bundle(EVENT)]) as sandbox:
        config = DATA_EXPORT.config(sandbox, **settings)
        if way == "environment":
            environment = environment | {
                f"TAP_FULLSTORY_{name.upper()}": str(value) for name, value in config.items()
            }
            run = run_command("--config", "ENV", env=environment)
        else:
            run = run_tap(config, catalog=catalog, env=environment)
    assert run.code == 0, run.log
    assert MARK not in run.log
    assert MARK.encode() not in run.stdout
    assert HASHED.encode() in run.stdout


@each_api
@pytest.mark.parametrize("types", ["click, change", ["!navigate", "!load"]])
def test_events_of_other_types_are_read_and_not_written(api, types):
    kinds = ["navigate", "click", "load", "navigate", "change", "load", "navigate"]
    events = [{**EVENT, "EventType": kinds[n % 7]} for n in range(1001)]
    with api.sandbox([bundle(*events)]) as sandbox:
        # The type is needed for that, whether the catalog selects it or not.
        catalog = selecting(discover(), EventType=False, UserEmail=False)
        config = api.config(sandbox, event_types=types, checkpoint_events=50)
        first = interrupted(config, in_bundle=True, catalog=catalog)
        second = run_tap(config, catalog=catalog, state=first.state)
    assert (first.code, second.code) == (143, 0)
    reached = first.state["bookmarks"]["events"]["partial"]["events"]
    starts = [event["EventStart"] for event in sandbox.bundles[0].body]
    wanted = [start for n, start in enumerate(starts) if kinds[n % 7] in ("click", "change")]
    # A segment export has its rows in an order of its own.
    assert sorted(record["EventStart"] for record in first.records + second.records) == wanted
    assert not [record for record in second.records if "EventType" in record]
    (line,) = [line for line in second.logged("INFO") if "left out" in line]
    assert f": {1001 - reached - len(second.records)} events were left out" in line
    metrics = [json.loads(line.split("METRIC: ")[1]) for line in second.logged("INFO")
               if "record_count" in line]  # fmt: skip
    assert sum(metric["value"] for metric in metrics) == len(second.records)


@each_api
def test_a_run_that_leaves_out_every_event_warns_with_the_types_that_came(api):
    kinds: list[Any] = ["load", "click", "load", "", 5]
    events = [{**EVENT, "EventType": kind} for kind in kinds] + [dict(EVENT)]
    del events[-1]["EventType"]
    with api.sandbox([bundle(*events)]) as sandbox:
        for native in ("", "1"):
            config = api.config(sandbox, event_types="Click, Load", checkpoint_events=2)
            run = run_tap(config, env={"TAP_FULLSTORY_PURE_PYTHON": native})
            assert (run.code, run.records) == (0, [])
            (line,) = [one for one in run.logged("WARNING") if "left out every event" in one]
            for kind in ("load (2)", "click (1)", "5 (1)", "null (1)"):
                assert kind in line
        run = run_tap(api.config(sandbox, event_types="click"))
        assert not [one for one in run.logged("WARNING") if "left out every event" in one]


def test_a_filter_needs_the_type_that_is_excluded():
    run = run_tap({"api_key": "k", "event_types": "click", "exclude_fields": "EventT*"})
    assert run.code == 2
    assert "exclude_fields: it matches EventType, by which event_types" in run.critical


def test_a_pattern_that_matches_nothing_is_reported_and_its_field_written():
    with DATA_EXPORT.sandbox([bundle(EVENT)]) as sandbox:
        config = DATA_EXPORT.config(
            sandbox, exclude_fields="UserMail, useremail, users.email, user_ph*", hash_key=KEY,
            hash_fields=["evt_x_str", "PageIp"],
        )  # fmt: skip
        run = run_tap(config)
        again = run_tap(config, state=run.state)
    (warning,) = [line for line in run.logged("WARNING") if "No field matched" in line]
    assert (
        "UserMail of exclude_fields, useremail of exclude_fields, evt_x_str of hash_fields"
        in warning
    )
    assert run.records[0]["UserEmail"] == EVENT["UserEmail"]
    assert not again.records
    assert "No field matched" not in again.log  # nor is there anything that it could have matched


def test_refusals_name_no_secret(tmp_path):
    with Sandbox() as sandbox:
        config = sandbox.config(hash_fields="UserId", hash_key=KEY, log_level="DEBUG")
        for more, code in ({"start_date": KEY}, 2), ({"api_key": KEY + KEY}, 1), ({KEY: 1}, 0):
            run = run_tap({**config, **more})
            assert run.code == code
            assert KEY not in run.log
        run = run_tap({**config, "hash_key": None}, env={"TAP_FULLSTORY_HASH_KEY": KEY})
        assert len(run.records[0]["UserId"]) == 32
        look_for_marks(tmp_path, run)


def test_paths_of_the_rows_of_other_streams():
    user = {**USER, "email": "kept", "nickname": {"name": "kept"}, "uid": {"not": MARK}}
    body = json.dumps({"results": [user]}).encode()
    faults = [Fault("status", "users", status=200, body=body, times=None)]
    api = SEGMENT_EXPORT
    with api.sandbox([bundle(EVENT)], faults=faults) as sandbox:
        config = api.config(
            sandbox, hash_key=KEY,
            exclude_fields=["users.properties.phone", "users.properties.ref", "CustomVars.user_*",
                            "individuals.CustomVars.*", "users.extra.nickname", "extra.uid"],
        )  # fmt: skip
        run = run_tap(
            config, catalog=select_streams("users", "individuals", catalog=discover(config))
        )
    assert run.code == 0, run.log
    (record,) = records("users", run)
    assert record == {
        "id": USER["id"], "email": "kept", "uid": None, "properties": {"colours": ["red"]},
    }  # fmt: skip
    assert records("individuals", run)
    assert not any("CustomVars" in record for record in records("individuals", run))


def test_a_kind_of_variables_that_is_not_requested_is_not_warned_about():
    with SEGMENT_EXPORT.sandbox([bundle(EVENT)]) as sandbox:
        config = SEGMENT_EXPORT.config(
            sandbox, exclude_fields=["user_*", "user_x_str", "CustomVars.evt_*", "EMail"]
        )
        run = run_tap(config)
    assert run.code == 0, run.log
    (warning,) = [line for line in run.logged("WARNING") if "No field matched" in line]
    assert "matched EMail of exclude_fields." in warning


# --- all that is marked ---

STREAMS_OF_ALL = [stream.name for stream in STREAMS]
ADDRESS = re.compile(
    r"[\w.+-]+@example\.com|\b(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d+|2001:db8:"
)


def everything(**settings: Any) -> Run:
    """A run of every stream, with the people of the sandbox."""
    with Sandbox() as sandbox:
        config = sandbox.config(**settings)
        run = run_tap(config, catalog=select_streams(*STREAMS_OF_ALL, catalog=discover(config)))
    assert run.code == 0, run.log
    return run


def the_stream(message: Json) -> Stream:
    (stream,) = [one for one in STREAMS if one.name == message["stream"]]
    return stream


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The values in a record, as text, with the names around each."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path)
    elif value is not None and not isinstance(value, bool):
        yield path, str(value)


def identities() -> set[str]:
    found = set()
    for person in people():
        found |= {person.app_key, person.name, person.email, str(person.indv_id)}
        found |= {str(visitor.user_id) for visitor in person.visitors}
    return found - {""}


def holds_a_person(text: str, known: set[str]) -> bool:
    return ADDRESS.search(text) is not None or any(one in text for one in known)


def test_people_are_in_no_field_without_a_mark():
    run = everything()
    known = identities()
    unmarked, seen = set(), set()
    for message in run.messages:
        if message["type"] != "RECORD":
            continue
        stream = the_stream(message)
        for path, text in leaves(message["record"]):
            if not holds_a_person(text, known):
                continue
            seen.add(stream.name)
            marks = {personal_data(stream, ".".join(path[: n + 1])) for n in range(len(path))}
            if marks == {None}:
                unmarked.add((stream.name, path))
    assert unmarked == set()
    assert seen >= {"events", "individuals", "users", "sessions", "segments", "geo_settings"}


def test_all_that_names_a_person_is_excluded_by_one_word():
    run = everything(exclude_fields=["@personal"])
    for message in run.messages:
        if message["type"] == "RECORD":
            stream = the_stream(message)
            marked = [
                ".".join(path)
                for path, _ in leaves(message["record"])
                if personal_data(stream, ".".join(path)) == "yes"
            ]
            assert marked == []
    for schema in run.schemas:
        stream, listed = the_stream(schema), schema["schema"]["properties"]
        assert not [name for name in listed if personal_data(stream, name) == "yes"]
        members = listed.get("metadata", {}).get("properties", {})
        assert not members.keys() & {"createdBy", "lastUpdatedBy"}
    assert run.logged("WARNING") == []


def test_all_ids_are_hashed_by_one_word_and_still_join():
    run = everything(exclude_fields="@personal", hash_fields=["@ids"], hash_key=KEY)
    events, sessions = records("events", run), records("sessions", run)
    users = {record["id"] for record in records("users", run)}
    assert {record["UserId"] for record in events} & users
    assert {record["user_id"] for record in sessions} <= users
    for message in run.messages:
        if message["type"] == "RECORD":
            stream = the_stream(message)
            for path, text in leaves(message["record"]):
                if personal_data(stream, ".".join(path)) == "an id":
                    assert re.fullmatch("[0-9a-f]{32}", text), (stream.name, path)


@pytest.mark.parametrize(
    ("stream", "key"), [("users", "id"), ("individuals", "IndvId"), ("sessions", "id")]
)
def test_a_key_that_is_an_id_cannot_be_excluded_by_the_word(stream, key):
    config = {"api_key": "na1.of-the-tests", "exclude_fields": ["@personal", "@ids"]}
    run = run_tap(config, catalog=select_streams(stream))
    assert run.code == 2
    assert f"exclude_fields: '@ids' matches {key} of {stream}, part of the stream's key" in run.log
    assert "hash_fields" in run.critical


def test_events_without_ids():
    with DATA_EXPORT.sandbox([bundle(EVENT)]) as sandbox:
        run = run_tap(DATA_EXPORT.config(sandbox, exclude_fields="@ids, @personal"))
    assert run.code == 0, run.log
    (record,) = run.records
    assert record.keys() == {"EventStart", "EventType", "CustomVars"}
    assert run.logged("WARNING") == []


def test_an_unknown_word_for_marks_is_refused():
    run = run_tap({"api_key": "na1.of-the-tests", "exclude_fields": "@persona"})
    assert run.code == 2
    assert "'@persona' is not one of @personal, @ids" in run.critical


# --- the digest of an event ---


@pytest.mark.parametrize("pure", ["", "1"])
@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"hash_key": KEY}, b""),
        ({"hash_key": KEY, "exclude_fields": ["PageIp"]}, KEY.encode()),
        ({"hash_key": KEY, "hash_fields": ["UserEmail"]}, KEY.encode()),
        ({"hash_key": "k" * 64, "exclude_fields": ["PageIp"]}, b"k" * 64),
        ({"hash_key": "k" * 65, "exclude_fields": ["PageIp"]}, blake2b(b"k" * 65).digest()),
    ],
)
def test_a_digest_is_keyed_where_values_are_left_out(settings, key, pure):
    with DATA_EXPORT.sandbox([bundle(EVENT)]) as sandbox:
        config = DATA_EXPORT.config(sandbox, event_digest=True, **settings)
        run = run_tap(config, env={"TAP_FULLSTORY_PURE_PYTHON": pure})
    assert run.code == 0, run.log
    event = {"EventStart": "2024-06-06T00:00:00.000Z", **EVENT}
    sent = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    expected = blake2b(sent.encode(), digest_size=16, key=key).hexdigest()
    assert [record["EventDigest"] for record in run.records] == [expected]
