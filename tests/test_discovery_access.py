"""What discovery tells of the streams that a key cannot read."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
from rest_runs import (
    ARCHITECT_ONLY,
    answering,
    asked,
)
from running import Run, run_command

from tap_fullstory.sandbox import Sandbox


@pytest.mark.parametrize(
    ("role", "says"),
    [
        ("ARCHITECT", "The API key has level Architect; it can read every stream."),
        ("ADMIN", "The API key has level Admin; it can read every stream."),
        ("USER", "The API key has level Standard; it can read every stream except events"),
    ],
)
def test_discovery_reports_what_the_key_can_reach(offered, role, says):
    # With data_export, discovery lists bundles first, which a USER may not.
    with Sandbox(role=role, export_api="segment_export") as sandbox:
        run = run_command_with(sandbox, "--discover")
    assert run.code == 0
    assert json.loads(run.stdout) == offered
    (line,) = [line for line in run.logged("INFO") if line.startswith("The API key")]
    assert line.startswith(says)
    assert all((name in line) == (role == "USER") for name in ARCHITECT_ONLY)
    assert "owner@example.com" not in run.log


@pytest.mark.parametrize("fault", ["me:500", "me:404", "me:html", "me:reset"])
def test_discovery_continues_without_knowing(sandbox, fault):
    sandbox.fault(f"{fault},times=always")
    run = run_command_with(sandbox, "--discover")
    assert run.code == 0
    (warning,) = run.logged("WARNING")
    assert warning.startswith("Could not determine the API key's level (continuing): ")
    assert len(asked(sandbox, "/me")) == 1


@pytest.mark.parametrize("body", [{}, [], {"role": 5}, {"role": "VIEW_ONLY"}])
def test_roles_that_say_nothing(sandbox, body):
    for fault in answering("me", body):
        sandbox.fault(fault)
    run = run_command_with(sandbox, "--discover")
    assert run.code == 0
    told = [*run.logged("WARNING"), *run.logged("INFO")]
    says = re.compile("Could not determine the API key|The API key has the undocumented role")
    assert sum(bool(says.match(line)) for line in told) == 1


def run_command_with(sandbox: Sandbox, *options: str) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        config.write_text(json.dumps(sandbox.config()))
        return run_command("--config", config, *options)
