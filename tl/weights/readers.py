"""Weight files of every supported format -> {name: array}; the format is told by content."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy

from tl.errors import UserError
from tl.weights import keras_h5, torch_pickle

_ZIP_START = b"PK\x03\x04"
_HDF5_START = b"\x89HDF\r\n\x1a\n"


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads every tensor of a weight file, running nothing that the file says.

    Args:
      path: a `.safetensors`, a PyTorch checkpoint (zip or legacy container), a Keras `.h5` (weights
        or whole model), `.weights.h5` or `.keras`; the suffix does not matter.

    Returns:
      Name to array, in the file's own shapes and types; arrays may be read-only views.

    Raises:
      UserError: the file is missing, damaged, of another format, or asks for what weights have no
        need of.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weight file at {path}")
    try:
        tensors = _reader(path)(path)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged or hostile file sets off is the file's fault
        raise UserError(f"cannot read weights from {path}: {_describe(error)}") from error
    if not tensors:
        raise UserError(f"there is no tensor in {path}")
    return tensors


def _reader(path: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(_HDF5_START):
        return keras_h5.read
    if start.startswith(torch_pickle.LEGACY_START):
        return torch_pickle.read
    if start.startswith(_ZIP_START):
        with zipfile.ZipFile(path) as archive:
            is_keras = keras_h5.ARCHIVE_MEMBER in archive.namelist()
        return keras_h5.read if is_keras else torch_pickle.read
    if len(start) > 8 and start[8:9] == b"{":  # after the header's length in eight bytes
        return _read_safetensors
    raise UserError(
        f"{path} is in no format known here: it begins with {start[:24]!r}; expected safetensors, "
        "a PyTorch checkpoint (of PyTorch 0.4 or later) or a Keras HDF5 file"
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(path)


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__
