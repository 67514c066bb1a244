"""The machine a tap runs on, and the program at the other end of its pipe, when they fall short."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from faults import KEY, array, bundle, events, lines, loud, packed, record, run_loudly
from running import Run, counted, run_tap, start_tap, without_time
from target import PATIENCE, Target, read_by_target, wait_until

from tap_fullstory.sandbox import Bundle, Sandbox

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
MB = 1024 * 1024


def day_of(day: int, count: int) -> Bundle:
    """A bundle of events that no other has."""
    return bundle(day, array(lines(events(count, day * count))))


def events_in(made: Bundle) -> Any:
    assert isinstance(made.body, bytes)
    return json.loads(made.body)


def records_of(*bundles: Bundle) -> Any:
    return counted(record(event) for made in bundles for event in events_in(made))


def downloads(sandbox: Sandbox) -> list[str]:
    return [request.query["id"] for request in sandbox.requests if request.path.endswith("/get")]


def open_files(target: Target) -> list[tuple[str, os.stat_result]]:
    """What a tap has open, by the names that the system gives."""
    found = []
    for entry in Path(f"/proc/{target.process.pid}/fd").iterdir():
        try:
            found.append((str(entry.readlink()), entry.stat()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def memory(run: Run) -> float:
    """The most that the tap has used, in MB."""
    (kilobytes,) = re.findall(r"^DEBUG VmHWM:\s+(\d+) kB$", run.log, re.MULTILINE)
    return int(kilobytes) / 1024


# --- a slow target ---


@linux
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_slow_target(prefetch, tmp_path):
    """Downloads go on to `prefetch_bundles` and no further, memory stays flat, and no connection
    waits; then everything arrives.
    """
    listed = [day_of(day, 400) for day in range(6)]
    with Sandbox(listed, api_key=KEY) as sandbox:
        config = sandbox.config(prefetch_bundles=prefetch, spool_dir=str(tmp_path))
        with read_by_target(config) as target:
            target.read(50_000)
            wait_until(lambda: len(downloads(sandbox)) > prefetch)
            wait_until(lambda: not any("socket:" in name for name, _ in open_files(target)))
            time.sleep(0.3)
            assert len(downloads(sandbox)) == 1 + prefetch
            spooled = [name for name, _ in open_files(target) if name.startswith(str(tmp_path))]
            assert len(spooled) == 1 + prefetch
            run = target.end()
    assert run.code == 0
    assert downloads(sandbox) == [made.id for made in listed]
    assert [r["PageNumErrors"] for r in run.records] == list(range(6 * 400))


@linux
def test_memory_knows_neither_the_size_of_bundles_nor_the_targets_haste():
    peaks = []
    for count in (10, 5000):
        listed = [day_of(day, count) for day in range(4)]
        with Sandbox(listed, api_key=KEY) as sandbox:
            config = sandbox.config(prefetch_bundles=3)
            with read_by_target(config) as target:
                target.read(5000)
                wait_until(lambda: len(downloads(sandbox)) == 4)
                while target.read(4096):
                    target.received.clear()
                target.received.clear()
                peaks.append(memory(target.end()))
    assert peaks[1] - peaks[0] < 8


RULES = {"exclude_fields": "a, PageIp", "hash_fields": "evt_hashed", "hash_key": "k" * 16}
COLUMNS = {"custom_columns": ["evt_x_ints", "evt_x_reals", "evt_x_strs", "evt_x_str"]}
NUMBERS, OBJECTS = b"[" + b"1," * 2**20 + b"1]", b"[" + b'{"a":1},' * 2**18 + b"1]"


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rules": RULES,
    "columns": COLUMNS,
    "text": {"custom_vars_format": "string"},
    "digest": {"event_digest": True},
}


def deep(size: int) -> bytes:
    """An event of 400 levels, each with text of its own."""
    text = b"x" * (size // 400)
    return b'{"evt_x":' + b'{"b":"%b","c":' % text * 400 + b"1" + b"}" * 401


@linux
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    "event",
    [
        b'{"evt_x_str":"' + b"x" * 2**21 + b'"}',
        b'{"evt_x_reals":' + NUMBERS + b"}",
        b'{"evt_hashed":' + NUMBERS + b"}",
        b'{"evt_x_ints":["a",' + NUMBERS[1:] + b"}",
        b'{"evt_x":' + OBJECTS + b"}",
        b'{"evt_x":{"b":[' + OBJECTS + b"]}}",
        deep(2**21),
    ],
    ids=["text", "decimals", "hashed", "mismatch", "objects", "nested", "deep"],
)
def test_memory_for_one_large_event_is_bounded(settings, event):
    """By 60 MB and five times max_event_mb, which is 3 here: the events have 2 MB."""
    assert memory_of([event], 3, settings) < 60 + 5 * 3


@linux
@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", ["text", "lone surrogate", "strings", "deep"])
def test_memory_for_two_of_the_largest_events_is_bounded(settings, shape):
    """Of 16 MB each: there a copy too many is more than what a run takes besides."""
    size = 16 * 2**20 - 10_000
    event = {
        "text": lambda: b'{"evt_x_str":"' + b"x" * size + b'"}',
        "lone surrogate": lambda: b'{"evt_x_str":"' + b"x" * size + rb"\ud83d" + b'"}',
        "strings": lambda: b'{"evt_x":[' + b'"a",' * (size // 4) + b'""]}',
        "deep": lambda: deep(size),
    }[shape]()
    assert memory_of([event, event], 16, settings) < 60 + 5 * 16


def memory_of(written: list[bytes], max_event_mb: int, settings: str) -> float:
    with Sandbox([bundle(1, array(written))], api_key=KEY) as sandbox:
        config = sandbox.config(max_event_mb=max_event_mb, **SETTINGS[settings])
        run = run_tap(config, env=loud())
    assert run.code == 0, run.log
    assert len(run.records) == len(written)
    return memory(run)


def test_what_fails_ahead_waits_for_its_turn():
    listed = [day_of(day, 400) for day in range(4)]
    with Sandbox(listed, api_key=KEY, faults=[f"get/{listed[2].id}:401"]) as sandbox:
        config = sandbox.config(prefetch_bundles=3)
        with read_by_target(config) as target:
            target.read(50_000)
            wait_until(lambda: len(downloads(sandbox)) == 3)
            time.sleep(0.2)
            assert target.process.poll() is None
            run = target.end()
    assert run.code == 1
    assert "does not accept the API key" in run.critical
    assert counted(run.records) == records_of(*listed[:2])
    assert run.state == {"bookmarks": {"events": {"bundle_end": "2026-06-03T00:00:00Z"}}}


# --- a target that goes, an output that ends ---


@pytest.mark.parametrize("reader", ["head -n 1", "true"])
def test_a_target_that_goes(reader, tmp_path):
    with Sandbox([day_of(0, 2000)], api_key=KEY) as sandbox, (tmp_path / "out").open("wb") as out:
        target = subprocess.Popen(["sh", "-c", reader], stdin=subprocess.PIPE, stdout=out)
        with (
            target,
            (tmp_path / "log").open("w+b") as log,
            start_tap(sandbox.config(), stdout=target.stdin, stderr=log) as tap,
        ):
            target.stdin.close()
            code = tap.wait(PATIENCE)
    run = Run(code, b"", (tmp_path / "log").read_text())
    assert run.code == 1
    assert run.critical.startswith("The target closed the pipe before the sync was done.")
    assert [
        line
        for line in map(without_time, run.log.splitlines())
        if not line.startswith(("INFO ", "WARNING "))
    ] == [f"CRITICAL {run.critical}"]


@pytest.mark.parametrize("option", [[], ["--discover"]], ids=["sync", "discover"])
def test_an_output_that_is_closed(option, tmp_path):
    """The next file to be opened would get its number, and the records with it."""
    with Sandbox([day_of(0, 20)], api_key=KEY) as sandbox, (tmp_path / "log").open("wb") as log:
        popen = {"stdout": None, "stderr": log, "preexec_fn": lambda: os.close(1)}
        with start_tap(sandbox.config(), *option, **popen) as tap:
            assert tap.wait(PATIENCE) == 1
    run = Run(1, b"", (tmp_path / "log").read_text())
    assert run.critical.startswith("The output is closed")


def test_an_output_that_refuses_to_wait():
    """Whoever made the pipe may have set it so, for its own end."""
    made = day_of(0, 1000)
    with Sandbox([made], api_key=KEY) as sandbox:

        def refuse() -> None:
            flags = fcntl.fcntl(1, fcntl.F_GETFL)
            fcntl.fcntl(1, fcntl.F_SETFL, flags | os.O_NONBLOCK)

        with read_by_target(sandbox.config(), preexec_fn=refuse) as target:
            target.read(50_000)
            time.sleep(0.2)
            run = target.end()
    assert run.code == 0
    assert counted(run.records) == records_of(made)


def test_an_output_that_is_full_half_way(tmp_path):
    listed = [day_of(0, 20), bundle(1, packed(lines(events(2000))))]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    with (
        Sandbox(listed, api_key=KEY) as sandbox,
        (tmp_path / "out").open("wb") as out,
        (tmp_path / "log").open("wb") as log,
        start_tap(sandbox.config(), stdout=out, stderr=log, preexec_fn=limit) as tap,
    ):
        code = tap.wait(PATIENCE)
    run = Run(code, b"", (tmp_path / "log").read_text())
    assert run.code == 1
    assert "The output cannot be written: File too large" in run.critical


# --- the spool folder ---


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("{}/missing", "No such file or directory"),
        ("{}/file", "Not a directory"),
        ("~nobody-of-this-name/spool", "Could not determine home directory"),
        ("{}/nul\x00", "embedded null"),
    ],
)
def test_a_spool_folder_that_cannot_be_one(folder, reason, tmp_path):
    (tmp_path / "file").touch()
    with Sandbox([day_of(0, 20)], api_key=KEY) as sandbox:
        run = run_loudly(sandbox.config(spool_dir=folder.format(tmp_path)))
    assert run.code == 1
    shown = folder.format(tmp_path).replace("\0", r"\x00")
    assert f"The spool folder {shown} cannot hold a bundle: {reason}" in run.critical
    assert "name another one as spool_dir" in run.critical
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(
    ("fault", "needed"),
    [
        ("get:slow,rate=10000000,skip=1", r"\d{6} bytes"),
        ("get:chunked,after=-1,skip=1", "more than"),
    ],
)
def test_a_disk_that_is_full_in_the_middle(small_disk, fault, needed):
    listed = [day_of(0, 20), day_of(1, 500)]
    with Sandbox(listed, api_key=KEY, faults=[fault]) as sandbox:
        run = run_loudly(sandbox.config(spool_dir=str(small_disk)))
    assert run.code == 1
    words = rf"The spool folder {small_disk} cannot hold bundle {listed[1].id} \({needed}"
    assert re.match(words, run.critical)
    assert "No space left on device. Free up space there" in run.critical
    assert counted(run.records) == records_of(listed[0])
    assert run.state == {"bookmarks": {"events": {"bundle_end": "2026-06-02T00:00:00Z"}}}
    assert not list(small_disk.iterdir())


def test_a_disk_where_files_may_only_be_so_large(tmp_path):
    made = day_of(0, 500)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with Sandbox([made], api_key=KEY) as sandbox:
        config = sandbox.config(spool_dir=str(tmp_path))
        with read_by_target(config, preexec_fn=limit) as target:
            run = target.end()
    assert run.code == 1
    assert isinstance(made.body, bytes)
    size = len(made.body)
    assert f"{tmp_path} cannot hold bundle {made.id} ({size} bytes): File too large" in run.critical
    assert not list(tmp_path.iterdir())


@linux
def test_a_spool_folder_that_cannot_be_written_to(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Sandbox([day_of(0, 20)], api_key=KEY) as sandbox:
        run = run_loudly(sandbox.config(spool_dir=str(small_disk)))
    assert run.code == 1
    assert f"The spool folder {small_disk} cannot hold a bundle: Read-only file" in run.critical


@linux
def test_two_taps_share_a_folder_and_a_third_dies_there(tmp_path):
    """Nobody else can read what they keep, and nothing of it is left, or taken from each other."""
    listed = [day_of(day, 400) for day in range(3)]
    with Sandbox(listed, api_key=KEY) as sandbox:
        config = sandbox.config(spool_dir=str(tmp_path), prefetch_bundles=2)
        with (
            read_by_target(config, umask=0) as one,
            read_by_target(config, umask=0) as other,
            read_by_target(config, umask=0) as third,
        ):
            for target in (one, other, third):
                target.read(50_000)
            wait_until(lambda: len(downloads(sandbox)) == 9)
            for target in (one, other, third):
                kept = [
                    status for name, status in open_files(target) if name.startswith(str(tmp_path))
                ]
                assert kept
                assert {(status.st_mode & 0o777, status.st_nlink) for status in kept} == {
                    (0o600, 0)
                }
            assert not list(tmp_path.iterdir())
            third.process.kill()
            third.end()
            for target in (one, other):
                run = target.end()
                assert run.code == 0
                assert counted(run.records) == records_of(*listed)
    assert not list(tmp_path.iterdir())


# --- files that unpack to a thousand times their size ---


def bomb(head: bytes, filling: bytes, tail: bytes) -> bytes:
    """100 MB of `filling` between the two, in some 100 kB."""
    member = gzip.compress(filling * (10 * MB // len(filling)), mtime=0)
    return gzip.compress(head) + 10 * member + gzip.compress(tail)


@linux
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (bomb(b"[", b" ", b"]"), None),
        (bomb(b'[{"EventType":"click"}', b"\n", b"]"), None),
        (bomb(b'[{"EventTargetText":"', b"Kornblumenblau", b'"}]'), "larger than max_event_mb"),
        (bomb(b'[{"evt_x":', b"[", b"]"), "nested deeper than 500 levels"),
        (gzip.compress(bomb(b"[", b" ", b"]")), None),
    ],
    ids=["whitespace", "whitespace-behind", "text", "brackets", "twice"],
)
def test_a_bomb_costs_no_memory(body, words):
    with Sandbox([bundle(0, array([]))], api_key=KEY) as sandbox:
        usual = memory(run_loudly(sandbox.config()))
    with Sandbox([bundle(0, body)], api_key=KEY) as sandbox:
        run = run_loudly(sandbox.config(max_event_mb=1))
    assert run.code == (1 if words else 0)
    assert words is None or words in run.critical
    assert memory(run) - usual < 16
