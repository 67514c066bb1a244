"""Fixtures for tests of single answers: a session that does not wait, and what it logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from single_answers import KEY

from tap_fullstory.http.session import HttpSession


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that would have been slept, by backoff or by the tap."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture
def http(waits) -> Iterator[HttpSession]:
    with HttpSession(KEY, "agent/1", 300, waits.append) as http:
        yield http


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What the tap's own loggers say. Singer's metrics throw caplog's handler out of the root's."""
    handler, logger = Lines(), logging.getLogger("tap_fullstory")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.lines
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)
