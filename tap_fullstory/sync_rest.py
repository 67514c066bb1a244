"""One REST stream: reads what a row of streams.py describes, page by page.

A full table is written as it is. A history comes newest first and is read down to the first
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
from tap_fullstory.errors import LEVEL_TOO_LOW, AccessError, SourceError
from tap_fullstory.json_text import decode_string
from tap_fullstory.messages import MessageWriter, record_envelope
from tap_fullstory.records.rest import RestRecordBuilder, promoted, renamed
from tap_fullstory.signals import Signals
from tap_fullstory.state import State
from tap_fullstory.streams import USERS, RestStream, Stream
from tap_fullstory.summary import RunSummary
from tap_fullstory.times import parse_rfc3339

LOGGER = logging.getLogger(__name__)

Record = Mapping[str, Raw]
T = TypeVar("T")

_NULL = Raw(b"null")
_ZERO = Raw(b"0")
_list_of_objects = msgspec.json.Decoder(list[dict[str, Raw]] | None).decode


@dataclass(frozen=True)
class _Request:
    """One listing of a stream: its filters, what its records get in addition to what FullStory
    sends, and the name of its bookmark.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, Raw] = field(default_factory=dict)
    bookmark: str | None = None


def check_bookmarks(stream: Stream, state: State) -> None:
    """Raise UsageError if `state` has a bookmark of `stream` that cannot be read."""
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
        summary: RunSummary,
    ) -> None:
        self._stream = stream
        self._name = selection.name
        self._client = client
        self._writer = writer
        self._signals = signals
        self._summary = summary
        self._builder = RestRecordBuilder(selection)
        self._unidentified = 0
        self._truncated = 0

    def run(self, state: State) -> State:
        """Emit the stream's records, or what is new in a history; return the state after it.

        Raises AccessError, with what the stream needs, if FullStory answers 403.
        """
        try:
            with metrics.record_counter(self._stream.name) as counter:
                state = self._emit_all(state, counter)
        except AccessError as error:
            if error.status != LEVEL_TOO_LOW:
                raise
            needs = f"The stream {self._stream.name} needs {self._stream.needs}."
            raise AccessError(f"{error} {needs}", error.status) from None
        finally:
            self._client.close_idle()
            self._report()
        return state

    def _emit_all(self, state: State, counter: metrics.Counter) -> State:
        requests, gone = 0, 0
        last_gone: AccessError | None = None
        for request in self._interruptibly(self._requests()):
            requests += 1
            try:
                state = self._emit(request, state, counter)
            except AccessError as error:
                if error.status != 404 or not self._stream.per_user:
                    raise
                gone, last_gone = gone + 1, error
        if last_gone is not None:
            if gone == requests:  # then it is not the users that are gone
                raise last_gone
            LOGGER.warning(
                "%s: %d of %d users were gone when their records were requested",
                self._name, gone, requests,
            )  # fmt: skip
        return state

    def _emit(self, request: _Request, state: State, counter: metrics.Counter) -> State:
        """Write the records of one listing, and the state after them if it has a bookmark."""
        stream = self._stream
        bookmark, newest = None, None
        if request.bookmark:
            bookmark = states.last_updated(state, stream.name, request.bookmark)
        for page in self._interruptibly(pages(self._client, stream, request.params)):
            lines: list[bytes | Raw] = []
            for record in page:
                added = {**request.added, **promoted(record, stream.promoted)}
                version = _version(added, stream.replication_key) if request.bookmark else None
                if version and bookmark and version[0] <= bookmark:
                    continue
                if version and (newest is None or version > newest):
                    newest = version
                lines.append(self._builder.build(record, added))
            self._writer.records(
                record_envelope(self._name, datetime.now(timezone.utc)).lines(lines)
            )
            self._writer.flush_if_full()
            self._summary.records += len(lines)
            counter.increment(len(lines))
            self._truncated += stream.per_user and len(page) == stream.limit
            if len(lines) < len(page):
                break  # what follows is older still
        if newest and request.bookmark:
            state = states.with_last_updated(state, stream.name, request.bookmark, newest[1])
            self._writer.state(state)
        return state

    def _requests(self) -> Iterator[_Request]:
        stream = self._stream
        if stream.per_user:
            yield from self._users()
        elif stream.platforms:
            for platform in stream.platforms:
                added = {"platform": Raw(msgspec.json.encode(platform))}
                bookmark = platform if stream.replication_key else None
                yield _Request({"platform": platform}, added, bookmark)
        else:
            yield _Request(bookmark=stream.replication_key)

    def _users(self) -> Iterator[_Request]:
        """Yield a listing for each identified user, by the names that "List Sessions" takes."""
        for page in pages(self._client, USERS, {"is_identified": "true"}):
            for user in page:
                for name in ("uid", "email"):
                    if value := _text(user.get(name)):
                        ids = {"user_id": user.get("id", _NULL), "uid": user.get("uid", _NULL)}
                        yield _Request({name: value}, ids)
                        break
                else:
                    self._unidentified += 1

    def _interruptibly(self, items: Iterator[T]) -> Iterator[T]:
        """Yield `items`; a signal ends the wait for each."""
        while (item := self._signals.run_interruptibly(partial(next, items, None))) is not None:
            yield item

    def _report(self) -> None:
        """Log what was not written as it came, by property and number, never by value."""
        builder = self._builder
        odd = {
            "do not fit their property's type and are null there": builder.type_mismatches,
            "have keys that the schema does not declare": builder.undeclared,
        }
        for what, counts in odd.items():
            if counts and builder.overflow:
                LOGGER.warning(
                    "%s: %d values %s; they are in %s: %s",
                    self._name, counts.total(), what, builder.overflow, format_counts(counts),
                )  # fmt: skip
            elif counts:
                LOGGER.info(
                    "%s: %d values %s; they were dropped, since the catalog deselects %s: %s",
                    self._name, counts.total(), what, self._stream.overflow, format_counts(counts),
                )  # fmt: skip
        if self._unidentified:
            LOGGER.warning(
                "%s: %d identified users have neither uid nor email, so their records could not be "
                "requested", self._name, self._unidentified,
            )  # fmt: skip
        if self._truncated:
            LOGGER.info(
                "%s: %d users have at least %d sessions; FullStory lists no more than these",
                self._name, self._truncated, self._stream.limit,
            )  # fmt: skip


def pages(client: Client, stream: RestStream, params: Mapping[str, str]) -> Iterator[list[Record]]:
    """Yield the records of one listing, a page at a time; `params`, its filters, go with each call.

    Raises SourceError if an answer lacks the stream's list, or names a next page that has been
    read, and whatever Client.read raises.
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
                f"{len(seen) + 1} pages it names as the next one that has been read. The next run "
                "tries again; if this goes on, ask FullStory support about it."
            )
        seen.add(token)
        query[stream.paging.parameter] = token


def first_page(client: Client, stream: RestStream) -> list[Record]:
    """Return the first page of the first listing: for a check of access. Raises as `pages`."""
    params = {"platform": stream.platforms[0]} if stream.platforms else {}
    listed = USERS if stream.per_user else stream
    return next(pages(client, listed, params), [])


def _records(answer: Record, stream: RestStream) -> list[Record]:
    if stream.records is None:
        return [answer]
    try:
        if stream.records in answer:
            return list(_list_of_objects(answer[stream.records]) or [])
        # FullStory's encoder leaves out what is empty, an empty list too.
        beside = {*stream.beside, *(stream.paging.tokens if stream.paging else ())}
        total = bytes(answer.get("total_records", _ZERO)).strip(b'"')
        if answer.keys() <= beside and total == b"0":
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
                f"FullStory's answer for {stream.name} ({stream.path}) has a {name} that is not "
                "text. FullStory may have changed the API: look for a newer version of this tap."
            )
    return None


def _version(record: Record, name: str | None) -> tuple[datetime, str] | None:
    """Return when a version was made, parsed and as FullStory wrote it; None if it is missing."""
    text = _text(record.get(name or "")) or ""
    try:
        return parse_rfc3339(text), text
    except ValueError:
        return None


def _text(raw: Raw | None) -> str | None:
    """Return the text that a JSON value is; None if it is not text."""
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    return decode_string(raw)
