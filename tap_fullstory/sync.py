"""The sync loop: for each selected stream its SCHEMA, then its records, then its bookmark.

Exports of events are in sync_export.py, REST streams in sync_rest.py.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial

from tap_fullstory import bookmarks
from tap_fullstory.bookmarks import State
from tap_fullstory.catalog import Selection
from tap_fullstory.errors import (
    LEVEL_TOO_LOW,
    WRONG_KEY,
    AccessError,
    NetworkError,
    SourceError,
    StreamsFailed,
    TapError,
)
from tap_fullstory.fullstory.client import Client
from tap_fullstory.logs.lines import log_members, members_of
from tap_fullstory.logs.progress import RunSummary
from tap_fullstory.logs.report import report_unused
from tap_fullstory.output.batch import BatchFolder, BatchWriter, RecordWriter
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.settings import Config
from tap_fullstory.signals import Signals
from tap_fullstory.streams import BUNDLES, EVENTS, RestStream
from tap_fullstory.sync_export import BundleRows
from tap_fullstory.sync_rest import RestSync, check_bookmarks
from tap_fullstory.sync_segments import parts_of, sync_part

LOGGER = logging.getLogger(__name__)


def sync(
    config: Config,
    selections: list[Selection],
    state: State,
    client: Client,
    writer: MessageWriter,
    signals: Signals,
    now: datetime,
    summary: RunSummary,
) -> None:
    """Write everything that is new since `state`, and the state after it.

    Of several streams, one that fails does not stop the others: StreamsFailed is raised at the
    end. Raises TapError for any other failure, and Interrupted after a signal; all that was emitted
    until then is covered by a STATE message. `summary` gets the numbers.
    """
    if not selections:
        LOGGER.warning(
            "The catalog selects no stream, so there is nothing to do.",
            extra={"code": "nothing_selected"},
        )
    of_bundles = next((one for one in selections if one.stream is BUNDLES), None)
    streams = [one for one in selections if one is not of_bundles]
    ordered = in_order(streams, bookmarks.currently_syncing(state))
    bundle_rows: BundleRows | None = None
    if of_bundles is not None:
        _schema(of_bundles, writer)
        bundle_rows = BundleRows(of_bundles, writer)
        if not any(one.stream is EVENTS for one in ordered):
            LOGGER.warning(
                "The stream %s has a row for each bundle of events, and the catalog does not "
                "select events: it stays empty. Select both.", of_bundles.name,
                extra={"code": "bundles_without_events"},
            )  # fmt: skip
    parts = {one.stream.name: parts_of(one.stream, config) for one in ordered}
    count = sum(map(len, parts.values()))
    state = bookmarks.with_currently_syncing(state, None)
    for selection in ordered:
        check_bookmarks(selection.stream, state)
    folder = BatchFolder(config.batch_config, writer, signals) if config.batch_config else None
    emit = partial(_emit, config, client, writer, folder, signals, summary, now, bundle_rows)
    failures: dict[str, str] = {}
    causes: list[TapError] = []
    for selection in ordered:
        stream = selection.stream
        _schema(selection, writer)
        if len(ordered) > 1:
            state = bookmarks.with_currently_syncing(state, stream.name)
            writer.state(state)
        for part in parts[stream.name]:
            name = f"{stream.name} of segment {part}" if part else stream.name
            try:
                with log_members(stream=selection.name):
                    state = emit(selection, part, state)
            except (AccessError, SourceError, NetworkError) as error:
                status = error.status if isinstance(error, AccessError) else None
                if count == 1 or status == WRONG_KEY:
                    raise
                LOGGER.warning(
                    "Stream %s failed; the others continue: %s",
                    name, error, extra={"code": "stream_failed", **members_of(error)},
                )  # fmt: skip
                too_low = f"HTTP {status}, it needs {stream.needs}."
                failures[name] = too_low if status == LEVEL_TOO_LOW else str(error)
                causes.append(error)
                state = writer.last_state or state
    writer.state(bookmarks.with_currently_syncing(state, None))
    if summary.events or summary.records:
        report_unused(ordered)
    if failures:
        raise StreamsFailed(failures, count, causes)


def _schema(selection: Selection, writer: MessageWriter) -> None:
    key = selection.stream.replication_key
    writer.schema(selection.name, selection.schema, selection.key_properties, [key] if key else [])


def _emit(
    config: Config,
    client: Client,
    writer: MessageWriter,
    folder: BatchFolder | None,
    signals: Signals,
    summary: RunSummary,
    now: datetime,
    bundle_rows: BundleRows | None,
    selection: Selection,
    part: str,
    state: State,
) -> State:
    """Emit what is new of a stream, or of one part of it; return the state after it."""
    stream = selection.stream
    if isinstance(stream, RestStream):
        return RestSync(stream, selection, client, writer, signals, summary, now).run(state)
    with ExitStack() as opened:
        output: RecordWriter = writer
        if folder is not None:
            batches = BatchWriter(
                folder, stream.name, selection.name, selection.schema["properties"]
            )
            output = opened.enter_context(closing(batches))
        rows = bundle_rows if stream is EVENTS else None
        return sync_part(
            config, selection, part, client, output, signals, summary, state, now, rows
        )


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
