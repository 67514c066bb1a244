"""What a status code means: which responses are usable, and what the others tell the user."""

from __future__ import annotations

import requests

from tap_fullstory.errors import AccessError, SourceError
from tap_fullstory.http.headers import retry_after
from tap_fullstory.http.retry import Throttled, TransientError

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
    403: "the API key may not do this. It needs the level Architect or Admin, and the account "
    "needs the Data Export add-on (see Settings, Integrations & API Keys in FullStory).",
}
_BUNDLE_MEANINGS = {
    **_EXPORT_MEANINGS,
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
