"""The last INFO line of a sync: what came, how long it took, and how far the state reaches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from tap_fullstory.bundle import Bundle
from tap_fullstory.columns.added import segments_of
from tap_fullstory.config import Config
from tap_fullstory.errors import Interrupted
from tap_fullstory.messages import MessageWriter
from tap_fullstory.positions import furthest_behind
from tap_fullstory.state import bundle_end, partial
from tap_fullstory.streams import EVENTS
from tap_fullstory.times import duration, format_rfc3339

LOGGER = logging.getLogger(__name__)

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
        how = "Failed"
        try:
            yield
            how = "Done"
        except Interrupted as error:
            how = f"Stopped by {error.name}"
            error.reported = True
            raise
        finally:
            self._log(how, config, writer.last_state or state, now)

    def _log(self, how: str, config: Config, state: dict[str, Any], now: datetime) -> None:
        state = furthest_behind(state, EVENTS.name, segments_of(EVENTS, config))
        reached = bundle_end(state, EVENTS.name)
        ends = [end for end in (reached, self._newest) if end is not None and end <= now]
        newest = max(ends, default=None)
        line = f"{how}: {self.bundles} bundles with {self.events} events"
        if self.records:
            line += f", {self.records} records of other streams"
        line += f", in {time.monotonic() - self._started:.1f} s, "
        line += f"{self.throttled_seconds():.0f} s of it throttled. "
        if newest is not None and self.reads_events:
            age = duration((now - newest).total_seconds())
            line += f"The newest bundle ends at {format_rfc3339(newest)}, {age} ago. "
        line += _reached(state)
        delay = timedelta(hours=config.export_delay_hours)
        max_age = MAX_AGE + (delay if config.export_api == "segment_export" else timedelta())
        is_old = now - (newest or config.start_date) > max_age and config.end_date is None
        if not (self.reads_events and is_old and how == "Done" and not self.bundles):
            LOGGER.info("%s", line)
        elif newest is None:
            LOGGER.warning(
                "%s No bundle ends after start_date (%s): look in FullStory whether the account "
                "captures and exports events.", line, format_rfc3339(config.start_date),
            )  # fmt: skip
        else:
            LOGGER.warning(
                "%s Nothing newer has come for more than %s: look in FullStory whether the account "
                "still captures and exports events.", line, duration(max_age.total_seconds()),
            )  # fmt: skip


def _reached(state: dict[str, Any]) -> str:
    end = bundle_end(state, EVENTS.name)
    if end is None:
        return "The state has no bookmark of events."
    progress = partial(state, EVENTS.name)
    further = f", and {progress.events} events of bundle {progress.id}" if progress else ""
    return f"The state covers events up to {format_rfc3339(end)}{further}."
