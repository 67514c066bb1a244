"""How far a sync has got: a line for each bundle, a live line on a terminal, and the last line."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from tap_fullstory.added_columns import segments_of
from tap_fullstory.bookmarks import Place, bundle_end, furthest_behind, partial
from tap_fullstory.counts import counted
from tap_fullstory.errors import Interrupted
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.settings import Config
from tap_fullstory.streams import EVENTS
from tap_fullstory.times import duration, format_rfc3339

LOGGER = logging.getLogger(__name__)


class Progress:
    """Counts the bundles and events of one stream as they go by.

    `until` is how far the sync can get: its end_date, or now. `summary` gets the numbers too.
    Without `live` no live line is shown, even on a terminal.
    """

    def __init__(
        self, until: datetime, summary: RunSummary | None = None, live: bool = True
    ) -> None:
        self._until = until
        self._summary = summary or RunSummary()
        self._may_be_live = live
        self._started = time.monotonic()
        self._known = self._done = 0
        self._more = False
        self._first: Bundle | None = None
        self._live: Any = None

    def listed(self, bundles: list[Bundle], more: bool) -> None:
        """Count bundles that the listing shows; `more` tells whether others may follow."""
        self._summary.listed(bundles)
        self._known += len(bundles)
        self._more = more
        self._first = self._first or next(iter(bundles), None)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within, a terminal shows how far the bundle under way is; anything else shows nothing."""
        if not self._may_be_live or sys.stderr is None or not sys.stderr.isatty():
            yield
            return
        # Imported where it is needed: most runs have no terminal.
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread of its own
        make = logging.getLogRecordFactory()

        def make_on_a_clear_line(*args: Any, **kwargs: Any) -> logging.LogRecord:
            live.clear()
            return make(*args, **kwargs)

        with tqdm(file=sys.stderr, unit=" events", unit_scale=True, leave=False) as live:
            self._live = live
            # At the factory, which every line passes, whatever handler it goes to.
            logging.setLogRecordFactory(make_on_a_clear_line)
            try:
                yield
            finally:
                logging.setLogRecordFactory(make)
                self._live = None

    def begin(self, bundle: Bundle) -> None:
        """Show that the records of this bundle come next."""
        if self._live is not None:
            self._live.reset()
            place = self._place(self._done + 1)
            self._live.set_description_str(f"Bundle {place}, {bundle.start:%Y-%m-%d}")

    def events(self, count: int) -> None:
        """Count more events as written."""
        self._summary.events += count
        if self._live is not None:
            self._live.update(count)

    def left_out(self) -> None:
        """Count a bundle as passed over."""
        self._done += 1

    def end(self, bundle: Bundle, events: int, seconds: float, resumed_after: int = 0) -> None:
        """Log that all records of the bundle are written: how many of its events this run has
        read, in how many seconds, and after how many that an earlier run had read.
        """
        self._done += 1
        self._summary.bundles += 1
        rate = events / seconds if seconds > 0 else 0.0
        LOGGER.info(
            "Bundle %s (%s), %s: %s in %.1f s, %.0f a second%s",
            bundle.id, bundle.period, self._place(self._done), counted(events, "event"), seconds,
            rate, self._left(bundle),
            extra={
                "bundle": bundle.id,
                "bundle_start": format_rfc3339(bundle.start),
                "bundle_end": format_rfc3339(bundle.end),
                "events": events,
                "seconds": round(seconds, 3),
                "resumed_after": resumed_after,
            },
        )  # fmt: skip

    def _place(self, number: int) -> str:
        return f"{number} of {self._known}{' or more' if self._more else ''}"

    def _left(self, bundle: Bundle) -> str:
        """Return an estimate in words: by number if the listing is complete, otherwise by time."""
        elapsed = time.monotonic() - self._started
        if self._more and self._first is not None:
            covered = (bundle.end - self._first.start).total_seconds()
            ahead = (self._until - bundle.end).total_seconds()
        else:
            covered, ahead = self._done, self._known - self._done
        if covered <= 0 or ahead <= 0:
            return ""
        return f"; about {duration(elapsed / covered * ahead)} left"


# A bundle of a day appears a day after its end; segment_export adds export_delay_hours.
MAX_AGE = timedelta(days=3)


class RunSummary:
    """Counts what a sync writes: `bundles`, `events` in them, and `records` of other streams.

    `reads_events` tells whether the stream of events is among what is synced, `throttled_seconds`
    returns how long the run has waited because FullStory asked for it.
    """

    def __init__(self) -> None:
        self.bundles = self.events = self.records = 0
        self.reads_events = False
        self.throttled_seconds: Callable[[], float] = lambda: 0.0
        self._newest: datetime | None = None
        self._started = time.monotonic()

    def listed(self, bundles: list[Bundle]) -> None:
        """Remember the newest end of bundles that there are."""
        ends = [bundle.end for bundle in bundles] + ([self._newest] if self._newest else [])
        self._newest = max(ends, default=None)

    @contextmanager
    def logged_at_end(
        self, config: Config, state: dict[str, Any], writer: MessageWriter, now: datetime
    ) -> Iterator[None]:
        """Log the line when the block ends, however it ends.

        `state` is what the run starts from, `now` when.
        """
        outcome, how = "failed", "Failed"
        try:
            yield
            outcome, how = "done", "Done"
        except Interrupted as error:
            outcome, how = "stopped", f"Stopped by {error.name}"
            error.reported = True
            raise
        finally:
            self._log(outcome, how, config, writer.last_state or state, now)

    def _log(
        self, outcome: str, how: str, config: Config, state: dict[str, Any], now: datetime
    ) -> None:
        place = furthest_behind(state, EVENTS.name, segments_of(EVENTS, config))
        reached = bundle_end(state, place)
        ends = [end for end in (reached, self._newest) if end is not None and end <= now]
        newest = max(ends, default=None) if self.reads_events else None
        seconds, throttled = time.monotonic() - self._started, self.throttled_seconds()
        members = {
            "outcome": outcome,
            "bundles": self.bundles,
            "events": self.events,
            "records": self.records,
            "seconds": round(seconds, 3),
            "throttled_seconds": round(throttled, 3),
            "newest_bundle_end": newest and format_rfc3339(newest),
            "state_bundle_end": reached and format_rfc3339(reached),
        }
        line = f"{how}: {counted(self.bundles, 'bundle')} with {counted(self.events, 'event')}"
        if self.records:
            line += f", {counted(self.records, 'record')} of other streams"
        line += f", in {seconds:.1f} s, {throttled:.0f} s of it throttled. "
        if newest is not None:
            age = duration((now - newest).total_seconds())
            line += f"The newest bundle ends at {format_rfc3339(newest)}, {age} ago. "
        line += _reached(state, place)
        delay = timedelta(hours=config.export_delay_hours)
        max_age = MAX_AGE + (delay if config.export_api == "segment_export" else timedelta())
        is_old = now - (newest or config.start_date) > max_age and config.end_date is None
        if not (self.reads_events and is_old and outcome == "done" and not self.bundles):
            LOGGER.info("%s", line, extra=members)
        elif newest is None:
            LOGGER.warning(
                "%s No bundle ends after start_date (%s). Check in FullStory that the account "
                "captures and exports events.", line, format_rfc3339(config.start_date),
                extra={"code": "no_bundles", **members},
            )  # fmt: skip
        else:
            LOGGER.warning(
                "%s No newer bundle for more than %s. Check in FullStory that the account still "
                "captures and exports events.", line, duration(max_age.total_seconds()),
                extra={"code": "no_newer_bundle", **members},
            )  # fmt: skip


def _reached(state: dict[str, Any], place: Place) -> str:
    end = bundle_end(state, place)
    if end is None:
        return "The state has no bookmark of events."
    progress = partial(state, place)
    further = (
        f", and {counted(progress.events, 'event')} of bundle {progress.id}" if progress else ""
    )
    return f"The state covers events up to {format_rfc3339(end)}{further}."
