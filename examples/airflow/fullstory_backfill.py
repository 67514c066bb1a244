"""A backfill of FullStory events, cut into shards that Airflow runs in parallel.

docs/backfill.md explains it. Tested with Airflow 2.11 and 3.3; fullstory_pipeline.py belongs beside
it. The parameter `folder` names the folder of config.json (the tap's, without dates), target.json
(the target's), and catalog.json if not all of events is wanted. The states of all shards are kept
there too, so every worker must see it.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fullstory_pipeline as pipeline

try:
    from airflow.sdk import Param, dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param
    from airflow.operators.python import get_current_context

TAP = os.environ.get("FULLSTORY_TAP", "tap-fullstory")
TARGET = os.environ.get("FULLSTORY_TARGET", "target-postgres")
FORMAT = "%Y-%m-%dT%H:%M:%SZ"

Shard = dict[str, str]


def cut(start: str, end: str, days: int) -> list[Shard]:
    """Return ranges (start_date, end_date] that cover (start, end] without gap or overlap, in UTC.

    Without an offset, `start` and `end` are in UTC.
    """
    begin, last = parse(start), parse(end)
    shards = []
    while begin < last:
        stop = min(begin + timedelta(days=days), last)
        shards.append({"start_date": begin.strftime(FORMAT), "end_date": stop.strftime(FORMAT)})
        begin = stop
    return shards


def parse(text: str) -> datetime:
    """Return a date-time in UTC."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 refuses the Z
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def require_no_overlap(shards: list[Shard], folder: Path) -> None:
    """Raise ValueError if the folder has rows of another range that overlaps with one of these."""
    for states in sorted(folder.glob("shards/*/states.jsonl")):
        config = json.loads(states.with_name("config.json").read_text("utf-8"))
        there = {name: config[name] for name in ("start_date", "end_date")}
        for shard in shards:
            if shard != there and overlap(shard, there):
                raise ValueError(
                    f"{states.parent} is of {words(there)}, which overlaps with {words(shard)}: "
                    "events would come twice. Run again with the start, end and days of before, "
                    "or start after its end. To cut it otherwise, delete the rows that are loaded, "
                    f"then {folder / 'shards'}."
                )


def overlap(one: Shard, other: Shard) -> bool:
    """Whether a bundle can end in both."""
    return max(one["start_date"], other["start_date"]) < min(one["end_date"], other["end_date"])


def words(shard: Shard) -> str:
    return f"{shard['start_date']} to {shard['end_date']}"


def load_shard(shard: Shard, folder: Path, name: str) -> None:
    """Load one shard, from where an earlier try stopped. Raises RuntimeError if it fails."""
    require_no_overlap([shard], folder)
    place = folder / "shards" / name
    place.mkdir(parents=True, exist_ok=True)
    config = {**json.loads((folder / "config.json").read_text("utf-8")), **shard}
    pipeline.write_json(place / "config.json", config)
    tap = [TAP, "--config", str(place / "config.json")]
    if (folder / "catalog.json").exists():
        tap += ["--catalog", str(folder / "catalog.json")]
    target = [TARGET, "--config", str(folder / "target.json")]
    pipeline.run(place, tap, target, upserts=config.get("event_digest") in (True, "true"))


def latest(one: Any, other: Any) -> Any:
    """Return the later of two bookmarks of events; with several segments, the later of each."""
    if not one or not other or ("segments" in one) != ("segments" in other):
        return other or one
    if "segments" in one:
        first, second = one["segments"], other["segments"]
        return {
            "segments": {one: latest(first.get(one), second.get(one)) for one in first | second}
        }
    return max(one, other, key=lambda bookmark: bookmark["bundle_end"])


@dag(
    schedule=None,
    max_active_runs=1,  # two at a time would load the same shards
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
        found = cut(params["start"], params["end"], params["days"])
        require_no_overlap(found, Path(params["folder"]))
        return found

    @task
    def make_table() -> None:
        """Load an empty range: its SCHEMA creates the table, before shards race to do it."""
        params = get_current_context()["params"]
        start = parse(params["start"]).strftime(FORMAT)
        folder = Path(params["folder"])
        for state in folder.glob("shards/table/state*"):
            state.unlink()  # nothing is stored by it, whatever happened before
        load_shard({"start_date": start, "end_date": start}, folder, "table")

    # FullStory limits the account: more shards at once only wait for each other.
    @task(retries=3, retry_delay=timedelta(minutes=5), max_active_tis_per_dagrun=4)
    def load(shard: Shard) -> None:
        folder = Path(get_current_context()["params"]["folder"])
        load_shard(shard, folder, shard["start_date"])

    @task
    def hand_over(found: list[Shard]) -> str:
        """Write the latest bookmark to state.json: the regular schedule starts from there.

        Not the end of the last range: bundles of its last day may not have appeared yet. What the
        regular schedule has already reached stays.
        """
        folder = Path(get_current_context()["params"]["folder"])
        path = folder / "state.json"
        state = json.loads(path.read_text("utf-8")) if path.exists() else {}
        events = state.get("bookmarks", {}).get("events")
        for shard in found:
            of_shard = pipeline.last_state(folder / "shards" / shard["start_date"]) or {}
            events = latest(events, of_shard.get("bookmarks", {}).get("events"))
        if not events:
            raise RuntimeError("No shard found a bundle.")
        state["bookmarks"] = {**state.get("bookmarks", {}), "events": events}
        pipeline.write_json(path, state)
        return json.dumps(events)

    found = shards()
    make_table() >> load.expand(shard=found) >> hand_over(found)


fullstory_backfill()
