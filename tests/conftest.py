"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from tap_fullstory.native import is_available

ENVIRONMENTS = Path(__file__).parent.parent / ".venvs"


@dataclass(frozen=True)
class Commands:
    """Programs in their own virtual environments, as `make test` installs them."""

    tap: Path
    target_jsonl: Path
    target_duckdb: Path
    duckdb_python: Path
    """A Python that can `import duckdb`, for reading what target-duckdb wrote."""
    target_csv: Path
    target_postgres: Path
    target_stitch: Path
    singer_check_tap: Path
    """Reads a tap's output on stdin. Start it in a temporary folder: it leaves a folder there."""


@pytest.fixture(scope="session")
def commands() -> Commands:
    found = Commands(
        tap=ENVIRONMENTS / "tap/bin/tap-fullstory",
        target_jsonl=ENVIRONMENTS / "target-jsonl/bin/target-jsonl",
        target_duckdb=ENVIRONMENTS / "target-duckdb/bin/target-duckdb",
        duckdb_python=ENVIRONMENTS / "target-duckdb/bin/python",
        target_csv=ENVIRONMENTS / "meltanolabs-target-csv/bin/target-csv",
        target_postgres=ENVIRONMENTS / "meltanolabs-target-postgres/bin/target-postgres",
        target_stitch=ENVIRONMENTS / "target-stitch/bin/target-stitch",
        singer_check_tap=ENVIRONMENTS / "singer-tools/bin/singer-check-tap",
    )
    for path in vars(found).values():
        if not path.exists():
            pytest.fail(f"{path} is not there: `make test` installs it", pytrace=False)
    return found


@pytest.fixture(params=["native", "reference"], scope="module")
def either_encoder(request: pytest.FixtureRequest) -> Iterator[None]:
    """The compiled encoder, then the reference encoder alone."""
    if request.param == "native":
        if not is_available():
            pytest.skip("tap_fullstory/_native.c has not been compiled")
        yield
        return
    with mock.patch.dict(os.environ, TAP_FULLSTORY_PURE_PYTHON="1"):
        yield
