"""Reads the flags of a command as an entry point does."""

import sys
from unittest import mock

from absl import flags
from ml_collections import config_flags


def parse(arguments):
    """Returns the config of `--config=FILE --config.FIELD=VALUE ...`."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    with mock.patch.object(sys, "argv", ["program", *arguments]):  # where overrides are looked up
        values(sys.argv)
    return values.config
