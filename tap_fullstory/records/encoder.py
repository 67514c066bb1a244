"""Encode chunks of events as RECORD lines: the reference encoder, which defines what is right.

Most events never get here: where it was compiled, the native encoder writes their lines, and hands
over what it does not handle.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import MsgspecError, Raw

from tap_fullstory.catalog import EVENT_TYPE
from tap_fullstory.columns import ValueType
from tap_fullstory.counts import MAX_NAME_LENGTH, BoundedCounter
from tap_fullstory.fields import Fate
from tap_fullstory.output.messages import RecordEnvelope
from tap_fullstory.records.digest import digest_member
from tap_fullstory.records.json_text import (
    DECODE_ERRORS,
    MAX_DEPTH,
    SLICE_BYTES,
    WHITESPACE,
    JsonText,
    decode_event,
    decode_items,
    decode_raw,
    decode_string,
    encode,
    nesting_depth_exceeds,
    quoted_pieces,
    repair_surrogates,
    replace_nul,
    require_depth,
)
from tap_fullstory.records.native import NativeEncoder, is_available
from tap_fullstory.selection import Selection
from tap_fullstory.streams import CUSTOM_VARS
from tap_fullstory.times import parse_rfc3339


@dataclass
class EncodingStats:
    """What happened to values on the way, by column; never the values themselves.

    `type_mismatches` went to CustomVars and left null behind; `dropped` went nowhere, since
    CustomVars is deselected; `undeclared` are the keys which the catalog does not list; `repaired`
    counts lone surrogates and `nuls` the U+0000 that were replaced; `before_bookmark` and
    `left_out` are events that are not written: those before a bookmark, and those that the config
    leaves out, of which `types_left_out` counts the EventType until a first event is written.
    """

    type_mismatches: BoundedCounter = field(default_factory=BoundedCounter)
    dropped: BoundedCounter = field(default_factory=BoundedCounter)
    undeclared: BoundedCounter = field(default_factory=BoundedCounter)
    repaired: int = 0
    nuls: int = 0
    before_bookmark: int = 0
    left_out: int = 0
    types_left_out: BoundedCounter = field(default_factory=BoundedCounter)

    def add(self, other: EncodingStats) -> None:
        """Add what `other` counted."""
        for mine, its in (
            (self.type_mismatches, other.type_mismatches),
            (self.dropped, other.dropped),
            (self.undeclared, other.undeclared),
            (self.types_left_out, other.types_left_out),
        ):
            if its:
                mine.add_all(its)
        self.repaired += other.repaired
        self.nuls += other.nuls
        self.before_bookmark += other.before_bookmark
        self.left_out += other.left_out


MAX_REMEMBERED_KEYS = 10_000  # undeclared names whose JSON is remembered
# Date-times remembered as good: the events of a session and of a page repeat its start.
MAX_REMEMBERED_DATE_TIMES = 20_000
MAX_REMEMBERED_DATE_TIME = 64  # bytes, with the quotes; FullStory writes at most 32

EVENT_BYTES = 4096  # more than most events have

_CUSTOM_VARS_KEY = f'"{CUSTOM_VARS}":'.encode()
_SEPARATOR = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_BETWEEN = re.compile(rb"[ \t\n\r,]*")


class _Typed(msgspec.Struct):
    EventType: Raw = Raw(b"null")


class Batch(NamedTuple):
    """Events of a chunk as RECORD lines; `events`, `consumed` and `malformed` as reader.Parsed has
    them.
    """

    events: int
    consumed: int
    lines: bytes
    malformed: int | None
    stats: EncodingStats

    @property
    def written(self) -> int:
        """The number of events among them that are written."""
        return self.events - self.stats.before_bookmark - self.stats.left_out


class RecordEncoder:
    """Turns the events of one stream into RECORD lines.

    With `digest`, each has the digest of its event, under `digest_key`. With `replaces_nul`, U+0000
    becomes U+FFFD.
    """

    def __init__(
        self,
        selection: Selection,
        *,
        text_custom_vars: bool,
        digest: bool,
        digest_key: bytes = b"",
        replaces_nul: bool = False,
    ) -> None:
        self._dropped = selection.dropped
        self._rules = selection.rules
        self._event_filter = selection.event_filter
        self._keeps_overflow = selection.keeps_overflow
        self._text_custom_vars = text_custom_vars
        self._digest = digest
        self._digest_key = digest_key
        self._replaces_nul = replaces_nul
        self._good_date_times: set[bytes] = set()
        # For each column its key as JSON, the first bytes of values that pass, a test for others
        # that do, and its type, which is slower and knows all.
        self._columns = {
            name: (encode(name) + b":", column.passed_on, self._quick_test(column), column)
            for name, column in selection.columns.items()
        }
        self._undeclared_keys: dict[str, bytes] = {}
        self._none_written = True
        self._stats = EncodingStats()  # of the current batch
        self._native: NativeEncoder | None = None
        if is_available():
            self._native = NativeEncoder(
                selection.columns,
                self._dropped,
                self._record_for_native,
                custom_vars=self._keeps_overflow,
                as_text=text_custom_vars,
                rules=selection.rules,
                event_filter=selection.event_filter,
            )

    def encode(
        self,
        chunk: bytes,
        envelope: RecordEnvelope,
        since: datetime | None = None,
        max_events: int = sys.maxsize,
    ) -> Iterator[Batch]:
        """Yield the lines of a chunk: events separated by commas, at most `max_events` at a time.

        Stops where the chunk is not valid JSON, or before; what has been yielded is right all the
        same. Events whose EventStart is before `since` are left out and counted.
        """
        text = replace_nul(chunk)[0] if self._replaces_nul else chunk
        start = 0
        for batch in self._encode(text, chunk, envelope, since, max_events):
            if text is not chunk:
                batch.stats.nuls += replace_nul(chunk[start : batch.consumed])[1]
            if batch.written:
                self._none_written = False
            elif self._none_written and batch.stats.left_out:
                _count_types(batch.stats.types_left_out, chunk[start : batch.consumed])
            start = batch.consumed
            yield batch

    def _encode(
        self,
        chunk: bytes,
        original: bytes,
        envelope: RecordEnvelope,
        since: datetime | None,
        max_events: int,
    ) -> Iterator[Batch]:
        start: int | None = 0
        if self._native is not None and since is None and not self._digest:
            take = partial(self._encode_natively, self._native, chunk, envelope, max_events)
            start = yield from take(chunk, 0)
            if start is not None:
                repaired, repairs = repair_surrogates(chunk)
                if repairs:
                    start = yield from take(repaired, start)
                del repaired
        if start is not None and start < len(chunk):
            yield from self._encode_one_by_one(chunk, original, start, envelope, since, max_events)

    def _encode_natively(
        self,
        native: NativeEncoder,
        chunk: bytes,
        envelope: RecordEnvelope,
        max_events: int,
        text: bytes,
        start: int,
    ) -> Generator[Batch, None, int | None]:
        """Yield the lines of `text`, which is `chunk`, perhaps repaired, from `start` on. Return
        from where on that is not valid for the native encoder; None if nothing is left.
        """
        while start < len(text):
            # Copying the rest for each of many small batches would take longer than encoding.
            piece = text[start : start + max_events * EVENT_BYTES]
            self._stats = EncodingStats()
            found = native.encode(piece, envelope.prefix, envelope.suffix, max_events)
            if found is None and start + len(piece) < len(text):
                self._stats = EncodingStats()
                found = native.encode(text[start:], envelope.prefix, envelope.suffix, max_events)
            if found is None:
                return start
            events, consumed, lines, undeclared, self._stats.left_out = found
            self._count_undeclared(undeclared)
            end = start + consumed
            if text is not chunk:
                self._stats.repaired += repair_surrogates(chunk[start:end])[1]
            yield Batch(events, end, lines, None, self._stats)
            separator = _SEPARATOR.match(text, end)
            if separator is None:
                return None  # the chunk's end, or a comma is missing
            start = separator.end()
        return None

    def _encode_one_by_one(
        self,
        chunk: bytes,
        original: bytes,
        start: int,
        envelope: RecordEnvelope,
        since: datetime | None,
        max_events: int,
    ) -> Iterator[Batch]:
        text = chunk[start:]
        elements = self._split(text)
        repaired = False
        if elements is None:
            text, repairs = repair_surrogates(text)
            elements = self._split(text) if repairs else None
            repaired = True
        if elements is None:
            return
        end = start
        events = 0
        records: list[bytes | Raw] = []
        self._stats = EncodingStats()
        for element in elements:
            start = _after_separator(chunk, end)
            if events == max_events:
                yield Batch(events, end, envelope.lines(records), None, self._stats)
                events, records, self._stats = 0, [], EncodingStats()
            event = bytes(element)
            try:
                record = self._record(event, since)
            except DECODE_ERRORS:
                yield Batch(events, end, envelope.lines(records), start, self._stats)
                return
            events += 1
            end = start + len(event)
            if repaired:
                self._stats.repaired += repair_surrogates(chunk[start:end])[1]
            if not record:
                continue
            if self._digest:
                record = _add_member(record, digest_member(original[start:end], self._digest_key))
            records.append(record)
        yield Batch(events, end, envelope.lines(records), None, self._stats)

    def _split(self, chunk: bytes) -> Sequence[bytes | Raw] | None:
        """Return the elements of a chunk; None if it is not valid JSON, or nested too deeply."""
        if nesting_depth_exceeds(chunk, MAX_DEPTH):
            return None
        if len(chunk) > SLICE_BYTES and chunk.startswith(b"{"):
            # Most probably one large event, of which there should be no copy.
            with suppress(*DECODE_ERRORS):
                decode_raw(chunk)
                return [chunk]
        try:
            return decode_items(b"[%b]" % chunk)
        except DECODE_ERRORS:
            return None

    def _record(self, event: bytes, since: datetime | None) -> bytes:
        """Return the record of one event; empty if it is not to be written, which is counted.

        Raises one of DECODE_ERRORS if it is not an event.
        """
        record = None
        if since is None and self._native is not None:
            found = self._native.encode(event, b"", b"")
            if found is not None:
                self._count_undeclared(found[3])
                record = found[2]
        if record is None:
            members = decode_event(event)
            if since is not None and _starts_before(members, since):
                self._stats.before_bookmark += 1
                return b""
            record = self._encode_members(members)
        if not record:
            self._stats.left_out += 1
        return record

    def _record_for_native(self, event: bytes) -> bytes | None:
        """Return the record of an event that the C extension hands over; empty if it is left out,
        which the extension counts. None if it is not an event.
        """
        try:
            require_depth(event)
            return self._encode_members(decode_event(event))
        except DECODE_ERRORS:
            return None

    def _encode_members(self, members: dict[str, Raw]) -> bytes:
        """Return the record of one event, made from its members one by one; empty if it is left
        out.

        `members` is empty afterwards: an event may be as large as max_event_mb allows, and of such
        a one there should be few copies.
        """
        if self._event_filter and not self._event_filter.keeps(members.get(EVENT_TYPE)):
            return b""
        kept: list[JsonText] = []
        custom: list[JsonText] = []
        columns = self._columns
        for name, raw in members.items():
            value = bytes(raw)
            if self._rules:
                fate = self._rules.fate(name)
                if fate is Fate.EXCLUDED:
                    continue
                value = self._rules.value(value, fate, name)
            declared = columns.get(name)
            if declared is not None:
                key, passed_on, passes, column = declared
                if value[0] in passed_on or passes(value):
                    kept += (b",", key, value)
                else:
                    self._coerce(name, key, value, column, kept, custom)
            elif name not in self._dropped:
                fate = self._rules.fate_in_overflow(name)
                if fate is Fate.EXCLUDED:
                    continue
                self._stats.undeclared.add(name)
                if self._keeps_overflow:
                    value = self._rules.hash(value) if fate is Fate.HASHED else value
                    custom += (b",", self._undeclared_key(name), value)
                else:
                    self._stats.dropped.add(name)
        members.clear()
        value, raw = b"", Raw()
        if custom:
            kept += (b",", _CUSTOM_VARS_KEY, *self._custom_vars(custom))
            custom.clear()
        return b"".join((b"{", *kept[1:], b"}"))

    def _coerce(
        self,
        name: str,
        key: bytes,
        value: bytes,
        column: ValueType,
        kept: list[JsonText],
        custom: list[JsonText],
    ) -> None:
        coerced = column.coerce(value)
        if coerced is None:
            fate = self._rules.fate_in_overflow(name)
            if self._keeps_overflow and fate is not Fate.EXCLUDED:
                self._stats.type_mismatches.add(name)
                value = self._rules.hash(value) if fate is Fate.HASHED else value
                custom += (b",", key, value)
            else:
                self._stats.dropped.add(name)
            coerced = b"null" if column.nullable else None
        if coerced is not None:
            kept += (b",", key, coerced)
        if coerced == value and column.date_time and len(value) <= MAX_REMEMBERED_DATE_TIME:
            if len(self._good_date_times) == MAX_REMEMBERED_DATE_TIMES:
                self._good_date_times.clear()
            self._good_date_times.add(value)

    def _quick_test(self, column: ValueType) -> Callable[[bytes], bool]:
        """Return a test that some values pass which fit `column` as they are."""
        if "integer" in column.names and not column.date_time and not column.bounded:
            return bytes.isdigit
        return self._good_date_times.__contains__ if column.date_time else _never

    def _undeclared_key(self, name: str) -> bytes:
        key = self._undeclared_keys.get(name)
        if key is None:
            key = encode(name) + b":"
            if len(self._undeclared_keys) < MAX_REMEMBERED_KEYS and len(name) <= MAX_NAME_LENGTH:
                self._undeclared_keys[name] = key
        return key

    def _custom_vars(self, members: list[JsonText]) -> Iterable[JsonText]:
        value = (b"{", *members[1:], b"}")
        return quoted_pieces(value) if self._text_custom_vars else value

    def _count_undeclared(self, undeclared: Mapping[str, int]) -> None:
        if undeclared:
            self._stats.undeclared.add_all(undeclared)
            if not self._keeps_overflow:
                self._stats.dropped.add_all(undeclared)


def _add_member(record: bytes, member: bytes) -> bytes:
    """Return `record`, a JSON object without whitespace around it, with one more member."""
    end = len(record) - 1
    while record[end - 1] in WHITESPACE:
        end -= 1
    return b"".join((memoryview(record)[:end], b"," if end > 1 else b"", member, b"}"))


def _never(_: bytes) -> bool:
    return False


def _after_separator(chunk: bytes, end: int) -> int:
    return _BETWEEN.match(chunk, end).end()  # type: ignore[union-attr]


def _starts_before(members: Mapping[str, Raw], since: datetime) -> bool:
    """Return whether the event was before `since`; False if its time is not known."""
    try:
        return parse_rfc3339(decode_string(members["EventStart"])) < since
    except (KeyError, ValueError, MsgspecError):
        return False


def _count_types(counter: BoundedCounter, events: bytes) -> None:
    """Count the EventType of each of the events, which may have a separator before them."""
    events = repair_surrogates(events[_after_separator(events, 0) :])[0]
    for event in msgspec.json.decode(b"[%b]" % events, type=list[_Typed]):
        kind = bytes(event.EventType)
        counter.add(decode_string(kind) if kind[:1] == b'"' else kind.decode())
