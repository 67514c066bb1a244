"""The pages of one list of FullStory's REST APIs, and how it ends.

The APIs spell the next page's token in several ways, and end a list in several: without a token,
with one that is null or empty, without the list itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw

from tap_fullstory.client import Client
from tap_fullstory.errors import SourceError
from tap_fullstory.json_text import decode_string
from tap_fullstory.records.rest import renamed
from tap_fullstory.streams import RestStream

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
                "tries again; if this goes on, ask FullStory support about it."
            )
        seen.add(token)
        query[stream.paging.parameter] = token


def first_page(client: Client, stream: RestStream) -> list[Record]:
    """Return the first page of the first listing: for a check of access. Raises as `pages`."""
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
