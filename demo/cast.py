"""Record what the README shows as an animated SVG, docs/images/demo.svg.

    python demo/cast.py

It runs the README's commands for real, against a sandbox, and notes when each line came; only
waits are shortened. It is narrow enough for a telephone. A viewer that does not animate SVG shows
all lines at once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tap_fullstory.sandbox import Sandbox, generated_bundles  # noqa: E402 - a clone's own

PICTURE = ROOT / "docs/images/demo.svg"
LOAD = """\
$ python load.py fullstory.duckdb -- \\
    tap-fullstory --config config.json 2>> sync.log"""
COUNT = """$ python query.py fullstory.duckdb \\
    'SELECT count(*) AS events FROM events'"""
ASK = "$ python query.py fullstory.duckdb question.sql"

COLUMNS, ROWS = 58, 25  # of the terminal
CHARACTER, LINE, MARGIN = 7.9, 18, 16  # px
MAX_WAIT, HOLD = 0.6, 8.0  # seconds: between two lines, and at the end
MIN_WAIT = 0.04
INK, FAINT, PROMPT, HEADING = "#e2e8f0", "#94a3b8", "#4ade80", "#fbbf24"

Lines = list[tuple[float, str]]  # seconds since the start, text


def record() -> Lines:
    """Run the commands, and return their lines. Raises CalledProcessError if one fails."""
    lines: Lines = []
    now = 0.0

    def show(text: str, wait: float = MIN_WAIT) -> None:
        nonlocal now
        for line in text.split("\n"):
            now += min(max(wait, MIN_WAIT), MAX_WAIT)
            lines.append((now if lines else 0.0, line))
            wait = MIN_WAIT

    sandbox = Sandbox(generated_bundles(6, 240), unpublished=1)
    with sandbox, tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), sandbox)
        for comment, command in (
            ("# Load five days of events into DuckDB", LOAD),
            ("# On which pages do people rage-click?", ASK),
            ("# A day later: load only what is new", LOAD),
            ("", COUNT),
        ):
            if command == LOAD and lines:
                sandbox.publish()
            if comment:
                show(comment, MAX_WAIT)
            show(command)
            began = time.monotonic()
            printed = _run(command.removeprefix("$ "), folder)
            show(printed.rstrip("\n"), time.monotonic() - began)
    return lines


def _fill(folder: Path, sandbox: Sandbox) -> None:
    """Put the files there that the README tells to put there."""
    for name in ("load.py", "query.py"):
        shutil.copy(ROOT / "examples/duckdb" / name, folder)
    (folder / "config.json").write_text(json.dumps(sandbox.config()), "utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    (question,) = re.findall(r"<<'SQL'\n(.*?)^SQL$", readme, re.MULTILINE | re.DOTALL)
    (folder / "question.sql").write_text(question, "utf-8")


def _run(command: str, folder: str) -> str:
    environments = Path(sys.prefix).resolve().parent  # .venvs, by default
    programs = [str(environments / name / "bin") for name in ("duckdb", "tap")]
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    environment["PATH"] = ":".join([*programs, os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True,
        check=True,
    ).stdout  # fmt: skip


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
<title>The README's commands, recorded by demo/cast.py</title>
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
