"""The Segment Export API as a source: exports made to order, each of a window of time.

FullStory's steps for one (help.fullstory.com, article 360057606414): create it, ask its operation
until that is done, ask where the file lies, download it from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO

from tap_fullstory import state as states
from tap_fullstory.catalog import CUSTOM_PREFIXES, Selection, is_custom
from tap_fullstory.client import Bundle, Client, Listed, ignore_listing
from tap_fullstory.config import Config
from tap_fullstory.errors import NetworkError, SourceError, TapError
from tap_fullstory.http import Gone
from tap_fullstory.state import Export, State
from tap_fullstory.times import format_rfc3339

LOGGER = logging.getLogger(__name__)

# Seconds between two looks at an operation, doubled each time: a small export is done at once, and
# of one that takes an hour nobody needs to know within the second. No interval is documented.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30
EXPORTS_A_WINDOW = 2  # created in a run, before it gives up
LAST_WAIT = 5  # seconds that the end of a run waits for an order in hand, to cancel what it begins
# The name under which bundles have PageUserAgent. Exports do not know it, whereas they still know
# EventTargetSelectorTok (github.com/fullstorydev/hauser, warehouse/schema.go, specialCasedFields).
BUNDLES_ONLY = "PageAgent"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Order:
    """What to export of each window: `kind` is TYPE_EVENT or TYPE_INDIVIDUAL, `segment_id` whom it
    covers. `fields` restricts it to these, sorted; None lets everything in, so that fields which
    FullStory adds tomorrow come too.
    """

    kind: str
    segment_id: str
    fields: tuple[str, ...] | None

    def body(self, window: Bundle) -> dict[str, Any]:
        """What "Create Segment Export" wants to be told (developer.fullstory.com)."""
        span = {"start": format_rfc3339(window.start), "end": format_rfc3339(window.end)}
        fields = {} if self.fields is None else {"fields": list(self.fields)}
        return {
            "segmentId": self.segment_id,
            "type": self.kind,
            "format": "FORMAT_JSON",
            "timeRange": span,
            # Without it `everyone` is whoever came in the last 30 days, and an older window is
            # empty, with no error.
            "segmentTimeRange": span,
            **fields,
        }


class _Failed(Exception):
    """An export that will not be finished; its text says why."""


class SegmentExport:
    """Orders the exports of one stream, and knows which of them are under way.

    `spans` gives the windows after a bookmark, none of which ends after `latest_end`. `timeout` is
    how long one export may stay unfinished. `sleep` and `clock` are in seconds.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        order: Order,
        spans: Callable[[datetime | None], Iterator[Span]],
        latest_end: datetime,
        timeout: timedelta,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._stream = stream
        self._order = order
        self._spans = spans
        self._latest_end = latest_end
        self._timeout = timeout.total_seconds()
        self._sleep = sleep
        self._clock = clock
        self._creating = threading.Lock()
        self._closed = False
        self._exports: dict[str, Export] = {}  # by window id, oldest window first
        self._unfinished: set[str] = set()  # operation ids
        self._told: str | None = None  # the operation that the state remembers
        self._taken_up: str | None = None  # the operation that an earlier run has ordered

    def bundles(self, state: State, listed: Listed = ignore_listing) -> Iterator[Bundle]:
        """As ExportSource has it.

        An export that an earlier run has ordered comes first, with its window as it was cut, if it
        is what this run wants: a new one may have its rows in another order, and what has been
        emitted of it would come twice.
        """
        found: list[Bundle] = []
        bookmark = states.bundle_end(state, self._stream)
        earlier = states.export(state, self._stream)
        if earlier is not None and earlier.start == bookmark and self._wants(earlier):
            window = _window(earlier.start, earlier.end)
            self._exports[window.id] = earlier
            self._unfinished.add(earlier.id)
            self._taken_up = earlier.id
            LOGGER.info(
                "Bundle %s: going on with export %s of an earlier run", window.id, earlier.id
            )
            found.append(window)
            bookmark = earlier.end
        found += [_window(start, end) for start, end in self._spans(bookmark)]
        listed(found, False)
        yield from found

    def download(self, bundle: Bundle, sink: BinaryIO) -> None:
        """As ExportSource has it. An export that fails, or is gone, is ordered anew, once.

        Raises NetworkError if one is not finished in time, SourceError if the second one fails too.
        """
        orders = 0
        while True:
            export = self._exports.get(bundle.id)
            if export is None:
                export = self._create(bundle)
                orders += 1
            try:
                self._client.download_export(self._result_id(export, bundle), sink)
            except (Gone, _Failed) as reason:
                if self._closed:  # and so cancelled
                    raise
                self._forget(bundle, export)
                if orders == EXPORTS_A_WINDOW:
                    raise SourceError(
                        f"FullStory has not exported {bundle.period}: {reason}. The bookmark stays "
                        "before it. Run again with the last state; if it fails again, set a "
                        "smaller export_window_hours, or show this line to FullStory support."
                    ) from None
                LOGGER.warning("Bundle %s: %s; exporting it anew", bundle.id, reason)
            else:
                return

    def release(self, bundle: Bundle) -> None:
        self._exports.pop(bundle.id, None)

    def under_way(self) -> Export | None:
        export = next(iter(list(self._exports.values())), None)
        self._told = None if export is None else export.id
        return export

    def close(self) -> None:
        self._closed = True
        # An order in hand has no id yet. The thread that has it may also be stuck.
        idle = self._creating.acquire(timeout=LAST_WAIT)
        for operation_id in sorted(self._unfinished - {self._told}):
            try:
                self._client.cancel_operation(operation_id)
                LOGGER.info("Cancelled export %s, which nobody would fetch", operation_id)
            except TapError as error:
                LOGGER.warning("Export %s stays, and will run out: %s", operation_id, error)
        if idle:
            self._creating.release()

    def _wants(self, earlier: Export) -> bool:
        order = self._order
        same = (earlier.fields, earlier.segment) == (order.fields, order.segment_id)
        return same and earlier.start < earlier.end <= self._latest_end

    def _create(self, bundle: Bundle) -> Export:
        with self._creating:
            if self._closed:
                raise _Failed("the run is over")
            operation_id = self._client.create_export(self._order.body(bundle))
            order = self._order
            export = Export(operation_id, bundle.start, bundle.end, order.fields, order.segment_id)
            self._unfinished.add(operation_id)
            self._exports[bundle.id] = export
        LOGGER.info("Bundle %s: ordered export %s", bundle.id, operation_id)
        return export

    def _result_id(self, export: Export, bundle: Bundle) -> str:
        """Wait for an export. Raises _Failed if it fails, NetworkError if it takes too long, and
        Gone if FullStory does not know it.
        """
        deadline, pause = self._clock() + self._timeout, FIRST_PAUSE
        while True:
            operation = self._client.operation(export.id)
            if operation.state == "FAILED":
                raise _Failed(f"export {export.id} failed: {operation.error or 'no reason given'}")
            if operation.state == "COMPLETED":
                self._unfinished.discard(export.id)
                if operation.result_id is None:
                    raise _Failed(f"export {export.id} is completed without results")
                return operation.result_id
            left = deadline - self._clock()
            if left <= 0:
                raise self._overdue(export, bundle, operation.state)
            pause = min(pause, left)
            LOGGER.info(
                "Bundle %s: export %s is %s, at %s %%; looking again in %.1f s",
                bundle.id, export.id, operation.state, operation.percent, pause,
            )  # fmt: skip
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _overdue(self, export: Export, bundle: Bundle, state: str) -> NetworkError:
        stuck = export.id == self._taken_up
        if stuck:
            self._exports.pop(bundle.id, None)  # but it is still to be cancelled
        then = (
            "It was late in an earlier run too: the next one orders it anew"
            if stuck
            else "The next run with the last state goes on waiting for it"
        )
        return NetworkError(
            f"FullStory has not exported {bundle.period} in {self._timeout / 60:.0f} minutes: "
            f"export {export.id} is {state}. {then}. Raise export_timeout_minutes, or set a "
            "smaller export_window_hours."
        )

    def _forget(self, bundle: Bundle, export: Export) -> None:
        self.release(bundle)
        self._unfinished.discard(export.id)


def events_by_window(
    config: Config, selection: Selection, client: Client, now: datetime
) -> SegmentExport:
    """The events, in windows of `export_window_hours`; as exports.open_source."""
    latest_end = _latest_end(config, now)
    step = timedelta(hours=config.export_window_hours)

    def spans(bookmark: datetime | None) -> Iterator[Span]:
        return windows(bookmark, config.start_date, latest_end, step)

    order = Order("TYPE_EVENT", config.segment_id, export_fields(selection, CUSTOM_PREFIXES))
    timeout = timedelta(minutes=config.export_timeout_minutes)
    return SegmentExport(client, selection.stream, order, spans, latest_end, timeout)


def individuals(
    config: Config, selection: Selection, client: Client, now: datetime
) -> SegmentExport:
    """The people active since the bookmark, in one window; as exports.open_source."""
    latest_end = _latest_end(config, now).replace(microsecond=0)

    def spans(bookmark: datetime | None) -> Iterator[Span]:
        start = bookmark or config.start_date.replace(microsecond=0)
        if start < latest_end:
            yield start, latest_end

    order = Order("TYPE_INDIVIDUAL", config.segment_id, export_fields(selection, ("user_",)))
    timeout = timedelta(minutes=config.export_timeout_minutes)
    return SegmentExport(client, selection.stream, order, spans, latest_end, timeout)


def windows(
    bookmark: datetime | None, start_date: datetime, latest_end: datetime, step: timedelta
) -> Iterator[Span]:
    """Windows end to end: cells of a grid from midnight UTC, `step` wide, a divisor of a day.

    On the first run, without a bookmark, the cells whose end lies after `start_date`, whole; with a
    bookmark inside a cell, the rest of that cell first. None ends after `latest_end`.
    """
    moment = bookmark or start_date
    cell = _EPOCH + (moment - _EPOCH) // step * step
    start = bookmark or cell
    while latest_end - cell >= step:
        yield start, cell + step
        start = cell = cell + step


def export_fields(selection: Selection, prefixes: tuple[str, ...]) -> tuple[str, ...] | None:
    """The `fields` of an order: None unless they keep something out, else sorted, each one once.

    FullStory refuses a field that is named twice, and sends a custom variable only if it is named,
    or its kind is, as `user_*` ("Create Segment Export"; `page_*` is in hauser's
    warehouse/schema.go). CustomVars takes all of them; one that is deselected is left out later.
    """
    names = {name for name in selection.columns if name != BUNDLES_ONLY}
    if selection.custom_vars:
        if all(map(is_custom, selection.dropped - {BUNDLES_ONLY})):
            return None
        names = {name for name in names if not is_custom(name)}
        names |= {f"{prefix}*" for prefix in prefixes}
    return tuple(sorted(names))


def _latest_end(config: Config, now: datetime) -> datetime:
    settled = now - timedelta(hours=config.export_delay_hours)
    return settled if config.end_date is None else min(settled, config.end_date)


def _window(start: datetime, end: datetime) -> Bundle:
    """A window as a bundle. Its id is an interval as ISO 8601 writes it: the same in each run, as
    the id of an export would not be, so that `skip_bundles` can name it.
    """
    return Bundle(f"{format_rfc3339(start)}/{format_rfc3339(end)}", start, end)
