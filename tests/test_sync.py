"""The main job, from outside: every event of every bundle once, in order, and nothing else."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from running import Run, as_record, counted, read_messages, run_tap, start_tap, sync_at

from tap_fullstory.errors import TapError
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.sandbox import (
    COMPRESSIONS,
    LAYOUTS,
    Bundle,
    Sandbox,
    generate_events,
    generated_bundles,
)
from tap_fullstory.sandbox.bundles import write_events

DAY = 24 * 60 * 60
FIRST = 1_600_041_600  # 2020-09-14T00:00:00Z


def day(number: int, body: Any = b"[]", identity: str | None = None, **more: Any) -> Bundle:
    """The bundle of one day after the other from 2020-09-14 on."""
    start = FIRST + number * DAY
    return Bundle(identity or str(number), start, start + DAY, body, **more)


def midnight(number: int) -> str:
    return f"2020-09-{14 + number}T00:00:00Z"


def expected_records(*bundles: Bundle) -> list[dict[str, Any]]:
    return [as_record(event) for bundle in bundles for event in bundle.events]


def synced(sandbox: Sandbox, state: Any = None, **settings: Any) -> Run:
    run = run_tap(sandbox.config(**settings), state=state)
    assert run.code == 0, run.log
    return run


def ends(run: Run) -> list[str]:
    return [state["bookmarks"]["events"]["bundle_end"] for state in run.states]


# --- the criteria of the main job ---


def test_144_events_over_6_bundles_arrive_once_each_and_whole():
    with Sandbox() as sandbox:
        run = synced(sandbox)
        bundles = sandbox.bundles
    assert [len(bundle.events) for bundle in bundles] == [24] * 6
    assert run.records == expected_records(*bundles)
    assert counted(run.records) == counted(expected_records(*bundles))  # 1 is not 1.0 here
    assert sum("CustomVars" in record for record in run.records) > 30
    assert max(record["SessionId"] for record in run.records) > 2**53
    assert len(run.schemas) == 1
    assert run.schemas[0]["key_properties"] == []
    assert run.schemas[0]["bookmark_properties"] == ["EventStart"]
    assert run.messages[0] is run.schemas[0]
    assert run.logged("WARNING") == []


def test_60_bundles_over_pages_of_20_in_order_and_nothing_the_second_time():
    with Sandbox(generated_bundles(60, 2)) as sandbox:
        first = synced(sandbox)
        downloads = [r.query["id"] for r in sandbox.requests if r.path.endswith("/get")]
        bundles = sandbox.bundles
        asked = len(sandbox.requests)
        second = synced(sandbox, first.state)
        later = sandbox.requests[asked:]
    assert first.records == expected_records(*bundles)
    assert len(set(ends(first))) == 60
    assert ends(first) == sorted(ends(first))
    assert downloads == [bundle.id for bundle in bundles]
    assert [message["type"] for message in second.messages] == ["SCHEMA", "STATE"]
    assert second.state == first.state
    assert [request.path for request in later] == ["/api/v1/export/list"]
    assert later[0].query["start"] == str(bundles[-1].stop)


def test_a_later_run_brings_what_is_new():
    with Sandbox(unpublished=2) as sandbox:
        *old, fifth, sixth = sandbox.bundles
        first = synced(sandbox)
        sandbox.publish()
        second = synced(sandbox, first.state)
        sandbox.publish()
        third = synced(sandbox, second.state)
    assert first.records == expected_records(*old)
    assert second.records == expected_records(fifth)
    assert third.records == expected_records(sixth)


# --- which bundles ---


@pytest.fixture(scope="module")
def week() -> Iterator[Sandbox]:
    with Sandbox([day(n, [{"EventType": f"day {n}"}]) for n in range(7)]) as sandbox:
        yield sandbox


def days(run: Run) -> list[int]:
    return [int(record["EventType"].removeprefix("day ")) for record in run.records]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2020-09-15T00:00:00Z", None, [1, 2, 3, 4, 5, 6]),
        ("2020-09-14T23:59:59.999Z", "2020-09-17T00:00:00Z", [0, 1, 2]),
        ("2020-09-15T02:00:00+02:00", "2020-09-16T23:59:59.999Z", [1]),
        ("2020-09-15T00:00:00Z", "2020-09-15T23:00:00Z", []),
        ("2020-09-18T00:00:00Z", "2020-09-15T00:00:00Z", []),
    ],
)
def test_start_date_and_end_date_go_by_the_bundles_end(week, start, end, expected):
    run = synced(week, start_date=start, end_date=end)
    assert days(run) == expected
    assert run.state == (
        {"bookmarks": {"events": {"bundle_end": midnight(expected[-1] + 1)}}}
        if expected
        else {"bookmarks": {}}
    )


def test_the_end_date_holds_for_later_runs_too(week):
    state = {"bookmarks": {"events": {"bundle_end": midnight(2)}}}
    assert days(synced(week, state, end_date=midnight(4))) == [2, 3]


def test_without_a_start_date_the_last_year_comes():
    year_ago = int(time.time()) - 365 * DAY
    ends_at = {"too old": year_ago - 600, "old enough": year_ago + 600, "new": year_ago + 300 * DAY}
    bundles = [Bundle(name, end - DAY, end, [{"EventType": name}]) for name, end in ends_at.items()]
    with Sandbox(bundles) as sandbox:
        run = synced(sandbox, start_date=None)
    assert [record["EventType"] for record in run.records] == ["old enough", "new"]


def test_skipped_bundles_are_named_and_passed(week):
    asked = len(week.requests)
    run = synced(week, skip_bundles=["2", "4"])
    assert days(run) == [0, 1, 3, 5, 6]
    assert ends(run) == [midnight(number) for number in range(1, 8)]
    warnings = run.logged("WARNING")
    assert [line.split()[1] for line in warnings] == ["2", "4"]
    assert all("skip_bundles" in line for line in warnings)
    downloads = {r.query.get("id") for r in week.requests[asked:]}
    assert {"2", "4"} & downloads == set()


# --- however a bundle is written ---


def test_every_layout_and_compression():
    # Some 150 kB: over several blocks, so that events lie across the edges of blocks and members.
    events = list(generate_events(FIRST, FIRST + DAY, 150))
    expected = expected_records(day(0, events))
    shapes = list(itertools.product(LAYOUTS, COMPRESSIONS))
    bundles = []
    for number, (layout, compression) in enumerate(shapes):
        write_events(events, file := io.BytesIO(), layout, compression)
        encoding = "gzip" if compression == "content-encoding" else None
        bundles.append(day(number, file.getvalue(), content_encoding=encoding))
    with Sandbox(bundles) as sandbox:
        run = synced(sandbox)
    for number, shape in enumerate(shapes):
        assert run.records[150 * number : 150 * (number + 1)] == expected, shape
    assert len(run.records) == 150 * len(shapes)


EVENTS: list[dict[str, Any]] = [
    {"EventType": "click", "evt_a_str": "]},{["},
    {"EventTargetText": "a\n\\", "PageId": 7},
]
TEXT = json.dumps(EVENTS).encode()
HALF = len(TEXT) // 2
FILES: dict[str, tuple[bytes, dict[str, str]]] = {
    "plain": (TEXT, {}),
    "plain that is called gzip": (TEXT, {"content_type": "application/gzip"}),
    "gzip that is called JSON": (gzip.compress(TEXT), {"content_type": "application/json"}),
    "gzip for the transport": (gzip.compress(TEXT), {"content_encoding": "gzip"}),
    "plain that is called encoded": (TEXT, {"content_encoding": "gzip"}),
    "gzip in gzip": (gzip.compress(gzip.compress(TEXT)), {"content_encoding": "gzip"}),
    "two members": (gzip.compress(TEXT[:HALF]) + gzip.compress(TEXT[HALF:]), {}),
    "an empty member in between": (
        gzip.compress(TEXT[:1]) + gzip.compress(b"") + gzip.compress(TEXT[1:]), {},
    ),
    "members in gzip": (
        gzip.compress(gzip.compress(TEXT[:HALF]) + gzip.compress(TEXT[HALF:])), {},
    ),
    "padded with zeros": (gzip.compress(TEXT) + bytes(512), {}),
    "whitespace around": (b" \r\n\t" + TEXT + b"\n\n ", {}),
    "indented by tabs": (json.dumps(EVENTS, indent="\t").replace("\n", "\r\n").encode(), {}),
    "no whitespace": (json.dumps(EVENTS, separators=(",", ":")).encode(), {}),
}  # fmt: skip


def test_every_kind_of_file():
    bundles = [day(n, body, **more) for n, (body, more) in enumerate(FILES.values())]
    with Sandbox(bundles) as sandbox:
        run = synced(sandbox)
    expected = [as_record(event) for event in EVENTS]
    for number, name in enumerate(FILES):
        assert run.records[2 * number : 2 * number + 2] == expected, name
    assert len(run.records) == 2 * len(FILES)
    assert run.logged("WARNING") == []


@pytest.mark.parametrize(
    "body", [b"[]", gzip.compress(b"[]"), b" [\n ]\n"], ids=["plain", "gzip", "whitespace"]
)
def test_an_empty_bundle_moves_the_bookmark(body):
    with Sandbox([day(0, body)]) as sandbox:
        run = synced(sandbox)
    assert run.records == []
    assert ends(run) == [midnight(1)]


@pytest.mark.parametrize("list_style", ["capitals", "lower-strings"])
def test_a_redirect_to_storage_without_the_key(list_style):
    with Sandbox(redirect=True, list_style=list_style) as sandbox:
        run = synced(sandbox)
        at_storage = [request for request in sandbox.requests if request.origin == "storage"]
        bundles = sandbox.bundles
    assert run.records == expected_records(*bundles)
    assert len(at_storage) == 6
    assert all("authorization" not in request.headers for request in at_storage)
    assert "X-Goog-Signature" not in run.log


# --- what is said on the way ---


def test_requests_records_and_bundles_are_logged(week):
    run = synced(week, end_date=midnight(2))
    info = run.logged("INFO")
    assert not [line for line in info if line.startswith("GET ")]
    metrics = [json.loads(line.partition(": ")[2]) for line in info if line.startswith("METRIC")]
    assert [m["tags"]["endpoint"] for m in metrics if m["metric"] == "http_request_duration"] == [
        "list", "get", "get",
    ]  # fmt: skip
    counts = [m for m in metrics if m["metric"] == "record_count"]
    assert sum(m["value"] for m in counts) == 2
    assert {m["tags"]["endpoint"] for m in counts} == {"events"}
    for number in (0, 1):
        period = f"{midnight(number)} to {midnight(number + 1)}"
        assert any(
            line.startswith(f"Bundle {number} ({period}), {number + 1} of 2: 1 e") for line in info
        )


def days_ago(days: float) -> str:
    return f"{datetime.now(timezone.utc) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(
    ("days", "level", "age"),
    [(2.9, "INFO", "69 h 3"), (3.1, "WARNING", "3 days"), (60, "WARNING", "60 days")],
)
def test_the_last_line_tells_how_old_the_newest_bundle_is(days, level, age):
    end = days_ago(days)
    state = {"bookmarks": {"events": {"bundle_end": end}}}
    with Sandbox([day(0)], unpublished=1) as sandbox:
        run = synced(sandbox, state)
        until = synced(sandbox, state, end_date=days_ago(0))
    last = run.logged(level)[-1]
    assert f"The newest bundle ends at {end}, {age}" in last
    assert ("No newer bundle for more than 3 days" in last) == (level == "WARNING")
    assert not until.logged("WARNING")  # of a range, nobody expects more


@pytest.mark.parametrize(("days", "warns"), [(2.9, False), (3.1, True), (300, True)])
def test_an_account_that_has_never_listed_a_bundle(days, warns):
    start = days_ago(days)
    with Sandbox([day(0)], unpublished=1) as sandbox:
        warnings = synced(sandbox, start_date=start).logged("WARNING")
    assert len(warnings) == warns
    assert not warns or f"No bundle ends after start_date ({start})" in warnings[0]


def test_what_the_dates_of_the_config_mean_beside_a_state():
    state = {"bookmarks": {"events": {"bundle_end": midnight(3)}}}
    said = f"events: continuing after {midnight(3)}, where the state ends; start_date is used only"
    earlier = f"The state covers events up to {midnight(3)}, which is after end_date"
    with Sandbox([day(number) for number in range(5)]) as sandbox:
        for end, warns in ((midnight(2), True), (midnight(3), False), (midnight(4), False)):
            run = synced(sandbox, state, start_date=midnight(0), end_date=end)
            assert (said in run.log) != warns
            warning = [line for line in run.logged("WARNING") if line.startswith(earlier)]
            told = f"{earlier} ({end}): nothing is left to sync. To load an earlier range, run "
            assert warning == ([f"{told}without this state"] if warns else [])
        assert said not in synced(sandbox).log


def test_records_tell_when_their_bundle_was_fetched():
    with Sandbox([day(0, EVENTS), day(1, EVENTS)]) as sandbox:
        run = synced(sandbox)
    times = [m["time_extracted"] for m in run.messages if m["type"] == "RECORD"]
    assert times[0] == times[1] < times[2] == times[3]


# --- what is left behind ---


def test_no_bundle_is_in_the_spool_folder_afterwards_or_under_a_name_meanwhile(tmp_path):
    big = day(1, b"[" + b",".join([b'{"EventType":"click"}'] * 30_000) + b"]")
    with Sandbox([day(0, EVENTS), big, day(2, EVENTS)]) as sandbox:
        config = sandbox.config(spool_dir=str(tmp_path))
        with start_tap(config) as tap:
            tap.stdout.readline()
            tap.stdout.readline()
            assert list(tmp_path.iterdir()) == []  # while the second one is under way
            rest = tap.stdout.read()
            assert tap.wait(20) == 0
    assert rest.count(b'"RECORD"') == 30_003
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_after_a_failure(tmp_path):
    with Sandbox([day(0, EVENTS), day(1, b'[{"EventType":"cl')]) as sandbox:
        run = run_tap(sandbox.config(spool_dir=str(tmp_path)))
    assert run.code == 1
    assert run.records == [as_record(event) for event in EVENTS]
    assert ends(run) == [midnight(1)]
    assert list(tmp_path.iterdir()) == []


def test_the_systems_temp_folder_is_where_bundles_lie_by_default(tmp_path):
    with Sandbox([day(0, EVENTS)]) as sandbox:
        run = run_tap(sandbox.config(), env={"TMPDIR": str(tmp_path / "gone")})
        assert run.code == 0  # falls back to a folder that is there
        assert run_tap(sandbox.config(spool_dir=tempfile.gettempdir())).records == run.records


# --- checkpoints ---


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_a_state_after_so_many_events_and_never_the_same_twice(prefetch):
    bundles = [day(0, [{"PageId": n} for n in range(25)]), day(1), day(2, [{"PageId": 25}])]
    with Sandbox(bundles) as sandbox:
        run = synced(sandbox, checkpoint_events=10, prefetch_bundles=prefetch)
    assert [record["PageId"] for record in run.records] == list(range(26))
    unsaved = 0
    for message in read_messages(run.stdout):
        unsaved = {"RECORD": unsaved + 1, "STATE": 0}.get(message["type"], unsaved)
        assert unsaved <= 10
    partials = [state["bookmarks"]["events"].get("partial") for state in run.states]
    assert [p and p["events"] for p in partials] == [10, 20, None, None, None]
    assert ends(run) == [midnight(0), midnight(0), midnight(1), midnight(2), midnight(3)]


def test_a_run_resumes_inside_a_bundle_from_any_of_its_states():
    bundles = [day(0, [{"PageId": n} for n in range(25)]), day(1, [{"PageId": 25}])]
    with Sandbox(bundles) as sandbox:
        first = synced(sandbox, checkpoint_events=10)
        for state, rest in zip(first.states, [10, 20, 25, 26], strict=True):
            run = synced(sandbox, state)
            assert [record["PageId"] for record in run.records] == list(range(rest, 26))
            assert run.state == first.state
            # The bundles are years old, which the last line warns of where nothing new comes.
            assert [line for line in run.logged("WARNING") if not line.startswith("Done")] == []


def test_a_bundle_that_has_changed_is_emitted_from_its_start_with_a_warning():
    with Sandbox([day(0, [{"PageId": n} for n in range(25)])]) as sandbox:
        state = synced(sandbox, checkpoint_events=10).states[1]
        sandbox.publish(day(0, [{"PageId": n} for n in range(1, 26)]))
        run = synced(sandbox, state)
    assert [record["PageId"] for record in run.records] == list(range(1, 26))
    (warning,) = run.logged("WARNING")
    assert "up to 20 rows may come twice" in warning


@pytest.mark.parametrize(
    ("bundle_end", "start"),
    [("0001-01-01T00:00:00Z", FIRST), ("1971-01-01T00:00:00Z", -60_000_000_000)],
    ids=["a bookmark in year 1", "a bundle of 1,900 years"],
)
def test_a_position_of_another_bundle_is_ignored_with_a_warning_whatever_the_period(
    bundle_end: str, start: int
) -> None:
    partial = {"id": "another", "events": 1, "bytes": 9, "crc32": 0}
    state = {"bookmarks": {"events": {"bundle_end": bundle_end, "partial": partial}}}
    with Sandbox([Bundle("1", start, FIRST + DAY, EVENTS)]) as sandbox:
        run = synced(sandbox, state, start_date="2020-01-01")
    assert len(run.records) == len(EVENTS)
    assert any("rows may come twice" in line for line in run.logged("WARNING"))


def test_paths_with_a_tilde(tmp_path):
    (tmp_path / "spool").mkdir()
    with Sandbox([day(0, EVENTS)]) as sandbox:
        run = run_tap(sandbox.config(spool_dir="~/spool"), env={"HOME": str(tmp_path)})
    assert run.code == 0, run.log
    assert len(run.records) == 2
    assert [path for path in Path(tmp_path).rglob("*") if path.is_file()] == []


def test_workers_have_no_effect_and_a_warning() -> None:
    with Sandbox([]) as sandbox:
        assert not run_tap(sandbox.config(workers=1)).logged("WARNING")
        (warning,) = run_tap(sandbox.config(workers="2")).logged("WARNING")
    assert "The setting workers has no effect any more" in warning


# --- the process ---


def test_garbage_is_not_collected_while_a_bundle_is_read(week, monkeypatch):
    enabled = []

    def records(*_: object) -> None:
        enabled.append(gc.isenabled())

    monkeypatch.setattr(MessageWriter, "records", records)
    sync_at(datetime(2020, 10, 1, tzinfo=timezone.utc), week.config())
    assert enabled == [False] * 7


@pytest.mark.parametrize("body", [b"[]", b'[{"EventType":"click"}', b"[1]"])
def test_the_garbage_collector_is_on_after_a_bundle_whole_or_not(body):
    """It is off while records are written; left off, a long run would only grow."""
    with Sandbox([day(0, body)]) as sandbox, contextlib.suppress(TapError):
        sync_at(datetime(2026, 6, 7, tzinfo=timezone.utc), sandbox.config())
    was_on = gc.isenabled()
    gc.enable()
    assert was_on
