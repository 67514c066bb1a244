"""Records of the REST streams: what FullStory sent, made to fit the schema with nothing lost.

As with events, values stay the JSON text that they came as. A value that does not fit its property
and a key that no property is for go to the stream's overflow property, `extra`, under their names.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from tap_fullstory.columns import value_type
from tap_fullstory.counts import BoundedCounter
from tap_fullstory.errors import SourceError
from tap_fullstory.fields import Fate
from tap_fullstory.records.json_text import JsonText, decode_items, decode_members, encode
from tap_fullstory.selection import Selection


class RestRecordBuilder:
    """Builds the records of one stream, and counts by property what did not fit; never the values.

    `type_mismatches` and `undeclared` went to the property `overflow`, or nowhere if that is None:
    deselected.
    """

    def __init__(self, selection: Selection) -> None:
        self._stream = selection.stream.name
        self._keys = selection.stream.key_properties
        self._columns = selection.columns
        self._dropped = selection.dropped
        self._rules = selection.rules
        self.overflow = selection.stream.overflow if selection.keeps_overflow else None
        properties = selection.schema.get("properties", {})
        self._overflow_type = value_type(properties.get(self.overflow, {}))
        self.type_mismatches = BoundedCounter()
        self.undeclared = BoundedCounter()

    def build(self, members: Mapping[str, Raw], added: Mapping[str, Raw]) -> bytes:
        """Return the record of `added`, and of `members` as FullStory sent them.

        Raises SourceError if it would lack a key property.
        """
        members, added = self._rules.apply(members), self._rules.apply(added)
        kept: dict[str, JsonText] = {}
        extra: dict[str, bytes] = {}
        displaced = {
            name: raw
            for name, raw in members.items()
            if name in added and bytes(raw) != bytes(added[name])
        }
        for name, raw in {**added, **members, **added}.items():
            value, column = bytes(raw), self._columns.get(name)
            if column is None:
                if name not in self._dropped:
                    self._overflow(name, value, extra, self.undeclared)
                continue
            coerced = column.coerce(value)
            if coerced is None:
                self._overflow(name, value, extra, self.type_mismatches)
            if coerced is not None or column.nullable:
                kept[name] = coerced or b"null"
        for name, raw in displaced.items():
            self._overflow(name, bytes(raw), extra, self.undeclared)
        for key in self._keys:
            if kept.get(key, b"null") == b"null":
                raise SourceError(
                    f"FullStory sent a record of {self._stream} whose {key} is missing or of "
                    "another type than documented. It is part of the stream's key, so the record "
                    "cannot be written. Look for a newer version of this tap."
                )
        if extra and self.overflow:
            value = _object(extra)
            kept[self.overflow] = self._overflow_type.coerce(value) or value
        return _object(kept)

    def _overflow(
        self, name: str, value: bytes, extra: dict[str, bytes], counter: BoundedCounter
    ) -> None:
        fate = self._rules.fate_in_overflow(name)
        if fate is not Fate.EXCLUDED:
            counter.add(name)
            extra[name] = self._rules.hash(value) if fate is Fate.HASHED else value


def promoted(members: Mapping[str, Raw], names: tuple[str, ...]) -> dict[str, Raw]:
    """Return the members `names` of `metadata` that are there."""
    if not names or not bytes(members.get("metadata", b"")).startswith(b"{"):
        return {}
    metadata = decode_members(members["metadata"])
    return {name: metadata[name] for name in names if name in metadata}


def renamed(members: Mapping[str, Raw], aliases: Mapping[str, str]) -> dict[str, Raw]:
    """Return `members` and all within them by the names that `aliases` gives, except where a member
    has that name already.
    """
    return decode_members(_renamed_within(Raw(encode(members)), aliases))


def _renamed_within(raw: Raw, aliases: Mapping[str, str]) -> Raw:
    # Recursion depth is bounded by json_text.MAX_DEPTH.
    value = bytes(raw)
    if value.startswith(b"["):
        items = []
        for item in decode_items(value):
            items.append(_renamed_within(item, aliases))  # noqa: PERF401 - a frame less
        return Raw(encode(items))
    if not value.startswith(b"{"):
        return raw
    members = decode_members(value)
    result = {}
    for name, member in members.items():
        alias = aliases.get(name, name)
        result[name if alias in members else alias] = _renamed_within(member, aliases)
    return Raw(encode(result))


def _object(members: Mapping[str, JsonText]) -> bytes:
    return b"{" + b",".join(encode(name) + b":" + value for name, value in members.items()) + b"}"
