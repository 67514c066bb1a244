"""A wire that misbehaves: what the tap gets over, what it refuses, and its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from either_api import APIS, DATA_EXPORT, SEGMENT_EXPORT, Api, each_api, endpoint
from faults import (
    EXPORT_LASTING,
    EXPORT_REFUSALS,
    KEY,
    LASTING,
    RECOVERIES,
    REFUSALS,
    WIRE_BODY,
    WIRE_EVENTS,
    Refusal,
    WireFault,
    bundle,
    events,
    fast,
    record,
    run_loudly,
)
from running import Run, counted, run_tap

from tap_fullstory.sandbox import Fault, Sandbox

ALL_REFUSALS = [
    *((DATA_EXPORT, refusal) for refusal in REFUSALS),
    *((SEGMENT_EXPORT, refusal) for refusal in EXPORT_REFUSALS),
]


ALL_LASTING = [
    *((api, fault) for api in APIS for fault in LASTING),
    *((SEGMENT_EXPORT, fault) for fault in EXPORT_LASTING),
]


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
    instead of listed, and each file is at the storage host, after a request to the API.
    """
    if api is DATA_EXPORT:
        return fault.requests
    words = fault.requests.split()
    if fault.options.get("redirect"):
        words = [word for word in words if not word.startswith("get")]
    names = {"list": "create", "get": "results storage", "storage": "results storage"}
    parts = (word.partition("@") for word in words)
    return " ".join(names[name] + at + first for name, at, first in parts)


def run_over(api: Api, fault: WireFault | Refusal, **more: Any) -> tuple[Run, str]:
    """A sync of one bundle over a wire with these faults, and what it requested."""
    faults = [api.fault(each) for each in fault.faults]
    with api.sandbox(
        [bundle(0, WIRE_BODY)], api_key=KEY, faults=faults, **fault.options
    ) as sandbox:
        return run_loudly(api.config(sandbox, request_timeout=2), **more), asked(sandbox)


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[tuple[Api, str], Future[tuple[Run, str]]]]:
    """A run over each fault of the tables. They wait most of the time: side by side, then."""
    with ThreadPoolExecutor(4) as pool:
        lasting = {
            (api, f"lasting {fault.name}"): pool.submit(run_over, api, fault, env=fast())
            for api, fault in ALL_LASTING
        }
        faults: Any = [*((api, fault) for api in APIS for fault in RECOVERIES), *ALL_REFUSALS]
        passing = {(api, fault.name): pool.submit(run_over, api, fault) for api, fault in faults}
        yield {**passing, **lasting}
        pool.shutdown(cancel_futures=True)


@each_api
@pytest.mark.parametrize("fault", RECOVERIES, ids=lambda fault: fault.name)
def test_passing_faults_are_recovered_from(runs, api, fault):
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
        if not re.search("slow|mislabelled|interim|count=950", text)  # which are none
    ]
    assert len(throttled) == len([text for text in failures if re.search("429|retry-after", text)])
    assert len(retries) == len(failures) - len(throttled)


@pytest.mark.parametrize(("api", "refusal"), ALL_REFUSALS, ids=lambda one: one.name)
def test_refusals_end_the_run_at_once_with_a_reason(runs, api, refusal):
    run, requested = runs[api, refusal.name].result()
    assert run.code == 1
    assert len(requested.split()) <= 12  # the most: a list, a get, and ten redirects
    assert refusal.words in run.critical
    assert not run.records
    # The state may tell of the export under way, and no more.
    ends = {state["bookmarks"]["events"]["bundle_end"] for state in run.states}
    assert ends <= ({"2026-06-01T00:00:00Z"} if api is SEGMENT_EXPORT else set())
    assert "; try " not in run.log


@pytest.mark.parametrize(("api", "fault"), ALL_LASTING, ids=lambda one: one.name)
def test_a_fault_that_lasts_ends_the_run_with_its_name(runs, api, fault):
    run, _ = runs[api, f"lasting {fault.name}"].result()
    assert run.code == 1
    assert fault.words in run.critical
    assert "skip_bundles" not in run.critical
    assert not run.records
    tries = run.log.count("; try ")
    # What has too many headers will have them again; a POST may have started something.
    is_post = api is SEGMENT_EXPORT and fault.name.startswith("list") and "503" not in fault.name
    if is_post or re.search("lengths|headers", fault.name):
        assert tries == 2
    elif fault.name.startswith("storage"):
        assert tries == 3
    else:
        assert tries >= 8


def test_a_redirect_with_bytes_beyond_ascii_is_followed_as_it_came():
    with Sandbox([bundle(0, events(3))], redirect=True) as sandbox:
        name = sandbox.bundles[0].id
        path = f"/api/v1/export/get?id={name}&x=é%25%C3%BC"
        sandbox.fault(Fault("redirect", "get", location=f"  {path} "))
        run = run_tap(sandbox.config())
        assert run.code == 0, run.log
        assert sandbox.requests[2].target == f"/api/v1/export/get?id={name}&x=%C3%A9%25%C3%BC"


@each_api
def test_a_slow_body_counts_as_cut_and_is_resumed(api):
    # By the tap's clock, which is 300 times as fast, some 80 bytes a second.
    fault = api.fault(Fault("slow", "get", rate=25_000, times=2))
    with api.sandbox([bundle(0, WIRE_BODY)], api_key=KEY, faults=[fault]) as sandbox:
        run = run_loudly(api.config(sandbox), env=fast())
        ranges = [one.headers.get("range") for one in sandbox.requests if "range" in one.headers]
    assert run.code == 0, run.log
    assert counted(run.records) == counted(map(record, WIRE_EVENTS))
    assert len(set(ranges)) == 2
    warnings = [line for line in run.logged("WARNING") if "the body is too slow: " in line]
    assert len(warnings) == 2


def test_a_slow_list_counts_as_cut():
    with Sandbox([bundle(0, WIRE_BODY)], faults=[Fault("slow", "list", rate=10)]) as sandbox:
        run = run_tap(sandbox.config(), env=fast())
    assert run.code == 0, run.log
    assert len(run.records) == len(WIRE_EVENTS)
    assert "the body is too slow: " in run.log


def test_the_download_limit_is_waited_out():
    bundles = [bundle(day, events(3, 3 * day)) for day in range(6)]
    with Sandbox(bundles, get_limit=2, get_limit_seconds=1) as sandbox:
        run = run_tap(sandbox.config())
    assert run.code == 0
    assert [r["PageNumErrors"] for r in run.records] == list(range(18))
    waits = run.log.count("is throttled (HTTP 429); trying again in 1 s")
    assert waits
    assert f" s, {waits} s of it throttled. The newest bundle" in run.log
    assert not [line for line in run.logged("WARNING") if "values do not fit" not in line]
