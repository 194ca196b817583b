"""Commands as they are called: `tl NAME` where it is installed or was started, or `python -m`."""

import re
import sys
from pathlib import Path

from tl.__main__ import BUNDLED


def started_as_tl() -> bool:
    """Returns whether this process is the command `tl`, as pip installs it."""
    return len(sys.orig_argv) > 1 and Path(sys.orig_argv[1]).stem == "tl"


def as_called(text: str) -> str:
    """Returns a text with `python -m experiments.NAME` and `experiments.NAME` as called here."""
    if not (BUNDLED.is_dir() or started_as_tl()):
        return text
    python = r"(?:'[^'\n]*python[^'\n]*'|\S*python\S*) -m "  # quoted where its path has spaces
    return re.sub(rf"(?:{python})?(?<![\w/.])experiments\.(\w+)", r"tl \1", text)
