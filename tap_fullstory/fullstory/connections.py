"""Connections: one for each request, or kept alive; interim responses passed over."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any

import requests
import urllib3.connection

MAX_INTERIM_RESPONSES = 20  # before one response; more than one are rare
MAX_HEADERS, MAX_HEADER_BYTES = 1000, 256 * 1024  # of one response, all together
# http.client refuses more than 100 headers, or one of 64 kB, and has no other way to allow them.
setattr(http.client, "_MAXHEADERS", 2 * MAX_HEADERS)  # noqa: B010 - typeshed lacks it
setattr(http.client, "_MAXLINE", 2 * MAX_HEADER_BYTES)  # noqa: B010


def new_session(headers: Mapping[str, str], *, keep_alive: bool) -> requests.Session:
    """Return a session that sends `headers`, and those alone, with every request."""
    adapter = _Adapter if keep_alive else _OneConnectionEach
    session = requests.Session()
    session.mount("https://", adapter())
    session.mount("http://", adapter())
    connection = {} if keep_alive else {"Connection": "close"}
    session.headers = requests.structures.CaseInsensitiveDict({**headers, **connection})
    return session


class TooManyInterimResponses(http.client.HTTPException):
    """Raised when a server sends interim responses, and no other."""


class TooManyHeaders(http.client.HTTPException):
    """Raised when a response has more than MAX_HEADERS, or more than MAX_HEADER_BYTES of them."""


class _HeaderReader:
    """Reads the lines before a body, and counts the headers among them."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.begin()

    def begin(self) -> None:
        """Count from here on."""
        self._lines = self._bytes = 0

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self.file.readline(limit)
        if line.strip():
            self._lines += 1
            self._bytes += len(line)
        if self._lines > MAX_HEADERS or self._bytes > MAX_HEADER_BYTES:
            raise TooManyHeaders
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _FinalResponse(http.client.HTTPResponse):
    """Passes over every interim (1xx) response, as RFC 9110, 15.2, asks of a client; http.client
    passes over 100 alone. Limits the headers.
    """

    def begin(self, *args: Any, **kwargs: Any) -> None:
        file: Any = self.fp
        self.fp = _HeaderReader(file)  # type: ignore[assignment]
        try:
            super().begin(*args, **kwargs)
        finally:
            if self.fp is not None:
                self.fp = file

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM_RESPONSES + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if isinstance(self.fp, _HeaderReader):
                self.fp.begin()
            if not 100 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise TooManyInterimResponses


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _FinalResponse


class _TLSConnection(urllib3.connection.HTTPSConnection):
    response_class = _FinalResponse


_CONNECTIONS = {
    urllib3.connection.HTTPConnection: _Connection,
    urllib3.connection.HTTPSConnection: _TLSConnection,
}


class _Adapter(requests.adapters.HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _CONNECTIONS.get(pool.ConnectionCls, pool.ConnectionCls)
        return pool


class _OneConnectionEach(_Adapter):
    """Gives every request a connection of its own, which ends with the answer.

    No idle connection waits while a slow target holds up the bundle being written, and none is used
    again that the server is about to close, as it may unless its answer says so too (RFC 9112,
    9.6).
    """

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        adapter = _Adapter()
        try:
            return adapter.send(*args, **kwargs)
        finally:
            adapter.close()  # what it holds in reserve, not the connection that is being read
