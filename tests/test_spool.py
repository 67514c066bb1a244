"""A bundle on disk: unpacked whatever its form, proven complete, fetched ahead in order."""

from __future__ import annotations

import errno
import gzip
import io
import logging
import os
import stat
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import block_sizes, bundles, cut, exhaustive, gzipped

from tap_fullstory.client import Bundle
from tap_fullstory.errors import BundleError, MachineError
from tap_fullstory.http import SinkError
from tap_fullstory.spool import (
    BLOCK_BYTES,
    Fetched,
    Incomplete,
    SpooledBundle,
    fetch,
    fetch_ahead,
    prove_complete,
    unpack,
)

SMALL = b'[{"PageId":1,"text":"naive"},\n{"a":[1,2]},{}]\n'


def read(packed: bytes) -> bytes:
    """The unpacked bytes of a file, proven complete. Raises Incomplete."""
    prove_complete(unpack(io.BytesIO(packed)))
    return b"".join(unpack(io.BytesIO(packed)))


def is_incomplete(packed: bytes) -> bool:
    try:
        read(packed)
    except Incomplete:
        return True
    return False


def with_header(flags: int, fields: bytes, header_crc: bool = False) -> bytes:
    """SMALL in a gzip member with optional header fields (RFC 1952, section 2.3)."""
    header = b"\x1f\x8b\x08" + bytes([flags | 2 * header_crc]) + b"\0\0\0\0\0\xff" + fields
    if header_crc:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(SMALL) + packer.flush()
    trailer = zlib.crc32(SMALL).to_bytes(4, "little") + len(SMALL).to_bytes(4, "little")
    return header + body + trailer


FORMS = {
    "plain": SMALL,
    "gzip": gzipped(SMALL),
    "gzip, not compressed": gzipped(SMALL, compresslevel=0),
    "two members": gzipped(SMALL, parts=2),
    "a member for each byte": gzipped(SMALL, parts=len(SMALL)),
    "an empty member first": gzipped(b"") + gzipped(SMALL),
    "an empty member last": gzipped(SMALL) + gzipped(b""),
    "an empty member between": gzipped(SMALL[:20]) + gzipped(b"") + gzipped(SMALL[20:]),
    "gzip in gzip": gzipped(gzipped(SMALL)),
    "gzip in gzip in gzip, in members": gzipped(gzipped(gzipped(SMALL, 3), 2), 2),
    "with a file's name": with_header(8, b"bundle.json\0"),
    "with a comment": with_header(16, b"a comment\0"),
    "with an extra field": with_header(4, b"\x06\0AB\x02\0xy"),
    "with a checksum of the header": with_header(0, b"", header_crc=True),
    "with all of these": with_header(28, b"\x06\0AB\x02\0xyname\0comment\0", header_crc=True),
    "zeros after it": gzipped(SMALL) + b"\0" * 512,
    "zeros between members": gzipped(SMALL[:20]) + b"\0" * 9 + gzipped(SMALL[20:]),
}


# --- unpacking ---


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bytes(form: str) -> None:
    assert read(FORMS[form]) == SMALL


@exhaustive(150)
@given(
    bundle=bundles(times=400),
    parts=st.integers(1, 5),
    level=st.integers(0, 9),
    layers=st.integers(0, 2),
)
def test_any_bundle_in_any_form(bundle: bytes, parts: int, level: int, layers: int) -> None:
    packed = bundle
    for _ in range(layers):
        packed = gzipped(packed, parts, compresslevel=level)
    assert read(packed) == bundle


def test_a_file_is_read_from_its_start_wherever_it_stands() -> None:
    file = io.BytesIO(gzipped(SMALL))
    assert b"".join(unpack(file)) == SMALL
    assert b"".join(unpack(file)) == SMALL


@pytest.mark.parametrize("layers", [1, 2])
def test_what_unpacks_to_a_thousand_times_its_size_takes_no_memory(layers: int) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packer.compress(b"[" + b" " * (1 << 20))]
    pieces += [packer.compress(b" " * (1 << 20)) for _ in range(47)]
    packed = b"".join([*pieces, packer.compress(b"]"), packer.flush()])
    if layers == 2:
        packed = gzip.compress(packed)
    assert len(packed) * 500 < 48 << 20
    file = io.BytesIO(packed)
    tracemalloc.start()
    try:
        prove_complete(unpack(file))
        sizes = {len(block) for block in unpack(file)}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(sizes) <= BLOCK_BYTES
    assert peak < 20 * BLOCK_BYTES


@pytest.mark.parametrize("form", [form for form, packed in FORMS.items() if packed != SMALL])
def test_a_cut_gzip_file_is_incomplete_at_every_place(form: str) -> None:
    packed = FORMS[form]
    for size in range(len(packed)):
        try:
            unpacked = read(packed[:size])
        except Incomplete:
            continue
        # Nothing is missing but padding, or a line break after the closing bracket. Or the cut is
        # between members and after an inner bracket: then no event has the array's end after it.
        assert unpacked.rstrip() == SMALL.rstrip() or not oracle.truth(unpacked).whole


# Flags of the header that say nothing about the bytes: mtime, XFL and OS (RFC 1952, section 2.3.1).
@pytest.mark.parametrize(
    "form", ["gzip", "gzip, not compressed", "two members", "with all of these", "gzip in gzip"]
)
def test_a_flipped_bit_is_noticed_or_harmless(form: str) -> None:
    packed = FORMS[form]
    harmless = 0
    for at in range(len(packed)):
        for bit in range(8):
            flipped = packed[:at] + bytes([packed[at] ^ 1 << bit]) + packed[at + 1 :]
            try:
                unpacked = read(flipped)
            except Incomplete:
                continue
            assert unpacked == SMALL, (at, bit)
            harmless += 1
    # mtime, XFL, OS, FTEXT: at most 6 bytes and a bit of a header, and names where there are some.
    assert harmless < 8 * 40


@pytest.mark.parametrize(
    "garbage", [b"x", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08", b"\0\0x", b"]", b"\n", b"\0" * 40_000 + b"x"]
)
def test_garbage_after_a_member_is_incomplete(garbage: bytes) -> None:
    for packed in (gzipped(SMALL), gzipped(SMALL, parts=2)):
        with pytest.raises(Incomplete) as reason:
            read(packed + garbage)
        assert reason.value.offset == len(SMALL)
        assert is_incomplete(gzipped(packed + garbage))
        assert is_incomplete(gzipped(packed) + garbage)


@exhaustive(300)
@given(packed=st.binary(max_size=60), cut_at=st.integers(0, 80))
def test_any_bytes_are_unpacked_or_incomplete(packed: bytes, cut_at: int) -> None:
    for file in (packed, b"\x1f\x8b" + packed, gzipped(SMALL)[:cut_at] + packed):
        assert is_incomplete(file) or read(file).strip()[-1:] == b"]"


# --- the proof ---


@pytest.mark.parametrize(
    ("unpacked", "why", "offset"),
    [
        (b"", "is empty", 0),
        (b" \n", "is no JSON array", 0),
        (b"{}", "is no JSON array", 0),
        (b"<html>Sign in</html>", "is no JSON array", 0),
        (b'"]"', "is no JSON array", 0),
        (b"null", "is no JSON array", 0),
        (b"[", "ends before its closing bracket", 1),
        (b'[{"a":1}', "ends before its closing bracket", 8),
        (b'[{"a":1},\n', "ends before its closing bracket", 10),
        (b"[{}]\nand more", "goes on after it", 13),
        (b"[{}]\0", "goes on after it", 5),
        (b"[{}],", "goes on after it", 5),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzipped])
def test_what_is_not_one_whole_array(
    unpacked: bytes, why: str, offset: int, pack: Callable[[bytes], bytes]
) -> None:
    for size in (1, 2, 10**9):
        with pytest.raises(Incomplete, match=why) as reason:
            prove_complete(cut(unpacked, [size]))
        assert reason.value.offset == offset
    with pytest.raises(Incomplete, match=why):
        read(pack(unpacked))


@pytest.mark.parametrize("unpacked", [b"[]", b" [ ] ", b"\n[\n]\n", b"[{}]", b" " * 9 + b"[]" + b"\n" * 9])
def test_what_is_one_whole_array(unpacked: bytes) -> None:
    for size in (1, 2, 10**9):
        prove_complete(cut(unpacked, [size]))
    assert read(unpacked) == read(gzipped(unpacked)) == unpacked


@exhaustive(100)
@given(bundle=bundles(max_events=4), sizes=block_sizes)
def test_no_whole_bundle_is_refused_and_no_cut_one_goes_unnoticed(
    bundle: bytes, sizes: list[int]
) -> None:
    prove_complete(cut(bundle, sizes))
    whole = bundle.rstrip()
    for size in range(0, len(whole), 1 + len(whole) // 50):
        # A cut right after an inner bracket looks whole, if no length and no checksum came with the
        # file; the reader of its events then finds no end.
        if not whole[:size].rstrip().endswith(b"]"):
            with pytest.raises(Incomplete):
                prove_complete(cut(whole[:size], sizes))
        else:
            assert not oracle.truth(whole[:size]).whole


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
    assert b"".join(fetched.blocks()) == SMALL
    assert b"".join(fetched.blocks()) == SMALL
    status = os.fstat(fetched.file.fileno())
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_nlink == 0
    assert list(tmp_path.iterdir()) == []
    fetched.close()
    assert fetched.file.closed


def test_a_bundle_that_is_not_whole_is_fetched_once_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    download, files = serving(gzipped(SMALL)[:-1], gzipped(SMALL))
    with caplog.at_level(logging.WARNING):
        fetched = fetch(bundle(0), download, str(tmp_path))
    assert b"".join(fetched.blocks()) == SMALL
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

    with pytest.raises(MachineError) as failure:
        fetch(bundle(0), download, str(tmp_path))
    message = str(failure.value)
    assert str(tmp_path) in message
    assert words in message
    assert "No space left on device" in message
    assert "spool_dir" in message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(MachineError, match=str(folder)) as failure:
            fetch(bundle(0), serving(SMALL)[0], str(folder))
        assert "spool_dir" in str(failure.value)


# --- ahead of their turn ---

PATIENCE = 30  # seconds until a test that waits for a thread has failed


class Folder:
    """Fakes the fetching: counts what is fetched and what lies on disk, and can be made to wait."""

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
            raise MachineError(f"at {wanted.id}")
        file = io.BytesIO()
        self.files.append(file)
        return wanted, SpooledBundle(wanted, file, MIDNIGHT)

    @property
    def open_files(self) -> int:
        return sum(not file.closed for file in self.files)


def listing(count: int) -> Iterator[Bundle]:
    return map(bundle, range(count))


def fetching_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fetch-ahead"]


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
        items = list(fetch_ahead(listing(count), folder.fetch_one, ahead))
    assert [item[0] for item in items] == list(listing(count))
    assert [item[1].bundle for item in items if item[1]] == list(listing(count))
    assert folder.open_files == count  # they are the reader's to close


@pytest.mark.parametrize("ahead", [0, 1, 2, 3])
def test_no_more_than_asked_for_lie_ahead(ahead: int) -> None:
    folder = Folder()
    with no_thread_left():
        bundles_ahead = fetch_ahead(listing(8), folder.fetch_one, ahead)
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
        bundles_ahead = fetch_ahead(listing(3), folder.fetch_one, 1)
        next(bundles_ahead)
        for _ in range(2):
            assert folder.began.acquire(timeout=PATIENCE)
        assert folder.fetched == ["b0", "b1"]
        assert threading.get_ident() not in folder.threads
        bundles_ahead.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_failure_waits_for_its_bundles_turn(ahead: int) -> None:
    folder = Folder(fail_at=2)
    with no_thread_left():
        bundles_ahead = fetch_ahead(listing(5), folder.fetch_one, ahead)
        first = next(bundles_ahead)
        while len(folder.fetched) < min(3, 1 + ahead):
            assert folder.began.acquire(timeout=PATIENCE)
        second = next(bundles_ahead)
        assert (first[0], second[0]) == (bundle(0), bundle(1))
        with pytest.raises(MachineError, match="at b2"):
            next(bundles_ahead)
        assert next(bundles_ahead, None) is None
    assert folder.fetched == ["b0", "b1", "b2"]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_failure_of_the_listing_comes_after_the_bundles_before_it(ahead: int) -> None:
    def broken_listing() -> Iterator[Bundle]:
        yield bundle(0)
        yield bundle(1)
        raise MachineError("the list ends here")

    with no_thread_left():
        bundles_ahead = fetch_ahead(broken_listing(), Folder().fetch_one, ahead)
        assert [next(bundles_ahead)[0] for _ in range(2)] == [bundle(0), bundle(1)]
        with pytest.raises(MachineError, match="the list ends here"):
            next(bundles_ahead)


@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("in_the_middle", [False, True])
def test_who_stops_early_leaves_no_file_open(ahead: int, in_the_middle: bool) -> None:
    """Whether the thread has come to rest, or is in the middle of a download."""
    folder = Folder()
    with no_thread_left():
        bundles_ahead = fetch_ahead(listing(9), folder.fetch_one, ahead)
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

    items = list(fetch_ahead(listing(4), fetch_one, 2))
    assert items == [(each, None) for each in listing(4)]
    assert all(one[0].end == other[0].start for one, other in pairwise(items))
