"""Members that the tap adds to records which are encoded already, whichever encoder it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import Raw

from tap_fullstory.output.messages import RecordEnvelope
from tap_fullstory.records.encoder import Batch
from tap_fullstory.records.json_text import encode

MAX_ID_BYTES = 20  # digits of the largest unsigned 64-bit integer

# From a record, a JSON object without line breaks, to one more member; None: it gets none.
MakeMember = Callable[[bytes], bytes | None]


Parse = Callable[[bytes], Iterator[Batch]]


def adding_members(parse: Parse, makers: Sequence[MakeMember], envelope: RecordEnvelope) -> Parse:
    """Return what parses a chunk as `parse` does, whose lines are in `envelope`, and gives each
    record the members that `makers` make of it.
    """

    def parse_and_add(chunk: bytes) -> Iterator[Batch]:
        for batch in parse(chunk):
            yield batch._replace(lines=_with_members(batch.lines, makers, envelope))

    return parse_and_add


def with_constants(parse: Parse, members: Sequence[bytes], envelope: RecordEnvelope) -> Parse:
    """Return what parses a chunk as `parse` does, and gives each record all of `members`.

    A record has no line breaks, so that what follows one is the beginning of a message.
    """
    start = b"\n" + envelope.prefix + b"{"
    begun = start + b",".join(members)
    alone = re.compile(re.escape(begun) + rb",[ \t]*\}")

    def parse_and_add(chunk: bytes) -> Iterator[Batch]:
        for batch in parse(chunk):
            lines = (b"\n" + batch.lines).replace(start, begun + b",")[1:]
            if alone.search(b"\n" + lines):
                lines = alone.sub(begun + b"}", b"\n" + lines)[1:]
            yield batch._replace(lines=lines)

    return parse_and_add


def _with_members(lines: bytes, makers: Sequence[MakeMember], envelope: RecordEnvelope) -> bytes:
    start, after = len(envelope.prefix), len(envelope.suffix)
    found = []
    for line in lines.splitlines(keepends=True):
        record = line[start:-after]
        members = [member for make in makers if (member := make(record)) is not None]
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


def _is_id(text: bytes) -> bool:
    return text.isdigit() and len(text) <= MAX_ID_BYTES
