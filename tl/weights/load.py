"""Loads weights by name or path into their model, and writes them to files."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tl.errors import UserError
from tl.models import registry
from tl.models.registry import Backbone, Network
from tl.weights import catalog, convert, fetch, naming, prefixes, trained
from tl.weights.readers import WeightFile
from tl.weights.spec import LocalFile, WeightSpec

_FILE = "model.safetensors"  # the file that a directory is given for


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network with its weights.

    Attributes:
      spec: description of the weights, with their preprocessing.
      backbone: contract of the network.
      model: the Flax module.
      variables: `{'params', 'batch_stats'}`, float32 NumPy arrays; `batch_stats` is empty if the
        network has none.
      sha256: of the weight file, in hex; of the variables (`tl.tree.digest`) for a checkpoint.
    """

    spec: WeightSpec
    backbone: Backbone
    model: Network
    variables: dict[str, Any]
    sha256: str


def load(
    name_or_path: str,
    *,
    like: str = "",
    prefix: str = "",
    num_classes: int | None = None,
    drop_head: bool = False,
    cache_dir: str = "",
    dtype: Any = jnp.float32,
) -> Pretrained:
    """Loads weights into the model they belong to.

    Args:
      name_or_path: a name of the catalogue, or a weight file of any supported format, or a
        directory with a `model.safetensors`; or a run that fine-tuned, its `checkpoints` (the best
        one counts) or one of those.
      like: a name of the catalogue, whose architecture and preprocessing a local file takes;
        needed if the file does not say them.
      prefix: a key of `prefixes.PREFIXES`, for self-supervised and training checkpoints.
      num_classes: number of classes the head must have; None accepts the file's.
      drop_head: leave the file's head out. The model gets a head of `num_classes` outputs with zero
        weights, as in BiT, or no head if num_classes is None.
      cache_dir: see `tl.weights.fetch.fetch`.
      dtype: compute type of the model.

    Raises:
      UserError: no such weights, or they do not fit the arguments.
    """
    path = Path(os.path.expanduser(name_or_path))
    spec: WeightSpec | None
    if found := _checkpoint(path):
        spec, tensors, sha256 = trained.read_checkpoint(*found, name_or_path)
    else:
        path, spec, tensors, sha256 = _read(name_or_path, like, cache_dir)
    try:
        if prefix:
            tensors = prefixes.strip(tensors, prefix)
        scheme = spec.scheme if spec else naming.detect(tensors)
        if spec is None or like:
            spec = _local_spec(path, tensors, scheme, like)
        spec, model, variables = _build(spec, tensors, scheme, num_classes, drop_head, dtype)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if spec.non_commercial:
        logging.getLogger(__name__).warning(
            "%s is licensed %s: NOT for commercial use", spec.name, spec.licence
        )
    return Pretrained(spec, registry.get(spec.backbone), model, variables, sha256)


def _build(
    spec: WeightSpec,
    tensors: Mapping[str, np.ndarray],
    scheme: str,
    num_classes: int | None,
    drop_head: bool,
    dtype: Any,
) -> tuple[WeightSpec, Network, dict[str, Any]]:
    found = _head_classes(tensors, scheme)
    if spec.classes and found != len(spec.classes):
        raise UserError(f"its head has {found} classes, expected the {len(spec.classes)} it names")
    if num_classes not in (None, found) and not drop_head:
        raise UserError(
            f"its head has {found} classes, expected {num_classes}; drop_head=True leaves it out"
        )
    wanted = (num_classes or 0) if drop_head else found
    model = registry.build(spec.backbone, num_classes=wanted, dtype=dtype, **spec.model_args)
    shapes = convert.shapes(model, spec.preprocessing.size)
    variables = convert.to_variables(tensors, shapes, scheme, drop_head=drop_head)
    if drop_head and wanted:
        head = shapes["params"]["head"]
        variables["params"]["head"] = {k: np.zeros(v.shape, np.float32) for k, v in head.items()}
    classes = () if drop_head else spec.classes
    return dataclasses.replace(spec, num_classes=wanted, classes=classes), model, variables


def save(variables: Mapping[str, Any], path: str | Path, scheme: str = "torchvision") -> None:
    """Writes variables as a safetensors file that other software loads strictly.

    Args:
      variables: `{'params', 'batch_stats'}` of a backbone.
      path: of the file, which is replaced whole or not at all.
      scheme: a torch scheme of `naming.SCHEMES`.

    Raises:
      UserError: the scheme does not name these variables, or the file cannot be written.
    """
    trained.write_safetensors(convert.from_variables(variables, scheme), path)


def _checkpoint(path: Path) -> tuple[Path, int | None] | None:
    if not os.path.isdir(path) or os.path.exists(path / _FILE):
        return None
    return trained.find_checkpoint(path)


def _read(
    name_or_path: str, like: str, cache_dir: str
) -> tuple[Path, WeightSpec | None, dict[str, np.ndarray], str]:
    """Reads a weight file once; returns (path, its set if known, tensors, SHA-256)."""
    path = Path(os.path.expanduser(name_or_path))
    if os.path.isdir(path):
        path = path / _FILE
    spec: WeightSpec | None
    if os.sep in name_or_path or os.path.isfile(path):
        file = WeightFile(path)
        sha256 = file.checksum()
        spec = catalog.recognise(sha256, lambda: file.checksum("md5"))
    else:
        spec = catalog.get(name_or_path)
        file = WeightFile(fetch.obtain(spec, cache_dir))
        sha256 = fetch.check(spec.source, file.path, file.checksum)
    tensors = file.tensors()
    if spec is None and not like:
        spec = trained.parse_metadata(file.metadata(), name_or_path)
    return file.path, spec, tensors, sha256


def _head_classes(tensors: Mapping[str, np.ndarray], scheme: str) -> int:
    bias = naming.canonical(scheme, tensors).get(naming.source_name(scheme, "head", "bias"))
    return 0 if bias is None else bias.size


def _local_spec(
    path: Path, tensors: Mapping[str, np.ndarray], scheme: str, like: str
) -> WeightSpec:
    like = like or _implied_set(tensors, scheme)
    known = catalog.get(like)
    if scheme == "keras" and known.scheme != "keras":
        raise UserError(
            f"it holds Keras weights (v1, BGR) and {like} is another network; expected the name "
            f"of a Keras set, such as {known.backbone}.keras"
        )
    return dataclasses.replace(
        known,
        name=str(path),
        source=LocalFile(str(path)),
        scheme=scheme,
        licence=known.licence if known.non_commercial else "",
        top1=None,
        top5=None,
        measured="",
        notes=f"architecture and preprocessing of {like}",
        other_files=(),
    )


def _implied_set(tensors: Mapping[str, np.ndarray], scheme: str) -> str:
    """Returns the catalogue's name that follows from the names of a file's tensors alone."""
    backbone = _backbone_of(tensors, scheme)
    of_backbone = [s for s in map(catalog.get, catalog.names()) if s.backbone == backbone]
    if not of_backbone:
        raise UserError(
            f"it holds a {backbone} and does not say how its images were made, and the catalogue "
            f"has no {backbone}; expected a file or run that was trained here"
        )
    same_scheme = [spec.name for spec in of_backbone if spec.scheme == scheme]
    if same_scheme and naming.get(scheme).implies_preprocessing:
        return same_scheme[0]
    sets = [spec.name for spec in of_backbone if naming.get(spec.scheme).torch]
    raise UserError(
        f"it holds a {backbone} and does not say how its images were made; name the set whose "
        f"architecture and preprocessing it takes, such as `weights_like={sets[0]}` (there are "
        f"{', '.join(sets)})"
    )


def _backbone_of(tensors: Mapping[str, np.ndarray], scheme: str) -> str:
    """Returns the backbone whose kernels, except the head's, have the same names as a file's."""
    head = naming.source_name(scheme, "head", "kernel")
    kernels = {
        name
        for name, value in naming.canonical(scheme, tensors).items()
        if value.ndim > 1 and name != head
    }
    known = [name for name in registry.names() if scheme in registry.get(name).schemes]
    for backbone in known:
        size = 64 * registry.get(backbone).multiple  # the names are the same at every size
        shapes = convert.shapes(registry.build(backbone, num_classes=0), size)
        named = convert.source_names(shapes, scheme)
        if kernels == {name for name, (_, leaf) in named.items() if leaf.ndim > 1}:
            return backbone
    raise UserError(
        f"its {len(kernels)} kernels ({scheme} names) are those of no backbone here; expected one "
        f"of {', '.join(known)}"
    )
