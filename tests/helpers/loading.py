"""What targets load: three days of a sandbox, and runs of `tap | target`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import as_record, start_tap
from target import wait_until

from tap_fullstory.sandbox import Bundle, Sandbox, generate_events

DAY = 24 * 60 * 60
FIRST = 1_600_041_600  # 2020-09-14T00:00:00Z
DATE_TIMES = {"EventStart", "SessionStart", "UserCreated", "PageStart"}
STRANGE = {
    "IndvId": 2**63 - 1,
    "UserId": 6606828898126528473,
    "PageId": 2**53 + 1,
    "EventStart": "2020-09-15T00:00:01.191Z",
    "SessionStart": "2020-09-15T00:00:00.000Z",
    "EventType": "custom",
    "EventCustomName": 'Grüße, "東京" \U0001f600\nand a new line',
    "UserAppKey": "",
    "EventCumulativeLayoutShift": 0.1,
    "EventModDead": 1,
    "user_plan_str": "\U0001f947 gold",
    "evt_order.total_real": 4,
    "evt_ids_ints": [2**53 + 1, -1],
    "Tomorrow": {"a": [None, {"b": "it's"}]},
}
MISMATCHED = {"EventStart": "soon", "PageStart": "", "PageId": "x", "EventType": "click"}
MISMATCHED_RECORD = {
    "EventStart": None, "PageStart": None, "PageId": None, "EventType": "click",
    "CustomVars": {"EventStart": "soon", "PageId": "x"},
}  # fmt: skip


# Streams with their keys that are loaded beside the events, and how many rows the sandbox has.
BESIDE = {
    "organization_quotas": ((), 1),
    "extraction_rules": (("scope", "id"), 5),
    "privacy_elements": (("id",), 12),
    "webhook_event_subcategories": (("eventName", "subcategory"), 4),
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Two days, and a third that waits to be published."""
    bodies: list[Any] = [
        list(generate_events(FIRST, FIRST + DAY, 144)),
        [STRANGE, MISMATCHED],
        list(generate_events(FIRST + 2 * DAY, FIRST + 3 * DAY, 24, number=2)),
    ]
    starts = [FIRST + number * DAY for number in range(3)]
    bundles = [
        Bundle(str(start), start, start + DAY, body)
        for start, body in zip(starts, bodies, strict=True)
    ]
    with Sandbox(bundles, unpublished=1) as sandbox:
        yield sandbox


def expected_records(sandbox: Sandbox, days: int) -> list[dict[str, Any]]:
    events = [event for bundle in sandbox.bundles[:days] for event in bundle.events]
    return [MISMATCHED_RECORD if event == MISMATCHED else as_record(event) for event in events]


def piped(
    config: dict[str, Any],
    commands: Any,
    target: list[Any],
    folder: Path,
    state: Any = None,
    catalog: Any = None,
) -> bytes:
    """What the target prints at the end of `tap | target`, run in `folder`."""
    with (
        start_tap(config, state=state, catalog=catalog, executable=commands.tap_for(config)) as tap,
        subprocess.Popen(
            list(map(str, target)),
            stdin=tap.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
        ) as loading,
    ):
        tap.stdout.close()  # or the tap would not notice that the target has gone
        log = tap.stderr.read()
        printed = loading.stdout.read()
        assert tap.wait(60) == 0, log.decode()
        assert loading.wait(60) == 0, printed.decode()
    return printed


def load_through_kills(
    config: dict[str, Any],
    commands: Any,
    target: list[Any],
    victim: str,
    progress: Callable[[], int],
    step: int,
) -> None:
    """Run `tap | target` three times, each from the last state. In the first two, kill `victim`,
    "tap" or "target", as soon as `progress` has grown by `step`.
    """
    state: Any = None
    for number in (signal.SIGKILL, signal.SIGTERM, None):
        wanted = progress() + step
        with (
            start_tap(config, state=state, executable=commands.tap_for(config)) as tap,
            subprocess.Popen(
                list(map(str, target)),
                stdin=tap.stdout,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as loading,
        ):
            tap.stdout.close()
            if number is not None:
                wait_until(lambda: progress() >= wanted or loading.poll() is not None)  # noqa: B023
                (tap if victim == "tap" else loading).send_signal(number)
            try:
                printed, _ = loading.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                # The SDK ends what it has begun in its handler of SIGTERM. target-snowflake hangs
                # there if it was starting a thread, whose lock the handler needs.
                loading.kill()
                printed, _ = loading.communicate()
            log = tap.stderr.read()
            codes = tap.wait(60), loading.returncode
        state = (states(printed) or [state])[-1]
        assert number is not None or codes == (0, 0), log.decode()


def states(printed: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith(b'{"bookmarks"')]


def end_of(day: int) -> dict[str, Any]:
    return {"bookmarks": {"events": {"bundle_end": f"2020-09-{14 + day}T00:00:00Z"}}}


def without_zeros(timestamp: str) -> str:
    # As PostgreSQL writes it: no zeros at the end of a fraction, no fraction of zero.
    return re.sub(r"\.?0*$", "", timestamp) if "." in timestamp else timestamp
