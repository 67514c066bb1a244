"""What the command line asks for: discovery, a check of access, or a sync."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from datetime import datetime, timezone
from functools import partial
from typing import Any

from singer import metrics

from tap_fullstory import catalog, state
from tap_fullstory.about import about
from tap_fullstory.access import check_streams, discover_access
from tap_fullstory.batch import check_folder
from tap_fullstory.client import Client
from tap_fullstory.columns.names import warn_of_long_names
from tap_fullstory.config import Config, config_from_environment, config_warnings, parse_config
from tap_fullstory.discover import add_custom_variables
from tap_fullstory.errors import AccessError, NetworkError, SourceError, TargetError, UsageError
from tap_fullstory.json_file import read_json
from tap_fullstory.logs.lines import configure_logs
from tap_fullstory.logs.redact import redact_logs
from tap_fullstory.logs.summary import RunSummary
from tap_fullstory.meltano import meltano_rules
from tap_fullstory.messages import MessageWriter, write_all
from tap_fullstory.signals import Signals
from tap_fullstory.sync import sync

LOGGER = logging.getLogger(__name__)


def run(options: Namespace, signals: Signals) -> None:
    """Do what the options ask for. Raises TapError if it fails, Interrupted after a signal."""
    # Singer configures logging when it is imported, and again with every metric.
    metrics.get_logger = logging.getLogger
    configure_logs()
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
        if config.batch_config:
            check_folder(config.batch_config)
        selections = _selections(config, options, signals)
        signals.run_interruptibly(partial(_check_streams, config, selections))
    else:
        _sync(config, options, signals, now)


def _config(options: Namespace, signals: Signals, now: datetime) -> Config:
    from_environment = options.config == "ENV"
    raw = config_from_environment() if from_environment else None
    raw = read_json(options.config, "config", signals) if raw is None else raw
    if isinstance(raw, dict) and raw.get("log_format") == "json":
        configure_logs(form="json")  # for the line that refuses another setting, too
    config = parse_config(raw, now)
    configure_logs(config.log_level, config.log_format)
    redact_logs([config.api_key, config.hash_key or ""])
    for warning in config_warnings(raw, config, now):
        LOGGER.warning("%s", warning)
    return config


def _discover(config: Config | None, signals: Signals, now: datetime) -> None:
    found = catalog.discover(config, meltano_rules())
    if config is not None:
        signals.run_interruptibly(partial(_check_and_sample, found, config, now))
    for entry in found["streams"]:
        warn_of_long_names(entry["stream"], entry["schema"]["properties"])
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_all(_stdout(), text.encode())


def _check_and_sample(found: dict[str, Any], config: Config, now: datetime) -> None:
    with Client(config) as client:
        can_read_events = discover_access(config, client, now)
        if config.discover_custom_vars and can_read_events:
            try:
                add_custom_variables(found, config, client, now)
            except (AccessError, NetworkError, SourceError) as error:
                LOGGER.warning("Discovery found no custom variables: %s", error)


def _check_streams(config: Config, selections: list[catalog.Selection]) -> None:
    with Client(config) as client:
        check_streams(config, selections, client)


def _selections(config: Config, options: Namespace, signals: Signals) -> list[catalog.Selection]:
    path = options.catalog or options.properties
    wanted = read_json(path, "catalog", signals) if path else catalog.discover(config)
    selections = catalog.select(wanted, config, meltano_rules())
    for warning in catalog.catalog_warnings(wanted, config):
        LOGGER.warning("%s", warning)
    for selection in selections:
        warn_of_long_names(selection.name, selection.columns)
    return selections


def _sync(config: Config, options: Namespace, signals: Signals, now: datetime) -> None:
    selections = _selections(config, options, signals)
    given = read_json(options.state, "state", signals) if options.state else {}
    before = state.parse_state(given)
    summary, writer = RunSummary(), MessageWriter(_stdout())
    with Client(config) as client, summary.logged_at_end(config, before, writer, now):
        summary.throttled_seconds = lambda: client.throttled_seconds
        sync(config, selections, before, client, writer, signals, now, summary)
        signals.check()


def _stdout() -> int:
    # Python leaves sys.stdout out where the caller has closed it, and the next file to be opened,
    # a spooled bundle perhaps, would get its number.
    if sys.stdout is None:
        raise TargetError("The output is closed: stdout must lead to a target or to a file.")
    return sys.stdout.fileno()
