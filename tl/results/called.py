"""Commands as they are called here: `tl NAME` of an installed package, else `python -m`."""

import re

from tl.__main__ import BUNDLED


def as_called(text: str) -> str:
    """Returns a text with `python -m experiments.NAME` and `experiments.NAME` as called here."""
    if not BUNDLED.is_dir():
        return text
    python = r"(?:'[^'\n]*python[^'\n]*'|\S*python\S*) -m "  # quoted where its path has spaces
    return re.sub(rf"(?:{python})?(?<![\w/.])experiments\.(\w+)", r"tl \1", text)
