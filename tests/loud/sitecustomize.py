"""Has every logger of a tap say all it can, for the tests that look for secrets in what it says,
and the tap its peak memory at the end.
"""

import atexit
import logging.config
import sys
from pathlib import Path

_configure = logging.config.fileConfig


def _configure_loudly(*arguments, **options):
    _configure(*arguments, **options)
    logging.getLogger().setLevel(1)


logging.config.fileConfig = _configure_loudly


def _say_memory():
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        sys.stderr.write(f"DEBUG {line}\n")


atexit.register(_say_memory)
