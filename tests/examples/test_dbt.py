"""examples/dbt with a real dbt, on DuckDB and on PostgreSQL: `make test-dbt`."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import documented_databases
import pytest
from catalogs import select_streams
from documented_databases import UNTIL, as_text
from environments import ENVIRONMENTS, ROOT
from postgres import Postgres, programs_or_skip, server
from running import run_tap

from tap_fullstory.sandbox import Sandbox, generated_bundles

TIMEOUT = 300  # seconds
MODELS = (
    "sessions", "page_views", "people", "frustrations", "plans", "daily", "setting_changes",
    "explained_days", "fullstory_events",
)  # fmt: skip
# load.py does not note when it stored a row, and JSON has 2.0 in the one database, 2 in the other.
COLUMNS = {
    "fullstory_events": "event_id, device_id, session_id, view_id, event_time, event_type, "
    "source_type"
}
HISTORIES = (
    "block_rules_history", "domain_settings_history", "geo_settings_history",
    "privacy_settings_history", "recording_features_history",
)  # fmt: skip
IN_DUCKDB = """\
import duckdb, json, sys
with duckdb.connect("fullstory.duckdb") as db:
    for sql in json.load(sys.stdin):
        found = db.sql(sql)
        print(json.dumps(found.fetchall() if found else [], default=str))
"""

Event = dict[str, Any]

pytestmark = pytest.mark.skipif(
    "TEST_DBT" not in os.environ, reason="`make test-dbt` runs this: it takes a minute"
)

# Two databases with the rows of the documents.
loaded = documented_databases.loaded


def build(folder: Path, target: str, *options: str, **more: str) -> None:
    """Make all models, and run dbt's own tests of them."""
    done = dbt(" ".join(["build", *options]), folder, target, **more)
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


class Databases:
    """fullstory.duckdb in a folder, and a server of PostgreSQL, with the same rows."""

    def __init__(self, folder: Path, commands: Any, postgres: Postgres) -> None:
        self._folder = folder
        self._commands = commands
        self.postgres = postgres
        target = {
            "sqlalchemy_url": postgres.url, "default_target_schema": "fullstory", "use_copy": True
        }  # fmt: skip
        (folder / "target.json").write_text(json.dumps(target), "utf-8")

    def load(self, messages: bytes) -> None:
        """Load what the tap wrote."""
        loader = [self._commands.loader_python, ROOT / "examples/duckdb/load.py"]
        target = [self._commands.target_postgres, "--config", "target.json"]
        for command in ([*loader, "fullstory.duckdb"], target):
            subprocess.run(
                command, cwd=self._folder, input=messages, check=True, capture_output=True,
                timeout=TIMEOUT,
            )  # fmt: skip

    def build(self, *options: str) -> None:
        """Make the models in both."""
        database = str(self._folder / "fullstory.duckdb")
        build(self._folder, "duckdb", *options, FULLSTORY_DUCKDB=database)
        address = {"PGHOST": "127.0.0.1", "PGPORT": str(self.postgres.port)}
        build(self._folder, "postgres", *options, PGUSER="postgres", **address)

    def change(self, sql: str) -> None:
        self.in_duckdb(sql)
        self.postgres.execute(sql)

    def in_duckdb(self, sql: str) -> list[list[Any]]:
        done = subprocess.run(
            [self._commands.loader_python, "-c", IN_DUCKDB], cwd=self._folder,
            input=json.dumps([sql]).encode(), stdout=subprocess.PIPE, timeout=TIMEOUT, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    def answer(self, sql: str) -> list[list[Any]]:
        """Return the rows that both give, in the order of PostgreSQL."""
        found = [list(row.values()) for row in self.postgres.query(sql)]
        assert sorted(as_text(found)) == sorted(as_text(self.in_duckdb(sql))), sql
        return found


@pytest.fixture
def databases(commands: Any, tmp_path: Path) -> Iterator[Databases]:
    found = programs_or_skip()
    with server(found) as postgres:
        yield Databases(tmp_path, commands, postgres)


def session_of(event: Event) -> str:
    return f"{event['UserId']}:{event['SessionId']}"


def incidents(events: list[Event]) -> dict[str, int]:
    """Count what went wrong, from events with all fields: a series of rage clicks is one incident,
    and so are its errors.
    """
    errors, series = 0, None
    clicks = [event for event in events if event["EventType"] == "click"]
    for event in sorted(clicks, key=lambda event: (session_of(event), event["EventStart"])):
        number, failed = event.get("EventModFrustrated", 0), event.get("EventModError", 0) > 0
        if number <= 1:
            series = failed
            errors += failed
        elif failed and not series:
            series = True
            errors += 1
    return {
        "rage_clicks": sum(event.get("EventModFrustrated", 0) == 1 for event in events),
        "dead_clicks": sum(event.get("EventModDead", 0) > 0 for event in events),
        "errors_after_clicks": errors,
        "exceptions": sum(event["EventType"] == "exception" for event in events),
    }


def plans(events: list[Event]) -> Counter[str]:
    """Count the sessions by plan."""
    of_session = {session_of(event): "(not known)" for event in events}
    known = {
        session_of(event): event["user_plan_str"] for event in events if "user_plan_str" in event
    }
    return Counter((of_session | known).values())


def day(number: int, hour: int) -> datetime:
    return datetime(2026, 6, number, hour, tzinfo=timezone.utc)


@pytest.mark.parametrize("fields", ["all", "sample"])
def test_the_models_count_what_happened_in_the_sandbox(databases: Databases, fields: str):
    """Five days, then a sixth, on which a variable has become a column of its own."""
    bundles = generated_bundles(6, 240, until=UNTIL)
    days = [list(bundle.events) for bundle in bundles]
    events = [event for one in days for event in one]
    is_sample = fields == "sample"
    sandbox = Sandbox(generated_bundles(6, 240, until=UNTIL, fields=fields), unpublished=1)
    with sandbox:
        off = [{"domain": "example.com", "disabled": True}]
        sandbox.change_settings("domain", at=day(4, 12), domains=off)
        sandbox.change_settings("blocking", at=day(4, 13), blockedIps=["203.0.113.9"])
        sandbox.change_settings("privacy", at=day(6, 8), elementBlocks=[])
        catalog = select_streams("events", *HISTORIES)
        first = run_tap(sandbox.config(), catalog=catalog)
        databases.load(first.stdout)
        databases.build()
        # Stays so on the days that are not counted again: all but the newest and the one before.
        databases.change("update models.daily set people = -1 where day < date '2026-06-05'")
        sandbox.publish()
        promoted = sandbox.config() | {"custom_columns": ["user_plan_str", "user_orders_int"]}
        databases.load(run_tap(promoted, catalog=catalog, state=first.state).stdout)
        databases.build()

    for model in MODELS:  # whole: a view is not computed for columns that nobody reads
        databases.answer(f"select {COLUMNS.get(model, '*')} from models.{model}")
        assert databases.postgres.query(f"select * from models.{model}"), model

    expected = incidents(events) | ({"rage_clicks": 0} if is_sample else {})
    assert expected["errors_after_clicks"] > 0
    sums = ", ".join(f"sum({name}) as {name}" for name in expected)
    for model in ("sessions", "page_views", "people", "plans", "daily"):
        assert databases.answer(f"select {sums} from models.{model}") == [list(expected.values())]
    clicks = sum(event.get("EventModFrustrated", 0) > 0 for event in events)
    assert databases.answer("select sum(clicks) from models.frustrations") == [
        [None if is_sample else clicks]
    ]

    sessions = plans(events)
    expected_plans = {"(not known)": sessions.total()} if is_sample else dict(sessions)
    assert dict(databases.answer("select plan, sessions from models.plans")) == expected_plans
    (people,) = databases.answer(
        "select count(*) as people, count(plan) as with_plan, sum(sessions) as sessions "
        "from models.people"
    )
    assert people[::2] == [len({event["IndvId"] for event in events}), sessions.total()]
    assert (people[1] > 0) != is_sample

    # A page has a name, or the path of its address; a screen of an app has the name alone.
    nameless = {
        (session_of(event), event["PageId"])
        for event in events
        if not event.get("PageUrl") and (is_sample or not event.get("AppViewName"))
    }
    (counted,) = databases.answer(
        "select count(*) - count(page) as nameless, "
        "max(case when page like '/%' then 1 end) as by_path from models.page_views"
    )
    assert counted == [len(nameless), 1 if is_sample else None]

    with_variables = [event for event in events if "user_plan_str" in event]
    properties = "(event_properties -> 'user_properties')"
    ((count, least),) = databases.answer(
        f"select count({properties} ->> 'user_plan_str') as count, "
        f"min(cast({properties} ->> 'user_orders_int' as integer)) as least "
        "from models.fullstory_events "
        f"where {properties} ->> 'user_plan_str' <> ''"
    )
    assert count == (0 if is_sample else len(with_variables))
    assert is_sample or least == min(event["user_orders_int"] for event in with_variables)
    path = "source_properties -> 'url' ->> 'path'"
    assert ["/checkout"] in databases.answer(f"select {path} as path from models.fullstory_events")

    found = databases.answer(
        "select day, events, sessions, people, settings_changed from models.explained_days "
        "order by day"
    )
    masked = ".account .name"
    changes = {
        4: "domain off example.com begins (web); IP address blocked 198.51.100.* ends",
        6: f"element excluded input[type=password] ends; element masked {masked} ends",
    }
    assert found == [
        [
            f"2026-06-0{number}", len(one), len({session_of(event) for event in one}),
            -1 if number < 4 else len({event["IndvId"] for event in one}), changes.get(number),
        ]
        for number, one in enumerate(days, 1)
    ]  # fmt: skip


def test_columns_of_the_models_have_their_descriptions_as_comments(databases: Databases):
    with Sandbox(generated_bundles(1, 20, until=UNTIL)) as sandbox:
        databases.load(run_tap(sandbox.config()).stdout)
        databases.build()
    in_duckdb = databases.in_duckdb(
        "select table_name, column_name, comment from duckdb_columns() where schema_name = 'models'"
    )
    in_postgres = databases.postgres.query(
        "select relname, attname, col_description(attrelid, attnum) from pg_attribute "
        "join pg_class on pg_class.oid = attrelid "
        "where relnamespace = 'models'::regnamespace and attnum > 0 and relkind in ('r', 'v')"
    )
    assert sorted(in_duckdb) == sorted(list(row.values()) for row in in_postgres)
    assert {table for table, _, _ in in_duckdb} == set(MODELS)
    assert [row for row in in_duckdb if not row[2]] == []


def test_variables_have_the_type_of_their_suffix_and_days_a_time_zone(databases: Databases):
    bundles = generated_bundles(2, 240, until=UNTIL)
    events = [event for bundle in bundles for event in bundle.events]
    with Sandbox(generated_bundles(2, 240, until=UNTIL)) as sandbox:
        databases.load(run_tap(sandbox.config()).stdout)
    known = {event["IndvId"]: event for event in events if "user_orders_int" in event}
    odd = min(known)  # whose application sends another type than the name says
    sql = (
        """update {}.events set "CustomVars" = '{{"user_orders_int": "many"}}' """
        """where "IndvId" = {}"""
    )
    databases.in_duckdb(sql.format("main", odd))
    databases.postgres.execute(sql.format("fullstory", odd))
    variables = {
        "orders": "user_orders_int", "value": "user_lifetime_value_real",
        "news": "user_newsletter_bool", "joined": "user_signed_up_date",
    }  # fmt: skip
    settings = {"fullstory_variables": variables, "fullstory_time_zone": "America/New_York"}
    options = json.dumps(settings, separators=(",", ":"))
    databases.build("--vars", options)

    found = databases.answer(
        'select indv_id, orders, value, news, joined from models.people where "orders" is not null '
        "order by indv_id"
    )
    assert as_text(found) == as_text(
        [
            [person, *(event[name].removesuffix("Z") if name.endswith("date") else event[name]
                       for name in variables.values())]
            for person, event in sorted(known.items()) if person != odd
        ]
    )  # fmt: skip
    days = Counter(
        (datetime.fromisoformat(event["EventStart"].replace("Z", "+00:00")) - timedelta(hours=4))
        .date().isoformat()
        for event in events
    )  # fmt: skip
    assert len(days) == 3
    assert dict(databases.answer("select day, events from models.daily")) == days


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
        (
            """create temp table again as select * from fullstory.events limit 1;
            update again set "EventDigest" = 'another';
            insert into fullstory.events select * from again""",
            241,
        ),
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
