"""A Singer tap for FullStory: every captured event, from export bundles to RECORD messages."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tap_fullstory.errors import (
    Interrupted,
    LocalResourceError,
    TapError,
    UsageError,
    local_resource_error,
    out_of_memory,
)
from tap_fullstory.logs.lines import configure_logs, log_members, members_of, new_run_id
from tap_fullstory.logs.redact import redact_logs
from tap_fullstory.signals import THREAD_NAME_PREFIX, Signals
from tap_fullstory.version import SOURCE, __version__

LOGGER = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and exit with 0, 1 or 2, or with 129, 130 or 143 after a signal.

    `arguments` default to those of the command line.
    """
    with log_members(run_id=new_run_id()):
        _main(arguments)


def _main(arguments: Sequence[str] | None) -> NoReturn:
    # backoff calls a function that Python 3.14 deprecates, which no user of the tap can change.
    warnings.filterwarnings(
        "ignore",
        r"'asyncio\.iscoroutinefunction' is deprecated",
        DeprecationWarning,
        module=r"backoff\.",
    )
    signals = Signals()
    configure_logs()
    redact_logs([])
    try:
        signals.install()
        options = _options(arguments)
        _command()(options, signals)
        signals.raise_if_arrived()
    except TapError as error:
        _exit(_critical(error))
    except Interrupted as signal:
        if not signal.reported:
            LOGGER.info("Stopped by %s. Nothing was written.", signal.name)
        _exit(signal.exit_code)
    except Exception as error:  # noqa: BLE001 - either the machine's failure or a defect
        _exit(_critical(local_resource_error(error) or _defect(error)))
    _exit(0)


def _command() -> Callable[[argparse.Namespace, Signals], None]:
    """Return command.run, imported late: --version and --help need neither requests nor msgspec.

    Raises LocalResourceError if that fails under a limit of the address space, where compiled
    modules raise all sorts of exceptions.
    """
    try:
        from tap_fullstory.command import run
    except Exception as error:
        if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
            raise
        raise out_of_memory(type(error).__name__) from None
    return run


def _exit(code: int) -> NoReturn:
    """Exit; without Python's shutdown if a thread of ours is still running.

    Shutdown stops such a thread wherever it is, and then may wait for what that thread held, or
    abort: "could not acquire lock for stderr at interpreter shutdown".
    """
    if any(thread.name.startswith(THREAD_NAME_PREFIX) for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


class _Once(argparse.Action):
    """Stores a value; refuses a second one, for this name or another of the same option."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Any, _: str | None = None) -> None:  # fmt: skip
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{'/'.join(self.option_strings)} is given more than once")
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. {self.prog} --help lists the options.")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.format and not options.about:
        parser.error("--format belongs to --about")
    if options.catalog and options.properties:
        parser.error("--properties is the old name of --catalog: give only one of them")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tap-fullstory",
        description="Singer tap for FullStory: writes SCHEMA, RECORD and STATE messages to stdout.",
        epilog=f"What to do about a failure: {SOURCE}/docs/troubleshooting.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # it would break the address
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        action=_Once,
        help="JSON config, or ENV to read each setting from TAP_FULLSTORY_<SETTING>; "
        "required for a sync",
    )
    parser.add_argument(
        "-s", "--state", metavar="FILE", action=_Once, help="value of the last STATE message"
    )
    parser.add_argument(
        "--catalog", metavar="FILE", action=_Once, help="what to sync; by default, all of events"
    )
    parser.add_argument(
        "-p", "--properties", metavar="FILE", action=_Once, help="deprecated alias of --catalog"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "-d",
        "--discover",
        action="store_true",
        help="print the catalog; with --config, check first that FullStory accepts the key",
    )
    instead.add_argument(
        "--test",
        action="store_true",
        help="check that this key and account can read each selected stream; no records",
    )
    instead.add_argument(
        "--about",
        action="store_true",
        help="print the version, the settings, the streams and the capabilities",
    )
    parser.add_argument(
        "--format",
        choices=["text", "json", "markdown"],
        action=_Once,
        help="output format of --about (default: text)",
    )
    parser.add_argument("--version", action="version", version=f"tap-fullstory {__version__}")
    return parser


def _critical(error: TapError) -> int:
    """Log why the run failed; return its exit code."""
    about = {**members_of(error), "kind": error.kind, "retry_may_help": error.retry_may_help}
    try:
        LOGGER.critical("%s", error, extra=about)
    except Exception:  # noqa: BLE001 - no memory even for that line, perhaps
        os.write(2, f"CRITICAL {error}\n".encode(errors="replace"))
    if isinstance(error, LocalResourceError):
        os._exit(error.exit_code)  # Python's shutdown, short of the same, could print a traceback
    return error.exit_code


class _Defect(TapError):
    kind = "defect"


def _defect(error: Exception) -> _Defect:
    """Return where the error was raised, without its text, which may hold data."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "" if at is None else f" in {at.tb_frame.f_code.co_filename}, line {at.tb_lineno}"
    return _Defect(
        f"Defect in tap-fullstory {__version__}: {type(error).__name__}{where}. The last state "
        "remains valid. Please report this line, with what the tap was doing."
    )
