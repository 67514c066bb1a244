"""Columns of the exports that no field of FullStory's fills: the config asks for them, and the tap
makes their values.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from tap_fullstory.config import Config
from tap_fullstory.streams import EVENTS, Stream

REPLAY_URL = "ReplayUrl"
# What a replay's URL is made of.
REPLAY_COLUMNS = frozenset({"UserId", "SessionId"})

_REPLAY_URL_SCHEMA = {
    "type": ["null", "string"],
    "description": "Address of the session's replay in the FullStory app. The tap "
    "computes it, since FullStory exports no such field, from the organization, UserId and "
    "SessionId. Absent where an id is.",
}


def added_columns(stream: Stream, config: Config | None) -> dict[str, dict[str, Any]]:
    """Return the schemas, by name, of the columns that the config adds to a stream."""
    found = {}
    if config is not None and config.replay_url and stream is EVENTS:
        found[REPLAY_URL] = dict(_REPLAY_URL_SCHEMA)
    return found


def is_written(name: str, columns: set[str]) -> bool:
    """Return whether an added column can be written beside `columns`, those selected."""
    # Who deselects an id does not want it in a URL either.
    return name != REPLAY_URL or columns >= REPLAY_COLUMNS


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
