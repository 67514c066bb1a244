"""The events from the Segment Export API: windows, orders, and the way to a file."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from catalogs import select_streams
from either_api import (
    SEGMENT_EXPORT,
    UNTIL,
    days,
    endpoints_asked,
    orders,
    requests_to,
)
from hypothesis import given
from hypothesis import strategies as st
from running import counted, run_command, run_tap, sync_at

from tap_fullstory.errors import NetworkError
from tap_fullstory.exports.segment_export import windows
from tap_fullstory.sandbox import Bundle, Fault, Sandbox
from tap_fullstory.times import format_rfc3339, parse_rfc3339

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
api = SEGMENT_EXPORT


def spans(*arguments: Any) -> list[tuple[str, str]]:
    def shown(time: datetime) -> str:
        return format_rfc3339(time).removeprefix("2026-06-").removesuffix(":00Z")

    return [(shown(start), shown(end)) for start, end in windows(*arguments)]


def june(text: str) -> datetime:
    return parse_rfc3339(f"2026-06-{text}:00Z")


@pytest.mark.parametrize(
    ("bookmark", "start_date", "latest_end", "hours", "expected"),
    [
        # First run: cells whose end is after start_date, whole.
        (None, "01T05:00", "03T00:00", 24, ["01T00:00 02T00:00", "02T00:00 03T00:00"]),
        (None, "01T00:00", "02T00:00", 24, ["01T00:00 02T00:00"]),
        (None, "01T05:00", "01T12:00", 6, ["01T00:00 01T06:00", "01T06:00 01T12:00"]),
        (None, "01T23:59", "02T01:00", 1, ["01T23:00 02T00:00", "02T00:00 02T01:00"]),
        # None reaches past the latest end, be it of end_date or of the delay.
        (None, "01T00:00", "01T23:59", 24, []),
        (None, "01T00:00", "03T11:00", 24, ["01T00:00 02T00:00", "02T00:00 03T00:00"]),
        (None, "09T00:00", "03T00:00", 24, []),
        # With a bookmark, start_date is not looked at; inside a cell, the rest of it.
        ("02T00:00", "01T00:00", "03T00:00", 24, ["02T00:00 03T00:00"]),
        ("02T05:30", "01T00:00", "04T00:00", 24, ["02T05:30 03T00:00", "03T00:00 04T00:00"]),
        ("02T05:30", "01T00:00", "02T23:00", 24, []),
        ("02T05:30", "01T00:00", "02T12:00", 8, ["02T05:30 02T08:00"]),
        ("03T00:00", "01T00:00", "03T00:00", 24, []),
    ],
)
def test_windows_are_cells_of_a_grid(bookmark, start_date, latest_end, hours, expected):
    given_bookmark = june(bookmark) if bookmark else None
    found = spans(given_bookmark, june(start_date), june(latest_end), timedelta(hours=hours))
    assert [" ".join(span) for span in found] == expected


MOMENTS = st.integers(0, 8 * 24 * 60 * 60).map(lambda seconds: june("01T00:00") + seconds * SECOND)


@given(
    bookmark=st.none() | MOMENTS,
    start_date=MOMENTS,
    latest_end=MOMENTS,
    hours=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]),
)
def test_windows_leave_no_gap_and_do_not_overlap(bookmark, start_date, latest_end, hours):
    step = timedelta(hours=hours)
    found = list(windows(bookmark, start_date, latest_end, step))
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert all(start < end <= latest_end for start, end in found)
    assert all(end.hour % hours == 0 and end == end.replace(minute=0, second=0) for _, end in found)
    if found and bookmark is not None:
        assert found[0][0] == bookmark
    if found and bookmark is None:
        assert found[0][0] <= start_date < found[0][1]
    last = found[-1][1] if found else None
    assert last is None or latest_end - last < step


def test_a_start_at_the_end_of_time_gives_no_window():
    assert spans(None, datetime.max.replace(tzinfo=timezone.utc), june("01T00:00"), DAY) == []


def test_the_same_events_come_as_from_bundles():
    with api.sandbox(reorder=True) as sandbox:
        run = run_tap(api.config(sandbox, checkpoint_events=7))
        assert run.code == 0, run.log
        assert counted(run.records) == counted(api.records(sandbox))
        ended = {"bundle_end": format_rfc3339(UNTIL), "partial": None, "export": None}
        assert run.state == {"bookmarks": {"events": ended}}
        assert not requests_to(sandbox, "cancel")


def test_a_request_has_segment_type_format_and_both_ranges():
    with api.sandbox(days(2), pending_polls=1) as sandbox:
        run_tap(api.config(sandbox))
        first = {"start": "2024-06-05T00:00:00Z", "end": "2024-06-06T00:00:00Z"}
        assert orders(sandbox)[0] == {
            "segmentId": "everyone",
            "type": "TYPE_EVENT",
            "format": "FORMAT_JSON",
            "timeRange": first,
            "segmentTimeRange": first,  # or windows older than 30 days would be empty
        }
        a_window = ["create", "operation", "operation", "results", "storage"]
        assert endpoints_asked(sandbox) == 2 * a_window


def test_segment_window_delay_and_end_are_settings():
    with api.sandbox() as sandbox:
        settings = {"segment_id": "abc:123@x", "export_window_hours": "12"}
        end = "2024-06-05T13:00:00Z"
        run = run_tap(api.config(sandbox, end_date=end, **settings))
        ordered = orders(sandbox)
        assert {order["segmentId"] for order in ordered} == {"abc:123@x"}
        assert [order["timeRange"]["end"][8:13] for order in ordered] == ["04T12", "05T00", "05T12"]
        assert run.state["bookmarks"]["events"]["bundle_end"] == "2024-06-05T12:00:00Z"


@pytest.mark.parametrize(
    ("delay", "now", "end"),
    [
        (24, "2024-06-07T00:00:00Z", "2024-06-06T00:00:00Z"),
        (24, "2024-06-07T23:59:59.999999Z", "2024-06-06T00:00:00Z"),
        (24, "2024-06-06T23:59:59.999999Z", "2024-06-05T00:00:00Z"),
        (48, "2024-06-07T12:00:00Z", "2024-06-05T00:00:00Z"),
        (1, "2024-06-07T00:59:59Z", "2024-06-06T00:00:00Z"),
    ],
)
def test_no_window_reaches_into_the_delay(delay, now, end):
    with api.sandbox(days(4)) as sandbox:
        state = sync_at(parse_rfc3339(now), sandbox.config(export_delay_hours=delay))
        assert state["bookmarks"]["events"]["bundle_end"] == end
        assert max(order["timeRange"]["end"] for order in orders(sandbox)) == end


def test_the_end_of_a_window_is_excluded_so_that_the_next_one_has_it():
    edge = UNTIL - DAY
    times = [edge - timedelta(milliseconds=1), edge, edge + timedelta(milliseconds=1)]
    events = [
        {"EventStart": time.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        for time in times
    ]
    start = int((UNTIL - 2 * DAY).timestamp())
    with api.sandbox([Bundle("1", start, start + 2 * 86_400, events)]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(events)


def test_empty_windows_move_the_bookmark():
    start = int((UNTIL - 3 * DAY).timestamp())
    with api.sandbox([Bundle("1", start, start + 3 * 86_400, [])]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert (run.code, run.records, len(orders(sandbox))) == (0, [], 3)
        assert run.state["bookmarks"]["events"]["bundle_end"] == format_rfc3339(UNTIL)


def test_the_key_is_sent_to_the_api_alone():
    with api.sandbox() as sandbox:
        run_tap(api.config(sandbox))
        for request in sandbox.requests:
            assert ("authorization" in request.headers) == (request.origin == "api")


def test_a_location_that_has_expired_is_requested_again():
    with api.sandbox(days(1), faults=["storage:expired"]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))
        expected = ["create", "operation", "results", "storage", "results", "storage"]
        assert endpoints_asked(sandbox) == expected


def test_half_a_download_is_resumed_at_another_location():
    with api.sandbox(days(1, 200), faults=["storage:cut,after=3000"]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))
        first, second = requests_to(sandbox, "storage")
        assert first.target != second.target
        assert second.headers["range"] == "bytes=3000-"


def test_a_location_without_https_is_refused():
    body = b'{"location":"http://storage.example.com/x?X-Signature=secret","expires":""}'
    with api.sandbox(days(1)) as sandbox:
        sandbox.fault(Fault("status", endpoint="results", status=200, body=body))
        run = run_tap(api.config(sandbox))
        assert run.code == 1
        assert "https" in run.critical
        assert "secret" not in run.log


@pytest.mark.parametrize("state", ["UNKNOWN", "RUNNING", ""])
def test_an_operation_in_an_unknown_state_is_polled_again(state):
    body = json.dumps({"state": state, "estimatePctComplete": 100, "results": None}).encode()
    with api.sandbox(days(1)) as sandbox:
        sandbox.fault(Fault("status", endpoint="operation", status=200, body=body))
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))


def test_progress_of_exports_is_logged():
    with api.sandbox(days(2), pending_polls=2) as sandbox:
        run = run_tap(api.config(sandbox))
        assert ["1 of 2:" in run.log, "2 of 2:" in run.log] == [True, True]
        # What each poll says is for debugging.
        assert not [line for line in run.logged("INFO") if "PENDING" in line]
        run = run_tap(api.config(sandbox, log_level="DEBUG"))
        progress = [line for line in run.logged("DEBUG") if "PENDING" in line]
        assert ["50 %" in progress[0], "100 %" in progress[1]] == [True, True]


TWO_DAYS = 2 * 86_400


@pytest.mark.parametrize("stream", ["events", "individuals"])
def test_no_window_ends_after_the_time_of_fullstory_less_the_delay(stream):
    """Where this machine's clock is two days ahead, what is still to come would never be read."""
    behind = f"any:clock,seconds=-{TWO_DAYS},times=always"
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    with Sandbox(export_api="segment_export", faults=[behind]) as sandbox:
        catalog = select_streams(stream)
        since = format_rfc3339(today - 6 * DAY)
        run = run_tap(sandbox.config(start_date=since), catalog=catalog)
        assert run.code == 0, run.log
        latest = datetime.now(timezone.utc) - timedelta(seconds=TWO_DAYS) - DAY
        end = parse_rfc3339(run.state["bookmarks"][stream]["bundle_end"])
        assert today - 5 * DAY <= end <= latest
        (warning,) = run.logged("WARNING")
        assert warning.startswith("The clock of this machine is 48 h 0 min ahead of FullStory's (")
        # A day on, by this machine's clock, there is nothing to export yet.
        again = run_tap(sandbox.config(start_date=since), catalog=catalog, state=run.state)
        assert again.code == 0, again.log
        assert all(parse_rfc3339(order["timeRange"]["end"]) > end for order in orders(sandbox)[-1:])
        cancelled = requests_to(sandbox, "cancel")
        assert len(cancelled) == (2 if stream == "individuals" else 1)
        assert again.state["bookmarks"][stream]["bundle_end"] >= format_rfc3339(end)


def test_a_clock_that_is_right_or_behind_changes_nothing():
    with api.sandbox(days(2), faults=["any:clock,seconds=7200,times=always"]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))
        assert "is 2 h 0 min behind FullStory's (" in run.logged("WARNING")[0]
    with api.sandbox(days(2), faults=["any:clock,seconds=-200,times=always"]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))
        assert not run.logged("WARNING")


def test_a_failed_export_is_requested_once_more():
    with api.sandbox(days(1), faults=["operation:failed"]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))
        assert len(orders(sandbox)) == 2
        assert any("was told to fail" in line for line in run.logged("WARNING"))


def test_an_export_that_fails_twice_ends_the_run_with_its_reason():
    with api.sandbox(days(3)) as sandbox:
        second = sandbox.bundles[1]
        sandbox.fault(f"operation/{second.id}:failed,times=always")
        run = run_tap(api.config(sandbox))
        assert run.code == 1
        assert "was told to fail" in run.critical
        assert "2024-06-05T00:00:00Z to 2024-06-06T00:00:00Z" in run.critical
        assert counted(run.records) == counted(api.records(sandbox.bundles[0]))
        assert run.state == {"bookmarks": {"events": {"bundle_end": "2024-06-05T00:00:00Z"}}}
        assert len(orders(sandbox)) == 3


@pytest.mark.parametrize("fault", ["results:400", "results:404", "results:410", "operation:404"])
def test_an_export_that_is_gone_is_requested_once_more(fault):
    with api.sandbox(days(1), faults=[fault]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))
        assert len(orders(sandbox)) == 2


@pytest.mark.parametrize("status", [400, 404, 410])
def test_exports_that_are_gone_each_time_end_the_run(status):
    with api.sandbox(days(1), faults=[f"results:{status},times=always"]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert (run.code, len(orders(sandbox))) == (1, 2)
        assert f"HTTP {status}" in run.critical


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("create:401", "does not accept the API key"),
        ("create:403", "Architect or higher"),
        ("create:404", "Check api_url"),
        ("create:400", "fault: status 400"),
        ("operation:403", "Architect or higher"),
        ("results:401", "does not accept the API key"),
    ],
)
def test_a_refusal_ends_the_run_at_once(fault, says):
    with api.sandbox(days(1), faults=[fault]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert run.code == 1
        assert says in run.critical
        assert len(orders(sandbox)) == 1


@pytest.mark.parametrize(
    "fault", ["create:503,times=2", "create:429,retry-after=1", "create:reset,times=2"]
)
def test_an_export_request_is_repeated_where_it_may_help(fault):
    with api.sandbox(days(1), faults=[fault]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert counted(run.records) == counted(api.records(sandbox))


def test_an_export_request_is_not_repeated_without_end_when_answers_get_lost():
    with api.sandbox(days(1), faults=["create:reset,times=always"]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert (run.code, len(orders(sandbox))) == (1, 3)
        assert "may have started an export" in run.critical


def test_an_export_request_that_never_went_out_is_repeated_as_often_as_any_request(http, waits):
    with pytest.raises(NetworkError, match="failed 8 times"):
        http.post_json("http://127.0.0.1:1/segments/v1/exports", {}, "create")
    assert len(waits) == 7


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"state":"COMPLETED","results":{"expires":""}}', "searchExportId"),
        (b'{"state":"COMPLETED","results":null}', "without results"),
    ],
)
def test_an_answer_in_another_form_is_an_error_that_says_so(body, name):
    with api.sandbox(days(1)) as sandbox:
        answer = Fault("status", endpoint="operation", status=200, body=body, times=None)
        sandbox.fault(answer)
        run = run_tap(api.config(sandbox))
        assert run.code == 1
        assert name in run.critical


@pytest.mark.parametrize("status", [404, 410])
def test_a_closed_bundle_api_names_segment_export(status):
    with api.sandbox(days(1), faults=[f"list:{status}"]) as sandbox:
        run = run_tap(sandbox.config(export_api="data_export"))
        assert run.code == 1
        assert '"export_api": "segment_export"' in run.critical


def test_discovery_logs_the_level_of_the_key(tmp_path):
    with api.sandbox(role="USER") as sandbox:
        config = tmp_path / "config.json"
        config.write_text(json.dumps(api.config(sandbox)))
        run = run_command("--config", config, "--discover")
        assert run.code == 0
        assert set(endpoints_asked(sandbox)) == {"me"}
        assert "level Standard; it can read every stream except events, individuals" in run.log
        config.write_text(json.dumps(api.config(sandbox, api_key="na1.another")))
        run = run_command("--config", config, "--discover")
        assert (run.code, run.stdout) == (1, b"")
