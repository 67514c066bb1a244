"""Files of the user: any JSON as config, state or catalog can be used, or is refused in words."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_fullstory import bookmarks, catalog
from tap_fullstory.errors import UsageError
from tap_fullstory.json_files import MAX_DIGITS, MAX_LEVELS, parse_json
from tap_fullstory.selection import catalog_warnings, select
from tap_fullstory.settings import SETTINGS, Config, config_warnings, parse_config
from tap_fullstory.streams import STREAMS, RestStream
from tap_fullstory.sync import in_order
from tap_fullstory.sync_rest import validate_bookmarks

NOW = datetime(2026, 6, 2, tzinfo=timezone.utc)
CONFIG = parse_config({"api_key": "key"}, NOW, {})
CATALOG = json.loads(json.dumps(catalog.discover()))
WORDS = st.sampled_from(
    [
        "api_key", "streams", "stream", "tap_stream_id", "events", "users", "schema", "properties",
        "metadata", "breadcrumb", "selected", "inclusion", "type", "items", "key_properties",
        "null",
        "bookmarks", "bundle_end", "partial", "export", "id", "after", "start", "end", "fields",
        "currently_syncing", "lastUpdated", "web", "2026-06-02T00:00:00Z", "true", "CustomVars", "",
    ]
)  # fmt: skip
TEXTS = WORDS | st.text(max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)


@st.composite
def changed(draw: st.DrawFn, original: Any) -> Any:
    """`original` with a few of its values, at any depth, replaced or removed."""
    made = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        at = made
        while isinstance(at, (dict, list)) and at:
            key = draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
            if draw(st.integers(0, 3)) == 0 or not isinstance(at[key], (dict, list)):
                if draw(st.booleans()):
                    at[key] = draw(JSON)
                else:
                    del at[key]
                break
            at = at[key]
    return made


def read(value: Any, name: str) -> Any:
    return parse_json(json.dumps(value).encode(), name, "file.json")


def use_config(raw: Any) -> Config:
    config = parse_config(raw, NOW, {})
    list(config_warnings(raw, config, NOW))
    return config


def use_state(raw: Any) -> None:
    parsed = bookmarks.parse_state(raw)
    for stream in STREAMS:
        validate_bookmarks(stream, parsed)
        if not isinstance(stream, RestStream):
            bookmarks.bundle_end(parsed, (stream.name,))
            bookmarks.partial(parsed, (stream.name,))
            bookmarks.export(parsed, (stream.name,))
    moved = bookmarks.with_bundle_end(parsed, ("events",), NOW)
    moved = bookmarks.with_currently_syncing(moved, "events")
    assert bookmarks.parse_state(json.loads(msgspec.json.encode(moved))) == moved


def use_catalog(raw: Any) -> None:
    selections = select(raw, CONFIG)
    list(catalog_warnings(raw, CONFIG))
    for selection in in_order(selections, None):
        assert isinstance(selection.name, str)
        json.loads(msgspec.json.encode(selection.schema))


def used_or_refused(use: Any, value: Any, name: str) -> None:
    with suppress(UsageError):
        use(read(value, name))


@given(JSON | st.fixed_dictionaries({"api_key": st.just("key")}, optional={
    setting.name: JSON for setting in SETTINGS if setting.name != "api_key"}))  # fmt: skip
def test_any_config(value):
    used_or_refused(use_config, value, "config")


BOOKMARK = {
    "bundle_end": "2026-06-02T00:00:00Z",
    "partial": {"id": "1", "events": 1, "bytes": 2, "crc32": 3, "after": "2026-06-02T00:00:00Z"},
    "export": {"id": "op", "start": "2026-06-02T00:00:00Z", "end": "2026-06-03T00:00:00Z",
               "fields": ["EventStart"], "segment": "s"},
}  # fmt: skip
STATE = {
    "bookmarks": {
        "events": BOOKMARK, "individuals": BOOKMARK, "other": {"x": [1]},
        "geo_settings_history": {"lastUpdated": "2026-06-02T00:00:00Z"},
        "domain_settings_history": {"web": "2026-06-02T00:00:00Z"},
    },
    "currently_syncing": "users",
}  # fmt: skip


@given(JSON | changed(STATE))
def test_any_state(value):
    used_or_refused(use_state, value, "state")


ENTRIES = CATALOG["streams"][1:4]
for entry in ENTRIES:
    entry["selected"] = "true"


@given(JSON | changed({"streams": ENTRIES}))
def test_any_catalog(value):
    used_or_refused(use_catalog, value, "catalog")


@given(
    st.binary(max_size=40)
    | st.text(alphabet='[]{}",:0eE-. \\u\ufeffnul', max_size=40).map(str.encode)
)
def test_any_bytes(content):
    with suppress(UsageError):
        parse_json(content, "state", "file.json")


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b"[]" * (levels % 2) + b"]}" * (levels // 2)


@pytest.mark.parametrize("levels", [MAX_LEVELS - 1, MAX_LEVELS])
def test_levels_up_to_the_limit(levels):
    assert parse_json(nested(levels), "state", "f")


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, MAX_LEVELS + 2, 900, 100_000])
def test_levels_beyond_the_limit(levels):
    with pytest.raises(UsageError, match="nested more than 100 levels deep, too deep for a state"):
        parse_json(nested(levels), "state", "f")


def test_brackets_within_strings_are_not_levels():
    assert parse_json(json.dumps(["[" * 1000]).encode(), "state", "f") == ["[" * 1000]


@pytest.mark.parametrize("sign", ["", "-"])
def test_digits(sign):
    most = int("9" * (MAX_DIGITS - 1))
    assert parse_json(f"{sign}{most}".encode(), "state", "f") == int(f"{sign}{most}")
    for number in (f"{sign}{'9' * (MAX_DIGITS + 1)}", f"{sign}0.{'0' * MAX_DIGITS}", "1e400"):
        with pytest.raises(UsageError, match="a number"):
            parse_json(number.encode(), "state", "f")
