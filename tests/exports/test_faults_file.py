"""Files that cannot be read to their end: no record lost, none doubled, and words to go on with."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from either_api import APIS, Api, each_api
from faults import KEY, array, bundle, events, fast, lines, packed, record, run_loudly
from file_faults import FILE_EVENTS, MALFORMED, NOT_BUNDLES, UNPROVEN, FileFault
from running import Json, Run, counted

from tap_fullstory.sandbox import Bundle

EVENTS = events(FILE_EVENTS + 20)
BEFORE, INSIDE, AFTER = EVENTS[:10], EVENTS[10:-10], EVENTS[-10:]  # of three bundles
SETTINGS = {"checkpoint_events": 25, "max_event_mb": 1}
ALL = counted(map(record, [*BEFORE, *INSIDE, *AFTER]))
SPOILT = bundle(1, b"")
# Malformed in ways that differ in where the next run continues.
GO_ON = ["number", "first", "last", "broken", "brace-too-many", "no-comma", "another-array"]


def listed(body: bytes) -> list[Bundle]:
    return [bundle(0, array(lines(BEFORE))), bundle(1, body), bundle(2, packed(lines(AFTER)))]


def tell(api: Api, fault: FileFault) -> tuple[Run, int]:
    """A run that meets the bundle, and how often it has downloaded it."""
    with api.sandbox(listed(fault.spoil(lines(INSIDE))), api_key=KEY) as sandbox:
        run = run_loudly(api.config(sandbox, **SETTINGS))
        return run, api.downloads(sandbox, SPOILT)


def go_on(api: Api, fault: FileFault, state: Json) -> tuple[Run, Run]:
    """What becomes of it in the next run, and once FullStory has repaired the bundle."""
    with api.sandbox(listed(fault.spoil(lines(INSIDE))), api_key=KEY) as sandbox:
        config = api.config(sandbox, **SETTINGS)
        again = run_loudly(config, state=state)
        api.publish(sandbox, bundle(1, packed(lines(INSIDE))))
        return again, run_loudly(config, state=(again.states or [state])[-1])


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[tuple[Api, str], Future[tuple[Run, int]]]]:
    """A run for each fault of the tables, over each API, three at a time."""
    with ThreadPoolExecutor(3) as pool:
        yield {
            (api, fault.name): pool.submit(tell, api, fault)
            for api in APIS
            for fault in [*UNPROVEN, *MALFORMED]
        }
        pool.shutdown(cancel_futures=True)


def assert_words(api: Api, run: Run, fault: FileFault) -> None:
    name = api.bundle_id(SPOILT)
    assert run.code == 1
    assert f"Bundle {name} (2026-06-02T00:00:00Z to 2026-06-03T00:00:00Z) " in run.critical
    assert fault.words in run.critical
    assert re.search(r" at unpacked byte \d+\. The bookmark stays before it", run.critical)
    assert f'"skip_bundles": ["{name}"]' in run.critical


@each_api
@pytest.mark.parametrize("fault", UNPROVEN, ids=lambda fault: fault.name)
def test_no_record_of_a_truncated_file_is_emitted(runs, api, fault):
    run, fetched = runs[api, fault.name].result()
    assert_words(api, run, fault)
    assert counted(run.records) == counted(map(record, BEFORE))
    assert run.state == {"bookmarks": {"events": {"bundle_end": "2026-06-02T00:00:00Z"}}}
    # The download may have been to blame.
    assert fetched == 2
    (line,) = [line for line in run.logged("WARNING") if "downloading it once more" in line]
    assert line.startswith(f"Bundle {api.bundle_id(SPOILT)} (")
    assert fault.words in line


@each_api
@pytest.mark.parametrize("fault", NOT_BUNDLES, ids=lambda fault: fault.name)
def test_what_comes_in_place_of_a_bundle_is_named_and_the_bundle_not_given_up(api, fault):
    with api.sandbox(listed(fault.spoil(lines(INSIDE))), api_key=KEY) as sandbox:
        run = run_loudly(api.config(sandbox, **SETTINGS), env=fast())
    assert run.code == 1
    name = api.bundle_id(SPOILT)
    assert f"Bundle {name} (2026-06-02T00:00:00Z to 2026-06-03T00:00:00Z) " in run.critical
    assert f"{fault.words}, however often it is requested. The bookmark stays" in run.critical
    assert "skip_bundles" not in run.log
    assert run.log.count(f"the body {fault.words}; try ") >= 8
    assert counted(run.records) == counted(map(record, BEFORE))
    assert run.state["bookmarks"]["events"]["bundle_end"] == "2026-06-02T00:00:00Z"


@each_api
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_bundle_whose_json_is_null_has_no_events(api, pack):
    with api.sandbox(listed(pack(b"null\n"))) as sandbox:
        run = run_loudly(api.config(sandbox, **SETTINGS))
    assert run.code == 0, run.log
    assert counted(run.records) == counted(map(record, [*BEFORE, *AFTER]))
    assert run.state["bookmarks"]["events"]["bundle_end"] == "2026-06-04T00:00:00Z"


@each_api
@pytest.mark.parametrize("fault", MALFORMED, ids=lambda fault: fault.name)
def test_the_events_before_a_malformed_one_are_emitted(runs, api, fault):
    run, fetched = runs[api, fault.name].result()
    assert_words(api, run, fault)
    assert counted(run.records) == counted(map(record, [*BEFORE, *INSIDE[: fault.whole]]))
    bookmark = run.state["bookmarks"]["events"]
    assert bookmark["bundle_end"] == "2026-06-02T00:00:00Z"
    assert (bookmark.get("partial") or {"events": 0})["events"] == fault.whole
    assert fetched == 1


@each_api
@pytest.mark.parametrize(
    "fault",
    [fault for fault in MALFORMED if fault.name in GO_ON],
    ids=lambda fault: fault.name,
)
def test_the_run_after_a_malformed_event_doubles_and_skips_nothing(runs, api, fault):
    run, _ = runs[api, fault.name].result()
    again, repaired = go_on(api, fault, run.state)
    assert_words(api, again, fault)
    assert not again.records
    assert [position(state) for state in again.states] in ([], [position(run.state)])
    assert repaired.code == 0
    if fault.repairable:
        assert "come twice" not in repaired.log
        assert counted([*run.records, *repaired.records]) == ALL
    else:
        assert f"up to {fault.whole} rows may come twice" in repaired.log
        assert counted(repaired.records) == counted(map(record, [*INSIDE, *AFTER]))


def position(state: Json) -> Json:
    """How far a state has got, whatever export that comes from."""
    bookmark = dict(state["bookmarks"]["events"])
    bookmark.pop("export", None)
    return bookmark


@each_api
@pytest.mark.parametrize("fault", [UNPROVEN[0], MALFORMED[0]], ids=lambda fault: fault.name)
def test_skip_bundles_leaves_out_a_damaged_bundle(runs, api, fault):
    state, name = runs[api, fault.name].result()[0].state, api.bundle_id(SPOILT)
    with api.sandbox(listed(fault.spoil(lines(INSIDE))), api_key=KEY) as sandbox:
        run = run_loudly(api.config(sandbox, skip_bundles=[name], **SETTINGS), state=state)
    assert run.code == 0
    assert counted(run.records) == counted(map(record, AFTER))
    ended = run.state["bookmarks"]["events"]
    assert ended.pop("bundle_end") == "2026-06-04T00:00:00Z"
    assert set(ended.values()) <= {None}
    assert any(line.startswith(f"Bundle {name} (") for line in run.logged("WARNING"))
    assert not api.downloads(sandbox, SPOILT)


# Where the first byte that is wrong is in the file: before an event, at the start, or the end.
PLACES = {
    **dict.fromkeys(["number", "null", "text", "broken", "too-large", "no-utf-8"], "an event"),
    "first": "the start",
    "another-array": "the end",
}


@each_api
@pytest.mark.parametrize(
    "fault", [fault for fault in MALFORMED if fault.name in PLACES], ids=lambda fault: fault.name
)
def test_errors_name_the_byte_where_the_fault_begins(runs, api, fault):
    offsets = {
        "an event": len(array(lines(INSIDE[: fault.whole]))) + len(b",\n") - len(b"]"),
        "the start": len(b"["),
        "the end": len(array(lines(INSIDE))) - len(b"]"),
    }
    offset = offsets[PLACES[fault.name]]
    assert f" at unpacked byte {offset}. " in runs[api, fault.name].result()[0].critical


@each_api
def test_a_second_download_replaces_a_damaged_one(api):
    fault = api.fault(f"get/{SPOILT.id}:flip,after=2000")
    with api.sandbox(listed(packed(lines(INSIDE))), faults=[fault]) as sandbox:
        run = run_loudly(api.config(sandbox, **SETTINGS))
    assert run.code == 0
    assert counted(run.records) == ALL
    assert "once more" in run.log


@each_api
def test_equal_events_of_one_bundle_are_all_emitted(api):
    with api.sandbox([bundle(0, array(lines(AFTER + AFTER)))]) as sandbox:
        run = run_loudly(api.config(sandbox))
    assert run.records == [*map(record, AFTER), *map(record, AFTER)]
