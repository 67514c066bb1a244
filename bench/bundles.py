"""The bench's bundles, and a sandbox that serves them: a process of its own, which uses the same
machine only while the tap downloads.

Run by bench.py with the sizes and layouts wanted; prints what it serves, and ends with its stdin.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tap_fullstory import sandbox
from tap_fullstory.sandbox import Bundle, Fault, GeneratedEvents, Sandbox
from tap_fullstory.sandbox.bundles import write_events

OUT = Path(__file__).parent / "out"
START = 1_780_272_000  # 2026-06-01T00:00:00Z
STOP = START + 24 * 60 * 60
NETWORK = Fault("slow", endpoint="get", rate=25e6, times=None)  # 200 Mbit/s


class _Counted:
    """Events on their way into a file, counted."""

    def __init__(self, events: GeneratedEvents) -> None:
        self._events = events
        self.events = self.with_custom_vars = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for event in self._events:
            self.events += 1
            self.with_custom_vars += any(key[:4] in ("evt_", "user", "page") for key in event)
            yield event


def bundle(events: int, layout: str, seed: int) -> dict[str, Any]:
    """The bundle's file and facts, made if no earlier run has made the same one."""
    facts = OUT / f"{layout}-{events}-{seed}-{_generator_version()}.json"
    if facts.exists():
        return json.loads(facts.read_text())
    for older in OUT.glob(f"{layout}-{events}-{seed}-*"):
        older.unlink()
    print(f"making a bundle of {events:,} events, {layout}", file=sys.stderr, flush=True)
    path = facts.with_suffix(".json.gz")
    counted = _Counted(GeneratedEvents(START, STOP, events, seed))
    with path.open("wb") as file:
        write_events(counted, file, layout)
    found = {
        "path": str(path),
        "layout": layout,
        "events": counted.events,
        "with_custom_vars": counted.with_custom_vars,
        "packed": path.stat().st_size,
        "unpacked": _unpacked_size(path),
    }
    facts.write_text(json.dumps(found))  # last: it says that the bundle is whole
    return found


def _unpacked_size(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(-4, 2)
        # Modulo 4 GiB, which is three million events.
        return int.from_bytes(file.read(), "little")


def _generator_version() -> str:
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(Path(sandbox.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Takes `EVENTS:LAYOUT:SEED` for each bundle, and prints a JSON list of their facts, each with
    the config of a tap that finds this bundle alone, and another one's over a slower network.
    """
    OUT.mkdir(exist_ok=True)
    with ExitStack() as stack:
        served = []
        for wanted in sys.argv[1:]:
            events, layout, seed = wanted.split(":")
            facts = bundle(int(events), layout, int(seed))
            body = Bundle(f"{START}48", START, STOP, Path(facts["path"]))
            near, far = (stack.enter_context(Sandbox([body])) for _ in range(2))
            far.fault(NETWORK)
            served.append({**facts, "config": near.config(), "far_config": far.config()})
        print(json.dumps(served), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
