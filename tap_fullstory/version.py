"""The version, in one place: setup.py reads it without importing the package."""

__version__ = "3.0.0"
