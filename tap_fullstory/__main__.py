"""`python -m tap_fullstory` does what `tap-fullstory` does."""

from tap_fullstory import main

main()
