"""The documents, their blocks, and a config for the commands in them."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

from environments import ROOT

from tap_fullstory.sandbox import Sandbox

sys.path.insert(0, str(ROOT / "docs"))  # as `python docs/generate.py` has it
GENERATOR = runpy.run_path(str(ROOT / "docs/generate.py"))
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in GENERATOR["documents"]()
}
TIMEOUT = 120  # seconds: a block that hangs fails


def blocks(language: str, document: str) -> list[str]:
    text = DOCUMENTS[document]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def write_config(folder: Path, serving: Sandbox, **settings: Any) -> None:
    sample = json.loads(blocks("json", "docs/quickstart.md")[0])
    config = json.dumps({**sample, **serving.config(**settings)})
    (folder / "config.json").write_text(config, encoding="utf-8")
