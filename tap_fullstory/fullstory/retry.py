"""Retries: throttling is waited out, other passing failures back off exponentially."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import backoff

from tap_fullstory.errors import NetworkError

LOGGER = logging.getLogger(__name__)

MAX_TRIES = 8
# Full jitter draws each wait from 0 to these seconds: 0.5, 1, 2, 4, 8, 16, 30. Together the tries
# outlast a restart of a server or a router, and the next scheduled run does the rest.
INITIAL_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 30
# Throttling is not a failure: a backfill regularly meets the export's two downloads a minute.
MAX_THROTTLED_SECONDS = 3600  # of one request, in total
# Doubled each time, where Retry-After is missing or not valid.
INITIAL_THROTTLE_SECONDS, MAX_THROTTLE_SECONDS = 1, 60

T = TypeVar("T")


class TransientError(NetworkError):
    """Raised when another try may succeed.

    `where` names the URL that failed, if that is not the one first asked for (a redirect's).
    `progressed` tells that the try brought part of a body that the next one need not fetch again.
    """

    def __init__(self, reason: str, where: str | None = None) -> None:
        super().__init__(reason)
        self.where = where
        self.progressed = False


class ResponseLost(TransientError):
    """Raised when a request was sent, and no response, or only part of one, came back."""


class Throttled(Exception):
    """Raised when the server at the URL `where` asks to wait. `seconds` is None if it does not say
    how long.
    """

    def __init__(self, status: int, seconds: float | None, where: str) -> None:
        super().__init__(f"HTTP {status}")
        self.seconds = seconds
        self.where = where


def with_retries(
    attempt: Callable[[], T],
    shown: str,
    sleep: Callable[[float], None],
    tries: int = MAX_TRIES,
    on_throttled: Callable[[float], None] = lambda _: None,
) -> T:
    """Return the result of `attempt`, called again on TransientError and Throttled.

    `shown` names the URL in logs and errors; `sleep` takes seconds, and `on_throttled` is called
    with those that throttling has cost. Tries that made progress, and
    throttling, do not count towards `tries`. Raises NetworkError after that many failures, or once
    the request has been throttled for an hour; anything else that `attempt` raises passes through.
    """
    failures, throttled = 0, 0.0
    waits, throttle_wait = _waits(), float(INITIAL_THROTTLE_SECONDS)
    while True:
        is_throttled = False
        try:
            return attempt()
        except Throttled as answer:
            is_throttled = True
            wait = throttle_wait if answer.seconds is None else answer.seconds
            throttle_wait = min(2 * throttle_wait, MAX_THROTTLE_SECONDS)
            if throttled + wait > MAX_THROTTLED_SECONDS:
                raise NetworkError(
                    f"{answer.where} has been throttled ({answer}) for {throttled:.0f} s. "
                    "Something else uses up the account's rate limit: run fewer exports, or run "
                    "later."
                ) from None
            LOGGER.info("%s is throttled (%s); trying again in %.0f s", answer.where, answer, wait)
            throttled += wait
        except TransientError as error:
            where = error.where or shown
            if error.progressed:
                failures, waits = 0, _waits()
            failures += 1
            if failures >= tries:
                raise NetworkError(
                    f"{where} failed {tries} times, most recently: {error}. Nothing is lost: run "
                    "again with the last state when the network or FullStory is back."
                ) from None
            wait = backoff.full_jitter(next(waits))
            LOGGER.warning(
                "%s: %s; try %d of %d in %.1f s", where, error, failures + 1, tries, wait,
                extra={"code": "retry"},
            )  # fmt: skip
        sleep(wait)
        if is_throttled:
            on_throttled(wait)


def _waits() -> Iterator[float]:
    waits: Iterator[float] = backoff.expo(factor=INITIAL_WAIT_SECONDS, max_value=MAX_WAIT_SECONDS)
    next(waits)  # the generator's first value is for backoff's own decorator
    return waits
