"""How fast the tap is, beside gzip, jq, the tap that people had before, and a target.

It also measures what files of columns cost, beside tools that make such files.

`make bench` runs this; `make bench ARGS=--help` lists its options. It starts programs as a shell
would, in turns, and prints tables. Whatever is timed runs once before, and has to write as many
records as there are events.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import chart
import columns
import worst
from cases import (
    OUT,
    ROOT,
    TAP,
    Bundle,
    Case,
    Results,
    check,
    of_growth,
    of_others,
    of_the_tap,
    tap_command,
)
from measure import RECORD, Failed, cost, say, seconds_until, served
from tables import goals_table, growth_table, main_table, noise

LAYOUTS = ("lines", "oneline", "indented")
TARGET = ROOT / ".venvs/target-duckdb/bin/target-duckdb"
TARGET_CONFIG = {
    "path": str(OUT / "bench.duckdb"),
    "default_target_schema": "main",
    "primary_key_required": False,
    "add_metadata_columns": True,
}
FIGURES = OUT / "figures.json"  # of the last run, for chart.py
STARTS = 15  # how often the start-up is timed
FIRST_RECORDS = 3  # how often the time to a first record is taken
SLOW_ROUNDS = 3  # at most, of what takes long


def main() -> None:
    options = _parser().parse_args()
    if options.worst:
        print(worst.run(options.tap, options.worst))
        return
    load_before = os.getloadavg()[0]
    try:
        with _served(options) as bundles:
            of_columns, seconds = "", {}
            if not options.no_columns:
                bundle = bundles[options.columns_events, "lines"]
                of_columns, seconds = columns.run(bundle, min(options.rounds, SLOW_ROUNDS))
            if options.only_columns:
                _report_columns(options, of_columns, seconds, load_before)
                return
            results = _measured(options, bundles)
    except Failed as failure:
        sys.exit(f"The bench failed: {failure}")
    lines = bundles[options.events, "lines"]
    load = f"load {load_before:.1f} before and {os.getloadavg()[0]:.1f} after"
    machine = _machine()
    print(
        f"Machine: {machine}; {load}.\n"
        f"Bundle: {lines['events']:,} events of {lines['unpacked'] / lines['events']:,.0f} bytes, "
        f"{100 * lines['with_custom_vars'] / lines['events']:.0f} % with custom variables; "
        f"{lines['unpacked'] / 1e6:,.0f} MB unpacked, {lines['packed'] / 1e6:,.0f} MB packed.\n"
        f"Medians of {options.rounds} rounds in turns, with the least and the most. "
        f"The slowest gzip beside the fastest: {noise(results)}.\n\n"
        f"{main_table(results)}\n\n"
        "Each is followed by `| cat > /dev/null`, whose CPU time is included. Ratios are to gzip "
        'over the same file in the same round. "all" is the most memory that all processes of the '
        'tap held at a time (Pss, sampled, in a run of its own), "largest" the ru_maxrss of its '
        "largest process.\n"
    )
    if results.growth:
        print(f"{growth_table(results)}\n")
    if of_columns:
        print(f"{of_columns}\n")
    print(
        f"Start-up to the first byte of --version: {_median_ms(results.starts)}; "
        f"`python -c pass`: {_median_ms(results.python_starts)}.\n\n{goals_table(results)}"
    )
    figures = chart.figures(results, seconds, machine)
    FIGURES.write_text(json.dumps(figures), "utf-8")
    if options.chart:
        chart.write(figures)


def _report_columns(
    options: argparse.Namespace, text: str, seconds: dict[str, float], load_before: float
) -> None:
    load = f"load {load_before:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"Machine: {_machine()}; {load}. Medians of {options.rounds} rounds.\n\n{text}")
    if options.chart:
        chart.write({"machine": _machine(), "columns_cpu_seconds": seconds})


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()}, Python "
        f"{platform.python_version()}"
    )


def _measured(options: argparse.Namespace, bundles: dict[tuple[int, str], Bundle]) -> Results:
    tap = options.tap
    lines, oneline, indented = (bundles[options.events, layout] for layout in LAYOUTS)
    small = bundles[options.small, "lines"]
    cases = [*of_the_tap(tap, lines, oneline, indented), *of_others(small)]
    growth = of_growth(tap, [bundles[size, "lines"] for size in _growth_sizes(options)])
    for case in (case for case in cases + growth if case.is_tap):
        say(f"looking at {case.name}, {case.bundle['layout']}, {case.events:,} events")
        check(case)
    _time(cases, options.rounds)
    _time(growth, min(options.rounds, SLOW_ROUNDS))
    say("start-up, first records, and the share of a pipeline into DuckDB")
    starts, python_starts = [], []
    for _ in range(STARTS):
        starts.append(seconds_until((b"tap-fullstory",), [tap, "--version"]))
        python_starts.append(cost([_python_of(tap), "-c", "pass"]).wall)
    return Results(
        cases,
        growth,
        {case.events: _first_records(tap, case.bundle) for case in growth if case.name == TAP},
        _share_before_target(tap, bundles[options.target_events, "lines"], options.rounds),
        starts,
        python_starts,
    )


def _time(cases: Sequence[Case], rounds: int) -> None:
    """In turns, so that a busy minute of the machine hits all of them."""
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}, {len(cases)} runs")
        for case in cases:
            case.costs.append(cost(*case.commands, ["cat"]))


def _first_records(tap: str, bundle: Bundle) -> tuple[float, float]:
    """Seconds to the first record: over loopback, and at 25 MB/s."""
    far = {**bundle, "config": bundle["far_config"]}
    return tuple(
        median(seconds_until(RECORD, tap_command(tap, served)) for _ in range(FIRST_RECORDS))
        for served in (bundle, far)
    )


def _share_before_target(tap: str, bundle: Bundle, rounds: int) -> list[float]:
    """Which part of the CPU of `tap | target-duckdb` the tap takes, run by run."""
    config = OUT / "target.json"
    config.write_text(json.dumps(TARGET_CONFIG))
    shares = []
    for _ in range(min(rounds, SLOW_ROUNDS)):
        Path(TARGET_CONFIG["path"]).unlink(missing_ok=True)
        used = cost(tap_command(tap, bundle), [str(TARGET), "--config", str(config)]).cpu
        shares.append(used[0] / sum(used))
    return shares


@contextmanager
def _served(options: argparse.Namespace) -> Iterator[dict[tuple[int, str], Bundle]]:
    """The bundles by events and layout, each served by a sandbox of its own in another process."""
    wanted = [(options.events, layout) for layout in LAYOUTS]
    sizes = {options.small, options.target_events, options.columns_events, *_growth_sizes(options)}
    if options.only_columns:
        wanted, sizes = [], {options.columns_events}
    wanted += [(size, "lines") for size in sorted(sizes) if (size, "lines") not in wanted]
    arguments = [f"{events}:{layout}:{options.seed}" for events, layout in wanted]
    with served(*arguments) as told:
        yield dict(zip(wanted, told, strict=True))


def _growth_sizes(options: argparse.Namespace) -> list[int]:
    return [] if options.no_growth else sorted(set(options.growth))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    add = parser.add_argument
    # fmt: off
    add("--events", type=int, default=400_000,
        help="in the large bundle, which the goals speak of; default: %(default)s")
    add("--rounds", type=int, default=5, help="how often each is timed; default: %(default)s")
    add("--small", type=int, default=20_000, metavar="EVENTS",
        help="for jq and tap-fullstory 1.0.4; default: %(default)s")
    add("--target-events", type=int, default=100_000, metavar="EVENTS",
        help="for target-duckdb; default: %(default)s")
    add("--growth", type=int, nargs="+", default=[20_000, 50_000, 400_000, 2_000_000],
        metavar="EVENTS", help="sizes that show how time and memory grow; default: %(default)s")
    add("--no-growth", action="store_true", help="without these")
    add("--columns-events", type=int, default=200_000, metavar="EVENTS",
        help="for files of columns; default: %(default)s")
    add("--no-columns", action="store_true", help="without files of columns")
    add("--only-columns", action="store_true", help="only files of columns")
    add("--worst", type=int, nargs="?", const=50, metavar="MEGABYTES",
        help="measure the worst bundles beside a normal one instead; default: %(const)s")
    add("--chart", action="store_true", help="draw the figures into the pictures of the documents")
    add("--seed", type=int, default=0, help="of the events; default: %(default)s")
    add("--tap", default=str(ROOT / ".venvs/tap/bin/tap-fullstory"), metavar="COMMAND",
        help="the tap that is measured; default: the one that make installs")
    # fmt: on
    return parser


def _python_of(tap: str) -> str:
    """The Python that the tap's command starts."""
    beside = Path(tap).with_name("python")
    return str(beside) if beside.exists() else sys.executable


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _median_ms(seconds: list[float]) -> str:
    return (
        f"{1000 * median(seconds):.0f} ms ({1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})"
    )


if __name__ == "__main__":
    main()
