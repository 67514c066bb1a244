"""Discovery of custom variables, in a sample of the newest bundle.

FullStory documents its own fields; custom variables are only seen in the data.
"""

from __future__ import annotations

import io
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import msgspec
from singer import metadata

from tap_fullstory.bookmarks import with_bundle_end
from tap_fullstory.columns import PERSONAL_DATA, is_custom, kind_of, property_schema
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.exports.sources import ExportSource, open_source
from tap_fullstory.exports.unpack import TruncatedFile, unpack
from tap_fullstory.fields import NO_RULES, Fate, FieldRules
from tap_fullstory.fullstory.client import Client
from tap_fullstory.fullstory.download import Sink
from tap_fullstory.records.json_text import DECODE_ERRORS, require_depth
from tap_fullstory.records.reader import EventReader, Malformed
from tap_fullstory.selection import select
from tap_fullstory.settings import Config
from tap_fullstory.streams import CUSTOM_VARS, EVENTS

LOGGER = logging.getLogger(__name__)

# How far back the newest bundle is looked for; listing a year of them takes twenty requests.
RECENT = (timedelta(days=3), timedelta(days=31), timedelta(days=366))
# How many bundles or exports are looked into. FullStory allows two downloads a minute, and to make
# an export may take minutes.
MAX_SAMPLES = {"data_export": 10, "segment_export": 3}
COUNT_EVERY_BYTES = 128 * 1024  # of a download: how often its events are counted again

_keys = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


@dataclass(frozen=True)
class Sample:
    """How many events were looked into, and in how many of them each custom variable occurs."""

    events: int
    variables: Counter[str]

    def without_nul(self) -> Sample:
        """Return the same with U+0000 in names turned into U+FFFD, as replace_nul has it."""
        variables: Counter[str] = Counter()
        for name, count in self.variables.items():
            variables[name.replace("\0", "\ufffd")] += count
        return Sample(self.events, variables)


def add_custom_variables(
    catalog: dict[str, Any], config: Config, client: Client, now: datetime
) -> None:
    """Put the custom variables of the newest bundle that has events into the catalog's events.

    Raises TapError if the listing or a download fails.
    """
    selection = select(catalog, config)[0]
    source = open_source(config, selection, client, now)
    try:
        sample = _sample(source, config, min(config.end_date or now, now))
    finally:
        source.close()
    if config.replace_nul:  # by the names that a sync will give them
        sample = sample.without_nul()
    (entry,) = (entry for entry in catalog["streams"] if entry["tap_stream_id"] == EVENTS.name)
    extend(entry, sample, selection.rules)


def _sample(source: ExportSource, config: Config, until: datetime) -> Sample:
    seen: set[str] = set()
    most = MAX_SAMPLES[config.export_api]
    for recent in RECENT:
        place = (EVENTS.name,)
        bundles = list(source.bundles(with_bundle_end({}, place, until - recent), place))
        for bundle in reversed(bundles):
            if bundle.id in seen:
                continue
            if len(seen) == most:
                break
            seen.add(bundle.id)
            sample = _look_into(source, bundle, config)
            if sample.events:
                LOGGER.info(
                    "Looked for custom variables in %d events of bundle %s (%s): found %d",
                    sample.events, bundle.id, bundle.period, len(sample.variables),
                )  # fmt: skip
                return sample
    LOGGER.warning(
        "Found no custom variables: there is no bundle with events among the newest %d. Discover "
        "again when there is, or name them in custom_columns.", len(seen),
        extra={"code": "no_custom_variables"},
    )  # fmt: skip
    return Sample(0, Counter())


def extend(entry: dict[str, Any], sample: Sample, rules: FieldRules = NO_RULES) -> None:
    """Put what was found into a stream's catalog entry: available, and not selected yet.

    What `rules` exclude is left out. A name whose suffix implies no type stays in CustomVars, and
    is logged.
    """
    properties = entry["schema"]["properties"]
    choices = metadata.to_map(entry["metadata"])
    custom_vars = {CUSTOM_VARS: properties.pop(CUSTOM_VARS)} if CUSTOM_VARS in properties else {}
    untyped = []
    for name in sorted(sample.variables):
        if rules.fate(name) is Fate.EXCLUDED:
            continue
        schema = property_schema(name)
        if schema is None:
            untyped.append(name)
        elif name not in properties:
            seen = f"{sample.variables[name]} of the {sample.events} events looked into"
            schema["description"] = f"Custom {kind_of(name)} variable, seen in {seen} at discovery."
            properties.update(rules.schema({name: schema}))
            metadata.write(choices, ("properties", name), "inclusion", "available")
            metadata.write(choices, ("properties", name), "selected-by-default", False)
            metadata.write(choices, ("properties", name), PERSONAL_DATA, "can")
    properties.update(custom_vars)
    entry["metadata"] = metadata.to_list(choices)
    if untyped:
        LOGGER.info("No type for these, which stay in CustomVars: %s", ", ".join(untyped))
    _warn_of_folding(properties)


def _look_into(source: ExportSource, bundle: Bundle, config: Config) -> Sample:
    sink = _SampleFile(config.discover_sample_events, config.max_event_mb * 1024 * 1024)
    source.download(bundle, sink)
    return sink.count()


class _SampleFile(Sink, io.BytesIO):
    """Takes a download, in memory, until it has `max_events` events: the rest need not come."""

    def __init__(self, max_events: int, max_event_bytes: int) -> None:
        super().__init__()
        self._max_events = max_events
        self._max_event_bytes = max_event_bytes
        self._counted_bytes = 0

    def is_enough(self) -> bool:
        end = self.tell()
        if end - self._counted_bytes < max(COUNT_EVERY_BYTES, end // 8):
            return False
        self._counted_bytes = end
        events = self.count().events
        self.seek(end)
        return events >= self._max_events

    def count(self) -> Sample:
        """Count the custom variables in what has come."""
        return count_variables(self, self._max_events, self._max_event_bytes)


def count_variables(file: BinaryIO, max_events: int, max_event_bytes: int) -> Sample:
    """Count the custom variables in a bundle's file, which may be truncated."""
    variables: Counter[str] = Counter()
    events = 0

    @dataclass(frozen=True)
    class Counted:
        events: int
        consumed: int
        names: list[str]
        malformed: int | None = None

    def parse(chunk: bytes) -> Iterator[Counted]:
        with suppress(*DECODE_ERRORS):
            require_depth(chunk)
            found = _keys(b"[%b]" % chunk)[: max_events - events]
            names = [name for event in found for name in event if is_custom(name)]
            yield Counted(len(found), len(chunk), names)

    reader = EventReader(unpack(file), parse, max_event_bytes=max_event_bytes)
    try:
        for batch, _ in reader:
            events += batch.events
            variables.update(batch.names)
            if events >= max_events:
                break
    except (TruncatedFile, Malformed):
        pass  # the file may go on, and a sync reports what is malformed
    return Sample(events, variables)


def _warn_of_folding(names: Iterable[str]) -> None:
    folded = defaultdict(list)
    for name in names:
        folded[name.replace(".", "_").lower()].append(name)
    for same in folded.values():
        if len(same) > 1:
            LOGGER.warning(
                "%s are columns of their own here, but targets that rewrite column names may fold "
                "them into one: select one of them at most, or look at what the target does.",
                " and ".join(same),
                extra={"code": "similar_columns"},
            )
