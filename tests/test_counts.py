"""Counts by name, however many names there are."""

from __future__ import annotations

import sys

from tap_fullstory.counts import (
    MAX_LISTED,
    MAX_NAME_LENGTH,
    MAX_NAMES,
    BoundedCounter,
    format_counts,
)


def test_names_beyond_the_limit_are_counted_together() -> None:
    counts = BoundedCounter()
    for number in range(3 * MAX_NAMES):
        counts.add(f"evt_{number}_int", 2)
    counts.add("evt_0_int")
    assert len(counts) == MAX_NAMES
    assert counts["evt_0_int"] == 3
    assert counts.others == 4 * MAX_NAMES
    assert counts.total() == 6 * MAX_NAMES + 1
    again = BoundedCounter()
    again.add_all(counts)
    again.add_all(counts)
    assert (len(again), again.others) == (MAX_NAMES, 8 * MAX_NAMES)
    assert again.total() == 2 * counts.total()


def test_long_names_take_little_memory() -> None:
    counts = BoundedCounter()
    counts.add("x" * 50_000)
    counts.add("x" * 60_000)
    assert counts == {"x" * MAX_NAME_LENGTH: 2}
    assert sum(map(sys.getsizeof, counts)) < 1000


def test_the_most_frequent_are_listed() -> None:
    counts = BoundedCounter()
    for number in range(MAX_LISTED):
        counts.add(f"n{number}")
    counts.add("n7", 4)
    line = format_counts(counts)
    assert line.startswith("n7 (5), n0 (1), ")
    assert line.endswith(f"n{MAX_LISTED - 1} (1)")
    counts.add("z")
    assert format_counts(counts) == f"{line} and 1 more names"
    assert format_counts({"a\nb": 1}) == r"'a\nb' (1)"


def test_more_names_than_are_counted_are_reported() -> None:
    counts = BoundedCounter()
    for number in range(MAX_NAMES + 1):
        counts.add(f"n{number}")
    assert format_counts(counts).endswith(f" and more than {MAX_NAMES - MAX_LISTED} more names")
