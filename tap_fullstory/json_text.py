"""JSON kept as text, in bytes: decoders that leave values undecoded, and the limit on nesting.

What stays undecoded goes out as it came: integers beyond 2^53, decimals, escapes and date-times.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate

import msgspec
from msgspec import Raw

# An object or array may lie within 499 others. FullStory's own go three levels deep. Decoders
# recurse, and what they do where Python's stack ends differs between its versions: so text is
# checked before they get it.
MAX_DEPTH = 500
WHITESPACE = b" \t\n\r"
# How much is scanned at a time: little at first, since most objects are small.
MIN_PIECE_BYTES, MAX_PIECE_BYTES = 1024, 64 * 1024

decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
decode_items = msgspec.json.Decoder(list[Raw]).decode
decode_string = msgspec.json.Decoder(str).decode
encode = msgspec.json.Encoder().encode

# What looks like one half of a surrogate pair, or two; an even number of backslashes before it are
# escaped backslashes.
_SURROGATES = re.compile(rb"(\\+)(u[Dd][89A-Fa-f][0-9A-Fa-f]{2})(\\u[Dd][C-Fc-f][0-9A-Fa-f]{2})?")
_HIGH = frozenset(b"89ABab")
_MARK = re.compile(rb'\\.|["{}\[\]]', re.DOTALL)
# Brackets as signed bytes: a level more, a level less.
_OPEN, _CLOSE = b"\x01", b"\xff"
_STEPS = bytes.maketrans(b"{[}]", 2 * _OPEN + 2 * _CLOSE)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{[}]"))


class NestedTooDeeply(ValueError):
    """Raised when JSON is nested deeper than MAX_DEPTH levels."""

    def __init__(self) -> None:
        super().__init__(f"nested deeper than {MAX_DEPTH} levels")


# What decoding raises: not valid JSON, a value of another type, not UTF-8, too deep.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, NestedTooDeeply)


def check_depth(text: bytes) -> None:
    """Raise NestedTooDeeply if `text` has more than MAX_DEPTH levels of objects and arrays.

    To be called before anything that recurses decodes text from outside.
    """
    if nesting_depth_exceeds(text, MAX_DEPTH):
        raise NestedTooDeeply


def nesting_depth_exceeds(
    text: bytes, limit: int, check: Callable[[], None] = lambda: None
) -> bool:
    """Return whether `text` opens more than `limit` objects and arrays within each other.

    Looks at text that is not valid JSON at least as far as a decoder does. `check` is called all
    along, and may raise.
    """
    if text.count(b"{") + text.count(b"[") <= limit:
        return False
    scanner = NestingScanner(limit=limit)
    try:
        scanner.scan(text, check)
    except NestedTooDeeply:
        return True
    return False


class NestingScanner:
    """Follows the brackets outside strings through JSON text, which may grow between calls.

    Every byte is looked at once, a piece at a time by the methods of bytes; only the piece in which
    an object ends is walked through bracket by bracket.
    """

    def __init__(self, start: int = 0, limit: int = MAX_DEPTH) -> None:
        self._position = start
        self._limit = limit
        self._depth = 0
        self._in_string = False
        self._piece_bytes = MIN_PIECE_BYTES

    def scan(self, text: bytes, check: Callable[[], None] = lambda: None) -> None:
        """Go on to the end of `text`, with `check` between pieces.

        Raises NestedTooDeeply if the limit is exceeded.
        """
        while piece := self._piece(text):
            check()
            self._take(piece, *_outside_strings(piece, self._in_string))

    def object_end(self, text: bytes, check: Callable[[], None] = lambda: None) -> int | None:
        """Return where the object ends at whose start scanning began; None if it has not ended in
        `text`, which may then be given again with more after it.

        `check` is called between pieces. Raises NestedTooDeeply if the object exceeds the limit.
        """
        while piece := self._piece(text):
            check()
            steps, in_string = _outside_strings(piece, self._in_string)
            if self._depth <= steps.count(_CLOSE):
                depths = list(accumulate(memoryview(steps).cast("b"), initial=self._depth))
                if 0 in depths[1:]:
                    brackets = depths.index(0, 1)
                    self._check_limit(steps[:brackets])
                    return self._position + _end_of_bracket(piece, self._in_string, brackets)
            self._take(piece, steps, in_string)
        return None

    def _piece(self, text: bytes) -> bytes:
        piece = text[self._position : self._position + self._piece_bytes]
        half_escape = (len(piece) - len(piece.rstrip(b"\\"))) % 2
        return piece[:-1] if half_escape else piece

    def _take(self, piece: bytes, steps: bytes, in_string: bool) -> None:
        self._check_limit(steps)
        self._depth += steps.count(_OPEN) - steps.count(_CLOSE)
        self._in_string = in_string
        self._position += len(piece)
        self._piece_bytes = min(2 * self._piece_bytes, MAX_PIECE_BYTES)

    def _check_limit(self, steps: bytes) -> None:
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
        elif not in_string and not mark[0].startswith(b"\\"):
            number -= 1
            if not number:
                return mark.end()
    raise AssertionError("fewer brackets than were counted")


def repair_surrogates(json_text: bytes) -> tuple[bytes, int]:
    """Return JSON with every half surrogate pair, written as an escape, turned into U+FFFD, and how
    many there were.

    FullStory cuts long texts, and cuts pairs with them. The length stays as it was.
    """
    repairs = 0

    def repair(match: re.Match[bytes]) -> bytes:
        nonlocal repairs
        backslashes, first, second = match.groups(b"")
        is_escape = len(backslashes) % 2 == 1
        if is_escape and second and first[2] in _HIGH:
            return match[0]
        repairs += is_escape + bool(second)
        return backslashes + (b"ufffd" if is_escape else first) + (rb"\ufffd" if second else b"")

    return _SURROGATES.sub(repair, json_text), repairs


def without_line_breaks(json_text: bytes) -> bytes:
    """Return the same JSON on one line: JSON strings hold no raw line breaks."""
    return json_text.translate(None, b"\r\n")


def needs_no_escape(text: str) -> bool:
    """Return whether a JSON string of `text` may hold it as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return not any(character in '"\\' or character < " " for character in text)
