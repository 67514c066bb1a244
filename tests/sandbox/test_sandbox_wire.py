"""What goes wrong on the way to a client, if the sandbox is told so."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest
import requests
from sandbox_client import Client, hand_made

from tap_fullstory.sandbox import (
    Fault,
    parse_fault,
)

# --- the storage host ---


def test_downloads_may_be_redirected_to_a_host_that_must_not_see_the_key(open_client):
    client = open_client(hand_made(b"[1]"), redirect=True)
    answer = client.get(0)
    assert answer.status_code == 302
    location = answer.headers["Location"]
    assert location.startswith(client.sandbox.storage_url)
    assert client.sandbox.storage_url != client.sandbox.url
    assert requests.get(location, timeout=60).content == b"[1]"
    assert client.session.get(location, timeout=60).status_code == 400
    assert requests.get(location[:-1], timeout=60).status_code == 403
    at_storage = [request for request in client.sandbox.requests if request.origin == "storage"]
    assert ["authorization" in request.headers for request in at_storage] == [False, True, False]


def test_an_expired_location_stays_so_and_a_fresh_one_works(open_client):
    client = open_client(hand_made(b"[1]"), redirect=True, faults=["storage:expired"])
    location = client.get(0).headers["Location"]
    answers = [requests.get(location, timeout=60) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].text.startswith("<?xml")
    assert requests.get(client.get(0).headers["Location"], timeout=60).content == b"[1]"


# --- ranges ---


@pytest.mark.parametrize("from_storage", [False, True])
def test_half_a_download_can_be_resumed(open_client, from_storage):
    client = open_client(redirect=from_storage)
    bundle = client.sandbox.bundles[0]

    def get(**headers: str) -> requests.Response:
        if not from_storage:
            return client.get(bundle.id, **headers)
        location = client.get(bundle.id).headers["Location"]
        return requests.get(location, headers=headers, timeout=60)

    whole = get()
    size, etag = len(whole.content), whole.headers["ETag"]
    assert (whole.status_code, whole.headers["Accept-Ranges"]) == (200, "bytes")
    rest = get(Range="bytes=100-", **{"If-Range": etag})
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    assert rest.headers["Content-Range"] == f"bytes 100-{size - 1}/{size}"
    assert rest.headers["ETag"] == etag
    assert get(Range="bytes=100-199").content == whole.content[100:200]
    assert get(Range="bytes=100-", **{"If-Range": '"other"'}).content == whole.content
    beyond = get(Range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")


def test_a_server_without_ranges(open_client):
    answer = open_client(hand_made(b"[1]"), ranges=False).get(0, Range="bytes=1-")
    assert (answer.status_code, answer.content) == (200, b"[1]")
    assert "ETag" not in answer.headers


def test_an_entity_that_changes_with_each_request(open_client):
    client = open_client(hand_made(b"[1]"), changing_etag=True)
    etag = client.get(0).headers["ETag"]
    assert client.get(0, Range="bytes=1-", **{"If-Range": etag}).status_code == 200
    blind = client.get(0, Range="bytes=1-")
    assert (blind.status_code, blind.headers["ETag"] == etag) == (206, False)


# --- faults ---

BODY = bytes(range(256)) * 280  # more than one piece of what the server sends at once


def cut_body(client: Client) -> bytes:
    """The body bytes that arrive before the download fails, which it must."""
    body = bytearray()
    url = f"{client.sandbox.url}/api/v1/export/get?id=0"
    with client.session.get(url, stream=True, timeout=60) as answer:
        try:
            for piece in answer.iter_content(1):  # a larger one would be lost with the failure
                body += piece
        except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
            return bytes(body)
    pytest.fail("the download did not fail")


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 502, 503])
@pytest.mark.parametrize("endpoint", ["list", "get", "me"])
def test_any_status_for_the_first_requests(open_client, endpoint, status):
    client = open_client(hand_made(), faults=[f"{endpoint}:{status},times=2"])
    path = "/me" if endpoint == "me" else f"/api/v1/export/{endpoint}?id=0"
    answers = [client.session.get(client.sandbox.url + path, timeout=60) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]


def test_a_status_with_headers_and_body_of_ones_own(open_client):
    fault = Fault(
        "status", "list", status=418, headers={"X-Teapot": "1"}, body=b"short", times=None
    )
    answer = open_client(faults=[fault]).ask("list")
    assert (answer.status_code, answer.headers["X-Teapot"], answer.text) == (418, "1", "short")


@pytest.mark.parametrize("retry_after", ["7", "garbage", None])
def test_retry_after_comes_as_told(open_client, retry_after):
    client = open_client(faults=[Fault("status", status=429, retry_after=retry_after)])
    assert client.ask("list").headers.get("Retry-After") == retry_after


def test_retry_after_as_a_date(open_client):
    headers = open_client(faults=["list:429,retry-after=date+90"]).ask("list").headers
    told, now = (parsedate_to_datetime(headers[name]) for name in ("Retry-After", "Date"))
    assert 85 < (told - now).total_seconds() <= 90


def test_a_web_page_where_json_should_be(open_client):
    answer = open_client(faults=["list:html"]).ask("list")
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (200, "text/html")
    assert "<html>" in answer.text


def test_a_reset_before_the_answer(open_client):
    client = open_client(hand_made(BODY), faults=["get:reset"])
    with pytest.raises(requests.ConnectionError, match=r"reset by peer"):
        client.get(0)
    assert client.get(0).content == BODY


def test_silence(open_client):
    client = open_client(hand_made(BODY), faults=["get:silence,seconds=9"])
    with pytest.raises(requests.ReadTimeout):
        client.session.get(f"{client.sandbox.url}/api/v1/export/get?id=0", timeout=0.1)
    assert client.get(0).content == BODY


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", ["cut", "chunked"])
def test_a_body_that_ends_too_early(open_client, kind, end):
    client = open_client(hand_made(BODY), faults=[Fault(kind, "get", after=70_001, end=end)])
    body = cut_body(client)
    assert BODY.startswith(body)
    if end == "close":
        assert len(body) == 70_001
    assert client.get(0).content == BODY


def test_a_body_that_ends_too_early_though_cleanly(open_client):
    client = open_client(hand_made(BODY), faults=["get:chunked,after=-1,end=clean"])
    assert client.get(0).content == BODY[:-1]
    client.sandbox.fault("get:truncate,after=5")
    answer = client.get(0)
    assert (answer.content, answer.headers["Content-Length"]) == (BODY[:5], "5")


def test_a_body_that_stalls(open_client):
    client = open_client(hand_made(BODY), faults=["get:stall,after=70000,seconds=0.1"])
    began = time.monotonic()
    assert client.get(0).content == BODY
    assert time.monotonic() - began >= 0.1


def test_a_slow_body(open_client):
    client = open_client(hand_made(b"[1,2,3,4]"), faults=["get:slow,rate=60"])
    began = time.monotonic()
    assert client.get(0).content == b"[1,2,3,4]"
    assert time.monotonic() - began >= 6 / 60  # pieces of three bytes, the last not waited for


@pytest.mark.parametrize("place", [0, 70_000, -1])
def test_a_flipped_bit(open_client, place):
    client = open_client(hand_made(BODY), faults=[Fault("flip", "get", after=place)])
    body = client.get(0).content
    differing = [
        index for index, pair in enumerate(zip(body, BODY, strict=True)) if pair[0] != pair[1]
    ]
    assert differing == [place % len(BODY)]
    assert (body[place] ^ BODY[place]).bit_count() == 1


def test_redirects(open_client):
    client = open_client(faults=["list:redirect", "list:redirect,location=http://example.com/x"])
    answer = client.ask("list", start=7)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/api/v1/export/list?start=7")
    assert client.ask("list").headers["Location"] == "http://example.com/x"


def test_faults_choose_their_requests(open_client):
    client = open_client(hand_made(number=0), hand_made(number=1))
    client.sandbox.fault("get/1:503,skip=1,times=2")
    assert [client.get(1).status_code for _ in range(4)] == [200, 503, 503, 200]
    client.sandbox.fault("get/1:500,times=always")
    assert [client.get(number).status_code for number in (0, 1, 1)] == [200, 500, 500]
    assert client.ask("list").status_code == 200
    client.sandbox.clear_faults()
    assert client.get(1).status_code == 200


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("503", Fault("status", status=503)),
        ("list:reset", Fault("reset", "list")),
        ("get/12:cut,after=-8,end=reset", Fault("cut", "get", "12", after=-8, end="reset")),
        ("any:slow,rate=0.5,times=always", Fault("slow", rate=0.5, times=None)),
        ("me:status,status=200,body={}", Fault("status", "me", status=200, body=b"{}")),
    ],
)
def test_faults_as_text(spec, fault):
    assert parse_fault(spec) == fault


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "get:",
        "get:explode",
        "post:503",
        "get:status",
        "cut,after=x",
        "cut,where=1",
        "cut,end=clean",
    ],
)
def test_faults_as_wrong_text(spec):
    with pytest.raises(ValueError, match=r"."):
        parse_fault(spec)
