"""The catalog: what the streams hold, and which of it a user wants.

Selection follows the Singer conventions: `inclusion: automatic` is always in, `selected` decides
elsewhere, and `selected-by-default` where `selected` is absent. `selected` may also stand inside
the schema, as in the properties files of the first Singer taps.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from singer import metadata

from tap_fullstory.columns import ValueType, value_type
from tap_fullstory.config import Config
from tap_fullstory.errors import UsageError
from tap_fullstory.streams import CUSTOM_VARS as CUSTOM_VARS
from tap_fullstory.streams import EVENTS, STREAMS, Stream, stream_named

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

    `row` is the stream, `stream` its name in messages. `columns` are the selected properties by
    name, in the catalog's order, without EventDigest and the stream's overflow; `custom_vars` tells
    whether that (CustomVars, or extra) is selected. `dropped` are the names that the catalog lists
    and deselects. `schema` is what the SCHEMA message carries.
    """

    stream: str
    columns: dict[str, ValueType]
    dropped: frozenset[str]
    custom_vars: bool
    schema: dict[str, Any]
    key_properties: list[str]
    row: Stream = EVENTS


def discover(config: Config | None = None) -> dict[str, Any]:
    """The catalog, all of it static: FullStory documents the fields and sends those it has.

    `config` matters for the settings that change a record's form; None stands for the defaults.
    """
    return {"streams": [_entry(stream, config) for stream in STREAMS]}


def select(catalog: Any, config: Config) -> list[Selection]:
    """The streams that `catalog`, a decoded catalog file, selects.

    Raises UsageError if it is no catalog, or selects a stream that this tap does not have.
    """
    try:
        entries = list(_selected_entries(catalog))
        unknown = [name for name, _, _ in entries if stream_named(name) is None]
        if unknown:
            raise UsageError(
                f"The catalog selects {', '.join(unknown)}, which this tap does not have. "
                "Make a new catalog with --discover and select from it."
            )
        rows = [(stream_named(name), entry, choices) for name, entry, choices in entries]
        return [_selection(row, entry, choices, config) for row, entry, choices in rows if row]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            "The catalog cannot be used: it does not have the form that --discover prints "
            f"({type(error).__name__}). Make a new one with --discover and select from it."
        ) from error


def is_custom(name: str) -> bool:
    """Whether FullStory's naming makes `name` a custom variable."""
    return name.startswith(CUSTOM_PREFIXES)


def _entry(stream: Stream, config: Config | None) -> dict[str, Any]:
    schema = _schema(stream, config)
    keys = _keys(stream, config)
    entries = metadata.to_map(
        metadata.get_standard_metadata(
            schema=schema,
            key_properties=keys,
            valid_replication_keys=[stream.replication_key] if stream.replication_key else None,
            replication_method=stream.replication_method,
        )
    )
    for breadcrumb in entries:
        by_default = stream.selected_by_default or breadcrumb != ()
        metadata.write(entries, breadcrumb, "selected-by-default", by_default)
    return {
        "tap_stream_id": stream.name,
        "stream": stream.name,
        "key_properties": keys,
        "schema": schema,
        "metadata": metadata.to_list(entries),
    }


def _keys(stream: Stream, config: Config | None) -> list[str]:
    if stream is EVENTS and config is not None and config.event_digest:
        return [EVENT_DIGEST]
    return list(stream.key_properties)


def _schema(stream: Stream, config: Config | None) -> dict[str, Any]:
    text = files("tap_fullstory").joinpath(f"schemas/{stream.name}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    properties = schema["properties"]
    if config is not None and CUSTOM_VARS in properties:
        properties[CUSTOM_VARS] = _custom_vars_schema(properties[CUSTOM_VARS], config)
    if EVENT_DIGEST in _keys(stream, config):
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


def _column(declared: ValueType, own: dict[str, Any] | None) -> ValueType:
    """Return what a column takes: one of our numbers or booleans that a catalog declares as string
    is one, since people do that to ids that are too long for their target.
    """
    if own is None or "string" not in declared.names or declared.date_time:
        return declared
    as_text = not value_type(own).names.isdisjoint(("number", "integer", "boolean"))
    return replace(declared, as_text=as_text)


def _selection(
    row: Stream, entry: dict[str, Any], choices: dict[Any, Any], config: Config
) -> Selection:
    own = _schema(row, config)["properties"]
    keys = _keys(row, config)
    # A key is what it is, whatever an edited catalog says of it or leaves out.
    listed: dict[str, Any] = copy.deepcopy(entry["schema"]["properties"])
    listed.update({key: own[key] for key in keys})
    columns: dict[str, ValueType] = {}
    dropped: set[str] = set()
    properties: dict[str, Any] = {}
    overflow = True
    for name, schema in listed.items():
        choice = name in keys or _choice(choices.get(("properties", name), {}), schema)
        if name == row.overflow:
            overflow = choice is not False
        elif name == EVENT_DIGEST and row is EVENTS:
            continue
        elif choice or (choice is None and not (row.overflow == CUSTOM_VARS and is_custom(name))):
            columns[name] = _column(value_type(schema), own.get(name))
            properties[name] = {
                key: value for key, value in schema.items() if key not in ("selected", "inclusion")
            }
        elif choice is False:
            dropped.add(name)
    if overflow:
        properties[row.overflow] = own[row.overflow]
    if EVENT_DIGEST in keys:
        properties[EVENT_DIGEST] = own[EVENT_DIGEST]
    return Selection(
        stream=entry.get("stream") or row.name,
        columns=columns,
        dropped=frozenset(dropped),
        custom_vars=overflow,
        schema={"type": "object", "properties": properties},
        key_properties=keys,
        row=row,
    )
