"""The digest of an event as FullStory sent it: a key for targets that upsert."""

from __future__ import annotations

import hashlib

import msgspec

from tap_fullstory.catalog import EVENT_DIGEST
from tap_fullstory.records.json_text import DECODE_ERRORS, WHITESPACE


def event_digest(event: bytes) -> str:
    """Return BLAKE2b-128, in hexadecimal, of an event without the whitespace between its tokens."""
    try:
        compact = msgspec.json.format(event, indent=-1)
    except DECODE_ERRORS:  # half a surrogate pair, which counts as it came
        compact = _without_whitespace(event)
    return hashlib.blake2b(compact, digest_size=16).hexdigest()


def _without_whitespace(json_text: bytes) -> bytes:
    """Return the same JSON without whitespace between tokens, all tokens as they are spelled."""
    # Without escapes each quote begins or ends a string; raw control characters are not in JSON.
    parts = json_text.replace(rb"\\", b"\x00").replace(rb"\"", b"\x01").split(b'"')
    parts[::2] = [part.translate(None, WHITESPACE) for part in parts[::2]]
    return b'"'.join(parts).replace(b"\x01", rb"\"").replace(b"\x00", rb"\\")


def digest_member(event: bytes) -> bytes:
    """Return the member of a record that holds the digest of `event`."""
    return f'"{EVENT_DIGEST}":"{event_digest(event)}"'.encode()
