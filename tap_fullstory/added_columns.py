"""Columns of the exports that no field of FullStory's fills: the config asks for them, and the tap
makes their values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote, urlsplit

from tap_fullstory.fields import Fate, FieldRules
from tap_fullstory.settings import Config
from tap_fullstory.streams import EVENTS, INDIVIDUALS, Stream

REPLAY_URL, SEGMENT_ID, BUNDLE_ID = "ReplayUrl", "SegmentId", "BundleId"
# What a replay's URL is made of.
REPLAY_COLUMNS = frozenset({"UserId", "SessionId"})

_REPLAY_URL_SCHEMA = {
    "type": ["null", "string"],
    "description": "Address of the session's replay in the FullStory app. The tap "
    "computes it, since FullStory exports no such field, from the organization, UserId and "
    "SessionId. Absent where an id is.",
}

_SEGMENT_ID_SCHEMA = {
    "type": ["string"],
    "description": "Id of the segment whose export the row comes from, one of segment_id in the "
    "config. Added by the tap.",
}

_BUNDLE_ID_SCHEMA = {
    "type": ["string"],
    "description": "Id of the bundle that the row comes from, or for a segment export its window, "
    "with the segment before it if there are several; the stream bundles has a row for it. Added "
    "by the tap.",
}


def segments_of(stream: Stream, config: Config | None) -> tuple[str, ...]:
    """Return the segments that a stream is exported for, one after the other; none if it does not
    come from segment exports.
    """
    by_segment = stream is EVENTS and config is not None and config.export_api == "segment_export"
    return config.segment_id if config is not None and (by_segment or stream is INDIVIDUALS) else ()


def added_columns(stream: Stream, config: Config | None) -> dict[str, dict[str, Any]]:
    """Return the schemas, by name, of the columns that the config adds to a stream."""
    found = {}
    if config is not None and config.replay_url and stream is EVENTS:
        found[REPLAY_URL] = dict(_REPLAY_URL_SCHEMA)
    if len(segments_of(stream, config)) > 1:
        found[SEGMENT_ID] = dict(_SEGMENT_ID_SCHEMA)
    if config is not None and config.bundle_id and stream is EVENTS:
        found[BUNDLE_ID] = dict(_BUNDLE_ID_SCHEMA)
    return found


def with_segment(keys: list[str], stream: Stream, config: Config | None) -> list[str]:
    """Return the key of a stream's rows: one may come for each of several segments."""
    return [SEGMENT_ID, *keys] if keys and len(segments_of(stream, config)) > 1 else keys


def chosen_columns(
    added: dict[str, dict[str, Any]],
    keys: list[str],
    choice: Callable[[str], bool | None],
    columns: Collection[str],
    rules: FieldRules,
) -> dict[str, dict[str, Any]]:
    """Return those of `added` that are written beside `columns`, the selected ones, where `choice`
    tells what the catalog says.
    """
    chosen = {name for name in added if name in keys or choice(name) is not False}
    # Who deselects, excludes or hashes an id does not want it in a URL either.
    readable = {name for name in (*columns, REPLAY_URL) if rules.fate(name) is Fate.KEPT}
    if not readable >= {REPLAY_URL, *REPLAY_COLUMNS}:
        chosen -= {REPLAY_URL}
    return rules.schema({name: schema for name, schema in added.items() if name in chosen})


def replays(config: Config, organization: str) -> str:
    """Return what the URL of each replay begins with: the app's host in the account's data centre,
    and the organization.

    Key, API host and the id of the organization may name the data centre (developer.fullstory.com,
    "Getting Started"). The form is that of developer.fullstory.com, "Anywhere: Activation", and of
    `app_url` in the answers of "List Sessions".
    """
    is_eu = (
        config.api_key.startswith("eu1.")
        or urlsplit(config.api_url).hostname == "api.eu1.fullstory.com"
        or organization.endswith("-eu1")
    )
    host = "app.eu1.fullstory.com" if is_eu else "app.fullstory.com"
    return f"https://{host}/ui/{quote(organization, safe='')}/session/"
