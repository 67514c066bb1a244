"""Bundles on disk: each downloaded, and verified to be complete before anything reads it.

A bundle is verified while it is downloaded, so that its first record has to wait for nothing else.

A spooled bundle has no name in its folder: the file is opened for its owner alone and unlinked at
once, so that the system frees it with the process, however that ends. There is nothing to clean up
after a crash, and nothing that two taps sharing a folder could take from each other.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from tap_fullstory.errors import BundleError, LocalResourceError
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.exports.unpack import NotBundle, TruncatedFile, Verifier, unpack
from tap_fullstory.fullstory.download import Sink, SinkError
from tap_fullstory.fullstory.responses import UnexpectedBody
from tap_fullstory.fullstory.retry import TransientError
from tap_fullstory.signals import THREAD_NAME_PREFIX

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpooledBundle:
    """A bundle's file in `folder`. `fetched_at` is when its download ended, in UTC."""

    bundle: Bundle
    file: BinaryIO
    folder: str
    fetched_at: datetime

    def chunks(self) -> Iterator[bytes]:
        """Yield the unpacked bytes from the start. Raises TruncatedFile as unpack, and
        LocalResourceError if the disk fails.
        """
        try:
            yield from unpack(self.file)
        except OSError as error:
            raise LocalResourceError(
                f"Bundle {self.bundle.id} ({self.bundle.period}) cannot be read back from the "
                f"spool folder {self.folder}: {error.strerror}. Check that disk, or name another "
                "folder as spool_dir in the config; then run again with the last state."
            ) from error

    def close(self) -> None:
        """Free the disk space."""
        self.file.close()


def fetch(
    bundle: Bundle, download: Callable[[Bundle, BinaryIO], None], folder: str
) -> SpooledBundle:
    """Download a bundle into `folder` and verify that it is complete; once more if it is not.

    Raises BundleError if that fails twice, LocalResourceError if the folder cannot hold it, and
    whatever `download` raises.
    """
    try:
        return _fetch_once(bundle, download, folder)
    except TruncatedFile as reason:
        LOGGER.warning(
            "Bundle %s (%s) %s at unpacked byte %d; downloading it once more",
            bundle.id, bundle.period, reason, reason.offset,
            extra={"code": "bundle_downloaded_again"},
        )  # fmt: skip
    try:
        return _fetch_once(bundle, download, folder)
    except TruncatedFile as reason:
        raise BundleError(str(reason), bundle.id, bundle.period, reason.offset) from None


# A bundle with its file, or with None where it is left out.
Fetched = tuple[Bundle, SpooledBundle | None]


def prefetch(
    bundles: Iterable[Bundle],
    fetch_one: Callable[[Bundle], Fetched],
    count: int,
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Fetched]:
    """Yield the bundles in order, up to `count` of them fetched by a thread before they are
    needed.

    At most `count` bundles are on disk besides the one last yielded; 0 fetches none in advance. The
    reader waits for the thread within `interruptible`, and does nothing else there. What the thread
    raises is re-raised when that bundle is requested.
    """
    fetched: queue.SimpleQueue[Fetched | BaseException | None] = queue.SimpleQueue()
    free = threading.Semaphore(count)
    wanted = threading.Event()
    wanted.set()

    def discard() -> None:
        with suppress(queue.Empty):
            while True:
                item = fetched.get_nowait()
                if isinstance(item, tuple) and item[1] is not None:
                    item[1].close()

    def work() -> None:
        try:
            for bundle in bundles:
                free.acquire()
                if not wanted.is_set():
                    return
                fetched.put(fetch_one(bundle))
                if not wanted.is_set():  # the reader may have emptied the queue before
                    discard()
                    return
            fetched.put(None)
        except BaseException as error:  # noqa: BLE001 - re-raised by the reader
            fetched.put(error)

    # A thread even for 0: a signal can interrupt a queue wait but not getaddrinfo(). A daemon,
    # since at the end it may be inside a download that is no longer wanted.
    name = f"{THREAD_NAME_PREFIX}prefetch"
    thread = threading.Thread(target=copy_context().run, args=(work,), name=name, daemon=True)
    thread.start()
    try:
        while True:
            # The previous bundle has been read, which makes room for one more.
            free.release()
            with interruptible():
                item = fetched.get()
            if isinstance(item, tuple):
                yield item
                continue
            if item is not None:
                raise item
            return
    finally:
        wanted.clear()
        free.release()
        discard()


def _fetch_once(
    bundle: Bundle, download: Callable[[Bundle, BinaryIO], None], folder: str
) -> SpooledBundle:
    file = _open(folder, f"Bundle {bundle.id} ({bundle.period})")
    try:
        try:
            download(bundle, file)
        except SinkError as error:
            size = f"{error.needed} bytes" if error.needed else f"more than {error.taken} bytes"
            raise _disk_error(error.cause, folder, f"bundle {bundle.id} ({size})") from error
        file.verify()
        if file.is_null:
            file.seek(0)
            file.truncate()
            file.write(b"[]")
        return SpooledBundle(bundle, file, folder, datetime.now(timezone.utc))
    except BaseException:
        file.close()
        raise


class _VerifiedFile(Sink, io.FileIO):
    """The file of a bundle's download, which is unpacked and verified as it is written."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, "r+")
        self._name = name
        self._begin()

    @property
    def is_null(self) -> bool:
        """Whether the file's JSON is null: a list of no events."""
        return self._verifier.is_null

    def _begin(self) -> None:
        self._verifier = Verifier()
        self._damage: TruncatedFile | None = None
        self._verified = False

    def write(self, piece: Any) -> int:
        written = super().write(piece)
        if self._damage is None:
            try:
                self._verifier.feed(bytes(piece[:written]))
            except TruncatedFile as damage:
                # If the rest breaks off, the download may start over with another file.
                self._damage = damage
        return written

    def truncate(self, size: int | None = None) -> int:
        """Start over, as a download does that cannot be resumed."""
        self._begin()
        return super().truncate(size)

    def accept(self) -> None:
        """Raise TransientError if something else came in place of the bundle, such as the page of a
        proxy: another try may bring the bundle, and to skip it would lose it.
        """
        try:
            self.verify()
        except NotBundle as what:
            failure = UnexpectedBody(
                f"{self._name} {what}, however often it is "
                "requested. The bookmark stays before it, so the next run tries it again. Check "
                "the URLs in the config and anything between here and FullStory, such as a proxy; "
                "if these are right, ask FullStory support about it."
            )
            raise TransientError(f"the body {what}", failure=failure) from None
        except TruncatedFile:
            pass  # to be downloaded once more: see `fetch`

    def verify(self) -> None:
        """Raise TruncatedFile if what has been written is not complete."""
        if self._damage is None and not self._verified:
            self._verified = True
            try:
                self._verifier.end()
            except TruncatedFile as damage:
                self._damage = damage
        if self._damage is not None:
            raise self._damage


def verify_folder(folder: str) -> None:
    """Raise LocalResourceError if no file can be written in `folder`."""
    file = _open(folder)
    try:
        file.write(b"\0")
    except OSError as error:
        raise _disk_error(error, folder, "a bundle") from error
    finally:
        file.close()


def _open(folder: str, name: str = "") -> _VerifiedFile:
    try:
        # 0600 and unlinked: bundles hold personal data.
        with tempfile.TemporaryFile(
            buffering=0, dir=Path(folder).expanduser(), prefix="tap-fullstory-"
        ) as file:
            return _VerifiedFile(os.dup(file.fileno()), name)
    # A folder of a user that does not exist is a RuntimeError, one with a NUL a ValueError.
    except (OSError, RuntimeError, ValueError) as error:
        raise _disk_error(error, folder, "a bundle") from error


def _disk_error(error: Exception, folder: str, needed: str) -> LocalResourceError:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "Free up space there" if full else "Make it a folder that the tap may write to"
    reason = getattr(error, "strerror", None) or error
    return LocalResourceError(
        f"The spool folder {folder} cannot hold {needed}: {reason}. {advice}, or name another one "
        "as spool_dir in the config; then run again with the last state."
    )
