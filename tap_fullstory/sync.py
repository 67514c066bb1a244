"""The story: for each stream, for each bundle its records, then the bookmark.

Nothing is lost: the bookmark moves past a bundle in one place, after its last record. Nothing is
doubled: checkpoints in between say how far a bundle has got, and the next run goes on there.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Any

from singer import metrics

from tap_fullstory import state as states
from tap_fullstory.catalog import EVENT_DIGEST, Selection
from tap_fullstory.client import Bundle, Client
from tap_fullstory.config import Config
from tap_fullstory.counts import BoundedCounter
from tap_fullstory.errors import (
    AccessError,
    BundleError,
    Interrupted,
    NetworkError,
    SourceError,
    StreamsFailed,
    TapError,
)
from tap_fullstory.events import ChecksumMismatch, EventReader, Malformed, Position
from tap_fullstory.exports import ExportSource, open_source
from tap_fullstory.interrupts import Interrupts
from tap_fullstory.messages import MessageWriter, record_envelope
from tap_fullstory.native import is_available
from tap_fullstory.progress import Progress
from tap_fullstory.records import Batch, EncodingStats, RecordEncoder
from tap_fullstory.report import report_bundle, report_undeclared
from tap_fullstory.rest import RestSync, check_bookmarks
from tap_fullstory.spool import Fetched, Incomplete, SpooledBundle, fetch, fetch_ahead
from tap_fullstory.state import Partial, State
from tap_fullstory.streams import RestStream
from tap_fullstory.times import format_rfc3339

LOGGER = logging.getLogger(__name__)

WRONG_KEY, LEVEL_TOO_LOW = 401, 403  # the one holds for all streams, the other for some


def sync(
    config: Config,
    selections: list[Selection],
    state: State,
    client: Client,
    writer: MessageWriter,
    interrupts: Interrupts,
    now: datetime,
) -> None:
    """Write everything that is new since `state`, and the state after it.

    Of several streams, one that fails does not stop the others: then StreamsFailed is raised at the
    end. Raises TapError for what fails otherwise, and Interrupted if a signal breaks it off; all
    that was emitted until then is covered by a STATE message.
    """
    if config.workers > 1:
        LOGGER.warning(
            "workers in the config no longer does anything: remove it. One process makes records "
            "faster than any target that we know of loads them."
        )
    if not selections:
        LOGGER.warning("The catalog selects no stream, so there is nothing to do.")
    ordered = in_order(selections, states.currently_syncing(state))
    several = len(ordered) > 1
    state = states.with_currently_syncing(state, None)
    for selection in ordered:
        check_bookmarks(selection.row, state)
    failures: dict[str, str] = {}
    for selection in ordered:
        row = selection.row
        bookmark_properties = [row.replication_key] if row.replication_key else []
        writer.schema(
            selection.stream, selection.schema, selection.key_properties, bookmark_properties
        )
        if several:
            state = states.with_currently_syncing(state, row.name)
            writer.state(state)
        try:
            if isinstance(row, RestStream):
                state = RestSync(row, selection, client, writer, interrupts).run(state)
            else:
                source = open_source(config, selection, client, now)
                with closing(source):
                    export = EventsSync(config, selection, source, writer, interrupts)
                    state = export.run(state, now)
        except (AccessError, SourceError, NetworkError) as error:
            status = error.status if isinstance(error, AccessError) else None
            if not several or status == WRONG_KEY:
                raise
            LOGGER.warning("Stream %s failed, the others go on: %s", row.name, error)
            too_low = f"HTTP {status}, it needs {row.needs}."
            failures[row.name] = too_low if status == LEVEL_TOO_LOW else str(error)
            state = writer.last_state or state
    writer.state(states.with_currently_syncing(state, None))
    if failures:
        raise StreamsFailed(failures, len(ordered))


def in_order(selections: list[Selection], interrupted: str | None) -> list[Selection]:
    """The order to sync in: the catalog's, with exports last, since they take longest. It begins
    with the stream that an earlier run was interrupted in, and goes round.
    """
    small = [one for one in selections if isinstance(one.row, RestStream)]
    large = [one for one in selections if not isinstance(one.row, RestStream)]
    if interrupted in [one.row.name for one in large]:
        return _beginning_with(interrupted, large) + small
    return _beginning_with(interrupted, small) + large


def _beginning_with(name: str | None, selections: list[Selection]) -> list[Selection]:
    names = [one.row.name for one in selections]
    at = names.index(name) if name in names else 0
    return selections[at:] + selections[:at]


class EventsSync:
    """One export stream, of events or of individuals, from listing to bookmark."""

    def __init__(
        self,
        config: Config,
        selection: Selection,
        source: ExportSource,
        writer: MessageWriter,
        interrupts: Interrupts,
    ) -> None:
        self._config = config
        self._stream = selection.stream
        self._custom_vars = selection.custom_vars
        self._source = source
        self._writer = writer
        self._interrupts = interrupts
        self._encoder = RecordEncoder(
            selection,
            text_custom_vars=config.custom_vars_format == "string",
            digest=EVENT_DIGEST in selection.schema["properties"],
            check=interrupts.check,
        )
        self._undeclared = BoundedCounter()

    def run(self, state: State, now: datetime) -> State:
        """Emit the bundles that end after the bookmark; return the state after the last."""
        if not is_available():
            LOGGER.info(
                "The compiled part of the tap is not there: it takes several times as much CPU"
            )
        bookmark = states.bundle_end(state, self._stream)
        if bookmark is not None and bookmark > now:
            LOGGER.warning(
                "The bookmark of %s, %s, lies in the future: no bundle can end after it yet. If "
                "the state is wrong, mend its bundle_end.", self._stream, format_rfc3339(bookmark),
            )  # fmt: skip
            return state
        self._progress = Progress(self._config.end_date or now)
        bundles = self._source.bundles(state, self._progress.listed)
        ahead, waiting = self._config.prefetch_bundles, self._interrupts.waiting
        fetched = fetch_ahead(bundles, self._fetch, ahead, waiting)
        shown = self._progress.shown()
        with shown, metrics.record_counter(self._stream) as counter:
            try:
                while (item := self._wait_for(fetched, state)) is not None:
                    bundle, spooled = item
                    if spooled is None:
                        self._progress.left_out()
                    else:
                        try:
                            self._emit(spooled, state, counter)
                        finally:
                            spooled.close()
                    if bundle.closes:
                        state = states.with_bundle_end(state, self._stream, bundle.end)
                        self._writer.state(state)
                    elif bookmark is not None:
                        state = states.with_bundle_end(state, self._stream, bookmark)
                    bookmark = states.bundle_end(state, self._stream)
                    self._source.release(bundle)
            finally:
                report_undeclared(self._stream, self._undeclared, self._custom_vars)
        return state

    def _wait_for(self, fetched: Iterator[Fetched], state: State) -> Fetched | None:
        try:
            return next(fetched, None)
        except (Interrupted, TapError):
            # What is under way may take hours more, and the next run should not begin it again.
            under_way = states.with_export(state, self._stream, self._source.under_way())
            if under_way != state:
                self._writer.state(under_way)
            raise

    def _fetch(self, bundle: Bundle) -> Fetched:
        if bundle.id in self._config.skip_bundles:
            LOGGER.warning(
                "Bundle %s (%s) is left out, since skip_bundles in the config names it",
                bundle.id, bundle.period,
            )  # fmt: skip
            return bundle, None
        try:
            return bundle, fetch(bundle, self._source.download, self._config.spool_dir)
        except BundleError:
            self._source.release(bundle)
            raise

    def _emit(self, spooled: SpooledBundle, state: State, counter: metrics.Counter) -> None:
        """Write the records of one bundle, with a checkpoint wherever one is due."""
        bundle, started = spooled.bundle, time.monotonic()
        bookmark = states.bundle_end(state, self._stream)
        since = bookmark if bookmark is not None and bookmark > bundle.start else None
        envelope = record_envelope(self._stream, spooled.fetched_at)
        parse = partial(
            self._encoder.encode,
            envelope=envelope,
            since=since,
            max_events=self._config.checkpoint_events,
        )
        reader, position = self._reader(spooled, parse, states.partial(state, self._stream))
        first, stats, unsaved = position, EncodingStats(), 0
        self._progress.begin(bundle)

        def checkpoint() -> None:
            if position.events:
                progress = Partial(bundle.id, position.events, position.bytes, position.crc32)
                boundary = bookmark or bundle.start
                reached = states.with_partial(state, self._stream, boundary, progress)
                under_way = self._source.under_way()
                self._writer.state(states.with_export(reached, self._stream, under_way))

        # Nothing in the loop leaves cycles of objects behind; looking for some costs time.
        gc.disable()
        try:
            for batch, after_batch in reader:
                if unsaved + batch.events > self._config.checkpoint_events:
                    checkpoint()
                    unsaved = 0
                self._writer.records(batch.lines)
                position, unsaved = after_batch, unsaved + batch.events
                self._progress.events(batch.events)
                stats.add(batch.stats)
                counter.increment(batch.events - batch.stats.before_bookmark)
                self._interrupts.check()
        except Interrupted:
            checkpoint()
            raise
        except (Malformed, Incomplete) as error:
            checkpoint()
            raise BundleError(str(error), bundle.id, bundle.period, error.offset) from None
        finally:
            gc.enable()
            report_bundle(stats, bundle)
            self._undeclared.add_all(stats.undeclared)
        if not bundle.closes:
            checkpoint()
        seconds = time.monotonic() - started
        self._progress.end(bundle, position.events - first.events, seconds)

    def _reader(
        self, spooled: SpooledBundle, parse: Any, progress: Partial | None
    ) -> tuple[EventReader[Batch], Position]:
        """A reader at the place where an earlier run has stopped, or at the start."""

        def from_start() -> EventReader[Batch]:
            return EventReader(
                spooled.blocks(),
                parse,
                max_event_bytes=self._config.max_event_mb * 1024 * 1024,
                check=self._interrupts.check,
            )

        reader = from_start()
        if progress is None:
            return reader, Position()
        if progress.id == spooled.bundle.id:
            position = Position(progress.events, progress.bytes, progress.crc32)
            try:
                # Gigabytes, perhaps, and nothing is written meanwhile.
                with self._interrupts.waiting():
                    reader.skip_to(position)
            except ChecksumMismatch:
                pass
            else:
                LOGGER.info(
                    "Bundle %s (%s) goes on after %d events",
                    spooled.bundle.id, spooled.bundle.period, progress.events,
                )  # fmt: skip
                return reader, position
        LOGGER.warning(
            "An earlier run emitted %d events of bundle %s, which has changed since: bundle %s "
            "(%s) is emitted from its start, so up to %d rows may come twice",
            progress.events, progress.id, spooled.bundle.id, spooled.bundle.period, progress.events,
        )  # fmt: skip
        return from_start(), Position()
