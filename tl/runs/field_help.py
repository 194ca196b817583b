"""The fields of a config with their values and the comments of configs/common.py, for --help."""

import re
from collections.abc import Iterator
from typing import Any

from tl.fields import Tree, flat

_FIELD = re.compile(r"    config\.([\w.]+) = (.*?)(?:  # (.*))?$")
_COMMENT = re.compile(r"    # (.*)$")


def field_help(config: Tree, source: str) -> str:
    """Returns a line for each field, `--config.NAME=VALUE`, and below it what it means.

    Args:
      config: with the values.
      source: of `configs/common.py`, whose comments stand above or beside the fields.
    """
    comments = dict(_comments(source))
    lines = []
    for name, value in flat(config).items():
        lines.append(f"  --config.{name}={_value(value)}")
        if comment := comments.get(name.removeprefix("base.")):
            lines.append(f"      {comment}")
    return "\n".join(lines)


def _comments(source: str) -> Iterator[tuple[str, str]]:
    """Yields fields with their comments: that above a field, then that beside it."""
    above: list[str] = []
    for line in source.splitlines():
        if match := _COMMENT.match(line):
            above.append(match[1])
        elif match := _FIELD.match(line):
            if not match[2].startswith("ml_collections."):  # a section is no field
                yield match[1], " ".join([*above, *filter(None, [match[3]])])
                above = []
        else:
            above = []


def _value(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > 6:
        return f"({value[0]!r}, {value[1]!r}, ... {value[-1]!r})"
    return str(value)
