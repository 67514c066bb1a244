"""The setting batch_config: where the files of BATCH messages go, and in which form.

As the Meltano SDK has it (sdk.meltano.com/en/latest/batch.html, docs.meltano.com, "Arrow BATCH
Support"), restricted to what the tap writes: files in a folder.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tap_fullstory.json_files import MAX_LEVELS
from tap_fullstory.records.json_text import nesting_depth_exceeds
from tap_fullstory.setting_types import NotAllowed, SettingType, choice, int_range

DEFAULT_BATCH_SIZE = 10_000  # the SDK's, in singer_sdk/helpers/_batch.py
MAX_PREFIX = 100  # characters; file systems allow 255 for the whole name
_FILE_SCHEME = "file://"
_FORMATS = choice("jsonl", "parquet", "arrow")
# By format: the compressions, of which the first is the default. Parquet is compressed inside, and
# the SDK's name for a format that says no more is no compression at all.
_COMPRESSIONS = {
    "jsonl": choice("gzip", "none"),
    "parquet": choice("zstd", "gzip", "none"),
    "arrow": choice("none", "zstd", "lz4"),
}
_ALL_COMPRESSIONS = ("gzip", "zstd", "lz4", "none")
_PARTITIONS = choice("none", "day")
_MODULE_OF_COLUMNS = "pyarrow"
_DEFAULT_FOLDER = "singer-sdk"  # in the system's temp folder, as the SDK has it
_BATCH_SIZE = int_range(1, 1_000_000_000)
# What a URL can hold as it is. The SDK's targets make a URL of the path, and do not decode it.
_CHARACTERS = "ASCII letters, digits, and / . _ - ~"


@dataclass(frozen=True)
class BatchConfig:
    """Files of at most `batch_size` records in the folder `root`, an absolute path, whose names
    begin with `prefix`.

    `format` is jsonl, parquet or arrow. BATCH messages name the compression with
    `names_compression`. With `makes_root` the folder is the default one, which the tap makes. With
    `by_day` the files are in folders inside, one for each day.
    """

    root: str
    prefix: str = ""
    compression: str = "gzip"
    batch_size: int = DEFAULT_BATCH_SIZE
    format: str = "jsonl"
    names_compression: bool = True
    makes_root: bool = False
    by_day: bool = False

    @property
    def encoding(self) -> dict[str, str]:
        """The form of the files, as BATCH messages have it."""
        compression = {"compression": self.compression} if self.names_compression else {}
        return {"format": self.format, **compression}

    @property
    def has_columns(self) -> bool:
        """Whether the files have typed columns instead of lines."""
        return self.format != "jsonl"


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
    storage = _members(given.get("storage", {}), "storage", ("root", "prefix", "partition"))
    form = _parsed(_FORMATS, encoding.get("format"), "encoding.format")
    compressions = _COMPRESSIONS[form]
    first = compressions.schema["enum"][0]
    compression = _parsed(
        compressions, encoding.get("compression", first), f"encoding.compression of {form}"
    )
    if form != "jsonl":
        _require_pyarrow(form)
    by_day = _parsed(_PARTITIONS, storage.get("partition", "none"), "storage.partition") == "day"
    if by_day and "root" not in storage:
        raise NotAllowed("storage.partition needs storage.root: the files are there to stay")
    return BatchConfig(
        _root(storage["root"]) if "root" in storage else _default_root(),
        _prefix(storage.get("prefix", "")),
        compression,
        _parsed(_BATCH_SIZE, given.get("batch_size", DEFAULT_BATCH_SIZE), "batch_size"),
        form,
        names_compression=form == "jsonl" or "compression" in encoding,
        makes_root="root" not in storage,
        by_day=by_day,
    )


def _require_pyarrow(form: str) -> None:
    if find_spec(_MODULE_OF_COLUMNS) is None:
        raise NotAllowed(
            f"encoding.format {form} needs pyarrow, which is not installed. Install the tap with "
            "`pip install 'tap-fullstory[arrow]'`"
        )


def _default_root() -> str:
    return _root(str(Path(tempfile.gettempdir(), _DEFAULT_FOLDER)))


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
        raise NotAllowed("storage.root is not text")
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
    '"storage": {"root": "file:///var/spool/fullstory", "prefix": ""}, "batch_size": 50000}; '
    "storage may be left out, and format may be parquet or arrow",
    {
        "type": "object",
        "properties": {
            "encoding": {
                "type": "object",
                "properties": {
                    "format": {"type": "string", "enum": list(_FORMATS.schema["enum"])},
                    "compression": {"type": "string", "enum": list(_ALL_COMPRESSIONS)},
                },
            },
            "storage": {
                "type": "object",
                "properties": {
                    "root": {"type": "string"},
                    "prefix": {"type": "string"},
                    "partition": {"type": "string", "enum": list(_PARTITIONS.schema["enum"])},
                },
            },
            "batch_size": _BATCH_SIZE.schema,
        },
    },
)
