"""The writer to stdout: how far it has got, and what it says of an output that takes no more."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

import pytest

from tap_fullstory.errors import TargetError
from tap_fullstory.output.messages import MessageWriter, write_all


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EPIPE, "The target closed the pipe before"),
        (errno.ECONNRESET, "The target closed the pipe before"),  # where stdout is a socket
        (errno.ENOSPC, "The output cannot be written: No space left on device"),
    ],
)
def test_an_output_that_takes_no_more_is_named(monkeypatch, number, words):
    def fail(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.writev", fail)
    with pytest.raises(TargetError, match=words):
        write_all(1, b"x")


def test_a_line_counts_as_written_once_its_last_byte_is(tmp_path):
    """A file that a BATCH line names may be removed until then, and not from then on."""
    with (tmp_path / "out").open("wb", buffering=0) as out:
        writer = MessageWriter(out.fileno())
        end = writer.batch("events", {"format": "jsonl"}, ["file:///a.json"])
        assert not writer.may_have_written(end)
        writer.flush()
        assert writer.may_have_written(end)
        assert not writer.may_have_written(end + 1)
        assert writer.written_bytes == end == (tmp_path / "out").stat().st_size
