"""The digest of an event as FullStory sent it: a key for targets that upsert.

Where values are excluded or hashed, it is keyed: without a key, anyone who has the row can guess
such a value, and compare the digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from tap_fullstory.catalog import EVENT_DIGEST
from tap_fullstory.records.json_text import (
    DECODE_ERRORS,
    SLICE_BYTES,
    WHITESPACE,
    text_slices,
)
from tap_fullstory.settings import Config

_SLICE_BYTES = 64 * 1024  # of a large event: what is between two quotes becomes a Python object


def event_digest(event: bytes, key: bytes = b"") -> str:
    """Return BLAKE2b-128, in hexadecimal, of an event without the whitespace between its tokens,
    under `key` if there is one.
    """
    digest = hashlib.blake2b(digest_size=16, key=key)
    for piece in _compact(event):
        digest.update(piece)
    return digest.hexdigest()


def digest_key(config: Config) -> bytes:
    """Return the key of the digests of a run; empty if it leaves no values out."""
    if not (config.exclude_fields or config.hash_fields):
        return b""
    key = (config.hash_key or "").encode()
    # BLAKE2b takes up to 64 bytes; a longer key is hashed, as HMAC does it (RFC 2104, section 2).
    return key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()


def _compact(json_text: bytes) -> Iterator[bytes]:
    """Yield the pieces of JSON without whitespace between tokens; tokens stay as they came."""
    if len(json_text) <= SLICE_BYTES:
        with suppress(*DECODE_ERRORS):  # a lone surrogate, which is not valid for msgspec
            yield msgspec.json.format(json_text, indent=-1)
            return
    in_string = False
    for piece in text_slices(json_text, _SLICE_BYTES):
        # Without escapes each quote begins or ends a string; control characters are not in JSON.
        parts = piece.replace(rb"\\", b"\x00").replace(rb"\"", b"\x01").split(b'"')
        outside = slice(int(in_string), None, 2)
        parts[outside] = [part.translate(None, WHITESPACE) for part in parts[outside]]
        yield b'"'.join(parts).replace(b"\x01", rb"\"").replace(b"\x00", rb"\\")
        in_string ^= len(parts) % 2 == 0


def digest_member(event: bytes, key: bytes) -> bytes:
    """Return the member of a record that holds the digest of `event` under `key`."""
    return f'"{EVENT_DIGEST}":"{event_digest(event, key)}"'.encode()
