"""Retries: throttling is waited out, other passing failures back off exponentially."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import backoff

from tap_fullstory.errors import NetworkError, TapError

LOGGER = logging.getLogger(__name__)

MAX_TRIES = 8
# Full jitter draws each wait from 0 to these seconds: 0.5, 1, 2, 4, 8, 16, 32, 60, 60, ...
INITIAL_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 60
# A sync is tried again for at least as long: a proxy or a router that restarts takes a minute, and
# a run that gives up leaves the rest to the next one, which may be a day away.
MIN_RETRY_SECONDS = 300
# A response that is broken in a way that rarely passes, such as one with too many headers.
MAX_BROKEN_TRIES = 3
# Throttling is not a failure: a backfill regularly meets the export's two downloads a minute.
MAX_THROTTLED_SECONDS = 3600  # of one request, in total
# Doubled each time, where Retry-After is missing or not valid.
INITIAL_THROTTLE_SECONDS, MAX_THROTTLE_SECONDS = 1, 60

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a request is tried: `tries` times, and for `seconds`, whichever is later."""

    tries: int = MAX_TRIES
    seconds: float = 0


ONE_TRY = Patience(1)
BRIEF = Patience()  # somebody waits for the result
PATIENT = Patience(seconds=MIN_RETRY_SECONDS)


class TransientError(NetworkError):
    """Raised when another try may succeed.

    `where` names the URL that failed, if that is not the one first requested (a redirect's).
    `progressed` says that the try brought part of a body that the next one need not fetch again.
    `failure` is what to raise if no try succeeds; `max_tries` limits the tries that end like this.
    """

    def __init__(
        self,
        reason: str,
        where: str | None = None,
        *,
        failure: TapError | None = None,
        max_tries: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.where = where
        self.progressed = False
        self.failure = failure
        self.max_tries = max_tries


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
    patience: Patience,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    on_throttled: Callable[[float], None] = lambda _: None,
) -> T:
    """Return the result of `attempt`, called again on TransientError and Throttled.

    `shown` names the URL in logs and errors; `sleep` and `clock` are in seconds, and `on_throttled`
    is called with those that throttling has cost. Tries that made progress, and throttling, do not
    count. Raises NetworkError, or the `failure` of a TransientError, when `patience` ends, and
    NetworkError once the request has been throttled for an hour; anything else that `attempt`
    raises passes through.
    """
    failures, limited, throttled = 0, 0, 0.0
    since: float | None = None  # when the first of these failures was
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
                    "Something else is using up the account's rate limit: run fewer exports, or "
                    "run later."
                ) from None
            LOGGER.info("%s is throttled (%s); trying again in %.0f s", answer.where, answer, wait)
            throttled += wait
        except TransientError as error:
            where = error.where or shown
            if error.progressed:
                failures, limited, since, waits = 0, 0, None, _waits()
            failures += 1
            limited += error.max_tries is not None
            since = clock() if since is None else since
            is_over = failures >= patience.tries and clock() - since >= patience.seconds
            if is_over or (error.max_tries is not None and limited >= error.max_tries):
                times = "once" if failures == 1 else f"{failures} times"
                raise error.failure or NetworkError(
                    f"{where} failed {times}, most recently: {error}. Nothing is lost: run again "
                    "with the last state when the network or FullStory is back."
                ) from None
            wait = backoff.full_jitter(next(waits))
            number = failures + 1
            total = f" of {patience.tries}" if number <= patience.tries else ""
            LOGGER.warning(
                "%s: %s; try %d%s in %.1f s", where, error, number, total, wait,
                extra={"code": "request_failed"},
            )  # fmt: skip
        sleep(wait)
        if is_throttled:
            on_throttled(wait)


def _waits() -> Iterator[float]:
    waits: Iterator[float] = backoff.expo(factor=INITIAL_WAIT_SECONDS, max_value=MAX_WAIT_SECONDS)
    next(waits)  # the generator's first value is for backoff's own decorator
    return waits
