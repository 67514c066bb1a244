"""The sandbox's account is the same on every day, but for its dates."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import pytest
import requests

from tap_fullstory.sandbox import Sandbox, generated_bundles
from tap_fullstory.streams import STREAMS, RestStream
from tap_fullstory.times import format_rfc3339, from_epoch, parse_rfc3339

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ORDINARY = datetime(2026, 6, 10, 12, tzinfo=timezone.utc)
# What follows the clock. All other dates are compared as they are.
MOVING = {
    "EventStart", "SessionStart", "PageStart", "created_time",
    "UserCreated", "Created", "LastSessionStart", "LastEventStart",
}  # fmt: skip

DAYS = [
    datetime.fromisoformat(text.replace("Z", "+00:00"))
    for text in (
        "2028-02-29T00:00:00Z",
        "2028-03-01T23:59:59.999999Z",
        "2026-12-31T12:34:56.789000Z",
        "2027-01-01T00:00:00.000001Z",
        "2027-02-28T06:00:01Z",
        "2027-03-01T17:31:07Z",
        "2026-03-29T01:30:00Z",  # where clocks in Europe go forward
        "2100-02-28T00:00:59Z",  # not a leap year
        "1999-12-31T23:59:59Z",  # Unix seconds of nine digits
        "2027-04-01T03:29:59+05:30",  # still 31 March
        "2027-03-30T20:30:00-03:30",  # 31 March already
    )
]


class Account:
    """All that a client can read of a sandbox at a time, with dates as the distance from the last
    midnight before it.
    """

    def __init__(self, now: datetime, **options: Any) -> None:
        self._midnight = last_midnight(now)
        self._session = requests.Session()
        self._sandbox = Sandbox(clock=lambda: now, pending_polls=0, **options)
        self._session.headers["Authorization"] = f"Basic {self._sandbox.api_key}"

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._sandbox.close()

    def bundles(self) -> list[Any]:
        """Of each bundle its period and its events, in the order of its file."""
        exports = self._json("/api/v1/export/list", start=0)["exports"]
        assert [bundle["Id"] for bundle in exports] == [int(f"{b['Start']}48") for b in exports]
        return [
            (
                from_epoch(bundle["Start"]) - self._midnight,
                from_epoch(bundle["Stop"]) - self._midnight,
                self._events(self._get("/api/v1/export/get", id=bundle["Id"])),
            )
            for bundle in exports
        ]

    def export(self, kind: str, start: timedelta, end: timedelta, **more: Any) -> list[Any]:
        """The rows of a window, from `start` to `end` after the last midnight."""
        period = {
            "start": format_rfc3339(self._midnight + start),
            "end": format_rfc3339(self._midnight + end),
        }
        order = {"segmentId": "everyone", "type": kind, "format": "FORMAT_JSON", **more}
        answer = self._session.post(
            f"{self._sandbox.url}/segments/v1/exports",
            json={"timeRange": period, **order},
            timeout=60,
        )
        operation = self._json(f"/operations/v1/{answer.json()['operationId']}")
        assert operation["state"] == "COMPLETED"
        assert len(operation["createdAt"]) == len("2026-06-10T12:00:00.000000Z")
        results = self._json(f"/search/v1/exports/{operation['results']['searchExportId']}/results")
        return self._events(requests.get(results["location"], timeout=60))

    def listed(self, stream: RestStream) -> list[Any]:
        """The pages of a REST list, in all its variants: by platform or scope, or by user."""
        variants: list[dict[str, str]] = [{}]
        if stream.name == "sessions":
            users = self.pages("/v2/users", {})
            found = [user for page in users for user in page["results"]]
            variants = [{"uid": user["uid"]} for user in found if "uid" in user]
        elif stream.parts:
            variants = [{stream.part_name: part} for part in stream.parts]
        path = stream.path.replace("{eventName}", "recording.event.custom")
        return [self.pages(path, variant) for variant in variants]

    def pages(self, path: str, parameters: dict[str, str]) -> list[Any]:
        pages = [self._json(path, **parameters)]
        while True:
            last = pages[-1]
            token = last.get("next_page_token")
            if token:
                pages.append(self._json(path, **parameters, page_token=token))
                continue
            token = last.get("nextPaginationToken") or last.get("next_pagination_token")
            if not token:
                return [self._shifted(page) for page in pages]
            pages.append(self._json(path, **parameters, paginationToken=token))

    def _get(self, path: str, **parameters: Any) -> requests.Response:
        answer = self._session.get(self._sandbox.url + path, params=parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer

    def _json(self, path: str, **parameters: Any) -> Any:
        return self._get(path, **parameters).json()

    def _events(self, answer: requests.Response) -> list[Any]:
        events = self._shifted(json.loads(gzip.decompress(answer.content)))
        assert isinstance(events, list)
        return events

    def _shifted(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._shifted(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            name: str(parse_rfc3339(item) - self._midnight)
            if name in MOVING and isinstance(item, str)
            else self._shifted(item)
            for name, item in value.items()
        }


def rest_lists(now: datetime) -> dict[str, Any]:
    with Account(now) as account:
        return {
            stream.name: account.listed(stream)
            for stream in STREAMS
            if isinstance(stream, RestStream)
        }


def bundles(now: datetime) -> list[Any]:
    with Account(now) as account:
        return account.bundles()


def segment_exports(now: datetime, reorder: bool) -> list[Any]:
    windows = [
        (-7 * DAY, -DAY),
        (-3 * DAY, -2 * DAY),
        (-5 * DAY + 7 * HOUR, -4 * DAY + 11 * HOUR),  # of two bundles
        (-DAY, DAY),  # of none
    ]
    all_time = {"start": "", "end": ""}
    with Account(now, reorder=reorder) as account:
        return [
            account.export(kind, *window, segmentTimeRange=all_time)
            for kind in ("TYPE_EVENT", "TYPE_INDIVIDUAL")
            for window in windows
        ]


def last_30_days(now: datetime) -> list[Any]:
    """The rows of an export without a range for the segment, of 35 bundles."""
    newest = last_midnight(now) - DAY
    with Account(now, bundles=generated_bundles(35, 2, until=newest)) as account:
        return account.export("TYPE_EVENT", -50 * DAY, 0 * DAY)


def last_midnight(now: datetime) -> datetime:
    return now.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def test_bundles_are_the_same_on_every_day():
    expected = bundles(ORDINARY)
    assert [len(events) for _, _, events in expected] == [24] * 6
    for day in DAYS:
        assert bundles(day) == expected, day


@pytest.mark.parametrize("reorder", [False, True])
def test_segment_exports_are_the_same_on_every_day(reorder):
    expected = segment_exports(ORDINARY, reorder)
    assert [bool(rows) for rows in expected] == [True, True, True, False] * 2
    for day in DAYS:
        assert segment_exports(day, reorder) == expected, day


def test_the_last_30_days_have_the_same_bundles_at_every_time_of_day():
    expected = last_30_days(ORDINARY)
    assert len(expected) == 29 * 2
    for day in DAYS:
        assert last_30_days(day) == expected, day


def test_rest_lists_are_the_same_on_every_day():
    expected = rest_lists(ORDINARY)
    assert all(any(pages) for pages in expected.values())
    for day in DAYS:
        assert rest_lists(day) == expected, day


def test_settings_are_changed_at_the_sandboxs_time():
    for day in DAYS:
        with Sandbox(clock=Mock(return_value=day)) as sandbox:
            changed = parse_rfc3339(
                sandbox.change_settings("geo", recordGeoZones=[])["metadata"]["lastUpdated"]
            )
            assert changed == day or day.year < 2025  # never before the version it changes


def test_a_bundle_differs_from_the_next_in_more_than_dates():
    sessions = [{event["SessionId"] for event in events} for _, _, events in bundles(ORDINARY)]
    assert len(set().union(*sessions)) == sum(map(len, sessions))
