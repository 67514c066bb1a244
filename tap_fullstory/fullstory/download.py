"""A response's body written to a file, in several pieces where the connection breaks off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

import requests
import urllib3.exceptions

from tap_fullstory.fullstory.failures import deepest_cause, describe_error
from tap_fullstory.fullstory.responses import READ_BYTES, Pace, content_range, parse_digits
from tap_fullstory.fullstory.retry import ResponseLost, TransientError

LOGGER = logging.getLogger(__name__)

REPORT_SECONDS = 300  # between two lines about a download that lasts


class SinkError(Exception):
    """Raised when the file that a download is written to takes no more than `taken` bytes.

    `needed` is the length of the whole body, if known.
    """

    def __init__(self, cause: OSError, taken: int, needed: int | None) -> None:
        super().__init__(cause.strerror)
        self.cause = cause
        self.taken = taken
        self.needed = needed


class Sink:
    """A file that has a say in what it is downloaded; mixed in by the class of such a file."""

    def is_enough(self) -> bool:
        """Return whether the rest of the body need not come."""
        return False

    def accept(self) -> None:
        """Raise TransientError if the body, which is complete, is not what was requested."""


@dataclass
class Download:
    """One file being downloaded to `sink`, a seekable file; remembered from try to try.

    `shown` names it in the log; `clock` is in seconds.
    """

    sink: BinaryIO
    shown: str = ""
    clock: Callable[[], float] = time.monotonic
    received: int = 0
    total: int | None = None
    etag: str | None = None
    furthest: int = 0  # the most bytes that any try has reached

    def attempt(
        self, ask: Callable[[Mapping[str, str]], AbstractContextManager[requests.Response]]
    ) -> None:
        """Fetch the body, or what is missing of it, from the response that `ask` opens with the
        request headers given.

        Raises TransientError if it does not end complete, SinkError if the file is full, and
        whatever `ask` raises.
        """
        try:
            with ask(self._range_headers()) as response:
                self._verify_entity(response)
                if not self._write_body(response):
                    return
                if self.total is not None and self.received != self.total:
                    raise TransientError(
                        f"the body ended after {self.received} of {self.total} bytes"
                    )
            self._accept()
        except TransientError as error:
            error.progressed = self._resumable and self.received > self.furthest
            self.furthest = max(self.furthest, self.received)
            raise

    def _accept(self) -> None:
        if isinstance(self.sink, Sink):
            try:
                self.sink.accept()
            except TransientError:
                self._restart()
                raise

    @property
    def _resumable(self) -> bool:
        return self.received > 0 and (self.etag is not None or self.total is not None)

    def _range_headers(self) -> dict[str, str]:
        if not self._resumable:
            return {}
        headers = {"Range": f"bytes={self.received}-"}
        if self.etag:
            headers["If-Range"] = self.etag
        return headers

    def _verify_entity(self, response: requests.Response) -> None:
        """Continue with the same entity, or start over. Raises TransientError if a range of another
        one came.
        """
        if response.status_code == 416:
            self._restart()
            raise TransientError("the server does not have the rest of the file")
        etag = response.headers.get("ETag", "")
        if response.status_code == 206:
            start, total = content_range(response.headers.get("Content-Range", ""))
            resized = None not in (total, self.total) and total != self.total
            if start != self.received or resized or (self.etag and etag and etag != self.etag):
                self._restart()
                raise TransientError("the file changed between two parts of its download")
            self.total = self.total or total
            return
        self._restart()
        # With a transfer coding, Content-Length says nothing about the body (RFC 9112, 6.3).
        if "Transfer-Encoding" not in response.headers:
            self.total = parse_digits(response.headers.get("Content-Length", ""))
        # A weak ETag says that two files mean the same, not that their bytes are (RFC 9110, 8.8.1).
        self.etag = etag if etag.startswith('"') else None

    def _write_body(self, response: requests.Response) -> bool:
        """Write what comes; return whether it came to its end, and not to what is enough."""
        pace, next_report = Pace(self.clock), self.clock() + REPORT_SECONDS
        piece = bytearray()
        try:
            # Not read(), which waits until so many bytes have come, however long that takes.
            while chunk := response.raw.read1(READ_BYTES - len(piece), decode_content=False):
                piece += chunk
                if len(piece) >= READ_BYTES:
                    self._write(piece)
                    piece = bytearray()
                    if isinstance(self.sink, Sink) and self.sink.is_enough():
                        return False
                pace.add(len(chunk))
                if self.clock() >= next_report:
                    next_report += REPORT_SECONDS
                    self._report(self.received + len(piece))
        except ResponseLost:
            self._write(piece)
            raise
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Closed too early, all that has come is good; of a connection that failed, all before
            # the last piece.
            if isinstance(deepest_cause(error), urllib3.exceptions.IncompleteRead):
                self._write(piece)
            raise TransientError(describe_error(error)) from None
        self._write(piece)
        return True

    def _report(self, received: int) -> None:
        of = "" if self.total is None else f" of {self.total}"
        LOGGER.info("%s: %d%s bytes have been downloaded", self.shown, received, of)

    def _write(self, chunk: bytes | bytearray) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self.sink.write(rest) :]
        except OSError as error:
            raise SinkError(error, self.received, self.total) from error
        self.received += len(chunk)

    def _restart(self) -> None:
        self.sink.seek(0)
        self.sink.truncate()
        self.received, self.total, self.etag = 0, None, None
