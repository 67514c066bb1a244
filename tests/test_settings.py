"""The config: every setting, its default, its forms, its range, and what is said about the rest."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
from batches import FORMATS_OF_COLUMNS, needs_pyarrow
from running import Json, run_command, run_tap, start_tap, without_time

from tap_fullstory.errors import UsageError
from tap_fullstory.output.batch_config import BatchConfig
from tap_fullstory.sandbox import Sandbox
from tap_fullstory.setting_types import EventFilter
from tap_fullstory.settings import (
    SETTINGS,
    config_from_environment,
    config_warnings,
    member_paths,
    parse_config,
)
from tap_fullstory.version import __version__

NOW = datetime(2026, 6, 2, 12, 30, tzinfo=timezone.utc)
KEY = "na1.c2VjcmV0LWtleQ=="


def utc(
    year: int,
    month: int,
    day: int,
    hour: int = 0,
    minute: int = 0,
    second: int = 0,
    microsecond: int = 0,
) -> datetime:
    return datetime(year, month, day, hour, minute, second, microsecond, timezone.utc)


@dataclass(frozen=True)
class Expected:
    """What the contract says of a setting: good values with what they mean, and bad ones."""

    default: Any
    good: list[tuple[Any, Any]]
    bad: list[Any]
    allowed: str
    """Words of the range that a refusal must name."""
    never: set[str] = field(default_factory=set)
    """Words of bad values that a refusal must not repeat."""


def whole(low: int, high: int, default: int, **more: Any) -> Expected:
    good: list[Any] = [low, high, str(low), str(high), f" {low} ", f"+{high}", float(low)]
    return Expected(
        default,
        [(value, int(value)) for value in good],
        [low - 1, high + 1, str(low - 1), -1, 1.5, "1.5", "1e3", "ten", "0x10", "1 0", "٣",
         True, [], {}, float("inf"), float("nan"), "9" * 5000],
        f"{low} to {high}",
        **more,
    )  # fmt: skip


def batches(
    compression: Any = "gzip", storage: Any = None, batch_size: Any = None, **more: Any
) -> dict[str, Any]:
    """Return a batch_config, by its members."""
    encoding = {"format": "jsonl", "compression": compression}
    storage = {"root": "/a"} if storage is None else storage
    return {"encoding": encoding, "storage": storage, "batch_size": batch_size, **more}


TIMESTAMPS = [
    ("2026-01-31", utc(2026, 1, 31)),
    ("2026-01-31 00:00:00", utc(2026, 1, 31)),
    ("2026-01-31 00:00:00Z", utc(2026, 1, 31)),
    ("2026-01-31 00:00:00+00:00", utc(2026, 1, 31)),  # as Python and Airflow print it
    ("2026-01-31 05:00:00.25 +0500", utc(2026, 1, 31, 0, 0, 0, 250_000)),
    ("2026-01-31T00:00:00+0000", utc(2026, 1, 31)),
    ("2026-01-31T00:00", utc(2026, 1, 31)),
    ("2026-01-31 02:00-03", utc(2026, 1, 31, 5)),
    ("2026-01-31 00:00:00 UTC", utc(2026, 1, 31)),
    ("2026-01-31T01:02:03", utc(2026, 1, 31, 1, 2, 3)),
    ("2026-01-31T01:02:03.5", utc(2026, 1, 31, 1, 2, 3, 500_000)),
    ("2026-01-31T00:00:00Z", utc(2026, 1, 31)),
    (" 2026-01-31T01:30:00+01:30 ", utc(2026, 1, 31)),
    ("2026-01-31t00:00:00.123456789z", utc(2026, 1, 31, 0, 0, 0, 123456)),
    ("2024-02-29T23:59:60Z", utc(2024, 3, 1)),
    ("30 days ago", utc(2026, 5, 3, 12, 30)),
    ("1 day ago", utc(2026, 6, 1, 12, 30)),
    ("12 hours ago", utc(2026, 6, 2, 0, 30)),
    ("99999 weeks ago", utc(109, 11, 26, 12, 30)),
]
NOT_TIMESTAMPS = [
    "soon", "2026-02-30", "2026-02-30T00:00:00Z", "2026-01-31T00", "2026-01-31T00:00+24",
    "٢٠٢٦-01-31", "2026-01-31T24:00:00Z", "yesterday", "0000-01-01T00:00:00Z",
    "3 months ago", "-1 days ago", "100000 days ago", "days ago", "1.5 days ago",
    "9999-12-31T23:59:59-00:01", 1769817600, True, {},
]  # fmt: skip
ADDRESSES = [
    ("https://export.example.com", "https://export.example.com"),
    ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
    (" https://proxy.example.com/fullstory/ ", "https://proxy.example.com/fullstory"),
    ("https://[::1]:8443", "https://[::1]:8443"),
]
NO_ADDRESSES = [
    "export.example.com", "ftp://export.example.com", "https://", "https://export.example.com?a=b",
    "https://export.example.com#a", "https://export.example.com:port", "https://e.example.com:0",
    "https://e.example.com:99999", "https://[::1", "https://export.example.com/a b",
    "http://192.0.2.2/", "http://export.example.com", "http://127.0.0.1.example.com",
    "https://user:pass-word@export.example.com", "https://na1.key@export.example.com", 1, [],
]  # fmt: skip

BOOL = Expected(
    False,
    [(True, True), (False, False), ("true", True), ("False", False), (" TRUE ", True)],
    ["yes", "1", 1, 0, []],
    "true or false",
)

FIELDS = Expected(
    (),
    [
        (["UserEmail", "user_*", "UserEmail"], ("UserEmail", "user_*")),
        ("UserEmail", ("UserEmail",)),
        (" users.email , user_* ,", ("users.email", "user_*")),
        ('["a, b", "c"]', ("a, b", "c")),
        ("[ab]*, c", ("[ab]*", "c")),
        ([], ()),
        ("[]", ()),
    ],
    [True, 1, {"a": 1}, [1], [""], [None], [["a"]], '["a", 1]', '["a"', "a]", "'a", "a'b, c",
     "(a, b)", "{'a', 'b'}", "[a, [b]]", ["[a, b"], ["\"a"], ["\ud800"]],
    "a list of names or shell patterns",
)  # fmt: skip
CONTRACT: dict[str, Expected] = {
    "api_key": Expected(
        None,
        [(KEY, KEY), (f" {KEY}\n", KEY)],
        ["secret key\nX-Other: 1", "secret-keÿ", "   ", 17, True, ["secret"], {"secret": 1}],
        "as FullStory shows it",
        never={"secret", "X-Other", "17"},
    ),
    "start_date": Expected(utc(2025, 6, 2, 12, 30), TIMESTAMPS, NOT_TIMESTAMPS, "RFC 3339"),
    "end_date": Expected(None, TIMESTAMPS, NOT_TIMESTAMPS, "RFC 3339"),
    "export_api": Expected(
        "data_export",
        [("data_export", "data_export"), ("segment_export", "segment_export")],
        ["bundles", 1, []],
        "data_export or segment_export",
    ),
    "segment_id": Expected(
        ("everyone",),
        [
            ("a:b@c", ("a:b@c",)),
            (["a", " b ", "a"], ("a", "b")),
            ('["a", "b"]', ("a", "b")),
        ],
        ["[a, b", 1, [], ["a", 1], ["a", ""], [["a"]], '["a"', "[]", "[" * 100_000, {"a": "b"}],
        "id of a segment",
    ),
    "export_scope": Expected(
        "events",
        [(name, name) for name in ("events", "pages", "sessions", "individuals")],
        ["SCOPE_PAGES", 1, []],
        "events, pages, sessions or individuals",
    ),
    "segment_time_range": Expected(
        "window",
        [(name, name) for name in ("window", "own", "all")],
        ["ALL", 1, []],
        "window, own or all",
    ),
    "export_window_hours": Expected(
        24, [(1, 1), ("12", 12), (24, 24)], [0, 5, 48, "x", True], "1, 2, 3, 4, 6, 8, 12 or 24"
    ),
    "export_timeout_minutes": whole(1, 10_080, 120),
    "export_delay_hours": whole(0, 720, 24),
    "data_export_url": Expected(
        "https://export.fullstory.com", ADDRESSES, NO_ADDRESSES, "https", {"pass-word", "na1.key"}
    ),
    "api_url": Expected(
        "https://api.fullstory.com", ADDRESSES, NO_ADDRESSES, "https", {"pass-word", "na1.key"}
    ),
    "user_agent": Expected(
        f"tap-fullstory/{__version__}",
        [("me@example.com (weekly)", "me@example.com (weekly)")],
        ["a\r\nb", "ÿ", "  ", 1, []],
        "ASCII",
    ),
    "request_timeout": whole(1, 86_400, 300),
    "checkpoint_events": whole(1, 1_000_000_000, 10_000),
    "prefetch_bundles": whole(0, 100, 1),
    "spool_dir": Expected(tempfile.gettempdir(), [("/a b", "/a b")], [1, [], {}], "folder"),
    "workers": whole(1, 64, 1),
    "skip_bundles": Expected(
        frozenset(),
        [
            (["1", "2"], frozenset("12")),
            ([156453120048], frozenset(["156453120048"])),
            (156453120048, frozenset(["156453120048"])),
            ("1", frozenset("1")),
            ("1, 2 3", frozenset("123")),
            ('["1", "2"]', frozenset("12")),
            ([], frozenset()),
        ],
        [True, 1.5, {"1": 2}, [None], [1.5], [["1"]], [True]],
        "list of bundle ids",
    ),
    "max_event_mb": whole(1, 4096, 64),
    "custom_vars_format": Expected(
        "object",
        [("object", "object"), ("string", "string")],
        ["text", "Object", 1, []],
        "object or string",
    ),
    "event_digest": BOOL,
    "replay_url": BOOL,
    "bundle_id": BOOL,
    "replace_nul": BOOL,
    "exclude_fields": FIELDS,
    "hash_fields": FIELDS,
    "hash_key": Expected(
        None, [("a secret", "a secret"), (" a b\n", "a b")], ["  ", 1, [], "\ud800"], "text"
    ),
    "event_types": Expected(
        None,
        [
            (["click", "change"], EventFilter(frozenset({"click", "change"}), leaves_out=False)),
            ("click,change", EventFilter(frozenset({"click", "change"}), leaves_out=False)),
            ("! navigate", EventFilter(frozenset({"navigate"}), leaves_out=True)),
            ('["!a", "!b"]', EventFilter(frozenset("ab"), leaves_out=True)),
            ([], None),
        ],
        ["!", ["click", "!change"], "!a, b", True, [1], {}],
        "a list of EventType values",
    ),
    "custom_columns": Expected(
        {},
        [
            (["user_plan_str"], {"user_plan_str": {"type": ["null", "string"]}}),
            ("evt_n_ints, page_x:date", {
                "evt_n_ints": {"type": ["null", "array"], "items": {"type": ["null", "integer"]}},
                "page_x": {"type": ["null", "string"], "format": "date-time"},
            }),
            ("user_a_str:integer", {"user_a_str": {"type": ["null", "integer"]}}),
            (["user_a:b : real"], {"user_a:b": {"type": ["null", "number"]}}),
            ([], {}),
        ],
        ["user_plan", "UserEmail", "user_plan:text", "user_:", ":str", "user_a:int, user_a:str", 1],
        "user_plan:str",
    ),
    "log_level": Expected(
        "INFO",
        [("DEBUG", "DEBUG"), ("warning", "WARNING")],
        ["LOUD", 10, True, []],
        "DEBUG, INFO, WARNING, ERROR or CRITICAL",
    ),
    "metrics_log_level": Expected(
        "INFO",
        [("DEBUG", "DEBUG"), ("warning", "WARNING")],
        ["LOUD", 10, True, []],
        "DEBUG, INFO, WARNING, ERROR or CRITICAL",
    ),
    "log_format": Expected(
        "text", [("text", "text"), ("json", "json")], ["xml", "JSON", 1], "text or json"
    ),
    "discover_custom_vars": BOOL,
    "discover_sample_events": whole(1, 1_000_000_000, 10_000),
    # A refusal names what is wrong inside: test_what_batch_config_may_be.
    "batch_config": Expected(
        None,
        [(batches(), BatchConfig("/a", "", "gzip", 10_000)),
         (json.dumps(batches("none")), BatchConfig("/a", "", "none", 10_000))],
        [1, [], {}, "gzip"],
        "",
    ),
}  # fmt: skip


SECRETS = {"api_key", "hash_key"}


def parsed(name: str, value: Any) -> Any:
    given = {"api_key": KEY, "hash_key": KEY, name: value}
    return getattr(parse_config(given, NOW, {}), name)


def cases(kind: str) -> list[Any]:
    return [
        # A frozenset's repr is another one in each process, and tests run in several.
        pytest.param(name, value, id=f"{name}-{value[0] if kind == 'good' else value!r:.40}")
        for name, expected in CONTRACT.items()
        for value in getattr(expected, kind)
    ]


def test_the_table_of_settings_is_the_contract():
    differing = {setting.name for setting in SETTINGS} ^ set(CONTRACT)
    assert not differing, f"CONTRACT here and settings.py differ in {sorted(differing)}"
    assert len(SETTINGS) == len(CONTRACT)
    parsed_fields = dataclasses.fields(parse_config({"api_key": KEY}, NOW, {}))
    assert {field.name for field in parsed_fields} == set(CONTRACT)
    for setting in SETTINGS:
        assert setting.description.endswith(".")
        assert setting.allowed
        assert setting.default is not None or setting.default_text


@pytest.mark.parametrize("name", CONTRACT)
@pytest.mark.parametrize("missing", [{}, None, ""], ids=["absent", "null", "empty"])
def test_defaults(name, missing):
    if name == "api_key":
        with pytest.raises(UsageError, match="no api_key"):
            parse_config({} if missing == {} else {name: missing}, NOW, {})
        return
    raw = {"api_key": KEY} if missing == {} else {"api_key": KEY, name: missing}
    assert getattr(parse_config(raw, NOW, {}), name) == CONTRACT[name].default


@pytest.mark.parametrize(("name", "case"), cases("good"))
def test_good_values(name, case):
    value, meaning = case
    assert parsed(name, value) == meaning
    assert type(parsed(name, value)) is type(meaning)  # True is 1, and 5.0 is 5


@pytest.mark.parametrize(("name", "value"), cases("bad"))
def test_bad_values(name, value):
    with pytest.raises(UsageError) as refusal:
        parsed(name, value)
    text = str(refusal.value)
    assert f"Config key {name}:" in text
    assert CONTRACT[name].allowed in text
    assert [word for word in CONTRACT[name].never if word in text] == []
    assert ("the value given" in text) is (name in SECRETS)


# A list in text as people and other programs write it.
LIST_SPELLINGS = [
    '["{0}", "{1}"]', '["{0}","{1}"]', "['{0}', '{1}']", "[{0}, {1}]", "[{0},{1}]", "{0},{1}",
    " {0} , {1} ,", "{0}\n{1}\n", "'{0}', '{1}'", '"{0}", "{1}"', "'{0}',\"{1}\"", "'{0},{1}'",
    '"[{0}, {1}]"', "'[\"{0}\", \"{1}\"]'", "\"['{0}', '{1}']\"", "['{0}', {1}]", "[ '{0}' ,{1} ]",
]  # fmt: skip
LISTS = sorted(
    setting.name
    for setting in SETTINGS
    if "array" in setting.type.schema["type"] and setting.name != "batch_config"
)


def two_names(name: str) -> list[str]:
    """Two values that this list setting takes."""
    return {"custom_columns": ["user_a_str", "evt_b:int"]}.get(name, ["Abc", "d_e"])


@pytest.mark.parametrize("spelling", LIST_SPELLINGS)
@pytest.mark.parametrize("name", LISTS)
def test_a_list_in_text_is_the_list_that_it_plainly_is(name, spelling):
    values = two_names(name)
    assert parsed(name, spelling.format(*values)) == parsed(name, values)
    assert parsed(name, [f"'{values[0]}'", f'"{values[1]}"']) == parsed(name, values)


@pytest.mark.parametrize(
    "text",
    ["[{0}, {1}", "{0}, {1}]", "'{0}, {1}", "['{0}', '{1}'", "{{{0}}}", "({0}, {1})", "{0}'s",
     '["{0}", "{1}"', "[[{0}], {1}]", "{0}; {1}"],
)  # fmt: skip
@pytest.mark.parametrize("name", LISTS)
def test_what_is_not_plainly_a_list_is_refused(name, text):
    with pytest.raises(UsageError, match=f"Config key {name}: "):
        parsed(name, text.format(*two_names(name)))


@pytest.mark.parametrize("name", LISTS)
def test_a_name_in_brackets_or_several_names_in_one_are_refused(name):
    first, second = two_names(name)
    values: list[Any] = [[f"[{first}]"], [f"['{first}', '{second}']"], [f"[{first}, {second}]"]]
    for value in values + (
        [f"{first} {second}", f"- {first}\n- {second}"] if name != "skip_bundles" else []
    ):
        with pytest.raises(UsageError, match=f"Config key {name}: "):
            parsed(name, value)


LOOKALIKES = {
    "exclude_field": "exclude_fields", "excluded_fields": "exclude_fields",
    "excludeFields": "exclude_fields", "exclude-fields": "exclude_fields",
    "EXCLUDE_FIELDS": "exclude_fields", "exclude": "exclude_fields", "hash_field": "hash_fields",
    "hash_columns": "hash_fields", "hash_keys": "hash_key", "hashkey": "hash_key",
    "event_type": "event_types", "eventTypes": "event_types", "custom_column": "custom_columns",
    "segment_ids": "segment_id", "segmentId": "segment_id",
}  # fmt: skip


@pytest.mark.parametrize(("key", "meant"), LOOKALIKES.items())
def test_a_key_that_is_nearly_one_that_keeps_data_out_is_refused(key, meant):
    with pytest.raises(UsageError, match=f"the name is {meant}"):
        parse_config({"api_key": KEY, key: ["a"]}, NOW, {})
    if "-" not in key and key != "EXCLUDE_FIELDS":
        with pytest.raises(UsageError, match=f"TAP_FULLSTORY_.*the name is {meant}"):
            parse_config({"api_key": KEY}, NOW, {f"TAP_FULLSTORY_{key.upper()}": "a"})
    parse_config({"api_key": KEY, key: None}, NOW, {})


@pytest.mark.parametrize(
    "key",
    ["stream_maps", "stream_map_config", "stream_maps_else", "faker_config", "flattening_enabled",
     "flattening_max_depth"],
)  # fmt: skip
def test_a_setting_of_sdk_taps_that_changes_records_is_refused(key):
    with pytest.raises(UsageError, match=f"Config key {key} is not a setting of this tap. Use "):
        parse_config({"api_key": KEY, key: {"events": {"UserEmail": "__NULL__"}}}, NOW, {})


def test_every_setting_that_the_config_lacks_is_read_from_the_environment():
    environment = {
        "TAP_FULLSTORY_EXCLUDE_FIELDS": "['PageIp', 'UserEmail']",
        "TAP_FULLSTORY_CHECKPOINT_EVENTS": "5",
        "TAP_FULLSTORY_START_DATE": "2026-01-01",
        "TAP_FULLSTORY_API_KEY": KEY,
        "TAP_FULLSTORY__SELECT": "of Meltano",
        "TAP_FULLSTORY_PURE_PYTHON": "1",
        "TAP_FULLSTORY_LOG_LEVEL": "",
    }
    config = parse_config({"start_date": "2026-02-01", "log_level": None}, NOW, environment)
    assert config.exclude_fields == ("PageIp", "UserEmail")
    assert config.checkpoint_events == 5
    assert config.start_date == utc(2026, 2, 1)
    assert config.log_level == "INFO"


@pytest.mark.parametrize("key", sorted(set(CONTRACT) - {"batch_config", "hash_key"}))
def test_the_config_wins_over_the_environment_in_each_setting(key):
    good = CONTRACT[key].good
    text, meaning = next(
        ((value, meaning) for value, meaning in reversed(good) if isinstance(value, str)),
        (json.dumps(good[0][0]), good[0][1]),
    )
    environment = {f"TAP_FULLSTORY_{key.upper()}": text, "TAP_FULLSTORY_HASH_KEY": KEY}
    for raw in ({"api_key": KEY}, {"api_key": KEY, key: None}, {"api_key": KEY, key: ""}):
        assert getattr(parse_config(raw, NOW, environment), key) == meaning
    for own, own_meaning in good:
        config = parse_config({"api_key": KEY, key: own}, NOW, environment)
        assert getattr(config, key) == own_meaning


def test_members_of_batch_config_by_the_names_of_meltanos_hub():
    config = {
        "batch_config.encoding.format": "jsonl",
        "batch_config.encoding.compression": "none",
        "batch_config.storage.root": "/a",
        "batch_config.storage.prefix": "b-",
        "batch_config.storage.partition": "day",
        "batch_config.batch_size": "5",
    }
    (setting,) = [setting for setting in SETTINGS if setting.name == "batch_config"]
    paths = member_paths(setting.type.schema, (setting.name,))
    assert {".".join(path) for path in paths} == set(config)
    environment = {
        f"TAP_FULLSTORY_{key.replace('.', '_').upper()}": value for key, value in config.items()
    }
    expected = BatchConfig("/a", "b-", "none", 5, by_day=True)
    raw = {"api_key": KEY, **config}
    assert parse_config(raw, NOW, {}).batch_config == expected
    assert list(config_warnings(raw, parse_config(raw, NOW, {}), NOW)) == []
    assert parse_config({"api_key": KEY}, NOW, environment).batch_config == expected
    storage = {"root": "/a", "prefix": "b-", "partition": "day"}
    assert config_from_environment(environment)["batch_config"]["storage"] == storage
    unset = {"batch_size": None, "storage": {"root": ""}}
    assert parse_config({"api_key": KEY, "batch_config": unset}, NOW, {}).batch_config is None
    own = {**raw, "batch_config": batches()}
    assert parse_config(own, NOW, environment).batch_config == BatchConfig("/a", "", "gzip", 10_000)


def test_a_digest_beside_excluded_fields_needs_a_key():
    given = {"api_key": KEY, "event_digest": True, "exclude_fields": ["PageIp"]}
    with pytest.raises(UsageError, match="event_digest beside exclude_fields and no hash_key"):
        parse_config(given, NOW, {})
    assert parse_config({**given, "hash_key": "0" * 32}, NOW, {}).event_digest


# Values that may hold a password.
UNQUOTED = {*SECRETS, "data_export_url", "api_url", "batch_config"}


@pytest.mark.parametrize("name", sorted(set(CONTRACT) - UNQUOTED))
def test_a_refusal_names_the_value(name):
    value = CONTRACT[name].bad[0]
    with pytest.raises(UsageError) as refusal:
        parsed(name, value)
    assert repr(value) in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (batches(None), BatchConfig("/a", "", "gzip", 10_000)),
        (batches(storage={"root": "file:///a-b/c_1.~/", "prefix": "x-"}, batch_size=1),
         BatchConfig("/a-b/c_1.~", "x-", "gzip", 1)),
        (batches("none", {"root": "/", "prefix": None}, "50000"),
         BatchConfig("/", "", "none", 50_000)),
        ({"encoding": {"format": "jsonl"}, "storage": {"root": "/a"}},
         BatchConfig("/a", "", "gzip", 10_000)),
    ],
)  # fmt: skip
def test_what_batch_config_means(value, meaning):
    assert parsed("batch_config", value) == parsed("batch_config", json.dumps(value)) == meaning


@needs_pyarrow
@pytest.mark.parametrize("form", FORMATS_OF_COLUMNS)
def test_the_config_of_meltanos_page_on_arrow(form):
    """docs.meltano.com, "Arrow BATCH Support": word for word, by names, and in the environment."""
    documented = json.loads(
        '{"batch_config": {"encoding": {"format": "arrow"}}}'.replace("arrow", form)
    )
    expected = BatchConfig(
        f"{tempfile.gettempdir()}/singer-sdk", "", {"arrow": "none", "parquet": "zstd"}[form],
        format=form, names_compression=False, makes_root=True,
    )  # fmt: skip
    ways: list[tuple[Json, dict[str, str]]] = [
        (documented, {}),
        ({"batch_config": json.dumps(documented["batch_config"])}, {}),
        ({"batch_config.encoding.format": form}, {}),
        ({}, {"TAP_FULLSTORY_BATCH_CONFIG": json.dumps(documented["batch_config"])}),
        ({}, {"TAP_FULLSTORY_BATCH_CONFIG_ENCODING_FORMAT": form}),
    ]
    for raw, environment in ways:
        config = parse_config({"api_key": KEY, **raw}, NOW, environment)
        assert config.batch_config == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1, "is not an object"),
        ("{", "is text that is not valid JSON"),
        ("[" * 100_000, "is nested deeper than 100 levels"),
        ("[]", "is not an object"),
        (batches(size=1), "size is an unknown key; known: encoding, storage, batch_size"),
        (batches(encoding={"format": "jsonl", "level": 1}), "encoding.level is an unknown key"),
        (batches(encoding="jsonl"), "encoding is not an object"),
        (batches(encoding={}), "encoding.format has to be jsonl, parquet or arrow"),
        (batches(encoding={"format": "csv"}), "encoding.format has to be jsonl, parquet or arrow"),
        (
            batches(encoding={"format": "arrow", "compression": "gzip"}),
            "has to be none, zstd or lz4",
        ),
        (batches(storage={"root": "/a", "partition": "hour"}), "storage.partition has to be none"),
        (batches(storage={"partition": "day"}), "storage.partition needs storage.root"),
        (batches("zstd"), "encoding.compression of jsonl has to be gzip or none"),
        (batches(True), "encoding.compression of jsonl has to be gzip or none"),
        (batches(storage=[1]), "storage is not an object"),
        (batches(storage={"root": 1}), "storage.root is not text"),
        (batches(storage={"root": "a"}), "the absolute path of a folder"),
        (batches(storage={"root": "file://host/a"}), "the absolute path of a folder"),
        (batches(storage={"root": "s3://k:pass-word@b"}), "writes to no other storage"),
        (batches(storage={"root": "/a b"}), "targets do not decode"),
        (batches(storage={"root": "/a%20b"}), "targets do not decode"),
        (batches(storage={"root": "/ä"}), "targets do not decode"),
        (batches(storage={"root": "/a?b"}), "targets do not decode"),
        (batches(storage={"root": "/a\nb"}), "targets do not decode"),
        (batches(storage={"root": "/a", "prefix": "b/c"}), "storage.prefix may hold only"),
        (batches(storage={"root": "/a", "prefix": "ü"}), "storage.prefix may hold only"),
        (batches(storage={"root": "/a", "prefix": 1}), "storage.prefix may hold only"),
        (batches(storage={"root": "/a", "prefix": "b" * 101}), "at most 100 characters"),
        (batches(storage={"root": "/a", "params": "pass-word"}), "storage.params is an unknown"),
        (batches(batch_size=0), "batch_size has to be a whole number from 1"),
        (batches(batch_size="many"), "batch_size has to be a whole number from 1"),
    ],
)
def test_what_batch_config_may_be(value, reason):
    with pytest.raises(UsageError) as refusal:
        parsed("batch_config", value)
    assert str(refusal.value).startswith("Config key batch_config: ")
    assert reason in str(refusal.value)
    assert "pass-word" not in str(refusal.value)


def test_a_value_of_any_length_is_named_in_one_short_line():
    with pytest.raises(UsageError) as refusal:
        parsed("start_date", "x" * 100_000)
    assert len(str(refusal.value)) < 1000


def test_a_refusal_does_not_repeat_the_key_from_another_place():
    with pytest.raises(UsageError) as refusal:
        parsed("data_export_url", f"https://export.example.com/?key={KEY} {KEY}")
    assert "'https://export.example.com/?***'" in str(refusal.value)
    with pytest.raises(UsageError) as refusal:
        parsed("start_date", f"{KEY}?")
    assert "'***?'" in str(refusal.value)


@pytest.mark.parametrize("raw", [[], "text", 3, None, True])
def test_a_config_that_is_not_an_object(raw):
    with pytest.raises(UsageError, match="not a JSON object"):
        parse_config(raw, NOW, {})


# --- the key ---


@pytest.mark.parametrize("given", [{}, {"api_key": ""}, {"api_key": None}])
def test_a_missing_key_is_read_from_the_environment(given):
    environment = {"TAP_FULLSTORY_API_KEY": KEY}
    assert parse_config(given, NOW, environment).api_key == KEY
    with pytest.raises(UsageError, match="TAP_FULLSTORY_API_KEY"):
        parse_config(given, NOW, {"TAP_FULLSTORY_API_KEY": ""})


def test_hash_fields_need_a_key_from_config_or_environment():
    raw = {"api_key": KEY, "hash_fields": ["UserEmail"]}
    environment = {"TAP_FULLSTORY_HASH_KEY": "from the environment"}
    with pytest.raises(UsageError, match=r"hash_fields and no hash_key.*TAP_FULLSTORY_HASH_KEY"):
        parse_config(raw, NOW, {})
    assert parse_config(raw, NOW, environment).hash_key == "from the environment"
    assert parse_config({**raw, "hash_key": "own"}, NOW, environment).hash_key == "own"
    assert parse_config({"api_key": KEY}, NOW, {}).hash_key is None


def test_a_refusal_does_not_repeat_the_hash_key_either():
    raw = {"api_key": KEY, "hash_key": " my-secret ", "start_date": "after my-secret"}
    with pytest.raises(UsageError) as refusal:
        parse_config(raw, NOW, {})
    assert "'after ***'" in str(refusal.value)


# --- what is warned about ---


def warnings(**given: Any) -> list[str]:
    raw = {"api_key": KEY, **given}
    return [text for _, text in config_warnings(raw, parse_config(raw, NOW, {}), NOW)]


def test_unknown_keys_are_named_in_one_warning():
    (warning,) = warnings(apikey="secret-1", Start_Date="secret-2", window=None)
    assert warning.endswith(
        ": Start_Date (did you mean start_date?), apikey (did you mean api_key?), window."
    )


def test_an_unknown_key_of_any_length_is_named_in_one_short_line():
    (warning,) = warnings(**{"x" * 100_000: 1})
    assert len(warning) < 1000


def test_known_keys_are_not_warned_about():
    assert warnings(**dict.fromkeys(CONTRACT.keys() - {"api_key"})) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"start_date": "2026-06-01", "end_date": "2026-06-01"}, "not before end_date"),
        ({"start_date": "2026-06-02", "end_date": "2026-06-01"}, "not before end_date"),
        ({"start_date": "2026-06-03"}, "in the future"),
        ({"hash_key": "k" * 15}, "hash_key in the config has fewer than 16 characters"),
        ({"workers": 2}, "The setting workers has no effect any more"),
        ({"api_key": "eu1.k", "api_url": "https://api.fullstory.com"}, "eu1. belongs to"),
        ({"api_key": "na1.k", "api_url": "https://api.eu1.fullstory.com"}, "na1. belongs to"),
    ],
)
def test_what_is_probably_a_mistake_is_warned_about(given, words):
    (warning,) = warnings(**given)
    assert words in warning


@pytest.mark.parametrize(
    "given",
    [
        {"start_date": "2026-06-01", "end_date": "2026-06-02"},
        {"workers": 1},
        {"hash_key": "k" * 16},
        {"api_key": "eu1.k", "api_url": "https://api.eu1.fullstory.com/"},
        {"api_key": "eu1.k", "api_url": "http://127.0.0.1:8080"},
        {"api_key": "old-key", "api_url": "https://api.eu1.fullstory.com"},
    ],
)
def test_what_is_right_is_not_warned_about(given):
    assert warnings(**given) == []


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("eu1.k", "https://api.eu1.fullstory.com"),
        ("na1.k", "https://api.fullstory.com"),
        ("key-of-2021", "https://api.fullstory.com"),
    ],
)
def test_the_api_url_follows_from_the_key(key, url):
    assert parse_config({"api_key": key}, NOW, {}).api_url == url


def test_the_environment_as_config():
    environment = {
        "TAP_FULLSTORY_API_KEY": KEY,
        "TAP_FULLSTORY_START_DATE": "2026-01-31",
        "TAP_FULLSTORY_SKIP_BUNDLES": '["1", "2"]',
        "TAP_FULLSTORY_END_DATE": "",
        "TAP_FULLSTORY_STARTDATE": "x",
        "TAP_FULLSTORY__CATALOG": "meltano's own",
        "HOME": "/root",
    }
    raw = config_from_environment(environment)
    config = parse_config(raw, NOW, {})
    assert (config.start_date, config.end_date) == (utc(2026, 1, 31), None)
    assert config.skip_bundles == frozenset("12")
    ((_, warning),) = config_warnings(raw, config, NOW)
    assert "did you mean start_date?" in warning


# --- from outside ---


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", "secret key\nX-Other: 1"),
        ("end_date", "yesterday"),
        ("api_url", "https://user:pass-word@export.example.com"),
        ("request_timeout", "0"),
        ("event_digest", "yes"),
    ],
)
def test_bad_values_end_the_run_with_2(sandbox, name, value):
    run = run_tap(sandbox.config(**{name: value}))
    assert (run.code, run.stdout) == (2, b"")
    assert f"Config key {name}:" in run.critical
    assert CONTRACT[name].allowed in run.critical
    log = "\n".join(map(without_time, run.log.splitlines()))
    assert [word for word in CONTRACT[name].never if word in log] == []


def test_every_value_as_a_string(sandbox):
    config = {
        **sandbox.config(),
        "end_date": "2100-01-01T00:00:00Z",
        "export_api": "data_export",
        "segment_id": '["everyone"]',
        "export_scope": "events",
        "segment_time_range": "window",
        "export_window_hours": "24",
        "export_timeout_minutes": "120",
        "export_delay_hours": "24",
        "user_agent": "my-pipeline/1",
        "request_timeout": "30",
        "checkpoint_events": "10",
        "prefetch_bundles": "0",
        "spool_dir": tempfile.gettempdir(),
        "skip_bundles": sandbox.bundles[0].id,
        "max_event_mb": "1",
        "custom_vars_format": "string",
        "workers": "1",
        "event_digest": "true",
        "replay_url": "true",
        "bundle_id": "true",
        "replace_nul": "true",
        "exclude_fields": "PageIp, user_*",
        "hash_fields": '["UserEmail"]',
        "hash_key": "0123456789abcdef",
        "event_types": "!keydown",
        "custom_columns": "page_category_str",
        "log_level": "DEBUG",
        "metrics_log_level": "INFO",
        "log_format": "text",
        "discover_custom_vars": "false",
        "discover_sample_events": "1",
    }
    missing = set(CONTRACT) - {"batch_config"} - set(config)  # no records on stdout with that
    assert not missing, f"give {sorted(missing)} here as text, too"
    run = run_tap(config)
    assert run.code == 0
    assert len(run.records) == 120
    assert len(run.states) > 5
    assert {len(record["EventDigest"]) for record in run.records} == {32}
    assert {type(record.get("CustomVars", "")) for record in run.records} == {str}
    asked = sandbox.requests[-1]
    assert asked.headers["user-agent"] == "my-pipeline/1"


def test_a_config_from_the_environment_alone(sandbox, tmp_path):
    variables = {
        f"TAP_FULLSTORY_{name.upper()}": str(value) for name, value in sandbox.config().items()
    }
    run = run_command("--config", "ENV", env=variables, cwd=tmp_path)
    assert run.code == 0
    assert run.stdout.count(b'"RECORD"') == 144


def test_a_log_of_json(sandbox):
    run = run_tap(sandbox.config(log_format="json", log_level="info", apikey="x"))
    lines = [json.loads(line) for line in run.log.splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    (warning,) = [line for line in lines if line["level"] == "WARNING"]
    assert "did you mean api_key?" in warning["message"]
    metrics = [line for line in lines if line["message"].startswith("METRIC")]
    assert {line["metric"] for line in metrics} == {"http_request_duration", "record_count"}
    assert all(line["tags"] for line in metrics)
    of_bundles = [line for line in lines if line["message"].startswith("Bundle ")]
    assert {(line["stream"], line["bundle"]) for line in of_bundles} == {
        ("events", bundle.id) for bundle in sandbox.bundles
    }
    gets = [line for line in metrics if line["tags"].get("endpoint") == "get"]
    assert [line["bundle"] for line in gets] == [bundle.id for bundle in sandbox.bundles]
    assert "stream" not in lines[-1]


@pytest.mark.parametrize(
    ("fault", "kind", "retry"),
    [
        ("list:401", "access", False),
        ("list:200,body=[1]", "source", False),
        ("get:401", "access", False),
    ],
)
def test_a_failure_in_a_log_of_json(fault, kind, retry):
    with Sandbox(faults=[fault]) as failing, start_tap(failing.config(log_format="json")) as tap:
        lines = [json.loads(line) for line in tap.stderr]
        assert tap.wait(60) == 1
    critical = lines[-1]
    assert critical["level"] == "CRITICAL"
    assert (critical["kind"], critical["retry_may_help"]) == (kind, retry)
    assert critical["stream"] == "events"
    assert critical.get("bundle") == (failing.bundles[0].id if fault.startswith("get") else None)


def test_a_config_that_is_refused_in_a_log_of_json(sandbox):
    with start_tap(sandbox.config(log_format="json", start_date="soon")) as tap:
        (line,) = [json.loads(line) for line in tap.stderr]
        assert tap.wait(60) == 2
    assert (line["level"], line["kind"]) == ("CRITICAL", "config")
    assert line["message"].startswith("Config key start_date: 'soon' is not valid")


def test_a_log_level(sandbox):
    run = run_tap(sandbox.config(log_level="WARNING"))
    assert (run.code, run.log) == (0, "")
