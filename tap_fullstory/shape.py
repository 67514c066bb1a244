"""Records of the REST streams: what FullStory sent, made to fit the schema with nothing lost.

As with events, values stay the JSON text that they came as. A value that does not fit its property
and a key that no property is for go to the stream's overflow property, `extra`, under their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
from msgspec import Raw

from tap_fullstory.catalog import Selection
from tap_fullstory.errors import SourceError

MAX_NAME = 100  # characters of a name that a log line shows

_encode = msgspec.json.Encoder().encode
_members_of = msgspec.json.Decoder(dict[str, Raw]).decode
_items_of = msgspec.json.Decoder(list[Raw]).decode


class RecordShaper:
    """Shapes the records of one stream, and counts by property what did not fit; never the values.

    `misfits` and `unknown` went to the property `overflow`, or nowhere if that is None: deselected.
    """

    def __init__(self, selection: Selection) -> None:
        self._stream = selection.stream.name
        self._keys = selection.stream.key_properties
        self._columns = selection.columns
        self._dropped = selection.dropped
        self.overflow = selection.stream.overflow if selection.keeps_overflow else None
        self.misfits: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()

    def shape(self, members: Mapping[str, Raw], added: Mapping[str, Raw]) -> bytes:
        """The record of `added`, and of `members` as FullStory sent them.

        Raises SourceError if it would lack a key property.
        """
        kept: dict[str, bytes] = {}
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
                    self.unknown[name] += 1
                    extra[name] = value
                continue
            fitted = column.fit(value)
            if fitted is None:
                self.misfits[name] += 1
                extra[name] = value
            if fitted is not None or column.nullable:
                kept[name] = fitted or b"null"
        for name, raw in displaced.items():
            self.unknown[name] += 1
            extra[name] = bytes(raw)
        for key in self._keys:
            if key not in kept:
                raise SourceError(
                    f"FullStory sent a record of {self._stream} whose {key} is missing or of "
                    "another type than documented. It is part of the stream's key, so the record "
                    "cannot be written. Look for a newer version of this tap."
                )
        if extra and self.overflow:
            kept[self.overflow] = _object(extra)
        return _object(kept)


def in_words(counts: Counter[str]) -> str:
    """The most frequent names with their numbers, on one line whatever the names."""
    named = ((name if name.isprintable() else ascii(name), n) for name, n in counts.most_common(20))
    return ", ".join(f"{name[:MAX_NAME]} ({count})" for name, count in named)


def lifted(members: Mapping[str, Raw], names: tuple[str, ...]) -> dict[str, Raw]:
    """The members `names` of `metadata`, as far as they are there."""
    if not names or not bytes(members.get("metadata", b"")).startswith(b"{"):
        return {}
    metadata = _members_of(members["metadata"])
    return {name: metadata[name] for name in names if name in metadata}


def respelled(members: Mapping[str, Raw], spellings: Mapping[str, str]) -> dict[str, Raw]:
    """`members` and all within them by the names that `spellings` gives, save where a member has
    that name already.
    """
    result = {}
    for name, raw in members.items():
        other = spellings.get(name, name)
        result[name if other in members else other] = _respelled_value(raw, spellings)
    return result


def _respelled_value(raw: Raw, spellings: Mapping[str, str]) -> Raw:
    value = bytes(raw)
    if value.startswith(b"{"):
        return Raw(_encode(respelled(_members_of(value), spellings)))
    if value.startswith(b"["):
        return Raw(_encode([_respelled_value(item, spellings) for item in _items_of(value)]))
    return raw


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(_encode(name) + b":" + value for name, value in members.items()) + b"}"
