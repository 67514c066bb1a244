"""A real Meltano with the meltano.yml of this folder: `make test-meltano`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from environments import ENVIRONMENTS
from running import columns

from tap_fullstory.sandbox import Bundle, Sandbox, generated_bundles
from tap_fullstory.settings import SHOWN_SETTINGS, member_paths

ROOT = Path(__file__).parent.parent
TIMEOUT = 300  # seconds for one command: the first ones make environments

pytestmark = pytest.mark.skipif(
    "TEST_MELTANO" not in os.environ, reason="`make test-meltano` runs these: they take a minute"
)

Meltano = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This folder as someone has cloned it, with the tap and one loader installed."""
    folder = tmp_path_factory.mktemp("meltano")
    for name in ("tap_fullstory", "requirements"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "MANIFEST.in", "meltano.yml"):
        shutil.copy(ROOT / name, folder)
    (folder / "output").mkdir()
    return folder


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(generated_bundles(3, 24), unpublished=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def meltano(project: Path, sandbox: Sandbox) -> Meltano:
    """Runs a command of Meltano, and gives what it prints on stdout."""
    config = sandbox.config()
    environment = {
        **os.environ,
        **{f"TAP_FULLSTORY_{name.upper()}": value for name, value in config.items()},
        "TARGET_JSONL_DESTINATION_PATH": str(project / "output"),
        "MELTANO_CLI_LOG_LEVEL": "debug",
        "NO_COLOR": "1",
        "no_proxy": "127.0.0.1",
    }

    def run(*arguments: str, **extras: str) -> str:
        done = subprocess.run(
            [ENVIRONMENTS / "meltano/bin/meltano", *arguments],
            cwd=project,
            env={**environment, **extras},
            capture_output=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert config["api_key"] not in done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()

    run("install", "extractor", "tap-fullstory")
    run("install", "loader", "target-jsonl")
    return run


def test_every_setting_is_known_to_meltano_and_the_key_is_hidden(meltano: Meltano) -> None:
    listed = meltano("config", "list", "--all", "tap-fullstory")
    for setting in SHOWN_SETTINGS:
        for path in list(member_paths(setting.type.schema, (setting.name,))) or [(setting.name,)]:
            variable = f"TAP_FULLSTORY_{'_'.join(path).upper()}"
            assert f"{'.'.join(path)} [env: {variable}]" in listed
    printed = json.loads(meltano("config", "print", "tap-fullstory"))
    assert printed["api_key"] == "*****"


def test_config_test_finds_the_config_valid(meltano: Meltano) -> None:
    assert "Plugin configuration is valid" in meltano("config", "test", "tap-fullstory")


def test_select_lists_every_column(meltano: Meltano) -> None:
    listed = meltano("select", "tap-fullstory", "--list")
    for name in columns() | {"CustomVars"}:
        assert f"events.{name}\n" in listed


def test_a_second_run_goes_on_from_meltanos_state(
    meltano: Meltano, sandbox: Sandbox, project: Path
) -> None:
    def rows() -> list[str]:
        # One line is one row: no line break stands in a JSON text.
        return (project / "output/events.jsonl").read_text("utf-8").splitlines()

    meltano("run", "tap-fullstory", "target-jsonl")
    assert len(rows()) == 48
    state = json.loads(meltano("state", "get", "dev:tap-fullstory-to-target-jsonl"))
    end = sandbox.bundles[1].stop
    assert set(state["singer_state"]["bookmarks"]["events"]) == {"bundle_end"}

    sandbox.publish()
    before = len(sandbox.requests)
    meltano("run", "tap-fullstory", "target-jsonl")
    asked = sandbox.requests[before:]
    # Meltano may discover first, which asks for what ends after now.
    lists = [int(one.query["start"]) for one in asked if one.path.endswith("/list")]
    assert min(lists) == end
    assert len([one for one in asked if one.path.endswith("/get")]) == 1
    assert len(rows()) == len(set(rows())) == 72

    meltano("run", "tap-fullstory", "target-jsonl")
    assert len(rows()) == 72


def test_what_is_deselected_is_nowhere_and_a_variable_is_a_column_by_its_name(
    meltano: Meltano,
) -> None:
    day, start = 86_400, 1_600_041_600
    event = {"EventStart": "2020-09-14T00:00:01.000Z", "UserEmail": "marked-1"}
    variables = {"user_phone_str": "marked-2", "user_plan_str": "gold", "evt_p_reals": [1, 2.5]}
    bundles = [
        Bundle("1", start, start + day, [{**event, **variables, "user_code_str": "marked-3"}]),
        # The newest has some of the variables only.
        Bundle("2", start + day, start + 2 * day, [{**event, "evt_p_reals": [1, 2.5]}]),
    ]
    select = ["events.*", "!events.user_phone_str", "!events.user_co*", "events.user_plan_str"]
    with Sandbox(bundles) as other:
        settings = other.config(discover_custom_vars="true")
        extras = {f"TAP_FULLSTORY_{name.upper()}": value for name, value in settings.items()}
        extras["TAP_FULLSTORY__SELECT"] = json.dumps(select)
        extras["TAP_FULLSTORY__METADATA"] = '{"events.UserEmail": {"selected": "false"}}'
        printed = meltano("invoke", "tap-fullstory", **extras)
    assert "marked" not in printed
    messages = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    first, second = (one["record"] for one in messages if one["type"] == "RECORD")
    assert first["user_plan_str"] == "gold"
    assert first["CustomVars"] == second["CustomVars"] == {"evt_p_reals": [1, 2.5]}


def test_a_project_of_ones_own_works_as_written(sandbox: Sandbox, tmp_path: Path) -> None:
    """With a variable as a column, and an environment whose `select` replaces the plugin's list."""
    page = (ROOT / "docs/meltano.md").read_text("utf-8")
    written = page.partition("```yaml\ndefault_environment")[2].partition("```")[0]
    more = ", ".join(f"{{name: {name}}}" for name in ("data_export_url", "api_url"))
    custom = "{name: custom_columns, kind: array, value: [page_category_str]}"
    prod = "config: {plugins: {extractors: [{name: tap-fullstory, select: ['!events.PageIp']}]}}"
    project = (
        f"default_environment{written}".replace("/path/to/tap-fullstory", str(ROOT))
        .replace("{name: end_date}", f"{{name: end_date}}, {more}, {custom}")
        .replace("{name: prod}", f"{{name: prod, {prod}}}")
    )
    (tmp_path / "meltano.yml").write_text(project, encoding="utf-8")
    (tmp_path / "output").mkdir()
    settings = {f"TAP_FULLSTORY_{name.upper()}": value for name, value in sandbox.config().items()}

    def run(*arguments: str) -> str:
        return subprocess.run(
            [ENVIRONMENTS / "meltano/bin/meltano", *arguments], cwd=tmp_path, text=True,
            env={**os.environ, **settings, "NO_COLOR": "1", "no_proxy": "127.0.0.1"},
            stdout=subprocess.PIPE, timeout=TIMEOUT, check=True,
        ).stdout  # fmt: skip

    run("install")
    run("run", "tap-fullstory", "target-jsonl")
    (file,) = (tmp_path / "output").glob("events-*.jsonl")
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len(rows) >= 48
    assert any("page_category_str" in row for row in rows)
    assert any("user_plan_str" in row.get("CustomVars", {}) for row in rows)
    assert "[selected" not in run("--environment=prod", "select", "tap-fullstory", "--list")
