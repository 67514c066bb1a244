"""The setting batch_config: where the files of BATCH messages go, and in which form.

As the Meltano SDK has it (sdk.meltano.com/en/latest/batch.html), restricted to what the tap writes:
lines of JSON, in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tap_fullstory.json_files import MAX_LEVELS
from tap_fullstory.records.json_text import nesting_depth_exceeds
from tap_fullstory.setting_types import NotAllowed, SettingType, choice, int_range

DEFAULT_BATCH_SIZE = 10_000  # the SDK's, in singer_sdk/helpers/_batch.py
MAX_PREFIX = 100  # characters; file systems allow 255 for the whole name
_FILE_SCHEME = "file://"
_FORMAT = "jsonl"
_COMPRESSION = choice("gzip", "none")
_BATCH_SIZE = int_range(1, 1_000_000_000)
# What a URL can hold as it is. The SDK's targets make a URL of the path, and do not decode it.
_CHARACTERS = "ASCII letters, digits, and / . _ - ~"


@dataclass(frozen=True)
class BatchConfig:
    """Files of at most `batch_size` records in the folder `root`, an absolute path. Their names
    begin with `prefix`; `compression` is gzip or none.
    """

    root: str
    prefix: str
    compression: str
    batch_size: int

    @property
    def encoding(self) -> dict[str, str]:
        """The form of the files, as BATCH messages have it."""
        return {"format": _FORMAT, "compression": self.compression}


def _parse(value: Any) -> BatchConfig:
    if isinstance(value, str):
        if nesting_depth_exceeds(value.encode(errors="replace"), MAX_LEVELS):
            raise NotAllowed(f"is nested deeper than {MAX_LEVELS} levels")
        try:
            value = json.loads(value)
        except ValueError:
            raise NotAllowed("is text that is not valid JSON") from None
    given = _members(value, "", ("encoding", "storage", "batch_size"))
    encoding = _members(given.get("encoding"), "encoding", ("format", "compression"))
    storage = _members(given.get("storage"), "storage", ("root", "prefix"))
    if encoding.get("format") != _FORMAT:
        raise NotAllowed(f"encoding.format has to be {_FORMAT}: the tap writes no other")
    return BatchConfig(
        _root(storage.get("root")),
        _prefix(storage.get("prefix", "")),
        _parsed(_COMPRESSION, encoding.get("compression", "gzip"), "encoding.compression"),
        _parsed(_BATCH_SIZE, given.get("batch_size", DEFAULT_BATCH_SIZE), "batch_size"),
    )


def _members(value: Any, where: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        found = "is missing" if value is None else "is not an object"
        raise NotAllowed(f"{where} {found}".strip())
    unknown = sorted(set(value) - set(names))
    if unknown:
        at = f"{where}." if where else ""
        raise NotAllowed(f"{at}{unknown[0][:100]} is an unknown key; known: {', '.join(names)}")
    return {name: member for name, member in value.items() if member is not None and member != ""}


def _root(value: Any) -> str:
    if not isinstance(value, str):
        raise NotAllowed("storage.root is missing, or not text")
    path = value.removeprefix(_FILE_SCHEME)
    if not path.startswith("/"):
        # Not quoted: the address of another storage may hold its password.
        raise NotAllowed(
            "storage.root has to be the absolute path of a folder, or its file:// address; the tap "
            "writes to no other storage"
        )
    if quote(path) != path:
        raise NotAllowed(f"storage.root may hold only {_CHARACTERS}: targets do not decode others")
    return path.rstrip("/") or "/"


def _prefix(value: Any) -> str:
    if not isinstance(value, str) or "/" in value or quote(value) != value:
        raise NotAllowed(f"storage.prefix may hold only {_CHARACTERS.replace('/ ', '')}")
    if len(value) > MAX_PREFIX:
        raise NotAllowed(f"storage.prefix may have at most {MAX_PREFIX} characters")
    return value


def _parsed(type_: SettingType, value: Any, where: str) -> Any:
    try:
        return type_.parse(value)
    except ValueError:
        raise NotAllowed(f"{where} has to be {type_.allowed}") from None


BATCH_CONFIG = SettingType(
    _parse,
    'an object, or its JSON text, such as {"encoding": {"format": "jsonl", "compression": "gzip"}, '
    '"storage": {"root": "file:///var/spool/fullstory", "prefix": ""}, "batch_size": 50000}',
    {
        "type": "object",
        "properties": {
            "encoding": {
                "type": "object",
                "properties": {
                    "format": {"type": "string", "enum": [_FORMAT]},
                    "compression": _COMPRESSION.schema,
                },
            },
            "storage": {
                "type": "object",
                "properties": {"root": {"type": "string"}, "prefix": {"type": "string"}},
            },
            "batch_size": _BATCH_SIZE.schema,
        },
    },
)
