"""One export file: its id and its period."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tap_fullstory.times import format_rfc3339

# How many of a bundle's unpacked bytes are processed at a time: so many that what Python does for
# each chunk does not count, and few beside the tap itself.
CHUNK_BYTES = 192 * 1024


@dataclass(frozen=True)
class Bundle:
    """One export file: the events from `start` (inclusive) to `end` (exclusive), in UTC.

    `advances_bookmark` is whether it is the last that ends there, so that the bookmark may move
    to its end. Events before `emitted_before` have been emitted already, by an export of another
    API that covered a part of the period.
    """

    id: str
    start: datetime
    end: datetime
    advances_bookmark: bool = field(default=True, compare=False)
    emitted_before: datetime | None = field(default=None, compare=False)

    @property
    def period(self) -> str:
        """The period in words, for logs and errors."""
        return f"{format_rfc3339(self.start)} to {format_rfc3339(self.end)}"

    @property
    def boundary(self) -> datetime:
        """A bookmark that this bundle follows: its start, or just before its end if the period is
        not valid.
        """
        return min(self.start, self.end - timedelta(seconds=1))


# Called with each listed page of bundles, and whether more may follow.
OnListed = Callable[[list[Bundle], bool], None]


def ignore_listing(bundles: list[Bundle], more: bool) -> None:
    """Do nothing."""
