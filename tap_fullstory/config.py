"""The settings: one table from which parsing and documentation both come.

Every value may arrive as a string, since Stitch sends `"300"` and `"true"`; `null` and `""` count
as not given.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from tap_fullstory.errors import UsageError
from tap_fullstory.times import parse_rfc3339
from tap_fullstory.version import __version__

LOGGER = logging.getLogger(__name__)

API_KEY_VARIABLE = "TAP_FULLSTORY_API_KEY"
SHOWN = 200  # characters of a refused value that an error quotes


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    `parse` turns a given value into what the tap works with, and raises ValueError if it is out of
    `allowed`. `default` is what a missing value means, in the form a config file would hold.
    """

    name: str
    parse: Callable[[Any], Any]
    allowed: str
    description: str
    default: Any = None
    default_text: str = ""
    kind: str = "string"
    secret: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """All that a setting of the kind `option` may be: its `allowed` lists nothing else."""
        return tuple(re.split(r", | or ", self.allowed)) if self.kind == "option" else ()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _header_text(value: Any) -> str:
    # A line break in a header would be a second header; latin-1 is what HTTP/1.1 can carry.
    text = _text(value).strip()
    if not text or not text.isprintable() or not text.isascii():
        raise ValueError
    return text


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        is_text = isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value)
        if is_text or (isinstance(value, float) and value.is_integer()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return parse


def _divisor_of_day(value: Any) -> int:
    hours = _whole(1, 24)(value)
    if 24 % hours:
        raise ValueError
    return hours


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return parse


def _moment(value: Any) -> datetime:
    return parse_rfc3339(_text(value).strip())


def _url(value: Any) -> str:
    text = _text(value).strip().rstrip("/")
    parts = urlsplit(text)
    # parts.port raises ValueError for a port that is none.
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.port == 0:
        raise ValueError
    if parts.query or parts.fragment or parts.username or parts.password or re.search(r"\s", text):
        raise ValueError
    return text


def _ids(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,\[\]\"]+", value) if part]
    elif isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list):
        raise ValueError
    if any(isinstance(item, bool) or not isinstance(item, (int, str)) for item in value):
        raise ValueError
    return frozenset(str(item) for item in value)


MOMENT_FORM = "an RFC 3339 date-time such as 2026-01-31T00:00:00Z"
URL_FORM = "an http or https address without query, such as https://export.fullstory.com"
FLAG_FORM = "true or false"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "api_key",
        _header_text,
        "the key as FullStory shows it",
        "FullStory API key, of level Architect or Admin. Sent as `Authorization: Basic <key>`, as "
        f"it is. May come from the environment variable `{API_KEY_VARIABLE}` instead.",
        default_text="required",
        secret=True,
    ),
    Setting(
        "start_date",
        _moment,
        MOMENT_FORM,
        "How far back the first sync goes: bundles whose end lies after this moment. Later runs "
        "go on from the state and do not look at it.",
        default_text="one year before now",
        kind="date-time",
    ),
    Setting(
        "end_date",
        _moment,
        MOMENT_FORM,
        "Bundles whose end lies after this moment are left alone. Ranges (start_date, end_date] "
        "that do not overlap never share a bundle, so a backfill can be cut into shards.",
        default_text="none",
        kind="date-time",
    ),
    Setting(
        "export_api",
        _choice("data_export", "segment_export"),
        "data_export or segment_export",
        "Which of FullStory's APIs the events come from: `data_export`, the bundles of the Data "
        "Export add-on, or `segment_export`, the newer one, in which the tap orders an export for "
        "each window of time.",
        default="data_export",
        kind="option",
    ),
    Setting(
        "segment_id",
        _header_text,
        "the id of a segment, such as everyone",
        "Whom the exports cover: the id of a segment, as it stands in its address in FullStory. "
        "For `segment_export` and `individuals` only, as are the next three.",
        default="everyone",
    ),
    Setting(
        "export_window_hours",
        _divisor_of_day,
        "1, 2, 3, 4, 6, 8, 12 or 24",
        "Hours of events in one export. Windows lie end to end on a grid from midnight UTC.",
        default=24,
        kind="integer",
    ),
    Setting(
        "export_timeout_minutes",
        _whole(1, 10_080),
        "a whole number of minutes from 1 to 10080",
        "How long one export may stay unfinished. The next run goes on waiting for it, once.",
        default=120,
        kind="integer",
    ),
    Setting(
        "export_delay_hours",
        _whole(0, 720),
        "a whole number of hours from 0 to 720",
        "How old events must be to be exported. They settle for a day: with less, what arrives "
        "late is missed for good.",
        default=24,
        kind="integer",
    ),
    Setting(
        "data_export_url",
        _url,
        URL_FORM,
        "Host of the bundle listing and the downloads.",
        default="https://export.fullstory.com",
    ),
    Setting(
        "api_url",
        _url,
        URL_FORM,
        "Host of FullStory's other APIs.",
        default="https://api.fullstory.com",
    ),
    Setting(
        "user_agent",
        _header_text,
        "printable ASCII text",
        "The User-Agent header of every request.",
        default=f"tap-fullstory/{__version__}",
        default_text="tap-fullstory/<version>",
    ),
    Setting(
        "request_timeout",
        _whole(1, 86_400),
        "a whole number of seconds from 1 to 86400",
        "Seconds to wait for a connection, and between two bytes of an answer.",
        default=300,
        kind="integer",
    ),
    Setting(
        "checkpoint_events",
        _whole(1, 1_000_000_000),
        "a whole number from 1 to 1000000000",
        "At most this many events between two STATE messages.",
        default=10_000,
        kind="integer",
    ),
    Setting(
        "prefetch_bundles",
        _whole(0, 100),
        "a whole number from 0 to 100",
        "Bundles downloaded ahead of the one being emitted; 0 turns it off.",
        default=1,
        kind="integer",
    ),
    Setting(
        "spool_dir",
        _text,
        "the path of a folder",
        "Where bundles lie, compressed and readable by nobody else, while they are read.",
        default_text="the system's temp folder",
    ),
    Setting(
        "workers",
        _whole(1, 64),
        "a whole number from 1 to 64",
        "No longer does anything: one process makes records faster than any target that we know of "
        "loads them. Still accepted, so that old configs work.",
        default=1,
        kind="integer",
    ),
    Setting(
        "skip_bundles",
        _ids,
        "a list of bundle ids",
        "Bundles to leave out, each with a WARNING: the way past one that cannot be read.",
        default=[],
        default_text="none",
        kind="array",
    ),
    Setting(
        "max_event_mb",
        _whole(1, 4096),
        "a whole number of megabytes (of 1048576 bytes) from 1 to 4096",
        "A single event larger than this is an error.",
        default=256,
        kind="integer",
    ),
    Setting(
        "custom_vars_format",
        _choice("object", "string"),
        "object or string",
        "How `CustomVars` is written: as an object, or as one JSON text for targets that know no "
        "objects.",
        default="object",
        kind="option",
    ),
    Setting(
        "discover_custom_vars",
        _flag,
        FLAG_FORM,
        "Discovery also looks into the newest bundle for custom variables, and lists each as a "
        "column that can be selected.",
        default=False,
        kind="boolean",
    ),
    Setting(
        "discover_sample_events",
        _whole(1, 1_000_000_000),
        "a whole number from 1 to 1000000000",
        "How many events discovery looks into at most.",
        default=10_000,
        kind="integer",
    ),
    Setting(
        "event_digest",
        _flag,
        FLAG_FORM,
        "Adds the column `EventDigest`, a digest of the event as FullStory sent it, and makes it "
        "the key: for targets that upsert.",
        default=False,
        kind="boolean",
    ),
)


@dataclass(frozen=True)
class Config:
    """The settings of one run, parsed. Moments are aware and in UTC."""

    api_key: str = field(repr=False)
    start_date: datetime
    end_date: datetime | None
    export_api: str
    segment_id: str
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
    discover_custom_vars: bool
    discover_sample_events: int
    event_digest: bool


def parse_config(raw: Any, now: datetime, environment: Mapping[str, str] = os.environ) -> Config:
    """Turn the decoded config file into a Config.

    Raises UsageError if `raw` is no object, a value is out of range, or no API key is given.
    """
    if not isinstance(raw, dict):
        raise UsageError(
            "The config is no JSON object. It should look like "
            '{"api_key": "...", "start_date": "2026-01-01T00:00:00Z"}.'
        )
    given = {key: value for key, value in raw.items() if value is not None and value != ""}
    unknown = sorted(set(raw) - {setting.name for setting in SETTINGS})
    if unknown:
        LOGGER.warning("The config has keys that this tap does not know: %s.", ", ".join(unknown))
    if "api_key" not in given and environment.get(API_KEY_VARIABLE):
        given["api_key"] = environment[API_KEY_VARIABLE]
    if "api_key" not in given:
        raise UsageError(
            "The config has no api_key. Make a key in FullStory (Settings, Integrations & API "
            f"Keys, API Keys), and give it as api_key or in the environment as {API_KEY_VARIABLE}."
        )
    values = {setting.name: _value(setting, given) for setting in SETTINGS}
    if values["start_date"] is None:
        values["start_date"] = _year_before(now)
    if values["spool_dir"] is None:
        values["spool_dir"] = _temp_folder()
    return Config(**values)


def _value(setting: Setting, given: Mapping[str, Any]) -> Any:
    if setting.name not in given:
        return None if setting.default is None else setting.parse(setting.default)
    try:
        return setting.parse(given[setting.name])
    except ValueError:
        shown = "the value given" if setting.secret else _shown(given[setting.name], given)
        raise UsageError(
            f"Config key {setting.name}: {shown} cannot be used; allowed is {setting.allowed}."
        ) from None


def _shown(value: Any, given: Mapping[str, Any]) -> str:
    """A refused value without what may be secret in it: the key, an address's password or query."""
    text = re.sub(r"(?<=//)[^/?#]*@", "***@", str(value))
    text = re.sub(r"(//.*\?).*", r"\1***", text).replace(str(given["api_key"]), "***")
    return repr(text[:SHOWN]) if isinstance(value, str) else text[:SHOWN]


def _temp_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # none that may be written to: the first bundle says so
        return "/tmp"  # noqa: S108


def _year_before(now: datetime) -> datetime:
    return (now - timedelta(days=365)).astimezone(timezone.utc)
