"""What a segment of the sandbox matches, with the scopes and ranges of "Create Segment Export".

`rageClicks` matches clicks of somebody who is frustrated, a segment that the list of segments has
(`seg00000` and so on) the events of one type. All events match any other id, `everyone` above all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from .bundles import Bundle
from .exported import events_between

Event = Mapping[str, Any]

_TYPES = ("click", "navigate", "load", "custom", "change")


def _nothing(event: Event) -> Hashable:
    return None


def _always(event: Event) -> bool:
    return True


# What all events of a scope have in common with one that matches.
SCOPES: Mapping[str, Callable[[Event], Hashable]] = {
    "SCOPE_EVENTS": _nothing,
    "SCOPE_PAGES": lambda event: (event.get("UserId"), event.get("SessionId"), event.get("PageId")),
    "SCOPE_SESSIONS": lambda event: (event.get("UserId"), event.get("SessionId")),
    "SCOPE_INDIVIDUALS": lambda event: event.get("IndvId"),
}


def rule_of(segment: str) -> Callable[[Event], bool]:
    """What tells whether an event matches."""
    if segment == "rageClicks":
        return lambda event: event.get("EventModFrustrated", 0) > 0
    found = re.fullmatch(r"seg(\d{5})", segment)
    if found is None:
        return _always
    wanted = _TYPES[int(found[1]) % len(_TYPES)]
    return lambda event: event.get("EventType") == wanted


def matching(
    bundles: Iterable[Bundle],
    segment: str,
    scope: str,
    window: tuple[datetime, datetime],
    within: tuple[datetime, datetime],
) -> Iterator[Event]:
    """The events of a window that an export of a segment has, which is to match within a range."""
    rule, of_scope, known = rule_of(segment), SCOPES[scope], list(bundles)
    if scope == "SCOPE_EVENTS":
        both = max(window[0], within[0]), min(window[1], within[1])
        yield from filter(rule, events_between(known, *both))
        return
    matches = {of_scope(event) for event in events_between(known, *within) if rule(event)}
    for event in events_between(known, *window):
        if of_scope(event) in matches:
            yield event
