"""Downloads that break off: resumed only with the rest of the same file, else from the start."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from faults import WIRE_BODY, bundle
from raw_server import raw_server

from tap_fullstory.errors import SourceError
from tap_fullstory.fullstory.responses import READ_BYTES
from tap_fullstory.fullstory.session import HttpSession
from tap_fullstory.sandbox import Sandbox

URL = "https://export.example.com/api/v1/export/get"


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
def test_only_a_range_of_the_same_file_is_appended(http, requests_mock, answer, ends_it):
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


def test_a_range_shorter_than_requested_is_continued(http, requests_mock):
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
        ({"Content-Length": f"{READ_BYTES + 2}"}, f"bytes={READ_BYTES}-"),
        ({"Content-Length": f"{READ_BYTES + 2}", "ETag": 'W/"a"'}, f"bytes={READ_BYTES}-"),
        ({"Content-Length": "5" * 5000}, None),
        ({"Content-Length": "-5"}, None),
        ({}, None),
    ],
)
def test_a_range_is_requested_only_of_a_known_file(http, requests_mock, headers, range_asked):
    class BreaksOff(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if data := super().read(size):
                return data
            raise ConnectionResetError

        read1 = read

    whole = b"1" * READ_BYTES + b"23"
    cut = {"body": BreaksOff(whole[:-1]), "headers": headers}
    requests_mock.get(URL, [cut, {"content": whole}])
    sink = io.BytesIO()
    http.download(URL, {"id": "7"}, sink, "get")
    assert sink.getvalue() == whole
    second = requests_mock.last_request.headers
    assert second.get("Range") == range_asked
    assert "If-Range" not in second


def test_a_bundle_rebuilt_during_a_download_is_fetched_from_its_start(http):
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
        first, second = sandbox.requests
        assert (first.headers.get("range"), second.headers["range"]) == (None, "bytes=70000-")
    assert sink.getvalue() == rebuilt


@pytest.mark.parametrize("status", [200, 206, 416])
def test_a_partial_response_to_a_whole_request_is_refused(http, requests_mock, status):
    requests_mock.get(URL, status_code=status, text="{}")
    if status == 200:
        assert http.get_json(URL, {"id": "7"}, "list") == {}
        return
    with pytest.raises(SourceError, match=f"HTTP {status} from {URL}"):
        http.get_json(URL, {"id": "7"}, "list")


def test_a_download_that_lasts_is_logged_every_five_minutes(requests_mock, log):
    body = b"x" * 16 * READ_BYTES
    ticks = itertools.count(0, 20)
    http = HttpSession("key", "agent", 9, lambda _: None, lambda: next(ticks))
    requests_mock.get(URL, content=body, headers={"Content-Length": str(len(body))})
    http.download(URL, {"id": "7"}, io.BytesIO(), "get")
    lines = [line for line in log if "have been downloaded" in line]
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"INFO {URL}?id=7: ")
        assert line.endswith(f" of {len(body)} bytes have been downloaded")


def test_a_body_shorter_than_its_length_is_downloaded_again(http, requests_mock, waits):
    requests_mock.get(
        URL, [{"content": b"[1,", "headers": {"Content-Length": "5"}}, {"content": b"[1,2]"}]
    )
    sink = io.BytesIO()
    http.download(URL, {"id": "7"}, sink, "get")
    assert sink.getvalue() == b"[1,2]"
    assert len(waits) == 1


def test_chunked_overrides_a_length_that_comes_with_it(http, monkeypatch):
    """RFC 9112, 6.3."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"[%b]" % (b" " * 30_870)
    sink = io.BytesIO()
    with raw_server(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)) as server:
        http.download(f"{server.url}/get", {}, sink, "get")
        assert len(server.requests) == 1
    assert sink.getvalue() == body
