"""Has every logger of a tap say all it can, for the tests that look for secrets in what it says."""

import logging.config

_configure = logging.config.fileConfig


def _configure_loudly(*arguments, **options):
    _configure(*arguments, **options)
    logging.getLogger().setLevel(1)


logging.config.fileConfig = _configure_loudly
