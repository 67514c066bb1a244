"""HTTP below the APIs: requests as they came in, answers as they go out, faithfully or not."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

HOST = "127.0.0.1"  # loopback: the sandbox is for this machine only

_PIECE = 1 << 16  # bytes sent at once
_TICKS = 20  # a slow answer goes out in so many pieces a second


@dataclass(frozen=True)
class FilePart:
    """`length` bytes of a file from `offset` on."""

    path: Path
    offset: int
    length: int


Body = bytes | FilePart


def whole(path: Path) -> FilePart:
    return FilePart(path, 0, path.stat().st_size)


def size_of(body: Body) -> int:
    return body.length if isinstance(body, FilePart) else len(body)


def part_of(body: Body, first: int, stop: int) -> Body:
    """The bytes from `first` to before `stop`."""
    if isinstance(body, FilePart):
        return FilePart(body.path, body.offset + first, stop - first)
    return body[first:stop]


@dataclass(frozen=True)
class Request:
    """A request as it arrived.

    `origin` is "api" or "storage"; `target` the path with the query as sent; `query` the
    parameters in it (the last of a name wins); header names are in lower case; `at` is
    time.monotonic(). The `repr` leaves out headers and body: the key is among them.
    """

    origin: str
    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    at: float
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Delivery:
    """How an answer goes over the wire; the default is as it should be.

    Places are numbers of body bytes. `end` says what happens at `cut`, after so many bytes:
    "close" and "reset" end the connection, "clean" ends the (chunked) body as if that were all.
    """

    chunked: bool = False
    cut: int | None = None
    end: str = "close"
    stall: int | None = None  # here nothing is sent for `seconds`, and then the rest
    seconds: float = 0
    rate: float | None = None  # bytes a second
    flip: int | None = None  # the byte that arrives with one bit wrong
    length: int | None = None  # a Content-Length beside the chunks, which have precedence
    second_length: int | None = None  # a second Content-Length, after the right one
    clock_seconds: float = 0  # how far off the Date is
    interim: bool = False  # 103 Early Hints before the answer
    refused: bool = False  # no answer at all: `seconds` of silence, then `end`


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Body = b""
    delivery: Delivery = Delivery()


def json_answer(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(document).encode()
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, body)


def error_answer(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """An error in the form that FullStory documents for its v2 APIs (developer.fullstory.com);
    the form for older ones is not documented.
    """
    return json_answer(status, {"code": code, "message": message}, headers)


class _HangUpError(Exception):
    """This connection ends here: abruptly (a reset), or as a plain close."""

    def __init__(self, reset: bool) -> None:
        self.reset = reset


class Origin(ThreadingHTTPServer):
    """One host and port, answering with what `respond` returns, until `stop()`."""

    daemon_threads = True  # a handler that is still busy does not hold up the end

    def __init__(
        self,
        name: str,
        port: int,
        respond: Callable[[Request], Answer],
        log: Callable[[str], None] | None,
    ) -> None:
        super().__init__((HOST, port), _Handler)
        self.name = name
        self.respond = respond
        self.log = log
        self.port = self.server_address[1]
        self.url = f"http://{HOST}:{self.port}"
        self.stopping = threading.Event()
        self.connections: set[socket.socket] = set()
        self.connections_lock = threading.Lock()
        self._loop = threading.Thread(target=self._serve, daemon=True)
        self._loop.start()

    def _serve(self) -> None:
        while not self.stopping.is_set():
            self.handle_request()

    def stop(self) -> None:
        self.stopping.set()
        # Wakes the loop, which polls for nothing: tests stop many sandboxes.
        socket.create_connection((HOST, self.port)).close()
        self._loop.join()
        with self.connections_lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):  # the other end was faster
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients of a misbehaving server hang up all the time; anything else is our own mistake.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True  # header and body leave apart; Nagle would wait between them

    @property
    def _origin(self) -> Origin:
        return cast(Origin, self.server)

    def setup(self) -> None:
        super().setup()
        with self._origin.connections_lock:
            self._origin.connections.add(self.connection)

    def finish(self) -> None:
        with self._origin.connections_lock:
            self._origin.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except _HangUpError as error:
            if error.reset:
                # Lingering for 0 s makes close() send RST. Both files must be closed first, since
                # they keep the socket open, and before socketserver says goodbye with FIN.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.rfile.close()
                self.wfile.close()
                self.connection.close()

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        url = urlsplit(self.path)
        request = Request(
            origin=self._origin.name,
            method=self.command,
            target=self.path,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            at=time.monotonic(),
            body=self.rfile.read(length),
        )
        try:
            answer = self._origin.respond(request)
        except Exception:  # noqa: BLE001 -- our own mistake: said aloud, but the server goes on
            traceback.print_exc()
            answer = error_answer(500, "server_error", "the sandbox failed, see its stderr")
        if self._origin.log:
            self._origin.log(f"{request.origin} {request.method} {url.path} {answer.status}")
        self._send(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Nothing: do_GET has logged it already."""

    def _send(self, answer: Answer) -> None:
        delivery = answer.delivery
        if delivery.refused:
            self._origin.stopping.wait(delivery.seconds)
            raise _HangUpError(reset=delivery.end == "reset")
        size = size_of(answer.body)
        if delivery.interim:
            self.send_response_only(103)
            self.send_header("Link", "</style.css>; rel=preload; as=style")
            self.end_headers()
        self.send_response_only(answer.status)
        self.send_header("Date", self.date_time_string(time.time() + delivery.clock_seconds))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if delivery.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            if delivery.length is not None:
                self.send_header("Content-Length", str(delivery.length))
        else:
            self.send_header("Content-Length", str(size))
            if delivery.second_length is not None:
                self.send_header("Content-Length", str(delivery.second_length))
        self.end_headers()
        for piece in _paced(answer, self._origin.stopping):
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if delivery.chunked else piece
            self.wfile.write(framed)
        if delivery.cut is not None and delivery.end != "clean":
            raise _HangUpError(reset=delivery.end == "reset")
        if delivery.chunked:
            self.wfile.write(b"0\r\n\r\n")


def _paced(answer: Answer, stopping: threading.Event) -> Iterator[bytes]:
    """The bytes that are to be sent, with the waits of a stalling or slow answer in between."""
    delivery, body = answer.delivery, answer.body
    stop = size_of(body) if delivery.cut is None else delivery.cut
    stall = stop if delivery.stall is None else min(delivery.stall, stop)

    def in_pieces() -> Iterator[bytes]:
        yield from _slowly(_read(body, 0, stall, delivery.rate), delivery.rate, stopping)
        if delivery.stall is not None:
            stopping.wait(delivery.seconds)
        yield from _slowly(_read(body, stall, stop, delivery.rate), delivery.rate, stopping)

    return in_pieces() if delivery.flip is None else _flipped(in_pieces(), delivery.flip)


def _read(body: Body, first: int, stop: int, rate: float | None) -> Iterator[bytes]:
    size = _PIECE if rate is None else max(1, min(_PIECE, int(rate / _TICKS)))
    part = part_of(body, first, stop)
    if isinstance(part, bytes):
        yield from (part[place : place + size] for place in range(0, len(part), size))
        return
    with part.path.open("rb") as file:
        file.seek(part.offset)
        left = part.length
        while left > 0 and (piece := file.read(min(size, left))):
            left -= len(piece)
            yield piece


def _slowly(
    pieces: Iterator[bytes], rate: float | None, stopping: threading.Event
) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        if rate is not None:
            stopping.wait(len(piece) / rate)


def _flipped(pieces: Iterator[bytes], place: int) -> Iterator[bytes]:
    sent = 0
    for piece in pieces:
        changed = bytearray(piece)
        if sent <= place < sent + len(piece):
            changed[place - sent] ^= 0x10
        sent += len(piece)
        yield bytes(changed)
