"""Where the virtual environments are that `make test` makes."""

import sys
from pathlib import Path

ENVIRONMENTS = Path(sys.prefix).parent  # beside the one that the tests run in
