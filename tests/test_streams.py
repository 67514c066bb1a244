"""Every stream is complete. What a new one lacks is named, with its file: see CONTRIBUTING.md."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from environments import ROOT
from rest_runs import COUNTS

from tap_fullstory.columns import _OF_STREAMS
from tap_fullstory.sandbox import Sandbox
from tap_fullstory.sandbox.faults import REST_ENDPOINTS
from tap_fullstory.streams import EVENTS, STREAMS, RestStream, Stream


def missing_in_schema(stream: Stream) -> Iterator[str]:
    file = f"schemas/{stream.name}.json"
    path = ROOT / "tap_fullstory" / file
    if not path.exists():
        yield f"{file} is missing"
        return
    properties = json.loads(path.read_text("utf-8"))["properties"]
    for name in stream.key_properties:
        if "null" in properties.get(name, {}).get("type", ["null"]):
            yield f"{file} has no property {name} that is never null, and it is part of the key"
    if stream.replication_key and stream.replication_key not in properties:
        yield f"{file} has no property {stream.replication_key}, the replication key"
    if stream.overflow and "object" not in properties.get(stream.overflow, {}).get("type", []):
        yield f"{file} has no property {stream.overflow}, an object for what no other one takes"
    for name, declared in properties.items():
        if not declared.get("description"):
            yield f"{file}: {name} has no description"


def missing_elsewhere(stream: Stream, sandbox: Sandbox) -> Iterator[str]:
    if stream.name not in _OF_STREAMS:
        yield "columns.py does not say in _OF_STREAMS which properties hold personal data"
    if not isinstance(stream, RestStream):
        return
    if stream.name not in COUNTS:
        yield "tests/helpers/rest_runs.py does not say in COUNTS how many records the sandbox has"
    if stream.name not in REST_ENDPOINTS:
        yield "sandbox/faults.py does not list it in REST_ENDPOINTS"
        return
    sandbox.fault(f"{stream.name}:418")
    path = stream.path.replace("{}", "x")
    if requests.get(sandbox.url + path, params={"uid": "x"}, timeout=60).status_code != 418:
        yield f"sandbox/rest.py has no route of that name for {stream.path}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_a_stream_is_complete(sandbox, stream):
    missing = [*missing_in_schema(stream), *missing_elsewhere(stream, sandbox)]
    assert not missing, "\n".join(f"{stream.name}: {line}" for line in missing)


def test_what_a_new_stream_lacks_is_named_with_its_file(sandbox):
    new = RestStream("teams", "/v2/teams", EVENTS.level, "1 call", ("id",))
    assert [*missing_in_schema(new), *missing_elsewhere(new, sandbox)] == [
        "schemas/teams.json is missing",
        "columns.py does not say in _OF_STREAMS which properties hold personal data",
        "tests/helpers/rest_runs.py does not say in COUNTS how many records the sandbox has",
        "sandbox/faults.py does not list it in REST_ENDPOINTS",
    ]
