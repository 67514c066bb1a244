"""One authenticated way to FullStory: time-outs, retries, throttling, and what each status means.

The API key goes to the host that was asked and to no other. Redirects are followed here rather than
by requests, which would read passwords for the next host from a .netrc file and let https step down
to http.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode, urlsplit

import backoff
import msgspec
import requests
import urllib3.exceptions
from singer import metrics

from tap_fullstory.addresses import next_hop, origin_of, safe_address, show
from tap_fullstory.answers import cause_of, content_range, never_sent, retry_after, whole_number
from tap_fullstory.errors import AccessError, NetworkError, SourceError
from tap_fullstory.json_text import DECODE_ERRORS

LOGGER = logging.getLogger(__name__)

MAX_TRIES = 8
# Full jitter draws each wait from 0 to these seconds: 0.5, 1, 2, 4, 8, 16, 30. All tries together
# outlast a restart of a server or a router, and a run every half hour does the rest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30
MAX_REDIRECTS = 10
# Throttling is no failure: the export's two downloads a minute are normal life in a backfill.
LONGEST_THROTTLING = 3600  # seconds that one request may be throttled, all in all
FIRST_THROTTLE_WAIT = 1  # seconds, doubled each time, where Retry-After is missing or garbage
# A POST whose answer is lost may have done its work all the same: trying it again does it twice.
LOST_ANSWERS = 2  # so many lost answers are put up with
READ_BYTES = 64 * 1024
EXCERPT = 200  # characters of an API's answer that an error quotes

T = TypeVar("T")


class _Transient(NetworkError):
    """Worth another try."""


class _Lost(_Transient):
    """A request that went out, with no answer, or half of one, coming back."""


class Gone(Exception):
    """An answer that, as the caller has said, means that what is asked for is no longer there."""


class SinkError(Exception):
    """The file a download goes to takes no more than the `taken` bytes.

    `needed` is the body's whole length, if known.
    """

    def __init__(self, cause: OSError, taken: int, needed: int | None) -> None:
        super().__init__(cause.strerror)
        self.cause = cause
        self.taken = taken
        self.needed = needed


class _Throttled(Exception):
    def __init__(self, wait: float | None) -> None:
        super().__init__("throttled")
        self.wait = wait


@dataclass
class _Download:
    """What is known of a body that may arrive in several pieces."""

    sink: BinaryIO
    received: int = 0
    total: int | None = None
    etag: str | None = None

    def write(self, chunk: bytes) -> None:
        """Raises SinkError if the file does not take all of it."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self.sink.write(rest) :]
        except OSError as error:
            raise SinkError(error, self.received, self.total) from error
        self.received += len(chunk)

    def restart(self) -> None:
        self.sink.seek(0)
        self.sink.truncate()
        self.received, self.total, self.etag = 0, None, None

    def note_entity(self, response: requests.Response) -> None:
        """Start over, or go on with the same entity. Raises _Transient if it is another one."""
        etag = response.headers.get("ETag", "")
        if response.status_code == 206:
            start, total = content_range(response.headers.get("Content-Range", ""))
            resized = None not in (total, self.total) and total != self.total
            if start != self.received or resized or (self.etag and etag and etag != self.etag):
                self.restart()
                raise _Transient("the rest of the file is of another file now")
            self.total = self.total or total
            return
        self.restart()
        self.total = whole_number(response.headers.get("Content-Length", ""))
        # A weak tag names what means the same, not the same bytes (RFC 9110, 8.8.1).
        self.etag = etag if etag.startswith('"') else None


class _RequestTimer(metrics.Timer):  # type: ignore[misc]  # singer ships no types
    """As singer.metrics.http_request_timer, which sets logging up anew each time: a line that
    another thread logs meanwhile would get lost, and two that do so at the end wait for ever.
    """

    def __init__(self, endpoint: str) -> None:
        self.metric = metrics.Metric.http_request_duration
        self.tags = {metrics.Tag.endpoint: endpoint}
        self.logger = logging.getLogger("singer")
        self.start_time: float | None = None


class _OneConnectionEach(requests.adapters.HTTPAdapter):
    """Gives every request a connection of its own, which ends with the answer.

    No connection waits open while a slow target holds up the bundle in hand, and none is used again
    that the server is about to close, as it may unless its answer says so too (RFC 9112, 9.6).
    """

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        adapter = requests.adapters.HTTPAdapter()
        try:
            return adapter.send(*args, **kwargs)
        finally:
            adapter.close()  # what it holds in reserve, not the connection that is being read


class Http:
    """An authenticated session; a context manager that closes its connections.

    Safe to use from several threads. `sleep` takes seconds.
    """

    def __init__(
        self,
        api_key: str,
        user_agent: str,
        timeout: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api_key = api_key
        self._timeout = timeout
        self._sleep = sleep
        self._session = requests.Session()
        self._session.mount("https://", _OneConnectionEach())
        self._session.mount("http://", _OneConnectionEach())
        self._session.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": user_agent, "Accept-Encoding": "gzip", "Connection": "close"}
        )
        # For small calls that come by the thousand.
        self._kept_alive = requests.Session()
        self._kept_alive.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": user_agent, "Accept-Encoding": "gzip"}
        )

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._kept_alive.close()

    def __repr__(self) -> str:
        return "Http()"

    def get_json(
        self, url: str, params: Mapping[str, str], endpoint: str, gone: Collection[int] = ()
    ) -> Any:
        """The decoded JSON answer. Raises Gone on the statuses in `gone`, and else as `get`."""
        return self.get(url, params, endpoint, msgspec.json.decode, gone=gone)

    def get(
        self,
        url: str,
        params: Mapping[str, str],
        endpoint: str,
        decode: Callable[[bytes], T],
        *,
        keep_alive: bool = False,
        tries: int = MAX_TRIES,
        gone: Collection[int] = (),
    ) -> T:
        """What `decode` makes of the answer's body. It raises one of DECODE_ERRORS if that is
        not what was promised.

        With `keep_alive` the connection stays open for the next call, until `hang_up`. Raises
        AccessError on 401, 403, 404 and 410; NetworkError after all tries; SourceError if the
        answer cannot be decoded.
        """

        def attempt() -> T:
            request = self._request(url, params, endpoint, {}, keep_alive, gone=gone)
            return self._decoded(request, decode, show(url, params))

        return self._persist(attempt, show(url, params), tries)

    def post_json(self, url: str, body: Mapping[str, Any], endpoint: str) -> Any:
        """The decoded JSON answer to a POST that starts something.

        Throttling, errors of the server and a connection that does not come about are waited out as
        in `get`. An answer that gets lost may leave something started that nobody knows of, so the
        third one lost is not tried again. Raises as `get`.
        """
        content, lost = msgspec.json.encode(body), 0

        def attempt() -> Any:
            nonlocal lost
            try:
                request = self._request(url, {}, endpoint, {}, content=content)
                return self._decoded(request, msgspec.json.decode, show(url, {}))
            except _Lost as error:
                lost += 1
                if lost > LOST_ANSWERS:
                    raise NetworkError(
                        f"{show(url, {})} answered none of {lost} requests, at last: {error}. Each "
                        "may have started something, so the tap does not ask again. Nothing is "
                        "lost: run again with the last state when the network or FullStory is back."
                    ) from None
                raise

        return self._persist(attempt, show(url, {}))

    def post_once(self, url: str, endpoint: str, timeout: float) -> None:
        """A POST without a body, tried once, its answer not read. Raises TapError if it fails."""
        try:
            with self._request(url, {}, endpoint, {}, content=b"", timeout=timeout):
                return
        except _Throttled:
            raise NetworkError(f"{show(url, {})} is throttled (HTTP 429)") from None

    def hang_up(self) -> None:
        """Close the connections that wait for a next call."""
        self._kept_alive.close()

    def download(self, url: str, params: Mapping[str, str], sink: BinaryIO, endpoint: str) -> None:
        """Write the body to `sink`, a seekable file, as it was sent: no content encoding undone.

        A download that breaks off goes on where it stopped if the server serves ranges of the same
        entity, and from the start if not. Raises as get_json, and SinkError if `sink` is full.
        """

        def ask(headers: Mapping[str, str]) -> AbstractContextManager[requests.Response]:
            return self._request(url, params, endpoint, headers)

        self._download(ask, show(url, params), sink)

    def download_signed(
        self, locate: Callable[[], str], shown: str, sink: BinaryIO, endpoint: str
    ) -> None:
        """As download, from an address that is good for a while and opens the file by itself.

        `locate` gives such an address; each try asks it for another one. The key stays at home.
        Raises what `locate` raises, and SourceError if the address is not https, save on loopback.
        """

        def ask(headers: Mapping[str, str]) -> AbstractContextManager[requests.Response]:
            address = safe_address(locate(), shown)
            return self._request(address, {}, endpoint, headers, signed=True)

        self._download(ask, shown, sink)

    def _download(
        self,
        ask: Callable[[Mapping[str, str]], AbstractContextManager[requests.Response]],
        shown: str,
        sink: BinaryIO,
    ) -> None:
        state = _Download(sink)

        def attempt() -> None:
            headers = {}
            if state.received and (state.etag or state.total is not None):
                headers["Range"] = f"bytes={state.received}-"
                if state.etag:
                    headers["If-Range"] = state.etag
            with ask(headers) as response:
                if response.status_code == 416:
                    state.restart()
                    raise _Transient("the rest of the file is not there")
                state.note_entity(response)
                for chunk in _chunks(response):
                    state.write(chunk)
            if state.total is not None and state.received != state.total:
                raise _Transient(f"the body ended after {state.received} of {state.total} bytes")

        self._persist(attempt, shown)

    def _decoded(
        self,
        request: AbstractContextManager[requests.Response],
        decode: Callable[[bytes], T],
        shown: str,
    ) -> T:
        with request as response:
            body = self._read_all(response)
        try:
            return decode(body)
        except DECODE_ERRORS:
            raise SourceError(
                f"{shown} answered HTTP {response.status_code} with something else than the JSON "
                f"promised: {self._excerpt(body)}. Check the address in the config and what stands "
                "between here and FullStory, such as a proxy."
            ) from None

    def _persist(self, attempt: Callable[[], T], shown: str, tries: int = MAX_TRIES) -> T:
        """The result of `attempt`, tried again while that may help."""

        def log_retry(details: Any) -> None:
            LOGGER.warning(
                "%s: %s; try %d of %d in %.1f s",
                shown, details["exception"], details["tries"] + 1, tries, details["wait"],
            )  # fmt: skip

        throttled = 0.0
        longest = FIRST_THROTTLE_WAIT

        def unthrottled() -> T:
            nonlocal throttled, longest
            while True:
                try:
                    return attempt()
                except _Throttled as answer:
                    wait = longest if answer.wait is None else answer.wait
                    longest = min(2 * longest, 60)
                if throttled + wait > LONGEST_THROTTLING:
                    raise NetworkError(
                        f"{shown} has been throttled (HTTP 429) for {throttled:.0f} s. Something "
                        "else uses up the account's rate limit: run fewer exports, or later."
                    )
                LOGGER.info("%s is throttled (HTTP 429); again in %.0f s", shown, wait)
                self._sleep(wait)
                throttled += wait

        retrying = backoff.on_exception(
            backoff.expo,
            _Transient,
            max_tries=tries,
            jitter=backoff.full_jitter,
            factor=FIRST_WAIT,
            max_value=LONGEST_WAIT,
            on_backoff=log_retry,
            logger=None,
        )(unthrottled)
        try:
            return retrying()
        except _Transient as error:
            raise NetworkError(
                f"{shown} failed {tries} times, at last: {error}. Nothing is lost: run again "
                "with the last state when the network or FullStory is back."
            ) from None

    @contextmanager
    def _request(
        self,
        url: str,
        params: Mapping[str, str],
        endpoint: str,
        headers: Mapping[str, str],
        keep_alive: bool = False,
        *,
        content: bytes | None = None,
        signed: bool = False,
        gone: Collection[int] = (),
        timeout: float | None = None,
    ) -> Iterator[requests.Response]:
        """One GET, or a POST of `content`, redirects followed, the status judged, the body still to
        be read. The host of a `signed` address is FullStory's storage, and does not get the key.
        """
        target, shown = f"{url}?{urlencode(params)}" if params else url, show(url, params)
        origin = None if signed else origin_of(url)
        method = "GET" if content is None else "POST"
        for _ in range(MAX_REDIRECTS + 1):
            LOGGER.info("%s %s", method, shown)
            with _RequestTimer(endpoint) as timer:
                authorized = origin_of(target) == origin
                request = requests.Request(method, target, dict(headers), data=content)
                response = self._send(request, authorized, keep_alive, timeout or self._timeout)
                timer.tags[metrics.Tag.http_status_code] = response.status_code
            location = response.headers.get("Location")
            if location is None or response.status_code not in _REDIRECTS[method]:
                break
            response.close()
            target = next_hop(target, location)
            shown = show(target, {})
        else:
            raise SourceError(f"{show(url, params)} redirects more than {MAX_REDIRECTS} times.")
        with response:
            if response.status_code in gone:
                raise Gone(f"HTTP {response.status_code} from {shown}")
            foreign, part = origin_of(target) != origin, "Range" in headers
            self._judge(response, shown, endpoint, foreign=foreign, part=part)
            yield response

    def _send(
        self, request: requests.Request, authorized: bool, keep_alive: bool, timeout: float
    ) -> requests.Response:
        url = request.url
        if request.data:
            request.headers["Content-Type"] = "application/json"

        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if authorized:
                # The key as it is, with no user name or base64 of ours
                # (help.fullstory.com, article 360020624194).
                request.headers["Authorization"] = f"Basic {self._api_key}"
            return request

        try:
            return (self._kept_alive if keep_alive else self._session).request(
                request.method,
                url,
                headers=request.headers,
                data=request.data,
                auth=authorize,  # also keeps requests from looking into .netrc
                stream=True,
                allow_redirects=False,
                timeout=timeout,
            )
        except requests.exceptions.SSLError as error:
            raise NetworkError(
                f"The certificate of {urlsplit(url).hostname} cannot be trusted "
                f"({cause_of(error)}). Check the address, the clock, and the proxy's certificate "
                "(REQUESTS_CA_BUNDLE)."
            ) from None
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise (_Transient if never_sent(error) else _Lost)(cause_of(error)) from None
        except (requests.RequestException, ValueError) as error:
            raise SourceError(
                f"{show(url, {})} cannot be asked for: {type(error).__name__}. Check the addresses "
                "in the config."
            ) from None

    def _judge(
        self, response: requests.Response, shown: str, endpoint: str, foreign: bool, part: bool
    ) -> None:
        """Let a usable answer pass; raise what the others mean."""
        status = response.status_code
        if status == 200 or (part and status in (206, 416)):
            return
        if status == 429:
            raise _Throttled(retry_after(response.headers.get("Retry-After")))
        if foreign and status in (400, 403):
            # A signed address that has run out: the API gives a new one when it is asked again.
            raise _Transient(f"HTTP {status} from the storage host, the address may have expired")
        if status >= 500 or status in (408, 425, 499):
            raise _Transient(f"HTTP {status}")
        meaning = _MEANINGS.get(status)
        if meaning and not foreign:
            meaning = _MEANINGS_AT.get(endpoint, {}).get(status, meaning)
            raise AccessError(f"HTTP {status} from {shown}: {meaning}", status)
        # What is no error may be a file, and its text is nobody's to log.
        quotable = status >= 400 and not foreign
        quote = f": {self._excerpt(self._read_all(response))}" if quotable else ""
        raise SourceError(f"HTTP {status} from {shown}{quote}")

    def _read_all(self, response: requests.Response) -> bytes:
        try:
            return response.content
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _Lost(cause_of(error)) from None

    def _excerpt(self, body: bytes) -> str:
        text = body.decode("utf-8", "replace").replace(self._api_key, "***")
        return repr(" ".join(text[: 4 * EXCERPT].split())[:EXCERPT])


_MEANINGS = {
    401: "FullStory does not accept the API key. Check api_key in the config: it is sent as it is, "
    "so it must be the whole key as FullStory showed it, without quotes or a word before it.",
    403: "the API key may not do this. Its level is too low, or the account's plan leaves this out "
    "(Settings, Integrations & API Keys in FullStory tell).",
    404: "FullStory does not have this. Check api_url in the config; if it is right, FullStory has "
    "closed this API for the account.",
    410: "FullStory has closed this API for the account. Look for a newer version of this tap.",
}
_EXPORT_MEANINGS = {
    403: "the API key may not do this. It needs the level Architect or Admin, and the account "
    "needs the Data Export add-on (Settings, Integrations & API Keys in FullStory tell).",
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
# A POST that moves under another status than these two would arrive as a GET (RFC 9110, 15.4).
_REDIRECTS = {"GET": (301, 302, 303, 307, 308), "POST": (307, 308)}


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        while chunk := response.raw.read(READ_BYTES, decode_content=False):
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Transient(cause_of(error)) from None
