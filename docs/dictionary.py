"""The data dictionary of docs/columns.md: every column of events, by subject.

Type, meaning, subject and API come from schemas/events.json, the example from the sandbox's events.
Which API fills a column follows FullStory's dictionary of export fields
(developer.fullstory.com/server/v1/segments/export-fields/) and the fields that hauser read from
bundles (github.com/fullstorydev/hauser, warehouse/schema.go before commit d83a97b8).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from tap_fullstory.catalog import discover
from tap_fullstory.columns import personal_data
from tap_fullstory.sandbox import EXAMPLE_USER_ID, generate_events
from tap_fullstory.streams import EVENTS

UNTIL = 1_780_790_400  # 2026-06-07T00:00:00Z
DAY = 24 * 60 * 60
MAX_EXAMPLE = 36  # characters

# In the order of the page.
SUBJECTS = (
    "Ids",
    "The person",
    "The event: when and what",
    "The event: its target",
    "Frustration and errors",
    "The page",
    "The visitor's place, browser and screen",
    "How fast it was",
    "Requests of the page",
    "The mobile app",
    "Everything else",
)
APIS = {
    "bundles": "bundles",
    "exports": "exports",
    "both": "both",
    "exports, bundles unknown": "exports ¹",
}


def sections() -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each subject with the rows of its table: column, type, example, API, personal, meaning.

    Raises ValueError unless each column in schemas/events.json has a subject and an API known here.
    """
    schema = discover()["streams"][0]["schema"]["properties"]
    path = files("tap_fullstory").joinpath("schemas/events.json")
    columns = json.loads(path.read_text("utf-8"))["properties"]
    for name, column in columns.items():
        if column.get("x-subject") not in SUBJECTS or column.get("x-api") not in APIS:
            raise ValueError(
                f"schemas/events.json: {name} needs x-subject, one of {SUBJECTS}, and x-api, one "
                f"of {tuple(APIS)}"
            )
    examples = _examples(schema)
    for subject in SUBJECTS:
        names = [name for name, column in columns.items() if column["x-subject"] == subject]
        yield (
            subject,
            [_row(name, schema[name], APIS[columns[name]["x-api"]], examples) for name in names],
        )


def _row(name: str, column: dict[str, Any], api: str, examples: dict[str, str]) -> list[str]:
    if name not in examples:
        raise ValueError(f"The sandbox's events have no {name}: see tap_fullstory/sandbox/steps.py")
    types = [kind for kind in column["type"] if kind != "null"]
    return [
        f"`{name}`",
        column.get("format", ", ".join(types)),
        f"`{examples[name]}`",
        api,
        personal_data(EVENTS, name) or "no",
        column["description"],
    ]


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
