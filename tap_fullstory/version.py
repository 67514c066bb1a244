"""The version, in one place: setup.py reads it without importing the package."""

__version__ = "3.0.0"

REPOSITORY = "https://github.com/singer-io/tap-fullstory"
SOURCE = f"{REPOSITORY}/blob/v{__version__}"  # what belongs to this version
