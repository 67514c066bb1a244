"""How fast the tap is, beside gzip, jq, the tap that people had before, and a target.

`make bench` runs this; `make bench ARGS=--help` tells its options. It starts programs as a shell
would, in turns, and prints tables. Whatever is timed runs once before, and has to write as many
records as there are events.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from cases import Bundle, Case, Results
from measure import LOG, RECORD, Failed, cost, seconds_until, watch
from tables import goals, growth_table, main_table, noise

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench/out"
LAYOUTS = ("lines", "oneline", "indented")
TARGET = ROOT / ".venvs/target-duckdb/bin/target-duckdb"
TARGET_CONFIG = {
    "path": str(OUT / "bench.duckdb"),
    "default_target_schema": "main",
    "primary_key_required": False,
    "add_metadata_columns": True,
}
PUBLISHED = ROOT / ".venvs/tap-fullstory-1.0.4/bin/python"
# Its address stands in the code, not in the config.
START_PUBLISHED = "import tap_fullstory as t; t.BASE_URL = {url!r} + '/api/v1/export/'; t.main()"
SIX = ("IndvId", "SessionId", "EventStart", "EventType", "EventTargetText", "PageUrl")
PROMOTED = ("evt_product_id_str", "page_category_str", "user_plan_str")
STARTS = 15  # how often the start-up is timed
SLOW_ROUNDS = 3  # at most, of what takes long
