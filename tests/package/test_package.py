"""The package as people get it: its files, its name and version, and what a start costs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from environments import ROOT
from running import run_command, run_tap

import tap_fullstory
from tap_fullstory.sandbox import Sandbox
from tap_fullstory.settings import SETTINGS, parse_config
from tap_fullstory.version import __version__

PACKAGE = Path(tap_fullstory.__file__).parent
# What takes longest to import; --version and --help must not wait for it.
HEAVY = {"requests", "urllib3", "singer", "msgspec", "isal", "backoff", "jsonschema"}


# --- the files at the top ---


def test_catalog_json_is_what_discovery_prints():
    """To renew it: tap-fullstory --discover > catalog.json"""
    assert run_command("--discover").stdout == (ROOT / "catalog.json").read_bytes()


NOW = datetime(2026, 6, 7, tzinfo=timezone.utc)


def test_the_sample_config_needs_nothing_but_a_key(caplog):
    sample = json.loads((ROOT / "sample_config.json").read_text())
    config = parse_config({**sample, "api_key": "na1.key"}, NOW, {})
    assert config.start_date.tzinfo is not None
    assert caplog.records == []
    assert set(sample) <= {setting.name for setting in SETTINGS}
    with Sandbox() as sandbox:
        given = {"api_key": sandbox.api_key, "data_export_url": sandbox.url}
        run = run_tap({**sample, **given, "start_date": sandbox.config()["start_date"]})
    assert run.code == 0
    assert len(run.records) == 144


# --- the command ---


def test_the_version():
    run = run_command("--version")
    assert (run.code, run.stdout.decode()) == (0, f"tap-fullstory {__version__}\n")


@pytest.mark.parametrize("arguments", [["--version"], ["--discover"]], ids=" ".join)
def test_the_installed_command_and_the_module_are_one(commands, arguments):
    installed = run_command(*arguments, executable=commands.tap)
    assert installed == run_command(*arguments)


def test_the_installed_package_has_the_version_of_the_source(commands):
    """Read from its metadata, as pip and Meltano do."""
    program = "from importlib.metadata import version; print(version('tap-fullstory'))"
    python = commands.tap.with_name("python")
    done = subprocess.run([python, "-c", program], capture_output=True, check=True, cwd="/")
    assert done.stdout.decode().strip() == __version__


def test_the_installed_tap_syncs_without_the_tools_for_tests(commands):
    with Sandbox() as sandbox:
        run = run_tap(sandbox.config(), executable=commands.tap)
    assert len(run.records) == 144


# --- warnings ---

BACKOFF_WARNS = "'asyncio.iscoroutinefunction' is deprecated and slated for removal in Python 3.16"


def test_sync_with_warnings_as_errors():
    """backoff's deprecation warning, on Python 3.14 and newer, reaches no user."""
    with Sandbox() as sandbox:
        run = run_tap(sandbox.config(), env={"PYTHONWARNINGS": "error::DeprecationWarning"})
    assert len(run.records) == 144


@pytest.mark.parametrize(
    ("message", "module", "is_hidden"),
    [
        (BACKOFF_WARNS, "backoff._decorator", True),
        (BACKOFF_WARNS, "backoff._async", True),
        (BACKOFF_WARNS, "singer.utils", False),
        (BACKOFF_WARNS, "tap_fullstory.fullstory", False),
        ("'asyncio.get_event_loop_policy' is deprecated", "backoff._decorator", False),
    ],
)
def test_only_the_deprecation_warning_of_backoff_is_hidden(message, module, is_hidden):
    program = (
        "import contextlib, warnings\n"
        "from tap_fullstory import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['--version'])\n"
        f"warnings.warn_explicit({message!r}, DeprecationWarning, 'f.py', 1, module={module!r})\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, cwd="/")
    assert (done.returncode == 0) == is_hidden, done.stderr.decode()


# --- what is imported ---


def imported(program: str) -> set[str]:
    """The modules in sys.modules at the end of a Python program."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n" + program
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd="/")
    assert done.returncode == 0, done.stderr.decode()
    return set(done.stderr.decode().split())


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_a_start_without_work_imports_nothing_heavy(flag):
    modules = imported(f"from tap_fullstory import main\nmain([{flag!r}])")
    assert "tap_fullstory" in modules
    assert HEAVY & modules == set()


def test_a_sync_does_not_import_the_sandbox(tmp_path):
    config = tmp_path / "config.json"
    with Sandbox() as sandbox:
        config.write_text(json.dumps(sandbox.config()))
        modules = imported(f"from tap_fullstory import main\nmain(['--config', {str(config)!r}])")
    assert "tap_fullstory.sync" in modules
    assert [name for name in modules if name.startswith("tap_fullstory.sandbox")] == []


def test_no_module_of_the_tap_names_the_sandbox():
    """Not even in a branch that this test does not run."""
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not any("sandbox" in name for name in names), path.name


@pytest.mark.parametrize("path", ["Dockerfile", "examples/kubernetes/Dockerfile"])
def test_images_run_as_a_number_and_from_a_pinned_base(path):
    """Under runAsNonRoot, Kubernetes refuses a user that is a name."""
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "65534:65534"
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert base == "tap-fullstory" or re.fullmatch(r"python:3\.\d+\.\d+-[a-z-]+", base)


# --- constraints.txt ---


def constraints() -> dict[str, list[str]]:
    """Return the hashes of each pinned package."""
    text = (ROOT / "constraints.txt").read_text("utf-8")
    pins = re.findall(r"^(\S+==\S+)[^\n]*((?:\\\n +--hash=\S+ ?)+)", text, re.MULTILINE)
    return {pin: re.findall(r"--hash=(\S+)", hashes) for pin, hashes in pins}


def test_the_constraints_are_what_is_installed_for_the_tests(commands):
    python = commands.tap.with_name("python")
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, check=True, text=True
    )
    installed = set(listed.stdout.split()) - {f"tap-fullstory=={__version__}"}
    tools = {name for name in installed if name.startswith(("pip==", "setuptools==", "wheel=="))}
    assert installed - tools == set(constraints())


def test_every_constraint_has_hashes():
    found = constraints()
    assert len(found) >= 16
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for many in found.values() for one in many)
    required, _, _ = read("setup.py").partition("extras_require")
    for pinned in re.findall(r'^ +"([a-z0-9-]+==[^"]+)",$', required, re.MULTILINE):
        assert pinned in found
    assert "--require-hashes" in read("Dockerfile")
    assert "--require-hashes --requirement constraints.txt" in read("docs/install.md")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")
