"""The Segment Export API as a source: exports made to order, each of a window of time.

FullStory's steps for one (help.fullstory.com, article 360057606414): create it, poll its operation
until that is done, request the URL of the file, download it from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO

from tap_fullstory import bookmarks
from tap_fullstory.bookmarks import EVERYONE, Export, Place, State
from tap_fullstory.catalog import EVENT_TYPE
from tap_fullstory.columns import CUSTOM_PREFIXES, is_custom
from tap_fullstory.errors import NetworkError, SourceError, TapError
from tap_fullstory.exports.bundle import Bundle, OnListed, ignore_listing
from tap_fullstory.fullstory.client import Client
from tap_fullstory.fullstory.download import REPORT_SECONDS
from tap_fullstory.fullstory.responses import BadRequest, ResourceGone
from tap_fullstory.fullstory.session import MAX_CLOCK_SKEW
from tap_fullstory.selection import Selection
from tap_fullstory.settings import Config
from tap_fullstory.streams import INDIVIDUALS
from tap_fullstory.times import duration, format_rfc3339, parse_rfc3339

# The name under which bundles have PageUserAgent. Exports do not know it, whereas they still know
# EventTargetSelectorTok (github.com/fullstorydev/hauser, warehouse/schema.go, specialCasedFields).
BUNDLES_ONLY = "PageAgent"
# Of accounts with FullStory for Mobile Apps. Whether others may ask for them is not documented;
# FullStory's own exporter does so only if told to (github.com/fullstorydev/hauser,
# internal/service.go, IncludeMobileAppsFields).
MOBILE_FIELDS = frozenset(
    """
    AppName AppPackageName AppDeviceModel AppDeviceVendor AppVersion AppOsVersion AppViewName
    EventMobileSourceFile
    """.split()
)
# By the values of export_scope. SCOPE_EVENTS is the default, and documentation and clients disagree
# on how it is spelled, so it is not sent.
_SCOPES = {
    "pages": "SCOPE_PAGES",
    "sessions": "SCOPE_SESSIONS",
    "individuals": "SCOPE_INDIVIDUALS",
}
_ALL_TIME = {"start": "", "end": ""}


@dataclass(frozen=True)
class ExportRequest:
    """What to export of each window: `kind` is TYPE_EVENT or TYPE_INDIVIDUAL, `segment_id` whom it
    covers. `fields`, sorted, restricts it to these; with None everything comes, fields that
    FullStory adds tomorrow too. `scope` and `time_range` are what export_scope and
    segment_time_range say.
    """

    kind: str
    segment_id: str
    fields: tuple[str, ...] | None
    scope: str = "events"
    time_range: str = "window"

    def body(self, window: Bundle) -> dict[str, Any]:
        """Return the body of "Create Segment Export" (developer.fullstory.com)."""
        time_range = {"start": format_rfc3339(window.start), "end": format_rfc3339(window.end)}
        body = {
            "segmentId": self.segment_id,
            "type": self.kind,
            "format": "FORMAT_JSON",
            "timeRange": time_range,
        }
        if self.time_range != "own":
            # Without it `everyone` means those active in the last 30 days, and an older window is
            # empty, without an error.
            body["segmentTimeRange"] = _ALL_TIME if self.time_range == "all" else time_range
        if self.scope in _SCOPES:
            body["eventDetails"] = {"scope": _SCOPES[self.scope]}
        if self.fields is not None:
            body["fields"] = list(self.fields)
        return body

    def export(self, operation_id: str, window: Bundle) -> Export:
        """Return what the state remembers of the export of a window."""
        return Export(
            operation_id,
            window.start,
            window.end,
            self.fields,
            self.segment_id,
            self.scope,
            self.time_range,
        )

    def is_that_of(self, earlier: Export) -> bool:
        """Return whether this request would create an export like one that the state remembers."""
        fields = (self.fields, self.without_mobile_fields().fields)
        wanted = (self.segment_id, self.scope, self.time_range)
        return earlier.fields in fields and wanted == (
            earlier.segment,
            earlier.scope,
            earlier.time_range,
        )

    def without_mobile_fields(self) -> ExportRequest:
        """Return the same request without the fields that some accounts may not ask for."""
        if self.fields is None:
            return self
        fields = tuple(name for name in self.fields if name not in MOBILE_FIELDS)
        return replace(self, fields=fields)


def export_request(config: Config, selection: Selection) -> ExportRequest:
    """Return what to ask for of a stream, for the first of the config's segments.

    Everybody matches `everyone` at all times, so there the scope and the range have no meaning: its
    own range, the last 30 days, would only leave out older windows.
    """
    (segment_id, *_) = config.segment_id
    individuals = selection.stream is INDIVIDUALS
    kind = "TYPE_INDIVIDUAL" if individuals else "TYPE_EVENT"
    fields = export_fields(selection, ("user_",) if individuals else CUSTOM_PREFIXES)
    if segment_id == EVERYONE:
        return ExportRequest(kind, segment_id, fields)
    scope = "events" if individuals else config.export_scope
    return ExportRequest(kind, segment_id, fields, scope, config.segment_time_range)


def export_fields(selection: Selection, prefixes: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the `fields` to ask for, sorted, each once; None if they would keep nothing out.

    FullStory refuses a field that is named twice, and sends a custom variable only if it is named,
    or its kind is, as `user_*` ("Create Segment Export"; `page_*` is in hauser's
    warehouse/schema.go). CustomVars takes all of them, but for kinds that the config excludes as a
    whole; one that is deselected is left out later. A filter by EventType needs that.
    """
    names = {name for name in selection.columns if name != BUNDLES_ONLY}
    if selection.keeps_overflow:
        kinds = [prefix for prefix in prefixes if not selection.rules.excludes_all(prefix)]
        if len(kinds) == len(prefixes) and all(map(is_custom, selection.dropped - {BUNDLES_ONLY})):
            return None
        names = {name for name in names if not is_custom(name)}
        names |= {f"{prefix}*" for prefix in kinds}
    else:
        kinds = []
    for prefix in set(prefixes) - set(kinds):
        selection.rules.not_requested(prefix)
    if selection.event_filter:
        names.add(EVENT_TYPE)
    return tuple(sorted(names))


LOGGER = logging.getLogger(__name__)

# Between two polls of an operation, doubled each time: a small export is done at once, and the end
# of one that takes an hour need not be known within a second. No interval is documented.
INITIAL_POLL_SECONDS, MAX_POLL_SECONDS = 0.5, 30
MAX_EXPORT_ATTEMPTS = 2  # exports created of one window in a run, before it gives up
CLOSE_WAIT_SECONDS = 5  # at the end of a run, for a request in flight, to cancel what it creates

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

TimeRange = tuple[datetime, datetime]


class _Failed(Exception):
    """Raised when an export will not be finished; its text says why."""


class SegmentExport:
    """The windows of one stream, exported one by one; as sources.ExportSource.

    `windows` gives the time ranges after a bookmark, none of which ends after a time: `latest_end`,
    or, if our clock is wrong, FullStory's time less export_delay_hours of `config`. `sleep` and
    `clock` are in seconds.
    """

    def __init__(
        self,
        client: Client,
        config: Config,
        request: ExportRequest,
        windows: Callable[[datetime | None, datetime], Iterator[TimeRange]],
        latest_end: datetime,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._request = request
        self._windows = windows
        self._latest_end = latest_end
        self._timeout = config.export_timeout_minutes * 60
        self._delay = timedelta(hours=config.export_delay_hours)
        self._skipped = config.skip_bundles
        self._attempts: Counter[str] = Counter()  # exports created, by window id
        self._sleep = sleep
        self._clock = clock
        self._creating = threading.Lock()
        self._closed = False
        self._exports: dict[str, Export] = {}  # by window id, oldest window first
        self._unfinished: set[str] = set()  # operation ids
        self._persisted_id: str | None = None  # of the operation that the state remembers
        self._resumed_id: str | None = None  # of the operation that an earlier run has created

    def bundles(
        self,
        state: State,
        place: Place,
        on_listed: OnListed = ignore_listing,
        *,
        warns_of_holes: bool = False,  # noqa: ARG002 - windows leave none
    ) -> Iterator[Bundle]:
        """Yield the windows after the bookmark; as ExportSource.

        An export that an earlier run has created comes first, with the window that it had, if it is
        what this run wants: a new one may have its rows in another order, and what has been emitted
        of it would come twice.
        """
        found: list[Bundle] = []
        bookmark = bookmarks.bundle_end(state, place)
        earlier = bookmarks.export(state, place)
        if earlier is not None and earlier.start == bookmark and self._wants(earlier):
            window = _window(earlier.start, earlier.end)
            self._exports[window.id] = earlier
            self._unfinished.add(earlier.id)
            self._resumed_id = earlier.id
            LOGGER.info("Bundle %s: resuming export %s of an earlier run", window.id, earlier.id)
            found.append(window)
            bookmark = earlier.end
        windows = self._windows_after(bookmark)
        if windows and windows[0].id not in self._skipped and self._client.clock_skew is None:
            # FullStory's time comes with its first response, which this is.
            first, before = windows[0], self._latest()
            self._create(first)
            if self._latest() < before:
                windows = self._windows_after(bookmark)
                if first not in windows:
                    self._cancel(self._exports.pop(first.id).id)
        found += windows
        on_listed(found, False)
        yield from found

    def _windows_after(self, bookmark: datetime | None) -> list[Bundle]:
        return [_window(start, end) for start, end in self._windows(bookmark, self._latest())]

    def _latest(self) -> datetime:
        """Return the latest end of a window. One that ends later may have events still to come, and
        would be taken for done.
        """
        skew = self._client.clock_skew
        if skew is None or skew >= -MAX_CLOCK_SKEW:
            return self._latest_end
        theirs = datetime.now(timezone.utc) + skew - self._delay
        return min(self._latest_end, theirs.replace(microsecond=0))

    def download(self, bundle: Bundle, sink: BinaryIO) -> None:
        """Write a window's file to `sink`; as ExportSource. An export that fails, or is gone, is
        created again, once.

        Raises NetworkError if one is not finished in time, SourceError if the second one fails too.
        """
        while True:
            export = self._exports.get(bundle.id)
            if export is None:
                export = self._create(bundle)
            try:
                self._client.download_export(self._result_id(export, bundle), sink)
            except (ResourceGone, _Failed) as reason:
                if self._closed:  # and so cancelled
                    raise
                self._forget(bundle, export)
                if self._attempts[bundle.id] == MAX_EXPORT_ATTEMPTS:
                    raise SourceError(
                        f"FullStory has not exported {bundle.period}: {reason}. The bookmark stays "
                        "before it. Run again with the last state; if it fails again, set a "
                        "smaller export_window_hours, or show this line to FullStory support."
                    ) from None
                LOGGER.warning(
                    "Bundle %s: %s; creating its export again", bundle.id, reason,
                    extra={"code": "export_created_again"},
                )  # fmt: skip
            else:
                return

    def is_emitted(self, bundle_id: str, _: Bundle, bookmark: datetime) -> bool:
        """As ExportSource; the id of a window tells its end."""
        try:
            return parse_rfc3339(bundle_id.partition("/")[2]) <= bookmark
        except ValueError:
            return False

    def release(self, bundle: Bundle) -> None:
        self._exports.pop(bundle.id, None)

    def in_progress(self) -> Export | None:
        export = next(iter(list(self._exports.values())), None)
        self._persisted_id = None if export is None else export.id
        return export

    def close(self) -> None:
        self._closed = True
        # An export that is being created has no id yet. Its thread may also be stuck.
        idle = self._creating.acquire(timeout=CLOSE_WAIT_SECONDS)
        for operation_id in sorted(self._unfinished - {self._persisted_id}):
            self._cancel(operation_id)
        if idle:
            self._creating.release()

    def _cancel(self, operation_id: str) -> None:
        self._unfinished.discard(operation_id)
        try:
            self._client.cancel_operation(operation_id)
            LOGGER.info("Cancelled export %s, which no later run would resume", operation_id)
        except TapError as error:
            LOGGER.warning(
                "Export %s could not be cancelled, and will expire: %s",
                operation_id,
                error,
                extra={"code": "export_not_cancelled"},
            )

    def _wants(self, earlier: Export) -> bool:
        in_time = earlier.start < earlier.end <= self._latest()
        return in_time and self._request.is_that_of(earlier)

    def _create(self, bundle: Bundle) -> Export:
        with self._creating:
            if self._closed:
                raise _Failed("the run has ended")
            operation_id = self._create_operation(bundle)
            export = self._request.export(operation_id, bundle)
            self._unfinished.add(operation_id)
            self._exports[bundle.id] = export
            self._attempts[bundle.id] += 1
        LOGGER.info("Bundle %s: created export %s", bundle.id, operation_id)
        return export

    def _create_operation(self, bundle: Bundle) -> str:
        try:
            return self._client.create_export(self._request.body(bundle))
        except BadRequest as refusal:
            reduced = self._request.without_mobile_fields()
            if reduced == self._request:
                raise
            LOGGER.warning(
                "Bundle %s: %s. Retrying without the mobile-app fields, which some accounts may "
                "not request. If that works, deselect them", bundle.id, refusal,
                extra={"code": "mobile_fields_refused"},
            )  # fmt: skip
        self._request = reduced
        return self._client.create_export(self._request.body(bundle))

    def _result_id(self, export: Export, bundle: Bundle) -> str:
        """Wait for an export; return the id of its results. Raises _Failed if it fails,
        NetworkError if it takes too long, and ResourceGone if FullStory does not know it.
        """
        started, pause = self._clock(), INITIAL_POLL_SECONDS
        deadline, next_report = started + self._timeout, started + REPORT_SECONDS
        while True:
            operation = self._client.operation(export.id)
            if operation.state == "FAILED":
                raise _Failed(f"export {export.id} failed: {operation.error or 'no reason given'}")
            if operation.state == "COMPLETED":
                self._unfinished.discard(export.id)
                if operation.result_id is None:
                    raise _Failed(f"export {export.id} is completed without results")
                return operation.result_id
            now = self._clock()
            left = deadline - now
            if left <= 0:
                raise self._overdue(export, bundle, operation.state)
            pause = min(pause, left)
            LOGGER.debug(
                "Bundle %s: export %s is %s, at %s %%; polling again in %.1f s",
                bundle.id, export.id, operation.state, operation.percent, pause,
            )  # fmt: skip
            if now >= next_report:
                next_report += REPORT_SECONDS
                LOGGER.info(
                    "Bundle %s: export %s is %s, at %s %%, after %s",
                    bundle.id, export.id, operation.state, operation.percent,
                    duration(now - started),
                )  # fmt: skip
            self._sleep(pause)
            pause = min(2 * pause, MAX_POLL_SECONDS)

    def _overdue(self, export: Export, bundle: Bundle, state: str) -> NetworkError:
        stuck = export.id == self._resumed_id
        if stuck:
            self._exports.pop(bundle.id, None)  # and stays unfinished, so that it is cancelled
        then = (
            "An earlier run waited for it too: the next one creates it again"
            if stuck
            else "The next run with the last state resumes waiting for it"
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
    """Return the source of events, in windows of `export_window_hours`."""
    latest_end = _latest_end(config, now)
    step = timedelta(hours=config.export_window_hours)

    def time_ranges(bookmark: datetime | None, latest_end: datetime) -> Iterator[TimeRange]:
        return windows(bookmark, config.start_date, latest_end, step)

    return _source(config, selection, client, time_ranges, latest_end)


def individuals(
    config: Config, selection: Selection, client: Client, now: datetime
) -> SegmentExport:
    """Return the source of the people active since the bookmark, in one window."""
    latest_end = _latest_end(config, now).replace(microsecond=0)

    def time_ranges(bookmark: datetime | None, latest_end: datetime) -> Iterator[TimeRange]:
        start = bookmark or config.start_date.replace(microsecond=0)
        if start < latest_end:
            yield start, latest_end

    return _source(config, selection, client, time_ranges, latest_end)


def _source(
    config: Config,
    selection: Selection,
    client: Client,
    time_ranges: Callable[[datetime | None, datetime], Iterator[TimeRange]],
    latest_end: datetime,
) -> SegmentExport:
    request = export_request(config, selection)
    return SegmentExport(client, config, request, time_ranges, latest_end)


def windows(
    bookmark: datetime | None, start_date: datetime, latest_end: datetime, step: timedelta
) -> Iterator[TimeRange]:
    """Yield windows end to end: cells of a grid from midnight UTC, `step` wide, a divisor of a day.

    On the first run, without a bookmark, the cells whose end is after `start_date`, whole; with a
    bookmark inside a cell, the rest of that cell first. None ends after `latest_end`.
    """
    first = bookmark or start_date
    cell = _EPOCH + (first - _EPOCH) // step * step
    start = bookmark or cell
    while latest_end - cell >= step:
        yield start, cell + step
        start = cell = cell + step


def _latest_end(config: Config, now: datetime) -> datetime:
    settled = now - timedelta(hours=config.export_delay_hours)
    return settled if config.end_date is None else min(settled, config.end_date)


def _window(start: datetime, end: datetime) -> Bundle:
    """Return a window as a bundle. Its id is an ISO 8601 interval: unlike the id of an export, it
    is the same in each run, so that `skip_bundles` can name it.
    """
    return Bundle(f"{format_rfc3339(start)}/{format_rfc3339(end)}", start, end)


def verify_access(client: Client, _: datetime) -> None:
    """Prove the API key: only an export shows whether it may export. Raises TapError."""
    client.prove_key()


def report_access(_: Config, client: Client) -> None:
    """Prove the API key, and log what that leaves open. Raises TapError."""
    client.prove_key()
    LOGGER.info("Only the first export will show whether the API key may export.")
