"""BATCH messages: files that hold what RECORD messages would, and what becomes of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from batches import (
    FORMATS_OF_COLUMNS,
    as_held,
    bare,
    batch_config,
    content,
    covered,
    each_format,
    file_of,
    needs_pyarrow,
    records_in,
    sizes,
)
from catalogs import select_streams
from either_api import DATA_EXPORT, days
from faults import KEY, TEXT, array, bundle, events, lines, packed, record
from raising import raising_at
from running import Json, Run, read_messages, run_tap, start_tap
from target import read_by_target

from tap_fullstory.errors import TargetError, UsageError
from tap_fullstory.output import batch
from tap_fullstory.output.batch import BatchFolder, BatchWriter, verify_folder
from tap_fullstory.output.batch_config import BatchConfig
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.sandbox import Bundle, Sandbox
from tap_fullstory.signals import Signals

EVENTS = events(330)
KILLS = int(os.environ.get("KILLS", "4"))
NAME = r"tap-fullstory--{}-[0-9a-f]{{8}}-[0-9a-f-]{{27}}-[1-9][0-9]*\.(json|arrow|parquet)"


def bundles() -> list[Bundle]:
    """Three, of which one has whitespace between its tokens, and one no events."""
    indented = json.dumps(EVENTS[150:300], indent=1).encode()
    made = [packed(lines(EVENTS[:150])), array([]), indented, packed(lines(EVENTS[300:]))]
    return [bundle(day, body) for day, body in enumerate(made)]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(bundles(), api_key=KEY) as sandbox:
        yield sandbox


# --- what the files hold ---


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_files_have_what_record_messages_would(sandbox, batch_folder, compression):
    settings: Json = {"checkpoint_events": 40, "event_digest": True}
    as_records = run_tap(sandbox.config(**settings))
    made = batch_config(batch_folder, 40, compression)
    made["batch_config"]["storage"]["prefix"] = "a-"
    as_files = run_tap(sandbox.config(**settings, **made))
    assert as_files.code == 0
    batches = [message for message in as_files.messages if message["type"] == "BATCH"]
    assert b"".join(map(content, batches)) == bare(as_records.stdout, "events")
    assert covered(as_files.messages) == as_records.records
    assert as_files.states == as_records.states
    assert as_files.schemas == as_records.schemas
    assert max(sizes(batches)) == 40
    assert not as_files.records
    files = {file_of(message).name for message in batches}
    assert len(files) == len(batches)
    assert files == {path.name for path in batch_folder.iterdir()}
    assert all(re.fullmatch(f"a-{NAME.format('events')}(.gz)?", name) for name in files)
    assert str(batch_folder) not in as_files.log
    assert TEXT not in as_files.log


def test_exports_go_to_files_and_other_streams_do_not(batch_folder):
    catalog = select_streams("events", "individuals", "segments")
    for entry in catalog["streams"]:
        if entry["tap_stream_id"] == "events":
            entry["stream"] = "clicks/é"
    with DATA_EXPORT.sandbox(days(2, 30)) as sandbox:
        config = DATA_EXPORT.config(sandbox)
        as_records = run_tap(config, catalog=catalog)
        as_files = run_tap({**config, **batch_config(batch_folder, 1000)}, catalog=catalog)
    assert as_files.code == 0
    streams = {message["stream"] for message in as_files.messages if message["type"] == "RECORD"}
    assert streams == {"segments"}
    batches = [message for message in as_files.messages if message["type"] == "BATCH"]
    for stream, name in (("clicks/é", "events"), ("individuals", "individuals")):
        files = [message for message in batches if message["stream"] == stream]
        assert b"".join(map(content, files)) == bare(as_records.stdout, stream) != b""
        assert all(re.match(NAME.format(name), file_of(message).name) for message in files)
    assert as_files.states == as_records.states


@each_format
def test_a_run_resumes_from_any_state(sandbox, batch_folder, form):
    config = sandbox.config(**batch_config(batch_folder, 40, form=form))
    first = run_tap(config)
    within = [state for state in first.states if state["bookmarks"]["events"].get("partial")]
    for state in within[:1] + within[-1:]:
        rest = run_tap(config, state=state)
        done = first.messages.index({"type": "STATE", "value": state})
        assert covered(rest.messages) == covered(first.messages[done + 1 :])
        assert "come twice" not in rest.log


@each_format
def test_events_before_the_bookmark_make_no_file(sandbox, batch_folder, form):
    state = {"bookmarks": {"events": {"bundle_end": "2026-06-01T00:02:00Z"}}}
    run = run_tap(sandbox.config(**batch_config(batch_folder, 40, form=form)), state=state)
    assert covered(run.messages) == [as_held(record(event), form) for event in EVENTS[120:]]
    assert 0 not in sizes(run.messages)


# --- what cannot be used, and what fails ---


def test_what_cannot_be_used_ends_the_run_with_2(sandbox, batch_folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    other = batch_config(batch_folder)["batch_config"]
    other["encoding"]["format"] = "csv"
    for config, options, words in (
        (batch_config(tmp_path / "no"), [], f"root, {tmp_path / 'no'}, is not an existing folder"),
        (batch_config(tmp_path / "file"), ["--test"], "is not an existing folder"),
        ({"batch_config": json.dumps(other)}, [], "encoding.format has to be jsonl"),
    ):
        run = run_tap(sandbox.config(**config), *options)
        assert (run.code, run.stdout) == (2, b"")
        assert run.critical.startswith("Config key batch_config: ")
        assert words in run.critical
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match="may not write to"):
        verify_folder(BatchConfig(str(tmp_path), "", "gzip", 1))


@each_format
def test_a_full_disk_is_named_and_the_state_covers_what_was_announced(sandbox, small_disk, form):
    # Files of columns are smaller than lines that are not compressed.
    run = run_tap(sandbox.config(**batch_config(small_disk, 40, "none", form)))
    assert run.code == 1
    assert re.match(
        rf"The batch folder {small_disk} cannot hold {NAME.format('events')}: ", run.critical
    )
    assert "No space left on device. Free up space there" in run.critical
    announced = covered(run.messages)
    assert 40 <= len(announced) < len(EVENTS)
    assert len(list(small_disk.iterdir())) == len(sizes(run.messages))
    for path in small_disk.iterdir():
        path.unlink()
    rest = run_tap(sandbox.config(), state=run.state)
    left = [as_held(one, form) for one in rest.records]
    assert [*announced, *left] == [as_held(record(event), form) for event in EVENTS]


def reached(run: Run) -> int:
    """Return how many events the last state of a run covers."""
    if not run.states:
        return 0
    bookmark = run.state["bookmarks"]["events"]
    before = [0, 150, 150, 300, 330][int(bookmark["bundle_end"][8:10]) - 1]
    return before + (bookmark.get("partial") or {"events": 0})["events"]


P = "tap_fullstory"
PLACES = [
    (f"{P}.output.batch:_BatchFile.write", 3, "before"),
    (f"{P}.output.batch:_BatchFile.write", 3, "after"),
    (f"{P}.output.batch:_BatchFile.complete", 2, "before"),
    (f"{P}.output.batch:_BatchFile.complete", 2, "after"),
    (f"{P}.output.batch:_open_for_owner", 2, "before"),
    (f"{P}.output.batch:BatchFolder.announced", 2, "after"),
    (f"{P}.output.batch:BatchFolder.wait_for_target", 2, "after"),
    (f"{P}.output.batch:BatchWriter.state", 2, "before"),
    (f"{P}.output.batch:BatchWriter.state", 2, "after"),
    (f"{P}.output.messages:MessageWriter.batch", 2, "before"),
    (f"{P}.output.messages:MessageWriter.batch", 2, "after"),
    (f"{P}.output.messages:MessageWriter.state", 2, "before"),
    (f"{P}.output.messages:MessageWriter.flush", 2, "after"),
    (f"{P}.output.messages:_write", 2, "before"),
    (f"{P}.logs.progress:Progress.events", 2, "before"),
    (f"{P}.bookmarks:with_partial", 2, "before"),
]


PLACES_OF_COLUMNS = [
    (f"{P}.output.arrow:Columns.__init__", 2, "after"),
    (f"{P}.output.arrow:Columns.write", 3, "before"),
    (f"{P}.output.arrow:Columns.write", 3, "after"),
    (f"{P}.output.arrow:Columns.end", 2, "before"),
    (f"{P}.output.arrow:Columns.end", 2, "after"),
]
PLACES_BY_FORM = [
    *[("jsonl", *place) for place in PLACES],
    *[
        pytest.param(form, *place, marks=needs_pyarrow)
        for form in FORMATS_OF_COLUMNS
        for place in PLACES_OF_COLUMNS
    ],
]


@pytest.mark.parametrize(
    ("form", "place", "call", "when"),
    PLACES_BY_FORM,
    ids=lambda value: str(value).rpartition(":")[2],
)
def test_files_have_what_the_state_covers_wherever_a_run_ends(
    sandbox, batch_folder, tmp_path, form, place, call, when
):
    config = sandbox.config(**batch_config(batch_folder, 40, form=form))
    first = run_tap(config, env=raising_at(tmp_path, place, "MemoryError", call, when))
    assert first.code == 1, "the place was not reached"
    assert "out of memory" in first.critical
    expected = [as_held(record(event), form) for event in EVENTS[: reached(first)]]
    assert covered(first.messages) == expected
    assert len(list(batch_folder.iterdir())) == len(sizes(first.messages))


# --- signals ---


def load(stdout: bytes, rows: list[Json], state: Json | None) -> Json | None:
    """Load what was announced in whole lines; return the last state."""
    for line in stdout[: stdout.rfind(b"\n") + 1].splitlines():
        message = json.loads(line)
        if message["type"] == "BATCH":
            rows += records_in(message)
            file_of(message).unlink()
        elif message["type"] == "STATE":
            state = message["value"]
    return state


@each_format
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_tap_that_is_ended_at_any_time(batch_folder, number, form):
    """A BATCH line and its STATE are one write, so that not even SIGKILL doubles a row."""
    many = events(3000)
    listed = [bundle(day, packed(lines(many[1000 * day : 1000 * (day + 1)]))) for day in range(3)]
    rows: list[Json] = []
    state: Json | None = None
    random, deaths, is_done = Random(int(number)), 0, False
    with Sandbox(listed, api_key=KEY) as sandbox:
        # Fewer files than it would wait for.
        config = sandbox.config(**batch_config(batch_folder, 150, form=form))
        while not is_done:
            with read_by_target(config, state=state) as target:
                is_done = deaths == KILLS
                if not is_done:
                    target.read(random.randrange(1, 9000) if random.random() < 0.9 else 1)
                    target.process.send_signal(number)
                run = target.end()
            deaths += run.code != 0
            state = load(bytes(target.received), rows, state)
            # As a shell tells it: Python, as it ends, gives the signals back to the system.
            code = run.code if run.code >= 0 else 128 - run.code
            assert code in ((0,) if is_done else (0, 128 + number))
            assert number == signal.SIGKILL or not list(batch_folder.iterdir())
    assert rows == [as_held(record(event), form) for event in many]
    # SIGKILL leaves a part, or a file that it gave no time to announce.
    assert len(list(batch_folder.iterdir())) <= KILLS


SECOND_SIGNAL = """
import os, signal, sys
from tap_fullstory.output.batch import BatchFolder, BatchWriter
from tap_fullstory.output.batch_config import BatchConfig
from tap_fullstory import signals as signals_module
from tap_fullstory.output import messages
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.signals import Signals
signals_module.SAME_SIGNAL_SECONDS = 0
signals = Signals()
signals.install()
folder = BatchFolder(BatchConfig(sys.argv[1], "", "gzip", 1), MessageWriter(1), signals)
writer = BatchWriter(folder, "events", "events", {})
writer.records(b"{}\\n")
if sys.argv[2] == "announced":
    writer.state({})
    writer.records(b"{}\\n")
if sys.argv[2] == "while writing":
    write = messages._write
    def write_and_be_stopped(descriptor, pieces):
        written = write(descriptor, pieces)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return written
    messages._write = write_and_be_stopped
    print(*os.listdir(sys.argv[1]), file=sys.stderr)
    writer.state({})
print(*os.listdir(sys.argv[1]), file=sys.stderr)
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("before", ["new", "announced", "while writing"])
def test_a_second_signal_removes_what_is_not_announced(batch_folder, before):
    done = subprocess.run(
        [sys.executable, "-c", SECOND_SIGNAL, batch_folder, before],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 143
    assert done.stderr.count(b".part") == 1
    assert len(list(batch_folder.iterdir())) == done.stdout.count(b'"BATCH"') == (before != "new")


def test_parts_that_a_killed_tap_has_left_are_removed_a_day_later(sandbox, batch_folder):
    old, new, other = (
        batch_folder / f"{name}.part" for name in ("tap-fullstory--a", "tap-fullstory--b", "c")
    )
    for path, hours in ((old, 25), (new, 1), (other, 25)):
        path.touch()
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    run = run_tap(sandbox.config(**batch_config(batch_folder, 1000)))
    assert "Removed 1 incomplete files of earlier runs" in run.log
    assert {path.name for path in batch_folder.glob("*.part")} == {new.name, other.name}


# --- not too far ahead of the target ---


class Waits(Exception):
    """Raised where the tap would wait for the target."""


class Pipe:
    """A tap that writes files, and at the other end of a pipe a target that a test plays."""

    def __init__(self, batch_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.end, descriptor = os.pipe()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(MessageWriter, "wait", lambda *_: self._wait())
        self.messages = MessageWriter(descriptor)
        self._folder = BatchFolder(
            BatchConfig(str(batch_folder), "", "none", 1), self.messages, Signals()
        )
        self._writer = BatchWriter(self._folder, "events", "events", {})
        self._written = 0
        self.announced: list[Path] = []
        self.waited = 0

    def _wait(self) -> None:
        self.waited += 1
        if self.waited == 1000:
            raise Waits
        self.now += self.step

    step = 0.0

    def write(self, most: int = 1000) -> int:
        """Write files until the tap waits, at most so many; return how many."""
        for count in range(most):
            self.waited = 0
            try:
                self._writer.records(b"{}\n")
            except Waits:
                return count
            self._written += 1
            self._writer.state({"number": self._written})
        return most

    def read(self, lines: int) -> list[Path]:
        """Read so many lines; return the files that they announce."""
        found = []
        for _ in range(lines):
            line = b""
            while not line.endswith(b"\n"):
                line += os.read(self.end, 1)
            message = json.loads(line)
            found += [file_of(message)] if message["type"] == "BATCH" else []
        return found


@pytest.fixture
def pipe(batch_folder, monkeypatch) -> Pipe:
    return Pipe(batch_folder, monkeypatch)


def test_a_target_that_reads_slowly(pipe):
    """Whether it keeps the files or not: by what is still in the pipe."""
    assert pipe.write() == 5
    for path in pipe.read(2 * 2):
        path.unlink()
    assert pipe.write() == 2
    pipe.read(2 * 3)
    assert pipe.write() == 3


def test_a_reader_that_takes_all_and_passes_it_on(pipe):
    """As `meltano run` does, and tee: by the files that are still there."""
    files: list[Path] = []
    while pipe.write(1):
        files += pipe.read(2)
    assert len(files) == batch.MAX_UNREAD_FILES
    files[0].unlink()
    assert pipe.write() == 1
    files += pipe.read(2)
    files[9].unlink()  # it has kept those before, or somebody has removed one
    for _ in range(9):
        assert pipe.write(1) == 1
        files += pipe.read(2)
    assert pipe.write() == 0


def test_a_target_that_keeps_the_files_is_waited_for_once(pipe, caplog):
    pipe.step = 0.5
    for _ in range(100):
        assert pipe.write(1) == 1
        pipe.read(2)
    assert pipe.now == 1000 + batch.INITIAL_PATIENCE_SECONDS
    (warning,) = caplog.messages
    assert warning.startswith("The target has removed none of the last 30 files in ")


def test_a_target_that_takes_long_over_a_file(pipe):
    """It has removed one, so it will remove the next."""
    files: list[Path] = []
    for _ in range(batch.MAX_UNREAD_FILES):
        pipe.write(1)
        files += pipe.read(2)
    files[0].unlink()
    pipe.write(1)
    pipe.read(2)
    pipe.step = batch.PATIENCE_SECONDS / 2000
    assert pipe.write() == 0
    pipe.step = batch.PATIENCE_SECONDS / 900
    assert pipe.write(1) == 1


def test_a_file_as_output_has_no_bound(batch_folder, tmp_path):
    listed = bundle(0, packed(lines(events(40))))
    with Sandbox([listed], api_key=KEY) as sandbox, (tmp_path / "out").open("w+b") as out:
        config = sandbox.config(**batch_config(batch_folder, 1))
        with start_tap(config, stdout=out) as tap:
            log = tap.stderr.read().decode()
            assert tap.wait(60) == 0, log
        out.seek(0)
        assert len(covered(read_messages(out.read()))) == 40
    assert not any(text.startswith("The target") for text in Run(0, b"", log).logged("WARNING"))


def test_a_reader_that_goes_away_ends_the_wait():
    end, descriptor = os.pipe()
    messages = MessageWriter(descriptor)
    messages.wait(0)
    os.close(end)
    with pytest.raises(TargetError, match="closed the pipe"):
        messages.wait(60)
