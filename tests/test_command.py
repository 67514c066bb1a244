"""The command line: its flags, its files, and an exit code with words for each way to fail."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import fast
from running import Run, discover, run_command, run_tap, start_tap

from tap_fullstory.sandbox import Bundle, Sandbox
from tap_fullstory.version import __version__

KEY = "na1.key-of-the-command-tests"
FLAGS = ["--config", "--state", "--catalog", "--properties", "--discover", "--version", "--help"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(api_key=KEY) as sandbox:
        yield sandbox


@pytest.fixture
def faulty(sandbox: Sandbox) -> Iterator[Sandbox]:
    yield sandbox
    sandbox.clear_faults()


def test_help_names_every_flag():
    run = run_command("--help")
    assert run.code == 0
    assert [flag for flag in FLAGS if flag not in run.stdout.decode()] == []


def test_help_leads_to_what_to_do_about_a_failure():
    last = run_command("--help").stdout.decode().splitlines()[-1]
    assert last.endswith(f"/blob/v{__version__}/docs/troubleshooting.md")


# --- usage: exit 2 ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--config"),
        (["--configuration", "c.json"], "--configuration"),
        (["--config"], "--config"),
        (["--config", "c.json", "leftover"], "leftover"),
        (["--config", "not/there.json"], "not/there.json"),
        (["--discover", "--config", "not/there.json"], "not/there.json"),
        (["--config", os.curdir], "config file ."),
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments, words):
    run = run_command(*arguments)
    assert (run.code, run.stdout) == (2, b"")
    assert words in run.critical


NOT_THERE = Path("not/there.json")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config", NOT_THERE, "config file not/there.json cannot be read: No such file"),
        ("config", b"", "is empty. Write the settings"),
        ("config", b" \n", "is empty"),
        ("config", b'{"api_key": "...",}', " at line 1 column "),
        ("config", b'{"a": 1,\n"api_key": na1.key-of}', "Expecting value at line 2 column 12"),
        ("config", b'{"a": NaN}', "NaN, which is not valid JSON"),
        ("config", b'{"a": "\xff"}', "not UTF-8, from byte 7 on"),
        ("config", b"[" * 100_000, "nested more than 100 levels deep"),
        ("config", b'{"a": "\\ud800"}', "a lone surrogate"),
        ("config", b'{"\\udfff": 1}', "a lone surrogate"),
        ("config", b'{"a": ' + b"9" * 5000 + b"}", "a number of more than 1000 digits"),
        ("config", b'{"a": 1e999}', "a number that is too long or too large"),
        ("config", b'"na1.key-of"', "config is not a JSON object"),
        ("state", NOT_THERE, "state file not/there.json cannot be read: No such file"),
        ("state", b"", "is empty. A run that failed before its target had printed a state"),
        ("state", b'{"bookmarks": {}', "is not valid JSON"),
        ("state", b"[]", "state is not a JSON object but a list"),
        ("state", b'{"bookmarks": {"x": {"y": "\\ud800"}}}', "a lone surrogate"),
        ("state", b'{"bookmarks": {"x": ' + b'{"y": ' * 99 + b"0" + b"}" * 101, "nested more than"),
        ("state", b'{"bookmarks": {"x": {"y": ' + b"9" * 5000 + b"}}}", "more than 1000 digits"),
        ("catalog", NOT_THERE, "catalog file not/there.json cannot be read: No such file"),
        ("catalog", b"", "is empty. Make one with --discover"),
        ("catalog", b'{"streams": [}', "is not valid JSON: Expecting value at line 1 column 14"),
        ("catalog", b"null", "catalog cannot be used"),
        ("catalog", b'{"streams": [{"stream": "\\ud800"}]}', "a lone surrogate"),
    ],
)
def test_files_that_cannot_be_used(sandbox, file, content, words):
    run = run_tap(**{"config": sandbox.config(), file: content})
    assert (run.code, run.stdout) == (2, b"")
    assert words in run.critical
    assert "na1.key-of" not in run.log


def test_catalog_and_properties_are_one_option_under_two_names(sandbox):
    run = run_tap(sandbox.config(), "--properties", "p.json", catalog=discover())
    assert run.code == 2
    assert "--catalog" in run.critical


@pytest.mark.parametrize(
    ("flag", "same"),
    [
        ("--config", "-c"),
        ("--state", "--state"),
        ("--catalog", "--catalog"),
        ("-p", "--properties"),
        ("--format", "--format"),
    ],
)
def test_a_flag_given_twice(flag, same):
    value = "json" if flag == "--format" else "a.json"
    run = run_command(flag, value, same, value)
    assert (run.code, run.stdout) == (2, b"")
    assert "is given more than once" in run.critical


def test_a_state_nested_to_the_limit_is_carried_along(sandbox):
    deep = json.loads('{"y": ' * 98 + "0" + "}" * 98)
    run = run_tap(sandbox.config(), state={"bookmarks": {"x": deep}})
    assert run.state["bookmarks"]["x"] == deep


# --- what works ---


def test_short_flags_and_a_byte_order_mark(sandbox, tmp_path):
    config, state, catalog = (tmp_path / name for name in ("config", "state", "catalog"))
    config.write_text(json.dumps(sandbox.config()), encoding="utf-8-sig")
    discovered = run_command("-d")
    catalog.write_bytes(discovered.stdout)
    first = run_command("-c", config, "-p", catalog)
    assert first.code == 0
    *_, last = map(json.loads, first.stdout.splitlines())
    state.write_text(json.dumps(last["value"]))
    second = run_command("-c", config, "-p", catalog, "-s", state)
    assert second.code == 0
    assert [json.loads(line)["type"] for line in second.stdout.splitlines()] == ["SCHEMA", "STATE"]


def test_discovery_without_a_config_sends_no_request(sandbox):
    before = len(sandbox.requests)
    assert discover()["streams"][0]["tap_stream_id"] == "events"
    assert len(sandbox.requests) == before


def test_discover_with_a_config_checks_the_key_and_the_listing(sandbox):
    before = len(sandbox.requests)
    assert discover(sandbox.config()) == discover()
    me, listing = sandbox.requests[before:]
    assert me.path == "/me"
    assert listing.path == "/api/v1/export/list"
    assert listing.query["start"].isdigit()


@pytest.mark.parametrize("fault", ["list:403", "list:404", "list:html"])
def test_the_catalog_comes_though_the_events_cannot_be_listed(faulty, tmp_path, fault):
    faulty.fault(f"{fault},times=always")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(faulty.config(discover_custom_vars=True)))
    run = run_command("--config", config, "--discover", env=fast())
    assert run.code == 0
    assert json.loads(run.stdout) == discover()
    *tries, warning = run.logged("WARNING")
    assert warning.startswith("The stream events cannot be read: ")
    assert ("Data Export add-on" in warning) == (fault == "list:403")
    assert ("segment_export" in warning) == (fault != "list:html")
    assert len(tries) == (7 if fault == "list:html" else 0)


def test_discover_with_a_wrong_key_fails(sandbox, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(sandbox.config(api_key="na1.wrong-key")))
    run = run_command("--config", config, "--discover")
    assert (run.code, run.stdout) == (1, b"")
    assert "401" in run.critical
    assert "api_key" in run.critical
    assert "wrong-key" not in run.log


def test_the_key_from_the_environment(sandbox):
    config = sandbox.config()
    del config["api_key"]
    run = run_tap(config, env={"TAP_FULLSTORY_API_KEY": KEY})
    assert run.code == 0
    assert len(run.records) == 144
    assert KEY not in run.log
    assert KEY.encode() not in run.stdout


# --- failures: exit 1 with the words for them ---


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("list:401", "HTTP 401|api_key"),
        ("list:403", "HTTP 403|Architect|add-on"),
        ("list:404", "HTTP 404|data_export_url"),
        ("list:410", "HTTP 410|closed"),
        ("list:400", "HTTP 400|fault: status 400"),
        ("list:200,body=[1]", "not a list of bundles"),
        ('list:200,body={"exports": [{"Id": 1}]}', "not a list of bundles"),
        ("list:redirect,times=always", "redirects more than"),
        ("list:redirect,location=ftp://127.0.0.1/", "redirects to something"),
        ("get:401", "HTTP 401|api_key"),
        ("get:410", "HTTP 410|/api/v1/export/get"),
        ("get:truncate,after=100,times=2", "gzip member|skip_bundles"),
    ],
)
def test_failures_at_the_source(faulty, fault, words):
    faulty.fault(fault)
    run = run_tap(faulty.config())
    assert run.code == 1
    assert [word for word in words.split("|") if word not in run.critical] == []
    assert (run.records, run.states) == ([], [])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("list:html", "/api/v1/export/list|HTTP 200|a web page; text/html|<!DOCTYPE html>"),
        ('list:200,body={"exports": [{"Id": 1', "truncated JSON"),
        ("get:html", "is a web page, not a JSON array"),
    ],
)
def test_failures_at_the_source_that_last(faulty, fault, words):
    faulty.fault(f"{fault},times=always")
    run = run_tap(faulty.config(), env=fast())
    assert run.code == 1
    assert [word for word in words.split("|") if word not in run.critical] == []
    assert (run.records, run.states) == ([], [])


def test_an_answer_that_quotes_the_key_is_quoted_without_it(faulty):
    faulty.fault(f"list:400,body=no such key: {KEY}")
    run = run_tap(faulty.config())
    assert run.code == 1
    assert "no such key: ***" in run.critical


def test_an_address_that_quotes_the_key_is_logged_without_it(faulty):
    faulty.fault(f"list:redirect,location=/keys/{KEY}")
    run = run_tap(faulty.config(log_level="DEBUG"))
    assert run.code == 1
    assert f"GET {faulty.url}/keys/***" in run.logged("DEBUG")


def test_no_more_than_200_characters_of_an_answer_are_quoted(faulty):
    faulty.fault(f"list:400,body={'x' * 199}y{'z' * 1000}")
    run = run_tap(faulty.config())
    assert "xy'" in run.critical


def test_an_untrusted_host_fails_at_once(sandbox):
    url = sandbox.url.replace("http:", "https:")
    run = run_tap(sandbox.config(data_export_url=url))
    assert run.code == 1
    assert "does not speak TLS" in run.critical


def test_a_spool_folder_that_is_not_there(sandbox):
    run = run_tap(sandbox.config(spool_dir="/not/there"))
    assert run.code == 1
    assert "/not/there" in run.critical
    assert "spool_dir" in run.critical
    assert run.records == []


def test_a_target_that_closes_the_pipe():
    events = b"[" + b",".join([b'{"EventType":"click"}'] * 20_000) + b"]"
    with (
        Sandbox([Bundle("1", 1_600_000_000, 1_600_086_400, events)]) as sandbox,
        start_tap(sandbox.config()) as tap,
    ):
        assert tap.stdout.readline().startswith(b'{"type":"SCHEMA"')
        tap.stdout.close()
        log = tap.stderr.read().decode()
        assert tap.wait(20) == 1
    run = Run(1, b"", log)
    assert "target closed the pipe" in run.critical
    assert "Traceback" not in log
    assert "BrokenPipe" not in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("options", [[], ["--discover"]], ids=["sync", "discover"])
def test_an_output_that_takes_nothing(sandbox, options):
    with (
        Path("/dev/full").open("wb") as full,
        start_tap(sandbox.config(), *options, stdout=full) as tap,
    ):
        log = tap.stderr.read().decode()
        assert tap.wait(20) == 1
    assert "cannot be written: No space left" in Run(1, b"", log).critical


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_signals_end_it_with_their_code(number, code):
    with (
        Sandbox(faults=["list:silence,seconds=30"]) as sandbox,
        start_tap(sandbox.config(log_level="DEBUG")) as tap,
    ):
        while b"GET" not in (line := tap.stderr.readline()):
            assert line, "it has ended"
        tap.send_signal(number)
        assert tap.wait(20) == code
        assert b"Traceback" not in tap.stderr.read()
