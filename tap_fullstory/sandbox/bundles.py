"""Bundles and the files that they are downloaded as.

A bundle's events become a file when somebody first asks for it: written event by event into the
sandbox's own folder, never held whole in memory, whatever its size.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from .events import FIELDS, GeneratedEvents
from .wire import Body, size_of, whole

DAY = 24 * 60 * 60  # seconds: a bundle's usual period
LAYOUTS = ("lines", "oneline", "indented")
COMPRESSIONS = ("content-type", "content-encoding", "none", "members")

_GZIP_LEVEL = 1  # speed: a sandbox file is read once
_FIRST_MEMBER = 2048  # unpacked bytes; each next gzip member holds twice as many
_PIECE = 1 << 18  # unpacked bytes handed to gzip at once


@dataclass(frozen=True)
class Bundle:
    """The events of a period, as FullStory lists them: `start` and `stop` in Unix seconds.

    `body` is either the file itself (bytes, or the path of a file), served exactly as it is under
    `content_type` and `content_encoding`; or events, which the sandbox writes in its own layout
    and compression. A content type of None follows from the first two bytes of the file. Text
    with a lone surrogate in it can only be served as bytes.
    """

    id: str
    start: int
    stop: int
    body: bytes | Path | Iterable[Mapping[str, Any]]
    content_type: str | None = None
    content_encoding: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", str(self.id))  # 156453120048 will do as well

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events. Raises TypeError if `body` is a file."""
        if isinstance(self.body, bytes | Path):
            raise TypeError(f"bundle {self.id} is a file")
        return [dict(event) for event in self.body]


@dataclass(frozen=True)
class BundleFile:
    """What a `get` of a bundle answers. `etag` changes whenever `body` does."""

    body: Body
    headers: Mapping[str, str]
    etag: str


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def last_midnight(time: datetime) -> datetime:
    """Return the UTC midnight with which the day of `time` (aware, in any zone) begins."""
    return time.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def last_settled_midnight(now: datetime) -> datetime:
    """Return the last UTC midnight at least 24 hours before `now` (aware, in any zone), by when
    FullStory's events have settled (help.fullstory.com/hc/en-us/articles/360020829273).
    """
    return last_midnight(now) - timedelta(days=1)


def generated_bundles(
    count: int = 6,
    events: int = 24,
    *,
    seed: int = 0,
    until: datetime | None = None,
    fields: str = FIELDS[0],
) -> list[Bundle]:
    """Return `count` bundles of a day and `events` events each, end to end, oldest first.

    The newest ends at `until` (aware; None is the last settled midnight). It sets dates and
    nothing else: all other values follow from `events`, `seed` and a bundle's number, 0 for the
    oldest. `fields` is one of FIELDS.
    """
    stop = int((until or last_settled_midnight(utc_now())).timestamp())
    bundles = []
    for number in range(count):
        start = stop - (count - number) * DAY
        made = GeneratedEvents(start, start + DAY, events, seed, number, fields)
        # Ids seen in public are the start followed by two digits (hauser issue 82).
        bundles.append(Bundle(f"{start}48", start, start + DAY, made))
    return bundles


@dataclass
class _Slot:
    bundle: Bundle
    file: BundleFile | None = None
    making: threading.Lock = field(default_factory=threading.Lock)


class BundleStore:
    """The published bundles, and those still to be published. Thread-safe.

    The newest `unpublished` bundles are neither listed nor downloaded until published.
    """

    def __init__(
        self,
        bundles: Iterable[Bundle],
        folder: Path,
        *,
        layout: str = "lines",
        compression: str = "content-type",
        unpublished: int = 0,
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout is {layout!r}, not one of {', '.join(LAYOUTS)}")
        if compression not in COMPRESSIONS:
            raise ValueError(f"compression is {compression!r}, not of {', '.join(COMPRESSIONS)}")
        self._folder = folder
        self._layout = layout
        self._compression = compression
        self._lock = threading.Lock()
        self._files_made = 0
        slots = [_Slot(bundle) for bundle in sorted(bundles, key=_by_end)]
        self._unpublished = slots[max(0, len(slots) - unpublished) :]
        self._slots = slots[: len(slots) - len(self._unpublished)]

    def listed(self) -> list[Bundle]:
        """Oldest first."""
        with self._lock:
            return [slot.bundle for slot in self._slots]

    def everything(self) -> list[Bundle]:
        """All bundles, the unpublished included, oldest first."""
        with self._lock:
            return sorted((slot.bundle for slot in self._slots + self._unpublished), key=_by_end)

    def publish(self, bundle: Bundle | None = None) -> Bundle | None:
        """Publish `bundle`, replacing one with the same id (FullStory may rebuild a bundle), or
        the oldest unpublished one if it is None. Return what was published; None if there was
        nothing to publish.
        """
        with self._lock:
            if bundle is None:
                if not self._unpublished:
                    return None
                slot = self._unpublished.pop(0)
            else:
                slot = _Slot(bundle)
            self._unpublished = [
                old for old in self._unpublished if old.bundle.id != slot.bundle.id
            ]
            others = [old for old in self._slots if old.bundle.id != slot.bundle.id]
            self._slots = sorted([*others, slot], key=lambda slot: _by_end(slot.bundle))
            return slot.bundle

    def file(self, bundle_id: str) -> BundleFile | None:
        """The bundle's file, made now if it is the first time; None if no such bundle is published.

        A body of bytes or a path is looked at afresh each time.
        """
        with self._lock:
            slot = next((slot for slot in self._slots if slot.bundle.id == bundle_id), None)
        if slot is None:
            return None
        bundle = slot.bundle
        if isinstance(bundle.body, (bytes, Path)):
            return _file_as_given(bundle.body, bundle.content_type, bundle.content_encoding)
        with slot.making:
            if slot.file is None:
                slot.file = self.make(bundle.id, bundle.body)
            return slot.file

    def make(self, name: str, events: Iterable[Mapping[str, Any]]) -> BundleFile:
        """A file of these events, in the store's layout and compression."""
        with self._lock:
            self._files_made += 1
            path = self._folder / f"{self._files_made}.bundle"
        with path.open("wb") as file:
            write_events(events, file, self._layout, self._compression)
        gzipped = self._compression in ("content-type", "members")
        headers = _headers("application/gzip" if gzipped else "application/json", gzipped)
        if self._compression == "content-encoding":
            headers["Content-Encoding"] = "gzip"
        etag = f'"{name}-{self._files_made}-{path.stat().st_size}"'
        return BundleFile(whole(path), headers, etag)


def write_events(
    events: Iterable[Mapping[str, Any]],
    file: BinaryIO,
    layout: str = "lines",
    compression: str = "content-type",
) -> None:
    """Writes the JSON array of `events`, compressed, to `file`. Same events, same bytes."""
    pieces = _joined(_laid_out(events, layout))
    if compression == "none":
        file.writelines(pieces)
        return
    members = _members(pieces) if compression == "members" else iter([pieces])
    for member in members:
        # No name and no time, or two writings of the same events would differ.
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
            for piece in member:
                packed.write(piece)


def _by_end(bundle: Bundle) -> int:
    return bundle.stop


def _headers(content_type: str, gzipped: bool) -> dict[str, str]:
    name = "DataExport.json.gz" if gzipped else "DataExport.json"
    return {
        "Content-Type": content_type,
        "Content-Disposition": f'attachment; filename="{name}"',
    }


def _file_as_given(
    body: bytes | Path, content_type: str | None, content_encoding: str | None
) -> BundleFile:
    file: Body
    if isinstance(body, Path):
        file = whole(body)
        with body.open("rb") as opened:
            beginning = opened.read(2)
        stamp = f"{body.stat().st_mtime_ns}-{size_of(file)}"
    else:
        file, beginning = body, body[:2]
        stamp = hashlib.blake2b(body, digest_size=8).hexdigest()
    gzipped = beginning == b"\x1f\x8b" and content_encoding is None
    default = "application/gzip" if gzipped else "application/json"
    headers = _headers(content_type or default, gzipped)
    if content_encoding:
        headers["Content-Encoding"] = content_encoding
    return BundleFile(file, headers, f'"{stamp}"')


def _laid_out(events: Iterable[Mapping[str, Any]], layout: str) -> Iterator[bytes]:
    """The array as bytes, an event at a time."""
    indented = layout == "indented"
    before, after = (b"[\n  ", b"\n]\n") if indented else (b"[", b"]")
    between = {"lines": b",\n", "oneline": b",", "indented": b",\n  "}[layout]
    encode = msgspec.json.Encoder().encode  # thrice as fast as json over a whole bundle
    separator = before
    for event in events:
        text = encode(event)
        if indented:  # a raw newline is never inside a JSON string
            text = msgspec.json.format(text, indent=2).replace(b"\n", b"\n  ")
        yield separator + text
        separator = between
    yield b"[]" if separator is before else after


def _joined(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Larger pieces: a call of gzip for each event would cost more than the packing."""
    waiting: list[bytes] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _members(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Cuts without regard to where events begin, as joining stored objects would."""
    size, rest = _FIRST_MEMBER, b""
    for piece in pieces:
        rest += piece
        while len(rest) > size:
            yield [rest[:size]]
            rest = rest[size:]
            size = min(2 * size, _PIECE)
    yield [rest]
