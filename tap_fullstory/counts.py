"""Counts by name that stay small whatever names come."""

from __future__ import annotations

from collections.abc import Mapping

MAX_NAMES = 1000  # counted by name; values of the others are only counted together
MAX_NAME_LENGTH = 100  # characters of a name that are kept
MAX_LISTED = 20  # names in one log line


class BoundedCounter(dict[str, int]):
    """Numbers of values by name, for at most MAX_NAMES names; `others` counts the rest."""

    others = 0

    def add(self, name: str, count: int = 1) -> None:
        """Count `count` values of a name, by its first MAX_NAME_LENGTH characters."""
        name = name[:MAX_NAME_LENGTH]
        if name in self or len(self) < MAX_NAMES:
            self[name] = self.get(name, 0) + count
        else:
            self.others += count

    def add_all(self, counts: Mapping[str, int]) -> None:
        """Count what another counter has counted."""
        for name, count in counts.items():
            # As `add`, without a call for each: this is done for every batch.
            name = name[:MAX_NAME_LENGTH]
            if name in self or len(self) < MAX_NAMES:
                self[name] = self.get(name, 0) + count
            else:
                self.others += count
        if isinstance(counts, BoundedCounter) and counts.others:
            self.others += counts.others

    def total(self) -> int:
        """Return the number of values, whatever their names."""
        return sum(self.values()) + self.others


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_counts(counts: Mapping[str, int]) -> str:
    """Return the most frequent names with their numbers, on one line whatever the names."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(
        f"{(name if name.isprintable() else ascii(name))[:MAX_NAME_LENGTH]} ({count})"
        for name, count in ordered[:MAX_LISTED]
    )
    more = len(ordered) - MAX_LISTED
    if getattr(counts, "others", 0):
        return f"{listed} and more than {more} more names"
    return f"{listed} and {more} more names" if more > 0 else listed
