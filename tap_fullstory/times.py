"""Timestamps: RFC 3339 in, RFC 3339 out, always aware and in UTC."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta, timezone

# RFC 3339, section 5.6: "T" and "Z" may be lower case, a leap second is allowed. A space instead of
# "T" is left to agreement between applications, and FullStory documents none.
_DATE_TIME = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def is_date_time(text: str) -> bool:
    """Return whether `text` is an RFC 3339 date-time, the day of the month included, that targets
    can store: in the years 1 to 9999, as it is written and in UTC, not in a leap second, and with
    an offset that PostgreSQL takes (its manual, "Date/Time Types": up to 15:59).
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None or match[1] == "0000" or match[6] == "60" or (match[9] or "") > "15":
        return False
    if match[1] in ("0001", "9999"):
        try:
            parse_rfc3339(text)
        except ValueError:
            return False
    day = int(match[3])
    return day <= 28 or day <= monthrange(int(match[1]), int(match[2]))[1]


def parse_rfc3339(text: str) -> datetime:
    """Return the time that an RFC 3339 date-time names, in UTC, cut to microseconds.

    FullStory writes nine decimals of a second in places, which datetime.fromisoformat refuses on
    Python 3.10 (developer.fullstory.com, "Get Export Results", `expires`).

    Raises ValueError if `text` is not an RFC 3339 date-time, or is outside the years 1 to 9999.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time")
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
    leap = second == "60"
    try:
        timestamp = datetime(
            int(year), int(month), int(day), int(hour), int(minute), 59 if leap else int(second),
            int((fraction or "0")[:6].ljust(6, "0")), timezone.utc,
        )  # fmt: skip
        offset = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
        return timestamp + timedelta(seconds=leap) - (-offset if sign == "-" else offset)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999") from None


def format_rfc3339(timestamp: datetime) -> str:
    """Return `timestamp` in UTC with a `Z`; seconds only, or microseconds where there are any."""
    text = timestamp.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
    return f"{text}Z"


def from_epoch(seconds: int) -> datetime:
    """Return the time `seconds` after 1970-01-01T00:00:00Z, exact.

    Raises ValueError if it is outside the years 1 to 9999.
    """
    try:
        return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999") from None


def duration(seconds: float) -> str:
    """Return seconds as a person would say them: 50 s, 12 min, 3 h 5 min, 4 days."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 72:
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
