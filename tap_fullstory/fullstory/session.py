"""One authenticated way to FullStory: the API key, redirects, time-outs, and limits on responses.

The API key goes to the host that the config names and to no other. Redirects are followed here
rather than by requests, which would read passwords for the next host from a .netrc file and let
https step down to http.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode

import msgspec
import requests
import urllib3.exceptions

from tap_fullstory.errors import NetworkError, SourceError
from tap_fullstory.fullstory.connections import new_session
from tap_fullstory.fullstory.download import Download
from tap_fullstory.fullstory.failures import (
    invalid_proxy,
    proxies_for,
    proxy_refusal,
    translate,
)
from tap_fullstory.fullstory.responses import (
    ERROR_BODY_BYTES,
    REDIRECTS,
    BadRequest,
    ResourceGone,
    UnexpectedBody,
    http_date,
    raise_for_status,
    read_beginning,
    read_body,
)
from tap_fullstory.fullstory.retry import (
    BRIEF,
    Patience,
    ResponseLost,
    Throttled,
    TransientError,
    with_retries,
)
from tap_fullstory.fullstory.urls import origin_of, redact_url, require_https, resolve_redirect
from tap_fullstory.logs.metrics import RequestTimer
from tap_fullstory.logs.redact import redactor
from tap_fullstory.records.json_text import NestedTooDeeply, require_depth
from tap_fullstory.times import duration, format_rfc3339

LOGGER = logging.getLogger(__name__)

MAX_REDIRECTS = 10
# A POST whose response is lost may have done its work all the same: trying it again does it twice.
MAX_LOST_RESPONSES = 2  # responses that may be lost before giving up
EXCERPT_CHARS = 200  # of an API's response that an error quotes
# The endpoints whose responses hold nobody's data, so that an error may quote them; of /me, which
# says whose key it is, only a refusal is quoted.
QUOTABLE = ("list", "create", "operation", "results")
MAX_CLOCK_SKEW = timedelta(minutes=5)

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A GET, or a POST if there is `content`.

    `endpoint` names it in metrics, and decides what a status means. `signed` marks a URL that opens
    a file by itself: its host is FullStory's storage, and does not get the key. The statuses in
    `gone` mean that the resource no longer exists.
    """

    url: str
    endpoint: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    keep_alive: bool = False
    signed: bool = False
    gone: Collection[int] = ()
    timeout: float | None = None

    @property
    def method(self) -> str:
        return "GET" if self.content is None else "POST"

    @property
    def target(self) -> str:
        return f"{self.url}?{urlencode(self.params)}" if self.params else self.url

    @property
    def shown(self) -> str:
        """The URL as it may be logged."""
        return redact_url(self.url, self.params)


@dataclass(frozen=True)
class _Exchange:
    """A response whose body is still to be read, and the URL that it came from, for errors."""

    response: requests.Response
    shown: str


class HttpSession:
    """An authenticated session; a context manager that closes its connections.

    Safe to use from several threads. `patience` is how long a request is tried; `sleep` and `clock`
    are in seconds.
    """

    def __init__(
        self,
        api_key: str,
        user_agent: str,
        timeout: int,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        patience: Patience = BRIEF,
    ) -> None:
        self._clock = clock
        self._patience = patience
        # How far FullStory's clock is ahead of ours, by its latest response.
        self.clock_skew: timedelta | None = None
        self._has_warned_of_clock = False
        self._api_key = api_key
        self._redact = redactor([api_key])
        self._timeout = timeout
        self._sleep = sleep
        self.throttled_seconds = 0.0  # waited so far because a server said so
        headers = {"User-Agent": user_agent, "Accept-Encoding": "gzip"}
        self._session = new_session(headers, keep_alive=False)
        # For small calls that come by the thousand.
        self._kept_alive = new_session(headers, keep_alive=True)

    def __enter__(self) -> HttpSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._kept_alive.close()

    def __repr__(self) -> str:
        return "HttpSession()"

    def get_json(
        self, url: str, params: Mapping[str, str], endpoint: str, gone: Collection[int] = ()
    ) -> Any:
        """Return the decoded JSON response. Raises ResourceGone on the statuses in `gone`, and
        otherwise as `get`.
        """
        return self.get(url, params, endpoint, msgspec.json.decode, gone=gone)

    def get(
        self,
        url: str,
        params: Mapping[str, str],
        endpoint: str,
        decode: Callable[[bytes], T],
        *,
        keep_alive: bool = False,
        patience: Patience | None = None,
        gone: Collection[int] = (),
    ) -> T:
        """Return what `decode` makes of the response's body; it raises a ValueError (MsgspecError
        and UnicodeDecodeError are) if the body is not what was promised.

        With `keep_alive` the connection stays open for the next call, until `close_idle`. Raises
        AccessError on 401, 403, 404 and 410; NetworkError after all tries, or SourceError if the
        response cannot be decoded in any of them; SourceError if it is larger than 64 MB.
        """
        request = Request(url, endpoint, params, keep_alive=keep_alive, gone=gone)
        return self._with_retries(lambda: self._decoded(request, decode), request.shown, patience)

    def post_json(self, url: str, body: Mapping[str, Any], endpoint: str) -> Any:
        """Return the decoded JSON response to a POST that starts something.

        Throttling, server errors and connections that are never established are retried as in
        `get`. A response that gets lost may leave something started that nobody knows of, so the
        third one lost is not retried.

        Raises AccessError, NetworkError or SourceError for what `get` raises them.
        """
        request = Request(url, endpoint, content=msgspec.json.encode(body))
        lost = 0

        def attempt() -> Any:
            nonlocal lost
            try:
                return self._decoded(request, msgspec.json.decode)
            except ResponseLost as error:
                lost += 1
                if lost > MAX_LOST_RESPONSES:
                    raise error.failure or NetworkError(
                        f"{request.shown} did not respond to {lost} requests, most recently: "
                        f"{error}. Each may have started an export, so the tap will not try again. "
                        "Nothing is lost: run again with the last state when the network or "
                        "FullStory is back."
                    ) from None
                raise

        return self._with_retries(attempt, request.shown)

    def post_once(self, url: str, endpoint: str, timeout: float) -> None:
        """Send a POST without a body, once, and read no response. Raises TapError if it fails."""
        request = Request(url, endpoint, content=b"", timeout=timeout)
        try:
            with self._open(request):
                return
        except Throttled as answer:
            raise NetworkError(f"{answer.where} is throttled ({answer})") from None
        except TransientError as error:
            raise NetworkError(f"{error.where or request.shown}: {error}") from None

    def excerpt(self, text: str) -> str:
        """Return the beginning of a text from FullStory as an error may quote it, without the API
        key.
        """
        # Far less than what is redacted, so that no part of a key is left where the text ends.
        redacted = self._redact(text[:ERROR_BODY_BYTES])
        return " ".join(redacted[: ERROR_BODY_BYTES // 2].split())[:EXCERPT_CHARS]

    def close_idle(self) -> None:
        """Close the connections that wait for a next call."""
        self._kept_alive.close()

    def download(self, url: str, params: Mapping[str, str], sink: BinaryIO, endpoint: str) -> None:
        """Write the body to `sink`, a seekable file, as it was sent: no content encoding undone.

        A download that breaks off is resumed where it stopped if the server serves ranges of the
        same entity, and from the start if not.

        Raises AccessError on 401, 403, 404 and 410, NetworkError after all tries, SourceError if
        the server sends what cannot be a file, and SinkError if `sink` is full.
        """
        shown = redact_url(url, params)
        download = Download(sink, shown, self._clock)

        def ask(headers: Mapping[str, str]) -> AbstractContextManager[requests.Response]:
            return self._responding(Request(url, endpoint, params, headers=headers))

        self._with_retries(lambda: download.attempt(ask), shown)

    def download_signed(
        self, get_signed_url: Callable[[], str], shown: str, sink: BinaryIO, endpoint: str
    ) -> None:
        """Download as `download`, from a URL that expires and opens the file by itself.

        Each try asks `get_signed_url` for another one. The API key is not sent there. Raises what
        `get_signed_url` raises, and SourceError if the URL is not https, except on loopback.
        """
        download = Download(sink, shown, self._clock)

        def ask(headers: Mapping[str, str]) -> AbstractContextManager[requests.Response]:
            url = require_https(get_signed_url(), shown)
            return self._responding(Request(url, endpoint, headers=headers, signed=True))

        self._with_retries(lambda: download.attempt(ask), shown)

    def _with_retries(
        self, attempt: Callable[[], T], shown: str, patience: Patience | None = None
    ) -> T:
        return with_retries(
            attempt,
            shown,
            patience or self._patience,
            self._sleep,
            self._clock,
            self._count_throttled,
        )

    def _count_throttled(self, seconds: float) -> None:
        self.throttled_seconds += seconds

    def _decoded(self, request: Request, decode: Callable[[bytes], T]) -> T:
        with self._open(request) as exchange:
            body = read_body(exchange.response, exchange.shown, self._clock)
        try:
            require_depth(body)
            return decode(body)
        except ValueError as error:
            response = exchange.response
            came = f"{_what_came(body, error)}; {_content_type(response)}, {len(body)} bytes"
            quotable = body and request.endpoint in QUOTABLE
            quoted = f": {self._quoted(body)}" if quotable else ""
            failure = UnexpectedBody(
                f"{exchange.shown} returned HTTP {response.status_code} with a body that is not "
                f"the expected JSON ({came}){quoted}. Check the URL in the config and anything "
                "between here and FullStory, such as a proxy."
            )
            if isinstance(error, NestedTooDeeply):  # it is JSON, and would be the same again
                raise failure from None
            raise ResponseLost(
                f"HTTP {response.status_code} with a body that is not the expected JSON ({came})",
                where=exchange.shown,
                failure=failure,
            ) from None

    @contextmanager
    def _responding(self, request: Request) -> Iterator[requests.Response]:
        with self._open(request) as exchange:
            try:
                yield exchange.response
            except TransientError as error:
                error.where = error.where or exchange.shown
                raise

    @contextmanager
    def _open(self, request: Request) -> Iterator[_Exchange]:
        """Send `request`, follow redirects, check the status; the body is still to be read."""
        target, shown = request.target, request.shown
        origin = None if request.signed else origin_of(request.url)
        for _ in range(MAX_REDIRECTS + 1):
            LOGGER.debug("%s %s", request.method, shown)
            with RequestTimer(request.endpoint) as timer:
                response = self._send(request, target, shown, origin_of(target) == origin)
                timer.note_status(response.status_code)
            if origin_of(target) == origin:
                self._note_clock(response)
            location = response.headers.get("Location")
            if location is None or response.status_code not in REDIRECTS[request.method]:
                break
            response.close()
            target = resolve_redirect(target, location)
            shown = redact_url(target, {})
        else:
            raise SourceError(f"{request.shown} redirects more than {MAX_REDIRECTS} times.")
        with response:
            if response.status_code in request.gone:
                raise ResourceGone(f"HTTP {response.status_code} from {shown}")
            if response.status_code == 407:
                raise proxy_refusal(target, "HTTP 407")
            foreign = origin_of(target) != origin
            ranged = "Range" in request.headers
            raise_for_status(response, shown, request.endpoint, foreign=foreign, ranged=ranged)
            if response.status_code != 200 and not ranged:
                raise self._refusal(request, _Exchange(response, shown), foreign)
            yield _Exchange(response, shown)

    def _send(
        self, request: Request, target: str, shown: str, authorized: bool
    ) -> requests.Response:
        headers = dict(request.headers)
        if request.content:
            headers["Content-Type"] = "application/json"

        def authorize(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
            if authorized:
                # The key as it is, with no user name or base64 of ours
                # (help.fullstory.com, article 360020624194).
                prepared.headers["Authorization"] = f"Basic {self._api_key}"
            return prepared

        session = self._kept_alive if request.keep_alive else self._session
        if problem := invalid_proxy(target):
            raise problem
        try:
            return session.request(
                request.method,
                target,
                headers=headers,
                data=request.content,
                auth=authorize,  # also keeps requests from looking into .netrc
                stream=True,
                allow_redirects=False,
                timeout=request.timeout or self._timeout,
                proxies=proxies_for(target),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            raise translate(e, target, shown) from None

    def _note_clock(self, response: requests.Response) -> None:
        """Remember how far FullStory's clock is from ours; log a WARNING once if that is far."""
        date = http_date(response.headers.get("Date"))
        if date is None:
            return
        self.clock_skew = skew = date - datetime.now(timezone.utc)
        if abs(skew) > MAX_CLOCK_SKEW and not self._has_warned_of_clock:
            self._has_warned_of_clock = True
            LOGGER.warning(
                "The clock of this machine is %s %s FullStory's (%s). Correct it: what is new is "
                "chosen by the time",
                duration(abs(skew).total_seconds()),
                "behind" if skew > timedelta() else "ahead of",
                format_rfc3339(date),
                extra={"code": "clock_wrong"},
            )

    def _refusal(self, request: Request, exchange: _Exchange, foreign: bool) -> SourceError:
        status = exchange.response.status_code
        kind = BadRequest if status == 400 else SourceError
        message = f"HTTP {status} from {exchange.shown}"
        # What is not an error may be data.
        if status >= 400 and request.endpoint in (*QUOTABLE, "me") and not foreign:
            beginning = read_beginning(exchange.response, exchange.shown, self._clock)
            quoted = self._quoted(beginning)
            message = f"{message}: {quoted}"
        elif status >= 400:
            message = f"{message} ({_content_type(exchange.response)})"
        return kind(message)

    def _quoted(self, body: bytes) -> str:
        return repr(self.excerpt(body[:ERROR_BODY_BYTES].decode("utf-8", "replace")))


def _what_came(body: bytes, error: ValueError) -> str:
    """Say what a body is that cannot be decoded, without a word of it."""
    if isinstance(error, NestedTooDeeply):
        return str(error)
    if not (text := body.strip()):
        return "empty"
    if text.startswith(b"<"):
        return "a web page"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    if isinstance(error, msgspec.ValidationError):
        return "JSON of another type"
    if "truncated" in str(error):
        return "truncated JSON"
    place = _PLACE.search(str(error))
    return f"not valid JSON at byte {place[1]}" if place else "not valid JSON"


def _content_type(response: requests.Response) -> str:
    """Return the media type that a response says it has, without anything else in the header."""
    found = _MEDIA_TYPE.match(response.headers.get("Content-Type", ""))
    return found[0] if found else "no Content-Type"


_PLACE = re.compile(r"\(byte ([0-9]+)\)")
_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-zA-Z0-9.+-]{1,60}")
