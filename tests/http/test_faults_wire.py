"""A wire that misbehaves: what the tap gets over, what it refuses, and its words."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from either_api import APIS, DATA_EXPORT, SEGMENT_EXPORT, Api, each_api, endpoint
from faults import (
    EXPORT_REFUSALS,
    KEY,
    RECOVERIES,
    REFUSALS,
    WIRE_BODY,
    WIRE_EVENTS,
    Refusal,
    WireFault,
    bundle,
    events,
    record,
    run_loudly,
)
from hypothesis import example, given
from hypothesis import strategies as st
from running import Run, counted, run_tap

from tap_fullstory.errors import SourceError
from tap_fullstory.http.headers import MAX_RETRY_AFTER_SECONDS, retry_after
from tap_fullstory.http.session import HttpSession
from tap_fullstory.http.urls import redact_url, resolve_redirect
from tap_fullstory.sandbox import Sandbox

ALL_REFUSALS = [
    *((DATA_EXPORT, refusal) for refusal in REFUSALS),
    *((SEGMENT_EXPORT, refusal) for refusal in EXPORT_REFUSALS),
]
URL = "https://export.example.com/api/v1/export/get"


def asked(sandbox: Sandbox) -> str:
    """The requests so far, by their endpoints, each with the first byte of a range; looks at an
    operation aside.
    """
    words = []
    for request in sandbox.requests:
        asked_range = request.headers.get("range", "")
        words.append(endpoint(request) + asked_range.replace("bytes=", "@").rstrip("-"))
    return " ".join(word for word in words if word != "operation")


def to_be_asked(api: Api, fault: WireFault) -> str:
    """What a table of bundles says of the requests, in the words of this API: an export is ordered
    instead of listed, and each file lies at the storage host, where the API is asked for first.
    """
    if api is DATA_EXPORT:
        return fault.requests
    words = fault.requests.split()
    if fault.options.get("redirect"):
        words = [word for word in words if not word.startswith("get")]
    names = {"list": "create", "get": "results storage", "storage": "results storage"}
    parts = (word.partition("@") for word in words)
    return " ".join(names[name] + at + first for name, at, first in parts)


def run_over(api: Api, fault: WireFault | Refusal) -> tuple[Run, str]:
    """A sync of one bundle over a wire with these faults, and what it asked for."""
    faults = [api.fault(each) for each in fault.faults]
    with api.sandbox(
        [bundle(0, WIRE_BODY)], api_key=KEY, faults=faults, **fault.options
    ) as sandbox:
        return run_loudly(api.config(sandbox, request_timeout=2)), asked(sandbox)


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[tuple[Api, str], Future[tuple[Run, str]]]]:
    """A run over each fault of the tables. They wait most of the time: side by side, then."""
    with ThreadPoolExecutor(4) as pool:
        faults = [*((api, fault) for api in APIS for fault in RECOVERIES), *ALL_REFUSALS]
        yield {(api, fault.name): pool.submit(run_over, api, fault) for api, fault in faults}
        pool.shutdown(cancel_futures=True)


@each_api
@pytest.mark.parametrize("fault", RECOVERIES, ids=lambda fault: fault.name)
def test_what_the_tap_gets_over(runs, api, fault):
    run, requested = runs[api, fault.name].result()
    assert run.code == 0, run.log
    assert counted(run.records) == counted(map(record, WIRE_EVENTS))
    assert requested == to_be_asked(api, fault)
    # Each retry is logged with its reason and its wait, throttling as no warning.
    retries = [line for line in run.logged("WARNING") if "; try " in line or "once more" in line]
    throttled = [
        line for line in run.logged("INFO") if re.search(r"is throttled \(HTTP .* in", line)
    ]
    failures = [
        text
        for text in map(str, fault.faults)
        if not re.search("slow|mislabelled|interim", text)  # which are none
    ]
    assert len(throttled) == len([text for text in failures if re.search("429|retry-after", text)])
    assert len(retries) == len(failures) - len(throttled)


@pytest.mark.parametrize(("api", "refusal"), ALL_REFUSALS, ids=lambda one: one.name)
def test_what_the_tap_refuses(runs, api, refusal):
    run, requested = runs[api, refusal.name].result()
    assert run.code == 1
    assert len(requested.split()) <= 12  # the most: a list, a get, and ten redirects
    assert refusal.words in run.critical
    assert not run.records
    # The state may tell of the export under way, and no more.
    ends = {state["bookmarks"]["events"]["bundle_end"] for state in run.states}
    assert ends <= ({"2026-06-01T00:00:00Z"} if api is SEGMENT_EXPORT else set())
    assert "; try " not in run.log


def test_two_downloads_at_a_time_are_normal_life():
    bundles = [bundle(day, events(3, 3 * day)) for day in range(6)]
    with Sandbox(bundles, get_limit=2, get_limit_seconds=1) as sandbox:
        run = run_tap(sandbox.config())
    assert run.code == 0
    assert [r["PageNumErrors"] for r in run.records] == list(range(18))
    assert "is throttled (HTTP 429); trying again in 1 s" in run.log
    assert not [line for line in run.logged("WARNING") if "values do not fit" not in line]


# --- the rest of a file, or of another ---


@pytest.fixture
def http(monkeypatch) -> HttpSession:
    monkeypatch.setattr("time.sleep", lambda _: None)
    return HttpSession("key", "agent", 1, lambda _: None)


def rest(content_range: str | None, **headers: str) -> dict[str, Any]:
    more = {} if content_range is None else {"Content-Range": content_range}
    return {"status_code": 206, "content": b"45", "headers": {**more, **headers}}


@pytest.mark.parametrize(
    ("answer", "ends_it"),
    [
        (rest("bytes 3-4/5", ETag='"a"'), True),
        (rest("bytes 3-4/5"), True),
        (rest("bytes 3-4/*", ETag='"a"'), True),
        (rest("bytes 3-4/5", ETag='"b"'), False),
        (rest("bytes 3-4/6", ETag='"a"'), False),
        (rest("bytes 0-1/5", ETag='"a"'), False),
        (rest("bytes ²-³/5", ETag='"a"'), False),
        (rest("lines 3-4/5", ETag='"a"'), False),
        (rest(None, ETag='"a"'), False),
        ({"status_code": 416}, False),
        ({"content": b"12345", "headers": {"ETag": '"a"'}}, True),
    ],
    ids=str,
)
def test_only_the_same_file_goes_on(http, requests_mock, answer, ends_it):
    """Else it starts over, and no byte of the one file gets into the other."""
    cut = {"content": b"123", "headers": {"Content-Length": "5", "ETag": '"a"'}}
    whole = {"content": b"67890", "headers": {"Content-Length": "5", "ETag": '"b"'}}
    requests_mock.get(URL, [cut, answer, whole])
    sink = io.BytesIO()
    http.download(URL, {"id": "7"}, sink, "get")
    assert sink.getvalue() == (b"12345" if ends_it else b"67890")
    assert requests_mock.call_count == (2 if ends_it else 3)
    second = requests_mock.request_history[1].headers
    assert (second["Range"], second["If-Range"]) == ("bytes=3-", '"a"')
    assert ends_it or "Range" not in requests_mock.last_request.headers


def test_a_part_that_is_not_all_of_the_rest(http, requests_mock):
    cut = {"content": b"123", "headers": {"Content-Length": "5", "ETag": '"a"'}}
    part = {**rest("bytes 3-3/5", ETag='"a"'), "content": b"4"}
    last = {**rest("bytes 4-4/5", ETag='"a"'), "content": b"5"}
    requests_mock.get(URL, [cut, part, last])
    sink = io.BytesIO()
    http.download(URL, {"id": "7"}, sink, "get")
    assert sink.getvalue() == b"12345"


@pytest.mark.parametrize(
    ("headers", "range_asked"),
    [
        ({"Content-Length": "5"}, "bytes=3-"),
        ({"Content-Length": "5", "ETag": 'W/"a"'}, "bytes=3-"),
        ({"Content-Length": "5" * 5000}, None),
        ({"Content-Length": "-5"}, None),
        ({}, None),
    ],
)
def test_a_rest_is_asked_for_where_it_could_be_known(http, requests_mock, headers, range_asked):
    class BreaksOff(io.BytesIO):
        def read(self, *size: int) -> bytes:
            if data := super().read(*size):
                return data
            raise ConnectionResetError

    cut = {"body": BreaksOff(b"123"), "headers": headers}
    requests_mock.get(URL, [cut, {"content": b"12345"}])
    sink = io.BytesIO()
    http.download(URL, {"id": "7"}, sink, "get")
    assert sink.getvalue() == b"12345"
    second = requests_mock.last_request.headers
    assert second.get("Range") == range_asked
    assert "If-Range" not in second


def test_a_bundle_that_is_rebuilt_amid_a_download(http):
    """A real server tells by If-Range that the rest would be of another file."""
    with Sandbox([bundle(0, WIRE_BODY)], faults=["get:cut,after=70000"]) as sandbox:
        rebuilt = WIRE_BODY.replace(b"click", b"mouse")

        class Rebuilds(io.BytesIO):
            def write(self, data: Any) -> int:
                sandbox.publish(bundle(0, rebuilt))
                return super().write(data)

        sink = Rebuilds()
        with_key = HttpSession(sandbox.api_key, "agent", 9, lambda _: None)
        url = f"{sandbox.url}/api/v1/export/get"
        with_key.download(url, {"id": sandbox.bundles[0].id}, sink, "get")
        assert asked(sandbox) == "get get@70000"
    assert sink.getvalue() == rebuilt


# --- answers that nobody asked for ---


@pytest.mark.parametrize("status", [200, 206, 416])
def test_parts_that_nobody_asked_for(http, requests_mock, status):
    requests_mock.get(URL, status_code=status, text="{}")
    if status == 200:
        assert http.get_json(URL, {"id": "7"}, "list") == {}
        return
    with pytest.raises(SourceError, match=f"HTTP {status} from {URL}"):
        http.get_json(URL, {"id": "7"}, "list")


def test_http_on_loopback_is_no_step_down():
    assert resolve_redirect("https://localhost/x", "http://127.0.0.1/y") == "http://127.0.0.1/y"
    assert resolve_redirect("https://localhost/x", "http://[::1]:8/y") == "http://[::1]:8/y"


@example("Mon, 1 Jan 3000000000 0:0:0 +0000")
@example("1 Jan 99999999999999999999 0:0:0 +99999999999999")
@given(
    st.text("0123456789 :,+-.JanFebMonWedGMTZ", max_size=40)
    | st.from_regex(
        r"Mon, [0-9]{1,22} Jan [0-9]{1,12} [0-9:]{1,12} [+-][0-9]{1,12}", fullmatch=True
    )
    | st.text()
)
def test_whatever_retry_after_says_the_wait_is_bounded(value: str):
    wait = retry_after(value)
    assert wait is None or 0 < wait <= MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize("header", [None, "0", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_throttling_without_a_time_is_asked_about_less_and_less(requests_mock, header):
    waits: list[float] = []
    headers = {"Retry-After": header} if header else {}
    requests_mock.get(URL, [{"status_code": 429, "headers": headers}] * 8 + [{"text": "{}"}])
    http = HttpSession("key", "agent", 1, waits.append)
    assert http.get_json(URL, {"id": "7"}, "list") == {}
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@example("http://[::1")
@given(st.text("htps:/[]@?#%.*aé²\x00 -127localhost\\", max_size=40))
def test_whatever_a_location_says_it_is_refused_in_words_or_shown_bare(value: str):
    try:
        target = resolve_redirect("https://export.example.com/x", value)
    except SourceError:
        return
    assert not {"?", "@", "#"} & set(redact_url(target, {}).partition("//")[2].partition("/")[0])
    assert "?" not in redact_url(target, {})
