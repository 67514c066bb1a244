"""What exclude_fields and hash_fields make of fields and values, without a run around it."""

from __future__ import annotations

import hmac
import json
import re
from typing import Any

import pytest
from msgspec import Raw

from tap_fullstory.errors import UsageError
from tap_fullstory.fields import Fate, FieldRules, field_patterns, unused_patterns
from tap_fullstory.records.json_text import decode_members
from tap_fullstory.streams import stream_named

KEY = "a key of our own"


def rules(exclude: str = "", hashed: str = "", stream: str = "users", **more: Any) -> FieldRules:
    return FieldRules((stream,), field_patterns(exclude.split(), hashed.split()), KEY, **more)


def applied(made: FieldRules, record: Any) -> Any:
    members = made.apply(decode_members(json.dumps(record)))
    return {name: json.loads(bytes(raw)) for name, raw in members.items()}


def hash_of(text: str) -> str:
    return hmac.digest(KEY.encode(), text.encode(), "sha256").hex()[:32]


RECORD = {
    "id": "1",
    "email": "a@b.c",
    "user_a.b_str": "x",
    "properties": {"email": "a@b.c", "phone": {"home": 1, "work": 2}, "list": [{"email": 1}, [2]]},
}


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("Email user properties.mail", RECORD),  # none of these matches
        ("email", {
            "id": "1", "user_a.b_str": "x",
            "properties": {"phone": {"home": 1, "work": 2}, "list": [{}, [2]]},
        }),
        ("users.email user_*", {"id": "1", "properties": RECORD["properties"]}),
        ("*.properties", {key: RECORD[key] for key in ("id", "email", "user_a.b_str")}),
        ("events.email user_a.b_str users.properties.phone.h?me properties.list [e]mail", {
            "id": "1", "properties": {"phone": {"work": 2}},
        }),
        ("properties.* users.user_a*", {"id": "1", "email": "a@b.c", "properties": {}}),
    ],
)  # fmt: skip
def test_a_pattern_excludes_a_field_at_any_depth(patterns: str, left: Any) -> None:
    assert applied(rules(patterns), RECORD) == left


@pytest.mark.parametrize("path", ["CustomVars.{}", "events.CustomVars.{}", "*.CustomVars.{}"])
@pytest.mark.parametrize(
    "name",
    ["user_plan_str", "user_*", "evt_order.total_real", r"evt_order\.total_real", "Tomorrow.a"],
)
def test_a_path_as_one_reads_it_in_a_row(path: str, name: str) -> None:
    record = {
        "UserEmail": "a@b.c", "user_plan_str": "gold", "evt_order.total_real": 1,
        "Tomorrow": {"a": 1, "b": 2}, "CustomVars": 1,
    }  # fmt: skip
    documented = ["UserEmail", "CustomVars"]
    made = rules(path.format(name), stream="events", overflow="CustomVars", documented=documented)
    left = applied(made, record)
    expected = json.loads(json.dumps(record))
    if name == "Tomorrow.a":
        del expected["Tomorrow"]["a"]
    else:
        del expected["user_plan_str" if name.startswith("user_") else "evt_order.total_real"]
    assert left == expected
    assert made.excludes_all("user_") is (name == "user_*")


def test_a_documented_field_has_two_paths() -> None:
    """A value without a column, or of another type, is in CustomVars."""
    made = rules(
        "CustomVars.PageIp", "CustomVars.Page*", "events", overflow="CustomVars",
        documented=["PageIp", "PageUrl"],
    )  # fmt: skip
    assert made.fate("PageIp") is made.fate("PageUrl") is Fate.KEPT
    assert made.fate_in_overflow("PageIp") is Fate.EXCLUDED
    assert made.fate_in_overflow("PageUrl") is made.fate_of_undeclared("PageUrl") is Fate.HASHED
    # What is not documented has been hashed by `apply`.
    assert made.fate_of_undeclared("PageTomorrow") is Fate.HASHED
    assert made.fate_in_overflow("PageTomorrow") is Fate.KEPT


def test_a_word_for_all_fields_with_a_mark() -> None:
    patterns = field_patterns(["@personal"], ["@ids"], stream_named("users"))
    made = FieldRules(("users", "renamed"), patterns, KEY)
    record = {"id": "1", "email": "a@b.c", "uid": "2", "properties": {"email": 1, "id": 2}}
    assert applied(made, record) == {"id": hash_of("1"), "properties": {"email": 1, "id": 2}}
    patterns = field_patterns(["@personal"], [], stream_named("geo_settings"))
    made = FieldRules(("geo_settings",), patterns, KEY)
    assert applied(made, {"createdBy": 1, "metadata": {"createdBy": 1, "created": 2}}) == {
        "createdBy": 1, "metadata": {"created": 2},
    }  # fmt: skip
    assert unused_patterns([made], []) == []


@pytest.mark.parametrize("word", ["@Personal", "@id", "@", "@personal*", "@can"])
@pytest.mark.parametrize("setting", ["exclude_fields", "hash_fields"])
def test_an_unknown_word_is_refused(word: str, setting: str) -> None:
    lists = ([word], []) if setting == "exclude_fields" else ([], [word])
    with pytest.raises(UsageError, match=f"{setting}: '{re.escape(word)}' is not one of @personal"):
        field_patterns(*lists)


def test_a_key_is_kept_and_a_member_of_its_name_is_not() -> None:
    made = rules("id", keys=["id"])
    assert applied(made, {"id": 1, "properties": {"id": 2}}) == {"id": 1, "properties": {}}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (['"a@b.c"', r'"\u0061@b\u002ec"', r'"a@b\u002Ec"'], "a@b.c"),
        (["6606828898126528473", '"6606828898126528473"'], "6606828898126528473"),
        (["12", "12.0", "1.2e1", '"12"'], "12"),
        (["0", "-0", "-0.0"], "0"),
        (["1.50", '"1.50"'], "1.50"),
        (['""'], ""),
        ([r'"\u00fc\ud83d\ude00"', '"\u00fc\U0001f600"'], "\u00fc\U0001f600"),
        (["true", '"true"'], "true"),
        (['["a", {"b": 1.0}]', r'[ "\u0061",{"b":1}]'], '["a",{"b":1}]'),
        ([json.dumps("long " * 100)], "long " * 100),
    ],
)
def test_equal_values_have_equal_hashes(values: list[str], text: str) -> None:
    made = rules(hashed="x")
    assert {made.hash(value.encode()) for value in values} == {f'"{hash_of(text)}"'.encode()}


def test_null_stays_and_exclusion_goes_before_hashing() -> None:
    made = rules("b", "a b")
    assert applied(made, {"a": None, "b": 1, "c": {"a": "x", "b": None}, "d": [{"a": 1}]}) == {
        "a": None, "c": {"a": hash_of("x")}, "d": [{"a": hash_of("1")}],
    }  # fmt: skip


def test_objects_as_deep_as_they_may_be() -> None:
    deep = b'{"a":' * 499 + b'{"x":1}' + b"}" * 499
    for made in (rules("b", "x"), rules("b", "a")):
        (value,) = made.apply({"c": Raw(deep)}).values()
        assert b'"x":1' not in bytes(value)
    assert rules("", "c").apply({"c": Raw(deep)})


def test_a_long_path_is_cut_and_its_name_still_matches() -> None:
    record: Any = {"secret": 1}
    for _ in range(30):
        record = {"n" * 1000: record}
    assert "secret" not in json.dumps(applied(rules("secret"), record))


def test_a_schema_has_no_excluded_property_and_hashed_ones_are_text() -> None:
    properties: dict[str, Any] = {
        "id": {"type": ["integer"], "description": "The id."},
        "email": {"type": ["null", "string"]},
        "at": {"type": ["null", "string"], "format": "date-time"},
        "rules": {"type": "array", "items": {"type": "object", "properties": {
            "email": {"type": "string"}, "at": {}, "name": {"type": "string"},
        }}},
    }  # fmt: skip
    made = rules("email", "at id").schema(properties)
    assert set(made) == {"id", "at", "rules"}
    assert made["id"]["type"] == ["null", "string"]
    assert made["id"]["description"].startswith("The id. ")
    assert made["at"]["type"] == ["null", "string"]
    assert "format" not in made["at"]
    inner = made["rules"]["items"]["properties"]
    assert set(inner) == {"at", "name"}
    assert inner["at"]["type"] == ["null", "string"]
    assert properties["rules"]["items"]["properties"]["email"]  # the catalog given is as it was


def test_no_warning_for_what_was_not_requested() -> None:
    texts = "user_* user_x_str events.user_y CustomVars.user_? *.user_z us* *_str evt_x Email"
    made = rules(texts, stream="events", overflow="CustomVars")
    made.not_requested("user_")
    assert [one.text for one in unused_patterns([made], [])] == ["evt_x", "Email"]


@pytest.mark.parametrize(
    ("pattern", "all_of_users"),
    [("user_*", True), ("*", True), ("us*", True), ("events.user_*", True), ("*.user_*", True),
     ("user_p*", False), ("user_", False), ("users.user_*", False), ("[u]ser_?*", False)],
)  # fmt: skip
def test_whole_kinds_of_variables(pattern: str, all_of_users: bool) -> None:
    assert rules(pattern, stream="events").excludes_all("user_") is all_of_users
    assert not rules("", pattern, stream="events").excludes_all("user_")


def test_patterns_that_matched_nothing() -> None:
    events, individuals = rules("a b.* users.c", "d e", "events"), rules("a b.* users.c", "d e")
    made = [events, individuals]
    assert [one.text for one in unused_patterns(made, ["events", "users"])] == [
        "a", "b.*", "users.c", "d", "e",
    ]  # fmt: skip
    applied(events, {"a": 1, "b": {"x": 1}})
    applied(individuals, {"d": 1})
    unused = [one.text for one in unused_patterns(made, ["events", "users"])]
    assert unused == ["users.c", "e"]
    # A stream that the run does not read.
    assert [one.text for one in unused_patterns([events], ["events", "users"])] == ["d", "e"]
