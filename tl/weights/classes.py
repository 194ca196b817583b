"""Names of a head's outputs, read from a file beside the weights."""

import json
from collections.abc import Sequence

from tl import paths
from tl.errors import UserError


def read(path: str) -> tuple[str, ...]:
    """Returns the names in the order of the outputs.

    Args:
      path: of a text file with a name a line; or of a JSON file with a list of names, or with each
        name's number from 0 on, as torchvision's `class_to_idx`.

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    field = "weights_classes"
    try:
        text = paths.as_path(path).read_text(encoding="utf-8")
        names = _of_json(json.loads(text)) if path.endswith(".json") else text.split("\n")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); expected a text file with a class a line, or JSON "
            'with a list of classes or their numbers, such as {"cat": 0, "dog": 1}',
            field=field,
        ) from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if "" in names or len(set(names)) < len(names) or not names:
        raise UserError(f"{path} must name each class once, without empty names", field=field)
    return tuple(names)


def _of_json(value: object) -> Sequence[str]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    if isinstance(value, dict) and sorted(map(str, value.values())) == sorted(
        map(str, range(len(value)))
    ):
        return sorted(value, key=lambda name: int(value[name]))
    raise ValueError("neither a list of names nor the numbers 0, 1, 2, ... by name")
