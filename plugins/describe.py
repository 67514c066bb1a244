"""Writes the tap's settings, as the code has them, into the files that Meltano reads.

    python plugins/describe.py

updates meltano.yml and the definition for Meltano's Hub; tests/meltano/test_plugins.py fails when
they are out of date. `make docs` runs this too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tap_fullstory.about import CAPABILITIES
from tap_fullstory.settings import SHOWN_SETTINGS, Setting, label, member_paths

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    ROOT / "meltano.yml",
    ROOT / "plugins/extractors/tap-fullstory--singer-io.yml",
)
BLOCK = re.compile(
    r"^( *)# written by plugins/describe.py\n.*?^ *# until here\n", re.MULTILINE | re.DOTALL
)


def described(text: str) -> str:
    """Return the text of one of the files, with the settings as they are now between its markers.

    Raises ValueError if it has no markers.
    """
    found = BLOCK.search(text)
    if found is None:
        raise ValueError("the markers are missing")
    lines = ["# written by plugins/describe.py"]
    lines += [f"capabilities: [{', '.join(CAPABILITIES)}]", "settings:"]
    lines += [line for setting in SHOWN_SETTINGS for line in entries(setting)]
    lines += ["settings_group_validation:", "- [api_key]", "# until here"]
    return BLOCK.sub(lambda _: "".join(f"{found[1]}{line}\n" for line in lines), text)


def entries(setting: Setting) -> Iterator[str]:
    """Yield the lines of one setting in Meltano's form. Of one that is an object there are its
    members, by the Hub's dotted names: Meltano makes the object of them, and would not if it were
    listed too. Without `value`: the tap has its own defaults.
    """
    default = setting.default_text or json.dumps(setting.default).strip('"')
    about = f"{setting.explanation} Default: {default}. Allowed: {setting.allowed}."
    if setting.secret:
        about = setting.explanation
    about = f"{setting.group.title}: {about}"
    schema = setting.type.schema
    members = list(member_paths(schema, ()))
    for path in members:
        inner = schema
        for name in path:
            inner = inner["properties"][name]
        dotted = ".".join((setting.name, *path))
        yield from entry(dotted, inner, f"One part of {setting.name}. {about}")
    if not members:
        yield from entry(setting.name, schema, about, sensitive=setting.secret)


def entry(name: str, schema: Mapping[str, Any], about: str, sensitive: bool = False) -> list[str]:
    """Return the lines of one setting, or of a member of one."""
    lines = [f"- name: {name}", f"  label: {label(name)}", f"  kind: {kind(schema)}"]
    if sensitive:
        lines.append("  sensitive: true")
    if kind(schema) == "options":
        lines.append("  options:")
        for choice in schema["enum"]:
            lines += [f"  - label: {choice}", f"    value: {choice}"]
    # Every JSON string is a YAML string.
    return [*lines, f"  description: {json.dumps(about)}"]


def kind(schema: Mapping[str, Any]) -> str:
    """Return what Meltano calls the type of a setting."""
    if schema.get("format") == "date-time":
        return "date_iso8601"
    kinds = schema["type"]
    first = kinds if isinstance(kinds, str) else kinds[0]
    return "options" if first == "string" and "enum" in schema else str(first)


if __name__ == "__main__":
    for path in FILES:
        path.write_text(described(path.read_text("utf-8")), "utf-8")
