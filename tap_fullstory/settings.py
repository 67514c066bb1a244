"""The settings: one table from which parsing, `--about`, the README and Meltano's files are made.

Every value may arrive as a string, since Stitch sends `"300"` and `"true"`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from tap_fullstory.times import parse_rfc3339
from tap_fullstory.version import __version__

API_KEY_VARIABLE = "TAP_FULLSTORY_API_KEY"
MAX_DIGITS = 18  # of an integer given as text

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WITHOUT_ZONE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?")


@dataclass(frozen=True)
class SettingType:
    """What a setting may be.

    `parse` turns a given value into what the tap works with, and raises ValueError if it is not
    allowed. `allowed` says in words what is, `schema` in JSON Schema.
    """

    parse: Callable[[Any], Any]
    allowed: str
    schema: Mapping[str, Any]


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


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _parse_header_text(value: Any) -> str:
    # A line break in a header would start a second header; HTTP/1.1 can carry latin-1 only.
    text = _parse_text(value).strip()
    if not text or not text.isprintable() or not text.isascii():
        raise ValueError
    return text


def _parse_integer(value: Any) -> int:
    digits = rf"\s*[+-]?[0-9]{{1,{MAX_DIGITS}}}\s*"
    is_text = isinstance(value, str) and re.fullmatch(digits, value, re.ASCII)
    if is_text or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    return value


def _parse_bool(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _parse_timestamp(value: Any) -> datetime:
    text = _parse_text(value).strip()
    if _DATE.fullmatch(text):
        text += "T00:00:00Z"
    elif _WITHOUT_ZONE.fullmatch(text):
        # YAML drops the zone of an unquoted date-time, and some print it with a space.
        text = f"{text.replace(' ', 'T')}Z"
    return parse_rfc3339(text)


def _parse_url(value: Any) -> str:
    text = _parse_text(value).strip().rstrip("/")
    parts = urlsplit(text)
    # parts.port raises ValueError for a port that is not valid.
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.port == 0:
        raise ValueError
    if parts.query or parts.fragment or parts.username or parts.password or re.search(r"\s", text):
        raise ValueError
    return text


def _parse_ids(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,\[\]\"]+", value) if part]
    elif isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list):
        raise ValueError
    if any(isinstance(item, bool) or not isinstance(item, (int, str)) for item in value):
        raise ValueError
    return frozenset(str(item) for item in value)


def _text(allowed: str) -> SettingType:
    return SettingType(_parse_text, allowed, {"type": "string"})


def _header_text(allowed: str) -> SettingType:
    return SettingType(_parse_header_text, allowed, {"type": "string"})


def _int_range(low: int, high: int, unit: str = "") -> SettingType:
    def parse(value: Any) -> int:
        number = _parse_integer(value)
        if not low <= number <= high:
            raise ValueError
        return number

    allowed = f"a whole number{f' of {unit}' if unit else ''} from {low} to {high}"
    return SettingType(parse, allowed, {"type": "integer", "minimum": low, "maximum": high})


def _int_choice(*choices: int) -> SettingType:
    def parse(value: Any) -> int:
        number = _parse_integer(value)
        if number not in choices:
            raise ValueError
        return number

    return SettingType(parse, _any_of(*map(str, choices)), {"type": "integer", "enum": choices})


def _choice(*choices: str, fold: Callable[[str], str] = str) -> SettingType:
    """One of `choices`; `fold` is applied to what is given first."""

    def parse(value: Any) -> str:
        text = fold(_parse_text(value))
        if text not in choices:
            raise ValueError
        return text

    return SettingType(parse, _any_of(*choices), {"type": "string", "enum": choices})


def _any_of(*names: str) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


_BOOL = SettingType(_parse_bool, _any_of("true", "false"), {"type": "boolean"})
_TIMESTAMP = SettingType(
    _parse_timestamp,
    "an RFC 3339 date-time such as 2026-01-31T00:00:00Z; without a zone it is UTC, a date alone "
    "is its midnight",
    {"type": "string", "format": "date-time"},
)
_URL = SettingType(
    _parse_url,
    "an http or https URL without query, such as https://export.fullstory.com",
    {"type": "string"},
)
_IDS = SettingType(
    _parse_ids, "a list of bundle ids", {"type": "array", "items": {"type": "string"}}
)

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "api_key",
        _header_text("the key as FullStory shows it"),
        "FullStory API key, of level Architect or Admin. Sent as `Authorization: Basic <key>`, as "
        f"it is. May come from the environment variable `{API_KEY_VARIABLE}` instead.",
        default_text="required",
        secret=True,
    ),
    Setting(
        "start_date",
        _TIMESTAMP,
        "How far back the first sync goes: bundles that end after this time. Later runs continue "
        "from the state and ignore it.",
        default_text="one year before now",
    ),
    Setting(
        "end_date",
        _TIMESTAMP,
        "Bundles that end after this time are left out. Ranges (start_date, end_date] that do not "
        "overlap never share a bundle, so a backfill can be cut into shards.",
        default_text="none",
    ),
    Setting(
        "export_api",
        _choice("data_export", "segment_export"),
        "Which of FullStory's APIs the events come from: `data_export`, the bundles of the Data "
        "Export add-on, or `segment_export`, the newer one, in which the tap creates an export "
        "for each window of time.",
        default="data_export",
    ),
    Setting(
        "segment_id",
        _header_text("the id of a segment, such as everyone"),
        "Whom the exports cover: the id of a segment, as its URL in FullStory shows it. "
        "For `segment_export` and `individuals` only, as are the next three.",
        default="everyone",
    ),
    Setting(
        "export_window_hours",
        _int_choice(*(hours for hours in range(1, 25) if 24 % hours == 0)),
        "Hours of events in one export. Windows are cells of a grid from midnight UTC.",
        default=24,
    ),
    Setting(
        "export_timeout_minutes",
        _int_range(1, 10_080, "minutes"),
        "How long one export may stay unfinished. The next run waits for it once more.",
        default=120,
    ),
    Setting(
        "export_delay_hours",
        _int_range(0, 720, "hours"),
        "How old events must be to be exported. They settle for a day: with less, what arrives "
        "late is missed for good.",
        default=24,
    ),
    Setting(
        "data_export_url",
        _URL,
        "Host of the bundle listing and the downloads.",
        default="https://export.fullstory.com",
    ),
    Setting(
        "api_url",
        _URL,
        "Host of FullStory's other APIs: `https://api.fullstory.com`, or for a key that begins "
        "with `eu1.` `https://api.eu1.fullstory.com`.",
        default_text="by the key",
    ),
    Setting(
        "user_agent",
        _header_text("printable ASCII text"),
        "The User-Agent header of every request.",
        default=f"tap-fullstory/{__version__}",
        default_text="tap-fullstory/<version>",
    ),
    Setting(
        "request_timeout",
        _int_range(1, 86_400, "seconds"),
        "Seconds to wait for a connection, and between two bytes of a response.",
        default=300,
    ),
    Setting(
        "checkpoint_events",
        _int_range(1, 1_000_000_000),
        "At most this many events between two STATE messages.",
        default=10_000,
    ),
    Setting(
        "prefetch_bundles",
        _int_range(0, 100),
        "Bundles downloaded ahead of the one being emitted; 0 turns it off.",
        default=1,
    ),
    Setting(
        "spool_dir",
        _text("the path of a folder"),
        "Where bundles are kept while they are read, compressed and readable by nobody else.",
        default_text="the system's temp folder",
    ),
    Setting(
        "workers",
        _int_range(1, 64),
        "Accepted, but has no effect: one process reads the bundles.",
        default=1,
    ),
    Setting(
        "skip_bundles",
        _IDS,
        "Bundles to leave out, each with a WARNING: the way past one that cannot be read.",
        default=[],
        default_text="none",
    ),
    Setting(
        "max_event_mb",
        _int_range(1, 4096, "megabytes (of 1048576 bytes)"),
        "A single event larger than this is an error.",
        default=256,
    ),
    Setting(
        "custom_vars_format",
        _choice("object", "string"),
        "How `CustomVars` is written: as an object, or as one JSON text for targets that do not "
        "support objects.",
        default="object",
    ),
    Setting(
        "discover_custom_vars",
        _BOOL,
        "Discovery also samples the newest bundle for custom variables, and lists each as a "
        "column that can be selected.",
        default=False,
    ),
    Setting(
        "discover_sample_events",
        _int_range(1, 1_000_000_000),
        "How many events discovery samples at most.",
        default=10_000,
    ),
    Setting(
        "event_digest",
        _BOOL,
        "Adds the column `EventDigest`, a digest of the event as FullStory sent it, and makes it "
        "the key: for targets that upsert.",
        default=False,
    ),
    Setting(
        "log_level",
        _choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", fold=str.upper),
        "The least severe level that is logged.",
        default="INFO",
    ),
    Setting(
        "log_format",
        _choice("text", "json"),
        "How stderr is written: `text`, or `json`, one object a line with `time`, `level`, "
        "`logger` and `message`, the members of a METRIC, and for a failure its `kind` and "
        "whether another run may succeed (`retry_may_help`).",
        default="text",
    ),
)
