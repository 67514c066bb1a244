"""The shape of REST records: whatever FullStory sends, nothing is lost and the schema holds."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import fits

from tap_fullstory import catalog
from tap_fullstory.errors import SourceError
from tap_fullstory.records.rest import RestRecordBuilder, promoted, renamed
from tap_fullstory.selection import Selection, select
from tap_fullstory.settings import Config, parse_config
from tap_fullstory.streams import STREAMS, RestStream

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
CONFIG = parse_config({"api_key": "k"}, NOW)
TEXT_CONFIG = parse_config({"api_key": "k", "custom_vars_format": "string"}, NOW)
NAMES = [stream.name for stream in STREAMS if isinstance(stream, RestStream)]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["", "2020-09-08T15:57:20.830Z", "0001-01-01T00:00:00Z", "2020-13-01"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["lastUpdated", "created", "domain", "disabled", "x y"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def selection(name: str, config: Config = CONFIG) -> Selection:
    made = json.loads(json.dumps(catalog.discover()))
    for entry in made["streams"]:
        of_stream = next(item for item in entry["metadata"] if not item["breadcrumb"])
        of_stream["metadata"]["selected"] = entry["tap_stream_id"] == name
    (only,) = select(made, config)
    return only


SELECTIONS = {name: selection(name) for name in NAMES}
TEXT_SELECTIONS = {name: selection(name, TEXT_CONFIG) for name in NAMES}


def raw(members: dict[str, Any]) -> dict[str, msgspec.Raw]:
    text = json.dumps(members).encode()
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])


def shaped(name: str, members: dict[str, Any], **added: Any) -> dict[str, Any]:
    builder = RestRecordBuilder(SELECTIONS[name])
    record: dict[str, Any] = json.loads(builder.build(raw(members), raw(added)))
    return record


@given(name=st.sampled_from(NAMES), data=st.data())
def test_whatever_comes_nothing_is_lost_and_the_schema_holds(name, data):
    chosen = SELECTIONS[name]
    known = [column for column in chosen.columns if column not in chosen.key_properties]
    keys = dict.fromkeys(chosen.key_properties, "2020-09-08T15:57:20.830Z")
    names = st.sampled_from([*known, "extra", "colour"]) | st.text(max_size=3)
    members = {**data.draw(st.dictionaries(names, values, max_size=6)), **keys}
    record = shaped(name, members)
    for column, value in record.items():
        assert fits_within(value, chosen.schema["properties"].get(column)), column
    extra = record.pop("extra", {})
    for column, value in members.items():
        if column in extra:
            assert same(extra[column], value)
            assert record.get(column) is None
        else:
            assert same(record[column], value) or (record[column] is None and value == "")
    assert set(record) | set(extra) == set(members)


@given(name=st.sampled_from(NAMES), data=st.data())
def test_free_form_objects_as_text_are_the_same(name, data):
    """Whether the catalog was discovered with that format or before."""
    chosen = TEXT_SELECTIONS[name]
    known = [column for column in chosen.columns if column not in chosen.key_properties]
    members = {
        **data.draw(st.dictionaries(st.sampled_from([*known, "colour"]), values, max_size=6)),
        **dict.fromkeys(chosen.key_properties, "2020-09-08T15:57:20.830Z"),
    }
    text: dict[str, Any] = json.loads(RestRecordBuilder(chosen).build(raw(members), {}))
    for column, value in text.items():
        assert fits_within(value, chosen.schema["properties"].get(column)), column
    unpacked = {
        column: loaded(value, chosen.schema["properties"][column]) for column, value in text.items()
    }
    extra = unpacked.pop("extra", {})
    for column, value in members.items():
        assert same(extra[column] if column in extra else unpacked[column], value)
    assert set(unpacked) | set(extra) == set(members)


def loaded(value: Any, schema: dict[str, Any]) -> Any:
    """A value with what is JSON text in it, by the schema, as what it is."""
    if isinstance(value, str) and schema.get("contentMediaType") == "application/json":
        return json.loads(value)
    if isinstance(value, dict):
        inner = schema.get("properties", {})
        return {name: loaded(one, inner.get(name, {})) for name, one in value.items()}
    return value


def test_no_object_without_members_is_left_for_targets_that_flatten():
    for name, chosen in TEXT_SELECTIONS.items():
        for column, schema in chosen.schema["properties"].items():
            assert not is_free_form(schema), f"{name}.{column}"
    details = TEXT_SELECTIONS["users"].schema["properties"]["properties"]
    assert details["type"] == ["null", "string"]
    assert "custom properties" in details["description"]


def is_free_form(schema: dict[str, Any]) -> bool:
    inner = schema.get("properties", {})
    if "object" in schema["type"] and not inner:
        return True
    return any(is_free_form(one) for one in inner.values())


def fits_within(value: Any, schema: dict[str, Any] | None) -> bool:
    """Whether a value is what its schema allows, members of objects included."""
    if not fits(value, schema):
        return False
    if isinstance(value, list):
        return all(fits_within(item, schema.get("items", {})) for item in value)
    if isinstance(value, dict):
        inner = schema.get("properties", {})
        return all(fits_within(value[name], inner[name]) for name in value if name in inner)
    return True


def same(one: Any, other: Any) -> bool:
    """Equal as JSON texts, save for decimals that are whole and empty dates within."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return Decimal(repr(one)) == Decimal(repr(other))  # not as doubles, which are less exact
    return bool(one == other) or (one is None and other == "")


def test_numbers_are_compared_by_their_digits() -> None:
    assert same(36028797018963970, 3.602879701896397e16)
    assert not same(36028797018963968, 3.602879701896397e16)


@pytest.mark.parametrize("value", [None, "", "yesterday", 5, {}])
def test_an_invalid_key_is_an_error(value):
    with pytest.raises(SourceError, match="whose lastUpdated is missing or of another type"):
        shaped("geo_settings_history", {"recordGeoMode": "GEO_ALL"}, lastUpdated=value)


def test_what_the_tap_adds_never_hides_what_came():
    assert shaped("geo_settings", {"lastUpdated": "soon"}, lastUpdated="2020-09-08T15:57:20Z") == {
        "lastUpdated": "2020-09-08T15:57:20Z",
        "extra": {"lastUpdated": "soon"},
    }
    same_twice = {"lastUpdated": "2020-09-08T15:57:20Z"}
    assert shaped("geo_settings", same_twice, **same_twice) == same_twice


def test_a_type_mismatch_within_a_value_takes_the_whole_of_it_to_extra():
    domains = [{"domain": "example.com", "disabled": False}, {"domain": 5, "since": "x"}]
    assert shaped("domain_settings", {"platform": "web", "domains": domains}) == {
        "platform": "web",
        "domains": None,
        "extra": {"domains": domains},
    }


def test_what_is_unknown_within_a_value_stays_there():
    metadata = {"created": "", "lastUpdated": None, "reason": {"a": [1.50]}}
    assert shaped("geo_settings", {"metadata": metadata}) == {
        "metadata": {"created": None, "lastUpdated": None, "reason": {"a": [1.50]}}
    }


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"metadata": {"lastUpdated": "a", "created": "b"}}, {"lastUpdated": b'"a"'}),
        ({"metadata": {"created": "b"}}, {}),
        ({"metadata": None}, {}),
        ({"metadata": "lastUpdated"}, {}),
        ({"metadata": []}, {}),
        ({}, {}),
    ],
)
def test_promoting(metadata, found):
    taken = promoted(raw(metadata), ("lastUpdated",))
    assert {name: bytes(value) for name, value in taken.items()} == found
    assert promoted(raw(metadata), ()) == {}


def test_aliases_are_turned_at_every_depth_and_hide_nothing():
    given_members = {"a_b": [{"a_b": 1.50, "x": [[{"a_b": None}]]}], "c": {"a_b": 1, "aB": 2}}
    turned = renamed(raw(given_members), {"a_b": "aB"})
    assert json.loads(msgspec.json.encode(turned)) == {
        "aB": [{"aB": 1.5, "x": [[{"aB": None}]]}],
        "c": {"a_b": 1, "aB": 2},
    }
