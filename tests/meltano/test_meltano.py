"""A real Meltano with the meltano.yml of this folder: `make test-meltano`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from environments import ENVIRONMENTS, ROOT
from postgres import Postgres, programs_or_skip
from running import columns

from tap_fullstory.sandbox import Bundle, Sandbox, generated_bundles
from tap_fullstory.settings import SHOWN_SETTINGS, member_paths
from tap_fullstory.times import format_rfc3339, from_epoch

TIMEOUT = 300  # seconds for one command: the first ones make environments

pytestmark = pytest.mark.skipif(
    "TEST_MELTANO" not in os.environ, reason="`make test-meltano` runs these: they take a minute"
)

Meltano = Callable[..., str]


def timestamp(seconds: int) -> str:
    return format_rfc3339(from_epoch(seconds))


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


def test_a_second_run_resumes_from_meltanos_state(
    meltano: Meltano, sandbox: Sandbox, project: Path
) -> None:
    def rows() -> list[str]:
        # One line is one row: no line break is in a JSON text.
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


def test_runs_that_are_stopped_lose_and_double_nothing_with_a_digest() -> None:
    """By every signal and by `timeout`, at random moments: as `make bench-stops` does it."""
    programs_or_skip()
    done = subprocess.run(
        [sys.executable, "bench/stops.py", "--only=Meltano, target-postgres, `event", "--stops=10"],
        cwd=ROOT, capture_output=True, timeout=2 * TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert re.search(r"10 stops in \d+ loads .*: 0 rows lost, 0 doubled", done.stdout.decode())


def on_the_page(language: str) -> list[str]:
    page = (ROOT / "docs/meltano.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_page_works_as_written(tmp_path: Path, postgres: Postgres) -> None:
    """From an empty folder to a database, every command in its order. A bundle ends every day; the
    last of three is published after the first run.
    """
    install, folder, *commands = on_the_page("sh")
    assert "pip install meltano" in install
    assert "mkdir" in folder
    (project,) = on_the_page("yaml")
    target = ENVIRONMENTS / "meltanolabs-target-postgres/bin/target-postgres"
    project = project.replace("/path/to/tap-fullstory", str(ROOT)).replace(
        "    pip_url: meltanolabs-target-postgres==0.8.1\n    executable: target-postgres",
        f"    executable: {target}",
    )
    (tmp_path / "meltano.yml").write_text(project, encoding="utf-8")
    with Sandbox(generated_bundles(3, 72), unpublished=1) as sandbox:
        config = sandbox.config()
        first, last = (timestamp(one.start) for one in (sandbox.bundles[0], sandbox.bundles[2]))
        environment = {
            **os.environ,
            "PATH": f"{ENVIRONMENTS / 'meltano/bin'}:{os.environ['PATH']}",
            "TAP_FULLSTORY_DATA_EXPORT_URL": config["data_export_url"],
            "TAP_FULLSTORY_API_URL": config["api_url"],
            "NO_COLOR": "1",
            "no_proxy": "127.0.0.1",
        }

        def run(*words: str) -> None:
            block = next(one for one in commands if all(word in one for word in words))
            commands.remove(block)
            for written, here in (
                ("na1.YOUR_FULLSTORY_API_KEY", config["api_key"]),
                ("postgresql+psycopg://user:password@localhost:5432/database", postgres.url),
                ("2026-06-01T00:00:00Z", last),
                ("2025-01-01T00:00:00Z", first),
                ("2026-01-01T00:00:00Z", last),
            ):
                block = block.replace(written, here)
            done = subprocess.run(
                ["bash", "-e", "-c", block], cwd=tmp_path, env=environment,
                capture_output=True, timeout=TIMEOUT,
            )  # fmt: skip
            assert done.returncode == 0, f"{block}\n{done.stderr.decode()[-5000:]}"

        def rows(sql: str) -> int:
            (row,) = postgres.query(f"select count(*) as n from fullstory.{sql}")
            return int(row["n"])

        run("cat > .env")
        run("meltano select", "events '*'")
        run("meltano install")
        assert rows("events") == 144
        emails = rows("""events where "UserEmail" is not null""")
        addresses = rows("""events where "PageIp" is not null""")
        assert emails
        run("--exclude")
        run("user_plan_str")
        sandbox.publish()
        run("privacy_settings_history '*'", "meltano run")
        assert rows("events") == 216
        assert rows("""events where "UserEmail" is not null""") == emails
        assert rows("""events where "PageIp" is not null""") == addresses
        assert rows("events where user_plan_str is not null")
        versions = rows("privacy_settings_history")
        assert versions
        run("meltano state list")
        run("bookmarks.events")
        run("del(")  # runs the tap too: the newest day is loaded again, and replaces itself
        assert rows("events") == 216
        assert rows("privacy_settings_history") == versions
        run("--state-id-suffix=backfill")
        # The digests of days that were loaded before exclude_fields was set have no key.
        assert rows("events") == 216 + 144
        run("meltano job add")
    assert commands == []


def test_a_definition_that_is_added_selects_every_stream(sandbox: Sandbox, tmp_path: Path) -> None:
    """Meltano leaves out its `select`, so the page has a command that selects events alone."""
    definition = (ROOT / "plugins/extractors/tap-fullstory--singer-io.yml").read_text("utf-8")
    definition = definition.replace("pip_url: tap-fullstory", f"pip_url: '{ROOT}[arrow]'")
    (tmp_path / "tap.yml").write_text(definition, encoding="utf-8")
    start = "default_environment: dev\nenvironments: [{name: dev}]\n"
    (tmp_path / "meltano.yml").write_text(start, encoding="utf-8")
    settings = {f"TAP_FULLSTORY_{name.upper()}": value for name, value in sandbox.config().items()}

    def run(*arguments: str, **more: str) -> str:
        return subprocess.run(
            [ENVIRONMENTS / "meltano/bin/meltano", *arguments], cwd=tmp_path, text=True,
            env={**os.environ, **settings, "NO_COLOR": "1", "no_proxy": "127.0.0.1", **more},
            stdout=subprocess.PIPE, timeout=TIMEOUT, check=True,
        ).stdout  # fmt: skip

    run("add", "tap-fullstory", "--from-ref=tap.yml")
    assert "users.uid" in run("select", "tap-fullstory", "--list")
    run("select", "tap-fullstory", "events", "*")
    assert "users.uid" not in run("select", "tap-fullstory", "--list")
    # The parts of batch_config by the Hub's names, as Meltano gives them to the tap.
    printed = run(
        "invoke", "tap-fullstory",
        TAP_FULLSTORY_BATCH_CONFIG_ENCODING_FORMAT="jsonl",
        TAP_FULLSTORY_BATCH_CONFIG_STORAGE_ROOT=str(tmp_path),
    )  # fmt: skip
    assert '"BATCH"' in printed
    assert '"RECORD"' not in printed
    # As Meltano's page on Arrow has it: in meltano.yml, by the dotted name.
    run("config", "set", "tap-fullstory", "batch_config.encoding.format", "arrow")
    assert "arrow" in (tmp_path / "meltano.yml").read_text("utf-8")
    printed = run("invoke", "tap-fullstory", TMPDIR=str(tmp_path))
    batches = [json.loads(line) for line in printed.splitlines() if '"BATCH"' in line]
    assert [batch["encoding"] for batch in batches] == [{"format": "arrow"}] * len(batches) != []
    for batch in batches:
        (url,) = batch["manifest"]
        path = Path(url.removeprefix("file://"))
        assert path.parent == tmp_path / "singer-sdk"
        assert path.read_bytes()[:6] == b"ARROW1"


def test_an_environment_replaces_the_list_of_select(meltano: Meltano, project: Path) -> None:
    listed = meltano("--environment=prod", "select", "tap-fullstory", "--list")
    assert "[selected" in listed
    prod = "config: {plugins: {extractors: [{name: tap-fullstory, select: ['!events.PageIp']}]}}"
    file = project / "meltano.yml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("- name: prod\n", f"- name: prod\n  {prod}\n"), "utf-8")
    try:
        listed = meltano("--environment=prod", "select", "tap-fullstory", "--list")
    finally:
        file.write_text(text, "utf-8")
    assert "[selected" not in listed
