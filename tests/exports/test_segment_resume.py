"""Runs that end in the middle of an export, and the runs after them; and changes from one API to
the other.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from either_api import DATA_EXPORT, SEGMENT_EXPORT, UNTIL, days, orders, requests_to
from interrupting import interrupted, until
from running import Run, counted, discover, run_tap, selecting, start_tap

from tap_fullstory.bookmarks import Export, with_export
from tap_fullstory.errors import NetworkError, TapError
from tap_fullstory.exports.segment_export import ExportRequest, SegmentExport
from tap_fullstory.fullstory.client import Client, Operation
from tap_fullstory.sandbox import Fault, Sandbox
from tap_fullstory.settings import parse_config
from tap_fullstory.times import format_rfc3339

Json = dict[str, Any]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
EVENTS = ("events",)
api = SEGMENT_EXPORT


def pending(bundle: str | None = None, times: int | None = None) -> Fault:
    body = b'{"state":"PENDING","estimatePctComplete":3}'
    return Fault("status", endpoint="operation", bundle=bundle, status=200, body=body, times=times)


def bookmark(run: Run) -> Json:
    return run.state["bookmarks"]["events"]


def all_of(*runs: Run) -> Counter[str]:
    return counted(record for run in runs for record in run.records)


def operations(sandbox: Sandbox) -> set[str]:
    return {request.path.split("/")[3] for request in requests_to(sandbox, "operation")}


def cancelled(sandbox: Sandbox) -> list[str]:
    return [request.path.split("/")[3] for request in requests_to(sandbox, "cancel")]


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_being_made_is_left_to_the_next_run(ahead, number):
    with api.sandbox(faults=[pending()]) as sandbox:
        config = api.config(sandbox, prefetch_bundles=ahead)
        first = interrupted(
            config, lambda: len(requests_to(sandbox, "operation")) >= 2, number=number
        )
        assert first.code == 128 + number
        (operation,) = operations(sandbox)
        start, end = "2024-06-04T00:00:00Z", "2024-06-05T00:00:00Z"
        export = {"id": operation, "start": start, "end": end, "fields": None}
        assert first.state == {"bookmarks": {"events": {"bundle_end": start, "export": export}}}
        assert cancelled(sandbox) == []

        sandbox.clear_faults()
        second = run_tap(config, state=first.state)
        assert len(orders(sandbox)) == 3
        assert all_of(second) == counted(api.records(sandbox))
        assert bookmark(second) == {"bundle_end": format_rfc3339(UNTIL), "export": None}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_window_continues_in_the_same_file(number):
    with api.sandbox(days(2, 600), reorder=True) as sandbox:
        sandbox.fault(pending(sandbox.bundles[1].id))
        config = api.config(sandbox, checkpoint_events=10)
        first = interrupted(
            config, lambda: len(operations(sandbox)) == 2, in_bundle=True, number=number
        )
        partial, export = bookmark(first)["partial"], bookmark(first)["export"]
        assert partial["id"] == "2024-06-05T00:00:00Z/2024-06-06T00:00:00Z"
        assert 0 < partial["events"] == len(first.records) < 600

        # What no run would fetch is cancelled, where there is time for it.
        (other,) = operations(sandbox) - {export["id"]}
        assert cancelled(sandbox) == ([other] if number == signal.SIGTERM else [])

        sandbox.clear_faults()
        second = run_tap(config, state=first.state)
        assert [order["timeRange"]["start"][8:10] for order in orders(sandbox)] == [
            "05", "06", "06"
        ]  # fmt: skip
        assert all_of(first, second) == counted(api.records(sandbox))


@pytest.fixture(scope="module")
def stopped() -> Iterable[Callable[..., tuple[Sandbox, Json, Run]]]:
    """Makes a sandbox with a run that was stopped in the middle of the first of its windows."""
    sandboxes: list[Sandbox] = []

    def make(**options: Any) -> tuple[Sandbox, Json, Run]:
        sandbox = api.sandbox(days(2, 600), **options)
        sandboxes.append(sandbox)
        config = api.config(sandbox, checkpoint_events=100)
        return sandbox, config, interrupted(config, lambda: True, in_bundle=True)

    yield make
    for sandbox in sandboxes:
        sandbox.close()


def test_an_export_that_has_expired_is_created_again_and_continues_if_it_is_the_same(stopped):
    sandbox, config, first = stopped(reorder=False)
    sandbox.fault("results:expired")
    second = run_tap(config, state=first.state)
    assert all_of(first, second) == counted(api.records(sandbox))
    assert not any("come twice" in line for line in second.logged("WARNING"))


def test_an_export_that_has_expired_is_created_again_and_starts_over_if_it_is_not(stopped):
    sandbox, config, first = stopped(reorder=True)
    sandbox.fault("results:expired")
    second = run_tap(config, state=first.state)
    assert all_of(second) == counted(api.records(sandbox))
    (warning,) = [line for line in second.logged("WARNING") if "come twice" in line]
    assert f"up to {len(first.records)} rows" in warning


def test_with_another_selection_the_export_is_created_again(stopped):
    sandbox, config, first = stopped(reorder=True)
    catalog = selecting(discover(config), PageUrl=False)
    before = len(orders(sandbox))
    second = run_tap(config, state=first.state, catalog=catalog)
    assert second.code == 0
    assert orders(sandbox)[before]["timeRange"]["start"] == bookmark(first)["export"]["start"]
    assert not any("PageUrl" in record for record in second.records)


def test_with_another_segment_the_export_is_created_again(stopped):
    sandbox, config, first = stopped(reorder=True)
    before = len(orders(sandbox))
    run_tap({**config, "segment_id": "customers"}, state=first.state)
    assert orders(sandbox)[before]["segmentId"] == "customers"
    export = {**bookmark(first)["export"], "segment": "customers"}
    named = {"bookmarks": {"events": {**bookmark(first), "export": export}}}
    before = len(orders(sandbox))
    again = run_tap({**config, "segment_id": "customers"}, state=named)
    assert again.code == 0
    assert orders(sandbox)[before]["timeRange"]["start"] == export["end"]


def test_with_other_windows_the_one_under_way_is_finished_as_it_was_cut(stopped):
    sandbox, config, first = stopped(reorder=True)
    before = len(orders(sandbox))
    second = run_tap({**config, "export_window_hours": 12}, state=first.state)
    assert all_of(first, second) == counted(api.records(sandbox))
    ends = [order["timeRange"]["end"][8:13] for order in orders(sandbox)[before:]]
    assert ends == ["06T12", "07T00"]


def test_a_failure_leaves_the_export_to_the_next_run():
    with api.sandbox() as sandbox:
        second = sandbox.bundles[1].id
        sandbox.fault(f"operation/{second}:403")
        failed = run_tap(api.config(sandbox))
        assert failed.code == 1
        assert bookmark(failed)["export"]["start"] == "2024-06-05T00:00:00Z"
        assert cancelled(sandbox) == []
        rest = run_tap(api.config(sandbox), state=failed.state)
        assert len(orders(sandbox)) == 3
        assert all_of(failed, rest) == counted(api.records(sandbox))


def test_an_export_with_a_damaged_file_is_not_taken_up():
    with api.sandbox(days(1)) as sandbox:
        sandbox.fault("storage:truncate,after=-9,times=2")
        failed = run_tap(api.config(sandbox))
        name = "2024-06-06T00:00:00Z/2024-06-07T00:00:00Z"
        assert failed.code == 1
        assert f'"skip_bundles": ["{name}"]' in failed.critical
        assert failed.states == []
        skipped = run_tap(api.config(sandbox, skip_bundles=[name]))
        assert (skipped.records, len(orders(sandbox))) == ([], 1)
        assert all_of(run_tap(api.config(sandbox))) == counted(api.records(sandbox))


def test_a_target_that_goes_away_leaves_no_export_behind():
    with api.sandbox(days(2, 600)) as sandbox:
        sandbox.fault(pending(sandbox.bundles[1].id))
        with start_tap(api.config(sandbox, checkpoint_events=10)) as process:
            until(lambda: len(orders(sandbox)) == 2)
            process.stdout.close()
            assert process.wait(timeout=30) == 1
        assert len(cancelled(sandbox)) == 1


def test_a_cancellation_that_fails_does_not_fail_the_run():
    with api.sandbox(days(2, 600), faults=["cancel:500"]) as sandbox:
        sandbox.fault(pending(sandbox.bundles[1].id))
        config = api.config(sandbox, checkpoint_events=10)
        run = interrupted(config, lambda: len(orders(sandbox)) == 2, in_bundle=True)
        assert run.code == 143
        assert any("HTTP 500" in line for line in run.logged("WARNING"))
        assert len(cancelled(sandbox)) == 1


class Unfinished(Client):
    """A FullStory whose exports are never done; `waits` are the pauses between two looks."""

    def __init__(self) -> None:
        self.config = parse_config({"api_key": "key"}, UNTIL)
        super().__init__(self.config)
        self._http.clock_skew = timedelta()
        self.waits: list[float] = []
        self.cancelled: list[str] = []
        self.ordered = 0

    def create_export(self, order: Mapping[str, Any]) -> str:
        self.ordered += 1
        return f"operation-{self.ordered}"

    def operation(self, operation_id: str) -> Operation:
        return Operation("UNKNOWN", "", 100, None)

    def cancel_operation(self, operation_id: str) -> None:
        self.cancelled.append(operation_id)

    def source(self, timeout_minutes: int = 2) -> SegmentExport:
        return SegmentExport(
            self,
            replace(self.config, export_timeout_minutes=timeout_minutes),
            ExportRequest("TYPE_EVENT", "everyone", None),
            lambda bookmark, _: iter([(bookmark or UNTIL, UNTIL + DAY)]),
            UNTIL + DAY,
            sleep=self.waits.append,
            clock=lambda: sum(self.waits),
        )


def test_an_export_that_is_not_done_in_time_is_left_to_the_next_run(tmp_path):
    client = Unfinished()
    source = client.source()
    (window,) = source.bundles({}, EVENTS)
    with (tmp_path / "sink").open("wb") as sink, pytest.raises(NetworkError) as caught:
        source.download(window, sink)
    assert "in 2 minutes" in str(caught.value)
    assert "export_timeout_minutes" in str(caught.value)
    assert client.waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 28.5]
    assert source.in_progress() == Export("operation-1", UNTIL, UNTIL + DAY, None, "everyone")
    source.close()
    assert client.cancelled == []


def test_an_export_that_lasts_is_logged_every_five_minutes(tmp_path, log):
    client = Unfinished()
    source = client.source(timeout_minutes=21)
    (window,) = source.bundles({}, EVENTS)
    with (tmp_path / "sink").open("wb") as sink, pytest.raises(NetworkError):
        source.download(window, sink)
    lines = [line for line in log if line.startswith("INFO ") and "is UNKNOWN" in line]
    assert [line.rpartition("after ")[2] for line in lines] == [
        f"{minutes} min" for minutes in (5, 10, 15, 20)
    ]


def test_an_export_that_is_late_a_second_time_is_given_up(tmp_path):
    client = Unfinished()
    earlier = Export("operation-0", UNTIL, UNTIL + HOUR, None, "everyone")
    source = client.source()
    window = next(source.bundles(with_export({}, EVENTS, earlier), EVENTS))
    with (tmp_path / "sink").open("wb") as sink, pytest.raises(NetworkError):
        source.download(window, sink)
    assert source.in_progress() is None
    source.close()
    assert (client.ordered, client.cancelled) == (0, ["operation-0"])


def test_no_export_is_requested_once_the_run_is_over(tmp_path):
    client = Unfinished()
    source = client.source()
    (window,) = source.bundles({}, EVENTS)
    source.close()
    with (tmp_path / "sink").open("wb") as sink, pytest.raises(Exception, match="ended") as caught:
        source.download(window, sink)
    assert not isinstance(caught.value, TapError)
    assert client.ordered == 0


def told_alike(*runs: Run) -> Counter[str]:
    """Records without the columns that the two APIs name differently."""
    differ = {"PageAgent", "PageUserAgent", "EventTargetSelector", "EventTargetSelectorTok"}
    return counted(
        {name: value for name, value in record.items() if name not in differ}
        for run in runs
        for record in run.records
    )


@pytest.mark.parametrize(
    ("bundles_until", "change"),
    [(UNTIL, "2024-06-05T18:30:00Z"), (UNTIL + 5 * HOUR, "2024-06-05T06:00:00Z")],
    ids=["midnight", "five"],
)
@pytest.mark.parametrize("first", [DATA_EXPORT, SEGMENT_EXPORT], ids=str)
def test_a_change_of_the_api_leaves_no_gap_and_no_overlap(first, change, bundles_until):
    """In windows of six hours, with bundles that end at midnight or not, up to `change`."""
    second = DATA_EXPORT if first is SEGMENT_EXPORT else SEGMENT_EXPORT
    with first.sandbox(days(4, 120, until=bundles_until)) as sandbox:
        config = sandbox.config(export_window_hours=6, end_date=change)
        before = run_tap(config)
        rest = {"export_api": second.name, "end_date": format_rfc3339(bundles_until)}
        after = run_tap({**config, **rest}, state=before.state)
        # Six hours do not divide the last bundle that ends at five.
        last = {"export_api": "data_export", "end_date": None}
        end = run_tap({**config, **last}, state=after.state)
        assert before.records
        assert after.records
        whole = run_tap(sandbox.config(export_api="data_export"))
        assert told_alike(before, after, end) == told_alike(whole)


def test_what_is_left_out_of_a_bundle_after_a_change_is_counted():
    with api.sandbox(days(1, 120)) as sandbox:
        noon = format_rfc3339(UNTIL - DAY / 2)
        before = run_tap(sandbox.config(export_window_hours=12, end_date=noon))
        after = run_tap(sandbox.config(export_api="data_export"), state=before.state)
        said = f"{len(before.records)} events from before the bookmark were left out"
        assert any(said in line for line in after.logged("INFO"))
        assert len(before.records) + len(after.records) == 120


@pytest.mark.parametrize("first", [DATA_EXPORT, SEGMENT_EXPORT], ids=str)
def test_a_change_in_the_middle_of_a_bundle_loses_nothing_and_reports_duplicates(first):
    second = DATA_EXPORT if first is SEGMENT_EXPORT else SEGMENT_EXPORT
    with first.sandbox(days(1, 600)) as sandbox:
        config = first.config(sandbox, checkpoint_events=100)
        before = interrupted(config, lambda: True, in_bundle=True)
        after = run_tap({**config, "export_api": second.name}, state=before.state)
        assert len(after.records) == 600
        said = f"up to {len(before.records)} rows may come twice"
        assert any(said in line for line in after.logged("WARNING"))


@pytest.mark.parametrize(
    "export",
    [
        "an id",
        {"id": 7},
        {"id": "x", "start": "2024-06-05T00:00:00Z", "end": "soon", "fields": None},
        {"id": "x", "start": "2024-06-05T00:00:00Z", "end": "2024-06-06T00:00:00Z", "fields": "a"},
        {"id": "", "start": "2024-06-05T00:00:00Z", "end": "2024-06-06T00:00:00Z"},
    ],
    ids=json.dumps,
)
def test_an_export_in_the_state_that_cannot_be_read_is_reported(export):
    state = {"bookmarks": {"events": {"bundle_end": "2024-06-05T00:00:00Z", "export": export}}}
    run = run_tap({"api_key": "na1.secret"}, state=state)
    assert run.code == 2
    assert "bookmarks.events.export" in run.critical
