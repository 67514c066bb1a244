"""Which bundles lie after a bookmark."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from itertools import groupby

from tap_fullstory.client import PAGE_BUNDLES, Bundle, Client
from tap_fullstory.errors import SourceError
from tap_fullstory.times import format_rfc3339

LOGGER = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def bundles_after(
    client: Client, after: datetime, until: datetime | None, under_way: str | None = None
) -> Iterator[Bundle]:
    """The bundles whose end lies after `after` (exclusive) and not after `until` (inclusive).

    Oldest end first, each once, however the listing repeats itself. The next page is asked for when
    the last bundles of a full one are due, since only it can tell whether they may be emitted: the
    listing takes up again after an end, so of bundles that share one it shows the first twenty and
    cannot reach the rest.

    `under_way` is the id of the bundle that an earlier run has got into. Those that share its end
    and come before it are left out: that run has emitted them.

    Raises SourceError if a full page does not get past what was asked for; the bundles that end
    there have not been yielded then.
    """
    seen: set[str] = set()
    asked = int((after - _EPOCH).total_seconds())
    held_back: list[Bundle] = []
    while True:
        page = client.list_bundles(asked)
        full = len(page) >= PAGE_BUNDLES
        last = max((bundle.end for bundle in page), default=None)
        if full and last is not None and last.timestamp() <= asked:
            raise SourceError(
                f"FullStory's listing does not get past {format_rfc3339(last)}: asked for what "
                f"ends after it, it answered with {len(page)} bundles that do not. The bookmark "
                "stays before them. Ask FullStory support why so many bundles share one end."
            )
        fresh = [bundle for bundle in page if bundle.end > after and bundle.id not in seen]
        seen.update(bundle.id for bundle in fresh)
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
        if not full or last is None:
            return
        asked = int(last.timestamp())


def _order(bundle: Bundle) -> tuple[datetime, datetime, str]:
    # The same in every run: what has been emitted of bundles that share an end is told by this.
    return bundle.end, bundle.start, bundle.id
