"""The pipelines that are run over bundles, and their results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from measure import Command, Cost, Failed, Watched, watch

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench/out"
PUBLISHED = ROOT / ".venvs/tap-fullstory-1.0.4/bin/python"
# Its address stands in the code, not in the config.
START_PUBLISHED = "import tap_fullstory as t; t.BASE_URL = {url!r} + '/api/v1/export/'; t.main()"

BASELINE = "gzip -dc"
TAP = "tap"
NOTHING_COMPILED = "tap, nothing compiled"
SIX_ALONE = "tap, 6 columns"
SIX_WITH_CUSTOM = "tap, 6 columns and CustomVars"
THREE_PROMOTED = "tap, 3 custom variables as columns"
HASHED = "tap, 3 columns hashed and 2 patterns excluded"
FILTERED = "tap, without events of one type"
JQ = "gzip -dc, jq -c '.[]'"
TAP_1 = "tap-fullstory 1.0.4"

PURE_PYTHON = "TAP_FULLSTORY_PURE_PYTHON=1"
SIX = {"IndvId", "SessionId", "EventStart", "EventType", "EventTargetText", "PageUrl"}
PROMOTED = ("evt_product_id_str", "page_category_str", "user_plan_str")

PRIVATE = {
    "exclude_fields": ["PageIp", "user_phone_*"],
    "hash_fields": ["IndvId", "UserEmail", "UserDisplayName"],
    "hash_key": "0123456789abcdef",
}

Bundle = dict[str, Any]  # what bundles.py tells of it
_numbers = count()


@dataclass
class Case:
    """A pipeline that reads a bundle, and is timed with `cat` behind it."""

    name: str
    bundle: Bundle
    commands: tuple[Command, ...]
    watched: Watched | None = None
    costs: list[Cost] = field(default_factory=list)

    @property
    def events(self) -> int:
        return self.bundle["events"]

    @property
    def is_tap(self) -> bool:
        """Whether it writes RECORD messages."""
        return self.name not in (BASELINE, JQ)

    @property
    def walls(self) -> list[float]:
        return [cost.wall for cost in self.costs]

    @property
    def cpus(self) -> list[float]:
        """Of all processes of the pipeline, `cat` among them."""
        return [sum(cost.cpu) for cost in self.costs]

    @property
    def events_a_second(self) -> float:
        return self.events / median(self.walls)

    @property
    def megabytes_a_second(self) -> float:
        return self.bundle["unpacked"] / 1e6 / median(self.walls)


@dataclass(frozen=True)
class Results:
    """All that was measured. `first_records` are seconds by number of events, over loopback and at
    25 MB/s; `share` the tap's of the CPU of `tap | target`, run by run; `starts` and
    `python_starts` are seconds.
    """

    cases: list[Case]
    growth: list[Case]
    first_records: dict[int, tuple[float, float]]
    share: list[float]
    starts: list[float]
    python_starts: list[float]

    def case(self, name: str, layout: str = "lines") -> Case | None:
        for case in self.cases:
            if (case.name, case.bundle["layout"]) == (name, layout):
                return case
        return None

    def baseline(self, of: Case) -> Case:
        """The same bundle's `gzip -dc`, of the same rounds."""
        timed = self.growth if any(case is of for case in self.growth) else self.cases
        same = (case for case in timed if case.bundle is of.bundle)
        return next(case for case in same if case.name == BASELINE)

    def ratios(self, case: Case, what: str) -> list[float]:
        """`walls` or `cpus` as multiples of the baseline's, round by round."""
        baseline = self.baseline(case)
        return [a / b for a, b in zip(getattr(case, what), getattr(baseline, what), strict=True)]


def baseline(bundle: Bundle) -> Case:
    return Case(BASELINE, bundle, (["gzip", "-dc", bundle["path"]],))


def of_the_tap(tap: str, lines: Bundle, oneline: Bundle, indented: Bundle) -> list[Case]:
    """The tap in all ways that the goals speak of, with a baseline for each bundle."""
    six, six_with_custom, promoted = _catalogs(tap)
    return [
        baseline(lines),
        Case(TAP, lines, (tap_command(tap, lines),)),
        Case(NOTHING_COMPILED, lines, (["env", PURE_PYTHON, *tap_command(tap, lines)],)),
        Case(SIX_ALONE, lines, (tap_command(tap, lines, catalog=six),)),
        Case(SIX_WITH_CUSTOM, lines, (tap_command(tap, lines, catalog=six_with_custom),)),
        Case(THREE_PROMOTED, lines, (tap_command(tap, lines, catalog=promoted),)),
        Case(HASHED, lines, (tap_command(tap, lines, **PRIVATE),)),
        Case(FILTERED, lines, (tap_command(tap, lines, event_types=["!navigate"]),)),
        baseline(oneline),
        Case(TAP, oneline, (tap_command(tap, oneline),)),
        baseline(indented),
        Case(TAP, indented, (tap_command(tap, indented),)),
    ]


def of_others(small: Bundle) -> list[Case]:
    """What is too slow for a large bundle, or holds all of it in memory."""
    url = small["config"]["data_export_url"]
    # -I: this folder has a tap_fullstory, too.
    start = [str(PUBLISHED), "-I", "-c", START_PUBLISHED.format(url=url), "--config"]
    cases = [baseline(small)]
    if shutil.which("jq"):
        cases.append(Case(JQ, small, (["gzip", "-dc", small["path"]], ["jq", "-c", ".[]"])))
    # Python 3.12 has no place for the urllib3 that it needs.
    if subprocess.run(
        [*start[:2], "-c", "import tap_fullstory"], stderr=subprocess.DEVNULL
    ).returncode:
        print("tap-fullstory 1.0.4 does not run on this Python", file=sys.stderr)
        return cases
    # The config has keys that it does not know, and does not mind.
    return [*cases, Case(TAP_1, small, ([*start, _written("config", small["config"])],))]


def of_growth(tap: str, bundles: list[Bundle]) -> list[Case]:
    """The tap and the baseline over bundles of several sizes."""
    return [
        case
        for bundle in bundles
        for case in (baseline(bundle), Case(TAP, bundle, (tap_command(tap, bundle),)))
    ]


def tap_command(tap: str, bundle: Bundle, catalog: Any = None, **settings: Any) -> Command:
    command = [tap, "--config", _written("config", {**bundle["config"], **settings})]
    return command if catalog is None else [*command, "--catalog", _written("catalog", catalog)]


def check(case: Case) -> None:
    """Run a tap once, look at its memory, and see that it loses no event. Raises Failed."""
    case.watched = watch(*case.commands)
    records = case.watched.records
    if records != case.events if case.name != FILTERED else not 0 < records < case.events:
        raise Failed(f"{case.name}: {records} records of {case.events} events")


def _catalogs(tap: str) -> tuple[Any, Any, Any]:
    """One that selects 6 columns, one that selects CustomVars besides, and one that lists three
    custom variables as columns.
    """

    def discovered() -> tuple[Any, dict[str, Any], list[Any]]:
        catalog = json.loads(subprocess.check_output([tap, "--discover"]))
        stream = next(s for s in catalog["streams"] if s["tap_stream_id"] == "events")
        return catalog, stream["schema"]["properties"], stream["metadata"]

    selections = []
    for wanted in (SIX, SIX | {"CustomVars"}):
        catalog, _, entries = discovered()
        for entry in entries:
            if entry["breadcrumb"]:
                entry["metadata"]["selected"] = entry["breadcrumb"][1] in wanted
        selections.append(catalog)
    promoted, properties, entries = discovered()
    for name in PROMOTED:
        properties[name] = {"type": ["null", "string"]}
        entries.append({"breadcrumb": ["properties", name], "metadata": {"selected": True}})
    return selections[0], selections[1], promoted


def _written(name: str, content: Any) -> str:
    path = OUT / f"{name}-{next(_numbers)}.json"
    path.write_text(json.dumps(content))
    return str(path)
