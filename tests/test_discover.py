"""Discovery of custom variables, and what a run says of those that no catalog lists."""

import json
from collections import Counter
from typing import Any

import pytest
from running import columns, counted, run_command, run_tap, selecting

from tap_fullstory.columns import is_custom, property_schema
from tap_fullstory.sandbox import Bundle, Sandbox, generated_bundles

DAY = 86_400
START = 1_780_272_000  # 2026-06-01T00:00:00Z
END = "2026-06-11T00:00:00Z"  # discovery looks back from here, whatever day it is


@pytest.fixture
def write(tmp_path):
    def write(config: dict[str, Any]) -> str:
        path = tmp_path / "discover.json"
        path.write_text(json.dumps(config))
        return str(path)

    return write


def day(number: int, body: Any) -> Bundle:
    start = START + number * DAY
    return Bundle(f"{start}48", start, start + DAY, body)


def entry_of(run: Any) -> dict[str, Any]:
    (entry,) = (one for one in json.loads(run.stdout)["streams"] if one["stream"] == "events")
    return entry


def choices(entry: dict[str, Any]) -> dict[str, Any]:
    return {one["breadcrumb"][1]: one["metadata"] for one in entry["metadata"] if one["breadcrumb"]}


@pytest.mark.parametrize("api", ["data_export", "segment_export"])
def test_the_variables_of_the_newest_bundle_are_listed_and_not_selected(write, api):
    bundles = generated_bundles(3, 60)
    seen = Counter(name for event in bundles[-1].body for name in event if is_custom(name))
    with Sandbox(bundles) as sandbox:
        config = sandbox.config(discover_custom_vars="true", export_api=api)
        entry = entry_of(run_command("--config", write(config), "--discover"))
        listed = {
            name: one for name, one in entry["schema"]["properties"].items() if is_custom(name)
        }
        assert set(listed) == set(seen)
        for name, schema in listed.items():
            assert f"seen in {seen[name]} of the 60 events" in schema.pop("description")
            assert schema == property_schema(name)
            assert choices(entry)[name] == {
                "inclusion": "available", "selected-by-default": False,
                "tap-fullstory.personal-data": "can",
            }  # fmt: skip
        # Unedited, it selects what the catalog without them does.
        plain = run_tap(sandbox.config(export_api=api))
        with_them = run_tap(config, catalog={"streams": [entry]})
        assert counted(with_them.records) == counted(plain.records)
        assert with_them.schema == plain.schema


def test_one_that_is_selected_is_a_column(write):
    with Sandbox(generated_bundles(2, 40)) as sandbox:
        config = sandbox.config(discover_custom_vars=True)
        entry = entry_of(run_command("--config", write(config), "--discover"))
        catalog = selecting({"streams": [entry]}, page_category_str=True, page_price_real=False)
        run = run_tap(config, catalog=catalog)
        events = [event for bundle in sandbox.bundles for event in bundle.body]
        for name, present in (("page_category_str", True), ("page_price_real", False)):
            wanted = Counter(json.dumps(event.get(name)) for event in events if present)
            found = Counter(json.dumps(record.get(name)) for record in run.records if present)
            assert found == wanted
            assert (name in run.schema) == present
            assert not any(name in record.get("CustomVars", {}) for record in run.records)


@pytest.mark.parametrize(
    ("suffix", "types"),
    [
        ("str", ["null", "string"]),
        ("int", ["null", "integer"]),
        ("real", ["null", "number"]),
        ("bool", ["null", "boolean"]),
        ("date", ["null", "string"]),
    ],
)
def test_the_type_is_told_by_the_suffix(suffix, types):
    one, several = property_schema(f"evt_a_b.c_{suffix}"), property_schema(f"evt_a_b.c_{suffix}s")
    assert one is not None
    assert several is not None
    assert one["type"] == types
    assert one.get("format") == ("date-time" if suffix == "date" else None)
    assert several == {"type": ["null", "array"], "items": one}


@pytest.mark.parametrize("name", ["evt_a", "user_a_text", "page_", "evt_x_strss", "evt_s"])
def test_a_suffix_without_a_type(name):
    assert property_schema(name) is None


def test_no_more_is_looked_at_than_configured(write):
    bundles = [
        day(0, [{"evt_old_str": "a"}]),
        day(1, [{"evt_a_str": "a"}] * 5 + [{"evt_b_str": "b"}]),
    ]
    with Sandbox(bundles) as sandbox:
        config = sandbox.config(discover_custom_vars=True, end_date=END, discover_sample_events=5)
        entry = entry_of(run_command("--config", write(config), "--discover"))
    assert "evt_a_str" in entry["schema"]["properties"]
    assert "evt_old_str" not in entry["schema"]["properties"]


def test_a_large_bundle_is_not_downloaded_whole(write):
    padding = "".join(f"{number * 7919 % 1_000_003:x}" for number in range(300_000))
    events = [{"evt_a_str": padding[at : at + 5000]} for at in range(0, len(padding) - 5000, 900)]
    plain = json.dumps(events).encode()
    assert len(plain) > 4_000_000
    with Sandbox([day(0, plain)]) as sandbox:
        sandbox.fault("get:cut,after=2000000,times=always")
        config = sandbox.config(discover_custom_vars=True, end_date=END, discover_sample_events=10)
        run = run_command("--config", write(config), "--discover")
    assert run.code == 0
    assert "evt_a_str" in entry_of(run)["schema"]["properties"]


def test_an_empty_bundle_gives_way_to_the_one_before(write):
    with Sandbox([day(0, [{"evt_a_str": "a"}]), day(1, [])]) as sandbox:
        run = run_command(
            "--config", write(sandbox.config(discover_custom_vars=True, end_date=END)), "--discover"
        )
    assert "evt_a_str" in entry_of(run)["schema"]["properties"]


def test_what_ends_after_the_end_date_is_not_looked_at(write):
    listed = [day(number, [{f"evt_{name}_str": "x"}]) for number, name in ((0, "a"), (1, "b"))]
    with Sandbox(listed) as sandbox:
        config = sandbox.config(discover_custom_vars=True, end_date="2026-06-02T00:00:00Z")
        properties = entry_of(run_command("--config", write(config), "--discover"))["schema"]
    assert "evt_a_str" in properties["properties"]
    assert "evt_b_str" not in properties["properties"]


def test_no_bundle_at_all_is_reported_and_does_not_fail(write):
    with Sandbox([]) as sandbox:
        run = run_command(
            "--config", write(sandbox.config(discover_custom_vars=True)), "--discover"
        )
    assert run.code == 0
    assert "no bundle with events" in run.logged("WARNING")[0]


@pytest.mark.parametrize(("api", "most"), [("data_export", 10), ("segment_export", 3)])
def test_only_the_newest_bundles_are_looked_into(write, api, most):
    bundles = [day(0, [{"evt_a_str": "a"}]), *(day(number, []) for number in range(1, most + 1))]
    end = f"2026-06-{most + 2:02}T00:00:00Z"
    for end_date, found in ((end, False), (f"2026-06-{most + 1:02}T00:00:00Z", True)):
        with Sandbox(bundles) as sandbox:
            config = sandbox.config(discover_custom_vars=True, end_date=end_date, export_api=api)
            run = run_command("--config", write(config), "--discover")
            asked = [one.path.rpartition("/")[2] for one in sandbox.requests]
        assert ("evt_a_str" in entry_of(run)["schema"]["properties"]) is found
        assert asked.count("get") + asked.count("results") == most
        warnings = [] if found else [f"no bundle with events among the newest {most}. Discover"]
        assert [text for text in warnings if text in run.log] == warnings
        assert len(run.logged("WARNING")) == len(warnings)


def test_names_that_targets_may_fold_together_are_kept_and_warned_of(write):
    event = {"evt_order.id_str": "a", "evt_order_id_str": "b", "evt_Order_id_str": "c"}
    with Sandbox([day(0, [event])]) as sandbox:
        run = run_command(
            "--config", write(sandbox.config(discover_custom_vars=True, end_date=END)), "--discover"
        )
    assert set(event) <= set(entry_of(run)["schema"]["properties"])
    (warning,) = run.logged("WARNING")
    assert all(name in warning for name in event)


def test_names_that_postgresql_cannot_have_are_warned_of_at_discovery_and_in_each_run(write):
    fits, long = f"evt_{'n' * 55}_str", f"evt_{'é' * 28}_str"
    assert (len(fits.encode()), len(long), len(long.encode())) == (63, 36, 64)
    with Sandbox([day(0, [{fits: "a", long: "b"}])]) as sandbox:
        config = sandbox.config(discover_custom_vars=True, end_date=END)
        found = run_command("--config", write(config), "--discover")
        catalog = json.loads(found.stdout)
        run = run_tap(config, catalog=selecting(catalog, **{fits: True, long: True}))
        (record,) = run.records
        assert record == {fits: "a", long: "b"}
        for warned in (found, run):
            (warning,) = warned.logged("WARNING")
            assert f"events: the names of {long} are longer than 63 bytes" in warning
        # What the warning says to do.
        del catalog["streams"][0]["schema"]["properties"][long]
        run = run_tap(config, catalog=catalog)
        assert run.logged("WARNING") == []
        assert run.records == [{"CustomVars": {fits: "a", long: "b"}}]
        # A column by config is in the catalog, too.
        config = sandbox.config(custom_columns=[fits, long])
        for warned in (run_command("--config", write(config), "--discover"), run_tap(config)):
            (warning,) = warned.logged("WARNING")
            assert f"events: the names of {long} are longer than 63 bytes" in warning
            assert "from custom_columns in the config" in warning


def test_a_column_by_config_stays_one_where_the_newest_bundle_lacks_it(write):
    event = {"evt_plan_str": "gold", "evt_n": 7, "evt_prices_reals": [1, 2.5, None], "evt_b_int": 1}
    with Sandbox([day(0, [event]), day(1, [{"evt_b_int": 2}])]) as sandbox:
        columns = ["evt_plan_str", "evt_n:int", "evt_prices_reals"]
        config = sandbox.config(discover_custom_vars=True, end_date=END, custom_columns=columns)
        entry = entry_of(run_command("--config", write(config), "--discover"))
        run = run_tap(config, catalog={"streams": [entry]})
    assert "evt_b_int" in entry["schema"]["properties"]
    assert run.records == [
        {"evt_plan_str": "gold", "evt_n": 7, "evt_prices_reals": [1.0, 2.5, None],
         "CustomVars": {"evt_b_int": 1}},
        {"CustomVars": {"evt_b_int": 2}},
    ]  # fmt: skip
    assert b'"evt_prices_reals":[1.0,2.5,null]' in run.stdout
    assert {"evt_plan_str", "evt_n", "evt_prices_reals"} < set(run.schema)


def test_what_the_config_excludes_is_not_discovered(write):
    event = {"evt_secret_str": "x", "evt_b_int": 1, "user_x_str": "y"}
    with Sandbox([day(0, [event])]) as sandbox:
        config = sandbox.config(
            discover_custom_vars=True, end_date=END, hash_key="0123456789abcdef",
            exclude_fields="evt_s*, CustomVars", hash_fields="evt_b_int",
        )  # fmt: skip
        listed = entry_of(run_command("--config", write(config), "--discover"))["schema"]
    assert {"evt_secret_str", "CustomVars"} & set(listed["properties"]) == set()
    assert listed["properties"]["evt_b_int"]["type"] == ["null", "string"]
    assert "user_x_str" in listed["properties"]


# --- what a run says at its end ---


def test_unlisted_variables_are_named_once_with_their_number():
    bodies = [[{"evt_a_str": "x", "user_b_int": 1}] * 3, [{"evt_a_str": "y"}]]
    with Sandbox([day(number, body) for number, body in enumerate(bodies)]) as sandbox:
        run = run_tap(sandbox.config())
    (line,) = [line for line in run.logged("INFO") if "custom variables" in line]
    assert "2 custom variables" in line
    assert "evt_a_str (4), user_b_int (3)" in line
    assert not run.logged("WARNING")


def test_at_most_twenty_are_named():
    event = {f"evt_{number}_int": number for number in range(30)}
    with Sandbox([day(0, [event])]) as sandbox:
        run = run_tap(sandbox.config())
    (line,) = [line for line in run.logged("INFO") if "custom variables" in line]
    assert "30 custom variables" in line
    assert line.count("_int (1)") == 20


def test_a_field_that_fullstory_adds_is_kept_and_warned_of_once():
    with Sandbox([day(number, [{"EventNew": [1]}]) for number in range(3)]) as sandbox:
        run = run_tap(sandbox.config())
    assert [record["CustomVars"] for record in run.records] == [{"EventNew": [1]}] * 3
    (warning,) = run.logged("WARNING")
    assert "EventNew (3)" in warning


def test_nothing_is_reported_where_all_is_listed():
    with Sandbox([day(0, [dict.fromkeys(columns())])]) as sandbox:
        run = run_tap(sandbox.config())
    assert not [line for line in run.logged("INFO") if "does not list" in line]
    assert not run.logged("WARNING")
