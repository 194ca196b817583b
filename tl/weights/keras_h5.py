"""Reads Keras weight files with h5py alone, and so never runs code that a file asks for.

There are two families of two layouts each. The legacy one (TensorFlow-era weights, and whole models
under `model_weights`) lists layers and weights in attributes. Keras 3 (`.weights.h5`, and `.keras`,
a zip around one) numbers them under `layers/<class>_<n>/vars/<i>`. A model may contain another one,
such as a network with a new head on it; its layers are one level deeper.
"""

import io
import zipfile
from typing import Any

import h5py
import numpy as np

ZIP_START = b"PK\x03\x04"
ARCHIVE_MEMBER = "model.weights.h5"  # in a .keras file
_BN_VARS = ("gamma", "beta", "moving_mean", "moving_variance")
_KERNEL_VARS = ("kernel", "bias")
_MAX_DEPTH = 16  # of models inside models
_MAX_GROUPS = 100_000  # groups that contain each other have no end


class KerasFileError(Exception):
    """The file holds no weights in a known layout; the text says why."""


def read(data: bytes) -> dict[str, np.ndarray]:
    """Reads the weights of a Keras file.

    Args:
      data: bytes of an HDF5 file of either family, or of a `.keras` archive.

    Returns:
      `<layer>/<weight>` to array, such as `conv1_conv/kernel`, in Keras' own shapes. The layers of
      a model inside have its name in front, such as `resnet50/conv1_conv/kernel`. The state of an
      optimizer is left out.

    Raises:
      KerasFileError: another layout, or data that lies outside the file.
      OSError, KeyError, zipfile.BadZipFile: the file is damaged.
    """
    if data.startswith(ZIP_START):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.getinfo(ARCHIVE_MEMBER)
            if member.compress_type != zipfile.ZIP_STORED:
                raise KerasFileError(f"its {ARCHIVE_MEMBER} is compressed, which Keras never does")
            with h5py.File(io.BytesIO(archive.read(member)), "r") as file:
                return _read_numbered(file)
    with h5py.File(io.BytesIO(data), "r") as file:
        if "layers" in file:
            return _read_numbered(file)
        root = _child(file, "model_weights") if "model_weights" in file else file
        if not _names(root, "layer_names"):
            raise KerasFileError(
                f"expected the attribute 'layer_names' or the group 'layers', got {sorted(file)}"
            )
        return _read_named(file, root)


def _read_named(file: h5py.File, root: h5py.Group) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for layer in _names(root, "layer_names"):
        group = _child(root, layer)
        names = _names(group, "weight_names")
        # A layer has one name before those of its weights, a model inside this one has many.
        is_model = len({name.rpartition("/")[0] for name in names}) > 1
        for name in names:
            inside = name if is_model else name.rpartition("/")[2]
            _add(file, weights, f"{layer}/{inside.removesuffix(':0')}", _child(group, name))
    return weights


def _read_numbered(file: h5py.File) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    pending = [(file, "", "")]
    visited = 0
    while pending:
        group, name, path = pending.pop()
        visited += 1
        if visited > _MAX_GROUPS or path.count("/") > _MAX_DEPTH:
            raise KerasFileError("its layers are nested beyond reason")
        for child_name in group:
            child = _child(group, child_name)
            if not isinstance(child, h5py.Group) or (group == file and child_name == "optimizer"):
                continue
            if child_name == "vars":
                _add_numbered(file, weights, name, path, child)
            elif child_name == "layers":
                pending.append((child, name, path))
            else:
                variables = _child(child, "vars") if "vars" in child else child
                layer = _text(variables.attrs.get("name", child_name))
                pending.append((child, child_name, f"{path}{layer}/"))
    return weights


def _add_numbered(
    file: h5py.File, weights: dict[str, np.ndarray], name: str, path: str, variables: h5py.Group
) -> None:
    """Adds the weights of one layer.

    Args:
      file, weights: see `_add`.
      name: of the layer's group, which begins with its class.
      path: names of the models that the layer is in, and its own, each with `/` behind it.
      variables: the layer's group `vars`.
    """
    if len(variables) and "name" not in variables.attrs:
        raise KerasFileError(
            f"layer {name!r} carries no name: Keras before 3.6 wrote it; load it there "
            "and save it again with Keras 3.6 or later"
        )
    leaves = _BN_VARS if name.startswith("batch_normalization") else _KERNEL_VARS
    for number in variables:
        dataset = _child(variables, number)
        # Another kind of layer, which is no part of a network known here.
        leaf = leaves[int(number)] if len(variables) <= len(leaves) else number
        _add(file, weights, f"{path}{leaf}", dataset)


def _child(group: h5py.Group, path: str) -> Any:
    """Returns what a group holds under a path; a link, which may name any file, is not followed."""
    for name in filter(None, path.split("/")):
        if isinstance(group.get(name, getlink=True), h5py.SoftLink | h5py.ExternalLink):
            raise KerasFileError(f"its {name!r} is a link, which Keras never writes")
        group = group[name]
    return group


def _names(group: h5py.Group, attribute: str) -> list[str]:
    # HDF5 limits an attribute to 64 KB; Keras splits longer lists into name0, name1, ...
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    parts: list[str] = []
    i = 0
    while f"{attribute}{i}" in group.attrs:
        parts += [_text(name) for name in group.attrs[f"{attribute}{i}"]]
        i += 1
    return parts


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _add(file: h5py.File, weights: dict[str, np.ndarray], name: str, dataset: Any) -> None:
    if name in weights:
        raise KerasFileError(f"two weights are called {name!r}")
    if not isinstance(dataset, h5py.Dataset):
        raise KerasFileError(f"{name!r} is not an array")
    # HDF5 can point at other files, and declare arrays of any size that it does not hold.
    foreign = dataset.file != file or dataset.external or dataset.is_virtual
    if foreign or dataset.id.get_storage_size() < dataset.nbytes:
        raise KerasFileError(f"the data of {name!r} is not stored plainly in this file")
    weights[name] = dataset[()]
