"""Which modules of the package may import which: data goes one way, and nothing points back up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tap_fullstory

ROOT = Path(tap_fullstory.__file__).parent
# From the bottom to the top: a module may import those before it.
ORDER = """
    version errors counts times streams
    records.json_text
    signals json_files
    exports.bundle fullstory.urls
    columns setting_types output.batch_config settings fields added_columns meltano
    catalog selection bookmarks
    logs.lines logs.metrics logs.redact
    fullstory.retry fullstory.connections fullstory.failures fullstory.responses
    fullstory.download fullstory.session fullstory.client
    exports.unpack exports.spool exports.data_export exports.segment_export exports.sources
    output.messages output.arrow output.batch
    records.digest records.native records.encoder records.reader records.rest records.added
    logs.progress logs.report
    run sync_export sync_rest sync
    discover checks about command __init__ __main__
    """.split()


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {
    name: path
    for path in sorted(ROOT.rglob("*.py"))
    if not (name := name_of(path)).startswith("sandbox.")
    and (path.name != "__init__.py" or path.parent == ROOT)
}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{name.name}" for name in node.names]
        else:
            continue
        for name in names:
            if name.startswith("tap_fullstory"):
                inside = name.removeprefix("tap_fullstory").lstrip(".")
                module = inside if inside in MODULES else inside.rpartition(".")[0]
                yield module or "__init__"


def test_every_module_has_its_place():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_points_back_up(name):
    below = {*ORDER[: ORDER.index(name)], "records", "output"}
    assert set(imports(MODULES[name])) <= below


def test_the_tap_never_imports_the_sandbox():
    for path in MODULES.values():
        assert not any(name.startswith("sandbox") for name in imports(path)), path
