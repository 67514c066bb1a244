"""How fast events become rows: the tap into each tested target, and what it costs both sides.

`make bench-load` runs this; `make bench-load ARGS=--help` lists its options. A sandbox serves one
bundle, each pipeline loads it from start to end, and the rows are compared with the tap's records.
PostgreSQL is a server of its own, and so is the stand-in for Snowflake (snowflake_server.py). Their
CPU time is in no column.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from csv import DictReader
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from measure import ENVIRONMENT, Cost, Failed, cost, say, served

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))
import snowflake_server  # noqa: E402
from postgres import Postgres, programs, server  # noqa: E402
from snowflake_server import Snowflake  # noqa: E402

OUT = ROOT / "bench/out/load"
BATCHES = OUT / "batches"
ENVS = ROOT / ".venvs"
POSTGRES = "target-postgres 0.8.1"
SNOWFLAKE = "target-snowflake 0.20.4 (MeltanoLabs), no validate_records, stand-in for the server"
SNOWFLAKE_PROGRAM = ENVS / "meltanolabs-target-snowflake/bin/target-snowflake"
SHIPPED = {"use_copy": True, "validate_records": False}
FILES = {
    "batch_config": {
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "storage": {"root": str(BATCHES)},
        "batch_size": 10_000,
    }
}
COLUMNS = {
    "batch_config": {
        "encoding": {"format": "parquet"},
        "storage": {"root": str(BATCHES)},
        "batch_size": 10_000,
    }
}
NUMBERS = ("indvid", "userid", "sessionid", "pageid", "eventsessionoffset", "pagenumerrors")
TEXTS = ("eventtype", "eventtargettext", "pageurl", "useremail")
TIME = "eventstart"

Json = dict[str, Any]
Rows = Iterable[Json]
Digest = tuple[int, int]


@dataclass
class Pipeline:
    """The tap with `settings`, and a target with its config; None for no target. `rows` reads back
    what the target has loaded, with names in lower case.
    """

    name: str
    target: list[str] | None
    rows: Callable[[], Rows] | None = None
    settings: Json = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)
    verdict: str = ""


def main() -> None:
    options = _parser().parse_args()
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        shutil.rmtree(OUT, ignore_errors=True)
        BATCHES.mkdir(parents=True)
        (bundle,) = stack.enter_context(served(f"{options.events}:lines:0"))
        database = None
        if found := programs():
            database = stack.enter_context(server(found))
        else:
            say("PostgreSQL is not installed: its rows are left out")
        snowflake = None
        if SNOWFLAKE_PROGRAM.exists():
            python = ENVS / "duckdb/bin/python"
            snowflake = stack.enter_context(snowflake_server.server(python))
        else:
            say("target-snowflake is left out: `make test-snowflake` installs it")
        pipelines = [one for one in _pipelines(database, snowflake) if options.only in one.name]
        truth = _truth(bundle["config"])
        for number in range(1, options.rounds + 1):
            for pipeline in pipelines:
                say(f"round {number} of {options.rounds}: {pipeline.name}")
                if database is not None:
                    database.execute("drop schema if exists bench cascade")
                if snowflake is not None:
                    snowflake.execute("drop schema if exists bench cascade")
                _run(pipeline, bundle["config"], truth)
    print(
        f"{os.cpu_count()} cores; load {load_before:.1f} before and {os.getloadavg()[0]:.1f} "
        f"after. {bundle['events']:,} events of "
        f"{bundle['unpacked'] / bundle['events']:,.0f} bytes, medians of {options.rounds} rounds.\n"
    )
    print(_table(pipelines, bundle["events"]))
    if not options.only:
        print(f"\n{_goals(pipelines)}")


def _pipelines(database: Postgres | None, snowflake: Snowflake | None) -> list[Pipeline]:
    jsonl, csv = {"destination_path": str(OUT), "do_timestamp_file": False}, {
        "output_path": str(OUT), "file_naming_scheme": "{stream_name}.csv"}  # fmt: skip
    duck = {"path": str(OUT / "target.duckdb"), "default_target_schema": "main",
            "primary_key_required": False, "add_metadata_columns": True}  # fmt: skip
    found = [
        Pipeline("the tap alone", None),
        Pipeline("the tap alone, BATCH", None, settings=FILES),
        Pipeline("target-jsonl 0.1.4", _target("target-jsonl", jsonl), _jsonl_rows),
        Pipeline("target-csv 0.5.0 (MeltanoLabs)", _target("target-csv", csv, "meltanolabs-"),
                 _csv_rows, {"custom_vars_format": "string"}),
        Pipeline("target-duckdb 0.8.0", _target("target-duckdb", duck),
                 lambda: _duckdb_rows("target-duckdb", "target.duckdb")),
        Pipeline("DuckDB by examples/duckdb/load.py",
                 [str(ENVS / "duckdb/bin/python"), str(ROOT / "examples/duckdb/load.py"),
                  str(OUT / "loader.duckdb")],
                 lambda: _duckdb_rows("duckdb", "loader.duckdb")),
    ]  # fmt: skip
    if find_spec("pyarrow"):
        loader = found[-1]
        found.append(
            Pipeline(f"{loader.name}, Parquet of 10,000", loader.target, loader.rows, COLUMNS)
        )
    else:
        say("files of columns are left out: pyarrow has no release for this Python")
    if database is not None:
        for words, more, settings in (
            ("with its defaults", {}, {}),
            ("use_copy, no validate_records", SHIPPED, {}),
            ("the same, event_digest", SHIPPED, {"event_digest": True}),
            ("the same, BATCH of 10,000", SHIPPED, FILES),
        ):
            config = {"sqlalchemy_url": database.url, "default_target_schema": "bench", **more}
            found.append(
                Pipeline(
                    f"{POSTGRES} (MeltanoLabs), {words}",
                    _target("target-postgres", config, "meltanolabs-"),
                    lambda: _postgres_rows(database),
                    settings,
                )
            )
    if snowflake is not None:
        target = snowflake.command(
            SNOWFLAKE_PROGRAM,
            OUT / "snowflake.json",
            default_target_schema="bench",
            validate_records=False,
        )
        for name, settings in ((SNOWFLAKE, {}), (f"{SNOWFLAKE}, BATCH of 10,000", FILES)):
            found.append(Pipeline(name, target, lambda: _snowflake_rows(snowflake), settings))
    return found


def _target(name: str, config: Json, variant: str = "") -> list[str]:
    path = OUT / f"{len(list(OUT.glob('*.json')))}-{name}.json"
    path.write_text(json.dumps(config))
    return [str(ENVS / f"{variant}{name}/bin/{name}"), "--config", str(path)]


def _run(pipeline: Pipeline, config: Json, truth: Digest) -> None:
    """Load once, into nothing. Raises Failed if it fails or the rows are others."""
    for path in [*OUT.glob("*.duckdb"), *OUT.glob("events.*"), *BATCHES.iterdir()]:
        path.unlink()
    tap = _tap(config, pipeline.settings)
    pipeline.costs.append(cost(tap, pipeline.target or ["cat"]))
    if pipeline.rows is None:
        return
    loaded = _digest(pipeline.rows())
    if loaded != truth:
        raise Failed(f"{pipeline.name}: {loaded[0]} rows of {truth[0]}, or others")
    pipeline.verdict = "the same"


def _tap(config: Json, settings: Json) -> list[str]:
    path = OUT / "config.json"
    path.write_text(json.dumps({**config, **settings}))
    # Of the two, the one for developers has pyarrow.
    environment = "dev" if settings is COLUMNS else "tap"
    return [str(ENVS / environment / "bin/tap-fullstory"), "--config", str(path)]


def _truth(config: Json) -> Digest:
    """The digest of the tap's records."""
    with subprocess.Popen(
        _tap(config, {}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as tap:
        lines = map(json.loads, tap.stdout or ())
        records = (line["record"] for line in lines if line["type"] == "RECORD")
        return _digest(map(_lower, records))


def _digest(rows: Rows) -> Digest:
    """How many rows there are, and the sum of their digests, whatever their order. Little memory,
    which programs that this one starts would count as theirs.
    """
    count = total = 0
    for row in rows:
        count += 1
        digest = hashlib.blake2b(_canonical(row).encode(), digest_size=16).digest()
        total = (total + int.from_bytes(digest, "big")) % 2**128
    return count, total


def _canonical(row: Json) -> str:
    """Return what every target keeps: ids and numbers, texts without telling "" from null, times
    without zone, and CustomVars.
    """
    numbers = [None if (value := row.get(name)) in (None, "") else int(value) for name in NUMBERS]
    texts = [row.get(name) or None for name in TEXTS]
    time = row[TIME].replace(" ", "T").removesuffix("Z").removesuffix("+00:00")
    time = time.rstrip("0").rstrip(".") if "." in time else time
    custom = row.get("customvars") or None
    custom = json.loads(custom) if isinstance(custom, str) else custom
    return json.dumps([numbers, texts, time, custom], sort_keys=True)


def _lower(row: Json) -> Json:
    return {name.lower(): value for name, value in row.items()}


def _jsonl_rows() -> Iterator[Json]:
    with (OUT / "events.jsonl").open(encoding="utf-8") as lines:
        yield from (_lower(json.loads(line)) for line in lines)


def _csv_rows() -> Iterator[Json]:
    with (OUT / "events.csv").open(encoding="utf-8", newline="") as file:
        yield from map(_lower, DictReader(file))


def _duckdb_rows(environment: str, database: str) -> Iterator[Json]:
    program = (
        "import duckdb, json, sys\n"
        "database = duckdb.connect(sys.argv[1], read_only=True)\n"
        "database.execute('set enable_progress_bar = false')  # it would be among the lines\n"
        "found = database.execute('select * from events')\n"
        "names = [column[0].lower() for column in found.description]\n"
        "while rows := found.fetchmany(1000):\n"
        "    for row in rows:\n"
        "        print(json.dumps(dict(zip(names, row)), default=str))\n"
    )
    python = str(ENVS / environment / "bin/python")
    with subprocess.Popen(
        [python, "-c", program, str(OUT / database)], stdout=subprocess.PIPE
    ) as reader:
        yield from map(json.loads, reader.stdout or ())


def _postgres_rows(database: Postgres) -> Iterator[Json]:
    query = "select row_to_json(found) from (select * from bench.events) as found"
    address = ["-h", "127.0.0.1", "-p", str(database.port), "-U", "postgres"]
    with subprocess.Popen(
        [database.programs / "psql", *address, "-XAtq", "-c", query], stdout=subprocess.PIPE
    ) as reader:
        yield from (_lower(json.loads(line)) for line in reader.stdout or ())


def _snowflake_rows(snowflake: Snowflake) -> Iterator[Json]:
    rows = snowflake.lines("select * from bench.events")
    yield from (_lower(json.loads(line)) for line in rows)


def _table(pipelines: list[Pipeline], events: int) -> str:
    columns = ["rows/s", "wall, s", "tap's CPU, s", "target's CPU, s", "tap, MB", "target, MB"]
    lines = [f"| pipeline | {' | '.join(columns)} | rows |", f"|---|{'---:|' * len(columns)}---|"]
    for one in pipelines:
        wall = median(cost.wall for cost in one.costs)
        peaks = [max(cost.peak[side] for cost in one.costs) / 1e6 for side in (0, 1)]
        numbers = [f"{_cpu(one, 0):.1f}", f"{_cpu(one, 1):.1f}", *(f"{peak:.0f}" for peak in peaks)]
        if one.target is None:
            numbers[1] = numbers[3] = ""
        cells = [one.name, f"{events / wall:,.0f}", f"{wall:.1f}", *numbers, one.verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _goals(pipelines: list[Pipeline]) -> str:
    """Say how the pipelines compare to each other, where both were run."""
    walls = {one.name: median(cost.wall for cost in one.costs) for one in pipelines}
    snowflake = [one.name for one in pipelines if one.name.startswith(SNOWFLAKE)]
    postgres = [one.name for one in pipelines if one.name.startswith(POSTGRES)]
    ratios = [
        (
            "load.py beside target-duckdb",
            "target-duckdb 0.8.0",
            "DuckDB by examples/duckdb/load.py",
        ),
        *(
            ("target-postgres, set beside with its defaults", postgres[0], name)
            for name in postgres[1:2]
        ),
        *(("target-snowflake, BATCH beside RECORD", SNOWFLAKE, name) for name in snowflake[1:]),
    ]
    said = [f"{what}: {walls[slow] / walls[fast]:.1f} times as fast" for what, slow, fast in ratios]
    cpu = _cpu(pipelines[1], 0) / _cpu(pipelines[0], 0)
    return "; ".join([*said, f"the tap's CPU with BATCH beside RECORD: {cpu:.2f}"]) + "."


def _cpu(pipeline: Pipeline, side: int) -> float:
    return median(cost.cpu[side] for cost in pipeline.costs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="load.py", description=__doc__)
    parser.add_argument(
        "--events", type=int, default=50_000, help="in the bundle; default: %(default)s"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each is timed; default: %(default)s"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="pipelines with it in their name"
    )
    return parser


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"The bench failed: {failure}")
