"""What is new in FullStory, every half hour.

docs/operations.md explains it. Tested with Airflow 2.11 and 3.3; fullstory_pipeline.py belongs
beside it. The parameter `folder` names the folder of config.json (the tap's), target.json (the
target's), and catalog.json if not all of events is wanted. The state is kept there too, so every
worker must see it; after a backfill it is the folder of that.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import fullstory_pipeline as pipeline

try:
    from airflow.sdk import Param, dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param
    from airflow.operators.python import get_current_context

TAP = os.environ.get("FULLSTORY_TAP", "tap-fullstory")
TARGET = os.environ.get("FULLSTORY_TARGET", "target-postgres")
# "0 6 * * *" is once a day. A run that finds nothing new costs one request.
SCHEDULE = os.environ.get("FULLSTORY_SCHEDULE", "*/30 * * * *")


def load_new(folder: Path) -> None:
    """Load what is new since the folder's last state. Raises PipelineError if it fails."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tap = [TAP, "--config", str(folder / "config.json")]
    if (folder / "catalog.json").exists():
        tap += ["--catalog", str(folder / "catalog.json")]
    target = [TARGET, "--config", str(folder / "target.json")]
    pipeline.run(folder, tap, target, upserts=config.get("event_digest") in (True, "true"))


@dag(
    schedule=SCHEDULE,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,  # a run loads all that is new, whatever its date
    max_active_runs=1,  # the state allows one run at a time
    params={"folder": Param("/srv/fullstory", type="string")},
)
def fullstory_sync() -> None:
    """Run the tap into the target once."""

    # The retry continues from the state of the try before. Airflow's on_failure_callback comes when
    # it failed, too.
    @task(retries=1, retry_delay=timedelta(minutes=5), execution_timeout=timedelta(hours=12))
    def load() -> None:
        load_new(Path(get_current_context()["params"]["folder"]))

    load()


fullstory_sync()
