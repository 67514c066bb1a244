"""The catalog that --discover prints: what each stream holds, its key, and what the config makes of
its fields.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from singer import metadata

from tap_fullstory.added_columns import added_columns, with_segment
from tap_fullstory.columns import (
    PERSONAL_DATA,
    is_custom,
    kind_of,
    marked_members,
    personal_data,
)
from tap_fullstory.errors import UsageError
from tap_fullstory.fields import Fate, FieldRules, Pattern, field_patterns, with_format
from tap_fullstory.meltano import NO_MELTANO, MeltanoRules
from tap_fullstory.settings import Config
from tap_fullstory.streams import CUSTOM_VARS, EVENTS, STREAMS, Stream

# Keys of a schema file that are for the documents.
FOR_DOCUMENTS = ("x-subject", "x-api")
EVENT_DIGEST = "EventDigest"
EVENT_TYPE = "EventType"

_EVENT_DIGEST_SCHEMA = {
    "type": ["string"],
    "description": "BLAKE2b-128, as 32 hexadecimal digits, of the event as FullStory sent it, "
    "without the whitespace between its tokens; keyed with hash_key where the config excludes or "
    "hashes fields. Equal events have equal digests; an event that "
    "FullStory corrects later has another one.",
}


def discover(config: Config | None = None, meltano: MeltanoRules = NO_MELTANO) -> dict[str, Any]:
    """Return the catalog, all of it static: FullStory documents the fields and sends those it has.

    `config` matters for the settings that change a record's form; None means the defaults.
    """
    return {"streams": [_entry(stream, config, meltano) for stream in STREAMS]}


def _entry(stream: Stream, config: Config | None, meltano: MeltanoRules) -> dict[str, Any]:
    schema = schema_of(stream, config, meltano)
    keys = keys_of(stream, config)
    if config is not None:
        rules = rules_of(stream, stream.name, config, check=stream.selected_by_default)
        schema["properties"] = rules.schema(schema["properties"])
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
        if breadcrumb and (personal := personal_data(stream, breadcrumb[-1])) is not None:
            metadata.write(entries, breadcrumb, PERSONAL_DATA, personal)
    for path, personal in marked_members(stream):
        parent, member = path.split(".")
        if member in schema["properties"].get(parent, {}).get("properties", {}):
            breadcrumb = ("properties", parent, "properties", member)
            metadata.write(entries, breadcrumb, PERSONAL_DATA, personal)
    return {
        "tap_stream_id": stream.name,
        "stream": stream.name,
        "key_properties": keys,
        "schema": schema,
        "metadata": metadata.to_list(entries),
    }


def rules_of(
    stream: Stream,
    renamed: str,
    config: Config,
    deselected: tuple[Pattern, ...] = (),
    *,
    check: bool = True,
) -> FieldRules:
    """Return what the config makes of a stream's fields, and what is `deselected` beside it. With
    `check`, raises UsageError if the config cannot be followed.
    """
    keys = keys_of(stream, config)
    patterns = field_patterns(config.exclude_fields, config.hash_fields, stream) + deselected
    is_variable = is_custom if stream.overflow == CUSTOM_VARS else _never
    documented = [one for one in schema_of(stream, config)["properties"] if not is_variable(one)]
    rules = FieldRules(
        (stream.name, renamed), patterns, config.hash_key or "", keys, stream.overflow, documented
    )
    needed = dict.fromkeys(keys, "part of the stream's key")
    needed |= {stream.replication_key: "its replication key"} if stream.replication_key else {}
    for name, why in needed.items() if check else ():
        for pattern in rules.matching(name):
            if pattern in deselected:
                continue
            # A hash identifies a row as well as the value does, but is neither a date nor a digest.
            if pattern.fate is Fate.EXCLUDED or name in (stream.replication_key, EVENT_DIGEST):
                instead = (
                    "Use a pattern that does not match it, hash it with hash_fields instead,"
                    if pattern.fate is Fate.EXCLUDED and name in keys and name != EVENT_DIGEST
                    else "Use a pattern that does not match it,"
                )
                raise UsageError(
                    f"Config key {pattern.setting}: {pattern.text!r} matches {name} of "
                    f"{stream.name}, {why}, which must be written as it is. {instead} or deselect "
                    "the stream."
                )
    if check and stream.overflow and rules.fate(stream.overflow) is Fate.HASHED:
        raise UsageError(
            f"Config key hash_fields: {stream.overflow} of {stream.name} cannot be hashed as a "
            "whole. Name the variables in it, such as user_*, or exclude it."
        )
    if check and config.event_types and rules.fate(EVENT_TYPE) is Fate.EXCLUDED:
        raise UsageError(
            f"Config key exclude_fields: it matches {EVENT_TYPE}, by which event_types chooses "
            "events. Take one of the two out of the config."
        )
    return rules


def _never(_: str) -> bool:
    return False


def keys_of(stream: Stream, config: Config | None) -> list[str]:
    """Return the names of a stream's key properties; none if its rows have no key."""
    if stream is EVENTS and config is not None and config.event_digest:
        return with_segment([EVENT_DIGEST], stream, config)
    return with_segment(list(stream.key_properties), stream, config)


def schema_of(
    stream: Stream, config: Config | None, meltano: MeltanoRules = NO_MELTANO
) -> dict[str, Any]:
    """Return the schema of a stream's rows with every column that the config can have."""
    text = files("tap_fullstory").joinpath(f"schemas/{stream.name}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    for column in schema["properties"].values():
        for key in FOR_DOCUMENTS:
            column.pop(key, None)
    properties = schema["properties"] = with_format(schema["properties"], stream, config)
    if config is not None and CUSTOM_VARS in properties:
        properties[CUSTOM_VARS]["type"] = ["null", config.custom_vars_format]
    if CUSTOM_VARS in properties:
        custom_vars = properties.pop(CUSTOM_VARS)
        properties.update(_custom_columns(stream, config, meltano))
        properties[CUSTOM_VARS] = custom_vars
    if EVENT_DIGEST in keys_of(stream, config):
        properties[EVENT_DIGEST] = dict(_EVENT_DIGEST_SCHEMA)
    properties.update(added_columns(stream, config))
    return schema


def _custom_columns(stream: Stream, config: Config | None, meltano: MeltanoRules) -> dict[str, Any]:
    """Return the properties of the custom variables that are columns in every run."""
    sources = [("select of the Meltano project", meltano.columns(stream.name))]
    if config is not None:
        sources.append(("custom_columns in the config", dict(config.custom_columns)))
    return {
        name: {**schema, "description": f"Custom {kind_of(name)} variable, a column by {where}."}
        for where, columns in sources
        for name, schema in columns.items()
        # Individuals have the variables of users alone.
        if stream is EVENTS or kind_of(name) == "user"
    }
