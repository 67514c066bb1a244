"""Files of columns: what the tap takes to make them of a bundle, beside gzip and other tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from cases import BASELINE, OUT, ROOT, Bundle, tap_command
from measure import ENVIRONMENT, Command, Cost, Failed, cost, say
from tables import spread, table

# The tap beside these programs: it has pyarrow.
TAP = str(Path(sys.executable).with_name("tap-fullstory"))
TOOLS_PYTHON = ROOT / ".venvs/bench-columns/bin/python"
CONVERTERS = Path(__file__).with_name("converters.py")
FOLDER = OUT / "columns"
BATCH_SIZE = 10_000
COMPARED = 3_000  # rows, from the first on
TAP_ARROW, TAP_PARQUET = "tap, Arrow", "tap, Parquet"
# As the bench and the converters name them, with the module that has to be there.
TOOLS = {
    "json.loads and pyarrow": ("pyarrow", "pyarrow"),
    "polars": ("polars", "polars"),
    "DuckDB": ("duckdb", "duckdb"),
    "chdb, ClickHouse's reader": ("chdb", "chdb"),
    "dlt": ("dlt", "dlt"),
}
# dlt gives columns other names, and puts lists into tables of their own.
NOT_COMPARED = {"dlt": "not compared: other names, and lists in other tables"}
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

Json = dict[str, Any]


@dataclass
class Conversion:
    """A program that makes files of columns of a bundle, in FOLDER."""

    name: str
    command: Command
    costs: list[Cost] = field(default_factory=list)
    verdict: str = ""

    def run(self) -> None:
        """Run it once, into an empty folder. Raises Failed."""
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        self.costs.append(cost(self.command))

    @property
    def cpus(self) -> list[float]:
        return [sum(one.cpu) for one in self.costs]

    @property
    def peak(self) -> float:
        """The most memory of its largest process, in MB."""
        return max(max(one.peak) for one in self.costs) / 1e6


def run(bundle: Bundle, rounds: int) -> tuple[str, dict[str, float]]:
    """Return what was measured as a Markdown table, with what was left out, and the seconds of CPU
    time by name. Raises Failed if gzip or the tap fails, or writes other rows.
    """
    if find_spec("pyarrow") is None:
        return "Files of columns are left out: pyarrow has no release for this Python.", {}
    conversions, left_out = _conversions(bundle)
    for conversion in list(conversions):
        say(f"looking at {conversion.name}")
        try:
            conversion.run()
        except Failed as failure:
            if conversion.command[0] != str(TOOLS_PYTHON):
                raise
            left_out.append(f"{conversion.name}: {_last_line(failure)}")
            conversions.remove(conversion)
            continue
        if conversion.name != BASELINE:
            # In a process of its own: what this one holds would count as its children's memory.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                conversion.verdict = pool.submit(_compare, conversion.name, bundle).result()
        conversion.costs.clear()
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}, {len(conversions)} runs")
        for conversion in conversions:
            conversion.run()
    shutil.rmtree(FOLDER)
    return _text(conversions, left_out, bundle), {
        one.name: round(median(one.cpus), 2) for one in conversions
    }


def _conversions(bundle: Bundle) -> tuple[list[Conversion], list[str]]:
    found = [Conversion(BASELINE, ["gzip", "-dc", bundle["path"]])]
    for name, form in ((TAP_ARROW, "arrow"), (TAP_PARQUET, "parquet")):
        storage = {"root": str(FOLDER)}
        batches = {"encoding": {"format": form}, "storage": storage, "batch_size": BATCH_SIZE}
        found.append(Conversion(name, tap_command(TAP, bundle, batch_config=batches)))
    left_out = []
    for name, (tool, module) in TOOLS.items():
        command = [str(TOOLS_PYTHON), str(CONVERTERS), tool, bundle["path"], str(FOLDER)]
        there = [str(TOOLS_PYTHON), "-c", f"import {module}"]
        if TOOLS_PYTHON.exists() and not subprocess.run(there, capture_output=True).returncode:
            found.append(Conversion(name, command))
        else:
            left_out.append(f"{name}: not installed for this Python")
    return found, left_out


def _compare(name: str, bundle: Bundle) -> str:
    """Say in how many of the first rows the values are others than in RECORD messages.

    Raises Failed if the tap's are.
    """
    if name in NOT_COMPARED:
        return NOT_COMPARED[name]
    expected, events = list(_records(bundle)), bundle["events"]
    try:
        count, rows = _rows()
    except (ValueError, OSError) as error:
        return f"no table: {_last_line(error)}"
    differing = sum(_plain(row) != record for row, record in zip(rows, expected, strict=True))
    if name in (TAP_ARROW, TAP_PARQUET) and (differing or count != events):
        raise Failed(f"{name}: {count} rows of {events}, and {differing} differ")
    more = "" if count == events else f", {count:,} rows of {events:,}"
    return f"{differing:,} of {len(rows):,}{more}"


def _records(bundle: Bundle) -> Iterator[Json]:
    """Yield the first records of the tap, as _plain has them."""
    with subprocess.Popen(
        tap_command(TAP, bundle),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
    ) as tap:  # fmt: skip
        messages = map(json.loads, tap.stdout or ())
        records = (one["record"] for one in messages if one["type"] == "RECORD")
        yield from map(_plain, islice(records, COMPARED))
        tap.terminate()


def _rows() -> tuple[int, list[Json]]:
    """How many rows the files have, and the first of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def number(path: Path) -> int:
        found = re.search(r"-(\d+)\.\w+$", path.name)
        return int(found[1]) if found else 0

    count, rows = 0, []
    for path in sorted(FOLDER.iterdir(), key=number):
        if path.suffix == ".arrow":
            with pa.memory_map(str(path)) as file:
                found = pa.ipc.open_file(file).read_all()
                count += len(found)
                rows += found.slice(0, COMPARED - len(rows)).to_pylist()
        elif path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                count += file.metadata.num_rows
                if len(rows) < COMPARED:
                    first = next(file.iter_batches(batch_size=COMPARED - len(rows)))
                    rows += first.to_pylist()
    return count, rows


def _plain(row: Json) -> Json:
    """Return a row in a form that all tools can have: custom variables beside the columns, nothing
    that is null, and date-times as such.
    """
    custom = row.get("CustomVars")
    members = json.loads(custom) if isinstance(custom, str) else custom or {}
    flat = {**{name: value for name, value in row.items() if name != "CustomVars"}, **members}
    return {name: plain for name, value in flat.items() if (plain := _value(value)) is not None}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return _plain(value) or None
    if isinstance(value, list):
        return [_value(one) for one in value]
    if isinstance(value, str) and _DATE_TIME.fullmatch(value):
        fraction = re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", value)
        value = datetime.fromisoformat(fraction.replace("Z", "+00:00"))
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return value


def _text(conversions: list[Conversion], left_out: list[str], bundle: Bundle) -> str:
    (gzip,) = [one for one in conversions if one.name == BASELINE]
    rows = [
        [
            one.name,
            spread(one.cpus),
            "1"
            if one is gzip
            else spread([a / b for a, b in zip(one.cpus, gzip.cpus, strict=True)]),
            spread([each.wall for each in one.costs]),
            f"{one.peak:.0f}",
            one.verdict,
        ]
        for one in conversions
    ]
    heads = ["CPU, s", "x gzip", "wall, s", "largest, MB", "rows that differ"]
    first = f"to files of columns ({bundle['events']:,} events)"
    said = (
        f"The tap writes files of {BATCH_SIZE:,} rows, the others one file. The last column is of "
        f"the first {COMPARED:,} rows, against RECORD messages."
    )
    if left_out:
        said += " Left out: " + "; ".join(left_out) + "."
    return f"{table([first, *heads], rows)}\n\n{said}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:150] if lines else type(error).__name__
