"""Classifiers in the files of other programs: torchvision, timm, transformers, StableHLO, ONNX."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jaxtyping import Array, Float, UInt8

from tl.data.transforms import device_transform, normalise
from tl.errors import UserError
from tl.features.network import computing_function
from tl.files import write_json
from tl.inference.model import Model
from tl.models.registry import FINAL
from tl.probes.heads import Linear
from tl.weights import convert, trained
from tl.weights.load import Pretrained

FORMATS = ("torchvision", "timm", "transformers", "stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
# A backbone's name in timm, and the naming scheme of timm's files of it.
_TIMM = {"efficientnet_lite0": ("tf_efficientnet_lite0", "timm_efficientnet_lite")}
_TORCH_SCHEME = {"timm": "torchvision", "transformers": "huggingface"}

Classify = Callable[[UInt8[Array, "n h w 3"]], Mapping[str, Float[Array, "n c"]]]


def classify(model: Model, image_size: tuple[int, int] | None = None) -> Classify:
    """Returns the whole classifier as one function of JAX: images -> logits and probabilities.

    Args:
      model: see `tl.inference.model.load`.
      image_size: (height, width) of the images, which are then resized and cropped inside; None for
        images that are resized and cropped already, uint8 [N, size, size, 3] in RGB.

    Returns:
      A function of uint8 images to `logits` and calibrated `probabilities`, float32 [N, C].

    Raises:
      UserError: the classifier is no linear one.
    """
    model.check_head()
    if model.head is not None and not isinstance(model.head, Linear):
        raise UserError("nearest neighbours cannot be exported; expected a linear probe")
    if model.image_shape is not None:
        raise UserError("a probe of pixels has no network to export")
    prepare = normalise if image_size is None else device_transform
    function, variables = computing_function(
        model.network, model.preprocessing, model.extraction, prepare
    )
    head = model.head

    def logits_and_probabilities(images: jax.Array) -> dict[str, jax.Array]:
        outputs = function(variables, images)
        x = jnp.concatenate([outputs[name] for name in model.endpoint.split("+")], axis=1)
        if isinstance(head, Linear):
            with jax.default_matmul_precision("highest"):
                x = x @ head.kernel + head.bias
        scaled = x / jnp.float32(model.temperature)
        sigmoid = model.network.spec.link == "sigmoid"
        p = jax.nn.sigmoid(scaled) if sigmoid else jax.nn.softmax(scaled)
        return {"logits": x, "probabilities": p}

    return logits_and_probabilities


def write(
    model: Model, kind: str, folder: Path, image_size: tuple[int, int] | None = None
) -> list[Path]:
    """Writes a classifier into a folder, with its classes and preprocessing beside it.

    Args:
      model: see `tl.inference.model.load`.
      kind: one of FORMATS.
      folder: made where there is none; its files of the same names are replaced.
      image_size: for `stablehlo` and `onnx`, see `classify`.

    Returns:
      The files.

    Raises:
      UserError: the format cannot hold this classifier, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "stablehlo":
            return _stablehlo(model, folder, image_size)
        if kind == "onnx":
            return _onnx(model, folder, image_size)
        return _torch(model, kind, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error


def as_network(model: Model) -> Pretrained:
    """Returns the network with the model's classifier as its head, as torch's formats need it.

    Raises:
      UserError: the classifier is not a linear one on the network's last features.
    """
    if model.head is None:
        return model.network
    if not isinstance(model.head, Linear) or model.endpoint != FINAL:
        raise UserError(
            f"{model.name} acts on the endpoint {model.endpoint!r}; the formats of torch hold a "
            f"linear classifier of {FINAL!r}. Export it as stablehlo or onnx, or fit it there"
        )
    head = {"kernel": model.head.kernel, "bias": model.head.bias}
    params = {**model.network.variables["params"], "head": head}
    spec = dataclasses.replace(model.network.spec, num_classes=len(model.classes))
    return dataclasses.replace(
        model.network, spec=spec, variables={**model.network.variables, "params": params}
    )


def _torch(model: Model, kind: str, folder: Path) -> list[Path]:
    network = as_network(model)
    backbone = network.spec.backbone
    name, scheme = backbone, _TORCH_SCHEME.get(kind, "torchvision")
    if kind == "timm":
        name, scheme = _TIMM.get(backbone, (name, scheme))
    arguments = dict(network.spec.model_args)
    if scheme not in network.backbone.schemes or arguments:
        why = f"with {arguments}" if arguments else ""
        raise UserError(
            f"{kind} has no {backbone} {why}".rstrip() + "; export it as stablehlo or onnx"
        )
    tensors = convert.from_variables(network.variables, scheme)
    described = _described(model)
    files = [folder / "model.safetensors", folder / "config.json"]
    trained.write_safetensors(tensors, files[0], {})
    match kind:
        case "timm":
            config = _timm_config(model, name)
        case "transformers":
            config = _transformers_config(model, network)
            files.append(folder / "preprocessor_config.json")
            write_json(files[-1], _image_processor(model))
        case _:
            config = {"architecture": name, **described}
    write_json(files[1], config)
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


def _shape(model: Model, image_size: tuple[int, int] | None) -> tuple[int, int]:
    return image_size or (model.preprocessing.size, model.preprocessing.size)


def _stablehlo(model: Model, folder: Path, image_size: tuple[int, int] | None) -> list[Path]:
    height, width = _shape(model, image_size)
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.uint8)
    exported = jax_export.export(jax.jit(classify(model, image_size)), platforms=PLATFORMS)(images)
    files = [folder / "model.stablehlo", folder / "config.json"]
    files[0].write_bytes(exported.serialize())
    write_json(files[1], {"input": f"uint8 [batch, {height}, {width}, 3]", **_described(model)})
    return files


def _onnx(model: Model, folder: Path, image_size: tuple[int, int] | None) -> list[Path]:
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError("ONNX needs jax2onnx: pip install 'tl[onnx]'") from error
    height, width = _shape(model, image_size)
    function = classify(model, image_size)

    def ordered(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = function(images)
        return outputs["logits"], outputs["probabilities"]

    files = [folder / "model.onnx", folder / "config.json"]
    to_onnx(
        ordered,
        [jax.ShapeDtypeStruct(("batch", height, width, 3), jnp.uint8)],
        model_name="classifier",
        return_mode="file",
        output_path=str(files[0]),
    )
    write_json(
        files[1],
        {
            "input": f"uint8 [batch, {height}, {width}, 3]",
            "outputs": ["logits", "probabilities"],
            **_described(model),
        },
    )
    return files
