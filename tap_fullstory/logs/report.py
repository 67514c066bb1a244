"""What a run says of values that did not go out as they came: names and numbers, never values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tap_fullstory.columns import is_custom
from tap_fullstory.counts import BoundedCounter, format_counts
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.fields import unused_patterns
from tap_fullstory.records.encoder import EncodingStats
from tap_fullstory.selection import Selection
from tap_fullstory.streams import STREAMS

LOGGER = logging.getLogger(__name__)


def report_bundle(stats: EncodingStats, bundle: Bundle) -> None:
    """Log what did not go out as it came, by column and number, never by value."""
    where = f"Bundle {bundle.id} ({bundle.period})"
    if mismatches := stats.type_mismatches:
        LOGGER.warning(
            "%s: %d values do not fit their column's type; they are null there and are in "
            "CustomVars: %s", where, mismatches.total(), format_counts(mismatches),
            extra={"code": "type_mismatches"},
        )  # fmt: skip
    if stats.repaired:
        LOGGER.warning(
            "%s: %d lone surrogates (left where text was truncated) were replaced with U+FFFD",
            where, stats.repaired, extra={"code": "surrogates_replaced"},
        )  # fmt: skip
    if stats.nuls:
        LOGGER.warning(
            "%s: %d characters U+0000 became U+FFFD (replace_nul)", where, stats.nuls,
            extra={"code": "nul_replaced"},
        )  # fmt: skip
    if stats.dropped:
        LOGGER.info(
            "%s: %d values that do not fit their column, or of keys that the catalog does not "
            "declare, were dropped, since CustomVars is deselected: %s",
            where, stats.dropped.total(), format_counts(stats.dropped),
        )  # fmt: skip
    if stats.left_out:
        LOGGER.info(
            "%s: %d events were left out, as event_types in the config says",
            where, stats.left_out,
        )  # fmt: skip
    if stats.before_bookmark:
        LOGGER.info(
            "%s: %d events from before the bookmark were left out", where, stats.before_bookmark
        )


def report_left_out(stream: str, stats: EncodingStats) -> None:
    """Log at a run's end, in which no event was written, that event_types left out all of them."""
    LOGGER.warning(
        "%s: event_types in the config left out every event that was read. EventType was %s",
        stream, format_counts(stats.types_left_out), extra={"code": "all_events_left_out"},
    )  # fmt: skip


def report_undeclared(stream: str, undeclared: BoundedCounter, keeps_overflow: bool) -> None:
    """Log at a run's end which keys came that the catalog does not declare, so that people discover
    again, and developers add a column.
    """
    fate = "are in CustomVars" if keeps_overflow else "were dropped, since CustomVars is deselected"
    if variables := _those(undeclared, is_custom):
        LOGGER.info(
            "%s: %s custom variables not in the catalog %s: %s. Name them in custom_columns to "
            "make them columns", stream, _how_many(variables), fate, format_counts(variables),
        )  # fmt: skip
    if fields := _those(undeclared, lambda name: not is_custom(name)):
        LOGGER.warning(
            "%s: %s fields %s that the catalog does not declare: %s. Discover again, perhaps with "
            "a newer version of this tap; if FullStory has added a field that it does not know "
            "yet, please report it", stream, _how_many(fields), fate, format_counts(fields),
            extra={"code": "undeclared_fields"},
        )  # fmt: skip


def report_unused(selections: Sequence[Selection]) -> None:
    """Log at a run's end which patterns of the config matched no field of what it read."""
    unused = unused_patterns((one.rules for one in selections), (one.name for one in STREAMS))
    if unused:
        LOGGER.warning(
            "No field matched %s. If you expected a match, compare the spelling with --discover "
            "(names are case-sensitive)",
            ", ".join(f"{pattern.text} of {pattern.setting}" for pattern in unused),
            extra={"code": "pattern_without_match"},
        )


def _those(counts: BoundedCounter, wanted: Callable[[str], bool]) -> BoundedCounter:
    found = BoundedCounter()
    for name, count in counts.items():
        if wanted(name):
            found.add(name, count)
    found.others = counts.others if found else 0
    return found


def _how_many(counts: BoundedCounter) -> str:
    return f"more than {len(counts)}" if counts.others else str(len(counts))
