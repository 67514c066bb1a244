"""What stops cost: each pipeline of the documents, stopped at random moments and run again.

`make bench-stops` runs this; `make bench-stops ARGS=--help` lists its options. A sandbox serves
small bundles, each pipeline loads them in several runs, and all but the last of these are stopped:
by a signal to the tap, to the target or to the group, or by the `timeout` of coreutils. Then the
rows that are stored are compared with the sandbox's events. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from measure import ENVIRONMENT, Failed, say

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))
from faults import DAY, FIRST_DAY, KEY, array, bundle, events, in_members, lines, packed  # noqa: E402
from postgres import Postgres, programs, server  # noqa: E402
from stopping import SOFT, Tally, stop_again_and_again  # noqa: E402

from tap_fullstory.sandbox import Sandbox  # noqa: E402
from tap_fullstory.times import format_rfc3339, from_epoch  # noqa: E402

OUT = ROOT / "bench/out/stops"
ENVS = ROOT / ".venvs"
TAP = ENVS / "tap/bin/tap-fullstory"
MARK = "TAP_FULLSTORY_BENCH_STOPS"  # in the environment of all that this starts
BUNDLES, EVENTS_EACH, CHECKPOINT = 30, 50, 20
BATCH_ROWS = 200  # that target-postgres stores at once
BYTES_PER_SECOND = 2_000_000  # of the sandbox: 15 ms for a bundle
PATIENCE = 90  # seconds
SCRIPT, TASK = "the script", "the task"

Json = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How a run is stopped: by one of these signals to a program, the group or all processes; or,
    without signals, by `timeout` with these options.
    """

    name: str
    to: str = ""
    signals: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def soft(to: str, words: str) -> Way:
    return Way(f"SIGTERM, SIGINT or SIGHUP to {words}", to, SOFT)


TO_TAP = soft("tap", "the tap")
TO_TARGET = soft("target", "the target")
TO_LEADER = soft("leader", "what was started")
TO_GROUP = soft("group", "its group")
KILL_TAP = Way("SIGKILL to the tap", "tap", ("SIGKILL",))
KILL_TARGET = Way("SIGKILL to the target", "target", ("SIGKILL",))
KILL_LEADER = Way("SIGKILL to what was started", "leader", ("SIGKILL",))
KILL_ALL = Way("SIGKILL to all processes", "all", ("SIGKILL",))
TIMEOUT = Way("`timeout`")
TIMEOUT_KILL = Way("`timeout -k 0.2`", options=("-k", "0.2"))
SOFTLY = (TO_TAP, TO_TARGET, TO_LEADER, TO_GROUP, TIMEOUT)
HARD = (KILL_TAP, KILL_TARGET, KILL_LEADER, KILL_ALL, TIMEOUT_KILL)
EVERY_WAY = SOFTLY + HARD


@dataclass(frozen=True)
class Kind:
    """A pipeline of the documents, and in which ways stopping it may double rows: the tap alone at
    most `checkpoint_events` of them, a target those that it has stored without printing a state.
    """

    name: str
    make: Callable[[Kind, Stage], Load]
    ways: tuple[Way, ...] = EVERY_WAY
    doubles: tuple[Way, ...] = ()


@dataclass
class Stage:
    """What all pipelines share."""

    sandbox: Sandbox
    postgres: Postgres | None

    def config(self) -> Json:
        until = format_rfc3339(from_epoch(FIRST_DAY + BUNDLES * DAY))
        return self.sandbox.config(checkpoint_events=CHECKPOINT, replace_nul=True, end_date=until)


class Load:
    """A pipeline in a folder of its own. `leader` is the process that a user starts."""

    tap = "tap-fullstory"
    target = ""

    def __init__(self, kind: Kind, stage: Stage) -> None:
        self.kind, self.stage = kind, stage
        self.folder = OUT / str(os.getpid())
        self.way = EVERY_WAY[0]
        self.seconds = (0.0, 0.0)
        """How long a run takes to its first download, and from there to its end."""

    # --- of each kind ---

    def prepare(self) -> None:
        """Write what the folder needs."""

    def command(self) -> list[str]:
        """Return what continues from the last state."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def rows(self) -> Counter[str]:
        raise NotImplementedError

    def recover(self) -> bool:
        """Do what the words of a refusal ask for; False if the run did not refuse."""
        return False

    def repeatable(self) -> int:
        return sys.maxsize if self.way in self.kind.doubles else 0

    # --- as the tests stop a pipeline ---

    def begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "config.json").write_text(json.dumps(self.stage.config()))
        self.prepare()
        self._fetched: set[str] = set()

    def finish(self) -> None:
        for _ in range(3):
            started = time.monotonic()
            leader = self._start(self.command())
            first = self._until_fetched(leader, 1, started + PATIENCE)
            code = leader.wait(PATIENCE)
            self._settle()
            assert "Nothing to do" not in self._log(), f"{self.way.name} leaves a lock"
            if code == 0:
                if len(self._requested()) == BUNDLES:
                    self.seconds = (first - started, time.monotonic() - first)
                return
            assert self.recover(), (
                f"{self.kind.name} ends with {code}, after {self.way.name}: {self._log()}"
            )
        raise AssertionError(f"{self.kind.name} does not get over {self.way.name}")

    def stop_one_run(self, random: Random) -> bool:
        early = random.random() < 0.2
        command = self.command()
        if not self.way.signals:
            startup, work = self.seconds
            share = 1 - len(self._fetched) / BUNDLES
            after = (
                random.uniform(0, startup) if early else startup + random.uniform(0, work * share)
            )
            command = ["timeout", *self.way.options, f"{after:.3f}", *command]
        started = time.monotonic()
        leader = self._start(command)
        if self.way.signals:
            if early:
                self._wait(leader, random.uniform(0, self.seconds[0]))
            else:
                left = max(1, BUNDLES - len(self._fetched))
                self._until_fetched(leader, random.randint(1, left), started + PATIENCE)
                self._wait(leader, random.uniform(0, self.seconds[1] / BUNDLES))
            self._signal(leader, random.choice(self.way.signals))
        code = leader.wait(PATIENCE)
        self._settle()
        if code == 0:
            return False
        if self.recover():
            self._fetched.clear()
        return True

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        self._asked = len(self.stage.sandbox.requests)
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, start_new_session=True,
                env={**ENVIRONMENT, MARK: str(os.getpid()), **self.environment()},
                stdin=subprocess.DEVNULL, stdout=self.output() or log, stderr=log,
            )  # fmt: skip

    def output(self) -> Any:
        return None

    def _until_fetched(self, leader: subprocess.Popen[bytes], count: int, end: float) -> float:
        """Return when so many bundles have been requested in this run, or it has ended."""
        while leader.poll() is None and len(self._requested()) < count:
            assert time.monotonic() < end, f"{self.kind.name} hangs: {self._log()}"
            time.sleep(0.002)
        return time.monotonic()

    def _requested(self) -> set[str]:
        found = {
            one.query["id"]
            for one in self.stage.sandbox.requests[self._asked :]
            if one.path.endswith("/get")
        }
        self._fetched |= found
        return found

    @staticmethod
    def _wait(leader: subprocess.Popen[bytes], seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            leader.wait(seconds)

    def _signal(self, leader: subprocess.Popen[bytes], name: str) -> None:
        number = signal.Signals[name]
        if leader.poll() is not None:
            return
        with suppress(ProcessLookupError):
            if self.way.to == "group":
                os.killpg(leader.pid, number)
            elif self.way.to == "leader":
                leader.send_signal(number)
            elif self.way.to == "all":
                for pid in running():
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            else:
                program = self.tap if self.way.to == "tap" else self.target
                for pid, name in running().items():
                    if name == program:
                        os.kill(pid, number)

    def _settle(self) -> None:
        """Wait for what outlives the process that was started, as an operator's next run does."""
        end = time.monotonic() + PATIENCE
        # A process that is just being replaced by its program has no environment for a moment.
        while running() or time.sleep(0.05) or running():
            assert time.monotonic() < end, (
                f"{self.kind.name} leaves {running()} after {self.way.name}"
            )
            time.sleep(0.02)
        self._requested()

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]


def running() -> dict[int, str]:
    """Return what this program has started and still runs: process ids, names of programs."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            if f"{MARK}={os.getpid()}\0".encode() not in (folder / "environ").read_bytes():
                continue
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            program = (
                words[1] if Path(words[0]).name.startswith(("python", "bash", "sh")) else words[0]
            )
            found[int(folder.name)] = Path(program).name
    return found


class IntoFiles(Load):
    """`tap > file`: a file for each run, and the state from the last line of it that is one."""

    def prepare(self) -> None:
        self._uncovered = 0

    def command(self) -> list[str]:
        arguments = [str(TAP), "--config", "config.json"]
        states = [
            line for name in self._outputs() for line in whole_lines(name) if '"STATE"' in line[:20]
        ]
        if states:
            (self.folder / "state.json").write_text(json.dumps(json.loads(states[-1])["value"]))
            arguments += ["--state", "state.json"]
        return arguments

    def output(self) -> Any:
        return (self.folder / f"out-{len(self._outputs()):03}.jsonl").open("wb")

    def rows(self) -> Counter[str]:
        return Counter(
            str(json.loads(line)["record"]["PageNumErrors"])
            for name in self._outputs() for line in whole_lines(name) if '"RECORD"' in line[:20]
        )  # fmt: skip

    def repeatable(self) -> int:
        if self.way not in self.kind.doubles:
            return 0
        uncovered = 0
        for name in self._outputs():
            since = 0
            for line in whole_lines(name):
                since = 0 if '"STATE"' in line[:20] else since + ('"RECORD"' in line[:20])
            assert since <= CHECKPOINT
            uncovered += since
        return uncovered

    def _outputs(self) -> list[Path]:
        return sorted(self.folder.glob("out-*.jsonl"))


class IntoDuckDB(Load):
    """`load.py DATABASE -- tap`."""

    target = "load.py"

    def command(self) -> list[str]:
        loader = [str(ENVS / "duckdb/bin/python"), str(ROOT / "examples/duckdb/load.py")]
        return [*loader, "events.duckdb", "--", str(TAP), "--config", "config.json"]

    def rows(self) -> Counter[str]:
        query = (
            "import duckdb, sys\n"
            "for row in duckdb.connect(sys.argv[1]).execute("
            "'select \"PageNumErrors\" from events').fetchall(): print(row[0])"
        )
        printed = subprocess.run(
            [ENVS / "duckdb/bin/python", "-c", query, self.folder / "events.duckdb"],
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        return Counter(printed.split())


class IntoTarget(Load):
    """Into target-jsonl, or into target-postgres where the kind says so."""

    digest = False

    def prepare(self) -> None:
        if self.target == "target-jsonl":
            target = {"destination_path": str(self.folder), "do_timestamp_file": False}
        else:
            target = {
                "sqlalchemy_url": self._database.url, "default_target_schema": "bench",
                "use_copy": True, "validate_records": False, "batch_size_rows": BATCH_ROWS,
            }  # fmt: skip
            self._database.execute("drop schema if exists bench cascade")
        config = {**self.stage.config(), "event_digest": self.digest}
        (self.folder / "config.json").write_text(json.dumps(config))
        (self.folder / "target.json").write_text(json.dumps(target))

    def rows(self) -> Counter[str]:
        if self.target == "target-jsonl":
            path = self.folder / "events.jsonl"
            return Counter(str(json.loads(line)["PageNumErrors"]) for line in whole_lines(path))
        query = 'select "PageNumErrors" as n from bench.events'
        return Counter(str(row["n"]) for row in self._database.query(query))

    def recover(self) -> bool:
        states = self.folder / "states.jsonl"
        if not states.exists() or states.stat().st_size:
            return False
        # "It may have stored rows. Delete these, unless the target upserts, then states.jsonl."
        # Of a tap that others signal, nobody knows whether it was once: at a second signal it ends
        # without a checkpoint.
        if self.way not in (TO_TAP, TO_TARGET, *HARD):
            raise AssertionError(f"{self.way.name} leaves an empty states.jsonl: {self._log()}")
        assert not (self.folder / "state.json").exists(), f"states.jsonl was lost: {self._log()}"
        states.unlink()
        if self.digest:
            return True
        (self.folder / "events.jsonl").unlink(missing_ok=True)
        if self.target == "target-postgres":
            self._database.execute("drop schema if exists bench cascade")
        return True

    @property
    def _database(self) -> Postgres:
        assert self.stage.postgres
        return self.stage.postgres

    def target_command(self) -> list[str]:
        variant = "meltanolabs-" if self.target == "target-postgres" else ""
        program = ENVS / f"{variant}{self.target}/bin/{self.target}"
        return [str(program), "--config", "target.json"]


class ByScript(IntoTarget):
    """examples/sync.sh."""

    def command(self) -> list[str]:
        return ["bash", str(ROOT / "examples/sync.sh"), str(self.folder)]

    def environment(self) -> dict[str, str]:
        return {"TAP": str(TAP), "TARGET": " ".join(self.target_command())}


class ByTask(IntoTarget):
    """The process that Airflow starts for a task, without the rest of Airflow."""

    def command(self) -> list[str]:
        tap = [str(TAP), "--config", "config.json"]
        upserts = ", upserts=True" if self.digest else ""
        program = (
            f"import pathlib, sys\nsys.path.insert(0, {str(ROOT / 'examples/airflow')!r})\n"
            "import fullstory_pipeline as pipeline\n"
            f"pipeline.run(pathlib.Path(), {tap!r}, {self.target_command()!r}{upserts})"
        )
        return [sys.executable, "-c", program]


class ByMeltano(IntoTarget):
    """`meltano run tap-fullstory target-postgres`."""

    def prepare(self) -> None:
        super().prepare()
        config = json.loads((self.folder / "config.json").read_text())
        target = json.loads((self.folder / "target.json").read_text())
        project = {
            "default_environment": "dev", "environments": [{"name": "dev"}],
            "send_anonymous_usage_stats": False,
            "plugins": {
                "extractors": [{
                    "name": "tap-fullstory", "namespace": "tap_fullstory", "executable": str(TAP),
                    "capabilities": ["catalog", "discover", "state"],
                    "settings": [{"name": name} for name in config], "config": config,
                    "select": ["events.*"],
                }],
                "loaders": [{
                    "name": "target-postgres", "namespace": "target_postgres",
                    "executable": self.target_command()[0],
                    "settings": [{"name": name} for name in target], "config": target,
                }],
            },
        }  # fmt: skip
        (self.folder / "meltano.yml").write_text(json.dumps(project))

    def command(self) -> list[str]:
        # For five minutes, Meltano takes one that SIGKILL or SIGHUP ended for one that still works.
        program = str(ENVS / "meltano/bin/meltano")
        return [program, "run", "--force", "tap-fullstory", "target-postgres"]

    def environment(self) -> dict[str, str]:
        return {"NO_COLOR": "1", "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false"}

    def recover(self) -> bool:
        return False  # Meltano keeps the state


def into(
    base: type[IntoTarget], target: str, *, digest: bool = False
) -> Callable[[Kind, Stage], Load]:
    return type(base.__name__, (base,), {"target": target, "digest": digest})


FILES, POSTGRES = {"target": "target-jsonl"}, {"target": "target-postgres"}
DIGEST = {**POSTGRES, "digest": True}
# SIGKILL cuts the tap's last line, at which targets fail.
OF_TARGET = (TO_TARGET, KILL_TAP, KILL_TARGET, KILL_ALL)
KINDS = (
    Kind(
        "the tap into files",
        IntoFiles,
        ways=(TO_TAP, KILL_TAP, TIMEOUT, TIMEOUT_KILL),
        doubles=(KILL_TAP, TIMEOUT_KILL),
    ),
    Kind(
        "`load.py events.duckdb -- tap-fullstory`",
        IntoDuckDB,
        ways=(TO_TAP, TO_LEADER, TO_GROUP, TIMEOUT, KILL_TAP, KILL_LEADER, KILL_ALL, TIMEOUT_KILL),
    ),
    Kind("sync.sh, target-jsonl", into(ByScript, **FILES), doubles=OF_TARGET),
    Kind("sync.sh, target-postgres", into(ByScript, **POSTGRES), doubles=OF_TARGET),
    Kind("sync.sh, target-postgres, `event_digest`", into(ByScript, **DIGEST)),
    Kind("Airflow's task, target-postgres", into(ByTask, **POSTGRES), doubles=OF_TARGET),
    Kind("Airflow's task, target-postgres, `event_digest`", into(ByTask, **DIGEST)),
    Kind("Meltano, target-postgres", into(ByMeltano, **POSTGRES), doubles=EVERY_WAY),
    Kind("Meltano, target-postgres, `event_digest`", into(ByMeltano, **DIGEST)),
)


def whole_lines(path: Path) -> list[str]:
    """Return the lines that were written to their end."""
    text = path.read_text("utf-8", errors="replace") if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def main() -> None:
    options = _parser().parse_args()
    kinds = [kind for kind in KINDS if options.only in kind.name]
    pairs = [(kind, way) for kind in kinds for way in kind.ways if options.way in way.name]
    random = Random(options.seed)
    total: dict[str, Json] = (
        json.loads(options.add_to.read_text()) if options.add_to and options.add_to.exists() else {}
    )
    stored = events(BUNDLES * EVENTS_EACH)
    expected = Counter(str(one["PageNumErrors"]) for one in stored)
    bodies = [lines(stored[at : at + EVENTS_EACH]) for at in range(0, len(stored), EVENTS_EACH)]
    made = [
        bundle(day, [array, packed, in_members][day % 3](body)) for day, body in enumerate(bodies)
    ]
    with ExitStack() as stack:
        found = programs() if any("postgres" in kind.name for kind in kinds) else None
        postgres = stack.enter_context(server(found)) if found else None
        slow = f"get:slow,rate={BYTES_PER_SECOND},times=always"
        sandbox = stack.enter_context(Sandbox(made, api_key=KEY, faults=[slow]))
        stack.callback(shutil.rmtree, OUT / str(os.getpid()), ignore_errors=True)
        loads: dict[str, Load] = {}
        for number, (kind, way) in enumerate(pairs):
            stops = options.stops * (number + 1) // len(pairs) - options.stops * number // len(
                pairs
            )
            if "postgres" in kind.name and postgres is None:
                say(f"PostgreSQL is not installed: {kind.name} is left out")
                continue
            if not stops:
                continue
            if kind.name not in loads:
                loads[kind.name] = load = kind.make(kind, Stage(sandbox, postgres))
                load.begin()
                load.finish()  # which measures how long a run takes
            load = loads[kind.name]
            load.way = way
            tally = stop_again_and_again(load, expected, stops, random)
            say(f"{kind.name}: {way.name}: {tally}")
            before = Tally(**total.get(kind.name, {}).get(way.name, {}))
            before.add(tally)
            total.setdefault(kind.name, {})[way.name] = asdict(before)
            if options.add_to:
                options.add_to.write_text(json.dumps(total, indent=1))
    print("\n".join(_table(total)))
    if any(one["lost"] or one["beyond"] for ways in total.values() for one in ways.values()):
        raise Failed("rows are missing, or more rows are there twice than the design allows")


GROUPS = {
    "a signal, or `timeout`": (TO_TAP, TO_LEADER, TO_GROUP, TIMEOUT),
    "a signal to the target": (TO_TARGET,),
    "SIGKILL, or `timeout -k 0.2`": HARD,
}


def _table(total: dict[str, Json]) -> Iterator[str]:
    yield "| pipeline | stopped by | stops | rows lost | rows doubled | beyond what is allowed |"
    yield "|---|---|---:|---:|---:|---:|"
    sums = Tally()
    for kind in KINDS:
        for name, ways in GROUPS.items():
            tally = Tally()
            for way in ways:
                tally.add(Tally(**total.get(kind.name, {}).get(way.name, {})))
            if tally.stops:
                counts = (tally.stops, tally.lost, tally.doubled, tally.beyond)
                yield f"| {kind.name} | {name} | {' | '.join(map(str, counts))} |"
                sums.add(tally)
    yield (
        f"\n{sums.stops} stops in {sums.loads} loads of {BUNDLES * EVENTS_EACH} events: "
        f"{sums.lost} rows lost, {sums.doubled} doubled, {sums.beyond} of them beyond what the "
        "design allows."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stops.py", description=__doc__)
    add = parser.add_argument
    add("--stops", type=int, default=200, help="how many in all; default: %(default)s")
    add("--way", default="", metavar="TEXT", help="ways to stop with this text in their name")
    add("--seed", type=int, default=1, help="of the moments; default: %(default)s")
    add("--only", default="", metavar="TEXT", help="pipelines with this text in their name")
    add(
        "--add-to",
        type=Path,
        metavar="FILE",
        help="keep the counts in this file, and print the sums",
    )
    return parser


if __name__ == "__main__":
    try:
        main()
    except (Failed, AssertionError) as failure:
        sys.exit(f"The bench failed: {failure}")
