"""What a Meltano project selects, as Meltano tells its plugins.

Meltano writes its rules into the catalog, and there only where the catalog lists a property. A rule
for a custom variable that the newest bundle happens to lack is lost there. The same rules are in
the environment that Meltano gives to the tap (docs.meltano.com/guide/integration, "Pipeline
environment variables"; extras, of which `select` is one, follow two underscores).
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tap_fullstory.columns import is_custom, property_schema
from tap_fullstory.errors import UsageError
from tap_fullstory.fields import MELTANO_SELECT, Fate, Pattern, unescaped
from tap_fullstory.records.json_text import DECODE_ERRORS, require_depth

SELECT = "MELTANO_EXTRACT__SELECT"
METADATA, SCHEMA = "MELTANO_EXTRACT__METADATA", "MELTANO_EXTRACT__SCHEMA"

_UNESCAPED_DOT = re.compile(r"(?<!\\)\.")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class MeltanoRules:
    """`excluded` are patterns of fields that are not wanted. `chosen` are patterns of streams and
    of those properties that are wanted by more than an asterisk. Without `in_use`, it is not
    Meltano that runs the tap.
    """

    excluded: tuple[Pattern, ...] = ()
    chosen: tuple[tuple[str, str], ...] = ()
    in_use: bool = False

    def chooses(self, stream: str, name: str) -> bool:
        """Return whether a property is wanted by name, or by a part of it; without Meltano, any."""
        return not self.in_use or any(
            fnmatch.fnmatchcase(stream, of_stream) and fnmatch.fnmatchcase(name, pattern)
            for of_stream, pattern in self.chosen
        )

    def columns(self, stream: str) -> dict[str, dict[str, Any]]:
        """Return the schemas of the custom variables of a stream that are wanted by name."""
        found = {}
        for of_stream, name in self.chosen:
            schema = property_schema(name)
            is_name = is_custom(name) and not _WILDCARD.search(name)
            if is_name and schema is not None and fnmatch.fnmatchcase(stream, of_stream):
                found[name] = schema
        return found


NO_MELTANO = MeltanoRules()


def meltano_rules(environment: Mapping[str, str] = os.environ) -> MeltanoRules:
    """Return what the Meltano project selects, if Meltano runs the tap.

    Raises UsageError if one of its variables cannot be read: what was to be left out is not known.
    """
    if not environment.get(SELECT):
        return NO_MELTANO
    excluded, chosen = [], []
    rules = [*_of_select(environment), *_of_metadata(environment), *_of_schema(environment)]
    for selected, stream, name in rules:
        if name == "*":
            continue
        if selected:
            chosen.append((stream, name))
        else:
            excluded.append(Pattern(f"{stream}.{name}", MELTANO_SELECT, Fate.EXCLUDED))
    return MeltanoRules(tuple(excluded), tuple(chosen), in_use=True)


def _of_select(environment: Mapping[str, str]) -> Iterator[tuple[bool, str, str]]:
    for rule in _decoded(environment, SELECT, list[str]):
        stream, *rest = _UNESCAPED_DOT.split(rule.removeprefix("!"), maxsplit=1)
        if rest:
            yield not rule.startswith("!"), unescaped(stream), unescaped(rest[0])


def _of_metadata(environment: Mapping[str, str]) -> Iterator[tuple[bool, str, str]]:
    # `{"events.user_phone_str": {"selected": false}}`, or with any of the dots as a level.
    waiting = list(_decoded(environment, METADATA, dict[str, Any]).items())
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{name}", inner) for name, inner in value.items()]
            continue
        stream, *names = path.split(".")
        said = {"true": True, "false": False}.get(str(value).strip().lower())
        if len(names) > 1 and names[-1] == "selected" and said is not None:
            yield said, stream, ".".join(names[:-1])


def _of_schema(environment: Mapping[str, str]) -> Iterator[tuple[bool, str, str]]:
    # A project gives types to those properties that it wants.
    for stream, properties in _decoded(environment, SCHEMA, dict[str, dict[str, Any]]).items():
        for name in properties:
            yield True, stream, name


def _decoded(environment: Mapping[str, str], variable: str, kind: Any) -> Any:
    text = environment.get(variable) or ("[]" if variable == SELECT else "{}")
    try:
        json_text = text.encode()
        require_depth(json_text)
        return msgspec.json.decode(json_text, type=kind)
    except (*DECODE_ERRORS, UnicodeEncodeError):
        raise UsageError(
            f"{variable} in the environment, by which Meltano tells what is selected, cannot be "
            "read. Run the tap by Meltano, or unset the variable."
        ) from None
