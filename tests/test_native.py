"""What only the compiled road has: bytes read one by one, keys and memory kept, calls to Python.
And the choice between it and the other.
"""

from __future__ import annotations

import json
import os
import random
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
from encoders import FRAME, SELECTIONS, encode_plainly, encoder, records_of
from running import run_tap

from tap_fullstory import native
from tap_fullstory.columns import ValueType
from tap_fullstory.messages import Frame
from tap_fullstory.records import Batch, Tally
from tap_fullstory.sandbox import Bundle, Sandbox, generate_events
from tap_fullstory.times import is_rfc3339

pytestmark = pytest.mark.skipif(
    not native.is_available(), reason="tap_fullstory/_native.c has not been compiled"
)

FIRST = 1_780_272_000  # 2026-06-01T00:00:00Z


def for_python(event: bytes) -> bytes:
    raise AssertionError(f"{event[:200]!r} is none of the usual events")


def road(
    plain: Callable[[bytes], bytes | None] = for_python, **columns: ValueType
) -> Callable[[bytes], tuple[int, bytes, Any] | None]:
    made = native.NativeEncoder(columns, frozenset(), plain, custom_vars=True, as_text=False)
    return partial(made.lines, frame=Frame(b"", b"\n"))


# --- date-times ---

AT = ValueType(frozenset({"string"}), date_time=True)
CHARACTERS = "0123456789-+:.,TtZz \u0663/"


def is_passed_on(texts: list[str]) -> list[bool]:
    """Whether each text is a date-time to the scanner; Python is handed those that are none."""
    events = [json.dumps({"At": text}, ensure_ascii=False).encode() for text in texts]
    found = road(lambda _: b"no", At=AT)(b",".join(events))
    assert found is not None
    return [line != b"no" for line in found[1].splitlines()]


def test_date_times_some_characters_off() -> None:
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
    assert is_passed_on(texts) == list(map(is_rfc3339, texts))


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
    assert is_passed_on(texts) == list(map(is_rfc3339, texts))


# --- the same by every road, whatever stands in a run ---

RICH = (
    '{"PageId":-10, "EventStart":"2026-06-01T12:00:00.1Z","evt_a":[1.5e+7,{"b":true}]},\n'
    '{"EventTargetText":"é💥\\ud83d\\ude00\\\\","Ratio":0.10,"Nested":{"":null},"evt_a":"x"}, '
    '{"PageStart":"","evt_n_ints":[1, 2],"evt_at_dates":["2024-02-29T00:00:00Z"]},{"Always":1e2}'
).encode()
BYTES = b'{}[]",:\\ \n\r01+-.eu\x1f\x80\xc3\xff'


def outcome(batch: Batch | None) -> tuple[int, list[Any], int | None, Tally] | None:
    if batch is None:
        return None
    return batch.events, records_of(batch), batch.malformed, batch.tally


@pytest.mark.parametrize("chosen", ["all columns", "few columns"])
@mock.patch("tap_fullstory.typed.MAX_LEARNED", 10)  # each one that is learned takes its time
def test_every_cut_and_every_byte_changed(chosen: str) -> None:
    with mock.patch.dict(os.environ, TAP_FULLSTORY_PURE_PYTHON="1"):
        typed = encoder(SELECTIONS[chosen])
    compiled, plain = encoder(SELECTIONS[chosen]), encoder(SELECTIONS[chosen])
    runs = {RICH}
    for at in range(len(RICH)):
        runs |= {RICH[:at], RICH[:at] + RICH[at + 1 :]}
        runs |= {RICH[:at] + bytes([byte]) + RICH[at + 1 :] for byte in BYTES}
    whole = 0
    for run in sorted(runs):
        expected = outcome(encode_plainly(plain, run))
        assert outcome(compiled.encode(run, FRAME)) == expected, run
        assert outcome(typed.encode(run, FRAME)) == expected, run
        whole += expected is not None and expected[2] is None
    assert whole > len(runs) / 5


# --- what is kept ---


def test_keys_are_learned_up_to_a_number_and_all_come_out() -> None:
    events = [
        json.dumps({f"evt_{n}_int": n for n in range(start, start + 100)}).encode()
        for start in range(0, 10_100, 100)
    ]
    encode = encoder()
    with mock.patch.object(encode, "_plain", wraps=encode._plain) as plain:
        for _ in range(2):
            batch = encode.encode(b",".join(events), FRAME)
            assert batch is not None
            assert batch.tally.unknown == Counter({f"evt_{n}_int": 1 for n in range(10_100)})
            assert records_of(batch) == [{"CustomVars": oracle.load(event)} for event in events]
        assert plain.call_count == 2  # for the last event, both times


def test_keys_that_begin_alike_in_the_same_place() -> None:
    """The scanner looks first for the key that came there last."""
    keys = (b"ab", b"abc", b"a", b"", b"abc", b"ab")
    events = [b'{"x":0,"%b":[1]}' % key for key in keys]
    lines = b"".join(b'{"CustomVars":%b}\n' % event for event in events)
    counts = {"x": 6, "ab": 2, "abc": 2, "a": 1, "": 1}
    assert road()(b",".join(events)) == (6, lines, counts)


def test_counts_are_of_one_run() -> None:
    lines = road()
    for run, counts in ((b'{"a":1},{"b":1,"a":1}', {"a": 2, "b": 1}), (b'{"b":1}', {"b": 1})):
        found = lines(run)
        assert found is not None
        assert found[2] == counts


def test_long_keys_are_not_learned() -> None:
    encode = encoder()
    with mock.patch.object(encode, "_plain", wraps=encode._plain) as plain:
        for length, calls in ((1000, 0), (1001, 2)):
            event = f'{{"{"k" * length}":[1]}}'.encode()
            for _ in range(2):
                batch = encode.encode(event, FRAME)
                assert records_of(batch) == [{"CustomVars": oracle.load(event)}]
            assert plain.call_count == calls


@pytest.mark.parametrize("as_text", [False, True])
def test_events_of_megabytes(as_text: bool) -> None:
    """Buffers grow for them, are given back after them, and hold what they should."""
    text = 'é\\"\\\\},{'.encode() * 300_000
    large = b'{"EventTargetText":"%b",\n"evt_a":["%b",\t1],"PageId":1}' % (text, text)
    small = b'{"PageId":2,"evt_a":"x"}'
    encode, plain = encoder(text_custom_vars=as_text), encoder(text_custom_vars=as_text)
    for run in (small, large, small + b"," + large + b"," + small, small):
        assert records_of(encode.encode(run, FRAME)) == records_of(encode_plainly(plain, run))


# --- calls to Python ---


def test_what_python_raises_comes_out_and_the_next_run_is_right() -> None:
    encode = encoder()
    run = b'{"evt_a":1,"PageId":1},{"evt_a":2,"PageId":2.0},{"evt_a":3}'
    for error in (KeyboardInterrupt, MemoryError, ValueError):
        with mock.patch.object(encode, "_plain", side_effect=error), pytest.raises(error):
            encode.encode(run, FRAME)
        assert outcome(encode.encode(run, FRAME)) == outcome(encode_plainly(encoder(), run))


def test_a_run_inside_a_run_is_refused() -> None:
    """It would write over the lines of the one around it."""
    lines = road(lambda event: (lines(b"{}") or (0, b"", {}))[1], Id=AT)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="another chunk"):
            lines(b'{"Id":"2026-06-01T12:00:00Z"},{"Id":5}')
    assert lines(b"{}") == (1, b"{}\n", {})


def test_only_bytes_or_none_may_come_from_python() -> None:
    assert road(lambda _: b"")(b'{"a":1,"a":2}') == (1, b"\n", {})
    assert road(lambda _: None)(b'{"a":1,"a":2}') is None
    with pytest.raises(TypeError):
        road(lambda _: "text")(b'{"a":1,"a":2}')  # type: ignore[arg-type, return-value]


# --- which road it is ---


def test_a_variable_of_the_environment_rules_the_compiled_road_out() -> None:
    for value, compiled in (("1", False), ("no", False), ("", True)):
        with mock.patch.dict(os.environ, TAP_FULLSTORY_PURE_PYTHON=value):
            assert isinstance(encoder()._road, native.NativeEncoder) is compiled


def test_the_command_writes_the_same_by_either_road_and_without_the_compiled_one(
    tmp_path: Path,
) -> None:
    not_compiled = tmp_path / "tap"
    not_compiled.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "sys.modules['tap_fullstory._native'] = None\n"  # as if there were no such file
        "from tap_fullstory import main, native\n"
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
