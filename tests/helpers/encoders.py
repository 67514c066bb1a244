"""Chunks of events through a RecordEncoder, native or reference, and their lines read back."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from unittest import mock

import oracle
from strategies import COLUMNS, UNKNOWN, as_json

from tap_fullstory.columns import ValueType
from tap_fullstory.fields import NO_RULES, FieldRules, field_patterns
from tap_fullstory.output.messages import record_envelope
from tap_fullstory.records.encoder import Batch, EncodingStats, RecordEncoder
from tap_fullstory.selection import Selection
from tap_fullstory.setting_types import parse_event_types

FETCHED_AT = datetime(2026, 6, 2, 12, 0, 0, 7, tzinfo=timezone.utc)
ENVELOPE = record_envelope("events", FETCHED_AT)
EXCLUDED = ("evt_new_*", "events.Ratio", "deep", "Nested.a", "")
HASHED = ("EventTargetText", "PageId", "evt_n_ints", "page_x_real", "Tomorrow", "user_*", "*.b")
RULES = FieldRules(("events",), field_patterns(EXCLUDED, HASHED), oracle.HASH_KEY)
TEXT = ValueType(frozenset({"null", "string"}))
PROMOTED = [name for name in COLUMNS if name.startswith(("user_", "evt_"))]


def selection(
    columns: dict[str, ValueType] | None = None,
    dropped: frozenset[str] = frozenset(),
    custom_vars: bool = True,
    rules: FieldRules = NO_RULES,
    event_types: str = "",
) -> Selection:
    return Selection(
        name="events",
        columns=COLUMNS if columns is None else columns,
        dropped=dropped,
        keeps_overflow=custom_vars,
        schema={},
        key_properties=[],
        rules=rules,
        event_filter=parse_event_types(tuple(event_types.split())),
    )


def without(*names: str) -> dict[str, ValueType]:
    return {name: column for name, column in COLUMNS.items() if name not in names}


SELECTIONS = {
    "all columns": selection(),
    "no custom variable promoted": selection(without(*PROMOTED)),
    "CustomVars deselected": selection(custom_vars=False),
    "few columns": selection(
        {name: COLUMNS[name] for name in ("EventStart", "PageId", "evt_items_int")},
        frozenset(COLUMNS) - {"EventStart", "PageId", "evt_items_int"},
    ),
    "few columns, the rest not listed": selection(
        {name: COLUMNS[name] for name in ("EventTargetText", "PageStart")}
    ),
    "few columns, and no CustomVars": selection(
        {name: COLUMNS[name] for name in ("Always", "Nested")},
        frozenset({"PageId", "evt_new_str"}),
        custom_vars=False,
    ),
    "custom variables dropped": selection(
        without("user_plan_str"), frozenset({"user_plan_str", "page_x_real", "evt_new_str"})
    ),
    "some excluded, some hashed": selection(
        {
            **without("Ratio", "Flag"),
            **{n: TEXT for n in HASHED if n in COLUMNS},
            "user_plan_str": TEXT,
        },
        frozenset({"Ratio", "Flag"}),
        rules=RULES,
    ),
    "no columns, some excluded, some hashed": selection({}, rules=RULES),
    "no columns": selection({}),
    "nothing": selection({}, frozenset(COLUMNS), custom_vars=False),
}
FILTERING = {
    "some types of events": selection(
        {**COLUMNS, "EventType": ValueType(frozenset({"null", "string"}))}, event_types="a b"
    ),
    "some types of events left out": selection({}, rules=RULES, event_types="!a !b !5"),
}
ALL_COLUMNS = SELECTIONS["all columns"]
# An encoder that has read this has registered every key that strategies.py has.
EVERY_KEY = (
    ",".join(f"{as_json(name, 0)}:null" for name in [*COLUMNS, *UNKNOWN]).join("{}").encode()
)


def encoder(
    chosen: Selection = ALL_COLUMNS, *, text_custom_vars: bool = False, digest: bool = False
) -> RecordEncoder:
    return RecordEncoder(chosen, text_custom_vars=text_custom_vars, digest=digest)


def encoded(encode: RecordEncoder, chunk: bytes, since: datetime | None = None) -> Batch | None:
    """What `encode` makes of a chunk, all at once; None if it is not valid JSON."""
    batches = list(encode.encode(chunk, ENVELOPE, since))
    assert len(batches) < 2
    return batches[0] if batches else None


def encoded_by_reference(
    encode: RecordEncoder, chunk: bytes, since: datetime | None = None
) -> Batch | None:
    """What `encode` makes of a chunk where nothing was compiled."""
    with mock.patch.object(encode, "_native", None):
        return encoded(encode, chunk, since)


def records_of(batch: Batch | None) -> list[dict[str, Any]]:
    """The records of a batch's lines, each line looked at: one line, UTF-8, framed right."""
    assert batch is not None
    lines = batch.lines.split(b"\n")
    assert lines.pop() == b""
    assert b"\r" not in batch.lines
    messages = [oracle.load(line) for line in lines]
    for message in messages:
        assert list(message) == ["type", "stream", "record", "time_extracted"]
        assert message["type"] == "RECORD"
        assert message["stream"] == "events"
        assert message["time_extracted"] == "2026-06-02T12:00:00.000007Z"
    return [message["record"] for message in messages]


def record_of(event: str, encode: RecordEncoder | None = None) -> dict[str, Any]:
    """The record of one event, the same by both encoders."""
    encode = encode or encoder()
    (record,) = records_of(encoded(encode, event.encode()))
    assert [record] == records_of(encoded_by_reference(encode, event.encode()))
    return record


def stats_of(chunk: str, chosen: Selection = ALL_COLUMNS) -> EncodingStats:
    """What is counted over a chunk, the same the second time, when its keys are registered."""
    encode = encoder(chosen)
    batches = [encoded(encode, chunk.encode()) for _ in range(2)]
    assert counted(batches[0]) == counted(batches[1])
    return counted(batches[0])


def counted(batch: Batch | None) -> EncodingStats:
    assert batch is not None
    return batch.stats
