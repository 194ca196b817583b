"""Weights of networks trained here: files and checkpoints that contain their own description."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tl import paths, tree
from tl.errors import UserError
from tl.files import replacing
from tl.models import lora, registry
from tl.weights import convert
from tl.weights.readers import safetensors_header
from tl.weights.spec import LINKS, LocalFile, Preprocessing, WeightSpec

_KEY = "tl"  # names the description in the file's metadata
_STEP_FILE = "_CHECKPOINT_METADATA"  # Orbax writes one into the directory of each step


def describe(
    spec: WeightSpec, classes: Sequence[str], sha256: str = "", temperature: float = 1.0
) -> dict[str, Any]:
    """Returns all that its tensors do not say about a network, as JSON values.

    Args:
      spec: of the weights that training started from, with the preprocessing it trained with.
      classes: names of the head's outputs, in their order.
      sha256: of the weights that training started from.
      temperature: what logits are divided by before they become probabilities.
    """
    return {
        "backbone": spec.backbone,
        "model_args": dict(spec.model_args),
        "preprocessing": spec.preprocessing.described(),
        "num_classes": len(classes),
        "classes": list(classes),
        **({} if spec.link == "softmax" else {"link": spec.link}),
        **({} if temperature == 1 else {"temperature": temperature}),
        "licence": spec.licence,
        "started_from": {"name": spec.name, "sha256": sha256},
    }


def parse_description(description: Any, name: str) -> WeightSpec:
    """Returns the weight set that `describe` described.

    Args:
      description: result of `describe`, read from JSON.
      name: of the set.

    Raises:
      UserError: the description is damaged.
    """
    try:
        spec = WeightSpec(
            name=name,
            backbone=description["backbone"],
            source=LocalFile(name),
            scheme=_scheme(description["backbone"]),
            preprocessing=preprocessing(description["preprocessing"]),
            licence=description["licence"],
            model_args=description["model_args"],
            num_classes=description["num_classes"],
            notes=f"trained from {description['started_from']['name']}",
            classes=tuple(description["classes"]),
            link=description.get("link", "softmax"),
            temperature=description.get("temperature", 1.0),
        )
        registry.build(spec.backbone, num_classes=spec.num_classes, **spec.model_args)
        if len(spec.classes) != spec.num_classes:
            raise ValueError(f"{spec.num_classes} classes and {len(spec.classes)} names")
        if spec.link not in LINKS:
            raise ValueError(f"a link {spec.link!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: its description of the network is damaged ({error!r}); restore the file, or "
            "write it anew"
        ) from error
    return spec


def preprocessing(fields: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing whose fields JSON has given back, with lists for tuples."""
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
    return Preprocessing(**values)


def save(
    variables: Mapping[str, Any],
    path: str | Path,
    spec: WeightSpec,
    classes: Sequence[str],
    sha256: str = "",
    temperature: float = 1.0,
) -> None:
    """Writes a trained network and its description as safetensors, under torch's names.

    Args:
      variables: `{'params', 'batch_stats'}`, float32, with a head.
      path: of the file, which is replaced whole or not at all.
      spec, classes, sha256, temperature: see `describe`.

    Raises:
      UserError: the file cannot be written.
    """
    head = np.shape(variables["params"]["head"]["bias"])[0]
    if head != len(classes):
        raise ValueError(f"expected a name for each of the head's {head} classes, got {classes}")
    tensors = convert.from_variables(variables, _scheme(spec.backbone))
    described = describe(spec, classes, sha256, temperature)
    write_safetensors(tensors, path, {_KEY: json.dumps(described)})


def write_safetensors(
    tensors: Mapping[str, np.ndarray], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file, whole or not at all.

    Args:
      tensors: name to contiguous array.
      path: of the file; its directory is made.
      metadata: strings by name, kept in the file's header.

    Raises:
      UserError: the file cannot be written.
    """
    path = paths.as_path(path)
    data = safetensors.numpy.save(dict(tensors), metadata={"format": "pt", **(metadata or {})})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(_with_ordered_metadata(data))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _with_ordered_metadata(data: bytes) -> bytes:
    """Returns a safetensors file with its metadata sorted: equal contents give equal bytes."""
    # The library writes the entries of the metadata in another order each time.
    header, end = safetensors_header(data)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[end:]


def parse_metadata(metadata: Mapping[str, str], name: str) -> WeightSpec | None:
    """Returns the weight set that a file of `save` describes; None for any other weight file.

    Args:
      metadata: of the file (`WeightFile.metadata`).
      name: of the set.

    Raises:
      UserError: the description is damaged.
    """
    if _KEY not in metadata:
        return None
    try:
        description = json.loads(metadata[_KEY])
    except ValueError:
        description = None
    return parse_description(description, name)


def find_checkpoint(path: Path) -> tuple[Path, int | None] | None:
    """Returns the arguments of `tl.storage.checkpoint.read`, or None if no checkpoint is there.

    Args:
      path: of a run, of its `checkpoints`, or of one step in those.

    Returns:
      (directory, step); the step is None unless the path names one.
    """
    if path.name.isdigit() and os.path.isfile(path / _STEP_FILE):
        return path.parent, int(path.name)
    if os.path.isdir(path / "checkpoints"):
        return path / "checkpoints", None
    if any(file.parent.name.isdigit() for file in path.glob(f"*/{_STEP_FILE}")):
        return path, None
    return None


def read_checkpoint(
    directory: Path, step: int | None, name: str
) -> tuple[WeightSpec, dict[str, np.ndarray], str]:
    """Returns the network in a checkpoint: the averaged one if the run keeps an average.

    Args:
      directory, step: see `find_checkpoint`.
      name: of the set.

    Returns:
      (spec, tensors named in its scheme, SHA-256 of the variables).

    Raises:
      UserError: the checkpoint is damaged, or describes no network.
    """
    from tl.storage import checkpoint  # here, since only this function needs Orbax

    state, metadata = checkpoint.read(directory, step)
    if "network" not in metadata or "params" not in state:
        raise UserError(
            f"{name}: expected the checkpoint of a network that was trained here, which contains "
            "its description; this one does not"
        )
    spec = parse_description(metadata["network"], name)
    variables = evaluated_variables(state)
    return spec, convert.from_variables(variables, spec.scheme), tree.digest(variables)


def evaluated_variables(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables to evaluate: the averaged ones if a checkpoint has them, else the raw.

    Args:
      state: of a checkpoint; the matrices of `tl.models.lora` become part of their kernels.
    """
    chosen = state if state.get("ema") is None else state["ema"]
    return {
        "params": lora.merged(chosen["params"]),
        "batch_stats": chosen.get("batch_stats") or {},
    }


def _scheme(backbone: str) -> str:
    return registry.get(backbone).schemes[0]
