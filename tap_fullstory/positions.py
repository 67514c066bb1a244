"""Positions of a stream's segments in the state: each segment of several has one of its own.

    {"bookmarks": {"events": {"segments": {"seg1": {"bundle_end": ...}, "seg2": {...}}}}}

The functions of state.py know one position for each stream. A view is a state in which the position
of one segment is the stream's. Nothing here changes the dictionary that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from tap_fullstory.state import SEGMENTS, State, bookmark_of


def segment_positions(state: State, stream: str) -> dict[str, State]:
    """Return the positions by segment, empty if the stream has none."""
    found: dict[str, State] = bookmark_of(state, stream).get(SEGMENTS) or {}
    return found


def has_own_position(state: State, stream: str) -> bool:
    """Return whether the stream has a position that is of no segment of several."""
    return bookmark_of(state, stream).get("bundle_end") is not None


def view(state: State, stream: str, segment: str, *, several: bool) -> State:
    """Return the state with the position of `segment` as that of `stream`.

    If it is not one of several segments, it is the stream's own position, or if there is none, that
    which the segment had as one of several.
    """
    position = segment_positions(state, stream).get(segment, {})
    if not several and has_own_position(state, stream):
        position = {k: v for k, v in bookmark_of(state, stream).items() if k != SEGMENTS}
    bookmarks = {**state.get("bookmarks", {}), stream: position}
    if not position:
        del bookmarks[stream]
    return {**state, "bookmarks": bookmarks}


def merged(whole: State, seen: State, stream: str, segment: str, *, several: bool) -> State:
    """Return the state `whole` with what has become of its view, `seen`."""
    position, before = bookmark_of(seen, stream), bookmark_of(whole, stream)
    segments = segment_positions(whole, stream)
    if several:
        bookmark = {**before, SEGMENTS: {**segments, segment: position}}
    else:
        bookmark = {**position, SEGMENTS: segments} if segments else position
    return {**seen, "bookmarks": {**seen.get("bookmarks", {}), stream: bookmark}}


def furthest_behind(state: State, stream: str, segments: Sequence[str]) -> State:
    """Return the view of the segment that is furthest behind; the state itself unless there are
    several.
    """
    if len(segments) < 2:
        return state
    found = segment_positions(state, stream)
    ends = {segment: found.get(segment, {}).get("bundle_end") or "" for segment in segments}
    return view(state, stream, min(ends, key=lambda one: ends[one]), several=True)
