"""What can go wrong, grouped by who can mend it.

    TapError                 exit code
    ├── UsageError              2   the person who runs the tap: command line, config, catalog,
    │                               state
    ├── AccessError             1   whoever holds the FullStory account: key, key level, add-on
    ├── SourceError             1   FullStory: an answer or a file that cannot be used
    │   └── BundleError         1     one bundle, by id, period and byte offset
    ├── NetworkError            1   the network, or FullStory's servers: worth another run
    ├── LocalResourceError            1   the machine: spool folder, disk
    ├── TargetError             1   the program that reads our output
    └── StreamsFailed           1   some of several streams, each for one of the reasons above

Each message says what happened, where, and what to do next. None holds the API key, a query string
of a signed address, or text of an event.
"""

from __future__ import annotations

from collections.abc import Mapping


class TapError(Exception):
    """A failure that the tap can put into words; its text becomes the one CRITICAL line."""

    exit_code = 1


class UsageError(TapError):
    """The command line, config, catalog or state cannot be used."""

    exit_code = 2


class AccessError(TapError):
    """FullStory refuses: wrong key, key level too low, add-on missing, API gone.

    `status` is that of the answer: 401, 403, 404 or 410; None where there was no single one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SourceError(TapError):
    """FullStory answered with something that cannot be used, and would again."""


class BundleError(SourceError):
    """A bundle that cannot be read, named so that the operator can find it and leave it out.

    `offset` counts unpacked bytes from the bundle's start; None where no place can be named.
    """

    def __init__(self, what: str, bundle_id: str, period: str, offset: int | None = None) -> None:
        where = "" if offset is None else f" at unpacked byte {offset}"
        super().__init__(
            f"Bundle {bundle_id} ({period}) {what}{where}. The bookmark stays before it, so the "
            "next run tries it again. If it stays broken, ask FullStory support about it, or "
            f'leave it out for good with "skip_bundles": ["{bundle_id}"] in the config.'
        )


class NetworkError(TapError):
    """The network or FullStory's servers failed, after all tries."""


class LocalResourceError(TapError):
    """The machine the tap runs on is short of something: a folder, disk space."""


class TargetError(TapError):
    """The program that reads the tap's output has gone, or the output cannot be written."""


class StreamsFailed(TapError):
    """Some of `selected` streams failed while the others went on; `reasons` says why, by stream."""

    def __init__(self, reasons: Mapping[str, str], selected: int) -> None:
        why = " ".join(f"{stream}: {reason}" for stream, reason in reasons.items())
        super().__init__(
            f"{len(reasons)} of {selected} streams failed, the others are done. {why} The next run "
            "with the last state tries them again; a stream that the key may not read can be "
            "deselected in the catalog."
        )


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. No Exception, so that no retry or clean-up takes it for a failure.

    `exit_code` is 128 plus the signal's number: 130 or 143.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"ended by signal {signal_number}")
        self.exit_code = 128 + signal_number
