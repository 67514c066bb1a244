"""Logging to stderr: Singer's text lines, or one JSON object a line.

Needs the standard library only, so that it works where nothing else can be imported.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:  # not generic before Python 3.11
    _StreamHandler = logging.StreamHandler

TEXT_FORMAT = "%(levelname)s %(message)s"  # as singer-python has it
_METRIC = "METRIC: "
_EXTRA_MEMBERS = ("stream", "bundle", "kind", "retry_may_help")  # that a line may bring itself
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


def configure_logs(level: str = "INFO", form: str = "text") -> None:
    """Log everything from `level` up to stderr, in the form `text` or `json`.

    Lines of text have the time after the level, but for METRIC lines, and unless stderr is a
    terminal.
    """
    handler = _StderrHandler(sys.stderr)
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
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
            **_members_in_force.get(),
        }
        line.update(
            {name: getattr(record, name) for name in _EXTRA_MEMBERS if hasattr(record, name)}
        )
        if message.startswith(_METRIC):
            line.update(_members(message.removeprefix(_METRIC)))
        return json.dumps(line)


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
