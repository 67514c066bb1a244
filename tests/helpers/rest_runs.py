"""Runs of the REST streams over the sandbox: what it has of each, and what tests ask of a run."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from running import Json, Run, discover

from tap_fullstory.sandbox import Fault, Sandbox
from tap_fullstory.streams import STREAMS, RestStream

REST = [stream.name for stream in STREAMS if isinstance(stream, RestStream)]
HISTORIES = [name for name in REST if name.endswith("_history")]
ARCHITECT_ONLY = {
    "users",
    "sessions",
    "privacy_settings",
    "privacy_settings_history",
    "webhook_endpoints",
    "webhook_event_types",
    "webhook_event_subcategories",
    "privacy_elements",
}
# How many records the sandbox has of each.
COUNTS = {
    "users": 57,
    "segments": 25,
    "block_rules": 1,
    "block_rules_history": 3,
    "domain_settings": 2,
    "domain_settings_history": 5,
    "geo_settings": 1,
    "geo_settings_history": 2,
    "privacy_settings": 1,
    "privacy_settings_history": 3,
    "recording_features": 2,
    "recording_features_history": 122,
    "target_rule": 1,
    "target_rule_history": 2,
    "webhook_endpoints": 3,
    "webhook_event_types": 5,
    "webhook_event_subcategories": 4,
    "organization_quotas": 1,
    "extraction_rules": 5,
    "privacy_elements": 12,
    "operations": 5,
    "sessions": 11,
}


@pytest.fixture(scope="module")
def offered() -> Json:
    return discover()


def selecting(catalog: Json, *names: str, **properties: dict[str, bool]) -> Json:
    """The catalog with these streams selected and no others, and in them properties by stream."""
    chosen = json.loads(json.dumps(catalog))
    for entry in chosen["streams"]:
        name = entry["tap_stream_id"]
        for item in entry["metadata"]:
            if not item["breadcrumb"]:
                item["metadata"]["selected"] = name in names
            elif item["breadcrumb"][1] in properties.get(name, {}):
                item["metadata"]["selected"] = properties[name][item["breadcrumb"][1]]
    return chosen


def records(run: Run, stream: str) -> list[Json]:
    return [
        message["record"]
        for message in run.messages
        if message["type"] == "RECORD" and message["stream"] == stream
    ]


def counts(run: Run) -> dict[str, int]:
    return dict(Counter(m["stream"] for m in run.messages if m["type"] == "RECORD"))


def asked(sandbox: Sandbox, path: str) -> list[dict[str, str]]:
    return [dict(request.query) for request in sandbox.requests if request.path == path]


def answering(endpoint: str, *bodies: Any) -> list[Fault]:
    """Faults that answer the first requests with these, and all further ones with the last."""
    texts = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    return [
        Fault("status", endpoint, status=200, body=text, times=None if last else 1)
        for text, last in zip(texts, [False] * (len(texts) - 1) + [True], strict=True)
    ]
