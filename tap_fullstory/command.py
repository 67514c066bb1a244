"""The command behind the command line: files in, then discovery or sync."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import singer

from tap_fullstory import catalog, state
from tap_fullstory.about import about
from tap_fullstory.bundles.sources import check_access, report_access
from tap_fullstory.client import Client
from tap_fullstory.config import Config, parse_config
from tap_fullstory.discover import add_custom_variables
from tap_fullstory.errors import TapError, TargetError, UsageError
from tap_fullstory.messages import MessageWriter, write_all
from tap_fullstory.redact import redact_logs
from tap_fullstory.signals import Signals
from tap_fullstory.streams import LEVEL_OF_ROLE, LEVELS, STREAMS
from tap_fullstory.sync import sync

LOGGER = logging.getLogger(__name__)


def run(options: Namespace, signals: Signals) -> None:
    """Do what the options ask for. Raises TapError if it fails, Interrupted after a signal."""
    singer.get_logger()  # configures logging in Singer's format
    if options.about:
        write_all(_stdout(), about(options.format or "text").encode())
        return
    now = datetime.now(timezone.utc)
    config = None
    if options.config:
        config = parse_config(_read_json(options.config, "config", signals), now)
        redact_logs([config.api_key])
    if options.discover:
        _discover(config, signals, now)
    elif config is None:
        what = "--test" if options.test else "A sync"
        raise UsageError(f"{what} needs --config FILE; --help lists the options.")
    elif options.test:
        signals.run_interruptibly(partial(_report_access, config))
    else:
        _sync(config, options, signals, now)


def _discover(config: Config | None, signals: Signals, now: datetime) -> None:
    found = catalog.discover(config)
    if config is not None:
        signals.run_interruptibly(partial(_check_and_sample, found, config, now))
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_all(_stdout(), text.encode())


def _check_and_sample(found: dict[str, Any], config: Config, now: datetime) -> None:
    with Client(config) as client:
        check_access(config, client, now)
        _log_key_level(client)
        if config.discover_custom_vars:
            add_custom_variables(found, config, client, now)


def _report_access(config: Config) -> None:
    with Client(config) as client:
        report_access(config, client)


def _log_key_level(client: Client) -> None:
    """Log which streams the API key can read, as far as FullStory says."""
    try:
        role = client.role()
    except TapError as error:
        LOGGER.warning("Could not determine the API key's level (continuing): %s", error)
        return
    level = LEVEL_OF_ROLE.get(role)
    if level is None:
        LOGGER.info("The API key has the undocumented role %s.", role)
        return
    reached = LEVELS[: LEVELS.index(level) + 1]
    beyond = [stream for stream in STREAMS if stream.level not in reached]
    LOGGER.info(
        "The API key has the level %s, which is enough for %s.",
        level,
        f"all streams but {', '.join(stream.name for stream in beyond)}, which need "
        f"{beyond[0].level}" if beyond else "all streams",
    )  # fmt: skip


def _sync(config: Config, options: Namespace, signals: Signals, now: datetime) -> None:
    if options.catalog and options.properties:
        raise UsageError("--properties is the old name of --catalog: give one of them.")
    path = options.catalog or options.properties
    wanted = _read_json(path, "catalog", signals) if path else catalog.discover(config)
    selections = catalog.select(wanted, config)
    given = _read_json(options.state, "state", signals) if options.state else {}
    before = state.parse_state(given)
    with Client(config) as client:
        writer = MessageWriter(_stdout())
        sync(config, selections, before, client, writer, signals, now)


def _read_json(path: str, name: str, signals: Signals) -> Any:
    try:
        # It may be a pipe that somebody else still has to write to.
        return json.loads(signals.run_interruptibly(partial(Path(path).read_text, "utf-8-sig")))
    except OSError as error:
        raise UsageError(f"The {name} file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        line = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"The {name} file {path} is no JSON{line}.") from None


def _stdout() -> int:
    # Python leaves sys.stdout out where the caller has closed it, and the next file to be opened,
    # a spooled bundle perhaps, would get its number.
    if sys.stdout is None:
        raise TargetError("The output is closed: stdout must lead to a target or to a file.")
    return sys.stdout.fileno()
