"""The command: `python -m tap_fullstory.sandbox`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from .account import LEVELS
from .bundles import COMPRESSIONS, LAYOUTS, generated_bundles
from .events import FIELDS
from .faults import FAULT_SYNTAX, parse_fault
from .server import DEFAULT_KEY, EXPORT_APIS, Sandbox


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT, then returns 0; 1 if the port or the file is not to be had.

    Raises SystemExit(2) on wrong usage.
    """
    stop = threading.Event()
    # Before anything else, so that a signal that comes early ends cleanly too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    options = _parser().parse_args(arguments)
    try:
        _serve(options, stop)
    except OSError as error:
        _log(f"the sandbox cannot start: {error}")
        return 1
    return 0


def _serve(options: argparse.Namespace, stop: threading.Event) -> None:
    bundles = generated_bundles(
        options.bundles,
        options.events,
        seed=options.seed,
        until=options.until,
        fields=options.fields,
    )
    sandbox = Sandbox(
        bundles,
        api_key=options.api_key,
        port=options.port,
        layout=options.layout,
        compression=options.compression,
        unpublished=options.unpublished,
        redirect=options.redirect,
        get_limit=options.get_limit,
        role=options.role,
        export_api=options.api,
        pending_polls=options.pending_polls,
        faults=options.fault,
        log=_log if options.verbose else None,
    )
    with sandbox:
        config = json.dumps(sandbox.config())
        if options.config_out:
            _write_at_once(options.config_out, config)
        print(config, flush=True)
        stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tap_fullstory.sandbox",
        description="Serves FullStory's Data Export, Segment Export and REST APIs on loopback over "
        "generated events, and prints the config with which the tap finds them. POST "
        "/sandbox/publish lists the oldest bundle that --unpublished leaves out. POST "
        "/sandbox/settings/KIND, with a JSON object of what changes, makes a new version of "
        "settings such as `blocking`.",
        epilog=FAULT_SYNTAX,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    # fmt: off
    add("--port", type=int, default=0, help="port to listen on; default: any that is free")
    add("--api-key", default=DEFAULT_KEY, help="the key it asks for; default: %(default)s")
    add("--bundles", type=whole_number, default=6, metavar="N",
        help="how many bundles, of a day each; default: %(default)s")
    add("--events", type=whole_number, default=24, metavar="N",
        help="events in each bundle; default: %(default)s")
    add("--seed", type=int, default=0,
        help="the same seed gives the same events on every day, but for their dates; "
        "default: %(default)s")
    add("--until", type=date, metavar="DATE",
        help="end of the newest bundle, in UTC unless it says otherwise; default: the last UTC "
        "midnight at least 24 hours ago")
    add("--fields", choices=FIELDS, default=FIELDS[0],
        help="which fields events have: all documented ones, or those of FullStory's one public "
        "sample of a bundle and no others; default: %(default)s")
    add("--unpublished", type=whole_number, default=0, metavar="N",
        help="list the newest N bundles only when told to (POST /sandbox/publish); "
        "default: %(default)s")
    add("--layout", choices=LAYOUTS, default=LAYOUTS[0],
        help="how the JSON array is laid out; default: %(default)s")
    add("--compression", choices=COMPRESSIONS, default=COMPRESSIONS[0],
        help="gzip that the Content-Type tells, or the Content-Encoding; none; or several gzip "
        "members in one file; default: %(default)s")
    add("--redirect", action="store_true",
        help="downloads are redirected to a second origin, which must not see the key")
    add("--get-limit", type=whole_number, metavar="N",
        help="downloads a minute, then status 429 (FullStory: 2); default: no limit")
    add("--role", choices=LEVELS, default="ARCHITECT",
        help="the level of the API key; default: %(default)s")
    add("--api", choices=EXPORT_APIS, default=EXPORT_APIS[0],
        help="which of the two the config chooses; default: %(default)s")
    add("--pending-polls", type=whole_number, default=1, metavar="N",
        help="how often an export says that it is not done yet; default: %(default)s")
    add("--fault", type=_fault, action="append", default=[], metavar="SPEC",
        help="misbehave, see below; may be given several times")
    add("--config-out", type=Path, metavar="FILE",
        help="write the config to FILE as well, as soon as the sandbox answers")
    add("--verbose", action="store_true", help="log each request to stderr")
    # fmt: on
    return parser


# argparse names these functions when it refuses a value.


def whole_number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def date(text: str) -> datetime:
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 refuses Z
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _fault(text: str) -> object:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _write_at_once(path: Path, text: str) -> None:
    """Whoever waits for the file to appear never sees half of it."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(path)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
