"""HTTP over single answers: where the key goes, what a status means, what is tried again."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from tap_fullstory.errors import AccessError, NetworkError, SourceError, TapError
from tap_fullstory.http.retry import MAX_TRIES
from tap_fullstory.http.session import HttpSession
from tap_fullstory.http.status import BadRequest

KEY = "na1.a2V5OndpdGgvYWxsKy1jaGFyYWN0ZXJz=="
HOST = "https://export.example.com"
LIST, GET = f"{HOST}/api/v1/export/list", f"{HOST}/api/v1/export/get"
STORAGE = "https://storage.example.net/bucket/export.json.gz"
SIGNED = f"{STORAGE}?X-Goog-Signature=signed-secret"
ONE = {"exports": []}


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that would have been slept, by backoff or by the tap."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture
def http(waits) -> Iterator[HttpSession]:
    with HttpSession(KEY, "agent/1", 300, waits.append) as http:
        yield http


def listed(http: HttpSession, start: int = 0) -> Any:
    return http.get_json(LIST, {"start": str(start)}, "list")


def download(http: HttpSession) -> bytes:
    sink = io.BytesIO()
    http.download(GET, {"id": "156453120048"}, sink, "get")
    return sink.getvalue()


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What the tap's own loggers say. Singer's metrics throw caplog's handler out of the root's."""
    handler, logger = Lines(), logging.getLogger("tap_fullstory")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.lines
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


# --- where the key goes ---


def test_a_netrc_file_is_nobodys_business(http, requests_mock, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    requests_mock.get(GET, status_code=302, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, content=b"[]")
    download(http)
    asked, redirected = requests_mock.request_history
    assert asked.headers["Authorization"] == f"Basic {KEY}"
    assert "Authorization" not in redirected.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_storage_is_asked_without_the_key_and_named_without_its_query(
    http, requests_mock, log, status
):
    requests_mock.get(GET, status_code=status, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, content=b"[]")
    assert download(http) == b"[]"
    assert requests_mock.last_request.url == SIGNED
    assert "Authorization" not in requests_mock.last_request.headers
    assert f"DEBUG GET {STORAGE}" in log
    assert "signed-secret" not in str(log)


@pytest.mark.parametrize(
    ("location", "with_key"),
    [
        ("/elsewhere", True),
        (f"{HOST}:443/elsewhere", True),
        ("https://EXPORT.example.com/elsewhere", True),
        (f"{HOST}:8443/elsewhere", False),
        ("https://export.example.com.example.net/elsewhere", False),
        ("https://export.example.com@example.net/elsewhere", False),
        ("//example.net/elsewhere", False),
    ],
)
def test_the_key_goes_to_its_own_origin_alone(http, requests_mock, location, with_key):
    requests_mock.get(LIST, status_code=302, headers={"Location": location})
    requests_mock.get(re.compile("/elsewhere$"), json=ONE)
    listed(http)
    assert ("Authorization" in requests_mock.last_request.headers) is with_key


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://export.example.com/elsewhere", "from https to http"),
        ("http://storage.example.net/elsewhere", "from https to http"),
        ("ftp://storage.example.net/elsewhere", "not a valid URL"),
        ("https://[::1/elsewhere", "not a valid URL"),
        ("https://storage.example.net:port/elsewhere", "not a valid URL"),
        (LIST, "redirects more than 10 times"),
    ],
)
def test_redirects_that_are_not_followed(http, requests_mock, location, words):
    requests_mock.get(LIST, status_code=302, headers={"Location": location})
    with pytest.raises(SourceError, match=words):
        listed(http)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"exports": [', b"\xff\xfe", b"[" * 100_000, b"NaN"],
    ids=["empty", "html", "truncated", "not-utf-8", "deep", "nan"],
)
def test_an_answer_that_is_not_json_is_refused(http, requests_mock, body):
    requests_mock.get(LIST, content=body)
    with pytest.raises(SourceError, match="other than the JSON promised") as failure:
        listed(http, 7)
    assert f"{LIST}?start=7 answered HTTP 200" in str(failure.value)
    assert len(str(failure.value)) < 800


# --- what refusals mean ---

MEANINGS = [
    (401, AccessError, "does not accept the API key"),
    (403, AccessError, "level Architect or Admin"),
    (404, AccessError, "data_export_url"),
    (410, AccessError, "closed this API"),
    (400, BadRequest, "HTTP 400"),
    (405, SourceError, "HTTP 405"),
    (204, SourceError, "HTTP 204"),
    (304, SourceError, "HTTP 304"),
]


@pytest.mark.parametrize(("status", "kind", "words"), MEANINGS)
@pytest.mark.parametrize("call", ["list", "get"])
def test_what_a_status_means(http, requests_mock, waits, status, kind, words, call):
    requests_mock.get({"list": LIST, "get": GET}[call], status_code=status, text=f"no: {KEY}")
    with pytest.raises(TapError) as failure:
        listed(http, 7) if call == "list" else download(http)
    assert type(failure.value) is kind
    assert failure.value.exit_code == 1
    assert words in str(failure.value)
    assert f"HTTP {status} from {HOST}/api/v1/export/{call}?" in str(failure.value)
    assert KEY not in str(failure.value)
    assert (waits, requests_mock.call_count) == ([], 1)


def test_a_refusal_of_another_kind_is_quoted(http, requests_mock):
    requests_mock.get(LIST, status_code=400, text=f"start\n  is   wrong {KEY} {'x' * 1000}")
    with pytest.raises(SourceError, match=r"'start is wrong \*\*\* x{181}'"):
        listed(http, 7)


@pytest.mark.parametrize("status", [401, 404, 410, 418])
def test_a_refusal_of_storage_is_not_blamed_on_the_key(http, requests_mock, status):
    requests_mock.get(GET, status_code=302, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, status_code=status, text="<Error>of storage</Error>")
    with pytest.raises(SourceError) as failure:
        download(http)
    assert f"HTTP {status} from {STORAGE}" in str(failure.value)
    assert "signed-secret" not in str(failure.value)
    assert "api_key" not in str(failure.value)


@pytest.mark.parametrize("status", [400, 403])
def test_a_location_that_ran_out_is_asked_for_again(http, requests_mock, waits, status):
    requests_mock.get(GET, status_code=302, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, [{"status_code": status}, {"content": b"[]"}])
    assert download(http) == b"[]"
    asked = [request.hostname for request in requests_mock.request_history]
    assert asked == 2 * ["export.example.com", "storage.example.net"]


# --- trying again ---

TRANSIENT: list[Any] = [
    {"status_code": 500},
    {"status_code": 502, "text": "<html>"},
    {"status_code": 503},
    {"status_code": 408},
    {"status_code": 499},
    {"exc": requests.ConnectTimeout},
    {"exc": requests.ReadTimeout},
    {"exc": requests.ConnectionError},
]


@pytest.mark.parametrize("answer", TRANSIENT, ids=str)
def test_what_may_pass_is_tried_again(http, requests_mock, waits, log, answer):
    requests_mock.get(LIST, [answer, answer, {"json": ONE}])
    assert listed(http) == ONE
    assert len(waits) == 2
    first, second = [line for line in log if line.startswith("WARNING")]
    assert first.startswith(f"WARNING {LIST}?start=0: ")
    assert first.endswith(f"; try 2 of {MAX_TRIES} in {waits[0]:.1f} s")
    assert second.endswith(f"; try 3 of {MAX_TRIES} in {waits[1]:.1f} s")


def test_it_gives_up_after_eight_tries(http, requests_mock, waits, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    requests_mock.get(LIST, status_code=503)
    with pytest.raises(
        NetworkError, match=r"failed 8 times, most recently: HTTP 503\. Nothing is lost"
    ):
        listed(http)
    assert requests_mock.call_count == 8
    assert waits == [0.5, 1, 2, 4, 8, 16, 30]


def test_the_waits_are_jittered(http, requests_mock, waits):
    requests_mock.get(LIST, status_code=503)
    for _ in range(20):
        with pytest.raises(NetworkError):
            listed(http)
    last_waits = waits[6::7]
    assert len(set(last_waits)) > 15
    assert min(last_waits) < 15 < max(last_waits)


class BreaksOff(io.BytesIO):
    def read(self, *_: object) -> bytes:
        raise ConnectionResetError(104, "Connection reset by peer")


def test_a_connection_that_breaks_amid_a_body(http, requests_mock, waits, log):
    requests_mock.get(LIST, [{"body": BreaksOff()}, {"json": ONE}])
    requests_mock.get(GET, [{"body": BreaksOff()}, {"content": b"[]"}])
    assert listed(http) == ONE
    assert download(http) == b"[]"
    assert len(waits) == 2
    assert "Connection reset by peer; try 2" in log[1]


def test_a_body_that_is_cut_is_taken_up_again(http, requests_mock, waits):
    requests_mock.get(
        GET, [{"content": b"[1,", "headers": {"Content-Length": "5"}}, {"content": b"[1,2]"}]
    )
    assert download(http) == b"[1,2]"
    assert len(waits) == 1


# --- throttling ---


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("30", 30, 30),
        (" 7 ", 7, 7),
        ("0", 1, 1),
        ("86400", 300, 300),
        (lambda: http_date(30), 28, 31),
        (lambda: http_date(-30), 1, 1),
        (lambda: http_date(86400), 300, 300),
        (None, 1, 1),
        ("", 1, 1),
        ("-5", 1, 1),
        ("soon", 1, 1),
        ("1.5", 1, 1),
        ("٣", 1, 1),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 1, 300),
        ("9" * 5000, 1, 300),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_retry_after(http, requests_mock, waits, header, low, high):
    value = header() if isinstance(header, Callable) else header
    headers = {} if value is None else {"Retry-After": value.encode().decode("latin-1")}
    requests_mock.get(LIST, [{"status_code": 429, "headers": headers}, {"json": ONE}])
    assert listed(http) == ONE
    (wait,) = waits
    assert low <= wait <= high


def test_throttling_uses_up_no_tries_and_is_no_error(http, requests_mock, waits, log):
    throttled = {"status_code": 429, "headers": {"Retry-After": "30"}}
    failed = {"status_code": 503}
    answers = [*[throttled] * 20, *[failed] * 7, *[throttled] * 20, {"content": b"[]"}]
    requests_mock.get(GET, answers)
    assert download(http) == b"[]"
    assert waits.count(30) == 40
    assert len([line for line in log if line.startswith("WARNING")]) == 7


def test_throttling_for_more_than_an_hour_is_given_up(http, requests_mock, waits):
    throttled = {"status_code": 429, "headers": {"Retry-After": "300"}}
    requests_mock.get(GET, [*[throttled] * 13, {"content": b"[]"}])
    with pytest.raises(NetworkError, match="rate limit"):
        download(http)
    assert sum(waits) == 3600


def test_repr_holds_no_key(http):
    assert KEY not in repr(http)


# --- the log ---


def test_a_request_does_not_set_logging_up_anew(http, requests_mock, monkeypatch):
    """While that goes on, what other threads log gets lost, and the end of the run may hang."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("logging.config.fileConfig", fail)
    requests_mock.get(LIST, json=ONE)
    assert listed(http) == ONE
