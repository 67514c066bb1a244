"""Ways to die at random moments, over and over: nothing is lost, and next to nothing doubled.

KILLS in the environment sets how many times; the moments are seeded.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from faults import KEY, array, bundle, events, in_members, lines, packed, record
from running import Json, Run, counted
from target import Target, last_state, read_by_target, uncovered

from tap_fullstory.sandbox import Bundle, Sandbox

KILLS = int(os.environ.get("KILLS", "30"))
CHECKPOINT = 40
SIZES = [130, 0, 1, 350, 64, 200]  # events in each bundle
EVENTS = events(sum(SIZES))
TRUTH = counted(map(record, EVENTS))
ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def bundles() -> list[Bundle]:
    """Plain, gzipped, and gzipped in members, by turns."""
    made = []
    for day, size in enumerate(SIZES):
        first = sum(SIZES[:day])
        form = [array, packed, in_members][day % 3]
        made.append(bundle(day, form(lines(EVENTS[first : first + size]))))
    return made


@dataclass
class Received:
    """What has come out of all runs together."""

    records: Counter[str] = field(default_factory=Counter)
    again: int = 0
    """Records that came after the last STATE of their run: the next run brings them again."""
    ends: Counter[int] = field(default_factory=Counter)


def sync_to_the_end(sandbox: Sandbox, random: Random, end: Any, received: Received) -> None:
    """Run after run, each from the last state of the one before, until one succeeds."""
    state: Json | None = None
    code = None
    while code != 0:
        config = sandbox.config(
            checkpoint_events=CHECKPOINT, prefetch_bundles=random.choice([0, 1, 3])
        )
        with read_by_target(config, state) as target:
            wait_for_a_moment(target, random)
            run = end(target)
        code = run.code
        received.records.update(counted(run.records))
        received.again += len(uncovered(run))
        received.ends[code] += 1
        state = last_state(run, state)


def wait_for_a_moment(target: Target, random: Random) -> None:
    """After some output, most of the time; else after some time, while it starts, lists or fetches."""
    if random.random() < 0.8:
        target.read(random.randrange(80_000))
    else:
        target.wait_for_handlers()
        time.sleep(random.uniform(0, 0.4))


def killed(target: Target) -> Run:
    target.process.kill()
    run = target.end()
    assert run.code in (0, -signal.SIGKILL)
    assert len(uncovered(run)) <= CHECKPOINT
    return run


def test_sigkill_loses_nothing_and_doubles_at_most_a_checkpoint():
    random = Random(3)
    received, wanted = Received(), 0
    with Sandbox(bundles(), api_key=KEY) as sandbox:
        while received.ends[-signal.SIGKILL] < KILLS:
            sync_to_the_end(sandbox, random, killed, received)
            wanted += 1
    truth = Counter({line: wanted * count for line, count in TRUTH.items()})
    assert truth - received.records == Counter()
    doubled = (received.records - truth).total()
    assert doubled == received.again
    print(f"{received.ends[-signal.SIGKILL]} kills, 0 lost, {doubled} doubled of {truth.total()}")


@pytest.mark.parametrize("number", ENDS, ids=lambda number: signal.Signals(number).name)
def test_a_signal_loses_nothing_and_doubles_nothing(number):
    def ended(target: Target) -> Run:
        target.process.send_signal(number)
        run = target.end()
        assert run.code in (0, ENDS[number]), run.log
        assert run.stdout.endswith(b"\n") or not run.stdout
        assert not uncovered(run)
        return run

    random = Random(int(number))
    received, wanted = Received(), 0
    with Sandbox(bundles(), api_key=KEY) as sandbox:
        while received.ends[ENDS[number]] < KILLS // 2:
            sync_to_the_end(sandbox, random, ended, received)
            wanted += 1
    assert received.records == {line: wanted * count for line, count in TRUTH.items()}
    print(f"{received.ends[ENDS[number]]} signals, 0 lost, 0 doubled of {wanted * len(EVENTS)}")
