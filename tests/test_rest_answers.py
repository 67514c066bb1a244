"""REST answers that are not as promised: unknown keys, type mismatches, pages that repeat."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace

import pytest
from faults import fast
from rest_runs import (
    answering,
    asked,
    counts,
    records,
    selecting,
)
from running import run_tap

from tap_fullstory.sandbox import Fault, Sandbox, generated_bundles
from tap_fullstory.sandbox.faults import REST_ENDPOINTS

# --- what does not fit ---


def test_unknown_keys_and_type_mismatches_are_kept_and_counted(sandbox, offered):
    odd = b"""{"segments": [
        {"id": "a", "name": 7, "created": "", "colour": {"r": 1.10,
         "big": 12345678901234567890123}, "extra": null, "url": "u\\ud83d"},
        {"id": "b", "name": null, "creator": "x", "colour": "red"}
    ]}"""
    for fault in answering("segments", odd):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert run.code == 0, run.log
    assert records(run, "segments") == [
        {
            "id": "a",
            "name": None,
            "created": None,
            "url": "u\ufffd",
            "extra": {
                "name": 7,
                "colour": {"r": 1.10, "big": 12345678901234567890123},
                "extra": None,
            },
        },
        {"id": "b", "name": None, "creator": "x", "extra": {"colour": "red"}},
    ]
    assert b"1.10" in run.stdout  # as it came
    warnings = "\n".join(run.logged("WARNING"))
    assert "1 values do not fit their property's type" in warnings
    assert "name (1)" in warnings
    assert "colour (2), extra (1)" in warnings
    assert "red" not in run.log


def test_with_extra_deselected_they_are_dropped_and_counted(sandbox, offered):
    body = {"segments": [{"id": "a", "name": 7, "colour": "red", "url": "here"}]}
    for fault in answering("segments", body):
        sandbox.fault(fault)
    unwanted = {"extra": False, "url": False}
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments", segments=unwanted))
    assert records(run, "segments") == [{"id": "a", "name": None}]
    assert set(run.schema) == {"id", "name", "creator", "created"}
    assert run.logged("WARNING") == []
    assert sum("dropped" in line for line in run.logged("INFO")) == 2


def test_keys_cannot_be_deselected(sandbox, offered):
    unwanted = {"platform": False, "lastUpdated": False, "metadata": False, "domains": False}
    catalog = selecting(offered, "domain_settings_history", domain_settings_history=dict(unwanted))
    run = run_tap(sandbox.config(), catalog=catalog)
    rows = records(run, "domain_settings_history")
    assert all(set(row) == {"platform", "lastUpdated", "onlyRecordKnownDomains"} for row in rows)
    for entry in catalog["streams"]:  # nor be left out of the catalog
        if entry["tap_stream_id"] == "domain_settings_history":
            del entry["schema"]["properties"]["platform"]
    assert records(run_tap(sandbox.config(), catalog=catalog), "domain_settings_history") == [
        {key: row[key] for key in row} for row in rows
    ]


def test_the_other_documented_spelling_of_webhooks(sandbox, offered):
    endpoint = {
        "id": "a",
        "url": "https://hooks.example.com/",
        "event_types": [{"event_name": "note.created", "subcategory": ""}],
    }
    pages = [
        {"endpoints": [endpoint], "next_pagination_token": "more"},
        {"endpoints": [{**endpoint, "id": "b"}]},
    ]
    kinds = {"event_defs": [{"event_name": "a.b", "display_name": "A", "has_subcategories": True}]}
    for fault in (
        *answering("webhook_endpoints", *pages),
        *answering("webhook_event_types", kinds),
    ):
        sandbox.fault(fault)
    catalog = selecting(offered, "webhook_endpoints", "webhook_event_types")
    run = run_tap(sandbox.config(), catalog=catalog)
    assert run.code == 0, run.log
    assert [record["id"] for record in records(run, "webhook_endpoints")] == ["a", "b"]
    assert records(run, "webhook_endpoints")[0]["eventTypes"] == [
        {"eventName": "note.created", "subcategory": ""}
    ]
    assert records(run, "webhook_event_types") == [
        {"eventName": "a.b", "displayName": "A", "hasSubcategories": True}
    ]
    assert run.logged("WARNING") == []
    assert asked(sandbox, "/webhooks/v1/endpoints")[1] == {
        "limit": "100",
        "pagination_token": "more",
    }


def test_page_tokens_stay_out_of_the_log(offered):
    """A webhook's token is its address, which may hold a secret."""
    with Sandbox(most_a_page=1) as sandbox:
        run = run_tap(sandbox.config(), catalog=selecting(offered, "webhook_endpoints"))
        tokens = [call.get("pagination_token") for call in asked(sandbox, "/webhooks/v1/endpoints")]
    assert len(set(tokens)) == 3
    assert b64decode(tokens[1] or "")
    assert not any(token in run.log for token in tokens if token)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"segments": [{"name": "no id"}]}, "whose id is missing"),
        ({"segments": [{"id": None}]}, "whose id is missing"),
        ({"segments": [{"id": 5}]}, "whose id is missing"),
        ({"segments": ["text"]}, "has no list named segments"),
        ({"segments": {"id": "a"}}, "has no list named segments"),
        ({"rows": []}, "has no list named segments"),
        ({"segments": [], "nextPaginationToken": 7}, "nextPaginationToken that is not text"),
        ([1], "a body that is not the expected JSON"),
        (b"<html>", "a body that is not the expected JSON"),
        (b'{"segments": [{"id": "\xff"}]}', "a body that is not the expected JSON"),
    ],
)
def test_answers_that_are_not_what_was_promised(sandbox, offered, body, says):
    for fault in answering("segments", body):
        sandbox.fault(replace(fault, times=None))
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"), env=fast())
    assert run.code == 1
    assert says in run.critical
    assert counts(run) == {}


ADA = "ada.lovelace"
UNREADABLE = {
    "not-utf-8": (f'{{"results": [{{"uid": "{ADA}", "email": "\xff"}}]}}', "not UTF-8 at byte 47"),
    "nan": (f'{{"results": [{{"uid": "{ADA}", "n": NaN}}]}}', "not valid JSON at byte 42"),
    "cut": (f'{{"results": [{{"uid": "{ADA}"', "truncated JSON"),
    "not-json": (ADA, "not valid JSON at byte 0"),
    "page": (f"<html>{ADA}</html>", "a web page"),
    "400": (f'{{"message": "no user {ADA}"}}', "HTTP 400 from "),
    "418": (f'{{"message": "no user {ADA}"}}', "HTTP 418 from "),
}


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        *(("users", kind) for kind in UNREADABLE),
        *((name, "400") for name in sorted(REST_ENDPOINTS)),
    ],
)
def test_what_a_rest_api_returns_is_never_quoted(offered, stream, kind):
    body, words = UNREADABLE[kind]
    status = int(kind) if kind.isdigit() else 200
    fault = Fault("status", stream, status=status, body=body.encode("latin-1"), times=None)
    with Sandbox([], role="ADMIN", faults=[fault]) as sandbox:
        run = run_tap(sandbox.config(), catalog=selecting(offered, stream), env=fast())
    assert run.code == 1
    assert ADA not in run.log
    assert words in run.critical
    assert "application/json" in run.critical


@pytest.mark.parametrize(
    ("stream", "body"),
    [
        ("users", b"<html>"),
        ("users", b'{"results": ['),
        *((name, b"") for name in sorted(REST_ENDPOINTS)),
    ],
)
def test_one_response_without_its_json_costs_one_more_request(offered, stream, body):
    with Sandbox(generated_bundles(1, 9), role="ADMIN") as sandbox:
        expected = run_tap(sandbox.config(), catalog=selecting(offered, stream))
        sandbox.fault(Fault("status", stream, status=200, body=body))
        run = run_tap(sandbox.config(), catalog=selecting(offered, stream))
    assert run.code == 0, run.log
    assert run.records == expected.records
    assert run.log.count("; try 2 of 8 in") == 1


@pytest.mark.parametrize(
    ("total", "code"), [('"3"', 1), ("3", 1), ('"50"', 0), ("50", 0), ("null", 0), ("0", 1)]
)
def test_a_page_without_its_list_is_the_end_if_its_total_says_so(sandbox, offered, total, code):
    body = f'{{"total_records": {total}}}'.encode()
    sandbox.fault(Fault("status", "users", status=200, body=body, skip=6))
    page = Fault("status", "users", status=200, body=b'{"results": [], "next_page_token": "x"}')
    sandbox.fault(replace(page, skip=5))
    run = run_tap(sandbox.config(), catalog=selecting(offered, "users"))
    assert run.code == code, run.log
    if code:
        assert "has no list named results" in run.critical


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        [],
        {},
        {"segments": None},
        {"segments": []},
        {"nextPaginationToken": ""},
        {"segments": [], "nextPaginationToken": None, "next_pagination_token": ""},
    ],
)
def test_lists_of_nothing(sandbox, offered, body):
    for fault in answering("segments", body):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert (run.code, counts(run)) == (0, {}), run.log


def test_a_version_without_a_date_is_an_error(sandbox, offered):
    for fault in answering("geo_settings_history", {"versions": [{"metadata": {}}]}):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "geo_settings_history"))
    assert run.code == 1
    assert "whose lastUpdated is missing" in run.critical


# --- pages ---


@pytest.mark.parametrize("spelling", ["nextPaginationToken", "next_pagination_token"])
def test_a_repeated_token_ends_the_stream_with_an_error(sandbox, offered, spelling):
    pages = [
        {"segments": [{"id": str(number)}], spelling: token}
        for number, token in enumerate(["a", "b", "a"])
    ]
    for fault in answering("segments", *pages):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert run.code == 1
    assert "goes round in circles: after 3 pages" in run.critical
    assert [call.get("paginationToken") for call in asked(sandbox, "/segments/v1")] == [
        None,
        "a",
        "b",
    ]


def test_an_empty_page_with_a_token_is_not_the_end(sandbox, offered):
    pages = [{"segments": [], "nextPaginationToken": "a"}, {"segments": [{"id": "late"}]}]
    for fault in answering("segments", *pages):
        sandbox.fault(fault)
    run = run_tap(sandbox.config(), catalog=selecting(offered, "segments"))
    assert records(run, "segments") == [{"id": "late"}]


@pytest.mark.parametrize("fault", ["429,retry-after=1", "503,times=2", "reset", "cut,after=-3"])
def test_a_page_that_fails_for_a_while(sandbox, offered, fault):
    sandbox.fault(f"users:{fault},skip=2")
    run = run_tap(sandbox.config(), catalog=selecting(offered, "users"))
    assert run.code == 0, run.log
    assert counts(run) == {"users": 57}
