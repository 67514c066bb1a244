"""One export stream, for each of its segments: what tells them apart in rows and in the state."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from datetime import datetime

from tap_fullstory.added_columns import (
    REPLAY_URL,
    SEGMENT_ID,
    added_columns,
    replays,
    segments_of,
)
from tap_fullstory.bookmarks import (
    State,
    has_own_position,
    merged,
    segment_positions,
    view,
)
from tap_fullstory.catalog import Selection
from tap_fullstory.exports.sources import open_source
from tap_fullstory.fullstory.client import Client
from tap_fullstory.logs.progress import RunSummary
from tap_fullstory.output.batch import RecordWriter
from tap_fullstory.records.added import MakeMember, replay_url_maker
from tap_fullstory.settings import Config
from tap_fullstory.signals import Signals
from tap_fullstory.streams import Stream
from tap_fullstory.sync_export import BundleRows, ExportSync

LOGGER = logging.getLogger(__name__)


def parts_of(stream: Stream, config: Config) -> tuple[str, ...]:
    """Return the segments that are synced one by one; a single empty text if they need not be told
    apart.
    """
    segments = segments_of(stream, config)
    return segments if len(segments) > 1 else ("",)


def sync_part(
    config: Config,
    selection: Selection,
    segment: str,
    client: Client,
    writer: RecordWriter,
    signals: Signals,
    summary: RunSummary,
    state: State,
    now: datetime,
    bundle_rows: BundleRows | None = None,
) -> State:
    """Emit what is new of one part of an export stream; return the state after it.

    Raises as ExportSync.run and Client.organization.
    """
    name, several = selection.stream.name, bool(segment)
    if several:
        config = replace(config, segment_id=(segment,))
        if has_own_position(state, name) and segment not in segment_positions(state, name):
            LOGGER.warning(
                "%s: segment %s begins at start_date, since the state's position is of no segment. "
                "Rows that were written before come again, with %s", name, segment, SEGMENT_ID,
                extra={"code": "segment_without_position"},
            )  # fmt: skip
    seen = state
    output = writer
    one = segment or next(iter(segments_of(selection.stream, config)), "")
    if several or segment_positions(state, name):
        seen = view(state, name, one, several=several)
        output = SegmentWriter(writer, state, name, one, several=several)
    makers = _makers(config, selection, client)
    with closing(open_source(config, selection, client, now)) as source:
        export = ExportSync(
            config, selection, source, output, signals, summary, makers, segment, bundle_rows
        )
        seen = export.run(seen, now)
    if output is writer:
        return seen
    return merged(state, seen, name, one, several=several)


class SegmentWriter:
    """A writer to which the state is the view of one segment; `state` is the whole at the start."""

    def __init__(
        self, writer: RecordWriter, state: State, stream: str, segment: str, *, several: bool
    ) -> None:
        self._writer = writer
        self._stream, self._segment, self._several = stream, segment, several
        self._whole = state
        self.begin = writer.begin
        self.records = writer.records
        self.flush_if_full = writer.flush_if_full
        self.last_state: State | None = None
        if writer.last_state is not None:
            self.last_state = view(writer.last_state, stream, segment, several=several)

    def state(self, value: State) -> None:
        """Write the whole state with `value`, the view, in it; as MessageWriter.state."""
        self._whole = merged(self._whole, value, self._stream, self._segment, several=self._several)
        self.last_state = value
        self._writer.state(self._whole)


def _makers(config: Config, selection: Selection, client: Client) -> list[MakeMember]:
    properties = selection.schema["properties"]
    makers = []
    if REPLAY_URL in added_columns(selection.stream, config):
        if REPLAY_URL in properties:
            makers.append(replay_url_maker(replays(config, client.organization())))
        else:
            LOGGER.warning(
                "%s is not written: catalog or config keep it, UserId or SessionId out", REPLAY_URL,
                extra={"code": "replay_url_left_out"},
            )  # fmt: skip
    return makers
