"""What the writer says of an output that takes no more."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

import pytest

from tap_fullstory.errors import TargetError
from tap_fullstory.output.messages import write_all


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
