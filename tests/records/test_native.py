"""The compiled encoder: bytes read one by one, limits, keys and memory kept, calls of the fallback.
And the choice between it and the reference encoder.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import oracle
import pytest
from date_times import DATE_TIMES, NO_DATE_TIMES
from encoders import SELECTIONS, encoded, encoded_by_reference, encoder, records_of
from hypothesis import given
from hypothesis import strategies as st
from json_cases import LONE_SURROGATES, NOT_VALID, VALID
from running import run_tap
from strategies import bundles, exhaustive

from tap_fullstory.columns import MAX_DATE_TIME_BYTES, ValueType
from tap_fullstory.records import json_text, native
from tap_fullstory.records.encoder import Batch, EncodingStats
from tap_fullstory.records.native import Encoded
from tap_fullstory.sandbox import Bundle, Sandbox, generate_events
from tap_fullstory.times import is_date_time

_native = pytest.importorskip("tap_fullstory.records._native", reason="it has not been compiled")
pytestmark = pytest.mark.skipif(not native.is_available(), reason="it has been ruled out")

FIRST = 1_780_272_000  # 2026-06-01T00:00:00Z


def no_fallback(event: bytes) -> bytes:
    raise AssertionError(f"the fallback was called with {event[:200]!r}")


def native_encoder(
    fallback: Callable[[bytes], bytes | None] = no_fallback,
    *,
    dropped: frozenset[str] = frozenset(),
    **columns: ValueType,
) -> Callable[..., Encoded | None]:
    made = native.NativeEncoder(columns, dropped, fallback, custom_vars=True, as_text=False)
    return partial(made.encode, prefix=b"", suffix=b"\n")


def column(*names: str, **rest: Any) -> ValueType:
    return ValueType(frozenset(names), **rest)


def test_the_build_under_test_is_the_one_that_is_loaded() -> None:
    """For native_builds.py: the tests of a sanitized build must not load the ordinary one."""
    wanted = os.environ.get("TAP_FULLSTORY_TEST_BUILD")
    if wanted is None:
        pytest.skip("no other build is under test")
    assert Path(_native.__file__).is_relative_to(wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems spell the names otherwise")
def test_a_build_by_a_newer_python_parses_arguments_in_an_older_one() -> None:
    """Before 3.13 only these take a "#" in a format, and newer headers do not ask for them."""
    names = Path(_native.__file__).read_bytes()
    for name in (b"PyArg_ParseTuple", b"PyArg_ParseTupleAndKeywords", b"Py_BuildValue"):
        assert b"\0_%b_SizeT\0" % name in names
        assert b"\0%b\0" % name not in names


def test_the_limits_are_those_of_the_reference() -> None:
    assert _native.MAX_DEPTH == json_text.MAX_DEPTH
    assert _native.MAX_DATE_TIME_BYTES == MAX_DATE_TIME_BYTES


# --- values of every kind, in every place ---

PLACES: dict[str, tuple[dict[str, ValueType], frozenset[str], bytes]] = {
    "an undeclared key": ({}, frozenset(), b'{"x":%b}'),
    "a column of any type": ({"x": ValueType(frozenset())}, frozenset(), b'{"x":%b}'),
    "a dropped key": ({}, frozenset({"x"}), b'{"x":%b}'),
    "an item": ({}, frozenset(), b'{"x":[%b]}'),
    "an item of a typed array": (
        {"x": column("array", items=column("number"))},
        frozenset(),
        b'{"x":[%b]}',
    ),
    "a member": ({}, frozenset(), b'{"x":{"y":%b}}'),
    "the second of two": ({}, frozenset(), b'{"w":1,"x":[0,%b,0]}'),
}


@pytest.mark.parametrize("place", PLACES)
def test_json_is_taken_and_what_is_not_json_is_not(place: str) -> None:
    columns, dropped, around = PLACES[place]
    encode = native_encoder(lambda event: event, dropped=dropped, **columns)
    joins = {b"1 2", b"1,000."} if b"[" in around else set()  # items that a comma makes valid
    for value in VALID:
        json.loads(value)  # raises if the list of valid values has another
        found = encode(around % value)
        assert found is not None, value
        assert found[:2] == (1, len(around % value)), value
    for value in [*NOT_VALID, *LONE_SURROGATES]:
        if value in joins or (value.strip(b" ") == b"" and around == b'{"x":[%b]}'):
            continue
        assert encode(around % value) is None, value


def test_the_table_of_values_is_right() -> None:
    for value in VALID:
        oracle.load(value)
    for value in NOT_VALID:
        with pytest.raises(ValueError):  # noqa: PT011
            oracle.load(value)
    for value in LONE_SURROGATES:
        assert re.search("[\ud800-\udfff]", json.dumps(json.loads(value), ensure_ascii=False))


def test_numbers_of_an_integer_column_go_out_as_they_came() -> None:
    for number in (b"-0", b"0", b"-7", b"18446744073709551616", b"9" * 5000):
        for around in (b"%b", b"[%b,%b]"):
            value = around.replace(b"%b", number)
            columns: dict[str, Any] = {"n": column("integer", "array", items=column("integer"))}
            found = native_encoder(**columns)(b'{"n":%b}' % value)
            assert found == (1, len(value) + 6, b'{"n":%b}\n' % value, {}, 0)
        event = b'{"PageId":%b}' % number
        for batch in (encoded(encoder(), event), encoded_by_reference(encoder(), event)):
            assert batch is not None
            assert b'"record":%b,' % event in batch.lines


# --- depth ---


def nested(levels: int, bracket: str) -> bytes:
    """An event whose values nest so many levels, itself included."""
    inner = {"[": ("[", "]"), "{": ('{"a":', "}"), "both": ('[{"a":', "}]")}[bracket]
    times = (levels - 1) // (2 if bracket == "both" else 1)
    return f'{{"x":{inner[0] * times}1{inner[1] * times}}}'.encode()


@pytest.mark.parametrize("bracket", ["[", "{", "both"])
@pytest.mark.parametrize("place", ["undeclared", "any", "items", "dropped"])
def test_values_nest_up_to_the_limit(bracket: str, place: str) -> None:
    columns = {"any": ValueType(frozenset()), "items": column("array", items=column("object"))}
    chosen = {"x": columns[place]} if place in columns else {}
    dropped = frozenset({"x"} if place == "dropped" else ())
    encode = native_encoder(lambda event: event, dropped=dropped, **chosen)
    limit = _native.MAX_DEPTH
    for levels in (1, 3, 101, limit - 1, limit - 1 + limit % 2):
        assert encode(nested(levels, bracket)) is not None, levels
    for levels in (limit + 1 + limit % 2, limit + 3, 100_001):
        assert encode(nested(levels, bracket)) is None, levels
    if bracket != "both":
        assert encode(nested(limit, bracket)) is not None
    assert encode(b'{"x":' + b"[" * 1_000_000) is None


# --- chunks: how many events are taken, and up to where ---


def test_no_more_events_are_taken_than_requested() -> None:
    events = [b'{"a":%d}' % n for n in range(5)]
    chunk = b" " + b" ,\n".join(events) + b" "
    encode = native_encoder()
    at = 0
    taken: list[int] = []
    while at < len(chunk):
        size = len(taken) + 1
        found = encode(chunk[at:], max_events=size)
        assert found is not None
        taken.append(found[0])
        assert found[0] <= size
        consumed = chunk[at : at + found[1]]
        assert consumed.endswith(b"}")
        assert found[2].count(b"\n") == consumed.count(b"{") == found[0]
        at += found[1]
        at += len(chunk[at:]) - len(chunk[at:].lstrip(b" ,\n"))
    assert taken == [1, 2, 2]


def test_what_follows_the_last_event_taken_is_not_looked_at() -> None:
    encode = native_encoder()
    for rest in (b"", b" ", b",", b"x", b"]", b',{"a":', b"\xff", b',{"b":1}'):
        found = encode(b'{"a":1}, {"a":2}' + rest, max_events=2)
        assert found == (2, 16, b'{"CustomVars":{"a":1}}\n{"CustomVars":{"a":2}}\n', {"a": 2}, 0)
    for rest in (b",", b"x", b"]", b',{"a":', b"\xff"):
        assert encode(b'{"a":1}, {"a":2}' + rest, max_events=3) is None


@pytest.mark.parametrize("max_events", [0, -1])
def test_at_least_one_event_must_be_requested(max_events: int) -> None:
    with pytest.raises(ValueError, match="max_events"):
        native_encoder()(b"{}", max_events=max_events)


def test_chunks_without_an_event_are_not_valid() -> None:
    for chunk in (b"", b" \n", b",", b"{},", b",{}", b"{}{}", b"{},,{}", b"[]", b"{},1", b"null"):
        assert native_encoder()(chunk) is None, chunk


# --- object_end ---


def object_end(text: bytes, start: int) -> int:
    return _native.object_end(text, start)


def expected_end(text: bytes, start: int) -> int:
    """What object_end should return, character by character."""
    depth, quoted, escaped = 0, False, False
    for at, byte in enumerate(text[start:], start):
        if quoted:
            quoted = escaped or byte != ord('"')
            escaped = not escaped and byte == ord("\\")
        elif byte == ord('"'):
            quoted = True
        elif byte in b"{[":
            depth += 1
        elif byte in b"}]":
            depth -= 1
            if depth == 0:
                return at + 1
    return -1


@given(bundles(), st.integers(0, 10**9))
@exhaustive(100)
def test_object_end_at_every_bracket_of_every_cut(bundle: bytes, cut: int) -> None:
    for text in (bundle, bundle[: cut % (len(bundle) + 1)]):
        for start in [at for at, byte in enumerate(text) if byte in b"{["][:10]:
            assert object_end(text, start) == expected_end(text, start)


def test_object_end_of_strings() -> None:
    for filling in range(20):
        for value in (b"}", b'\\"}', b"\\\\", b'\\\\\\"}', b"{[", b"\xff", b"\n", b"\\u005c"):
            text = b'xx{"%b%b":["]"]}}' % (b"a" * filling, value)
            assert object_end(text, 2) == len(text) - 1
            for end in range(3, len(text) - 1):
                assert object_end(text[:end], 2) == expected_end(text[:end], 2) == -1


def test_object_end_keeps_the_limit_of_depth() -> None:
    limit = _native.MAX_DEPTH
    for opening, closing in ((b"[", b"]"), (b"{", b"}")):
        text = opening * limit + closing * limit
        assert object_end(text, 0) == 2 * limit
        assert object_end(opening * limit, 0) == -1
        assert object_end(b"[" + closing.join([text[1:-1]] * 2), 0) != -1
        for deeper in (opening + text, opening * 1_000_000):
            with pytest.raises(ValueError, match=f"nested deeper than {limit} levels"):
                object_end(deeper, 0)


def test_object_end_refuses_a_start_without_a_bracket() -> None:
    for text, start in ((b"", 0), (b"{}", -1), (b"{}", 1), (b"{}", 2), (b' "{"', 1), (b"1", 0)):
        with pytest.raises(ValueError, match="no object or array starts there"):
            object_end(text, start)


# --- date-times ---

AT = column("string", date_time=True)
CHARACTERS = "0123456789-+:.,TtZz \u0663/"


def are_taken(texts: list[str]) -> list[bool]:
    """Whether the scanner takes each text as a date-time, instead of calling the fallback."""
    events = [json.dumps({"At": text}, ensure_ascii=False).encode() for text in texts]
    found = native_encoder(lambda _: b"no", At=AT)(b",".join(events))
    assert found is not None
    return [line != b"no" for line in found[2].splitlines()]


def test_date_times_with_some_characters_changed() -> None:
    texts = [*DATE_TIMES, *NO_DATE_TIMES]
    for text in DATE_TIMES:
        for at in range(len(text) + 1):
            texts += [text[:at], text[at:], text[:at] + text[at + 1 :]]
            texts += [text[:at] + c + text[at + 1 :] for c in CHARACTERS]
            texts += [text[:at] + c + text[at:] for c in CHARACTERS]
    source = random.Random(5)
    for text in source.choices(texts, k=20_000):
        at = source.randrange(len(text) + 1)
        texts.append(text[:at] + source.choice(CHARACTERS) + text[at + 1 :])
    assert are_taken(texts) == list(map(goes_out_as_it_came, texts))


def goes_out_as_it_came(text: str) -> bool:
    """Whether this is a date-time for the native encoder; it hands over what is rare."""
    is_rare = text[:4] in ("0001", "9999") or bool({*text} & {"t", "z"})
    return is_date_time(text) and not is_rare


def test_every_day_and_time() -> None:
    years = ("0000", "0004", "1900", "2000", "2023", "2024", "2100", "9999")
    texts = [
        f"{year}-{month:02}-{day:02}T00:00:00Z"
        for year in years
        for month in range(14)
        for day in range(33)
    ]
    for n in range(100):
        texts += [f"2026-06-01T{n:02}:00:00Z", f"2026-06-01T00:{n:02}:00Z"]
        texts += [f"2026-06-01T00:00:{n:02}Z", f"2026-06-01T00:00:{n:02}.5+01:00"]
        texts += [f"2026-06-01T00:00:00+{n:02}:00", f"2026-06-01T00:00:00-00:{n:02}"]
    assert are_taken(texts) == list(map(goes_out_as_it_came, texts))


# --- the same as the reference encoder, whatever a chunk holds ---

RICH = (
    '{"PageId":-10, "EventStart":"2026-06-01T12:00:00.1Z","evt_a":[1.5e+7,{"b":true}]},\n'
    '{"EventTargetText":"é💥\\ud83d\\ude00\\\\","Ratio":0.10,"Nested":{"":null},"evt_a":"x"}, '
    '{"PageStart":"","evt_n_ints":[1, 2],"evt_at_dates":["2024-02-29T00:00:00Z"]},{"Always":1e2}'
).encode()
BYTES = b'{}[]",:\\ \n\r01+-.eu\x1f\x80\xc3\xff'


def outcome(batch: Batch | None) -> tuple[int, list[Any], int | None, EncodingStats] | None:
    if batch is None:
        return None
    return batch.events, records_of(batch), batch.malformed, batch.stats


@pytest.mark.parametrize("chosen", ["all columns", "few columns"])
def test_every_cut_and_every_byte_changed(chosen: str) -> None:
    compiled, reference = encoder(SELECTIONS[chosen]), encoder(SELECTIONS[chosen])
    chunks = {RICH}
    for at in range(len(RICH)):
        chunks |= {RICH[:at], RICH[:at] + RICH[at + 1 :]}
        chunks |= {RICH[:at] + bytes([byte]) + RICH[at + 1 :] for byte in BYTES}
    whole = 0
    for chunk in sorted(chunks):
        expected = outcome(encoded_by_reference(reference, chunk))
        assert outcome(encoded(compiled, chunk)) == expected, chunk
        whole += expected is not None and expected[2] is None
    assert whole > len(chunks) / 5


def test_what_fuzzing_has_found() -> None:
    from fuzz_native import FUZZ, try_one  # needs the C extension

    for path in (FUZZ / "corpus").iterdir():
        if path.is_file():  # the folders are of other targets
            try_one(path.read_bytes())


# --- keys ---


def test_keys_are_registered_up_to_a_limit_and_the_fallback_takes_the_others() -> None:
    fallback = mock.Mock(side_effect=lambda event: event)
    encode = native_encoder(fallback)
    limit = _native.MAX_REGISTERED_KEYS
    events = [
        json.dumps({f"evt_{n}_int": n for n in range(start, start + 100)}).encode()
        for start in range(0, limit + 100, 100)
    ]
    for calls in (1, 2):
        found = encode(b",".join(events))
        assert found is not None
        assert found[3] == Counter({f"evt_{n}_int": 1 for n in range(limit)})
        lines = [oracle.load(line) for line in found[2].splitlines()]
        assert lines[:-1] == [{"CustomVars": oracle.load(event)} for event in events[:-1]]
        assert lines[-1] == oracle.load(events[-1])
        assert fallback.call_count == calls
        fallback.assert_called_with(events[-1])


def test_declared_keys_do_not_count_against_the_limit() -> None:
    limit = _native.MAX_REGISTERED_KEYS
    declared: dict[str, Any] = {f"key_{n}": column("integer") for n in range(limit + 100)}
    event = json.dumps({"undeclared": 1, **dict.fromkeys(declared, 1)}).encode()
    found = native_encoder(**declared)(event)
    assert found is not None
    assert found[3] == {"undeclared": 1}


def test_keys_that_begin_alike_in_the_same_place() -> None:
    """The scanner looks first for the key that came there last."""
    keys = (b"ab", b"abc", b"a", b"", b"abc", b"ab")
    events = [b'{"x":0,"%b":[1]}' % key for key in keys]
    lines = b"".join(b'{"CustomVars":%b}\n' % event for event in events)
    chunk = b",".join(events)
    counts = {"x": 6, "ab": 2, "abc": 2, "a": 1, "": 1}
    assert native_encoder()(chunk) == (6, len(chunk), lines, counts, 0)


def test_counts_are_of_one_chunk() -> None:
    encode = native_encoder()
    for chunk, counts in ((b'{"a":1},{"b":1,"a":1}', {"a": 2, "b": 1}), (b'{"b":1}', {"b": 1})):
        found = encode(chunk)
        assert found is not None
        assert found[3] == counts
    assert encode(b'{"a":1},{"b":}') is None
    assert encode(b'{"b":1}') == (1, 7, b'{"CustomVars":{"b":1}}\n', {"b": 1}, 0)


def test_long_keys_are_not_registered() -> None:
    limit = _native.MAX_KEY_BYTES
    for length, calls in ((limit, 0), (limit + 1, 2)):
        fallback = mock.Mock(side_effect=lambda event: event)
        encode = native_encoder(fallback)
        for _ in range(2):
            assert encode(b'{"%b":[1]}' % (b"k" * length)) is not None
        assert fallback.call_count == calls


def fnv_1a(name: bytes) -> int:
    value = 2166136261
    for byte in name:
        value = (value ^ byte) * 16777619 % 2**32
    return value


def test_keys_made_to_collide_come_out_like_others() -> None:
    """Names that share their slot under the unseeded hash of earlier versions."""
    names = [name for n in range(60_000) if fnv_1a(name := b"evt_%d" % n) % 256 == 7]
    event = b"{" + b",".join(b'"%b":1' % name for name in names) + b"}"
    assert len(names) > 200
    found = native_encoder()(event)
    counts = {name.decode(): 1 for name in names}
    assert found == (1, len(event), b'{"CustomVars":%b}\n' % event, counts, 0)


debug_builds_only = pytest.mark.skipif(
    not hasattr(_native.Scanner, "_hash"), reason="only debug builds tell the hash of a key"
)


@debug_builds_only
@pytest.mark.skipif(
    sys.hash_info.algorithm != "siphash13" or sys.byteorder != "little",
    reason="this Python hashes otherwise",
)
def test_keys_are_hashed_as_python_hashes_bytes() -> None:
    """Python's own SipHash-1-3, whose key is zero with PYTHONHASHSEED=0."""
    names = [bytes(range(1, n)) for n in range(2, 70)] + [b"\xff" * n for n in range(1, 20)]
    told = subprocess.run(
        [sys.executable, "-c", f"print([hash(name) for name in {names!r}])"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
    )
    scanner = _native.Scanner({}, True, False, bytes(_native.SEED_BYTES))
    assert [scanner._hash(name) for name in names] == [n % 2**64 for n in json.loads(told.stdout)]


@debug_builds_only
def test_each_encoder_hashes_keys_with_a_seed_of_its_own() -> None:
    hashes = {
        native.NativeEncoder(
            {}, frozenset(), no_fallback, custom_vars=True, as_text=False
        )._scanner._hash(b"evt_a_str")  # type: ignore[attr-defined]
        for _ in range(20)
    }
    assert len(hashes) == 20


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="seed must be 16 bytes"):
        _native.Scanner({}, True, False, bytes(length))


@pytest.mark.parametrize("as_text", [False, True])
def test_events_of_megabytes(as_text: bool) -> None:
    """Buffers grow for them, are given back after them, and hold what they should."""
    text = 'é\\"\\\\},{'.encode() * 300_000
    large = b'{"EventTargetText":"%b",\n"evt_a":["%b",\t1],"PageId":1}' % (text, text)
    small = b'{"PageId":2,"evt_a":"x"}'
    compiled, reference = encoder(text_custom_vars=as_text), encoder(text_custom_vars=as_text)
    for chunk in (small, large, small + b"," + large + b"," + small, small):
        expected = records_of(encoded_by_reference(reference, chunk))
        assert records_of(encoded(compiled, chunk)) == expected


# --- calls of the fallback ---


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_what_the_fallback_raises_comes_out_and_the_next_chunk_is_right(
    error: type[BaseException],
) -> None:
    fallback = mock.Mock(side_effect=error)
    encode = native_encoder(fallback, n=column("integer"))
    chunk = b'{"a":1,"n":1},{"a":2,"n":2.0},{"a":3}'
    with pytest.raises(error):
        encode(chunk)
    fallback.side_effect = lambda event: b"{}"
    lines = b'{"n":1,"CustomVars":{"a":1}}\n{}\n{"CustomVars":{"a":3}}\n'
    assert encode(chunk) == (3, len(chunk), lines, {"a": 2}, 0)
    fallback.assert_called_with(b'{"a":2,"n":2.0}')


def test_a_chunk_inside_a_chunk_is_refused() -> None:
    """It would write over the lines of the one around it."""
    encode = native_encoder(lambda event: encode(b"{}")[2], n=column("integer"))  # type: ignore[index]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="another chunk"):
            encode(b'{"n":1},{"n":1.0}')
    assert encode(b"{}") == (1, 2, b"{}\n", {}, 0)


def test_a_fallback_may_return_bytes_or_none_only() -> None:
    twice = b'{"a":1,"a":2}'
    assert native_encoder(lambda _: b"{}")(twice) == (1, len(twice), b"{}\n", {}, 0)
    # Nothing: the event is left out.
    around = b'{"b":1},' + twice + b',{"b":2}'
    lines = b'{"CustomVars":{"b":1}}\n{"CustomVars":{"b":2}}\n'
    assert native_encoder(lambda _: b"")(around) == (3, len(around), lines, {"b": 2}, 1)
    assert native_encoder(lambda _: None)(twice) is None
    with pytest.raises(TypeError):
        native_encoder(lambda _: "text")(twice)  # type: ignore[arg-type, return-value]


# --- which encoder it is ---


def test_the_environment_can_rule_the_compiled_part_out() -> None:
    for value, compiled in (("1", False), ("no", False), ("", True)):
        with mock.patch.dict(os.environ, TAP_FULLSTORY_PURE_PYTHON=value):
            assert native.is_available() is compiled


def test_command_writes_the_same_without_the_compiled_part(
    tmp_path: Path,
) -> None:
    not_compiled = tmp_path / "tap"
    not_compiled.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "sys.modules['tap_fullstory.records._native'] = None\n"  # as if there were no such file
        "from tap_fullstory import main\n"
        "from tap_fullstory.records import native\n"
        "assert not native.is_available()\n"
        "main()\n"
    )
    not_compiled.chmod(0o755)
    events = [*generate_events(FIRST, FIRST + 86_400, 300, number=1), {"PageId": 1.0, "evt_a": []}]
    with Sandbox([Bundle("1", FIRST, FIRST + 86_400, events)]) as sandbox:
        runs = [
            run_tap(sandbox.config()),
            run_tap(sandbox.config(), env={"TAP_FULLSTORY_PURE_PYTHON": "1"}),
            run_tap(sandbox.config(), executable=not_compiled),
        ]
    assert len(runs[0].records) == len(events)
    for run in runs:
        assert (run.code, run.records, run.schemas) == (0, runs[0].records, runs[0].schemas)
