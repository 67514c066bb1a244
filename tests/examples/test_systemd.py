"""The units of examples/systemd: what they run, and what systemd itself says of them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from environments import ROOT

UNITS = ROOT / "examples/systemd"
MAX_EXPOSURE = 2.0  # of 10; systemd calls what is below 3 OK


def value_of(unit: str, name: str) -> str:
    (found,) = re.findall(f"^{name}=(.*)$", (UNITS / unit).read_text("utf-8"), re.MULTILINE)
    return str(found)


def run(command: str, folder: Path) -> None:
    """Run a command as systemd does, which puts the values of variables into it."""
    words = [word.replace("${STATE_DIRECTORY}", str(folder)) for word in shlex.split(command)]
    environment = {"STATE_DIRECTORY": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run(words, env=environment, check=True)


def test_somebody_hears_of_the_second_failure_in_a_row(tmp_path):
    for name, script in (("journalctl", "echo the log"), ("mail", f"cat >> '{tmp_path}/mails'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    mails = tmp_path / "mails"
    failed = value_of("tap-fullstory-failed.service", "ExecStart")
    succeeded = value_of("tap-fullstory.service", "ExecStartPost")
    for event, told in (
        (succeeded, 0), (failed, 0), (succeeded, 0), (failed, 0), (failed, 1), (failed, 2),
        (succeeded, 2), (succeeded, 2), (failed, 2), (failed, 3),
    ):  # fmt: skip
        run(event, tmp_path)
        assert (mails.read_text().count("the log") if mails.exists() else 0) == told
    assert value_of("tap-fullstory.service", "OnFailure") == "tap-fullstory-failed.service"
    for unit in ("tap-fullstory.service", "tap-fullstory-failed.service"):
        assert value_of(unit, "StateDirectory") == "tap-fullstory"
        assert value_of(unit, "User") == "fullstory"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong(tmp_path):
    for path in UNITS.iterdir():
        text = path.read_text("utf-8").replace("/srv/fullstory/sync.sh", "/bin/true")
        (tmp_path / path.name).write_text(text)
    names = sorted(path.name for path in UNITS.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in names)],
        capture_output=True,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(tmp_path / "tap-fullstory.service")],
        capture_output=True,
    )
    if b"unrecognized option" in rated.stderr:
        pytest.skip("this systemd is older than 250")
    (exposure,) = re.findall(r"Overall exposure level .*: ([\d.]+)", rated.stdout.decode())
    assert float(exposure) <= MAX_EXPOSURE
