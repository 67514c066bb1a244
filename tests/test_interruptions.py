"""Whatever ends a run while the process lives, the STATE of what is written goes out first.

Each row is a place in a run where an exception can arise, and which of its calls raises.
"""

from __future__ import annotations

from typing import Any

import pytest
from faults import KEY, array, bundle, events, lines, record
from raising import raising_at
from running import counted, run_tap

from tap_fullstory.sandbox import Sandbox

EVENTS = events(180)
BUNDLES = [bundle(day, array(lines(EVENTS[60 * day : 60 * day + 60]))) for day in range(3)]
P = "tap_fullstory"

PLACES = [
    # listing and downloading, in the thread that prefetches
    (f"{P}.fullstory.client:Client.list_bundles", 1, "before"),
    (f"{P}.fullstory.client:Client.download_bundle", 2, "before"),
    (f"{P}.fullstory.client:Client.download_bundle", 2, "after"),
    (f"{P}.exports.unpack:Verifier.feed", 2, "before"),
    (f"{P}.exports.unpack:Verifier.end", 2, "before"),
    (f"{P}.sync_export:fetch", 3, "before"),
    (f"{P}.logs.progress:Progress.listed", 1, "after"),
    # one bundle, from spool to lines
    (f"{P}.sync_export:record_envelope", 2, "before"),
    (f"{P}.logs.progress:Progress.begin", 2, "before"),
    (f"{P}.exports.spool:unpack", 2, "before"),
    (f"{P}.records.reader:crc32", 3, "before"),
    (f"{P}.records.reader:crc32", 12, "after"),
    (f"{P}.records.encoder:RecordEncoder.encode", 3, "before"),
    (f"{P}.records.encoder:RecordEncoder.encode", 5, "after"),
    # lines to the output
    (f"{P}.output.messages:MessageWriter.records", 2, "before"),
    (f"{P}.output.messages:MessageWriter.flush_if_full", 2, "before"),
    (f"{P}.output.messages:MessageWriter.flush_if_full", 5, "after"),
    (f"{P}.output.messages:MessageWriter.flush", 2, "before"),
    (f"{P}.output.messages:MessageWriter.flush", 3, "after"),
    (f"{P}.output.messages:_write", 2, "before"),
    (f"{P}.output.messages:islice", 3, "before"),
    # what is counted
    (f"{P}.logs.progress:Progress.events", 2, "before"),
    (f"{P}.logs.progress:Progress.events", 4, "after"),
    (f"{P}.records.encoder:EncodingStats.add", 2, "before"),
    ("singer.metrics:Counter.increment", 3, "before"),
    ("singer.metrics:Counter.increment", 4, "after"),
    ("singer.metrics:Counter._pop", 1, "before"),
    (f"{P}.signals:Signals.raise_if_arrived", 6, "before"),
    # the end of a bundle
    (f"{P}.sync_export:report_bundle", 2, "before"),
    (f"{P}.counts:BoundedCounter.add_all", 1, "after"),
    (f"{P}.logs.progress:Progress.end", 1, "before"),
    (f"{P}.logs.progress:Progress.end", 2, "after"),
    (f"{P}.exports.data_export:DataExport.release", 1, "before"),
    (f"{P}.exports.data_export:DataExport.in_progress", 2, "before"),
    # the state
    (f"{P}.bookmarks:with_partial", 2, "before"),
    (f"{P}.bookmarks:with_export", 2, "after"),
    (f"{P}.bookmarks:with_bundle_end", 2, "before"),
    (f"{P}.bookmarks:with_bundle_end", 2, "after"),
    (f"{P}.output.messages:MessageWriter.state", 2, "before"),
    (f"{P}.output.messages:MessageWriter.state", 4, "after"),
    (f"{P}.sync_export:ExportSync._move_bookmark", 2, "before"),
    (f"{P}.sync_export:ExportSync._move_bookmark", 2, "after"),
    # the end of the run
    (f"{P}.sync_export:report_undeclared", 1, "before"),
    (f"{P}.exports.data_export:DataExport.close", 1, "before"),
    (f"{P}.logs.progress:RunSummary._log", 1, "before"),
]  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> Any:
    with Sandbox(BUNDLES, api_key=KEY) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("place", "call", "when"), PLACES, ids=lambda value: str(value).rpartition(":")[2]
)
def test_nothing_is_lost_or_doubled_wherever_a_run_ends(sandbox, tmp_path, place, call, when):
    config = sandbox.config(checkpoint_events=20)
    first = run_tap(config, env=raising_at(tmp_path, place, "MemoryError", call, when))
    assert first.code == 1, "the place was not reached"
    assert "out of memory" in first.critical
    assert first.states or not first.records
    second = run_tap(config, state=first.states[-1] if first.states else None)
    assert second.code == 0
    assert counted([*first.records, *second.records]) == counted(map(record, EVENTS))
    assert "may come twice" not in second.log
