"""The worst bundles that a visitor, or FullStory, could make, beside a normal one of the same size.

`make bench ARGS=--worst` runs this. Each case is a bundle of the same size, unpacked; its row
says how much CPU and memory the tap takes for it, as a multiple of what it takes for the normal
bundle, with the C extension and without.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator

from cases import OUT, PURE_PYTHON, Bundle, tap_command
from measure import Watched, cost, watch

from tap_fullstory.sandbox import Bundle as SandboxBundle
from tap_fullstory.sandbox import GeneratedEvents, Sandbox

START = 1_780_272_000  # 2026-06-01T00:00:00Z
STOP = START + 24 * 60 * 60
MEGABYTE = 1_000_000


def run(tap: str, megabytes: int) -> str:
    """Measure every case; return the table."""
    OUT.mkdir(exist_ok=True)
    size = megabytes * MEGABYTE
    rows = [
        "| bundle | events | CPU | memory | CPU, nothing compiled | memory |",
        "|---|" + "---:|" * 5,
    ]
    normal: dict[str, tuple[float, int]] = {}
    for name, events, settings in cases(size):
        cells = []
        count = 0
        for prefix in ((), ("env", PURE_PYTHON)):
            cpu, watched = _measured(tap, events, prefix, settings)
            count = watched.records
            mode = " ".join(prefix)
            if mode not in normal:
                normal[mode] = cpu, watched.together
                cells += [f"{cpu:.1f} s", f"{watched.together / MEGABYTE:.0f} MB"]
            else:
                before_cpu, before_memory = normal[mode]
                cells += [f"{cpu / before_cpu:.1f} x", f"{watched.together / before_memory:.1f} x"]
        rows.append(f"| {name} | {count:,} | {' | '.join(cells)} |")
    return (
        f"Bundles of about {megabytes} MB unpacked, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}. The first row is in seconds of CPU and in Pss, the others are "
        "multiples of it.\n\n" + "\n".join(rows)
    )


def cases(size: int) -> Iterator[tuple[str, bytes, dict[str, int]]]:
    """Yield a name, the events, and the settings that the case needs; the normal bundle first."""
    normal = _array(_generated(size))
    yield "normal", normal, {}
    yield "the same, a checkpoint every 100 events", normal, {"checkpoint_events": 100}
    yield "the same, a checkpoint for every event", normal, {"checkpoint_events": 1}
    yield "the same in four levels of gzip", _packed(normal, 3), {}
    keys = 40_000
    wide = b"{%b}" % b",".join(b'"evt_%d_int":%d' % (n, n) for n in range(keys))
    yield f"events of {keys:,} keys", _array([wide] * (size // len(wide))), {}
    once = _filled(size, lambda n: b'{"evt_%d_int":1}' % n)
    yield "custom variables that occur once", once, {}
    long = b"x" * 50_000
    yield "keys of 50 kB", _filled(size, lambda n: b'{"evt_%d_%b":1}' % (n, long)), {}
    deep = b'{"evt_a":%b%b}' % (b"[" * 400, b"]" * 400)
    yield "events 400 levels deep", _array([deep] * (size // len(deep))), {}
    one = b'{"evt_a":[%b]}' % b",".join([b"[]"] * (size // 3))
    yield "one event of brackets", _array([one]), {}
    yield "one event of digits", _array([b'{"evt_a":%b}' % (b"1" * size)]), {}
    fraction = b'{"PageId":1.%b1}' % (b"0" * size)
    yield "one event, a decimal in an integer column", _array([fraction]), {}
    yield "one event of escapes", _array([b'{"PageUrl":"%b"}' % (rb"\n" * (size // 2))]), {}
    halves = b'{"PageUrl":"%b"}' % (rb"\ud83d" * (size // 6))
    yield "one event of half surrogate pairs", _array([halves]), {}
    values = b",".join(b'"evt_%d_str":"%b"' % (n, b"x" * (size // 90_000)) for n in range(90_000))
    yield "one event of 90,000 keys", _array([b"{%b}" % values]), {}
    traps = b'{"EventTargetText":"},{\\"EventType\\":"}'
    yield "texts that look like the end of an event", _array([traps] * (size // len(traps))), {}
    misfit = b'{"PageId":"x","SessionId":"y","UserId":"z"}'
    yield "type mismatches in every event", _array([misfit] * (size // len(misfit))), {}
    decimal = b'{"PageId":1.%b1}' % (b"0" * 1_000_000)
    yield "decimals of 1 MB in an integer column", _array([decimal] * (size // len(decimal))), {}
    half = b'{"EventTargetText":"\\ud83d %b"}' % (b"x" * 200)
    yield "half surrogate pairs in every event", _array([half] * (size // len(half))), {}
    after = b'{"EventTargetText":"%b\\ud83d"}' % (rb"\\" * 50_000)
    blotted = _array([after] * (size // len(after)))
    yield "half surrogate pairs after 50,000 backslashes", blotted, {}
    nul = b'{"EventTargetText":"\\u0000 %b"}' % (b"x" * 200)
    yield "U+0000 in every event", _array([nul] * (size // len(nul))), {"replace_nul": True}
    odd = b'{ "EventType" : "\\u0063lick" , "EventType" : "click" }'
    yield "duplicate keys", _array([odd] * (size // len(odd))), {}


def _measured(
    tap: str, events: bytes, prefix: tuple[str, ...], settings: dict[str, int]
) -> tuple[float, Watched]:
    body = events if events.startswith(b"\x1f\x8b") else _packed(events, 1)
    with Sandbox([SandboxBundle("1", START, STOP, body)]) as sandbox:
        served: Bundle = {"config": {**sandbox.config(), **settings}}
        command = [*prefix, *tap_command(tap, served)]
        watched = watch(command)
        return sum(cost(command, ["cat"]).cpu), watched


def _packed(body: bytes, levels: int) -> bytes:
    for _ in range(levels):
        body = gzip.compress(body, 1, mtime=0)
    return body


def _array(events: list[bytes]) -> bytes:
    return b"[%b]" % b",\n".join(events)


def _filled(size: int, event: Callable[[int], bytes]) -> bytes:
    events: list[bytes] = []
    total = 0
    while total < size:
        events.append(event(len(events)))
        total += len(events[-1])
    return _array(events)


def _generated(size: int) -> list[bytes]:
    events: list[bytes] = []
    total = 0
    for event in GeneratedEvents(START, STOP, size // 900):
        events.append(json.dumps(event, ensure_ascii=False).encode())
        total += len(events[-1])
        if total >= size:
            break
    return events
