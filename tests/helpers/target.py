"""The other end of the pipe: a target that reads as much, and as late, as a test tells it to."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from faults import assert_nothing_leaks, loud
from running import Json, Run, read_messages, start_tap

PATIENCE = 60  # seconds until a test that waits for the tap fails
_PIPE_BYTES = 4096  # the least: what is in the pipe has been received by no target


class Target:
    """Reads from a tap that runs; all that it has read so far is in `received`."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.process = process
        self.received = bytearray()
        self._log = log
        assert process.stdout
        self._pipe = process.stdout.fileno()
        if sys.platform == "linux":
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self, size: int) -> bool:
        """Read so many bytes more; False if the tap's output ends before that."""
        wanted = len(self.received) + size
        while len(self.received) < wanted:
            assert select.select([self._pipe], [], [], PATIENCE)[0], "the tap writes nothing"
            data = os.read(self._pipe, min(_PIPE_BYTES, wanted - len(self.received)))
            if not data:
                return False
            self.received += data
        return True

    def close(self) -> None:
        """Go away."""
        assert self.process.stdout
        self.process.stdout.close()

    def wait_for_handlers(self) -> None:
        """Until the tap has taken over SIGTERM."""
        status = Path(f"/proc/{self.process.pid}/status")

        def caught() -> bool:
            mask = status.read_text().partition("SigCgt:\t")[2].partition("\n")[0]
            return bool(mask) and bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)

        wait_until(lambda: self.process.poll() is not None or caught())

    def end(self) -> Run:
        """Read what there still is, wait for the tap to exit, and keep whole lines only.

        Fails if there is a traceback, or the log holds the key or an event's text.
        """
        while not self.process.stdout.closed and self.read(1 << 20):
            pass
        code = self.process.wait(PATIENCE)
        self._log.seek(0)
        log = self._log.read().decode()
        assert "Traceback" not in log, log
        assert_nothing_leaks(log)
        whole = bytes(self.received[: self.received.rfind(b"\n") + 1])
        return Run(code, bytes(self.received), log, tuple(read_messages(whole)))


@contextmanager
def read_by_target(
    config: Mapping[str, Any], *options: str, state: Json | None = None, **popen: Any
) -> Iterator[Target]:
    """A sync whose logs say all they can, with a target that has read nothing yet."""
    with (
        tempfile.TemporaryFile() as log,
        start_tap(dict(config), *options, state=state, env=loud(), stderr=log, **popen) as process,
    ):
        yield Target(process, log)


def uncovered(run: Run) -> list[Json]:
    """The records after the last STATE: what the next run will bring again."""
    records: list[Json] = []
    for message in run.messages:
        if message["type"] == "STATE":
            records.clear()
        elif message["type"] == "RECORD":
            records.append(message["record"])
    return records


def wait_until(condition: Callable[[], bool]) -> None:
    """Fails if it does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def last_state(run: Run, before: Json | None) -> Json | None:
    """What a target holds after a run that it began with `before`."""
    return json.loads(json.dumps(run.states[-1])) if run.states else before
