"""The command behind the command line: files in, then discovery or sync."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import singer

from tap_fullstory import catalog, state
from tap_fullstory.client import Client
from tap_fullstory.config import Config, parse_config
from tap_fullstory.errors import UsageError
from tap_fullstory.interrupts import Interrupts
from tap_fullstory.messages import MessageWriter, write_all
from tap_fullstory.sync import sync


def run(options: Namespace, interrupts: Interrupts) -> None:
    """Do what the options ask for. Raises TapError if it fails, Interrupted after a signal."""
    singer.get_logger()  # has Singer's format from here on
    now = datetime.now(timezone.utc)
    config = None
    if options.config:
        config = parse_config(_read_json(options.config, "config"), now)
        _hide(config.api_key)
    if options.discover:
        _discover(config, now)
    elif config is None:
        raise UsageError("A sync needs --config FILE; --help lists the options.")
    else:
        _sync(config, options, interrupts, now)


def _discover(config: Config | None, now: datetime) -> None:
    if config is not None:
        with Client(config) as client:
            client.list_bundles(after=int(now.timestamp()))
    text = json.dumps(catalog.discover(config), indent=2, ensure_ascii=False) + "\n"
    write_all(sys.stdout.fileno(), text.encode())


def _sync(config: Config, options: Namespace, interrupts: Interrupts, now: datetime) -> None:
    if options.catalog and options.properties:
        raise UsageError("--properties is the old name of --catalog: give one of them.")
    path = options.catalog or options.properties
    wanted = _read_json(path, "catalog") if path else catalog.discover(config)
    selections = catalog.select(wanted, config)
    before = state.parse_state(_read_json(options.state, "state") if options.state else {})
    with Client(config) as client:
        writer = MessageWriter(sys.stdout.fileno())
        sync(config, selections, before, client, writer, interrupts, now)


def _read_json(path: str, name: str) -> Any:
    try:
        return json.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"The {name} file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        line = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"The {name} file {path} is no JSON{line}.") from None


def _hide(api_key: str) -> None:
    """Keep the key out of every log line, whoever writes it: an answer may quote it."""
    make = logging.getLogRecordFactory()

    def make_without_key(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if api_key in (message := record.getMessage()):
            record.msg, record.args = message.replace(api_key, "***"), ()
        return record

    logging.setLogRecordFactory(make_without_key)
