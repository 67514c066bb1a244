"""Columns that the config adds to the exports, from outside: ReplayUrl."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from either_api import days, each_api
from running import Content, discover, run_tap, selecting

from tap_fullstory.added_columns import replays
from tap_fullstory.settings import parse_config

EU = "https://api.eu1.fullstory.com"
NOW = datetime(2026, 6, 2, tzinfo=timezone.utc)


@each_api
def test_each_event_has_the_url_of_its_replay(api):
    with api.sandbox(days(1, 30)) as sandbox:
        config = api.config(sandbox, replay_url=True)
        catalog = discover(config)
        before = len(sandbox.requests)
        run = run_tap(config, catalog=catalog)
        replay = "https://app.fullstory.com/ui/o-SANDBOX-na1/session"
        assert len(run.records) == 30
        for record in run.records:
            ids = f"{record['UserId']}:{record['SessionId']}"
            assert record["ReplayUrl"] == f"{replay}/{ids}"
        assert "computes" in run.schema["ReplayUrl"]["description"]
        assert sum(request.path == "/me" for request in sandbox.requests[before:]) == 1
        asked = [request.body for request in sandbox.requests if request.method == "POST"]
        assert not any(b"ReplayUrl" in body for body in asked)

        # A catalog from before the setting has it too, and nobody's id comes back by it.
        hashing = {"hash_fields": "User*", "hash_key": "0123456789abcdef"}
        cases: list[tuple[Content, dict[str, str], int]] = [
            (discover(), {}, 0),
            (selecting(discover(), UserId=False), {}, 1),
            (None, {"exclude_fields": "SessionId"}, 1),
            (None, hashing, 1),
            (None, {**hashing, "hash_fields": "*Url"}, 1),
        ]
        for chosen, more, warned in cases:
            run = run_tap({**config, **more}, catalog=chosen)
            assert len(run.logged("WARNING")) == warned
            assert all(("ReplayUrl" in record) is not warned for record in run.records)
            assert ("ReplayUrl" in run.schema) is not bool(warned)


@pytest.mark.parametrize(
    ("given", "organization", "host"),
    [
        ({"api_key": "na1.x"}, "o-A-na1", "app.fullstory.com"),
        ({"api_key": "eu1.x"}, "o-A", "app.eu1.fullstory.com"),
        ({"api_key": "x"}, "o-A-eu1", "app.eu1.fullstory.com"),
        ({"api_key": "x", "api_url": EU}, "o-A", "app.eu1.fullstory.com"),
        ({"api_key": "x"}, "A", "app.fullstory.com"),
    ],
)  # fmt: skip
def test_the_apps_host_is_that_of_the_data_centre(given, organization, host):
    config = parse_config(given, NOW, {})
    assert replays(config, organization) == f"https://{host}/ui/{organization}/session/"
    assert replays(config, "a/b").endswith("/ui/a%2Fb/session/")
