"""SIGINT and SIGTERM at every point of a run: all records are covered by a STATE, and it ends.

What a run waits for would take five minutes: that it ends at all shows that it was interrupted.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, BinaryIO

import pytest
from either_api import DATA_EXPORT, SEGMENT_EXPORT, Api, each_api, endpoints_asked
from faults import KEY, array, bundle, events, lines, record
from running import Run, run_tap
from target import PATIENCE, last_state, read_by_target, uncovered, wait_until

from tap_fullstory import catalog
from tap_fullstory import run as run_module
from tap_fullstory.errors import Interrupted
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.exports.spool import SpooledBundle
from tap_fullstory.logs.progress import RunSummary
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.sandbox import Fault, Sandbox
from tap_fullstory.selection import select
from tap_fullstory.settings import parse_config
from tap_fullstory.signals import Signals
from tap_fullstory.sync import sync

CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
EVENTS = events(1000)
SMALL, LARGE = EVENTS[:20], EVENTS[20:]  # the large one is more than the tap writes at once
BUNDLES = [bundle(0, array(lines(SMALL))), bundle(1, array(lines(LARGE)))]


def one_by_one(numbers: Any) -> Any:
    return pytest.mark.parametrize(
        "number", numbers, ids=lambda number: signal.Signals(number).name
    )


def assert_ended(run: Run, number: int) -> None:
    assert run.code == CODES[number], run.log
    assert run.stdout.endswith(b"\n") or not run.stdout
    assert not uncovered(run)
    assert not run.logged("CRITICAL")


# --- while it waits ---


@dataclass(frozen=True)
class Wait:
    """What a sync waits for with this fault of the sandbox, from its n-th request to `endpoint`."""

    name: str
    fault: str | Fault
    endpoint: str
    requests: int
    records: int = 0
    api: Api = DATA_EXPORT


PENDING = Fault("status", "operation", status=200, body=b'{"state":"PENDING"}', times=None)
WAITS = [
    Wait("list", "list:silence,seconds=300", "list", 1),
    Wait("list body", "list:stall,after=9,seconds=300", "list", 1),
    Wait("list throttled", "list:429,retry-after=300,times=always", "list", 1),
    Wait("list failing", "list:503,times=always", "list", 2),
    Wait("first bundle", "get:silence,seconds=300", "get", 1),
    Wait("second bundle", "get:stall,after=70000,seconds=300,skip=1", "get", 2, len(SMALL)),
    Wait("throttled", "get:429,retry-after=300,times=always,skip=1", "get", 2, len(SMALL)),
    Wait("failing", "get:reset,times=always,skip=1", "get", 3, len(SMALL)),
    Wait("order", "create:silence,seconds=300", "create", 1, 0, SEGMENT_EXPORT),
    Wait("order throttled", "create:429,retry-after=300", "create", 1, 0, SEGMENT_EXPORT),
    Wait("export", PENDING, "operation", 2, 0, SEGMENT_EXPORT),
    Wait("operation", "operation:silence,seconds=300", "operation", 1, 0, SEGMENT_EXPORT),
    Wait("location", "results:stall,after=9,seconds=300", "results", 1, 0, SEGMENT_EXPORT),
    Wait("second order", "create:503,times=always,skip=1", "create", 3, len(SMALL), SEGMENT_EXPORT),
    Wait(
        "second window", "storage:stall,after=70000,seconds=300,skip=1", "storage", 2, len(SMALL),
        SEGMENT_EXPORT,
    ),
]  # fmt: skip


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.name)
def test_while_it_waits(wait):
    number = signal.SIGINT if WAITS.index(wait) % 2 else signal.SIGTERM
    prefetch = WAITS.index(wait) // 2 % 2
    with wait.api.sandbox(BUNDLES, api_key=KEY, faults=[wait.fault]) as sandbox:

        def waits() -> bool:
            return endpoints_asked(sandbox).count(wait.endpoint) >= wait.requests

        config = wait.api.config(sandbox, prefetch_bundles=prefetch, checkpoint_events=7)
        with read_by_target(config) as target:
            while wait.records and b'"bundle_end":"2026-06-02T00:00:00Z"' not in target.received:
                assert target.read(1)
            wait_until(waits)
            target.process.send_signal(number)
            run = target.end()
    assert_ended(run, number)
    assert len(run.records) == wait.records


@one_by_one(CODES)
def test_while_discovery_waits(number):
    with (
        Sandbox(faults=["list:silence,seconds=300"]) as sandbox,
        read_by_target(sandbox.config(), "--discover") as target,
    ):
        wait_until(lambda: bool(sandbox.requests))
        target.process.send_signal(number)
        code = target.process.wait(PATIENCE)
    assert code == CODES[number]
    assert not target.received


# --- while it writes ---


@each_api
@one_by_one(CODES)
def test_while_it_emits(api, number):
    with api.sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = api.config(sandbox, checkpoint_events=300)
        with read_by_target(config) as target:
            assert target.read(200_000)
            target.process.send_signal(number)
            run = target.end()
        rest = run_tap(config, state=run.state)
    assert_ended(run, number)
    assert 0 < len(rest.records) < len(EVENTS) - len(SMALL)
    assert [*run.records, *rest.records] == [record(event) for event in EVENTS]


@one_by_one(CODES)
def test_while_the_target_reads_nothing(number):
    """The batch in hand has to be written: the tap waits for the target, and then ends at once."""
    with Sandbox(BUNDLES, api_key=KEY) as sandbox, read_by_target(sandbox.config()) as target:
        assert target.read(100_000)
        target.process.send_signal(number)
        time.sleep(0.3)
        assert target.process.poll() is None
        run = target.end()
    assert_ended(run, number)
    assert len(SMALL) < len(run.records) < len(EVENTS)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
def test_a_second_signal_ends_at_once_though_the_target_reads_nothing(first, second):
    with Sandbox(BUNDLES, api_key=KEY) as sandbox, read_by_target(sandbox.config()) as target:
        assert target.read(100_000)
        target.process.send_signal(first)

        def ended() -> bool:
            target.process.send_signal(second)  # one that comes too early is one with the first
            return target.process.poll() is not None

        wait_until(ended)
        run = target.end()
    assert run.code == CODES[first]
    assert not run.logged("CRITICAL")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_within_a_second_is_the_same_one(second):
    """As timeout(1) sends them: to its child, then to the group."""
    with Sandbox(BUNDLES, api_key=KEY) as sandbox, read_by_target(sandbox.config()) as target:
        assert target.read(100_000)
        target.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # two that are pending at once are delivered in the order of their numbers
        target.process.send_signal(second)
        run = target.end()
    assert_ended(run, signal.SIGTERM)


@pytest.mark.skipif(not shutil.which("timeout"), reason="timeout is part of coreutils")
def test_a_timeout_never_ends_a_run_without_a_checkpoint(tmp_path):
    """The real one, before a target that reads slowly, in run after run over the same events."""
    state, records, stops = None, [], 0
    program = tmp_path / "tap"
    with Sandbox(BUNDLES, api_key=KEY) as sandbox:
        config = sandbox.config(checkpoint_events=300)
        for hundredths in [*range(20, 120, 14), 6000]:
            command = ["timeout", f"{hundredths / 100}", sys.executable, "-m", "tap_fullstory"]
            program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            program.chmod(0o755)
            with read_by_target(config, state=state, executable=program) as target:
                while target.read(8192):
                    time.sleep(0.01)
                run = target.end()
            assert run.code in (0, 124), run.log
            assert not uncovered(run)
            stops += run.code == 124
            records += run.records
            state = last_state(run, state)
            if run.code == 0:
                assert records == [record(event) for event in EVENTS]
                state, records = None, []
    assert stops


def test_the_target_goes_too():
    """As in a shell, where Ctrl-C reaches all of a pipe."""
    with Sandbox(BUNDLES, api_key=KEY) as sandbox, read_by_target(sandbox.config()) as target:
        assert target.read(100_000)
        target.process.send_signal(signal.SIGINT)
        target.close()
        run = target.end()
    assert run.code == 1
    (line,) = run.logged("CRITICAL")
    assert line.startswith("The target closed the pipe")


# --- in the process ---


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in CODES}
    made = Signals()
    made.install()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@one_by_one(CODES)
def test_at_once_or_at_the_next_check(signals, number):
    interrupt(number)
    with pytest.raises(Interrupted) as ended:
        signals.raise_if_arrived()
    with pytest.raises(Interrupted), signals.interruptible():
        pytest.fail("waits after a signal")
    assert ended.value.exit_code == CODES[number]


def test_at_once_where_it_waits(signals):
    with signals.interruptible(), pytest.raises(Interrupted):
        interrupt()


def test_what_a_thread_does_is_not_waited_for_after_a_signal(signals):
    go_on = threading.Event()
    assert signals.run_interruptibly(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        signals.run_interruptibly(lambda: 1 // 0)
    threading.Timer(0.05, interrupt).start()
    with pytest.raises(Interrupted):
        signals.run_interruptibly(go_on.wait)
    go_on.set()


def test_a_position_deep_in_a_bundle_is_not_waited_for(signals, monkeypatch):
    """Getting there may mean to unpack gigabytes."""
    unpacked = []

    def blocks(_: SpooledBundle) -> Iterator[bytes]:
        for _number in range(1000):
            unpacked.append(1)
            if len(unpacked) == 10:
                interrupt()
            yield b" " * 32_768

    class Source:
        def list_bundles(self, after: int) -> list[Bundle]:
            midnights = [datetime(2026, 6, day, tzinfo=timezone.utc) for day in (1, 2)]
            return [Bundle("7", midnights[0], midnights[1])]

        def download_bundle(self, bundle: Bundle, sink: BinaryIO) -> None:
            sink.write(b"[]")

    monkeypatch.setattr(SpooledBundle, "chunks", blocks)
    now = datetime(2026, 7, 1, tzinfo=timezone.utc)
    config = parse_config({"api_key": "key"}, now, {})
    partial = {"id": "7", "events": 9, "bytes": 10**9, "crc32": 1}
    state = {"bookmarks": {"events": {"bundle_end": "2026-06-01T00:00:00Z", "partial": partial}}}
    selections = select(catalog.discover(config), config)
    written, output = os.pipe()
    writer = MessageWriter(output)
    run = run_module.Run(config, Source(), writer, signals, RunSummary(), now)  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        sync(run, selections, state)
    assert len(unpacked) == 10
    os.close(output)
    assert os.read(written, 1) == b""
    os.close(written)
