"""Where a redirect may lead, and what of it is shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_fullstory.errors import SourceError
from tap_fullstory.fullstory.urls import redact_url, resolve_redirect


@pytest.mark.parametrize("target", ["http://127.0.0.1/y", "http://[::1]:8/y", "//x/y", "/y"])
def test_redirects_from_https_to_http_are_refused_on_loopback_too(target):
    if target.startswith("http:"):
        with pytest.raises(SourceError, match="redirects from https to http"):
            resolve_redirect("https://localhost/x", target)
    else:
        assert resolve_redirect("https://localhost/x", target).startswith("https://")
    assert resolve_redirect("http://localhost/x", "http://127.0.0.1/y") == "http://127.0.0.1/y"


@example("http://[::1")
@given(st.text("htps:/[]@?#%.*aé²\x00 -127localhost\\", max_size=40))
def test_any_location_is_refused_or_shown_without_query_and_userinfo(value: str):
    try:
        target = resolve_redirect("https://export.example.com/x", value)
    except SourceError:
        return
    assert not {"?", "@", "#"} & set(redact_url(target, {}).partition("//")[2].partition("/")[0])
    assert "?" not in redact_url(target, {})
