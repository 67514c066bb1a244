"""The catalog: what the streams hold, and which of it a user wants.

catalog_file.py reads what users give; here it meets what the streams have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from glob import escape
from importlib.resources import files
from typing import Any

from singer import metadata

from tap_fullstory.added_columns import added_columns, chosen_columns, with_segment
from tap_fullstory.catalog_file import (
    MAX_SHOWN,
    Entry,
    as_bool,
    read_entries,
    refuse,
    refuse_repeated,
)
from tap_fullstory.columns import CUSTOM_PREFIXES as CUSTOM_PREFIXES
from tap_fullstory.columns import (
    PERSONAL_DATA,
    ValueType,
    column_kind,
    kind_of,
    marked_members,
    personal_data,
    value_type,
)
from tap_fullstory.columns import is_custom as is_custom
from tap_fullstory.errors import CodedWarning, UsageError
from tap_fullstory.fields import (
    NO_RULES,
    Fate,
    FieldRules,
    Pattern,
    field_patterns,
    formatted,
)
from tap_fullstory.meltano import NO_MELTANO, MeltanoRules
from tap_fullstory.setting_types import EventFilter
from tap_fullstory.settings import Config
from tap_fullstory.streams import CUSTOM_VARS as CUSTOM_VARS
from tap_fullstory.streams import EVENTS, STREAMS, RestStream, Stream, stream_named

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
MAX_NAMED = 20  # choices that one warning names


@dataclass(frozen=True)
class Selection:
    """One selected stream: what its records hold.

    `name` is the stream's name in messages. `columns` are the selected properties by name, in the
    catalog's order, without what the tap adds and the overflow property (CustomVars, or extra);
    `keeps_overflow` tells whether that is selected. `dropped` are the names that the catalog
    deselects or the config excludes. `schema` is what the SCHEMA message carries. `rules` are what
    the config makes of fields, whether the catalog lists them or not. `event_filter` tells which
    events are written; None: all. `added` are the columns that the tap fills.
    """

    name: str
    columns: dict[str, ValueType]
    dropped: frozenset[str]
    keeps_overflow: bool
    schema: dict[str, Any]
    key_properties: list[str]
    stream: Stream = EVENTS
    rules: FieldRules = field(default=NO_RULES, compare=False)
    event_filter: EventFilter | None = None
    added: frozenset[str] = frozenset()


def discover(config: Config | None = None, meltano: MeltanoRules = NO_MELTANO) -> dict[str, Any]:
    """Return the catalog, all of it static: FullStory documents the fields and sends those it has.

    `config` matters for the settings that change a record's form; None means the defaults.
    """
    return {"streams": [_entry(stream, config, meltano) for stream in STREAMS]}


def select(catalog: Any, config: Config, meltano: MeltanoRules = NO_MELTANO) -> list[Selection]:
    """Return the streams that `catalog`, a decoded catalog file, selects.

    What `meltano` excludes is left out, too. Raises UsageError if it is not a catalog, or selects a
    stream that this tap does not have.
    """
    return [_selection(stream, entry, config, meltano) for stream, entry in _selected(catalog)]


def catalog_warnings(catalog: Any, config: Config) -> Iterator[CodedWarning]:
    """Yield what the user should know of a catalog that can be used: what it asks for and does not
    get. Raises as `select`.
    """
    nothing: list[str] = []
    for stream, entry in _selected(catalog):
        yield from _unmet_requests(stream, entry, _keys(stream, config))
        known = {*_schema(stream, config)["properties"], *(entry.properties or {}), EVENT_DIGEST}
        for breadcrumb, choices in entry.choices.items():
            if breadcrumb == () or "selected" not in choices:
                continue
            if len(breadcrumb) > 2 and _may_have_members(entry, breadcrumb[1]):
                continue
            name = breadcrumb[-1] if len(breadcrumb) == 2 and breadcrumb[0] == "properties" else ""
            deselected = entry.choice(name) is False and stream.overflow == CUSTOM_VARS
            if name not in known and not (is_custom(name) and deselected):
                nothing.append(".".join((stream.name, *breadcrumb[1:]))[:MAX_SHOWN])
    if nothing:
        more = f" and {len(nothing) - MAX_NAMED} more" if len(nothing) > MAX_NAMED else ""
        yield CodedWarning(
            "unknown_properties",
            "The catalog selects or deselects what is not a property of its stream: "
            f"{', '.join(nothing[:MAX_NAMED])}{more}. Names must be spelled as --discover prints "
            "them, and only an object or a list has members.",
        )


def _may_have_members(entry: Entry, name: str) -> bool:
    schema = (entry.properties or {}).get(name, {})
    names = value_type(schema).names
    return not names or not names.isdisjoint(("object", "array"))


def _entry(stream: Stream, config: Config | None, meltano: MeltanoRules) -> dict[str, Any]:
    schema = _schema(stream, config, meltano)
    keys = _keys(stream, config)
    if config is not None:
        rules = _rules(stream, stream.name, config, check=stream.selected_by_default)
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


def _rules(
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
    keys = _keys(stream, config)
    patterns = field_patterns(config.exclude_fields, config.hash_fields, stream) + deselected
    is_variable = is_custom if stream.overflow == CUSTOM_VARS else _never
    documented = [one for one in _schema(stream, config)["properties"] if not is_variable(one)]
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


def _keys(stream: Stream, config: Config | None) -> list[str]:
    if stream is EVENTS and config is not None and config.event_digest:
        return with_segment([EVENT_DIGEST], stream, config)
    return with_segment(list(stream.key_properties), stream, config)


def _schema(
    stream: Stream, config: Config | None, meltano: MeltanoRules = NO_MELTANO
) -> dict[str, Any]:
    text = files("tap_fullstory").joinpath(f"schemas/{stream.name}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    for column in schema["properties"].values():
        for key in FOR_DOCUMENTS:
            column.pop(key, None)
    properties = schema["properties"] = formatted(schema["properties"], stream, config)
    if config is not None and CUSTOM_VARS in properties:
        properties[CUSTOM_VARS]["type"] = ["null", config.custom_vars_format]
    if CUSTOM_VARS in properties:
        custom_vars = properties.pop(CUSTOM_VARS)
        properties.update(_custom_columns(stream, config, meltano))
        properties[CUSTOM_VARS] = custom_vars
    if EVENT_DIGEST in _keys(stream, config):
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


def _selected(catalog: Any) -> list[tuple[Stream, Entry]]:
    entries = [entry for entry in read_entries(catalog) if entry.is_selected]
    unknown = [entry.id[:MAX_SHOWN] for entry in entries if stream_named(entry.id) is None]
    if unknown:
        raise UsageError(
            f"The catalog selects {', '.join(unknown)}, which this tap does not have. "
            "Make a new catalog with --discover and select from it."
        )
    for entry in entries:
        if entry.properties is None:
            refuse(f"the schema of stream {entry.id} has no properties")
    refuse_repeated((entry.name for entry in entries), "selects two streams with the name")
    found = [(stream_named(entry.id), entry) for entry in entries]
    return [(stream, entry) for stream, entry in found if stream is not None]


def _unmet_requests(stream: Stream, entry: Entry, keys: list[str]) -> Iterator[CodedWarning]:
    """Yield a warning for each thing that the catalog asks of a stream and does not get."""
    root = entry.choices.get((), {})
    asked_keys = [root.get("table-key-properties"), entry.own.get("key_properties")]
    if any(asked and asked != keys for asked in asked_keys):
        written = f"with the key {', '.join(keys)}" if keys else "without a key"
        why = (
            "its events have no id, so a target would merge distinct rows. If the target needs "
            "a key, set event_digest in the config"
            if stream is EVENTS
            else "its key is fixed"
        )
        yield CodedWarning(
            "catalog_request_unmet",
            f"The catalog asks for other key properties of {stream.name}. The stream is written "
            f"{written}: {why}.",
        )
    method = root.get("replication-method") or entry.own.get("replication_method")
    if method and method != stream.replication_method:
        yield CodedWarning(
            "catalog_request_unmet",
            f"The catalog asks for another replication-method of {stream.name}. It is always "
            f"{stream.replication_method}.",
        )
    key = root.get("replication-key") or entry.own.get("replication_key")
    if key and key != stream.replication_key:
        instead = (
            f"It is always {stream.replication_key}."
            if stream.replication_key
            else "The stream has none."
        )
        yield CodedWarning(
            "catalog_request_unmet",
            f"The catalog asks for another replication-key of {stream.name}. {instead}",
        )
    for name in keys:
        if as_bool(entry.choices.get(("properties", name), {}).get("selected"), name) is False:
            yield CodedWarning(
                "catalog_request_unmet",
                f"The catalog deselects {stream.name}.{name}, which is part of the stream's key "
                "and is written anyway. To keep it out, deselect the stream.",
            )


def _column(declared: ValueType, own: dict[str, Any] | None, takes_numbers: bool) -> ValueType:
    """Return what a column takes: one of our numbers or booleans that a catalog declares as string
    is one, since people do that to ids that are too long for their target.
    """
    if own is None or "string" not in declared.names or declared.date_time:
        return declared
    as_text = not value_type(own).names.isdisjoint(("number", "integer", "boolean"))
    return replace(declared, as_text=as_text or takes_numbers)


def _is_bounded(schema: dict[str, Any], stream: Stream, config: Config) -> bool:
    """Return whether a column is written to files that bound its values."""
    batches = config.batch_config
    if batches is None or not batches.has_columns or isinstance(stream, RestStream):
        return False
    return column_kind(schema) in ("int64", "float64", "timestamp")


def _deselected(entry: Entry, meltano: MeltanoRules) -> tuple[Pattern, ...]:
    """Return patterns of what is deselected that no schema needs to list.

    Meltano deselects all members that it is not told to select: only those count that it is told
    to deselect.
    """
    if meltano.in_use:
        return meltano.excluded
    paths = [".".join(names) for names in entry.deselected_members]
    return tuple(Pattern(escape(path), "the catalog", Fate.EXCLUDED) for path in paths)


def _selection(stream: Stream, entry: Entry, config: Config, meltano: MeltanoRules) -> Selection:
    own = _schema(stream, config, meltano)["properties"]
    keys = _keys(stream, config)
    added = added_columns(stream, config)
    rules = _rules(stream, entry.name, config, _deselected(entry, meltano))
    custom_columns = [name for name in own if is_custom(name)]
    listed = {name: own[name] for name in custom_columns} | (entry.properties or {})
    # These are what they are, whatever an edited catalog says of them or leaves out.
    fixed = [*keys, *(name for name in custom_columns if name in config.custom_columns)]
    listed |= {name: own[name] for name in fixed}
    excluded = {name for name in (*own, *listed) if rules.fate(name) is Fate.EXCLUDED}
    listed = formatted(rules.schema(listed), stream, config)
    columns: dict[str, ValueType] = {}
    dropped = {
        breadcrumb[1]
        for breadcrumb in entry.choices
        if len(breadcrumb) == 2 and breadcrumb[0] == "properties"
        and breadcrumb[1] not in listed and entry.choice(breadcrumb[1], by_default=False) is False
    }  # fmt: skip
    properties: dict[str, Any] = {}
    for name, schema in listed.items():
        # A custom variable is a column only by choice.
        optional = stream.overflow == CUSTOM_VARS and is_custom(name)
        choice = name in keys or entry.choice(name, by_default=not optional)
        undecided = optional and name not in custom_columns
        if (
            undecided
            and choice
            and not (meltano.chooses(stream.name, name) or entry.is_automatic(name))
        ):
            choice = None
        if name in (stream.overflow, *added) or (name == EVENT_DIGEST and stream is EVENTS):
            continue
        if choice or (choice is None and not undecided):
            column = _column(value_type(schema), own.get(name), name in stream.texts)
            columns[name] = replace(column, bounded=_is_bounded(schema, stream, config))
            properties[name] = {
                key: value for key, value in schema.items() if key not in ("selected", "inclusion")
            }
        elif choice is False:
            dropped.add(name)
    keeps_overflow = stream.overflow in own and stream.overflow not in excluded
    keeps_overflow = keeps_overflow and entry.choice(stream.overflow) is not False
    if keeps_overflow:
        properties[stream.overflow] = own[stream.overflow]
    if EVENT_DIGEST in keys:
        properties[EVENT_DIGEST] = own[EVENT_DIGEST]
    chosen = chosen_columns(added, keys, entry.choice, columns, rules)
    properties.update(chosen)
    return Selection(
        name=entry.name,
        columns=columns,
        dropped=frozenset((dropped | excluded) - {stream.overflow}),
        keeps_overflow=keeps_overflow,
        schema={"type": "object", "properties": properties},
        key_properties=keys,
        stream=stream,
        rules=rules,
        event_filter=config.event_types if stream is EVENTS else None,
        added=frozenset(chosen),
    )
