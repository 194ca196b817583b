"""Reads weight files of every supported format, recognised by content, as {name: array}."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from tl.errors import UserError
from tl.weights import keras_h5, torch_pickle

_HDF5_START = b"\x89HDF\r\n\x1a\n"
_SAFETENSORS_TYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}


class WeightFile:
    """A weight file in memory, read once, so that checksum and tensors come from the same bytes."""

    def __init__(self, path: str | Path):
        """Reads the file.

        Args:
          path: a `.safetensors`, a PyTorch checkpoint (zip or legacy container), a Keras `.h5`
            (weights or whole model), `.weights.h5` or `.keras`; the suffix does not matter.

        Raises:
          UserError: there is no such file, or it cannot be read.
        """
        self.path = Path(path)
        try:
            if not self.path.is_file():
                raise UserError(f"no weight file at {path}")
            self._data = self.path.read_bytes()
        except OSError as error:
            raise UserError(f"the weight file {path} cannot be read: {error.strerror}") from error

    def checksum(self, algorithm: str = "sha256") -> str:
        """Returns the checksum of the file in hex."""
        return hashlib.new(algorithm, self._data).hexdigest()

    def tensors(self) -> dict[str, np.ndarray]:
        """Returns every tensor, without running code from the file.

        Returns:
          Name to array, in the file's own shapes and types; arrays may be read-only.

        Raises:
          UserError: the file is damaged, in another format, or refers to code or data that weights
            do not need.
        """
        try:
            tensors = self._reader()(self._data)
        except UserError:
            raise
        except Exception as error:  # a damaged or hostile file may cause any error
            raise UserError(f"cannot read weights from {self.path}: {_describe(error)}") from error
        if not tensors:
            raise UserError(f"there is no tensor in {self.path}")
        return tensors

    def metadata(self) -> dict[str, str]:
        """Returns the metadata of a safetensors file; empty for a damaged or any other file."""
        if not _is_safetensors(self._data):
            return {}
        try:
            header, _ = safetensors_header(self._data)
            return dict(header.get("__metadata__", {}))
        except (RecursionError, TypeError, ValueError):
            return {}

    def _reader(self) -> Callable[[bytes], dict[str, np.ndarray]]:
        start = self._data[:64]
        if start.startswith(_HDF5_START):
            return keras_h5.read
        if start.startswith(torch_pickle.LEGACY_START):
            return torch_pickle.read
        if start.startswith(keras_h5.ZIP_START):
            with zipfile.ZipFile(io.BytesIO(self._data)) as archive:
                members = archive.namelist()
            if any(name.endswith(".npy") for name in members):
                raise UserError(
                    f"{self.path} is an npz of NumPy, which is not read here; timm has Google's "
                    "BiT as safetensors, such as resnetv2_50x1_bit.goog_in21k"
                )
            is_keras = keras_h5.ARCHIVE_MEMBER in members
            return keras_h5.read if is_keras else torch_pickle.read
        if _is_safetensors(start):
            return _read_safetensors
        raise UserError(
            f"{self.path} is in no format known here: it begins with {start[:24]!r}; expected "
            "safetensors, a PyTorch checkpoint (of PyTorch 0.4 or later) or a Keras HDF5 file"
        )


def safetensors_header(data: bytes) -> tuple[dict[str, Any], int]:
    """Returns the header of a safetensors file, and the position where its tensors begin.

    Args:
      data: the whole file.

    Raises:
      ValueError: it is not a safetensors file.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), end


def _is_safetensors(data: bytes) -> bool:
    return data[8:9] == b"{"  # eight bytes before it hold the header's length


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    # Not safetensors.numpy.load, which cannot read bfloat16.
    return {
        name: np.frombuffer(tensor["data"], _SAFETENSORS_TYPES[tensor["dtype"]]).reshape(
            tensor["shape"]
        )
        for name, tensor in safetensors.deserialize(data)
    }


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__
