"""What an API key and its account can read: for discovery, and for `--test`."""

from __future__ import annotations

import logging
from datetime import datetime

from tap_fullstory.bundles.sources import check_access, report_access
from tap_fullstory.catalog import Selection
from tap_fullstory.client import Client
from tap_fullstory.config import Config
from tap_fullstory.errors import (
    LEVEL_TOO_LOW,
    WRONG_KEY,
    AccessError,
    NetworkError,
    SourceError,
    StreamsUnreadable,
    TapError,
)
from tap_fullstory.rest_pages import first_page
from tap_fullstory.streams import EVENTS, LEVEL_OF_ROLE, LEVELS, STREAMS, RestStream, Stream

LOGGER = logging.getLogger(__name__)


def discover_access(config: Config, client: Client, now: datetime) -> bool:
    """Check the key, log which streams it can read, and return whether events are among them.

    Raises AccessError if FullStory does not accept the key, and TapError if no call succeeds.
    """
    proven = log_key_level(client)
    try:
        check_access(config, client, now)
    except (AccessError, NetworkError, SourceError) as error:
        if not proven:
            raise
        LOGGER.warning(
            "The stream %s cannot be read. It needs %s. %s", EVENTS.name, EVENTS.needs, error
        )
        return False
    return True


def log_key_level(client: Client) -> bool:
    """Log which streams the API key can read, and return whether FullStory told.

    Raises AccessError if FullStory does not accept the key.
    """
    try:
        role = client.role()
    except TapError as error:
        if isinstance(error, AccessError) and error.status == WRONG_KEY:
            raise
        LOGGER.warning("Could not determine the API key's level (continuing): %s", error)
        return False
    level = LEVEL_OF_ROLE.get(role)
    if level is None:
        LOGGER.info("The API key has the undocumented role %s.", role)
        return True
    reached = LEVELS[: LEVELS.index(level) + 1]
    beyond = [stream for stream in STREAMS if stream.level not in reached]
    LOGGER.info(
        "The API key has the level %s, which is enough for %s.",
        level,
        f"all streams but {', '.join(stream.name for stream in beyond)}, which need "
        f"{beyond[0].level}" if beyond else "all streams",
    )  # fmt: skip
    return True


def check_streams(config: Config, selections: list[Selection], client: Client) -> None:
    """Check the key, and read a little of each selected stream.

    Raises StreamsUnreadable if some cannot be read, TapError if FullStory does not accept the key.
    """
    client.prove_key()
    LOGGER.info("FullStory accepts the API key.")
    causes: dict[str, TapError] = {}
    for selection in selections:
        stream = selection.stream
        try:
            _check_stream(config, stream, client)
        except (AccessError, NetworkError, SourceError) as error:
            LOGGER.warning("The stream %s cannot be read: %s", stream.name, error)
            causes[stream.name] = error
    if not selections:
        LOGGER.warning("The catalog selects no stream, so there is nothing to check.")
    if causes:
        raise StreamsUnreadable(causes, len(selections))


def _check_stream(config: Config, stream: Stream, client: Client) -> None:
    try:
        if isinstance(stream, RestStream):
            records = len(first_page(client, stream))
            LOGGER.info("The stream %s can be read: %d records on its first page.",
                        stream.name, records)  # fmt: skip
        elif stream is EVENTS:
            report_access(config, client)
        else:
            LOGGER.info("The first export will tell whether %s can be read.", stream.name)
    except AccessError as error:
        if error.status != LEVEL_TOO_LOW:
            raise
        raise AccessError(f"{error} It needs {stream.needs}.", error.status) from None
