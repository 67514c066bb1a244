"""`--about` and `--test`: what the tap says of itself, and of the account."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from types import SimpleNamespace

import certifi
import pytest
from running import discover, run_command

from tap_fullstory.about import DESCRIPTION
from tap_fullstory.checks import LITTLE_ROOM_BYTES, check_folders
from tap_fullstory.sandbox import Sandbox, generated_bundles
from tap_fullstory.settings import GROUPS, SETTINGS, SHOWN_SETTINGS, parse_config
from tap_fullstory.version import __version__

NOW = datetime(2026, 6, 7, tzinfo=timezone.utc)


def about(*arguments: str) -> str:
    run = run_command("--about", *arguments)
    assert (run.code, run.log) == (0, "")
    return run.stdout.decode()


def test_about_as_text_tells_everything():
    text = about()
    assert text == about("--format", "text")
    assert text.startswith(f"tap-fullstory {__version__}\n{DESCRIPTION}\n")
    assert "about, batch, catalog, discover, state, structured-logging, test" in text
    for setting in SHOWN_SETTINGS:
        assert f"\n  {setting.name} (default: " in text
    for group in GROUPS:
        assert f"\n{group.title}: {group.purpose}\n" in text
    for stream in discover()["streams"]:
        assert f"\n  {stream['tap_stream_id']}: " in text
    assert max(map(len, text.splitlines())) <= 100
    assert f"\nExamples: https://github.com/singer-io/tap-fullstory/tree/v{__version__}/ex" in text


def test_about_as_json_describes_each_setting():
    described = json.loads(about("--format", "json"))
    assert described["name"] == "tap-fullstory"
    assert described["version"] == __version__
    assert described["capabilities"] == [
        "about",
        "batch",
        "catalog",
        "discover",
        "state",
        "structured-logging",
        "test",
    ]
    properties = described["settings"]["properties"]
    assert list(properties) == [setting.name for setting in SHOWN_SETTINGS]
    assert described["settings"]["required"] == ["api_key"]
    assert described["supported_python_versions"][0] == "3.10"
    assert described["env_var_prefix"] == "TAP_FULLSTORY_"
    assert {one["title"] for one in properties.values()} >= {"API key", "Replace NUL"}
    assert all(one["type"] and one["description"] for one in properties.values())
    assert properties["api_key"].items() >= {"type": "string", "secret": True}.items()
    assert properties["start_date"]["format"] == "date-time"
    assert properties["custom_vars_format"]["enum"] == ["object", "string"]
    bounds = {"minimum": 1, "maximum": 86_400}
    expected = {"type": "integer", "default": 300, **bounds}
    assert properties["request_timeout"].items() >= expected.items()
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
    for name in [setting.name for setting in SHOWN_SETTINGS] + ["events"]:
        assert first_cells.count(f"`{name}`") == 1


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_allows_what_its_schema_and_its_words_say(setting):
    for choice in setting.choices:
        assert setting.parse(choice) == choice
        assert str(choice) in setting.allowed
    schema = setting.type.schema
    for bound, beyond in (("minimum", -1), ("maximum", 1)):
        if bound in schema:
            assert setting.parse(schema[bound]) == schema[bound]
            assert str(schema[bound]) in setting.allowed
            with pytest.raises(ValueError, match=r"^$"):
                setting.parse(schema[bound] + beyond)


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


def run_test(tmp_path, config, *options):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return run_command("--config", tmp_path / "config.json", "--test", *options)


def test_test_says_what_there_is_to_sync_with_three_requests(tmp_path):
    with Sandbox() as sandbox:
        run = run_test(tmp_path, sandbox.config())
        assert [request.path for request in sandbox.requests] == [
            "/me",
            "/v2beta/datasets",
            "/api/v1/export/list",
        ]
        bundle = sandbox.bundles[0]
    assert (run.code, run.stdout) == (0, b"")
    assert "accepts the API key" in run.log
    assert "can read these datasets: All Data." in run.log
    assert f"lists {len(sandbox.bundles)} bundles that end after" in run.log
    assert f"The first is {bundle.id} (" in run.log


def test_test_speaks_of_one_bundle_in_the_singular(tmp_path):
    with Sandbox(generated_bundles(1, 1)) as sandbox:
        run = run_test(tmp_path, sandbox.config())
    assert "lists 1 bundle that ends after" in run.log


def test_test_heeds_end_date(tmp_path):
    with Sandbox() as sandbox:
        start = sandbox.config()["start_date"]
        run = run_test(tmp_path, sandbox.config(end_date=start))
    assert run.code == 0
    (line,) = [line for line in run.logged("WARNING") if "lists no bundle" in line]
    assert f"no bundle that ends after {start} and not after {start}" in line


def test_test_of_a_wrong_key_fails(tmp_path):
    with Sandbox() as sandbox:
        run = run_test(tmp_path, sandbox.config(api_key="na1.wrong"))
    assert (run.code, run.stdout) == (1, b"")
    assert "FullStory does not accept the API key." in run.critical


def selected(tmp_path, *names):
    catalog = discover()
    for stream in catalog["streams"]:
        (root,) = [entry for entry in stream["metadata"] if entry["breadcrumb"] == []]
        root["metadata"]["selected"] = stream["tap_stream_id"] in names
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    return "--catalog", tmp_path / "catalog.json"


def test_test_and_the_first_run_name_what_is_selected_besides_events(tmp_path):
    _, catalog = selected(tmp_path, "events", "users", "segments")
    said = (
        "Selected besides events: 2 streams, with what each run requests for them: users (1 call "
    )
    with Sandbox() as sandbox:
        run = run_test(tmp_path, sandbox.config(), "--catalog", catalog)
        assert said in run.log
        config = ("--config", tmp_path / "config.json", "--catalog", catalog)
        first = run_command(*config)
        assert said in first.log
        state = [line for line in first.stdout.splitlines() if b'"STATE"' in line][-1]
        (tmp_path / "state.json").write_text(json.dumps(json.loads(state)["value"]))
        assert said not in run_command(*config, "--state", tmp_path / "state.json").log
        assert "Selected besides" not in run_test(tmp_path, sandbox.config()).log


def test_test_reads_a_page_of_each_selected_stream(tmp_path):
    names = ("users", "segments", "domain_settings", "geo_settings_history", "sessions", "events")
    with Sandbox() as sandbox:
        run = run_test(tmp_path, sandbox.config(), *selected(tmp_path, *names, "individuals"))
        assert len(sandbox.requests) == 2 + len(names)
    assert (run.code, run.stdout) == (0, b"")
    for name in names[:-1]:
        assert f"The stream {name} can be read" in run.log
    assert "whether individuals can be read" in run.log


def test_test_names_what_the_key_may_not_read_with_level_and_add_on(tmp_path):
    names = ("segments", "users", "events")
    with Sandbox(role="USER", faults=["list:403,times=always"]) as sandbox:
        run = run_test(tmp_path, sandbox.config(), *selected(tmp_path, *names))
    assert (run.code, run.stdout) == (1, b"")
    assert "2 of 3 selected streams cannot be read: events, users." in run.critical
    warnings = {line.split()[2]: line for line in run.logged("WARNING")}
    assert set(warnings) == {"events", "users"}
    assert all(line.count("a key of level Architect or higher") == 1 for line in warnings.values())
    assert all(line.count("level") <= 2 for line in warnings.values())
    assert "the Data Export add-on" in warnings["events"]
    assert '"export_api": "segment_export"' in warnings["events"]
    assert "The stream segments can be read" in run.log


def test_test_succeeds_where_fullstory_does_not_tell_the_datasets(tmp_path):
    for fault in ("datasets:404", "datasets:503,times=always", "datasets:200,body=[1]"):
        with Sandbox(faults=[fault]) as sandbox:
            run = run_test(tmp_path, sandbox.config())
        assert (run.code, run.logged("WARNING")) == (0, []), fault
        assert "FullStory does not tell which datasets the API key can read: " in run.log


@pytest.mark.parametrize("hours", [0, 2])
def test_test_compares_the_clock_with_that_of_fullstory(tmp_path, hours):
    with Sandbox(faults=[f"any:clock,seconds={hours * 3600},times=always"]) as sandbox:
        run = run_test(tmp_path, sandbox.config())
    assert run.code == 0
    assert "FullStory's clock differs from this machine's by " in run.log
    assert len([line for line in run.logged("WARNING") if "clock" in line]) == (1 if hours else 0)


@pytest.mark.parametrize("setting", ["spool_dir", "batch_config"])
def test_test_finds_a_folder_that_cannot_be_written_to(tmp_path, setting):
    missing = str(tmp_path / "missing")
    batches = {"encoding": {"format": "jsonl"}, "storage": {"root": missing}}
    with Sandbox() as sandbox:
        value = missing if setting == "spool_dir" else batches
        run = run_test(tmp_path, sandbox.config(**{setting: value}))
        assert sandbox.requests == []
    assert run.code == (1 if setting == "spool_dir" else 2)
    assert missing in run.critical


def test_test_says_how_much_room_there_is(tmp_path, monkeypatch, caplog):
    config = parse_config({"api_key": "k", "spool_dir": str(tmp_path)}, NOW, {})
    caplog.set_level("INFO")
    for free, level in ((LITTLE_ROOM_BYTES, "INFO"), (LITTLE_ROOM_BYTES - 1, "WARNING")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        check_folders(config)
        assert caplog.records[-1].levelname == level
        assert f"The spool folder {tmp_path} " in caplog.text


def test_test_names_proxy_and_ca_bundle_without_the_password(tmp_path):
    (tmp_path / "ca.pem").write_text(certifi.contents())
    variables = {
        "https_proxy": "http://me:secret@127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem"),
        "no_proxy": "",
        "NO_PROXY": "",
    }
    with Sandbox() as sandbox:
        (tmp_path / "config.json").write_text(json.dumps(sandbox.config()))
        arguments = ("--config", tmp_path / "config.json", "--test")
        run = run_command(*arguments, env=variables)
        assert run.code == 0
        assert "use the proxy https_proxy (http://" in run.log
        assert f"and the CA bundle {tmp_path / 'ca.pem'} (from REQUESTS_CA_BUNDLE)." in run.log
        assert "secret" not in run.log
        broken = run_command(*arguments, env={"REQUESTS_CA_BUNDLE": "/missing.pem"})
    assert broken.code == 1
    assert "/missing.pem" in broken.critical


def test_test_needs_a_config():
    run = run_command("--test")
    assert (run.code, run.stdout) == (2, b"")
    assert run.critical.startswith("--test needs --config FILE")
