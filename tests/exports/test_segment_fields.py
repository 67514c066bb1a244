"""Which fields are asked of an export, and what happens where FullStory refuses them."""

from __future__ import annotations

from either_api import (
    SEGMENT_EXPORT,
    UNTIL,
    days,
    orders,
)
from interrupting import interrupted
from running import counted, discover, run_tap, selecting

from tap_fullstory.exports.segment_export import MOBILE_FIELDS, export_fields
from tap_fullstory.sandbox import Fault
from tap_fullstory.selection import select
from tap_fullstory.settings import parse_config

api = SEGMENT_EXPORT


def fields_of(exclude: str = "", **selected: bool) -> tuple[str, ...] | None:
    config = parse_config({"api_key": "key", "exclude_fields": exclude}, UNTIL)
    catalog = selecting(discover(), **selected)
    catalog["streams"][0]["schema"]["properties"] |= {
        "user_plan_str": {"type": ["null", "string"]},
        "evt_secret_str": {"type": ["null", "string"]},
    }
    for name, wanted in (("user_plan_str", True), ("evt_secret_str", False)):
        wanted = selected.get(name, wanted)
        entry = {"breadcrumb": ["properties", name], "metadata": {"selected": wanted}}
        catalog["streams"][0]["metadata"].append(entry)
    (selection,) = select(catalog, config)
    return export_fields(selection, ("user_", "evt_", "page_"))


def test_without_anything_deselected_every_field_comes_even_tomorrows():
    assert fields_of() is None


def test_a_deselected_column_is_not_requested_and_custom_variables_are_by_their_kinds():
    fields = fields_of(PageUrl=False)
    assert fields is not None
    assert len(set(fields)) == len(fields)
    assert "PageUrl" not in fields
    assert {"EventStart", "PageIp", "user_*", "evt_*", "page_*"} <= set(fields)
    assert "user_plan_str" not in fields
    assert "CustomVars" not in fields


def test_what_the_config_excludes_is_not_requested():
    assert fields_of("user_phone_*") is None  # it would come with user_*, and is left out later
    fields = fields_of("PageUrl, user_*")
    assert fields is not None
    assert {"EventStart", "PageIp", "evt_*", "page_*"} <= set(fields)
    assert {"PageUrl", "user_*", "user_plan_str"} & set(fields) == set()
    assert fields_of("events.user_*") == fields_of("user_*") != fields_of("users.user_*")
    assert "user_plan_str" not in (fields_of("user_plan_str", CustomVars=False) or ())


def test_without_custom_vars_only_those_with_a_column_are_requested_by_name():
    fields = fields_of(CustomVars=False)
    assert fields is not None
    assert [name for name in fields if name.startswith(("user_", "evt_", "page_"))] == [
        "user_plan_str"
    ]
    assert "PageUrl" in fields


def test_the_name_that_only_bundles_have_is_not_requested():
    assert fields_of(PageAgent=False) is None
    fields = fields_of(PageUrl=False)
    assert fields is not None
    assert "PageAgent" not in fields
    assert "PageUserAgent" in fields


def test_deselected_columns_are_left_out_by_fullstory_already():
    with api.sandbox() as sandbox:
        catalog = selecting(discover(api.config(sandbox)), PageUrl=False, UserEmail=False)
        run = run_tap(api.config(sandbox), catalog=catalog)
        assert run.code == 0, run.log
        (fields,) = {tuple(order["fields"]) for order in orders(sandbox)}
        assert len(fields) == len(set(fields))
        expected = [
            {name: value for name, value in record.items() if name not in ("PageUrl", "UserEmail")}
            for record in api.records(sandbox)
        ]
        # The older selector, too, comes where it is listed.
        for record in run.records:
            record.pop("EventTargetSelectorTok", None)
        assert counted(run.records) == counted(expected)


REFUSED_FIELDS = Fault("status", "create", status=400, body=b'{"message": "no such field"}')


def test_refused_fields_are_requested_once_more_without_those_of_mobile_apps():
    with api.sandbox(faults=[REFUSED_FIELDS]) as sandbox:
        catalog = selecting(discover(api.config(sandbox)), PageUrl=False)
        run = run_tap(api.config(sandbox), catalog=catalog)
        assert run.code == 0, run.log
        first, *others = [order["fields"] for order in orders(sandbox)]
        # What the account refuses is not requested again, in any of the three windows.
        assert len(others) == 3
        assert all(set(first) - set(fields) == MOBILE_FIELDS for fields in others)
        assert len(run.records) == len(api.records(sandbox))
    (warning,) = [line for line in run.logged("WARNING") if "mobile-app fields" in line]
    assert "HTTP 400 from" in warning
    assert "no such field" in warning


def test_fields_that_are_refused_twice_end_the_run():
    with api.sandbox(faults=[REFUSED_FIELDS, "create:400"]) as sandbox:
        catalog = selecting(discover(api.config(sandbox)), PageUrl=False)
        run = run_tap(api.config(sandbox), catalog=catalog)
        assert (run.code, len(orders(sandbox))) == (1, 2)
    assert "HTTP 400 from" in run.critical
    assert "fault: status 400" in run.critical


def test_a_refused_request_without_fields_is_not_tried_again():
    with api.sandbox(faults=[REFUSED_FIELDS]) as sandbox:
        run = run_tap(api.config(sandbox))
        assert (run.code, len(orders(sandbox))) == (1, 1)
    assert "no such field" in run.critical


def test_an_export_without_the_fields_of_mobile_apps_is_resumed():
    with api.sandbox(days(1, 600), faults=[REFUSED_FIELDS]) as sandbox:
        catalog = selecting(discover(api.config(sandbox)), PageUrl=False)
        config = api.config(sandbox, checkpoint_events=10)
        first = interrupted(config, in_bundle=True, catalog=catalog)
        second = run_tap(config, catalog=catalog, state=first.state)
        assert len(orders(sandbox)) == 2
        assert len(first.records) + len(second.records) == 600
    assert "come twice" not in second.log
