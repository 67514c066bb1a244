"""What this tap is, for people and for programs: `--about`.

Made from the table that parses the config and from the catalog that discovery prints.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

from tap_fullstory import catalog
from tap_fullstory.settings import SETTINGS, Setting
from tap_fullstory.version import __version__

NAME = "tap-fullstory"
DESCRIPTION = "Singer tap for FullStory: one record for each captured event"
CAPABILITIES = (
    "about",
    "batch",
    "catalog",
    "discover",
    "state",
    "structured-logging",
)  # by Meltano's names


def about(form: str) -> str:
    """Return name, version, capabilities, settings and streams, as text, json or markdown.

    The JSON has the keys that taps of the Meltano SDK print (github.com/meltano/sdk,
    singer_sdk/about.py), with `settings` as a JSON Schema, and `streams` beside them.
    """
    streams: list[dict[str, Any]] = catalog.discover()["streams"]
    if form == "json":
        return _json(streams)
    return _markdown(streams) if form == "markdown" else _text(streams)


def _json(streams: list[dict[str, Any]]) -> str:
    described = {
        "name": NAME,
        "description": DESCRIPTION,
        "version": __version__,
        "capabilities": CAPABILITIES,
        "settings": {
            "type": "object",
            "properties": {setting.name: _schema(setting) for setting in SETTINGS},
        },
        "streams": [
            {
                "name": stream["tap_stream_id"],
                "key_properties": stream["key_properties"],
                "replication_method": _replication(stream),
                "columns": list(stream["schema"]["properties"]),
            }
            for stream in streams
        ],
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _schema(setting: Setting) -> dict[str, Any]:
    schema = dict(setting.type.schema)
    if setting.default is not None:
        schema["default"] = setting.default
    if setting.secret:
        schema["secret"] = True
    return {**schema, "description": setting.description}


def _markdown(streams: list[dict[str, Any]]) -> str:
    settings = "".join(
        f"| `{setting.name}` | {_default(setting)} | {setting.description} | {setting.allowed} |\n"
        for setting in SETTINGS
    )
    listed = "".join(
        f"| `{stream['tap_stream_id']}` | {_key(stream)} | {_replication(stream)} "
        f"| {len(stream['schema']['properties'])} |\n"
        for stream in streams
    )
    return (
        f"# {NAME} {__version__}\n\n{DESCRIPTION}\n\n"
        f"## Capabilities\n\n{', '.join(f'`{name}`' for name in CAPABILITIES)}\n\n"
        f"## Settings\n\n| key | default | meaning | allowed |\n|---|---|---|---|\n{settings}\n"
        f"## Streams\n\n| stream | key | replication | columns |\n|---|---|---|---|\n{listed}"
    )


def _text(streams: list[dict[str, Any]]) -> str:
    settings = "".join(
        f"  {setting.name} (default: {_plain_default(setting)})\n"
        + _paragraph(setting.description)
        + _paragraph(f"Allowed: {setting.allowed}.")
        for setting in SETTINGS
    )
    listed = "".join(
        f"  {stream['tap_stream_id']}: {len(stream['schema']['properties'])} columns, "
        f"{_replication(stream)}, key: {_key(stream)}\n"
        for stream in streams
    )
    return (
        f"{NAME} {__version__}\n{DESCRIPTION}\n\nCapabilities: {', '.join(CAPABILITIES)}\n\n"
        f"Settings:\n{settings}\nStreams:\n{listed}"
    )


def _paragraph(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, 92), "    ") + "\n"


def _default(setting: Setting) -> str:
    """Return the default as a cell of a table."""
    plain = _plain_default(setting)
    return plain.replace("<", r"\<") if setting.default_text else f"`{plain}`"


def _plain_default(setting: Setting) -> str:
    if setting.default_text or isinstance(setting.default, str):
        return setting.default_text or str(setting.default)
    return json.dumps(setting.default)


def _key(stream: dict[str, Any]) -> str:
    return ", ".join(stream["key_properties"]) or "none"


def _replication(stream: dict[str, Any]) -> str:
    (own,) = (entry["metadata"] for entry in stream["metadata"] if not entry["breadcrumb"])
    return str(own.get("forced-replication-method") or own.get("replication-method"))
