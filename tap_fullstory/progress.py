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

LOGGER = logging.getLogger(__name__)


class Progress:
    """Counts the bundles and events of one stream as they go by.

    `until` is how far the sync can get: its end_date, or now.
    """

    def __init__(self, until: datetime) -> None:
        self._until = until
        self._started = time.monotonic()
        self._known = self._done = 0
        self._more = False
        self._first: Bundle | None = None
        self._live: Any = None

    def listed(self, bundles: list[Bundle], more: bool) -> None:
        """The listing has shown these bundles, and there may be `more` behind them."""
        self._known += len(bundles)
        self._more = more
        self._first = self._first or next(iter(bundles), None)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within, a terminal shows how far the bundle under way is; anything else shows nothing."""
        if sys.stderr is None or not sys.stderr.isatty():
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
            # At the factory, since singer.get_logger() puts all handlers up anew each time.
            logging.setLogRecordFactory(make_on_a_clear_line)
            try:
                yield
            finally:
                logging.setLogRecordFactory(make)
                self._live = None

    def begin(self, bundle: Bundle) -> None:
        """The records of this bundle come next."""
        if self._live is not None:
            self._live.reset()
            place = self._place(self._done + 1)
            self._live.set_description_str(f"Bundle {place}, {bundle.start:%Y-%m-%d}")

    def events(self, count: int) -> None:
        """So many more events are out."""
        if self._live is not None:
            self._live.update(count)

    def left_out(self) -> None:
        """A bundle was passed over."""
        self._done += 1

    def end(self, bundle: Bundle, events: int, seconds: float) -> None:
        """All records of the bundle are out, which took so many seconds."""
        self._done += 1
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
        """An estimate in words: by number where the listing knows all, by time where not."""
        elapsed = time.monotonic() - self._started
        if (self._more or not self._known) and self._first is not None:
            covered = (bundle.end - self._first.start).total_seconds()
            ahead = (self._until - bundle.end).total_seconds()
        else:
            covered, ahead = self._done, self._known - self._done
        if covered <= 0 or ahead <= 0:
            return ""
        return f"; about {duration(elapsed / covered * ahead)} left"


def duration(seconds: float) -> str:
    """Seconds as a person would say them: 50 s, 12 min, 3 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
