"""The sandbox's quotas and rules: for extraction, and for privacy by element.

Their shapes are those of developer.fullstory.com, "Get Quota", "List Extraction Rules" and "List
Element Block Rules".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .steps import Fields

_CYCLE = {"period_start": "2026-05-01T00:00:00Z", "period_end": "2026-06-01T00:00:00Z"}
QUOTAS: Fields = {
    "session_quota": {"usage": "15234", "limit": "100000", **_CYCLE},
    # The most that a uint64 is: no float, and no bigint of a database, holds it.
    "server_event_quota": {"usage": "18446744073709551615", "limit": "0", **_CYCLE},
}

SCOPES = ("PAGE", "USER", "ELEMENT", "REQUEST", "EVENT")


def _target(name: str, data_type: str) -> Fields:
    return {"property": {"name": name, "data_type": data_type}}


def _rule(number: int, scope: str, source: Fields, *mappings: Fields, **more: Any) -> Fields:
    return {
        "id": f"rule_{number:06d}",
        "name": f"Rule {number} ☕",
        "description": "",
        "scope": scope,
        "source": source,
        "mappings": list(mappings),
        "created_at": f"2026-01-{number:02d}T09:30:00.123456Z",
        "updated_at": f"2026-02-{number:02d}T09:30:00Z",
        "archived": False,
        **more,
    }


_PRICE = {"platform": ["WEB"], "selector": "#cart-summary .price"}
_ORDERS = {"request_url": {"regex": {"expression": "/api/orders$"}}}
EXTRACTION_RULES: tuple[Fields, ...] = (
    _rule(
        1,
        "PAGE",
        {"element": {"selectors": {"selectors": [_PRICE]}}},
        {
            "element_value": {"attribute": {"attribute": "data-price"}},
            "target": _target("product_price", "FLOAT"),
            "operation": {"regex": {"expression": r"^(\d+\.\d{2})"}},
        },
    ),
    _rule(
        2,
        "PAGE",
        {"url": {"any": True}},
        {"url_value": {"path": True}, "target": {"api_name": True}},
        archived=True,
    ),
    _rule(
        3,
        "USER",
        {"url": {"any": True}},
        {"url_value": {"query": "plan"}, "target": _target("plan", "STRING")},
    ),
    _rule(
        4,
        "ELEMENT",
        {"element": {"match_any_selector": {}}},
        {"element_value": {"inner_text": True}, "target": _target("label", "STRING")},
    ),
    _rule(
        5,
        "EVENT",
        {"network": {"filters": [_ORDERS, {"status": {"range": {"min": 200, "max": 299}}}]}},
        {"static_value": {"value": "Order placed"}, "target": {"api_name": True}},
        {
            "network_value": {"response_body": {"path": ["order", "total"]}},
            "target": _target("order_total", "FLOAT"),
        },
    ),
)


def extraction_rules(given: Mapping[str, str]) -> Fields:
    """What a call answers. A list of none is left out, as FullStory's encoder does.

    Raises ValueError if the call names no scope.
    """
    scope = given.get("scope")
    if scope not in SCOPES:
        raise ValueError("scope is required")
    of_scope = [rule for rule in EXTRACTION_RULES if rule["scope"] == scope]
    active = [rule for rule in of_scope if not rule["archived"]]
    found = of_scope if given.get("include_archived") == "true" else active
    wanted = given.get("property_name")
    if wanted is not None:
        found = [rule for rule in found if wanted in _properties(rule)]
    usage = {"scope": scope, "active_limit": 100, "active_count": len(active)}
    return {
        **({"rules": found} if found else {}),
        "total_records": len(found),
        "usage_by_scope": [{**usage, "unrepresented_count": 0}],
    }


def _properties(rule: Fields) -> Iterable[str]:
    return (mapping["target"].get("property", {}).get("name") for mapping in rule["mappings"])


def _element(number: int, action: str = "MASK", **more: Any) -> Fields:
    return {
        "id": f"a1b2c3d4-e5f6-7890-abcd-{number:012d}",
        "name": f"Mask field {number}",
        "description": "",
        "source": {"selector": f".field-{number}", "exception_selectors": [".public ✓"]},
        "operation": {"action": action, "consent": False, "scope": "ALL_SESSIONS"},
        "platforms": ["WEB"],
        "editable": "EDITABLE_ANY",
        "group_id": 0,
        "created_at": f"2025-11-{number + 1:02d}T08:00:00Z",
        "last_updated": f"2026-03-{number + 1:02d}T08:00:00.5Z",
        "last_updated_by": "bob@example.com",
        **more,
    }


# The built-in ones, which nobody has made, say less.
PRIVACY_ELEMENTS: tuple[Fields, ...] = (
    {
        "id": "00000000-0000-0000-0000-000000000001",
        "name": "Passwords",
        "source": {"selector": "input[type=password]"},
        "operation": {"action": "EXCLUDE", "scope": "ALL_SESSIONS"},
        "platforms": ["WEB", "ANDROID", "IOS"],
        "editable": "EDITABLE_DESCRIPTION_ONLY",
        "group_id": 9007199254740993,
    },
    *(_element(number) for number in range(10)),
    _element(10, "UNMASK", platforms=["IOS"]),
)
