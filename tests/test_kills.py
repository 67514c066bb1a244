"""Ways to die at random times, over and over: nothing is lost, and almost nothing written twice.

KILLS in the environment sets how many times; the times are seeded.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from random import Random

import pytest
from either_api import Api, each_api
from faults import DAY, KEY, array, bundle, events, in_members, lines, packed, record
from running import Json, counted, run_tap
from stopping import Tally, stop_again_and_again
from target import Target, last_state, read_by_target, uncovered

from tap_fullstory.sandbox import Bundle, Sandbox

KILLS = int(os.environ.get("KILLS", "20"))
CHECKPOINT = 40
SIZES = [130, 0, 1, 350, 64, 200]  # events in each bundle
EVENTS = events(sum(SIZES))
EXPECTED = counted(map(record, EVENTS))


def bundles() -> list[Bundle]:
    """Plain, gzipped, and gzipped in members, by turns."""
    made = []
    for day, size in enumerate(SIZES):
        first = sum(SIZES[:day])
        form = [array, packed, in_members][day % 3]
        made.append(bundle(day, form(lines(EVENTS[first : first + size]))))
    return made


class IntoTarget:
    """The tap, whose target has received what it has read: each run from the last state of the one
    before.
    """

    def __init__(self, api: Api, sandbox: Sandbox, number: int) -> None:
        self._api, self._sandbox, self._number = api, sandbox, number

    def begin(self) -> None:
        self._state: Json | None = None
        self._records: Counter[str] = Counter()
        self._uncovered = 0

    def stop_one_run(self, random: Random) -> bool:
        return self._run(random) != 0

    def finish(self) -> None:
        assert self._run(None) == 0

    def rows(self) -> Counter[str]:
        return self._records

    def repeatable(self) -> int:
        return self._uncovered

    def _run(self, random: Random | None) -> int:
        prefetch = random.choice([0, 1, 3]) if random else 1
        config = self._api.config(
            self._sandbox, checkpoint_events=CHECKPOINT, prefetch_bundles=prefetch
        )
        with read_by_target(config, state=self._state) as target:
            if random:
                wait_a_little(target, random)
                target.process.send_signal(self._number)
            run = target.end()
        # As a shell tells it: Python, as it ends, gives the signals back to the system.
        code = run.code if run.code >= 0 else 128 - run.code
        assert code in ((0, 128 + self._number) if random else (0,)), run.log
        # Records that came after the last STATE of their run: the next run brings them again.
        assert len(uncovered(run)) <= (CHECKPOINT if self._number == signal.SIGKILL else 0)
        self._uncovered += len(uncovered(run))
        self._records.update(counted(run.records))
        self._state = last_state(run, self._state)
        return code


def wait_a_little(target: Target, random: Random) -> None:
    """After some output, most of the time; else while it starts, lists or downloads."""
    if random.random() < 0.8:
        target.read(random.randrange(100_000))
    else:
        target.wait_for_handlers()
        time.sleep(random.uniform(0, 0.4))


def stop_by(api: Api, number: int, stops: int) -> Tally:
    with api.sandbox(bundles(), api_key=KEY) as sandbox:
        pipeline = IntoTarget(api, sandbox, number)
        return stop_again_and_again(pipeline, EXPECTED, stops, Random(int(number)))


@each_api
def test_sigkill_loses_nothing_and_doubles_at_most_a_checkpoint(api):
    tally = stop_by(api, signal.SIGKILL, KILLS)
    assert tally.lost == tally.beyond == 0
    print(f"{tally.stops} kills, {tally.doubled} records doubled")  # noqa: T201 - pytest -rP


@each_api
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_loses_nothing_and_doubles_nothing(api, number):
    tally = stop_by(api, number, KILLS // 2)
    assert tally.lost == tally.doubled == 0
    print(f"{tally.stops} signals")  # noqa: T201 - pytest -rP


# --- what the next run finds ---

FIRST, SECOND, THIRD = EVENTS[:100], EVENTS[100:300], EVENTS[300:350]
REBUILT = [{**SECOND[0], "PageNumErrors": 999_999}, *SECOND[1:]]


def packed_bundle(day: int, items: list[Json]) -> Bundle:
    return bundle(day, packed(lines(items)))


@pytest.fixture(scope="module")
def in_the_second() -> Json:
    """A state from the middle of the second of three bundles."""
    listed = [packed_bundle(day, items) for day, items in enumerate([FIRST, SECOND, THIRD])]
    with Sandbox(listed) as sandbox:
        run = run_tap(sandbox.config(checkpoint_events=CHECKPOINT))
    states = [state for state in run.states if progress(state).get("id") == listed[1].id]
    return states[len(states) // 2]


def progress(state: Json) -> Json:
    return dict(state["bookmarks"]["events"].get("partial") or {})


@pytest.mark.parametrize(
    ("listed", "left"),
    [
        ([packed_bundle(1, REBUILT), packed_bundle(2, THIRD)], [*REBUILT, *THIRD]),
        ([packed_bundle(1, SECOND[:20]), packed_bundle(2, THIRD)], [*SECOND[:20], *THIRD]),
        ([packed_bundle(2, THIRD)], THIRD),
        ([packed_bundle(2, SECOND)], SECOND),
    ],
    ids=["rebuilt", "shorter", "gone", "gone, and another has the same events"],
)
def test_a_bundle_that_has_changed_since(in_the_second, listed, left):
    with Sandbox(listed) as sandbox:
        run = run_tap(sandbox.config(), state=in_the_second)
    assert run.code == 0
    assert run.records == [record(event) for event in left]
    (warning,) = [line for line in run.logged("WARNING") if "come twice" in line]
    done = progress(in_the_second)
    assert f"emitted {done['events']} events of bundle {done['id']}, which has changed" in warning
    assert f"bundle {listed[0].id} (" in warning
    assert warning.endswith(
        f" is written again from its start, so up to {done['events']} rows may come twice"
    )


def test_the_last_bundle_is_gone(in_the_second):
    with Sandbox([packed_bundle(0, FIRST)]) as sandbox:
        run = run_tap(sandbox.config(), state=in_the_second)
    assert run.code == 0
    assert not run.records
    assert run.states == [in_the_second]


@pytest.mark.parametrize("before", [0, 20], ids=["the first ever", "after another"])
def test_bundles_that_share_an_end(before):
    """The bookmark moves to their end when the last is through, and a run continues among them."""
    start = bundle(1, []).start
    listed = [packed_bundle(0, EVENTS[:before])] if before else []
    for number, size in enumerate([30, 25, 1, 40]):
        body = packed(lines(EVENTS[20 + 50 * number :][:size]))
        listed.append(Bundle(f"id{number}", start + number, start + DAY, body))
    listed.append(packed_bundle(2, EVENTS[300:310]))
    with Sandbox(listed) as sandbox:
        config = sandbox.config(checkpoint_events=10)
        run = run_tap(config)
        assert len(run.records) == before + 30 + 25 + 1 + 40 + 10
        assert "left out" not in run.log
        written = 0
        for message in run.messages[1:]:
            if message["type"] == "RECORD":
                written += 1
            elif progress(message["value"]).get("events") in (25, 1, 40):
                rest = run_tap(config, state=message["value"])
                assert rest.records == run.records[written:]
                assert "come twice" not in rest.log


def test_a_checkpoint_at_every_event():
    """With 1, a target that counts on it gets a STATE after each RECORD, and continues from any."""
    listed = [packed_bundle(0, EVENTS[:9]), packed_bundle(1, EVENTS[9:12])]
    with Sandbox(listed) as sandbox:
        run = run_tap(sandbox.config(checkpoint_events=1))
        kinds = [message["type"] for message in run.messages]
        assert kinds == ["SCHEMA", *["RECORD", "STATE"] * 12]
        for number in (0, 8, 9, 10):
            rest = run_tap(sandbox.config(checkpoint_events=1), state=run.states[number])
            assert rest.records == run.records[number + 1 :]
