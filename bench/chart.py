"""The bar chart of docs/performance.md: events a second, of the tap and of what it is set beside.

    python bench/chart.py bench/out/figures.json

draws docs/images/events-per-second.svg from the figures that a run of bench.py wrote;
`make bench ARGS=--chart` does so right after the run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from cases import BASELINE, JQ, TAP, TAP_1, Results

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/events-per-second.svg"

# The case's name, what the chart calls it, and its colour.
BARS = {
    BASELINE: ("gzip -dc, which only unpacks", "#94a3b8"),
    TAP: ("tap-fullstory 3", "#7c3aed"),
    JQ: ("gzip -dc | jq -c '.[]'", "#94a3b8"),
    TAP_1: ("tap-fullstory 1.0.4", "#94a3b8"),
}
WIDTH, LABEL, BAR, GAP = 860, 250, 26, 14  # px


def figures(results: Results, machine: str) -> dict[str, Any]:
    """Return what the chart needs of a run: the machine, and events a second of each case."""
    found = {name: results.case(name) for name in BARS}
    speeds = {name: round(case.events_a_second) for name, case in found.items() if case}
    return {"machine": machine, "events_a_second": speeds}


def draw(machine: str, events_a_second: dict[str, float]) -> str:
    """Return the SVG, with a bar for each of BARS that was measured."""
    most = max(events_a_second.values())
    drawn = []
    for number, name in enumerate(name for name in BARS if name in events_a_second):
        label, colour = BARS[name]
        y, speed = 56 + number * (BAR + GAP), events_a_second[name]
        width = max((WIDTH - LABEL - 110) * speed / most, 2)
        weight = 600 if name == TAP else 400
        drawn.append(
            f'<text x="{LABEL - 12}" y="{y + 18}" text-anchor="end" font-weight="{weight}">'
            f"{escape(label)}</text>"
            f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="4" fill="{colour}"/>'
            f'<text x="{LABEL + width + 10:.1f}" y="{y + 18}" font-weight="{weight}">'
            f"{speed:,.0f}</text>"
        )
    height = 56 + len(drawn) * (BAR + GAP) + 30
    style = 'font-family="ui-sans-serif, system-ui, sans-serif" font-size="14" fill="#0f172a"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {style}>',
        "<title>Events a second, from a bundle to RECORD messages</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
        '<text x="24" y="32" font-size="17" font-weight="600">Events a second</text>',
        *drawn,
        f'<text x="24" y="{height - 12}" font-size="12" fill="#64748b">{escape(machine)}</text>',
        "</svg>\n",
    ])  # fmt: skip


def write(found: dict[str, Any]) -> None:
    """Draw the figures of a run into the README's picture."""
    PICTURE.write_text(draw(found["machine"], found["events_a_second"]), "utf-8")
    print(f"{PICTURE.relative_to(ROOT)} is drawn.", file=sys.stderr)


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text("utf-8")))
