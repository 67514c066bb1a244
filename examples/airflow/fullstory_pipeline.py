"""Run the tap into a target, and end both when whoever started them ends. For Airflow's tasks.

    run(folder, tap, target)      tap and target are command lines, such as ["target-jsonl"]

A task can end without running any more of its Python: its worker kills it, or the machine is out of
memory. So tap and target are children of a process of their own, this file run as a program. It
notices that the task is gone, and ends what it started: it signals the tap, which stops at a
checkpoint, and lets the target store what has come and print its state. What has not ended after
STOP_SECONDS is killed.

The folder has what examples/sync.sh has in its own, by the same rules: states.jsonl (what the
target printed), state.json (the last line of it, or a state from elsewhere before the first run),
and sync.lock, which tap and target hold: a retry waits until what was started before has ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

STOP_SECONDS = float(os.environ.get("FULLSTORY_STOP_SECONDS", "120"))
KEYS = ("TAP_FULLSTORY_API_KEY", "TAP_FULLSTORY_HASH_KEY")  # for the tap alone
STOPPED = (129, 130, 143)  # exit codes of a tap that one signal has ended at a checkpoint
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

State = dict[str, Any]


class PipelineError(RuntimeError):
    """Raised when tap or target failed; `code` is the tap's exit code, 1 if only the target's."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The pipeline ended with exit code {code}: the log above says why.")
        self.code = code


def run(folder: Path, tap: list[str], target: list[str], *, upserts: bool = False) -> None:
    """Load what is new, from the folder's last state. Raises PipelineError if it fails.

    `upserts` says that rows which come again replace themselves, so that a run whose target printed
    no state can start over. Whatever ends this call ends the pipeline, too.
    """
    arguments = [str(folder), json.dumps([*map(str, tap)]), json.dumps([*map(str, target)])]
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments, *(["upserts"] if upserts else [])],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Airflow signals the task's group
    )
    try:
        code = process.wait()
    finally:
        assert process.stdin
        process.stdin.close()  # if it still runs, this makes it end
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS + 10)
    if code != 0:
        raise PipelineError(128 - code if code < 0 else code)


def last_state(folder: Path) -> State | None:
    """Return the state that the target printed last; None if it printed none."""
    lines = _whole_lines(folder / "states.jsonl")
    return json.loads(lines[-1]) if lines else None


def write_json(path: Path, value: State) -> None:
    """Write a JSON file that only its owner can read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.touch(0o600)
    new.write_text(json.dumps(value), "utf-8")
    new.replace(path)


def _whole_lines(path: Path) -> list[bytes]:
    """Return lines that are states: a full disk cuts the last one, a power loss leaves zeros."""
    content = path.read_bytes() if path.exists() else b""
    lines = [line.strip(b"\0") for line in content.split(b"\n")]
    return [line for line in lines if line.startswith(b"{") and line.endswith(b"}")]


# --- the process that has tap and target as its children ---


class Pipeline:
    """Starts the tap and the target, and ends them."""

    def __init__(self, folder: Path, tap: list[str], target: list[str], upserts: bool) -> None:
        self._folder = folder
        self._tap_command, self._target_command = tap, target
        self._upserts = upserts
        self._states, self._state = folder / "states.jsonl", folder / "state.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()

    def run(self) -> int:
        """Run both to their end, and return the exit code."""
        for program in (self._tap_command[0], self._target_command[0]):
            if not shutil.which(program):
                sys.exit(f"{program} is not installed, or not on the PATH of this task.")
        lock = self._take_lock()
        arguments = self._state_arguments()
        environment = {name: value for name, value in os.environ.items() if name not in KEYS}
        options: dict[str, Any] = {"start_new_session": True, "pass_fds": [lock]}
        reading, writing = os.pipe()
        with self._states.open("ab") as states:
            target = subprocess.Popen(
                self._target_command, stdin=reading, stdout=states, env=environment, **options
            )
        self._processes.append(target)
        os.close(reading)
        tap = subprocess.Popen(
            [*self._tap_command, *arguments], stdin=subprocess.DEVNULL, stdout=writing, **options
        )
        self._processes.append(tap)
        if self._stopping.is_set():  # before there was a tap
            _signal(tap, signal.SIGTERM)
        tap_code = _exit_code(tap)
        # This process still holds the pipe open: a target that has ended has not read to the end.
        outlived = target.poll() is None
        os.close(writing)
        target_code = _exit_code(target)
        self._keep_state(tap_code, target_code, outlived)
        if target_code:
            _say(f"The target failed with exit code {target_code}.")
        return tap_code or (1 if target_code else 0)

    def stop(self) -> None:
        """Let the tap end at a checkpoint; after STOP_SECONDS, kill what is left."""
        self._stopping.set()
        _say("Stopping: the tap ends at a checkpoint, and the target stores what has come.")
        for tap in self._processes[1:]:
            _signal(tap, signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        for process in self._processes:
            _signal(process, signal.SIGKILL)

    def _take_lock(self) -> int:
        """Wait until no other run has the folder. Ends this process if it is to stop before."""
        lock = os.open(self._folder / "sync.lock", os.O_RDWR | os.O_CREAT, 0o600)
        waits = False
        while True:
            if self._stopping.is_set():
                sys.exit(128 + signal.SIGTERM)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waits:
                    _say(f"Waiting for the run that has {self._folder}/sync.lock to end.")
                waits = True
                self._stopping.wait(0.2)
            else:
                os.ftruncate(lock, 0)
                now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                os.write(lock, f"{now}, process {os.getpid()}\n".encode())
                return lock

    def _state_arguments(self) -> list[str]:
        """Return the tap's options for the last state. Ends this process if rows could double."""
        if lines := _whole_lines(self._states):
            if self._states.read_bytes() != (whole := b"".join(line + b"\n" for line in lines)):
                _say(f"The last line of {self._states} is incomplete. Removing it.")
                new = self._states.with_name("states.jsonl.new")
                new.write_bytes(whole)
                new.replace(self._states)
            write_json(self._state, json.loads(lines[-1]))
        elif self._states.exists() and not self._upserts:
            has_state = self._state.exists() and self._state.stat().st_size
            sys.exit(
                f"An earlier run ended before the target confirmed anything ({self._states} is "
                "empty), and it may have stored rows. Delete these, unless the target upserts, "
                f"then that file, to load from {self._state if has_state else 'start_date'}."
            )
        elif not self._state.exists():
            return []
        elif not self._state.stat().st_size:
            sys.exit(
                f"{self._state} is empty. Put the last state into it, or delete the rows that are "
                "stored, then that file, to load from start_date."
            )
        return ["--state", str(self._state)]

    def _has_written_a_state(self, tap_code: int) -> bool:
        """Whether the tap ended as it does when it fails, or at one signal; not at a second."""
        return tap_code in (1, 2) or (self._stopping.is_set() and tap_code in STOPPED)

    def _keep_state(self, tap_code: int, target_code: int, outlived: bool) -> None:
        if (state := last_state(self._folder)) is not None:
            write_json(self._state, state)
        elif outlived and target_code == 0 and self._has_written_a_state(tap_code):
            # After its last record, if there was any; but the target read everything, and printed
            # none. So there were no records.
            _say("The tap ended before its first record, so nothing was stored.")
            self._states.unlink()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    code = process.wait()
    return 128 - code if code < 0 else code


def _say(what: str) -> None:
    with suppress(OSError):  # whoever read it may be gone
        print(what, file=sys.stderr, flush=True)


def _stop_when_told(pipeline: Pipeline, signals: int) -> None:
    """Stop at a signal, or at the end of stdin: the process that has its other end is gone."""
    select.select([0, signals], [], [])
    pipeline.stop()


def main(folder: str, tap: str, target: str, upserts: str = "") -> NoReturn:
    """Run the pipeline of these arguments, and end with its exit code."""
    os.umask(0o077)
    pipeline = Pipeline(Path(folder), json.loads(tap), json.loads(target), bool(upserts))
    signals, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # what it writes to the pipe stops the pipeline
    threading.Thread(target=_stop_when_told, args=[pipeline, signals], daemon=True).start()
    sys.exit(pipeline.run())


if __name__ == "__main__":
    main(*sys.argv[1:])
