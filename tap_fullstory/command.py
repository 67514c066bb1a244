"""What the command line requests: discovery, a test of what the key can read, or a sync."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from datetime import datetime, timezone
from functools import partial
from typing import Any

from tap_fullstory import bookmarks, catalog
from tap_fullstory.about import about
from tap_fullstory.bookmarks import EVERYONE
from tap_fullstory.checks import check_account, check_environment, check_folders
from tap_fullstory.counts import counted
from tap_fullstory.discover import add_custom_variables
from tap_fullstory.errors import (
    WRONG_KEY,
    AccessError,
    NetworkError,
    SourceError,
    TapError,
    TargetError,
    UsageError,
)
from tap_fullstory.exports.sources import verify_access
from tap_fullstory.fields import warn_of_long_names
from tap_fullstory.fullstory.client import Client
from tap_fullstory.fullstory.retry import PATIENT
from tap_fullstory.json_files import read_json
from tap_fullstory.logs.lines import configure_logs, log_warnings
from tap_fullstory.logs.metrics import configure_metrics, restore_logs
from tap_fullstory.logs.progress import RunSummary
from tap_fullstory.logs.redact import redact_logs
from tap_fullstory.meltano import meltano_rules
from tap_fullstory.output.messages import MessageWriter, write_all
from tap_fullstory.run import Run
from tap_fullstory.selection import Selection, catalog_warnings, select
from tap_fullstory.settings import Config, config_from_environment, config_warnings, parse_config
from tap_fullstory.signals import Signals
from tap_fullstory.streams import EVENTS, LEVEL_OF_ROLE, LEVELS, STREAMS
from tap_fullstory.sync import sync

LOGGER = logging.getLogger(__name__)


def discover_access(config: Config, client: Client, now: datetime) -> bool:
    """Check the key, log which streams it can read, and return whether events are among them.

    Raises AccessError if FullStory does not accept the key, and TapError if no call succeeds.
    """
    proven = log_key_level(client)
    try:
        verify_access(config, client, now)
    except (AccessError, NetworkError, SourceError) as error:
        if not proven:
            raise
        LOGGER.warning(
            "The stream %s cannot be read: %s", EVENTS.name, error,
            extra={"code": "stream_unreadable", "stream": EVENTS.name},
        )  # fmt: skip
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
        LOGGER.warning(
            "Could not determine the API key's level (continuing): %s", error,
            extra={"code": "key_level_unknown"},
        )  # fmt: skip
        return False
    level = LEVEL_OF_ROLE.get(role)
    if level is None:
        LOGGER.info("The API key has the undocumented role %s.", role)
        return True
    reached = LEVELS[: LEVELS.index(level) + 1]
    beyond = [stream for stream in STREAMS if stream.level not in reached]
    LOGGER.info(
        "The API key has level %s; it can read every stream%s.",
        level,
        f" except {', '.join(stream.name for stream in beyond)} (these need {beyond[0].level})"
        if beyond else "",
    )  # fmt: skip
    return True


def run(options: Namespace, signals: Signals) -> None:
    """Do what the options ask for. Raises TapError if it fails, Interrupted after a signal."""
    restore_logs()
    if options.about:
        write_all(_stdout(), about(options.format or "text").encode())
        return
    now = datetime.now(timezone.utc)
    config = _config(options, signals, now) if options.config else None
    if options.discover:
        _discover(config, signals, now)
    elif config is None:
        what = "--test" if options.test else "A sync"
        raise UsageError(f"{what} needs --config FILE; --help lists the options.")
    elif options.test:
        selections = _selections(config, options, signals)
        _report_other_streams(selections)
        check_folders(config)
        signals.run_interruptibly(partial(_test, config, selections))
    else:
        _sync(config, options, signals, now)


def _config(options: Namespace, signals: Signals, now: datetime) -> Config:
    variables, no_file = config_from_environment(), options.config == "ENV"
    raw = {} if no_file else read_json(options.config, "config", signals)
    given = {**variables, **raw} if isinstance(raw, dict) else variables
    if given.get("log_format") == "json":
        configure_logs(form="json")  # for the line that refuses another setting, too
    config = parse_config(raw, now)
    configure_logs(config.log_level, config.log_format)
    configure_metrics(config.metrics_log_level)
    redact_logs([config.api_key, config.hash_key or ""])
    log_warnings(config_warnings(variables if no_file else raw, config, now))
    return config


def _discover(config: Config | None, signals: Signals, now: datetime) -> None:
    found = catalog.discover(config, meltano_rules())
    if config is not None:
        signals.run_interruptibly(partial(_verify_and_sample, found, config, now))
    for entry in found["streams"]:
        warn_of_long_names(entry["stream"], entry["schema"]["properties"])
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_all(_stdout(), text.encode())


def _verify_and_sample(found: dict[str, Any], config: Config, now: datetime) -> None:
    with Client(config) as client:
        can_read_events = discover_access(config, client, now)
        if config.discover_custom_vars and can_read_events:
            try:
                add_custom_variables(found, config, client, now)
            except (AccessError, NetworkError, SourceError) as error:
                LOGGER.warning(
                    "Discovery found no custom variables: %s", error,
                    extra={"code": "no_custom_variables"},
                )  # fmt: skip


def _test(config: Config, selections: list[Selection]) -> None:
    check_environment(config)
    with Client(config) as client:
        check_account(config, selections, client)


def _selections(config: Config, options: Namespace, signals: Signals) -> list[Selection]:
    path = options.catalog or options.properties
    wanted = read_json(path, "catalog", signals) if path else catalog.discover(config)
    selections = select(wanted, config, meltano_rules())
    _require_segment_export(config, selections)
    log_warnings(catalog_warnings(wanted, config))
    for selection in selections:
        warn_of_long_names(selection.name, selection.columns)
    return selections


def _report_other_streams(selections: list[Selection]) -> None:
    """Log what is selected besides events, and what each run requests for it: a runner may select
    every stream unless it is told otherwise.
    """
    others = [one for one in selections if one.stream is not EVENTS]
    if others:
        LOGGER.info(
            "Selected besides events: %s, with what each run requests for them: %s.",
            counted(len(others), "stream"),
            "; ".join(f"{one.name} ({one.stream.cost})" for one in others),
        )  # fmt: skip


def _require_segment_export(config: Config, selections: list[Selection]) -> None:
    """Raise UsageError if the events of a segment are wanted, and everybody's would be written."""
    reads_events = any(selection.stream is EVENTS for selection in selections)
    if config.export_api == "data_export" and reads_events and config.segment_id != (EVERYONE,):
        raise UsageError(
            "Config key segment_id: data_export has everybody's events and cannot be restricted to "
            'a segment. Set "export_api": "segment_export", or remove segment_id.'
        )


def _sync(config: Config, options: Namespace, signals: Signals, now: datetime) -> None:
    selections = _selections(config, options, signals)
    given = read_json(options.state, "state", signals) if options.state else {}
    before = bookmarks.parse_state(given)
    if not before["bookmarks"]:
        _report_other_streams(selections)
    summary, writer = RunSummary(), MessageWriter(_stdout())
    with (
        Client(config, patience=PATIENT) as client,
        summary.logged_at_end(config, before, writer, now),
    ):
        summary.throttled_seconds = lambda: client.throttled_seconds
        sync(Run(config, client, writer, signals, summary, now), selections, before)
        signals.raise_if_arrived()


def _stdout() -> int:
    # Python leaves sys.stdout out where the caller has closed it, and the next file to be opened,
    # a spooled bundle perhaps, would get its number.
    if sys.stdout is None:
        raise TargetError("The output is closed: stdout must lead to a target or to a file.")
    return sys.stdout.fileno()
