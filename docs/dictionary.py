"""The data dictionary of docs/columns.md: every column of events, by subject.

Type and meaning come from the schema, the example from the sandbox's events. Which API fills a
column follows FullStory's dictionary of export fields
(developer.fullstory.com/server/v1/segments/export-fields/) and the fields that hauser read from
bundles (github.com/fullstorydev/hauser, warehouse/schema.go before commit d83a97b8).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tap_fullstory.catalog import discover
from tap_fullstory.columns import personal_data
from tap_fullstory.sandbox import EXAMPLE_USER_ID, generate_events
from tap_fullstory.streams import EVENTS

UNTIL = 1_780_790_400  # 2026-06-07T00:00:00Z
DAY = 24 * 60 * 60
MAX_EXAMPLE = 36  # characters

SUBJECTS = {
    "Ids": "IndvId UserId SessionId PageId",
    "The person": "UserAppKey UserDisplayName UserEmail UserCreated",
    "The event: when and what": """
        EventStart EventType EventSubType EventCustomName EventPageOffset EventSessionOffset
        SessionStart""",
    "The event: its target": """
        EventTargetText EventTargetSelector EventTargetSelectorTok EventDuration
        EventSecondaryDuration""",
    "Frustration and errors": """
        EventModFrustrated EventModDead EventModError EventModSuspicious EventVarErrorKind
        EventVarFields EventWebSourceFileUrl EventMobileSourceFile""",
    "The page": """
        PageUrl PageName PageRefererUrl PageStart PageDuration PageActiveDuration PageNumEvents
        PageNumDerivedEvents PageNumInfos PageNumWarnings PageNumErrors PageMaxScrollDepthPercent
        PageClusterId""",
    "The visitor's place, browser and screen": """
        PageIp PageLatLong PageUserAgent PageAgent PageBrowser PageBrowserVersion PageDevice
        PagePlatform PageOperatingSystem PageScreenWidth PageScreenHeight PageViewportWidth
        PageViewportHeight""",
    "How fast it was": """
        LoadDomContentTime LoadFirstPaintTime LoadLargestPaintTime LoadEventTime
        EventFirstInputDelay EventCumulativeLayoutShift""",
    "Requests of the page": "ReqUrl ReqMethod ReqStatus",
    "The mobile app": """
        AppName AppPackageName AppVersion AppViewName AppDeviceVendor AppDeviceModel
        AppOsVersion""",
    "Everything else": "CustomVars",
}

BUNDLES_ONLY = {"PageAgent", "EventTargetSelectorTok"}
EXPORTS_ONLY = {"PageUserAgent", "EventTargetSelector"}
SEEN_IN_BUNDLES = set(
    """
    IndvId UserId SessionId PageId UserAppKey UserDisplayName UserEmail EventStart EventType
    EventCustomName EventTargetText EventModFrustrated EventModDead EventModError
    EventModSuspicious PageDuration PageActiveDuration PageUrl PageRefererUrl PageIp PageLatLong
    PageBrowser PageDevice PageOperatingSystem PageNumInfos PageNumWarnings PageNumErrors
    PageClusterId LoadDomContentTime LoadEventTime LoadFirstPaintTime CustomVars
    """.split()
)


def sections() -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each subject with the rows of its table: column, type, example, API, personal, meaning.

    Raises ValueError unless each column of the schema has exactly one subject.
    """
    schema = discover()["streams"][0]["schema"]["properties"]
    subjects = {subject: names.split() for subject, names in SUBJECTS.items()}
    listed = [name for names in subjects.values() for name in names]
    if sorted(listed) != sorted(schema):
        raise ValueError(f"SUBJECTS differs from the schema: {set(listed) ^ set(schema)}")
    examples = _examples(schema)
    for subject, names in subjects.items():
        yield subject, [_row(name, schema[name], examples[name]) for name in names]


def _row(name: str, column: dict[str, Any], example: str) -> list[str]:
    types = [kind for kind in column["type"] if kind != "null"]
    return [
        f"`{name}`",
        column.get("format", ", ".join(types)),
        f"`{example}`",
        _apis(name),
        personal_data(EVENTS, name) or "no",
        column["description"],
    ]


def _apis(name: str) -> str:
    if name in BUNDLES_ONLY:
        return "bundles"
    if name in EXPORTS_ONLY:
        return "exports"
    return "both" if name in SEEN_IN_BUNDLES else "exports ¹"


def _examples(schema: dict[str, Any]) -> dict[str, str]:
    """Return for each column the first value that is there: of the example's person, if any."""
    days = ((UNTIL - (6 - number) * DAY, number) for number in range(6))
    events = [event for start, number in days for event in _day(start, number)]
    events.sort(key=lambda event: event["UserId"] != EXAMPLE_USER_ID)
    examples: dict[str, str] = {}
    for event in events:
        custom = {name: value for name, value in event.items() if name not in schema}
        for name, value in {**event, **({"CustomVars": custom} if custom else {})}.items():
            if name in schema and value not in ("", 0):
                examples.setdefault(name, _shortened(value))
    return examples


def _day(start: int, number: int) -> Iterator[dict[str, Any]]:
    return generate_events(start, start + DAY, 24, number=number)


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_EXAMPLE else text[: MAX_EXAMPLE - 1] + "…"
