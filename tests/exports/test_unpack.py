"""A bundle's bytes: unpacked whatever their form, and proven complete."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib
from collections.abc import Callable

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import verify
from strategies import block_sizes, bundles, cut, exhaustive, gzipped

from tap_fullstory.exports.bundle import CHUNK_BYTES
from tap_fullstory.exports.unpack import (
    TruncatedFile,
    unpack,
)

SMALL = b'[{"PageId":1,"text":"naive"},\n{"a":[1,2]},{}]\n'


def read(packed: bytes) -> bytes:
    """The unpacked bytes of a file, verified whole and byte by byte. Raises TruncatedFile."""
    try:
        verify([packed])
    except TruncatedFile:
        with pytest.raises(TruncatedFile):
            verify(cut(packed, [1]))
        raise
    verify(cut(packed, [1]))
    return b"".join(unpack(io.BytesIO(packed)))


def is_incomplete(packed: bytes) -> bool:
    try:
        read(packed)
    except TruncatedFile:
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


def test_a_file_is_read_from_its_start_whatever_its_position() -> None:
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
        verify(iter(lambda: file.read(CHUNK_BYTES), b""))
        sizes = {len(block) for block in unpack(file)}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(sizes) <= CHUNK_BYTES
    assert peak < 20 * CHUNK_BYTES


@pytest.mark.parametrize("form", [form for form, packed in FORMS.items() if packed != SMALL])
def test_a_cut_gzip_file_is_incomplete_at_every_place(form: str) -> None:
    packed = FORMS[form]
    for size in range(len(packed)):
        try:
            unpacked = read(packed[:size])
        except TruncatedFile:
            continue
        # Nothing is missing but padding, or a line break after the closing bracket. Or the cut is
        # between members and after an inner bracket: then no event has the array's end after it.
        assert unpacked.rstrip() == SMALL.rstrip() or not oracle.contents_of(unpacked).whole


@pytest.mark.parametrize(
    ("form", "members"),
    [
        ("gzip", 1),
        ("gzip, not compressed", 1),
        ("two members", 2),
        ("with all of these", 1),
        ("gzip in gzip", 1),
    ],
)
def test_a_flipped_bit_is_noticed_or_harmless(form: str, members: int) -> None:
    packed = FORMS[form]
    harmless = 0
    for at in range(len(packed)):
        for bit in range(8):
            flipped = packed[:at] + bytes([packed[at] ^ 1 << bit]) + packed[at + 1 :]
            try:
                unpacked = read(flipped)
            except TruncatedFile:
                continue
            assert unpacked == SMALL, (at, bit)
            harmless += 1
    # Of a header the flags, the time and the system, and what fills up the last byte of the data.
    assert harmless <= members * 8 * (1 + 4 + 1 + 1 + 1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"x",
        b"\x1f",
        b"\x1f\x8b",
        b"\x1f\x8b\x08",
        b"\0\0x",
        b"]",
        b"\n",
        b"\0" * 40_000 + b"x",
        b"\x1f\0" + gzipped(SMALL)[1:],
    ],
)
def test_garbage_after_a_member_is_incomplete(garbage: bytes) -> None:
    for packed in (gzipped(SMALL), gzipped(SMALL, parts=2)):
        with pytest.raises(TruncatedFile) as reason:
            read(packed + garbage)
        assert reason.value.offset == len(SMALL)
        is_member = garbage.startswith(b"\x1f\x8b")
        assert ("has trailing data that is not gzip" in str(reason.value)) == (not is_member)
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
        (b" \n", "is not a JSON array", 0),
        (b"{}", "is a JSON object, not a JSON array", 0),
        (b"<html>Sign in</html>", "is a web page, not a JSON array", 0),
        (b"\xef\xbb\xbf<html>", "is a web page, not a JSON array", 0),
        (b'"]"', "is not a JSON array", 0),
        (b"nullnull", "is not a JSON array", 0),
        (b"nul", "is not a JSON array", 0),
        (b"[", "is truncated or has data after", 1),
        (b'[{"a":1}', "is truncated or has data after", 8),
        (b'[{"a":1},\n', "is truncated or has data after", 10),
        (b"[{}]\nand more", "is truncated or has data after", 13),
        (b"[{}]\0", "is truncated or has data after", 5),
        (b"[{}],", "is truncated or has data after", 5),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzipped])
def test_what_is_not_one_whole_array(
    unpacked: bytes, why: str, offset: int, pack: Callable[[bytes], bytes]
) -> None:
    for size in (1, 2, 10**9):
        with pytest.raises(TruncatedFile, match=why) as reason:
            verify(cut(unpacked, [size]))
        assert reason.value.offset == offset
    with pytest.raises(TruncatedFile, match=why):
        read(pack(unpacked))


@pytest.mark.parametrize(
    "unpacked",
    [b"null", b" null\n", b"[]", b" [ ] ", b"\n[\n]\n", b"[{}]", b" " * 9 + b"[]" + b"\n" * 9],
)
def test_what_is_one_whole_array(unpacked: bytes) -> None:
    for size in (1, 2, 10**9):
        verify(cut(unpacked, [size]))
    assert read(unpacked) == read(gzipped(unpacked)) == unpacked


@exhaustive(100)
@given(bundle=bundles(max_events=4), sizes=block_sizes)
def test_no_whole_bundle_is_refused_and_no_cut_one_goes_unnoticed(
    bundle: bytes, sizes: list[int]
) -> None:
    verify(cut(bundle, sizes))
    whole = bundle.rstrip()
    for size in range(0, len(whole), 1 + len(whole) // 50):
        # A cut right after an inner bracket looks whole, if no length and no checksum came with the
        # file; the reader of its events then finds no end.
        if not whole[:size].rstrip().endswith(b"]"):
            with pytest.raises(TruncatedFile):
                verify(cut(whole[:size], sizes))
        else:
            assert not oracle.contents_of(whole[:size]).whole
