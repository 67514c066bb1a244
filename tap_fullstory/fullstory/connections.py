"""Connections: one for each request, or kept alive; interim responses passed over."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any

import requests
import urllib3.connection

MAX_INTERIM_RESPONSES = 20  # before one response; more than one are rare


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


class _FinalResponse(http.client.HTTPResponse):
    """Passes over every interim (1xx) response, as RFC 9110, 15.2, asks of a client; http.client
    passes over 100 alone.
    """

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM_RESPONSES + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
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
