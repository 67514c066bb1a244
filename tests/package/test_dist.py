"""The wheel and the source archive install, and run without the tools for tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from environments import ROOT
from running import run_tap

from tap_fullstory.sandbox import Sandbox
from tap_fullstory.version import __version__

COMPILED = "tap_fullstory/records/_native.abi3.so"
NO_COMPILER = {"CC": "/bin/false"}
REQUIRED = {"TAP_FULLSTORY_REQUIRE_NATIVE": "1"}


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def copy_of_source(folder: Path) -> Path:
    """What a clone holds that a build reads: builds leave files where they run."""
    folder.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE",
                 "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "catalog.json",
                 "constraints.txt", "sample_config.json"):  # fmt: skip
        shutil.copy(ROOT / name, folder)
    leave = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("tap_fullstory", "docs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    return folder


def build_wheel(source: Path, out: Path, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Build with the tools that the tests have, which needs no network."""
    kept = {name: value for name, value in os.environ.items() if name not in REQUIRED}
    return subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        capture_output=True,
        timeout=300,
        env={**kept, **env},
    )


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def install(wheel_or_archive: Path, folder: Path) -> Path:
    """The tap's command in a new environment, where nothing of this folder can take its place."""
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env/bin/python"
    alone = {**os.environ, "PYTHONPATH": ""}
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--use-pep517",
        wheel_or_archive,
    ]
    done = subprocess.run(command, capture_output=True, timeout=300, env=alone, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "env/bin/tap-fullstory"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, as `make dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    source = copy_of_source(folder / "source")
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        folder / "out",
        source,
    ]
    done = subprocess.run(build, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "out"


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a machine whose compiler fails."""
    folder = tmp_path_factory.mktemp("without-compiler")
    done = build_wheel(copy_of_source(folder / "source"), folder / "out", NO_COMPILER)
    assert done.returncode == 0, done.stderr.decode()
    (wheel,) = (folder / "out").glob("*.whl")
    return wheel


def test_the_wheel_holds_the_package_with_its_types_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    names = files_in(path)
    with zipfile.ZipFile(path) as wheel:
        (metadata,) = [wheel.read(name).decode() for name in names if name.endswith("/METADATA")]
    assert {"tap_fullstory/py.typed", "tap_fullstory/schemas/events.json"} <= names
    assert not any(name.endswith(".c") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "tap_fullstory",
        f"tap_fullstory-{__version__}.dist-info",
    }
    assert "Requires-Python: >=3.10" in metadata
    assert "License-File: LICENSE" in metadata
    for name in ("Documentation", "Changelog", "Source", "Issues"):
        assert f"Project-URL: {name}, https://github.com/singer-io/tap-fullstory" in metadata
    _, _, description = metadata.partition("\n\n")
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert len(links) > 40
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert f"https://github.com/singer-io/tap-fullstory/blob/v{__version__}/docs/sql.md" in links


def test_wheel_is_named_for_every_python_only_with_the_compiled_part(built: Path) -> None:
    """Compiled here if and only if it was compiled for the tests."""
    (path,) = built.glob("*.whl")
    compiled = find_spec("tap_fullstory.records._native") is not None
    assert (COMPILED in files_in(path)) == compiled
    tag = "cp310-abi3-" if compiled else "py3-none-any.whl"
    assert path.name.startswith(f"tap_fullstory-{__version__}-{tag}")


def test_failing_compiler_gives_a_pure_wheel(without_compiler: Path) -> None:
    assert without_compiler.name == f"tap_fullstory-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(without_compiler) as archive:
        assert not any(name.endswith(".so") for name in archive.namelist())
        said = archive.read(f"tap_fullstory-{__version__}.dist-info/WHEEL").decode().splitlines()
    assert {"Root-Is-Purelib: true", "Tag: py3-none-any"} <= set(said)


def test_extension_of_an_earlier_build_stays_out_of_a_pure_wheel(tmp_path: Path) -> None:
    """Whatever is in build/, a failing compiler gives no C extension of older source."""
    source = copy_of_source(tmp_path / "source")
    assert build_wheel(source, tmp_path / "first", {}).returncode == 0
    (source / "tap_fullstory/records/_native.c").touch()
    assert build_wheel(source, tmp_path / "second", NO_COMPILER).returncode == 0
    (wheel,) = (tmp_path / "second").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert COMPILED not in files_in(wheel)


def test_what_an_earlier_build_has_left_does_not_pass_for_the_required_compiled_part(
    tmp_path: Path,
) -> None:
    source = copy_of_source(tmp_path / "source")
    assert build_wheel(source, tmp_path / "first", {}).returncode == 0
    assert build_wheel(source, tmp_path / "second", NO_COMPILER | REQUIRED).returncode != 0
    assert list(tmp_path.glob("second/*")) == []


def test_a_module_that_is_deleted_is_in_no_later_wheel(tmp_path: Path) -> None:
    source = copy_of_source(tmp_path / "source")
    module = source / "tap_fullstory/deleted.py"
    module.touch()
    for name, compiler in (("first", {}), ("second", NO_COMPILER)):
        assert build_wheel(source, tmp_path / name, compiler).returncode == 0
        (wheel,) = (tmp_path / name).glob("*.whl")
        assert ("tap_fullstory/deleted.py" in files_in(wheel)) == module.exists()
        module.unlink(missing_ok=True)


def test_a_wheel_is_the_same_wherever_and_whenever_it_is_built(built: Path, tmp_path: Path) -> None:
    source = copy_of_source(tmp_path / "elsewhere")
    for path in source.rglob("*.py"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert build_wheel(source, tmp_path / "out", {}).returncode == 0
    (first,), (second,) = built.glob("*.whl"), (tmp_path / "out").glob("*.whl")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_failing_compiler_fails_the_build_where_the_compiled_part_is_required(
    tmp_path: Path,
) -> None:
    source = copy_of_source(tmp_path / "source")
    done = build_wheel(source, tmp_path / "out", NO_COMPILER | REQUIRED)
    assert done.returncode != 0
    assert b"/bin/false" in done.stdout + done.stderr
    assert list(tmp_path.glob("out/*")) == []


@pytest.fixture
def free_threaded(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that says it is free-threaded."""
    folder = tmp_path / "free-threaded"
    folder.mkdir()
    program = "import sysconfig\nsysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\n"
    (folder / "sitecustomize.py").write_text(program)
    return {"PYTHONPATH": str(folder)}


def test_free_threaded_python_gets_a_pure_wheel(
    free_threaded: dict[str, str], tmp_path: Path
) -> None:
    source = copy_of_source(tmp_path / "source")
    done = build_wheel(source, tmp_path / "out", free_threaded)
    assert done.returncode == 0, done.stderr.decode()
    (wheel,) = (tmp_path / "out").glob("*.whl")
    assert wheel.name == f"tap_fullstory-{__version__}-py3-none-any.whl"
    assert COMPILED not in files_in(wheel)


def test_free_threaded_python_cannot_build_a_required_compiled_part(
    free_threaded: dict[str, str], tmp_path: Path
) -> None:
    source = copy_of_source(tmp_path / "source")
    done = build_wheel(source, tmp_path / "out", free_threaded | REQUIRED)
    assert done.returncode != 0
    assert b"free-threaded" in done.stdout + done.stderr


def test_every_supported_python_is_run_by_ci_and_named() -> None:
    """The classifiers in setup.py are the list; the other places follow it."""
    pythons = re.findall(r"Programming Language :: Python :: (3\.\d+)", read("setup.py"))
    quoted = ", ".join(f'"{version}"' for version in pythons)
    assert f"python: [{quoted}]" in read(".circleci/config.yml")
    for name in ("README.md", "CONTRIBUTING.md", "Makefile"):
        named = set(re.findall(r"Python\s+(3\.\d+)\s+to\s+(3\.\d+)", read(name)))
        assert (pythons[0], pythons[-1]) in named, name


def test_the_source_archive_has_what_its_readers_look_for(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "catalog.json", "sample_config.json"} <= names
    assert "tap_fullstory/records/_native.c" in names
    assert {
        "constraints.txt", "docs/operations.md", "examples/sync.sh", "examples/alerts.py",
        "examples/duckdb/load.py", "examples/systemd/tap-fullstory.service",
        "examples/kubernetes/cronjob.yaml",
    } <= names  # fmt: skip
    assert not any(name.startswith("tests") for name in names)


def test_pure_wheel_installs_and_runs(without_compiler: Path, tmp_path: Path) -> None:
    pip_install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command: list[str | Path] = [*pip_install, "--target", tmp_path / "there", without_compiler]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    env = {"PYTHONPATH": str(tmp_path / "there")}
    where = [sys.executable, "-c", "import tap_fullstory; print(tap_fullstory.__file__)"]
    found = subprocess.run(where, capture_output=True, env={**os.environ, **env}, cwd="/")
    assert found.stdout.decode().startswith(env["PYTHONPATH"])
    with Sandbox() as sandbox:
        run = run_tap(sandbox.config(), env=env)
    assert len(run.records) == 144


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_it_installs_and_runs_in_an_environment_of_its_own(
    built: Path, tmp_path: Path, pattern: str
) -> None:
    (path,) = built.glob(pattern)
    tap = install(path, tmp_path)
    with Sandbox() as sandbox:
        run = run_tap(sandbox.config(), executable=tap, env={"PYTHONPATH": ""})
    assert len(run.records) == 144
    pip_list: list[str | Path] = [tap.with_name("python"), "-m", "pip", "list"]
    listed = subprocess.run(pip_list, capture_output=True, check=True, cwd=tmp_path)
    assert b"pytest" not in listed.stdout
