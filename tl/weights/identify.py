"""Says which network a file holds, and which of the file's tensors belong to it."""

import dataclasses
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tl.errors import UserError
from tl.models import registry
from tl.models.backbone import FINAL
from tl.weights import catalog, convert, hub_folder, naming, prefixes, readings
from tl.weights.readings import Reading
from tl.weights.schemes.scheme import COUNTER
from tl.weights.spec import LocalFile, WeightSpec

_log = logging.getLogger(__name__)
_DINOV2 = ("vit_small_patch14", "vit_base_patch14")


def identify(
    path: Path,
    spec: WeightSpec | None,
    tensors: dict[str, np.ndarray],
    like: str = "",
    prefix: str = "",
    average: str = "",
) -> tuple[WeightSpec, dict[str, np.ndarray]]:
    """Returns (description of a file's network, its tensors under the names of its scheme).

    Args:
      path: of the file, or of the folder that it was read from.
      spec: its description if it is known by its name, its checksum or its metadata, else None.
      tensors: name to array, as the file has them.
      like, prefix, average: as in `tl.weights.load.load`.

    Raises:
      UserError: the file holds no network that is known here, or several; or it does not say how
        its images are made.
    """
    if average and spec:
        raise UserError("leave `weights_average` out: it holds one network")
    reading = None
    literal = prefix.endswith((".", "/"))
    if prefix and not literal:
        tensors = prefixes.strip(tensors, prefix)
    elif spec is None or literal:
        reading = readings.find(tensors, average, prefix)
        tensors = reading.tensors if reading else tensors
    scheme = spec.scheme if spec else naming.detect(tensors)
    _refuse_moco_v3(scheme, prefix or (reading.prefix if reading else ""))
    names: tuple[str, ...] = ()
    if spec is None or like:
        naming.check_shapes(scheme, tensors)
        spec, names = _describe(path, tensors, scheme, like)
    if reading:
        tensors = _with_head(path, spec, reading)
        if spec.backbone in _DINOV2 and "mask_token" in reading.foreign:
            # Of DINOv2's authors, whose code resizes positions so; timm's file has no such token.
            spec = dataclasses.replace(spec, model_args={**spec.model_args, "resize": "offset"})
    if names and head_classes(tensors, scheme):
        spec = dataclasses.replace(spec, classes=names)
    return spec, tensors


def _refuse_moco_v3(scheme: str, found_at: str) -> None:
    if scheme == "timm_vit" and re.search("moco_v3|base_encoder", found_at):
        raise UserError(
            "it holds a vision transformer of MoCo v3, whose heads no tensor tells: its ViT-S "
            "has 12 of them, where others have 6; it is not known here"
        )


def _with_head(path: Path, spec: WeightSpec, reading: Reading) -> dict[str, np.ndarray]:
    tensors, head = readings.with_head(reading, registry.get(spec.backbone).outputs[FINAL].width)
    if said := readings.described(reading, head):
        choice = head or reading.average
        _log.log(logging.WARNING if choice else logging.INFO, "%s: %s", path, said)
    return tensors


def head_classes(tensors: Mapping[str, np.ndarray], scheme: str) -> int:
    """Returns the number of outputs of a network's head; 0 if it has none."""
    bias = naming.canonical(scheme, tensors).get(naming.source_name(scheme, "head", "bias"))
    return 0 if bias is None else bias.size


def _describe(
    path: Path, tensors: Mapping[str, np.ndarray], scheme: str, like: str
) -> tuple[WeightSpec, tuple[str, ...]]:
    """Returns (description of a user's network, names of its classes if they are beside it)."""
    folder = path if os.path.isdir(path) else path.parent
    hub_folder.refuse(folder)
    if path != folder and not hub_folder.is_weight_file(path):
        return _like(path, tensors, scheme, like or _implied_set(tensors, scheme)), ()
    names = hub_folder.class_names(folder)
    if like:
        return _in_folder(folder, _like(path, tensors, scheme, like), like), names
    told = hub_folder.describe(folder, str(path), scheme)
    return told or _like(path, tensors, scheme, _implied_set(tensors, scheme)), names


def _in_folder(folder: Path, spec: WeightSpec, like: str) -> WeightSpec:
    """Returns a set's description with what a folder's `config.json` says of its own network.

    Raises:
      UserError: the folder's network is another.
    """
    found = hub_folder.network(folder)
    if not found:
        return spec
    if (backbone := found["backbone"]) != spec.backbone:
        raise UserError(
            f"its config.json says {backbone}, and `weights_like={like}` is a {spec.backbone}; "
            f"expected a set whose name begins with {backbone}, or no config.json beside the file"
        )
    licence = found["licence"] or spec.licence
    return dataclasses.replace(spec, **{**found, "licence": licence})


def _like(path: Path, tensors: Mapping[str, np.ndarray], scheme: str, like: str) -> WeightSpec:
    """Returns the description of a file with a set's architecture and preprocessing."""
    known = catalog.get(like)
    if scheme not in registry.get(known.backbone).schemes:
        raise UserError(
            f"it holds a {_backbone_of(tensors, scheme)}, and `weights_like={like}` is a "
            f"{known.backbone}; expected a set of its own network"
        )
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
        link="softmax",  # a file that only resembles the set may have any head
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
    others = [spec.name for spec in of_backbone if naming.get(spec.scheme).torch]
    sets = [*same_scheme, *(name for name in others if name not in same_scheme)]
    raise UserError(
        f"it holds a {backbone} and does not say how its images were made; name the set whose "
        f"architecture and preprocessing it takes, such as `weights_like={sets[0]}` (there are "
        f"{', '.join(sets)})"
    )


def _backbone_of(tensors: Mapping[str, np.ndarray], scheme: str) -> str:
    """Returns the backbone whose kernels, except the head's, have a file's names and shapes.

    Shapes, not sizes: a convolution of more groups may be as large as one of more channels. Of
    several it is the one that the other tensors' names fit best, such as those of running
    statistics. If none has all shapes, it is the first one with the names.
    """

    def matched(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        # Tokens and position tables have three axes; the tables follow the size of the images.
        return {k: () if len(v) == 3 else v for k, v in shapes.items() if len(v) > 1}

    of_file = naming.canonical(scheme, tensors)
    of_file.pop(naming.source_name(scheme, "head", "kernel"), None)
    of_file.pop(naming.source_name(scheme, "head", "bias"), None)
    alike: dict[str, int] = {}  # how many other names differ
    same_names = []
    known = [name for name in registry.names() if scheme in registry.get(name).schemes]
    for backbone in known:
        size = 64 * registry.get(backbone).multiple  # the names are the same at every size
        shapes = convert.shapes(registry.build(backbone, num_classes=0), size)
        wanted = convert.source_shapes(shapes, scheme)
        joined = convert.joined(of_file, wanted)
        found = matched({name: value.shape for name, value in joined.items()})
        if found == matched(wanted):
            names = {name for name in joined if not name.endswith(COUNTER)}
            alike[backbone] = len(names ^ wanted.keys())
            if not alike[backbone]:
                return backbone
        elif found.keys() == matched(wanted).keys():
            same_names.append(backbone)
    if alike:
        return min(alike, key=alike.__getitem__)
    if same_names:
        return same_names[0]
    count = len(matched({name: value.shape for name, value in of_file.items()}))
    raise UserError(
        f"its {count} kernels ({scheme} names) are those of no backbone here; "
        f"expected one of {', '.join(known)}"
    )
