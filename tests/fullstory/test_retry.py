"""What is tried again, how long that waits, and when it gives up."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
import requests
from faults import fast
from hypothesis import example, given
from hypothesis import strategies as st
from running import run_command
from single_answers import GET, LIST, ONE, download, listed

from tap_fullstory.errors import NetworkError
from tap_fullstory.fullstory.responses import MAX_RETRY_AFTER_SECONDS, retry_after
from tap_fullstory.fullstory.retry import MAX_TRIES, PATIENT
from tap_fullstory.fullstory.session import HttpSession
from tap_fullstory.sandbox import Sandbox

TRANSIENT: list[Any] = [
    {"status_code": 500},
    {"status_code": 502, "text": "<html>"},
    {"status_code": 503},
    {"status_code": 408},
    {"status_code": 425},
    {"status_code": 499},
    {"exc": requests.ConnectTimeout},
    {"exc": requests.ReadTimeout},
    {"exc": requests.ConnectionError},
]


@pytest.mark.parametrize("answer", TRANSIENT, ids=str)
def test_transient_failures_are_retried(http, requests_mock, waits, log, answer):
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
    assert waits == [0.5, 1, 2, 4, 8, 16, 32]


def test_a_sync_gives_up_after_five_minutes_at_least(requests_mock, waits, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    requests_mock.get(LIST, status_code=503)
    http = HttpSession("key", "agent", 1, waits.append, lambda: sum(waits), PATIENT)
    with pytest.raises(NetworkError, match=r"failed 12 times, most recently: HTTP 503\."):
        listed(http)
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_a_sync_gives_up_after_eight_tries_at_least(requests_mock):
    requests_mock.get(LIST, status_code=503)
    hours = iter(range(0, 1_000_000, 3600))  # as with requests that take long to fail
    http = HttpSession("key", "agent", 1, lambda _: None, lambda: next(hours), PATIENT)
    with pytest.raises(NetworkError, match="failed 8 times"):
        listed(http)


@pytest.mark.parametrize("option", ["--test", "--discover"])
def test_what_somebody_waits_for_keeps_to_eight_tries(tmp_path, option):
    with Sandbox([], faults=["me:503,times=always", "list:503,times=always"]) as sandbox:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(sandbox.config()))
        run = run_command("--config", path, option, env=fast())
    assert run.code == 1
    assert " failed 8 times, most recently: HTTP 503" in run.critical


def test_the_waits_are_jittered(http, requests_mock, waits):
    requests_mock.get(LIST, status_code=503)
    for _ in range(20):
        with pytest.raises(NetworkError):
            listed(http)
    last_waits = waits[6::7]
    assert len(set(last_waits)) > 15
    assert min(last_waits) < 16 < max(last_waits)


class BreaksOff(io.BytesIO):
    def read(self, *_: object) -> bytes:
        raise ConnectionResetError(104, "Connection reset by peer")

    read1 = read


def test_a_connection_lost_inside_a_body_is_retried(http, requests_mock, waits, log):
    requests_mock.get(LIST, [{"body": BreaksOff()}, {"json": ONE}])
    requests_mock.get(GET, [{"body": BreaksOff()}, {"content": b"[]"}])
    assert listed(http) == ONE
    assert download(http) == b"[]"
    assert len(waits) == 2
    warnings = [line for line in log if line.startswith("WARNING ")]
    assert len(warnings) == 2
    assert all("Connection reset by peer; try 2" in line for line in warnings)


NOW = datetime(2028, 2, 29, 23, 59, 59, tzinfo=timezone.utc)


class StoppedClock(datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW.astimezone(tz)


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("30", 30, 30),
        (" 7 ", 7, 7),
        ("0", 1, 1),
        ("86400", 300, 300),
        (http_date(30), 30, 30),
        (http_date(30).replace("GMT", "-0000"), 30, 30),
        (http_date(-30), 1, 1),
        (http_date(86400), 300, 300),
        (None, 1, 1),
        ("", 1, 1),
        ("-5", 1, 1),
        ("soon", 1, 1),
        ("1.5", 1, 1),
        ("٣", 1, 1),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 1, 300),
        ("9" * 5000, 1, 300),
    ],
    ids=str,
)
def test_retry_after_is_seconds_or_a_date(
    http, requests_mock, waits, monkeypatch, header, low, high
):
    monkeypatch.setattr("tap_fullstory.fullstory.responses.datetime", StoppedClock)
    headers = {} if header is None else {"Retry-After": header.encode().decode("latin-1")}
    requests_mock.get(LIST, [{"status_code": 429, "headers": headers}, {"json": ONE}])
    assert listed(http) == ONE
    (wait,) = waits
    assert low <= wait <= high


def test_throttling_does_not_count_as_a_failed_try(http, requests_mock, waits, log):
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


@example("Mon, 1 Jan 3000000000 0:0:0 +0000")
@example("1 Jan 99999999999999999999 0:0:0 +99999999999999")
@given(
    st.text("0123456789 :,+-.JanFebMonWedGMTZ", max_size=40)
    | st.from_regex(
        r"Mon, [0-9]{1,22} Jan [0-9]{1,12} [0-9:]{1,12} [+-][0-9]{1,12}", fullmatch=True
    )
    | st.text()
)
def test_any_retry_after_gives_a_bounded_wait(value: str):
    wait = retry_after(value)
    assert wait is None or 0 < wait <= MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize("header", [None, "0", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_waits_double_where_retry_after_is_missing_or_not_valid(requests_mock, header):
    waits: list[float] = []
    headers = {"Retry-After": header} if header else {}
    requests_mock.get(LIST, [{"status_code": 429, "headers": headers}] * 8 + [{"text": "{}"}])
    http = HttpSession("key", "agent", 1, waits.append)
    assert http.get_json(LIST, {"id": "7"}, "list") == {}
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
