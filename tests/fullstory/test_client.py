"""The client over single answers: what it asks, what it reads, and what it refuses."""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from single_answers import GET, HOST, KEY, LIST

from tap_fullstory.errors import SourceError
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.fullstory.client import Client
from tap_fullstory.settings import parse_config

BUNDLE = Bundle(
    "156453120048",
    datetime(2019, 7, 31, tzinfo=timezone.utc),
    datetime(2019, 8, 1, tzinfo=timezone.utc),
)
LISTED = {"Id": 156453120048, "Start": 1564531200, "Stop": 1564617600}
ONE = {"exports": [LISTED]}


@pytest.fixture
def client() -> Iterator[Client]:
    now = datetime(2026, 6, 7, tzinfo=timezone.utc)
    with Client(parse_config({"api_key": KEY, "data_export_url": HOST}, now, {})) as client:
        yield client


def download(client: Client) -> bytes:
    sink = io.BytesIO()
    client.download_bundle(BUNDLE, sink)
    return sink.getvalue()


# --- what is asked ---


def test_a_list_call_sends_key_user_agent_and_start(client, requests_mock):
    requests_mock.get(LIST, json=ONE)
    assert client.list_bundles(after=1564531199) == [BUNDLE]
    (request,) = requests_mock.request_history
    assert request.url == f"{LIST}?start=1564531199"
    assert request.headers["Authorization"] == f"Basic {KEY}"
    assert request.headers["User-Agent"].startswith("tap-fullstory/")
    assert request.timeout == 300


def test_a_download_is_kept_as_it_was_sent(client, requests_mock):
    packed = gzip.compress(b"[]")
    for headers in ({"Content-Encoding": "gzip"}, {"Content-Type": "application/gzip"}, {}):
        requests_mock.get(GET, content=packed, headers=headers)
        assert download(client) == packed
    assert requests_mock.last_request.url == f"{GET}?id=156453120048"
    assert requests_mock.last_request.headers["Authorization"] == f"Basic {KEY}"


# --- what is read ---


@pytest.mark.parametrize(
    "listed",
    [
        LISTED,
        {"id": "156453120048", "start": "1564531200", "stop": "1564617600"},
        {"id": 156453120048, "Start": "1564531200", "STOP": 1564617600, "Size": 7},
    ],
)
@pytest.mark.parametrize("exports", ["exports", "Exports"])
def test_both_spellings_of_a_list(client, requests_mock, listed, exports):
    requests_mock.get(LIST, json={exports: [listed], "more": None})
    assert client.list_bundles(0) == [BUNDLE]


@pytest.mark.parametrize("answer", [{}, [], None, {"exports": None}, {"Exports": None, "more": 1}])
def test_a_nil_list_is_empty(client, requests_mock, answer):
    requests_mock.get(LIST, text=json.dumps(answer))
    assert client.list_bundles(0) == []


def test_a_bundle_id_is_percent_encoded_in_the_download_url(client, requests_mock):
    requests_mock.get(LIST, json={"exports": [{**LISTED, "Id": "a/b c&d=é"}]})
    (bundle,) = client.list_bundles(0)
    requests_mock.get(GET, content=b"[]")
    client.download_bundle(bundle, io.BytesIO())
    assert requests_mock.last_request.url == f"{GET}?id=a%2Fb+c%26d%3D%C3%A9"


NO_NUMBERS: list[Any] = [None, True, [], 1.5, ""]


@pytest.mark.parametrize(
    "answer",
    [
        3, "text", [3], {"more": None}, {"exports": {}}, {"exports": [3]},
        {"error": "no such thing"}, {"exports": [[]]}, {"exports": [{}]},
        *({"exports": [{**LISTED, name: value}]}
          for name in LISTED for value in NO_NUMBERS),
        {"exports": [{**LISTED, "Stop": "tomorrow"}]},
        {"exports": [{**LISTED, "Stop": 10**15}]},
        {"exports": [LISTED, {}]},
    ],
    ids=lambda answer: json.dumps(answer)[:60],
)  # fmt: skip
def test_an_answer_that_is_not_a_list_of_bundles_is_refused(client, requests_mock, answer):
    requests_mock.get(LIST, text=json.dumps(answer))
    with pytest.raises(SourceError, match=rf"{LIST}\?start=7 returned JSON that is not a list"):
        client.list_bundles(7)


# --- what is logged ---


def test_every_request_is_logged_with_its_parameters(client, requests_mock, caplog):
    requests_mock.get(LIST, json=ONE)
    with caplog.at_level(logging.DEBUG):
        client.list_bundles(7)
    assert f"GET {LIST}?start=7" in caplog.messages
