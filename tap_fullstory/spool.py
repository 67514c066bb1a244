"""A bundle on disk: downloaded whole, and proven complete before anybody reads it.

A spooled bundle has no name in its folder: the file is opened for its owner alone and unlinked at
once, so that the system frees it with the process, however that ends. There is nothing to clean up
after a crash, and nothing that two taps sharing a folder could take from each other.
"""

from __future__ import annotations

import errno
import logging
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from isal import igzip_lib

from tap_fullstory.client import Bundle
from tap_fullstory.errors import BundleError, MachineError
from tap_fullstory.http import SinkError
from tap_fullstory.interrupts import THREADS

LOGGER = logging.getLogger(__name__)

# Large enough that what Python does for each block does not count, and small beside the tap itself.
BLOCK_BYTES = 192 * 1024
GZIP_MAGIC = b"\x1f\x8b"
JSON_BLANKS = b" \t\n\r"


class Incomplete(Exception):
    """A file that is not whole: its text says why, `offset` where in the unpacked bytes."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.offset = offset


@dataclass(frozen=True)
class SpooledBundle:
    """A bundle's file, proven complete. `fetched_at` is when its download ended, in UTC."""

    bundle: Bundle
    file: BinaryIO
    fetched_at: datetime

    def blocks(self) -> Iterator[bytes]:
        """The unpacked bytes from the start."""
        return unpack(self.file)

    def close(self) -> None:
        """Give back the disk space."""
        self.file.close()


def fetch(
    bundle: Bundle, download: Callable[[Bundle, BinaryIO], None], folder: str
) -> SpooledBundle:
    """Download a bundle into `folder` and prove it complete; once more if the proof fails.

    Raises BundleError if it fails twice, MachineError if the folder cannot take it, and whatever
    `download` raises.
    """
    try:
        return _fetch_once(bundle, download, folder)
    except Incomplete as reason:
        LOGGER.warning(
            "Bundle %s (%s) %s at unpacked byte %d; fetching it once more",
            bundle.id, bundle.period, reason, reason.offset,
        )  # fmt: skip
    try:
        return _fetch_once(bundle, download, folder)
    except Incomplete as reason:
        raise BundleError(str(reason), bundle.id, bundle.period, reason.offset) from None


# A bundle with its file, or with None where it is left out.
Fetched = tuple[Bundle, SpooledBundle | None]


def fetch_ahead(
    bundles: Iterable[Bundle],
    fetch_one: Callable[[Bundle], Fetched],
    ahead: int,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Fetched]:
    """The bundles in order, up to `ahead` of them fetched by a thread before they are asked for.

    At most `ahead` bundles lie on disk besides the one last yielded, and none is fetched ahead if
    that is 0. The reader waits for the thread within `waiting`, and does nothing else there. What
    goes wrong in the thread is raised at the turn of the bundle it went wrong with.
    """
    fetched: queue.SimpleQueue[Fetched | BaseException | None] = queue.SimpleQueue()
    free = threading.Semaphore(ahead)
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
                if not wanted.is_set():  # the queue may have been looked through before
                    discard()
                    return
            fetched.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the reader
            fetched.put(error)

    # A thread even for 0: a signal breaks off waiting for a queue, but not the system's look-up of
    # a host's name. A daemon, since it may sit in a download that nobody waits for at the end.
    thread = threading.Thread(target=work, name=f"{THREADS}fetch-ahead", daemon=True)
    thread.start()
    try:
        while True:
            # The one before has been read, and makes room for one more.
            free.release()
            with waiting():
                item = fetched.get()
            if isinstance(item, tuple):
                yield item
                continue
            thread.join()
            if item is not None:
                raise item
            return
    finally:
        wanted.clear()
        free.release()
        discard()


def unpack(file: BinaryIO) -> Iterator[bytes]:
    """The unpacked bytes of a file, from its start, in blocks of at most 192 kB.

    Whether it is gzipped is told by its first two bytes, never by headers: FullStory sends bundles
    gzipped by Content-Type, by Content-Encoding, or plain (github.com/fullstorydev/hauser, pull
    request 81), and proxies unpack on the way. All gzip members are read, and gzip inside gzip.

    Raises Incomplete if a member is cut or damaged.
    """
    file.seek(0)
    blocks: Iterator[bytes] = iter(lambda: file.read(BLOCK_BYTES), b"")
    while True:
        head = b""
        for block in blocks:
            head += block
            if len(head) >= len(GZIP_MAGIC):
                break
        blocks = _chain(head, blocks)
        if not head.startswith(GZIP_MAGIC):
            return blocks
        blocks = _gunzip(blocks)


def prove_complete(blocks: Iterable[bytes]) -> None:
    """Read unpacked bytes to their end, and see that they open and close one JSON array.

    Raises Incomplete if they do not, or `blocks` does.
    """
    first = last = b""
    size = 0
    for block in blocks:
        size += len(block)
        inked = block if block[-1:] not in JSON_BLANKS else block.rstrip(JSON_BLANKS)
        if not inked:
            continue
        first = first or inked.lstrip(JSON_BLANKS)[:1]
        last = inked[-1:]
    if first != b"[":
        raise Incomplete("is no JSON array" if size else "is empty", 0)
    if last != b"]":
        raise Incomplete("ends before its closing bracket, or goes on after it,", size)


def _fetch_once(
    bundle: Bundle, download: Callable[[Bundle, BinaryIO], None], folder: str
) -> SpooledBundle:
    file = _open(folder)
    try:
        try:
            download(bundle, file)
        except SinkError as error:
            size = f"{error.needed} bytes" if error.needed else f"more than {error.taken} bytes"
            raise _disk_error(error.cause, folder, f"bundle {bundle.id} ({size})") from error
        fetched_at = datetime.now(timezone.utc)
        try:
            prove_complete(unpack(file))
        except RecursionError:
            raise Incomplete("is gzip inside gzip without end,", 0) from None
        return SpooledBundle(bundle, file, fetched_at)
    except BaseException:
        file.close()
        raise


def _open(folder: str) -> BinaryIO:
    try:
        # 0600 and unlinked: bundles hold personal data.
        return tempfile.TemporaryFile(
            buffering=0, dir=Path(folder).expanduser(), prefix="tap-fullstory-"
        )
    # A folder of a user that does not exist is a RuntimeError, one with a NUL a ValueError.
    except (OSError, RuntimeError, ValueError) as error:
        raise _disk_error(error, folder, "a bundle") from error


def _disk_error(error: Exception, folder: str, needed: str) -> MachineError:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    mend = "Make room there" if full else "Make it a folder that the tap may write to"
    reason = getattr(error, "strerror", None) or error
    return MachineError(
        f"The spool folder {folder} cannot hold {needed}: {reason}. {mend}, or name another one as "
        "spool_dir in the config; then run again with the last state."
    )


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _gunzip(packed: Iterator[bytes]) -> Iterator[bytes]:
    unpacked = 0
    rest = b""
    while True:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        fed = rest or next(packed, b"")
        try:
            while not member.eof:
                block = member.decompress(fed, BLOCK_BYTES)
                fed = b""
                if block:
                    unpacked += len(block)
                    yield block
                elif member.needs_input:
                    fed = next(packed, b"")
                    if not fed:
                        raise Incomplete("is cut inside a gzip member", unpacked)
        except igzip_lib.IsalError as error:  # type: ignore[misc]
            raise Incomplete(f"has a damaged gzip member ({error})", unpacked) from None
        # Zeros after a member are padding, as gzip(1) takes them.
        rest = member.unused_data.lstrip(b"\0")
        while not rest:
            more = next(packed, b"")
            if not more:
                return
            rest = more.lstrip(b"\0")
        if len(rest) == 1:
            rest += next(packed, b"")
        if not rest.startswith(GZIP_MAGIC):
            raise Incomplete("goes on with no gzip member after its last one", unpacked)
