"""How far a sync has got: one INFO line for each bundle, and a live line on a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from tap_fullstory.bundle import Bundle
from tap_fullstory.logs.summary import RunSummary
from tap_fullstory.times import duration as duration

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

        tqdm.monitor_interval = 0  # no thread of its own beside the worker processes
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

    def end(self, bundle: Bundle, events: int, seconds: float) -> None:
        """Log that all records of the bundle are written, which took so many seconds."""
        self._done += 1
        self._summary.bundles += 1
        self._summary.listed([bundle])
        self._first = self._first or bundle
        rate = events / seconds if seconds > 0 else 0.0
        LOGGER.info(
            "Bundle %s (%s), %s: %d events in %.1f s, %.0f a second%s",
            bundle.id, bundle.period, self._place(self._done), events, seconds, rate,
            self._left(bundle),
        )  # fmt: skip

    def _place(self, number: int) -> str:
        if not self._known:  # a source that lists nothing, and asks for one period after another
            return f"number {number}"
        return f"{number} of {self._known}{' or more' if self._more else ''}"

    def _left(self, bundle: Bundle) -> str:
        """Return an estimate in words: by number if the listing is complete, otherwise by time."""
        elapsed = time.monotonic() - self._started
        if (self._more or not self._known) and self._first is not None:
            covered = (bundle.end - self._first.start).total_seconds()
            ahead = (self._until - bundle.end).total_seconds()
        else:
            covered, ahead = self._done, self._known - self._done
        if covered <= 0 or ahead <= 0:
            return ""
        return f"; about {duration(elapsed / covered * ahead)} left"
