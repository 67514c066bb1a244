"""A backfill of FullStory events, cut into shards that Airflow runs in parallel.

docs/backfill.md explains it. Tested with Airflow 3.3. The parameter `folder` names the folder of
config.json (the tap's, without dates), target.json (the target's), and catalog.json if not all of
events is wanted. The states of all shards are kept there too, so every worker must see it.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import Param, dag, get_current_context, task

TAP = os.environ.get("FULLSTORY_TAP", "tap-fullstory")
TARGET = os.environ.get("FULLSTORY_TARGET", "target-postgres")
FORMAT = "%Y-%m-%dT%H:%M:%SZ"

Shard = dict[str, str]


def cut(start: str, end: str, days: int) -> list[Shard]:
    """Return ranges (start_date, end_date] that cover (start, end] without gap or overlap."""
    # Python 3.10 does not accept the Z.
    begin, last = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (start, end))
    shards = []
    while begin < last:
        stop = min(begin + timedelta(days=days), last)
        shards.append({"start_date": begin.strftime(FORMAT), "end_date": stop.strftime(FORMAT)})
        begin = stop
    return shards


def run(shard: Shard, folder: Path, name: str) -> None:
    """Load one shard, from where an earlier try stopped. Raises RuntimeError if it fails."""
    place = folder / "shards" / name
    place.mkdir(parents=True, exist_ok=True)
    config = {**json.loads((folder / "config.json").read_text("utf-8")), **shard}
    write(place / "config.json", config)
    tap = [TAP, "--config", place / "config.json"]
    if (folder / "catalog.json").exists():
        tap += ["--catalog", folder / "catalog.json"]
    if (state := last_state(place)) is not None:
        write(place / "state.json", state)
        tap += ["--state", place / "state.json"]
    with (place / "states.jsonl").open("ab") as states:
        reading = subprocess.Popen(tap, stdout=subprocess.PIPE)
        loading = subprocess.Popen(
            [TARGET, "--config", folder / "target.json"], stdin=reading.stdout, stdout=states
        )
        reading.stdout.close()  # or the tap would not notice that the target has ended
        codes = reading.wait(), loading.wait()
    if codes != (0, 0):
        raise RuntimeError(f"tap and target ended with {codes}: the log above says why")


def last_state(place: Path) -> dict | None:
    """Return the state that the target printed last; None if it printed none."""
    path = place / "states.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else None


def write(path: Path, value: dict) -> None:
    """Write a JSON file that only its owner can read: a config may hold the key."""
    path.touch(0o600)
    path.write_text(json.dumps(value), "utf-8")


@dag(
    schedule=None,
    params={
        "folder": Param("/srv/fullstory", type="string"),
        "start": Param("2025-01-01T00:00:00Z", type="string", format="date-time"),
        "end": Param("2026-01-01T00:00:00Z", type="string", format="date-time"),
        "days": Param(30, type="integer", minimum=1),
    },
)
def fullstory_backfill() -> None:
    """Load each shard in a task of its own, then hand over to the regular schedule."""

    @task
    def shards() -> list[Shard]:
        params = get_current_context()["params"]
        return cut(params["start"], params["end"], params["days"])

    @task
    def make_table() -> None:
        """Load an empty range: its SCHEMA creates the table, before shards race to do it."""
        params = get_current_context()["params"]
        nothing = {"start_date": params["start"], "end_date": params["start"]}
        run(nothing, Path(params["folder"]), "table")

    # FullStory limits the account: more shards at once only wait for each other.
    @task(retries=3, retry_delay=timedelta(minutes=5), max_active_tis_per_dagrun=4)
    def load(shard: Shard) -> None:
        run(shard, Path(get_current_context()["params"]["folder"]), shard["start_date"])

    @task
    def hand_over(found: list[Shard]) -> str:
        """Write the latest bookmark to state.json: the regular schedule starts from there.

        Not the end of the last range: bundles of its last day may not have appeared yet.
        """
        folder = Path(get_current_context()["params"]["folder"])
        states = [last_state(folder / "shards" / shard["start_date"]) for shard in found]
        ends = [
            state["bookmarks"]["events"]["bundle_end"]
            for state in states
            if state and state["bookmarks"].get("events")
        ]
        if not ends:
            raise RuntimeError("no shard found a bundle")
        write(folder / "state.json", {"bookmarks": {"events": {"bundle_end": max(ends)}}})
        return max(ends)

    found = shards()
    make_table() >> load.expand(shard=found) >> hand_over(found)


fullstory_backfill()
