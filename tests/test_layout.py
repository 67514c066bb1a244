"""Which rooms of the package may import which: data goes one way, and nothing points back up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tap_fullstory

ROOT = Path(tap_fullstory.__file__).parent
ABOVE = ("command", "sync", "sync_export", "sync_rest", "sync_segments")
FORBIDDEN = {
    "fullstory": ("exports", "output", "bookmarks", *ABOVE),
    "exports": ("output", *ABOVE),
    "records": ("exports", "settings", "fullstory", "bookmarks", *ABOVE),
    "output": ("exports", "settings", "fullstory", "bookmarks", *ABOVE),
}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def imports(module: Path) -> Iterator[str]:
    """The rooms that a module imports: the name after `tap_fullstory.`."""
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "tap_fullstory":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
            yield from (name.split(".")[1] for name in names if name.startswith("tap_fullstory."))
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
            yield from (name.split(".")[1] for name in names if name.startswith("tap_fullstory."))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_points_back_up(module: Path) -> None:
    room = module.parts[0].removesuffix(".py")
    imported = set(imports(module))
    assert imported.isdisjoint(FORBIDDEN.get(room, ()))
    assert "sandbox" not in imported or room == "sandbox"
