"""The repository, and the virtual environments that `make test` makes."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = Path(sys.prefix).parent  # beside the one that the tests run in
