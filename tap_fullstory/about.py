"""What this tap is, for people and for programs: `--about`.

Made from the table that parses the config and from the catalog that discovery prints.
"""

from __future__ import annotations

import json
import textwrap
from importlib import metadata
from typing import Any

from tap_fullstory import catalog
from tap_fullstory.settings import GROUPS, SHOWN_SETTINGS, VARIABLE_PREFIX, Setting
from tap_fullstory.version import REPOSITORY, SOURCE, __version__

NAME = "tap-fullstory"
DESCRIPTION = "Singer tap for FullStory: one record for each captured event"
# By Meltano's names (docs.meltano.com/reference/plugin-definition-syntax).
CAPABILITIES = ("about", "batch", "catalog", "discover", "state", "structured-logging", "test")
PYTHON_VERSION = "Programming Language :: Python :: 3."  # a classifier of the package


# Examples are in the source archive, not in the wheel.
LINKS = {
    "documentation": f"{SOURCE}/README.md",
    "troubleshooting": f"{SOURCE}/docs/troubleshooting.md",
    "examples": f"{SOURCE.replace('/blob/', '/tree/')}/examples",
    "changelog": f"{SOURCE}/CHANGELOG.md",
    "issues": f"{REPOSITORY}/issues",
}


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
        "links": LINKS,
        "supported_python_versions": _python_versions(),
        "capabilities": CAPABILITIES,
        "settings": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {setting.name: _schema(setting) for setting in SHOWN_SETTINGS},
            "required": [one.name for one in SHOWN_SETTINGS if one.required],
        },
        "env_var_prefix": VARIABLE_PREFIX,
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


def _python_versions() -> list[str]:
    classifiers = metadata.metadata(NAME).get_all("Classifier") or []
    return [one.rpartition(" ")[2] for one in classifiers if one.startswith(PYTHON_VERSION)]


def _schema(setting: Setting) -> dict[str, Any]:
    schema = {"title": setting.label, **setting.type.schema}
    if setting.default is not None:
        schema["default"] = setting.default
    if setting.secret:
        schema["secret"] = True
    return {**schema, "group": setting.group.title, "description": setting.explanation}


def _markdown(streams: list[dict[str, Any]]) -> str:
    settings = "".join(
        f"### {group.title}\n\n{group.purpose}\n\n"
        "| key | default | meaning, and when one needs it | allowed |\n|---|---|---|---|\n"
        + "".join(
            f"| `{one.name}` | {_default(one)} | {one.explanation} | {one.allowed} |\n"
            for one in SHOWN_SETTINGS
            if one.group is group
        )
        + "\n"
        for group in GROUPS
    )
    listed = "".join(
        f"| `{stream['tap_stream_id']}` | {_key(stream)} | {_replication(stream)} "
        f"| {len(stream['schema']['properties'])} |\n"
        for stream in streams
    )
    links = "".join(f"- [{name.capitalize()}]({address})\n" for name, address in LINKS.items())
    return (
        f"# {NAME} {__version__}\n\n{DESCRIPTION}\n\n{links}\n"
        f"## Capabilities\n\n{', '.join(f'`{name}`' for name in CAPABILITIES)}\n\n"
        f"## Settings\n\n{settings}"
        f"## Streams\n\n| stream | key | replication | columns |\n|---|---|---|---|\n{listed}"
    )


def _text(streams: list[dict[str, Any]]) -> str:
    settings = "".join(
        f"\n{group.title}: {group.purpose}\n"
        + "".join(
            f"  {one.name} (default: {_plain_default(one)})\n"
            + _paragraph(one.explanation)
            + _paragraph(f"Allowed: {one.allowed}.")
            for one in SHOWN_SETTINGS
            if one.group is group
        )
        for group in GROUPS
    )
    listed = "".join(
        f"  {stream['tap_stream_id']}: {len(stream['schema']['properties'])} columns, "
        f"{_replication(stream)}, key: {_key(stream)}\n"
        for stream in streams
    )
    links = "".join(f"{name.capitalize()}: {address}\n" for name, address in LINKS.items())
    return (
        f"{NAME} {__version__}\n{DESCRIPTION}\n\n{links}\n"
        f"Capabilities: {', '.join(CAPABILITIES)}\n\n"
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
