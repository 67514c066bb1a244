"""What fuzzing has found, or an issue named, never comes back; and fuzz_inputs.py sees faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import faults
import pytest
from fuzz_inputs import BUNDLES, CORPUS, TARGETS, Wrong, check, config_of, run_here, try_one
from running import Run

from tap_fullstory.sandbox import Sandbox

FOUND = [path for target in TARGETS for path in sorted((CORPUS / target).iterdir())]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(BUNDLES, api_key=faults.KEY) as sandbox:
        yield sandbox


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found(sandbox, path):
    try_one(sandbox, path.parent.name, path.read_bytes())


def test_every_target_has_a_corpus():
    assert {path.parent.name for path in FOUND} == set(TARGETS)


def test_a_run_in_this_process_is_a_run(sandbox):
    sandbox.clear_faults()
    run = run_here(config_of(sandbox))
    assert (run.code, len(run.records)) == (0, 9)
    assert run.log.count("METRIC") > 1


SEEN: dict[str, dict[str, Any]] = {
    "a defect": {"code": 1, "log": "CRITICAL Defect in tap-fullstory\n"},
    "exit code 3": {"code": 3},
    "output before exit code 2": {"code": 2, "stdout": b"{}\n"},
    "a line in the log": {"log": "INFO x\nCRITICAL forged\n"},
    "a line in the log that": {"log": "INFO x\nforged\n"},
    "a control character": {"log": "INFO \x1b[2J\n"},
    "text of an event": {"log": f"INFO {faults.TEXT}\n"},
    "moves back": {"states": ["2026-06-03T00:00:00Z", "2026-06-02T00:00:00Z"]},
    "into the future": {"states": ["2026-06-03T00:00:00Z", "9999-06-02T00:00:00Z"]},
}


@pytest.mark.parametrize("words", SEEN)
def test_it_sees_what_is_wrong(words):
    given = dict(SEEN[words])
    states = [
        {"type": "STATE", "value": {"bookmarks": {"events": {"bundle_end": end}}}}
        for end in given.pop("states", [])
    ]
    run = Run(0, b"", "", tuple(states))
    check(replace(run, messages=()), "listing")
    with pytest.raises(Wrong, match=words):
        check(replace(run, **given), "listing")
