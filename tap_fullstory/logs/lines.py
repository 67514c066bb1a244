"""Logging to stderr: Singer's text lines, or one JSON object a line.

Needs the standard library only, so that it works where nothing else can be imported.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tap_fullstory.errors import CodedWarning

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:  # not generic before Python 3.11
    _StreamHandler = logging.StreamHandler

LOGGER = logging.getLogger(__name__)

TEXT_FORMAT = "%(levelname)s %(message)s"  # as singer-python has it
_METRIC = "METRIC: "
MELTANO_VARIABLE = "SINGER_SDK_LOG_CONFIG"  # Meltano sets it for whoever writes JSON lines
# What a line of JSON may have beside time, level, logger and message, and what each means: people
# write alerts on these. docs/operations.md lists them.
MEMBERS = {
    "run_id": "every line: a UUID, the same in all lines of a run",
    "code": "every WARNING: a word that does not change",
    "stream": "what is about a stream: its id",
    "bundle": "what is about a bundle: its id",
    "bundle_start": "the line of a bundle: where its period begins, RFC 3339",
    "bundle_end": "the line of a bundle: where its period ends",
    "events": "the line of a bundle, and the last line: events that this run has read",
    "seconds": "the line of a bundle, and the last line: how long it took",
    "resumed_after": "the line of a bundle: events in it that an earlier run had read, or 0",
    "outcome": "the last line: `done`, `failed` or `stopped`",
    "bundles": "the last line: bundles completed",
    "records": "the last line: records of streams that have no bundles",
    "throttled_seconds": "the last line: how long FullStory's rate limits made the run wait",
    "newest_bundle_end": "the last line: the end of the newest bundle that there is, or `null`",
    "state_bundle_end": "the last line: how far the state covers events, or `null`",
    "kind": "a CRITICAL line: `config`, `access`, `source`, `network`, `data`, `machine`, "
    "`target`, `defect` or `several`",
    "retry_may_help": "a CRITICAL line: whether another run may succeed with nothing changed",
}
_NOTED = "_log_members"  # an exception's attribute

_members_in_force: ContextVar[Mapping[str, str]] = ContextVar("log members", default={})  # noqa: B039


@contextmanager
def log_members(**members: str) -> Iterator[None]:
    """Add members to the JSON lines that are logged within, and to that of an error that ends it.

    A thread has those of its context only: see contextvars.copy_context.
    """
    token = _members_in_force.set({**_members_in_force.get(), **members})
    try:
        yield
    except BaseException as error:
        if not hasattr(error, _NOTED):
            setattr(error, _NOTED, _members_in_force.get())
        raise
    finally:
        _members_in_force.reset(token)


def members_of(error: BaseException) -> Mapping[str, str]:
    """Return the members that were in force where an error arose."""
    noted: Mapping[str, str] = getattr(error, _NOTED, {})
    return noted


def new_run_id() -> str:
    """Return an id for the member `run_id`."""
    return str(uuid.uuid4())


def log_warnings(warnings: Iterable[CodedWarning]) -> None:
    """Log each at WARNING with its code."""
    for warning in warnings:
        LOGGER.warning("%s", warning.text, extra={"code": warning.code})


def configure_logs(level: str = "INFO", form: str = "text") -> None:
    """Log everything from `level` up to stderr, in the form `text` or `json`; under Meltano, in the
    JSON that its log parser takes.

    Lines of text have the time after the level, but for METRIC lines, and unless stderr is a
    terminal.
    """
    handler = _StderrHandler(sys.stderr)
    if os.environ.get(MELTANO_VARIABLE):
        handler.setFormatter(_MeltanoFormatter())
    else:
        handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class _StderrHandler(_StreamHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Let the caller know if the line is the one that says why the run failed."""
        if record.levelno >= logging.CRITICAL:
            raise  # called within an except block


class _TextFormatter(logging.Formatter):
    """With a time, for files and collectors of logs; at a terminal one sees when a line comes."""

    def __init__(self) -> None:
        super().__init__(TEXT_FORMAT)
        self._is_timed = sys.stderr is not None and not sys.stderr.isatty()

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        # What reads metrics wants them as singer.metrics.parse does: `INFO METRIC: `, then JSON.
        if not self._is_timed or record.message.startswith(_METRIC):
            return super().formatMessage(record)
        return f"{record.levelname} {_time_of(record)} {record.message}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        own = {name: getattr(record, name) for name in MEMBERS if hasattr(record, name)}
        members = {**_members_in_force.get(), **own}
        line = {**self._head(record, members.get("stream")), "message": message, **members}
        if message.startswith(_METRIC):
            line.update(_members(message.removeprefix(_METRIC)))
        return json.dumps(line)

    def _head(self, record: logging.LogRecord, _: str | None) -> dict[str, Any]:
        return {"time": _time_of(record), "level": record.levelname, "logger": record.name}


class _MeltanoFormatter(_JsonFormatter):
    """With all members that meltano.core.logging.parsers.SingerSDKLogParser requires: a line that
    lacks one is INFO to Meltano, whatever its level.
    """

    def _head(self, record: logging.LogRecord, stream: str | None) -> dict[str, Any]:
        return {
            "level": record.levelname.lower(),
            "pid": record.process,
            "logger_name": record.name,
            "ts": record.created,
            "thread_name": record.threadName,
            "app_name": "tap-fullstory",
            "stream_name": stream,
        }


def _time_of(record: logging.LogRecord) -> str:
    """When a line was logged, in UTC, to the millisecond."""
    created = datetime.fromtimestamp(record.created, timezone.utc)
    return f"{created:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def _members(text: str) -> dict[str, Any]:
    try:
        members = json.loads(text)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}
