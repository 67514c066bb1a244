"""Values from outside: whatever an event has is in its record, or where docs/columns.md says.

column_values.py has more of each kind, for both encoders.

The events come in two bundles, the same ones in each: in the second one their keys are known to the
tap already, which must make no difference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import oracle
import pytest
from running import Run, discover, run_tap, selecting

from tap_fullstory.sandbox import Bundle, Sandbox

DAY = 24 * 60 * 60
START = 1_600_041_600  # 2020-09-14T00:00:00Z


@dataclass(frozen=True)
class Case:
    """An event as it is in the bundle, and the record that it becomes."""

    name: str
    event: str
    record: dict[str, Any]
    mismatches: tuple[str, ...] = ()
    repaired: int = 0


def custom(**members: Any) -> dict[str, Any]:
    return {"CustomVars": members}


def mismatch(column: str, sent: str) -> Case:
    value = json.loads(sent)
    return Case(
        f"{sent} in {column}",
        f'{{"{column}": {sent}, "EventType": "click"}}',
        {column: None, "EventType": "click", "CustomVars": {column: value}},
        mismatches=(column,),
    )


def fits(column: str, sent: str, value: Any) -> Case:
    return Case(f"{sent} in {column}", f'{{"{column}": {sent}}}', {column: value})


LONE_HIGH, LONE_LOW = "\\ud83d", "\\ude00"
CASES = [
    Case("nothing", "{}", {}),
    Case("whitespace and line breaks", ' {\n "PageId"\r\n:\t7 \n}', {"PageId": 7}),
    # Integers
    fits("PageId", "-0", 0),
    fits("PageId", "9007199254740993", 2**53 + 1),
    fits("PageId", "18446744073709551616", 2**64),
    fits("PageId", "1.0", 1),
    fits("PageId", "1e3", 1000),
    fits("PageId", "null", None),
    mismatch("PageId", "1.5"),
    mismatch("PageId", '"7"'),
    mismatch("PageId", "true"),
    # Numbers
    fits("EventCumulativeLayoutShift", "0.1", 0.1),
    fits("EventCumulativeLayoutShift", "1E-7", 1e-7),
    mismatch("EventCumulativeLayoutShift", '"0.1"'),
    # Texts
    fits("EventTargetText", '""', ""),
    fits("EventTargetText", '"Grüße, 東京 \U0001f600"', "Grüße, 東京 \U0001f600"),
    fits("EventTargetText", '"\\ud83d\\ude00 \\u00e9\\/\\"\\\\"', '\U0001f600 é/"\\'),
    fits("EventTargetText", '"a\\u0000b\\n\\r\\t\\u007f"', "a\0b\n\r\t\x7f"),
    fits("EventTargetText", '"\u2028\u2029\u0085\ufeff"', "\u2028\u2029\x85\ufeff"),
    fits("EventTargetText", '"}, {\\"PageId\\": 1}]"', '}, {"PageId": 1}]'),
    fits("EventTargetText", '"\\\\ud83d"', "\\ud83d"),
    mismatch("EventTargetText", "7"),
    # Date-times
    fits("EventStart", '"2018-01-04T20:07:11.191Z"', "2018-01-04T20:07:11.191Z"),
    fits("EventStart", '"2020-09-22T10:00:00.123456789+05:30"',
         "2020-09-22T10:00:00.123456789+05:30"),
    fits("EventStart", '"2024-02-29t23:59:59z"', "2024-02-29T23:59:59Z"),
    # RFC 3339 has it; no target stores it.
    mismatch("EventStart", '"2016-12-31T23:59:60Z"'),
    fits("EventStart", '""', None),
    fits("PageStart", '""', None),
    mismatch("EventStart", '"2018-01-04 20:07:11Z"'),
    mismatch("EventStart", "1515096431191"),
    mismatch("SessionStart", '"soon"'),
    # Keys of all kinds
    Case("custom variables",
         '{"user_plan_str": "gold", "evt_order.total_real": 4, "page_tags_strs": ["a", null],'
         ' "evt_order_total_real": 4.5, "user_vip_bool": true}',
         {"CustomVars": {"user_plan_str": "gold", "evt_order.total_real": 4,
                         "page_tags_strs": ["a", None], "evt_order_total_real": 4.5,
                         "user_vip_bool": True}}),
    Case("a custom variable over several lines", '{"evt_a_strs": [\n"a",\r\n{"b":\n1}]}',
         custom(evt_a_strs=["a", {"b": 1}])),
    Case("a custom variable beside columns", '{"PageId": 1, "evt_a_int": 2, "PageIp": "192.0.2.1"}',
         {"PageId": 1, "PageIp": "192.0.2.1", **custom(evt_a_int=2)}),
    Case("fields of tomorrow", '{"EventColour": {"r": [1, {"g": null}]}, "": 0, "\\u00e9\\n": ""}',
         {"CustomVars": {"EventColour": {"r": [1, {"g": None}]}, "": 0, "é\n": ""}}),
    Case("an integer beyond 2^64 in a variable", '{"evt_id_int": 36893488147419103233}',
         custom(evt_id_int=2**65 + 1)),
    Case("the names of columns in another case", '{"pageid": 1, "EVENTTYPE": "a"}',
         custom(pageid=1, EVENTTYPE="a")),
    Case("a key that is called CustomVars", '{"CustomVars": {"a": 1}}',
         custom(CustomVars={"a": 1})),
    Case("a null that is called CustomVars", '{"CustomVars": null, "evt_a_int": 1}',
         custom(CustomVars=None, evt_a_int=1)),
    Case("a key that is called EventDigest", '{"EventDigest": "mine"}',
         custom(EventDigest="mine")),
    Case("keys twice", '{"PageId": 1, "evt_a_int": 1, "PageId": 2, "evt_a_int": 2}',
         {"PageId": 2, **custom(evt_a_int=2)}),
    Case("a type mismatch first, then a fit", '{"PageId": "x", "PageId": 2}', {"PageId": 2}),
    Case("a fit first, then a type mismatch", '{"PageId": 2, "PageId": "x"}',
         {"PageId": None, **custom(PageId="x")}, mismatches=("PageId",)),
    Case("an escaped name of a column", '{"Page\\u0049d": 7}', {"PageId": 7}),
    Case("type mismatches and variables together",
         '{"PageId": "x", "evt_a_int": 1, "EventStart": "soon"}',
         {"PageId": None, "EventStart": None, **custom(PageId="x", evt_a_int=1, EventStart="soon")},
         mismatches=("PageId", "EventStart")),
    # Lone surrogates
    Case("a text cut within a pair", f'{{"EventTargetText": "cut {LONE_HIGH}"}}',
         {"EventTargetText": "cut \ufffd"}, repaired=1),
    Case("surrogates in the wrong order", f'{{"EventTargetText": "{LONE_LOW}{LONE_HIGH}"}}',
         {"EventTargetText": "\ufffd\ufffd"}, repaired=2),
    Case("a lone surrogate and a pair",
         f'{{"EventTargetText": "{LONE_HIGH}{LONE_HIGH}{LONE_LOW}"}}',
         {"EventTargetText": "\ufffd\U0001f600"}, repaired=1),
    Case("a lone surrogate in a variable, deep", f'{{"evt_a_strs": [["{LONE_HIGH}"]]}}',
         custom(evt_a_strs=[["\ufffd"]]), repaired=1),
    Case("a lone surrogate in a key", f'{{"evt_{LONE_LOW}_str": 1}}',
         {"CustomVars": {"evt_\ufffd_str": 1}}, repaired=1),
]  # fmt: skip
TWICE = [*CASES, *CASES]


@pytest.fixture(scope="module")
def sandbox():
    body = ("[" + ",\n".join(case.event for case in CASES) + "]").encode()
    starts = [START, START + DAY]
    with Sandbox([Bundle(str(start), start, start + DAY, body) for start in starts]) as sandbox:
        yield sandbox


def synced(sandbox: Sandbox, catalog: Any = None, **settings: Any) -> Run:
    run = run_tap(sandbox.config(**settings), catalog=catalog)
    assert run.code == 0, run.log
    assert len(run.records) == len(TWICE)
    return run


def as_json(value: Any) -> str:
    """For comparing: 1, 1.0 and true are equal to Python."""
    return json.dumps(value, sort_keys=True)


def numbered() -> list[Any]:
    return [
        pytest.param(number, id=f"{case.name}{' again' if number >= len(CASES) else ''}")
        for number, case in enumerate(TWICE)
    ]


@pytest.fixture(scope="module")
def default_run(sandbox):
    return synced(sandbox)


@pytest.mark.parametrize("number", numbered())
def test_by_default(default_run, number):
    assert as_json(default_run.records[number]) == as_json(TWICE[number].record)


def test_changed_values_are_counted_in_each_bundle_and_not_quoted(default_run):
    mismatches = [column for case in CASES for column in case.mismatches]
    repaired = sum(case.repaired for case in CASES)
    about_mismatches, about_surrogates = (
        [line for line in default_run.logged("WARNING") if words in line]
        for words in (f": {len(mismatches)} values do not fit", f": {repaired} lone surrogate")
    )
    assert len(about_mismatches) == len(about_surrogates) == 2
    about_bundles = [line for line in default_run.logged("WARNING") if line.startswith("Bundle")]
    assert len(about_bundles) == 4
    for column in mismatches:
        assert f"{column} ({mismatches.count(column)})" in about_mismatches[0]
    assert about_mismatches[0].split(": ")[1:] == about_mismatches[1].split(": ")[1:]
    assert "soon" not in default_run.log


def test_decimals_keep_their_digits():
    event = b'[{"EventCumulativeLayoutShift": 0.10000000000000000555, "evt_a_real": 1.50}]'
    with Sandbox([Bundle("1", START, START + DAY, event)]) as sandbox:
        run = run_tap(sandbox.config())
    assert b"0.10000000000000000555" in run.stdout
    assert b"1.50" in run.stdout


def test_custom_vars_as_one_json_text(sandbox, default_run):
    run = synced(sandbox, custom_vars_format="string")
    assert run.schema["CustomVars"]["type"] == ["null", "string"]
    for record, default in zip(run.records, default_run.records, strict=True):
        if "CustomVars" in record:
            assert isinstance(record["CustomVars"], str)
            assert "\n" not in record["CustomVars"]
            record["CustomVars"] = json.loads(record["CustomVars"])
        assert as_json(record) == as_json(default)


def test_event_digests(sandbox, default_run):
    run = synced(sandbox, event_digest=True)
    assert run.schema["EventDigest"]["type"] == ["string"]
    assert run.schemas[0]["key_properties"] == ["EventDigest"]
    digests = [record.pop("EventDigest") for record in run.records]
    assert digests == [oracle.digest(case.event.encode()) for case in TWICE]
    for record, default in zip(run.records, default_run.records, strict=True):
        assert as_json(record) == as_json(default)


@pytest.mark.parametrize("with_custom_vars", [True, False])
def test_few_columns(sandbox, default_run, with_custom_vars):
    """A deselected column is gone, type mismatches of it too; the rest is as it was."""
    unwanted = ["EventStart", "EventType", "EventTargetText"]
    catalog = selecting(discover(), CustomVars=with_custom_vars, **dict.fromkeys(unwanted, False))
    run = synced(sandbox, catalog)
    for record, default in zip(run.records, default_run.records, strict=True):
        kept = {name: value for name, value in default.items() if name not in unwanted}
        custom_vars = kept.pop("CustomVars", {})
        custom_vars = {name: v for name, v in custom_vars.items() if name not in unwanted}
        if custom_vars and with_custom_vars:
            kept["CustomVars"] = custom_vars
        assert as_json(record) == as_json(kept)
