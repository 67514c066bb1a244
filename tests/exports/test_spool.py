"""Bundles fetched to disk: whole or not at all, in order, and no more of them than requested."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import pytest
from strategies import gzipped

from tap_fullstory.errors import BundleError, LocalResourceError
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.exports.spool import (
    Fetched,
    SpooledBundle,
    fetch,
    prefetch,
)
from tap_fullstory.fullstory.download import SinkError
from tap_fullstory.signals import THREAD_NAME_PREFIX

SMALL = b'[{"PageId":1},{}]\n'


# --- fetching ---

MIDNIGHT = datetime(2026, 6, 1, tzinfo=timezone.utc)


def bundle(number: int) -> Bundle:
    start = MIDNIGHT + timedelta(days=number)
    return Bundle(f"b{number}", start, start + timedelta(days=1))


def serving(*bodies: bytes) -> tuple[Callable[[Bundle, BinaryIO], None], list[BinaryIO]]:
    """A download that answers with each body in turn, and the files it was given."""
    files: list[BinaryIO] = []

    def download(asked: Bundle, file: BinaryIO) -> None:
        assert asked == bundle(0)
        file.write(bodies[len(files)])
        files.append(file)

    return download, files


def test_a_fetched_bundle_is_whole_private_and_without_a_name(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc)
    download, _ = serving(gzipped(SMALL, parts=2))
    fetched = fetch(bundle(0), download, str(tmp_path))
    assert before <= fetched.fetched_at <= datetime.now(timezone.utc)
    assert fetched.fetched_at.tzinfo is timezone.utc
    assert b"".join(fetched.chunks()) == SMALL
    assert b"".join(fetched.chunks()) == SMALL
    status = os.fstat(fetched.file.fileno())
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_nlink == 0
    assert list(tmp_path.iterdir()) == []
    fetched.close()
    assert fetched.file.closed


def test_a_truncated_bundle_is_fetched_once_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    download, files = serving(gzipped(SMALL)[:-1], gzipped(SMALL))
    with caplog.at_level(logging.WARNING):
        fetched = fetch(bundle(0), download, str(tmp_path))
    assert b"".join(fetched.chunks()) == SMALL
    fetched.close()
    assert files[0].closed
    (warning,) = caplog.messages
    assert "b0" in warning
    assert bundle(0).period in warning
    assert f"byte {len(SMALL)}" in warning
    assert "once more" in warning


def test_a_bundle_that_is_twice_not_whole_is_named(tmp_path: Path) -> None:
    download, files = serving(gzipped(SMALL)[:-1], b'[{"a":"alice@example.com"}', SMALL)
    with pytest.raises(BundleError) as failure:
        fetch(bundle(0), download, str(tmp_path))
    message = str(failure.value)
    assert "Bundle b0" in message
    assert bundle(0).period in message
    assert "byte 26" in message
    assert '"skip_bundles": ["b0"]' in message
    assert "alice" not in message
    assert failure.value.__cause__ is None
    assert [file.closed for file in files] == [True, True]


def test_a_bundle_is_verified_while_it_is_downloaded(tmp_path: Path) -> None:
    def download(_: Bundle, file: BinaryIO) -> None:
        for byte in gzipped(SMALL):
            assert file.write(memoryview(bytes([byte]))) == 1
        os.pwrite(file.fileno(), b"{", 0)

    # What the disk does with it shows when it is read.
    with closing(fetch(bundle(0), download, str(tmp_path))) as fetched:
        assert b"".join(fetched.chunks()).startswith(b"{")


def test_a_download_that_starts_over_is_verified_from_its_start(tmp_path: Path) -> None:
    def download(_: Bundle, file: BinaryIO) -> None:
        for begun in (b"<html>", gzipped(b"[{}]"), b"\x1f\x8bdamaged", gzipped(SMALL)[:20]):
            file.write(begun)
            file.seek(0)
            file.truncate()
        file.write(gzipped(SMALL))

    with closing(fetch(bundle(0), download, str(tmp_path))) as fetched:
        assert b"".join(fetched.chunks()) == SMALL


def test_what_is_damaged_early_is_downloaded_to_its_end(tmp_path: Path) -> None:
    """If the rest breaks off, the download may start over with another file."""
    damaged = gzipped(SMALL[:9]) + b"\x1f\x8b\0damaged" + gzipped(SMALL)
    sizes = []

    def download(_: Bundle, file: BinaryIO) -> None:
        file.writelines(damaged[start : start + 7] for start in range(0, len(damaged), 7))
        sizes.append(os.fstat(file.fileno()).st_size)

    with pytest.raises(BundleError, match=r"damaged gzip member .* byte 9\."):
        fetch(bundle(0), download, str(tmp_path))
    assert sizes == [len(damaged)] * 2


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
def test_a_download_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    files = []

    def download(_: Bundle, file: BinaryIO) -> None:
        files.append(file)
        raise error

    with pytest.raises(type(error)):
        fetch(bundle(0), download, str(tmp_path))
    assert [file.closed for file in files] == [True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("length", "words"), [(12_345, "12345 bytes"), (None, "more than 100 bytes")]
)
def test_a_full_disk_is_named_with_its_folder(
    tmp_path: Path, length: int | None, words: str
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def download(_: Bundle, file: BinaryIO) -> None:
        raise SinkError(full, 100, length)

    with pytest.raises(LocalResourceError) as failure:
        fetch(bundle(0), download, str(tmp_path))
    message = str(failure.value)
    assert str(tmp_path) in message
    assert words in message
    assert "No space left on device" in message
    assert "spool_dir" in message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(LocalResourceError, match=str(folder)) as failure:
            fetch(bundle(0), serving(SMALL)[0], str(folder))
        assert "spool_dir" in str(failure.value)


# --- ahead of their turn ---

PATIENCE = 30  # seconds until a test that waits for a thread has failed


class Folder:
    """Fakes the fetching: counts what is fetched and what is on disk, and can be made to wait."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fetched: list[str] = []
        self.files: list[io.BytesIO] = []
        self.threads: set[int] = set()
        self.fail_at = fail_at
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()

    def fetch_one(self, wanted: Bundle) -> Fetched:
        self.threads.add(threading.get_ident())
        self.fetched.append(wanted.id)
        self.began.release()
        assert self.go_on.wait(PATIENCE)
        if self.fail_at is not None and wanted.id == bundle(self.fail_at).id:
            raise LocalResourceError(f"at {wanted.id}")
        file = io.BytesIO()
        self.files.append(file)
        return wanted, SpooledBundle(wanted, file, "/tmp", MIDNIGHT)

    @property
    def open_files(self) -> int:
        return sum(not file.closed for file in self.files)


def listing(count: int) -> Iterator[Bundle]:
    return map(bundle, range(count))


PREFETCH = f"{THREAD_NAME_PREFIX}prefetch"


def fetching_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == PREFETCH]


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Whatever was started within has ended at the end."""
    assert fetching_threads() == []
    yield
    for thread in fetching_threads():
        thread.join(PATIENCE)
    assert fetching_threads() == []


@pytest.mark.parametrize("ahead", [0, 1, 2, 10])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_bundles_come_in_order(count: int, ahead: int) -> None:
    folder = Folder()
    with no_thread_left():
        items = list(prefetch(listing(count), folder.fetch_one, ahead))
    assert [item[0] for item in items] == list(listing(count))
    assert [item[1].bundle for item in items if item[1]] == list(listing(count))
    assert folder.open_files == count  # they are the reader's to close


@pytest.mark.parametrize("ahead", [0, 1, 2, 3])
def test_at_most_as_many_bundles_are_prefetched_as_configured(ahead: int) -> None:
    folder = Folder()
    with no_thread_left():
        bundles_ahead = prefetch(listing(8), folder.fetch_one, ahead)
        assert folder.fetched == []
        for turn in range(8):
            _, spooled = next(bundles_ahead)
            expected = min(8, turn + 1 + ahead)
            while len(folder.fetched) < expected:  # as many are fetched
                assert folder.began.acquire(timeout=PATIENCE)
            time.sleep(0.02)  # time for one too many
            assert len(folder.fetched) == expected
            assert spooled is not None
            spooled.close()
            assert folder.open_files <= ahead
        assert next(bundles_ahead, None) is None


def test_bundles_ahead_are_fetched_while_one_is_read() -> None:
    folder = Folder()
    with no_thread_left():
        bundles_ahead = prefetch(listing(3), folder.fetch_one, 1)
        next(bundles_ahead)
        for _ in range(2):
            assert folder.began.acquire(timeout=PATIENCE)
        assert folder.fetched == ["b0", "b1"]
        assert len(fetching_threads()) == 1
        assert threading.get_ident() not in folder.threads
        bundles_ahead.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_failure_waits_for_its_bundles_turn(ahead: int) -> None:
    folder = Folder(fail_at=2)
    with no_thread_left():
        bundles_ahead = prefetch(listing(5), folder.fetch_one, ahead)
        first = next(bundles_ahead)
        while len(folder.fetched) < min(3, 1 + ahead):
            assert folder.began.acquire(timeout=PATIENCE)
        second = next(bundles_ahead)
        assert (first[0], second[0]) == (bundle(0), bundle(1))
        with pytest.raises(LocalResourceError, match="at b2"):
            next(bundles_ahead)
        assert next(bundles_ahead, None) is None
    assert folder.fetched == ["b0", "b1", "b2"]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_failure_of_the_listing_comes_after_the_bundles_before_it(ahead: int) -> None:
    def broken_listing() -> Iterator[Bundle]:
        yield bundle(0)
        yield bundle(1)
        raise LocalResourceError("the list ends here")

    with no_thread_left():
        bundles_ahead = prefetch(broken_listing(), Folder().fetch_one, ahead)
        assert [next(bundles_ahead)[0] for _ in range(2)] == [bundle(0), bundle(1)]
        with pytest.raises(LocalResourceError, match="the list ends here"):
            next(bundles_ahead)


@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("in_the_middle", [False, True])
def test_stopping_early_closes_every_file(ahead: int, in_the_middle: bool) -> None:
    """Whether the thread has come to rest, or is in the middle of a download."""
    folder = Folder()
    with no_thread_left():
        bundles_ahead = prefetch(listing(9), folder.fetch_one, ahead)
        _, spooled = next(bundles_ahead)
        while len(folder.fetched) < 1 + ahead:
            assert folder.began.acquire(timeout=PATIENCE)
        if in_the_middle:
            folder.go_on.clear()
            assert spooled is not None
            spooled.close()
            _, spooled = next(bundles_ahead)
            while len(folder.fetched) < 2 + ahead:
                assert folder.began.acquire(timeout=PATIENCE)
        assert spooled is not None
        spooled.close()
        bundles_ahead.close()  # type: ignore[attr-defined]
        folder.go_on.set()
    assert folder.open_files == 0
    assert len(folder.fetched) == 1 + ahead + in_the_middle


def test_a_bundle_that_is_left_out_keeps_its_turn() -> None:
    def fetch_one(wanted: Bundle) -> Fetched:
        return wanted, None

    items = list(prefetch(listing(4), fetch_one, 2))
    assert items == [(each, None) for each in listing(4)]
    assert all(one[0].end == other[0].start for one, other in pairwise(items))


def test_no_lock_is_taken_where_a_signal_may_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would stay taken if the signal came just then, and the run would never end."""
    within: list[bool] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        within.append(True)
        yield
        within.pop()

    class Semaphore(threading.Semaphore):
        def release(self, n: int = 1) -> None:
            assert not (within and threading.current_thread() is threading.main_thread())
            super().release(n)

    monkeypatch.setattr(threading, "Semaphore", Semaphore)
    items = prefetch(listing(3), Folder().fetch_one, 1, waiting)
    with no_thread_left(), closing(items):  # type: ignore[type-var]
        assert len(list(items)) == 3
    assert within == []
