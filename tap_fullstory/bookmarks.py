"""The state: pure functions over the dictionary that STATE messages carry.

    {"bookmarks": {"events": {"bundle_end": "2026-06-02T00:00:00Z", "partial":
        {"id": ..., "events": ..., "bytes": ..., "crc32": ...}}}}

`bundle_end` is the end, exclusive, of the last bundle that was emitted whole. `partial` says how
far the bundle after it has got. `export` beside them names the export that this bundle comes from,
where the tap has created it. Both become null once done, not absent: Meltano can merge states, and
what is absent stays. With several segments each has such a bookmark under `segments`:

    {"bookmarks": {"events": {"segments": {"seg1": {"bundle_end": ...}, "seg2": {...}}}}}

Functions of exports take the bookmark's place, the keys that lead to it: `("events",)`, or
`("events", "segments", "seg1")`. Writing to the first keeps the `segments` beside it.

The histories of settings have the newest version's lastUpdated instead, by platform where there are
platforms: `{"web": ..., "mobile": ...}`, or `{"lastUpdated": ...}`. While one of several streams is
in progress, `currently_syncing` beside `bookmarks` names it. Nothing here changes the dictionary
that it is given.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tap_fullstory.errors import UsageError
from tap_fullstory.streams import LAST_UPDATED, RestStream, stream_named
from tap_fullstory.times import format_rfc3339, parse_rfc3339

State = dict[str, Any]
Place = tuple[str, ...]  # the keys below `bookmarks` that lead to a bookmark

NEXT_STEP = (
    "Pass the value of the last STATE message that the target printed. Starting without a state "
    "starts over from start_date, and an append-only table then holds its rows twice."
)


@dataclass(frozen=True)
class Partial:
    """How far a bundle in progress has got.

    `events` counts the source events before the next one; `bytes` and `crc32` are the number and
    the CRC-32 (of zlib, unsigned) of the unpacked bytes before it.
    """

    id: str
    events: int
    bytes: int
    crc32: int


@dataclass(frozen=True)
class Export:
    """An export that has been created: `id` is that of its operation.

    It covers the time from `start` (inclusive) to `end` (exclusive), in UTC. `fields` are those it
    was restricted to, None if to none; `segment` is whom it covers, `scope` and `time_range` are
    what export_scope and segment_time_range were.
    """

    id: str
    start: datetime
    end: datetime
    fields: tuple[str, ...] | None
    segment: str
    scope: str = "events"
    time_range: str = "window"


LOGGER = logging.getLogger(__name__)

WEB = "web"  # the platform whose settings FullStory returns by default
REMOVED_STREAMS = ("user",)  # of 2.x
MAX_SHOWN = 200  # characters of the state's own keys that an error quotes
EVERYONE = "everyone"  # FullStory's segment of all people
SEGMENTS = "segments"  # holds the bookmarks of several segments
_EXPORT_MEMBERS = ("bundle_end", "partial", "done", "export", SEGMENTS)
# What the state does not say of an export.
_USUAL = {"segment": EVERYONE, "scope": "events", "time_range": "window"}


def parse_state(raw: Any) -> State:
    """Return the state from a decoded state file, in today's form.

    The state of tap-fullstory 1.x, `{"events": "<end of the last bundle>"}`, is rewritten
    (github.com/singer-io/tap-fullstory at 1.0.4, `tap_fullstory/__init__.py`).

    Raises UsageError if `raw` is not a state, or its bookmark of an export stream cannot be read.
    """
    if not isinstance(raw, dict):
        raise UsageError(f"The state is not a JSON object but {_kind(raw)}. {NEXT_STEP}")
    if raw.get("type") == "STATE" and "value" in raw:
        raise UsageError(
            'The state is a whole STATE message: pass only what is under "value" in it.'
        )
    if raw and not {"bookmarks", "currently_syncing", "events"} & set(raw):
        raise UsageError(
            f"The state has no bookmarks; it has the keys {', '.join(sorted(raw))[:MAX_SHOWN]}. "
            f"{NEXT_STEP}"
        )
    state = copy.deepcopy(raw)
    bookmarks = state.setdefault("bookmarks", {})
    if not isinstance(bookmarks, dict):
        raise UsageError(
            f"bookmarks in the state is {_kind(bookmarks)}, not an object. {NEXT_STEP}"
        )
    legacy = state.pop("events", None)
    for stream, bookmark in bookmarks.items():
        if not isinstance(bookmark, dict):
            raise UsageError(
                f"The bookmark of {stream[:MAX_SHOWN]} in the state must be an object, not "
                f"{_kind(bookmark)}. {NEXT_STEP}"
            )
        _require_known(stream, bookmark)
    if legacy is not None:
        _take_over(_timestamp(legacy, "events"), state)
    for stream in ("events", "individuals"):
        _validate_position(state, (stream,))
        place = (stream, SEGMENTS)
        segments = bookmark_of(state, (stream,)).get(SEGMENTS) or {}
        if not isinstance(segments, dict):
            raise UsageError(
                f"{_named(place)} in the state is {_kind(segments)}, not an object. {NEXT_STEP}"
            )
        for segment, position in segments.items():
            if not isinstance(position, dict):
                raise UsageError(
                    f"{_named((*place, segment))} in the state is {_kind(position)}, not an "
                    f"object. {NEXT_STEP}"
                )
            _validate_position(state, (*place, segment))
    return state


def _require_known(stream: str, bookmark: Mapping[str, Any]) -> None:
    """Raise UsageError if a bookmark is not one of this tap's: ignored, it would let the stream
    start over, and rows be written twice.
    """
    given = [name for name, value in bookmark.items() if value is not None]
    known = _known_members(stream)
    if not given or stream in REMOVED_STREAMS or known == ():
        return
    if known is None:
        if not set(given) & {*_EXPORT_MEMBERS, "replication_key_value", LAST_UPDATED}:
            return  # of another program, which keeps it here
        raise UsageError(
            f"The state has a bookmark of {stream[:MAX_SHOWN]}, which this tap does not have. The "
            "state is keyed by tap_stream_id, also where the catalog renames a stream. "
            f"{NEXT_STEP}"
        )
    if not set(given) & set(known):
        raise UsageError(
            f"The bookmark of {stream[:MAX_SHOWN]} in the state has none of {', '.join(known)}; it "
            f"has {', '.join(sorted(given))[:MAX_SHOWN]}. {NEXT_STEP}"
        )


def _known_members(stream: str) -> tuple[str, ...] | None:
    """Return what a bookmark of a stream can have: nothing for full tables, None for a stream that
    does not exist.
    """
    found = stream_named(stream)
    if found is None:
        return None
    if isinstance(found, RestStream):
        return (*found.bookmarks, LAST_UPDATED) if found.bookmarks else ()
    return _EXPORT_MEMBERS


def _take_over(end: datetime, state: State) -> None:
    """Put the bookmark of a state of 1.x into `state`, unless it has a later one: 1.x keeps what
    later versions have written beside its own when it runs again.
    """
    own = bundle_end(state, ("events",))
    if own is not None:
        later = "1.x" if end > own else "this version"
        LOGGER.info(
            "The state also has a bookmark of 1.x: the later one counts, which is of %s", later
        )
    if own is None or end > own:
        state["bookmarks"]["events"] = {"bundle_end": format_rfc3339(end)}


def _validate_position(state: State, place: Place) -> None:
    bundle_end(state, place)
    partial(state, place)
    done(state, place)
    export(state, place)


def bundle_end(state: State, place: Place) -> datetime | None:
    """Return the end, exclusive, of what is emitted whole; None before the first bundle.

    Raises UsageError if it cannot be read.
    """
    value = bookmark_of(state, place).get("bundle_end")
    return None if value is None else _timestamp(value, _named(place, "bundle_end"))


def partial(state: State, place: Place) -> Partial | None:
    """Return how far the bundle after `bundle_end` has got; None at its start.

    Raises UsageError if it cannot be read.
    """
    value = bookmark_of(state, place).get("partial")
    if value is None:
        return None
    where = _named(place, "partial")
    if not isinstance(value, dict):
        raise UsageError(f"{where} in the state is {_kind(value)}, not an object. {NEXT_STEP}")
    if bookmark_of(state, place).get("bundle_end") is None:
        raise UsageError(f"{where} in the state is incomplete: bundle_end is missing. {NEXT_STEP}")
    counts: dict[str, int] = {}
    for name in ("events", "bytes", "crc32"):
        count = value.get(name)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise UsageError(f"{where}.{name} in the state is not a whole number. {NEXT_STEP}")
        counts[name] = count
    identity = value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, (str, int)):
        raise UsageError(f"{where}.id in the state is not a bundle id. {NEXT_STEP}")
    return Partial(str(identity), **counts)


def done(state: State, place: Place) -> frozenset[str] | None:
    """Return the ids of the bundles after `bundle_end` that are emitted whole: they share an end
    with others that are not. None where the state does not say, as states of 3.0 do not.

    Raises UsageError if it cannot be read.
    """
    value = bookmark_of(state, place).get("done")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UsageError(
            f"{_named(place, 'done')} in the state is not a list of bundle ids. {NEXT_STEP}"
        )
    return frozenset(value)


def export(state: State, place: Place) -> Export | None:
    """Return the export that the bundle after `bundle_end` comes from, if the state names one.

    Raises UsageError if it cannot be read.
    """
    value = bookmark_of(state, place).get("export")
    if value is None:
        return None
    where = _named(place, "export")
    if not isinstance(value, dict):
        raise UsageError(f"{where} in the state is {_kind(value)}, not an object. {NEXT_STEP}")
    value = {**_USUAL, **value}
    identity, segment = value.get("id"), value["segment"]
    if not isinstance(identity, str) or not identity or not isinstance(segment, str):
        raise UsageError(
            f"{where} in the state has no id, or a segment that is not text. {NEXT_STEP}"
        )
    fields = value.get("fields")
    if fields is not None:
        if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
            raise UsageError(f"{where}.fields in the state is not a list of names. {NEXT_STEP}")
        fields = tuple(fields)
    start = _timestamp(value.get("start"), f"{where}.start")
    end = _timestamp(value.get("end"), f"{where}.end")
    scope, time_range = str(value["scope"]), str(value["time_range"])
    return Export(identity, start, end, fields, segment, scope, time_range)


def with_bundle_end(state: State, place: Place, end: datetime) -> State:
    """Return the state once everything before `end` is emitted."""
    gone = _nulls(state, place, "partial", "done", "export")
    return _with_bookmark(state, place, {"bundle_end": format_rfc3339(end), **gone})


def with_done(state: State, place: Place, boundary: datetime, bundle_id: str) -> State:
    """Return the state once a bundle that follows `boundary` is emitted, and others that share its
    end are not.
    """
    gone = _nulls(state, place, "partial", "export")
    ids = [*(bookmark_of(state, place).get("done") or []), bundle_id]
    bookmark = {"bundle_end": format_rfc3339(boundary), "done": ids, **gone}
    return _with_bookmark(state, place, bookmark)


def with_partial(
    state: State, place: Place, boundary: datetime, progress: Partial, *, shares_end: bool = False
) -> State:
    """Return the state in the middle of the bundle that follows `boundary`, and that others may
    follow which share its end.
    """
    bookmark: State = {"bundle_end": format_rfc3339(boundary), "partial": None}
    ids = bookmark_of(state, place).get("done")
    if ids is not None or shares_end:
        bookmark["done"] = ids or []
    bookmark |= _nulls(state, place, "export")
    return with_progress(_with_bookmark(state, place, bookmark), place, progress)


def _nulls(state: State, place: Place, *names: str) -> State:
    """Return null for each of the members that the bookmark has: a runner that merges states would
    keep one that is merely gone.
    """
    return {name: None for name in names if name in bookmark_of(state, place)}


def with_progress(state: State, place: Place, progress: Partial) -> State:
    """Return a state that with_partial made, further on in the same bundle.

    Where there is a checkpoint for every event, this takes a good part of the time.
    """
    partial_json = {
        "id": progress.id,
        "events": progress.events,
        "bytes": progress.bytes,
        "crc32": progress.crc32,
    }
    return _with_bookmark(state, place, {**bookmark_of(state, place), "partial": partial_json})


def with_export(state: State, place: Place, in_progress: Export | None) -> State:
    """Return the state with the export that the bundle in progress comes from; None is none.

    Before the first bundle the export's start becomes the bookmark, so that it stays known what
    follows what.
    """
    bookmark = dict(bookmark_of(state, place))
    if in_progress is not None:
        bookmark.setdefault("bundle_end", format_rfc3339(in_progress.start))
        bookmark["export"] = _as_json(in_progress)
    elif "export" in bookmark:
        bookmark["export"] = None
    return _with_bookmark(state, place, bookmark) if bookmark else state


def last_updated(state: State, stream: str, part: str) -> datetime | None:
    """Return the newest version of a history that is emitted, with all before it; None before the
    first.

    `part` is the platform, or LAST_UPDATED in a history that has none. tap-fullstory 2.x kept one
    lastUpdated, and read the settings of `web` alone (github.com/singer-io/tap-fullstory at 2.0.0):
    it is that platform's. Raises UsageError if it cannot be read.
    """
    for name in (part, LAST_UPDATED) if part == WEB else (part,):
        value = bookmark_of(state, (stream,)).get(name)
        if value is not None:
            return _timestamp(value, _named((stream,), name))
    return None


def with_last_updated(state: State, stream: str, part: str, newest: str) -> State:
    """Return the state once all versions up to `newest`, a lastUpdated as FullStory sent it, are
    emitted; the other parts stay.
    """
    return _with_bookmark(state, (stream,), {**bookmark_of(state, (stream,)), part: newest})


def currently_syncing(state: State) -> str | None:
    """Return the stream that an earlier run was interrupted in."""
    value = state.get("currently_syncing")
    return value if isinstance(value, str) else None


def with_currently_syncing(state: State, stream: str | None) -> State:
    """Return the state while `stream` is in progress; None: while none is."""
    if stream is None and state.get("currently_syncing") is None:
        return state
    rest = {key: value for key, value in state.items() if key != "currently_syncing"}
    return rest if stream is None else {"currently_syncing": stream, **rest}


def _with_bookmark(state: State, place: Place, bookmark: State) -> State:
    if segments := bookmark_of(state, place).get(SEGMENTS):
        bookmark = {**bookmark, SEGMENTS: segments}
    return _replaced(state, ("bookmarks", *place), bookmark)


def _replaced(tree: State, place: Place, value: State) -> State:
    name, *rest = place
    return {**tree, name: _replaced(tree.get(name) or {}, tuple(rest), value) if rest else value}


def _as_json(in_progress: Export) -> dict[str, Any]:
    unusual = {
        name: value
        for name, usual in _USUAL.items()
        if (value := getattr(in_progress, name)) != usual
    }
    return {
        "id": in_progress.id,
        "start": format_rfc3339(in_progress.start),
        "end": format_rfc3339(in_progress.end),
        "fields": None if in_progress.fields is None else list(in_progress.fields),
        **unusual,
    }


def bookmark_of(state: State, place: Place) -> State:
    """Return what the state holds at a place, empty if that is nothing."""
    found: State = state.get("bookmarks", {})
    for name in place:
        found = found.get(name) or {}
    return found


def _named(place: Place, *members: str) -> str:
    return ".".join(("bookmarks", *(name[:MAX_SHOWN] for name in place), *members))


def _timestamp(value: Any, where: str) -> datetime:
    try:
        if isinstance(value, str):
            return parse_rfc3339(value)
    except ValueError:
        pass
    raise UsageError(f"{where} in the state is not an RFC 3339 date-time. {NEXT_STEP}")


def _kind(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        type(None): "null",
    }
    return kinds.get(type(value), "a number")


def segment_place(stream: str, segment: str) -> Place:
    """Return the place of one of several segments."""
    return (stream, SEGMENTS, segment)


def lacks_position(state: State, stream: str, segment: str) -> bool:
    """Return whether `segment`, one of several, starts over where the stream itself does not."""
    segments = bookmark_of(state, (stream, SEGMENTS))
    return bundle_end(state, (stream,)) is not None and segment not in segments


def with_position_of(state: State, stream: str, segment: str) -> State:
    """Return the state for `segment` as the stream's only one: if the stream has no position of its
    own, it gets the one that the segment had as one of several.
    """
    earlier = bookmark_of(state, segment_place(stream, segment))
    if bundle_end(state, (stream,)) is not None or not earlier:
        return state
    return _with_bookmark(state, (stream,), earlier)


def furthest_behind(state: State, stream: str, segments: Sequence[str]) -> Place:
    """Return the place of the segment that is furthest behind; that of the stream unless there are
    several.
    """
    if len(segments) < 2:
        return (stream,)
    places = [segment_place(stream, segment) for segment in segments]
    return min(places, key=lambda place: bookmark_of(state, place).get("bundle_end") or "")
