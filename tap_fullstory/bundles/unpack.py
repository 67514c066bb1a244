"""A bundle's file, unpacked in chunks, and the check that it is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from isal import igzip_lib

from tap_fullstory.bundle import CHUNK_BYTES
from tap_fullstory.json_text import WHITESPACE

GZIP_MAGIC = b"\x1f\x8b"
MAX_GZIP_LEVELS = 4  # of gzip inside gzip; two are as many as a misconfigured proxy makes


class TruncatedFile(Exception):
    """Raised when a file is not complete; `offset` says where in the unpacked bytes."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.offset = offset


def unpack(file: BinaryIO) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file, from its start, in chunks of at most 192 kB.

    Whether it is gzipped is told by its first two bytes, never by headers: FullStory sends bundles
    gzipped by Content-Type, by Content-Encoding, or plain (github.com/fullstorydev/hauser, pull
    request 81), and proxies unpack on the way. All gzip members are read, and gzip inside gzip, up
    to four levels.

    Raises TruncatedFile if a member is cut or damaged, or gzip nests deeper.
    """
    file.seek(0)
    chunks: Iterator[bytes] = iter(lambda: file.read(CHUNK_BYTES), b"")
    for _ in range(MAX_GZIP_LEVELS + 1):
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= len(GZIP_MAGIC):
                break
        chunks = _chain(head, chunks)
        if not head.startswith(GZIP_MAGIC):
            yield from chunks
            return
        chunks = _gunzip(chunks)
    raise TruncatedFile(f"is gzip inside gzip, more than {MAX_GZIP_LEVELS} levels deep,", 0)


def verify_complete(chunks: Iterable[bytes]) -> None:
    """Read unpacked bytes to their end, and check that they open and close one JSON array.

    Raises TruncatedFile if they do not, or `chunks` does.
    """
    first = last = b""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        stripped = chunk if chunk[-1:] not in WHITESPACE else chunk.rstrip(WHITESPACE)
        if not stripped:
            continue
        first = first or stripped.lstrip(WHITESPACE)[:1]
        last = stripped[-1:]
    if first != b"[":
        raise TruncatedFile("is not a JSON array" if size else "is empty", 0)
    if last != b"]":
        raise TruncatedFile("ends before its closing bracket, or goes on after it,", size)


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
                chunk = member.decompress(fed, CHUNK_BYTES)
                fed = b""
                if chunk:
                    unpacked += len(chunk)
                    yield chunk
                elif member.needs_input:
                    fed = next(packed, b"")
                    if not fed:
                        raise TruncatedFile("is cut inside a gzip member", unpacked)
        except igzip_lib.IsalError as error:  # type: ignore[misc]
            raise TruncatedFile(f"has a damaged gzip member ({error})", unpacked) from None
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
            raise TruncatedFile("goes on with something other than gzip", unpacked)
