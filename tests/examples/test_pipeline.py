"""examples/airflow/fullstory_pipeline.py: a task's tap and target end with it, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT
from interrupting import PATIENCE, until
from running import Json

from tap_fullstory.sandbox import Sandbox, generated_bundles

FOLDER = ROOT / "examples/airflow"
EVENTS = 20_000  # more than fits into the pipe
# Reads no further than its beginning before the file `go` is there, and as a program that the
# Meltano SDK made, stores rows before it prints any state.
TARGET = """\
import json, pathlib, sys, time
go, out, state = pathlib.Path("go"), open("rows.jsonl", "ab", 0), None
for number, line in enumerate(sys.stdin.buffer):
    while number > 100 and not go.exists():
        time.sleep(0.01)
    message = json.loads(line)
    if message["type"] == "RECORD":
        out.write(line)
    elif message["type"] == "STATE":
        state = message["value"]
if state is not None:
    print(json.dumps(state), flush=True)
"""
TASK = """\
import os, sys
sys.path.insert(0, {folder!r})
import fullstory_pipeline as pipeline
from pathlib import Path
try:
    pipeline.run(Path(), {tap!r}, {target!r}, **{options!r})
except pipeline.PipelineError as error:
    sys.exit(error.code)
"""


class Tasks:
    """Starts tasks in a folder, over a sandbox of one bundle."""

    def __init__(self, folder: Path, tap: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.tap = [str(tap), "--config", "config.json"]
        (folder / "config.json").write_text(json.dumps(sandbox.config()))
        (folder / "target.py").write_text(TARGET)
        self.target = [sys.executable, str(folder / "target.py")]

    @contextmanager
    def start(self, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        program = TASK.format(folder=str(FOLDER), tap=self.tap, target=self.target, options=options)
        with (self.folder / "log").open("ab") as log:
            task = subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=self.folder, stderr=log, start_new_session=True,
                env={**os.environ, "no_proxy": "127.0.0.1", "FULLSTORY_STOP_SECONDS": "20"},
            )  # fmt: skip
            with task:
                try:
                    yield task
                finally:
                    task.kill()

    def run(self, **options: Any) -> int:
        with self.start(**options) as task:
            return task.wait(PATIENCE)

    @property
    def rows(self) -> list[str]:
        path = self.folder / "rows.jsonl"
        return path.read_text("utf-8").splitlines() if path.exists() else []

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8")

    @property
    def is_locked(self) -> bool:
        with (self.folder / "sync.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


@pytest.fixture
def tasks(commands, tmp_path: Path) -> Iterator[Tasks]:
    with Sandbox(generated_bundles(1, EVENTS)) as sandbox:
        yield Tasks(tmp_path, commands.tap, sandbox)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=str
)
def test_task_that_a_signal_ends_leaves_no_row_that_the_next_try_repeats(tasks, number):
    with tasks.start() as task:
        until(lambda: len(tasks.rows) > 50)
        os.killpg(task.pid, number)
        # A task that SIGKILL ends cannot wait: its pipeline ends by itself, and it has the lock.
        if number == signal.SIGKILL:
            assert task.wait(PATIENCE) == -number
        (tasks.folder / "go").touch()
        assert task.wait(PATIENCE) != 0
    with tasks.start() as retry:
        assert retry.wait(PATIENCE) == 0, tasks.log
    assert not tasks.is_locked
    assert len(tasks.rows) == len(set(tasks.rows)) == EVENTS
    assert json.loads((tasks.folder / "state.json").read_text())["bookmarks"]["events"]
    assert tasks.run() == 0
    assert len(tasks.rows) == EVENTS


def test_exception_in_the_task_ends_the_pipeline_before_the_task(tasks):
    """As an execution_timeout of Airflow raises it, from the handler of SIGALRM."""
    program = TASK.format(folder=str(FOLDER), tap=tasks.tap, target=tasks.target, options={})
    raising = "import signal\nsignal.signal(signal.SIGALRM, lambda *_: 1 / 0)\n" + program
    with (tasks.folder / "log").open("ab") as log:
        task = subprocess.Popen(
            [sys.executable, "-c", raising], cwd=tasks.folder, stderr=log,
            env={**os.environ, "no_proxy": "127.0.0.1"},
        )  # fmt: skip
        until(lambda: len(tasks.rows) > 50)
        task.send_signal(signal.SIGALRM)
        (tasks.folder / "go").touch()
        assert task.wait(PATIENCE) == 1
    assert "ZeroDivisionError" in tasks.log
    assert not tasks.is_locked
    assert 50 < len(tasks.rows) < EVENTS
    assert tasks.run() == 0
    assert len(tasks.rows) == len(set(tasks.rows)) == EVENTS


def test_retry_waits_for_what_the_task_before_it_started(tasks):
    with tasks.start() as task:
        until(lambda: len(tasks.rows) > 50)
        task.kill()
        task.wait(PATIENCE)
        with tasks.start() as retry:
            until(lambda: "Waiting for the run that has" in tasks.log)
            (tasks.folder / "go").touch()
            assert retry.wait(PATIENCE) == 0
    assert len(tasks.rows) == len(set(tasks.rows)) == EVENTS


def test_target_that_reads_no_more_is_killed(tasks, monkeypatch):
    monkeypatch.setenv("FULLSTORY_STOP_SECONDS", "0.5")
    program = TASK.format(folder=str(FOLDER), tap=tasks.tap, target=tasks.target, options={})
    with subprocess.Popen([sys.executable, "-c", program], cwd=tasks.folder) as task:
        until(lambda: len(tasks.rows) > 50)
        task.terminate()
        assert task.wait(PATIENCE) == -signal.SIGTERM
    until(lambda: not tasks.is_locked)


def test_rows_without_a_state_are_refused_unless_the_target_upserts(tasks):
    (tasks.folder / "go").touch()
    whole, tasks.target = tasks.target, ["sh", "-c", "head -n 50 > stored; exit 3"]
    assert tasks.run() == 1
    assert "The target failed with exit code 3." in tasks.log
    assert (tasks.folder / "states.jsonl").read_bytes() == b""
    tasks.target = whole
    assert tasks.run() == 1
    assert "it may have stored rows" in tasks.log
    assert not tasks.rows
    assert tasks.run(upserts=True) == 0, tasks.log
    assert len(tasks.rows) == EVENTS


def test_run_that_ends_before_its_first_record_can_be_tried_again(commands, tmp_path):
    with Sandbox(generated_bundles(1, 24), faults=["list:401"]) as sandbox:
        tasks = Tasks(tmp_path, commands.tap, sandbox)
        (tmp_path / "go").touch()
        assert tasks.run() == 1
        assert "nothing was stored" in tasks.log
        assert tasks.run() == 0
    assert len(tasks.rows) == 24


@pytest.mark.parametrize("torn", [b'{"bookmarks": {"ev', b"\0" * 4096, b'{"bookm\0\0\0\n'])
def test_torn_last_line_is_removed(commands, tmp_path, torn):
    with Sandbox(generated_bundles(2, 24), unpublished=1) as sandbox:
        tasks = Tasks(tmp_path, commands.tap, sandbox)
        (tmp_path / "go").touch()
        assert tasks.run() == 0
        with (tmp_path / "states.jsonl").open("ab") as states:
            states.write(torn)
        sandbox.publish()
        assert tasks.run() == 0
    assert "incomplete" in tasks.log
    assert len(tasks.rows) == len(set(tasks.rows)) == 48
    lines = (tmp_path / "states.jsonl").read_text("utf-8").splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [["bookmarks"]] * 2


def test_state_from_elsewhere_is_taken_and_an_empty_one_refused(commands, tmp_path):
    with Sandbox(generated_bundles(1, 24)) as sandbox:
        tasks = Tasks(tmp_path, commands.tap, sandbox)
        (tmp_path / "go").touch()
        state = tmp_path / "state.json"
        state.touch()
        assert tasks.run() == 1
        assert "state.json is empty" in tasks.log
        done: Json = {"bookmarks": {"events": {"bundle_end": "2999-01-01T00:00:00Z"}}}
        state.write_text(json.dumps(done))
        assert tasks.run() == 0
    assert not tasks.rows


def test_program_that_is_not_there_is_named_and_leaves_nothing(commands, tmp_path):
    with Sandbox(generated_bundles(1, 24)) as sandbox:
        tasks = Tasks(tmp_path, commands.tap, sandbox)
        tasks.target = ["not-there"]
        assert tasks.run() == 1
    assert "not-there is not installed" in tasks.log
    assert not (tmp_path / "states.jsonl").exists()


def test_target_gets_no_keys(commands, tmp_path, monkeypatch):
    keys = {"TAP_FULLSTORY_API_KEY": "na1.one", "TAP_FULLSTORY_HASH_KEY": "two"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with Sandbox(generated_bundles(1, 24)) as sandbox:
        tasks = Tasks(tmp_path, commands.tap, sandbox)
        tasks.tap = ["sh", "-c", "env > tap.env"]
        tasks.target = ["sh", "-c", "env > target.env; cat"]
        assert tasks.run() == 0
    for name, value in keys.items():
        assert f"{name}={value}" in (tmp_path / "tap.env").read_text()
        assert name not in (tmp_path / "target.env").read_text()
