"""What is kept out of log lines: secrets, however they are spelled, and control characters."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

import pytest

from tap_fullstory.logs.redact import escape_controls, redactor

SECRET = "na1.a/b+c&d=="


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").replace("%2F", "%2f"),
        quote(quote(SECRET, safe=""), safe=""),
        quote(quote(quote(SECRET, safe=""), safe=""), safe=""),
        SECRET.replace("/", r"\/"),
        SECRET.replace("/", r"\u002f").replace("+", r"\\u002B"),
        escape(SECRET),
        escape(escape(SECRET)),
        SECRET.replace("/", "&#47;").replace("+", "&#x2b;").replace("=", "&#0061;"),
    ],
)
def test_a_secret_is_hidden_in_every_spelling(spelling):
    assert redactor([SECRET])(f"before {spelling}, {spelling}") == "before ***, ***"


def test_the_longer_of_two_secrets_that_begin_alike_is_hidden_whole():
    redact = redactor(["abc", "", "abcdef"])
    assert [redact("abcdef"), redact("abcde"), redact("ABC")] == ["***", "***de", "ABC"]
    assert redactor(["", ""])("abc") == "abc"


def test_text_stays_on_one_line_without_control_characters():
    assert escape_controls("a\nb\r\x1b[31m\u202e\u2028é") == r"a\nb\r\x1b[31m\u202e\u2028é"
