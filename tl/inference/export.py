"""Classifiers in the files of other programs: torchvision, timm, transformers, StableHLO, ONNX."""

import dataclasses
import importlib.metadata
import os
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
from tl.inference.model import Model
from tl.models.backbone import FINAL
from tl.probes.heads import Linear
from tl.weights import convert, trained
from tl.weights.hub_folder import TIMM_OWN_LITE
from tl.weights.load import Pretrained
from tl.weights.spec import Preprocessing

FORMATS = ("torchvision", "timm", "transformers", "stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
_TORCH_SCHEME = {"timm": "torchvision", "transformers": "huggingface"}
_TIMM_LITE_SCHEME = "timm_efficientnet_lite"

_CONFIG = "config.json"
# All that an export may hold, in the order in which an earlier one is taken away: a folder without
# _CONFIG is no whole export, so no network stands beside another one's classes, whatever kills us.
_FILES = (
    _CONFIG, "preprocessor_config.json", "model.safetensors", "model.stablehlo", "model.onnx"
)  # fmt: skip
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
    was_there = folder.exists()
    draft = partial_name(folder / "export")
    files: list[Path] = []
    try:
        draft.mkdir(parents=True)
        if kind == "stablehlo":
            written = _stablehlo(model, draft, inputs)
        elif kind == "onnx":
            written = _onnx(model, draft, inputs)
        else:
            written = _torch(model, kind, draft)
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(written, key=lambda path: path.name == _CONFIG):  # which comes last
            os.replace(path, folder / path.name)
        files = [folder / path.name for path in written]
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft if was_there or files else folder, ignore_errors=True)
    return files


def _check_free(folder: Path, overwrite: bool) -> None:
    """Raises UserError where files in a folder are not to be replaced."""
    there = [name for name in _FILES if (folder / name).exists()]
    if _CONFIG in there:
        held = read_json(folder / _CONFIG)
        described = held.get("tl", held) if isinstance(held, dict) else None
        if not isinstance(described, dict) or not described.keys() >= _DESCRIBED:
            raise UserError(
                f"{folder} holds a {_CONFIG} that no export wrote, such as a run's, and it would "
                "be replaced; give another --output"
            )
    if there and not overwrite:
        what = "an export" if _CONFIG in there else there[0]
        raise UserError(
            f"{folder} holds {what}; give another --output, or --overwrite to replace it"
        )


def as_network(model: Model) -> Pretrained:
    """Returns the network with the model's classifier as its head, as torch's formats need it.

    The head is divided by the temperature, so that a softmax of its logits is calibrated.

    Raises:
      UserError: there is no classifier, or not a linear one on the network's last features.
    """
    model.check_head()
    if model.head is None:
        head = model.network.variables["params"]["head"]
    elif not isinstance(model.head, Linear) or model.endpoint != FINAL:
        raise UserError(
            f"{model.name} acts on the endpoint {model.endpoint!r}; the formats of torch hold a "
            f"linear classifier of {FINAL!r}. Export it as stablehlo or onnx, or fit one on that"
        )
    else:
        head = {"kernel": model.head.kernel, "bias": model.head.bias}
    scaled = {name: value / np.float32(model.temperature) for name, value in head.items()}
    spec = dataclasses.replace(model.network.spec, num_classes=len(model.classes))
    return dataclasses.replace(model.network.with_head(scaled), spec=spec)


def _torch(model: Model, kind: str, folder: Path) -> list[Path]:
    network = as_network(model)
    model = dataclasses.replace(model, temperature=1.0)  # which is in the head now
    backbone = network.spec.backbone
    name, scheme = backbone, _TORCH_SCHEME.get(kind, "torchvision")
    arguments = dict(network.spec.model_args)
    if kind == "timm" and _TIMM_LITE_SCHEME in network.backbone.schemes:
        scheme = _TIMM_LITE_SCHEME
        if arguments == TIMM_OWN_LITE:
            arguments = {}
        else:
            name = f"tf_{backbone}"
    if scheme not in network.backbone.schemes or arguments:
        why = f"with {arguments}" if arguments else ""
        raise UserError(
            f"{kind} has no {backbone} {why}".rstrip() + "; export it as stablehlo or onnx"
        )
    described: dict[str, dict[str, Any]] = {}  # before a file is written, since they may be refused
    match kind:
        case "timm":
            described[_CONFIG] = _timm_config(model, name)
        case "transformers":
            described[_CONFIG] = _transformers_config(model, network)
            described["preprocessor_config.json"] = _image_processor(model)
        case _:
            described[_CONFIG] = {"architecture": name, **_described(model)}
    files = [folder / "model.safetensors", *(folder / file for file in described)]
    trained.write_safetensors(convert.from_variables(network.variables, scheme), files[0], {})
    for file, content in described.items():
        write_json(folder / file, content)
    return files


def _described(model: Model) -> dict[str, Any]:
    """Returns what every format says of the classifier beside its tensors."""
    return {
        "classes": list(model.classes),
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "temperature": model.temperature,
        "link": model.network.spec.link,
        "licence": model.network.spec.licence,
        "weights": model.network.spec.name,
    }


def _unit_scale(model: Model) -> tuple[list[float], list[float]]:
    """Returns mean and std of pixels in 0..1, as torch's programs take them.

    Raises:
      UserError: the network takes BGR, which they do not.
    """
    p = model.preprocessing
    if p.channels != "RGB":
        raise UserError("these weights take BGR images; export them as stablehlo or onnx")
    return [m / 255 for m in p.mean], [s / 255 for s in p.std]


def _timm_config(model: Model, architecture: str) -> dict[str, Any]:
    p = model.preprocessing
    mean, std = _unit_scale(model)
    squash = p.geometry == "whole"
    return {
        "architecture": architecture,
        "num_classes": len(model.classes),
        "pretrained_cfg": {
            "input_size": [3, p.size, p.size],
            "interpolation": p.interpolation,
            "crop_pct": 1.0 if squash else p.crop_pct,
            "crop_mode": "squash" if squash else "center",
            "mean": mean,
            "std": std,
            "num_classes": len(model.classes),
            "label_names": list(model.classes),
            "license": model.network.spec.licence,
        },
        "tl": _described(model),
    }


def _transformers_config(model: Model, network: Pretrained) -> dict[str, Any]:
    module: Any = network.model
    bottleneck = module.block == "bottleneck"
    return {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "num_channels": 3,
        "embedding_size": module.stem_width,
        "hidden_sizes": [width * (4 if bottleneck else 1) for width in module.widths],
        "depths": list(module.stage_sizes),
        "layer_type": module.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
        "id2label": {str(i): name for i, name in enumerate(model.classes)},
        "label2id": {name: i for i, name in enumerate(model.classes)},
        "tl": _described(model),
    }


def _image_processor(model: Model) -> dict[str, Any]:
    """Returns the settings of transformers' ConvNextImageProcessor, which resizes, then crops."""
    p = model.preprocessing
    mean, std = _unit_scale(model)
    resample = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}[p.interpolation]
    return {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": p.size},
        "crop_pct": p.crop_pct,
        "resample": resample,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }


def _stablehlo(model: Model, folder: Path, inputs: Inputs) -> list[Path]:
    (batch,) = jax_export.symbolic_shape("batch")
    function = jax.jit(classify(model, inputs))
    exported = jax_export.export(function, platforms=PLATFORMS)(inputs.spec(model, batch))
    files = [folder / "model.stablehlo", folder / _CONFIG]
    files[0].write_bytes(exported.serialize())
    write_json(files[1], {**inputs.described(model), **_described(model)})
    return files


def _onnx(model: Model, folder: Path, inputs: Inputs) -> list[Path]:
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError("ONNX needs jax2onnx: pip install 'tl[onnx]'") from error
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
    write_json(files[1], {**inputs.described(model), "outputs": names, **_described(model)})
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
