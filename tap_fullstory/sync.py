"""The sync loop: for each selected stream its SCHEMA, then its records, then its bookmark.

Exports of events are in sync_export.py, REST streams in sync_rest.py.
"""

from __future__ import annotations

import logging

from tap_fullstory import bookmarks
from tap_fullstory.added_columns import segments_of
from tap_fullstory.bookmarks import State
from tap_fullstory.errors import (
    LEVEL_TOO_LOW,
    WRONG_KEY,
    AccessError,
    NetworkError,
    SourceError,
    StreamsFailed,
    TapError,
)
from tap_fullstory.logs.lines import log_members, members_of
from tap_fullstory.logs.report import report_unused
from tap_fullstory.run import Run
from tap_fullstory.selection import Selection
from tap_fullstory.streams import BUNDLES, EVENTS, RestStream
from tap_fullstory.sync_export import BundleRows, ExportSync
from tap_fullstory.sync_rest import RestSync, validate_bookmarks

LOGGER = logging.getLogger(__name__)


def sync(run: Run, selections: list[Selection], state: State) -> None:
    """Write everything that is new since `state`, and the state after it.

    Of several streams, one that fails does not stop the others: StreamsFailed is raised at the
    end. Raises TapError for any other failure, and Interrupted after a signal; all that was emitted
    until then is covered by a STATE message.
    """
    if not selections:
        LOGGER.warning(
            "The catalog selects no stream, so there is nothing to do.",
            extra={"code": "nothing_selected"},
        )
    streams = [one for one in selections if one.stream is not BUNDLES]
    ordered = in_order(streams, bookmarks.currently_syncing(state))
    state = bookmarks.with_currently_syncing(state, None)
    parts: list[tuple[Selection, str]] = []
    for selection in ordered:
        validate_bookmarks(selection.stream, state)
        segments = segments_of(selection.stream, run.config)
        if len(segments) == 1:
            state = bookmarks.with_position_of(state, selection.stream.name, segments[0])
        parts += [(selection, one) for one in (segments if len(segments) > 1 else [""])]
    bundle_rows = _bundle_rows(run, selections)
    failures: dict[str, str] = {}
    causes: list[TapError] = []
    begun: Selection | None = None
    for selection, segment in parts:
        name = selection.stream.name
        if selection is not begun:
            begun = selection
            run.write_schema(selection)
            if len(ordered) > 1:
                state = bookmarks.with_currently_syncing(state, name)
                run.writer.state(state)
        try:
            with log_members(stream=selection.name):
                state = _sync_part(run, selection, segment, state, bundle_rows)
        except (AccessError, SourceError, NetworkError) as error:
            status = error.status if isinstance(error, AccessError) else None
            if len(parts) == 1 or status == WRONG_KEY:
                raise
            part = f"{name} of segment {segment}" if segment else name
            LOGGER.warning(
                "Stream %s failed; the others continue: %s",
                part, error, extra={"code": "stream_failed", **members_of(error)},
            )  # fmt: skip
            too_low = f"HTTP {status}, it needs {selection.stream.needs}."
            failures[part] = too_low if status == LEVEL_TOO_LOW else str(error)
            causes.append(error)
            state = run.writer.last_state or state
    run.writer.state(bookmarks.with_currently_syncing(state, None))
    if run.summary.events or run.summary.records:
        report_unused(ordered)
    if failures:
        raise StreamsFailed(failures, len(parts), causes)


def _sync_part(
    run: Run, selection: Selection, segment: str, state: State, bundle_rows: BundleRows | None
) -> State:
    """Write what is new of a stream, or of one of its segments; return the state after it."""
    stream = selection.stream
    if isinstance(stream, RestStream):
        return RestSync(run, stream, selection).sync(state)
    rows = bundle_rows if stream is EVENTS else None
    with run.export_output(selection) as output:
        return ExportSync(run, selection, segment, output, rows).sync(state)


def _bundle_rows(run: Run, selections: list[Selection]) -> BundleRows | None:
    """Return what writes the stream `bundles`, after its SCHEMA; None if it is not selected."""
    selection = next((one for one in selections if one.stream is BUNDLES), None)
    if selection is None:
        return None
    run.write_schema(selection)
    if not any(one.stream is EVENTS for one in selections):
        LOGGER.warning(
            "The stream %s has a row for each bundle of events, and the catalog does not select "
            "events: it stays empty. Select both.", selection.name,
            extra={"code": "bundles_without_events"},
        )  # fmt: skip
    return BundleRows(selection, run.writer)


def in_order(selections: list[Selection], interrupted: str | None) -> list[Selection]:
    """Return the order to sync in: the catalog's, with exports last, since they take longest. It
    begins with the stream that an earlier run was interrupted in, and wraps around.
    """
    small = [one for one in selections if isinstance(one.stream, RestStream)]
    large = [one for one in selections if not isinstance(one.stream, RestStream)]
    if interrupted in [one.stream.name for one in large]:
        return _beginning_with(interrupted, large) + small
    return _beginning_with(interrupted, small) + large


def _beginning_with(name: str | None, selections: list[Selection]) -> list[Selection]:
    names = [one.stream.name for one in selections]
    at = names.index(name) if name in names else 0
    return selections[at:] + selections[:at]
