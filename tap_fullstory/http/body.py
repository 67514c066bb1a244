"""Response bodies read into memory, unpacked, and never more of them than a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import requests
import urllib3.exceptions

from tap_fullstory.errors import SourceError
from tap_fullstory.http.download import READ_BYTES
from tap_fullstory.http.failures import describe_error
from tap_fullstory.http.retry import ResponseLost

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
