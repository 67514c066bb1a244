"""Several processes make the records: the same ones, in the same order, whatever happens."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from running import Json, Run, as_record, discover, read_messages, run_tap, selecting, start_tap

from tap_fullstory.sandbox import Bundle, Sandbox, generate_events

DAY = 24 * 60 * 60
FIRST = 1_780_272_000  # 2026-06-01T00:00:00Z
# Enough for each of three workers to have several runs of some 192 kB.
EVENTS = 1500


def day(number: int, body: bytes) -> Bundle:
    start = FIRST + number * DAY
    return Bundle(f"{start}48", start, start + DAY, body)


def at(seconds: float) -> str:
    moment = datetime.fromtimestamp(FIRST, timezone.utc) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def good_events(count: int = EVENTS, number: int = 0) -> list[Json]:
    """A day's events, a third of them with custom variables."""
    start = FIRST + number * DAY
    return list(generate_events(start, start + DAY, count, number=number))


def mixed_events() -> list[Json]:
    """Events of every kind, among them those that no worker takes whole runs of."""
    events = good_events()
    odd: list[Json] = [
        {"PageDuration": "long", "EventStart": "yesterday", "EventType": None},
        {"PageDuration": 3.0, "PageActiveDuration": 3.5, "UserCreated": ""},
        {"evt_items": [{"sku": "a", "sizes": [{"w": 1, "text": "},{"}]}, [], [[{}]]]},
        {"EventTargetText": "cut \ud83d", "evt_more_str": "\udc00\udc00"},
        {"SessionId": 2**80, "evt_real": 1e-7, "EventTargetText": '},{"EventType":"click"},{'},
        {},
        {"CustomVars": {"evt_a_int": 1}, "EventDigest": "x", 'quo"ted': [1]},
    ]
    for index, event in enumerate(odd * 3):
        events.insert(17 + 19 * index, event)
    return events


def laid_out(events: list[Json], layout: str) -> bytes:
    """The array of `events`. Halves of surrogate pairs are escapes."""
    if layout == "indented":
        return json.dumps(events, indent=2).encode()
    between, colon = {
        "lines": (",\n", ":"),
        "one line": (",", ":"),
        "blanks": (" ,\r\n\t", " : "),
    }[layout]
    members = ", " if layout == "blanks" else ","
    texts = (json.dumps(event, separators=(members, colon)) for event in events)
    return f"[{between.join(texts)}]".encode()


def written(run: Run) -> list[Json]:
    """The schema and the records. The members of CustomVars have no order, as a text neither."""
    for record in run.records:
        if isinstance(record.get("CustomVars"), str):
            record["CustomVars"] = json.loads(record["CustomVars"])
    return [*run.schemas, *run.records]


def said(run: Run) -> list[str]:
    """What the log says of the data, and of the failure if there is one."""
    lines = [*run.logged("WARNING"), *run.logged("CRITICAL")]
    counted = ("dropped", "left out", "goes on after")
    return lines + [line for line in run.logged("INFO") if any(word in line for word in counted)]


def unsaved_events(run: Run) -> list[int]:
    """How many records lie before each STATE, since the one before it."""
    counts = [0]
    for message in run.messages:
        if message["type"] == "STATE":
            counts.append(0)
        counts[-1] += message["type"] == "RECORD"
    return counts


def assert_same(run: Run, alone: Run) -> None:
    """Fails if the runs differ in what they wrote, said, or leave behind."""
    assert written(run) == written(alone)
    assert said(run) == said(alone)
    assert (run.code, run.states[-1:]) == (alone.code, alone.states[-1:])


# --- the same records ---


@pytest.mark.parametrize("layout", ["lines", "one line", "indented", "blanks"])
def test_the_same_records_in_the_same_order_in_every_layout(layout):
    bundles = [day(0, laid_out(mixed_events(), layout)), day(1, laid_out(good_events(5), layout))]
    with Sandbox(bundles) as sandbox:
        alone = run_tap(sandbox.config())
        assert alone.code == 0
        assert len(alone.records) == EVENTS + 21 + 5
        assert "values do not fit" in "".join(said(alone))
        for workers in (2, 3):
            assert_same(run_tap(sandbox.config(workers=workers)), alone)


SIX = {"EventStart", "EventType", "SessionId", "PageUrl", "PageDuration", "IndvId"}


def six_columns(custom_vars: bool) -> Json:
    catalog = discover()
    names = catalog["streams"][0]["schema"]["properties"]
    wanted = SIX | ({"CustomVars"} if custom_vars else set())
    return selecting(catalog, **{name: name in wanted for name in names})


@pytest.mark.parametrize(
    ("settings", "catalog", "state"),
    [
        ({"custom_vars_format": "string"}, None, None),
        ({"event_digest": True}, None, None),
        ({}, six_columns(custom_vars=True), None),
        ({}, six_columns(custom_vars=False), None),
        # A bookmark inside the bundle: the events before it are left out.
        ({}, None, {"bookmarks": {"events": {"bundle_end": at(DAY / 2)}}}),
        ({}, None, {"bookmarks": {"events": {"bundle_end": at(DAY - 0.001)}}}),
    ],
    ids=["string", "digest", "six", "six-without-custom", "bookmark-inside", "bookmark-at-end"],
)
def test_the_same_records_with_every_setting(settings, catalog, state):
    with Sandbox([day(0, laid_out(mixed_events(), "lines"))]) as sandbox:
        config = sandbox.config(**settings)
        alone = run_tap(config, catalog=catalog, state=state)
        assert alone.code == 0
        assert_same(run_tap({**config, "workers": 2}, catalog=catalog, state=state), alone)


@pytest.mark.parametrize("large", [1, 3])
def test_events_larger_than_what_a_worker_holds(large):
    events = good_events()
    for number in range(large):
        text = "x},{" * 250_000  # a megabyte
        events.insert(100 + 300 * number, {"PageId": number, "EventTargetText": text})
    with Sandbox([day(0, laid_out(events, "lines"))]) as sandbox:
        run = run_tap(sandbox.config(workers=2))
    assert run.code == 0
    assert run.records == list(map(as_record, events))


def test_events_so_small_that_their_lines_do_not_fit_where_they_did():
    body = b"[" + b",".join(b'{"PageId":%d}' % number for number in range(30_000)) + b"]"
    with Sandbox([day(0, body)]) as sandbox:
        run = run_tap(sandbox.config(workers=2))
    assert [record["PageId"] for record in run.records] == list(range(30_000))


@pytest.mark.parametrize("body", [b"[]", b"[ {} ]", b'[{"PageId":1},{"PageId":2}]'])
def test_bundles_that_are_smaller_than_a_run(body):
    with Sandbox([day(0, body), day(1, body)]) as sandbox:
        assert_same(run_tap(sandbox.config(workers=3)), run_tap(sandbox.config()))


@pytest.mark.parametrize("checkpoint_events", [1, 7, 40])
def test_no_more_events_between_two_states_than_asked_for(checkpoint_events):
    events = good_events(200)
    with Sandbox([day(0, laid_out(events, "lines"))]) as sandbox:
        run = run_tap(sandbox.config(workers=2, checkpoint_events=checkpoint_events))
    assert run.records == list(map(as_record, events))
    assert max(unsaved_events(run)) == checkpoint_events


@pytest.mark.parametrize("workers", [(1, 3), (3, 1), (3, 3)])
def test_any_number_of_workers_goes_on_from_any_state(workers):
    events = good_events()
    first, second = workers
    with Sandbox([day(0, laid_out(events, "blanks"))]) as sandbox:
        run = run_tap(sandbox.config(workers=first, checkpoint_events=90))
        for state in run.states[:-1]:
            progress = state["bookmarks"]["events"]["partial"]["events"]
            rest = run_tap(sandbox.config(workers=second), state=state)
            assert rest.records == list(map(as_record, events[progress:]))
            assert rest.state == run.state
    assert len(run.states) > 4


# --- events that are none ---


def spoiled(what: str, where: int) -> bytes:
    """The array of good events, with something wrong before the event at `where`."""
    items = [json.dumps(event).encode() for event in good_events()]
    if what == "no comma":
        return b"[" + b",\n".join(items[:where]) + b"\n" + b",\n".join(items[where:]) + b"]"
    return b"[" + b",\n".join([*items[:where], what.encode(), *items[where:]]) + b"]"


@pytest.mark.parametrize(
    "body",
    [
        *(
            pytest.param(spoiled(what, where), id=f"{what} at {where}")
            for what, where in [
                *(("17", where) for where in (0, 1, 250, EVENTS)),
                *((what, 250) for what in ("null", '{"EventType":}', '{"PageUrl":"', "")),
                *(("no comma", where) for where in (1, 250)),
                ("", EVENTS),
            ]
        ),
        pytest.param(spoiled("17", EVENTS)[:-3] + b"][]", id="an array behind"),
        pytest.param(b"[17]", id="nothing else"),
        pytest.param(b"[,]", id="a comma"),
    ],
)
def test_something_that_is_no_event(body):
    with Sandbox([day(0, body), day(1, b"[{}]")]) as sandbox:
        alone = run_tap(sandbox.config())
        run = run_tap(sandbox.config(workers=2))
        assert_same(run, alone)
        assert run.code == 1
        # The next run stops at the same place.
        again = run_tap(sandbox.config(workers=2), state=run.state) if run.states else run
    assert again.critical == run.critical
    assert again is run or again.records == []


def test_an_event_larger_than_allowed():
    events = [*good_events(300), {"EventTargetText": "x" * 1_100_000}, *good_events(300)]
    with Sandbox([day(0, laid_out(events, "lines"))]) as sandbox:
        alone = run_tap(sandbox.config(max_event_mb=1))
        run = run_tap(sandbox.config(max_event_mb=1, workers=2))
    assert_same(run, alone)
    assert "max_event_mb" in run.critical
    assert run.records == list(map(as_record, events[:300]))


# --- ends ---


@pytest.fixture(scope="module")
def large() -> Iterator[Sandbox]:
    """One bundle of 8 MB: more than pipes and workers hold together."""
    with Sandbox([day(0, laid_out(good_events(6000), "lines"))]) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def truth() -> list[Json]:
    return list(map(as_record, good_events(6000)))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def children(process_id: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name_and_rest = path.read_text()
        except OSError:  # ended meanwhile
            continue
        if int(name_and_rest.rpartition(")")[2].split()[1]) == process_id:
            found.append(int(path.parent.name))
    return sorted(found)


def runs(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # nobody may be there to wait for orphans


def ended(process_ids: list[int]) -> bool:
    """Whether all have, given some seconds."""
    deadline = time.monotonic() + 10
    while any(map(runs, process_ids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(runs, process_ids))


def amid(tap: subprocess.Popen[bytes]) -> bytes:
    """The first lines of a tap that has many more: it waits for its reader now."""
    assert tap.stdout
    return b"".join(itertools.islice(tap.stdout, 1000))


def rest_of(tap: subprocess.Popen[bytes], beginning: bytes) -> Run:
    """The tap, read to its end."""
    assert tap.stdout
    assert tap.stderr
    stdout = beginning + tap.stdout.read()
    log = tap.stderr.read().decode()
    return Run(tap.wait(20), stdout, log, tuple(read_messages(stdout)))


@needs_proc
def test_as_many_workers_as_asked_for(large):
    for count in (1, 2, 3):
        with start_tap(large.config(workers=count)) as tap:
            beginning = amid(tap)
            workers = children(tap.pid)
            assert len(workers) == (count if count > 1 else 0)
            assert rest_of(tap, beginning).code == 0
            assert ended(workers)


@pytest.mark.parametrize("group", [False, True], ids=["the-tap", "the-group"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_loses_and_doubles_nothing(large, truth, number, code, group):
    """A terminal's Ctrl-C reaches the workers, too."""
    config = large.config(workers=2)
    with start_tap(config, start_new_session=True) as tap:
        beginning = amid(tap)
        (os.killpg if group else os.kill)(tap.pid, number)
        first = rest_of(tap, beginning)
    assert first.code == code
    assert first.logged("CRITICAL") == []
    assert 0 < len(first.records) < len(truth)
    second = run_tap(config, state=first.state)
    assert first.records + second.records == truth


@needs_proc
def test_a_worker_that_dies_is_a_failure_with_words(large, truth):
    config = large.config(workers=3, checkpoint_events=200)
    with start_tap(config) as tap:
        beginning = amid(tap)
        workers = children(tap.pid)
        os.kill(workers[1], signal.SIGKILL)
        run = rest_of(tap, beginning)
    assert run.code == 1
    assert f"worker process (pid {workers[1]}) was ended by signal 9" in run.critical
    assert "Traceback" not in run.log
    assert ended(workers)
    saved = sum(unsaved_events(run)[:-1])
    assert run.records == truth[: len(run.records)]
    assert len(run.records) - saved <= 200
    assert saved >= 600
    assert run_tap(config, state=run.state).records == truth[saved:]


@needs_proc
def test_no_worker_outlives_the_tap(large):
    with start_tap(large.config(workers=3)) as tap:
        amid(tap)
        workers = children(tap.pid)
        tap.kill()
        tap.wait(20)
        assert ended(workers)
        tap.stdout.read()  # comes to its end only where no process holds the pipe open
    assert len(workers) == 3


@needs_proc
def test_a_target_that_closes_the_pipe(large):
    with start_tap(large.config(workers=2)) as tap:
        amid(tap)
        workers = children(tap.pid)
        tap.stdout.close()
        log = tap.stderr.read().decode()
        assert tap.wait(20) == 1
        assert ended(workers)
    assert "target closed the pipe" in Run(1, b"", log).critical
