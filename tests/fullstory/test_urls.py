"""Where a redirect may lead, and what of it is shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_fullstory.errors import SourceError
from tap_fullstory.fullstory.urls import redact_url, require_https, resolve_redirect


@pytest.mark.parametrize("target", ["http://127.0.0.1/y", "http://[::1]:8/y", "//x/y", "/y"])
def test_redirects_from_https_to_http_are_refused_on_loopback_too(target):
    if target.startswith("http:"):
        with pytest.raises(SourceError, match="redirects from https to http"):
            resolve_redirect("https://localhost/x", target)
    else:
        assert resolve_redirect("https://localhost/x", target).startswith("https://")
    assert resolve_redirect("http://localhost/x", "http://127.0.0.1/y") == "http://127.0.0.1/y"


@pytest.mark.parametrize(
    "name", ["uid", "email", "page_token", "pagination_token", "paginationToken"]
)
def test_what_may_name_a_person_or_hold_a_secret_is_hidden(name):
    shown = redact_url("https://h/x?y=1", {"limit": "7", name: "ada"})
    assert shown == f"https://h/x?limit=7&{name}=..."


def test_a_location_is_percent_encoded_as_it_came():
    """http.client decodes the bytes of a header as Latin-1."""

    def target(location: bytes) -> str:
        return resolve_redirect("https://h/x", location.decode("latin-1"))

    assert target("/é?q=ü".encode()) == "https://h/%C3%A9?q=%C3%BC"
    assert target("/é".encode("latin-1")) == "https://h/%E9"
    assert target(b" \t/a%25b%C3%A9c?d=%2f \r") == "https://h/a%25b%C3%A9c?d=%2f"
    assert require_https(" https://h/é%25\n", "it") == "https://h/%C3%A9%25"


@example("http://[::1")
@given(st.text("htps:/[]@?#%.*aé²\x00 -127localhost\\", max_size=40))
def test_any_location_is_refused_or_shown_without_query_and_userinfo(value: str):
    try:
        target = resolve_redirect("https://export.example.com/x", value)
    except SourceError:
        return
    assert not {"?", "@", "#"} & set(redact_url(target, {}).partition("//")[2].partition("/")[0])
    assert "?" not in redact_url(target, {})
