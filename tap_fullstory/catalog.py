"""The catalog: what the streams hold, and which of it a user wants.

Selection follows the Singer conventions: `inclusion: automatic` is always in, `selected` decides
elsewhere, and `selected-by-default` where `selected` is absent. `selected` may also stand inside
the schema, as in the properties files of the first Singer taps.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from singer import metadata

from tap_fullstory.columns import ValueType, value_type
from tap_fullstory.config import Config
from tap_fullstory.errors import UsageError

EVENTS = "events"
CUSTOM_VARS = "CustomVars"
EVENT_DIGEST = "EventDigest"
# developer.fullstory.com, "Create Segment Export": user_ and evt_; page_ is in FullStory's own
# exporter (github.com/fullstorydev/hauser, warehouse/schema.go, wildcardFields).
CUSTOM_PREFIXES = ("user_", "evt_", "page_")

_EVENT_DIGEST_SCHEMA = {
    "type": ["string"],
    "description": "BLAKE2b-128, as 32 hexadecimal digits, of the event as FullStory sent it, "
    "without the blanks between its tokens. Equal events have equal digests; an event that "
    "FullStory corrects later has another one.",
}


@dataclass(frozen=True)
class Selection:
    """One selected stream: what its records hold.

    `columns` are the selected properties by name, in the catalog's order, without CustomVars and
    EventDigest. `dropped` are the names that the catalog lists and deselects. `schema` is what the
    SCHEMA message carries.
    """

    stream: str
    columns: dict[str, ValueType]
    dropped: frozenset[str]
    custom_vars: bool
    schema: dict[str, Any]
    key_properties: list[str]


def discover(config: Config | None = None) -> dict[str, Any]:
    """The catalog, all of it static: FullStory documents the fields and sends those it has.

    `config` matters for the settings that change a record's form; None stands for the defaults.
    """
    schema = _events_schema(config)
    keys = [EVENT_DIGEST] if EVENT_DIGEST in schema["properties"] else []
    entries = metadata.to_map(
        metadata.get_standard_metadata(
            schema=schema,
            key_properties=keys,
            valid_replication_keys=["EventStart"],
            replication_method="INCREMENTAL",
        )
    )
    for breadcrumb in entries:
        metadata.write(entries, breadcrumb, "selected-by-default", True)
    return {
        "streams": [
            {
                "tap_stream_id": EVENTS,
                "stream": EVENTS,
                "key_properties": keys,
                "schema": schema,
                "metadata": metadata.to_list(entries),
            }
        ]
    }


def select(catalog: Any, config: Config) -> list[Selection]:
    """The streams that `catalog`, a decoded catalog file, selects.

    Raises UsageError if it is no catalog, or selects a stream that this tap does not have.
    """
    try:
        entries = list(_selected_entries(catalog))
        unknown = [name for name, _, _ in entries if name != EVENTS]
        if unknown:
            raise UsageError(
                f"The catalog selects {', '.join(unknown)}, which this tap does not have. "
                "Make a new catalog with --discover and select from it."
            )
        return [_selection(entry, choices, config) for _, entry, choices in entries]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            "The catalog cannot be used: it does not have the form that --discover prints "
            f"({type(error).__name__}). Make a new one with --discover and select from it."
        ) from error


def is_custom(name: str) -> bool:
    """Whether FullStory's naming makes `name` a custom variable."""
    return name.startswith(CUSTOM_PREFIXES)


def _events_schema(config: Config | None) -> dict[str, Any]:
    text = files("tap_fullstory").joinpath("schemas/events.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    if config is not None:
        properties = schema["properties"]
        properties[CUSTOM_VARS] = _custom_vars_schema(properties[CUSTOM_VARS], config)
        if config.event_digest:
            properties[EVENT_DIGEST] = dict(_EVENT_DIGEST_SCHEMA)
    return schema


def _custom_vars_schema(listed: dict[str, Any], config: Config) -> dict[str, Any]:
    return {**listed, "type": ["null", config.custom_vars_format]}


def _selected_entries(catalog: Any) -> Iterator[tuple[str, dict[str, Any], dict[Any, Any]]]:
    if not isinstance(catalog["streams"], list):
        raise TypeError
    for entry in catalog["streams"]:
        choices = metadata.to_map(entry.get("metadata") or [])
        name = entry.get("tap_stream_id") or entry["stream"]
        if _choice(choices.get((), {}), {**entry["schema"], **_own_selected(entry)}):
            yield name, entry, choices


def _own_selected(entry: dict[str, Any]) -> dict[str, Any]:
    return {"selected": entry["selected"]} if "selected" in entry else {}


def _choice(choices: dict[str, Any], schema: dict[str, Any]) -> bool | None:
    """What the catalog says of a stream or property: wanted, not wanted, or nothing (None)."""
    inclusion = choices.get("inclusion", schema.get("inclusion"))
    if inclusion in ("automatic", "unsupported"):
        return bool(inclusion == "automatic")
    for said in (
        choices.get("selected"),
        schema.get("selected"),
        choices.get("selected-by-default"),
    ):
        if said is not None:
            return bool(said)
    return None


def _selection(entry: dict[str, Any], choices: dict[Any, Any], config: Config) -> Selection:
    listed: dict[str, Any] = copy.deepcopy(entry["schema"]["properties"])
    columns: dict[str, ValueType] = {}
    dropped: set[str] = set()
    properties: dict[str, Any] = {}
    custom_vars = True
    for name, schema in listed.items():
        choice = _choice(choices.get(("properties", name), {}), schema)
        if name == CUSTOM_VARS:
            custom_vars = choice is not False
        elif name == EVENT_DIGEST:
            continue
        elif choice or (choice is None and not is_custom(name)):
            columns[name] = value_type(schema)
            properties[name] = {
                key: value for key, value in schema.items() if key not in ("selected", "inclusion")
            }
        elif choice is False:
            dropped.add(name)
    own = _events_schema(config)["properties"]
    if custom_vars:
        properties[CUSTOM_VARS] = own[CUSTOM_VARS]
    if config.event_digest:
        properties[EVENT_DIGEST] = own[EVENT_DIGEST]
    return Selection(
        stream=entry.get("stream") or EVENTS,
        columns=columns,
        dropped=frozenset(dropped),
        custom_vars=custom_vars,
        schema={"type": "object", "properties": properties},
        key_properties=[EVENT_DIGEST] if config.event_digest else [],
    )
