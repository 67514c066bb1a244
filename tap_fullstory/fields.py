"""What the config excludes, hashes and formats, and names that databases cannot have.

The rules for fields apply to every stream, at every depth of its records, and whatever the catalog
lists or fails to list.
"""

from __future__ import annotations

import fnmatch
import hmac
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from msgspec import Raw

from tap_fullstory.columns import JSON_TEXT, as_integer, marked_fields
from tap_fullstory.errors import UsageError
from tap_fullstory.records.json_text import (
    SLICE_BYTES,
    decode_items,
    decode_members,
    decode_string,
    encode,
    string_end,
    text_slices,
    value_end,
)
from tap_fullstory.settings import Config
from tap_fullstory.streams import CUSTOM_VARS, Stream

HASH_DIGITS = 32  # hexadecimal, of 64
# The same people and addresses come again and again; 3 MB at most.
MAX_REMEMBERED_HASHES, MAX_REMEMBERED_VALUE_BYTES = 10_000, 128
MAX_REMEMBERED_NAMES, MAX_REMEMBERED_NAME = 10_000, 200  # characters
MAX_DECODED_BYTES = 64 * 1024  # of a value that becomes Python objects
MAX_PATH = 4096  # characters: of the names around a member, the last ones

MELTANO_SELECT = "select"  # where patterns come from that Meltano has
# Words that stand for all fields with a mark, in every stream.
MARKED = {"@personal": "yes", "@ids": "an id"}
_WILDCARD = re.compile(r"[*?\[]")
_NULL = b"null"
_OPENING_BRACE, _CLOSING_BRACE, _OPENING_BRACKET, _CLOSING_BRACKET, _QUOTE = b'{}[]"'
_CLOSING = {_OPENING_BRACE: _CLOSING_BRACE, _OPENING_BRACKET: _CLOSING_BRACKET}
_BETWEEN_MEMBERS = re.compile(rb"[ \t\n\r,]*")
_COLON = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*")
_IN_ARRAY = re.compile(rb'[{\[\]"]')
# Whitespace; brackets, commas and colons with the integers between them; a number or literal.
_TOKEN = re.compile(rb'[ \t\n\r]+|([{}\[\],:0-9]*[{}\[\],:])|([^{}\[\],:" \t\n\r]+)')
_HASHED = "The value's hash (HMAC-SHA256 under hash_key, 32 hexadecimal digits)."


class Fate(Enum):
    """What becomes of a field."""

    KEPT = "kept"
    EXCLUDED = "excluded"
    HASHED = "hashed"


@dataclass(frozen=True)
class Pattern:
    """A name or shell pattern, as `setting` of the config has it; case-sensitive. One of MARKED
    stands for the fields `marked`, each with the name of its stream.
    """

    text: str
    setting: str
    fate: Fate
    marked: frozenset[str] = frozenset()

    def matches(self, names: Iterable[str]) -> bool:
        """Return whether it matches one of these spellings of a field."""
        if self.text in MARKED:
            return not self.marked.isdisjoint(names)
        return any(fnmatch.fnmatchcase(name, self.text) for name in names)

    def may_match(self, beginning: str) -> bool:
        """Return whether it matches any name that begins so."""
        wildcard = _WILDCARD.search(self.text)
        if wildcard is None:
            return self.text.startswith(beginning)
        head = self.text[: wildcard.start()]
        return head.startswith(beginning) or beginning.startswith(head)


class FieldRules:
    """What the patterns of the config make of the fields of one stream, known by `names`.

    A pattern is compared with a field's name, at whatever depth of a record; with its path, such as
    `properties.phone`; and with that after the stream's name and a dot. What is not one of the
    `documented` fields is in the property `overflow` of a row, and so it has a path there, too.
    `keys` are never excluded. `used` are the patterns that have matched anything.
    """

    def __init__(
        self,
        names: Iterable[str],
        patterns: Iterable[Pattern],
        hash_key: str,
        keys: Iterable[str] = (),
        overflow: str = "",
        documented: Collection[str] = (),
    ) -> None:
        self.streams = tuple(dict.fromkeys(names))
        self.patterns = tuple(patterns)
        self._keys = frozenset(keys)
        self._overflow = overflow
        self._documented = frozenset(documented)
        self._fates: dict[tuple[str, str], Fate] = {}
        self._members: dict[tuple[str, bytes], tuple[str, Fate, bytes]] = {}
        self._key = hmac.new(hash_key.encode(), digestmod="sha256")
        self._remembered = lru_cache(MAX_REMEMBERED_HASHES)(self._hash)
        self.used: set[Pattern] = set()

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def fate(self, name: str) -> Fate:
        """Return what becomes of a field at the top of a record."""
        return self._fate(name, name)

    def matching(self, name: str) -> list[Pattern]:
        """Return the patterns that match a field at the top of a record."""
        return self._matching(name, name)

    def fate_in_overflow(self, name: str) -> Fate:
        """Return what becomes of a value of a field that goes to the overflow property, after
        `apply`: there, a documented field has another path.
        """
        fate = self.fate(name)
        if not self.patterns or name not in self._documented or fate is not Fate.KEPT:
            return Fate.KEPT
        return self._fate(f"{self._overflow}.{name}", name)

    def fate_of_undeclared(self, name: str) -> Fate:
        """Return what becomes of a field that goes to the overflow property, before `apply`."""
        fate = self.fate(name)
        return self.fate_in_overflow(name) if fate is Fate.KEPT else fate

    def excludes_all(self, prefix: str) -> bool:
        """Return whether every custom variable is excluded whose name begins with `prefix`."""
        # A pattern's last asterisk takes whatever follows.
        return any(
            pattern.text.endswith("*") and pattern.matches(self._spellings(prefix, prefix))
            for pattern in self.patterns
            if pattern.fate is Fate.EXCLUDED
        )

    def not_requested(self, prefix: str) -> None:
        """Count the patterns as used that may match custom variables whose names begin with
        `prefix`: FullStory was not asked for any.
        """
        for beginning in self._spellings(prefix, prefix):
            self.used.update(one for one in self.patterns if one.may_match(beginning))

    def apply(self, members: Mapping[str, Raw]) -> dict[str, Raw]:
        """Return the members of a record, without those that are excluded, at any depth, and with
        those hashed that are to be.
        """
        if not self.patterns:
            return dict(members)
        kept = {}
        for name, raw in members.items():
            fate = self.fate(name)
            if fate is not Fate.EXCLUDED:
                kept[name] = Raw(self.value(bytes(raw), fate, name))
        return kept

    def value(self, value: bytes, fate: Fate, name: str) -> bytes:
        """Return the value of a field at the top of a record, whose fate is KEPT or HASHED, without
        what is excluded inside it, and with what is to be hashed there hashed.
        """
        if fate is Fate.HASHED:
            return self.hash(value)
        if value[0] not in _CLOSING or b"{" not in value:
            return value
        return b"".join(self._applied(value, name))

    def schema(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        """Return the properties of a stream's schema as `apply` makes the members."""
        return self._properties(properties, "")

    def hash(self, value: bytes) -> bytes:
        """Return the JSON string of a JSON value's hash; null stays null.

        What is hashed is the text of a string, whatever its escapes, the digits of a number, and
        the JSON of anything else, without whitespace. So equal values have equal hashes, and an id
        has the same one as a number and as text.
        """
        if len(value) <= MAX_REMEMBERED_VALUE_BYTES:
            return self._remembered(value)
        return self._hash(value)

    def _hash(self, value: bytes) -> bytes:
        if value == _NULL:
            return value
        mac = self._key.copy()
        if value[:1] == b'"':
            pieces: Iterable[bytes] = (text.encode() for text in _decoded(value))
        else:
            pieces = _canonical(value)
        for piece in pieces:
            mac.update(piece)
        return b'"%b"' % mac.hexdigest()[:HASH_DIGITS].encode()

    def _applied(self, value: bytes, path: str) -> Iterator[bytes]:
        # Read once from its start to its end, without recursion: a copy of what is inside each
        # level would take many times its size.
        out, text = bytearray(), memoryview(value)
        levels: list[tuple[int, str]] = []  # the closing bracket of each, and its path
        at = 0
        while True:
            if len(out) > SLICE_BYTES:  # growing it on and on would leave holes in memory
                yield bytes(out[:-1])
                del out[:-1]
            if value[at] in _CLOSING:
                levels.append((_CLOSING[value[at]], path))
                out.append(value[at])
                at += 1
            closing, path = levels[-1]
            if closing == _CLOSING_BRACE:
                at = _BETWEEN_MEMBERS.match(value, at).end()  # type: ignore[union-attr]
                if value[at] == _QUOTE:
                    at, path = self._apply_to_member(value, at, path, out)
                    continue
            else:
                end = _IN_ARRAY.search(value, at).start()  # type: ignore[union-attr]
                end = string_end(value, end) if value[end] == _QUOTE else end
                out += text[at:end]
                at = end
            if value[at] == closing:
                out.append(closing)
                at += 1
                levels.pop()
                if not levels:
                    yield bytes(out)
                    return

    def _apply_to_member(
        self, value: bytes, start: int, path: str, out: bytearray
    ) -> tuple[int, str]:
        """Write the member that begins at `start`, in an object with this path, to `out`.

        Return the offset after it, and its path. Of an object or array that is kept only the name
        is written, and the offset is where it begins.
        """
        end = string_end(value, start)
        key = value[start:end]
        start = _COLON.match(value, end).end()  # type: ignore[union-attr]
        inner, fate, member = self._members.get((path, key)) or self._member(path, key)
        opens = fate is Fate.KEPT and value[start] in _CLOSING
        end = start if opens else value_end(value, start)
        if fate is not Fate.EXCLUDED:
            if out[-1] != _OPENING_BRACE:
                out += b","
            out += member
            is_hashed = fate is Fate.HASHED
            out += self.hash(value[start:end]) if is_hashed else memoryview(value)[start:end]
        return end, inner

    def _member(self, path: str, key: bytes) -> tuple[str, Fate, bytes]:
        """Return the path of a member of an object, its fate, and its name with the colon."""
        name = decode_string(key)
        inner = f"{path}.{name}"[-MAX_PATH:]
        found = inner, self._fate(inner, name), encode(name) + b":"
        if len(self._members) < MAX_REMEMBERED_NAMES and len(inner) <= MAX_REMEMBERED_NAME:
            self._members[path, key] = found
        return found

    def _properties(self, properties: Mapping[str, Any], parent: str) -> dict[str, Any]:
        kept = {}
        for name, schema in properties.items():
            path = f"{parent}{name}"
            fate = self._fate(path, name)
            if fate is Fate.HASHED:
                kept[name] = _hashed_schema(schema)
            elif fate is not Fate.EXCLUDED:
                kept[name] = self._within(schema, path)
        return kept

    def _within(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        inner = dict(schema)
        for keyword, below in (("items", path), ("additionalProperties", f"{path}.*")):
            if isinstance(inner.get(keyword), dict):
                inner[keyword] = self._within(inner[keyword], below)
        if isinstance(inner.get("properties"), dict):
            inner["properties"] = self._properties(inner["properties"], f"{path}.")
        return inner

    def _fate(self, path: str, name: str) -> Fate:
        known = self._fates.get((path, name))
        if known is not None:
            return known
        found = self._matching(path, name)
        self.used.update(found)
        fates = {pattern.fate for pattern in found}
        if path in self._keys:
            fates.discard(Fate.EXCLUDED)
        fate = next((one for one in (Fate.EXCLUDED, Fate.HASHED) if one in fates), Fate.KEPT)
        if len(self._fates) < MAX_REMEMBERED_NAMES and len(path) <= MAX_REMEMBERED_NAME:
            self._fates[path, name] = fate
        return fate

    def _matching(self, path: str, name: str) -> list[Pattern]:
        spellings = self._spellings(path, name)
        return [pattern for pattern in self.patterns if pattern.matches(spellings)]

    def _spellings(self, path: str, name: str) -> list[str]:
        paths = [path]
        # Names of custom variables may have dots, those of documented fields have none.
        top = path if path == name else path.partition(".")[0]
        if self._overflow and top not in (*self._documented, self._overflow):
            paths.append(f"{self._overflow}.{path}")
        return [name, *paths, *(f"{stream}.{one}" for stream in self.streams for one in paths)]


def _canonical(value: bytes) -> Iterator[bytes]:
    """Yield the pieces of JSON in the one spelling that all JSON of the same meaning has.

    An integer is its digits, text has as few escapes as possible, there is no whitespace between
    tokens, and of duplicate keys only the last counts. One of more than MAX_DECODED_BYTES keeps its
    duplicate keys: it is read from its start to its end, since decoding it would take many times
    its size.
    """
    if len(value) <= MAX_DECODED_BYTES:
        yield _decoded_canonical(value)
        return
    at = 0
    while at < len(value):
        if value[at] == _QUOTE:
            end = string_end(value, at)
            yield b'"'
            for text in _decoded(value[at:end]):
                yield encode(text)[1:-1]
            yield b'"'
            at = end
            continue
        token: re.Match[bytes] = _TOKEN.match(value, at)  # type: ignore[assignment]
        at = token.end()
        if token[1]:
            yield token[1]
        elif token[2]:
            yield _canonical_scalar(token[2])


def _decoded_canonical(value: bytes) -> bytes:
    # Recursion depth is bounded by json_text.MAX_DEPTH.
    if value[0] == _QUOTE:
        return encode(decode_string(value))
    if value[0] == _OPENING_BRACKET:
        return b"[%b]" % b",".join([_decoded_canonical(bytes(raw)) for raw in decode_items(value)])
    if value[0] == _OPENING_BRACE:
        parts: list[bytes] = []
        for name, raw in decode_members(value).items():
            parts += (b",", encode(name), b":", _decoded_canonical(bytes(raw)))
        return b"{%b}" % b"".join(parts[1:])
    return _canonical_scalar(value)


def _canonical_scalar(value: bytes) -> bytes:
    """Return a number, true, false or null."""
    integer = as_integer(value)
    return b"0" if integer == b"-0" else integer or value


def _decoded(string: bytes) -> Iterator[str]:
    """Yield the text of a JSON string in pieces: in Python, text may take four times its bytes."""
    if len(string) <= SLICE_BYTES:
        yield decode_string(string)
        return
    for piece in text_slices(string[1:-1]):
        yield decode_string(b'"%b"' % piece)


def _hashed_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    # A catalog that was made with the same config says so already.
    description = str(schema.get("description") or "").removesuffix(_HASHED).strip()
    description = f"{description} {_HASHED}".strip()
    return {"type": ["null", "string"], "description": description}


def field_patterns(
    exclude: Iterable[str], hashed: Iterable[str], stream: Stream | None = None
) -> tuple[Pattern, ...]:
    """Return the patterns of `exclude_fields` and `hash_fields` for a stream.

    Raises UsageError for a word that begins with @ and is not one of MARKED.
    """
    return (
        *_patterns(exclude, "exclude_fields", Fate.EXCLUDED, stream),
        *_patterns(hashed, "hash_fields", Fate.HASHED, stream),
    )


def _patterns(
    texts: Iterable[str], setting: str, fate: Fate, stream: Stream | None
) -> Iterator[Pattern]:
    for text in texts:
        if text in MARKED:
            paths = marked_fields(stream, MARKED[text]) if stream else ()
            marked = frozenset(f"{stream.name}.{path}" for path in paths) if stream else frozenset()
            yield Pattern(text, setting, fate, marked)
        elif text.startswith("@"):
            raise UsageError(
                f"Config key {setting}: {text[:MAX_SHOWN]!r} is not one of {', '.join(MARKED)}. "
                "Use one of these, or the names of fields."
            )
        else:
            yield Pattern(unescaped(text), setting, fate)


def unescaped(text: str) -> str:
    r"""Return a pattern whose escaped dots, `\.`, are dots of a name, as Meltano writes them."""
    return text.replace(r"\.", ".")


def unused_patterns(rules: Iterable[FieldRules], streams: Iterable[str]) -> list[Pattern]:
    """Return the patterns that matched nothing in any of the streams that were read, by their
    `rules`; without Meltano's, of which it warns itself. One that names a stream which was not, of
    all `streams`, is not to be expected to.
    """
    of_run = list(rules)
    used = set().union(*(one.used for one in of_run))
    others = set(streams).difference(*(one.streams for one in of_run))
    patterns = dict.fromkeys(pattern for one in of_run for pattern in one.patterns)
    return [
        pattern
        for pattern in patterns
        if pattern not in used
        and pattern.text not in MARKED
        and pattern.setting != MELTANO_SELECT
        and not fnmatch.filter(others, pattern.text.partition(".")[0])
    ]


NO_RULES = FieldRules((), (), "")


_OF_OBJECTS = ("type", "properties", "additionalProperties")


def with_format(
    properties: Mapping[str, Mapping[str, Any]], stream: Stream, config: Config | None
) -> dict[str, Any]:
    """Return the schemas of a stream's properties, by name, as custom_vars_format asks for them.

    CustomVars of the exports is the encoder's.
    """
    as_text = config is not None and config.custom_vars_format == "string"
    if stream.overflow == CUSTOM_VARS or not as_text:
        return dict(properties)
    return {name: _as_text(schema) for name, schema in properties.items()}


def _as_text(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with each object that declares no members as JSON text.

    What is inside arrays stays: a target that flattens stores an array as one JSON value.
    """
    # Recursion depth is bounded by json_text.MAX_DEPTH.
    types = schema.get("type") or []
    types = [types] if isinstance(types, str) else types
    if "object" not in types:
        return dict(schema)
    if schema.get("properties"):
        inner = {name: _as_text(one) for name, one in schema["properties"].items()}
        return {**schema, "properties": inner}
    text = {
        "type": [*(kind for kind in types if kind not in ("object", "string")), "string"],
        "contentMediaType": JSON_TEXT,
    }
    return {**text, **{key: value for key, value in schema.items() if key not in _OF_OBJECTS}}


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
        extra={"code": "long_column_names"},
    )  # fmt: skip
