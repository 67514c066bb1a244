"""Several streams in one run: what one failure, a signal or a lost target does to the others."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from either_api import each_api
from rest_runs import (
    ARCHITECT_ONLY,
    COUNTS,
    HISTORIES,
    REST,
    asked,
    counts,
    selecting,
)
from running import Run, read_messages, run_tap, start_tap

from tap_fullstory.sandbox import Sandbox, generated_bundles


def test_a_key_too_low_for_some_streams(offered):
    with Sandbox(role="USER") as sandbox:
        run = run_tap(sandbox.config(), catalog=selecting(offered, *REST, "events"))
    assert run.code == 1
    readable = {name: n for name, n in COUNTS.items() if name not in ARCHITECT_ONLY}
    assert counts(run) == readable
    assert f"{len(ARCHITECT_ONLY) + 1} of {len(REST) + 1} streams failed" in run.critical
    assert "events: HTTP 403, it needs a key of level Architect or higher, and the" in run.critical
    for name in ARCHITECT_ONLY:
        reason = f"{name}: HTTP 403, it needs a key of level Architect or higher."
        assert reason in run.critical
        (warning,) = [line for line in run.logged("WARNING") if f"Stream {name} failed" in line]
        assert f"The stream {name} needs a key of level Architect or higher" in warning
    assert "currently_syncing" not in run.state
    assert run.state["bookmarks"].keys() == set(HISTORIES) - ARCHITECT_ONLY


@each_api
def test_a_key_too_low_reads_no_events(api):
    with api.sandbox(role="USER") as sandbox:
        run = run_tap(api.config(sandbox))
    assert run.code == 1
    assert run.records == []
    assert run.critical.startswith("HTTP 403 from http://127.0.0.1")
    assert "Exports need a key of level Architect or higher" in run.critical


def test_one_stream_too_high_says_it_by_itself(offered):
    with Sandbox(role="USER") as sandbox:
        run = run_tap(sandbox.config(), catalog=selecting(offered, "users"))
    assert run.code == 1
    assert "HTTP 403" in run.critical
    assert "/v2/users" in run.critical
    assert "The stream users needs a key of level Architect or higher" in run.critical
    assert "Data Export" not in run.critical


def test_events_that_fail_among_others_keep_their_checkpoint(sandbox, offered):
    bundle = sandbox.bundles[1].id
    sandbox.fault(f"get/{bundle}:truncate,after=-9,times=always")
    catalog = selecting(offered, "events", "geo_settings")
    run = run_tap(sandbox.config(), catalog=catalog)
    assert run.code == 1
    assert counts(run) == {"events": 24, "geo_settings": 1}
    assert run.critical.startswith("1 of 2 streams failed; the others completed. events: Bundle")
    assert f'"skip_bundles": ["{bundle}"]' in run.critical
    sandbox.clear_faults()
    second = run_tap(sandbox.config(), catalog=catalog, state=run.state)
    assert counts(second) == {"events": 120, "geo_settings": 1}


def test_events_alone_fail_in_their_own_words(sandbox, offered):
    sandbox.fault("list:403,times=always")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "events"))
    assert run.critical.startswith("HTTP 403 from http://127.0.0.1")
    assert "Data Export add-on" in run.critical


def test_events_among_others_need_level_and_add_on(sandbox, offered):
    sandbox.fault("list:403,times=always")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "events", "geo_settings"))
    assert (
        "events: HTTP 403, it needs a key of level Architect or higher, and the Data Export "
        in (run.critical)
    )


def test_a_wrong_key_ends_everything_at_once(sandbox, offered):
    config = sandbox.config(api_key="na1.not-the-key")
    run = run_tap(config, catalog=selecting(offered, *REST))
    assert run.code == 1
    assert run.critical.startswith("HTTP 401")
    assert len(sandbox.requests) == 1


def test_a_target_that_goes_ends_everything_at_once(sandbox, offered):
    with start_tap(sandbox.config(), catalog=selecting(offered, *REST)) as tap:
        tap.stdout.close()
        log = tap.stderr.read().decode()
        assert tap.wait(30) == 1
    assert "The target closed the pipe" in Run(1, b"", log).critical
    assert len(sandbox.requests) < 10


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="/proc is part of Linux")
def test_no_connection_waits_open_while_a_slow_target_holds_up_the_events(offered):
    with Sandbox(generated_bundles(1, 2000)) as sandbox:
        catalog = selecting(offered, "users", "events")
        with start_tap(sandbox.config(), catalog=catalog) as tap:
            while not any(request.path.endswith("/get") for request in sandbox.requests):
                time.sleep(0.01)
            deadline = time.monotonic() + 10
            while open_connections(sandbox):  # nobody reads: the tap waits
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert tap.poll() is None


def open_connections(sandbox: Sandbox) -> int:
    """How many connections to the sandbox's port are established, as the system sees it."""
    port = f":{int(sandbox.url.rpartition(':')[2]):04X}"
    table = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    established = (line.split() for line in table)
    return sum(row[1].endswith(port) and row[3] == "01" for row in established)


def test_the_state_says_which_stream_is_under_way(sandbox, offered):
    names = ["segments", "geo_settings_history", "operations"]
    run = run_tap(sandbox.config(), catalog=selecting(offered, *names, "events"))
    in_progress = None
    for message in run.messages:
        if message["type"] == "RECORD":
            assert message["stream"] == in_progress
        elif message["type"] == "STATE":
            in_progress = message["value"].get("currently_syncing")
    assert in_progress is None
    seen = [state.get("currently_syncing") for state in run.states]
    assert list(dict.fromkeys(seen)) == [*names, "events", None]


def order(run: Run) -> list[str]:
    return [schema["stream"] for schema in run.schemas]


@pytest.mark.parametrize(
    ("interrupted", "expected"),
    [
        (None, ["users", "segments", "operations", "events"]),
        ("users", ["users", "segments", "operations", "events"]),
        ("segments", ["segments", "operations", "users", "events"]),
        ("operations", ["operations", "users", "segments", "events"]),
        ("events", ["events", "users", "segments", "operations"]),
        ("geo_settings", ["users", "segments", "operations", "events"]),  # not selected any more
        (7, ["users", "segments", "operations", "events"]),
    ],
)
def test_the_interrupted_stream_comes_first(sandbox, offered, interrupted, expected):
    state = {"bookmarks": {}, "currently_syncing": interrupted}
    catalog = selecting(offered, *expected)
    run = run_tap(sandbox.config(), catalog=catalog, state=state)
    assert order(run) == expected
    assert run.state.keys() == {"bookmarks"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_stream_loses_nothing(sandbox, offered, number):
    names = ["segments", "domain_settings_history", "users", "operations"]
    catalog = selecting(offered, *names)
    sandbox.fault("domain_settings_history:silence,skip=1,seconds=30")
    with start_tap(sandbox.config(), catalog=catalog) as tap:
        while len(asked(sandbox, "/settings/recording/v1/domain/history")) < 2:
            time.sleep(0.01)
        began = time.monotonic()
        tap.send_signal(number)
        out, log = tap.communicate(timeout=10)
        assert time.monotonic() - began < 2
    assert tap.returncode == 128 + number, log.decode()
    messages = list(read_messages(out))
    assert messages[-1]["type"] == "STATE"  # nothing behind it that it does not cover
    state = messages[-1]["value"]
    assert state["currently_syncing"] == "domain_settings_history"
    assert list(state["bookmarks"]["domain_settings_history"]) == ["web"]
    sandbox.clear_faults()
    rest = run_tap(sandbox.config(), catalog=catalog, state=state)
    assert order(rest)[0] == "domain_settings_history"
    received = Counter(
        (m["stream"], json.dumps(m["record"]))
        for m in (*messages, *rest.messages)
        if m["type"] == "RECORD"
    )
    assert {name for name, _ in received} == set(names)
    for name in names:
        assert sum(stream == name for stream, _ in received) == COUNTS[name]
