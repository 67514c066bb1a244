"""Real Airflows, and the examples without one."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from environments import ENVIRONMENTS, ROOT

EXAMPLES = ROOT / "examples/airflow"
TIMEOUT = 300  # seconds for one command

real = pytest.mark.skipif(
    "TEST_BACKFILL" not in os.environ, reason="`make test-backfill` runs this: it takes minutes"
)
each_airflow = pytest.mark.parametrize("installed", ["airflow-2", "airflow"])


def environment_of(installed: str, folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of an Airflow with its home in the folder."""
    programs = ENVIRONMENTS / installed / "bin"
    if not (programs / "airflow").exists():
        pytest.skip(f"no {installed} for this Python: see requirements/{installed}.txt")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "no_proxy": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
    environment.pop("PYTHONPATH", None)
    return environment


def airflow(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        ["airflow", *arguments],
        env=environment,
        cwd=environment["AIRFLOW_HOME"],
        capture_output=True,
        timeout=TIMEOUT,
    )
    printed = (done.stdout + done.stderr).decode()
    assert done.returncode == code, printed[-8000:]
    return printed


def functions_of(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the functions of an example: Airflow only starts them, so they need none of it."""
    for module in ("airflow", "airflow.sdk"):
        monkeypatch.setitem(sys.modules, module, MagicMock())
    monkeypatch.syspath_prepend(EXAMPLES)
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))
