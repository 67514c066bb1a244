"""BATCH: records in files that the target loads, instead of RECORD messages.

A file holds lines of JSON, or columns (see arrow.py), and is a checkpoint. It is written under a
name that ends with `.part`, renamed when it is complete, and announced by a BATCH message; the
STATE that covers it follows in the same write. The target removes what it has loaded. The tap
removes what it has not announced, and nothing else.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from uuid import uuid4

from isal import isal_zlib

from tap_fullstory.errors import LocalResourceError, UsageError
from tap_fullstory.output.batch_config import BatchConfig
from tap_fullstory.output.messages import MessageWriter, RecordEnvelope
from tap_fullstory.signals import Signals

if TYPE_CHECKING:
    from tap_fullstory.output.arrow import Columns

LOGGER = logging.getLogger(__name__)

# Files that the target has not loaded, and of these the ones whose lines are still in the pipe. A
# program reads some lines ahead: Python's buffer of 8 kB holds some twenty of BATCH and STATE.
MAX_UNREAD_FILES = 30
MAX_FILES_IN_PIPE = 5
POLL_SECONDS = 0.02
# How long to wait for the target to remove a file. Many targets remove none, and until one has gone
# the tap cannot tell.
INITIAL_PATIENCE_SECONDS = 10
PATIENCE_SECONDS = 600  # once one has gone
MAX_PART_AGE_SECONDS = 24 * 3600  # a part that nobody has written to for so long is abandoned

_TAP = "tap-fullstory--"
_SUFFIXES = {"jsonl": ".json", "parquet": ".parquet", "arrow": ".arrow"}
_PART = ".part"
_GZIP_LEVEL = 2  # isal's, of 0 to 3: as fast as 0 with lines of events, 3 takes five times as long
_GZIP_WBITS = 31  # a gzip header, and the largest window
BARE_RECORD = RecordEnvelope(b"", b"\n")


class RecordWriter(Protocol):
    """Takes the records of one stream, and the states that cover them: a MessageWriter, or a
    BatchWriter.
    """

    @property
    def last_state(self) -> dict[str, Any] | None:
        """What the last STATE message carried; None before the first."""

    def begin(self, start: datetime) -> None:
        """Note when the period of the records to come begins."""

    def records(self, lines: bytes) -> None:
        """Add records that are lines already."""

    def flush_if_full(self) -> None:
        """Write what is pending if it is enough for one write; to be called once the caller knows
        that the records are accounted for.
        """

    def state(self, value: dict[str, Any]) -> None:
        """Write all records that were added, and a STATE message after them."""


class Lines:
    """Writes lines to a file as they are."""

    def __init__(self, file: BinaryIO, is_gzipped: bool) -> None:
        self._file = file
        self._compressor: Any = None
        if is_gzipped:
            self._compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS)

    def write(self, lines: bytes) -> None:
        """Add lines."""
        self._file.write(self._compressor.compress(lines) if self._compressor else lines)

    def end(self) -> None:
        """Write the rest."""
        if self._compressor:
            self._file.write(self._compressor.flush())


class BatchFolder:
    """The folder that all files of a run go to, and those that the target has yet to load.

    Raises UsageError if it is not a folder that the tap may write to.
    """

    def __init__(self, config: BatchConfig, messages: MessageWriter, signals: Signals) -> None:
        verify_folder(config)
        self.config = config
        self.messages = messages
        self.signals = signals
        self._unread: deque[tuple[Path, int]] = deque(maxlen=MAX_UNREAD_FILES)
        self._is_bounded = messages.has_reader()
        self._patience = float(INITIAL_PATIENCE_SECONDS)
        self._waits_since = 0.0
        _remove_abandoned(config.root)

    def announced(self, path: Path, end: int) -> None:
        """Note a file whose BATCH line ends after so many bytes of the output."""
        if len(self._unread) < MAX_UNREAD_FILES:
            self._waits_since = time.monotonic()
        self._unread.append((path, end))

    def wait_for_target(self) -> None:
        """Wait while the target has too many files to load.

        By the files themselves, since the target's pipe need not be ours: `meltano run` reads all
        that comes, and so does tee. And by what is in our pipe, since a target may keep the files.
        Raises Interrupted after a signal, TargetError if the reader goes away.
        """
        self.messages.flush()
        stay = self.config.by_day  # files that are kept tell nothing of what has been loaded
        while self._is_bounded and (self._fills_pipe() or (not stay and self._fills_folder())):
            self.signals.raise_if_arrived()
            self.messages.wait(POLL_SECONDS)

    def _fills_pipe(self) -> bool:
        read = self.messages.read_bytes()
        return sum(end > read for _, end in self._unread) >= MAX_FILES_IN_PIPE

    def _fills_folder(self) -> bool:
        gone = [not path.exists() for path, _ in self._unread]
        if True in gone:
            # Files are loaded in their order.
            while True in gone:
                gone.pop(0)
                self._unread.popleft()
            self._waits_since, self._patience = time.monotonic(), float(PATIENCE_SECONDS)
        if len(self._unread) < MAX_UNREAD_FILES or self._patience == 0:
            return False
        if time.monotonic() - self._waits_since < self._patience:
            return True
        LOGGER.warning(
            "The target has removed none of the last %d files in %s for %.0f s, so the tap no "
            "longer waits for it. Check that it removes the files it has loaded: they contain "
            "personal data.", MAX_UNREAD_FILES, self.config.root, self._patience,
            extra={"code": "batch_files_not_removed"},
        )  # fmt: skip
        self._patience = 0.0
        return False


class BatchWriter:
    """Writes the records of one stream to files, and announces each with the STATE that covers it.

    `stream_id` is what the files are called after, `stream` the name in messages, `properties` are
    those of its SCHEMA. After a failure no file and no STATE is written any more.
    """

    def __init__(
        self, folder: BatchFolder, stream_id: str, stream: str, properties: Mapping[str, Any]
    ) -> None:
        self._properties = properties
        self._day: str | None = None
        self._folder = folder
        self._messages = folder.messages
        self._stream = stream
        self._stem = f"{stream_id}-{uuid4()}"
        self._files = 0
        self._file: _BatchFile | None = None  # complete or not, until it is announced
        self._end: int | None = None  # where its BATCH line ends in the output
        self._failure: BaseException | None = None
        folder.signals.before_exit = self.close

    @property
    def last_state(self) -> dict[str, Any] | None:
        """What the last STATE message carried; None before the first."""
        return self._messages.last_state

    def begin(self, start: datetime) -> None:
        """Note when the period of the records to come begins; no file is open then."""
        self._day = f"{start:%Y-%m-%d}"

    def records(self, lines: bytes) -> None:
        """Add records that are lines already, in the envelope BARE_RECORD.

        Raises Interrupted or TargetError while it waits for the target, and LocalResourceError if
        the folder cannot hold them.
        """
        if not lines:
            return
        if self._file is None:
            self._folder.wait_for_target()
            self._files += 1
            name = f"{self._stem}-{self._files}"
            self._file = _BatchFile(self._folder.config, name, self._day)
            with self._noting_failure():
                self._file.open(self._properties)
        with self._noting_failure():
            self._file.write(lines)

    def flush_if_full(self) -> None:
        """Do nothing: a file is complete at a STATE."""

    def state(self, value: dict[str, Any]) -> None:
        """Complete the file and announce it, with a STATE message after it.

        Raises LocalResourceError if that fails. If a call has failed before, its error again: the
        current file is then lost, and the state must not cover it.
        """
        if self._failure is not None:
            raise self._failure
        with self._noting_failure():
            if self._file is not None:
                self._file.complete()
                manifest = [f"file://{self._file.path}"]
                encoding = self._folder.config.encoding
                self._end = self._messages.batch(self._stream, encoding, manifest)
                self._folder.announced(self._file.path, self._end)
            self._messages.state(value)
        self._file = self._end = None

    def close(self) -> None:
        """Remove the current file, unless it may have been announced. Never raises an OSError."""
        announced = self._end is not None and self._messages.may_have_written(self._end)
        if self._file is not None and not announced:
            self._file.remove()

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._failure = error
            raise


class _BatchFile:
    """One file, readable by its owner alone. Raises LocalResourceError if it cannot be written."""

    _content: Lines | Columns

    def __init__(self, config: BatchConfig, stem: str, day: str | None) -> None:
        self._config = config
        folder = Path(config.root)
        if config.by_day and day is not None:
            folder /= f"day={day}"
        name = f"{config.prefix}{_TAP}{stem}{_SUFFIXES[config.format]}"
        self._is_gzipped = config.format == "jsonl" and config.compression == "gzip"
        self.path = folder / (f"{name}.gz" if self._is_gzipped else name)
        self._part = Path(f"{self.path}{_PART}")

    def open(self, properties: Mapping[str, Any]) -> None:
        """Make the file. Whatever interrupts this, `remove` removes it."""
        with self._explained():
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = open(self._part, "xb", opener=_open_for_owner)  # noqa: SIM115
            if self._config.has_columns:
                from tap_fullstory.output.arrow import Columns

                self._content = Columns(self._file, self._config, properties)
            else:
                self._content = Lines(self._file, self._is_gzipped)

    def write(self, lines: bytes) -> None:
        """Add lines."""
        with self._explained():
            self._content.write(lines)

    def complete(self) -> None:
        """Write the rest, and give the file its name."""
        with self._explained():
            self._content.end()
            self._file.close()
            self._part.rename(self.path)

    def remove(self) -> None:
        """Remove it, under whichever name it has."""
        for path in (self._part, self.path):
            with suppress(OSError):
                path.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LocalResourceError(
                f"The batch folder {self.path.parent} cannot hold {self.path.name}: "
                f"{error.strerror}. Free up space there, or name another folder as storage.root in "
                "batch_config; then run again with the last state."
            ) from error


def verify_folder(config: BatchConfig) -> None:
    """Raise UsageError if the files' folder does not exist, or the tap may not write to it.

    The default one is made, and has to be the owner's alone: anybody can make folders where it is.
    """
    if config.makes_root:
        with suppress(FileExistsError):
            Path(config.root).mkdir(mode=0o700)
    advice = "Make it one that both the tap and the target may write to, or name another one."
    if not Path(config.root).is_dir():
        reason = "is not an existing folder"
    elif not os.access(config.root, os.W_OK | os.X_OK):
        reason = "is a folder that the tap may not write to"
    elif config.makes_root and not _is_private(config.root):
        reason = "is a folder that others may change"
        advice = "Remove it, or name another one."
    else:
        return
    raise UsageError(f"Config key batch_config: storage.root, {config.root}, {reason}. {advice}")


def _is_private(folder: str) -> bool:
    found = Path(folder).lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return False
    return not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # events are personal data


def _remove_abandoned(root: str) -> None:
    """Remove the parts that taps have left which could not end by themselves (SIGKILL)."""
    oldest = time.time() - MAX_PART_AGE_SECONDS
    removed = 0
    for path in Path(root).glob(f"*{_TAP}*{_PART}"):
        with suppress(OSError):
            if path.lstat().st_mtime < oldest:
                path.unlink()
                removed += 1
    if removed:
        LOGGER.info("Removed %d incomplete files of earlier runs from %s", removed, root)
