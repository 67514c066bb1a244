"""The sandbox's Segment Export API from outside, over real HTTP: each trap of the real one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from tap_fullstory.sandbox import Bundle, Sandbox, as_segment_export, generated_bundles
from tap_fullstory.times import format_rfc3339, from_epoch, parse_rfc3339

UNTIL = datetime(2026, 6, 7, tzinfo=timezone.utc)
DAY = timedelta(days=1)


class Exporter:
    """What a client of the API does, step by step."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Basic {sandbox.api_key}"

    def create(self, start: datetime, end: datetime, **more: Any) -> requests.Response:
        span = {"start": format_rfc3339(start), "end": format_rfc3339(end)}
        order = {
            "segmentId": "everyone",
            "type": "TYPE_EVENT",
            "format": "FORMAT_JSON",
            "timeRange": span,
            "segmentTimeRange": span,
            **more,
        }
        order = {name: value for name, value in order.items() if value is not None}
        url = f"{self.sandbox.url}/segments/v1/exports"
        return self.session.post(url, json=order, timeout=60)

    def ordered(self, start: datetime, end: datetime, **more: Any) -> str:
        answer = self.create(start, end, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["operationId"]

    def ask(self, path: str) -> requests.Response:
        return self.session.get(f"{self.sandbox.url}{path}", timeout=60)

    def operation(self, operation: str) -> dict[str, Any]:
        return self.ask(f"/operations/v1/{operation}").json()

    def result_id(self, operation: str) -> str:
        while (told := self.operation(operation))["state"] == "PENDING":
            pass
        assert told["state"] == "COMPLETED", told
        return told["results"]["searchExportId"]

    def location(self, operation: str) -> str:
        answer = self.ask(f"/search/v1/exports/{self.result_id(operation)}/results")
        return answer.json()["location"]

    def rows(self, start: datetime, end: datetime, **more: Any) -> list[dict[str, Any]]:
        file = requests.get(self.location(self.ordered(start, end, **more)), timeout=60)
        return json.loads(gzip.decompress(file.content))


@pytest.fixture
def exporter() -> Iterator[Any]:
    opened: list[Exporter] = []

    def make(bundles: list[Bundle] | None = None, **options: Any) -> Exporter:
        made = generated_bundles(3, 30, until=UNTIL) if bundles is None else bundles
        opened.append(Exporter(Sandbox(made, **options)))
        return opened[-1]

    yield make
    for each in opened:
        each.session.close()
        each.sandbox.close()


def span_of(bundle: Bundle) -> tuple[datetime, datetime]:
    return from_epoch(bundle.start), from_epoch(bundle.stop)


def in_order(rows: Any) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def at(*times: datetime) -> Bundle:
    """A bundle with an event at each of these times."""
    start = int(times[0].timestamp())
    events = [
        {"EventStart": f"{time:%Y-%m-%dT%H:%M:%S.000Z}", "PageId": number}
        for number, time in enumerate(times)
    ]
    return Bundle("1", start, start + 86_400, events)


def test_an_export_has_the_events_of_its_window(exporter):
    client = exporter()
    for bundle in client.sandbox.bundles:
        expected = [as_segment_export(event) for event in bundle.body]
        assert in_order(client.rows(*span_of(bundle))) == in_order(expected)


def test_a_window_includes_its_start_and_excludes_its_end(exporter):
    client = exporter([at(UNTIL, UNTIL + timedelta(seconds=1), UNTIL + timedelta(seconds=2))])
    rows = client.rows(UNTIL, UNTIL + timedelta(seconds=2))
    assert sorted(row["PageId"] for row in rows) == [0, 1]


def test_rows_are_in_no_order_and_in_another_one_in_each_export(exporter):
    client = exporter([generated_bundles(1, 200, until=UNTIL)[0]])
    (bundle,) = client.sandbox.bundles
    first, second = client.rows(*span_of(bundle)), client.rows(*span_of(bundle))
    assert first != second
    assert in_order(first) == in_order(second)
    starts = [row["EventStart"] for row in first]
    assert starts != sorted(starts)


def test_without_reorder_exports_of_a_window_are_the_same(exporter):
    client = exporter(reorder=False)
    span = span_of(client.sandbox.bundles[0])
    assert client.rows(*span) == client.rows(*span)


def test_an_empty_window_is_an_empty_array(exporter):
    assert exporter().rows(UNTIL, UNTIL + DAY) == []


def test_everyone_without_a_range_of_its_own_is_the_last_30_days(exporter):
    now = UNTIL + timedelta(hours=14, minutes=5)
    old, recent = now - 40 * DAY, now - 20 * DAY
    client = exporter([at(old, recent)], clock=lambda: now)
    window = old, now - DAY
    assert len(client.rows(*window)) == 2
    assert [row["PageId"] for row in client.rows(*window, segmentTimeRange=None)] == [1]
    assert client.rows(old, recent, segmentTimeRange=None) == []
    everything = {"start": "", "end": ""}
    assert len(client.rows(*window, segmentTimeRange=everything)) == 2


def test_names_are_the_newer_ones(exporter):
    client = exporter()
    rows = client.rows(UNTIL - 3 * DAY, UNTIL)
    names = set().union(*rows)
    assert {"PageUserAgent", "EventTargetSelector"} <= names
    assert not {"PageAgent", "EventTargetSelectorTok"} & names


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (["EventStart"], {"EventStart"}),
        (["EventStart", "user_*"], {"EventStart", "user_"}),
        (["evt_*", "page_*"], {"evt_", "page_"}),
        (["user_plan_str"], {"user_plan_str"}),
        (["EventTargetSelectorTok"], {"EventTargetSelectorTok"}),
    ],
)
def test_fields_restrict_the_rows(exporter, fields, kept):
    client = exporter([generated_bundles(1, 200, until=UNTIL)[0]])
    names = set().union(*client.rows(UNTIL - DAY, UNTIL, fields=fields))
    assert names
    assert {name if name in kept else name.partition("_")[0] + "_" for name in names} == kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"fields": ["EventStart", "EventStart"]},
        {"fields": ["PageAgent"]},
        {"fields": ["user_pl*"]},
        {"type": None},
        {"type": "TYPE_PAGES"},
        {"format": None},
        {"segmentId": None},
        {"timeRange": None},
    ],
    ids=str,
)
def test_an_export_request_without_a_meaning_is_refused(exporter, wrong):
    assert exporter().create(UNTIL - DAY, UNTIL, **wrong).status_code == 400


def test_an_operation_is_pending_for_a_while_and_even_at_100_percent(exporter):
    client = exporter(pending_polls=2)
    operation = client.ordered(UNTIL - DAY, UNTIL)
    told = [client.operation(operation) for _ in range(4)]
    assert [one["state"] for one in told] == ["PENDING", "PENDING", "COMPLETED", "COMPLETED"]
    assert [one["estimatePctComplete"] for one in told] == [50, 100, 100, 100]
    assert [one["results"] for one in told[:2]] == [None, None]
    kept = parse_rfc3339(told[2]["results"]["expires"]) - parse_rfc3339(told[2]["finishedAt"])
    assert kept == timedelta(days=7)


def test_results_go_by_their_own_id_and_have_nine_decimals(exporter):
    client = exporter()
    operation = client.ordered(UNTIL - DAY, UNTIL)
    result = client.result_id(operation)
    assert client.ask(f"/search/v1/exports/{operation}/results").status_code == 404
    expires = client.ask(f"/search/v1/exports/{result}/results").json()["expires"]
    assert len(expires.partition(".")[2]) == len("123456789Z")


def test_there_are_no_results_before_the_end(exporter):
    client = exporter(pending_polls=5)
    first = client.ordered(UNTIL - DAY, UNTIL)
    result = client.result_id(first)
    other = exporter(pending_polls=5)  # numbers its exports alike
    other.ordered(UNTIL - DAY, UNTIL)
    assert other.ask(f"/search/v1/exports/{result}/results").status_code == 404


def test_the_storage_host_refuses_the_key(exporter):
    client = exporter()
    location = client.location(client.ordered(UNTIL - DAY, UNTIL))
    assert location.startswith(client.sandbox.storage_url)
    assert client.session.get(location, timeout=60).status_code == 400
    assert requests.get(location, timeout=60).status_code == 200


def test_a_location_that_has_expired_stays_so_and_a_fresh_one_works(exporter):
    client = exporter(faults=["storage:expired"])
    operation = client.ordered(UNTIL - DAY, UNTIL)
    first = client.location(operation)
    assert [requests.get(first, timeout=60).status_code for _ in range(2)] == [403, 403]
    assert requests.get(client.location(operation), timeout=60).status_code == 200


def test_an_export_can_expire(exporter):
    client = exporter(faults=["results:expired"])
    result = client.result_id(client.ordered(UNTIL - DAY, UNTIL))
    path = f"/search/v1/exports/{result}/results"
    assert [client.ask(path).status_code for _ in range(2)] == [404, 404]


def test_an_export_can_fail(exporter):
    client = exporter(faults=["operation:failed,skip=1"])
    operation = client.ordered(UNTIL - DAY, UNTIL)
    assert client.operation(operation)["state"] == "PENDING"
    told = client.operation(operation)
    assert (told["state"], told["results"]) == ("FAILED", None)
    assert told["errorDetails"]
    assert client.operation(operation) == told


def test_a_cancelled_export_is_not_finished(exporter):
    client = exporter(pending_polls=3)
    operation = client.ordered(UNTIL - DAY, UNTIL)
    url = f"{client.sandbox.url}/operations/v1/{operation}/cancel"
    assert client.session.post(url, timeout=60).status_code == 200
    assert client.operation(operation)["state"] == "FAILED"


def test_a_file_as_it_is_is_what_an_export_of_its_period_answers(exporter):
    body = b'[{"EventStart":"2026-06-06T12:00:00Z"}'  # broken
    start = int((UNTIL - DAY).timestamp())
    client = exporter([Bundle("7", start, start + 86_400, body)])
    location = client.location(client.ordered(UNTIL - DAY, UNTIL))
    assert "/7/" in location
    assert requests.get(location, timeout=60).content == body
    other = client.ordered(UNTIL - DAY, UNTIL - DAY / 2)  # which is to be made of it
    client.operation(other)
    assert client.operation(other)["state"] == "FAILED"


def test_faults_can_name_the_bundle(exporter):
    client = exporter()
    second = client.sandbox.bundles[1]
    client.sandbox.fault(f"create/{second.id}:503,times=always")
    statuses = [client.create(*span_of(bundle)).status_code for bundle in client.sandbox.bundles]
    assert statuses == [200, 503, 200]


def test_individuals_are_those_with_an_event_in_the_window_and_their_figures_are_lifetime(exporter):
    client = exporter()
    first, *_ = client.sandbox.bundles
    events = [event for bundle in client.sandbox.bundles for event in bundle.body]
    active = {event["IndvId"] for event in first.body}
    rows = client.rows(*span_of(first), type="TYPE_INDIVIDUAL")
    assert {row["IndvId"] for row in rows} == active
    for row in rows:
        own = [event for event in events if event["IndvId"] == row["IndvId"]]
        assert row["NumEvents"] == len(own)
        assert row["LastEventStart"] == max(event["EventStart"] for event in own)
        assert None not in row.values()
    assert any(name.startswith("user_") for row in rows for name in row)


def test_the_config_chooses_the_api():
    with Sandbox(export_api="segment_export") as sandbox:
        assert sandbox.config()["export_api"] == "segment_export"
    with pytest.raises(ValueError, match="export_api"):
        Sandbox(export_api="bundles")
