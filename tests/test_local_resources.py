"""A machine that is short of something: the run says of what, and never calls it a defect."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faults import KEY, array, bundle, events, lines
from raising import raising_at
from running import Run, run_command, run_tap, start_tap

from tap_fullstory.errors import LocalResourceError, local_resource_error
from tap_fullstory.sandbox import Sandbox

RESUME = "Nothing is lost: run again with the last state."


@pytest.fixture(scope="module")
def sandbox() -> Any:
    with Sandbox([bundle(0, array(lines(events(200))))], api_key=KEY) as sandbox:
        yield sandbox


KINDS = [
    ("MemoryError", "run out of memory (MemoryError)"),
    ("ImportError", "run out of memory (a library could not be loaded)"),
    ("SystemError", "run out of memory (a library could not be initialized)"),
    ("ENOMEM", "run out of memory (Cannot allocate memory)"),
    ("EMFILE", "ulimit -n"),
    ("ENFILE", "fs.file-max"),
    ("EAGAIN", "ulimit -u"),
    ("thread", "cannot start another thread or process (can't start new thread)"),
    ("EIO", "I/O error on a disk or the terminal (Input/output error)"),
    ("ENOSPC", "A disk is full (No space left on device)"),
    ("EDQUOT", "A disk is full (Disk quota exceeded)"),
]


@pytest.mark.parametrize(("kind", "words"), KINDS)
@pytest.mark.parametrize(
    "place", ["tap_fullstory.command:select", "tap_fullstory.sync_export:record_envelope"]
)
def test_it_is_named_wherever_it_arises(sandbox, tmp_path, kind, words, place):
    run = run_tap(sandbox.config(), env=raising_at(tmp_path, place, kind))
    assert run.code == 1
    assert words in run.critical
    assert run.critical.endswith(RESUME)


def test_a_spool_that_cannot_be_read_back(sandbox, tmp_path):
    env = raising_at(tmp_path, "tap_fullstory.exports.spool:unpack", "EIO")
    run = run_tap(sandbox.config(), env=env)
    assert (run.code, run.records) == (1, [])
    assert "cannot be read back from the spool folder" in run.critical
    assert "Input/output error" in run.critical


@pytest.mark.parametrize("place", ["threading:Thread.start", "tap_fullstory.sync_export:prefetch"])
def test_no_thread_can_be_started(sandbox, tmp_path, place):
    run = run_tap(sandbox.config(), env=raising_at(tmp_path, place, "thread"))
    assert run.code == 1
    assert "ulimit -u" in run.critical


@pytest.mark.skipif(os.geteuid() == 0, reason="RLIMIT_NPROC does not bind root")
def test_no_more_threads_than_the_limit(sandbox, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

    run = run_limited(sandbox, tmp_path, limit)
    assert run.code == 1
    assert "ulimit -u" in run.critical


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to RLIMIT_AS")
@pytest.mark.parametrize("megabytes", range(30, 61, 5))
def test_little_memory(sandbox, tmp_path, megabytes):
    """Whether the interpreter, a library or a thread finds no room depends on the system."""
    if sys.version_info < (3, 11) and megabytes < 40:
        pytest.skip("Python 3.10 itself crashes, at random, while it imports with so little")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))

    run = run_limited(sandbox, tmp_path, limit)
    if "tap_fullstory" not in run.log and not run.logged("CRITICAL") and not run.log.count("INFO"):
        pytest.skip("Python itself does not start with so little")
    assert "Defect" not in run.log
    assert "Traceback" not in run.log
    assert run.code == 0 or "limit" in run.critical


def run_limited(sandbox: Sandbox, folder: Path, limit: Any) -> Run:
    with (
        (folder / "out").open("wb") as out,
        (folder / "log").open("wb") as log,
        start_tap(sandbox.config(), stdout=out, stderr=log, preexec_fn=limit) as tap,
    ):
        code = tap.wait(60)
    return Run(code, (folder / "out").read_bytes(), (folder / "log").read_text())


def test_singer_cannot_be_imported(tmp_path):
    (tmp_path / "singer.py").write_text(
        'raise ImportError("libz.so: failed to map segment from shared object")'
    )
    run = run_command("--discover", env={"PYTHONPATH": str(tmp_path)})
    assert (run.code, run.stdout) == (1, b"")
    assert "out of memory (a library could not be loaded)" in run.critical


def test_a_line_that_logging_has_no_memory_for_goes_out_all_the_same(tmp_path):
    env = raising_at(tmp_path, "logging:StreamHandler.format", "MemoryError")
    done = subprocess.run(
        [sys.executable, "-m", "tap_fullstory"], capture_output=True, env={**os.environ, **env}
    )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("CRITICAL A sync needs --config FILE")


@pytest.mark.parametrize(
    "error",
    [ValueError("no memory"), ImportError("No module named x"), RuntimeError("boom"),
     SystemError("bad argument to internal function"),
     FileNotFoundError(2, "No such file"), OSError("no errno"), KeyError("x")],
    ids=repr,
)  # fmt: skip
def test_what_is_not_the_machines_failure(error):
    assert local_resource_error(error) is None


def test_its_kind():
    made = local_resource_error(MemoryError())
    assert isinstance(made, LocalResourceError)
    assert (made.kind, made.retry_may_help, made.exit_code) == ("machine", True, 1)
