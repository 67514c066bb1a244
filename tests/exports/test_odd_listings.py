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
    assert "does not end after its start" in warnings(first)[0]


# --- overlaps ---

DAY_LONG = listed("A", FIRST_DAY, FIRST_DAY + DAY, 600)
WITHIN = listed("B", FIRST_DAY + 6 * HOUR, FIRST_DAY + 12 * HOUR, 600, first=600)


def overlaps(run: Run) -> list[str]:
    return [line for line in warnings(run) if "overlaps with a bundle before it" in line]


def test_of_overlapping_bundles_every_event_comes_once_and_a_warning_says_so() -> None:
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
