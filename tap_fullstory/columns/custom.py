"""Custom variables: what their names tell, and which of them the config makes columns.

Their suffixes tell their types: developer.fullstory.com, "Create Segment Export", and
help.fullstory.com, article 4446290296599.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# developer.fullstory.com, "Create Segment Export": user_ and evt_; page_ is in FullStory's own
# exporter (github.com/fullstorydev/hauser, warehouse/schema.go, wildcardFields).
CUSTOM_PREFIXES = ("user_", "evt_", "page_")

_REAL = {"type": ["null", "number"]}  # never integer: 4 may stand for 4.0, and 4.5 come next
_BY_SUFFIX: dict[str, dict[str, Any]] = {
    "str": {"type": ["null", "string"]},
    "int": {"type": ["null", "integer"]},
    "real": _REAL,
    "bool": {"type": ["null", "boolean"]},
    "date": {"type": ["null", "string"], "format": "date-time"},
}
_KINDS = {"user_": "user", "evt_": "event", "page_": "page"}
# What JSON Schema calls these types.
_ALIASES = {"string": "str", "integer": "int", "number": "real", "boolean": "bool",
            "date-time": "date"}  # fmt: skip


def is_custom(name: str) -> bool:
    """Return whether FullStory's naming makes `name` a custom variable."""
    return name.startswith(CUSTOM_PREFIXES)


def kind_of(name: str) -> str:
    """Return what a custom variable belongs to: user, event or page."""
    return next(kind for prefix, kind in _KINDS.items() if name.startswith(prefix))


def property_schema(name: str) -> dict[str, Any] | None:
    """Return the JSON schema of a custom variable, by its suffix; None if that tells no type."""
    return _schema_of(name.rpartition("_")[2])


def parse_custom_columns(names: tuple[str, ...]) -> Mapping[str, dict[str, Any]]:
    """Return the schemas of the columns that `custom_columns` names, `name` or `name:type`.

    Raises ValueError if one is not a custom variable, has no type, or has two.
    """
    columns: dict[str, dict[str, Any]] = {}
    for text in names:
        before, colon, given = (part.strip() for part in text.rpartition(":"))
        name = before if colon else given
        schema = _schema_of(_ALIASES.get(given, given)) if colon else property_schema(name)
        if not is_custom(name) or schema is None or columns.get(name, schema) != schema:
            raise ValueError
        columns[name] = schema
    return columns


def _schema_of(suffix: str) -> dict[str, Any] | None:
    if suffix in _BY_SUFFIX:
        return dict(_BY_SUFFIX[suffix])
    if suffix.endswith("s") and suffix[:-1] in _BY_SUFFIX:
        return {"type": ["null", "array"], "items": dict(_BY_SUFFIX[suffix[:-1]])}
    return None
