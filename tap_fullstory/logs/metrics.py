"""METRIC lines, as singer-python writes them, without what it does to logging.

The one home of the workarounds for singer-python: it configures logging when it is imported, and
again whenever a Counter or Timer is made, at which lines of other threads can be lost, or deadlock
at exit.
"""

from __future__ import annotations

import logging
from typing import Any

from singer import metrics

from tap_fullstory.logs.lines import configure_logs

LOGGER = logging.getLogger(__name__)


def configure_metrics(level: str = "INFO") -> None:
    """Log METRIC lines at `level`, and stop singer-python from configuring logging."""
    logger = _MetricsLogger(logging.getLevelName(level))
    metrics.get_logger = lambda: logger


def restore_logs() -> None:
    """Undo what importing singer-python has done to logging."""
    configure_metrics()
    configure_logs()


class _MetricsLogger:
    """What singer.metrics uses of a logger: it writes every line with `info`."""

    def __init__(self, level: int) -> None:
        self._level = level

    def info(self, text: str, *args: Any) -> None:
        LOGGER.log(self._level, text, *args)


class RequestTimer(metrics.Timer):  # type: ignore[misc]  # singer ships no types
    """As singer.metrics.http_request_timer, with the status of the response among the tags."""

    def __init__(self, endpoint: str) -> None:
        tags: dict[str, Any] = {metrics.Tag.endpoint: endpoint}
        super().__init__(metrics.Metric.http_request_duration, tags)

    def note_status(self, status: int) -> None:
        """Add the status of the response to the tags; from 400 on, the request has failed."""
        self.tags[metrics.Tag.http_status_code] = status
        if status >= 400:
            self.tags[metrics.Tag.status] = metrics.Status.failed
