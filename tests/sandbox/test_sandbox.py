"""The sandbox from outside: it must be FullStory enough to prove a tap with."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from sandbox_client import Client, events_in, hand_made

import tap_fullstory.sandbox
from tap_fullstory.sandbox import (
    Sandbox,
)

# --- limits, publishing, the object itself ---


def test_downloads_may_be_limited(open_client):
    client = open_client(hand_made(b"[1]"), get_limit=2, get_limit_seconds=0.2)
    answers = [client.get(0) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"  # whole seconds
    assert client.list(start=0)
    time.sleep(0.2)
    assert client.get(0).status_code == 200


def test_unpublished_bundles_appear_one_by_one(open_client):
    client = open_client(*(hand_made(number=number) for number in range(3)), unpublished=2)
    publish = f"{client.sandbox.url}/sandbox/publish"
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0]
    assert client.get(1).status_code == 404
    assert requests.post(publish, timeout=60).json() == {"published": "1"}
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0, 1]
    assert client.sandbox.publish().id == "2"
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0, 1, 2]
    assert requests.post(publish, timeout=60).status_code == 409
    client.sandbox.publish(hand_made(number=9))
    assert [bundle["Id"] for bundle in client.list(start=0)] == [0, 1, 2, 9]


def test_requests_are_recorded(open_client):
    client = open_client(hand_made())
    before = time.monotonic()
    client.list(start=5)
    (request,) = client.sandbox.requests
    assert (request.origin, request.method, request.path) == ("api", "GET", "/api/v1/export/list")
    assert request.query == {"start": "5"}
    assert request.headers["authorization"] == "Basic na1.sandbox-key"
    assert before <= request.at <= time.monotonic()
    assert "sandbox-key" not in repr(request)


def test_the_config_names_the_sandbox(open_client):
    sandbox = open_client(hand_made()).sandbox
    assert sandbox.config(checkpoint_events=5) == {
        "api_key": "na1.sandbox-key",
        "start_date": "2020-09-13T12:26:40Z",
        "data_export_url": sandbox.url,
        "api_url": sandbox.url,
        "checkpoint_events": 5,
    }


@pytest.mark.parametrize(
    "options", [{"layout": "x"}, {"compression": "x"}, {"list_style": "x"}, {"faults": ["x"]}]
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(ValueError, match="'x'"):
        Sandbox(**options)


def test_the_end_leaves_neither_files_nor_connections(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox() as sandbox:
        client = Client(sandbox)
        client.get(sandbox.bundles[0].id)
        assert len(list(tmp_path.glob("*/*"))) == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(requests.ConnectionError):
        client.ask("list")
    client.session.close()


def test_the_sandbox_imports_nothing_of_the_tap():
    for path in Path(tap_fullstory.sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, path
                assert node.level == 1 or not node.module.startswith("tap_fullstory"), path
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith("tap_fullstory") for name in node.names), path


# --- the command ---

COMMAND = [sys.executable, "-m", "tap_fullstory.sandbox"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_a_config_and_ends_cleanly(tmp_path, number):
    options = "--bundles 3 --events 40 --unpublished 1 --until 2026-06-07 --fault list:503".split()
    config_file = tmp_path / "config.json"
    process = subprocess.Popen(
        [*COMMAND, *options, "--config-out", str(config_file), "--verbose"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    config = json.loads(process.stdout.readline())
    assert json.loads(config_file.read_text(encoding="utf-8")) == config
    assert config["start_date"] == "2026-06-04T00:00:00Z"
    headers = {"Authorization": f"Basic {config['api_key']}"}
    url = f"{config['data_export_url']}/api/v1/export"
    answers = [requests.get(f"{url}/list?start=0", headers=headers, timeout=60) for _ in range(2)]
    assert answers[0].status_code == 503
    listed = answers[1].json()["exports"]
    assert len(listed) == 2
    file = requests.get(f"{url}/get?id={listed[0]['Id']}", headers=headers, timeout=60).content
    assert len(events_in(file)) == 40
    process.send_signal(number)
    out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert log.splitlines()[0] == "api GET /api/v1/export/list 503"
    assert config["api_key"] not in log
    assert list(tmp_path.iterdir()) == [config_file]


def test_the_command_explains_all_its_options():
    text = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    for option in (
        "port api-key bundles events seed until unpublished layout compression redirect get-limit "
        "fault config-out verbose"
    ).split():
        assert re.search(rf"^  --{option}\b.*\n? +\w", text, re.MULTILINE), option


@pytest.mark.parametrize("option", ["--fault=get:explode", "--bundles=-1", "--until=soon"])
def test_the_command_refuses_what_it_does_not_know(option):
    run = subprocess.run([*COMMAND, option], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert option.partition("=")[0] in run.stderr.splitlines()[-1]


def test_the_command_says_why_it_cannot_start():
    with Sandbox([]) as sandbox:
        port = sandbox.url.rpartition(":")[2]
        run = subprocess.run(
            [*COMMAND, f"--port={port}"], capture_output=True, text=True, check=False
        )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("the sandbox cannot start: ")
    assert run.stderr.count("\n") == 1
