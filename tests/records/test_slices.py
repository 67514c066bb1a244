"""One event of megabytes is read in slices, and signals are handled between any two of them."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import msgspec
import pytest
from encoders import ENVELOPE, encoded_by_reference, encoder, selection
from hypothesis import given
from hypothesis import strategies as st

from tap_fullstory.errors import Interrupted
from tap_fullstory.fields import FieldRules
from tap_fullstory.records import json_text, native
from tap_fullstory.records.digest import event_digest
from tap_fullstory.records.encoder import RecordEncoder
from tap_fullstory.records.json_text import (
    MAX_KEYS,
    SLICE_BYTES,
    decode_event,
    decode_string,
    repair_surrogates,
    text_slices,
)
from tap_fullstory.records.reader import EventReader, Malformed

MEGABYTES = 4
SIZE = MEGABYTES * SLICE_BYTES


# What an event begins with, what fills it, and what it ends with.
PARTS = {
    "brackets": (b'{"evt_a":[', b"[],", b"[]]}"),
    "digits": (b'{"evt_a":', b"1", b"}"),
    "a decimal in an integer column": (b'{"PageId":1.', b"0", b"1}"),
    "text": (b'{"EventTargetText":"', "é".encode(), b'"}'),
    "text in a date-time column": (b'{"EventStart":"', b"x", b'"}'),
    "escapes": (b'{"EventTargetText":"', rb"\n", b'"}'),
    "lone surrogates": (b'{"EventTargetText":"', rb"\ud83d" + b"x" * 60, b'"}'),
    "a long key": (b'{"', b"x", b'":1}'),
    "one key over and over": (b"{", b'"evt_a":1,', b'"evt_a":1}'),
    "keys of an inner object": (b'{"evt_a":{', b'"k":1,', b'"k":1}}'),
}


def large(name: str, size: int) -> bytes:
    before, unit, after = PARTS[name]
    return before + unit * (size // len(unit)) + after


EVENTS = {name: large(name, SIZE) for name in PARTS}


class Ticks:
    """Handles a signal that comes every millisecond: counts them, and raises Interrupted at the one
    with the number `last`.
    """

    def __init__(self, last: int | None = None) -> None:
        self.handled, self.last = 0, last

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.handled += 1
        if self.handled == self.last:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interrupted(number)

    @contextmanager
    def coming(self) -> Iterator[None]:
        # Garbage is not collected meanwhile, as in a sync: Hypothesis has a callback for it, and
        # what is raised in that is lost.
        gc.disable()
        before = signal.signal(signal.SIGALRM, self)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.enable()


def read(event: bytes, *, compiled: bool) -> None:
    encode = RecordEncoder(selection(), text_custom_vars=False, digest=False)
    if not compiled:
        encode._native = None
    text = b"[%b]" % event
    blocks = (text[at : at + 65_536] for at in range(0, len(text), 65_536))
    reader = EventReader(blocks, partial(encode.encode, envelope=ENVELOPE), 10 * SIZE)
    assert sum(batch.events for batch, _ in reader) == 1


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "reference"])
@pytest.mark.parametrize("name", EVENTS)
def test_signal_while_a_large_event_is_read_ends_the_reading(name, compiled):
    if compiled and not native.is_available():
        pytest.skip("tap_fullstory/records/_native.c has not been compiled")
    for last in (1, 4):
        with pytest.raises(Interrupted), Ticks(last).coming():
            read(EVENTS[name], compiled=compiled)


def assert_signals_are_handled(call: Callable[[bytes], object], text: bytes) -> None:
    """Assert that `call` lets signals be handled before it returns: those that come during a call
    that does not are one signal, handled after it.
    """
    ticks = Ticks()
    with ticks.coming():
        call(text)
    assert ticks.handled > 2
    with pytest.raises(Interrupted), Ticks(2).coming():
        call(text)


@pytest.mark.parametrize("name", EVENTS)
def test_c_extension_handles_signals_within_an_object(name):
    if not native.is_available():
        pytest.skip("tap_fullstory/records/_native.c has not been compiled")
    assert_signals_are_handled(lambda text: native.object_end(text, 0), large(name, 10 * SIZE))


@pytest.mark.parametrize("name", ["brackets", "digits", "text", "escapes", "a long key"])
def test_scanner_that_was_interrupted_encodes_the_next_event(name):
    if not native.is_available():
        pytest.skip("tap_fullstory/records/_native.c has not been compiled")
    made = native.NativeEncoder({}, frozenset(), lambda _: None, custom_vars=True, as_text=False)
    assert_signals_are_handled(lambda text: made.encode(text, b"", b""), large(name, 10 * SIZE))
    assert made.encode(b'{"a":1}', b"", b"") == (1, 7, b'{"CustomVars":{"a":1}}', {"a": 1}, 0)


def test_large_event_is_decoded_in_pieces(monkeypatch):
    """A signal cannot interrupt a call of the decoder."""
    sizes = []

    def decode_members(text: bytes) -> dict[str, msgspec.Raw]:
        sizes.append(len(text))
        return original(text)

    original = json_text.decode_members
    monkeypatch.setattr(json_text, "decode_members", decode_members)
    decode_event(EVENTS["one key over and over"])
    assert len(sizes) >= MEGABYTES
    assert max(sizes) < 2 * SLICE_BYTES


def members(count: int, value: bytes = b"1") -> bytes:
    return b"{%b}" % b",".join(b'"k%d" : %b' % (number, value) for number in range(count))


def texts() -> Iterator[bytes]:
    yield members(60_000, b'{"a,":[1,",{"],"b":"\\""}')
    yield members(3, b'"%b"' % (rb"x,\"," * (SLICE_BYTES // 2)))
    yield members(3, b"[%b]" % b",".join([b'{"x":1}'] * 200_000))
    yield b"{%b}" % (b" " * 3 * SLICE_BYTES)


@pytest.mark.parametrize("text", list(texts()), ids=["keys", "texts", "arrays", "whitespace"])
def test_an_event_that_is_decoded_in_pieces_has_the_same_members(text):
    expected = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    found = decode_event(text)
    assert {name: bytes(value) for name, value in found.items()} == {
        name: bytes(value) for name, value in expected.items()
    }


@pytest.mark.parametrize("spoilt", [b",", b"1", b'{"a":1},', b'"a"', b'"a":,'])
@pytest.mark.parametrize("where", [1, len(members(200_000)) // 2])
def test_what_is_not_valid_between_pieces_is_refused(spoilt, where):
    text = members(90_000, b'"0123456789"')
    at = 1 if where == 1 else text.index(b",", len(text) // 2) + 1
    with pytest.raises(msgspec.MsgspecError):
        decode_event(text[:at] + spoilt + b" " * 2 * SLICE_BYTES + text[at:])


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "reference"])
def test_the_limit_of_keys(compiled):
    encode = encoder()
    run = encoded_by_reference if not compiled else lambda e, c: next(e.encode(c, ENVELOPE), None)
    batch = run(encode, members(MAX_KEYS))
    assert batch is not None
    assert batch.stats.undeclared.total() == MAX_KEYS
    with pytest.raises(Malformed, match="or has more than 100000 keys"):
        read(members(MAX_KEYS + 1), compiled=compiled)


def test_many_backslashes_before_a_lone_surrogate_take_linear_time():
    """A search that started over at each of them would not end."""
    text = b'"%b%b"' % (rb"\\" * SIZE, rb"\ud83d")
    assert repair_surrogates(text) == (b'"%b%b"' % (rb"\\" * SIZE, rb"\ufffd"), 1)


@pytest.mark.parametrize("shift", range(13))
def test_surrogates_where_slices_meet(shift):
    pair, half = rb"\ud83d\ude00", rb"\ud83d"
    before = b"x" * (SLICE_BYTES - shift)
    assert repair_surrogates(before + pair + b"y") == (before + pair + b"y", 0)
    for surrogates, count in ((half, 1), (rb"\ude00" + half, 2), (half + rb"\\ude00", 1)):
        repaired = surrogates.replace(half, rb"\ufffd").replace(rb"\ude00", rb"\ufffd")
        if rb"\\" in surrogates:
            repaired = rb"\ufffd" + rb"\\ude00"
        assert repair_surrogates(before + surrogates + pair) == (before + repaired + pair, count)


TEXTS = st.lists(
    st.sampled_from(
        [r"\\", r"\"", r"\n", r"\ud83d\ude00", r"\ud83d", r"\ude00", "é", "😀", "ud83d", "x" * 13]
    ),
    max_size=60,
).map("".join)


@given(TEXTS)
def test_slices_of_text_end_between_characters_and_escapes(text):
    slices = list(text_slices(text.encode(), 40))
    assert b"".join(slices) == text.encode()
    assert all(len(piece) <= 40 for piece in slices)
    repaired = [repair_surrogates(piece) for piece in slices]
    together = repair_surrogates(text.encode())
    assert (b"".join(piece for piece, _ in repaired), sum(n for _, n in repaired)) == together
    for piece, _ in repaired:
        decode_string(b'"%b"' % piece)


# Without those that have a lone surrogate, or a key twice.
@pytest.mark.parametrize("name", ["brackets", "digits", "text", "escapes", "a long key"])
def test_a_large_event_has_the_digest_and_hash_that_it_would_have_if_it_were_small(
    name, monkeypatch
):
    event = large(name, 3 * SLICE_BYTES)
    rules = FieldRules(["events"], (), "k" * 16)
    found = event_digest(event), rules.hash(event)
    monkeypatch.setattr("tap_fullstory.records.digest.SLICE_BYTES", len(event))
    monkeypatch.setattr("tap_fullstory.fields.MAX_DECODED_BYTES", len(event))
    assert found == (event_digest(event), rules.hash(event))
