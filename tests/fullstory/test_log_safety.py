"""Text from outside, wherever it is logged: no line that it forges, no terminal that it steers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from faults import FIRST_DAY, array, bundle, events, lines
from raw_server import raw_server, response
from running import run_command, run_tap

from tap_fullstory.logs.redact import escape_controls
from tap_fullstory.sandbox import Bundle, Fault, Sandbox

# A line of its own, the end of the colour, a title for the window, text from right to left, C1.
NASTY = "a\nCRITICAL fake\r\x1b[0m\x1b]0;title\x07\u202egnp.exe\x9b2J\u2028\x00\ud800"
WITHOUT_SURROGATE = NASTY.replace("\ud800", "")
JSON_NASTY = json.dumps(NASTY)[1:-1]


def assert_safe(log: str) -> None:
    assert "fake" in log
    assert all(line.isprintable() for line in log.split("\n"))
    assert not [line for line in log.split("\n") if line.startswith("CRITICAL fake")]


def test_controls_are_escaped_and_other_text_is_not() -> None:
    assert escape_controls("a\tb\n\x1b\u202e\ud800é漢😀") == r"a\tb\n\x1b\u202e\ud800é漢😀"


def test_bundle_ids_are_escaped() -> None:
    name = WITHOUT_SURROGATE  # which no URL can hold
    start = FIRST_DAY - 86_400
    named = Bundle(name, start, start + 86_400, array(lines(events(3)))[:-1])
    with Sandbox([named]) as sandbox:
        run = run_tap(sandbox.config())
    # A bracket in a list of the config is not taken for a part of a name.
    named = Bundle(name.replace("[", ""), start, start + 86_400, [])
    with Sandbox([named]) as sandbox:
        skipped = run_tap(sandbox.config(skip_bundles=[named.id]))
    assert (run.code, skipped.code) == (1, 0)
    assert r"Bundle a\nCRITICAL fake\r\x1b[0m" in run.critical
    for each in (run, skipped):
        assert_safe(each.log)


def test_reasons_of_failed_exports_are_escaped() -> None:
    body = json.dumps({"state": "FAILED", "errorDetails": WITHOUT_SURROGATE}).encode()
    faults = [Fault("status", "operation", status=200, body=body, times=None)]
    with Sandbox([bundle(0, events(3))], export_api="segment_export", faults=faults) as sandbox:
        run = run_tap(sandbox.config(end_date="2026-06-02T00:00:00Z"))
    assert run.code == 1
    assert r"failed: a CRITICAL fake \x1b[0m" in run.critical
    assert_safe(run.log)


def test_quoted_answers_are_escaped() -> None:
    faults = [Fault("status", "list", status=400, body=NASTY.encode("utf-8", "replace"))]
    with Sandbox([], faults=faults) as sandbox:
        run = run_tap(sandbox.config())
    assert run.code == 1
    assert_safe(run.log)


def test_reason_phrases_and_locations_are_escaped() -> None:
    location = f"Location: /fake{NASTY[2:]}".replace("\r", "").replace("\ud800", "")
    location = location.encode("utf-8").decode("latin-1").replace("\n", "")
    with raw_server(
        response(b"", "302 fake\x1b[0m", location), response(b"", "400 fake\x1b[0m")
    ) as server:
        run = run_tap(server.config())
    assert run.code == 1
    assert_safe(run.log)


def test_names_of_custom_variables_are_escaped() -> None:
    event = f'{{"EventStart":"2026-06-01T00:00:00Z","evt_{JSON_NASTY}_int":1,"{JSON_NASTY}":2}}'
    body = array([event.encode()])
    with Sandbox([bundle(0, body)]) as sandbox:
        run = run_tap(sandbox.config())
        assert run.code == 0
        assert_safe(run.log)


@pytest.mark.parametrize("option", ["--test", "--discover"])
def test_what_discovery_and_the_test_log_is_escaped(option: str, tmp_path: Any) -> None:
    faults = [
        Fault("status", "me", status=200, body=json.dumps({"role": WITHOUT_SURROGATE}).encode())
    ] * 2
    name = WITHOUT_SURROGATE
    with Sandbox([Bundle(name, FIRST_DAY, FIRST_DAY + 9, [])], faults=faults) as sandbox:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(sandbox.config()))
        run = run_command("--config", path, option)
    assert_safe(run.log)
    if option == "--discover":
        assert json.loads(run.stdout)["streams"]
