"""Responses: their headers parsed, what a status code means, and bodies read up to a limit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import requests
import urllib3.exceptions

from tap_fullstory.errors import AccessError, SourceError
from tap_fullstory.fullstory.failures import describe_error
from tap_fullstory.fullstory.retry import ResponseLost, Throttled, TransientError

READ_BYTES = 64 * 1024
MAX_RETRY_AFTER_SECONDS = 300  # longer waits are cut to this, and the request is repeated


def retry_after(value: str | None) -> float | None:
    """Return the seconds to wait, at most MAX_RETRY_AFTER_SECONDS; None if the header is missing,
    not valid, or names a time that has passed (a server whose clock is slow would otherwise be
    requested again at once, again and again).
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        when = http_date(text)
        if when is None:
            return None
        seconds = (when - datetime.now(timezone.utc)).total_seconds()
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None


def http_date(value: str | None) -> datetime | None:
    """Return the time that a Date header names, in UTC; None if it is missing or not valid."""
    try:
        date = parsedate_to_datetime(value or "")
        return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


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


# A POST that is redirected with another status than these would arrive as a GET (RFC 9110, 15.4).
REDIRECTS = {"GET": (301, 302, 303, 307, 308), "POST": (307, 308)}
USABLE_RANGE = (206, 416)  # besides 200, to a request for a range
_FILES = ("get", "storage")  # the endpoints that files come from
# A signed URL that has expired, or a file that the storage host does not have yet: the API gives
# another URL when it is requested again.
_URL_REFUSED = (400, 401, 403, 404, 410)
MAX_STORAGE_URLS = 4  # the first, and another one three times
# A body that brings less than 1 kB a second for so long counts as cut.
SLOW_SECONDS, SLOW_BYTES = 300, 300 * 1000


class ResourceGone(Exception):
    """Raised on a status that the caller takes to mean that the resource no longer exists."""


class BadRequest(SourceError):
    """Raised on 400: FullStory does not accept the request."""


class StorageRefusal(SourceError):
    """Raised when the storage host refuses a file, whatever URL it is requested at."""

    retry_may_help = True


class UnexpectedBody(SourceError):
    """Raised when a response of status 200 is not what its endpoint returns, such as a web page."""

    retry_may_help = True


def raise_for_status(
    response: requests.Response, shown: str, endpoint: str, *, foreign: bool, ranged: bool
) -> None:
    """Return on 200 (206 and 416 for ranges), and on statuses without a meaning of their own;
    raise otherwise.

    `foreign` tells that the response comes from another host than FullStory's API, after a redirect
    or from a signed URL: its refusals are not about the API key. Raises Throttled, TransientError
    or AccessError.
    """
    status = response.status_code
    if status == 200 or (ranged and status in USABLE_RANGE):
        return
    wait = retry_after(response.headers.get("Retry-After"))
    if status == 429 or ((status >= 500 or status == 403) and wait is not None):
        raise Throttled(status, wait, shown)
    if foreign and endpoint in _FILES and status in _URL_REFUSED:
        raise TransientError(
            f"HTTP {status} from the storage host, the URL may have expired",
            where=shown,
            failure=StorageRefusal(
                f"HTTP {status} from {shown}: the storage host refuses the file, at "
                f"{MAX_STORAGE_URLS} URLs in a row. Nothing is lost: run again with the last "
                "state. If it happens again, check whether a proxy or a firewall blocks that host; "
                "if not, ask FullStory support about this line."
            ),
            max_tries=MAX_STORAGE_URLS,
        )
    if status >= 500 or status in (408, 425, 499):
        raise TransientError(f"HTTP {status}", where=shown)
    meaning = None if foreign else _meaning(status, endpoint)
    if meaning is not None:
        raise AccessError(f"HTTP {status} from {shown}: {meaning}", status)


def _meaning(status: int, endpoint: str) -> str | None:
    return _MEANINGS_AT.get(endpoint, {}).get(status, _MEANINGS.get(status))


_MEANINGS = {
    401: "FullStory does not accept the API key. Check api_key in the config: it is sent as it is, "
    "so it must be the whole key as FullStory showed it, without quotes or a word before it.",
    403: "the API key may not do this. Its level is too low, or the account's plan does not "
    "include it (see Settings, Integrations & API Keys in FullStory).",
    404: "FullStory has no such resource. Check api_url in the config; if it is right, FullStory "
    "has closed this API for the account.",
    410: "FullStory has closed this API for the account. Look for a newer version of this tap.",
}
_EXPORT_MEANINGS = {
    403: "the API key may not do this. Exports need a key of level Architect or higher, and the "
    "Data Export add-on (see Settings, Integrations & API Keys in FullStory).",
}
_BUNDLE_MEANINGS = {
    403: f"{_EXPORT_MEANINGS[403]} If the account has no bundles, try "
    '"export_api": "segment_export" in the config.',
    404: "FullStory has no such resource. Check data_export_url and api_url in the config; if they "
    "are right, the bundle is gone, or FullStory has closed this API, which it calls deprecated, "
    'for the account: try "export_api": "segment_export" in the config.',
    410: "FullStory has closed this API, which it calls deprecated, for the account. Try "
    '"export_api": "segment_export" in the config: it continues from the same state.',
}
_MEANINGS_AT = {
    "list": _BUNDLE_MEANINGS,
    "get": _BUNDLE_MEANINGS,
    **dict.fromkeys(("create", "operation", "results"), _EXPORT_MEANINGS),
}


MAX_ANSWER_BYTES = 64 * 1024 * 1024  # of an API's answer, unpacked; bundles go to disk instead
ERROR_BODY_BYTES = 4 * 1024  # what is read of a refusal's body to quote from


def read_body(
    response: requests.Response, shown: str, clock: Callable[[], float] = time.monotonic
) -> bytes:
    """Return the whole body of the response from `shown`. Raises ResponseLost if it breaks off, or
    is too slow, and SourceError if it is larger than MAX_ANSWER_BYTES.
    """
    body = bytearray()
    for piece in _pieces(response, shown, READ_BYTES, clock):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise SourceError(
                f"{shown} returned more than {MAX_ANSWER_BYTES >> 20} MB, which no FullStory API "
                "should. Check the URL in the config and anything between here and FullStory, such "
                "as a proxy."
            )
    return bytes(body)


def read_beginning(
    response: requests.Response, shown: str, clock: Callable[[], float] = time.monotonic
) -> bytes:
    """Return the first ERROR_BODY_BYTES of a body; less if it is shorter, or breaks off."""
    body = b""
    with suppress(ResponseLost):
        for piece in _pieces(response, shown, ERROR_BODY_BYTES, clock):
            body += piece
            if len(body) >= ERROR_BODY_BYTES:
                break
    return body[:ERROR_BODY_BYTES]


class Pace:
    """Tells how fast a body comes. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since, self._bytes = clock(), 0

    def add(self, count: int) -> None:
        """Count bytes that have come. Raises ResponseLost if they are too few for their time."""
        self._bytes += count
        now = self._clock()
        if now - self._since >= SLOW_SECONDS:
            if self._bytes < SLOW_BYTES:
                raise ResponseLost(
                    f"the body is too slow: {self._bytes} bytes in {now - self._since:.0f} s"
                )
            self._since, self._bytes = now, 0


def _pieces(
    response: requests.Response, shown: str, size: int, clock: Callable[[], float]
) -> Iterator[bytes]:
    pace = Pace(clock)
    try:
        # Not iter_content, which unpacks all that it has read, however much that becomes; and not
        # read(), which waits until `size` bytes have come.
        while piece := response.raw.read1(size, decode_content=True):
            yield piece
            pace.add(len(piece))
    except ResponseLost as error:
        error.where = shown
        raise
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ResponseLost(describe_error(error), where=shown) from None
