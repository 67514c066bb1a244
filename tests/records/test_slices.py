"""One event of megabytes is read in slices, and a signal is seen between any two of them.

Counted, not timed: `check` raises at its n-th call, wherever that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from encoders import ENVELOPE, encoded_by_reference, encoder, selection

from tap_fullstory.errors import Interrupted
from tap_fullstory.records import native
from tap_fullstory.records.encoder import RecordEncoder
from tap_fullstory.records.json_text import MAX_KEYS, SLICE_BYTES, decode_event, repair_surrogates
from tap_fullstory.records.reader import EventReader, Malformed

MEGABYTES = 4
SIZE = MEGABYTES * SLICE_BYTES


def filled(before: bytes, unit: bytes, after: bytes) -> bytes:
    return before + unit * (SIZE // len(unit)) + after


EVENTS = {
    "brackets": filled(b'{"evt_a":[', b"[],", b"[]]}"),
    "digits": filled(b'{"evt_a":', b"1", b"}"),
    "a decimal in an integer column": filled(b'{"PageId":1.', b"0", b"1}"),
    "text": filled(b'{"EventTargetText":"', "é".encode(), b'"}'),
    "text in a date-time column": filled(b'{"EventStart":"', b"x", b'"}'),
    "escapes": filled(b'{"EventTargetText":"', rb"\n", b'"}'),
    "half surrogate pairs": filled(b'{"EventTargetText":"', rb"\ud83d" + b"x" * 60, b'"}'),
    "a long key": filled(b'{"', b"x", b'":1}'),
    "one key over and over": filled(b"{", b'"evt_a":1,', b'"evt_a":1}'),
    "keys of an inner object": filled(b'{"evt_a":{', b'"k":1,', b'"k":1}}'),
}


class Checks:
    """Counts its calls, and raises Interrupted at the one with the number `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.calls, self.last = 0, last

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.last:
            raise Interrupted(15)


def read(event: bytes, check: Callable[[], None], *, compiled: bool) -> None:
    encode = RecordEncoder(selection(), text_custom_vars=False, digest=False, check=check)
    if not compiled:
        encode._native = None
    text = b"[%b]" % event
    blocks = (text[at : at + 65_536] for at in range(0, len(text), 65_536))
    reader = EventReader(blocks, partial(encode.encode, envelope=ENVELOPE), 10 * SIZE, check)
    assert sum(batch.events for batch, _ in reader) == 1


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "reference"])
@pytest.mark.parametrize("name", EVENTS)
def test_a_large_event_is_interrupted_wherever_a_signal_comes(name, compiled):
    """The blocks are counted, too: what comes after the last of them is the event as a whole."""
    if compiled and not native.is_available():
        pytest.skip("tap_fullstory/records/_native.c has not been compiled")
    blocks = SIZE // 65_536
    whole = Checks()
    read(EVENTS[name], whole, compiled=compiled)
    assert whole.calls > blocks + MEGABYTES
    for last in (blocks // 2, blocks + 2, (blocks + whole.calls) // 2, whole.calls):
        check = Checks(last)
        with pytest.raises(Interrupted):
            read(EVENTS[name], check, compiled=compiled)
        assert check.calls == last, "it went on after a signal"


@pytest.mark.parametrize("name", EVENTS)
def test_the_compiled_scanner_looks_at_signals_in_every_slice(name):
    if not native.is_available():
        pytest.skip("tap_fullstory/records/_native.c has not been compiled")
    check = Checks()
    assert native.object_end(EVENTS[name], 0, check) == len(EVENTS[name])
    assert check.calls >= MEGABYTES - 1
    check = Checks(MEGABYTES // 2)
    with pytest.raises(Interrupted):
        native.object_end(EVENTS[name], 0, check)


def test_a_scanner_that_was_interrupted_encodes_the_next_event():
    if not native.is_available():
        pytest.skip("tap_fullstory/records/_native.c has not been compiled")
    check = Checks(3)
    made = native.NativeEncoder(
        {}, frozenset(), lambda _: None, custom_vars=True, as_text=False, check=check
    )
    with pytest.raises(Interrupted):
        made.encode(EVENTS["brackets"], b"", b"")
    assert made.encode(b'{"a":1}', b"", b"") == (1, 7, b'{"CustomVars":{"a":1}}', {"a": 1}, 0)


def members(count: int, value: bytes = b"1") -> bytes:
    return b"{%b}" % b",".join(b'"k%d" : %b' % (number, value) for number in range(count))


def texts() -> Iterator[bytes]:
    yield members(60_000, b'{"a,":[1,",{"],"b":"\\""}')
    yield members(3, b'"%b"' % (rb"x,\"," * SLICE_BYTES))
    yield members(3, b"[%b]" % b",".join([b'{"x":1}'] * 200_000))
    yield b"{%b}" % (b" " * 3 * SLICE_BYTES)


@pytest.mark.parametrize("text", list(texts()), ids=["keys", "texts", "arrays", "blanks"])
def test_an_event_that_is_decoded_in_pieces_has_the_same_members(text):
    import msgspec

    expected = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    found = decode_event(text)
    assert {name: bytes(value) for name, value in found.items()} == {
        name: bytes(value) for name, value in expected.items()
    }


@pytest.mark.parametrize("spoilt", [b",", b"1", b'{"a":1},', b'"a"', b'"a":,'])
@pytest.mark.parametrize("where", [1, len(members(200_000)) // 2])
def test_what_is_not_valid_between_pieces_is_refused(spoilt, where):
    import msgspec

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
        read(members(MAX_KEYS + 1), lambda: None, compiled=compiled)


def test_many_backslashes_before_half_a_pair_take_linear_time():
    """A search that started over at each of them would not end."""
    text = b'"%b%b"' % (rb"\\" * SIZE, rb"\ud83d")
    assert repair_surrogates(text) == (b'"%b%b"' % (rb"\\" * SIZE, rb"\ufffd"), 1)


@pytest.mark.parametrize("shift", range(13))
def test_surrogates_where_slices_meet(shift):
    pair, half = rb"\ud83d\ude00", rb"\ud83d"
    before = b"x" * (SLICE_BYTES - shift)
    assert repair_surrogates(before + pair + b"y") == (before + pair + b"y", 0)
    for halves, count in ((half, 1), (rb"\ude00" + half, 2), (half + rb"\\ude00", 1)):
        repaired = halves.replace(half, rb"\ufffd").replace(rb"\ude00", rb"\ufffd")
        if rb"\\" in halves:
            repaired = rb"\ufffd" + rb"\\ude00"
        assert repair_surrogates(before + halves + pair) == (before + repaired + pair, count)
