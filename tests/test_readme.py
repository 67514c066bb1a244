"""The README says what the code does: every flag, setting, exit code and error, and its shell lines
work.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import tap_fullstory
from tap_fullstory import _parser as tap_parser
from tap_fullstory import errors
from tap_fullstory.about import about
from tap_fullstory.catalog import discover
from tap_fullstory.config import parse_config
from tap_fullstory.errors import Interrupted, TapError
from tap_fullstory.sandbox import Sandbox, generated_bundles
from tap_fullstory.sandbox.__main__ import _parser as sandbox_parser
from tap_fullstory.settings import SETTINGS
from tap_fullstory.state import parse_state
from tap_fullstory.streams import STREAMS, Stream

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL))
NOW = datetime(2026, 6, 7, tzinfo=timezone.utc)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# --- what stands in tables ---


def test_every_flag_is_there():
    shown = re.findall(r"`(-[^` ]+)", SECTIONS["Command line"])
    assert set(shown) >= {
        option for action in tap_parser()._actions for option in action.option_strings
    }


def test_every_flag_of_the_sandbox_that_is_named_exists():
    known = {option for action in sandbox_parser()._actions for option in action.option_strings}
    assert set(re.findall(r"`(--[a-z-]+)", SECTIONS["Sandbox"])) <= known


def test_every_exit_code_is_there():
    codes = {0, *(error.exit_code for error in vars(errors).values() if _is_error(error))}
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    codes |= {Interrupted(number).exit_code for number in signals}
    rows = [line for line in SECTIONS["Command line"].splitlines() if re.match(r"\| `\d", line)]
    assert {int(code) for row in rows for code in re.findall(r"`(\d+)`", row)} == codes


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, TapError)


def test_the_settings_are_those_of_about():
    (table,) = re.findall(r"^## Settings\n\n(.*?)\n\n", about("markdown"), re.MULTILINE | re.DOTALL)
    assert table in SECTIONS["Settings"]


def test_the_streams_are_those_of_the_code():
    head = "| stream | endpoint | key | replication | key level | what a run asks for |\n"
    table = head + "|---|---|---|---|---|---|\n" + "".join(map(stream_row, STREAMS))
    assert table in SECTIONS["Other streams"]
    columns = set(discover()["streams"][0]["schema"]["properties"]) - {"CustomVars"}
    assert f"{len(columns)} columns" in SECTIONS["Events"]


def stream_row(stream: Stream) -> str:
    paths = " and ".join(f"`{path}`" for path in stream.path.split(" and "))
    key = ", ".join(f"`{name}`" for name in stream.key_properties) or "none"
    on = f" on `{stream.replication_key}`" if stream.replication_key else ""
    level = stream.level + (f", and {stream.add_on}" if stream.add_on else "")
    return (
        f"| `{stream.name}` | {paths} | {key} | {stream.replication_method}{on} | {level} "
        f"| {stream.cost} |\n"
    )


# --- errors ---


def templates(tree: ast.AST) -> Iterator[str]:
    """Every text in the code, with `…` where values come in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else "…" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[a-z]", "…", node.value)


def error_texts(tree: ast.AST) -> Iterator[str]:
    """The texts that errors are made of: those which become a CRITICAL line."""
    names = {name for name, value in vars(errors).items() if _is_error(value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            texts = list(templates(node.args[0]))[:1] if node.args else []
            # One made of other texts alone is found by those.
            yield from (text for text in texts if re.search(r"\w", text))


def fits(pattern: str, text: str) -> bool:
    return re.search(".*".join(map(re.escape, pattern.split("…"))), text, re.DOTALL) is not None


CODE = [
    ast.parse(path.read_text(encoding="utf-8"))
    for path in Path(tap_fullstory.__file__).parent.rglob("*.py")
    if "sandbox" not in path.parts
]
LISTED = [
    pattern
    for cells in re.findall(r"^\|(.+)\|$", SECTIONS["Troubleshooting"], re.MULTILINE)
    for pattern in re.findall(r"`([^`]+)`", cells.rsplit("|", 1)[0])
]


@pytest.mark.parametrize("pattern", LISTED)
def test_a_text_to_look_up_is_one_of_the_codes(pattern):
    assert any(fits(pattern, text) for tree in CODE for text in templates(tree))


@pytest.mark.parametrize("text", sorted({text for tree in CODE for text in error_texts(tree)}))
def test_every_error_can_be_looked_up(text):
    assert any(fits(pattern, text) for pattern in LISTED)


# --- samples and links ---


def test_the_json_samples_can_be_used():
    names = {setting.name for setting in SETTINGS}
    kinds = []
    for sample in map(json.loads, blocks("json")):
        if "api_key" in sample:
            assert set(sample) <= names
            parse_config(sample, NOW, {})
        elif "bookmarks" in sample:
            assert parse_state(sample) == sample
        kinds.append(next(iter(sample)))
    assert {"api_key", "bookmarks", "primary_key_required"} <= set(kinds)
    parse_config(json.loads((ROOT / "sample_config.json").read_text()), NOW, {})


@pytest.mark.parametrize(
    "document", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/backfill.md"]
)
def test_links_lead_somewhere(document):
    here = ROOT / document
    for target in re.findall(r"\]\(([^)]+)\)", here.read_text(encoding="utf-8")):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            there = here.parent / path if path else here
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- shell lines ---


@pytest.fixture
def shell(commands, tmp_path):
    """Starts a shell block as someone would who has followed the README so far.

    What still runs at the end of the test is ended.
    """
    programs = f"{commands.tap.parent}:{commands.target_jsonl.parent}"
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "no_proxy": "127.0.0.1",
    }

    started: list[subprocess.Popen[bytes]] = []

    def start(block: str) -> subprocess.Popen[bytes]:
        line = ["bash", "-o", "pipefail", "-e", "-c", block]
        started.append(
            subprocess.Popen(line, cwd=tmp_path, env=environment, start_new_session=True)
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def events(folder: Path) -> list[str]:
    """The lines of the target's files, which it names by the second it starts in."""
    return [
        line
        for path in folder.glob("events-*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def write_config(folder: Path, sandbox: Sandbox) -> None:
    sample = json.loads(blocks("json", SECTIONS["Set up"])[0])
    config = {**sample, **sandbox.config()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def test_discover_select_and_sync_work_as_written(shell, tmp_path):
    discovery, selection, first, later, _ = blocks("bash", SECTIONS["Run"])
    (shortest,) = blocks("sh", SECTIONS["Run"])
    (promotion,) = blocks("bash", SECTIONS["Events"])
    with Sandbox(unpublished=1) as sandbox:
        write_config(tmp_path, sandbox)
        assert shell(shortest).wait() == 0
        assert len(events(tmp_path)) == 120
        assert "UserEmail" in events(tmp_path)[0]
        for path in tmp_path.glob("events-*.jsonl"):
            path.unlink()

        assert shell(discovery).wait() == 0
        if shutil.which("jq"):
            assert shell(promotion).wait() == 0  # discovers anew, and so comes first
            assert shell(selection).wait() == 0
        assert shell(first).wait() == 0
        assert len(events(tmp_path)) == 120
        sandbox.publish()
        assert shell(later).wait() == 0
        assert len(events(tmp_path)) == len(set(events(tmp_path))) == 144
        if shutil.which("jq"):
            records = [json.loads(line) for line in events(tmp_path)]
            assert not any({"UserEmail", "UserDisplayName", "PageIp"} & set(r) for r in records)
            for promoted in ("page_category_str", "page_price_real"):
                assert any(promoted in record for record in records)


def test_the_sandbox_serves_as_written(shell, tmp_path):
    serving, syncing = blocks("bash", SECTIONS["Sandbox"])
    sandbox = shell(serving)
    while sandbox.poll() is None and not (tmp_path / "sandbox.json").exists():
        time.sleep(0.05)
    assert shell(syncing).wait() == 0
    assert len(events(tmp_path)) == 144


@pytest.mark.skipif(not shutil.which("flock"), reason="flock is part of Linux")
def test_the_script_loses_and_doubles_nothing_when_it_is_stopped(shell, tmp_path):
    (script,) = (text for text in blocks("bash") if text.startswith("#!"))
    (tmp_path / "sync.sh").write_text(script, encoding="utf-8")
    (tmp_path / "sync.sh").chmod(0o755)
    with Sandbox(generated_bundles(2, 6000), unpublished=1) as sandbox:
        write_config(tmp_path, sandbox)
        assert shell(blocks("bash", SECTIONS["Run"])[0]).wait() == 0

        stopped = shell("exec ./sync.sh")
        # The bundle is larger than what the pipe holds: with the first rows there, the tap writes.
        while stopped.poll() is None and not events(tmp_path):
            time.sleep(0.05)
        assert shell("./sync.sh").wait() == 0, "another run does nothing meanwhile"
        os.killpg(stopped.pid, signal.SIGTERM)
        assert stopped.wait(60) == 143
        assert 0 < len(events(tmp_path)) < 6000

        sandbox.publish()
        for _ in range(2):
            assert shell("./sync.sh").wait() == 0
            assert len(events(tmp_path)) == len(set(events(tmp_path))) == 12000


@pytest.mark.skipif(not shutil.which("flock"), reason="flock is part of Linux")
def test_the_script_does_not_start_over_after_a_first_run_without_a_state(shell, tmp_path):
    (script,) = (text for text in blocks("bash") if text.startswith("#!"))
    (tmp_path / "sync.sh").write_text(script, encoding="utf-8")
    with Sandbox() as sandbox:
        write_config(tmp_path, sandbox)
        assert shell(blocks("bash", SECTIONS["Run"])[0]).wait() == 0
        sandbox.fault("list:401")
        assert shell("bash sync.sh").wait() == 1
        assert shell("bash sync.sh").wait() == 2
        assert not events(tmp_path)
        (tmp_path / "states.jsonl").unlink()
        assert shell("bash sync.sh").wait() == 0
        assert len(events(tmp_path)) == 144
