"""A server that sends given bytes, for what the sandbox, which speaks proper HTTP, cannot say."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Of 127.0.0.1, with its private key: trusted only where it is named as the CA bundle.
CERTIFICATE = Path(__file__).with_name("loopback.pem")
# A TLS record: a fatal alert, internal_error (RFC 8446, 6.2).
TLS_ALERT = bytes([21, 3, 3, 0, 2, 2, 80])

Answer = bytes | Callable[[], Iterable[bytes]]


@dataclass
class RawServer:
    """`requests` are those so far, as they came in."""

    port: int
    scheme: str
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def config(self, **more: Any) -> dict[str, Any]:
        """A config of which every request comes here."""
        urls = {"data_export_url": self.url, "api_url": self.url}
        return {
            "api_key": "na1.raw-server-key",
            "start_date": "2026-06-01T00:00:00Z",
            **urls,
            **more,
        }


@contextmanager
def raw_server(
    *answers: Answer, tls: bool = False, keep_alive: bool = False
) -> Iterator[RawServer]:
    """Answers each request with the next of `answers`, and all further ones with the last; then
    closes the connection, unless `keep_alive`.
    """
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    upcoming = itertools.chain(answers, itertools.repeat(answers[-1]))

    def converse(connection: socket.socket) -> None:
        with suppress(OSError), secured(connection) as stream:
            while request := stream.recv(65536):
                server.requests.append(request)
                answer = next(upcoming)
                for piece in [answer] if isinstance(answer, bytes) else answer():
                    stream.sendall(piece)
                if not keep_alive:
                    stream.shutdown(socket.SHUT_WR)
                    break
            while stream.recv(65536):  # or what is unread would reset the connection
                pass

    def secured(connection: socket.socket) -> socket.socket:
        return context.wrap_socket(connection, server_side=True) if context else connection

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=converse, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = RawServer(listening.getsockname()[1], "https" if tls else "http")
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield server
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        accepting.join()


def response(
    body: bytes | dict[str, Any] | list[Any] = b"", status: str = "200 OK", *headers: str
) -> bytes:
    """A response with a Content-Length."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(head).encode("latin-1") + content


def endless(head: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    """`head`, then `piece` until the client hangs up."""

    def pieces() -> Iterator[bytes]:
        yield head
        yield from itertools.repeat(piece)

    return pieces
