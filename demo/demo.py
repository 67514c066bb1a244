"""The main job, end to end: the sandbox, the tap, a DuckDB file, two answers and a picture.

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
ENVS = os.path.relpath(Path(sys.prefix).resolve().parent, ROOT)  # .venvs, by default

API = os.environ.get("API") or "data_export"
BUNDLES, EVENTS_IN_EACH = 6, 240
SANDBOX = (
    f"{ENVS}/tap/bin/python -m tap_fullstory.sandbox --bundles {BUNDLES} --events {EVENTS_IN_EACH}"
    f" --api {API} --config-out demo/out/config.json"
)
DISCOVER = f"""\
{ENVS}/tap/bin/tap-fullstory --config demo/out/config.json --discover \\
    > demo/out/catalog.json 2>> demo/out/tap.log"""
SYNC = f"""\
{ENVS}/duckdb/bin/python examples/duckdb/load.py demo/out/fullstory.duckdb -- \\
    {ENVS}/tap/bin/tap-fullstory --config demo/out/config.json --catalog demo/out/catalog.json \\
    2>> demo/out/sync.log"""
QUERY = f"{ENVS}/duckdb/bin/python examples/duckdb/query.py demo/out/fullstory.duckdb"
DRAW = f"""\
{ENVS}/duckdb/bin/python examples/duckdb/day.py demo/out/fullstory.duckdb > demo/out/day.svg"""

# The sandbox's events are the same on every day but for their dates, which these do not show.
PLANS = """\
plan,sessions,with_rage_clicks,rage_clicks,dead_clicks,exceptions
(not known),115,9,9,47,11
plus,17,7,7,10,6
free,12,4,4,6,6
crème 🍦,1,1,1,1,1
"""
SESSION = """\
second,event,what,page,trouble
0.0,navigate,,Checkout,
3.6,click,Place order ✓,Checkout,rage click
3.6,console_message,coupon service said 503: naïve retry 🙈,Checkout,
3.9,click,Place order ✓,Checkout,rage click
4.1,click,Place order ✓,Checkout,rage click
4.1,click_error,Place order ✓,Checkout,
4.1,exception,TypeError: cart.total is undefined,Checkout,
4.6,click,,Checkout,dead click
6.0,thrash,,Checkout,
13.4,abandon,,Checkout,
"""
NEXT = f"""
Next, with your own FullStory account (docs/quickstart.md and docs/duckdb.md explain each step):
  1. make a key in FullStory: Settings, Integrations & API Keys, API Keys; level Architect or Admin;
  2. export PATH=$PWD/{ENVS}/tap/bin:$PWD/{ENVS}/duckdb/bin:$PATH
     mkdir -p ~/fullstory && cp examples/duckdb/*.py ~/fullstory && cd ~/fullstory
  3. echo '{{"api_key": "YOUR_API_KEY", "start_date": "2026-01-01T00:00:00Z"}}' > config.json
  4. python load.py fullstory.duckdb -- tap-fullstory --config config.json
  and 4 again for what is new; docs/sql.md has more questions to ask."""


def main() -> None:
    os.chdir(ROOT)
    # The sandbox is on this machine, whatever proxy the others are behind.
    os.environ["no_proxy"] = "127.0.0.1"
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)

    say("Start the sandbox, an imitation of FullStory: its last day is not out yet")
    with sandbox() as config:
        yesterday = datetime.fromisoformat(config["start_date"].replace("Z", "+00:00"))
        yesterday += timedelta(days=BUNDLES - 1)
        write_config({**config, "end_date": yesterday.isoformat()})
        say("Discover: the key works, and these are the columns")
        run(DISCOVER)

        say("Sync into DuckDB, which keeps the state beside the rows")
        run(SYNC)
        expect_rows(EVENTS_IN_EACH * (BUNDLES - 1))

        say("A new day is out: the saved state means only its events are loaded")
        write_config(config)
        run(SYNC)
        expect_rows(EVENTS_IN_EACH * BUNDLES)

    say("Who rage-clicks, by plan?")
    answer("plans", PLANS)
    say("What happened in one of these sessions?")
    answer("session", SESSION)
    say("All sessions of the last day, as a picture: open demo/out/day.svg in a browser")
    run(DRAW)
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
    return quietly(line)


def quietly(line: str) -> str:
    """The same, without showing the line."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        fail(f"That failed with exit code {done.returncode}.")
    return done.stdout


def answer(name: str, right: str) -> None:
    """Show the result of a query. Ends the demo if it is not the right thing."""
    print(run(f"{QUERY} demo/{name}.sql"), end="")
    if quietly(f"{QUERY} demo/{name}.sql --csv") != right:
        fail(f"The answer should have been:\n{right}")


def expect_rows(right: int) -> None:
    found = int(quietly(f"{QUERY} demo/rows.sql --csv").split()[-1])
    print(f"    {found} rows")
    if found != right:
        fail(f"There should be {right} rows.")


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
