"""What programs cost: seconds, CPU, memory, as the operating system counts them."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

LOG = Path(__file__).parent / "out/stderr.log"
SAMPLE_SECONDS = 0.01  # between two looks at the memory
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
RECORD = (b'{"type":"RECORD"', b'{"type": "RECORD"')
# No proxy between the tap and the sandbox.
ENVIRONMENT = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

Command = Sequence[str]
Process = subprocess.Popen[bytes]


class Failed(Exception):
    """A program that has not done what it was started for."""


def say(what: str) -> None:
    """Print a line about the measurement itself, apart from its table."""
    print(what, file=sys.stderr, flush=True)


@contextmanager
def served(*bundles: str) -> Iterator[list[dict[str, Any]]]:
    """What bundles.py, with these arguments, tells of the bundles that it serves meanwhile.

    Raises Failed if it does not start.
    """
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("bundles.py")), *bundles],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as sandbox:
        printed = sandbox.stdout.readline() if sandbox.stdout else b""
        if not printed:
            raise Failed("the sandbox did not start")
        yield json.loads(printed)


@dataclass(frozen=True)
class Cost:
    """Of a pipeline: `wall` from its start to the end of its last process, in seconds; `cpu`, user
    and system, in seconds, of each of its processes with those that it has started itself; `peak`,
    the ru_maxrss of each, in bytes.
    """

    wall: float
    cpu: tuple[float, ...]
    peak: tuple[int, ...]


@dataclass(frozen=True)
class Watched:
    """Of a pipeline that was looked at all the time, which is no measure of its speed.

    `together` is the most that all its processes held at a time, in bytes: the sum of what each has
    alone and its share of what several have (Pss in Linux's smaps_rollup); 0 where the system does
    not tell. `largest` is the largest ru_maxrss of any one of them, in bytes.
    """

    records: int
    together: int
    largest: int


def cost(*commands: Command) -> Cost:
    """Run a pipeline whose last output nobody wants. Raises Failed."""
    started = time.perf_counter()
    with _pipeline(commands, subprocess.DEVNULL) as processes:
        usages = [_ended(process) for process in processes]
        wall = time.perf_counter() - started
    cpu = tuple(usage.ru_utime + usage.ru_stime for usage in usages)
    return Cost(wall, cpu, tuple(usage.ru_maxrss * _MAXRSS_UNIT for usage in usages))


def watch(*commands: Command) -> Watched:
    """Run a pipeline, count the RECORD messages that it writes, and look at its memory.

    Raises Failed.
    """
    with _pipeline(commands, subprocess.PIPE) as processes:
        with _Memory(processes) as memory:
            records = sum(line.startswith(RECORD) for line in _output(processes))
        largest = max(usage.ru_maxrss for usage in map(_ended, processes))
    return Watched(records, memory.most, largest * _MAXRSS_UNIT)


def seconds_until(beginnings: tuple[bytes, ...], *commands: Command) -> float:
    """From the start of a pipeline to its first line that begins with one of `beginnings`, where it
    is ended. Raises Failed if there is none.
    """
    started = time.perf_counter()
    with _pipeline(commands, subprocess.PIPE) as processes:
        for line in _output(processes):
            if line.startswith(beginnings):
                return time.perf_counter() - started
    raise Failed(f"{commands[-1]} has written no line that begins with {beginnings}")


@contextmanager
def _pipeline(commands: Sequence[Command], output: int) -> Iterator[list[Process]]:
    """The processes of a pipeline, which are killed at the end if they have not ended."""
    processes: list[Process] = []
    LOG.parent.mkdir(exist_ok=True)
    with ExitStack() as stack:
        log = stack.enter_context(LOG.open("wb"))
        for number, command in enumerate(commands, 1):
            before = processes[-1].stdout if processes else subprocess.DEVNULL
            after = output if number == len(commands) else subprocess.PIPE
            process = subprocess.Popen(
                command, stdin=before, stdout=after, stderr=log, env=ENVIRONMENT
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            if processes:
                processes[-1].stdout.close()  # type: ignore[union-attr] - the next one's alone
            processes.append(process)
        yield processes


def _output(processes: list[Process]) -> Iterator[bytes]:
    return iter(processes[-1].stdout or ())


def _ended(process: Process) -> resource.struct_rusage:
    """What a process has used, at its end. Raises Failed if that is no good one."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = LOG.read_text(errors="replace")[-2000:]
        raise Failed(f"{process.args} ended with exit code {process.returncode}:\n{said}")
    return usage


class _Memory:
    """Looks at the memory of processes and of all that they start, within a `with` block."""

    def __init__(self, processes: list[Process]) -> None:
        self.most = 0
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            trees = [_tree(process.pid) for process in self._processes]
            self.most = max(self.most, sum(_share(pid) for tree in trees for pid in tree))


def _tree(process_id: int) -> Iterator[int]:
    """A process and all that it has started, as far as Linux tells."""
    yield process_id
    for children in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in _text(children).split():
            yield from _tree(int(child))


def _share(process_id: int) -> int:
    kilobytes = re.search(r"\nPss: +([0-9]+) kB", _text(Path(f"/proc/{process_id}/smaps_rollup")))
    return int(kilobytes[1]) * 1024 if kilobytes else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # of a process that has ended, or on a system without /proc
        return ""
