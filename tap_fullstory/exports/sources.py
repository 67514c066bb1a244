"""Where bundles come from: which of them follow a bookmark, and how to get one.

Everything behind the protocol ExportSource is the same to the rest of the tap. Which of FullStory's
APIs it stands for is decided here, in one place: `open_source`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import BinaryIO, NamedTuple, Protocol

from tap_fullstory.bookmarks import Export, Place, State
from tap_fullstory.exports import data_export, segment_export
from tap_fullstory.exports.bundle import Bundle, OnListed, ignore_listing
from tap_fullstory.fullstory.client import Client
from tap_fullstory.selection import Selection
from tap_fullstory.settings import Config
from tap_fullstory.streams import INDIVIDUALS


class ExportSource(Protocol):
    """The bundles of one stream: files of events, each of a period, end to end.

    `bundles` and `download` may be called by a prefetching thread, one after the other; the rest by
    the thread that emits.
    """

    def bundles(
        self,
        state: State,
        place: Place,
        on_listed: OnListed = ignore_listing,
        *,
        warns_of_holes: bool = False,
    ) -> Iterator[Bundle]:
        """Yield what follows the bookmark at `place` in `state` (the end, exclusive, of what is
        emitted), oldest first; on the first run, without one, from start_date on.

        `on_listed` is called with each listed page and whether more may follow. With
        `warns_of_holes`, a WARNING names each period that no bundle covers. Raises TapError if the
        listing fails.
        """

    def download(self, bundle: Bundle, sink: BinaryIO) -> None:
        """Write a bundle's file to `sink`, a seekable file, as FullStory sends it; the same file
        each time, where possible. Raises TapError, and SinkError if `sink` is full.
        """

    def is_emitted(self, bundle_id: str, bundle: Bundle, bookmark: datetime) -> bool:
        """Tell whether a bundle of this id ends at `bookmark` or before, where `bundle` follows:
        the state may have kept how far an earlier run got in it. Raises TapError.
        """

    def release(self, bundle: Bundle) -> None:
        """Forget what is kept for a bundle that is emitted, or whose file was of no use."""

    def in_progress(self) -> Export | None:
        """Return what the state must remember, so that the next run gets the file of the first
        bundle not released yet as this run does; None if the bundle's id is enough.
        """

    def close(self) -> None:
        """Cancel exports that no later run will resume. Never raises."""


class _Api(NamedTuple):
    open: Callable[[Config, Selection, Client, datetime], ExportSource]
    check: Callable[[Client, datetime], None]
    report: Callable[[Config, Client], None]


# By the values of export_api.
_APIS = {
    "data_export": _Api(
        data_export.DataExport, data_export.verify_access, data_export.report_access
    ),
    "segment_export": _Api(
        segment_export.events_by_window, segment_export.verify_access, segment_export.report_access
    ),
}


def open_source(
    config: Config, selection: Selection, client: Client, now: datetime
) -> ExportSource:
    """Return the source of an export stream.

    Only the Segment Export API has individuals, so they come from there whatever the config says of
    the events: host and key are the same.
    """
    if selection.stream is INDIVIDUALS:
        return segment_export.individuals(config, selection, client, now)
    return _APIS[config.export_api].open(config, selection, client, now)


def verify_access(config: Config, client: Client, now: datetime) -> None:
    """Make a call that FullStory answers only if key, plan and hosts are right. Raises TapError
    otherwise.
    """
    _APIS[config.export_api].check(client, now)


def report_access(config: Config, client: Client) -> None:
    """Check access, and log what the first sync would find. Raises TapError without access."""
    _APIS[config.export_api].report(config, client)
