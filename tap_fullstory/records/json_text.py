"""JSON kept as text, in bytes: decoders that leave values undecoded, and the limit on nesting.

What stays undecoded goes out as it came: integers beyond 2^53, decimals, escapes and date-times.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import accumulate, chain

import msgspec
from msgspec import Raw

# An object or array may be inside 499 others. FullStory's own go three levels deep. Decoders
# recurse, and what they do where Python's stack ends differs between its versions: so text is
# checked before they get it.
MAX_DEPTH = 500
WHITESPACE = b" \t\n\r"
# How much is scanned at a time: little at first, since most objects are small.
MIN_PIECE_BYTES, MAX_PIECE_BYTES = 1024, 64 * 1024
# An object of more is decoded in pieces of about this size, so that a signal is seen in between.
SLICE_BYTES = 1024 * 1024
# JSON text that is made here may be a bytearray, which need not be copied.
JsonText = bytes | bytearray
ITEMS_SLICE_BYTES = 64 * 1024  # of an array
# An event has some hundred keys at most. With millions, each an object of Python's, it would take a
# multiple of its size in memory, and seconds to free.
MAX_KEYS = 100_000

decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
decode_items = msgspec.json.Decoder(list[Raw]).decode
decode_raw = msgspec.json.Decoder(Raw).decode
decode_string = msgspec.json.Decoder(str).decode
encode = msgspec.json.Encoder().encode

_QUOTE, _BACKSLASH = b'"\\'
_SCALAR = re.compile(rb"[^,\]} \t\n\r]+")
# A surrogate pair, or a lone surrogate, where escaped backslashes are masked.
_SURROGATES = re.compile(
    rb"\\u[Dd](?:[89ABab][0-9A-Fa-f]{2}(\\u[Dd][C-Fc-f][0-9A-Fa-f]{2})|[89A-Fa-f][0-9A-Fa-f]{2})"
)
_PAIR = re.compile(rb"\\u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}")
_PAIR_BYTES = 12
_NUL_ESCAPE = rb"\u0000"
_NUL = re.compile(re.escape(_NUL_ESCAPE))
_REPLACEMENT = rb"\ufffd"
_STEP = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_MARK = re.compile(rb'\\.|["{}\[\],]', re.DOTALL)
# Brackets as signed bytes: a level more, a level less.
_OPEN, _CLOSE = b"\x01", b"\xff"
_STEPS = bytes.maketrans(b"{[}]", 2 * _OPEN + 2 * _CLOSE)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{[}]"))


class NestedTooDeeply(ValueError):
    """Raised when JSON is nested deeper than MAX_DEPTH levels."""

    def __init__(self) -> None:
        super().__init__(f"nested deeper than {MAX_DEPTH} levels")


class TooManyKeys(ValueError):
    """Raised when an event has more than MAX_KEYS keys."""


# What decoding raises: not valid JSON, a value of another type, not UTF-8, too deep, too many keys.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, NestedTooDeeply, TooManyKeys)


def require_depth(text: bytes) -> None:
    """Raise NestedTooDeeply if `text` has more than MAX_DEPTH levels of objects and arrays.

    To be called before anything that recurses decodes text from outside.
    """
    if nesting_depth_exceeds(text, MAX_DEPTH):
        raise NestedTooDeeply


def nesting_depth_exceeds(text: bytes, limit: int) -> bool:
    """Return whether `text` opens more than `limit` objects and arrays within each other.

    Reads text that is not valid JSON at least as far as a decoder does.
    """
    if text.count(b"{") + text.count(b"[") <= limit:
        return False
    scanner = NestingScanner(limit=limit)
    try:
        scanner.scan(text)
    except NestedTooDeeply:
        return True
    return False


class NestingScanner:
    """Follows the brackets outside strings through JSON text, which may grow between calls.

    Every byte is read once, a piece at a time by the methods of bytes; only the piece in which an
    object ends is read bracket by bracket.
    """

    def __init__(self, start: int = 0, limit: int = MAX_DEPTH) -> None:
        self._position = start
        self._limit = limit
        self._depth = 0
        self._in_string = False
        self._piece_bytes = MIN_PIECE_BYTES

    def scan(self, text: bytes) -> None:
        """Continue to the end of `text`. Raises NestedTooDeeply if the limit is exceeded."""
        while piece := self._piece(text):
            self._take(piece, *_outside_strings(piece, self._in_string))

    def object_end(self, text: bytes) -> int | None:
        """Return where the object ends at whose start scanning began; None if it has not ended in
        `text`, which may then be given again with more after it.

        Raises NestedTooDeeply if the object exceeds the limit.
        """
        while piece := self._piece(text):
            steps, in_string = _outside_strings(piece, self._in_string)
            if self._depth <= steps.count(_CLOSE):
                depths = list(accumulate(memoryview(steps).cast("b"), initial=self._depth))
                if 0 in depths[1:]:
                    brackets = depths.index(0, 1)
                    self._require_limit(steps[:brackets])
                    return self._position + _end_of_bracket(piece, self._in_string, brackets)
            self._take(piece, steps, in_string)
        return None

    def commas(self, text: bytes, slice_bytes: int = SLICE_BYTES) -> Iterator[int]:
        """Yield the offsets of commas between members of the object, or items of the array, at
        whose start scanning began: not all of them, but the first that comes `slice_bytes` after
        the one before.

        Raises NestedTooDeeply if the object exceeds the limit.
        """
        last = self._position
        while piece := self._piece(text):
            steps, in_string = _outside_strings(piece, self._in_string)
            if self._position - last >= slice_bytes and self._has_top_level(steps):
                comma = _top_level_comma(piece, self._in_string, self._depth)
                if comma is not None:
                    last = self._position + comma
                    yield last
            self._take(piece, steps, in_string)

    def _has_top_level(self, steps: bytes) -> bool:
        if self._depth - steps.count(_CLOSE) > 1:
            return False
        return 1 in accumulate(memoryview(steps).cast("b"), initial=self._depth)

    def _piece(self, text: bytes) -> bytes:
        piece = text[self._position : self._position + self._piece_bytes]
        half_escape = (len(piece) - len(piece.rstrip(b"\\"))) % 2
        return piece[:-1] if half_escape else piece

    def _take(self, piece: bytes, steps: bytes, in_string: bool) -> None:
        self._require_limit(steps)
        self._depth += steps.count(_OPEN) - steps.count(_CLOSE)
        self._in_string = in_string
        self._position += len(piece)
        self._piece_bytes = min(2 * self._piece_bytes, MAX_PIECE_BYTES)

    def _require_limit(self, steps: bytes) -> None:
        if self._depth + steps.count(_OPEN) <= self._limit:
            return
        if max(accumulate(memoryview(steps).cast("b"), initial=self._depth)) > self._limit:
            raise NestedTooDeeply


def _outside_strings(piece: bytes, in_string: bool) -> tuple[bytes, bool]:
    """Return the brackets outside strings, each as a step, and whether `piece` ends in a string."""
    if b"\\" in piece:
        piece = piece.replace(rb"\\", b"").replace(rb"\"", b"")
    parts = piece.split(b'"')
    steps = b"".join(parts[in_string::2]).translate(_STEPS, _NOT_BRACKETS)
    return steps, in_string ^ (len(parts) % 2 == 0)


def _end_of_bracket(piece: bytes, in_string: bool, number: int) -> int:
    """Return the offset after the bracket of this number outside strings."""
    for mark in _MARK.finditer(piece):
        if mark[0] == b'"':
            in_string = not in_string
        elif not in_string and mark[0] in _STEP:
            number -= 1
            if not number:
                return mark.end()
    raise AssertionError("fewer brackets than were counted")


def _top_level_comma(piece: bytes, in_string: bool, depth: int) -> int | None:
    """Return the offset of the first comma outside strings at depth 1; None if there is none."""
    for mark in _MARK.finditer(piece):
        if mark[0] == b'"':
            in_string = not in_string
        elif not in_string:
            depth += _STEP.get(mark[0], 0)
            if depth == 1 and mark[0] == b",":
                return mark.start()
    return None


def iter_items(array: bytes) -> Iterator[bytes]:
    """Yield the items of a JSON array, which is valid and has no whitespace around it.

    A large one is decoded in slices: each item is an object of Python's, which takes many times the
    bytes of a small one.
    """
    if len(array) <= ITEMS_SLICE_BYTES:
        yield from map(bytes, decode_items(array))
        return
    start = 1
    for end in chain(NestingScanner().commas(array, ITEMS_SLICE_BYTES), [len(array) - 1]):
        yield from map(bytes, decode_items(b"[%b]" % array[start:end]))
        start = end + 1


def closed(parts: bytearray, bracket: bytes) -> JsonText:
    """Return the object or array that begins as `parts`, in which a comma follows each member.

    It is `parts`, changed: a copy of a large one would double the memory that it takes.
    """
    if len(parts) > 1:
        parts[-1:] = bracket
    else:
        parts += bracket
    return parts


def decode_event(text: bytes) -> dict[str, Raw]:
    """Return the members of an event, which is not nested too deeply; of duplicate keys the last.

    A large one is decoded in pieces, since a signal cannot interrupt a call of msgspec. Raises one
    of DECODE_ERRORS if `text` is not an object, has more than MAX_KEYS keys, or is not UTF-8:
    msgspec does not check that in values that it leaves raw.
    """
    if not text.isascii():
        decoder = codecs.getincrementaldecoder("utf-8")()
        for at in range(0, len(text) + 1, SLICE_BYTES):  # a str of it all takes up to four times it
            decoder.decode(text[at : at + SLICE_BYTES], at + SLICE_BYTES > len(text))
    is_large = len(text) > SLICE_BYTES and text.startswith(b"{")
    commas = list(NestingScanner().commas(text)) if is_large else []
    if not commas:
        members = decode_members(text)
    else:
        members, start, pieces, empty = {}, 1, 0, False
        for end in (*commas, len(text) - 1):
            piece = decode_members(b"{%b}" % text[start:end])
            members.update(piece)
            pieces, empty, start = pieces + 1, empty or not piece, end + 1
            if len(members) > MAX_KEYS:
                break
        if empty and pieces > 1:
            raise msgspec.DecodeError("a comma without a member")
    if len(members) > MAX_KEYS:
        raise TooManyKeys
    return members


def string_end(text: bytes, start: int) -> int:
    """Return the offset after the JSON string that begins at `start`."""
    end = start
    while True:
        end = text.index(b'"', end + 1)
        backslashes = 0
        while text[end - 1 - backslashes] == _BACKSLASH:
            backslashes += 1
        if backslashes % 2 == 0:
            return end + 1


def value_end(text: bytes, start: int) -> int:
    """Return the offset after the valid JSON value that begins at `start`."""
    first = text[start]
    if first == _QUOTE:
        return string_end(text, start)
    if first in b"{[":
        return NestingScanner(start).object_end(text)  # type: ignore[return-value]
    return _SCALAR.match(text, start).end()  # type: ignore[union-attr]


def text_slices(text: bytes, slice_bytes: int = SLICE_BYTES) -> Iterator[bytes]:
    """Yield JSON, or what is inside a JSON string, in slices of about `slice_bytes`, none of which
    ends inside a character or an escape; a surrogate pair is one.
    """
    start = 0
    while start < len(text):
        end = _cut(text, start, start + slice_bytes)
        yield text[start:end]
        start = end


def _cut(text: bytes, start: int, end: int) -> int:
    """Return a place at `end` or some bytes before it that is between two characters."""
    if end >= len(text):
        return len(text)
    for _ in range(3):
        if text[end] & 0xC0 == 0x80:  # the second to fourth byte of a character in UTF-8
            end -= 1
    first = text.find(b"\\", end - _PAIR_BYTES + 1, end)
    if first < 0:
        return end
    end = first if _begins_escape(text, start, first) else first + 1
    half = end - _PAIR_BYTES // 2
    if _PAIR.match(text, half) and _begins_escape(text, start, half):
        return half
    return end


def _begins_escape(text: bytes, start: int, at: int) -> bool:
    """Return whether the backslash at `at` begins an escape, rather than being escaped itself."""
    before = text[start : at + 1]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def repair_surrogates(json_text: bytes) -> tuple[bytes, int]:
    """Return JSON with every lone surrogate, written as an escape, turned into U+FFFD, and how many
    there were.

    FullStory cuts long texts, and cuts pairs with them. The length stays as it was.
    """
    if rb"\ud" not in json_text and rb"\uD" not in json_text:
        return json_text, 0
    return _replace_escapes(json_text, _SURROGATES)


def replace_nul(json_text: bytes) -> tuple[bytes, int]:
    """Return JSON with every U+0000 turned into U+FFFD, and how many there were.

    In JSON, U+0000 is always an escape. The rest is as repair_surrogates has it.
    """
    return _replace_escapes(json_text, _NUL) if _NUL_ESCAPE in json_text else (json_text, 0)


def _replace_escapes(json_text: bytes, pattern: re.Pattern[bytes]) -> tuple[bytes, int]:
    repaired: BytesIO | None = None
    repairs = start = 0
    for piece in text_slices(json_text):
        # Masked, so that every backslash that is left begins an escape, however many there are.
        for match in pattern.finditer(piece.replace(rb"\\", b"\0\0")):
            if not match.lastindex:  # a whole pair stays
                if repaired is None:
                    repaired = BytesIO(json_text)  # copies when it is first written to
                repaired.seek(start + match.start())
                repaired.write(_REPLACEMENT)
                repairs += 1
        start += len(piece)
    return (json_text if repaired is None else repaired.getvalue()), repairs


def without_line_breaks(json_text: bytes) -> bytes:
    """Return the same JSON on one line: JSON strings hold no raw line breaks."""
    return json_text.translate(None, b"\r\n")


def quoted(json_text: bytes) -> bytes:
    """Return the JSON string of JSON, on one line; no other characters of it need escapes."""
    return b"".join(quoted_pieces([json_text]))


def quoted_pieces(parts: Iterable[JsonText]) -> Iterator[bytes]:
    """Yield the pieces of the JSON string of JSON that comes in parts."""
    yield b'"'
    for part in parts:
        for start in range(0, len(part), SLICE_BYTES):
            text = bytes(part[start : start + SLICE_BYTES]).translate(None, b"\r\n")
            text = text.replace(b"\\", rb"\\").replace(b'"', rb"\"")
            yield text.replace(b"\t", rb"\t")
    yield b'"'


def needs_no_escape(text: str) -> bool:
    """Return whether a JSON string of `text` may hold it as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return not any(character in '"\\' or character < " " for character in text)
