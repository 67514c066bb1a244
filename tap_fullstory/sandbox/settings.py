"""The sandbox's recording settings: as they are, and every version that there has been.

Their shapes are those of developer.fullstory.com, "Settings": one object a kind, and for domains
and features one a platform; histories newest first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from .steps import Fields

PLATFORMS = ("web", "mobile")
KINDS = ("blocking", "domain", "features", "geo", "privacy", "targeting")
WITH_PLATFORM = ("domain", "features")

_FIRST = datetime(2020, 9, 8, 15, 57, 20, 830_000, timezone.utc)
_GAP = timedelta(days=12, hours=5, milliseconds=123, microseconds=7)  # no two in one millisecond
_MANY = 120  # more versions than one page holds
_NEVER = "0001-01-01T00:00:00Z"  # how FullStory writes a date that it does not have


def _block(selector: str, kind: str = "BLOCK_EXCLUDE", **more: Any) -> Fields:
    return {
        "selector": selector,
        "consent": False,
        "notes": "",
        "type": kind,
        "scope": "ALL_SESSIONS",
        "lastUpdated": _NEVER,
        "label": "",
        "targetingConditions": None,
        "editable": "EDITABLE_DESCRIPTION_ONLY",
        "exceptionSelectors": [],
        "groupId": 0,
        **more,
    }


def _condition(attr: str, op: str, *values: Fields) -> Fields:
    return {"attr": attr, "op": op, "values": list(values), "joinPrevious": "AND"}


_BUILD = {"major": "4", "minor": "12", "build": "0", "revision": "18446744073709551615"}
_NAME = _block(
    ".account .name",
    "BLOCK_MASK",
    lastUpdated="2021-06-03T14:57:32.623593Z",
    notes="names of customers ✓",
    editable="EDITABLE_ANY",
    exceptionSelectors=[".account .name--public"],
    groupId=7,
    targetingConditions={
        "privacyTargetingConditions": [
            _condition("UID", "GT", {"intVal": "9007199254740993"}),
            _condition("APP_VERSION", "LT", {"versionVal": _BUILD}),
        ]
    },
)
_CARD = {
    "urlRegex": "/api/orders.*",
    "recordReq": "ELIDE",
    "recordRsp": "WHITELIST",
    "whitelistReq": "",
    "whitelistRsp": "id,total",
}
_RULE = {
    "id": "old-apps",
    "notes": "not worth recording",
    "scope": "NO_SESSIONS",
    "conditions": [_condition("APP_VERSION", "LT", {"versionVal": _BUILD})],
    "children": [{"id": "beta", "joinPrevious": "OR"}],
}
_FEATURES = {
    "enabled": True,
    "consoleWatcher": True,
    "ajaxWatcher": False,
    "resourceUploading": False,
    "recordingShutoff": False,
}

# What each version changes of the one before it, by kind and platform, oldest first.
_CHANGES: Mapping[tuple[str, str], tuple[Fields, ...]] = {
    ("blocking", "web"): (
        {"blockedIps": [], "blockedUas": [], "blockedAppIds": []},
        {"blockedIps": ["203.0.113.9"]},
        {"blockedUas": ["ExampleBot"], "blockedIps": ["203.0.113.9", "198.51.100.*"]},
    ),
    ("domain", "web"): (
        {"onlyRecordKnownDomains": False, "domains": []},
        {"domains": [{"domain": "example.com", "disabled": False}]},
        {"onlyRecordKnownDomains": True},
    ),
    ("domain", "mobile"): (
        {"onlyRecordKnownDomains": False, "domains": []},
        {"domains": [{"domain": "app.example.com", "disabled": True}]},
    ),
    ("features", "web"): (
        _FEATURES,
        *({"clientSideRageClick": number % 2 == 0} for number in range(_MANY - 1)),
    ),
    ("features", "mobile"): ({**_FEATURES, "enabled": False}, {"enabled": True}),
    ("geo", "web"): (
        {"recordGeoMode": "GEO_ALL", "recordGeoZones": []},
        {"recordGeoMode": "GEO_BLOCK_LIST", "recordGeoZones": ["CA", "US"]},
    ),
    ("privacy", "web"): (
        {
            "elementBlocks": [_block("input[type=password]")],
            "ajaxWatches": [],
            "discardIpAddresses": False,
            "defaultPrivacyMode": "PRIVACY_MODE_OFF",
            "elementRuleGroups": {},
        },
        {"ajaxWatches": [_CARD]},
        {
            "elementBlocks": [_block("input[type=password]"), _NAME],
            "elementRuleGroups": {
                "7": {
                    "groupId": 7,
                    "templateId": "FORM_PRIVACY",
                    "note": "",
                    "overrides": {"scope": "ALL_SESSIONS", "editable": "EDITABLE_ANY"},
                }
            },
        },
    ),
    ("targeting", "web"): ({"sessionTargetingRules": []}, {"sessionTargetingRules": [_RULE]}),
}


class Settings:
    """All kinds of settings with their versions. Thread-safe."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, str], list[Fields]] = {key: [] for key in _CHANGES}
        for (kind, platform), changes in _CHANGES.items():
            for number, change in enumerate(changes):
                self.change(kind, platform, change, _FIRST + number * _GAP)

    def versions(self, kind: str, platform: str) -> list[Fields]:
        """Newest first; the first is what holds now."""
        with self._lock:
            return self._versions[kind, platform][::-1]

    def change(
        self, kind: str, platform: str, changes: Mapping[str, Any], at: datetime | None = None
    ) -> Fields:
        """Make another version, dated `at` (None: now), and return it.

        Never in the same millisecond as the one before it, since page tokens tell them apart by it.
        Raises ValueError if there are no such settings.
        """
        if (kind, platform) not in _CHANGES:
            raise ValueError(f"there are no settings {kind} for {platform}")
        when = (at or self._clock()).astimezone(timezone.utc)
        with self._lock:
            versions = self._versions[kind, platform]
            before = versions[-1] if versions else {}
            if before:
                when = max(when, moment(before) + timedelta(milliseconds=1))
            stamp = when.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
            old = before.get("metadata", {})
            metadata = {
                "lastUpdated": stamp,
                "lastUpdatedBy": "Bob (bob@example.com)",
                "created": old.get("created", stamp),
                "createdBy": "alice@example.com",
            }
            versions.append({**before, **changes, "metadata": metadata})
            return versions[-1]


def moment(version: Fields) -> datetime:
    stamp = str(version["metadata"]["lastUpdated"])
    return datetime.fromisoformat(stamp.replace("Z", "+00:00"))
