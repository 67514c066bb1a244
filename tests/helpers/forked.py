"""Runs of the tap without importing it again, which takes as long as the rest of most runs.

For each environment that Python itself reads, one process has imported the tap and waits; it forks
a process for every run, with the run's arguments, environment, folder, stdin, stdout and stderr.
From there on all is as if it had been started: `main()` at the top of a script, its own process id,
its own exit. What is decided before `main()` is tested by the tests that start the tap themselves.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from threading import Lock

_LENGTH_BYTES = 4  # before each request: its length, big-endian
# What Python, its C library or singer-python reads while the tap is imported.
_READ_AT_START = ("PYTHON", "LANG", "LC_", "LOGGING_", "TZ")
_seen: set[str] = set()
_one_at_a_time = Lock()


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a run with this environment is worth forking: not the first of its kind, and not
    while coverage is measured, which has to see each process start.
    """
    kind = _kind(environment)
    is_known = kind in _seen
    _seen.add(kind)
    return is_known and "COVERAGE_PROCESS_CONFIG" not in environment and sys.platform == "linux"


def run_forked(
    arguments: list[str], environment: Mapping[str, str], folder: str, stdin: bytes, timeout: float
) -> subprocess.CompletedProcess[bytes]:
    """Run the tap to its end, as subprocess.run does.

    Raises subprocess.TimeoutExpired, after killing the tap, if it takes longer than `timeout`
    seconds.
    """
    request = json.dumps([arguments, dict(environment), folder]).encode()
    pipes = [os.pipe() for _ in range(3)]
    (tap_stdin, to_stdin), (from_stdout, tap_stdout), (from_stderr, tap_stderr) = pipes
    ours, theirs = socket.socketpair()
    handed_over = [theirs.fileno(), tap_stdin, tap_stdout, tap_stderr]
    with _one_at_a_time:
        parent = _parent(_kind(environment))
        socket.send_fds(parent, [len(request).to_bytes(_LENGTH_BYTES, "big")], handed_over)
        parent.sendall(request)
    theirs.close()
    for descriptor in (tap_stdin, tap_stdout, tap_stderr):
        os.close(descriptor)
    ours.settimeout(timeout)
    with ThreadPoolExecutor(3) as pool, ours, ours.makefile("rb") as answers:
        pool.submit(_write, to_stdin, stdin)
        stdout, stderr = pool.submit(_read, from_stdout), pool.submit(_read, from_stderr)
        process = int(answers.readline())
        try:
            code = int(answers.readline())
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            raise subprocess.TimeoutExpired(arguments, timeout) from None
        return subprocess.CompletedProcess(arguments, code, stdout.result(), stderr.result())


def _kind(environment: Mapping[str, str]) -> str:
    return json.dumps(
        {name: environment[name] for name in environment if name.startswith(_READ_AT_START)},
        sort_keys=True,
    )


@cache
def _parent(kind: str) -> socket.socket:
    """Start the process that forks; return the socket from which it takes requests."""
    ours, theirs = socket.socketpair()
    others = {name: os.environ[name] for name in os.environ if not name.startswith(_READ_AT_START)}
    process = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        env={**others, **json.loads(kind)},
        pass_fds=[theirs.fileno()],
    )
    theirs.close()

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def _write(pipe: int, data: bytes) -> None:
    with suppress(BrokenPipeError), open(pipe, "wb") as stdin:
        stdin.write(data)


def _read(pipe: int) -> bytes:
    with open(pipe, "rb") as stream:
        return stream.read()


def _serve(requests: socket.socket) -> list[str]:
    """Fork for each request, and return its arguments in the process that is to be the tap."""
    while True:
        length, descriptors, _, _ = socket.recv_fds(requests, _LENGTH_BYTES, 4)
        if not length:
            os._exit(0)
        size = int.from_bytes(length, "big")
        request = b""
        while len(request) < size:
            request += requests.recv(size - len(request))
        if not (waiting := os.fork()):
            requests.close()
            return _tap(*json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(waiting, 0)


def _tap(
    arguments: list[str], environment: dict[str, str], folder: str, answers: int, *streams: int
) -> list[str]:
    """Fork the tap from a process that its parent need not wait for, and waits for it itself."""
    if os.fork():
        os._exit(0)
    if tap := os.fork():
        for stream in streams:
            os.close(stream)
        os.write(answers, b"%d\n" % tap)
        _, status = os.waitpid(tap, 0)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(answers)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return arguments


if __name__ == "__main__":
    import tap_fullstory.command  # noqa: F401 - what main() imports late
    from tap_fullstory import main

    main(_serve(socket.socket(fileno=int(sys.argv[1]))))
