"""The bar charts of the documents: events a second, and the CPU time of files of columns.

    python bench/chart.py bench/out/figures.json

draws docs/images/events-per-second.svg and columns-cpu.svg from the figures that a run of bench.py
wrote; `make bench ARGS=--chart` does so right after the run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import columns
from cases import BASELINE, JQ, TAP, TAP_1, Results

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"

GREY, PURPLE = "#94a3b8", "#7c3aed"
# The case's name, what the chart calls it, and its colour.
BARS = {
    BASELINE: ("gzip -dc, which only unpacks", GREY),
    TAP: ("tap-fullstory 3", PURPLE),
    JQ: ("gzip -dc | jq -c '.[]'", GREY),
    TAP_1: ("tap-fullstory 1.0.4", GREY),
}
COLUMN_BARS = {
    BASELINE: ("gzip -dc, which only unpacks", GREY),
    columns.TAP_ARROW: ("tap-fullstory, Arrow", PURPLE),
    columns.TAP_PARQUET: ("tap-fullstory, Parquet", PURPLE),
    **{name: (name, GREY) for name in columns.TOOLS},
}
WIDTH, LABEL, BAR, GAP = 860, 250, 26, 14  # px


def figures(results: Results, columns_cpu: dict[str, float], machine: str) -> dict[str, Any]:
    """Return what the charts need of a run: the machine, events a second of each case, and seconds
    of CPU time for files of columns.
    """
    found = {name: results.case(name) for name in BARS}
    speeds = {name: round(case.events_a_second) for name, case in found.items() if case}
    return {"machine": machine, "events_a_second": speeds, "columns_cpu_seconds": columns_cpu}


def draw(
    title: str, about: str, machine: str, bars: dict[str, tuple[str, str]],
    values: dict[str, float], form: str,
) -> str:  # fmt: skip
    """Return the SVG, with a bar for each that was measured."""
    most = max(values.values())
    drawn = []
    for number, name in enumerate(name for name in bars if name in values):
        label, colour = bars[name]
        y, value = 56 + number * (BAR + GAP), values[name]
        width = max((WIDTH - LABEL - 110) * value / most, 2)
        weight = 600 if colour == PURPLE else 400
        drawn.append(
            f'<text x="{LABEL - 12}" y="{y + 18}" text-anchor="end" font-weight="{weight}">'
            f"{escape(label)}</text>"
            f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="4" fill="{colour}"/>'
            f'<text x="{LABEL + width + 10:.1f}" y="{y + 18}" font-weight="{weight}">'
            f"{form.format(value)}</text>"
        )
    height = 56 + len(drawn) * (BAR + GAP) + 30
    style = 'font-family="ui-sans-serif, system-ui, sans-serif" font-size="14" fill="#0f172a"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {style}>',
        f"<title>{escape(about)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
        f'<text x="24" y="32" font-size="17" font-weight="600">{escape(title)}</text>',
        *drawn,
        f'<text x="24" y="{height - 12}" font-size="12" fill="#64748b">{escape(machine)}</text>',
        "</svg>\n",
    ])  # fmt: skip


def write(found: dict[str, Any]) -> None:
    """Draw the figures of a run into the pictures of the documents."""
    if speeds := found.get("events_a_second"):
        about = "Events a second, from a bundle to RECORD messages"
        drawn = draw("Events a second", about, found["machine"], BARS, speeds, "{:,.0f}")
        _write("events-per-second.svg", drawn)
    if seconds := found.get("columns_cpu_seconds"):
        title = "Seconds of CPU time, from a bundle to Parquet files, or to Arrow"
        drawn = draw(title, title, found["machine"], COLUMN_BARS, seconds, "{:.2f}")
        _write("columns-cpu.svg", drawn)


def _write(name: str, drawn: str) -> None:
    (IMAGES / name).write_text(drawn, "utf-8")
    print(f"docs/images/{name} is drawn.", file=sys.stderr)


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text("utf-8")))
