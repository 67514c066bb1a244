"""The whole tap over damaged files of the user and damaged answers, for as many seconds as given.

    python tests/helpers/fuzz_inputs.py [SECONDS [SEED [TARGET ...]]]

Targets: config, state, catalog, listing, rest; fuzz_bundles.py has the bundles. Each gets its share
of the time, and first everything that was found before, which is in tests/fuzz/corpus/TARGET.

Whatever comes, the tap has to end with 0, 1 or 2, and a failure with one CRITICAL line, no defect;
2 before anything is written. Every line of its output is a Singer message, its records fit their
schema, its bookmarks never move back or beyond what is listed, and nothing of the input can
forge a line of the log or reach a terminal as a control character.

An input that fails is printed in base64, and its SHA-1; to keep it, write it to the corpus.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import logging
import random
import signal
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import faults
from running import Json, Run, read_messages, without_time
from strategies import damaged

import tap_fullstory
from tap_fullstory.catalog import discover
from tap_fullstory.json_files import MAX_LEVELS
from tap_fullstory.records.json_text import nesting_depth_exceeds
from tap_fullstory.sandbox import Fault, Sandbox
from tap_fullstory.streams import STREAMS, RestStream
from tap_fullstory.times import parse_rfc3339

CORPUS = Path(__file__).parent.parent / "fuzz/corpus"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORGED = "CRITICAL forged"
LEVELS = ("DEBUG ", "INFO ", "WARNING ", "ERROR ", "CRITICAL ")
MAX_AHEAD = timedelta(days=2)  # of a bookmark that the tap moves, before now
BUNDLES = [
    faults.bundle(day, faults.array(faults.lines(faults.events(3, 3 * day)))) for day in range(3)
]
START, MIDDLE, END = (f"2026-06-0{day}T00:00:00Z" for day in (1, 2, 4))
SCALARS: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**63, 10**30, "", " ", "true", "null", "events", "x" * 5000,
    START, MIDDLE, END, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-06-02", "-1", "1e999",
    f"\n{FORGED}", f"\r\x1b[2J{FORGED}", "\u202e\u200b", "\0", "\ud800", "é\U0001f600", "a/b?c",
]  # fmt: skip
SHAPES: list[Any] = [[], {}, [[]], [None], [1, "a"], {"": None}, {"a": {"b": [1]}}]
DEEP = [json.loads("[" * levels + "]" * levels) for levels in (99, 101, 400)]


class Wrong(Exception):
    """What the tap made of an input is not what it should be."""


# --- inputs ---


def changed(original: Any, source: random.Random) -> Any:
    """`original` with some of its values replaced, removed, doubled or renamed, at any depth."""
    made = copy.deepcopy(original)
    for _ in range(source.choice([1, 1, 2, 3])):
        at = made
        while isinstance(at, (dict, list)) and at:
            key = source.choice(list(at)) if isinstance(at, dict) else source.randrange(len(at))
            if isinstance(at[key], (dict, list)) and at[key] and source.random() < 0.8:
                at = at[key]
                continue
            change_member(at, key, source)
            break
    return made


def change_member(at: Any, key: Any, source: random.Random) -> None:
    what = source.randrange(5)
    if what == 0:
        del at[key]
    elif what == 1 and isinstance(at, list):
        at.insert(key, copy.deepcopy(at[key]))
    elif what == 1:
        at[str(source.choice(SCALARS))] = at.pop(key)
    else:
        at[key] = copy.deepcopy(source.choice(source.choice([SCALARS, SCALARS, SHAPES, DEEP])))


def some_bytes(original: Any, source: random.Random) -> bytes:
    kind = source.random()
    value = original if kind < 0.15 else changed(original, source)
    if kind > 0.97:
        value = source.choice([*SCALARS, *SHAPES, *DEEP])
    data = json.dumps(value, ensure_ascii=source.random() < 0.8).encode(errors="surrogatepass")
    return damaged(data, source) if kind < 0.3 else data


# --- one run ---


def run_here(config: bytes, **given: bytes | None) -> Run:
    """A sync by the tap's `main` in this process, which is many times faster than one of its own.

    `given` are the files of its options. Raises AssertionError as running.run_tap does.
    """
    make, handlers = logging.getLogRecordFactory(), {n: signal.getsignal(n) for n in SIGNALS}
    log = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as out:
        arguments = []
        for name, content in {"config": config, **given}.items():
            if content is not None:
                Path(folder, name).write_bytes(content)
                arguments += [f"--{name}", f"{folder}/{name}"]
        with (
            mock.patch.object(sys, "stdout", out),
            mock.patch.object(sys, "stderr", log),
            mock.patch.object(tap_fullstory, "_exit", sys.exit),
            warnings.catch_warnings(),
        ):
            try:
                tap_fullstory.main(arguments)
            except SystemExit as exited:
                code = exited.code
            finally:
                logging.setLogRecordFactory(make)
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        out.seek(0)
        run = Run(int(code or 0), out.read(), log.getvalue())
    assert len(run.logged("CRITICAL")) == (1 if run.code in (1, 2) else 0) or '"level"' in run.log
    return replace(run, messages=tuple(read_messages(run.stdout)))


def config_of(sandbox: Sandbox, **more: Any) -> bytes:
    return json.dumps(sandbox.config(start_date=START, checkpoint_events=2, **more)).encode()


# --- targets ---


def try_config(sandbox: Sandbox, data: bytes) -> Run:
    """What says where the tap connects to, and how long it waits, is not the input's to choose."""
    try:
        raw = None if nesting_depth_exceeds(data, MAX_LEVELS) else json.loads(data)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        return run_here(data)
    urls = {name: sandbox.config()[name] for name in ("data_export_url", "api_url")}
    own = {
        "export_api": "data_export",
        "request_timeout": 5,
        "spool_dir": None,
        "batch_config": None,
    }
    return run_here(json.dumps({**raw, **urls, **own}).encode())


def try_state(sandbox: Sandbox, data: bytes) -> Run:
    return run_here(config_of(sandbox), state=data)


def try_catalog(sandbox: Sandbox, data: bytes) -> Run:
    return run_here(config_of(sandbox), catalog=data)


def try_listing(sandbox: Sandbox, data: bytes) -> Run:
    sandbox.fault(Fault("status", "list", status=200, body=data))
    return run_here(config_of(sandbox))


def try_rest(sandbox: Sandbox, data: bytes) -> Run:
    """The input decides of which stream it is an answer."""
    names = [stream.name for stream in STREAMS if isinstance(stream, RestStream)]
    name = names[zlib.crc32(data) % len(names)]
    listed = "users" if name == "sessions" and zlib.adler32(data) % 2 else name
    catalog = copy.deepcopy(offered())
    for entry in catalog["streams"]:
        entry["metadata"][0]["metadata"]["selected"] = entry["tap_stream_id"] == name
    sandbox.fault(Fault("status", listed, status=200, body=data))
    return run_here(config_of(sandbox), catalog=json.dumps(catalog).encode())


@cache
def offered() -> Json:
    found: Json = json.loads(json.dumps(discover()))
    return found


PARTIAL = {"id": BUNDLES[1].id, "events": 1, "bytes": 300, "crc32": 3}
EXPORT = {"id": "op", "start": START, "end": MIDDLE, "fields": ["EventStart"], "segment": "s"}
STATE = {
    "bookmarks": {
        "events": {"bundle_end": MIDDLE, "partial": PARTIAL, "export": EXPORT},
        "individuals": {"bundle_end": MIDDLE, "export": EXPORT},
        "geo_settings_history": {"lastUpdated": START},
        "domain_settings_history": {"web": START, "mobile": MIDDLE},
        "other": {"x": [1]},
    },
    "currently_syncing": "users",
}
CONFIG = {
    "api_key": faults.KEY, "start_date": START, "end_date": END, "segment_id": "everyone",
    "export_window_hours": 24, "user_agent": "x", "request_timeout": "30", "checkpoint_events": 2,
    "prefetch_bundles": 1, "skip_bundles": ["1"], "max_event_mb": 1, "custom_vars_format": "string",
    "event_digest": True, "replace_nul": "true", "log_level": "INFO", "workers": 1,
    "exclude_fields": ["PageIp", "users.*"], "hash_fields": "UserEmail, user_*",
    "hash_key": "k" * 16, "event_types": ["!load"], "custom_columns": ["user_x_str", "evt_x:reals"],
}  # fmt: skip
LISTING = {
    "exports": [{"Id": bundle.id, "Start": bundle.start, "Stop": bundle.stop} for bundle in BUNDLES]
}
ITEM = {
    "id": "1", "uid": "u", "email": "a@example.com", "display_name": "A", "name": "n",
    "userId": "1", "sessionId": "2", "createdTime": START, "fsUrl": "https://example.com",
    "lastUpdated": MIDDLE, "last_updated": MIDDLE, "properties": {"a": 1}, "results": [],
    "url": "https://example.com", "eventTypes": [{"eventName": "x"}], "state": "COMPLETED",
}  # fmt: skip
ANSWER = {
    name: [ITEM, {**ITEM, "id": "2"}]
    for name in ("results", "segments", "sessions", "settings", "versions", "endpoints", "rules")
} | {"next_page_token": "", "nextPaginationToken": "", "total_records": "2", "web": ITEM}


def catalog_of_some() -> Json:
    """Small, so that most changes hit something that matters."""
    catalog = copy.deepcopy(offered())
    streams = {entry["tap_stream_id"]: entry for entry in catalog["streams"]}
    events = streams["events"]
    names = ["EventStart", "PageId", "EventTargetText", "CustomVars"]
    properties = events["schema"]["properties"]
    events["schema"]["properties"] = {name: properties[name] for name in names}
    events["metadata"] = [
        item
        for item in events["metadata"]
        if not item["breadcrumb"] or item["breadcrumb"][1] in names
    ]
    return {"streams": [events, streams["segments"]]}


Target = tuple[Callable[[], Any], Callable[[Sandbox, bytes], Run]]
TARGETS: dict[str, Target] = {
    "config": (lambda: CONFIG, try_config),
    "state": (lambda: STATE, try_state),
    "catalog": (catalog_of_some, try_catalog),
    "listing": (lambda: LISTING, try_listing),
    "rest": (lambda: ANSWER, try_rest),
}


# --- what has to hold ---


def check(run: Run, target: str) -> None:
    """Raise Wrong if a run is not what every run has to be; `run_here` has looked at its output."""
    if run.code not in (0, 1, 2):
        raise Wrong(f"exit code {run.code}")
    if "Defect" in run.log:
        raise Wrong("a defect")
    if run.code == 2 and run.stdout:
        raise Wrong("output before exit code 2")
    if run.code == 2 and target in ("listing", "rest"):
        raise Wrong("exit code 2 for what FullStory sent")
    as_json = '"level":' in run.log
    for line in run.log.split("\n")[:-1]:
        if not line.isprintable():
            raise Wrong("a control character in the log")
        text = without_time(line)
        if not as_json and (not text.startswith(LEVELS) or text.startswith(FORGED)):
            raise Wrong("a line in the log that the tap has not written")
    if faults.TEXT in run.log:
        raise Wrong("text of an event in the log")
    reached: dict[str, datetime] = {}
    for state in run.states:
        for stream, bookmark in state["bookmarks"].items():
            if stream not in ("events", "individuals") or not bookmark.get("bundle_end"):
                continue
            end = parse_rfc3339(bookmark["bundle_end"])
            if end < reached.get(stream, end):
                raise Wrong("a bookmark that moves back")
            moves = end != reached.get(stream, end)
            if moves and end > datetime.now(timezone.utc) + MAX_AHEAD:
                raise Wrong("a bookmark that moves into the future")
            reached[stream] = end


def try_one(sandbox: Sandbox, target: str, data: bytes) -> int:
    """Run the tap over an input; return its exit code. Raises Wrong or AssertionError."""
    sandbox.clear_faults()
    run = TARGETS[target][1](sandbox, data)
    check(run, target)
    return run.code


def corpus(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


def fuzz(sandbox: Sandbox, target: str, seconds: float, seed: int) -> None:
    end = time.monotonic() + seconds
    tried: Counter[int] = Counter()
    original = TARGETS[target][0]()
    waiting = corpus(target)
    while waiting or time.monotonic() < end:
        source = random.Random(f"{target}/{seed}/{tried.total()}")
        data = waiting.pop() if waiting else some_bytes(original, source)
        try:
            tried[try_one(sandbox, target, data)] += 1
        except Exception:
            shown = base64.b64encode(data).decode()
            name = hashlib.sha1(data).hexdigest()
            sys.stdout.write(f"input of {target}, {name}, in base64: {shown}\n")
            raise
    codes = ", ".join(f"{count} ended with {code}" for code, count in sorted(tried.items()))
    sys.stdout.write(f"{target}: {tried.total()} inputs tried, nothing found: {codes}\n")


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    targets = sys.argv[3:] or list(TARGETS)
    sys.stdout.write(f"seed {seed}, {seconds:g} s\n")
    with Sandbox(BUNDLES, api_key=faults.KEY) as sandbox:
        for target in targets:
            fuzz(sandbox, target, seconds / len(targets), seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
