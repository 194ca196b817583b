"""Loads weights by name or path into their model, and writes them to files."""

import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tl import paths, tree
from tl.errors import UserError, nearest
from tl.files import read_json
from tl.models import registry
from tl.models.backbone import FINAL, Backbone, Network
from tl.storage import mirror
from tl.weights import (
    catalog,
    convert,
    fetch,
    hub_folder,
    identify,
    naming,
    probe_head,
    readings,
    trained,
)
from tl.weights import classes as class_files
from tl.weights.probe_head import ProbeHead
from tl.weights.readers import WeightFile
from tl.weights.spec import LocalFile, WeightSpec

_log = logging.getLogger(__name__)
# Outputs of the projection to the space of CLIP's texts, which files have in a head's place.
_PROJECTIONS = {
    "vit_base_patch16_clip": 512,
    "vit_base_patch32_clip": 512,
    "convnext_base": 640,
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network with its weights.

    Attributes:
      spec: description of the weights, with their preprocessing.
      backbone: contract of the network.
      model: the Flax module.
      variables: `{'params', 'batch_stats'}`, float32 NumPy arrays; `batch_stats` is empty if the
        network has none.
      sha256: of the weight file, in hex; of the variables (`tl.tree.digest`) for a checkpoint, or
        for the averaged weights of a file that holds raw ones too.
    """

    spec: WeightSpec
    backbone: Backbone
    model: Network
    variables: dict[str, Any] = dataclasses.field(repr=False)
    sha256: str

    def with_head(self, head: Mapping[str, Float[np.ndarray | jax.Array, "..."]]) -> "Pretrained":
        """Returns the network with this head, `kernel` [D, C] and `bias` [C]."""
        params = {**self.variables["params"], "head": dict(head)}
        return dataclasses.replace(self, variables={**self.variables, "params": params})


def load(
    name_or_path: str,
    *,
    like: str = "",
    prefix: str = "",
    average: str = "",
    classes: str = "",
    num_classes: int | None = None,
    drop_head: bool = False,
    cache_dir: str = "",
    dtype: Any = jnp.float32,
) -> Pretrained:
    """Loads weights into the model they belong to.

    Args:
      name_or_path: a name of the catalogue, or a weight file of any supported format, or a
        directory as transformers and timm save it, or with a `model.safetensors` alone; or a run
        that fine-tuned, its `checkpoints` (the best one counts) or one of those; or a probe's run
        or file, if it acts on the last features. All but names may be in an object store.
      like: a name of the catalogue, whose architecture and preprocessing a local file takes;
        needed if the file does not say them.
      prefix: a key of `prefixes.PREFIXES`, for a self-supervised checkpoint; or what the names of
        the network begin with, such as 'student.', if a file holds several. Else '': the one
        network in a file is found (`tl.weights.readings`).
      average: 'ema' for the averaged weights of a file that holds raw ones too; '' for the raw.
      classes: a file that names the head's outputs, see `tl.weights.classes`.
      num_classes: number of classes the head must have; None accepts the file's.
      drop_head: leave the file's head out. The model gets a head of `num_classes` outputs with zero
        weights, as in BiT, or no head if num_classes is None.
      cache_dir: see `tl.weights.fetch.fetch`.
      dtype: compute type of the model.

    Raises:
      UserError: no such weights, or they do not fit the arguments.
    """
    here = local(name_or_path)
    path = Path(os.path.expanduser(here))
    if average not in readings.AVERAGES:
        raise UserError(f"expected '' or 'ema', got {average!r}", field="weights_average")
    if average and prefix:
        raise UserError("cannot be given beside `weights_prefix`", field="weights_average")
    if file := probe_head.find(path):
        probe = probe_head.read(file)
        if drop_head:
            wanted = num_classes or 0
        else:
            wanted = len(probe.classes)
            _check_classes(wanted, num_classes)
        base = load_probed(
            probe, name_or_path, num_classes=wanted, cache_dir=cache_dir, dtype=dtype
        )
        network = base if drop_head else _with_probe(base, probe, name_or_path)
        return dataclasses.replace(network, sha256=probe.digest())
    spec: WeightSpec | None
    if found := _checkpoint(path):
        spec, tensors, sha256 = trained.read_checkpoint(*found, name_or_path)
    else:
        path, spec, tensors, sha256 = _read(here, like, cache_dir)
    try:
        catalog.refuse(sha256)
        spec, tensors = identify.identify(path, spec, tensors, like, prefix, average)
        spec, model, variables = _build(spec, tensors, num_classes, drop_head, dtype)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if average:
        sha256 = tree.digest(variables)
    if spec.name == here:
        spec = dataclasses.replace(spec, name=name_or_path)
    if spec.non_commercial:
        _log.warning("%s is licensed %s: NOT for commercial use", spec.name, spec.licence)
    if classes and spec.num_classes and not drop_head:
        spec = dataclasses.replace(spec, classes=_named(classes, spec))
    return Pretrained(spec, registry.get(spec.backbone), model, variables, sha256)


def local(name: str) -> str:
    """Returns the name of weights, of an object store's the path of a copy on this machine."""
    if "://" not in name:
        return name
    path = paths.as_path(name)
    leave_out = ["tensorboard/"]
    if (path / "result.json").exists():  # of a finished run the weights are enough
        leave_out += ["checkpoints/"]
    else:
        leave_out += [f"checkpoints/{step}/" for step in mirror.uncounted(path / "checkpoints")]
        leave_out += [f"{step}/" for step in mirror.uncounted(path)]
    return str(fetch.local_copy(path, tuple(leave_out)))


def _named(file: str, spec: WeightSpec) -> tuple[str, ...]:
    names = class_files.read(file)
    if len(names) != spec.num_classes:
        raise UserError(
            f"{file} names {len(names)} classes, the head of {spec.name} has {spec.num_classes}",
            field="weights_classes",
        )
    return names


def _build(
    spec: WeightSpec,
    tensors: Mapping[str, np.ndarray],
    num_classes: int | None,
    drop_head: bool,
    dtype: Any,
) -> tuple[WeightSpec, Network, dict[str, Any]]:
    tensors = _without_cls_position(spec, tensors)
    spec = _with_biases(_with_grid(spec, tensors), tensors)
    tensors = _with_last_norm(spec, _without_projection(spec, tensors))
    found = identify.head_classes(tensors, spec.scheme)
    if spec.classes and found != len(spec.classes):
        raise UserError(f"its head has {found} classes, expected the {len(spec.classes)} it names")
    if not drop_head:
        _check_classes(found, num_classes)
    wanted = (num_classes or 0) if drop_head else found
    model = registry.build(spec.backbone, num_classes=wanted, dtype=dtype, **spec.model_args)
    shapes = convert.shapes(model, spec.preprocessing.size)
    variables = convert.to_variables(tensors, shapes, spec.scheme, drop_head=drop_head)
    if drop_head and wanted:
        head = shapes["params"]["head"]
        variables["params"]["head"] = {k: np.zeros(v.shape, np.float32) for k, v in head.items()}
    classes = () if drop_head else spec.classes
    return dataclasses.replace(spec, num_classes=wanted, classes=classes), model, variables


def _without_projection(
    spec: WeightSpec, tensors: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Returns the tensors without a head that is no classifier.

    Such are the heads of public sets without classes. CLIP's is a projection without a bias, which
    timm writes as zeros.
    """
    names = [naming.source_name(spec.scheme, "head", leaf) for leaf in ("kernel", "bias")]
    bias = tensors.get(names[1])
    public = not spec.num_classes and not isinstance(spec.source, LocalFile)
    size = 0 if bias is None or bias.any() else bias.size
    clip = size > 0 and size == _PROJECTIONS.get(spec.backbone)
    if not (public or clip):
        return tensors
    return {name: value for name, value in tensors.items() if name not in names}


def _with_last_norm(
    spec: WeightSpec, tensors: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Returns the tensors with the last normalisation of a ConvNeXt V2 that was only pre-trained.

    Such a set has no head, and its file ends with the last stage. timm computes with scale 1 and
    bias 0, and so do we.
    """
    if not spec.backbone.startswith("convnextv2") or spec.num_classes:
        return tensors
    scale, bias, *head = (
        naming.source_name(spec.scheme, module, leaf)
        for module, leaf in (
            ("pooled/norm", "scale"),
            ("pooled/norm", "bias"),
            ("head", "kernel"),
            ("head", "bias"),
        )
    )
    if {scale, bias, *head} & naming.canonical(spec.scheme, tensors).keys():
        return tensors
    width = registry.get(spec.backbone).outputs[FINAL].width
    return {**tensors, scale: np.ones(width, np.float32), bias: np.zeros(width, np.float32)}


def _without_cls_position(
    spec: WeightSpec, tensors: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Returns the tensors with the class token's position in the token, if the network adds none.

    Such are DINOv2's with registers: transformers and the authors keep a position for the class
    token, timm does not.
    """
    arguments = {**registry.get(spec.backbone).arguments, **spec.model_args}
    if arguments.get("cls_position", True):
        return tensors
    names = [naming.source_name(spec.scheme, "embed", leaf) for leaf in ("cls", "positions")]
    tensors = naming.canonical(spec.scheme, tensors)
    cls, table = (tensors.get(name) for name in names)
    if cls is None or table is None or table.ndim != 3:
        return tensors  # which the conversion says
    if math.isqrt(table.shape[1] - 1) ** 2 != table.shape[1] - 1:
        return tensors
    return {**tensors, names[0]: cls + table[:, :1], names[1]: table[:, 1:]}


def _with_grid(spec: WeightSpec, tensors: Mapping[str, np.ndarray]) -> WeightSpec:
    """Returns the set with the side of the file's position table, if its network has one."""
    arguments = {**registry.get(spec.backbone).arguments, **spec.model_args}
    if "grid" not in arguments:
        return spec
    table = naming.canonical(spec.scheme, tensors).get(
        naming.source_name(spec.scheme, *convert.POSITIONS)
    )
    if table is None or table.ndim != 3:
        return spec  # which the conversion says
    grid = math.isqrt(table.shape[1] - arguments["cls_position"])
    if grid == arguments["grid"]:
        return spec
    return dataclasses.replace(spec, model_args={**spec.model_args, "grid": grid})


def _with_biases(spec: WeightSpec, tensors: Mapping[str, np.ndarray]) -> WeightSpec:
    """Returns the set with the biases of queries and values that a DINOv3's file has, or not."""
    if not hasattr(registry.get(spec.backbone).module, "qkv_bias"):
        return spec
    name = naming.source_name(spec.scheme, "block1/attn/qkv", "query_bias")
    others = {k: v for k, v in spec.model_args.items() if k != "qkv_bias"}
    biased = name in naming.canonical(spec.scheme, tensors)
    model_args = {**others, "qkv_bias": True} if biased else others
    return dataclasses.replace(spec, model_args=model_args)


def _check_classes(found: int, wanted: int | None) -> None:
    if wanted not in (None, found):
        raise UserError(
            f"its head has {found} classes, expected {wanted}; drop_head=True leaves it out"
        )


def load_probed(
    probe: ProbeHead,
    name: str,
    *,
    num_classes: int = 0,
    weights: str = "",
    cache_dir: str = "",
    dtype: Any = jnp.float32,
) -> Pretrained:
    """Returns the network whose features a probe was fitted on.

    Args:
      probe: see `ProbeHead`.
      name: of the probe, for errors.
      num_classes: outputs of its head, which are 0; none for 0.
      weights: where the weights are now; '' for where they were.
      cache_dir, dtype: as in `load`.

    Raises:
      UserError: the weights are not at hand, or others.
    """
    choice = probe.weights
    try:
        network = load(
            weights or choice.name,
            **choice.reading,
            num_classes=num_classes,
            drop_head=True,
            cache_dir=cache_dir,
            dtype=dtype,
        )
    except UserError as error:
        raise UserError(
            f"{name} is a probe of the weights {choice.name} (SHA-256 {probe.sha256[:12]}...), "
            f"which cannot be had: {error}"
        ) from error
    if network.sha256 != probe.sha256:
        raise UserError(
            f"{name} is a probe of weights with the SHA-256 {probe.sha256}; "
            f"{weights or choice.name} has {network.sha256}. Give the weights that it was fitted on"
        )
    # A probe's logits become probabilities by softmax, whatever its weights were trained with.
    spec = dataclasses.replace(
        network.spec, preprocessing=probe.preprocessing, link="softmax", temperature=1.0
    )
    return dataclasses.replace(network, spec=spec)


def _with_probe(network: Pretrained, probe: ProbeHead, name: str) -> Pretrained:
    """Returns the network with the probe in the place of its head.

    Raises:
      UserError: the probe does not act on the features that the head takes.
    """
    if (probe.kind, probe.endpoint) != ("linear", FINAL):
        what = f"a {probe.kind} probe of the endpoint {probe.endpoint!r}"
        raise UserError(
            f"{name} is {what}, which cannot be the head of a network: that is linear and acts on "
            f"{FINAL!r}. Predict with it, or give its weights, {probe.weights.name}"
        )
    spec = dataclasses.replace(
        network.spec,
        name=name,
        source=LocalFile(name),
        num_classes=len(probe.classes),
        classes=probe.classes,
        temperature=probe.temperature,
        top1=None,
        top5=None,
        measured="",
        notes=f"a probe of {network.spec.name}",
        other_files=(),
    )
    return dataclasses.replace(network.with_head(probe.tensors), spec=spec)


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
    if not os.path.isdir(path) or hub_folder.weight_files(path):
        return None
    return trained.find_checkpoint(path)


def _read(
    name_or_path: str, like: str, cache_dir: str
) -> tuple[Path, WeightSpec | None, dict[str, np.ndarray], str]:
    """Reads each weight file once; returns (path, its set if known, tensors, SHA-256)."""
    path = Path(os.path.expanduser(name_or_path))
    files = hub_folder.weight_files(path) if os.path.isdir(path) else [path]
    is_name = name_or_path in catalog.names() or not os.path.lexists(path)
    if os.sep not in name_or_path and is_name and not any(map(os.path.isfile, files)):
        spec = catalog.get(name_or_path)
        file = WeightFile(fetch.obtain(spec, cache_dir))
        sha256 = fetch.check(spec.source, file.path, file.checksum)
        return file.path, spec, file.tensors(), sha256
    if not files:
        raise UserError(_without_weights(path))
    if not os.path.lexists(path):
        raise UserError(f"no run and no weight file at {path}{_near(path)}")
    if len(files) > 1:
        return path, None, *_read_parts(files)
    file = WeightFile(files[0])
    sha256 = file.checksum()
    known = catalog.recognise(sha256, lambda: file.checksum("md5"))
    tensors = file.tensors()
    if known is None and not like:
        known = trained.parse_metadata(file.metadata(), name_or_path)
    return file.path, known, tensors, sha256


def _near(path: Path) -> str:
    """Returns a clause for errors: similar names beside a missing file, or no such folder."""
    try:
        beside = os.listdir(path.parent)
    except FileNotFoundError:
        return f"; there is no folder {path.parent} either"
    except OSError:
        return ""
    return nearest(path.name, beside, "nothing there has a name like it")


def _without_weights(folder: Path) -> str:
    """Returns what a folder without weights lacks."""
    result = read_json(folder / "result.json")
    kind = result.get("kind") if isinstance(result, dict) else None
    lacking = {"probe": probe_head.HEAD, "finetune": "model.safetensors"}
    if kind in lacking:
        return (
            f"{folder} is a run of {kind}, but its {lacking[kind]} is not there; restore that "
            "file, or make the run again"
        )
    if kind:
        return (
            f"{folder} is a run of {kind}, which leaves no weights; give one of probe or finetune"
        )
    return (
        f"no weight file at {folder}; a folder needs model.safetensors or pytorch_model.bin, or "
        "the checkpoints of a run"
    )


def _read_parts(files: Sequence[Path]) -> tuple[dict[str, np.ndarray], str]:
    """Reads the files that a model is divided into; returns (tensors, SHA-256 of theirs)."""
    tensors: dict[str, np.ndarray] = {}
    sha256 = hashlib.sha256()
    for path in files:
        file = WeightFile(path)
        sha256.update(file.checksum().encode())
        part = file.tensors()
        if twice := sorted(part.keys() & tensors.keys()):
            raise UserError(f"{path}: another part of the model holds {twice[0]!r} too")
        tensors |= part
    return tensors, sha256.hexdigest()
