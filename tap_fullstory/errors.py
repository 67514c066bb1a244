"""What can go wrong, grouped by who can correct it.

    TapError                 exit code
    ├── UsageError              2   the person who runs the tap: command line, config, catalog,
    │                               state
    ├── AccessError             1   whoever owns the FullStory account: key, key level, add-on
    ├── SourceError             1   FullStory: an answer or a file that cannot be used
    │   └── BundleError         1     one bundle, by id, period and byte offset
    ├── NetworkError            1   the network, or FullStory's servers: worth another run
    ├── LocalResourceError      1   the machine: spool folder, disk, memory, descriptors, threads
    ├── TargetError             1   the program that reads our output
    ├── StreamsFailed           1   some of several streams, each for one of the reasons above
    └── StreamsUnreadable       1   likewise, found by --test

Each message says what happened, where, and what to do next. None contains the API key, a query
string of a signed URL, or text of an event. `kind` and `retry_may_help` are for programs that read
the log: what failed, and whether another run may succeed with nothing changed.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Of an AccessError: the first is about all streams, the second about some.
WRONG_KEY, LEVEL_TOO_LOW = 401, 403


class CodedWarning(NamedTuple):
    """A WARNING still to be logged: its text, and the word by which alerts know it."""

    code: str
    text: str


class TapError(Exception):
    """A failure that the tap can explain; its text becomes the one CRITICAL line."""

    exit_code = 1
    kind = "source"
    retry_may_help = False


class UsageError(TapError):
    """The command line, config, catalog or state cannot be used."""

    exit_code = 2
    kind = "config"


class AccessError(TapError):
    """FullStory refuses: wrong key, key level too low, add-on missing, API gone.

    `status` is that of the answer: 401, 403, 404 or 410; None where there was no single one.
    """

    kind = "access"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class SourceError(TapError):
    """FullStory returned something that cannot be used, and would again."""


class BundleError(SourceError):
    """A bundle that cannot be read, named so that the operator can find it and leave it out.

    `offset` counts unpacked bytes from the bundle's start; None where no place can be named.
    """

    kind = "data"
    retry_may_help = True  # FullStory may rebuild a bundle

    def __init__(self, what: str, bundle_id: str, period: str, offset: int | None = None) -> None:
        where = "" if offset is None else f" at unpacked byte {offset}"
        super().__init__(
            f"Bundle {bundle_id} ({period}) {what}{where}. The bookmark stays before it, so the "
            "next run tries it again. If it stays broken, ask FullStory support about it, or "
            f'leave it out for good with "skip_bundles": ["{bundle_id}"] in the config.'
        )


class NetworkError(TapError):
    """The network or FullStory's servers failed, after all tries."""

    kind = "network"
    retry_may_help = True


class LocalResourceError(TapError):
    """The machine the tap runs on is short of something, such as disk space, memory or threads."""

    kind = "machine"
    retry_may_help = True


class TargetError(TapError):
    """The program that reads the tap's output has gone, or the output cannot be written."""

    kind = "target"
    retry_may_help = True


class StreamsFailed(TapError):
    """Some of `selected` streams failed while the others went on; `reasons` says why, by stream.

    `kind` is that of the `causes`, or "several".
    """

    def __init__(
        self, reasons: Mapping[str, str], selected: int, causes: Sequence[TapError] = ()
    ) -> None:
        why = " ".join(f"{stream}: {reason}" for stream, reason in reasons.items())
        super().__init__(
            f"{len(reasons)} of {selected} streams failed; the others completed. {why} The next "
            "run with the last state tries them again; a stream that the key may not read can be "
            "deselected in the catalog."
        )
        kinds = {cause.kind for cause in causes}
        self.kind = kinds.pop() if len(kinds) == 1 else "several"
        self.retry_may_help = any(cause.retry_may_help for cause in causes)


class StreamsUnreadable(TapError):
    """Some of the selected streams cannot be read with this key and account; `causes` by stream."""

    def __init__(self, causes: Mapping[str, TapError], selected: int) -> None:
        super().__init__(
            f"{len(causes)} of {selected} selected streams cannot be read: {', '.join(causes)}. "
            "See the warnings above. Use another key, or deselect them in the catalog."
        )
        kinds = {cause.kind for cause in causes.values()}
        self.kind = kinds.pop() if len(kinds) == 1 else "several"
        self.retry_may_help = any(cause.retry_may_help for cause in causes.values())


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. Not an Exception, so that no retry or clean-up takes it
    for a failure.

    `exit_code` is 128 plus the signal's number: 130, 143 or 129.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"ended by signal {signal_number}")
        self.name = signal.Signals(signal_number).name
        self.reported = False  # whether the log says already where this stopped the run
        self.exit_code = 128 + signal_number


_RESUME = "Nothing is lost: run again with the last state."
_MEMORY = (
    "The tap has run out of memory ({}). Give it more memory (ulimit -v, the container's limit; "
    f"200 MB is enough for most bundles) or stop other programs. {_RESUME}"
)
_RESOURCES = {
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: "Too many open files in the tap ({}). Raise its limit of open files (ulimit -n; "
    f"64 is enough). {_RESUME}",
    errno.ENFILE: "Too many open files on this machine ({}). Close the programs that hold them "
    f"open, or raise fs.file-max. {_RESUME}",
    errno.EAGAIN: "The system cannot start another thread or process ({}). Raise the limits of the "
    "user or container (ulimit -u, ulimit -v, pids.max), or stop other programs. "
    f"{_RESUME}",
    errno.EIO: "I/O error on a disk or the terminal ({}). Check the disk that holds spool_dir and "
    f"the tap itself. {_RESUME}",
    errno.ENOSPC: "A disk is full ({}). Free up space on the disks that hold spool_dir, the temp "
    f"folder and the tap's output. {_RESUME}",
}
_RESOURCES[errno.EDQUOT] = _RESOURCES[errno.ENOSPC]


def out_of_memory(reason: str) -> LocalResourceError:
    """Return the error for a tap that has run out of memory, as `reason` shows."""
    return LocalResourceError(_MEMORY.format(reason))


def local_resource_error(error: BaseException) -> LocalResourceError | None:
    """Return what to raise instead of an exception that says that the machine is short of
    something, wherever it arose; None if it says something else.
    """
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if isinstance(error, MemoryError):
        number, reason = errno.ENOMEM, "MemoryError"
    elif isinstance(error, RuntimeError) and "can't start new thread" in text:
        number, reason = errno.EAGAIN, "can't start new thread"
    elif isinstance(error, ImportError) and any(words in text for words in _NOT_LOADED):
        number, reason = errno.ENOMEM, "a library could not be loaded"
    elif isinstance(error, SystemError) and any(words in text for words in _NOT_INITIALIZED):
        number, reason = errno.ENOMEM, "a library could not be initialized"
    elif isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
    if number not in _RESOURCES:
        return None
    return LocalResourceError(_RESOURCES[number].format(reason))


# What the dynamic linker says when a library does not fit into the address space.
_NOT_LOADED = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
# What Python says when a compiled module finds no memory and sets no exception.
_NOT_INITIALIZED = ("initialization of", "without exception set", "without setting an exception")
