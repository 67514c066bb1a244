"""What a segment export holds: rows of a window of time, in the form that FullStory gives them.

Fields as in FullStory's dictionary (developer.fullstory.com/server/v1/segments/export-fields/).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from .bundles import Bundle
from .events import Event, GeneratedEvents
from .steps import Fields

WILDCARDS = ("user_*", "evt_*", "page_*")
_PREFIXES = ("user_", "evt_", "page_")
_SELECTOR, _TOKENS = "EventTargetSelector", "EventTargetSelectorTok"


def _documented(stream: str, but: str) -> frozenset[str]:
    """Return the properties of a schema file that exports know."""
    text = files("tap_fullstory").joinpath(f"schemas/{stream}.json").read_text("utf-8")
    return frozenset(json.loads(text)["properties"]) - {"CustomVars", but}


EVENT_FIELDS = _documented("events", but="PageAgent")
INDIVIDUAL_FIELDS = _documented("individuals", but="")


def is_custom(name: str) -> bool:
    return name.startswith(_PREFIXES)


def as_segment_export(event: Mapping[str, Any], fields: Collection[str] = ()) -> Event:
    """An event of a bundle as an export has it: under the newer names, and restricted to `fields`
    if there are any. The older name of the selector is still there for those who ask for it.
    """
    row = {name: value for name, value in event.items() if name != "PageAgent"}
    if "PageAgent" in event:
        row.setdefault("PageUserAgent", event["PageAgent"])
    if not fields and _SELECTOR in row:
        row.pop(_TOKENS, None)
    return row if not fields else _restricted(row, fields)


def events_between(
    bundles: Iterable[Bundle], start: datetime, end: datetime
) -> Iterator[Mapping[str, Any]]:
    """The events from `start` (included) to `end` (excluded), by their EventStart; one that has
    none counts as at its bundle's start. Raises ValueError or OSError if a bundle has no events
    that can be told apart.
    """
    for bundle in bundles:
        began = _moment_of(bundle.start)
        apart = began >= end or _moment_of(bundle.stop) <= start
        # Generated events keep to their bundle's period; hand-made ones may lie anywhere.
        if not (apart and isinstance(bundle.body, GeneratedEvents)):
            for event in _events_of(bundle):
                if start <= (_event_start(event) or began) < end:
                    yield event


def individuals_among(
    bundles: list[Bundle], events: Iterable[Mapping[str, Any]], fields: Collection[str] = ()
) -> Iterator[Fields]:
    """One row for each person with one of these events; what is counted is lifetime."""
    active = {event.get("IndvId") for event in events}
    stats: dict[Any, PersonStats] = {}
    ever = datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)
    for event in events_between(bundles, *ever):
        if event.get("IndvId") in active:
            stats.setdefault(event.get("IndvId"), PersonStats()).add(event)
    for person in stats.values():
        yield _restricted(person.row(), fields) if fields else person.row()


class PersonStats:
    """What the events tell about one person."""

    def __init__(self) -> None:
        self.last: Mapping[str, Any] = {}
        self.sessions: dict[Any, list[Mapping[str, Any]]] = {}

    def add(self, event: Mapping[str, Any]) -> None:
        if event.get("EventStart", "") >= self.last.get("EventStart", ""):
            self.last = event
        session = event.get("UserId"), event.get("SessionId")
        self.sessions.setdefault(session, []).append(event)

    def row(self) -> Fields:
        last = self.last
        lengths = {key: _seconds(events) for key, events in self.sessions.items()}
        last_session = last.get("UserId"), last.get("SessionId")
        in_last, total = self.sessions[last_session], sum(lengths.values())
        everything = [event for events in self.sessions.values() for event in events]
        found = {
            "IndvId": last.get("IndvId"),
            "Created": min(event.get("SessionStart", "") for event in everything),
            "Uid": last.get("UserAppKey"),
            "DisplayName": last.get("UserDisplayName"),
            "Email": last.get("UserEmail"),
            "NumSessions": len(lengths),
            "NumPages": _pages(everything),
            "NumEvents": len(everything),
            "TotalSec": total,
            "ActiveSec": total * 5 // 7,
            "AvgSessionSec": _mean(total, len(lengths)),
            "AvgSessionActiveSec": _mean(total * 5 // 7, len(lengths)),
            "MaxSessionSec": max(lengths.values()),
            "LastSessionNumPages": _pages(in_last),
            "LastSessionNumEvents": len(in_last),
            "LastSessionSec": lengths[last_session],
            "LastSessionActiveSec": lengths[last_session] * 5 // 7,
            "LastSessionStart": last.get("SessionStart"),
            "LastPage": last.get("PageUrl"),
            "LastIp": last.get("PageIp"),
            "LastLatLong": last.get("PageLatLong"),
            "LastEventStart": last.get("EventStart"),
            "LastBrowser": last.get("PageBrowser"),
            "LastDevice": last.get("PageDevice"),
            "LastPlatform": last.get("PagePlatform"),
            "LastOperatingSystem": last.get("PageOperatingSystem"),
        }
        custom = {name: value for name, value in last.items() if name.startswith("user_")}
        # What is not there is an absent key, never null.
        return {**{name: value for name, value in found.items() if value is not None}, **custom}


def _restricted(row: Mapping[str, Any], fields: Collection[str]) -> Fields:
    prefixes = tuple(name[:-1] for name in fields if name in WILDCARDS)
    return {
        name: value
        for name, value in row.items()
        if name in fields or (prefixes and name.startswith(prefixes))
    }


def _events_of(bundle: Bundle) -> Iterable[Mapping[str, Any]]:
    body = bundle.body.read_bytes() if isinstance(bundle.body, Path) else bundle.body
    if not isinstance(body, bytes):
        return body
    events = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError("no array of events")
    return events


def _event_start(event: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(event["EventStart"].replace("Z", "+00:00"))
    except (KeyError, ValueError, AttributeError):
        return None


def _moment_of(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _seconds(events: list[Mapping[str, Any]]) -> int:
    offsets = [event.get("EventSessionOffset", 0) for event in events]
    return int(max(offsets) - min(offsets)) // 1000


def _pages(events: list[Mapping[str, Any]]) -> int:
    return len({(event.get("SessionId"), event.get("PageId")) for event in events})


def _mean(total: int, count: int) -> int | float:
    return total // count if total % count == 0 else round(total / count, 1)
