"""The catalog as the user gives it: read, checked, and what it selects.

Selection follows the Singer conventions: `inclusion: automatic` is always in, `selected` decides
elsewhere, and `selected-by-default` where `selected` is absent. `selected` may also be inside the
schema, as in the properties files of the first Singer taps, and may be text, as Meltano's command
line writes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from glob import escape
from typing import Any, NoReturn

from tap_fullstory.added_columns import added_columns, chosen_columns
from tap_fullstory.catalog import EVENT_DIGEST, keys_of, rules_of, schema_of
from tap_fullstory.columns import ValueType, column_kind, is_custom, value_type
from tap_fullstory.errors import CodedWarning, UsageError
from tap_fullstory.fields import NO_RULES, Fate, FieldRules, Pattern, with_format
from tap_fullstory.meltano import NO_MELTANO, MeltanoRules
from tap_fullstory.setting_types import EventFilter
from tap_fullstory.settings import Config
from tap_fullstory.streams import CUSTOM_VARS, EVENTS, RestStream, Stream, stream_named

_TYPES = {"null", "boolean", "integer", "number", "string", "object", "array"}
MAX_SHOWN = 100  # characters of a name or value from the catalog that a message quotes
MAX_NAMED = 20  # choices that one warning names


@dataclass(frozen=True)
class Selection:
    """One selected stream: what its records hold.

    `name` is the stream's name in messages. `columns` are the selected properties by name, in the
    catalog's order, without what the tap adds and the overflow property (CustomVars, or extra);
    `keeps_overflow` is whether that is selected. `dropped` are the names that the catalog
    deselects or the config excludes. `schema` is what the SCHEMA message carries. `rules` are what
    the config makes of fields, whether the catalog lists them or not. `event_filter` decides which
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


def select(catalog: Any, config: Config, meltano: MeltanoRules = NO_MELTANO) -> list[Selection]:
    """Return the streams that `catalog`, a decoded catalog file, selects.

    What `meltano` excludes is left out, too. Raises UsageError if it is not a catalog, or selects a
    stream that this tap does not have.
    """
    return [_selection(stream, entry, config, meltano) for stream, entry in _selected(catalog)]


def catalog_warnings(catalog: Any, config: Config) -> Iterator[CodedWarning]:
    """Yield what the user should know of a catalog that can be used: what it asks for and does not
    get.

    Raises UsageError if it is not a catalog, or selects a stream that this tap does not have.
    """
    nothing: list[str] = []
    for stream, entry in _selected(catalog):
        yield from _unmet_requests(stream, entry, keys_of(stream, config))
        known = {*schema_of(stream, config)["properties"], *(entry.properties or {}), EVENT_DIGEST}
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


def _may_have_members(entry: _Entry, name: str) -> bool:
    schema = (entry.properties or {}).get(name, {})
    names = value_type(schema).names
    return not names or not names.isdisjoint(("object", "array"))


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

    @property
    def deselected_members(self) -> Iterator[tuple[str, ...]]:
        """The names from the property down to a member within it, of each that is deselected."""
        for breadcrumb, choices in self.choices.items():
            steps = iter(breadcrumb)
            names = tuple(next(steps, "") for step in steps if step == "properties")
            where = f"stream {self.id}, property {'.'.join(names)[:MAX_SHOWN]}"
            if len(names) > 1 and _choice(choices, {}, where) is False:
                yield names

    @property
    def deselected(self) -> Iterator[str]:
        """The names of properties that the catalog deselects itself, listed or not."""
        for breadcrumb in self.choices:
            if len(breadcrumb) == 2 and breadcrumb[0] == "properties":
                name = breadcrumb[1]
                if self.choice(name, by_default=False) is False:
                    yield name

    def is_automatic(self, name: str) -> bool:
        """Return whether the catalog says that a property cannot be deselected."""
        return self.choices.get(("properties", name), {}).get("inclusion") == "automatic"

    def choice(self, name: str, *, by_default: bool = True) -> bool | None:
        """Return whether the catalog selects a property; None if it says nothing. Without
        `by_default`, `selected-by-default` does not count.
        """
        schema = (self.properties or {}).get(name, {})
        where = f"stream {self.id}, property {name[:MAX_SHOWN]}"
        return _choice(self.choices.get(("properties", name), {}), schema, where, by_default)


def _unmet_requests(stream: Stream, entry: _Entry, keys: list[str]) -> Iterator[CodedWarning]:
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
        if _as_bool(entry.choices.get(("properties", name), {}).get("selected"), name) is False:
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


def _deselected(entry: _Entry, meltano: MeltanoRules) -> tuple[Pattern, ...]:
    """Return patterns of what is deselected that no schema needs to list.

    Meltano deselects all members that it is not told to select: only those count that it is told
    to deselect.
    """
    if meltano.in_use:
        return meltano.excluded
    paths = [".".join(names) for names in entry.deselected_members]
    return tuple(Pattern(escape(path), "the catalog", Fate.EXCLUDED) for path in paths)


class _Property:
    """One property of a stream, and whether the catalog makes it a column.

    A custom variable that neither the config nor Meltano names is a column only by choice; where
    the catalog says nothing of it, its values are in the overflow property. One that only an
    asterisk of Meltano's rules matches is not chosen.
    """

    def __init__(
        self, name: str, entry: _Entry, stream: Stream, meltano: MeltanoRules, *, is_named: bool
    ) -> None:
        is_variable = stream.overflow == CUSTOM_VARS and is_custom(name)
        self._needs_choice = is_variable and not is_named
        self._said = entry.choice(name, by_default=not is_variable)
        by_asterisk = not (meltano.chooses(stream.name, name) or entry.is_automatic(name))
        if self._needs_choice and self._said and by_asterisk:
            self._said = None

    @property
    def is_column(self) -> bool:
        """Whether its values have a column."""
        return not self._needs_choice if self._said is None else self._said

    @property
    def is_dropped(self) -> bool:
        """Whether its values are not written at all."""
        return self._said is False


def _selection(stream: Stream, entry: _Entry, config: Config, meltano: MeltanoRules) -> Selection:
    own = schema_of(stream, config, meltano)["properties"]
    keys = keys_of(stream, config)
    added = added_columns(stream, config)
    rules = rules_of(stream, entry.name, config, _deselected(entry, meltano))
    variables = {name: schema for name, schema in own.items() if is_custom(name)}
    # These are what they are, whatever an edited catalog says of them or leaves out.
    fixed = [*keys, *(name for name in variables if name in config.custom_columns)]
    listed = {**variables, **(entry.properties or {}), **{name: own[name] for name in fixed}}
    excluded = {name for name in (*own, *listed) if rules.fate(name) is Fate.EXCLUDED}
    listed = with_format(rules.schema(listed), stream, config)
    columns: dict[str, ValueType] = {}
    dropped = {name for name in entry.deselected if name not in listed}
    properties: dict[str, Any] = {}
    for name, schema in listed.items():
        if name in (stream.overflow, *added) or (name == EVENT_DIGEST and stream is EVENTS):
            continue
        found = _Property(name, entry, stream, meltano, is_named=name in variables)
        if name in keys or found.is_column:
            column = _column(value_type(schema), own.get(name), name in stream.texts)
            columns[name] = replace(column, bounded=_is_bounded(schema, stream, config))
            properties[name] = {
                key: value for key, value in schema.items() if key not in ("selected", "inclusion")
            }
        elif found.is_dropped:
            dropped.add(name)
    keeps_overflow = (
        stream.overflow in own
        and stream.overflow not in excluded
        and entry.choice(stream.overflow) is not False
    )
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


def _selected(catalog: Any) -> list[tuple[Stream, _Entry]]:
    entries = [entry for entry in _read_entries(catalog) if entry.is_selected]
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


def _read_entries(catalog: Any) -> list[_Entry]:
    """Return the streams of `catalog`, a decoded file. Raises UsageError if it is not a catalog."""
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
    _validate_schema(schema, where)
    return _Entry(identity, name, schema, schema.get("properties"), _choices(entry, where), entry)


def _validate_schema(schema: Any, where: str) -> None:
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
        _validate_schema(inner, f"{where.partition(',')[0]}, property {name[:MAX_SHOWN]}")
    if isinstance(schema.get("items"), dict):
        _validate_schema(schema["items"], where)


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
    """Raise UsageError if one of `names` comes twice."""
    for name, count in Counter(names).items():
        if count > 1:
            _refuse(f"it {what} {name[:MAX_SHOWN]}")


def _refuse(what: str) -> NoReturn:
    """Raise UsageError: `what` is wrong with the catalog."""
    raise UsageError(
        f"The catalog cannot be used: {what}. Correct it, or make a new one with --discover and "
        "select from it."
    )


def _choice(
    choices: Mapping[str, Any], schema: Mapping[str, Any], where: str, by_default: bool = True
) -> bool | None:
    """Return what the catalog says of a stream or property: wanted, not wanted, or nothing."""
    inclusion = choices.get("inclusion", schema.get("inclusion"))
    if inclusion in ("automatic", "unsupported"):
        return bool(inclusion == "automatic")
    places = [("selected", choices), ("selected", schema), ("selected-by-default", choices)]
    for member, place in places[: 3 if by_default else 2]:
        if (said := _as_bool(place.get(member), f"{member} of {where}")) is not None:
            return said
    return None


def _as_bool(value: Any, where: str) -> bool | None:
    """Return what `value`, at `where`, says: true or false, perhaps as text, or None for nothing.

    Raises UsageError if it is anything else.
    """
    text = value.strip().lower() if isinstance(value, str) else value
    for word, meaning in (("true", True), ("false", False), (None, None)):
        if text == word or text is meaning:
            return meaning
    _refuse(f"{where} is {json.dumps(value)[:MAX_SHOWN]}, neither true nor false")
