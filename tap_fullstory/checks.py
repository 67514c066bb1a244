"""`--test`: everything that a run would stumble on, before one: folders, network, key, streams."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from tap_fullstory.counts import counted
from tap_fullstory.errors import (
    LEVEL_TOO_LOW,
    AccessError,
    NetworkError,
    SourceError,
    StreamsUnreadable,
    TapError,
)
from tap_fullstory.exports import spool
from tap_fullstory.exports.sources import report_access
from tap_fullstory.fullstory.client import Client
from tap_fullstory.fullstory.failures import environment_in_use
from tap_fullstory.output import batch
from tap_fullstory.selection import Selection
from tap_fullstory.settings import Config
from tap_fullstory.streams import BUNDLES, EVENTS, RestStream, Stream
from tap_fullstory.sync_rest import first_page
from tap_fullstory.times import duration

LOGGER = logging.getLogger(__name__)

LITTLE_ROOM_BYTES = 1_000_000_000  # a bundle of a day can be larger, and several may be kept


def check_folders(config: Config) -> None:
    """Write to the folders that a run writes to, and log how much room they have.

    Raises LocalResourceError if the spool folder cannot be written to, UsageError if that of
    batch_config cannot be.
    """
    spool.verify_folder(config.spool_dir)
    _report_room("spool folder", config.spool_dir)
    if config.batch_config:
        batch.verify_folder(config.batch_config)
        _report_room("batch folder", config.batch_config.root)


def check_environment(config: Config) -> None:
    """Log what the environment contributes to requests: proxies and CA bundles.

    Raises NetworkError if it cannot be used.
    """
    for host in sorted({urlsplit(url).netloc for url in (config.api_url, config.data_export_url)}):
        # Files of segment exports are on a host of https, whatever the APIs' URLs are.
        if found := environment_in_use(f"https://{host}"):
            LOGGER.info("Requests to %s use %s.", host, " and ".join(found))


def check_account(config: Config, selections: list[Selection], client: Client) -> None:
    """Check the key, and read a little of each selected stream.

    Raises StreamsUnreadable if some cannot be read, TapError if FullStory does not accept the key.
    """
    client.prove_key()
    LOGGER.info("FullStory accepts the API key.")
    if client.clock_skew is not None:  # the client warns of one that is far off
        seconds = abs(client.clock_skew.total_seconds())
        LOGGER.info("FullStory's clock differs from this machine's by %s.", duration(seconds))
    _report_datasets(client)
    causes: dict[str, TapError] = {}
    for selection in selections:
        stream = selection.stream
        try:
            _check_stream(config, stream, client)
        except (AccessError, NetworkError, SourceError) as error:
            LOGGER.warning(
                "The stream %s cannot be read: %s", stream.name, error,
                extra={"code": "stream_unreadable", "stream": stream.name},
            )  # fmt: skip
            causes[stream.name] = error
    if not selections:
        LOGGER.warning(
            "The catalog selects no stream, so there is nothing to check.",
            extra={"code": "nothing_selected"},
        )
    if causes:
        raise StreamsUnreadable(causes, len(selections))


def _report_room(what: str, folder: str) -> None:
    free = shutil.disk_usage(Path(folder).expanduser()).free
    room = f"{free / 1e9:.1f} GB"
    if free < LITTLE_ROOM_BYTES:
        LOGGER.warning(
            "The %s %s has only %s free. Free up space there, or name another folder.",
            what, folder, room, extra={"code": "little_room"},
        )  # fmt: skip
    else:
        LOGGER.info("The %s %s can be written to, and has %s free.", what, folder, room)


def _report_datasets(client: Client) -> None:
    """Log what part of the account the key can read: it can be limited to some datasets."""
    try:
        names = client.datasets()
    except TapError as error:
        LOGGER.info("FullStory does not tell which datasets the API key can read: %s", error)
        return
    LOGGER.info("The API key can read these datasets: %s.", ", ".join(names) or "none")


def _check_stream(config: Config, stream: Stream, client: Client) -> None:
    if isinstance(stream, RestStream):
        try:
            records = len(first_page(client, stream))
        except AccessError as error:
            if error.status != LEVEL_TOO_LOW:
                raise
            raise AccessError(f"{error} It needs {stream.needs}.", error.status) from None
        LOGGER.info("The stream %s can be read: %s on its first page.",
                    stream.name, counted(records, "record"))  # fmt: skip
    elif stream is EVENTS:
        report_access(config, client)
    elif stream is BUNDLES:
        LOGGER.info("The stream %s needs no request of its own.", stream.name)
    else:
        LOGGER.info("Only the first export will show whether %s can be read.", stream.name)
