"""EventDigest: of the bytes as they were sent, without the whitespace between tokens."""

from __future__ import annotations

from typing import Any

import oracle
import pytest
from encoders import encoder, record_of
from hypothesis import given
from strategies import Object, any_events, exhaustive, layouts, strange_events, write

from tap_fullstory.records.digest import event_digest

# --- the digest ---


@exhaustive(200)
@given(event=any_events | strange_events, one=layouts, other=layouts)
def test_a_digest_is_of_the_tokens_alone(event: Object, one: Any, other: Any) -> None:
    texts = [write(event, layout).encode() for layout in (one, other)]
    assert event_digest(texts[0]) == event_digest(texts[1]) == oracle.digest(texts[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":1E5}', '{"a":1e5}'),
        ('{"a":"A"}', '{"a":"\\u0041"}'),
        ('{"a":"/"}', '{"a":"\\/"}'),
        ('{"a":"\\u00e9"}', '{"a":"\\u00E9"}'),
        ('{"a":"x y"}', '{"a":"xy"}'),
        ('{"a":"\\\\ "}', '{"a":"\\\\"}'),
        ('{"a":"\\" "}', '{"a":"\\""}'),
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ('{"a":1,"a":1}', '{"a":1}'),
        ('{"a":"\\ud800"}', '{"a":"\\ufffd"}'),
        ('{"a":"\\ud800"}', '{"a":"\\ud801"}'),
        ('{"a":"\\ud800 "}', '{"a":"\\ud800"}'),
    ],
)
def test_another_spelling_has_another_digest(one: str, other: str) -> None:
    assert event_digest(one.encode()) != event_digest(other.encode())
    digests = [record_of(event, encoder(digest=True))["EventDigest"] for event in (one, other)]
    assert digests == [oracle.digest(one.encode()), oracle.digest(other.encode())]


def test_a_digest_is_32_hexadecimal_digits_of_the_bytes_as_sent() -> None:
    # Of {"a":1}, by b2sum --length 128.
    assert event_digest(b' { "a" : 1 } '.strip()) == "2c6b113b8dd15ffbded9860b43eb0c6c"
