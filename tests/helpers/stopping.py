"""Stop a pipeline again and again, until its rows show what that has lost or doubled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Protocol

SOFT = ("SIGHUP", "SIGINT", "SIGTERM")
MOST_STOPS_A_LOAD = 4


class Pipeline(Protocol):
    """What is stopped. Rows are texts, the same for the same row."""

    def begin(self) -> None:
        """Start over: no rows, no state."""

    def stop_one_run(self, random: Random) -> bool:
        """Continue from the last state, and stop that; False if it had ended before."""

    def finish(self) -> None:
        """Continue from the last state to the end. Raises AssertionError if that fails."""

    def rows(self) -> Counter[str]:
        """Return how often each row has come since `begin`."""

    def repeatable(self) -> int:
        """Return how many rows the design allows to come twice, for the stops since `begin`."""


@dataclass
class Tally:
    """What stops have cost."""

    loads: int = 0
    stops: int = 0
    lost: int = 0
    doubled: int = 0
    beyond: int = 0
    """Doubled rows beyond those that the design allows."""

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def stop_again_and_again(
    pipeline: Pipeline, expected: Counter[str], stops: int, random: Random
) -> Tally:
    """Load in several runs each, all but the last of which are stopped, until so many stops."""
    tally = Tally()
    while tally.stops < stops:
        pipeline.begin()
        for _ in range(random.randint(1, min(MOST_STOPS_A_LOAD, stops - tally.stops))):
            if not pipeline.stop_one_run(random):
                break
            tally.stops += 1
        pipeline.finish()
        rows = pipeline.rows()
        doubled = (rows - expected).total()
        tally.add(
            Tally(1, 0, (expected - rows).total(), doubled, max(0, doubled - pipeline.repeatable()))
        )
    return tally
