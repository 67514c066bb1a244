"""What one sync holds, and hands to each of its streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from tap_fullstory.fullstory.client import Client
from tap_fullstory.logs.progress import RunSummary
from tap_fullstory.output.batch import BatchFolder, BatchWriter, RecordWriter
from tap_fullstory.output.messages import MessageWriter
from tap_fullstory.selection import Selection
from tap_fullstory.settings import Config
from tap_fullstory.signals import Signals


class Run:
    """One sync: `now`, in UTC, is when it began, and `summary` gets its numbers.

    Raises UsageError if the folder in batch_config is not one that the tap may write to.
    """

    def __init__(
        self,
        config: Config,
        client: Client,
        writer: MessageWriter,
        signals: Signals,
        summary: RunSummary,
        now: datetime,
    ) -> None:
        self.config = config
        self.client = client
        self.writer = writer
        self.signals = signals
        self.summary = summary
        self.now = now
        batches = config.batch_config
        self._folder = BatchFolder(batches, writer, signals) if batches else None

    def write_schema(self, selection: Selection) -> None:
        """Write the SCHEMA message of a stream."""
        key = selection.stream.replication_key
        self.writer.schema(
            selection.name, selection.schema, selection.key_properties, [key] if key else []
        )

    @contextmanager
    def export_output(self, selection: Selection) -> Iterator[RecordWriter]:
        """Within, the records of an export go to files if batch_config is set, otherwise to RECORD
        messages.
        """
        if self._folder is None:
            yield self.writer
            return
        properties = selection.schema["properties"]
        files = BatchWriter(self._folder, selection.stream.name, selection.name, properties)
        with closing(files):
            yield files
