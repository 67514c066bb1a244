"""Responses: their headers parsed, what a status code means, and bodies read up to a limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import requests
import urllib3.exceptions

from tap_fullstory.errors import AccessError, SourceError
from tap_fullstory.fullstory.failures import describe_error
from tap_fullstory.fullstory.retry import ResponseLost, Throttled, TransientError

READ_BYTES = 64 * 1024
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


# A POST that is redirected with another status than these would arrive as a GET (RFC 9110, 15.4).
REDIRECTS = {"GET": (301, 302, 303, 307, 308), "POST": (307, 308)}
USABLE_RANGE = (206, 416)  # besides 200, to a request for a range


class ResourceGone(Exception):
    """Raised on a status that the caller takes to mean that the resource no longer exists."""


class BadRequest(SourceError):
    """Raised on 400: FullStory does not accept what was asked for."""


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
    if status == 429 or (status >= 500 and wait is not None):
        raise Throttled(status, wait, shown)
    if foreign and status in (400, 403):
        # An expired signed URL: the API gives a new one when asked again.
        raise TransientError(
            f"HTTP {status} from the storage host, the URL may have expired", where=shown
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
    404: "FullStory does not have this. Check api_url in the config; if it is right, FullStory has "
    "closed this API for the account.",
    410: "FullStory has closed this API for the account. Look for a newer version of this tap.",
}
_EXPORT_MEANINGS = {
    403: "the API key may not do this. Exports need a key of level Architect or higher, and the "
    "Data Export add-on (see Settings, Integrations & API Keys in FullStory).",
}
_BUNDLE_MEANINGS = {
    403: f"{_EXPORT_MEANINGS[403]} If the account has no bundles, try "
    '"export_api": "segment_export" in the config.',
    404: "FullStory does not have this. Check data_export_url and api_url in the config; if they "
    "are right, the bundle is gone, or FullStory has closed this API, which it calls deprecated, "
    'for the account: try "export_api": "segment_export" in the config.',
    410: "FullStory has closed this API, which it calls deprecated, for the account. Try "
    '"export_api": "segment_export" in the config: it goes on from the same state.',
}
_MEANINGS_AT = {
    "list": _BUNDLE_MEANINGS,
    "get": _BUNDLE_MEANINGS,
    **dict.fromkeys(("create", "operation", "results"), _EXPORT_MEANINGS),
}


MAX_ANSWER_BYTES = 64 * 1024 * 1024  # of an API's answer, unpacked; bundles go to disk instead
ERROR_BODY_BYTES = 4 * 1024  # what is read of a refusal's body to quote from


def read_body(response: requests.Response, shown: str) -> bytes:
    """Return the whole body of the response from `shown`. Raises ResponseLost if it breaks off,
    SourceError if it is larger than MAX_ANSWER_BYTES.
    """
    body = bytearray()
    for piece in _pieces(response, shown, READ_BYTES):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise SourceError(
                f"{shown} answered with more than {MAX_ANSWER_BYTES >> 20} MB, which no API of "
                "FullStory does. Check the URL in the config and anything between here and "
                "FullStory, such as a proxy."
            )
    return bytes(body)


def read_beginning(response: requests.Response, shown: str) -> bytes:
    """Return the first ERROR_BODY_BYTES of a body; less if it is shorter, or breaks off."""
    body = b""
    with suppress(ResponseLost):
        for piece in _pieces(response, shown, ERROR_BODY_BYTES):
            body += piece
            if len(body) >= ERROR_BODY_BYTES:
                break
    return body[:ERROR_BODY_BYTES]


def _pieces(response: requests.Response, shown: str, size: int) -> Iterator[bytes]:
    try:
        # Not iter_content, which unpacks all that it has read, however much that becomes.
        while piece := response.raw.read(size, decode_content=True):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ResponseLost(describe_error(error), where=shown) from None
