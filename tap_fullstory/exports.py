"""Where bundles come from: which of them lie after a bookmark, and how to get one.

Everything behind the protocol ExportSource is the same to the rest of the tap. Which of FullStory's
APIs stands there is decided here, in one place: `open_source`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from itertools import groupby
from typing import BinaryIO, NamedTuple, Protocol

from tap_fullstory import state as states
from tap_fullstory.catalog import Selection
from tap_fullstory.client import PAGE_BUNDLES, Bundle, Client, Listed, ignore_listing
from tap_fullstory.config import Config
from tap_fullstory.errors import SourceError
from tap_fullstory.segment_export import events_by_window, individuals
from tap_fullstory.state import Export, State
from tap_fullstory.streams import INDIVIDUALS
from tap_fullstory.times import format_rfc3339

LOGGER = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ExportSource(Protocol):
    """The bundles of one stream: files of events, each of a period, end to end.

    `bundles` and `download` may be called by a thread that fetches ahead, one after the other; the
    rest by the thread that emits.
    """

    def bundles(self, state: State, listed: Listed = ignore_listing) -> Iterator[Bundle]:
        """What lies after the bookmark in `state` (the end, exclusive, of what is emitted), oldest
        first; on the first run, without one, what the config wants. Raises TapError if that cannot
        be told.

        `listed` hears of the bundles as they become known, and whether more may follow.
        """

    def download(self, bundle: Bundle, sink: BinaryIO) -> None:
        """Write a bundle's file to `sink`, a seekable file, as FullStory sends it; the same file
        each time, if it can be had. Raises TapError, and SinkError if `sink` is full.
        """

    def release(self, bundle: Bundle) -> None:
        """Forget what is kept for a bundle: it is emitted, or what came for it is of no use."""

    def under_way(self) -> Export | None:
        """What the state has to remember, so that the next run gets the file of the first bundle
        not released yet as this run does; None if the bundle's id says it all.
        """

    def close(self) -> None:
        """Undo what nobody will fetch: all that `under_way` has not told last. Raises nothing."""


class DataExport:
    """The Data Export API as a source: bundles that FullStory has cut, which need no ordering."""

    def __init__(self, config: Config, selection: Selection, client: Client) -> None:
        self._config = config
        self._stream = selection.stream
        self._client = client

    def bundles(self, state: State, listed: Listed = ignore_listing) -> Iterator[Bundle]:
        after = states.bundle_end(state, self._stream) or self._config.start_date
        partial = states.partial(state, self._stream)
        under_way = partial.id if partial else None
        return bundles_after(self._client, after, self._config.end_date, under_way, listed)

    def download(self, bundle: Bundle, sink: BinaryIO) -> None:
        self._client.download_bundle(bundle, sink)

    def release(self, bundle: Bundle) -> None:
        """Nothing is kept."""

    def under_way(self) -> None:
        """A bundle's id says it all."""

    def close(self) -> None:
        """Nothing was begun that would have to be undone."""


def open_source(
    config: Config, selection: Selection, client: Client, now: datetime
) -> ExportSource:
    """The source of an export stream.

    Only the Segment Export API has individuals, so they come from there whatever the config says of
    the events: host and key are the same.
    """
    if selection.row is INDIVIDUALS:
        return individuals(config, selection, client, now)
    return _EVENTS[config.export_api].open(config, selection, client, now)


def prove_access(config: Config, client: Client, now: datetime) -> None:
    """Ask FullStory something that it answers only if key, plan and hosts are right.

    Raises TapError if it does not.
    """
    _EVENTS[config.export_api].prove(client, now)


def tell_access(config: Config, client: Client) -> None:
    """Prove the same, and log what the first sync would find. Raises as prove_access."""
    _EVENTS[config.export_api].tell(config, client)


def bundles_after(
    client: Client,
    after: datetime,
    until: datetime | None,
    under_way: str | None = None,
    listed: Listed = ignore_listing,
) -> Iterator[Bundle]:
    """The bundles whose end lies after `after` (exclusive) and not after `until` (inclusive).

    Oldest end first, each once, however the listing repeats itself. The next page is asked for when
    the last bundles of a full one are due, since only it can tell whether they may be emitted: the
    listing takes up again after an end, so of bundles that share one it shows the first twenty and
    cannot reach the rest. Where several share the last end of a page, it is asked for once more.

    `under_way` is the id of the bundle that an earlier run has got into. Those that share its end
    and come before it are left out: that run has emitted them.

    `listed` hears of the bundles of each page, and whether more may follow.

    Raises SourceError if a full page does not get past what was asked for; the bundles that end
    there have not been yielded then.
    """
    seen: set[str] = set()
    asked = int((after - _EPOCH).total_seconds())
    held_back: list[Bundle] = []
    while True:
        page, last, full = _page(client, asked, past=asked)
        fresh = _unseen(page, after, seen)
        wanted = [bundle for bundle in fresh if until is None or bundle.end <= until]
        listed(wanted, full and len(wanted) == len(fresh))
        due = sorted(held_back + fresh, key=_order)
        held_back = [bundle for bundle in due if full and bundle.end == last]
        for _, group in groupby(due[: len(due) - len(held_back)], key=lambda bundle: bundle.end):
            sharing = list(group)
            if until is not None and sharing[0].end > until:
                return
            ids = [bundle.id for bundle in sharing]
            first = ids.index(under_way) if under_way in ids else 0
            for bundle in sharing[first:]:
                yield replace(bundle, closes=bundle is sharing[-1])
        if not full:
            return
        asked = int(last.timestamp())
        if len(held_back) > 1:
            # There may be more of this end than the page had room for, and the next has none.
            held_back += _unseen(_page(client, asked - 1, past=asked)[0], after, seen)


def _unseen(page: list[Bundle], after: datetime, seen: set[str]) -> list[Bundle]:
    fresh = [bundle for bundle in page if bundle.end > after and bundle.id not in seen]
    seen.update(bundle.id for bundle in fresh)
    return fresh


def _page(client: Client, asked: int, past: int) -> tuple[list[Bundle], datetime, bool]:
    """A page of the listing, the last end in it, and whether it is full.

    Raises SourceError if a full one does not get past an end, in Unix seconds.
    """
    page = client.list_bundles(asked)
    last = max((bundle.end for bundle in page), default=_EPOCH)
    full = len(page) >= PAGE_BUNDLES
    if full and last.timestamp() <= past:
        raise SourceError(
            f"FullStory's listing does not get past {format_rfc3339(last)}: it answered with "
            f"{len(page)} bundles that end then or before, and does not show what comes behind "
            "them. The bookmark stays before them. Ask FullStory support why so many share one end."
        )
    return page, last, full


def _order(bundle: Bundle) -> tuple[datetime, datetime, str]:
    # The same in every run: what has been emitted of bundles that share an end is told by this.
    return bundle.end, bundle.start, bundle.id


def _data_export(config: Config, selection: Selection, client: Client, _: datetime) -> DataExport:
    return DataExport(config, selection, client)


def _prove_listing(client: Client, now: datetime) -> None:
    client.list_bundles(after=int(now.timestamp()))


def _prove_key(client: Client, _: datetime) -> None:
    client.prove_key()


def _tell_listing(config: Config, client: Client) -> None:
    # One call shows twenty bundles at most.
    after, until = config.start_date, config.end_date
    page = client.list_bundles(after=int(after.timestamp()))
    found = [bundle for bundle in page if until is None or bundle.end <= until]
    found.sort(key=_order)
    LOGGER.info("FullStory accepts the API key, and the account has the Data Export add-on.")
    period = f"after {format_rfc3339(after)}"
    if until is not None:
        period += f" and not after {format_rfc3339(until)}"
    if found:
        more = "or more " if len(page) >= PAGE_BUNDLES and len(found) == len(page) else ""
        LOGGER.info(
            "It lists %d bundles %sthat end %s. The first is %s (%s).",
            len(found), more, period, found[0].id, found[0].period,
        )  # fmt: skip
    else:
        LOGGER.warning(
            "It lists no bundle that ends %s. A bundle appears a day after its last event; an "
            "earlier start_date may find older ones.", period,
        )  # fmt: skip


def _tell_key(_: Config, client: Client) -> None:
    client.prove_key()
    LOGGER.info("FullStory accepts the API key. Whether it may export, the first export tells.")


class _Api(NamedTuple):
    open: Callable[[Config, Selection, Client, datetime], ExportSource]
    prove: Callable[[Client, datetime], None]
    tell: Callable[[Config, Client], None]


# By the values of export_api.
_EVENTS = {
    "data_export": _Api(_data_export, _prove_listing, _tell_listing),
    "segment_export": _Api(events_by_window, _prove_key, _tell_key),
}
