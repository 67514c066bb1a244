"""Names of columns that databases cannot have."""

from __future__ import annotations

import logging
from collections.abc import Iterable

LOGGER = logging.getLogger(__name__)

# Of an identifier of PostgreSQL (its manual, "Identifiers and Key Words"), which cuts longer ones
# short, while loaders look for the whole name, and load nothing. FullStory allows 512 characters.
MAX_NAME_BYTES = 63
MAX_NAMED, MAX_SHOWN = 10, 100  # names in one warning, characters of each


def warn_of_long_names(stream: str, names: Iterable[str]) -> None:
    """Log a WARNING for columns of a stream whose names PostgreSQL cannot have."""
    found = sorted(name for name in names if len(name.encode()) > MAX_NAME_BYTES)
    if not found:
        return
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    LOGGER.warning(
        "%s: the names of %s%s are longer than %d bytes, the most that PostgreSQL allows a column. "
        "If the rows go there, remove these from the catalog, and from custom_columns in the "
        "config: they are in CustomVars then",
        stream, ", ".join(name[:MAX_SHOWN] for name in found[:MAX_NAMED]), more, MAX_NAME_BYTES,
    )  # fmt: skip
