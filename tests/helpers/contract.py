"""FullStory's REST APIs and exports by their documentation alone: a witness beside the sandbox.

A record of each list with every documented member, from the examples and schemas of
developer.fullstory.com (a copy is in github.com/fullstorydev/sekizui, in
internal/connectors/fullstory/reference; for events and individuals: "Export Fields"), and a server
that answers with them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]

_METADATA = {
    "lastUpdated": "2021-06-03T14:57:32.623593Z",
    "lastUpdatedBy": "bob@example.com",
    "created": "2020-09-30T18:49:27.391Z",
    "createdBy": "bob@example.com",
}
_CONDITION = {
    "attr": "APP_VERSION",
    "op": "LT",
    "values": [
        {
            "strVal": "4.12",
            "intVal": "9007199254740993",
            "versionVal": {"major": "4", "minor": "12", "build": "0", "revision": "7"},
        }
    ],
    "joinPrevious": "AND",
}
_SETTINGS: dict[str, Json] = {
    "blocking": {"blockedIps": ["203.0.113.9"], "blockedUas": ["Bot"], "blockedAppIds": ["app"]},
    "domain": {
        "onlyRecordKnownDomains": False,
        "domains": [{"disabled": False, "domain": "fullstory.com"}],
    },
    "geo": {"recordGeoMode": "GEO_ALLOW_LIST", "recordGeoZones": ["US"]},
    "features": {
        "enabled": True,
        "consoleWatcher": True,
        "ajaxWatcher": False,
        "resourceUploading": True,
        "recordingShutoff": False,
        "clientSideRageClick": True,
    },
    "targeting": {
        "sessionTargetingRules": [
            {
                "id": "old-apps",
                "notes": "not worth it",
                "scope": "NO_SESSIONS",
                "conditions": [_CONDITION],
                "children": [{"id": "beta", "joinPrevious": "OR"}],
            }
        ]
    },
    "privacy": {
        "elementBlocks": [
            {
                "selector": "input[type=password]",
                "consent": False,
                "notes": "a note",
                "type": "BLOCK_EXCLUDE",
                "scope": "ALL_SESSIONS",
                "lastUpdated": "0001-01-01T00:00:00Z",
                "label": "a label",
                "targetingConditions": {"privacyTargetingConditions": [_CONDITION]},
                "editable": "EDITABLE_DESCRIPTION_ONLY",
                "exceptionSelectors": [".public"],
                "groupId": 0,
            }
        ],
        "ajaxWatches": [
            {
                "urlRegex": "/session\\?.*",
                "recordReq": "ELIDE",
                "recordRsp": "WHITELIST",
                "whitelistReq": "a",
                "whitelistRsp": "b",
            }
        ],
        "discardIpAddresses": False,
        "defaultPrivacyMode": "PRIVACY_MODE_OFF",
        "elementRuleGroups": {
            "7": {
                "groupId": 7,
                "templateId": "FORM_PRIVACY",
                "note": "a note",
                "overrides": {"scope": "ALL_SESSIONS", "editable": "EDITABLE_ANY"},
            }
        },
    },
}
_QUOTA = {
    "usage": "15234",
    "limit": "100000",
    "period_start": "2026-05-01T00:00:00Z",
    "period_end": "2026-06-01T00:00:00Z",
}
_TIMES = {"created_at": "2026-01-05T10:00:00Z", "updated_at": "2026-01-06T10:00:00.123456Z"}
EVENT_NAME = "a/b c"
_SUBCATEGORIES = "/webhooks/v1/event-types/a%2Fb%20c/subcategories"

# By endpoint, one object with every documented member.
RECORDS: dict[str, Json] = {
    **{
        f"/settings/recording/v1/{kind}{history}": {**members, "metadata": _METADATA}
        for kind, members in _SETTINGS.items()
        for history in ("", "/history")
    },
    "/v2/users": {
        "id": "987654321",
        "uid": "xyz123",
        "display_name": "Daniel Falko",
        "email": "daniel.falko@example.com",
        "is_being_deleted": False,
        "properties": {"pricing_plan": "paid", "popup_help": True, "total_spent": 14.55},
        "schema": {"properties": {"pricing_plan": "str"}},
        "type_conflicts": {"properties": {"total_spent": ["real", "str"]}},
        "app_url": "https://app.fullstory.com/ui/orgid/segments/everyone/people:search:abc/user/xyz",
    },
    "/v2/sessions": {
        "id": "1234567890:0987654321",
        "app_url": "https://app.fullstory.com/ui/orgid/session/1234567890:0987654321",
        "created_time": "2017-01-15T01:30:15Z",
    },
    "/segments/v1": {
        "id": "abcdefg12345",
        "name": "Visits to jobs page",
        "creator": "bob@example.com",
        "created": "2020-10-22T14:30:10.631Z",
        "url": "https://app.fullstory.com/ui/yourOrgId/segments/abcdefg12345",
    },
    "/operations/v1": {
        "id": "YnVsa3k6NTc0OTU2MzMzMTcwNjg4MA==",
        "type": "SEARCH_EXPORT",
        "details": {"segmentId": "abcdefg12345"},
        "results": {"expires": "2020-09-29T10:11:12.345Z", "searchExportId": "YKDYR5ye"},
        "state": "COMPLETED",
        "errorDetails": "none",
        "createdAt": "2018-04-19T22:40:52.174736Z",
        "finishedAt": "2018-04-19T22:40:54.473657Z",
        "estimatePctComplete": 100,
        "step": "done",
    },
    "/webhooks/v1/endpoints": {
        "id": "aHR0cDovL2Zvby5iYXIv",
        "created": "2020-03-26T19:16:57.291Z",
        "modified": "2020-04-01T21:46:42.412Z",
        "enabled": True,
        "url": "https://foo.bar/",
        "eventTypes": [{"eventName": "recording.event.custom", "subcategory": "CgsiCW8"}],
    },
    "/webhooks/v1/event-types": {
        "eventName": EVENT_NAME,
        "displayName": "Custom Event",
        "hasSubcategories": True,
    },
    _SUBCATEGORIES: {
        "subcategory": "QWRkZWQgSXRlbSB0byBDYXJ0",
        "displayName": "Added Item to Cart",
    },
    "/v2/organization/quotas": {"session_quota": _QUOTA, "server_event_quota": _QUOTA},
    "/v2beta/extraction/rules": {
        "id": "rule_abc123",
        "name": "Capture Product Price",
        "description": "Extracts the product price",
        "source": {
            "element": {
                "selectors": {"selectors": [{"platform": ["WEB"], "selector": "#cart .price"}]}
            }
        },
        "mappings": [
            {
                "element_value": {"attribute": {"attribute": "data-price"}},
                "target": {"property": {"name": "product_price", "data_type": "FLOAT"}},
                "operation": {"regex": {"expression": "^(\\d+\\.\\d{2})"}},
            }
        ],
        **_TIMES,
        "archived": False,
        "etag": "deprecated",
    },
    "/v2beta/privacy/elements": {
        "id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "name": "Mask Credit Card Fields",
        "description": "Masks all credit card input fields",
        "source": {
            "selector": "div.sensitive-data",
            "exception_selectors": ["span.public-info"],
            "backup_selector": ".sensitive-data",
        },
        "operation": {"action": "MASK", "consent": False, "scope": "ALL_SESSIONS"},
        "platforms": ["WEB"],
        "editable": "EDITABLE_ANY",
        "group_id": 0,
        "created_at": _TIMES["created_at"],
        "last_updated": _TIMES["updated_at"],
        "last_updated_by": "user@example.com",
    },
}

# The member of an answer that lists the records; other answers are one object.
LISTS = {
    **{path: "versions" for path in RECORDS if path.endswith("/history")},
    "/v2/users": "results",
    "/v2/sessions": "results",
    "/segments/v1": "segments",
    "/operations/v1": "operations",
    "/webhooks/v1/endpoints": "endpoints",
    "/webhooks/v1/event-types": "eventDefs",
    _SUBCATEGORIES: "subcategoryDefs",
    "/v2beta/extraction/rules": "rules",
    "/v2beta/privacy/elements": "results",
}
# Where a list continues: the parameter and the token's name.
PAGED = {
    **{path: ("paginationToken", "next_pagination_token") for path in LISTS if "/history" in path},
    "/v2/users": ("page_token", "next_page_token"),
    "/v2beta/privacy/elements": ("page_token", "next_page_token"),
    "/segments/v1": ("paginationToken", "nextPaginationToken"),
    "/operations/v1": ("paginationToken", "nextPaginationToken"),
    "/webhooks/v1/endpoints": ("pagination_token", "nextPaginationToken"),
    _SUBCATEGORIES: (
        "pagination_token",
        "next_pagination_token",
    ),
}
REQUIRED = {
    "/v2/sessions": {"uid", "limit"},
    "/v2beta/extraction/rules": {"scope", "include_archived"},
}

Answer = Callable[[str, str, Mapping[str, str]], bytes | None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The URL of a server that sends what `answer` returns for a method, a path as it was sent and
    its parameters; None is 404.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = answer(self.command, url.path, query)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def as_bytes(document: Any) -> bytes:
    """JSON as Go's encoder escapes it, in which FullStory's servers are written."""
    return json.dumps(document, ensure_ascii=False).replace("&", "\\u0026").encode()


EVENT: Json = {
    "IndvId": 6606828898126528473,
    "UserId": 9007199254740993,
    "SessionId": 5737278391959552,
    "PageId": 1234567890123456,
    "UserCreated": "2018-01-04T20:07:11.191Z",
    "UserAppKey": "customer-1",
    "UserDisplayName": "Daniel Falko",
    "UserEmail": "daniel.falko@example.com",
    "SessionStart": "2026-06-01T20:07:11.191Z",
    "EventStart": "2026-06-01T20:07:12.5Z",
    "EventType": "click",
    "EventSubType": "uncaught",
    "EventTargetText": "Add to cart ✓",
    "EventTargetSelector": "html > body",
    "EventTargetSelectorTok": ".my%2Dclass",
    "EventPageOffset": 1234,
    "EventSessionOffset": 5678,
    "EventModFrustrated": 0,
    "EventModDead": 1,
    "EventCumulativeLayoutShift": 0.125,
    "PageStart": "2026-06-01T20:07:11Z",
    "PageDuration": 60000,
    "PageUrl": "https://example.com/cart?a=1&b=2",
    "PageIp": "203.0.113.9",
    "PageLatLong": "33.7,-84.4",
    "PageUserAgent": "Mozilla/5.0",
    "PageDevice": "Desktop",
    "ReqStatus": 503,
    "AppName": "Shop",
    "user_plan_str": "paid",
    "evt_order.total_real": 4,
    "evt_ids_ints": [1, 2],
}
INDIVIDUAL: Json = {
    "IndvId": 6606828898126528473,
    "Created": "2018-01-04T20:07:11.191Z",
    "Uid": "1001",
    "DisplayName": "Daniel Falko",
    "Email": "daniel.falko@example.com",
    "NumSessions": 7,
    "NumPages": 70,
    "NumEvents": 700,
    "TotalSec": 7000,
    "ActiveSec": 700,
    "AvgSessionSec": 1000.5,
    "AvgSessionActiveSec": 100,
    "MaxSessionSec": 3000,
    "LastSessionNumPages": 3,
    "LastSessionNumEvents": 30,
    "LastSessionSec": 300,
    "LastSessionActiveSec": 30,
    "LastSessionStart": "2026-06-01T20:07:11.191Z",
    "LastPage": "https://example.com/",
    "LastIp": "203.0.113.9",
    "LastLatLong": "33.7,-84.4",
    "LastEventStart": "2026-06-01T20:07:12.5Z",
    "LastBrowser": "Chrome",
    "LastDevice": "Desktop",
    "LastPlatform": "Web",
    "LastOperatingSystem": "OS X",
    "user_plan_str": "paid",
}
