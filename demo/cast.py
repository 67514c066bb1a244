"""Record `make demo` as an animated SVG, for the README: docs/images/demo.svg.

    python demo/cast.py

It runs the demo for real and notes when each line came; only waits are shortened. A viewer that
does not animate SVG shows all lines at once.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/demo.svg"

COLUMNS, ROWS = 126, 34  # of the terminal
CHARACTER, LINE, MARGIN = 7.9, 18, 16  # px
MAX_WAIT, HOLD = 1.5, 8.0  # seconds: between two lines, and at the end
MIN_WAIT = 0.06
INK, FAINT, PROMPT, HEADING = "#e2e8f0", "#94a3b8", "#4ade80", "#fbbf24"

Lines = list[tuple[float, str]]  # seconds since the start, text


def record() -> Lines:
    """Run the demo, and return its lines. Raises CalledProcessError if it fails."""
    command = [sys.executable, "demo/demo.py"]
    lines, before, now = [(0.0, "$ make demo")], time.monotonic(), 0.8
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            waited = time.monotonic() - before
            before += waited
            now += min(max(waited, MIN_WAIT), MAX_WAIT)
            lines += [(now, part) for part in _wrapped(line.rstrip("\n"))]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return lines


def _wrapped(line: str) -> list[str]:
    return [line[at : at + COLUMNS] for at in range(0, len(line), COLUMNS)] or [""]


def draw(lines: Lines) -> str:
    """Return the SVG: the terminal scrolls once it is full, and starts over at the end."""
    duration = lines[-1][0] + HOLD
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, ROWS * LINE + 2 * MARGIN + 28
    drawn = [_line(number, *line, duration) for number, line in enumerate(lines)]
    scrolls = [(0.0, 0)]
    for number, (second, _) in enumerate(lines[ROWS:], 1):
        scrolls.append((second / duration, -number * LINE))
    times = ";".join(f"{at:.4f}" for at, _ in scrolls)
    offsets = ";".join(f"0 {offset}" for _, offset in scrolls)
    dots = "".join(
        f'<circle cx="{22 + 20 * number}" cy="18" r="6" fill="{colour}"/>'
        for number, colour in enumerate(("#f87171", "#fbbf24", "#4ade80"))
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="13">
<title>make demo, recorded by demo/cast.py</title>
<style>
text {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  white-space: pre; fill: {INK} }}
.prompt {{ fill: {PROMPT} }} .heading {{ fill: {HEADING}; font-weight: bold }}
.faint {{ fill: {FAINT} }}
</style>
<rect width="{width:.0f}" height="{height}" rx="10" fill="#0f172a"/>{dots}
<svg x="0" y="36" width="{width:.0f}" height="{ROWS * LINE + MARGIN}">
<g><animateTransform attributeName="transform" type="translate" calcMode="discrete" \
dur="{duration:.1f}s" repeatCount="indefinite" keyTimes="{times}" values="{offsets}"/>
{chr(10).join(drawn)}
</g></svg></svg>
"""


def _line(number: int, second: float, text: str, duration: float) -> str:
    kind = "heading" if text.startswith("# ") else "prompt" if text.startswith("$ ") else ""
    if re.match(r"[┌├└]|│ +(double|varchar|int)", text):
        kind = "faint"
    y = MARGIN + LINE * number
    shown = f'values="0;1" keyTimes="0;{second / duration:.4f}"' if second else 'values="1"'
    return (
        f'<text x="{MARGIN}" y="{y}" class="{kind}" xml:space="preserve">{escape(text)}'
        f'<animate attributeName="opacity" calcMode="discrete" repeatCount="indefinite" '
        f'dur="{duration:.1f}s" {shown}/></text>'
    )


if __name__ == "__main__":
    recorded = record()
    PICTURE.write_text(draw(recorded), "utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(recorded)} lines, {recorded[-1][0] + HOLD:.0f} s")
