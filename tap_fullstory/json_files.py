"""Files of the user: config, state and catalog, read from JSON within documented limits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from tap_fullstory.errors import UsageError, local_resource_error
from tap_fullstory.records.json_text import nesting_depth_exceeds
from tap_fullstory.signals import Signals

MAX_LEVELS = 100  # of objects and arrays within each other; the catalog has nine
MAX_DIGITS = 1000  # of a number: fewer than any Python refuses

_WHEN_EMPTY = {
    "config": 'Write the settings to it, such as {"api_key": "..."}.',
    "catalog": "Make one with --discover; a discovery that failed leaves an empty file behind.",
    "state": "A run that failed before its target had printed a state leaves such a file. If the "
    "target has stored no rows of that run, leave out --state to start from start_date; otherwise "
    "pass the last state that the target printed.",
}


class _NotAllowed(ValueError):
    """Raised with what makes valid JSON unusable."""


def read_json(path: str, name: str, signals: Signals) -> Any:
    """Return the decoded JSON of the file at `path`; `name` says whether it is config, state or
    catalog.

    Raises UsageError if it cannot be read, and as parse_json.
    """
    try:
        # It may be a pipe that somebody else still has to write to.
        content = signals.run_interruptibly(Path(path).read_bytes)
    except (OSError, ValueError) as error:  # a ValueError for a NUL in the path
        if local_resource_error(error) is not None:
            raise
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"The {name} file {path} cannot be read: {reason}.") from None
    return parse_json(content, name, path)


def parse_json(content: bytes, name: str, path: str) -> Any:
    """Return the decoded JSON of a file's `content`.

    Raises UsageError if it is not valid JSON in UTF-8, exceeds MAX_LEVELS or MAX_DIGITS, or holds
    text that cannot be written again.
    """
    what = f"The {name} file {path}"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{what} is not UTF-8, from byte {error.start} on. Save it as UTF-8."
        ) from None
    if not text.strip():
        raise UsageError(f"{what} is empty. {_WHEN_EMPTY[name]}")
    if nesting_depth_exceeds(content, MAX_LEVELS):
        raise UsageError(
            f"{what} is nested more than {MAX_LEVELS} levels deep, too deep for a {name}. "
            "Check that it is the right file."
        )
    try:
        value = json.loads(text, parse_int=_int, parse_float=_float, parse_constant=_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" at").rstrip(":")
        raise UsageError(
            f"{what} is not valid JSON: {reason} at line {error.lineno} column {error.colno}."
        ) from None
    except UnicodeEncodeError:
        raise UsageError(
            f"{what} contains a lone surrogate (an escape such as \\ud83d without its second "
            "half), which is not a character. Correct that text."
        ) from None
    except _NotAllowed as error:
        raise UsageError(f"{what} contains {error}. Correct that value.") from None
    return value


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _NotAllowed(f"a number of more than {MAX_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits) if len(digits) <= MAX_DIGITS else math.inf
    if math.isinf(value):
        raise _NotAllowed("a number that is too long or too large")
    return value


def _constant(name: str) -> NoReturn:
    raise _NotAllowed(f"{name}, which is not valid JSON")
