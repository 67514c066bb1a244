"""`--about` and `--test`: what the tap says of itself, and of the account."""

from __future__ import annotations

import json

import pytest
from running import discover, run_command

from tap_fullstory.about import DESCRIPTION
from tap_fullstory.config import SETTINGS
from tap_fullstory.sandbox import Sandbox
from tap_fullstory.version import __version__


def about(*arguments: str) -> str:
    run = run_command("--about", *arguments)
    assert (run.code, run.log) == (0, "")
    return run.stdout.decode()


def test_about_as_text_tells_everything():
    text = about()
    assert text == about("--format", "text")
    assert text.startswith(f"tap-fullstory {__version__}\n{DESCRIPTION}\n")
    assert "about, catalog, discover, state" in text
    for setting in SETTINGS:
        assert f"\n  {setting.name} (default: " in text
    for stream in discover()["streams"]:
        assert f"\n  {stream['tap_stream_id']}: " in text
    assert max(map(len, text.splitlines())) <= 100


def test_about_as_json_describes_each_setting():
    described = json.loads(about("--format", "json"))
    assert described["name"] == "tap-fullstory"
    assert described["version"] == __version__
    assert described["capabilities"] == ["about", "catalog", "discover", "state"]
    properties = described["settings"]["properties"]
    assert list(properties) == [setting.name for setting in SETTINGS]
    assert properties["api_key"].items() >= {"type": "string", "secret": True}.items()
    assert properties["start_date"]["format"] == "date-time"
    assert properties["custom_vars_format"]["enum"] == ["object", "string"]
    assert properties["request_timeout"].items() >= {"type": "integer", "default": 300}.items()
    assert properties["skip_bundles"].items() >= {"type": "array", "default": []}.items()
    assert properties["event_digest"].items() >= {"type": "boolean", "default": False}.items()


def test_about_as_json_lists_the_streams_of_discovery():
    streams = {
        stream["name"]: stream for stream in json.loads(about("--format", "json"))["streams"]
    }
    found = {stream["tap_stream_id"]: stream for stream in discover()["streams"]}
    assert list(streams) == list(found)
    for name, stream in streams.items():
        assert stream["columns"] == list(found[name]["schema"]["properties"])
    assert streams["events"]["replication_method"] == "INCREMENTAL"
    assert streams["events"]["key_properties"] == []


def test_about_as_markdown_has_a_row_for_each_setting_and_stream():
    text = about("--format", "markdown")
    first_cells = [line.split("|")[1].strip() for line in text.splitlines() if line[:1] == "|"]
    for name in [setting.name for setting in SETTINGS] + ["events"]:
        assert first_cells.count(f"`{name}`") == 1


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_choices_of_a_setting_are_what_it_allows(setting):
    assert bool(setting.choices) == (setting.kind == "option")
    for choice in setting.choices:
        assert setting.parse(choice) == choice


@pytest.mark.parametrize(
    "arguments",
    [
        ["--about", "--test"],
        ["--discover", "--test"],
        ["--format", "json"],
        ["--about", "--format"],
    ],
    ids=" ".join,
)
def test_flags_that_do_not_go_together(arguments):
    run = run_command(*arguments)
    assert (run.code, run.stdout) == (2, b"")
    assert "--help lists the options." in run.log


# --- --test ---


def run_test(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return run_command("--config", tmp_path / "config.json", "--test")


def test_test_says_what_there_is_to_sync_with_one_request(tmp_path):
    with Sandbox() as sandbox:
        run = run_test(tmp_path, sandbox.config())
        assert [request.path for request in sandbox.requests] == ["/api/v1/export/list"]
        bundle = sandbox.bundles[0]
    assert (run.code, run.stdout) == (0, b"")
    assert "accepts the API key" in run.log
    assert f"lists {len(sandbox.bundles)} bundles that end after" in run.log
    assert f"The first is {bundle.id} (" in run.log


def test_test_heeds_end_date(tmp_path):
    with Sandbox() as sandbox:
        start = sandbox.config()["start_date"]
        run = run_test(tmp_path, sandbox.config(end_date=start))
    assert run.code == 0
    (line,) = run.logged("WARNING")
    assert f"no bundle that ends after {start} and not after {start}" in line


def test_test_of_a_wrong_key_fails(tmp_path):
    with Sandbox() as sandbox:
        run = run_test(tmp_path, sandbox.config(api_key="na1.wrong"))
    assert (run.code, run.stdout) == (1, b"")
    assert "FullStory does not accept the API key." in run.critical


def test_test_needs_a_config():
    run = run_command("--test")
    assert (run.code, run.stdout) == (2, b"")
    assert run.critical.startswith("--test needs --config FILE")
