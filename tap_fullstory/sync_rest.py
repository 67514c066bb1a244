"""The engine of the REST streams: reads what a row of streams.py describes, page by page.

A full table is written as it stands. A history comes newest first and is read down to the first
version that an earlier run has written; its bookmark moves when all the newer ones are written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TypeVar

import msgspec
from msgspec import Raw
from singer import metrics

from tap_fullstory import state as states
from tap_fullstory.catalog import Selection
from tap_fullstory.client import Client
from tap_fullstory.counts import format_counts
from tap_fullstory.errors import AccessError, SourceError
from tap_fullstory.json_text import decode_string
from tap_fullstory.messages import MessageWriter, record_envelope
from tap_fullstory.records.rest import RestRecordBuilder, promoted, renamed
from tap_fullstory.signals import Signals
from tap_fullstory.state import State
from tap_fullstory.streams import USERS, RestStream, Stream
from tap_fullstory.times import parse_rfc3339

LOGGER = logging.getLogger(__name__)

Record = Mapping[str, Raw]
T = TypeVar("T")

_NULL = Raw(b"null")
_list_of_objects = msgspec.json.Decoder(list[dict[str, Raw]] | None).decode


@dataclass(frozen=True)
class _Part:
    """One listing of a stream: its filters, what its records get besides what FullStory sends, and
    the name of its bookmark.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, Raw] = field(default_factory=dict)
    bookmark: str | None = None


def check_bookmarks(stream: Stream, state: State) -> None:
    """Raises UsageError if `state` has a bookmark of `stream` that cannot be read."""
    if isinstance(stream, RestStream):
        for name in stream.bookmarks:
            states.last_updated(state, stream.name, name)


class RestSync:
    """One REST stream, from the first page to the state after the last."""

    def __init__(
        self,
        stream: RestStream,
        selection: Selection,
        client: Client,
        writer: MessageWriter,
        signals: Signals,
    ) -> None:
        self._stream = stream
        self._name = selection.stream
        self._client = client
        self._writer = writer
        self._signals = signals
        self._builder = RestRecordBuilder(selection)
        self._nameless = 0
        self._full = 0

    def run(self, state: State) -> State:
        """Emit what the stream holds, or what is new in a history; return the state after it.

        Raises AccessError, with what the stream needs, if FullStory answers 403.
        """
        try:
            with metrics.record_counter(self._stream.name) as counter:
                state = self._emit_all(state, counter)
        except AccessError as error:
            if error.status != 403:
                raise
            needs = f"The stream {self._stream.name} needs {self._stream.needs}."
            raise AccessError(f"{error} {needs}", error.status) from None
        finally:
            self._client.close_idle()
            self._report()
        return state

    def _emit_all(self, state: State, counter: metrics.Counter) -> State:
        parts, gone = 0, 0
        last_gone: AccessError | None = None
        for part in self._waiting(self._parts()):
            parts += 1
            try:
                state = self._emit(part, state, counter)
            except AccessError as error:
                if error.status != 404 or not self._stream.of_users:
                    raise
                gone, last_gone = gone + 1, error
        if last_gone is not None:
            if gone == parts:  # then it is not the users that have gone
                raise last_gone
            LOGGER.warning(
                "%s: %d of %d users had gone when they were asked about", self._name, gone, parts
            )
        return state

    def _emit(self, part: _Part, state: State, counter: metrics.Counter) -> State:
        """Write the records of one listing, and the state after them if it has a bookmark."""
        stream = self._stream
        bookmark, newest = None, None
        if part.bookmark:
            bookmark = states.last_updated(state, stream.name, part.bookmark)
        for page in self._waiting(pages(self._client, stream, part.params)):
            lines: list[bytes | Raw] = []
            for record in page:
                added = {**part.added, **promoted(record, stream.promoted)}
                version = _version(added, stream.replication_key) if part.bookmark else None
                if version and bookmark and version[0] <= bookmark:
                    continue
                if version and (newest is None or version > newest):
                    newest = version
                lines.append(self._builder.build(record, added))
            self._writer.records(
                record_envelope(self._name, datetime.now(timezone.utc)).lines(lines)
            )
            counter.increment(len(lines))
            self._full += stream.of_users and len(page) == stream.limit
            if len(lines) < len(page):
                break  # what follows is older still
        if newest and part.bookmark:
            state = states.with_last_updated(state, stream.name, part.bookmark, newest[1])
            self._writer.state(state)
        return state

    def _parts(self) -> Iterator[_Part]:
        stream = self._stream
        if stream.of_users:
            yield from self._users()
        elif stream.platforms:
            for platform in stream.platforms:
                added = {"platform": Raw(msgspec.json.encode(platform))}
                bookmark = platform if stream.replication_key else None
                yield _Part({"platform": platform}, added, bookmark)
        else:
            yield _Part(bookmark=stream.replication_key)

    def _users(self) -> Iterator[_Part]:
        """A listing for each identified user, by the names that "List Sessions" takes."""
        for page in pages(self._client, USERS, {"is_identified": "true"}):
            for user in page:
                for name in ("uid", "email"):
                    if value := _text(user.get(name)):
                        ids = {"user_id": user.get("id", _NULL), "uid": user.get("uid", _NULL)}
                        yield _Part({name: value}, ids)
                        break
                else:
                    self._nameless += 1

    def _waiting(self, items: Iterator[T]) -> Iterator[T]:
        """`items`, each waited for in a way that a signal may end."""
        while (item := self._signals.run_interruptibly(partial(next, items, None))) is not None:
            yield item

    def _report(self) -> None:
        """Say what did not go out as it came, by property and number, never by value."""
        builder = self._builder
        odd = {
            "do not fit their property's type and are null there": builder.type_mismatches,
            "have keys that the schema does not declare": builder.undeclared,
        }
        for what, counts in odd.items():
            if counts and builder.overflow:
                LOGGER.warning(
                    "%s: %d values %s; they stand in %s: %s",
                    self._name, counts.total(), what, builder.overflow, format_counts(counts),
                )  # fmt: skip
            elif counts:
                LOGGER.info(
                    "%s: %d values %s; they were dropped, since the catalog deselects %s: %s",
                    self._name, counts.total(), what, self._stream.overflow, format_counts(counts),
                )  # fmt: skip
        if self._nameless:
            LOGGER.warning(
                "%s: %d identified users have neither uid nor email, so they could not be asked "
                "about", self._name, self._nameless,
            )  # fmt: skip
        if self._full:
            LOGGER.info(
                "%s: %d users have at least %d sessions; no more of them than that are listed",
                self._name, self._full, self._stream.limit,
            )  # fmt: skip


def pages(client: Client, stream: RestStream, params: Mapping[str, str]) -> Iterator[list[Record]]:
    """The records of one listing, an answer at a time; `params`, its filters, go with each call.

    Raises SourceError if an answer has no list where the stream has one, or sends on to a page that
    has been read, and whatever Client.read raises.
    """
    query = dict(params)
    if stream.limit is not None:
        query["limit"] = str(stream.limit)
    seen: set[str] = set()
    while True:
        answer = client.read(stream.path, query, stream.name)
        if stream.aliases:
            answer = renamed(answer, stream.aliases)
        yield _records(answer, stream)
        token = _next_token(answer, stream)
        if stream.paging is None or not token:
            return
        if token in seen:
            raise SourceError(
                f"FullStory's list of {stream.name} ({stream.path}) goes round in circles: after "
                f"{len(seen) + 1} pages it sends on to one that has been read. The next run reads "
                "it again; if it stays so, ask FullStory support about it."
            )
        seen.add(token)
        query[stream.paging.parameter] = token


def _records(answer: Record, stream: RestStream) -> list[Record]:
    if stream.records is None:
        return [answer]
    try:
        if stream.records in answer:
            return list(_list_of_objects(answer[stream.records]) or [])
        # An encoder that leaves out what is empty may leave out an empty list.
        if not answer.keys() - set(stream.paging.tokens if stream.paging else ()):
            return []
    except msgspec.DecodeError:
        pass
    raise SourceError(
        f"FullStory's answer for {stream.name} ({stream.path}) has no list named {stream.records}. "
        "FullStory may have changed the API: look for a newer version of this tap."
    )


def _next_token(answer: Record, stream: RestStream) -> str | None:
    for name in stream.paging.tokens if stream.paging else ():
        token = _text(answer.get(name))
        if token:
            return token
        if token is None and bytes(answer.get(name, _NULL)) != b"null":
            raise SourceError(
                f"FullStory's answer for {stream.name} ({stream.path}) has a {name} that is no "
                "text. FullStory may have changed the API: look for a newer version of this tap."
            )
    return None


def _version(record: Record, name: str | None) -> tuple[datetime, str] | None:
    """When a version was made, as a moment and in FullStory's words; None if it does not say."""
    text = _text(record.get(name or "")) or ""
    try:
        return parse_rfc3339(text), text
    except ValueError:
        return None


def _text(raw: Raw | None) -> str | None:
    """The text that a JSON value is; None if it is none."""
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    return decode_string(raw)
