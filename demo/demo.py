"""The main job, end to end: a sandbox FullStory, the tap, a DuckDB file, and one user's session.

`make demo` runs this. It prints the shell lines that it runs; what they write is in demo/out/.
`make demo API=segment_export` does the same over the newer export, with windows for bundles.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo/out"

API = os.environ.get("API") or "data_export"
BUNDLES, EVENTS_IN_EACH = 6, 24
SANDBOX = (
    f".venvs/tap/bin/python -m tap_fullstory.sandbox --bundles {BUNDLES} --events {EVENTS_IN_EACH}"
    f" --api {API} --config-out demo/out/config.json"
)
DISCOVER = """\
.venvs/tap/bin/tap-fullstory --config demo/out/config.json --discover \\
    > demo/out/catalog.json 2>> demo/out/tap.log"""
LOAD = ".venvs/duckdb/bin/python examples/duckdb/load.py demo/out/fullstory.duckdb"
PRINT_STATE = f"{LOAD} --print-state > demo/out/state.json"
SYNC = f"""\
.venvs/tap/bin/tap-fullstory --config demo/out/config.json --catalog demo/out/catalog.json \\
    --state demo/out/state.json 2>> demo/out/tap.log \\
  | {LOAD} 2>> demo/out/load.log"""
QUERY = ".venvs/duckdb/bin/python demo/query.py demo/out/fullstory.duckdb demo/{name}.sql"

TIMELINE = [
    ["click on Update Address", "https://example.com/my-account"],
    ["click in Street address", "https://example.com/update-address"],
    ["change of Street address to 1339 Chestnut Street", "https://example.com/update-address"],
    ["click on Save Changes", "https://example.com/update-address"],
]
NEXT = """
Next, with your own FullStory account (docs/quickstart.md explains each step):
  1. make a key in FullStory: Settings, Integrations & API Keys, API Keys; level Architect or Admin;
  2. cp sample_config.json config.json, and put the key and a start_date there;
  3. .venvs/tap/bin/tap-fullstory --config config.json --discover > catalog.json
  4. .venvs/duckdb/bin/python examples/duckdb/load.py fullstory.duckdb --print-state > state.json
  5. .venvs/tap/bin/tap-fullstory --config config.json --catalog catalog.json --state state.json \\
       | .venvs/duckdb/bin/python examples/duckdb/load.py fullstory.duckdb
  and 4 and 5 again for what is new: docs/duckdb.md"""


def main() -> None:
    os.chdir(ROOT)
    # The sandbox is on this machine, whatever proxy the others are behind.
    os.environ["no_proxy"] = "127.0.0.1"
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)

    say("A FullStory of your own, in which the last day is still to come")
    with sandbox() as config:
        yesterday = datetime.fromisoformat(config["start_date"].replace("Z", "+00:00"))
        yesterday += timedelta(days=BUNDLES - 1)
        write_config({**config, "end_date": yesterday.isoformat()})
        say("Discover: the key works, and these are the columns")
        run(DISCOVER)

        say("Sync into DuckDB, which keeps the state beside the rows")
        run(PRINT_STATE)
        run(SYNC)
        expect("rows", rows(), EVENTS_IN_EACH * (BUNDLES - 1))

        say("The next day is over; with the state, only its events come")
        write_config(config)
        run(PRINT_STATE)
        run(SYNC)
        expect("rows", rows(), EVENTS_IN_EACH * BUNDLES)

    say("One user's session")
    timeline = query("timeline")
    for moment, event, page in timeline:
        print(f"    {moment}  {event:<50}{page}")
    if [event for _, *event in timeline] != TIMELINE:
        fail(f"The session should have been {TIMELINE}.")
    print(NEXT)


@contextmanager
def sandbox() -> Iterator[dict[str, str]]:
    """Runs the sandbox; gives the config for it."""
    print(f"$ {SANDBOX} &")
    # A demo that is ended still ends its sandbox.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with subprocess.Popen(SANDBOX.split(), stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = process.stdout.readline()
            if not printed:
                fail("The sandbox did not start.")
            yield json.loads(printed)
        finally:
            process.terminate()


def write_config(config: dict[str, str]) -> None:
    (OUT / "config.json").write_text(json.dumps(config))


def run(line: str) -> str:
    """What a shell line prints on stdout. Ends the demo if any program in it fails."""
    print(f"$ {line}")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        fail(f"That failed with exit code {done.returncode}.")
    return done.stdout


def query(name: str) -> list[list[str]]:
    return [line.split("\t") for line in run(QUERY.format(name=name)).splitlines()]


def rows() -> int:
    return int(query("rows")[0][0])


def expect(what: str, found: int, right: int) -> None:
    print(f"    {found} {what}")
    if found != right:
        fail(f"There should be {right} {what}.")


def say(text: str) -> None:
    print(f"\n# {text}")


def fail(why: str) -> None:
    print(f"\nThe demo failed. {why}", file=sys.stderr)
    for log in sorted(OUT.glob("*.log")):
        print(f"--- {log.relative_to(ROOT)}, its end ---", file=sys.stderr)
        print(*log.read_text().splitlines()[-10:], sep="\n", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
