"""Writes the tap's settings, as the code has them, into the files that Meltano reads.

    python plugins/describe.py

updates meltano.yml and the definition for Meltano's Hub; tests/test_plugins.py fails when they are
out of date. `make docs` runs this too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tap_fullstory.about import CAPABILITIES
from tap_fullstory.settings import SETTINGS, Setting

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
    lines += [line for setting in SETTINGS for line in entry(setting)]
    lines += ["settings_group_validation:", "- [api_key]", "# until here"]
    return BLOCK.sub(lambda _: "".join(f"{found[1]}{line}\n" for line in lines), text)


def entry(setting: Setting) -> list[str]:
    """Return one setting in Meltano's form. Without `value`: the tap has its own defaults."""
    default = setting.default_text or json.dumps(setting.default).strip('"')
    about = f"{setting.description} Default: {default}. Allowed: {setting.allowed}."
    lines = [
        f"- name: {setting.name}",
        f"  label: {label(setting.name)}",
        f"  kind: {kind(setting)}",
    ]
    if setting.secret:
        lines.append("  sensitive: true")
        about = setting.description
    if kind(setting) == "options":
        lines.append("  options:")
        for choice in setting.choices:
            lines += [f"  - label: {choice}", f"    value: {choice}"]
    # Every JSON string is a YAML string.
    return [*lines, f"  description: {json.dumps(about)}"]


def kind(setting: Setting) -> str:
    """What Meltano calls the type of a setting."""
    schema = setting.type.schema
    if schema.get("format") == "date-time":
        return "date_iso8601"
    kinds = schema["type"]
    first = kinds if isinstance(kinds, str) else kinds[0]
    return "options" if first == "string" and setting.choices else str(first)


def label(name: str) -> str:
    """Return a setting's name as a person would write it: `api_key` as "API key"."""
    words = ["API" if word == "api" else word for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]]).replace(" url", " address")


if __name__ == "__main__":
    for path in FILES:
        path.write_text(described(path.read_text("utf-8")), "utf-8")
