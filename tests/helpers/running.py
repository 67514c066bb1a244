"""The tap as a process: started as its users start it, its output read as a strict target would.

What every run owes is checked here, in every run of every test: see `run_command` and
`read_messages`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from forked import can_fork, run_forked

from tap_fullstory import run as run_module
from tap_fullstory.bookmarks import parse_state
from tap_fullstory.fullstory.client import Client
from tap_fullstory.logs.progress import RunSummary
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.selection import select
from tap_fullstory.settings import parse_config
from tap_fullstory.signals import Signals
from tap_fullstory.sync import sync

TAP = (sys.executable, "-m", "tap_fullstory")
TIMEOUT = 60  # seconds: a run that hangs fails instead of holding up all others

Json = dict[str, Any]
# A JSON value goes into a file for the tap; text and bytes are the file as it is; a path is that
# of a file which is there, or is not.
Content = Json | list[Any] | str | bytes | Path | None

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_LOG_TIME = re.compile(r"\A([A-Z]+ )\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")
_TYPES: dict[type, set[str]] = {
    dict: {"object"},
    list: {"array"},
    str: {"string"},
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    type(None): {"null"},
}


@dataclass(frozen=True)
class Run:
    """A command that has ended: its exit code, stdout, and stderr as text."""

    code: int
    stdout: bytes
    log: str
    messages: tuple[Json, ...] = ()
    """All that a sync wrote, in order."""

    @property
    def schemas(self) -> list[Json]:
        """SCHEMA messages, whole."""
        return [message for message in self.messages if message["type"] == "SCHEMA"]

    @property
    def schema(self) -> Json:
        """What the one SCHEMA message says of each property."""
        (message,) = self.schemas
        return message["schema"]["properties"]

    @property
    def records(self) -> list[Json]:
        """The records alone, in order."""
        return [message["record"] for message in self.messages if message["type"] == "RECORD"]

    @property
    def states(self) -> list[Json]:
        """The values of the STATE messages, in order."""
        return [message["value"] for message in self.messages if message["type"] == "STATE"]

    @property
    def state(self) -> Json:
        """The last one: what the next run starts from."""
        return self.states[-1]

    def logged(self, level: str) -> list[str]:
        """The log lines of a level, without their time and the level's name: of a JSON log, the
        messages.
        """
        lines = [_level_and_text(line) for line in self.log.splitlines()]
        return [text for name, text in lines if name == level]

    @property
    def critical(self) -> str:
        """The one line that says why the run failed."""
        (line,) = self.logged("CRITICAL")
        return line


def run_command(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    executable: Path | None = None,
    cwd: Path | None = None,
) -> Run:
    """Run the tap to its end with these arguments, and nothing read from its stdout.

    Fails if a failure is not exactly one CRITICAL line, a success has one, or there is a traceback.
    """
    environment = _environment(env)
    with tempfile.TemporaryDirectory(prefix="tap-fullstory-test-") as folder:
        if executable is None and can_fork(environment):
            texts = [str(argument) for argument in arguments]
            done = run_forked(texts, environment, str(cwd or folder), stdin, TIMEOUT)
        else:
            done = subprocess.run(
                [*_command(executable), *arguments],
                input=stdin,
                capture_output=True,
                cwd=cwd or folder,
                env=environment,
                timeout=TIMEOUT,
            )
    run = Run(done.returncode, done.stdout, done.stderr.decode())
    assert "Traceback" not in run.log, run.log
    assert len(run.logged("CRITICAL")) == (1 if run.code in (1, 2) else 0), run.log
    return run


def run_tap(
    config: Content,
    *options: str,
    state: Content = None,
    catalog: Content = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    executable: Path | None = None,
) -> Run:
    """Sync to the end: `config`, `state` and `catalog` are the contents of the files given to it.

    Fails as `run_command` and `read_messages` do, if the API key shows anywhere, and if a sync that
    succeeds does not end with a STATE.
    """
    with _files(config, state, catalog) as arguments:
        run = run_command(*arguments, *options, env=env, stdin=stdin, executable=executable)
    if isinstance(config, dict) and len(key := str(config.get("api_key"))) > 4:
        assert key not in run.log
        assert key.encode() not in run.stdout
    run = Run(run.code, run.stdout, run.log, tuple(read_messages(run.stdout)))
    if run.code == 0:
        assert run.messages, run.log
        assert run.messages[-1]["type"] == "STATE"
    return run


def sync_at(
    now: datetime, config: Json, catalog: Json | None = None, state: Json | None = None
) -> Json:
    """Sync in this process as the command would at `now`, and return the state after it.

    For what follows from the time of a run: a tap that runs as a process has the system's time.
    """
    parsed = parse_config({**config}, now, {})
    selections = select(discover() if catalog is None else catalog, parsed)
    with tempfile.TemporaryFile() as out:
        with Client(parsed) as client:
            writer = MessageWriter(out.fileno())
            run = run_module.Run(parsed, client, writer, Signals(), RunSummary(), now)
            sync(run, selections, parse_state(state or {}))
        out.seek(0)
        *_, last = read_messages(out.read())
    assert last["type"] == "STATE"
    after: Json = last["value"]
    return after


@contextmanager
def start_tap(
    config: Content,
    *options: str,
    state: Content = None,
    catalog: Content = None,
    env: Mapping[str, str] | None = None,
    executable: Path | None = None,
    **popen: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A running sync, with pipes at stdout and stderr unless `popen` says otherwise.

    It is killed, if it has not ended, and its files are removed at the end of the `with` block.
    """
    with _files(config, state, catalog) as arguments:
        process = subprocess.Popen(
            [*_command(executable), *arguments, *options],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "cwd": tempfile.gettempdir(),
                "env": _environment(env),
                **popen,
            },
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def discover(config: Content = None, **options: Any) -> Json:
    """The catalog that `--discover` prints."""
    with _files(config) as arguments:
        run = run_command(*arguments, "--discover", **options)
    assert run.code == 0, run.log
    catalog: Json = json.loads(run.stdout)
    return catalog


def read_messages(stdout: bytes) -> Iterator[Json]:
    """Singer messages, one JSON object a line.

    Fails if a line is anything else, a RECORD comes before its SCHEMA or does not fit it, or a
    STATE repeats the last one.
    """
    assert not stdout or stdout.endswith(b"\n"), "the last line is cut"
    schemas: dict[str, Json] = {}
    last_state: Json | None = None
    for line in stdout.split(b"\n")[:-1]:
        message = json.loads(line.decode(), parse_constant=_no_constant)
        match message:
            case {"type": "SCHEMA", "stream": str(stream), "schema": dict(schema)}:
                assert schema["type"] == "object"
                assert isinstance(message["key_properties"], list)
                schemas[stream] = schema["properties"]
            case {"type": "RECORD", "stream": str(stream), "record": dict(record)}:
                assert stream in schemas, "a RECORD before its SCHEMA"
                assert _DATE_TIME.fullmatch(message["time_extracted"])
                for name, value in record.items():
                    assert fits(value, schemas[stream].get(name)), f"{name} against its SCHEMA"
            case {"type": "BATCH", "stream": str(stream), "encoding": dict(), "manifest": [str(_)]}:
                assert stream in schemas, "a BATCH before its SCHEMA"
            case {"type": "STATE", "value": dict(value), **more} if not more:
                assert value != last_state, "a STATE that repeats the last one"
                last_state = value
            case _:
                raise AssertionError(f"no Singer message: {line[:200]!r}")
        yield message


def without_time(line: str) -> str:
    """A log line as a terminal shows it."""
    return _LOG_TIME.sub(r"\1", line)


def fits(value: Any, schema: Json | None) -> bool:
    """Whether a value of a record is what its property's schema allows."""
    if schema is None:
        return False  # a property that SCHEMA does not list
    allowed = schema.get("type")
    if not allowed:
        return True
    if not _TYPES[type(value)] & ({allowed} if isinstance(allowed, str) else set(allowed)):
        return False
    if schema.get("format") == "date-time" and isinstance(value, str):
        return _DATE_TIME.fullmatch(value) is not None
    if isinstance(value, list) and "items" in schema:
        return all(fits(item, schema["items"]) for item in value)
    return True


def columns() -> set[str]:
    """The documented fields: every property of the events stream but `CustomVars`."""
    schema = json.loads(files("tap_fullstory").joinpath("schemas/events.json").read_text("utf-8"))
    return set(schema["properties"]) - {"CustomVars"}


def as_record(event: Mapping[str, Any]) -> Json:
    """What becomes of an event in which every value fits its column, with nothing deselected."""
    known = columns()
    record = {name: value for name, value in event.items() if name in known}
    custom = {name: value for name, value in event.items() if name not in known}
    return {**record, "CustomVars": custom} if custom else record


def counted(records: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Records without regard to their order, and with regard to how often each one comes.

    Texts, since 1, 1.0 and True are one and the same to a dict.
    """
    return Counter(json.dumps(record, sort_keys=True) for record in records)


def selecting(catalog: Json, **selected: bool) -> Json:
    """The catalog of the events stream with `selected` written to properties by name, or to the
    stream as `stream`.
    """
    chosen = json.loads(json.dumps(catalog))
    entries = {tuple(entry["breadcrumb"]): entry for entry in chosen["streams"][0]["metadata"]}
    for name, value in selected.items():
        breadcrumb = () if name == "stream" else ("properties", name)
        entries[breadcrumb]["metadata"]["selected"] = value
    return chosen


def _level_and_text(line: str) -> tuple[str, str]:
    if line.startswith("{"):
        members = json.loads(line)
        return members["level"].upper(), members["message"]
    name, _, text = without_time(line).partition(" ")
    return name, text


def _command(executable: Path | None) -> tuple[str, ...]:
    return TAP if executable is None else (str(executable),)


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    # Neither a developer's API key nor a proxy between the tap and the sandbox.
    kept = {name: value for name, value in os.environ.items() if name != "TAP_FULLSTORY_API_KEY"}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **(more or {})}


@contextmanager
def _files(
    config: Content, state: Content = None, catalog: Content = None
) -> Iterator[list[str | Path]]:
    with tempfile.TemporaryDirectory(prefix="tap-fullstory-test-") as folder:
        arguments: list[str | Path] = []
        for name, content in (("config", config), ("state", state), ("catalog", catalog)):
            if content is not None:
                path = content if isinstance(content, Path) else Path(folder, f"{name}.json")
                if isinstance(content, bytes):
                    path.write_bytes(content)
                elif not isinstance(content, Path):
                    text = content if isinstance(content, str) else json.dumps(content)
                    path.write_text(text, encoding="utf-8")
                arguments += [f"--{name}", path]
        yield arguments


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not valid JSON")
