"""Has every logger of a tap say all it can, for the tests that look for secrets in what it says,
and the tap its peak memory at the end. With PYTHON_CLOCK_SPEED, the tap's clock runs that much
faster, so that no test waits for the minutes that a tap does.
"""

import atexit
import logging
import os
import sys
import time
from pathlib import Path

_set_level = logging.Logger.setLevel


def _set_lowest_level(logger, _):
    _set_level(logger, 1)


setattr(logging.RootLogger, "setLevel", _set_lowest_level)  # noqa: B010 - mypy refuses the other


def _say_memory():
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        sys.stderr.write(f"DEBUG {line}\n")


if speed := int(os.environ.get("PYTHON_CLOCK_SPEED", "0")):
    _monotonic, _sleep = time.monotonic, time.sleep
    time.monotonic = lambda: speed * _monotonic()
    time.sleep = lambda seconds: _sleep(float(seconds) / speed)


atexit.register(_say_memory)
_exit = os._exit


def _say_memory_and_exit(code):
    """As a tap ends while a thread of its own is still running: without what atexit would call."""
    _say_memory()
    _exit(code)


os._exit = _say_memory_and_exit
