"""Runs of events to RECORD lines: the plain road, which says what is right, event by event.

Most events never get here: the fast road, native.py or typed.py, proves them right as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Raw

from tap_fullstory.catalog import CUSTOM_VARS, EVENT_DIGEST, Selection
from tap_fullstory.columns import DECODE_ERRORS, without_line_breaks
from tap_fullstory.messages import Frame
from tap_fullstory.native import NativeEncoder, is_available
from tap_fullstory.times import parse_rfc3339
from tap_fullstory.typed import TypedRoad, add_member

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

_BARE = Frame(b"", b"")  # makes no message of a record

_split = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@dataclass
class Tally:
    """What happened to values on the way, by column; never the values themselves.

    `misfits` went to CustomVars and left null behind; `dropped` went nowhere, since CustomVars is
    deselected; `unknown` are the keys which the catalog does not list; `repaired` counts halves of
    surrogate pairs; `too_early` were left out.
    """

    misfits: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    repaired: int = 0
    too_early: int = 0

    def add(self, other: Tally) -> None:
        """Add what `other` counted."""
        add_counts(self.misfits, other.misfits)
        add_counts(self.dropped, other.dropped)
        add_counts(self.unknown, other.unknown)
        self.repaired += other.repaired
        self.too_early += other.too_early


def add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Add to `counts`. Counter.update takes several times as long over a few names."""
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


@dataclass(frozen=True)
class Batch:
    """A run of events as RECORD lines; `events` and `malformed` as events.Parsed has them."""

    events: int
    lines: bytes
    malformed: int | None
    tally: Tally


class Road(Protocol):
    """A quick way from events to their RECORD lines."""

    def lines(self, run: bytes, frame: Frame) -> tuple[int, bytes, Mapping[str, int]] | None:
        """How many events a run has, their lines, and how often each unknown key occurs in it;
        None if the road cannot take the run.
        """

    def learn(self, names: Iterable[str]) -> None:
        """Take the keys of an event, which this road could not take, for known from now on."""


class RecordEncoder:
    """Turns the events of one stream into RECORD lines; learns its custom variables on the way."""

    def __init__(self, selection: Selection, *, text_custom_vars: bool, digest: bool) -> None:
        self._columns = selection.columns
        self._dropped = selection.dropped
        self._custom_vars = selection.custom_vars
        self._text_custom_vars = text_custom_vars
        self._digest = digest
        self._tally = Tally()  # of the run in hand
        self._road: Road
        if is_available():
            self._road = NativeEncoder(
                self._columns,
                self._dropped,
                self._plain_or_none,
                custom_vars=self._custom_vars,
                as_text=text_custom_vars,
            )
        else:
            self._road = TypedRoad(self._columns, self._dropped, self._write_custom)

    def encode(self, run: bytes, frame: Frame, since: datetime | None = None) -> Batch | None:
        """The lines of a run: events parted by commas. None if it is no such JSON.

        Events whose EventStart lies before `since` are left out and counted.
        """
        self._tally = Tally()
        if since is None and not self._digest:
            fast = self._road.lines(run, frame)
            if fast is not None:
                events, lines, unknown = fast
                self._count_unknown(unknown)
                return Batch(events, lines, None, self._tally)
            self._tally = Tally()
        events_json = b"[" + run + b"]"
        try:
            elements = _split(events_json)
        except DECODE_ERRORS:
            events_json, self._tally.repaired = repair_surrogates(events_json)
            try:
                elements = _split(events_json)
            except DECODE_ERRORS:
                return None
        return self._one_by_one(run, elements, frame, since)

    def _one_by_one(
        self, run: bytes, elements: list[Raw], frame: Frame, since: datetime | None
    ) -> Batch:
        records: list[bytes | Raw] = []
        keys: dict[str, None] = {}
        malformed: int | None = None
        done, end = len(elements), 0
        for index, element in enumerate(elements):
            start = _BETWEEN.match(run, end).end()  # type: ignore[union-attr]
            end = start + len(bytes(element))
            event = bytes(element)
            fast = self._road.lines(event, _BARE) if since is None else None
            if fast is not None:
                record = fast[1]
                self._count_unknown(fast[2])
            else:
                try:
                    members = _members_of(event)
                    if since is not None and _starts_before(members, since):
                        self._tally.too_early += 1
                        continue
                    record = self._plain(members)
                    keys.update(dict.fromkeys(members))
                except DECODE_ERRORS:
                    malformed, done = start, index
                    if self._tally.repaired:  # those of the events that stay behind do not count
                        self._tally.repaired = repair_surrogates(run[:start])[1]
                    break
            if self._digest:
                record = add_member(record, _digest_member(run[start:end]))
            records.append(record)
        self._road.learn(keys)
        return Batch(done, frame.lines(records), malformed, self._tally)

    def _plain_or_none(self, event: bytes) -> bytes | None:
        """The record of an event that the fast road does not take; None if it is no event."""
        try:
            return self._plain(_members_of(event))
        except DECODE_ERRORS:
            return None

    def _plain(self, members: dict[str, Raw]) -> bytes:
        """The record of one event: the meaning of the catalog, spelt out."""
        kept: list[bytes] = []
        custom: list[bytes] = []
        unknown: dict[str, int] = {}
        for name, raw in members.items():
            key, value = _encode(name) + b":", bytes(raw)
            column = self._columns.get(name)
            if column is not None:
                fitted = column.fit(value)
                if fitted is None:
                    tally = self._tally
                    counts = tally.misfits if self._custom_vars else tally.dropped
                    add_counts(counts, {name: 1})
                    custom.append(key + value)
                    fitted = b"null" if column.nullable else None
                if fitted is not None:
                    kept.append(key + fitted)
            elif name not in self._dropped:
                unknown[name] = 1
                custom.append(key + value)
        self._count_unknown(unknown)
        custom_vars = self._write_custom(b"{" + b",".join(custom) + b"}")
        return add_member(b"{" + b",".join(kept) + b"}", custom_vars)

    def _write_custom(self, value: bytes) -> bytes:
        """The member CustomVars of a record; nothing if it is empty or not wanted."""
        if value == b"{}" or not self._custom_vars:
            return b""
        if self._text_custom_vars:
            value = _encode(without_line_breaks(value).decode())
        return _CUSTOM_VARS_KEY + value

    def _count_unknown(self, unknown: Mapping[str, int]) -> None:
        add_counts(self._tally.unknown, unknown)
        if not self._custom_vars:
            add_counts(self._tally.dropped, unknown)


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


def _members_of(event: bytes) -> dict[str, Raw]:
    """Raises one of DECODE_ERRORS if it is no event: no object, or no UTF-8, at which msgspec does
    not look in values that it leaves raw.
    """
    event.decode()
    return _members(event)


def _starts_before(members: dict[str, Raw], since: datetime) -> bool:
    """Whether the event lies before `since`; no if it does not say when it was."""
    try:
        return parse_rfc3339(_string(bytes(members["EventStart"]))) < since
    except (KeyError, ValueError, msgspec.MsgspecError):
        return False
