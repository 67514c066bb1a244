"""Fixtures for all tests."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from environments import ENVIRONMENTS
from hypothesis import settings
from postgres import Postgres, programs_or_skip, server
from single_answers import KEY

from tap_fullstory.fullstory.session import HttpSession
from tap_fullstory.records.native import is_available
from tap_fullstory.sandbox import Sandbox

pytest_plugins = ["rest_runs", "sandbox_client"]

# The same examples in every run, however slow the machine is: what looks for others is `make fuzz`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("quick", settings.get_profile("repeatable"), max_examples=25)
settings.load_profile("repeatable")

# Most of their tests start the tap, or a target, or build something. `make check` leaves them out.
SLOW_FILES = {
    "test_airflow_sync",
    "test_backfill", "test_batch", "test_column_files", "test_command", "test_completeness",
    "test_contract", "test_custom_variables", "test_dbt", "test_discover", "test_dist",
    "test_failures", "test_faults_file", "test_faults_wire", "test_fuzz", "test_individuals",
    "test_interruptions", "test_kills", "test_limits", "test_load_duckdb", "test_loaders",
    "test_local_resources", "test_log_safety", "test_look", "test_machine", "test_malformed",
    "test_meltano", "test_odd_listings", "test_pipeline", "test_postgres_comments", "test_privacy",
    "test_query_duckdb", "test_rest", "test_rest_answers", "test_rest_settings", "test_sandbox",
    "test_sandbox_dates", "test_sandbox_files", "test_sandbox_wire", "test_secrets",
    "test_segment_export", "test_segment_fields", "test_segment_resume", "test_segments",
    "test_selection", "test_several_streams", "test_signals", "test_site", "test_snowflake",
    "test_sql", "test_sync", "test_targets", "test_values",
}  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "not slow":
        settings.load_profile("quick")  # `make test` tries all examples
    # Programs would inherit a SIGHUP that nohup ignores, or a SIGINT that a script ignores for what
    # it starts in the background, and bash cannot trap such a signal. One that is handled here is
    # back to its default in them.
    for number, handler in (
        (signal.SIGHUP, lambda *_: None),
        (signal.SIGINT, signal.default_int_handler),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # `shell` runs the commands of the documents.
        if item.path.stem in SLOW_FILES or "shell" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


class Commands:
    """Programs in their own virtual environments, as `make test` installs them.

    One that cannot be had on this Python skips the test that asks for it.
    """

    @property
    def tap(self) -> Path:
        return _program("tap", "tap-fullstory")

    def tap_for(self, config: Mapping[str, Any]) -> Path:
        """The tap, or for files of columns the one beside the tests, which has pyarrow."""
        form = config.get("batch_config", {}).get("encoding", {}).get("format", "jsonl")
        return self.tap if form == "jsonl" else Path(sys.executable).with_name("tap-fullstory")

    @property
    def target_jsonl(self) -> Path:
        return _program("target-jsonl", "target-jsonl")

    @property
    def target_duckdb(self) -> Path:
        return _program("target-duckdb", "target-duckdb")

    @property
    def duckdb_python(self) -> Path:
        """A Python that can `import duckdb`, for reading what target-duckdb wrote."""
        return self.target_duckdb.with_name("python")

    @property
    def loader_python(self) -> Path:
        """A Python with the DuckDB that examples/duckdb/load.py asks for."""
        return _program("duckdb", "python")

    @property
    def target_csv(self) -> Path:
        return _program("meltanolabs-target-csv", "target-csv")

    @property
    def target_postgres(self) -> Path:
        return _program("meltanolabs-target-postgres", "target-postgres")

    @property
    def target_snowflake(self) -> Path:
        return _program("meltanolabs-target-snowflake", "target-snowflake")

    @property
    def mkdocs(self) -> Path:
        return _program("mkdocs", "mkdocs")

    @property
    def target_stitch(self) -> Path:
        return _program("target-stitch", "target-stitch")

    @property
    def singer_check_tap(self) -> Path:
        """Reads a tap's output on stdin, and leaves a folder where it is started."""
        return _program("singer-tools", "singer-check-tap")


def _program(environment: str, name: str) -> Path:
    path = ENVIRONMENTS / environment / "bin" / name
    if path.exists():
        return path
    # The stamp says that all of the requirements are installed: those that are for this Python.
    if (ENVIRONMENTS / environment / ".stamp").exists():
        version = ".".join(map(str, sys.version_info[:2]))
        pytest.skip(f"no {name} for Python {version}: see requirements/{environment}.txt")
    pytest.fail(f"{path} is not there: `make test` installs it", pytrace=False)


@pytest.fixture(scope="session")
def commands() -> Commands:
    return Commands()


@pytest.fixture(params=["native", "reference"], scope="module")
def either_encoder(request: pytest.FixtureRequest) -> Iterator[None]:
    """The compiled encoder, then the reference encoder alone."""
    if request.param == "native":
        if not is_available():
            pytest.skip("tap_fullstory/records/_native.c has not been compiled")
        yield
        return
    with mock.patch.dict(os.environ, TAP_FULLSTORY_PURE_PYTHON="1"):
        yield


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A FullStory with its usual account; many modules have one with bundles of their own."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def batch_folder(tmp_path: Path) -> Path:
    """An empty folder for the files of BATCH messages."""
    folder = tmp_path / "batches"
    folder.mkdir()
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 kB, where the tests may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# --- single answers: a session that does not wait, and what it logs ---


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that would have been slept, by backoff or by the tap."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture
def http(waits) -> Iterator[HttpSession]:
    with HttpSession(KEY, "agent/1", 300, waits.append) as http:
        yield http


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of a module's own."""
    with server(programs_or_skip()) as running:
        yield running


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What the tap's own loggers say. Singer's metrics throw caplog's handler out of the root's."""
    handler, logger = Lines(), logging.getLogger("tap_fullstory")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.lines
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)
