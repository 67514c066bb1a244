"""What programs read in the log: members of JSON lines, codes of WARNINGs, Meltano's form."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import texts
from environments import ROOT
from interrupting import interrupted
from running import run_tap

from tap_fullstory.logs.lines import MELTANO_VARIABLE, MEMBERS
from tap_fullstory.sandbox import Bundle, Sandbox, generated_bundles
from tap_fullstory.times import format_rfc3339

ALERTS = ROOT / "examples/alerts.py"
BUNDLE = {"bundle", "bundle_start", "bundle_end", "events", "seconds", "resumed_after"}
LAST = {
    "outcome", "bundles", "events", "records", "seconds", "throttled_seconds",
    "newest_bundle_end", "state_bundle_end",
}  # fmt: skip


def lines_of(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


def having(lines: Iterable[dict[str, Any]], member: str) -> list[dict[str, Any]]:
    return [line for line in lines if member in line]


def rfc3339(seconds: float) -> str:
    return format_rfc3339(datetime.fromtimestamp(seconds, timezone.utc))


def test_the_line_of_a_bundle(sandbox):
    lines = having(lines_of(run_tap(sandbox.config(log_format="json")).log), "bundle_start")
    for line, bundle in zip(lines, sandbox.bundles, strict=True):
        assert line.keys() >= BUNDLE
        assert line["bundle"] == bundle.id
        assert line["bundle_start"] == rfc3339(bundle.start)
        assert line["bundle_end"] == rfc3339(bundle.stop)
        assert (line["events"], line["resumed_after"]) == (24, 0)
        assert line["seconds"] >= 0


def test_the_line_of_a_bundle_that_an_earlier_run_has_begun():
    with Sandbox(generated_bundles(1, 500)) as sandbox:
        config = sandbox.config(log_format="json", checkpoint_events=100)
        state = run_tap(config).states[1]
        run = run_tap(config, state=state)
    (line,) = having(lines_of(run.log), "resumed_after")
    assert line["resumed_after"] == state["bookmarks"]["events"]["partial"]["events"] > 0
    assert line["events"] == len(run.records) == 500 - line["resumed_after"]


def test_the_last_line_of_a_run_that_is_stopped():
    with Sandbox(generated_bundles(1, 3000)) as sandbox:
        run = interrupted(sandbox.config(log_format="json", checkpoint_events=100), in_bundle=True)
    (last,) = having(lines_of(run.log), "outcome")
    assert (last["outcome"], last["bundles"], last["state_bundle_end"]) == (
        "stopped", 0, rfc3339(sandbox.bundles[0].start),
    )  # fmt: skip
    assert last["events"] == len(run.records) > 0


@pytest.mark.parametrize("fault", [None, "get:401", "get:429,retry-after=1"])
def test_the_last_line(fault):
    with Sandbox(generated_bundles(2, 24), faults=[fault] if fault else []) as sandbox:
        run = run_tap(sandbox.config(log_format="json"))
        newest = rfc3339(sandbox.bundles[-1].stop)
    failed = fault == "get:401"
    lines = lines_of(run.log)
    (last,) = having(lines, "outcome")
    assert lines.index(last) == len(lines) - (2 if failed else 1)
    assert last.keys() >= LAST
    assert last["outcome"] == ("failed" if failed else "done")
    assert (last["bundles"], last["events"]) == ((0, 0) if failed else (2, 48))
    assert last["records"] == 0
    assert last["newest_bundle_end"] == newest
    assert last["state_bundle_end"] == (None if failed else newest)
    assert (last["throttled_seconds"] > 0) == (fault is not None and "429" in fault)
    assert last["seconds"] >= last["throttled_seconds"]


def test_every_line_of_a_run_has_its_id(sandbox):
    ids = []
    for level in ("DEBUG", "INFO"):
        run = run_tap(sandbox.config(log_format="json", log_level=level))
        (run_id,) = {line["run_id"] for line in lines_of(run.log)}
        ids.append(run_id)
    assert len(set(ids)) == 2


def test_numbers_agree_with_their_nouns():
    with Sandbox(generated_bundles(1, 1)) as sandbox:
        log = run_tap(sandbox.config()).log
    assert "Done: 1 bundle with 1 event, in " in log
    assert ": 1 event in " in log


def test_every_warning_has_a_code():
    codes = texts.warning_codes()
    assert "" not in codes, (
        f"{codes.get('')}: give the WARNING a code, as CONTRIBUTING says: "
        'LOGGER.warning(..., extra={"code": "a_word_of_its_own"})'
    )
    assert all(code.isidentifier() and code.islower() for code in codes)


def test_a_warning_of_the_config_and_one_of_the_run_have_their_codes(sandbox):
    config = sandbox.config(log_format="json", apikey="x", skip_bundles=[sandbox.bundles[0].id])
    lines = lines_of(run_tap(config).log)
    warnings = [line["code"] for line in lines if line["level"] == "WARNING"]
    assert warnings == ["unknown_settings", "bundle_skipped"]
    assert all(line["level"] == "WARNING" for line in having(lines, "code"))


def test_the_members_are_those_documented(sandbox):
    ordinary = {"time", "level", "logger", "message", "type", "metric", "value", "tags"}
    log = run_tap(sandbox.config(log_format="json", log_level="DEBUG", apikey="x")).log
    assert {name for line in lines_of(log) for name in line} <= ordinary | MEMBERS.keys()
    assert MEMBERS.keys() >= BUNDLE | LAST | {"run_id", "code", "kind", "retry_may_help"}


# --- METRIC lines ---


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({}, "INFO"),
        ({"metrics_log_level": "DEBUG"}, None),
        ({"metrics_log_level": "debug", "log_level": "DEBUG"}, "DEBUG"),
        ({"metrics_log_level": "WARNING", "log_level": "WARNING"}, "WARNING"),
    ],
)
def test_the_level_of_metrics(sandbox, settings, level):
    run = run_tap(sandbox.config(log_format="json", **settings))
    metrics = having(lines_of(run.log), "metric")
    assert {line["level"] for line in metrics} == ({level} if level else set())
    assert len(run.records) == 144


# --- under Meltano ---


def parsed_by_meltano(text: str) -> tuple[int, str] | None:
    """Return level and message as meltano.core.logging.parsers.SingerSDKLogParser finds them; None
    for what it does not take, which Meltano logs at INFO.
    """
    required = (
        "level", "pid", "logger_name", "ts", "thread_name", "app_name", "stream_name", "message",
    )  # fmt: skip
    if not (text.startswith("{") and text.endswith("}")):
        return None
    line = json.loads(text)
    if not line.keys() >= set(required):
        return None
    return getattr(logging, line["level"].upper()), line["message"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_levels_reach_meltano(form):
    with Sandbox(generated_bundles(1, 24), faults=["get:401"]) as sandbox:
        config = sandbox.config(log_format=form, apikey="x")
        run = run_tap(config, env={MELTANO_VARIABLE: "/a/meltano.json"})
    assert run.code == 1
    parsed = [parsed_by_meltano(line) for line in run.log.splitlines()]
    levels = [found[0] if found else None for found in parsed]
    assert set(levels) == {logging.INFO, logging.WARNING, logging.CRITICAL}
    assert parsed[-1] is not None
    assert "FullStory does not accept the API key" in parsed[-1][1]
    critical = lines_of(run.log)[-1]
    assert (critical["stream_name"], critical["kind"]) == ("events", "access")
    assert critical.keys().isdisjoint({"time", "logger"})


def test_a_refused_config_reaches_meltano():
    run = run_tap({"start_date": "soon"}, env={MELTANO_VARIABLE: "/a/meltano.json"})
    (line,) = map(parsed_by_meltano, run.log.splitlines())
    assert line is not None
    assert line[0] == logging.CRITICAL


# --- examples/alerts.py ---


def log_of(bundles: list[Bundle], *, days_ago: int = 0, **sandbox: Any) -> str:
    """Return the log of a run against the sandbox, moved to an earlier day."""
    with Sandbox(bundles, **sandbox) as running:
        lines = lines_of(run_tap(running.config(log_format="json")).log)
    for line in lines:
        when = datetime.strptime(line["time"], "%Y-%m-%dT%H:%M:%S.%f%z") - timedelta(days=days_ago)
        line["time"] = f"{when:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def alerts_in(tmp_path: Path, *logs: str) -> tuple[int, list[str]]:
    paths = [tmp_path / f"{number}.log" for number in range(len(logs))]
    for path, log in zip(paths, logs, strict=True):
        path.write_text(f"another program says this\n{log}")
    done = subprocess.run([sys.executable, ALERTS, *paths], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_no_alert_for_two_ordinary_days(tmp_path):
    # The second day has more events to a request, so that it cannot seem slower.
    before = log_of(generated_bundles(2, 24), days_ago=1)
    assert alerts_in(tmp_path, before, log_of(generated_bundles(1, 240))) == (0, [])


def test_an_alert_when_there_was_no_data_for_three_days(tmp_path):
    old = datetime.now(timezone.utc) - timedelta(days=5)
    code, alerts = alerts_in(tmp_path, log_of(generated_bundles(2, 24, until=old)))
    assert (code, len(alerts)) == (1, 1)
    assert alerts[0].startswith("No new data: the newest bundle ends at ")


def test_an_alert_when_two_runs_failed(tmp_path):
    bundles = generated_bundles(1, 24)
    good, bad = log_of(bundles), log_of(bundles, faults=["get:401"])
    assert alerts_in(tmp_path, bad, good, log_of(bundles, faults=["get:401"])) == (0, [])
    again = log_of(bundles, faults=["list:401"])
    assert alerts_in(tmp_path, good, bad, again) == (1, ["The last 2 runs failed."])


def test_an_alert_when_a_run_is_slower_than_the_day_before(tmp_path):
    before = log_of(generated_bundles(1, 5000), days_ago=1)
    # A hundredth of the events, in about the same time.
    now = log_of(generated_bundles(1, 50))
    assert alerts_in(tmp_path, before, now) == (1, ["Slower than the day before."])


def test_an_alert_when_ten_times_the_rows_come(tmp_path):
    before, now = log_of(generated_bundles(1, 24), days_ago=1), log_of(generated_bundles(1, 500))
    assert alerts_in(tmp_path, before, now) == (1, ["500 rows, after 24 the day before."])
