"""The wheel and the source archive install, and run without the tools for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from running import run_tap

from tap_fullstory.native import is_available
from tap_fullstory.sandbox import Sandbox
from tap_fullstory.version import __version__

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", folder, ROOT]
    done = subprocess.run(build, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return folder


def test_the_wheel_holds_the_package_with_its_types_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name.startswith(f"tap_fullstory-{__version__}-cp310-abi3-")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (metadata,) = [wheel.read(name).decode() for name in names if name.endswith("/METADATA")]
    assert {"tap_fullstory/py.typed", "tap_fullstory/schemas/events.json"} <= set(names)
    assert ("tap_fullstory/_native.abi3.so" in names) == is_available()
    assert not any(name.endswith(".c") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "tap_fullstory",
        f"tap_fullstory-{__version__}.dist-info",
    }
    assert "Requires-Python: >=3.10" in metadata
    assert "License-File: LICENSE" in metadata


def test_the_source_archive_has_what_its_readers_look_for(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "catalog.json", "sample_config.json"} <= names
    assert "tap_fullstory/_native.c" in names
    assert not any(name.startswith("tests") for name in names)


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_it_installs_and_runs_in_an_environment_of_its_own(
    built: Path, tmp_path: Path, pattern: str
) -> None:
    (path,) = built.glob(pattern)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--use-pep517", path]
    # Nothing of this folder may take the installed package's place.
    alone = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(install, capture_output=True, timeout=300, env=alone, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    with Sandbox() as sandbox:
        tap = tmp_path / "env/bin/tap-fullstory"
        run = run_tap(sandbox.config(), executable=tap, env={"PYTHONPATH": ""})
    assert len(run.records) == 144
    pip_list = [python, "-m", "pip", "list"]
    listed = subprocess.run(pip_list, capture_output=True, check=True, env=alone, cwd=tmp_path)
    assert b"pytest" not in listed.stdout
