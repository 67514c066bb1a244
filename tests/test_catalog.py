"""The catalog: what discovery offers, and what a user's copy of it selects.

The rules are those of Singer (github.com/singer-io/getting-started, docs/DISCOVERY_MODE.md and
docs/SYNC_MODE.md) with what docs/columns.md adds for custom variables.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import pytest
from export_fields import DATE_TIMES, INTEGERS, LEGACY, NUMBERS, STRINGS
from running import columns

from tap_fullstory import catalog
from tap_fullstory.columns import _OF_STREAMS, is_custom, marked_members, personal_data
from tap_fullstory.errors import CodedWarning, UsageError
from tap_fullstory.sandbox import generated_bundles
from tap_fullstory.selection import Selection, catalog_warnings, select
from tap_fullstory.settings import parse_config
from tap_fullstory.streams import STREAMS, RestStream, stream_named

NOW = datetime(2026, 6, 2, tzinfo=timezone.utc)


def config(**settings: Any) -> Any:
    return parse_config({"api_key": "key", **settings}, NOW, {})


@pytest.fixture
def discovered() -> dict[str, Any]:
    return json.loads(json.dumps(catalog.discover()))  # breadcrumbs are lists in a file


def properties(entry: dict[str, Any]) -> dict[str, Any]:
    return entry["streams"][0]["schema"]["properties"]


def metadata_of(entry: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    pairs = [(tuple(e["breadcrumb"]), e["metadata"]) for e in entry["streams"][0]["metadata"]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


# --- what is discovered ---


def test_every_column_is_complete(discovered):
    """Each line of what is missing says where it belongs; CONTRIBUTING.md has the steps."""
    declared = properties(discovered)
    types: dict[str, dict[str, Any]] = {"CustomVars": {"type": ["null", "object"]}}
    for names, kind in ((INTEGERS, "integer"), (NUMBERS, "number"), (STRINGS | LEGACY, "string")):
        types |= {name: {"type": ["null", kind]} for name in names}
    types |= {name: {"type": ["null", "string"], "format": "date-time"} for name in DATE_TIMES}
    sent = {name for bundle in generated_bundles() for event in bundle.body for name in event}
    missing = [
        *(f"tests/helpers/export_fields.py does not list {n}" for n in declared.keys() - types),
        *(f"schemas/events.json has no column {name}" for name in types.keys() - declared),
        *(
            f"no event of the sandbox has {name}: see sandbox/steps.py and sandbox/journeys.py"
            for name in declared.keys() - sent - {"CustomVars"}
        ),
    ]
    for name in declared.keys() & types:
        column = dict(declared[name])
        if not column.pop("description", "").endswith("."):
            missing.append(f"schemas/events.json: {name} needs a description, a sentence")
        if column != types[name]:
            missing.append(f"schemas/events.json: {name} is {column}, and not {types[name]}")
    assert not missing, "\n".join(sorted(missing))


def test_descriptions_differ(discovered):
    descriptions = [schema["description"] for schema in properties(discovered).values()]
    assert len(set(descriptions)) == len(descriptions)


def test_the_stream_and_its_metadata(discovered):
    entry = discovered["streams"][0]
    assert (entry["tap_stream_id"], entry["stream"]) == ("events", "events")
    assert entry["key_properties"] == []
    metadata = metadata_of(discovered)
    assert metadata.pop(()) == {
        "inclusion": "available",
        "table-key-properties": [],
        "forced-replication-method": "INCREMENTAL",
        "valid-replication-keys": ["EventStart"],
        "selected-by-default": True,
    }
    assert set(metadata) == {("properties", name) for name in properties(discovered)}
    marks = {breadcrumb[1]: values.pop(PERSONAL, "no") for breadcrumb, values in metadata.items()}
    for breadcrumb, values in metadata.items():
        assert values == {"inclusion": "available", "selected-by-default": True}, breadcrumb
    expected = {"UserEmail": "yes", "PageIp": "yes", "IndvId": "an id", "EventTargetText": "can",
                "CustomVars": "can", "EventStart": "no", "PageBrowser": "no"}  # fmt: skip
    assert marks.items() >= expected.items()


def test_every_mark_of_personal_data_is_of_a_property():
    marked = {}
    for stream, entry in zip(STREAMS, catalog.discover()["streams"], strict=True):
        names = entry["schema"]["properties"]
        marked[stream.name] = {name for name in names if personal_data(stream, name)}
        marked[stream.name] |= {path for path, _ in marked_members(stream)}
    listed = {
        stream: {name for names in answers.values() for name in names.split()}
        for stream, answers in _OF_STREAMS.items()
    }
    assert listed == marked
    assert all(
        "extra" in names for name, names in marked.items() if name not in (*EXPORTS, "bundles")
    )


def test_a_stream_without_a_row_of_marks_fails():
    with pytest.raises(KeyError, match="tomorrow"):
        personal_data(RestStream("tomorrow", "/", "", ""), "name")


def test_a_member_of_an_object_has_its_mark_in_the_metadata():
    (one,) = [s for s in catalog.discover()["streams"] if s["stream"] == "geo_settings"]
    marks = {tuple(item["breadcrumb"]): item["metadata"].get(PERSONAL) for item in one["metadata"]}
    for member in ("createdBy", "lastUpdatedBy"):
        assert marks["properties", "metadata", "properties", member] == "yes"
    assert marks["properties", "metadata"] == "can"
    (one,) = [s for s in catalog.discover()["streams"] if s["stream"] == "sessions"]
    marks = {tuple(item["breadcrumb"]): item["metadata"].get(PERSONAL) for item in one["metadata"]}
    assert marks["properties", "user_id"] == "an id"


PERSONAL = "tap-fullstory.personal-data"
EXPORTS = ("events", "individuals")


def test_discovery_follows_the_settings():
    made = catalog.discover(config(event_digest=True, custom_vars_format="string"))
    assert properties(made)["CustomVars"]["type"] == ["null", "string"]
    assert properties(made)["EventDigest"]["type"] == ["string"]
    assert made["streams"][0]["key_properties"] == ["EventDigest"]
    assert metadata_of(made)[()]["table-key-properties"] == ["EventDigest"]
    assert metadata_of(made)[("properties", "EventDigest")]["inclusion"] == "automatic"


# --- what is selected ---


def texts_of(warnings: Iterable[CodedWarning]) -> list[str]:
    return [warning.text for warning in warnings]


def selection(made: Any, **settings: Any) -> Selection:
    (only,) = select(made, config(**settings))
    return only


def test_a_fresh_catalog_selects_everything(discovered):
    chosen = selection(discovered)
    assert set(chosen.columns) == columns()
    assert chosen.keeps_overflow
    assert chosen.dropped == frozenset()
    assert chosen.key_properties == []
    assert chosen.schema == {"type": "object", "properties": properties(discovered)}


STREAM_CHOICES = [
    # selected in metadata, selected-by-default, selected in the schema, at the entry: taken?
    (None, None, None, None, False),
    (None, True, None, None, True),
    (None, False, None, None, False),
    (True, None, None, None, True),
    (True, False, None, None, True),
    (False, True, None, None, False),
    (False, True, True, None, False),
    (None, True, False, None, False),
    (None, None, True, None, True),
    (None, False, True, None, True),
    (None, None, None, True, True),
    (None, True, None, False, False),
]


@pytest.mark.parametrize(
    ("selected", "by_default", "in_schema", "at_entry", "taken"), STREAM_CHOICES
)
def test_selection_of_the_stream(discovered, selected, by_default, in_schema, at_entry, taken):
    entry = discovered["streams"][0]
    root = metadata_of(discovered)[()]
    del root["selected-by-default"]
    for place, key, value in (
        (root, "selected", selected),
        (root, "selected-by-default", by_default),
        (entry["schema"], "selected", in_schema),
        (entry, "selected", at_entry),
    ):
        if value is not None:
            place[key] = value
    assert bool(select(discovered, config())) is taken


COLUMN_CHOICES = [
    # metadata, what the schema says: a column of the record?
    ({}, {}, True),
    (None, {}, True),
    ({"selected-by-default": True}, {}, True),
    ({"selected-by-default": False}, {}, False),
    ({"selected": False, "selected-by-default": True}, {}, False),
    ({"selected": True, "selected-by-default": False}, {}, True),
    ({"selected-by-default": True}, {"selected": False}, False),
    ({"selected": True}, {"selected": False}, True),
    (None, {"selected": False}, False),
    (None, {"selected": True}, True),
    ({"selected": False, "inclusion": "automatic"}, {}, True),
    ({"selected": True, "inclusion": "unsupported"}, {}, False),
    (None, {"selected": False, "inclusion": "automatic"}, True),
]


@pytest.mark.parametrize(("metadata", "in_schema", "taken"), COLUMN_CHOICES)
def test_selection_of_a_column(discovered, metadata, in_schema, taken):
    entry = discovered["streams"][0]
    kept = [e for e in entry["metadata"] if e["breadcrumb"] != ["properties", "PageIp"]]
    if metadata is not None:
        kept.append({"breadcrumb": ["properties", "PageIp"], "metadata": metadata})
    entry["metadata"] = kept
    properties(discovered)["PageIp"].update(in_schema)
    chosen = selection(discovered)
    assert ("PageIp" in chosen.columns) is taken
    assert ("PageIp" in chosen.schema["properties"]) is taken
    assert ("PageIp" in chosen.dropped) is not taken
    assert "selected" not in str(chosen.schema["properties"].get("PageIp"))


@pytest.mark.parametrize(
    ("said", "taken"), [("true", True), ("True", True), (" FALSE ", False), ("false", False)]
)
@pytest.mark.parametrize("place", ["metadata", "schema", "entry"])
def test_selected_may_be_text(discovered, said, taken, place):
    entry = discovered["streams"][0]
    if place == "entry":
        entry["selected"] = said
        assert bool(select(discovered, config())) is taken
        return
    chosen = {
        "metadata": metadata_of(discovered)[("properties", "UserEmail")],
        "schema": properties(discovered)["UserEmail"],
    }
    chosen[place]["selected"] = said
    made = selection(discovered)
    assert ("UserEmail" in made.columns) is taken
    assert ("UserEmail" in made.dropped) is not taken


@pytest.mark.parametrize("said", ["", "no", "0", 0, 1, 2.5, [], {}])
def test_selected_that_is_neither_true_nor_false(discovered, said):
    metadata_of(discovered)[("properties", "UserEmail")]["selected"] = said
    with pytest.raises(UsageError, match=r"selected of stream events, property UserEmail is"):
        select(discovered, config())
    metadata_of(discovered)[("properties", "UserEmail")]["selected"] = True
    metadata_of(discovered)[()]["selected"] = said
    with pytest.raises(UsageError, match=r"selected of stream events is"):
        select(discovered, config())


def choosing(discovered: Any, *choices: tuple[list[str], Any]) -> Any:
    for breadcrumb, selected in choices:
        discovered["streams"][0]["metadata"].append(
            {"breadcrumb": breadcrumb, "metadata": {"selected": selected}}
        )
    return discovered


def test_what_both_is_and_is_not_selected(discovered):
    made = choosing(discovered, (["properties", "PageIp"], True), (["properties", "PageIp"], False))
    with pytest.raises(UsageError, match=r"both selects and deselects properties.PageIp"):
        select(made, config())


def test_a_variable_is_dropped_though_no_schema_lists_it(discovered):
    name = ["properties", "user_phone_str"]
    made = choosing(discovered, (name, "false"))
    assert selection(made).dropped == {"user_phone_str"}
    assert texts_of(catalog_warnings(made, config())) == []


def test_choices_that_name_nothing_are_in_one_warning(discovered):
    made = choosing(
        discovered,
        (["properties", "UserMail"], False),
        (["properties", "user_phone_str"], True),
        (["properties", "PageIp"], False),
        (["properties", "PageUrl", "properties", "host"], False),
    )
    assert selection(made).dropped == {"UserMail", "PageIp"}
    (warning,) = texts_of(catalog_warnings(made, config()))
    assert (
        "stream: events.UserMail, events.user_phone_str, events.PageUrl.properties.host." in warning
    )


def test_a_member_of_an_object_is_left_out_by_the_catalog_alone(discovered):
    one = discovered["streams"][STREAMS.index(stream_named("privacy_settings"))]
    one["metadata"][0]["metadata"]["selected"] = True
    for breadcrumb in (
        ["properties", "metadata", "properties", "createdBy"],
        ["properties", "elementBlocks", "items", "properties", "notes"],
        ["properties", "extra", "properties", "free[1]"],
    ):
        one["metadata"].append({"breadcrumb": breadcrumb, "metadata": {"selected": "false"}})
    made = {"streams": [one]}
    chosen = selection(made)
    assert texts_of(catalog_warnings(made, config())) == []
    listed = chosen.schema["properties"]
    assert set(listed["metadata"]["properties"]) == {"created", "lastUpdated", "lastUpdatedBy"}
    assert "notes" not in listed["elementBlocks"]["items"]["properties"]
    (pattern,) = [one for one in chosen.rules.patterns if "free" in one.text]
    assert pattern.matches(["extra.free[1]"])
    assert not chosen.columns["metadata"].properties.keys() & {"createdBy"}


def test_many_choices_that_name_nothing_make_a_short_line(discovered):
    made = choosing(discovered, *((["properties", f"X{n}" * 500], False) for n in range(1000)))
    (warning,) = texts_of(catalog_warnings(made, config()))
    assert "and 980 more" in warning
    assert len(warning) < 3000


@pytest.mark.parametrize(
    ("stream", "root", "entry", "words"),
    [
        (0, {"table-key-properties": ["UserId"]}, {}, "without a key: its events have no id"),
        (0, {}, {"key_properties": ["UserId"]}, "set event_digest in the config"),
        (0, {"replication-method": "FULL_TABLE"}, {}, "It is always INCREMENTAL"),
        (0, {"replication-key": "PageStart"}, {}, "It is always EventStart"),
        (2, {"table-key-properties": ["uid"]}, {}, "with the key id: its key is fixed"),
        (2, {"replication-key": "created_at"}, {}, "The stream has none"),
    ],
)
def test_what_a_catalog_selects_and_does_not_get(discovered, stream, root, entry, words):
    one = discovered["streams"][stream]
    one["metadata"][0]["metadata"].update({"selected": True, **root})
    one.update(entry)
    (warning,) = texts_of(catalog_warnings(discovered, config()))
    assert words in warning


def test_a_key_property_cannot_be_deselected(discovered):
    one = discovered["streams"][2]
    one["metadata"][0]["metadata"]["selected"] = True
    (chosen,) = [e for e in one["metadata"] if e["breadcrumb"] == ["properties", "id"]]
    chosen["metadata"]["selected"] = "false"
    (warning,) = texts_of(catalog_warnings(discovered, config()))
    assert "The catalog deselects users.id, which is part of the stream's key" in warning


def test_a_fresh_catalog_requests_nothing_else(discovered):
    for one in discovered["streams"]:
        one["metadata"][0]["metadata"]["selected"] = True
    assert texts_of(catalog_warnings(discovered, config())) == []
    made = catalog.discover(config(event_digest=True))
    assert texts_of(catalog_warnings(made, config(event_digest=True))) == []


def test_a_renamed_stream(discovered):
    discovered["streams"][0]["stream"] = "fs_events"
    chosen = selection(discovered)
    assert (chosen.name, chosen.stream.name) == ("fs_events", "events")


@pytest.mark.parametrize("metadata", [None, [], {}])
def test_a_properties_file_of_the_first_taps(discovered, metadata):
    """Stitch's older taps had no metadata: `selected` stood in the schema."""
    entry = discovered["streams"][0]
    entry["metadata"] = metadata
    entry["schema"]["selected"] = True
    properties(discovered)["PageIp"]["selected"] = False
    chosen = selection(discovered)
    assert set(chosen.columns) == columns() - {"PageIp"}
    assert chosen.keeps_overflow


def test_custom_vars_are_written_though_the_catalog_does_not_list_them(discovered):
    del properties(discovered)["CustomVars"]
    chosen = selection(discovered)
    assert chosen.keeps_overflow
    assert "CustomVars" in chosen.schema["properties"]


def test_the_digest_is_added_though_the_catalog_does_not_list_it(discovered):
    chosen = selection(discovered, event_digest=True)
    assert chosen.schema["properties"]["EventDigest"]["type"] == ["string"]
    assert chosen.key_properties == ["EventDigest"]
    listed = catalog.discover(config(event_digest=True))
    assert selection(listed, event_digest=True) == chosen
    assert "EventDigest" not in selection(listed).schema["properties"]


@pytest.mark.parametrize(
    "broken",
    [
        [], {}, "text", 3, None, {"streams": None}, {"streams": {}}, {"streams": [3]},
        {"streams": [{}]}, {"streams": [{"stream": "events"}]},
        {"streams": [{"stream": "events", "schema": None}]},
        {"streams": [{"stream": "events", "schema": {"selected": True}}]},
        {"streams": [{"stream": "events", "schema": {"selected": True, "properties": [1]}}]},
        {"streams": [{"stream": "events", "schema": {"selected": True, "properties": {"a": 1}}}]},
        {"streams": [{"stream": "events", "schema": {"properties": {}}, "metadata": [3]}]},
        {"streams": [{"stream": "events", "schema": {"properties": {}}, "metadata": [{}]}]},
        {"streams": [{"stream": "events", "schema": {"properties": {}}, "metadata": "text"}]},
        {"streams": [{"stream": ["x"], "schema": {"properties": {}}}]},
        {"streams": [{"stream": {"a": 1}, "schema": {"properties": {}}}]},
        {"streams": [{"stream": True, "schema": {"properties": {}}}]},
        {"streams": [{"stream": 5, "tap_stream_id": "events", "schema": {"properties": {}}}]},
        {"streams": [{"tap_stream_id": ["events"], "schema": {"properties": {}}}]},
        {"streams": [{"stream": "events", "schema": {"properties": {}}, "metadata": [
            {"breadcrumb": "properties", "metadata": {}}]}]},
        {"streams": [{"stream": "events", "schema": {"properties": {}}, "metadata": [
            {"breadcrumb": ["properties", 1], "metadata": {}}]}]},
        {"streams": [{"stream": "events", "schema": {"properties": {}}, "metadata": [
            {"breadcrumb": [], "metadata": []}]}]},
        {"streams": [{"stream": "events", "schema": {"properties": {"a": {"type": 5}}}}]},
        {"streams": [{"stream": "events", "schema": {"properties": {"a": {"type": ["text"]}}}}]},
        {"streams": [{"stream": "events", "schema": {"properties": {
            "a": {"type": "array", "items": {"type": [[]]}}}}}]},
        {"streams": 2 * [{"stream": "events", "schema": {"properties": {}}}]},
        {"streams": [{"stream": "same", "tap_stream_id": name, "selected": True,
                      "schema": {"properties": {}}} for name in ("users", "segments")]},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_catalogs_that_cannot_be_used(broken):
    with pytest.raises(UsageError, match=r"catalog cannot be used.*--discover"):
        select(broken, config())


def test_a_catalog_of_another_tap(discovered):
    other = copy.deepcopy(discovered["streams"][0])
    other["tap_stream_id"] = other["stream"] = "orders"
    discovered["streams"].append(other)
    with pytest.raises(UsageError, match="selects orders, which this tap does not have"):
        select(discovered, config())
    for entry in other["metadata"]:
        entry["metadata"].pop("selected-by-default", None)
    assert [chosen.name for chosen in select(discovered, config())] == ["events"]


# --- what the config excludes and hashes ---


def test_discovery_offers_no_excluded_column_and_hashed_ones_as_text():
    made = catalog.discover(config(exclude_fields="UserEmail, user_*", **HASHING))
    plain = catalog.discover()
    assert set(properties(plain)) - set(properties(made)) == {"UserEmail"}
    assert ("properties", "UserEmail") not in metadata_of(made)
    assert properties(made)["UserId"]["type"] == ["null", "string"]
    (individuals,) = [s for s in made["streams"] if s["stream"] == "individuals"]
    assert individuals["schema"]["properties"]["IndvId"]["type"] == ["null", "string"]
    chosen = selection(json.loads(json.dumps(made)), exclude_fields="UserEmail, user_*", **HASHING)
    # The same from a catalog that was made without them.
    edited = json.loads(json.dumps(plain))
    properties(edited)["user_plan_str"] = {"type": ["null", "string"], "selected": True}
    assert selection(edited, exclude_fields="UserEmail, user_*", **HASHING).schema == chosen.schema


HASHING: dict[str, Any] = {"hash_fields": ["UserId", "IndvId"], "hash_key": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("streams", "settings", "words"),
    [
        (
            ["events"],
            {"exclude_fields": "EventSt*"},
            "exclude_fields: 'EventSt*' matches EventStart",
        ),
        (["events"], {"exclude_fields": "*"}, "matches EventStart of events, its replication key"),
        (
            ["events"],
            {**HASHING, "exclude_fields": "EventDigest", "event_digest": True},
            "part of the stream",
        ),
        (["events"], {**HASHING, "hash_fields": "E*", "event_digest": True}, "matches EventDigest"),
        (["events"], {**HASHING, "hash_fields": "EventStart"}, "hash_fields: 'EventStart' matches"),
        (
            ["events"],
            {**HASHING, "hash_fields": "Custom*"},
            "CustomVars of events cannot be hashed",
        ),
        (["users"], {"exclude_fields": "users.id"}, "matches id of users, part of the stream"),
        (["users"], {**HASHING, "hash_fields": "extra"}, "extra of users cannot be hashed"),
        (["geo_settings_history"], {"exclude_fields": "lastUpdated"}, "matches lastUpdated of geo"),
        (["individuals"], {"exclude_fields": "*.IndvId"}, "matches IndvId of individuals"),
        (
            ["events", "users"],
            {"exclude_fields": "id, EventDigest, events.id"},
            "matches id of users",
        ),
    ],
)
def test_keys_cannot_be_excluded(discovered, streams, settings, words):
    for entry in discovered["streams"]:
        entry["selected"] = entry["stream"] in streams
    with pytest.raises(UsageError) as refusal:
        select(discovered, config(**settings))
    assert words in str(refusal.value)
    if streams == ["events"]:
        with pytest.raises(UsageError, match="Config key"):
            catalog.discover(config(**settings))
    for entry in discovered["streams"]:
        entry["selected"] = entry["stream"] == "segments"
    assert select(discovered, config(exclude_fields="IndvId, lastUpdated", **HASHING))


# --- columns by config ---


def listing(made: Any, name: str, schema: dict[str, Any], **choices: Any) -> Any:
    """The catalog with a property more."""
    properties(made)[name] = schema
    entry = {"breadcrumb": ["properties", name], "metadata": choices}
    made["streams"][0]["metadata"].append(entry)
    return made


CUSTOM_COLUMNS = {"custom_columns": "user_plan_str, evt_prices_reals, page_x:int"}


def test_custom_columns_are_columns_in_every_catalog(discovered):
    offered = json.loads(json.dumps(catalog.discover(config(**CUSTOM_COLUMNS))))
    chosen = selection(offered, **CUSTOM_COLUMNS)
    assert list(properties(offered))[-4:] == [
        "user_plan_str", "evt_prices_reals", "page_x", "CustomVars",
    ]  # fmt: skip
    assert chosen.schema["properties"] == properties(offered)
    assert metadata_of(offered)["properties", "page_x"]["selected-by-default"] is True
    for made in (
        discovered,
        # Discovery with discover_custom_vars, now or at another time.
        listing(copy.deepcopy(discovered), "user_plan_str", {"type": ["null", "string"]},
                **{"inclusion": "available", "selected-by-default": False}),
        listing(copy.deepcopy(discovered), "page_x", {"type": "string"}, selected="true"),
    ):  # fmt: skip
        found = selection(made, **CUSTOM_COLUMNS)
        assert found.schema == chosen.schema
        assert found.columns == chosen.columns
        assert found.dropped == frozenset()


def test_a_custom_column_can_be_deselected_and_hashed(discovered):
    made = listing(discovered, "page_x", {"type": "string"}, selected=False)
    settings = {**CUSTOM_COLUMNS, **HASHING, "hash_fields": "user_p*", "exclude_fields": "evt_*"}
    chosen = selection(made, **settings)
    assert chosen.dropped == {"page_x", "evt_prices_reals"}
    assert properties({"streams": [{"schema": chosen.schema}]})["user_plan_str"]["type"]
    assert "page_x" not in chosen.schema["properties"]


def test_individuals_have_the_columns_of_users(discovered):
    (entry,) = [one for one in discovered["streams"] if one["stream"] == "individuals"]
    entry["selected"] = True
    chosen = selection({"streams": [entry]}, **CUSTOM_COLUMNS)
    assert [name for name in chosen.columns if is_custom(name)] == ["user_plan_str"]


@pytest.mark.parametrize("by_default", [True, False])
def test_a_variable_is_a_column_only_by_choice(discovered, by_default):
    made = listing(discovered, "user_x_str", {}, **{"selected-by-default": by_default})
    chosen = selection(made)
    assert "user_x_str" not in chosen.columns
    assert chosen.dropped == frozenset()
