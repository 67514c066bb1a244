"""The key and the texts of events stay where they belong, whatever goes wrong.

That holds for every fault of the tables, whose tests look for them at every log level: see
faults.run_loudly. Here is what is left.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from faults import (
    KEY,
    TEXT,
    array,
    assert_nothing_leaks,
    bundle,
    events,
    lines,
    loud,
    run_loudly,
)
from running import Run, start_tap
from target import PATIENCE

from tap_fullstory.fullstory.client import Client
from tap_fullstory.fullstory.session import HttpSession
from tap_fullstory.sandbox import Fault, Sandbox
from tap_fullstory.settings import parse_config
from tap_fullstory.times import parse_rfc3339

ONE = [bundle(0, array(lines(events(20))))]
NOW = parse_rfc3339("2026-07-01T00:00:00Z")


# --- the search itself ---


@pytest.mark.parametrize(
    "log",
    [
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        KEY.upper(),
        KEY[5:20],
        f"a {TEXT} b",
        "?X-Goog-Expires=1",
    ],
)
def test_the_search_for_leaks_finds_them(log):
    with pytest.raises(AssertionError):
        assert_nothing_leaks(f"INFO something with {log} in it")


def test_without_redaction_signed_urls_would_be_logged(tmp_path):
    """Without what the tap does about it, urllib3 would log the signed address of a download."""
    with Sandbox(ONE, api_key=KEY, redirect=True) as sandbox:
        code = (
            "import logging, tap_fullstory.command as command, tap_fullstory\n"
            "command.redact_logs = tap_fullstory.redact_logs = lambda secrets: None\n"
            "tap_fullstory.main()\n"
        )
        log = run_python(code, sandbox, tmp_path)
    assert "X-Goog-Signature" in log
    with pytest.raises(AssertionError):
        assert_nothing_leaks(log)


def run_python(code: str, sandbox: Sandbox, folder: Path) -> str:
    """What a sync writes to stderr that is started by some code of ours."""
    program = folder / "tap"
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o700)
    with start_tap(
        sandbox.config(), env=loud(), executable=program, stdout=subprocess.DEVNULL
    ) as tap:
        log = tap.communicate(timeout=PATIENCE)[1]
    return str(log.decode())


# --- where the key is sent ---


def test_the_key_is_not_sent_to_the_storage_host():
    with Sandbox(ONE, api_key=KEY, redirect=True) as sandbox:
        run = run_loudly(sandbox.config())
        assert run.code == 0
        keys = {
            request.origin: request.headers.get("authorization") for request in sandbox.requests
        }
    assert keys == {"api": f"Basic {KEY}", "storage": None}
    assert KEY not in run.stdout.decode()


# --- what a server may say ---


@pytest.mark.parametrize(
    "spelling", [KEY, quote(KEY), quote(KEY, safe=""), KEY.replace("/", r"\/")]
)
@pytest.mark.parametrize("endpoint", ["list", "get"])
def test_a_key_that_a_server_repeats_is_hidden(endpoint, spelling):
    """In the place that it redirects to, and in the answer from there."""
    body = f'{{"error": "{spelling} is no good", "path": "/{spelling}"}}'.encode()
    faults = [
        Fault("redirect", endpoint, location=f"/at/{spelling}?key={spelling}"),
        Fault("status", "any", status=400, body=body),
    ]
    with Sandbox(ONE, api_key=KEY, faults=faults) as sandbox:
        # Nothing is at that place: a 404 with its path in it.
        run = run_loudly(sandbox.config())
    assert run.code == 1
    assert "***" in run.log


# --- what a person may get wrong ---


@pytest.mark.parametrize(
    "config",
    [
        {"api_key": [KEY]},
        {"api_key": f"{KEY}\n{KEY}"},
        {"api_key": KEY, "start_date": KEY},
        {"api_key": KEY, "data_export_url": f"https://me:{TEXT}@export.example.com"},
        {"api_key": KEY, "data_export_url": f"https://export.example.com?key={KEY}"},
        {"api_key": KEY, "request_timeout": KEY},
        f'{{"api_key": "{KEY}",}}',
        f'"{KEY}"',
        [KEY],
    ],
    ids=str,
)
def test_errors_in_the_config_do_not_quote_the_key(config):
    run = run_loudly(config)
    assert run.code == 2


@pytest.mark.parametrize(
    "text", [f'{{"{TEXT}', f'"{TEXT}"', f'{{"bookmarks": {{"events": "{TEXT}"}}}}']
)
@pytest.mark.parametrize("file", ["state", "catalog"])
def test_errors_in_state_or_catalog_do_not_quote_them(file, text):
    run = run_loudly({"api_key": KEY}, **{file: text})
    assert run.code == 2


# --- what the code may get wrong ---


def test_repr_of_config_client_and_session_hides_the_keys():
    hash_key = "a key for hashes"
    config = parse_config({"api_key": KEY, "hash_key": hash_key}, NOW, {})
    assert hash_key not in f"{config!r} {config}"
    client, http = Client(config), HttpSession(KEY, "agent", 1)
    assert_nothing_leaks(f"{config!r} {config} {client!r} {client} {http!r} {http}")
    assert_nothing_leaks(repr(vars(client)))


DEFECTS = {
    "listing": ("fullstory.client", "Client.list_bundles", "KeyError"),
    "downloading": ("fullstory.client", "Client.download_bundle", "KeyError"),
    "making records": ("records.encoder", "RecordEncoder.encode", "KeyError"),
    "writing": ("output.messages", "MessageWriter.records", "KeyError"),
}


@pytest.mark.parametrize("place", DEFECTS)
def test_a_defect_is_one_line_without_data(place, tmp_path):
    module, name, kind = DEFECTS[place]
    code = f"""
import tap_fullstory, tap_fullstory.{module} as broken

def fail(*arguments, **options):
    raise {kind}({TEXT!r}, arguments, options, {KEY!r})

broken.{name} = fail
tap_fullstory.main()
"""
    with Sandbox(ONE, api_key=KEY) as sandbox:
        log = run_python(code, sandbox, tmp_path)
    run = Run(1, b"", log)
    assert run.critical.startswith("Defect in tap-fullstory ")
    assert f": {kind} in {tmp_path / 'tap'}, line 6. The last state remains valid" in run.critical
    assert "Traceback" not in log
    assert_nothing_leaks(log)
