"""Writes a classifier as the files of torchvision, timm and transformers."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from tl.errors import UserError
from tl.files import write_json
from tl.inference.model import Model
from tl.models import vit
from tl.models.backbone import FINAL
from tl.models.convnext import ConvNeXt
from tl.probes.heads import Linear
from tl.weights import convert, timm_names, trained
from tl.weights.hub_folder import SEVERAL, TORCHVISION
from tl.weights.load import Pretrained
from tl.weights.transformers_config import RESAMPLE

FORMATS = ("torchvision", "timm", "transformers")
# The naming schemes that each format has.
_SCHEMES = {
    "torchvision": ("torchvision", "torchvision_vit", "torchvision_convnext"),
    "timm": (
        "torchvision",
        "timm_resnet_d",
        "timm_resnet_v2",
        "timm_efficientnet_lite",
        "timm_vit",
        "timm_dinov3",
        "timm_convnext",
    ),
    "transformers": (
        "huggingface",
        "huggingface_vit",
        "huggingface_convnext",
        "huggingface_convnextv2",
    ),
}
# Its tensors have torchvision's names, but torchvision has no such network.
_NOT_IN_TORCHVISION = ("resnext101_32x4d",)
_IN_TORCHVISION = {ours: theirs for theirs, ours in TORCHVISION.items()}
_CONFIG = "config.json"


def write(model: Model, kind: str, folder: Path) -> list[Path]:
    """Writes a classifier into a folder, with its classes and preprocessing beside it.

    Args:
      model: see `tl.inference.model.load`.
      kind: one of FORMATS.
      folder: that is there.

    Returns:
      The files.

    Raises:
      UserError: the format cannot hold this classifier.
    """
    network = _at_its_size(as_network(model), model.preprocessing.size)
    model = dataclasses.replace(model, temperature=1.0)  # which is in the head now
    name, arguments = _called(network, kind)
    schemes = _schemes(network, kind)
    if not _fits(network, kind):
        said = ", ".join(f"{key} {value}" for key, value in arguments.items())
        why = f" with {said}" if said else ""
        others = [other for other in FORMATS if other != kind and _fits(network, other)]
        raise UserError(
            f"{network.spec.backbone}{why} cannot be written for {kind}; export it as "
            f"{' or '.join([*others, 'stablehlo', 'onnx'])}"
        )
    described: dict[str, dict[str, Any]] = {}  # before a file is written, since they may be refused
    match kind:
        case "timm":
            described[_CONFIG] = _timm_config(model, network, name)
        case "transformers":
            described[_CONFIG] = _transformers_config(model, network)
            described["preprocessor_config.json"] = _image_processor(model)
        case _:
            described[_CONFIG] = {"architecture": name, **model.described()}
    files = [folder / "model.safetensors", *(folder / file for file in described)]
    tensors = convert.from_variables(network.variables, schemes[0])
    trained.write_safetensors(tensors, files[0], {})
    for file, content in described.items():
        write_json(folder / file, content)
    return files


def _schemes(network: Pretrained, kind: str) -> list[str]:
    return [scheme for scheme in network.backbone.schemes if scheme in _SCHEMES[kind]]


def _fits(network: Pretrained, kind: str) -> bool:
    """Returns whether a format has the network, and no argument that the format cannot say."""
    name, arguments = _called(network, kind)
    return bool(_schemes(network, kind) and name and not arguments)


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


def _at_its_size(network: Pretrained, size: int) -> Pretrained:
    """Returns the network with a position table for images of this side, if it has one."""
    module = network.model
    if not isinstance(module, vit.VisionTransformer):
        return network
    arguments = {k: v for k, v in network.spec.model_args.items() if k not in ("grid", "resize")}
    params = vit.fit_positions(network.variables["params"], module, size)
    return dataclasses.replace(
        network,
        spec=dataclasses.replace(network.spec, model_args=arguments),
        variables={**network.variables, "params": params},
    )


def _called(network: Pretrained, kind: str) -> tuple[str, dict[str, Any]]:
    """Returns the network's name in a format, '' for none, and arguments that it does not say."""
    name, arguments = network.spec.backbone, dict(network.spec.model_args)
    if kind == "timm":
        return timm_names.name_of(name, arguments)
    if kind == "torchvision" and name in _NOT_IN_TORCHVISION:
        return "", arguments
    if isinstance(network.model, vit.VisionTransformer):
        if kind == "torchvision":
            return _IN_TORCHVISION.get(name, ""), arguments
        arguments.pop("norm_epsilon", None)  # which transformers' config says
    if kind == "transformers":
        arguments.pop("pooled_epsilon", None)  # too, of a ConvNeXt
    return name, arguments


def _unit_scale(model: Model) -> tuple[list[float], list[float]]:
    """Returns mean and std of pixels in 0..1, as torch's programs take them.

    Raises:
      UserError: the network takes BGR, which they do not.
    """
    p = model.preprocessing
    if p.channels != "RGB":
        raise UserError("these weights take BGR images; export them as stablehlo or onnx")
    return [m / 255 for m in p.mean], [s / 255 for s in p.std]


def _timm_config(model: Model, network: Pretrained, architecture: str) -> dict[str, Any]:
    p = model.preprocessing
    pool = timm_names.global_pool(network.spec.backbone)
    mean, std = _unit_scale(model)
    squash = p.geometry == "whole"
    return {
        "architecture": architecture,
        "num_classes": len(model.classes),
        **(_timm_vit(pool, p.size) if pool != "avg" else {}),
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
        "tl": model.described(),
    }


def _timm_vit(pool: str, size: int) -> dict[str, Any]:
    # timm pools its DINOv3 by `avg` unless the arguments of the model say otherwise.
    return {"model_args": {"img_size": size, "global_pool": pool}, "global_pool": pool}


def _transformers_config(model: Model, network: Pretrained) -> dict[str, Any]:
    module: Any = network.model
    if isinstance(module, vit.VisionTransformer):
        described = _transformers_vit(module, model.preprocessing.size)
    elif isinstance(module, ConvNeXt):
        described = _transformers_convnext(module, model.preprocessing.size)
    else:
        described = _transformers_resnet(module)
    return {
        **described,
        "num_channels": 3,
        "id2label": {str(i): name for i, name in enumerate(model.classes)},
        "label2id": {name: i for i, name in enumerate(model.classes)},
        **({"problem_type": SEVERAL} if model.network.spec.link == "sigmoid" else {}),
        "tl": model.described(),
    }


def _transformers_vit(module: vit.VisionTransformer, size: int) -> dict[str, Any]:
    return {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "hidden_size": module.width,
        "num_hidden_layers": module.depth,
        "num_attention_heads": module.heads,
        "intermediate_size": 4 * module.width,
        "hidden_act": "gelu",
        "layer_norm_eps": module.norm_epsilon,
        "patch_size": module.patch,
        "image_size": size,
        "qkv_bias": True,
    }


def _transformers_convnext(module: ConvNeXt, size: int) -> dict[str, Any]:
    version = "V2" if module.grn else ""
    return {
        "model_type": f"convnext{version.lower()}",
        "architectures": [f"ConvNext{version}ForImageClassification"],
        "depths": list(module.stage_sizes),
        "hidden_sizes": list(module.widths),
        "num_stages": len(module.widths),
        "patch_size": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": module.pooled_epsilon,
        "image_size": size,
    }


def _transformers_resnet(module: Any) -> dict[str, Any]:
    bottleneck = module.block == "bottleneck"
    return {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "embedding_size": module.stem_width,
        "hidden_sizes": [width * (4 if bottleneck else 1) for width in module.widths],
        "depths": list(module.stage_sizes),
        "layer_type": module.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def _image_processor(model: Model) -> dict[str, Any]:
    """Returns the settings of transformers' processor that squashes, or resizes and then crops."""
    p = model.preprocessing
    mean, std = _unit_scale(model)
    square = {"height": p.size, "width": p.size}
    shape: dict[str, Any]
    if p.geometry == "whole":
        shape = {"image_processor_type": "ViTImageProcessor", "size": square}
    else:
        shape = {
            "image_processor_type": "BitImageProcessor",
            "size": {"shortest_edge": math.floor(p.size / p.crop_pct)},
            "do_center_crop": True,
            "crop_size": square,
        }
    return {
        **shape,
        "do_resize": True,
        "resample": {name: number for number, name in RESAMPLE.items()}[p.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }
