"""What FullStory, its files and the wire can do wrong: the tables that several tests go through.

The events carry a text, and the requests a key, that would be found wherever either of them leaks.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from running import Content, Json, Run, as_record, run_tap

from tap_fullstory.sandbox import Bundle, Fault

DAY = 24 * 60 * 60
FIRST_DAY = 1_780_272_000  # 2026-06-01T00:00:00Z
# Characters that URLs, JSON and regular expressions spell in other ways, too.
KEY = "na1.S2VybmJlaXNzZXI/a2V5+bWFya2Vk=="
TEXT = "Kornblumenblau"


def events(count: int, first: int = 0) -> list[Json]:
    """Events that differ from each other, with custom variables and a value that does not fit."""
    start = datetime(2026, 6, 1, tzinfo=timezone.utc)
    return [
        {
            "EventStart": f"{start + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}",
            "EventType": "click",
            "EventTargetText": f"{TEXT} {number}",
            "UserEmail": f"{TEXT}.{number}@example.com",
            "PageUrl": f"https://example.com/{TEXT}/{number}?q={TEXT}",
            "PageDuration": TEXT if number % 7 == 3 else number,
            "PageNumErrors": number,
            "evt_note_str": f"{TEXT} {number} " + "é" * 300,
        }
        for number in range(first, first + count)
    ]


def record(event: Mapping[str, Any]) -> Json:
    """What becomes of one of these events."""
    kept = as_record(event)
    if isinstance(duration := event["PageDuration"], str):
        kept["PageDuration"] = None
        kept["CustomVars"] = {**kept["CustomVars"], "PageDuration": duration}
    return kept


def lines(items: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Each event as JSON, the way FullStory writes it."""
    return [json.dumps(item, ensure_ascii=False).encode() for item in items]


def array(items: Iterable[bytes]) -> bytes:
    """One JSON array of events that are JSON already."""
    return b"[" + b",\n".join(items) + b"]"


def packed(items: list[bytes]) -> bytes:
    """The array of events, gzipped."""
    return gzip.compress(array(items), 1, mtime=0)


def in_members(items: list[bytes]) -> bytes:
    """The array of events, gzipped in three members."""
    text = array(items)
    third = len(text) // 3
    parts = text[:third], text[third : 2 * third], text[2 * third :]
    return b"".join(gzip.compress(part, 1, mtime=0) for part in parts)


def bundle(day: int, body: Any) -> Bundle:
    """The bundle of a day, 0 being the first."""
    start = FIRST_DAY + day * DAY
    return Bundle(f"{start}48", start, start + DAY, body)


def run_loudly(config: Content, **options: Any) -> Run:
    """A sync in which every logger says all it can, and neither the key nor an event's text."""
    run = run_tap(config, **{"env": loud(), **options})
    assert_nothing_leaks(run.log)
    return run


def fast() -> dict[str, str]:
    """As `loud`, of a tap to which five minutes are a second."""
    return {**loud(), "PYTHON_CLOCK_SPEED": "300"}


def loud() -> dict[str, str]:
    """The environment in which every logger of a tap says all it can."""
    path = filter(None, [str(Path(__file__).parent / "loud"), os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join(path)}


def assert_nothing_leaks(log: str) -> None:
    """Fails if the key, an event's text or the signature of an address is in it, whole or in part,
    as it is or as an address or JSON would spell it.
    """
    spellings = {
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        json.dumps(KEY)[1:-1],
        b64encode(KEY.encode()).decode(),
    }
    words = re.findall("[A-Za-z0-9]+", KEY)
    parts = {word[at : at + 8] for word in words for at in range(len(word) - 7)}
    for secret in [*spellings, *parts, TEXT, "X-Goog", "Signatur"]:
        assert secret.lower() not in log.lower(), log


# --- the wire ---


@dataclass(frozen=True)
class WireFault:
    """Faults of the sandbox that the tap is to get over, and the requests it makes meanwhile.

    A bundle of BODY bytes, uncompressed, is listed and fetched; `requests` are as `asked` says.
    """

    name: str
    faults: tuple[str | Fault, ...]
    requests: str
    options: Mapping[str, Any] = field(default_factory=dict)


# The client reads 65536 bytes at a time: a body that breaks off later has more than that on disk.
WIRE_EVENTS = events(120)
WIRE_BODY = array(lines(WIRE_EVENTS))
assert len(WIRE_BODY) > 90_000

RECOVERIES = [
    WireFault("nothing", (), "list get"),
    WireFault("list-500", ("list:500",), "list list get"),
    WireFault("get-503", ("get:503",), "list get get"),
    WireFault("get-502-page", (Fault("html", "get", status=502),), "list get get"),
    WireFault("list-reset", ("list:reset",), "list list get"),
    WireFault("get-reset", ("get:reset",), "list get get"),
    WireFault("list-silent", ("list:silence,seconds=30",), "list list get"),
    WireFault("get-silent", ("get:silence,seconds=30",), "list get get"),
    WireFault("list-cut", ("list:cut,after=9",), "list list get"),
    WireFault("list-stalls", ("list:stall,after=9,seconds=30",), "list list get"),
    WireFault("slow", ("get:slow,rate=100000",), "list get"),
    WireFault("stalls", ("get:stall,after=70000,seconds=30",), "list get get@65536"),
    WireFault("cut", ("get:cut,after=70000",), "list get get@70000"),
    WireFault("cut-at-once", ("get:cut,after=0",), "list get get"),
    WireFault("cut-by-reset", ("get:cut,after=70000,end=reset",), "list get get@65536"),
    WireFault("cut-before-the-end", ("get:cut,after=-1",), f"list get get@{len(WIRE_BODY) - 1}"),
    WireFault(
        "cut-twice", ("get:cut,after=30000", "get:cut,after=30000"), "list get get@30000 get@60000"
    ),
    # More often than a request is tried that brings nothing: each of these brings a further part.
    WireFault(
        "cut-nine-times",
        ("get:cut,after=9000",) * 9,
        "list get " + " ".join(f"get@{9000 * number}" for number in range(1, 10)),
    ),
    WireFault("length-beside-chunks", ("get:mislabelled,length=10",), "list get"),
    WireFault("list-length-beside-chunks", ("list:mislabelled,length=10",), "list get"),
    WireFault("list-interim-response", ("list:interim",), "list get"),
    WireFault("get-interim-response", ("get:interim",), "list get"),
    WireFault("no-length-cut", ("get:chunked,after=70000",), "list get get@65536"),
    WireFault("no-length-reset", ("get:chunked,after=70000,end=reset",), "list get get@65536"),
    # Nothing on the wire tells that this one is cut: the proof does, and it is fetched once more.
    WireFault("no-length-short", ("get:chunked,after=70000,end=clean",), "list get get"),
    WireFault("short", ("get:truncate,after=70000",), "list get get"),
    WireFault("page-instead", ("get:html",), "list get get"),
    WireFault("object-instead", ("get:object",), "list get get"),
    WireFault("nothing-instead", ("get:empty",), "list get get"),
    WireFault("list-page", ("list:html",), "list list get"),
    WireFault("list-empty", ("list:empty",), "list list get"),
    WireFault("list-truncated", ("list:truncate,after=9",), "list list get"),
    WireFault("list-mislabelled-gzip", ("list:unpacked",), "list list get"),
    WireFault("list-two-lengths", ("list:lengths",), "list list get"),
    WireFault("get-two-lengths", ("get:lengths",), "list get get"),
    WireFault("list-many-headers", ("list:headers,count=950",), "list get"),
    WireFault("get-many-headers", ("get:headers,count=950",), "list get"),
    WireFault("list-too-many-headers", ("list:headers,count=1001",), "list list get"),
    WireFault("throttled-403", ("get:403,retry-after=1",), "list get get"),
    WireFault("no-ranges", ("get:cut,after=70000",), "list get get@70000", {"ranges": False}),
    WireFault(
        "another-etag", ("get:cut,after=70000",), "list get get@70000", {"changing_etag": True}
    ),
    WireFault("range-refused", ("get:cut,after=70000", "get:416"), "list get get@70000 get"),
    WireFault("throttled-seconds", ("get:429,retry-after=1",), "list get get"),
    WireFault("throttled-date", ("list:429,retry-after=date+1",), "list list get"),
    WireFault("throttled-wordless", ("get:429",), "list get get"),
    WireFault("throttled-garbage", ("get:429,retry-after=presently",), "list get get"),
    WireFault("throttled-503", ("get:503,retry-after=1",), "list get get"),
    WireFault("then-throttled", ("get:cut,after=70000", "get:429"), "list get get@70000 get@70000"),
    WireFault("storage", (), "list get storage", {"redirect": True}),
    WireFault(
        "storage-expired", ("storage:expired",), "list get storage get storage", {"redirect": True}
    ),
    WireFault(
        "storage-expires-within",
        ("storage:cut,after=70000", "storage:expired"),
        "list get storage get@70000 storage@70000 get@70000 storage@70000",
        {"redirect": True},
    ),
    WireFault("storage-400", ("storage:400",), "list get storage get storage", {"redirect": True}),
    *(
        WireFault(
            f"storage-{status}",
            (f"storage:{status}",) * 3,
            "list " + "get storage " * 3 + "get storage",
            {"redirect": True},
        )
        for status in (401, 403, 404, 410)
    ),
    WireFault("storage-503", ("storage:503",), "list get storage get storage", {"redirect": True}),
    WireFault(
        "storage-429",
        ("storage:429,retry-after=1",),
        "list get storage get storage",
        {"redirect": True},
    ),
    # A line that is not a header: urllib3 warns of it, with the address and a traceback.
    WireFault(
        "storage-broken-header",
        (Fault("status", "storage", status=503, headers={"Broken Header": "1"}),),
        "list get storage get storage",
        {"redirect": True},
    ),
    WireFault(
        "storage-reset", ("storage:reset",), "list get storage get storage", {"redirect": True}
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """A fault that ends the run at once, and words of the one CRITICAL line that says so."""

    name: str
    fault: str | Fault
    words: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def faults(self) -> tuple[str | Fault, ...]:
        return (self.fault,)


REFUSALS = [
    Refusal("list-401", "list:401", "does not accept the API key. Check api_key"),
    Refusal("get-401", "get:401", "does not accept the API key. Check api_key"),
    Refusal("list-403", "list:403", "need a key of level Architect or higher"),
    Refusal("get-403", "get:403", "the Data Export add-on"),
    Refusal("list-404", "list:404", "Check data_export_url"),
    Refusal("get-404", "get:404", "the bundle is gone"),
    Refusal("list-410", "list:410", "has closed this API"),
    Refusal("get-410", "get:410", "has closed this API"),
    Refusal("list-400", Fault("status", "list", status=400, body=f"no {KEY}".encode()), "no ***"),
    Refusal("get-400", Fault("status", "get", status=400, body=TEXT.encode()), "HTTP 400 from"),
    # A proxy's success that is false: its text may be that of events.
    Refusal("get-203", Fault("status", "get", status=203, body=TEXT.encode()), "HTTP 203 from"),
    Refusal(
        "list-no-list",
        Fault("status", "list", status=200, body=b'{"error": "none"}'),
        "JSON that is not a list of bundles",
    ),
    Refusal("list-loop", "list:redirect,times=always", "redirects more than 10 times"),
    Refusal("get-loop", "get:redirect,times=always", "redirects more than 10 times"),
    Refusal("get-ftp", "get:redirect,location=ftp://127.0.0.1/x?sig=Signatur", "not a valid URL"),
    Refusal("get-no-host", "get:redirect,location=http://[::1", "not a valid URL"),
]


EXPORT_REFUSALS = [
    Refusal("create-401", "create:401", "does not accept the API key. Check api_key"),
    Refusal("create-403", "create:403", "need a key of level Architect or higher"),
    Refusal("operation-403", "operation:403", "need a key of level Architect or higher"),
    Refusal("results-403", "results:403", "the Data Export add-on"),
    Refusal("create-404", "create:404", "Check api_url"),
    Refusal("create-410", "create:410", "has closed this API"),
    Refusal("create-400", Fault("status", "create", status=400, body=f"no {KEY}".encode()), "no *"),
    Refusal("storage-203", Fault("status", "storage", status=203, body=TEXT.encode()), "HTTP 203"),
    Refusal(
        "create-no-id",
        Fault("status", "create", status=200, body=b'{"error": "none"}'),
        "JSON that has no operationId",
    ),
    Refusal(
        "results-no-id",
        Fault("status", "operation", status=200, body=b'{"state":"COMPLETED","results":{"a":1}}'),
        "JSON that has no searchExportId",
    ),
    Refusal(
        "results-no-location",
        Fault("status", "results", status=200, body=b"[]"),
        "JSON that has no location",
    ),
    Refusal(
        "results-ftp",
        Fault("status", "results", status=200, body=b'{"location":"ftp://[::1/?sig=Signatur"}'),
        "did not give an https URL",
    ),
    Refusal(
        "results-http",
        Fault("status", "results", status=200, body=b'{"location":"http://a.example/?Signatur"}'),
        "did not give an https URL",
    ),
    # A POST that is sent elsewhere would become a GET there.
    Refusal("create-redirected", "create:redirect,location=http://127.0.0.1:1/", "HTTP 302 from"),
    Refusal("operation-loop", "operation:redirect,times=always", "redirects more than 10 times"),
    Refusal(
        "storage-ftp", "storage:redirect,location=ftp://a.example/?Signatur", "not a valid URL"
    ),
]


# Faults that last, the words that say what they are, and how often the tap tries: more than eight
# times, if it says nothing of that.
LASTING = [
    Refusal("get-page", "get:html,times=always", "is a web page, not a JSON array"),
    Refusal("get-object", "get:object,times=always", "is a JSON object, not a JSON array"),
    Refusal("get-empty", "get:empty,times=always", "is empty"),
    Refusal("get-503", "get:503,times=always", "times, most recently: HTTP 503"),
    Refusal("list-503", "list:503,times=always", "times, most recently: HTTP 503"),
    Refusal("list-reset", "list:reset,times=always", "Connection reset by peer"),
    Refusal("list-page", "list:html,times=always", "(a web page; text/html, "),
    Refusal("list-empty", "list:empty,times=always", "expected JSON (empty; application/json, 0 b"),
    Refusal("list-cut", "list:truncate,after=9,times=always", "expected JSON (truncated JSON; "),
    Refusal("list-gzip", "list:unpacked,times=always", "the response is not valid gzip"),
    Refusal("list-lengths", "list:lengths,times=always", "two Content-Length headers that differ"),
    Refusal("get-lengths", "get:lengths,times=always", "two Content-Length headers that differ"),
    Refusal("list-headers", "list:headers,count=1001,times=always", "more than 1000 headers"),
    Refusal("storage-404", "storage:404,times=always", "HTTP 404 from http", {"redirect": True}),
    Refusal("storage-401", "storage:401,times=always", "at 4 URLs in a row", {"redirect": True}),
    Refusal("storage-403", "storage:403,times=always", "a proxy or a firewall", {"redirect": True}),
    Refusal("storage-410", "storage:410,times=always", "HTTP 410 from http", {"redirect": True}),
]
EXPORT_LASTING = [
    Refusal("operation-page", "operation:html,times=always", "(a web page; text/html, "),
    Refusal("results-empty", "results:empty,times=always", "expected JSON (empty; "),
]
