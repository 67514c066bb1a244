"""Meltano's rules of selection, as its environment and its catalog tell them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from tap_fullstory.catalog import discover
from tap_fullstory.errors import UsageError
from tap_fullstory.fields import Fate
from tap_fullstory.meltano import NO_MELTANO, MeltanoRules, meltano_rules
from tap_fullstory.selection import Selection, select
from tap_fullstory.settings import parse_config

NOW = datetime(2026, 6, 2, tzinfo=timezone.utc)
TEXT = {"type": ["null", "string"]}


def rules(*patterns: str, **more: Any) -> MeltanoRules:
    extras = {"SELECT": patterns, **more}
    return meltano_rules({f"MELTANO_EXTRACT__{k}": json.dumps(v) for k, v in extras.items()})


def selection(made: MeltanoRules, *, listed: tuple[str, ...] = (), **settings: Any) -> Selection:
    """Of events, from a catalog as Meltano edits it for `events.*`: all in it is selected."""
    config = parse_config({"api_key": "key", **settings}, NOW, {})
    (entry,) = (one for one in discover(config, made)["streams"] if one["stream"] == "events")
    entry = json.loads(json.dumps(entry))
    for name in listed:
        entry["schema"]["properties"][name] = TEXT
        entry["metadata"].append(
            {"breadcrumb": ["properties", name], "metadata": {"inclusion": "available"}}
        )
    for item in entry["metadata"]:
        item["metadata"]["selected"] = True
    (chosen,) = select({"streams": [entry]}, config, made)
    return chosen


def custom(chosen: Selection) -> set[str]:
    return {name for name in chosen.columns if name.startswith(("user_", "evt_", "page_"))}


def test_without_meltano_what_is_selected_is_a_column() -> None:
    assert meltano_rules({}) is NO_MELTANO
    assert custom(selection(NO_MELTANO, listed=("user_a_str",))) == {"user_a_str"}


@pytest.mark.parametrize("pattern", ["events.*", "*.*", "events", "*"])
def test_an_asterisk_makes_no_column_of_a_variable(pattern: str) -> None:
    chosen = selection(rules(pattern), listed=("user_a_str", "evt_b_str"))
    assert custom(chosen) == set()
    assert chosen.dropped == frozenset()
    assert "UserId" in chosen.columns
    assert chosen.keeps_overflow


@pytest.mark.parametrize(
    ("more", "listed", "columns"),
    [
        (["events.user_a_str"], ("user_a_str", "user_b_str"), {"user_a_str"}),
        (["events.user_a_str"], (), {"user_a_str"}),  # the newest bundle lacks it
        (["*.user_a_str", "users.user_b_str"], (), {"user_a_str"}),
        (["events.user_*"], ("user_a_str", "evt_b_str"), {"user_a_str"}),
        (["events.user_a"], (), set()),  # nobody knows its type
        (["events.user_a"], ("user_a",), {"user_a"}),
        (["events.evt_order.total_real"], (), {"evt_order.total_real"}),
        (["events.user_a_str", "!events.user_a_str"], ("user_a_str",), set()),
    ],
)
def test_a_variable_that_is_named_is_a_column(
    more: list[str], listed: tuple[str, ...], columns: set[str]
) -> None:
    assert custom(selection(rules("events.*", *more), listed=listed)) == columns


def test_a_type_of_the_project_is_a_choice_too() -> None:
    made = rules("events.*", SCHEMA={"events": {"user_a_int": TEXT}})
    assert selection(made, listed=("user_a_int",)).schema["properties"]["user_a_int"] == TEXT
    config = {"custom_columns": ["user_a_int"]}
    (kind, *_) = selection(made, listed=("user_a_int",), **config).columns["user_a_int"].names
    assert kind in ("integer", "null")


@pytest.mark.parametrize(
    ("extras", "excluded", "kept"),
    [
        (["!events.user_phone_*"], ["user_phone_str"], ["user_plan_str", "UserEmail"]),
        (["!events.UserEmail", "!users.UserId"], ["UserEmail"], ["UserId"]),
        (["!*.UserEmail", "!e*.User?d"], ["UserEmail", "UserId"], ["IndvId"]),
        (["!events.evt_order.total_real"], ["evt_order.total_real"], ["evt_order"]),
        ([r"!events.evt_order\.total_real"], ["evt_order.total_real"], ["evt_order"]),
        (["!events.CustomVars.user_plan_str"], ["user_plan_str"], ["user_x_str", "UserEmail"]),
        (["!events.CustomVars.user_*"], ["user_x", "user_plan_str"], ["evt_x", "UserEmail"]),
        ([r"!events.CustomVars.evt_order\.total_real"], ["evt_order.total_real"], ["user_x"]),
        (["!events.CustomVars"], ["CustomVars"], []),
        ({"events.UserEmail": {"selected": False}}, ["UserEmail"], ["UserId"]),
        ({"events": {"user_*": {"selected": "False"}}}, ["user_x"], ["UserId"]),
        (
            {"events.UserEmail.selected": "false", "events.selected": False},
            ["UserEmail"],
            ["UserId"],
        ),
        ({"events.EventStart.replication-method": "INCREMENTAL"}, [], ["EventStart"]),
    ],
)
def test_what_is_deselected_is_excluded_whether_it_is_listed_or_not(
    extras: Any, excluded: list[str], kept: list[str]
) -> None:
    made = rules("*.*", *extras) if isinstance(extras, list) else rules("*.*", METADATA=extras)
    chosen = selection(made)
    for name in excluded:
        assert chosen.rules.fate(name) is Fate.EXCLUDED
        assert name not in chosen.columns
    assert all(chosen.rules.fate(name) is Fate.KEPT for name in kept)
    assert chosen.keeps_overflow is ("CustomVars" not in excluded)


def test_a_key_that_is_deselected_is_written_as_ever() -> None:
    made = rules("*.*", "!events.EventDigest")
    assert selection(made, event_digest=True).schema["properties"]["EventDigest"]


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "extras",
    [
        *[{"SELECT": "x"}, {"SELECT": [1]}, {"METADATA": [1]}, {"SCHEMA": {"events": 1}}],
        {"METADATA": nested(600)},
    ],
)
def test_rules_that_cannot_be_read(extras: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="MELTANO_EXTRACT__"):
        rules("*.*", **extras)
