"""Members that the tap adds to records which are encoded already, whichever encoder it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Raw

from tap_fullstory.json_text import encode
from tap_fullstory.messages import RecordEnvelope
from tap_fullstory.records.encoder import Batch

MAX_ID_BYTES = 20  # digits of the largest unsigned 64-bit integer

# From a record, a JSON object without line breaks, to one more member; None: it gets none.
MakeMember = Callable[[bytes], bytes | None]


class Encoder(Protocol):
    """What turns chunks of events into RECORD lines: records.encoder.RecordEncoder."""

    def encode(
        self,
        chunk: bytes,
        envelope: RecordEnvelope,
        since: datetime | None = None,
        max_events: int = sys.maxsize,
    ) -> Iterator[Batch]:
        """As RecordEncoder.encode."""


class AddingEncoder:
    """An encoder whose records get the members that `makers` make of them."""

    def __init__(self, encoder: Encoder, makers: Sequence[MakeMember]) -> None:
        self._encoder = encoder
        self._makers = makers

    def encode(
        self,
        chunk: bytes,
        envelope: RecordEnvelope,
        since: datetime | None = None,
        max_events: int = sys.maxsize,
    ) -> Iterator[Batch]:
        """As RecordEncoder.encode."""
        for batch in self._encoder.encode(chunk, envelope, since, max_events):
            yield batch._replace(lines=self._with_members(batch.lines, envelope))

    def _with_members(self, lines: bytes, envelope: RecordEnvelope) -> bytes:
        start, after = len(envelope.prefix), len(envelope.suffix)
        found = []
        for line in lines.splitlines(keepends=True):
            record = line[start:-after]
            members = [member for make in self._makers if (member := make(record)) is not None]
            if members and record[1:].lstrip() != b"}":
                members.append(b"")
            found += [line[: start + 1], b",".join(members), line[start + 1 :]]
        return b"".join(found)


class _Ids(msgspec.Struct):
    UserId: Raw = Raw()
    SessionId: Raw = Raw()


_ids_of = msgspec.json.Decoder(_Ids).decode


def replay_url_maker(beginning: str) -> MakeMember:
    """Return what makes ReplayUrl, a URL that begins as given, of records with both ids."""
    start = b'"ReplayUrl":' + encode(beginning)[:-1]

    def make(record: bytes) -> bytes | None:
        ids = _ids_of(record)
        user, session = (bytes(one).strip(b'"') for one in (ids.UserId, ids.SessionId))
        if not (_is_id(user) and _is_id(session)):
            return None
        return b'%b%b:%b"' % (start, user, session)

    return make


def segment_maker(value: bytes) -> MakeMember:
    """Return what makes the member SegmentId, a JSON value, of the rows of one segment's export."""
    member = b'"SegmentId":' + value
    return lambda _: member


def _is_id(text: bytes) -> bool:
    return text.isdigit() and len(text) <= MAX_ID_BYTES
