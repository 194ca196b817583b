"""Dataclasses of arrays, written to npz files and read from them."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tl.errors import UserError
from tl.files import NUMPY_ERRORS, opened_npz, replacing

T = TypeVar("T")


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays by name; the file is whole or not there."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path, kind: type[T]) -> T | None:
    """Returns a file's arrays as the dataclass they were written from, or None without a file.

    An array without axes becomes a Python value. A field that is missing in the file, which is
    then older than the field, takes its default.

    Raises:
      UserError: the file is damaged, or holds something else.
    """
    try:
        with opened_npz(path) as arrays:
            names = [
                name
                for name, field in inspect.signature(kind).parameters.items()
                if name in arrays or field.default is field.empty
            ]
            values = {name: arrays[name] for name in names}
            return kind(**{n: v if v.ndim else v.item() for n, v in values.items()})
    except FileNotFoundError:
        return None
    except NUMPY_ERRORS as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """Returns the error of a file that cannot be read."""
    return UserError(
        f"{path} is damaged ({type(error).__name__}: {error}); restore it, or make the run again "
        "with --overwrite"
    )
