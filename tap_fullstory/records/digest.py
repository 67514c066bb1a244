"""The digest of an event as FullStory sent it: a key for targets that upsert.

Where values are excluded or hashed, it is keyed: without a key, anyone who has the row can guess
such a value, and compare the digest.
"""

from __future__ import annotations

import hashlib

import msgspec

from tap_fullstory.catalog import EVENT_DIGEST
from tap_fullstory.records.json_text import DECODE_ERRORS, WHITESPACE
from tap_fullstory.settings import Config


def event_digest(event: bytes, key: bytes = b"") -> str:
    """Return BLAKE2b-128, in hexadecimal, of an event without the whitespace between its tokens,
    under `key` if there is one.
    """
    try:
        compact = msgspec.json.format(event, indent=-1)
    except DECODE_ERRORS:  # a lone surrogate, which counts as it came
        compact = _without_whitespace(event)
    return hashlib.blake2b(compact, digest_size=16, key=key).hexdigest()


def digest_key(config: Config) -> bytes:
    """Return the key of the digests of a run; empty if it leaves no values out."""
    if not (config.exclude_fields or config.hash_fields):
        return b""
    key = (config.hash_key or "").encode()
    # BLAKE2b takes up to 64 bytes; a longer key is hashed, as HMAC does it (RFC 2104, section 2).
    return key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()


def _without_whitespace(json_text: bytes) -> bytes:
    """Return the same JSON without whitespace between tokens, all tokens as they are spelled."""
    # Without escapes each quote begins or ends a string; raw control characters are not in JSON.
    parts = json_text.replace(rb"\\", b"\x00").replace(rb"\"", b"\x01").split(b'"')
    parts[::2] = [part.translate(None, WHITESPACE) for part in parts[::2]]
    return b'"'.join(parts).replace(b"\x01", rb"\"").replace(b"\x00", rb"\\")


def digest_member(event: bytes, key: bytes) -> bytes:
    """Return the member of a record that holds the digest of `event` under `key`."""
    return f'"{EVENT_DIGEST}":"{event_digest(event, key)}"'.encode()
