"""Dataclasses of arrays as npz files, each whole or not at all."""

import dataclasses
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tl.errors import UserError
from tl.files import replacing


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays by name."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path, kind: type) -> Any:
    """Returns a file as the dataclass it was written from, or None where there is no file.

    A field with a default may be missing from the file, which is then older than the field.

    Raises:
      UserError: the file is damaged, or is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [
                field.name
                for field in dataclasses.fields(kind)
                if field.name in arrays or field.default is dataclasses.MISSING
            ]
            return kind(**{name: arrays[name] for name in names})
    except FileNotFoundError:
        return None
    # Whatever a file that is no such archive, or half of one, sets off.
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """Returns what to say of a file that cannot be read."""
    return UserError(
        f"{path} is damaged ({type(error).__name__}); restore it, or make the run again with "
        "--overwrite"
    )
