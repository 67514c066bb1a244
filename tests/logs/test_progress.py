"""How far a sync has got: INFO lines for everyone, a live line for a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from datetime import datetime, timedelta, timezone

import pytest
from running import run_tap, start_tap
from singer import metrics

from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.logs.progress import Progress
from tap_fullstory.sandbox import Sandbox, generated_bundles
from tap_fullstory.times import duration

JUNE = datetime(2026, 6, 1, tzinfo=timezone.utc)


def bundle(day: int) -> Bundle:
    return Bundle(str(day), JUNE + timedelta(days=day), JUNE + timedelta(days=day + 1))


def lines(log: list[str]) -> list[str]:
    return [line for line in log if re.match(r"Bundle .* events in ", line)]


def test_each_bundle_says_how_far_the_sync_has_got():
    with Sandbox(generated_bundles(3, 24)) as sandbox:
        run = run_tap(sandbox.config())
        ids = [one.id for one in sandbox.bundles]
    found = lines(run.logged("INFO"))
    for number, (line, name) in enumerate(zip(found, ids, strict=True), start=1):
        assert line.startswith(f"Bundle {name} (")
        assert re.search(rf"\), {number} of 3: 24 events in \d+\.\d s, \d+ a second", line)
        assert ("left" in line) == (number < 3)


def test_more_bundles_than_a_page_of_the_listing_shows():
    with Sandbox(generated_bundles(23, 24)) as sandbox:
        found = lines(run_tap(sandbox.config()).logged("INFO"))
    assert re.search(r"\), 1 of 2\d( or more)?: ", found[0])
    assert "), 23 of 23: " in found[-1]


def test_bundles_after_end_date_are_not_counted():
    with Sandbox(generated_bundles(4, 24)) as sandbox:
        end = datetime.fromtimestamp(sandbox.bundles[1].stop, timezone.utc)
        config = sandbox.config(end_date=f"{end:%Y-%m-%dT%H:%M:%SZ}")
        found = lines(run_tap(config).logged("INFO"))
    assert len(found) == 2
    assert "), 2 of 2: " in found[-1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "1 h 0 min"), (11_100, "3 h 5 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_the_estimate_is_by_number_where_all_is_listed_and_by_time_where_not(caplog, monkeypatch):
    caplog.set_level("INFO")
    clock = [0.0]
    monkeypatch.setattr("tap_fullstory.logs.progress.time.monotonic", lambda: clock[0])
    progress = Progress(until=JUNE + timedelta(days=40))
    progress.listed([bundle(day) for day in range(20)], True)
    clock[0] = 60.0
    progress.end(bundle(0), 600, 60.0)
    progress.left_out()
    progress.listed([bundle(day) for day in range(20, 22)], False)
    clock[0] = 120.0
    progress.end(bundle(2), 600, 30.0)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.endswith("1 of 20 or more: 600 events in 60.0 s, 10 a second; about 39 min left")
    assert second.endswith("3 of 22: 600 events in 30.0 s, 20 a second; about 13 min left")


def run_on_a_terminal(config, folder):
    """Exit code, stdout and what a terminal at stderr shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with (folder / "out").open("wb") as out, start_tap(config, stderr=theirs, stdout=out) as tap:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # as Linux says that the other end is closed
                break
            if not piece:
                break
            shown += piece
        code = tap.wait(60)
    os.close(ours)
    return code, (folder / "out").read_bytes(), shown.decode()


def test_a_terminal_shows_a_live_line_on_stderr_alone(tmp_path):
    pytest.importorskip("tqdm")
    with Sandbox(generated_bundles(3, 24)) as sandbox:
        code, stdout, shown = run_on_a_terminal(sandbox.config(), tmp_path)
        plain = run_tap(sandbox.config(), env={"TZ": "Asia/Tokyo"})
    assert code == 0
    assert re.search(r"\rBundle \d of 3, 2\d{3}-\d\d-\d\d: ", shown)
    # The line that was live is gone before a bundle's own line comes.
    assert not re.search(r"[^\r\n]INFO Bundle ", shown)
    assert len(lines(re.findall(r"INFO (Bundle [^\r\n]*)", shown))) == 3
    assert stdout.count(b'"RECORD"') == 72
    assert b"\r" not in stdout
    assert "\r" not in plain.log
    # Singer's lines, with the time where nobody sees when they come, but for metrics.
    assert not re.search(r"INFO 2\d{3}-", shown)
    now = datetime.now(timezone.utc)
    points = [metrics.parse(line) for line in plain.log.splitlines()]
    for line, point in zip(plain.log.splitlines(), points, strict=True):
        level, time, _ = line.split(" ", 2)
        assert level in ("INFO", "WARNING")
        if point is None:
            written = datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%f%z")
            assert timedelta(0) <= now - written < timedelta(minutes=5)
    assert sum(point is not None for point in points) == plain.log.count("METRIC") > 0
