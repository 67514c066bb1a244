"""Selection from outside: what a user's copy of the catalog makes of records."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from running import Run, columns, discover, run_tap, selecting

from tap_fullstory.sandbox import Bundle, Sandbox

EVENT = {
    "EventStart": "2020-09-14T00:00:01.000Z",
    "EventType": "click",
    "PageIp": "192.0.2.1",
    "PageId": 4503599627370497,
    "user_plan_str": "gold",
    "evt_order.total_real": 12,
    "page_section_str": "shop",
    "Tomorrow": [1, {"a": "b"}],
}
CUSTOM = ("user_plan_str", "evt_order.total_real", "page_section_str", "Tomorrow")
KNOWN = {name: value for name, value in EVENT.items() if name not in CUSTOM}


def properties(entry: dict[str, Any]) -> dict[str, Any]:
    return entry["streams"][0]["schema"]["properties"]


@pytest.fixture(scope="module")
def sandbox():
    bundle = Bundle("1", 1_600_041_600, 1_600_128_000, [EVENT, {**EVENT, "PageIp": 17}])
    with Sandbox([bundle]) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def catalog_file():
    return discover()


def run(sandbox: Sandbox, made: Any, **settings: Any) -> Run:
    done = run_tap(sandbox.config(**settings), catalog=made)
    assert done.code == 0, done.log
    return done


def custom_vars(*names: str) -> dict[str, Any]:
    return {name: EVENT[name] for name in names}


def test_the_printed_catalog_unedited_selects_as_no_catalog_does(sandbox, catalog_file):
    with_it, without = run(sandbox, catalog_file), run(sandbox, None)
    assert with_it.records == without.records
    assert with_it.schemas == without.schemas
    assert with_it.records[0] == {**KNOWN, "CustomVars": custom_vars(*CUSTOM)}


def test_properties_is_the_old_name(sandbox, catalog_file, tmp_path):
    path = tmp_path / "properties.json"
    path.write_text(json.dumps(selecting(catalog_file, PageIp=False)))
    done = run_tap(sandbox.config(), "--properties", str(path))
    assert "PageIp" not in done.schema
    assert "PageIp" not in done.records[0]


def test_deselected_columns_and_their_type_mismatches_are_nowhere(sandbox, catalog_file):
    done = run(sandbox, selecting(catalog_file, PageIp=False, EventType=False))
    assert {"PageIp", "EventType"} & set(done.schema) == set()
    expected = {name: EVENT[name] for name in ("EventStart", "PageId")}
    assert done.records == [{**expected, "CustomVars": custom_vars(*CUSTOM)}] * 2
    assert not [line for line in done.logged("WARNING") if line.startswith("Bundle")]


def test_no_column_is_forced_on_anybody(sandbox, catalog_file):
    unwanted = dict.fromkeys(columns(), False)
    done = run(sandbox, selecting(catalog_file, **unwanted))
    assert set(done.schema) == {"CustomVars"}
    assert done.records == [{"CustomVars": custom_vars(*CUSTOM)}] * 2


def test_custom_vars_deselected(sandbox, catalog_file):
    done = run(sandbox, selecting(catalog_file, CustomVars=False))
    assert "CustomVars" not in done.schema
    assert done.records == [KNOWN, {**KNOWN, "PageIp": None}]
    (line,) = [line for line in done.logged("INFO") if "were dropped" in line and "Bundle" in line]
    assert ": 9 values" in line  # four unknown keys in each of two events, and a type mismatch
    for name in (*CUSTOM, "PageIp"):
        assert name in line


def test_custom_variables_promoted_dropped_and_kept(sandbox, catalog_file):
    made = copy.deepcopy(catalog_file)
    properties(made).update(
        {
            "user_plan_str": {"type": ["null", "string"]},
            "evt_order.total_real": {"type": ["null", "number"], "description": "In euros."},
            "page_section_str": {"type": ["null", "string"]},
            "user_never_sent_int": {"type": ["null", "integer"]},
        }
    )
    made["streams"][0]["metadata"] += [
        {"breadcrumb": ["properties", "evt_order.total_real"], "metadata": {"selected": True}},
        {"breadcrumb": ["properties", "user_never_sent_int"], "metadata": {"selected": True}},
        {"breadcrumb": ["properties", "page_section_str"], "metadata": {"selected": False}},
        {"breadcrumb": ["properties", "user_plan_str"], "metadata": {"inclusion": "available"}},
    ]
    done = run(sandbox, made)
    assert done.schema["evt_order.total_real"] == {
        "type": ["null", "number"], "description": "In euros.",
    }  # fmt: skip
    assert "user_never_sent_int" in done.schema
    assert {"user_plan_str", "page_section_str"} & set(done.schema) == set()
    total = {"evt_order.total_real": 12}
    kept = custom_vars("user_plan_str", "Tomorrow")
    assert done.records[0] == {**KNOWN, **total, "CustomVars": kept}
    assert "shop" not in done.stdout.decode()

    without = run(sandbox, selecting(made, CustomVars=False))
    assert without.records[0] == {**KNOWN, **total}


def test_a_promoted_variable_that_does_not_fit_goes_back_to_custom_vars(sandbox, catalog_file):
    made = copy.deepcopy(catalog_file)
    properties(made)["user_plan_str"] = {"type": ["null", "integer"], "selected": True}
    done = run(sandbox, made)
    assert done.records[0] == {
        **KNOWN, "user_plan_str": None, "CustomVars": custom_vars(*CUSTOM),
    }  # fmt: skip
    (warning,) = [line for line in done.logged("WARNING") if line.startswith("Bundle")]
    assert "user_plan_str (2)" in warning
    assert "gold" not in done.log


def test_a_column_that_the_catalog_does_not_list_is_an_unknown_key(sandbox, catalog_file):
    made = copy.deepcopy(catalog_file)
    del properties(made)["PageId"]
    record = run(sandbox, made).records[0]
    assert "PageId" not in record
    assert record["CustomVars"]["PageId"] == EVENT["PageId"]


def test_a_type_of_the_users_own(sandbox, catalog_file):
    """Who knows better what their data holds may say so in the catalog."""
    made = copy.deepcopy(catalog_file)
    properties(made)["PageId"] = {"type": ["null", "string"]}
    properties(made)["EventType"] = {}
    done = run(sandbox, made)
    assert done.records[0]["PageId"] == str(EVENT["PageId"])
    assert "PageId" not in done.records[0]["CustomVars"]
    assert done.records[0]["EventType"] == "click"


def test_nothing_selected_is_reported(sandbox, catalog_file):
    done = run_tap(sandbox.config(), catalog=selecting(catalog_file, stream=False))
    assert done.code == 0
    assert [message["type"] for message in done.messages] == ["STATE"]
    (warning,) = done.logged("WARNING")
    assert "selects no stream" in warning
