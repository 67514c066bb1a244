"""Runs of events to RECORD lines: the plain road, which says what is right, event by event.

Most events never get here: fast.py proves whole runs to be right as they are.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from msgspec import Raw

from tap_fullstory.catalog import CUSTOM_VARS, EVENT_DIGEST, Selection
from tap_fullstory.columns import without_line_breaks
from tap_fullstory.fast import DECODE_ERRORS, FastRoad, add_member
from tap_fullstory.times import parse_rfc3339

_CUSTOM_VARS_KEY = f'"{CUSTOM_VARS}":'.encode()
_BETWEEN = re.compile(rb"[ \t\n\r,]*")
_BLANKS = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")|[ \t\n\r]+', re.DOTALL)
# Escapes in turn, so that an escaped backslash before a "u" is no mistaken beginning: a whole pair,
# half of one, or any other.
_ESCAPE = re.compile(
    rb"\\(?:u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}"
    rb"|(?P<half>u[Dd][89A-Fa-f][0-9A-Fa-f]{2})|.)",
    re.DOTALL,
)

# Enough to tell how common a custom variable is; counting them all would take a tenth of the time.
COUNTED_EVENTS = 10_000

_split = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@dataclass
class Tally:
    """What happened to values on the way, by column; never the values themselves.

    `misfits` went to CustomVars and left null behind; `dropped` went nowhere, since CustomVars is
    deselected; `unknown` keys, which the catalog does not list, are all named, but counted only in
    the first COUNTED_EVENTS events and where an event was looked at closely; `repaired` counts
    halves of surrogate pairs; `too_early` were left out.
    """

    misfits: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    too_early: int = 0

    def add(self, other: Tally | None) -> None:
        """Add what `other` counted, if anything."""
        if other is None:
            return
        self.misfits.update(other.misfits)
        self.dropped.update(other.dropped)
        self.unknown.update(other.unknown)
        self.repaired += other.repaired
        self.too_early += other.too_early


@dataclass(frozen=True)
class Batch:
    """A run of events as RECORD lines; `events` and `malformed` as events.Parsed has them.

    `tally` is None where every value went out as it came.
    """

    events: int
    lines: bytes
    malformed: int | None
    tally: Tally | None


@dataclass(frozen=True)
class Frame:
    """What makes a RECORD message of a record: the bytes before it, and those after it with the
    line break.
    """

    head: bytes
    tail: bytes

    def lines(self, records: list[bytes | Raw]) -> bytes:
        """One line for each record; line breaks between the tokens of a record go."""
        if not records:
            return b""
        together = b"".join(records)
        if b"\n" in together or b"\r" in together:
            records = [without_line_breaks(bytes(record)) for record in records]
        return b"".join((self.head, (self.tail + self.head).join(records), self.tail))


def record_frame(stream: str, time_extracted: datetime) -> Frame:
    """The frame of a stream's records that were extracted at a moment, in UTC."""
    name = _encode(stream)
    when = time_extracted.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
    return Frame(
        b'{"type":"RECORD","stream":' + name + b',"record":',
        b',"time_extracted":"' + when + b'"}\n',
    )


class RecordEncoder:
    """Turns the events of one stream into RECORD lines; learns its custom variables on the way."""

    def __init__(self, selection: Selection, *, text_custom_vars: bool, digest: bool) -> None:
        self._columns = selection.columns
        self._dropped = selection.dropped
        self._custom_vars = selection.custom_vars
        self._text_custom_vars = text_custom_vars
        self._digest = digest
        self._fast = FastRoad(
            selection.columns,
            selection.dropped,
            self._write_custom,
            count_unknown=COUNTED_EVENTS if selection.custom_vars else math.inf,
        )

    def encode(self, run: bytes, frame: Frame, since: datetime | None = None) -> Batch | None:
        """The lines of a run: events parted by commas. None if it is no such JSON.

        Events whose EventStart lies before `since` are left out and counted.
        """
        events_json = b"[" + run + b"]"
        if since is None and not self._digest:
            fast = self._fast.records(events_json)
            if fast is not None:
                records, unknown = fast
                return Batch(len(records), frame.lines(records), None, self._unknown_tally(unknown))
        tally = Tally()
        try:
            elements = _split(events_json)
        except DECODE_ERRORS:
            events_json, tally.repaired = repair_surrogates(events_json)
            try:
                elements = _split(events_json)
            except DECODE_ERRORS:
                return None
        return self._one_by_one(run, elements, frame, since, tally)

    def _one_by_one(
        self, run: bytes, elements: list[Raw], frame: Frame, since: datetime | None, tally: Tally
    ) -> Batch:
        records: list[bytes | Raw] = []
        unknown: Counter[str] = Counter()
        keys: dict[str, None] = {}
        malformed: int | None = None
        done, end = len(elements), 0
        for index, element in enumerate(elements):
            start = _BETWEEN.match(run, end).end()  # type: ignore[union-attr]
            end = start + len(bytes(element))
            event = bytes(element)
            fast = self._fast.records(b"[" + event + b"]") if since is None else None
            if fast is not None:
                record, names = bytes(fast[0][0]), list(fast[1].elements())
            else:
                try:
                    event.decode()
                    members = _members(event)
                    if since is not None and _starts_before(members, since):
                        tally.too_early += 1
                        continue
                    record, names = self._plain(members, tally)
                    keys.update(dict.fromkeys(members))
                except DECODE_ERRORS:
                    malformed, done = start, index
                    if tally.repaired:  # those of the events that stay behind do not count
                        tally.repaired = repair_surrogates(run[:start])[1]
                    break
            unknown.update(names)
            if self._digest:
                record = add_member(record, _digest_member(run[start:end]))
            records.append(record)
        self._fast.learn(keys)
        tally.add(self._unknown_tally(unknown))
        return Batch(done, frame.lines(records), malformed, tally)

    def _plain(self, members: dict[str, Raw], tally: Tally) -> tuple[bytes, list[str]]:
        """The record of one event, and its unknown keys: the meaning of the catalog, spelt out."""
        kept: list[bytes] = []
        custom: list[bytes] = []
        unknown: list[str] = []
        for name, raw in members.items():
            key, value = _encode(name) + b":", bytes(raw)
            column = self._columns.get(name)
            if column is not None:
                fitted = column.fit(value)
                if fitted is None:
                    (tally.misfits if self._custom_vars else tally.dropped)[name] += 1
                    custom.append(key + value)
                    fitted = b"null" if column.nullable else None
                if fitted is not None:
                    kept.append(key + fitted)
            elif name not in self._dropped:
                unknown.append(name)
                custom.append(key + value)
        return add_member(
            b"{" + b",".join(kept) + b"}", self._write_custom(b"{" + b",".join(custom) + b"}")
        ), unknown

    def _write_custom(self, value: bytes) -> bytes:
        """The member CustomVars of a record; nothing if it is empty or not wanted."""
        if value == b"{}" or not self._custom_vars:
            return b""
        if self._text_custom_vars:
            value = _encode(without_line_breaks(value).decode())
        return _CUSTOM_VARS_KEY + value

    def _unknown_tally(self, unknown: Counter[str]) -> Tally | None:
        if not unknown:
            return None
        return Tally(unknown=unknown, dropped=Counter() if self._custom_vars else unknown)


def repair_surrogates(json_text: bytes) -> tuple[bytes, int]:
    """JSON with every half surrogate pair, written as an escape, turned into U+FFFD; and how many.

    FullStory cuts long texts, and cuts pairs with them. The length stays as it was.
    """
    repairs = 0

    def repair(match: re.Match[bytes]) -> bytes:
        nonlocal repairs
        half = match["half"]
        repairs += half is not None
        return match[0] if half is None else rb"\ufffd"

    return _ESCAPE.sub(repair, json_text), repairs


def event_digest(event: bytes) -> str:
    """BLAKE2b-128, in hexadecimal, of an event's bytes without the blanks between its tokens."""
    try:
        compact = msgspec.json.format(event, indent=-1)
    except DECODE_ERRORS:  # half a surrogate pair, which counts as it came
        compact = _BLANKS.sub(rb"\1", event)
    return hashlib.blake2b(compact, digest_size=16).hexdigest()


def _digest_member(event: bytes) -> bytes:
    return f'"{EVENT_DIGEST}":"{event_digest(event)}"'.encode()


def _starts_before(members: dict[str, Raw], since: datetime) -> bool:
    """Whether the event lies before `since`; no if it does not say when it was."""
    try:
        return parse_rfc3339(_string(bytes(members["EventStart"]))) < since
    except (KeyError, ValueError, msgspec.MsgspecError):
        return False
