"""The sandbox's REST APIs, with what is odd about FullStory's."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import requests

from tap_fullstory.sandbox import Sandbox
from tap_fullstory.sandbox.faults import REST_ENDPOINTS
from tap_fullstory.streams import STREAMS, RestStream

SETTINGS = "/settings/recording/v1"
EXPORT = {
    "segmentId": "everyone",
    "type": "TYPE_EVENT",
    "format": "FORMAT_JSON",
    "timeRange": {"start": "2026-06-06T00:00:00Z", "end": "2026-06-07T00:00:00Z"},
}


def get(sandbox: Sandbox, path: str, **parameters: Any) -> requests.Response:
    headers = {"Authorization": f"Basic {sandbox.api_key}"}
    return requests.get(sandbox.url + path, parameters, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def small():
    with Sandbox(most_a_page=2) as sandbox:
        yield sandbox


def pages(sandbox: Sandbox, path: str, token: str, into: str, **parameters: Any) -> list[Any]:
    answers = [get(sandbox, path, **parameters).json()]
    while answers[-1].get(token):
        answers.append(get(sandbox, path, **parameters, **{into: answers[-1][token]}).json())
    return answers


def test_every_endpoint_is_that_of_a_stream(sandbox):
    assert set(REST_ENDPOINTS) == {one.name for one in STREAMS if isinstance(one, RestStream)}
    assert get(sandbox, "/v2/users", limit=100).status_code == 400  # no such parameter


def test_users_come_by_ten_with_a_total_in_digits(sandbox):
    answers = pages(sandbox, "/v2/users", "next_page_token", "page_token")
    assert [len(answer["results"]) for answer in answers] == [10, 10, 10, 10, 10, 7]
    assert {answer["total_records"] for answer in answers} == {"57"}
    assert "next_page_token" not in answers[-1]
    anonymous = [user for answer in answers for user in answer["results"] if "uid" not in user]
    assert len(anonymous) == 18
    assert all("email" not in user for user in anonymous)


def test_a_page_token_goes_with_its_filters(sandbox):
    token = get(sandbox, "/v2/users", is_identified="true").json()["next_page_token"]
    assert get(sandbox, "/v2/users", page_token=token).status_code == 400
    assert get(sandbox, "/v2/users", page_token="x").status_code == 400
    more = get(sandbox, "/v2/users", is_identified="true", page_token=token).json()
    assert all(user["uid"] for user in more["results"])
    one = get(sandbox, "/v2/users", uid="customer-1001").json()["results"]
    assert [user["email"] for user in one] == ["jane@example.com"]


def test_sessions_are_those_of_the_events_newest_first(sandbox):
    assert get(sandbox, "/v2/sessions").status_code == 400
    events = [event for bundle in sandbox.bundles for event in bundle.body]
    for uid in {event["UserAppKey"] for event in events} - {""}:
        answer = get(sandbox, "/v2/sessions", uid=uid, limit=100).json()["results"]
        assert {session["id"] for session in answer} == {
            f"{event['UserId']}:{event['SessionId']}"
            for event in events
            if event["UserAppKey"] == uid
        }
        times = [session["created_time"] for session in answer]
        assert times == sorted(times, reverse=True)
        assert len(get(sandbox, "/v2/sessions", uid=uid, limit=1).json()["results"]) == 1
    assert get(sandbox, "/v2/sessions", uid="nobody").json() == {"results": []}


@pytest.mark.parametrize(
    ("kind", "spelling"),
    [("blocking", "nextPaginationToken"), ("domain", "next_pagination_token")],
)
def test_histories_spell_their_token_in_two_ways_and_end_with_an_empty_one(small, kind, spelling):
    path = f"{SETTINGS}/{kind}/history"
    answers = pages(small, path, spelling, "paginationToken")
    assert [len(answer["versions"]) for answer in answers] == [2, 1]
    assert answers[-1][spelling] == ""
    stamps = [version["metadata"]["lastUpdated"] for one in answers for version in one["versions"]]
    assert stamps == sorted(stamps, reverse=True)
    assert get(small, f"{SETTINGS}/{kind}").json() == answers[0]["versions"][0]
    assert get(small, path, paginationToken="v0").status_code == 400
    assert get(small, path, limit=101).status_code == 400


def test_web_is_the_default_and_mobile_another(sandbox):
    path = f"{SETTINGS}/features"
    web, mobile = (get(sandbox, path, platform=name).json() for name in ("web", "mobile"))
    assert get(sandbox, path).json() == web != mobile
    assert get(sandbox, path, platform="tv").status_code == 400
    assert get(sandbox, f"{SETTINGS}/geo", platform="web").status_code == 400  # has none


def test_lists_of_v1_end_without_a_token(small):
    for path, name, into in (
        ("/segments/v1", "segments", "paginationToken"),
        ("/webhooks/v1/endpoints", "endpoints", "pagination_token"),
        ("/operations/v1", "operations", "paginationToken"),
    ):
        answers = pages(small, path, "nextPaginationToken", into)
        assert "nextPaginationToken" not in answers[-1]
        ids = [one["id"] for answer in answers for one in answer[name]]
        assert len(set(ids)) == len(ids) > 2
    assert "created" not in get(small, "/segments/v1").json()["segments"][0]


def test_rules_want_a_scope_and_hide_the_archived_unless_asked(sandbox):
    path = "/v2beta/extraction/rules"
    assert get(sandbox, path).status_code == 400
    page = get(sandbox, path, scope="PAGE").json()
    assert [rule["archived"] for rule in page["rules"]] == [False]
    assert page["total_records"] == 1
    everything = get(sandbox, path, scope="PAGE", include_archived="true").json()
    assert [rule["archived"] for rule in everything["rules"]] == [False, True]
    assert "rules" not in get(sandbox, path, scope="REQUEST").json()  # none


def test_privacy_elements_come_in_pages(small):
    answers = pages(small, "/v2beta/privacy/elements", "next_page_token", "page_token")
    assert [len(answer["results"]) for answer in answers] == [2] * 6
    assert answers[-1]["next_page_token"] is None
    assert get(small, "/v2beta/privacy/elements", limit=5).status_code == 400


def test_subcategories_are_those_of_an_event_type_that_has_them(small):
    path = "/webhooks/v1/event-types/{}/subcategories"
    for kind in get(small, "/webhooks/v1/event-types").json()["eventDefs"]:
        answer = get(small, path.format(quote(kind["eventName"], safe="")), limit=1000)
        assert answer.status_code == (200 if kind["hasSubcategories"] else 404)
    custom = pages(small, path.format("recording.event.custom"), "nextPaginationToken",
                   "pagination_token")  # fmt: skip
    assert [len(answer["subcategoryDefs"]) for answer in custom] == [2, 1]


def test_users_have_their_schema_only_if_asked(sandbox):
    (plain,) = get(sandbox, "/v2/users", uid="customer-1001").json()["results"]
    (full,) = get(sandbox, "/v2/users", uid="customer-1001", include_schema="true").json()[
        "results"
    ]
    assert plain["schema"] is plain["type_conflicts"] is None
    assert full["schema"]["properties"]
    assert {**full, "schema": None, "type_conflicts": None} == plain


def test_roles():
    for role, status in (("USER", 403), ("ARCHITECT", 200), ("ADMIN", 200)):
        with Sandbox(role=role) as sandbox:
            assert get(sandbox, "/v2/users").status_code == status
            assert get(sandbox, f"{SETTINGS}/privacy/history").status_code == status
            assert get(sandbox, "/segments/v1").status_code == 200
            assert get(sandbox, "/me").json()["role"] == role
            assert get(sandbox, "/api/v1/export/list", start=0).status_code == status
            bundle = sandbox.bundles[0]
            assert get(sandbox, "/api/v1/export/get", id=bundle.id).status_code == status
            answer = requests.post(
                f"{sandbox.url}/segments/v1/exports",
                json=EXPORT,
                headers={"Authorization": f"Basic {sandbox.api_key}"},
                timeout=60,
            )
            assert answer.status_code == status
            # Operations are open to all levels; results of exports are not.
            assert get(sandbox, "/operations/v1").status_code == 200
            assert get(sandbox, "/operations/v1/none").status_code == 404
            results = get(sandbox, "/search/v1/exports/none/results")
            assert results.status_code == (403 if role == "USER" else 404)
    with pytest.raises(ValueError, match="'x'"):
        Sandbox(role="x")


def test_settings_change_by_method_and_by_request():
    with Sandbox() as sandbox:
        path = f"{SETTINGS}/domain"
        made = sandbox.change_settings("domain", "mobile", onlyRecordKnownDomains=True)
        assert get(sandbox, path, platform="mobile").json() == made
        url = f"{sandbox.url}/sandbox/settings"
        answer = requests.post(f"{url}/domain", json={"domains": []}, timeout=60)
        assert get(sandbox, path).json() == answer.json()
        history = get(sandbox, f"{path}/history").json()["versions"]
        assert [len(version["domains"]) for version in history] == [0, 1, 1, 0]
        created = {version["metadata"]["created"] for version in history}
        assert len(created) == 1
        assert requests.post(f"{url}/weather", timeout=60).status_code == 400
        assert requests.post(f"{url}/geo", "[]", timeout=60).status_code == 400
        mobile = requests.post(f"{url}/geo", params={"platform": "mobile"}, timeout=60)
        assert mobile.status_code == 400
