"""Parse response headers."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_SECONDS = 300  # longer waits are cut to this, and the server asked again


def retry_after(value: str | None) -> float | None:
    """Return the seconds to wait, at most MAX_RETRY_AFTER_SECONDS; None if the header is missing,
    not valid, or names a time that has passed (a server whose clock is slow would otherwise be
    asked again at once, again and again).
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
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None


def content_range(value: str) -> tuple[int | None, int | None]:
    """Return first byte and total of `bytes 5-9/10`; None for what is missing or not valid."""
    unit, _, span = value.partition(" ")
    span, _, total = span.partition("/")
    first = parse_digits(span.partition("-")[0])
    if unit != "bytes" or first is None:
        return None, None
    return first, parse_digits(total)


def parse_digits(text: str) -> int | None:
    """Return the number that `text`, at most 18 digits, spells; None if it is anything else."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None
