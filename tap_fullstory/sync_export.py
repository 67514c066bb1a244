"""One export stream: each bundle's records, checkpoints inside it, then the bookmark at its end.

Nothing is lost: the bookmark moves past a bundle in one place, after its last record. Nothing is
doubled: checkpoints in between say how far a bundle has got, and the next run continues there.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Raw
from singer import metrics

from tap_fullstory import bookmarks
from tap_fullstory.added_columns import (
    BUNDLE_ID,
    REPLAY_URL,
    SEGMENT_ID,
    added_columns,
    replays,
)
from tap_fullstory.bookmarks import Partial, State
from tap_fullstory.catalog import EVENT_DIGEST
from tap_fullstory.counts import BoundedCounter
from tap_fullstory.errors import BundleError, TargetError
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.exports.sources import ExportSource, open_source
from tap_fullstory.exports.spool import Fetched, SpooledBundle, fetch, prefetch
from tap_fullstory.exports.unpack import TruncatedFile
from tap_fullstory.fields import Fate
from tap_fullstory.logs.lines import log_members
from tap_fullstory.logs.progress import Progress
from tap_fullstory.logs.report import report_bundle, report_left_out, report_undeclared
from tap_fullstory.output.batch import BARE_RECORD, RecordWriter
from tap_fullstory.output.messages import MessageWriter, record_envelope
from tap_fullstory.records.added import (
    MakeMember,
    adding_members,
    replay_url_maker,
    with_constants,
)
from tap_fullstory.records.digest import digest_key
from tap_fullstory.records.encoder import Batch, EncodingStats, RecordEncoder
from tap_fullstory.records.json_text import encode
from tap_fullstory.records.native import is_available
from tap_fullstory.records.reader import ChecksumMismatch, EventReader, Malformed, Position
from tap_fullstory.records.rest import RestRecordBuilder
from tap_fullstory.run import Run
from tap_fullstory.selection import Selection
from tap_fullstory.streams import EVENTS
from tap_fullstory.times import format_rfc3339

LOGGER = logging.getLogger(__name__)


class BundleRows:
    """The stream `bundles`: a row for each bundle of events that is written completely."""

    def __init__(self, selection: Selection, writer: MessageWriter) -> None:
        self._name = selection.name
        self._writer = writer
        self._builder = RestRecordBuilder(selection)

    def write(
        self, identity: str, spooled: SpooledBundle, end: Position, left_out: int | None
    ) -> None:
        """Add the row of a bundle whose file ends at `end`, in unpacked bytes."""
        bundle = spooled.bundle
        values = {
            "id": identity,
            "start": format_rfc3339(bundle.start),
            "end": format_rfc3339(bundle.end),
            "events": end.events,
            "left_out": left_out,
            "bytes": end.bytes,
            "crc32": end.crc32,
            "fetched_at": spooled.fetched_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        members = {name: Raw(encode(value)) for name, value in values.items()}
        envelope = record_envelope(self._name, spooled.fetched_at)
        self._writer.records(envelope.lines([self._builder.build(members, {})]))


class ExportSync:
    """One export stream, of events or of individuals, from listing to bookmark.

    Of several segments, each has a sync of its own: `segment` is empty otherwise. `bundle_rows`
    gets a row for each bundle.
    """

    def __init__(
        self,
        run: Run,
        selection: Selection,
        segment: str,
        output: RecordWriter,
        bundle_rows: BundleRows | None = None,
    ) -> None:
        config = replace(run.config, segment_id=(segment,)) if segment else run.config
        self._run = run
        self._config = config
        batches = config.batch_config
        self._checkpoint_events = batches.batch_size if batches else config.checkpoint_events
        self._selection = selection
        self._segment = segment
        name = selection.stream.name
        self._place = bookmarks.segment_place(name, segment) if segment else (name,)
        self._output = output
        self._bundle_rows = bundle_rows
        self._encoder = RecordEncoder(
            selection,
            text_custom_vars=config.custom_vars_format == "string",
            digest=EVENT_DIGEST in selection.schema["properties"],
            digest_key=digest_key(config),
            replaces_nul=config.replace_nul,
        )
        self._undeclared = BoundedCounter()
        self._written, self._left_out = 0, EncodingStats()

    def sync(self, state: State) -> State:
        """Emit the bundles that end after the bookmark; return the state after the last."""
        run, name = self._run, self._selection.name
        if not is_available():
            LOGGER.info("The C extension is not installed; the tap will use more CPU")
        if self._segment and bookmarks.lacks_position(state, self._place[0], self._segment):
            LOGGER.warning(
                "%s: segment %s begins at start_date, since the state has no position for it. "
                "Rows already written come again, with %s", self._place[0],
                self._segment, SEGMENT_ID, extra={"code": "segment_without_position"},
            )  # fmt: skip
        bookmark = bookmarks.bundle_end(state, self._place)
        if bookmark is not None and bookmark > run.now:
            LOGGER.warning(
                "The bookmark of %s, %s, is in the future: no bundle can end after it yet. If the "
                "state is wrong, correct its bundle_end.", name, format_rfc3339(bookmark),
                extra={"code": "bookmark_in_future"},
            )  # fmt: skip
            return state
        if self._selection.stream is EVENTS:
            run.summary.reads_events = True
            if bookmark is not None:
                self._report_continuation(bookmark)
        self._makers = self._member_makers()
        is_text = self._config.log_format == "text"
        self._progress = Progress(self._config.end_date or run.now, run.summary, live=is_text)
        with closing(open_source(self._config, self._selection, run.client, run.now)) as source:
            self._source: ExportSource = source
            return self._emit_all(state, bookmark)

    def _emit_all(self, state: State, bookmark: datetime | None) -> State:
        listed, interruptible = self._progress.listed, self._run.signals.interruptible
        bundles = self._source.bundles(state, self._place, listed, warns_of_holes=True)
        fetched = prefetch(bundles, self._fetch, self._config.prefetch_bundles, interruptible)
        with self._progress.shown(), metrics.record_counter(self._selection.name) as counter:
            try:
                while (item := self._wait_for(fetched, state)) is not None:
                    bundle, spooled = item
                    if spooled is None:
                        self._progress.left_out()
                        state = self._move_bookmark(bundle, state, bookmark)
                    else:
                        with spooled.file, log_members(bundle=bundle.id):
                            state = self._emit(spooled, state, bookmark, counter)
                    bookmark = bookmarks.bundle_end(state, self._place)
                    self._source.release(bundle)
            finally:
                keeps_overflow = self._selection.keeps_overflow
                report_undeclared(self._selection.name, self._undeclared, keeps_overflow)
                if self._left_out.left_out and not self._written:
                    report_left_out(self._selection.name, self._left_out)
        return state

    def _member_makers(self) -> list[MakeMember]:
        """Return what makes the members that the tap adds, different in each record."""
        if REPLAY_URL not in added_columns(self._selection.stream, self._config):
            return []
        if REPLAY_URL in self._selection.schema["properties"]:
            organization = self._run.client.organization()
            return [replay_url_maker(replays(self._config, organization))]
        LOGGER.warning(
            "%s is not written: the catalog or the config leaves out %s, UserId or SessionId",
            REPLAY_URL, REPLAY_URL, extra={"code": "replay_url_left_out"},
        )  # fmt: skip
        return []

    def _report_continuation(self, bookmark: datetime) -> None:
        """Log what the dates in the config mean beside a bookmark. A start_date that was lowered
        after the first run looks like any other: no state says what it was.
        """
        end_date = self._config.end_date
        if end_date is not None and end_date < bookmark:
            LOGGER.warning(
                "The state covers %s up to %s, which is after end_date (%s): nothing is left to "
                "sync. To load an earlier range, run without this state",
                self._selection.name, format_rfc3339(bookmark), format_rfc3339(end_date),
                extra={"code": "state_after_end_date"},
            )  # fmt: skip
            return
        LOGGER.info(
            "%s: continuing after %s, where the state ends; start_date is used only without a "
            "state", self._selection.name, format_rfc3339(bookmark),
        )  # fmt: skip

    def _wait_for(self, fetched: Iterator[Fetched], state: State) -> Fetched | None:
        try:
            return next(fetched, None)
        except BaseException:
            # What is in progress may take hours more, and the next run should not begin it again.
            in_progress = bookmarks.with_export(state, self._place, self._source.in_progress())
            if in_progress != state:
                self._output.state(in_progress)
            raise

    def _fetch(self, bundle: Bundle) -> Fetched:
        with log_members(bundle=bundle.id):
            return self._fetch_or_skip(bundle)

    def _fetch_or_skip(self, bundle: Bundle) -> Fetched:
        if bundle.id in self._config.skip_bundles:
            LOGGER.warning(
                "Bundle %s (%s) is left out, since skip_bundles in the config names it",
                bundle.id, bundle.period, extra={"code": "bundle_skipped"},
            )  # fmt: skip
            return bundle, None
        try:
            return bundle, fetch(bundle, self._source.download, self._config.spool_dir)
        except BundleError:
            # The next run needs another file, not this one again.
            self._source.release(bundle)
            raise

    def _move_bookmark(self, bundle: Bundle, state: State, bookmark: datetime | None) -> State:
        """Return the state after a bundle, which is written: it is at the bundle's end, or says
        that the bundle is done while others that share its end are not.
        """
        # With what was last written: a member that was there and is gone must become null.
        written = self._output.last_state or state
        if bundle.advances_bookmark:
            state = bookmarks.with_bundle_end(written, self._place, bundle.end)
        else:
            boundary = bookmark or bundle.boundary
            state = bookmarks.with_done(written, self._place, boundary, bundle.id)
        self._output.state(state)
        return state

    def _emit(
        self,
        spooled: SpooledBundle,
        state: State,
        bookmark: datetime | None,
        counter: metrics.Counter,
    ) -> State:
        """Write a bundle's records, with checkpoints among them but none after the last: the
        bookmark follows that. Return the state after it.

        Whatever ends it early, the STATE of what is written goes out first.
        """
        bundle, started = spooled.bundle, time.monotonic()
        envelope = record_envelope(self._selection.name, spooled.fetched_at)
        if self._config.batch_config is not None:
            envelope = BARE_RECORD
        parse: Callable[[bytes], Iterator[Batch]] = partial(
            self._encoder.encode,
            envelope=envelope,
            since=bundle.emitted_before,
            max_events=self._checkpoint_events,
        )
        if constants := self._constants(bundle):
            parse = with_constants(parse, constants, envelope)
        if self._makers:
            parse = adding_members(parse, self._makers, envelope)
        progress = bookmarks.partial(state, self._place)
        found, position = self._reader(spooled, parse, progress, bookmark)
        batches = iter(found)
        boundary = bookmark or bundle.boundary
        first, stats, unsaved = position, EncodingStats(), 0
        reached: State | None = None  # the state inside this bundle, but for the position
        self._progress.begin(bundle)
        self._output.begin(bundle.start)

        def checkpoint() -> None:
            nonlocal reached
            if position.events:
                progress = Partial(bundle.id, position.events, position.bytes, position.crc32)
                if reached is None:
                    shares_end = not bundle.advances_bookmark
                    begun = bookmarks.with_partial(
                        state, self._place, boundary, progress, shares_end=shares_end
                    )
                    in_progress = self._source.in_progress()
                    reached = bookmarks.with_export(begun, self._place, in_progress)
                self._output.state(bookmarks.with_progress(reached, self._place, progress))

        # Nothing in the loop leaves cycles of objects behind; looking for some costs time.
        gc.disable()
        try:
            try:
                while (item := self._next_batch(batches)) is not None:
                    batch, after_batch = item
                    unsaved += batch.events
                    if unsaved > self._checkpoint_events:
                        checkpoint()
                        unsaved = batch.events
                    # Nothing may come between these two: what is added to the output is counted.
                    self._output.records(batch.lines)
                    position = after_batch
                    self._output.flush_if_full()
                    self._progress.events(batch.events)
                    stats.add(batch.stats)
                    counter.increment(batch.written)
                    self._written += batch.written
                    del item, batch  # the next event may be large, and so may their lines
            finally:
                gc.enable()
                report_bundle(stats, bundle)
                self._undeclared.add_all(stats.undeclared)
                self._left_out.left_out += stats.left_out
                self._left_out.types_left_out.add_all(stats.types_left_out)
            if self._bundle_rows is not None:
                left_out = None if first.events else stats.left_out + stats.before_bookmark
                self._bundle_rows.write(
                    self._identity(bundle), spooled, found.end or position, left_out
                )
            state = self._move_bookmark(bundle, state, bookmark)
        except TargetError:
            raise
        except (Malformed, TruncatedFile) as error:
            checkpoint()
            raise BundleError(str(error), bundle.id, bundle.period, error.offset) from None
        except BaseException:
            checkpoint()
            raise
        self._progress.end(
            bundle, position.events - first.events, time.monotonic() - started, first.events
        )
        return state

    def _identity(self, bundle: Bundle) -> str:
        """Return what BundleId is. Of several segments, each is exported for the same windows."""
        return f"{self._segment}/{bundle.id}" if self._segment else bundle.id

    def _constants(self, bundle: Bundle) -> list[bytes]:
        """Return the members that the tap adds to each record of a bundle."""
        members = []
        for name, value in ((SEGMENT_ID, self._segment), (BUNDLE_ID, self._identity(bundle))):
            if value and name in self._selection.added:
                is_hashed = self._selection.rules.fate(name) is Fate.HASHED
                text = self._selection.rules.hash(encode(value)) if is_hashed else encode(value)
                members.append(encode(name) + b":" + text)
        return members

    def _next_batch(
        self, batches: Iterator[tuple[Batch, Position]]
    ) -> tuple[Batch, Position] | None:
        """Return the next batch and the position after it. Reading and encoding write nothing and
        hold no lock, so a signal ends them wherever they are.
        """
        with self._run.signals.interruptible():
            return next(batches, None)

    def _reader(
        self,
        spooled: SpooledBundle,
        parse: Any,
        progress: Partial | None,
        bookmark: datetime | None,
    ) -> tuple[EventReader[Batch], Position]:
        """Return a reader at the position where an earlier run has stopped, or at the start."""
        bundle = spooled.bundle

        def from_start() -> EventReader[Batch]:
            return EventReader(
                spooled.chunks(),
                parse,
                max_event_bytes=self._config.max_event_mb * 1024 * 1024,
            )

        reader = from_start()
        if progress is None:
            return reader, Position()
        if progress.id == bundle.id:
            position = Position(progress.events, progress.bytes, progress.crc32)
            try:
                # Gigabytes, perhaps, and nothing is written meanwhile.
                with self._run.signals.interruptible():
                    reader.skip_to(position)
            except ChecksumMismatch:
                pass
            else:
                LOGGER.info(
                    "Bundle %s (%s) resumes after %d events",
                    bundle.id, bundle.period, progress.events,
                )  # fmt: skip
                return reader, position
        elif bookmark is not None and self._run.signals.run_interruptibly(
            partial(self._source.is_emitted, progress.id, bundle, bookmark)
        ):
            return reader, Position()  # a program has merged an older state with a newer one
        LOGGER.warning(
            "An earlier run emitted %d events of bundle %s, which has changed since: bundle %s "
            "(%s) is written again from its start, so up to %d rows may come twice",
            progress.events, progress.id, bundle.id, bundle.period, progress.events,
            extra={"code": "bundle_changed"},
        )  # fmt: skip
        return from_start(), Position()
