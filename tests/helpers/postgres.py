"""A PostgreSQL server of its own for a test: a temporary folder, a free port, gone at the end."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 60


@dataclass(frozen=True)
class Postgres:
    """A server that listens on loopback and lets the user `postgres` in without a password."""

    port: int
    programs: Path

    @property
    def url(self) -> str:
        """As SQLAlchemy and target-postgres have it."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT, with the values that PostgreSQL's row_to_json gives them."""
        lines = self._psql(f"select row_to_json(one_row) from ({sql}) as one_row").splitlines()
        return [json.loads(line) for line in lines]

    def execute(self, sql: str) -> None:
        """Run a statement that gives no rows."""
        self._psql(sql)

    def _psql(self, sql: str) -> str:
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        done = subprocess.run(
            [self.programs / "psql", *address, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql],
            capture_output=True,
            env={**os.environ, "PGCLIENTENCODING": "UTF8"},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


def programs() -> Path | None:
    """Where initdb and postgres are; Debian keeps them off the PATH. None if not installed."""
    folders = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wanted = ("initdb", "postgres", "psql", "pg_isready")
    return next((folder for folder in folders if all((folder / n).exists() for n in wanted)), None)


def programs_or_skip() -> Path:
    """As `programs`; skips the test that calls it where PostgreSQL is not installed."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed: on Debian, apt-get install postgresql")
    return found


@contextmanager
def server(folder_of_programs: Path) -> Iterator[Postgres]:
    """Within, a new and empty server."""
    account = _account()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tap-fullstory-postgres-") as folder:
        if account:
            shutil.chown(folder, account)
        data = Path(folder, "data")
        as_user: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL}
        if account:
            as_user |= {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}
        with Path(folder, "log").open("wb") as log:
            subprocess.run(
                [folder_of_programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust",
                 "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
                check=True, stdout=log, stderr=log, **as_user,
            )  # fmt: skip
            started = subprocess.Popen(
                [folder_of_programs / "postgres", "-D", data, "-k", folder, "-h", "127.0.0.1",
                 "-p", str(port), "-c", "fsync=off", "-c", "timezone=UTC"],
                stdout=log, stderr=log, **as_user,
            )  # fmt: skip
        try:
            _wait(started, folder_of_programs, port)
            yield Postgres(port, folder_of_programs)
        finally:
            started.terminate()
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def _account() -> str | None:
    """Return the user to run the server as, since it refuses root; None for the current one."""
    return "postgres" if os.geteuid() == 0 else None


def _wait(started: subprocess.Popen[bytes], folder_of_programs: Path, port: int) -> None:
    options = ["-q", "-h", "127.0.0.1", "-p", str(port)]
    end = time.monotonic() + START_SECONDS
    while subprocess.run([folder_of_programs / "pg_isready", *options]).returncode != 0:
        assert started.poll() is None, "PostgreSQL did not start"
        assert time.monotonic() < end, "PostgreSQL takes too long to start"
        time.sleep(0.1)
