"""Catalog files as users give them: read, checked, and what they choose.

Selection follows the Singer conventions: `inclusion: automatic` is always in, `selected` decides
elsewhere, and `selected-by-default` where `selected` is absent. `selected` may also be inside the
schema, as in the properties files of the first Singer taps, and may be text, as Meltano's command
line writes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tap_fullstory.errors import UsageError

_TYPES = {"null", "boolean", "integer", "number", "string", "object", "array"}
MAX_SHOWN = 100  # characters of a name or value from the catalog that a message quotes


@dataclass(frozen=True)
class Entry:
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


def read_entries(catalog: Any) -> list[Entry]:
    """Return the streams of `catalog`, a decoded file. Raises UsageError if it is not a catalog."""
    if not isinstance(catalog, dict) or not isinstance(catalog.get("streams"), list):
        refuse("it is not an object with a list of streams")
    entries = [_read_entry(entry, number) for number, entry in enumerate(catalog["streams"], 1)]
    refuse_repeated((entry.id for entry in entries), "lists twice the stream")
    return entries


def _read_entry(entry: Any, number: int) -> Entry:
    if not isinstance(entry, dict):
        refuse(f"stream number {number} is not an object")
    identity, name = entry.get("tap_stream_id") or "", entry.get("stream") or ""
    if not isinstance(identity, str) or not isinstance(name, str) or not (identity or name):
        refuse(f"tap_stream_id or stream of stream number {number} is missing, or not text")
    identity, name = identity or name, name or identity
    where = f"stream {identity[:MAX_SHOWN]}"
    schema = entry.get("schema")
    if not isinstance(schema, dict):
        refuse(f"{where} has no schema")
    _check_schema(schema, where)
    return Entry(identity, name, schema, schema.get("properties"), _choices(entry, where), entry)


def _check_schema(schema: Any, where: str) -> None:
    """Raise UsageError if `schema` cannot be one of a stream or property, or of something in it."""
    if not isinstance(schema, dict):
        refuse(f"a schema of {where} is not an object")
    types = schema.get("type")
    types = types if isinstance(types, list) else [] if types is None else [types]
    if not all(isinstance(name, str) and name in _TYPES for name in types):
        refuse(f"a type in the schema of {where} is not one of JSON's")
    properties = schema.get("properties")
    if properties is not None and not isinstance(properties, dict):
        refuse(f"properties in the schema of {where} is not an object")
    for name, inner in (properties or {}).items():
        _check_schema(inner, f"{where.partition(',')[0]}, property {name[:MAX_SHOWN]}")
    if isinstance(schema.get("items"), dict):
        _check_schema(schema["items"], where)


def _choices(entry: Mapping[str, Any], where: str) -> dict[tuple[str, ...], dict[str, Any]]:
    choices: dict[tuple[str, ...], dict[str, Any]] = {}
    listed = entry.get("metadata") or []
    if not isinstance(listed, list):
        refuse(f"metadata of {where} is not a list")
    for item in listed:
        if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
            refuse(f"an item in the metadata of {where} has no object metadata")
        breadcrumb = item.get("breadcrumb")
        if not isinstance(breadcrumb, (list, tuple)) or not all(
            isinstance(n, str) for n in breadcrumb
        ):
            refuse(f"a breadcrumb in the metadata of {where} is not a list of texts")
        choice = choices.setdefault(tuple(breadcrumb), {})
        if choice.get("selected", item["metadata"].get("selected")) != item["metadata"].get(
            "selected", choice.get("selected")
        ):
            refuse(f"the metadata of {where} both selects and deselects {'.'.join(breadcrumb)}")
        choice.update(item["metadata"])
    return choices


def refuse_repeated(names: Iterable[str], what: str) -> None:
    """Raise UsageError if one of `names` comes twice."""
    for name, count in Counter(names).items():
        if count > 1:
            refuse(f"it {what} {name[:MAX_SHOWN]}")


def refuse(what: str) -> NoReturn:
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
        if (said := as_bool(place.get(member), f"{member} of {where}")) is not None:
            return said
    return None


def as_bool(value: Any, where: str) -> bool | None:
    """Return what `value`, at `where`, says: true or false, perhaps as text, or None for nothing.

    Raises UsageError if it is anything else.
    """
    text = value.strip().lower() if isinstance(value, str) else value
    for word, meaning in (("true", True), ("false", False), (None, None)):
        if text == word or text is meaning:
            return meaning
    refuse(f"{where} is {json.dumps(value)[:MAX_SHOWN]}, neither true nor false")
