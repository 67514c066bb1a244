"""The sandbox from outside, over real HTTP: it must be FullStory enough to prove a tap with."""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

import tap_fullstory.sandbox
from tap_fullstory.sandbox import (
    COMPRESSIONS,
    EXAMPLE_SESSION_ID,
    EXAMPLE_USER_ID,
    LAYOUTS,
    Bundle,
    Fault,
    GeneratedEvents,
    Sandbox,
    generate_events,
    generated_bundles,
    parse_fault,
)

DAY = 24 * 60 * 60
UNTIL = datetime(2026, 6, 7, tzinfo=timezone.utc)

# FullStory's dictionary of export fields: developer.fullstory.com/server/v1/segments/export-fields/
DOCUMENTED_FIELDS = set(
    """
    IndvId UserId SessionId PageId UserCreated UserAppKey UserDisplayName UserEmail SessionStart
    EventStart EventType EventSubType EventCustomName EventTargetText EventTargetSelector
    EventDuration EventSecondaryDuration EventPageOffset EventSessionOffset EventModFrustrated
    EventModDead EventModError EventModSuspicious EventVarErrorKind EventVarFields
    EventWebSourceFileUrl EventMobileSourceFile EventFirstInputDelay EventCumulativeLayoutShift
    PageName PageStart PageDuration PageActiveDuration PageUrl PageRefererUrl PageIp PageLatLong
    PageUserAgent PageBrowser PageBrowserVersion PageDevice PagePlatform PageOperatingSystem
    PageScreenWidth PageScreenHeight PageViewportWidth PageViewportHeight PageNumEvents
    PageNumDerivedEvents PageNumInfos PageNumWarnings PageNumErrors PageClusterId
    PageMaxScrollDepthPercent
    LoadDomContentTime LoadEventTime LoadFirstPaintTime LoadLargestPaintTime
    ReqUrl ReqMethod ReqStatus
    AppName AppPackageName AppDeviceModel AppDeviceVendor AppVersion AppOsVersion AppViewName
    """.split()
)
LEGACY_FIELDS = {"PageAgent", "EventTargetSelectorTok"}
EVENT_TYPES = set(
    """
    abandon backgrounded change click click_error console_message copy crashed
    cumulative_layout_shift custom custom_error exception first_input_delay highlight keyboard_open
    keyboard_close load low_memory navigate pageview paste pinch_gesture request seen seen_error
    thrash uservar
    """.split()
)


class Client:
    """What a careful client of the Data Export API does, and no more."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Basic {sandbox.api_key}"

    def list(self, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.ask("list", **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["exports"]

    def get(self, bundle_id: Any, **headers: str) -> requests.Response:
        return self.ask("get", headers, id=bundle_id)

    def ask(
        self, call: str, headers: dict[str, str] | None = None, **parameters: Any
    ) -> requests.Response:
        return self.session.get(
            f"{self.sandbox.url}/api/v1/export/{call}",
            params=parameters,
            headers=headers,
            allow_redirects=False,
            timeout=5,
        )


@pytest.fixture
def open_client() -> Iterator[Any]:
    clients: list[Client] = []

    def make(*bundles: Bundle, **options: Any) -> Client:
        clients.append(Client(Sandbox(bundles or None, **options)))
        return clients[-1]

    yield make
    for client in clients:
        client.session.close()
        client.sandbox.close()


def events_in(file: bytes) -> Any:
    return json.loads(gzip.decompress(file) if file[:2] == b"\x1f\x8b" else file)


def hand_made(body: Any = b"[]", number: int = 0, **more: Any) -> Bundle:
    start = 1_600_000_000 + number * DAY
    return Bundle(str(number), start, start + DAY, body, **more)


# --- listing ---


def test_a_listing_is_as_fullstorys_example(open_client):
    client = open_client(clock=lambda: UNTIL + timedelta(hours=35, minutes=59))
    listed = client.list(start=0)
    assert [list(bundle) for bundle in listed] == [["Id", "Start", "Stop"]] * 6
    assert all(type(value) is int for bundle in listed for value in bundle.values())
    assert all(bundle["Id"] == int(f"{bundle['Start']}48") for bundle in listed)
    assert all(bundle["Stop"] - bundle["Start"] == DAY for bundle in listed)
    assert [bundle["Stop"] for bundle in listed[:-1]] == [bundle["Start"] for bundle in listed[1:]]
    assert listed[-1]["Stop"] == UNTIL.timestamp()  # a midnight, a day ago or more


def test_start_is_exclusive_and_compared_with_the_end(open_client):
    client = open_client(hand_made(number=0), hand_made(number=1))
    first, second = client.list(start=0)
    assert client.list(start=first["Stop"] - 1) == [first, second]
    assert client.list(start=first["Stop"]) == [second]
    assert client.list(start=second["Stop"]) == []
    assert client.list() == [first, second]
    assert client.ask("list", start="yesterday").status_code == 400


def test_an_inclusive_listing_repeats_the_last_bundle(open_client):
    client = open_client(hand_made(number=0), inclusive_list=True)
    (only,) = client.list(start=0)
    assert client.list(start=only["Stop"]) == [only]


def test_sixty_bundles_come_in_pages_of_twenty(open_client):
    client = open_client(*(hand_made(number=number) for number in reversed(range(60))))
    seen, start, pages = [], 0, []
    while True:
        page = client.list(start=start)
        pages.append(len(page))
        if not page:
            break
        seen += [bundle["Id"] for bundle in page]
        start = page[-1]["Stop"]
    assert (pages, seen) == ([20, 20, 20, 0], list(range(60)))


def test_a_listing_in_the_other_documented_style(open_client):
    (bundle,) = open_client(hand_made(), list_style="lower-strings").list(start=0)
    assert bundle == {"id": "0", "start": "1600000000", "stop": "1600086400"}


def test_parameters_may_come_as_the_json_body_of_a_post(open_client):
    client = open_client(hand_made(number=0), hand_made(b'[{"a": 1}]', number=1))
    url = f"{client.sandbox.url}/api/v1/export/"
    listed = client.session.post(url + "list", json={"start": 1_600_000_000 + DAY}, timeout=5)
    assert [bundle["Id"] for bundle in listed.json()["exports"]] == [1]
    assert client.session.post(url + "get", json={"id": 1}, timeout=5).content == b'[{"a": 1}]'
    assert client.session.post(url + "list", data="{", timeout=5).status_code == 400


@pytest.mark.parametrize(
    "given", [None, "Basic wrong", "na1.sandbox-key", "Bearer na1.sandbox-key"]
)
@pytest.mark.parametrize("path", ["/api/v1/export/list", "/api/v1/export/get", "/me"])
def test_the_key_is_checked(open_client, path, given):
    client = open_client(hand_made())
    headers = {"Authorization": given} if given else {}
    answer = requests.get(client.sandbox.url + path, headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert client.session.get(f"{client.sandbox.url}/me", timeout=5).json()["role"] == "ARCHITECT"


# --- files ---


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_compression_gives_the_same_events(open_client, layout, compression):
    client = open_client(layout=layout, compression=compression)
    for bundle in client.sandbox.bundles:
        answer = client.get(bundle.id)
        assert events_in(answer.content) == list(bundle.body)
    kind, encoding = answer.headers["Content-Type"], answer.headers.get("Content-Encoding")
    expected = {"none": "application/json", "content-encoding": "application/json"}
    assert kind == expected.get(compression, "application/gzip")
    assert encoding == ("gzip" if compression == "content-encoding" else None)
    assert "DataExport.json" in answer.headers["Content-Disposition"]


def test_the_layouts_differ(open_client):
    texts = {}
    for layout in LAYOUTS:
        bundle = hand_made([{"a": "x\n"}, {"b": [1]}])
        texts[layout] = open_client(bundle, layout=layout, compression="none").get(0).text
    assert texts["lines"] == '[{"a":"x\\n"},\n{"b":[1]}]'
    assert texts["oneline"] == '[{"a":"x\\n"},{"b":[1]}]'
    assert texts["indented"] == json.dumps([{"a": "x\n"}, {"b": [1]}], indent=2) + "\n"


def test_members_really_are_several(open_client):
    packed = open_client(compression="members").get(generated_bundles()[0].id).content
    assert packed.count(b"\x1f\x8b\x08") >= 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bundle_without_events(open_client, layout):
    assert open_client(hand_made([]), layout=layout, compression="none").get(0).text == "[]"


def test_a_file_is_served_exactly_as_given(open_client, tmp_path):
    cut = gzip.compress(b'[{"a": 1}]')[:-3]
    path = tmp_path / "bundle"
    path.write_bytes(b"\xef\xbb\xbf[1,")
    client = open_client(
        hand_made(cut, 0),
        hand_made(path, 1, content_type="text/plain"),
        hand_made(gzip.compress(b"[]"), 2, content_encoding="gzip"),
    )
    first = client.get(0)
    assert (first.content, first.headers["Content-Type"]) == (cut, "application/gzip")
    second = client.get(1)
    assert (second.content, second.headers["Content-Type"]) == (b"\xef\xbb\xbf[1,", "text/plain")
    third = client.get(2)
    assert (third.content, third.headers["Content-Encoding"]) == (b"[]", "gzip")
    assert client.get(3).status_code == 404
    assert client.ask("get").status_code == 400


def test_a_bundle_may_be_rebuilt(open_client):
    client = open_client(hand_made([{"a": 1}]))
    before = client.get(0)
    client.sandbox.publish(hand_made([{"a": 2}]))
    after = client.get(0)
    assert [events_in(answer.content) for answer in (before, after)] == [[{"a": 1}], [{"a": 2}]]
    assert before.headers["ETag"] != after.headers["ETag"]
    assert len(client.list(start=0)) == 1


def test_a_file_asked_for_by_many_at_once_is_made_once(open_client):
    made = []

    def slowly() -> Iterator[dict[str, int]]:
        made.append(1)
        time.sleep(0.05)
        yield {"a": 1}

    client = open_client(hand_made(slowly()))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(client.get(0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [events_in(answer.content) for answer in answers] == [[{"a": 1}]] * 4
    assert made == [1]


# --- generated events ---


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return [event for bundle in generated_bundles(until=UNTIL) for event in bundle.events]


def test_144_events_of_every_type_with_every_field(events):
    assert len(events) == 144
    assert {event["EventType"] for event in events} == EVENT_TYPES
    fields = {name for event in events for name in event if name[0].isupper()}
    assert fields == DOCUMENTED_FIELDS | LEGACY_FIELDS


@pytest.mark.parametrize("seed", [1, 6, 20])  # with the last two, few browsers turn up
def test_every_seed_shows_every_field(seed):
    events = [
        event for bundle in generated_bundles(seed=seed, until=UNTIL) for event in bundle.body
    ]
    assert {name for event in events for name in event} >= DOCUMENTED_FIELDS | LEGACY_FIELDS


def test_absent_values_are_absent_keys_and_some_are_empty(events):
    assert all(value is not None for event in events for value in event.values())
    for name in ("UserAppKey", "UserEmail", "PageIp"):
        values = {event[name] for event in events}
        assert "" in values
        assert len(values) > 1
    dead = [event["EventModDead"] for event in events if "EventModDead" in event]
    assert dead
    assert len(dead) < 10


def test_ids_are_integers_mostly_beyond_doubles(events):
    ids = [event[name] for event in events for name in ("IndvId", "UserId", "SessionId", "PageId")]
    assert all(type(number) is int and 10**15 <= number < 2**63 for number in ids)
    assert sum(number > 2**53 for number in ids) > len(ids) / 2


def test_times_are_utc_within_the_bundle_and_not_sorted():
    for bundle in generated_bundles(until=UNTIL):
        starts = [event["EventStart"] for event in bundle.events]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text) for text in starts)
        times = [datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in starts]
        assert all(bundle.start <= moment < bundle.stop for moment in times)
        assert starts != sorted(starts)


def test_a_third_of_events_has_custom_variables(events):
    custom = [event for event in events if any(name[0].islower() for name in event)]
    assert 0.25 < len(custom) / len(events) < 0.42
    names = {name for event in events for name in event if name[0].islower()}
    assert {name.split("_")[0] for name in names} == {"user", "evt", "page"}
    suffixes = {name.rpartition("_")[2] for name in names}
    assert suffixes == {
        "str",
        "int",
        "real",
        "bool",
        "date",
        "strs",
        "ints",
        "reals",
        "bools",
        "dates",
    }
    assert {"evt_order.order_id_str", "evt_order_id_str"} <= names
    totals = {
        type(event["evt_order.total_real"]) for event in events if "evt_order.total_real" in event
    }
    assert totals == {int, float}


def test_rows_are_distinct_though_sessions_share_milliseconds(events):
    assert len({json.dumps(event, sort_keys=True) for event in events}) == len(events)
    moments = Counter((event["SessionId"], event["EventStart"]) for event in events)
    assert max(moments.values()) > 1


def test_text_is_not_just_ascii(events):
    text = json.dumps(events, ensure_ascii=False)
    assert any(ord(character) > 0xFFFF for character in text)
    assert any(0x7F < ord(character) < 0xFFFF for character in text)


def test_the_example_session(events):
    oldest = generated_bundles(until=UNTIL)[0].events
    steps = [event for event in events if event["SessionId"] == EXAMPLE_SESSION_ID]
    assert all(event in oldest for event in steps)
    assert [event for event in events if event["UserId"] == EXAMPLE_USER_ID] == steps
    steps.sort(key=lambda event: event["EventStart"])
    assert len({event["EventStart"] for event in steps}) == 4
    shown = [(event["EventType"], event["EventTargetText"], event["PageUrl"]) for event in steps]
    assert shown == [
        ("click", "Update Address", "https://example.com/my-account"),
        ("click", "Street address", "https://example.com/update-address"),
        ("change", "1339 Chestnut Street", "https://example.com/update-address"),
        ("click", "Save Changes", "https://example.com/update-address"),
    ]
    assert steps[2]["EventTargetSelector"].endswith(' input[aria-label="Street address"]')
    assert steps[2]["EventTargetSelectorTok"].endswith(" input =aria%2Dlabel=Street%20address")
    assert len({event["PageId"] for event in steps[1:]}) == 1


def test_sessions_hang_together(events):
    for session in {event["SessionId"] for event in events}:
        rows = [event for event in events if event["SessionId"] == session]
        assert (
            len({(event["UserId"], event["SessionStart"], event["PagePlatform"]) for event in rows})
            == 1
        )
        rows.sort(key=lambda event: event["EventSessionOffset"])
        assert [row["EventStart"] for row in rows] == sorted(row["EventStart"] for row in rows)
        durations = {(event["PageId"], event["PageDuration"]) for event in rows}
        assert len(durations) == len({event["PageId"] for event in rows})


def test_the_same_seed_and_end_give_the_same_bytes(open_client):
    def files(**options: Any) -> list[bytes]:
        bundles = generated_bundles(2, 30, until=UNTIL, **options)
        client = open_client(*bundles)
        return [client.get(bundle.id).content for bundle in bundles]

    assert files() == files()
    assert files()[0][:10] == b"\x1f\x8b\x08\x00" + bytes(4) + files()[0][8:10]  # no time in it
    assert files()[0] != files(seed=1)[0]


def test_events_are_made_one_by_one():
    events = generate_events(0, DAY, 10**9)
    assert next(events)["EventStart"].startswith("1970-01-01T")
    assert len(list(GeneratedEvents(0, DAY, 1001))) == 1001
    assert len(list(GeneratedEvents(0, 60, 50))) == 50  # a period shorter than a session


# --- the storage host ---


def test_downloads_may_be_redirected_to_a_host_that_must_not_see_the_key(open_client):
    client = open_client(hand_made(b"[1]"), redirect=True)
    answer = client.get(0)
    assert answer.status_code == 302
    location = answer.headers["Location"]
    assert location.startswith(client.sandbox.storage_url)
    assert client.sandbox.storage_url != client.sandbox.url
    assert requests.get(location, timeout=5).content == b"[1]"
    assert client.session.get(location, timeout=5).status_code == 400
    assert requests.get(location[:-1], timeout=5).status_code == 403
    at_storage = [request for request in client.sandbox.requests if request.origin == "storage"]
    assert ["authorization" in request.headers for request in at_storage] == [False, True, False]


def test_an_expired_location_stays_so_and_a_fresh_one_works(open_client):
    client = open_client(hand_made(b"[1]"), redirect=True, faults=["storage:expired"])
    location = client.get(0).headers["Location"]
    answers = [requests.get(location, timeout=5) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].text.startswith("<?xml")
    assert requests.get(client.get(0).headers["Location"], timeout=5).content == b"[1]"


# --- ranges ---


@pytest.mark.parametrize("from_storage", [False, True])
def test_half_a_download_can_be_taken_up_again(open_client, from_storage):
    client = open_client(redirect=from_storage)
    bundle = client.sandbox.bundles[0]

    def get(**headers: str) -> requests.Response:
        if not from_storage:
            return client.get(bundle.id, **headers)
        location = client.get(bundle.id).headers["Location"]
        return requests.get(location, headers=headers, timeout=5)

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
    with client.session.get(url, stream=True, timeout=5) as answer:
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
    answers = [client.session.get(client.sandbox.url + path, timeout=5) for _ in range(3)]
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


# --- limits, publishing, the object itself ---


def test_downloads_may_be_limited(open_client):
    client = open_client(hand_made(b"[1]"), get_limit=2, get_limit_seconds=0.2)
    answers = [client.get(0) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"  # whole seconds
    assert client.list(start=0)
    time.sleep(0.2)
    assert client.get(0).status_code == 200


def test_unpublished_bundles_appear_one_by_one(open_client):
    client = open_client(*(hand_made(number=number) for number in range(3)), unpublished=2)
    publish = f"{client.sandbox.url}/sandbox/publish"
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0]
    assert client.get(1).status_code == 404
    assert requests.post(publish, timeout=5).json() == {"published": "1"}
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0, 1]
    assert client.sandbox.publish().id == "2"
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0, 1, 2]
    assert requests.post(publish, timeout=5).status_code == 409
    client.sandbox.publish(hand_made(number=9))
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0, 1, 2, 9]


def test_requests_are_recorded(open_client):
    client = open_client(hand_made())
    before = time.monotonic()
    client.list(start=5)
    (request,) = client.sandbox.requests
    assert (request.origin, request.method, request.path) == ("api", "GET", "/api/v1/export/list")
    assert request.query == {"start": "5"}
    assert request.headers["authorization"] == "Basic na1.sandbox-key"
    assert before <= request.at <= time.monotonic()
    assert "sandbox-key" not in repr(request)


def test_the_config_names_the_sandbox(open_client):
    sandbox = open_client(hand_made()).sandbox
    assert sandbox.config(checkpoint_events=5) == {
        "api_key": "na1.sandbox-key",
        "start_date": "2020-09-13T12:26:40Z",
        "data_export_url": sandbox.url,
        "api_url": sandbox.url,
        "checkpoint_events": 5,
    }


@pytest.mark.parametrize(
    "options", [{"layout": "x"}, {"compression": "x"}, {"list_style": "x"}, {"faults": ["x"]}]
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(ValueError, match="'x'"):
        Sandbox(**options)


def test_the_end_leaves_neither_files_nor_connections(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox() as sandbox:
        client = Client(sandbox)
        client.get(sandbox.bundles[0].id)
        assert len(list(tmp_path.glob("*/*"))) == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(requests.ConnectionError):
        client.ask("list")
    client.session.close()


def test_the_sandbox_imports_nothing_of_the_tap():
    for path in Path(tap_fullstory.sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, path
                assert node.level == 1 or not node.module.startswith("tap_fullstory"), path
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith("tap_fullstory") for name in node.names), path


# --- the command ---

COMMAND = [sys.executable, "-m", "tap_fullstory.sandbox"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_a_config_and_ends_cleanly(tmp_path, number):
    options = "--bundles 3 --events 40 --unpublished 1 --until 2026-06-07 --fault list:503".split()
    config_file = tmp_path / "config.json"
    process = subprocess.Popen(
        [*COMMAND, *options, "--config-out", str(config_file), "--verbose"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    config = json.loads(process.stdout.readline())
    assert json.loads(config_file.read_text(encoding="utf-8")) == config
    assert config["start_date"] == "2026-06-04T00:00:00Z"
    headers = {"Authorization": f"Basic {config['api_key']}"}
    url = f"{config['data_export_url']}/api/v1/export"
    answers = [requests.get(f"{url}/list?start=0", headers=headers, timeout=5) for _ in range(2)]
    assert answers[0].status_code == 503
    listed = answers[1].json()["exports"]
    assert len(listed) == 2
    file = requests.get(f"{url}/get?id={listed[0]['Id']}", headers=headers, timeout=5).content
    assert len(events_in(file)) == 40
    process.send_signal(number)
    out, log = process.communicate(timeout=5)
    assert (process.returncode, out) == (0, "")
    assert log.splitlines()[0] == "api GET /api/v1/export/list 503"
    assert config["api_key"] not in log
    assert list(tmp_path.iterdir()) == [config_file]


def test_the_command_explains_all_its_options():
    text = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    for option in (
        "port api-key bundles events seed until unpublished layout compression redirect get-limit "
        "fault config-out verbose"
    ).split():
        assert re.search(rf"^  --{option}\b.*\n? +\w", text, re.MULTILINE), option


@pytest.mark.parametrize("option", ["--fault=get:explode", "--bundles=-1", "--until=soon"])
def test_the_command_refuses_what_it_does_not_know(option):
    run = subprocess.run([*COMMAND, option], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert option.partition("=")[0] in run.stderr.splitlines()[-1]


def test_the_command_says_why_it_cannot_start():
    with Sandbox([]) as sandbox:
        port = sandbox.url.rpartition(":")[2]
        run = subprocess.run(
            [*COMMAND, f"--port={port}"], capture_output=True, text=True, check=False
        )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("the sandbox cannot start: ")
    assert run.stderr.count("\n") == 1
