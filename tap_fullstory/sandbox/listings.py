"""What the sandbox's account holds besides events and settings: its users and their sessions,
segments, webhooks and operations.

Shapes are those of developer.fullstory.com, "List Users", "List Sessions", "List Segments", "List
Endpoints", "List Event Types", "List Event Subcategories" and "List Operations". A user is a person
of the events: `id` is the IndvId, `uid` the UserAppKey; a session's id is UserId and SessionId.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .bundles import Bundle
from .people import Person
from .steps import Fields

_APP = "https://app.fullstory.com/ui/o-SANDBOX-na1"
_VARIABLE = re.compile(r"user_(.+)_[a-z]+")  # user_NAME_TYPE, as events have it


def user(person: Person, number: int) -> Fields:
    """As "List Users" has it: what an anonymous user lacks is not there at all."""
    known = {"uid": person.app_key, "display_name": person.name, "email": person.email}
    return {
        "id": str(person.indv_id),
        **{name: value for name, value in known.items() if value},
        "is_being_deleted": number == 1,
        "properties": _properties(person),
        "schema": None,
        "type_conflicts": None,
        "app_url": f"{_APP}/segments/everyone/people:search:abc/user/{person.indv_id}",
    }


def _properties(person: Person) -> Fields:
    """A person's custom variables by the names that the application gave them."""
    properties: Fields = {}
    for variable, value in person.variables.items():
        match = _VARIABLE.fullmatch(variable)
        *outer, name = (match[1] if match else variable).split(".")
        place = properties
        for part in outer:
            place = place.setdefault(part, {})
        place[name] = value
    return properties


def schema_of(one: Fields) -> Fields:
    """What "List Users" adds with include_schema: types by name, with dots where they nest."""
    types: Fields = {}

    def add(place: Fields, prefix: str) -> None:
        for name, value in place.items():
            if isinstance(value, dict):
                add(value, f"{prefix}{name}.")
            else:
                many = isinstance(value, list)
                kind = type(value[0] if many else value).__name__
                types[f"{prefix}{name}"] = f"{kind}s" if many else kind

    add(one["properties"], "")
    conflicts = {name: [kind, "str"] for name, kind in types.items() if kind == "int"}
    return {
        "schema": {"properties": types},
        "type_conflicts": {"properties": conflicts} if conflicts else None,
    }


def sessions(bundles: Iterable[Bundle]) -> dict[int, list[Fields]]:
    """By UserId, newest first: what the events of `bundles` tell. Bundles that are files have none
    to tell.
    """
    found: dict[tuple[int, int], str] = {}
    for bundle in bundles:
        if not isinstance(bundle.body, (bytes, Path)):
            for event in bundle.body:
                if "SessionStart" in event:
                    found[event["UserId"], event["SessionId"]] = event["SessionStart"]
    of_user: dict[int, list[Fields]] = {}
    newest_first = sorted(found.items(), key=lambda item: item[1], reverse=True)
    for (user_id, session_id), began in newest_first:
        of_user.setdefault(user_id, []).append(
            {
                "id": f"{user_id}:{session_id}",
                "app_url": f"{_APP}/session/{user_id}:{session_id}",
                "created_time": began,
            }
        )
    return of_user


def _segment(number: int) -> Fields:
    return {
        "id": f"seg{number:05d}",
        "name": f"Regulars, branch {number} ☕",
        "creator": "bob@example.com",
        "created": f"2022-03-{number + 1:02d}T14:30:10.631Z",
        "url": f"{_APP}/segments/seg{number:05d}",
    }


# Built-in ones have no date.
SEGMENTS: tuple[Fields, ...] = (
    {"id": "everyone", "name": "Everyone", "creator": "", "url": f"{_APP}/segments/everyone"},
    *(_segment(number) for number in range(24)),
)


def _endpoint(url: str, *event_types: Fields, enabled: bool = True) -> Fields:
    return {
        "id": _opaque(url),
        "created": "2020-03-26T19:16:57.291Z",
        "modified": "2020-04-01T21:46:42.412Z",
        "enabled": enabled,
        "url": url,
        "eventTypes": list(event_types),
    }


def _opaque(text: str) -> str:
    return b64encode(text.encode()).decode()


WEBHOOK_ENDPOINTS: tuple[Fields, ...] = (
    _endpoint("https://hooks.example.com/notes", {"eventName": "note.created"}),
    _endpoint(
        "https://hooks.example.com/orders?shop=1",
        {"eventName": "recording.event.custom", "subcategory": "CgsiCW8tU0FOREJPWA"},
        {"eventName": "note.created"},
    ),
    _endpoint("https://hooks.example.com/old", enabled=False),
)

WEBHOOK_EVENT_TYPES: tuple[Fields, ...] = tuple(
    {"eventName": name, "displayName": shown, "hasSubcategories": subcategories}
    for name, shown, subcategories in (
        ("note.created", "Note Created", False),
        ("segment.trend.alert", "Segment Alert", True),
        ("recording.event.custom", "Custom Event", True),
        ("nativemobile.event.crash", "Native Mobile Crash", False),
        ("app/crash %2F & more", "Crash of an app", True),
    )
)

# As the example of "List Event Subcategories" spells them; an account without segments has none.
WEBHOOK_SUBCATEGORIES: Mapping[str, tuple[Fields, ...]] = {
    "segment.trend.alert": (),
    "recording.event.custom": (
        {"subcategory": "CgsiCW8tU0FOREJPWA", "display_name": "Added Item to Cart"},
        {"subcategory": "VHJhbnNhY3Rpb24gQ29tcGxldGU=", "display_name": ""},
        {"subcategory": "U2F3IEVycm9yIFBvcHVw"},
    ),
    "app/crash %2F & more": (
        {"subcategory": "CgsiCW8tU0FOREJPWA", "display_name": "Crash in the cart 💥"},
    ),
}


def _operation(number: int, kind: str, state: str, **more: Any) -> Fields:
    return {
        "id": _opaque(f"bulk:{5749563331706880 + number}"),
        "type": kind,
        "details": None,
        "results": None,
        "state": state,
        "errorDetails": "",
        "createdAt": f"2026-05-{number + 1:02d}T22:40:52.174736Z",
        "finishedAt": f"2026-05-{number + 1:02d}T22:41:54.473657Z",
        "estimatePctComplete": 100,
        **more,
    }


_RESULTS = {"searchExportId": "YKDYR5ye_GgeKNkI16aQlEb9j7D7Vbwtv9ILHbugP7s"}
OPERATIONS: tuple[Fields, ...] = (
    _operation(
        0,
        "SEARCH_EXPORT",
        "COMPLETED",
        # Nine decimals, as the example of "Get Export Results" has them.
        results={**_RESULTS, "expires": "2026-05-08T10:11:12.345678901Z"},
        step="done",
    ),
    _operation(1, "DELETE_USER", "PENDING", estimatePctComplete=10, finishedAt=""),
    _operation(2, "DELETE_SESSION", "FAILED", errorDetails="no such session", results=""),
    _operation(3, "DELETE_SEGMENT_USERS", "COMPLETED", details="", results=""),
    _operation(4, "DELETE_SEGMENT_SESSIONS", "COMPLETED", details={"segmentId": "seg00003"}),
)
