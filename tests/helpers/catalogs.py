"""Catalogs as a user edits them."""

from __future__ import annotations

from typing import Any

from tap_fullstory.catalog import discover

Json = dict[str, Any]


def entry_of(catalog: Json, stream: str) -> Json:
    """Return what the catalog says of one stream."""
    (found,) = [entry for entry in catalog["streams"] if entry["tap_stream_id"] == stream]
    return found


def select_streams(*streams: str, catalog: Json | None = None, **deselected: list[str]) -> Json:
    """Return the static catalog, or the given one, with these streams selected and no others, less
    some of their columns: `users=["email"]`.
    """
    catalog = discover() if catalog is None else catalog
    for entry in catalog["streams"]:
        name = entry["tap_stream_id"]
        for item in entry["metadata"]:
            column = item["breadcrumb"][-1:]
            if not column:
                item["metadata"]["selected"] = name in streams
            elif column[0] in deselected.get(name, []):
                item["metadata"]["selected"] = False
    return catalog
