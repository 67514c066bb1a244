"""Listings that no good server gives: bundles twice, that overlap, or that end in the future."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from either_api import requests_to
from faults import DAY, FIRST_DAY, events, record
from interrupting import interrupted
from running import Run, counted, run_tap

from tap_fullstory.sandbox import Bundle, Fault, Sandbox
from tap_fullstory.times import format_rfc3339, from_epoch

HOUR = 3600
YEAR_9999 = 253_402_300_799


def listed(identity: str, start: int, stop: int, count: int = 3, first: int = 0) -> Bundle:
    return Bundle(identity, start, stop, events(count, first))


def records_of(*bundles: Bundle) -> Any:
    return counted(record(event) for bundle in bundles for event in bundle.events)


def all_of(*runs: Run) -> Any:
    return counted(record for run in runs for record in run.records)


def warnings(run: Run) -> list[str]:
    """Without those of the values in the events."""
    return [line for line in run.logged("WARNING") if "values do not fit" not in line]


def page(*bundles: tuple[str, int, int]) -> Fault:
    exports = [dict(zip(("Id", "Start", "Stop"), each, strict=True)) for each in bundles]
    body = json.dumps({"exports": exports}).encode()
    return Fault("status", "list", status=200, body=body, times=None)


# --- listed more than once ---


def test_a_bundle_listed_five_times_on_a_page_is_emitted_once() -> None:
    bundle = listed("1", FIRST_DAY, FIRST_DAY + DAY)
    with Sandbox([bundle], faults=[page(*[("1", FIRST_DAY, FIRST_DAY + DAY)] * 5)]) as sandbox:
        run = run_tap(sandbox.config())
        assert len(requests_to(sandbox, "get")) == 1
    assert all_of(run) == records_of(bundle)
    assert warnings(run) == []


@pytest.mark.parametrize("other", [(FIRST_DAY, FIRST_DAY + 2 * DAY), (FIRST_DAY, YEAR_9999)])
@pytest.mark.parametrize("later_first", [False, True])
def test_one_id_with_two_periods_is_emitted_once_with_a_warning(
    later_first: bool, other: tuple[int, int]
) -> None:
    bundle = listed("1", FIRST_DAY, FIRST_DAY + DAY)
    both = [("1", FIRST_DAY, FIRST_DAY + DAY), ("1", *other)]
    with Sandbox([bundle], faults=[page(*sorted(both, reverse=later_first))]) as sandbox:
        run = run_tap(sandbox.config())
    assert all_of(run) == records_of(bundle)
    (warning,) = warnings(run)
    assert warning.startswith("FullStory lists bundle 1 with two periods, 2026-06-01T00:00:00Z to ")
    assert run.state == {"bookmarks": {"events": {"bundle_end": "2026-06-02T00:00:00Z"}}}


# --- the future ---


def test_a_bundle_that_ends_in_the_year_9999_is_refused_with_a_warning() -> None:
    good = listed("1", FIRST_DAY, FIRST_DAY + DAY)
    with Sandbox([good, listed("2", FIRST_DAY + DAY, YEAR_9999)]) as sandbox:
        run = run_tap(sandbox.config())
        assert len(requests_to(sandbox, "get")) == 1
    assert run.code == 0
    assert all_of(run) == records_of(good)
    (warning,) = warnings(run)
    assert warning.startswith("Bundle 2 (2026-06-02T00:00:00Z to 9999-12-31T23:59:59Z) ends in the")
    assert run.state == {"bookmarks": {"events": {"bundle_end": "2026-06-02T00:00:00Z"}}}


def test_a_bundle_that_has_not_ended_is_left_for_a_later_run() -> None:
    good = listed("1", FIRST_DAY, FIRST_DAY + DAY)
    end = int(time.time()) + HOUR
    with Sandbox([good, listed("2", end - DAY, end)]) as sandbox:
        run = run_tap(sandbox.config())
    assert all_of(run) == records_of(good)
    assert warnings(run) == []
    (line,) = [line for line in run.logged("INFO") if "has not ended yet" in line]
    assert line.startswith(f"Bundle 2 ({format_rfc3339(from_epoch(end - DAY))} to ")
    assert run.state == {"bookmarks": {"events": {"bundle_end": "2026-06-02T00:00:00Z"}}}


def test_pages_of_bundles_that_end_in_the_future_end_the_listing() -> None:
    bundles = [listed("1", FIRST_DAY, FIRST_DAY + DAY)]
    bundles += [listed(str(n), FIRST_DAY, YEAR_9999 - n) for n in range(2, 50)]
    with Sandbox(bundles) as sandbox:
        run = run_tap(sandbox.config())
    assert run.code == 0
    assert all_of(run) == records_of(bundles[0])


# --- periods that are not valid ---


@pytest.mark.parametrize("start", [FIRST_DAY + DAY, FIRST_DAY + DAY + HOUR])
def test_the_first_bundle_loses_nothing_if_it_starts_at_its_end(start: int) -> None:
    """It has no start that could be the bookmark while it is in progress."""
    odd = listed("1", start, FIRST_DAY + DAY, 600)
    after = listed("2", FIRST_DAY + DAY, FIRST_DAY + 2 * DAY, 5, first=600)
    with Sandbox([odd, after]) as sandbox:
        config = sandbox.config(start_date="2026-06-01T00:00:00Z", checkpoint_events=10)
        first = interrupted(config, in_bundle=True)
        assert first.code == 143
        assert 0 < len(first.records) < 600
        second = run_tap(config, state=first.state)
    assert all_of(first, second) == records_of(odd, after)
    assert "Bundle 1 (" in warnings(first)[0]
    assert "does not end after it starts" in warnings(first)[0]


# --- overlaps ---

DAY_LONG = listed("A", FIRST_DAY, FIRST_DAY + DAY, 600)
WITHIN = listed("B", FIRST_DAY + 6 * HOUR, FIRST_DAY + 12 * HOUR, 600, first=600)


def overlaps(run: Run) -> list[str]:
    return [line for line in warnings(run) if "overlaps the bundle before it" in line]


def test_overlapping_bundles_are_written_whole_with_a_warning() -> None:
    with Sandbox([DAY_LONG, WITHIN]) as sandbox:
        run = run_tap(sandbox.config(start_date="2026-06-01T00:00:00Z"))
    assert all_of(run) == records_of(DAY_LONG, WITHIN)
    (warning,) = overlaps(run)
    assert warning.startswith("Bundle A (2026-06-01T00:00:00Z to 2026-06-02T00:00:00Z) overlaps")


@pytest.mark.parametrize("in_progress", ["A", "B"])
def test_a_run_between_overlapping_bundles_loses_and_doubles_nothing(in_progress: str) -> None:
    with Sandbox([DAY_LONG, WITHIN]) as sandbox:
        config = sandbox.config(start_date="2026-06-01T00:00:00Z", checkpoint_events=10)
        runs = []
        state = None
        if in_progress == "A":  # in the run after that of B
            runs.append(run_tap({**config, "end_date": "2026-06-01T12:00:00Z"}))
            state = runs[-1].state
        runs.append(interrupted(config, in_bundle=True, state=state))
        assert runs[-1].state["bookmarks"]["events"]["partial"]["id"] == in_progress
        runs.append(run_tap(config, state=runs[-1].state))
    assert all_of(*runs) == records_of(DAY_LONG, WITHIN)
    assert overlaps(runs[-1])


def test_an_overlap_loses_nothing_if_the_bundle_in_progress_gets_another_id() -> None:
    with Sandbox([DAY_LONG, WITHIN]) as sandbox:
        config = sandbox.config(start_date="2026-06-01T00:00:00Z", checkpoint_events=10)
        first = interrupted(config, in_bundle=True)
    renamed = Bundle("C", WITHIN.start, WITHIN.stop, WITHIN.body)
    with Sandbox([DAY_LONG, renamed]) as sandbox:
        second = run_tap(sandbox.config(), state=first.state)
    assert all_of(second) == records_of(DAY_LONG, WITHIN)


def test_a_bookmark_that_windows_have_left_inside_a_bundle_leaves_out_what_is_before_it() -> None:
    """Events of a second each from midnight; the windows have emitted those of the first minute."""
    day = listed("A", FIRST_DAY, FIRST_DAY + DAY, 600)
    state = {"bookmarks": {"events": {"bundle_end": "2026-06-01T00:01:00Z"}}}
    with Sandbox([day]) as sandbox:
        config = sandbox.config(checkpoint_events=100)
        first = interrupted(config, in_bundle=True, state=state)
        second = run_tap(config, state=first.state)
    assert all_of(first, second) == counted(map(record, events(540, 60)))
    assert overlaps(second) == []
    left_out = "60 events from before the bookmark were left out"
    assert any(left_out in line for line in [*first.logged("INFO"), *second.logged("INFO")])


# --- stopped among bundles that share an end, or overlap ---

LARGE = 1500  # events: enough for a stop inside them


def stopped_in(config: dict[str, Any], identity: str) -> Run:
    """Return a run that was stopped once it had written a part of a bundle."""
    first = interrupted(config, in_bundle=True)
    assert first.state["bookmarks"]["events"]["partial"]["id"] == identity
    return first


def sharing_an_end(names: str = "12") -> list[Bundle]:
    """Small bundles named as given, then a large one, 3, which all have the same period."""
    small = [listed(name, FIRST_DAY, FIRST_DAY + DAY, 3, 10 * int(name)) for name in names]
    return [*small, listed("3", FIRST_DAY, FIRST_DAY + DAY, LARGE, 100)]


def test_bundle_rebuilt_under_another_id_brings_no_other_of_its_end_again() -> None:
    *small, large = sharing_an_end()
    with Sandbox([*small, large]) as sandbox:
        config = sandbox.config(checkpoint_events=50)
        first = stopped_in(config, "3")
    assert first.state["bookmarks"]["events"]["done"] == ["1", "2"]
    rebuilt = Bundle("9", FIRST_DAY, FIRST_DAY + DAY, large.events)
    with Sandbox([*small, rebuilt]) as sandbox:
        second = run_tap(sandbox.config(checkpoint_events=50), state=first.state)
    written = first.state["bookmarks"]["events"]["partial"]["events"]
    assert all_of(second) == records_of(large)
    (line,) = warnings(second)
    assert f"up to {written} rows" in line
    end = format_rfc3339(from_epoch(FIRST_DAY + DAY))
    assert second.state["bookmarks"]["events"] == {
        "bundle_end": end, "partial": None, "done": None,
    }  # fmt: skip


def test_bundle_that_appears_among_those_of_an_end_is_emitted() -> None:
    before = sharing_an_end()
    with Sandbox(before) as sandbox:
        first = stopped_in(sandbox.config(checkpoint_events=50), "3")
    after = [listed("0", FIRST_DAY, FIRST_DAY + DAY, 3, 5), *before]
    with Sandbox(after) as sandbox:
        second = run_tap(sandbox.config(checkpoint_events=50), state=first.state)
        third = run_tap(sandbox.config(), state=second.state)
    assert all_of(first, second) == records_of(*after)
    assert not third.records
    assert warnings(second) == []


def test_bundle_of_an_end_that_vanishes_brings_no_other_again() -> None:
    before = sharing_an_end()
    with Sandbox(before) as sandbox:
        first = stopped_in(sandbox.config(checkpoint_events=50), "3")
    with Sandbox([before[0], before[2]]) as sandbox:
        second = run_tap(sandbox.config(checkpoint_events=50), state=first.state)
    assert all_of(first, second) == records_of(*before)


def test_state_of_3_0_that_does_not_say_what_is_done_names_what_it_takes_as_written() -> None:
    before = sharing_an_end()
    with Sandbox(before) as sandbox:
        config = sandbox.config(checkpoint_events=50)
        first = stopped_in(config, "3")
        del first.state["bookmarks"]["events"]["done"]
        second = run_tap(config, state=first.state)
    assert all_of(first, second) == records_of(*before)
    assert len([line for line in warnings(second) if "taken as written" in line]) == 2


def test_first_run_that_was_stopped_brings_nothing_that_ends_before_start_date() -> None:
    early = listed("1", FIRST_DAY, FIRST_DAY + DAY // 2)
    large = listed("2", FIRST_DAY, FIRST_DAY + DAY, LARGE, 100)
    start = format_rfc3339(from_epoch(FIRST_DAY + 13 * HOUR))
    with Sandbox([early, large]) as sandbox:
        config = sandbox.config(checkpoint_events=50, start_date=start)
        first = stopped_in(config, "2")
        second = run_tap(config, state=first.state)
    assert all_of(first, second) == records_of(large)
    assert warnings(second) == []


# --- holes ---


def test_period_that_no_bundle_covers_is_named() -> None:
    days = [0, 1, 3]
    bundles = [listed(str(n), FIRST_DAY + n * DAY, FIRST_DAY + (n + 1) * DAY) for n in days]
    with Sandbox(bundles) as sandbox:
        run = run_tap(sandbox.config())
    (line,) = warnings(run)
    missing = [format_rfc3339(from_epoch(FIRST_DAY + n * DAY)) for n in (2, 3)]
    assert line.startswith(f"No bundle covers the period {missing[0]} to {missing[1]}")
    assert all_of(run) == records_of(*bundles)


def test_hole_after_the_bookmark_is_named_and_none_after_start_date() -> None:
    later = listed("1", FIRST_DAY + 2 * DAY, FIRST_DAY + 3 * DAY)
    with Sandbox([later]) as sandbox:
        first = run_tap(sandbox.config(start_date=format_rfc3339(from_epoch(FIRST_DAY))))
        state = {"bookmarks": {"events": {"bundle_end": format_rfc3339(from_epoch(FIRST_DAY))}}}
        second = run_tap(sandbox.config(), state=state)
    assert warnings(first) == []
    (line,) = warnings(second)
    assert line.startswith("No bundle covers the period")


def test_bundles_that_share_an_end_leave_no_hole() -> None:
    end = FIRST_DAY + 2 * DAY
    bundles = [
        listed("1", FIRST_DAY, FIRST_DAY + DAY),
        listed("2", FIRST_DAY + DAY, end, 3, 10),
        listed("3", FIRST_DAY + DAY + HOUR, end, 3, 20),
    ]
    with Sandbox(bundles) as sandbox:
        run = run_tap(sandbox.config())
    assert not [line for line in warnings(run) if "No bundle covers" in line]
