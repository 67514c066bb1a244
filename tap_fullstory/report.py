"""What a run says of values that did not go out as they came: names and numbers, never values."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from tap_fullstory.bundle import Bundle
from tap_fullstory.catalog import is_custom
from tap_fullstory.records import Tally
from tap_fullstory.shape import in_words

LOGGER = logging.getLogger(__name__)


def report_bundle(tally: Tally, bundle: Bundle) -> None:
    """Say what did not go out as it came, by column and number, never by value."""
    where = f"Bundle {bundle.id} ({bundle.period})"
    misfits, dropped = Counter(tally.misfits), Counter(tally.dropped)
    if misfits:
        LOGGER.warning(
            "%s: %d values do not fit their column's type; they are null there and stand in "
            "CustomVars: %s", where, misfits.total(), in_words(misfits),
        )  # fmt: skip
    if tally.repaired:
        LOGGER.warning(
            "%s: %d halves of surrogate pairs, left where a text was cut, became U+FFFD",
            where, tally.repaired,
        )  # fmt: skip
    if dropped:
        LOGGER.info(
            "%s: %d values that do not fit their column, or of keys that the catalog does not "
            "list, were dropped, since CustomVars is deselected: %s",
            where, dropped.total(), in_words(dropped),
        )  # fmt: skip
    if tally.too_early:
        LOGGER.info("%s: %d events from before the bookmark were left out", where, tally.too_early)


def report_unlisted(stream: str, unlisted: Mapping[str, int], custom_vars: bool) -> None:
    """Say at a run's end which keys came that the catalog does not list, so that people discover
    again, and developers add a column.
    """
    variables = Counter({name: n for name, n in unlisted.items() if is_custom(name)})
    fields = Counter({name: n for name, n in unlisted.items() if not is_custom(name)})
    fate = "stand in CustomVars" if custom_vars else "were dropped, since CustomVars is deselected"
    if variables:
        LOGGER.info(
            "%s: %d custom variables %s that the catalog does not list: %s. "
            "--discover with discover_custom_vars lists them as columns to select",
            stream, len(variables), fate, in_words(variables),
        )  # fmt: skip
    if fields:
        LOGGER.warning(
            "%s: %d fields %s that the catalog does not list: %s. Discover again, perhaps with a "
            "newer version of this tap; if FullStory has added a field that it does not know yet, "
            "please report it", stream, len(fields), fate, in_words(fields),
        )  # fmt: skip
