"""What was measured, as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from cases import (
    BASELINE,
    FILTERED,
    HASHED,
    SIX_ALONE,
    TAP,
    TAP_1,
    Case,
    Results,
)

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Goal:
    """A number to stay below, or above where `more`; None where it was not measured."""

    what: str
    goal: float
    stretch: float
    measured: Callable[[Results], float | None]
    form: str = "{:.2f}"
    more: bool = False

    def row(self, results: Results) -> list[str]:
        found = self.measured(results)
        cells = [self.what, self.form.format(self.goal), self.form.format(self.stretch)]
        if found is None:
            return [*cells, "not measured", ""]
        verdict = "missed"
        if self._met(found, self.stretch):
            verdict = "stretch"
        elif self._met(found, self.goal):
            verdict = "goal"
        return [*cells, self.form.format(found), verdict]

    def _met(self, found: float, wanted: float) -> bool:
        return found >= wanted if self.more else found <= wanted


def _ratio(name: str, what: str, *layouts: str) -> Callable[[Results], float | None]:
    def measured(results: Results) -> float | None:
        cases = [results.case(name, layout) for layout in layouts or ("lines",)]
        return max(median(results.ratios(case, what)) for case in cases if case)

    return measured


def _beside_none(name: str) -> Callable[[Results], float | None]:
    """The CPU time of a case as a multiple of that of the tap without such settings."""

    def measured(results: Results) -> float | None:
        case, none = results.case(name), results.case(TAP)
        if case is None or none is None:
            return None
        return median(a / b for a, b in zip(case.cpus, none.cpus, strict=True))

    return measured


def _memory(results: Results) -> float | None:
    case = results.case(TAP)
    return _held(case) / MEGABYTE if case else None


def _memory_growth(results: Results) -> float | None:
    held = [_held(case) for case in results.growth if case.name == TAP]
    return (held[-1] - held[0]) / MEGABYTE if held else None


def _beside_published(results: Results) -> float | None:
    ours, theirs = results.case(TAP), results.case(TAP_1)
    return ours.events_a_second / theirs.events_a_second if ours and theirs else None


GOALS = (
    Goal("wall time, one process", 1.5, 1.2, _ratio(TAP, "walls")),
    Goal("CPU time, one process", 1.4, 1.1, _ratio(TAP, "cpus")),
    Goal("wall time, any layout", 1.8, 1.4, _ratio(TAP, "walls", "lines", "oneline", "indented")),
    Goal("wall time, 6 columns", 1.0, 0.5, _ratio(SIX_ALONE, "walls")),
    Goal("CPU time, 3 hashed and 2 excluded, beside none", 2, 1.5, _beside_none(HASHED)),
    Goal("CPU time, an event filter, beside none", 1, 0.9, _beside_none(FILTERED)),
    Goal("peak memory, all processes", 60, 45, _memory, "{:.0f} MB"),
    Goal("its growth over the sizes", 5, 2, _memory_growth, "{:.1f} MB"),
    Goal("events a second, beside 1.0.4", 40, 60, _beside_published, "{:.0f} times", more=True),
    Goal("share of CPU before a target", 10, 7, lambda r: 100 * median(r.share), "{:.1f} %"),
    Goal("start-up", 0.25, 0.12, lambda r: median(r.starts), "{:.2f} s"),
)


def main_table(results: Results) -> str:
    """Every case, in the order of their bundles."""
    rows = [
        [
            f"{case.name} ({case.bundle['layout']}, {case.events:,})",
            spread(case.walls),
            _times(results, case, "walls"),
            spread(case.cpus),
            _times(results, case, "cpus"),
            f"{case.events_a_second:,.0f}",
            f"{case.megabytes_a_second:.0f}",
            _megabytes(case.watched.together if case.watched else 0),
            _megabytes(case.watched.largest if case.watched else 0),
        ]
        for case in results.cases
    ]
    heads = "events/s", "MB/s", "all, MB", "largest, MB"
    return table(["", "wall, s", "x gzip", "CPU, s", "x gzip", *heads], rows)


def growth_table(results: Results) -> str:
    """The tap over bundles of several sizes."""
    rows = [
        [
            f"{case.events:,}",
            f"{case.bundle['unpacked'] / MEGABYTE:,.0f}",
            *(f"{seconds:.2f}" for seconds in results.first_records[case.events]),
            spread(case.walls),
            _times(results, case, "walls"),
            f"{case.events_a_second:,.0f}",
            _megabytes(case.watched.together if case.watched else 0),
            _megabytes(case.watched.largest if case.watched else 0),
        ]
        for case in results.growth
        if case.name == TAP
    ]
    heads = ["events", "MB", "first record, s", "at 25 MB/s, s", "wall, s", "x gzip", "events/s"]
    return table([*heads, "all, MB", "largest, MB"], rows)


def goals_table(results: Results) -> str:
    """Each goal beside what was measured."""
    return table(
        ["measure", "goal", "stretch", "measured", "met"], [goal.row(results) for goal in GOALS]
    )


def noise(results: Results) -> str:
    """How much the same run differs from itself."""
    parts = []
    for case in results.cases:
        if case.name == BASELINE and len(case.walls) > 1:
            spread = 100 * (max(case.walls) / min(case.walls) - 1)
            parts.append(f"{case.bundle['layout']}, {case.events:,} events: {spread:.0f} %")
    return "; ".join(parts)


def _held(case: Case) -> int:
    watched = case.watched
    return (watched.together or watched.largest) if watched else 0


def _times(results: Results, case: Case, what: str) -> str:
    return "1" if case.name == BASELINE else spread(results.ratios(case, what))


def spread(values: Sequence[float]) -> str:
    """The median, with the least and the most."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.0f}" if size else ""


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
