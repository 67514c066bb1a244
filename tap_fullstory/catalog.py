"""The catalog: what the streams hold, and which of it a user wants.

Selection follows the Singer conventions: `inclusion: automatic` is always in, `selected` decides
elsewhere, and `selected-by-default` where `selected` is absent. `selected` may also be inside the
schema, as in the properties files of the first Singer taps, and may be text, as Meltano's command
line writes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, NoReturn

from singer import metadata

from tap_fullstory.added_columns import added_columns, chosen_columns, with_segment
from tap_fullstory.columns import ValueType, value_type
from tap_fullstory.config import Config
from tap_fullstory.errors import UsageError
from tap_fullstory.json_columns import formatted
from tap_fullstory.streams import CUSTOM_VARS as CUSTOM_VARS
from tap_fullstory.streams import EVENTS, STREAMS, Stream, stream_named

EVENT_DIGEST = "EventDigest"
# developer.fullstory.com, "Create Segment Export": user_ and evt_; page_ is in FullStory's own
# exporter (github.com/fullstorydev/hauser, warehouse/schema.go, wildcardFields).
CUSTOM_PREFIXES = ("user_", "evt_", "page_")

_EVENT_DIGEST_SCHEMA = {
    "type": ["string"],
    "description": "BLAKE2b-128, as 32 hexadecimal digits, of the event as FullStory sent it, "
    "without the whitespace between its tokens. Equal events have equal digests; an event that "
    "FullStory corrects later has another one.",
}
_TYPES = {"null", "boolean", "integer", "number", "string", "object", "array"}
MAX_NAMED = 20  # choices that one warning names
MAX_SHOWN = 100  # characters of a name or value from the catalog that a message quotes


@dataclass(frozen=True)
class Selection:
    """One selected stream: what its records hold.

    `name` is the stream's name in messages. `columns` are the selected properties by name, in the
    catalog's order, without what the tap adds and the overflow property (CustomVars, or extra);
    `keeps_overflow` tells whether that is selected. `dropped` are the names that the catalog
    deselects. `schema` is what the SCHEMA message carries.
    """

    name: str
    columns: dict[str, ValueType]
    dropped: frozenset[str]
    keeps_overflow: bool
    schema: dict[str, Any]
    key_properties: list[str]
    stream: Stream = EVENTS


@dataclass(frozen=True)
class _Entry:
    """One stream of a catalog file, in a form that can be used.

    `properties` are those of its schema, None if it has none. `choices` are the metadata by
    breadcrumb, `own` the members of the entry itself.
    """

    id: str
    name: str
    schema: Mapping[str, Any]
    properties: dict[str, dict[str, Any]] | None
    choices: dict[tuple[str, ...], dict[str, Any]]
    own: Mapping[str, Any]

    @property
    def is_selected(self) -> bool:
        schema = {**self.schema}
        if "selected" in self.own:
            schema["selected"] = self.own["selected"]
        return bool(_choice(self.choices.get((), {}), schema, f"stream {self.id}"))

    def choice(self, name: str) -> bool | None:
        """Return whether the catalog selects a property; None if it says nothing."""
        schema = (self.properties or {}).get(name, {})
        where = f"stream {self.id}, property {name[:MAX_SHOWN]}"
        return _choice(self.choices.get(("properties", name), {}), schema, where)


def discover(config: Config | None = None) -> dict[str, Any]:
    """Return the catalog, all of it static: FullStory documents the fields and sends those it has.

    `config` matters for the settings that change a record's form; None means the defaults.
    """
    return {"streams": [_entry(stream, config) for stream in STREAMS]}


def select(catalog: Any, config: Config) -> list[Selection]:
    """Return the streams that `catalog`, a decoded catalog file, selects.

    Raises UsageError if it is not a catalog, or selects a stream that this tap does not have.
    """
    return [_selection(stream, entry, config) for stream, entry in _selected(catalog)]


def catalog_warnings(catalog: Any, config: Config) -> list[str]:
    """Return what the user should know of a catalog that can be used: what it asks for and does not
    get. Raises as `select`.
    """
    warnings = []
    nothing: list[str] = []
    for stream, entry in _selected(catalog):
        warnings += _unmet_requests(stream, entry, _keys(stream, config))
        known = {*_schema(stream, config)["properties"], *(entry.properties or {}), EVENT_DIGEST}
        for breadcrumb, choices in entry.choices.items():
            if breadcrumb == () or "selected" not in choices:
                continue
            name = breadcrumb[-1] if len(breadcrumb) == 2 and breadcrumb[0] == "properties" else ""
            deselected = entry.choice(name) is False and stream.overflow == CUSTOM_VARS
            if name not in known and not (is_custom(name) and deselected):
                nothing.append(".".join((stream.name, *breadcrumb[1:]))[:MAX_SHOWN])
    if nothing:
        more = f" and {len(nothing) - MAX_NAMED} more" if len(nothing) > MAX_NAMED else ""
        warnings.append(
            "The catalog selects or deselects what is not a property of its stream: "
            f"{', '.join(nothing[:MAX_NAMED])}{more}. Names must be spelled as --discover prints "
            "them, and a property is selected as a whole."
        )
    return warnings


def is_custom(name: str) -> bool:
    """Return whether FullStory's naming makes `name` a custom variable."""
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
        return with_segment([EVENT_DIGEST], stream, config)
    return with_segment(list(stream.key_properties), stream, config)


def _schema(stream: Stream, config: Config | None) -> dict[str, Any]:
    text = files("tap_fullstory").joinpath(f"schemas/{stream.name}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    properties = schema["properties"] = formatted(schema["properties"], stream, config)
    if config is not None and CUSTOM_VARS in properties:
        properties[CUSTOM_VARS]["type"] = ["null", config.custom_vars_format]
    if EVENT_DIGEST in _keys(stream, config):
        properties[EVENT_DIGEST] = dict(_EVENT_DIGEST_SCHEMA)
    properties.update(added_columns(stream, config))
    return schema


def _selected(catalog: Any) -> list[tuple[Stream, _Entry]]:
    entries = [entry for entry in _entries(catalog) if entry.is_selected]
    unknown = [entry.id[:MAX_SHOWN] for entry in entries if stream_named(entry.id) is None]
    if unknown:
        raise UsageError(
            f"The catalog selects {', '.join(unknown)}, which this tap does not have. "
            "Make a new catalog with --discover and select from it."
        )
    for entry in entries:
        if entry.properties is None:
            _refuse(f"the schema of stream {entry.id} has no properties")
    _refuse_repeated((entry.name for entry in entries), "selects two streams with the name")
    found = [(stream_named(entry.id), entry) for entry in entries]
    return [(stream, entry) for stream, entry in found if stream is not None]


def _entries(catalog: Any) -> list[_Entry]:
    if not isinstance(catalog, dict) or not isinstance(catalog.get("streams"), list):
        _refuse("it is not an object with a list of streams")
    entries = [_read_entry(entry, number) for number, entry in enumerate(catalog["streams"], 1)]
    _refuse_repeated((entry.id for entry in entries), "lists twice the stream")
    return entries


def _read_entry(entry: Any, number: int) -> _Entry:
    if not isinstance(entry, dict):
        _refuse(f"stream number {number} is not an object")
    identity, name = entry.get("tap_stream_id") or "", entry.get("stream") or ""
    if not isinstance(identity, str) or not isinstance(name, str) or not (identity or name):
        _refuse(f"tap_stream_id or stream of stream number {number} is missing, or not text")
    identity, name = identity or name, name or identity
    where = f"stream {identity[:MAX_SHOWN]}"
    schema = entry.get("schema")
    if not isinstance(schema, dict):
        _refuse(f"{where} has no schema")
    _check_schema(schema, where)
    return _Entry(identity, name, schema, schema.get("properties"), _choices(entry, where), entry)


def _check_schema(schema: Any, where: str) -> None:
    """Raise UsageError if `schema` cannot be one of a stream or property, or of something in it."""
    if not isinstance(schema, dict):
        _refuse(f"a schema of {where} is not an object")
    types = schema.get("type")
    types = types if isinstance(types, list) else [] if types is None else [types]
    if not all(isinstance(name, str) and name in _TYPES for name in types):
        _refuse(f"a type in the schema of {where} is not one of JSON's")
    properties = schema.get("properties")
    if properties is not None and not isinstance(properties, dict):
        _refuse(f"properties in the schema of {where} is not an object")
    for name, inner in (properties or {}).items():
        _check_schema(inner, f"{where.partition(',')[0]}, property {name[:MAX_SHOWN]}")
    if isinstance(schema.get("items"), dict):
        _check_schema(schema["items"], where)


def _choices(entry: Mapping[str, Any], where: str) -> dict[tuple[str, ...], dict[str, Any]]:
    choices: dict[tuple[str, ...], dict[str, Any]] = {}
    listed = entry.get("metadata") or []
    if not isinstance(listed, list):
        _refuse(f"metadata of {where} is not a list")
    for item in listed:
        if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
            _refuse(f"an item in the metadata of {where} has no object metadata")
        breadcrumb = item.get("breadcrumb")
        if not isinstance(breadcrumb, (list, tuple)) or not all(
            isinstance(n, str) for n in breadcrumb
        ):
            _refuse(f"a breadcrumb in the metadata of {where} is not a list of texts")
        choice = choices.setdefault(tuple(breadcrumb), {})
        if choice.get("selected", item["metadata"].get("selected")) != item["metadata"].get(
            "selected", choice.get("selected")
        ):
            _refuse(f"the metadata of {where} both selects and deselects {'.'.join(breadcrumb)}")
        choice.update(item["metadata"])
    return choices


def _refuse_repeated(names: Iterable[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            _refuse(f"it {what} {name[:MAX_SHOWN]}")


def _refuse(what: str) -> NoReturn:
    raise UsageError(
        f"The catalog cannot be used: {what}. Correct it, or make a new one with --discover and "
        "select from it."
    )


def _choice(choices: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> bool | None:
    """Return what the catalog says of a stream or property: wanted, not wanted, or nothing."""
    inclusion = choices.get("inclusion", schema.get("inclusion"))
    if inclusion in ("automatic", "unsupported"):
        return bool(inclusion == "automatic")
    for member, place in (("selected", choices), ("selected", schema),
                          ("selected-by-default", choices)):  # fmt: skip
        if (said := _as_bool(place.get(member), f"{member} of {where}")) is not None:
            return said
    return None


def _as_bool(value: Any, where: str) -> bool | None:
    text = value.strip().lower() if isinstance(value, str) else value
    for word, meaning in (("true", True), ("false", False), (None, None)):
        if text == word or text is meaning:
            return meaning
    _refuse(f"{where} is {json.dumps(value)[:MAX_SHOWN]}, neither true nor false")


def _unmet_requests(stream: Stream, entry: _Entry, keys: list[str]) -> list[str]:
    """Return a warning for each thing that the catalog asks of a stream and does not get."""
    root, warnings = entry.choices.get((), {}), []
    asked_keys = [root.get("table-key-properties"), entry.own.get("key_properties")]
    if any(asked and asked != keys for asked in asked_keys):
        written = f"with the key {', '.join(keys)}" if keys else "without a key"
        why = (
            "its events have no id, so a target would fold rows that differ. If the target needs "
            "a key, set event_digest in the config"
            if stream is EVENTS
            else "its key is fixed"
        )
        warnings.append(
            f"The catalog asks for other key properties of {stream.name}. The stream is written "
            f"{written}: {why}."
        )
    method = root.get("replication-method") or entry.own.get("replication_method")
    if method and method != stream.replication_method:
        warnings.append(
            f"The catalog asks for another replication-method of {stream.name}. It is always "
            f"{stream.replication_method}."
        )
    key = root.get("replication-key") or entry.own.get("replication_key")
    if key and key != stream.replication_key:
        warnings.append(
            f"The catalog asks for another replication-key of {stream.name}. "
            + (f"It is always {stream.replication_key}." if stream.replication_key
               else "The stream has none.")
        )  # fmt: skip
    return warnings + [
        f"The catalog deselects {stream.name}.{name}, which is part of the stream's key and is "
        "written all the same. To keep it out, deselect the stream."
        for name in keys
        if _as_bool(entry.choices.get(("properties", name), {}).get("selected"), name) is False
    ]


def _column(declared: ValueType, own: dict[str, Any] | None) -> ValueType:
    """Return what a column takes: one of our numbers or booleans that a catalog declares as string
    is one, since people do that to ids that are too long for their target.
    """
    if own is None or "string" not in declared.names or declared.date_time:
        return declared
    as_text = not value_type(own).names.isdisjoint(("number", "integer", "boolean"))
    return replace(declared, as_text=as_text)


def _selection(stream: Stream, entry: _Entry, config: Config) -> Selection:
    own = _schema(stream, config)["properties"]
    keys = _keys(stream, config)
    added = added_columns(stream, config)
    # A key is what it is, whatever an edited catalog says of it or leaves out.
    listed = formatted(entry.properties or {}, stream, config) | {key: own[key] for key in keys}
    columns: dict[str, ValueType] = {}
    dropped = {
        breadcrumb[1]
        for breadcrumb in entry.choices
        if len(breadcrumb) == 2 and breadcrumb[0] == "properties"
        and breadcrumb[1] not in listed and entry.choice(breadcrumb[1]) is False
    }  # fmt: skip
    properties: dict[str, Any] = {}
    for name, schema in listed.items():
        choice = name in keys or entry.choice(name)
        undecided = stream.overflow == CUSTOM_VARS and is_custom(name)
        if name in (stream.overflow, *added) or (name == EVENT_DIGEST and stream is EVENTS):
            continue
        if choice or (choice is None and not undecided):
            columns[name] = _column(value_type(schema), own.get(name))
            properties[name] = {
                key: value for key, value in schema.items() if key not in ("selected", "inclusion")
            }
        elif choice is False:
            dropped.add(name)
    keeps_overflow = entry.choice(stream.overflow) is not False
    if keeps_overflow:
        properties[stream.overflow] = own[stream.overflow]
    if EVENT_DIGEST in keys:
        properties[EVENT_DIGEST] = own[EVENT_DIGEST]
    properties.update(chosen_columns(added, keys, entry.choice, columns))
    return Selection(
        name=entry.name,
        columns=columns,
        dropped=frozenset(dropped - {stream.overflow}),
        keeps_overflow=keeps_overflow,
        schema={"type": "object", "properties": properties},
        key_properties=keys,
        stream=stream,
    )
