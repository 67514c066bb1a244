"""The settings: one table of them, and the config of one run that is parsed by it.

Parsing, `--about`, the documents and the plugin definitions are all made from the table.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from tap_fullstory.version import __version__

API_KEY_VARIABLE = "TAP_FULLSTORY_API_KEY"
HASH_KEY_VARIABLE = "TAP_FULLSTORY_HASH_KEY"

_FIELDS = "a list of names or shell patterns, such as UserEmail, user_* or users.email"


@dataclass(frozen=True)
class Setting:
    """One row of the table. `default` is what a missing value means, as a config file has it."""

    name: str
    type: SettingType
    description: str
    default: Any = None
    default_text: str = ""
    secret: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        return self.type.allowed

    @property
    def choices(self) -> tuple[Any, ...]:
        """All allowed values, if they are a short list; otherwise empty."""
        return tuple(self.type.schema.get("enum", ()))

    def parse(self, value: Any) -> Any:
        """Return what the tap works with. Raises ValueError if `value` is not allowed."""
        return self.type.parse(value)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "api_key",
        header_text("the key as FullStory shows it"),
        "FullStory API key, of level Architect or Admin. Sent as `Authorization: Basic <key>`, as "
        f"it is. May come from the environment variable `{API_KEY_VARIABLE}` instead.",
        default_text="required",
        secret=True,
    ),
    Setting(
        "start_date",
        TIMESTAMP,
        "How far back the first sync goes: bundles that end after this time. Later runs continue "
        "from the state and ignore it.",
        default_text="one year before now",
    ),
    Setting(
        "end_date",
        TIMESTAMP,
        "Bundles that end after this time are left out. Ranges (start_date, end_date] that do not "
        "overlap never share a bundle, so a backfill can be cut into shards.",
        default_text="none",
    ),
    Setting(
        "export_api",
        choice("data_export", "segment_export"),
        "Which of FullStory's APIs the events come from: `data_export`, the bundles of the Data "
        "Export add-on, or `segment_export`, the newer one, in which the tap creates an export "
        "for each window of time.",
        default="data_export",
    ),
    Setting(
        "segment_id",
        SEGMENT_IDS,
        "Whom the exports cover: the id of a segment, as its URL in FullStory shows it. With a "
        "list of ids each segment is exported by itself, and its rows have its id in the column "
        "`SegmentId`. Only for `segment_export` and `individuals`.",
        default="everyone",
    ),
    Setting(
        "export_scope",
        choice("events", "pages", "sessions", "individuals"),
        "Of a segment other than everyone: `events` exports the events that match it, the others "
        "all events of the pages, sessions or people that have such an event.",
        default="events",
    ),
    Setting(
        "segment_time_range",
        choice("window", "own", "all"),
        "When somebody must match a segment other than everyone: within each `window` that is "
        "exported, in the segment's `own` time range, or at any time (`all`).",
        default="window",
    ),
    Setting(
        "export_window_hours",
        int_choice(*(hours for hours in range(1, 25) if 24 % hours == 0)),
        "Hours of events in one export. Windows are cells of a grid from midnight UTC.",
        default=24,
    ),
    Setting(
        "export_timeout_minutes",
        int_range(1, 10_080, "minutes"),
        "How long one export may stay unfinished. The next run waits for it once more.",
        default=120,
    ),
    Setting(
        "export_delay_hours",
        int_range(0, 720, "hours"),
        "How old events must be to be exported. They settle for a day: with less, what arrives "
        "late is missed for good.",
        default=24,
    ),
    Setting(
        "data_export_url",
        URL,
        "Host of the bundle listing and the downloads.",
        default="https://export.fullstory.com",
    ),
    Setting(
        "api_url",
        URL,
        "Host of FullStory's other APIs: `https://api.fullstory.com`, or for a key that begins "
        "with `eu1.` `https://api.eu1.fullstory.com`.",
        default_text="by the key",
    ),
    Setting(
        "user_agent",
        header_text("printable ASCII text"),
        "The User-Agent header of every request.",
        default=f"tap-fullstory/{__version__}",
        default_text="tap-fullstory/<version>",
    ),
    Setting(
        "request_timeout",
        int_range(1, 86_400, "seconds"),
        "Seconds to wait for a connection, and between two bytes of a response.",
        default=300,
    ),
    Setting(
        "checkpoint_events",
        int_range(1, 1_000_000_000),
        "At most this many events between two STATE messages.",
        default=10_000,
    ),
    Setting(
        "prefetch_bundles",
        int_range(0, 100),
        "Bundles downloaded ahead of the one being emitted; 0 turns it off.",
        default=1,
    ),
    Setting(
        "spool_dir",
        any_text("the path of a folder"),
        "Where bundles are kept while they are read, compressed and readable by nobody else.",
        default_text="the system's temp folder",
    ),
    Setting(
        "workers",
        int_range(1, 64),
        "Accepted, but has no effect: one process reads the bundles.",
        default=1,
    ),
    Setting(
        "skip_bundles",
        IDS,
        "Bundles to leave out, each with a WARNING: the way past one that cannot be read.",
        default=[],
        default_text="none",
    ),
    Setting(
        "max_event_mb",
        int_range(1, 4096, "megabytes (of 1048576 bytes)"),
        "A single event larger than this is an error.",
        default=64,
    ),
    Setting(
        "custom_vars_format",
        choice("object", "string"),
        "How `CustomVars`, and each free-form object of other streams, is written: as an object, "
        "or as one JSON text for targets that flatten objects or do not support them.",
        default="object",
    ),
    Setting(
        "replace_nul",
        BOOL,
        "The character U+0000 becomes U+FFFD in texts and in the names of custom variables, in "
        "every stream: PostgreSQL stores no U+0000, and refuses the row.",
        default=False,
    ),
    Setting(
        "discover_custom_vars",
        BOOL,
        "Discovery also samples the newest bundle for custom variables, and lists each as a "
        "column that can be selected.",
        default=False,
    ),
    Setting(
        "discover_sample_events",
        int_range(1, 1_000_000_000),
        "How many events discovery samples at most.",
        default=10_000,
    ),
    Setting(
        "event_digest",
        BOOL,
        "Adds the column `EventDigest`, a digest of the event as FullStory sent it, and makes it "
        "the key: for targets that upsert.",
        default=False,
    ),
    Setting(
        "batch_config",
        BATCH_CONFIG,
        "Writes events and individuals to files, and BATCH messages that name them, for targets "
        "that load files. `batch_size` then takes the place of `checkpoint_events`; its default "
        "is 10000.",
        default_text="none",
    ),
    Setting(
        "replay_url",
        BOOL,
        "Adds the column `ReplayUrl` to the events: the address of the session's replay in the "
        "FullStory app, computed from the organization, `UserId` and `SessionId`.",
        default=False,
    ),
    Setting(
        "exclude_fields",
        patterns(_FIELDS),
        "Fields that never leave the tap, whatever the catalog lists: names or shell patterns, at "
        "any depth of a record, also after the stream's name and a dot (`users.email`).",
        default=[],
        default_text="none",
    ),
    Setting(
        "hash_fields",
        patterns(_FIELDS),
        "Fields, named in the same way, whose values are replaced by their hash: 32 hexadecimal "
        "digits of HMAC-SHA256 under `hash_key`. Equal values have equal hashes in every column, "
        "stream and run.",
        default=[],
        default_text="none",
    ),
    Setting(
        "hash_key",
        SECRET,
        "The key of these hashes, a secret. May come from the environment variable "
        f"`{HASH_KEY_VARIABLE}` instead.",
        default_text="required with hash_fields",
        secret=True,
    ),
    Setting(
        "event_types",
        names(
            "a list of EventType values to keep, or of values to leave out, each with ! before it",
            parse_event_types,
        ),
        "Which events are written, by their `EventType`: these, or with `!` before each all but "
        "these (`!navigate`). The others are read and counted.",
        default=[],
        default_text="all",
    ),
    Setting(
        "custom_columns",
        names(
            "a list of custom variables whose suffix tells their type, such as user_plan_str, or "
            "with their type (str, int, real, bool or date, or strs and so on for a list), such as "
            "user_plan:str",
            parse_custom_columns,
        ),
        "Custom variables that are columns of their own in every run, whatever discovery finds.",
        default=[],
        default_text="none",
    ),
    Setting(
        "log_level",
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper),
        "The least severe level that is logged.",
        default="INFO",
    ),
    Setting(
        "metrics_log_level",
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper),
        "The level of METRIC lines, most of the lines of a run: with `DEBUG`, `log_level` hides "
        "them.",
        default="INFO",
    ),
    Setting(
        "log_format",
        choice("text", "json"),
        "How stderr is written: `text`, with the time unless it is a terminal, or "
        "`json`, one object a line with `time`, `level`, `logger` and `message`, `stream` and "
        "`bundle` where known, the members of a METRIC, and for a failure its `kind` and whether "
        "another run may succeed (`retry_may_help`).",
        default="text",
    ),
)


VARIABLE_PREFIX = "TAP_FULLSTORY_"
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


@dataclass(frozen=True)
class Config:
    """The settings of one run, parsed. Timestamps are aware and in UTC."""

    api_key: str = field(repr=False)
    start_date: datetime
    end_date: datetime | None
    export_api: str
    segment_id: tuple[str, ...]
    export_scope: str
    segment_time_range: str
    export_window_hours: int
    export_timeout_minutes: int
    export_delay_hours: int
    data_export_url: str
    api_url: str
    user_agent: str
    request_timeout: int
    checkpoint_events: int
    prefetch_bundles: int
    spool_dir: str
    workers: int
    skip_bundles: frozenset[str]
    max_event_mb: int
    custom_vars_format: str
    replace_nul: bool
    discover_custom_vars: bool
    discover_sample_events: int
    event_digest: bool
    exclude_fields: tuple[str, ...]
    hash_fields: tuple[str, ...]
    hash_key: str | None = field(repr=False)
    event_types: EventFilter | None
    custom_columns: Mapping[str, dict[str, Any]]
    batch_config: BatchConfig | None
    replay_url: bool
    log_level: str
    metrics_log_level: str
    log_format: str


def config_from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
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
    return {name.lower(): value for name, value in found.items()}


def parse_config(raw: Any, now: datetime, environment: Mapping[str, str] = os.environ) -> Config:
    """Turn the decoded config file into a Config. `null` and `""` count as not given, and each
    setting that is not given is read from TAP_FULLSTORY_<SETTING> in the environment.

    Raises UsageError if `raw` is not an object, a value is not allowed, no API key is given, or a
    key looks like one that keeps data out.
    """
    if not isinstance(raw, dict):
        raise UsageError(
            "The config is not a JSON object. It should look like "
            '{"api_key": "...", "start_date": "2026-01-01T00:00:00Z"}.'
        )
    given = _given(raw)
    in_environment = _given(config_from_environment(environment))
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
    if values["start_date"] is None:
        values["start_date"] = _year_before(now)
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
    if unknown := sorted(set(raw) - set(_NAMES)):
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
    return {key: value for key, value in raw.items() if value is not None and value != ""}


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
            f"Config key {setting.name}: {reason}. See docs/settings.md for an example."
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


def _year_before(now: datetime) -> datetime:
    return (now - timedelta(days=365)).astimezone(timezone.utc)
