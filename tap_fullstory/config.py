"""The config: the settings of one run, from a JSON file or from the environment."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from tap_fullstory.columns.privacy import EventFilter
from tap_fullstory.errors import UsageError
from tap_fullstory.settings.batch import BatchConfig
from tap_fullstory.settings.table import API_KEY_VARIABLE, HASH_KEY_VARIABLE, SETTINGS, Setting
from tap_fullstory.settings.types import NotAllowed
from tap_fullstory.times import format_rfc3339

VARIABLE_PREFIX = "TAP_FULLSTORY_"
MAX_SHOWN = 200  # characters of a refused value, or of unknown keys, that a message quotes
MIN_HASH_KEY = 16  # characters, below which a key is warned of

_NAMES = [setting.name for setting in SETTINGS]
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
    log_format: str


def config_from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what `--config ENV` means: each setting from TAP_FULLSTORY_<SETTING>, as a config file
    would hold it. Variables that begin with TAP_FULLSTORY__ are Meltano's own.
    """
    found = {
        name.removeprefix(VARIABLE_PREFIX): value
        for name, value in environment.items()
        if name.startswith(VARIABLE_PREFIX) and not name.startswith(f"{VARIABLE_PREFIX}_")
    }
    return {name.lower(): value for name, value in found.items()}


def parse_config(raw: Any, now: datetime, environment: Mapping[str, str] = os.environ) -> Config:
    """Turn the decoded config file into a Config. `null` and `""` count as not given.

    Raises UsageError if `raw` is not an object, a value is not allowed, or no API key is given.
    """
    if not isinstance(raw, dict):
        raise UsageError(
            "The config is not a JSON object. It should look like "
            '{"api_key": "...", "start_date": "2026-01-01T00:00:00Z"}.'
        )
    given = _given(raw)
    for key, variable in (("api_key", API_KEY_VARIABLE), ("hash_key", HASH_KEY_VARIABLE)):
        if key not in given and environment.get(variable):
            given[key] = environment[variable]
    if "api_key" not in given:
        raise UsageError(
            "The config has no api_key. Make a key in FullStory (Settings, Integrations & API "
            f"Keys, API Keys), and give it as api_key or in the environment as {API_KEY_VARIABLE}."
        )
    values = {setting.name: _value(setting, given) for setting in SETTINGS}
    if values["hash_fields"] and not values["hash_key"]:
        raise UsageError(
            "The config has hash_fields and no hash_key. Make a key, as with `openssl rand -hex "
            f"32`, keep it, and give it as hash_key or in the environment as {HASH_KEY_VARIABLE}."
        )
    if values["start_date"] is None:
        values["start_date"] = _year_before(now)
    if values["api_url"] is None:
        values["api_url"] = _API_URLS.get(values["api_key"][:4], _DEFAULT_API_URL)
    if values["spool_dir"] is None:
        values["spool_dir"] = _temp_folder()
    return Config(**values)


def config_warnings(raw: Mapping[str, Any], config: Config, now: datetime) -> list[str]:
    """Return what to tell a user of a config that can be used, though not as meant perhaps."""
    warnings = []
    if unknown := sorted(set(raw) - set(_NAMES)):
        warnings.append(f"The config has unknown keys, which have no effect: {_named(unknown)}.")
    if config.workers > 1:
        warnings.append(
            "workers in the config no longer does anything: remove it. One process makes records "
            "faster than any target that we know of loads them."
        )
    if config.hash_key and len(config.hash_key) < MIN_HASH_KEY:
        warnings.append(
            f"hash_key in the config has fewer than {MIN_HASH_KEY} characters: whoever guesses it "
            "can test which address or name a hash belongs to. `openssl rand -hex 32` makes one."
        )
    start, end = format_rfc3339(config.start_date), config.end_date
    if end is not None and config.start_date >= end:
        warnings.append(
            f"start_date ({start}) is not before end_date ({format_rfc3339(end)}): a first run has "
            "nothing to sync."
        )
    of_segments = [one for one in SETTINGS if one.name in ("export_scope", "segment_time_range")]
    without_effect = [one.name for one in of_segments if getattr(config, one.name) != one.default]
    if without_effect and set(config.segment_id) == {"everyone"}:
        warnings.append(
            f"{' and '.join(without_effect)} in the config {_have(without_effect)} no effect on "
            "everyone, which all events match. Set segment_id to another segment."
        )
    if config.start_date > now:
        warnings.append(f"start_date ({start}) is in the future: a first run has nothing to sync.")
    expected = _API_URLS.get(config.api_key[:4])
    hosts = {urlsplit(url).hostname for url in _API_URLS.values()} - {urlsplit(expected).hostname}
    if expected and urlsplit(config.api_url).hostname in hosts:
        warnings.append(
            f"api_url is {config.api_url}, but an API key that begins with {config.api_key[:4]} "
            f"belongs to {expected}. If FullStory refuses the key, take api_url out of the config."
        )
    return warnings


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _given(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value is not None and value != ""}


def _named(unknown: list[str]) -> str:
    named = []
    for key in unknown:
        shown = f"{key[:MAX_SHOWN]}..." if len(key) > MAX_SHOWN else key
        meant = get_close_matches(key[:MAX_SHOWN].lower(), _NAMES, n=1, cutoff=0.75)
        named.append(f"{shown} (did you mean {meant[0]}?)" if meant else shown)
    return ", ".join(named)


def _value(setting: Setting, given: Mapping[str, Any]) -> Any:
    if setting.name not in given:
        return None if setting.default is None else setting.parse(setting.default)
    try:
        return setting.parse(given[setting.name])
    except NotAllowed as reason:
        raise UsageError(
            f"Config key {setting.name}: {reason}. Correct that; the settings' page has an example."
        ) from None
    except ValueError:
        shown = "the value given" if setting.secret else _shown(given[setting.name], given)
        raise UsageError(
            f"Config key {setting.name}: {shown} cannot be used; allowed is {setting.allowed}."
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
