"""The settings: the config of one run, whose fields carry all that is known of each setting.

To add a setting, add a field to `Config`. Parsing, the environment, `--about`, the documents and
the plugin definitions are all made from these fields.
"""

# ruff: noqa: RUF009 - `_setting` returns a field.
from __future__ import annotations

import fnmatch
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from tap_fullstory.columns import parse_custom_columns
from tap_fullstory.errors import CodedWarning, UsageError
from tap_fullstory.output.batch_config import BATCH_CONFIG, BatchConfig
from tap_fullstory.setting_types import (
    BOOL,
    IDS,
    SECRET,
    SEGMENT_IDS,
    TIMESTAMP,
    URL,
    EventFilter,
    NotAllowed,
    SettingType,
    any_text,
    choice,
    header_text,
    int_choice,
    int_range,
    names,
    parse_event_types,
    patterns,
)
from tap_fullstory.times import format_rfc3339
from tap_fullstory.version import SOURCE, __version__

VARIABLE_PREFIX = "TAP_FULLSTORY_"
API_KEY_VARIABLE = f"{VARIABLE_PREFIX}API_KEY"
HASH_KEY_VARIABLE = f"{VARIABLE_PREFIX}HASH_KEY"

_ABBREVIATIONS = {"api": "API", "url": "URL", "mb": "MB", "id": "ID", "nul": "NUL"}
_FIELDS = "a list of names or shell patterns, such as UserEmail, user_* or users.email"


@dataclass(frozen=True)
class Group:
    """Settings that belong together. `purpose` says when one needs them."""

    title: str
    purpose: str


WHAT = Group("What", "Every config needs the key, and most need a start date.")
WHICH_DATA = Group(
    "Which data", "You need these if you want other events, columns or people than all of them."
)
STAYS_OUT = Group("What stays out", "You need these if personal data must not reach the target.")
WRITTEN = Group(
    "How it is written",
    "You need these for PostgreSQL, or if the target upserts, flattens or loads files.",
)
SEGMENTS = Group(
    "Segment exports",
    "You need these for `export_api: segment_export`, or for the stream `individuals`.",
)
ADVANCED = Group("Advanced", "You need one of these only in the case that it names.")
GROUPS = (WHAT, WHICH_DATA, STAYS_OUT, WRITTEN, SEGMENTS, ADVANCED)


@dataclass(frozen=True)
class Setting:
    """What is known of one setting. `default` is what a missing value means, as a config file has
    it; `when` says when one needs the setting. A hidden one is accepted, but shown nowhere.
    """

    type: SettingType
    description: str
    when: str
    group: Group
    default: Any = None
    default_text: str = ""
    secret: bool = False
    hidden: bool = False
    name: str = ""

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        return self.type.allowed

    @property
    def choices(self) -> tuple[Any, ...]:
        """All allowed values, if they are a short list; otherwise empty."""
        return tuple(self.type.schema.get("enum", ()))

    @property
    def explanation(self) -> str:
        """What the setting does, and when one needs it."""
        return f"{self.description} {self.when}"

    @property
    def required(self) -> bool:
        """Whether a sync needs it, from the config or the environment."""
        return self.default_text == "required"

    @property
    def label(self) -> str:
        """The name as a person would write it: `api_key` as "API key"."""
        return label(self.name)

    @property
    def is_list(self) -> bool:
        """Whether the value may be a list."""
        return "array" in self.type.schema["type"]

    def parse(self, value: Any) -> Any:
        """Return what the tap works with. Raises ValueError if `value` is not allowed."""
        return self.type.parse(value)


def label(name: str) -> str:
    """Return the name of a setting, or of a member of one, as a person would write it."""
    words = [_ABBREVIATIONS.get(word, word) for word in re.split(r"[_.]", name)]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def _setting(type_: SettingType, description: str, when: str, group: Group, **more: Any) -> Any:
    setting = Setting(type_, description, when, group, **more)
    return field(repr=not setting.secret, metadata={"setting": setting})


@dataclass(frozen=True)
class Config:
    """The settings of one run, parsed. Timestamps are aware and in UTC."""

    api_key: str = _setting(
        header_text("the key as FullStory shows it"),
        "FullStory API key with the Architect or Admin level, exactly as FullStory shows it.",
        f"Every run needs it, better from the environment (`{API_KEY_VARIABLE}`) than from a file.",
        WHAT,
        default_text="required",
        secret=True,
    )
    start_date: datetime = _setting(
        TIMESTAMP,
        "How far back the first sync goes: bundles that end after this time. Later runs continue "
        "from the state and ignore it.",
        "Use it when the first run should load more or less than a year.",
        WHAT,
        default_text="one year before now",
    )
    export_api: str = _setting(
        choice("data_export", "segment_export"),
        "Which of FullStory's APIs the events come from: `data_export`, the bundles of the Data "
        "Export add-on, or `segment_export`, the newer one, in which the tap creates an export "
        "for each window of time.",
        "Choose `segment_export` when the account has no bundles, or only a segment is wanted.",
        WHAT,
        default="data_export",
    )
    event_types: EventFilter | None = _setting(
        names(
            "a list of EventType values to keep, or of values to leave out, each with ! before it",
            parse_event_types,
        ),
        "Which events are written, by their `EventType`: these, or with `!` before each all but "
        "these (`!navigate`). The others are read and counted.",
        "Use it when some types of events are never queried.",
        WHICH_DATA,
        default=[],
        default_text="all",
    )
    custom_columns: Mapping[str, dict[str, Any]] = _setting(
        names(
            "a list of custom variables whose suffix implies their type, such as user_plan_str, or "
            "with their type (str, int, real, bool or date, or strs and so on for a list), such as "
            "user_plan:str",
            parse_custom_columns,
        ),
        "Custom variables that are columns of their own in every run, whatever discovery finds.",
        "Use it when queries use a custom variable often.",
        WHICH_DATA,
        default=[],
        default_text="none",
    )
    discover_custom_vars: bool = _setting(
        BOOL,
        "Discovery also samples the newest bundle (before `end_date`) for custom variables, and "
        "lists each as a column that can be selected.",
        "Use it to find out which custom variables there are.",
        WHICH_DATA,
        default=False,
    )
    segment_id: tuple[str, ...] = _setting(
        SEGMENT_IDS,
        "The segment to export: its id, as its URL in FullStory shows it, or a list of ids. Events "
        "need `export_api: segment_export` for it; the stream `individuals` takes it, too.",
        "Use it when only some people's data is wanted.",
        WHICH_DATA,
        default="everyone",
    )
    replay_url: bool = _setting(
        BOOL,
        "Adds the column `ReplayUrl` to the events: the address of the session's replay in the "
        "FullStory app.",
        "Use it when a row should lead to its replay.",
        WHICH_DATA,
        default=False,
    )
    bundle_id: bool = _setting(
        BOOL,
        "Adds the column `BundleId` to the events: the bundle, or the window of the segment "
        "export, that a row comes from. The stream `bundles` has a row for each.",
        "Use it to prove in SQL that no event is missing or duplicated.",
        WHICH_DATA,
        default=False,
    )
    exclude_fields: tuple[str, ...] = _setting(
        patterns(_FIELDS),
        "Fields that never leave the tap, whatever the catalog lists: names, shell patterns, or "
        "paths (`CustomVars.user_*`, `users.email`). `@personal` stands for all fields that are "
        "marked as naming a person, `@ids` for all that can be traced to one.",
        "Use it for what nobody should query.",
        STAYS_OUT,
        default=[],
        default_text="none",
    )
    hash_fields: tuple[str, ...] = _setting(
        patterns(_FIELDS),
        "Fields whose values are replaced by their hash under `hash_key`, named as in "
        "`exclude_fields`. Equal values have equal hashes in every column, stream and run.",
        "Use it when rows must be joined by a value that nobody may read.",
        STAYS_OUT,
        default=[],
        default_text="none",
    )
    hash_key: str | None = _setting(
        SECRET,
        "The secret key of the hashes, and of `EventDigest` where fields are excluded or hashed.",
        f"Set it with `hash_fields`, better in the environment (`{HASH_KEY_VARIABLE}`).",
        STAYS_OUT,
        default_text="required with hash_fields",
        secret=True,
    )
    replace_nul: bool = _setting(
        BOOL,
        "The character U+0000 becomes U+FFFD in texts and in the names of custom variables, in "
        "every stream.",
        "Use it for PostgreSQL, which refuses a row with U+0000.",
        WRITTEN,
        default=False,
    )
    custom_vars_format: str = _setting(
        choice("object", "string"),
        "How `CustomVars`, and each free-form object of other streams, is written: as an object, "
        "or as one JSON text.",
        "Choose `string` for targets that flatten objects or do not support them.",
        WRITTEN,
        default="object",
    )
    event_digest: bool = _setting(
        BOOL,
        "Adds the column `EventDigest`, a digest of the event as FullStory sent it, and makes it "
        "the key.",
        "Use it for targets that upsert.",
        WRITTEN,
        default=False,
    )
    batch_config: BatchConfig | None = _setting(
        BATCH_CONFIG,
        "Writes events and individuals to files, and BATCH messages that name them. Its "
        "`batch_size` (10000) takes the place of `checkpoint_events`.",
        "Use it for targets that load files.",
        WRITTEN,
        default_text="none",
    )
    checkpoint_events: int = _setting(
        int_range(1, 1_000_000_000),
        "At most this many events between two STATE messages.",
        "Lower it to repeat fewer rows after a SIGKILL.",
        WRITTEN,
        default=10_000,
    )
    export_scope: str = _setting(
        choice("events", "pages", "sessions", "individuals"),
        "Of a segment other than everyone: `events` exports the events that match it, the others "
        "all events of the pages, sessions or people that have such an event.",
        "Use it when a segment's sessions or people are wanted whole.",
        SEGMENTS,
        default="events",
    )
    segment_time_range: str = _setting(
        choice("window", "own", "all"),
        "When a person must match the segment (not everyone): within each `window` that is "
        "exported, in the segment's `own` time range, or at any time (`all`).",
        "Choose `own` for what the segment shows in FullStory.",
        SEGMENTS,
        default="window",
    )
    export_window_hours: int = _setting(
        int_choice(*(hours for hours in range(1, 25) if 24 % hours == 0)),
        "Hours of events in one export. Windows are aligned to midnight UTC.",
        "Lower it if exports of a whole day time out.",
        SEGMENTS,
        default=24,
    )
    export_delay_hours: int = _setting(
        int_range(0, 720, "hours"),
        "How old events must be to be exported. Events can change for about a day; with a smaller "
        "delay, late ones are lost.",
        "Lower it if events are needed sooner and late ones may be missing.",
        SEGMENTS,
        default=24,
    )
    export_timeout_minutes: int = _setting(
        int_range(1, 10_080, "minutes"),
        "How long one export may stay unfinished. The next run waits for it again.",
        "Raise it if exports of a large account end a run.",
        SEGMENTS,
        default=120,
    )
    end_date: datetime | None = _setting(
        TIMESTAMP,
        "Bundles that end after this time are left out. Ranges (start_date, end_date] that do not "
        "overlap never share a bundle.",
        "Use it for a backfill, which can be cut into such ranges.",
        ADVANCED,
        default_text="none",
    )
    prefetch_bundles: int = _setting(
        int_range(0, 100),
        "How many bundles to download in advance.",
        "Choose 0 if the disk is small, 2 if the target is faster than the download.",
        ADVANCED,
        default=1,
    )
    spool_dir: str = _setting(
        any_text("the path of a folder"),
        "Where bundles are kept while they are read, compressed and readable only by the tap's "
        "user.",
        "Use it when the system's temp folder is small or in memory.",
        ADVANCED,
        default_text="the system's temp folder",
    )
    skip_bundles: frozenset[str] = _setting(
        IDS,
        "Bundles to leave out, each with a WARNING.",
        "Use it to get past a bundle that cannot be read.",
        ADVANCED,
        default=[],
        default_text="none",
    )
    max_event_mb: int = _setting(
        int_range(1, 4096, "megabytes (of 1048576 bytes)"),
        "A single event larger than this is an error. A run may use five times as much memory.",
        "Raise it if a run fails because of a larger event.",
        ADVANCED,
        default=64,
    )
    request_timeout: int = _setting(
        int_range(1, 86_400, "seconds"),
        "Seconds to wait for a connection, and between two bytes of a response.",
        "Raise it if a slow proxy ends downloads.",
        ADVANCED,
        default=300,
    )
    discover_sample_events: int = _setting(
        int_range(1, 1_000_000_000),
        "How many events `discover_custom_vars` samples at most.",
        "Raise it to find rare variables.",
        ADVANCED,
        default=10_000,
    )
    log_level: str = _setting(
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper),
        "The least severe level that is logged.",
        "Choose WARNING to log only what needs attention.",
        ADVANCED,
        default="INFO",
    )
    log_format: str = _setting(
        choice("text", "json"),
        "How stderr is written: as `text`, or as `json`, one object a line, with members to write "
        "alerts on.",
        "Choose `json` when a program reads the log.",
        ADVANCED,
        default="text",
    )
    metrics_log_level: str = _setting(
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper),
        "The level of METRIC lines, most of the lines of a run.",
        "Choose DEBUG to hide them.",
        ADVANCED,
        default="INFO",
    )
    user_agent: str = _setting(
        header_text("printable ASCII text"),
        "The User-Agent header of every request.",
        "Use it when a proxy or FullStory's support should know whose requests these are.",
        ADVANCED,
        default=f"tap-fullstory/{__version__}",
        default_text="tap-fullstory/<version>",
    )
    data_export_url: str = _setting(
        URL,
        "Host of the bundle listing and the downloads.",
        "Use it for the sandbox, or a proxy that has an address of its own.",
        ADVANCED,
        default="https://export.fullstory.com",
    )
    api_url: str = _setting(
        URL,
        "Host of FullStory's other APIs: `https://api.fullstory.com`, or for a key that begins "
        "with `eu1.` `https://api.eu1.fullstory.com`.",
        "Use it for the sandbox, or a proxy that has an address of its own.",
        ADVANCED,
        default_text="by the key",
    )
    workers: int = _setting(
        int_range(1, 64),
        "Accepted, but has no effect: one process reads the bundles.",
        "No run needs it.",
        ADVANCED,
        default=1,
        hidden=True,
    )


SETTINGS: tuple[Setting, ...] = tuple(
    replace(one.metadata["setting"], name=one.name) for one in fields(Config)
)
SHOWN_SETTINGS = tuple(setting for setting in SETTINGS if not setting.hidden)

MAX_SHOWN = 200  # characters of a refused value, or of unknown keys, that a message quotes
MIN_HASH_KEY = 16  # characters, below which a key is warned of

_NAMES = [setting.name for setting in SETTINGS]
# Variables with the same prefix that are not settings.
OTHER_VARIABLES = ("TAP_FULLSTORY_PURE_PYTHON", "TAP_FULLSTORY_REQUIRE_NATIVE")
# What keeps data out, or chooses it. A misspelled one of these must not be ignored.
PROTECTING = (
    "exclude_fields",
    "hash_fields",
    "hash_key",
    "event_types",
    "custom_columns",
    "segment_id",
)
_PROTECTING_WORDS = {"exclud": "exclude_fields", "hash": "hash_fields"}
_STREAM_MAPS = (
    "Use exclude_fields, hash_fields, event_types or custom_columns, or a mapper such as "
    "meltano-map-transformer between tap and target."
)
_OF_OTHER_TAPS = {
    "stream_map*": _STREAM_MAPS,
    "faker_config": "Use hash_fields.",
    "flattening_*": 'Use "custom_vars_format": "string", or the target\'s own flattening.',
}
# A key's prefix names its data centre; the other hosts of FullStory's API are not documented.
_API_URLS = {"eu1.": "https://api.eu1.fullstory.com", "na1.": "https://api.fullstory.com"}
_DEFAULT_API_URL = _API_URLS["na1."]


def config_from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return what `--config ENV` means: each setting from TAP_FULLSTORY_<SETTING>, as a config file
    would hold it. Variables that begin with TAP_FULLSTORY__ are Meltano's own.
    """
    found = {
        name.removeprefix(VARIABLE_PREFIX): value
        for name, value in environment.items()
        if name.startswith(VARIABLE_PREFIX)
        and not name.startswith(f"{VARIABLE_PREFIX}_")
        and name not in OTHER_VARIABLES
    }
    return _nested(_given({name.lower(): value for name, value in found.items()}), "_")


def parse_config(raw: Any, now: datetime, environment: Mapping[str, str] = os.environ) -> Config:
    """Turn the decoded config file into a Config. `null` and `""` count as missing, and each
    setting that is not given is read from TAP_FULLSTORY_<SETTING> in the environment.

    Raises UsageError if `raw` is not an object, a value is not allowed, no API key is given, or a
    key looks like one that keeps data out.
    """
    if not isinstance(raw, dict):
        raise UsageError(
            "The config is not a JSON object. It should look like "
            '{"api_key": "...", "start_date": "2026-01-01T00:00:00Z"}.'
        )
    given = _nested(_given(raw), ".")
    in_environment = config_from_environment(environment)
    for key in sorted(given):
        _refuse_lookalike(key, f"Config key {_shortened(key)}")
    for key in sorted(in_environment):
        _refuse_lookalike(key, f"Environment variable {VARIABLE_PREFIX}{_shortened(key.upper())}")
    given = {key: in_environment[key] for key in _NAMES if key in in_environment} | given
    if "api_key" not in given:
        raise UsageError(
            "The config has no api_key. Create an API key in FullStory (Settings, Integrations & "
            "API Keys, API Keys) and set api_key, or the environment variable "
            f"{API_KEY_VARIABLE}."
        )
    values = {setting.name: _value(setting, given) for setting in SETTINGS}
    _require_hash_key(values)
    for name in ("start_date", "end_date"):
        if isinstance(values[name], timedelta):
            values[name] = _before(now, values[name])
    if values["start_date"] is None:
        values["start_date"] = _before(now, timedelta(days=365))
    if values["api_url"] is None:
        values["api_url"] = _API_URLS.get(values["api_key"][:4], _DEFAULT_API_URL)
    if values["spool_dir"] is None:
        values["spool_dir"] = _temp_folder()
    return Config(**values)


def _require_hash_key(values: Mapping[str, Any]) -> None:
    if values["hash_key"]:
        return
    why = "hash_fields" if values["hash_fields"] else ""
    if not why and values["event_digest"] and values["exclude_fields"]:
        # Whoever has the row could guess an excluded value and compare the digest.
        why = "event_digest beside exclude_fields"
    if why:
        raise UsageError(
            f"The config has {why} and no hash_key. Create a key, as with `openssl rand -hex 32`, "
            f"keep it, and set hash_key, or the environment variable {HASH_KEY_VARIABLE}."
        )


def _paths(separator: str) -> dict[str, tuple[str, ...]]:
    """Return where the members of the settings that are objects belong, by their names: one that a
    runner writes by itself, such as `batch_config.encoding.format`.
    """
    return {
        separator.join(path): path
        for setting in SETTINGS
        for path in member_paths(setting.type.schema, (setting.name,))
    }


def member_paths(schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the path of each value within a setting that is an object; none for any other."""
    for name, inner in schema.get("properties", {}).items():
        if "properties" in inner:
            yield from member_paths(inner, (*path, name))
        else:
            yield (*path, name)


def _nested(given: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Return what is given, with members such as `batch_config.encoding.format` in their object,
    unless that is given itself.
    """
    paths = _paths(separator)
    nested = {key: value for key, value in given.items() if key not in paths}
    own = set(nested)
    for key, path in paths.items():
        if key in given and path[0] not in own:
            inner = nested
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = given[key]
    return nested


def _refuse_lookalike(key: str, what: str) -> None:
    """Raise UsageError for an unknown key that was meant to keep data out, or is another tap's way
    to do so: ignored, it would let the data pass.
    """
    if key in _NAMES:
        return
    for pattern, instead in _OF_OTHER_TAPS.items():
        if fnmatch.fnmatchcase(key.lower(), pattern):
            raise UsageError(f"{what} is not a setting of this tap. {instead}")
    plain = re.sub("[^a-z0-9]", "", key.lower())
    names = {re.sub("_", "", name): name for name in _NAMES}
    meant = names.get(plain)
    if meant is None:
        found = get_close_matches(plain, names, n=1, cutoff=0.75)
        meant = names[found[0]] if found else None
        if meant not in PROTECTING:
            words = ((word, name) for word, name in _PROTECTING_WORDS.items() if word in plain)
            meant = next((name for _, name in words), None)
    if meant in PROTECTING:
        raise UsageError(f"{what} is not a setting of this tap: the name is {meant}.")


def config_warnings(
    raw: Mapping[str, Any], config: Config, now: datetime
) -> Iterator[CodedWarning]:
    """Yield what to tell a user of a config that can be used, though not as meant perhaps."""
    if unknown := sorted(set(_nested(raw, ".")) - set(_NAMES)):
        yield CodedWarning(
            "unknown_settings",
            f"The config has unknown keys, which have no effect: {_named(unknown)}.",
        )
    if config.workers > 1:
        yield CodedWarning(
            "setting_without_effect",
            "The setting workers has no effect any more; remove it.",
        )
    if config.hash_key and len(config.hash_key) < MIN_HASH_KEY:
        yield CodedWarning(
            "short_hash_key",
            f"hash_key in the config has fewer than {MIN_HASH_KEY} characters: anyone who "
            "guesses it can work out which address or name a hash stands for. `openssl rand "
            "-hex 32` makes one.",
        )
    start, end = format_rfc3339(config.start_date), config.end_date
    if end is not None and config.start_date >= end:
        yield CodedWarning(
            "empty_range",
            f"start_date ({start}) is not before end_date ({format_rfc3339(end)}): a first run "
            "has nothing to sync.",
        )
    of_segments = [one for one in SETTINGS if one.name in ("export_scope", "segment_time_range")]
    without_effect = [one.name for one in of_segments if getattr(config, one.name) != one.default]
    if without_effect and set(config.segment_id) == {"everyone"}:
        yield CodedWarning(
            "setting_without_effect",
            f"{' and '.join(without_effect)} in the config {_have(without_effect)} no effect "
            "on the segment everyone. Set segment_id to another segment.",
        )
    if config.start_date > now:
        yield CodedWarning(
            "start_date_in_future",
            f"start_date ({start}) is in the future: a first run has nothing to sync.",
        )
    expected = _API_URLS.get(config.api_key[:4])
    hosts = {urlsplit(url).hostname for url in _API_URLS.values()} - {urlsplit(expected).hostname}
    if expected and urlsplit(config.api_url).hostname in hosts:
        yield CodedWarning(
            "api_url_of_other_region",
            f"api_url is {config.api_url}, but an API key that begins with {config.api_key[:4]} "
            f"belongs to {expected}. If FullStory refuses the key, remove api_url from the config.",
        )


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _given(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if _is_given(value)}


def _is_given(value: Any) -> bool:
    # Meltano writes an object of nulls for one none of whose members is set.
    if isinstance(value, dict) and value:
        return any(map(_is_given, value.values()))
    return value is not None and value != ""


def _named(unknown: list[str]) -> str:
    named = []
    for key in unknown:
        shown = _shortened(key)
        meant = get_close_matches(key[:MAX_SHOWN].lower(), _NAMES, n=1, cutoff=0.75)
        named.append(f"{shown} (did you mean {meant[0]}?)" if meant else shown)
    return ", ".join(named)


def _shortened(key: str) -> str:
    return f"{key[:MAX_SHOWN]}..." if len(key) > MAX_SHOWN else key


def _value(setting: Setting, given: Mapping[str, Any]) -> Any:
    if setting.name not in given:
        return None if setting.default is None else setting.parse(setting.default)
    try:
        return setting.parse(given[setting.name])
    except NotAllowed as reason:
        raise UsageError(
            f"Config key {setting.name}: {reason}. See "
            f"{SOURCE}/docs/settings.md#{setting.name} for an example."
        ) from None
    except ValueError:
        shown = "the value given" if setting.secret else _shown(given[setting.name], given)
        raise UsageError(
            f"Config key {setting.name}: {shown} is not valid; expected {setting.allowed}."
        ) from None


def _shown(value: Any, given: Mapping[str, Any]) -> str:
    """Return a refused value without secrets: the key, the password or query of a URL."""
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(r"(?<=//)[^/?#]*@", "***@", text)
    text = re.sub(r"(//.*\?).*", r"\1***", text)
    for setting in SETTINGS:
        if setting.secret and (secret := str(given.get(setting.name, "")).strip()):
            text = text.replace(secret, "***")
    return repr(text[:MAX_SHOWN]) if isinstance(value, str) else text[:MAX_SHOWN]


def _temp_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none that can be written to: the first bundle reports it
        return "/tmp"  # noqa: S108


def _before(now: datetime, age: timedelta) -> datetime:
    return (now - age).astimezone(timezone.utc)
