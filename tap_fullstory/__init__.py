"""A Singer tap for FullStory: every captured event, from export bundles to RECORD messages."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import NoReturn

from tap_fullstory.errors import Interrupted, TapError, UsageError
from tap_fullstory.redact import redact_logs
from tap_fullstory.signals import THREAD_NAME_PREFIX, Signals
from tap_fullstory.version import __version__


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and exit with 0, 1 or 2, or with 129, 130 or 143 after a signal.

    `arguments` default to those of the command line.
    """
    # backoff calls a function that Python 3.14 deprecates, which no user of the tap can change.
    warnings.filterwarnings(
        "ignore",
        r"'asyncio\.iscoroutinefunction' is deprecated",
        DeprecationWarning,
        module=r"backoff\.",
    )
    signals = Signals()
    redact_logs([])
    try:
        signals.install()
        options = _options(arguments)
        # Imported late: --version and --help need neither requests nor msgspec.
        from tap_fullstory.command import run

        run(options, signals)
        signals.check()
    except TapError as error:
        _critical(str(error))
        _exit(error.exit_code)
    except Interrupted as signal:
        _exit(signal.exit_code)
    except Exception as error:  # noqa: BLE001 - a defect of ours: anything else is a TapError
        _critical(_defect(error))
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """Exit; without Python's shutdown if a thread of ours is still running.

    Shutdown stops such a thread wherever it is, and then may wait for what that thread held, or
    abort: "could not acquire lock for stderr at interpreter shutdown".
    """
    if any(thread.name.startswith(THREAD_NAME_PREFIX) for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. {self.prog} --help lists the options.")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.format and not options.about:
        parser.error("--format belongs to --about")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tap-fullstory",
        description="Singer tap for FullStory: writes SCHEMA, RECORD and STATE messages to stdout.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="JSON config; needed for a sync")
    parser.add_argument("-s", "--state", metavar="FILE", help="the value of the last STATE message")
    parser.add_argument("--catalog", metavar="FILE", help="what to sync; by default, all of events")
    parser.add_argument("-p", "--properties", metavar="FILE", help="the old name of --catalog")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "-d",
        "--discover",
        action="store_true",
        help="print the catalog; with --config, prove first that FullStory accepts the key",
    )
    instead.add_argument(
        "--test",
        action="store_true",
        help="prove that key, plan and hosts work, and say what there is to sync; no records",
    )
    instead.add_argument(
        "--about",
        action="store_true",
        help="print the version, the settings, the streams and the capabilities",
    )
    parser.add_argument(
        "--format", choices=["text", "json", "markdown"], help="of --about; text unless given"
    )
    parser.add_argument("--version", action="version", version=f"tap-fullstory {__version__}")
    return parser


def _critical(message: str) -> None:
    import singer

    singer.get_logger().critical("%s", message)


def _defect(error: Exception) -> str:
    """Return where the error was raised, without its text, which may hold data."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "" if at is None else f" in {at.tb_frame.f_code.co_filename}, line {at.tb_lineno}"
    return (
        f"Defect in tap-fullstory {__version__}: {type(error).__name__}{where}. The last state "
        "stays good. Please report this line, with what the tap was doing."
    )
