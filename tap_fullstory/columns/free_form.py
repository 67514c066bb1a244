"""Free-form objects as JSON text, for targets that flatten objects or have no type for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tap_fullstory.columns.types import JSON_TEXT
from tap_fullstory.config import Config
from tap_fullstory.streams import CUSTOM_VARS, Stream

_OF_OBJECTS = ("type", "properties", "additionalProperties")


def formatted(
    properties: Mapping[str, Mapping[str, Any]], stream: Stream, config: Config | None
) -> dict[str, Any]:
    """Return the schemas of a stream's properties, by name, as custom_vars_format asks for them.

    CustomVars of the exports is the encoder's.
    """
    as_text = config is not None and config.custom_vars_format == "string"
    if stream.overflow == CUSTOM_VARS or not as_text:
        return dict(properties)
    return {name: _as_text(schema) for name, schema in properties.items()}


def _as_text(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with each object that declares no members as JSON text.

    What is inside arrays stays: a target that flattens stores an array as one JSON value.
    """
    # Calls itself once a level.
    types = schema.get("type") or []
    types = [types] if isinstance(types, str) else types
    if "object" not in types:
        return dict(schema)
    if schema.get("properties"):
        inner = {name: _as_text(one) for name, one in schema["properties"].items()}
        return {**schema, "properties": inner}
    text = {
        "type": [*(kind for kind in types if kind not in ("object", "string")), "string"],
        "contentMediaType": JSON_TEXT,
    }
    return {**text, **{key: value for key, value in schema.items() if key not in _OF_OBJECTS}}
