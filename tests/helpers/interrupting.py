"""Runs that a signal ends, where it is sent."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from running import Json, Run, read_messages, start_tap

PATIENCE = 30  # seconds


def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds. Fails if it does not within PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"this has not happened in {PATIENCE} s"
        time.sleep(0.01)


def interrupted(
    config: Json,
    when: Callable[[], bool] = lambda: True,
    *,
    in_bundle: bool = False,
    number: int = signal.SIGTERM,
    **options: Any,
) -> Run:
    """Return a run that is sent a signal once `when` is true, and if `in_bundle`, after the first
    STATE with a position in a bundle. Its records are those before its last STATE.
    """
    # Unbuffered, so that what has been read of stdout is known.
    with start_tap(config, bufsize=0, **options) as process:
        stdout = b""
        while in_bundle and b'"partial"' not in stdout:
            line = process.stdout.readline()
            assert line, "the run has ended before"
            stdout += line
        until(when)
        process.send_signal(number)
        rest, log = process.communicate(timeout=PATIENCE)
    before, state_line, after = (stdout + rest).rpartition(b'{"type":"STATE"')
    stdout = before + state_line + after.partition(b"\n")[0] + b"\n" if state_line else b""
    return Run(process.returncode, stdout, log.decode(), tuple(read_messages(stdout)))
