"""The settings: one table from which parsing, `--about`, the README and plugin files are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tap_fullstory.columns.custom import parse_custom_columns
from tap_fullstory.columns.privacy import parse_event_types
from tap_fullstory.settings.batch import BATCH_CONFIG
from tap_fullstory.settings.types import (
    BOOL,
    IDS,
    SECRET,
    SEGMENT_IDS,
    TIMESTAMP,
    URL,
    SettingType,
    any_text,
    choice,
    header_text,
    int_choice,
    int_range,
    names,
)
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
        "`SegmentId`. For `segment_export` and `individuals` only, as are the next five.",
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
        default=256,
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
        names(_FIELDS),
        "Fields that never leave the tap, whatever the catalog lists: names or shell patterns, at "
        "any depth of a record, also after the stream's name and a dot (`users.email`).",
        default=[],
        default_text="none",
    ),
    Setting(
        "hash_fields",
        names(_FIELDS),
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
        "log_format",
        choice("text", "json"),
        "How stderr is written: `text`, with the time unless it is a terminal, or "
        "`json`, one object a line with `time`, `level`, `logger` and `message`, `stream` and "
        "`bundle` where known, the members of a METRIC, and for a failure its `kind` and whether "
        "another run may succeed (`retry_may_help`).",
        default="text",
    ),
)
