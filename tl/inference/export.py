"""Classifiers in the files of other programs: torchvision, timm, transformers, StableHLO, ONNX."""

import contextlib
import dataclasses
import importlib.metadata
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Float, Real

from tl.data.transforms import Prepare, device_transform, normalise
from tl.devices import in_full_precision
from tl.errors import UserError
from tl.features.network import computing_function
from tl.files import partial_name, read_json, write_json
from tl.inference import torch_formats
from tl.inference.model import Model
from tl.probes.heads import Linear
from tl.weights.spec import Preprocessing

FORMATS = (*torch_formats.FORMATS, "stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")

_CONFIG = "config.json"
# All that an export may hold, in the order in which an earlier one is taken away: a folder without
# _CONFIG is no whole export, so no network stands beside another one's classes, whatever kills us.
_FILES = (
    _CONFIG, "preprocessor_config.json", "model.safetensors", "model.stablehlo", "model.onnx"
)  # fmt: skip
# Of runs and of other programs' networks, beside which an export would be half of two things.
_FOREIGN = (
    "result.json", "checkpoints", "head.safetensors", "pytorch_model.bin",
    "model.safetensors.index.json", "pytorch_model.bin.index.json",
)  # fmt: skip
_DRAFT = "export"  # part of the name of the folder that an export is first written into
_DESCRIBED = {"classes", "preprocessing", "temperature"}  # by which an export's is known

# How far ONNX Runtime's logits may be from ours, as a share of the largest: rounding gives 1e-5.
_ONNX_TOLERANCE = 1e-3

Classify = Callable[[Real[Array, "n h w 3"]], Mapping[str, Float[Array, "n c"]]]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Which images a program takes, and so what it does with them inside.

    Attributes:
      image_size: (height, width) of uint8 images in RGB, which are resized, cropped and normalised
        inside; None for images that are resized and cropped already, [N, size, size, 3].
      normalised: whether they are normalised already, too: float32, (pixel - mean) / std, in the
        order of the preprocessing's channels; otherwise uint8 in RGB.

    Raises:
      UserError: both are given.
    """

    image_size: tuple[int, int] | None = None
    normalised: bool = False

    def __post_init__(self) -> None:
        if self.image_size and self.normalised:
            raise UserError("normalised images are resized already; leave their size out")

    def spec(self, model: Model, count: Any) -> jax.ShapeDtypeStruct:
        """Returns the shape and dtype of `count` images."""
        size = model.preprocessing.size
        dtype = jnp.float32 if self.normalised else jnp.uint8
        return jax.ShapeDtypeStruct((count, *(self.image_size or (size, size)), 3), dtype)

    def described(self, model: Model) -> dict[str, Any]:
        """Returns what `config.json` says of the images."""
        images = self.spec(model, 1)
        height, width = images.shape[1:3]
        steps = [] if self.normalised else ["normalise"]
        if self.image_size:
            steps = ["resize", "crop", *steps]
        return {
            "input": f"{images.dtype} [batch, {height}, {width}, 3]",
            "preprocessing_inside": steps,
        }

    @property
    def prepare(self) -> Prepare:
        """Images to the network's input."""
        if self.normalised:
            return _as_they_are
        return device_transform if self.image_size else normalise


def _as_they_are(images: jax.Array, p: Preprocessing) -> jax.Array:
    return images


def classify(model: Model, inputs: Inputs) -> Classify:
    """Returns the whole classifier as one function of JAX: images -> logits and probabilities.

    Args:
      model: see `tl.inference.model.load`.
      inputs: which images it takes.

    Returns:
      A function of images to `logits` and calibrated `probabilities`, float32 [N, C].

    Raises:
      UserError: the classifier is no linear one.
    """
    model.check_head()
    if model.head is not None and not isinstance(model.head, Linear):
        raise UserError("nearest neighbours cannot be exported; expected a linear probe")
    if model.image_shape is not None:
        raise UserError("a probe of pixels has no network to export")
    function, variables = computing_function(
        model.network, model.preprocessing, model.extraction, inputs.prepare
    )
    head = model.head

    @in_full_precision
    def logits_and_probabilities(images: jax.Array) -> dict[str, jax.Array]:
        outputs = function(variables, images)
        x = jnp.concatenate([outputs[name] for name in model.endpoint.split("+")], axis=1)
        if isinstance(head, Linear):
            x = x @ head.kernel + head.bias
        scaled = x / jnp.float32(model.temperature)
        sigmoid = model.network.spec.link == "sigmoid"
        p = jax.nn.sigmoid(scaled) if sigmoid else jax.nn.softmax(scaled)
        return {"logits": x, "probabilities": p}

    return logits_and_probabilities


def write(
    model: Model,
    kind: str,
    folder: Path,
    inputs: Inputs | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Writes a classifier into a folder, with its classes and preprocessing beside it.

    Args:
      model: see `tl.inference.model.load`.
      kind: one of FORMATS.
      folder: made where there is none.
      inputs: which images `stablehlo` and `onnx` take; None for `Inputs()`.
      overwrite: whether an earlier export in the folder may be replaced; all its files go.

    Returns:
      The files.

    Raises:
      UserError: the format cannot hold this classifier; the folder cannot be written, holds an
        export that is not to be replaced, or a run or a network that no export wrote.
    """
    inputs = inputs or Inputs()
    _check_free(folder, overwrite)
    _check_source(folder, model)
    was_there = folder.exists()
    draft = partial_name(folder / _DRAFT)
    try:
        draft.mkdir(parents=True)
        if kind == "stablehlo":
            written = _stablehlo(model, draft, inputs)
        elif kind == "onnx":
            written = _onnx(model, draft, inputs)
        else:
            written = torch_formats.write(model, kind, draft)
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(written, key=lambda path: path.name == _CONFIG):  # which comes last
            os.replace(path, folder / path.name)
        files = [folder / path.name for path in written]
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        for left in folder.glob(f".{_DRAFT}.*"):  # also of an export that was killed
            if re.fullmatch("[0-9a-f]{32}", left.suffix[1:]):
                shutil.rmtree(left, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
    return files


def _check_source(folder: Path, model: Model) -> None:
    """Raises UserError where an export would take the place of what it is made from."""
    for name in (model.name, model.network.spec.name):
        source = Path(name)
        if source.exists() and folder.resolve() in (source.resolve(), source.resolve().parent):
            raise UserError(f"{folder} holds what is to be exported; give another --output")


def _check_free(folder: Path, overwrite: bool) -> None:
    """Raises UserError where files in a folder are not to be replaced."""
    there = [name for name in _FILES if (folder / name).exists()]
    if foreign := [name for name in _FOREIGN if (folder / name).exists()]:
        raise UserError(
            f"{folder} holds {foreign[0]}, so a run or another network; give another --output"
        )
    if _CONFIG in there:
        held = read_json(folder / _CONFIG)
        described = held.get("tl", held) if isinstance(held, dict) else None
        if not isinstance(described, dict) or not described.keys() >= _DESCRIBED:
            raise UserError(
                f"{folder} holds a {_CONFIG} that no export wrote, such as a run's, and it would "
                "be replaced; give another --output"
            )
    if there and _CONFIG not in there:
        raise UserError(
            f"{folder} holds {there[0]} and no {_CONFIG}, so no export that is whole; give another "
            "--output, or remove it"
        )
    if there and not overwrite:
        raise UserError(
            f"{folder} holds an export; give another --output, or --overwrite to replace it"
        )


def _stablehlo(model: Model, folder: Path, inputs: Inputs) -> list[Path]:
    (batch,) = jax_export.symbolic_shape("batch")
    function = jax.jit(classify(model, inputs))
    exported = jax_export.export(function, platforms=PLATFORMS)(inputs.spec(model, batch))
    files = [folder / "model.stablehlo", folder / _CONFIG]
    files[0].write_bytes(exported.serialize())
    write_json(files[1], {**inputs.described(model), **model.described()})
    return files


def _onnx(model: Model, folder: Path, inputs: Inputs) -> list[Path]:
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError("ONNX needs jax2onnx: pip install jax2onnx") from error
    function = classify(model, inputs)
    names = ["logits", "probabilities"]

    def ordered(images: jax.Array) -> tuple[jax.Array, ...]:
        outputs = function(images)
        return tuple(outputs[name] for name in names)

    files = [folder / "model.onnx", folder / _CONFIG]
    spec = inputs.spec(model, 2)
    to_onnx(
        ordered,
        [jax.ShapeDtypeStruct(("batch", *spec.shape[1:]), spec.dtype)],
        model_name="classifier",
        return_mode="file",
        output_path=str(files[0]),
        input_names=["images"],
        output_names=names,
        export_mode="web",  # all weights in the one file
    )
    _check_onnx(files[0], function, spec)
    write_json(files[1], {**inputs.described(model), "outputs": names, **model.described()})
    return files


def _check_onnx(path: Path, function: Classify, spec: jax.ShapeDtypeStruct) -> None:
    """Runs a file on noise, for jax2onnx may leave out an argument that it does not know.

    Raises:
      UserError: the file computes something else than the function.
    """
    import onnxruntime  # jax2onnx needs it, too

    rng = np.random.default_rng(0)
    if spec.dtype == jnp.uint8:
        images = rng.integers(0, 256, spec.shape, np.uint8)
    else:
        images = rng.normal(size=spec.shape).astype(np.float32)
    expected = np.asarray(jax.jit(function)(images)["logits"])
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(["logits"], {"images": images})
    difference, largest = np.abs(found - expected).max(), np.abs(expected).max()
    if not difference <= _ONNX_TOLERANCE * largest:  # a head of zeros gives zeros
        version = importlib.metadata.version("jax2onnx")
        raise UserError(
            f"jax2onnx {version} wrote a program with other logits: they differ by up to "
            f"{difference:.2g}, and the largest is {largest:.2g}. Export it as stablehlo, or try "
            "another version"
        )
