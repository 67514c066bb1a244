"""examples/dbt with a real dbt, on DuckDB and on PostgreSQL: `make test-dbt`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import documented_databases
import pytest
from documented_databases import UNTIL, as_text
from environments import ENVIRONMENTS, ROOT
from postgres import Postgres

from tap_fullstory.sandbox import generated_bundles

TIMEOUT = 300  # seconds
MODELS = {
    "sessions": "session_key",
    "page_views": "page_view_key",
    "people": "indv_id",
    "frustrations": "session_key, happened_at, event_type, kind",
    "fullstory_events": "device_id, session_id, view_id, event_time, event_type",
}
READ = """\
import duckdb, json, sys
db = duckdb.connect("fullstory.duckdb")
for sql in json.load(sys.stdin):
    print(json.dumps(db.execute(sql).fetchall(), default=str))
"""

pytestmark = pytest.mark.skipif(
    "TEST_DBT" not in os.environ, reason="`make test-dbt` runs this: it takes a minute"
)

# fullstory.duckdb in tmp_path, and the same rows in PostgreSQL
loaded = documented_databases.loaded


def build(folder: Path, target: str, **more: str) -> None:
    """Make all models, and run dbt's own tests of them."""
    done = dbt("build", folder, target, **more)
    assert done.returncode == 0, done.stdout
    assert " WARN=0 ERROR=0 SKIP=0 " in done.stdout, done.stdout


def dbt(command: str, folder: Path, target: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ENVIRONMENTS / "dbt/bin/dbt", "--no-use-colors", *command.split(), "--profiles-dir", "."],
        cwd=ROOT / "examples/dbt",
        env={
            **os.environ,
            "DBT_TARGET": target,
            "DBT_TARGET_PATH": str(folder / "dbt"),
            "DBT_LOG_PATH": str(folder / "dbt"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            **more,
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
    )


def test_the_models_are_the_same_on_both_databases(commands, tmp_path: Path, loaded: Postgres):
    build(tmp_path, "duckdb", FULLSTORY_DUCKDB=str(tmp_path / "fullstory.duckdb"))
    server = {"PGHOST": "127.0.0.1", "PGPORT": str(loaded.port), "PGUSER": "postgres"}
    build(tmp_path, "postgres", **server)
    # Text sorts by the locale, and load.py does not note when it stored a row.
    asked = [f"select * from models.{model} order by {keys}" for model, keys in MODELS.items()]
    asked[-1] = asked[-1].replace("*", "event_id, device_id, event_time, event_type, source_type")
    printed = subprocess.run(
        [commands.loader_python, "-c", READ], cwd=tmp_path, input=json.dumps(asked),
        stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True,
    ).stdout.splitlines()  # fmt: skip
    for sql, line in zip(asked, printed, strict=True):
        in_postgres = [list(row.values()) for row in loaded.query(sql)]
        assert sorted(as_text(json.loads(line))) == sorted(as_text(in_postgres)), sql

    for model in MODELS:  # whole: a view is not computed for columns that nobody reads
        assert loaded.query(f"select * from models.{model}"), model

    bundles = generated_bundles(6, 240, until=UNTIL)
    events = [event for bundle in bundles for event in bundle.events]
    rage = max(
        (event for event in events if event.get("EventModFrustrated") == 1 and event["UserEmail"]
         and event["PageName"] == "Checkout"),
        key=lambda event: event["EventStart"],
    )  # fmt: skip
    session = [event for event in events if event["SessionId"] == rage["SessionId"]]
    seconds = max(e["EventSessionOffset"] for e in session) / 1000
    (troubled,) = loaded.query(
        "select session_key, user_email, rage_clicks, dead_clicks, exceptions, seconds "
        f"from models.sessions where session_id = {rage['SessionId']}"
    )
    assert troubled == {
        "session_key": f"{rage['UserId']}:{rage['SessionId']}", "user_email": rage["UserEmail"],
        "rage_clicks": 1, "dead_clicks": 1, "exceptions": 1, "seconds": seconds,
    }  # fmt: skip
    (event,) = loaded.query(
        "select source_properties -> 'url' as url, event_properties -> 'user_properties' ->> "
        "'user_plan_str' as plan from models.fullstory_events where event_type = 'form_abandon' "
        f"and session_id = {rage['SessionId']}"
    )
    assert event["plan"] == rage["user_plan_str"]
    assert event["url"] == {
        "full_url": "https://example.com/checkout", "host": "example.com", "path": "/checkout",
        "query": None, "hash_path": None, "hash_query": None,
    }  # fmt: skip


def test_the_models_do_without_columns_that_are_kept_out(tmp_path: Path, loaded: Postgres):
    """Only ids, by which rows belong together, type and time are needed."""
    server = {"PGHOST": "127.0.0.1", "PGPORT": str(loaded.port), "PGUSER": "postgres"}
    needed = {"UserId", "SessionId", "PageId", "IndvId", "EventType", "EventStart"}
    columns = loaded.query(
        "select column_name as name from information_schema.columns "
        "where table_schema = 'fullstory' and table_name = 'events'"
    )
    for column in columns:
        name = column["name"]
        if name in needed:  # as a target names them that folds upper and lower case
            change = f'rename column "{name}" to {name.lower()}'
        else:
            change = f'drop column "{name}"'
        loaded.execute(f"alter table fullstory.events {change}")
    loaded.execute("alter table fullstory.events add column eventdigest text default 'abc'")
    build(tmp_path, "postgres", **server)
    assert loaded.query("select distinct event_id from models.fullstory_events") == [
        {"event_id": "abc"}
    ]


@pytest.mark.parametrize(
    ("damage", "rows"),
    [
        ("delete from fullstory.events where ctid = (select min(ctid) from fullstory.events)", 239),
        ("insert into fullstory.events select * from fullstory.events limit 1", 241),
    ],
    ids=["a row is missing", "a row is there twice"],
)
def test_bundle_that_is_not_whole_fails_a_test(tmp_path: Path, loaded: Postgres, damage, rows):
    server = {"PGHOST": "127.0.0.1", "PGPORT": str(loaded.port), "PGUSER": "postgres"}
    command = "test --select every_bundle_is_whole --store-failures"
    assert "PASS=1" in dbt(command, tmp_path, "postgres", **server).stdout
    loaded.execute(damage)
    done = dbt(command, tmp_path, "postgres", **server)
    assert done.returncode == 1
    assert "FAIL 1 every_bundle_is_whole" in done.stdout, done.stdout
    stored = "select expected, found as rows from models_dbt_test__audit.every_bundle_is_whole"
    assert loaded.query(stored) == [{"expected": 240, "rows": rows}]
    loaded.execute("drop table fullstory.bundles")
    assert "PASS=1" in dbt(command, tmp_path, "postgres", **server).stdout
