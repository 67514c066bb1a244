"""JSON as text: how deep it is nested, where an object ends, and what of it is repaired."""

from __future__ import annotations

import json

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_events, block_sizes, exhaustive, layouts, write

from tap_fullstory.records import json_text
from tap_fullstory.records.json_text import (
    MAX_DEPTH,
    NestedTooDeeply,
    NestingScanner,
    nesting_depth_exceeds,
    require_depth,
)

SHAPES = [
    ("[", "]"),
    ('{"a":', "}"),
    ('[{"}]":', "}]"),
    ('["]]\\"]\\\\",', "]"),
    ('{"a":[]," b":', "}"),
]


def depth_of(text: bytes) -> int:
    def depth(value: object) -> int:
        if isinstance(value, tuple):  # the members of an object, duplicate keys too
            return 1 + max((depth(member) for _, member in value), default=0)
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    return depth(json.loads(text, object_pairs_hook=tuple))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_limit_is_exact(shape: tuple[str, str]) -> None:
    text = (shape[0] * 20 + "1" + shape[1] * 20).encode()
    deepest = depth_of(text)
    assert not nesting_depth_exceeds(text, deepest)
    assert nesting_depth_exceeds(text, deepest - 1)


def test_as_many_levels_as_documented() -> None:
    require_depth(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(NestedTooDeeply, match="nested deeper than 500 levels"):
        require_depth(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


def test_brackets_in_strings_and_next_to_each_other_are_not_levels() -> None:
    require_depth(b'["' + b"[{" * 10_000 + b'"]')
    require_depth(b'["\\"' + b"[{" * 10_000 + b'\\\\",1]')
    require_depth(b"[" + b"[]," * 10_000 + b"{}]")


def test_the_decoders_take_what_the_limit_allows() -> None:
    """On every Python, from as deep in the program as the tap ever is."""
    inner = b'{"a":[' * (MAX_DEPTH // 2) + b"]}" * (MAX_DEPTH // 2)
    assert bytes(json_text.decode_items(b"[" + inner + b"]")[0]) == inner
    assert list(json_text.decode_members(inner)) == ["a"]


def test_text_without_an_end_is_not_read_to_its_end() -> None:
    assert nesting_depth_exceeds(b"[" * 50_000_000, MAX_DEPTH)


@exhaustive(200)
@given(event=any_events, layout=layouts, limit=st.integers(0, 6))
def test_depth_is_that_of_the_value(event: object, layout: object, limit: int) -> None:
    text = write(event, layout).encode()  # type: ignore[arg-type]
    assert nesting_depth_exceeds(text, limit) == (depth_of(text) > limit)


@exhaustive(200)
@given(event=any_events, layout=layouts, sizes=block_sizes, before=st.binary(max_size=3))
def test_an_object_ends_where_json_says(
    event: object, layout: object, sizes: list[int], before: bytes
) -> None:
    text = write(event, layout).encode()  # type: ignore[arg-type]
    assert oracle.load(text) is not None
    scanner = NestingScanner(len(before))
    whole = before + text + b',{"a":"}"}'
    end, size = None, 0
    while end is None:
        size += sizes[size % len(sizes)]
        end = scanner.object_end(whole[:size])
    assert end == len(before + text) <= size


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
def test_pieces_may_end_anywhere(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MIN_PIECE_BYTES", max(piece, 2))
    monkeypatch.setattr(json_text, "MAX_PIECE_BYTES", max(piece, 2))
    text = rb'{"\\":"\"}{","\\\"":[{"[":"\\\\"}],"}":{"a":"\u007b\\"}}'
    json.loads(text)
    for end in range(len(text)):
        assert NestingScanner().object_end(text[:end]) is None
    assert NestingScanner().object_end(text + b",{}") == len(text)


def test_an_object_too_deep_has_no_end() -> None:
    deep = b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
    with pytest.raises(NestedTooDeeply):
        NestingScanner().object_end(deep)
    just = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert NestingScanner().object_end(just + b"," + deep) == len(just)
