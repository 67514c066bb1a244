"""What happened to the values of events on the way to records, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from tap_fullstory.counts import BoundedCounter


@dataclass
class EncodingStats:
    """What happened to values on the way, by column; never the values themselves.

    `type_mismatches` went to CustomVars and left null behind; `dropped` went nowhere, since
    CustomVars is deselected; `undeclared` are the keys which the catalog does not list; `repaired`
    counts half surrogate pairs and `nuls` the U+0000 that were replaced; `before_bookmark` and
    `left_out` are events that are not written: those before a bookmark, and those that the config
    leaves out.
    """

    type_mismatches: BoundedCounter = field(default_factory=BoundedCounter)
    dropped: BoundedCounter = field(default_factory=BoundedCounter)
    undeclared: BoundedCounter = field(default_factory=BoundedCounter)
    repaired: int = 0
    nuls: int = 0
    before_bookmark: int = 0
    left_out: int = 0

    def add(self, other: EncodingStats) -> None:
        """Add what `other` counted."""
        for mine, its in (
            (self.type_mismatches, other.type_mismatches),
            (self.dropped, other.dropped),
            (self.undeclared, other.undeclared),
        ):
            if its:
                mine.add_all(its)
        self.repaired += other.repaired
        self.nuls += other.nuls
        self.before_bookmark += other.before_bookmark
        self.left_out += other.left_out
