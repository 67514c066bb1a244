"""One REST stream: reads what a row of streams.py describes, page by page.

A full table is written as it is. A history comes newest first and is read down to the first
version that an earlier run has written; its bookmark moves when all the newer ones are written.
The APIs name the next page's token in several ways, and end a list in several: without a token,
with one that is null or empty, without the list itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Raw
from singer import metrics

from tap_fullstory import bookmarks
from tap_fullstory.bookmarks import State
from tap_fullstory.counts import format_counts
from tap_fullstory.errors import LEVEL_TOO_LOW, AccessError, SourceError
from tap_fullstory.fullstory.client import Client
from tap_fullstory.output.messages import record_envelope
from tap_fullstory.records.json_text import decode_string
from tap_fullstory.records.rest import RestRecordBuilder, promoted, renamed
from tap_fullstory.run import Run
from tap_fullstory.selection import Selection
from tap_fullstory.streams import LAST_UPDATED, USERS, WEBHOOK_EVENT_TYPES, RestStream, Stream
from tap_fullstory.times import parse_rfc3339

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")
Record = Mapping[str, Raw]

_NULL = Raw(b"null")
_list_of_objects = msgspec.json.Decoder(list[dict[str, Raw]] | None).decode


def pages(
    client: Client, stream: RestStream, params: Mapping[str, str], path: str | None = None
) -> Iterator[list[Record]]:
    """Yield the records of one listing, a page at a time; `params`, its filters, go with each call.
    `path` is that of the listing if it is not the stream's.

    Raises SourceError if an answer lacks the stream's list, or names a next page that has been
    read, and whatever Client.read raises.
    """
    query = dict(params)
    if stream.limit is not None:
        query["limit"] = str(stream.limit)
    seen: set[str] = set()
    count = 0
    while True:
        answer = client.read(path or stream.path, query, stream.name)
        if stream.aliases:
            answer = renamed(answer, stream.aliases)
        records = _records(answer, stream, count)
        count += len(records)
        yield records
        token = _next_token(answer, stream)
        if stream.paging is None or not token:
            return
        if token in seen:
            raise SourceError(
                f"FullStory's list of {stream.name} ({stream.path}) goes round in circles: after "
                f"{len(seen) + 1} pages it names as the next one that has been read. The next run "
                "tries again; if it happens again, ask FullStory support about it."
            )
        seen.add(token)
        query[stream.paging.parameter] = token


def first_page(client: Client, stream: RestStream) -> list[Record]:
    """Return the first page of the first listing, to see whether it can be read. Raises TapError
    if it cannot.
    """
    listed = stream.parent or stream
    part = {listed.part_name: listed.parts[0]} if listed.parts else {}
    return next(pages(client, listed, {**listed.params, **part}), [])


def _records(answer: Record, stream: RestStream, before: int) -> list[Record]:
    """Return the records of an answer that follows on `before` others of the same listing."""
    if stream.records is None:
        return [answer]
    try:
        if stream.records in answer:
            return list(_list_of_objects(answer[stream.records]) or [])
        # FullStory's encoder leaves out what is empty, an empty list too.
        beside = {*stream.beside, *(stream.paging.tokens if stream.paging else ())}
        total = bytes(answer.get("total_records", _NULL)).strip(b'"')
        if answer.keys() <= beside and total in (b"null", str(before).encode()):
            return []
    except msgspec.DecodeError:
        pass
    raise SourceError(
        f"FullStory's answer for {stream.name} ({stream.path}) has no list named {stream.records}. "
        "FullStory may have changed the API: look for a newer version of this tap."
    )


def _next_token(answer: Record, stream: RestStream) -> str | None:
    for name in stream.paging.tokens if stream.paging else ():
        token = text_of(answer.get(name))
        if token:
            return token
        if token is None and bytes(answer.get(name, _NULL)) != b"null":
            raise SourceError(
                f"FullStory's answer for {stream.name} ({stream.path}) has a {name} that is not "
                "text. FullStory may have changed the API: look for a newer version of this tap."
            )
    return None


def text_of(raw: Raw | None) -> str | None:
    """Return the text that a JSON value is; None if it is not text."""
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    return decode_string(raw)


@dataclass(frozen=True)
class _Request:
    """One listing of a stream: its filters, what its records get in addition to what FullStory
    sends, the name of its bookmark, and its path if that is not the stream's.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, Raw] = field(default_factory=dict)
    bookmark: str | None = None
    path: str | None = None


def validate_bookmarks(stream: Stream, state: State) -> None:
    """Raise UsageError if `state` has a bookmark of `stream` that cannot be read."""
    if isinstance(stream, RestStream):
        for name in stream.bookmarks:
            bookmarks.last_updated(state, stream.name, name)


class RestSync:
    """One REST stream, from the first page to the state after the last.

    Sessions are read for each identified user, and get the properties `user_id` and `uid`;
    subcategories for each event type that has them, and get its `eventName`.
    """

    def __init__(self, run: Run, stream: RestStream, selection: Selection) -> None:
        self._run = run
        self._client = run.client
        self._writer = run.writer
        self._stream = stream
        self._name = selection.name
        self._builder = RestRecordBuilder(selection)
        self._params = dict(stream.params)
        for name, properties in stream.params_for.items():
            if not selection.columns.keys().isdisjoint(properties):
                self._params[name] = "true"
        # Whether several parts may list one record, and the keys of those that have been emitted.
        self._parts_overlap = bool(stream.parts and stream.records and not stream.replication_key)
        self._listed: set[tuple[bytes, ...]] = set()
        self._unidentified = 0
        self._in_future = 0
        self._truncated = 0

    def sync(self, state: State) -> State:
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
                if error.status != 404 or self._stream.parent is None:
                    raise
                gone, last_gone = gone + 1, error
        if last_gone is not None:
            if gone == requests:  # then it is not the parents that are gone
                raise last_gone
            LOGGER.warning(
                "%s: %d of %d %s were gone when their records were requested",
                self._name, gone, requests, self._stream.parent and self._stream.parent.name,
                extra={"code": "records_gone"},
            )  # fmt: skip
        return state

    def _emit(self, request: _Request, state: State, counter: metrics.Counter) -> State:
        """Write the records of one listing, and the state after them if it has a bookmark."""
        stream = self._stream
        bookmark, newest = None, None
        if request.bookmark:
            bookmark = bookmarks.last_updated(state, stream.name, request.bookmark)
        listed = pages(self._client, stream, {**self._params, **request.params}, request.path)
        for page in self._interruptibly(listed):
            lines: list[bytes | Raw] = []
            older = False
            for record in page:
                added = {**request.added, **promoted(record, stream.promoted)}
                added.update(self._own_part(record))
                if self._is_repeated(record, added):
                    continue
                version = _version(added, stream.replication_key) if request.bookmark else None
                if version and bookmark and version[0] <= bookmark:
                    older = True
                    continue
                if version and version[0] > self._run.now:
                    self._in_future += 1
                elif version and (newest is None or version > newest):
                    newest = version
                lines.append(self._builder.build(record, added))
            self._writer.records(
                record_envelope(self._name, datetime.now(timezone.utc)).lines(lines)
            )
            self._writer.flush_if_full()
            self._run.summary.records += len(lines)
            counter.increment(len(lines))
            self._truncated += stream.parent is USERS and len(page) == stream.limit
            if older:
                break  # what follows is older still
        if newest and request.bookmark:
            state = bookmarks.with_last_updated(state, stream.name, request.bookmark, newest[1])
            self._writer.state(state)
        return state

    def _own_part(self, record: Record) -> dict[str, Raw]:
        """Return the part that an item of a list says it belongs to, which need not be the one
        requested: PAGE and USER both "list property extraction rules", by "List Extraction Rules".
        """
        name, parts = self._stream.part_name, self._stream.parts
        if self._parts_overlap and text_of(record.get(name)) in parts:
            return {name: record[name]}
        return {}

    def _is_repeated(self, record: Record, added: Record) -> bool:
        """Return whether an item with this key has been emitted for another part already."""
        if not self._parts_overlap:
            return False
        members = {**record, **added}
        key = tuple(bytes(members.get(name, _NULL)) for name in self._stream.key_properties)
        repeated = key in self._listed
        self._listed.add(key)
        return repeated

    def _requests(self) -> Iterator[_Request]:
        stream = self._stream
        if stream.parent is USERS:
            yield from self._users()
        elif stream.parent is WEBHOOK_EVENT_TYPES:
            yield from self._event_types()
        elif stream.parts:
            for part in stream.parts:
                added = {stream.part_name: Raw(msgspec.json.encode(part))}
                bookmark = part if stream.replication_key else None
                yield _Request({stream.part_name: part}, added, bookmark)
        else:
            yield _Request(bookmark=stream.replication_key)

    def _users(self) -> Iterator[_Request]:
        """Yield a listing for each identified user, by the names that "List Sessions" takes."""
        for page in pages(self._client, USERS, {"is_identified": "true"}):
            for user in page:
                for name in ("uid", "email"):
                    if value := text_of(user.get(name)):
                        ids = {"user_id": user.get("id", _NULL), "uid": user.get("uid", _NULL)}
                        yield _Request({name: value}, ids)
                        break
                else:
                    self._unidentified += 1

    def _event_types(self) -> Iterator[_Request]:
        """Yield a listing for each event type that has subcategories."""
        for page in pages(self._client, WEBHOOK_EVENT_TYPES, {}):
            for event_type in page:
                name = text_of(event_type.get("eventName"))
                if name and bytes(event_type.get("hasSubcategories", _NULL)) == b"true":
                    path = self._stream.path.replace("{eventName}", quote(name, safe=""))
                    yield _Request(added={"eventName": event_type["eventName"]}, path=path)

    def _interruptibly(self, items: Iterator[T]) -> Iterator[T]:
        """Yield `items`; a signal ends the wait for each."""
        while (item := self._run.signals.run_interruptibly(partial(next, items, None))) is not None:
            yield item

    def _report(self) -> None:
        """Log what was not written as it came, by property and number, never by value."""
        builder = self._builder
        odd = {
            "type_mismatches": (
                "do not fit their property's type and are null there",
                builder.type_mismatches,
            ),
            "undeclared_fields": ("have keys that the schema does not declare", builder.undeclared),
        }
        for code, (what, counts) in odd.items():
            if counts and builder.overflow:
                LOGGER.warning(
                    "%s: %d values %s; they are in %s: %s",
                    self._name, counts.total(), what, builder.overflow, format_counts(counts),
                    extra={"code": code},
                )  # fmt: skip
            elif counts:
                LOGGER.info(
                    "%s: %d values %s; they were dropped, since the catalog deselects %s: %s",
                    self._name, counts.total(), what, self._stream.overflow, format_counts(counts),
                )  # fmt: skip
        if self._in_future:
            LOGGER.warning(
                "%s: versions with a %s in the future: %d. The bookmark stays before them, so each "
                "run writes them again until then", self._name, LAST_UPDATED, self._in_future,
                extra={"code": "versions_in_future"},
            )  # fmt: skip
        if self._unidentified:
            LOGGER.warning(
                "%s: %d identified users have neither uid nor email, so their records could not be "
                "requested", self._name, self._unidentified,
                extra={"code": "users_without_id"},
            )  # fmt: skip
        if self._truncated:
            LOGGER.info(
                "%s: users with %d sessions or more: %d. FullStory lists no more than %d",
                self._name, self._stream.limit, self._truncated, self._stream.limit,
            )  # fmt: skip


def _version(record: Record, name: str | None) -> tuple[datetime, str] | None:
    """Return when a version was made, parsed and as FullStory wrote it; None if it is missing."""
    text = text_of(record.get(name or "")) or ""
    try:
        return parse_rfc3339(text), text
    except ValueError:
        return None
