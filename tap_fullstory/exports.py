"""Which bundles lie after a bookmark."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timezone

from tap_fullstory.client import PAGE_BUNDLES, Bundle, Client
from tap_fullstory.errors import SourceError
from tap_fullstory.times import format_rfc3339

LOGGER = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def bundles_after(client: Client, after: datetime, until: datetime | None) -> Iterator[Bundle]:
    """The bundles whose end lies after `after` (exclusive) and not after `until` (inclusive).

    Oldest end first, each once, however the listing repeats itself. The next page is asked for when
    the last bundles of a full one are due, since only it can tell whether they may be emitted: the
    listing takes up again after an end, so of bundles that share one it shows the first twenty and
    cannot reach the rest.

    Raises SourceError if a full page does not get past what was asked for; the bundles that end
    there have not been yielded then.
    """
    seen: set[str] = set()
    asked = int((after - _EPOCH).total_seconds())
    held_back: list[Bundle] = []
    while True:
        page = sorted(client.list_bundles(asked), key=lambda bundle: (bundle.end, bundle.start))
        full = len(page) >= PAGE_BUNDLES
        last = page[-1].end if page else None
        if full and last is not None and last.timestamp() <= asked:
            raise SourceError(
                f"FullStory's listing does not get past {format_rfc3339(last)}: asked for what "
                f"ends after it, it answered with {len(page)} bundles that do not. The bookmark "
                "stays before them. Ask FullStory support why so many bundles share one end."
            )
        fresh = [bundle for bundle in page if bundle.end > after and bundle.id not in seen]
        seen.update(bundle.id for bundle in fresh)
        due = held_back + fresh
        held_back = [bundle for bundle in due if full and bundle.end == last]
        for bundle in due[: len(due) - len(held_back)]:
            if until is not None and bundle.end > until:
                return
            yield bundle
        if not full or last is None:
            return
        asked = int(last.timestamp())
