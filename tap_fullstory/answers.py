"""What an answer says beside its body: how long to wait, which bytes it has, what went wrong."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import requests
import urllib3.exceptions

LONGEST_RETRY_AFTER = 300  # seconds; more than that is asked about again rather than believed


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, at most LONGEST_RETRY_AFTER; None if the header does not name any.

    A moment that has passed names none: believed, it would have a server whose clock is slow asked
    again and again.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        try:
            when = parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
        when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        seconds = (when - datetime.now(timezone.utc)).total_seconds()
    return min(seconds, LONGEST_RETRY_AFTER) if seconds > 0 else None


def content_range(value: str) -> tuple[int | None, int | None]:
    """First byte and total of `bytes 5-9/10`; None for what it does not say."""
    unit, _, span = value.partition(" ")
    span, _, total = span.partition("/")
    first = whole_number(span.partition("-")[0])
    if unit != "bytes" or first is None:
        return None, None
    return first, whole_number(total)


def whole_number(text: str) -> int | None:
    """What a header says in digits; None if it says anything else."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def never_sent(error: BaseException) -> bool:
    """Whether no connection came about, so that the server knows nothing of the request."""
    inner = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        inner, urllib3.exceptions.NewConnectionError
    )


def cause_of(error: BaseException) -> str:
    """What went wrong, without addresses: the messages of requests and urllib3 quote queries."""
    deepest: BaseException = error
    while True:
        # urllib3 takes a refused connection for a kind of time-out, and knows better in its cause.
        inner = next((arg for arg in deepest.args if isinstance(arg, BaseException)), None)
        inner = getattr(deepest, "reason", inner) or deepest.__cause__
        if not isinstance(inner, BaseException) or inner is deepest:
            break
        deepest = inner
    if isinstance(deepest, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return "time-out"
    name = type(deepest).__name__
    return getattr(deepest, "strerror", None) or _WORDS.get(name, name)


_WORDS = {
    "IncompleteRead": "the answer broke off",
    "RemoteDisconnected": "the connection was closed without an answer",
}
