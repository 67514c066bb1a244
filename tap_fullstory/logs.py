"""Logging to stderr: Singer's text lines, or one JSON object a line.

Needs the standard library only, so that it works where nothing else can be imported.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:  # not generic before Python 3.11
    _StreamHandler = logging.StreamHandler

TEXT_FORMAT = "%(levelname)s %(message)s"  # as singer-python has it
_METRIC = "METRIC: "
FAILURE_MEMBERS = ("kind", "retry_may_help")


def configure_logs(level: str = "INFO", form: str = "text") -> None:
    """Log everything from `level` up to stderr, in the form `text` or `json`."""
    handler = _StderrHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else logging.Formatter(TEXT_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class _StderrHandler(_StreamHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Let the caller know if the line is the one that says why the run failed."""
        if record.levelno >= logging.CRITICAL:
            raise  # called within an except block


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        time = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        line.update(
            {name: getattr(record, name) for name in FAILURE_MEMBERS if hasattr(record, name)}
        )
        if message.startswith(_METRIC):
            line.update(_members(message.removeprefix(_METRIC)))
        return json.dumps(line)


def _members(text: str) -> dict[str, Any]:
    try:
        members = json.loads(text)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}
