"""The Data Export API as a source: bundles that FullStory has made, found by listing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import groupby
from typing import BinaryIO, NamedTuple

from tap_fullstory import bookmarks
from tap_fullstory.bookmarks import Place, State
from tap_fullstory.counts import counted
from tap_fullstory.errors import SourceError
from tap_fullstory.exports.bundle import Bundle, OnListed, ignore_listing
from tap_fullstory.fullstory.client import PAGE_BUNDLES, Client
from tap_fullstory.selection import Selection
from tap_fullstory.settings import Config
from tap_fullstory.times import format_rfc3339

LOGGER = logging.getLogger(__name__)

# A bundle is available a day after its end. One that ends later than this has a wrong period.
MAX_FUTURE = timedelta(days=2)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class DataExport:
    """The bundles of the events stream; as sources.ExportSource."""

    def __init__(self, config: Config, _: Selection, client: Client, now: datetime) -> None:
        self._config = config
        self._client = client
        self._now = now

    def bundles(
        self,
        state: State,
        place: Place,
        on_listed: OnListed = ignore_listing,
        *,
        warns_of_holes: bool = False,
    ) -> Iterator[Bundle]:
        bookmark = bookmarks.bundle_end(state, place)
        partial = bookmarks.partial(state, place)
        begun = Begun(partial.id if partial else None, bookmarks.done(state, place))
        listing = BundleListing(self._client, self._now, on_listed, warns_of_holes)
        after = bookmark or self._config.start_date
        found = listing.after(after, self._config.end_date, begun, bookmark)
        if bookmark is not None and begun.ids:
            found = self._from_first(found, begun, bookmark)
        return listing.with_overlaps(found, bookmark)

    def _from_first(
        self, bundles: Iterator[Bundle], begun: Begun, bookmark: datetime
    ) -> Iterator[Bundle]:
        """Yield `bundles` from the first one ever on, if the bookmark is that one's start: others
        that begin before it ends may end before start_date, where the first run has not begun.
        """
        held: list[Bundle] = []
        for bundle in bundles:
            held.append(bundle)
            if bundle.id in begun.ids and bundle.boundary == bookmark:
                held = [one for one in held if one.end > self._config.start_date]
                break
            if bundle.start > bookmark or len(held) == PAGE_BUNDLES:
                break
        yield from held
        yield from bundles

    def download(self, bundle: Bundle, sink: BinaryIO) -> None:
        self._client.download_bundle(bundle, sink)

    def is_emitted(self, bundle_id: str, bundle: Bundle, bookmark: datetime) -> bool:
        """As ExportSource; looks at the twenty bundles before `bundle`, if they are as long."""
        # In seconds, which no period from FullStory and no bookmark can be too much for.
        span = max((bundle.end - bundle.start).total_seconds(), 0) * (PAGE_BUNDLES - 1)
        after = int((bookmark - _EPOCH).total_seconds() - span) - 1
        page = self._client.list_bundles(after)
        return any(one.id == bundle_id and one.end <= bookmark for one in page)

    def release(self, bundle: Bundle) -> None:
        """Do nothing: nothing is kept."""

    def in_progress(self) -> None:
        """Return None: the bundle's id is enough."""

    def close(self) -> None:
        """Do nothing: there is nothing to cancel."""


class Begun(NamedTuple):
    """What an earlier run has emitted after the bookmark: the bundle `in_progress` in part, and all
    of those `done`; None if the state does not say which.
    """

    in_progress: str | None = None
    done: frozenset[str] | None = None

    @property
    def ids(self) -> frozenset[str]:
        """The bundles that are emitted in part or whole."""
        return (self.done or frozenset()) | ({self.in_progress} if self.in_progress else set())


NOTHING_BEGUN = Begun()


class BundleListing:
    """The bundles that FullStory lists, each once, in the order in which they are emitted.

    `now` decides which bundles have not ended yet. `on_listed` is called with each page.
    """

    def __init__(
        self,
        client: Client,
        now: datetime,
        on_listed: OnListed = ignore_listing,
        warns_of_holes: bool = False,
    ) -> None:
        self._warns_of_holes = warns_of_holes
        self._client = client
        self._now = now
        self._on_listed = on_listed
        self._seen: dict[str, Bundle] = {}

    def after(
        self,
        after: datetime,
        until: datetime | None,
        begun: Begun = NOTHING_BEGUN,
        covered: datetime | None = None,
    ) -> Iterator[Bundle]:
        """Yield the bundles whose end is after `after` (exclusive) and not after `until`
        (inclusive), the earliest end first, however the listing repeats itself.

        The listing continues after an end: of bundles that share one it shows the first twenty and
        cannot reach the rest. So the last bundles of a full page are held until the next page
        arrives: more with the same end may follow. Where several share the last end of a page, that
        end is requested once more.

        Bundles that are done are left out. Of those that share an end, the one in progress comes
        first. `covered` is the end of what is emitted: with `warns_of_holes`, a WARNING names a
        period after it that no bundle covers. None: the first bundle decides.

        Raises SourceError if a full page does not get past `after`; the bundles that end
        there have not been yielded then.
        """
        cursor = int((after - _EPOCH).total_seconds())
        deferred: list[Bundle] = []
        while True:
            page, last, full = self._page(cursor, must_exceed=cursor)
            fresh = self._unseen(page, after)
            wanted = [bundle for bundle in fresh if until is None or bundle.end <= until]
            self._on_listed(wanted, full and len(wanted) == len(fresh))
            known = sorted(deferred + fresh, key=_order)
            deferred = [bundle for bundle in known if full and bundle.end == last]
            ready = known[: len(known) - len(deferred)]
            for end, group in groupby(ready, key=lambda bundle: bundle.end):
                if until is not None and end > until:
                    return
                same_end = list(group)
                if self._warns_of_holes:
                    _warn_of_hole(same_end, covered)
                covered = end
                to_emit = _to_emit(same_end, begun)
                for bundle in to_emit:
                    yield replace(bundle, advances_bookmark=bundle is to_emit[-1])
            if not full:
                return
            cursor = int((last - _EPOCH).total_seconds())
            if len(deferred) > 1:
                # The page may not have had room for all of this end, and the next has none of it.
                again, _, _ = self._page(cursor - 1, must_exceed=cursor)
                deferred += self._unseen(again, after)

    def with_overlaps(
        self, bundles: Iterator[Bundle], bookmark: datetime | None
    ) -> Iterator[Bundle]:
        """Yield `bundles`, with `emitted_before` set where one reaches back before a bookmark that
        windows of the Segment Export API have left: they have emitted the events before it.

        Any other bundle that starts before the end of an earlier one is emitted whole, with a
        WARNING: what is in it alone must not be lost.
        """
        from_windows: bool | None = None  # not known yet
        emitted_until = bookmark
        for bundle in bundles:
            if bundle.boundary == bookmark:
                # The first bundle ever may have been in progress, with the bookmark at its start.
                from_windows = False
            if bookmark is not None and bundle.start < bookmark:
                if from_windows is None:
                    from_windows = not self._ends_at(bookmark)
                if from_windows:
                    bundle = replace(bundle, emitted_before=bookmark)
            if emitted_until and bundle.start < emitted_until and not bundle.emitted_before:
                LOGGER.warning(
                    "Bundle %s (%s) overlaps the bundle before it, which ends at %s: events "
                    "in both are written twice",
                    bundle.id, bundle.period, format_rfc3339(emitted_until),
                    extra={"code": "bundle_overlaps"},
                )  # fmt: skip
            yield bundle
            if bundle.advances_bookmark:
                emitted_until = bundle.end

    def _ends_at(self, time: datetime) -> bool:
        page = self._client.list_bundles(int((time - _EPOCH).total_seconds()) - 1)
        return any(bundle.end == time for bundle in page)

    def _unseen(self, page: list[Bundle], after: datetime) -> list[Bundle]:
        """Return the new bundles of a page that may be emitted; log what is odd."""
        fresh = []
        for bundle in sorted(page, key=_order):  # of two periods for one id, the earlier counts
            if bundle.end <= after:
                continue
            if earlier := self._seen.get(bundle.id):
                if earlier != bundle:
                    LOGGER.warning(
                        "FullStory lists bundle %s with two periods, %s and %s: it is emitted once",
                        bundle.id, earlier.period, bundle.period,
                        extra={"code": "bundle_listed_twice"},
                    )  # fmt: skip
                continue
            self._seen[bundle.id] = bundle
            if bundle.end > self._now + MAX_FUTURE:
                LOGGER.warning(
                    "Bundle %s (%s) ends in the future, so its period cannot be right: it is not "
                    "emitted, and the bookmark stays before it",
                    bundle.id, bundle.period, extra={"code": "bundle_in_future"},
                )  # fmt: skip
            elif bundle.end > self._now:
                LOGGER.info(
                    "Bundle %s (%s) has not ended yet: it is left for a later run",
                    bundle.id, bundle.period,
                )  # fmt: skip
            else:
                if bundle.start >= bundle.end:
                    LOGGER.warning(
                        "Bundle %s (%s) does not end after it starts: it is written all the same",
                        bundle.id, bundle.period, extra={"code": "bundle_without_duration"},
                    )  # fmt: skip
                fresh.append(bundle)
        return fresh

    def _page(self, cursor: int, must_exceed: int) -> tuple[list[Bundle], datetime, bool]:
        """Return a page of the listing, the last end in it that has passed, and whether more may
        follow.

        Raises SourceError if a full page does not get past `must_exceed`, in Unix seconds.
        """
        page = self._client.list_bundles(cursor)
        last = max((bundle.end for bundle in page if bundle.end <= self._now), default=_EPOCH)
        full = len(page) >= PAGE_BUNDLES
        if full and last <= _EPOCH + timedelta(seconds=must_exceed):
            if any(bundle.end > self._now for bundle in page):
                return page, last, False  # nothing but what is still to come
            raise SourceError(
                f"FullStory's listing is stuck at {format_rfc3339(last)}: it returned {len(page)} "
                "bundles that all end then or before, so what follows cannot be listed. The "
                "bookmark stays before them. Ask FullStory support why so many share one end."
            )
        return page, last, full


def _warn_of_hole(bundles: list[Bundle], covered: datetime | None) -> None:
    """Log a WARNING if `bundles`, which share an end, leave a period after `covered` out."""
    first = min(bundles, key=lambda bundle: bundle.start)
    if covered is not None and covered < first.start < first.end:
        LOGGER.warning(
            "No bundle covers the period %s to %s, after which bundle %s begins: events of that "
            "period are missing. Ask FullStory support about them",
            format_rfc3339(covered), format_rfc3339(first.start), first.id,
            extra={"code": "period_not_covered"},
        )  # fmt: skip


def _to_emit(same_end: list[Bundle], begun: Begun) -> list[Bundle]:
    """Return those of the bundles that share an end which are to be emitted, the one that an
    earlier run has begun first.

    A state of 3.0 does not say which are done: that run has emitted those that precede it.
    """
    if begun.done is not None:
        left = [bundle for bundle in same_end if bundle.id not in begun.done]
        return sorted(left, key=lambda bundle: bundle.id != begun.in_progress)
    ids = [bundle.id for bundle in same_end]
    first = ids.index(begun.in_progress) if begun.in_progress in ids else 0
    for bundle in same_end[:first]:
        LOGGER.warning(
            "Bundle %s (%s) ends when bundle %s does, in which the state is: it is taken as "
            "written. If the bundle is new, load it with a run of its own, without a state",
            bundle.id, bundle.period, begun.in_progress, extra={"code": "bundle_taken_as_written"},
        )  # fmt: skip
    return same_end[first:]


def verify_access(client: Client, now: datetime) -> None:
    """List bundles once, which takes a key with access to Data Export. Raises TapError."""
    client.list_bundles(after=int(now.timestamp()))


def report_access(config: Config, client: Client) -> None:
    """Log which bundles the first sync would find. Raises TapError if they cannot be listed."""
    # One call lists twenty bundles at most.
    after, until = config.start_date, config.end_date
    page = client.list_bundles(after=int(after.timestamp()))
    found = [bundle for bundle in page if until is None or bundle.end <= until]
    found.sort(key=_order)
    LOGGER.info("The stream events can be read: the account has the Data Export add-on.")
    period = f"after {format_rfc3339(after)}"
    if until is not None:
        period += f" and not after {format_rfc3339(until)}"
    if found:
        more = "or more " if len(page) >= PAGE_BUNDLES and len(found) == len(page) else ""
        end = "ends" if len(found) == 1 and not more else "end"
        LOGGER.info(
            "It lists %s %sthat %s %s. The first is %s (%s).",
            counted(len(found), "bundle"), more, end, period, found[0].id, found[0].period,
        )  # fmt: skip
    else:
        LOGGER.warning(
            "It lists no bundle that ends %s. A bundle appears a day after its last event; an "
            "earlier start_date may find older ones.", period, extra={"code": "no_bundles"},
        )  # fmt: skip


def _order(bundle: Bundle) -> tuple[datetime, datetime, str]:
    # The same in every run: the bundles that share an end are emitted in this order.
    return bundle.end, bundle.start, bundle.id
