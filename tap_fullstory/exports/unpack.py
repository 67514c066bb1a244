"""A bundle's file, unpacked in chunks, and the check that it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from isal import igzip_lib

from tap_fullstory.exports.bundle import CHUNK_BYTES
from tap_fullstory.records.json_text import WHITESPACE

GZIP_MAGIC = b"\x1f\x8b"
MAX_GZIP_LEVELS = 4  # of gzip inside gzip; two are as many as a misconfigured proxy makes


class TruncatedFile(Exception):
    """Raised when a file is not complete; `offset` says where in the unpacked bytes."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.offset = offset


class NotBundle(TruncatedFile):
    """Raised when a file is complete, and something else than a JSON array."""


def unpack(file: BinaryIO) -> Iterator[bytes]:
    """Yield the unpacked bytes of a file, from its start, in chunks of at most 192 kB.

    Raises TruncatedFile as Unpacker.
    """
    file.seek(0)
    unpacker = Unpacker()
    while packed := file.read(CHUNK_BYTES):
        yield from unpacker.feed(packed)
    yield from unpacker.end()


class Unpacker:
    """Unpacks a file that comes piece by piece.

    Whether it is gzipped shows in its first two bytes, never in headers: FullStory sends bundles
    gzipped by Content-Type, by Content-Encoding, or plain (github.com/fullstorydev/hauser, pull
    request 81), and proxies unpack on the way. All gzip members are read, and gzip inside gzip, up
    to four levels.
    """

    def __init__(self, levels: int = MAX_GZIP_LEVELS) -> None:
        self._levels = levels
        self._head = b""  # until there is enough of it to tell
        self._is_plain = False
        self._gzip: tuple[_Members, Unpacker] | None = None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what a piece unpacks to, in chunks of at most the larger of 192 kB and its size.

        Raises TruncatedFile if a member is damaged, or gzip nests deeper.
        """
        if self._is_plain:
            yield piece
            return
        if self._gzip is None:
            piece = self._head + piece
            if len(piece) < len(GZIP_MAGIC):
                self._head = piece
                return
            if not piece.startswith(GZIP_MAGIC):
                self._is_plain = True
                yield piece
                return
            if not self._levels:
                raise TruncatedFile(
                    f"is gzip inside gzip, more than {MAX_GZIP_LEVELS} levels deep", 0
                )
            self._gzip = _Members(), Unpacker(self._levels - 1)
        members, inner = self._gzip
        for chunk in members.feed(piece):
            yield from inner.feed(chunk)

    def end(self) -> Iterator[bytes]:
        """Yield what is left when no more pieces come. Raises TruncatedFile if a member is cut."""
        if self._gzip is not None:
            members, inner = self._gzip
            members.end()
            yield from inner.end()
        elif not self._is_plain and self._head:
            yield self._head


_HEAD_BYTES = 64  # of a file, after whitespace: enough to see what it is


class Verifier:
    """Verifies that a file that comes piece by piece is complete: each gzip member is, and what
    they unpack to opens and closes one JSON array, or is null: so Go encodes a nil list.
    """

    def __init__(self) -> None:
        self._unpacker = Unpacker()
        self._head = self._last = b""  # the first bytes after whitespace, and the last before it
        self._size = 0

    @property
    def is_null(self) -> bool:
        """Whether what has come is null, and nothing else."""
        return self._head.rstrip(WHITESPACE) == b"null"

    def feed(self, piece: bytes) -> None:
        """Look at the next piece. Raises TruncatedFile as Unpacker.feed."""
        self._look_at(self._unpacker.feed(piece))

    def end(self) -> None:
        """Raise NotBundle if what has come is no array, TruncatedFile if it is not complete. To be
        called once.
        """
        self._look_at(self._unpacker.end())
        if self.is_null:
            return
        if not self._head.startswith(b"["):
            raise NotBundle(self._what_came(), 0)
        if self._last != b"]":
            raise TruncatedFile("is truncated or has data after its closing bracket", self._size)

    def _what_came(self) -> str:
        if not self._size:
            return "is empty"
        if b"<" in self._head[:4]:  # after a byte order mark, perhaps
            return "is a web page, not a JSON array"
        if self._head.startswith(b"{"):
            return "is a JSON object, not a JSON array"
        return "is not a JSON array"

    def _look_at(self, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            self._size += len(chunk)
            stripped = chunk if chunk[-1:] not in WHITESPACE else chunk.rstrip(WHITESPACE)
            if not stripped:
                continue
            if len(self._head) < _HEAD_BYTES:
                text = chunk if self._head else chunk.lstrip(WHITESPACE)
                self._head += text[: _HEAD_BYTES - len(self._head)]
            self._last = stripped[-1:]


class _Members:
    """The members of a gzip file, one after another."""

    def __init__(self) -> None:
        self._unpacked = 0
        self._rest = b""  # after a member, until there is enough of it to tell
        self._begin()

    def _begin(self) -> None:
        self._member, self._is_ended = _member(), False
        # What has come of a member before it unpacks to anything. Its header is among it, and isal
        # takes a header's own checksum for wrong where that comes in two pieces.
        self._begun: bytes | None = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        while True:
            if self._is_ended:
                # Zeros after a member are padding, as gzip(1) takes them.
                piece = self._rest + (piece if self._rest else piece.lstrip(b"\0"))
                if len(piece) < len(GZIP_MAGIC):
                    self._rest = piece
                    return
                if not piece.startswith(GZIP_MAGIC):
                    raise self._foreign()
                self._rest = b""
                self._begin()
            elif self._begun:
                piece = self._begun + piece
                self._member = _member()
            if self._begun is not None:
                self._begun = piece if len(piece) <= CHUNK_BYTES else None
            yield from self._decompress(piece)
            if not self._member.eof:
                return
            piece, self._is_ended = self._member.unused_data, True

    def end(self) -> None:
        if not self._is_ended:
            raise TruncatedFile("is cut inside a gzip member", self._unpacked)
        if self._rest:
            raise self._foreign()

    def _decompress(self, piece: bytes) -> Iterator[bytes]:
        try:
            while not self._member.eof:
                chunk = self._member.decompress(piece, CHUNK_BYTES)
                piece = b""
                if chunk:
                    self._begun = None
                    self._unpacked += len(chunk)
                    yield chunk
                elif self._member.needs_input:
                    return
        except igzip_lib.IsalError as error:  # type: ignore[misc]
            raise TruncatedFile(f"has a damaged gzip member ({error})", self._unpacked) from None

    def _foreign(self) -> TruncatedFile:
        return TruncatedFile("has trailing data that is not gzip", self._unpacked)


def _member() -> igzip_lib.IgzipDecompressor:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
