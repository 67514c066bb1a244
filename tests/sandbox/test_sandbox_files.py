"""The sandbox's listing and its files, over real HTTP."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
import requests
from sandbox_client import DAY, UNTIL, events_in, hand_made

from tap_fullstory.sandbox import (
    COMPRESSIONS,
    LAYOUTS,
    generated_bundles,
)

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
    listed = client.session.post(url + "list", json={"start": 1_600_000_000 + DAY}, timeout=60)
    assert [bundle["Id"] for bundle in listed.json()["exports"]] == [1]
    assert client.session.post(url + "get", json={"id": 1}, timeout=60).content == b'[{"a": 1}]'
    assert client.session.post(url + "list", data="{", timeout=60).status_code == 400


@pytest.mark.parametrize(
    "given", [None, "Basic wrong", "na1.sandbox-key", "Bearer na1.sandbox-key"]
)
@pytest.mark.parametrize("path", ["/api/v1/export/list", "/api/v1/export/get", "/me"])
def test_the_key_is_checked(open_client, path, given):
    client = open_client(hand_made())
    headers = {"Authorization": given} if given else {}
    answer = requests.get(client.sandbox.url + path, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert client.session.get(f"{client.sandbox.url}/me", timeout=60).json()["role"] == "ARCHITECT"


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


def test_a_file_requested_by_many_at_once_is_made_once(open_client):
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
