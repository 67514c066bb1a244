"""examples/postgres/comments.sql on tables that target-postgres has made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from documented_databases import UNTIL, loaded_from
from environments import ROOT
from postgres import Postgres

from tap_fullstory.catalog import discover
from tap_fullstory.sandbox import generated_bundles

COMMENTS = (
    "SELECT attname, col_description(attrelid, attnum) AS comment FROM pg_attribute "
    "WHERE attrelid = 'fullstory.events'::regclass AND attnum > 0"
)


def run_script(commands: Any, postgres: Postgres) -> None:
    address = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres"]
    done = subprocess.run(
        [postgres.programs / "psql", *address, "-X", "-q", "-v", "schema=fullstory",
         "-f", ROOT / "examples/postgres/comments.sql"],
        env={**os.environ, "PATH": f"{commands.tap.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_descriptions_become_comments(commands, tmp_path: Path):
    (events,) = (one for one in discover()["streams"] if one["tap_stream_id"] == "events")
    properties = events["schema"]["properties"]
    with loaded_from(commands, tmp_path, generated_bundles(1, 20, until=UNTIL), UNTIL) as postgres:
        postgres.execute("""COMMENT ON COLUMN fullstory.events."UserId" IS 'it''s ours'""")
        run_script(commands, postgres)
        run_script(commands, postgres)
        found = {row["attname"]: row["comment"] for row in postgres.query(COMMENTS)}
    described = {name: of["description"] for name, of in properties.items()}
    assert {name for name in found if name not in described} >= {"_sdc_batched_at"}
    expected = described | {"UserId": "it's ours"}
    assert {name: found[name] for name in described} == expected
