"""The documents say what the code does: settings, flags, exit codes, streams, errors, warnings.

Their commands work, their links lead somewhere, and none is too long.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import postgres
import pytest
import texts
from documents import DOCUMENTS, GENERATOR, TIMEOUT, blocks, write_config
from environments import ROOT

from tap_fullstory.bookmarks import parse_state
from tap_fullstory.catalog import discover
from tap_fullstory.sandbox import Sandbox, generated_bundles
from tap_fullstory.settings import SETTINGS, parse_config

PAGES = {name: text for name, text in DOCUMENTS.items() if name.startswith("docs/")}
MAX_LINES = {"README.md": 110, **dict.fromkeys(PAGES, 250)}
NOW = datetime(2026, 6, 7, tzinfo=timezone.utc)


FIGURES = DOCUMENTS["bench/RESULTS.md"]


# --- form ---


@pytest.mark.parametrize("name", MAX_LINES)
def test_no_document_is_too_long(name):
    assert DOCUMENTS[name].count("\n") <= MAX_LINES[name]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_linked_from_the_readme_or_another_page(name):
    others = [text for other, text in DOCUMENTS.items() if other != name]
    assert any(f"({name})" in text or f"({Path(name).name}" in text for text in others)


def test_every_document_is_in_the_navigation_once_and_in_the_readme_in_its_order():
    navigation: dict[str, list[str]] = {}
    _, _, lines = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n- README.md\n")
    for line in lines.splitlines():
        if group := re.fullmatch(r"- (.+):", line):
            navigation[group[1]] = []
        else:
            navigation[list(navigation)[-1]].append(line.strip(" -"))
    listed = [page for pages in navigation.values() for page in pages]
    assert sorted([*listed, "README.md"]) == sorted(DOCUMENTS)
    readme = re.findall(r"^- \*\*(.+):\*\* (.+)$", DOCUMENTS["README.md"], re.MULTILINE)
    assert [group for group, _ in readme] == list(navigation)
    for group, links in readme:
        linked = re.findall(r"\]\(([^)]+)\)", links)
        assert linked == [page for page in navigation[group] if page in linked]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    here = ROOT / name
    for target in re.findall(r"\]\(([^)]+)\)", DOCUMENTS[name]):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            there = (here.parent / path).resolve() if path else here
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def anchors(document: Path) -> set[str]:
    """Return a document's anchors: those that GitHub gives to headings, and those of rows."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    given = re.findall(r'<a id="([^"]+)"></a>', text)
    return {*given} | {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


# --- what follows from the code ---


@pytest.mark.parametrize("name", DOCUMENTS)
def test_generated_sections_are_as_the_code_has_them_now(name):
    assert GENERATOR["regenerate"](DOCUMENTS[name]) == DOCUMENTS[name], (
        "run: python docs/generate.py"
    )


def test_every_generated_section_is_in_a_document():
    named = [part for text in DOCUMENTS.values() for _, part, _ in GENERATOR["BLOCK"].findall(text)]
    assert sorted(named) == sorted(GENERATOR["SECTIONS"])


def test_the_number_of_columns_is_that_of_the_code():
    columns = set(discover()["streams"][0]["schema"]["properties"]) - {"CustomVars"}
    assert f"{len(columns)} columns" in DOCUMENTS["docs/columns.md"]


def test_the_json_samples_can_be_used():
    names = {setting.name for setting in SETTINGS}
    kinds = set()
    for sample in (json.loads(text) for name in DOCUMENTS for text in blocks("json", name)):
        if "api_key" in sample:
            assert set(sample) <= names
            parse_config(sample, NOW, {})
        elif "bookmarks" in sample:
            parse_state(sample)
        kinds.add(next(iter(sample)))
    assert {"api_key", "bookmarks", "primary_key_required"} <= kinds
    parse_config(json.loads((ROOT / "sample_config.json").read_text()), NOW, {})


# --- errors and warnings ---


class Row(NamedTuple):
    """A row of the troubleshooting page: texts of a CRITICAL line, or of the WARNINGs of a code."""

    anchor: str
    code: str
    patterns: list[str]
    advice: str


def listed() -> dict[str, list[Row]]:
    """Return the rows of the tables whose heads have a column CRITICAL or WARNING."""
    found: dict[str, list[Row]] = {"CRITICAL": [], "WARNING": []}
    kind = ""
    for line in DOCUMENTS["docs/troubleshooting.md"].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| "):
            kind = next((cell for cell in cells if cell in found), kind)
            if kind not in cells:
                *first, pattern_cell, advice = cells
                anchor = re.match(r'<a id="([a-z0-9_-]+)"></a>', cells[0])
                assert anchor, f"begin the row with an anchor: {line}"
                code = cells[0][anchor.end() :].strip("`") if first else ""
                found[kind].append(
                    Row(anchor[1], code, re.findall(r"`([^`]+)`", pattern_cell), advice)
                )
    return found


ROWS = listed()
LISTED = {kind: [one for row in rows for one in row.patterns] for kind, rows in ROWS.items()}
ERRORS, WARNINGS = texts.errors(), texts.warnings()


def test_errors_and_warnings_are_found_in_the_source():
    assert len(ERRORS) > 40
    assert len(WARNINGS) > 20
    assert {name.partition("/")[0] for name in ERRORS.values()} >= {
        "settings.py",
        "fullstory",
        "exports",
    }


@pytest.mark.parametrize("text", sorted(ERRORS))
def test_every_error_can_be_looked_up(text):
    assert any(texts.matches(pattern, text) for pattern in LISTED["CRITICAL"]), (
        f"{ERRORS[text]}: docs/troubleshooting.md needs a row in a table of CRITICAL lines:\n"
        f'| <a id="a-word"></a>`{text}` | what to do |'
    )


@pytest.mark.parametrize("text", sorted(WARNINGS))
def test_every_warning_can_be_looked_up(text):
    assert any(texts.matches(pattern, text) for pattern in LISTED["WARNING"]), (
        f"{WARNINGS[text]}: docs/troubleshooting.md needs a row in a table of WARNINGs:\n"
        f'| <a id="its_code"></a>`its_code` | `{text}` | what it means |'
    )


@pytest.mark.parametrize("pattern", sorted({*LISTED["CRITICAL"], *LISTED["WARNING"]}))
def test_every_row_is_a_text_of_the_code(pattern):
    assert any(texts.matches(pattern, text) for text in texts.all_texts()), (
        "no error or warning contains this: remove or correct the row in docs/troubleshooting.md"
    )


def test_every_warning_is_in_the_row_of_its_code():
    codes = texts.warning_codes()
    for row in ROWS["WARNING"]:
        assert row.anchor == row.code
    by_code = {row.code: row.patterns for row in ROWS["WARNING"]}
    assert len(by_code) == len(ROWS["WARNING"])
    assert by_code.keys() == codes.keys()
    for code, found in codes.items():
        for text in found:
            assert any(texts.matches(one, text) for one in by_code[code]), f"{code}: {text}"


def test_every_row_has_an_anchor_and_advice_of_its_own():
    rows = [row for kind in ROWS.values() for row in kind]
    assert len({row.anchor for row in rows}) == len(rows)
    for row in rows:
        assert not row.advice.startswith("Likewise"), row


# --- commands ---

needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
needs_flock = pytest.mark.skipif(not shutil.which("flock"), reason="flock is part of Linux")


@pytest.fixture
def shell(commands, tmp_path):
    """Start a block as a reader would in the folder of the quickstart; end what still runs then."""
    programs = f"{commands.tap.parent}:{commands.target_jsonl.parent}"
    environment = {
        **{name: value for name, value in os.environ.items() if "TAP_FULLSTORY" not in name},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "no_proxy": "127.0.0.1",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start(*script: str, **more: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as stderr:
            started.append(
                subprocess.Popen(
                    ["bash", "-o", "pipefail", "-e", "-c", "\n".join(script)],
                    cwd=tmp_path,
                    env={**environment, **more},
                    stderr=stderr,
                    start_new_session=True,
                )
            )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                # examples/sync.sh passes it on to a tap in another process group.
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def sandbox(tmp_path) -> Iterator[Sandbox]:
    """A sandbox whose newest day is not out yet, and config.json for it."""
    with Sandbox(unpublished=1) as serving:
        write_config(tmp_path, serving)
        yield serving


def rows(folder: Path, stream: str = "events") -> list[str]:
    """Return the lines of the target's files, which it names by the second it starts in."""
    return [
        line
        for path in folder.glob(f"{stream}-*.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]


def log(folder: Path) -> str:
    return (folder / "log").read_text("utf-8")


def begin(shell: Any, sandbox: Sandbox) -> None:
    """Do all of the quickstart, with which other pages begin, and let another day appear."""
    assert shell(*blocks("bash", "docs/quickstart.md")).wait(TIMEOUT) == 0
    sandbox.publish()


def test_every_page_with_commands_has_a_test_here():
    source = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for name in DOCUMENTS:
        assert not blocks("bash", name) or f'blocks("bash", "{name}")' in source, name


@needs_jq
def test_the_first_and_the_next_run_work_as_written(shell, sandbox, tmp_path):
    *first, later = blocks("bash", "docs/quickstart.md")
    assert "--state" in later
    assert shell(*first).wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 120
    sandbox.publish()
    assert shell(later).wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 144
    assert not any("UserEmail" in json.loads(row) for row in rows(tmp_path))


def test_the_readme_loads_and_asks_as_written(shell, commands, tmp_path):
    load, ask = blocks("bash", "README.md")
    assert [load] == blocks("bash", "docs/duckdb.md")[:1]
    for name in ("load.py", "query.py"):
        shutil.copy(ROOT / "examples/duckdb" / name, tmp_path)
    programs = (commands.loader_python.parent, commands.tap.parent)
    path = ":".join(map(str, (*programs, os.environ["PATH"])))
    with Sandbox(generated_bundles(6, 240)) as serving:
        write_config(tmp_path, serving)
        for _ in range(2):
            run = shell(load, f"{{ {ask}\n}} > answer.txt", PATH=path)
            assert run.wait(TIMEOUT) == 0, log(tmp_path)
    (last,) = re.findall("ends with `(.+)`", DOCUMENTS["README.md"])
    assert log(tmp_path).count(f"{last}\n") == 1
    shown = re.findall(r"^\| ((?:Checkout|Product) .*) \|$", DOCUMENTS["README.md"], re.MULTILINE)
    assert len(shown) == 2
    answer = (tmp_path / "answer.txt").read_text("utf-8")
    printed = [
        [cell.strip() for cell in re.split("[│|]", line.strip("│|"))]
        for line in answer.splitlines()
    ]
    assert [[cell.strip() for cell in row.split("|")] for row in shown] == [
        row for row in printed if row[0] in ("Checkout", "Product")
    ]
    # As the sandbox counts them: by its plan of sessions, not by rows.
    people: dict[str, list[int]] = {}
    for bundle in generated_bundles(6, 240):
        for session in bundle.body.plan.sessions():
            for page, step in session.steps:
                if step.more.get("EventModFrustrated") == 1:
                    people.setdefault(page.name, []).append(session.visitor.fields["IndvId"])
    assert [row.split(" | ")[2:] for row in shown] == [
        [str(len(hit)), str(len(set(hit)))]
        for hit in (people[row.split(" | ")[0]] for row in shown)
    ]


def test_the_chart_has_the_published_figures():
    chart = (ROOT / "docs/images/events-per-second.svg").read_text("utf-8")
    for name in ("gzip -dc", "tap", "gzip -dc, jq -c '.[]'", "tap-fullstory 1.0.4"):
        line = next(line for line in FIGURES.splitlines() if line.startswith(f"| {name} (lines"))
        cells = [cell.strip() for cell in line.split("|")]
        assert f">{cells[6]}</text>" in chart


def test_the_chart_of_files_of_columns_has_the_published_figures():
    chart = (ROOT / "docs/images/columns-cpu.svg").read_text("utf-8")
    table = FIGURES.partition("| to files of columns")[2].partition("\n\n")[0]
    medians = [row.split("|")[2].split()[0] for row in table.splitlines()[2:]]
    assert re.findall(r">(\d+\.\d\d)</text>", chart) == medians != []


def test_the_shortest_sync_works_as_written(shell, sandbox, tmp_path):
    (shortest,) = (block for block in blocks("sh", "docs/quickstart.md") if "--config" in block)
    assert shell(shortest).wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 120


@needs_jq
def test_a_good_run_and_a_bad_one_print_what_the_quickstart_shows(shell, sandbox, tmp_path):
    good, bad = blocks("text", "docs/quickstart.md")
    begin(shell, sandbox)
    (tmp_path / "log").unlink()
    assert shell(blocks("bash", "docs/quickstart.md")[-1]).wait(TIMEOUT) == 0
    assert without_figures(good) == without_figures(log(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["api_key"] = "na1.wrong"
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "log").unlink()
    assert shell("tap-fullstory --config config.json | target-jsonl").wait(TIMEOUT) == 1
    assert without_figures(bad) == without_figures(log(tmp_path))


def without_figures(lines: str) -> list[str]:
    """Return the lines without METRICs, their times, and what differs between two runs."""
    lines = re.sub(r"(?m)^([A-Z]+) [0-9-]+T[0-9:.]+Z ", r"\1 ", lines)
    lines = re.sub(r"https?://[^/]+/", "", lines)
    found = [line for line in lines.splitlines() if "METRIC" not in line and "custom v" not in line]
    return [
        re.sub(r"(\d+ h )?\d+ (min|h|s) ago", "", re.sub(r"\d+(\.\d+)?", "0", line))
        for line in found
    ]


@needs_flock
def test_another_account_has_a_folder_of_its_own(shell, sandbox, tmp_path, script):
    other = tmp_path / "other-account"
    other.mkdir()
    shutil.move(tmp_path / "config.json", other)
    for _ in range(2):
        assert shell("./sync.sh other-account").wait(TIMEOUT) == 0, log(tmp_path)
        assert (len(rows(tmp_path)), len(rows(other))) == (0, 120)


@needs_jq
def test_columns_are_added_and_left_out_as_written(shell, sandbox, tmp_path):
    begin(shell, sandbox)
    for path in tmp_path.glob("events-*.jsonl"):
        path.unlink()
    promote = blocks("bash", "docs/custom-variables.md")
    assert shell(*promote, *blocks("bash", "docs/quickstart.md")[1:2]).wait(TIMEOUT) == 0
    assert shell(blocks("bash", "docs/quickstart.md")[-1]).wait(TIMEOUT) == 0
    records = [json.loads(row) for row in rows(tmp_path)]
    assert len(records) == 24
    assert not any({"UserEmail", "UserDisplayName", "PageIp"} & set(record) for record in records)
    for promoted in ("page_category_str", "page_price_real"):
        assert any(promoted in record for record in records)


@needs_jq
def test_personal_data_stays_in_the_tap_as_written(shell, sandbox, tmp_path):
    begin(shell, sandbox)
    exclude, hashes, names, *proof = blocks("bash", "docs/privacy.md")
    assert shell(exclude, hashes, names, *proof).wait(TIMEOUT) == 0
    private, hashed = (
        (tmp_path / name).read_text("utf-8") for name in ("private.jsonl", "hashed.jsonl")
    )
    assert private.count('"RECORD"') == hashed.count('"RECORD"') == 144
    found = (tmp_path / "names.txt").read_text("utf-8").split()
    assert "events.UserId" in found
    assert not [name for name in found if re.search("UserEmail|PageIp|user_", name)]
    assert "jane@example.com" not in private
    (one_hash,) = (block for block in blocks("sh", "docs/privacy.md") if "THE_KEY" in block)
    one_hash = one_hash.replace("THE_KEY", "jane@example.com")
    assert shell(hashes, f"{{ {one_hash}\n}} > one_hash").wait(TIMEOUT) == 0
    hashed = (tmp_path / "hashed.jsonl").read_text("utf-8")
    assert f'"UserEmail":"{(tmp_path / "one_hash").read_text("utf-8")}"' in hashed
    assert re.search('"UserEmail":"[0-9a-f]{32}"', hashed)
    # The check of the files finds what is there without the settings.
    private_settings = json.loads((tmp_path / "batched.json").read_text("utf-8"))
    del private_settings["exclude_fields"]
    (tmp_path / "batched.json").write_text(json.dumps(private_settings), "utf-8")
    *_, check = proof
    assert shell(*check.splitlines()[-2:]).wait(TIMEOUT) == 1


@needs_jq
def test_streams_are_selected_as_written(shell, sandbox, tmp_path):
    begin(shell, sandbox)
    assert shell(*blocks("bash", "docs/streams.md")).wait(TIMEOUT) == 0
    assert shell(blocks("bash", "docs/quickstart.md")[-1]).wait(TIMEOUT) == 0
    for stream in ("users", "segments", "privacy_settings_history"):
        assert rows(tmp_path, stream)


@needs_jq
def test_the_state_is_resumed_and_changed_as_written(shell, sandbox, tmp_path):
    begin(shell, sandbox)
    resume, again, reset = blocks("bash", "docs/state.md")
    assert shell(resume).wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 144
    assert shell("tail -n 1 states.jsonl > state.json", again).wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 144 + 2 * 24
    bookmarks = {"events": {"bundle_end": "2026-06-02T00:00:00Z"}}
    other = {"privacy_settings_history": {"lastUpdated": "2026-06-02T00:00:00Z"}}
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"bookmarks": {**bookmarks, **other}}), encoding="utf-8")
    assert shell(reset).wait(TIMEOUT) == 0
    assert json.loads(state.read_text("utf-8")) == {"bookmarks": bookmarks}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_sandbox_serves_as_written(shell, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = "\n".join(blocks("bash", "docs/sandbox.md"))
    assert "8123" in script
    assert shell(script.replace("8123", port)).wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 144 + 144


@pytest.mark.slow  # it needs more than `make check` installs
def test_the_demo_prints_what_the_page_shows(commands):
    """All lines but `...` are in the demo's output in this order."""
    commands.tap, commands.loader_python  # noqa: B018 - fails where there is none
    done = subprocess.run(
        [sys.executable, "demo/demo.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        timeout=TIMEOUT, env={**os.environ, "API": ""}, check=True,
    )  # fmt: skip
    (shown,) = blocks("text", "docs/sandbox.md")
    lines = iter(done.stdout.splitlines())
    for line in shown.splitlines():
        assert line == "..." or line in lines, line
    picture = ElementTree.parse(ROOT / "demo/out/day.svg").getroot()
    sessions = list(generated_bundles(6, 240)[-1].body.plan.sessions())
    taken = [step for session in sessions for _, step in session.steps]
    rage_clicks = sum(step.more.get("EventModFrustrated") == 1 for step in taken)  # series
    drawn = f"{len(sessions)} sessions · {len(taken)} events · {rage_clicks} rage clicks ·"
    assert drawn in "".join(picture.itertext())


def test_the_demo_asks_what_a_page_explains():
    explained = blocks("sql", "docs/sql.md")
    for name in ("plans", "session"):
        assert (ROOT / f"demo/{name}.sql").read_text("utf-8") in explained


def test_the_demo_sends_nobody_into_a_tracked_folder():
    """What its next steps write is outside of the clone."""
    _, _, steps = (ROOT / "demo/demo.py").read_text("utf-8").partition("NEXT = ")
    assert steps.index("cd ~/fullstory") < steps.index("> config.json")
    assert "catalog.json" not in steps.partition("def main")[0]


def test_duckdb_is_loaded_as_written(shell, sandbox, commands, tmp_path):
    load, ask, to_parquet = blocks("bash", "docs/duckdb.md")
    programs = (commands.loader_python.parent, commands.tap.parent)
    path = ":".join(map(str, (*programs, os.environ["PATH"])))
    for name in ("load.py", "query.py"):
        shutil.copy(ROOT / "examples/duckdb" / name, tmp_path)

    def duckdb_rows() -> int:
        code = (
            "import duckdb; db = duckdb.connect('fullstory.duckdb', read_only=True); "
            "print(db.execute('SELECT count(*) FROM events').fetchone()[0])"
        )
        return int(subprocess.check_output([commands.loader_python, "-c", code], cwd=tmp_path))

    assert shell(load, ask, PATH=path).wait(TIMEOUT) == 0, log(tmp_path)
    assert duckdb_rows() == 120
    sandbox.publish()
    for _ in range(2):
        assert shell(load, PATH=path).wait(TIMEOUT) == 0, log(tmp_path)
        assert duckdb_rows() == 144
    assert shell(to_parquet, PATH=path).wait(TIMEOUT) == 0, log(tmp_path)
    assert len(list(tmp_path.glob("parquet/day=*/*.parquet"))) >= 6


@needs_jq
@needs_flock
def test_the_pages_followed_in_one_folder_load_every_row_once_into_each_target(
    shell, sandbox, commands, tmp_path
):
    """README, quickstart, DuckDB, PostgreSQL and the script, twice, on each of two days."""
    programs = postgres.programs_or_skip()
    for name in ("duckdb/load.py", "duckdb/query.py", "sync.sh"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    # Each has a python, and that of the first has DuckDB.
    of_targets = (commands.target_jsonl, commands.target_postgres)
    environments = (commands.loader_python, commands.tap, *of_targets)
    path = ":".join([*(str(one.parent) for one in environments), os.environ["PATH"]])
    load, ask = blocks("bash", "README.md")
    *first_to_files, later_to_files = blocks("bash", "docs/quickstart.md")
    replace_nul, first_to_postgres, later_to_postgres = blocks("bash", "docs/postgres.md")
    (script,) = blocks("bash", "docs/operations.md")
    (to_postgres,) = re.findall(r"STATE=postgres .*\./sync\.sh", PAGES["docs/postgres.md"])
    again = (load, later_to_files, script, later_to_postgres, to_postgres)

    def run(*steps: str) -> None:
        for step in steps:
            assert shell(step, PATH=path).wait(TIMEOUT) == 0, log(tmp_path)

    def counts() -> tuple[int, int, int]:
        count = "SELECT count(*) AS n FROM events"
        run(f"python query.py fullstory.duckdb --csv '{count}' > n")
        in_duckdb = int((tmp_path / "n").read_text("utf-8").split()[-1])
        (in_postgres,) = server.query("SELECT count(*) AS n FROM fullstory.events")
        return in_duckdb, len(rows(tmp_path)), in_postgres["n"]

    with postgres.server(programs) as server:
        (target,) = (text for text in blocks("json", "docs/postgres.md") if "sqlalchemy" in text)
        config = json.dumps(json.loads(target) | {"sqlalchemy_url": server.url})
        (tmp_path / "target.json").write_text(config, encoding="utf-8")
        run(load, f"{{ {ask}\n}} > answer.txt", *first_to_files, replace_nul, first_to_postgres)
        for days, expected in enumerate((120, 144)):
            if days:
                sandbox.publish()
            for _ in range(2):
                run(*again)
                assert counts() == (expected, expected, expected)
    assert len(set(rows(tmp_path))) == 144


@needs_jq
def test_a_lake_of_parquet_files_grows_as_written(shell, sandbox, tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="pyarrow has no wheel for this Python")
    configure, run = blocks("bash", "docs/parquet.md")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where pyarrow is installed
    for rows_in_all in (120, 120, 144):
        assert shell(configure, run, PATH=path).wait(TIMEOUT) == 0, log(tmp_path)
        assert pyarrow.read_table(tmp_path / "lake").num_rows == rows_in_all
        if rows_in_all == 120 and (tmp_path / "again").exists():
            sandbox.publish()
        (tmp_path / "again").touch()
    assert len(list((tmp_path / "lake").iterdir())) == 6


# --- examples/sync.sh ---


@pytest.fixture
def script(tmp_path) -> None:
    shutil.copy(ROOT / "examples/sync.sh", tmp_path)


@needs_flock
@needs_jq
def test_the_script_continues_from_the_quickstart(shell, sandbox, tmp_path, script):
    begin(shell, sandbox)
    assert shell(*blocks("bash", "docs/operations.md")).wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 144


# It ends at a signal, and reads no further than its beginning before the file `go` is there.
HELD_TARGET = """\
import io, os, runpy, signal, sys, time

class Held(io.RawIOBase):
    left = 100_000

    def readable(self):
        return True

    def readinto(self, buffer):
        while self.left <= 0 and not os.path.exists("go"):
            time.sleep(0.01)
        count = sys.__stdin__.buffer.raw.readinto(buffer)
        self.left -= count
        return count

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: sys.exit(0))
sys.stdin = io.TextIOWrapper(io.BufferedReader(Held()), encoding="utf-8")
"""


@needs_flock
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_script_loses_and_doubles_nothing_when_it_is_stopped(
    shell, commands, tmp_path, script, number
):
    """With a target that ends at a signal, whatever it is started with: as the Meltano SDK's do."""
    program = f"runpy.run_path({str(commands.target_jsonl)!r}, run_name='__main__')\n"
    (tmp_path / "target.py").write_text(HELD_TARGET + program)
    target = f"{commands.target_jsonl.with_name('python')} target.py"
    with Sandbox(generated_bundles(2, 6000), unpublished=1) as serving:
        write_config(tmp_path, serving)
        stopped = shell("exec ./sync.sh", TARGET=target)
        # The bundle is larger than what the pipe holds: once rows are there, the tap is writing.
        while stopped.poll() is None and not rows(tmp_path):
            time.sleep(0.05)
        os.killpg(stopped.pid, number)
        (tmp_path / "go").touch()
        assert stopped.wait(TIMEOUT) == 128 + number, log(tmp_path)
        assert 0 < len(rows(tmp_path)) < 6000

        serving.publish()
        for _ in range(2):
            assert shell("./sync.sh").wait(TIMEOUT) == 0
            assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 12000


@needs_flock
def test_the_script_says_that_another_run_holds_the_lock(shell, sandbox, tmp_path, script):
    (tmp_path / "waiting.sh").write_text("exec sleep 60", encoding="utf-8")
    other = shell("exec ./sync.sh", TAP="bash waiting.sh", TARGET="cat")
    lock = tmp_path / "sync.lock"
    while other.poll() is None and not (lock.exists() and lock.stat().st_size):
        time.sleep(0.01)
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    since = lock.read_text("utf-8").strip()
    assert f"Another run has held sync.lock since {since}. Nothing to do." in log(tmp_path)
    os.utime(lock, (lock.stat().st_mtime - 5 * 3600,) * 2)
    assert shell("./sync.sh", LOCK_MAX_AGE_HOURS="6").wait(TIMEOUT) == 0
    assert shell("./sync.sh", LOCK_MAX_AGE_HOURS="4").wait(TIMEOUT) == 1
    assert "That is longer than 4 hours." in log(tmp_path)
    assert not rows(tmp_path)


@needs_flock
def test_the_script_starts_again_after_a_first_run_that_stored_nothing(
    shell, sandbox, tmp_path, script
):
    sandbox.fault("list:401")
    assert shell("./sync.sh").wait(TIMEOUT) == 1
    assert "nothing was stored" in log(tmp_path)
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 120


@needs_flock
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_script_starts_again_after_a_signal_before_the_first_record(
    shell, sandbox, tmp_path, script, number
):
    sandbox.fault("get:silence,seconds=60")
    stopped = shell("exec ./sync.sh")
    while stopped.poll() is None and not any(
        "/get" in request.path for request in sandbox.requests
    ):
        time.sleep(0.02)
    os.killpg(stopped.pid, number)
    assert stopped.wait(TIMEOUT) == 128 + number, log(tmp_path)
    assert "nothing was stored" in log(tmp_path)
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 120


@needs_flock
@pytest.mark.parametrize("name", ["TAP", "TARGET"])
def test_the_script_names_a_program_that_is_not_there(shell, sandbox, tmp_path, script, name):
    assert shell("./sync.sh", **{name: "not-there --config x.json"}).wait(TIMEOUT) == 1
    assert "not-there is not installed, or not on PATH" in log(tmp_path)
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 120


@needs_flock
def test_the_script_does_not_start_over_if_the_target_may_have_stored_rows(
    shell, sandbox, tmp_path, script
):
    failing = "head -c 100000 > stored; exit 3"
    (tmp_path / "failing.sh").write_text(failing, encoding="utf-8")
    for _ in range(2):
        assert shell("./sync.sh", TARGET="bash failing.sh").wait(TIMEOUT) == 1
    assert "The target failed with exit code 3." in log(tmp_path)
    assert "states.jsonl is empty" in log(tmp_path)
    (tmp_path / "states.jsonl").unlink()
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == 120


@needs_flock
def test_the_script_drops_a_truncated_last_line(shell, sandbox, tmp_path, script):
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    with (tmp_path / "states.jsonl").open("a", encoding="utf-8") as states:
        states.write('{"bookmarks": {"ev')
    sandbox.publish()
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    assert "The last line of states.jsonl is incomplete." in log(tmp_path)
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 144


@needs_flock
def test_the_script_drops_the_zeros_that_a_power_loss_leaves(shell, sandbox, tmp_path, script):
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    whole = (tmp_path / "states.jsonl").read_bytes()
    for zeros in (b"\0" * 4096, b'{"bookm' + b"\0" * 100 + b"\n", b"\0\n"):
        with (tmp_path / "states.jsonl").open("ab") as states:
            states.write(zeros)
        assert shell("./sync.sh").wait(TIMEOUT) == 0, log(tmp_path)
        assert b"\0" not in (tmp_path / "states.jsonl").read_bytes()
        assert (tmp_path / "states.jsonl").read_bytes().startswith(whole)
    assert len(rows(tmp_path)) == 120


@needs_flock
def test_the_script_keeps_whole_lines_where_it_cannot_write(shell, sandbox, tmp_path, script):
    """As on a disk that is still full. Its words name the state that a later run starts from."""
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    with (tmp_path / "states.jsonl").open("a", encoding="utf-8") as states:
        states.write('{"bookmarks": {"ev')
    content = (tmp_path / "states.jsonl").read_bytes()
    (tmp_path / "programs").mkdir()
    failing = tmp_path / "programs/grep"
    failing.write_text("#!/bin/sh\nexit 2\n")
    failing.chmod(0o755)
    assert shell("PATH=programs:$PATH ./sync.sh").wait(TIMEOUT) == 1
    assert "states.jsonl.new could not be written" in log(tmp_path)
    assert (tmp_path / "states.jsonl").read_bytes() == content
    (tmp_path / "states.jsonl").write_bytes(b"")
    assert shell("./sync.sh").wait(TIMEOUT) == 1
    assert "then states.jsonl, to start from state.json." in log(tmp_path)
    (tmp_path / "states.jsonl").write_bytes(content)
    sandbox.publish()
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 144


@needs_flock
def test_the_script_refuses_an_empty_state(shell, sandbox, tmp_path, script):
    (tmp_path / "state.json").touch()
    assert shell("./sync.sh").wait(TIMEOUT) == 1
    assert "state.json is empty." in log(tmp_path)
    assert not rows(tmp_path)


@needs_flock
def test_the_script_gives_the_keys_to_the_tap_alone(shell, sandbox, tmp_path, script):
    (tmp_path / "tap.sh").write_text("env > tap.env; exit 1", encoding="utf-8")
    (tmp_path / "target.sh").write_text("env > target.env; cat", encoding="utf-8")
    keys = {"TAP_FULLSTORY_API_KEY": "na1.one", "TAP_FULLSTORY_HASH_KEY": "two"}
    given = {"TAP": "bash tap.sh", "TARGET": "bash target.sh", **keys}
    assert shell("./sync.sh", **given).wait(TIMEOUT) == 1
    for name, value in keys.items():
        assert f"{name}={value}" in (tmp_path / "tap.env").read_text()
        assert name not in (tmp_path / "target.env").read_text()
    assert {path.stat().st_mode & 0o77 for path in tmp_path.glob("*.env")} == {0}


@needs_flock
def test_the_script_runs_where_flock_and_setsid_are_missing(shell, sandbox, tmp_path, script):
    """As on macOS, which has perl; without that it says what is missing."""
    folder = tmp_path / "programs"
    folder.mkdir()
    names = ["bash", "date", "dirname", "cat", "env", "find", "grep", "head", "mkfifo", "mv", "rm"]
    for name in (*names, "sleep", "tail", "tr"):
        (folder / name).symlink_to(str(shutil.which(name)))
    path = f"{folder}:{os.environ['PATH']}"
    assert shell(f"PATH={folder} ./sync.sh", PATH=path, TAP="cat", TARGET="cat").wait(TIMEOUT) == 1
    assert "flock is not installed" in log(tmp_path)
    if not shutil.which("perl"):
        return
    (folder / "perl").symlink_to(str(shutil.which("perl")))
    (tmp_path / "waiting.sh").write_text("echo > started; exec sleep 60", encoding="utf-8")
    alone = f"PATH={folder} exec ./sync.sh"
    first = shell(alone, TAP="bash waiting.sh", TARGET="cat")
    while first.poll() is None and not (tmp_path / "started").exists():
        time.sleep(0.01)
    assert shell(alone, TAP="cat", TARGET="cat").wait(TIMEOUT) == 0
    assert "Another run has held sync.lock" in log(tmp_path)
    os.killpg(first.pid, signal.SIGTERM)
    assert first.wait(TIMEOUT) == 128 + signal.SIGTERM


@needs_flock
def test_a_second_signal_ends_a_target_that_does_not_read(shell, sandbox, tmp_path, script):
    for name in ("tap", "target"):
        ignoring = f"trap '' TERM; echo > {name}.started; sleep 60"
        (tmp_path / f"{name}.sh").write_text(ignoring, encoding="utf-8")
    stuck = shell("exec ./sync.sh", TAP="bash tap.sh", TARGET="bash target.sh")
    while stuck.poll() is None and len(list(tmp_path.glob("*.started"))) < 2:
        time.sleep(0.01)
    stuck.terminate()
    time.sleep(1.1)  # what comes within a second is the same signal
    stuck.terminate()
    assert stuck.wait(TIMEOUT) == 128 + signal.SIGKILL


@needs_flock
def test_a_slow_script_knows_that_the_target_has_outlived_the_tap(shell, tmp_path, script):
    """However late it looks: the target cannot have seen the end of its input before."""
    tap = (
        "trap 'exit 143' TERM; echo $$ > tap.new; mv tap.new tap.pid; while :; do sleep 0.02; done"
    )
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "tap.sh").write_text(tap, encoding="utf-8")
    (tmp_path / "target.sh").write_text("cat; echo > target.ended", encoding="utf-8")
    running = shell("exec ./sync.sh", TAP="bash tap.sh", TARGET="bash target.sh")
    while running.poll() is None and not (tmp_path / "tap.pid").exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGSTOP)
    os.kill(int((tmp_path / "tap.pid").read_text("utf-8")), signal.SIGTERM)
    end = time.monotonic() + 0.5
    while time.monotonic() < end and not (tmp_path / "target.ended").exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)  # taken once the script continues
    running.send_signal(signal.SIGCONT)
    assert running.wait(TIMEOUT) == 128 + signal.SIGTERM, log(tmp_path)
    assert "nothing was stored" in log(tmp_path)
    assert not (tmp_path / "states.jsonl").exists()


@needs_flock
@pytest.mark.skipif(not shutil.which("timeout"), reason="timeout is part of coreutils")
def test_a_timeout_at_any_time_leaves_nothing_that_a_later_run_refuses(
    shell, sandbox, tmp_path, script
):
    for hundredths in range(1, 60, 6):
        code = shell(f"timeout 0.{hundredths:02} ./sync.sh").wait(TIMEOUT)
        assert code in (0, 124), log(tmp_path)
    assert shell("./sync.sh").wait(TIMEOUT) == 0, log(tmp_path)
    assert len(rows(tmp_path)) == len(set(rows(tmp_path))) == 120


@needs_flock
def test_the_script_takes_a_state_from_elsewhere(shell, sandbox, tmp_path, script):
    (tmp_path / "state.json").write_text(
        json.dumps({"bookmarks": {"events": {"bundle_end": "2999-01-01T00:00:00Z"}}})
    )
    assert shell("./sync.sh").wait(TIMEOUT) == 0
    assert not rows(tmp_path)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_the_script_passes_shellcheck(commands):
    subprocess.run(["shellcheck", ROOT / "examples/sync.sh"], check=True)
