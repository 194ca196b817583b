"""Which network and which preprocessing the configs of transformers describe."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tl.errors import UserError
from tl.models import dinov3, registry
from tl.models.backbone import Backbone
from tl.models.convnext import ConvNeXt
from tl.weights.spec import Preprocessing

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as Pillow numbers them
# Processors that resize the shorter side or the whole image, and then crop the centre, with how
# they interpolate unless told. ConvNext's is not here: versions of transformers differ.
_PLAIN = {
    "ViT": 2,
    "Bit": 3,
    "CLIP": 3,
    "MobileNetV1": 2,
    "MobileNetV2": 2,
    "Siglip": 3,
    "DINOv3ViT": 2,
}
_UNCROPPED = ("ViT", "Siglip", "DINOv3ViT")  # unless `do_center_crop` says so
_CONVNEXT_WHOLE = 384  # from this size on transformers' ConvNextImageProcessor does not crop


def network(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the backbone that a `config.json` describes, and its unusual arguments.

    Raises:
      UserError: it is not known here.
    """
    kind = config["model_type"]
    if kind not in _KINDS:
        raise UserError(f"it holds a network of the type {kind!r}; expected {', '.join(_KINDS)}")
    return _KINDS[kind](config)


def _resnet(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    depths = tuple(config.get("depths", (3, 4, 6, 3)))
    block = config.get("layer_type", "bottleneck")
    widths = list(config.get("hidden_sizes", (256, 512, 1024, 2048)))
    backbones = [
        backbone
        for backbone in map(registry.get, registry.names())
        if "huggingface" in backbone.schemes
        and backbone.arguments == {"stage_sizes": depths, "block": block}
        and widths == [backbone.outputs[f"stage{i + 1}"].width for i in range(len(depths))]
    ]
    unusual = {
        field: config[field]
        for field, usual in (
            ("num_channels", 3),
            ("embedding_size", 64),
            ("hidden_act", "relu"),
            ("downsample_in_first_stage", False),
        )
        if config.get(field, usual) != usual
    }
    if not backbones or unusual:
        raise UserError(
            f"it holds a ResNet of {block} blocks with depths {depths}, widths {widths}"
            + "".join(f", {field}={value!r}" for field, value in unusual.items())
            + "; expected ResNet-18, 34, 50, 101 or 152"
        )
    stride = {"stride_in": "1x1"} if config.get("downsample_in_bottleneck") else {}
    return backbones[0].name, stride


def _vit(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = config["model_type"]
    width = config.get("hidden_size", 768)
    registers = {"registers": config.get("num_register_tokens", 4)} if "registers" in kind else {}
    backbone = _vision_transformer(
        config,
        kind,
        {"patch": 14 if kind == "dinov2" else 16, **registers},
        {
            "hidden_act": "gelu",
            "qkv_bias": True,
            "use_swiglu_ffn": False,
            **({"intermediate_size": 4 * width} if kind == "vit" else {"mlp_ratio": 4}),
        },
    )
    epsilon = _norm_epsilon(config, backbone, 1e-12 if kind == "vit" else 1e-6)
    # With registers transformers resizes as timm does.
    return backbone.name, {**epsilon, **({} if registers else {"resize": "plain"})}


def _dinov3(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    config = {"hidden_size": 384, "num_attention_heads": 6, **config}
    gated = config.get("use_gated_mlp", False)
    backbone = _vision_transformer(
        config,
        config["model_type"],
        {"patch": 16, "registers": config.get("num_register_tokens", 0), "gated": gated},
        {
            "intermediate_size": 4 * config["hidden_size"],
            "hidden_act": "silu" if gated else "gelu",
            "rope_theta": dinov3.PERIOD_BASE,
            **dict.fromkeys(("query_bias", "value_bias", "proj_bias", "mlp_bias"), True),
            "key_bias": False,
        },
    )
    return backbone.name, dict(_norm_epsilon(config, backbone, 1e-5))


# Activations of CLIP's relatives, to their names here.
_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}
# Patch, activation and epsilon where a config says none, of these.
_USUAL: dict[str, tuple[int, str, float]] = {
    "clip": (32, "quick_gelu", 1e-5),
    "siglip": (16, "gelu_pytorch_tanh", 1e-6),
}


def _of_images_and_texts(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Describes the vision model of one for images and texts, or such a model alone."""
    kind = config["model_type"].removesuffix("_vision_model")
    config = config["vision_config"] if config["model_type"] == kind else config
    width = config.get("hidden_size", 768)
    patch, activation, epsilon = _USUAL[kind]
    fixed = {"intermediate_size": 4 * width, "vision_use_head": True}
    backbone = _vision_transformer(config, kind, {"patch": patch}, fixed)
    activation = config.get("hidden_act", activation)
    if activation not in _ACTIVATIONS:
        raise UserError(
            f"it holds a {backbone.name} with hidden_act={activation!r}; expected one of "
            f"{', '.join(_ACTIVATIONS)}"
        )
    usual = _defaults(backbone)
    found = {"activation": _ACTIVATIONS[activation], "resize": "plain"}
    unusual = {name: value for name, value in found.items() if value != usual[name]}
    return backbone.name, {**_norm_epsilon(config, backbone, epsilon), **unusual}


def _vision_transformer(
    config: Mapping[str, Any], kind: str, sizes: Mapping[str, Any], usual: Mapping[str, Any]
) -> Backbone:
    """Returns the vision transformer that a config describes.

    Args:
      config: of the network.
      kind: the end of its naming scheme.
      sizes: arguments beside width, depth and heads; of `patch` the one that transformers takes
        where the config says none.
      usual: field of the config to the value that it has in every network known here.

    Raises:
      UserError: there is none.
    """
    sizes = {
        "width": config.get("hidden_size", 768),
        "depth": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        **sizes,
        "patch": config.get("patch_size", sizes["patch"]),
    }
    scheme = f"huggingface_{kind}"
    known = [b for b in map(registry.get, registry.names()) if scheme in b.schemes]
    found = [backbone for backbone in known if sizes.items() <= dict(backbone.arguments).items()]
    unusual = {
        field: config[field]
        for field, value in {"num_channels": 3, **usual}.items()
        if config.get(field, value) != value
    }
    if not found or unusual:
        raise UserError(
            f"it holds a vision transformer of {', '.join(f'{k} {v}' for k, v in sizes.items())}"
            + "".join(f", {field}={value!r}" for field, value in unusual.items())
            + f"; expected one of {', '.join(backbone.name for backbone in known)}"
        )
    return found[0]


def _defaults(backbone: Backbone) -> dict[str, Any]:
    """Returns every argument of a vision transformer that has a usual value, with that."""
    fields = dataclasses.fields(backbone.module)
    usual = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    return {**usual, **backbone.arguments}


def _norm_epsilon(config: Mapping[str, Any], backbone: Backbone, usual: float) -> dict[str, float]:
    """Returns the argument for a config's epsilon, or none if the network has that by itself."""
    epsilon = _epsilon(config, usual)
    return {} if epsilon == _defaults(backbone)["norm_epsilon"] else {"norm_epsilon": epsilon}


def _convnext(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = config["model_type"]
    depths = tuple(config.get("depths") or (3, 3, 9, 3))
    widths = tuple(config.get("hidden_sizes") or (96, 192, 384, 768))
    scheme = f"huggingface_{kind}"
    known = [name for name in registry.names() if scheme in registry.get(name).schemes]
    sizes = {"stage_sizes": depths, "widths": widths}
    found = [n for n in known if sizes.items() <= dict(registry.get(n).arguments).items()]
    unusual = {
        field: config[field]
        for field, usual in (("num_channels", 3), ("patch_size", 4), ("hidden_act", "gelu"))
        if config.get(field, usual) != usual
    }
    if not found or unusual:
        raise UserError(
            f"it holds a ConvNeXt with depths {depths}, widths {widths}"
            + "".join(f", {field}={value!r}" for field, value in unusual.items())
            + f"; expected one of {', '.join(known)}"
        )
    # Of the last normalisation alone; the others have the usual one, whatever the config says.
    epsilon = _epsilon(config, 1e-12)
    usual_epsilon = ConvNeXt.pooled_epsilon
    return found[0], {} if epsilon == usual_epsilon else {"pooled_epsilon": epsilon}


def _epsilon(config: Mapping[str, Any], usual: float) -> float:
    epsilon = float(config.get("layer_norm_eps", usual))
    if not 0 < epsilon < 1:
        raise ValueError(f"layer_norm_eps {epsilon}")
    return epsilon


_KINDS = {
    "resnet": _resnet,
    "vit": _vit,
    "dinov2": _vit,
    "dinov2_with_registers": _vit,
    "dinov3_vit": _dinov3,
    "clip": _of_images_and_texts,
    "clip_vision_model": _of_images_and_texts,
    "siglip": _of_images_and_texts,
    "siglip_vision_model": _of_images_and_texts,
    "convnext": _convnext,
    "convnextv2": _convnext,
}


def preprocessing(processor: Mapping[str, Any]) -> Preprocessing:
    """Returns what transformers' image processor with this config does."""
    given = processor.get("image_processor_type", processor.get("feature_extractor_type", ""))
    kind = given.removesuffix("Fast").removesuffix("ImageProcessor")
    kind = kind.removesuffix("FeatureExtractor")
    size = processor["size"]
    if isinstance(size, int):
        square = kind in _UNCROPPED
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    shorter = size.get("shortest_edge", 0)
    whole = size.get("height", 0) if size.get("height") == size.get("width") else 0
    crop = _crop(processor, kind)
    for step in ("do_pad", "do_grayscale"):
        if processor.get(step):
            raise _unsupported(step)
    if kind == "ConvNext" and shorter and crop in (0, shorter):
        if shorter >= _CONVNEXT_WHOLE:
            geometry, side, crop_pct = "whole", shorter, 1.0
        else:
            geometry, side = "resize_crop", shorter
            crop_pct = processor.get("crop_pct") or 224 / 256
    elif kind in _PLAIN and whole and crop in (0, whole):
        geometry, side, crop_pct = "whole", whole, 1.0
    elif kind in _PLAIN and 0 < crop <= shorter:
        geometry, side, crop_pct = "resize_crop", crop, _share(crop, shorter)
    else:
        named = given or "a processor without image_processor_type"
        raise _unsupported(f"{named} with size {size} and a crop of {crop or 'nothing'}")
    resample = processor.get("resample", _PLAIN.get(kind))
    if not processor.get("do_resize", True) or resample not in RESAMPLE:
        raise _unsupported(f"do_resize={processor.get('do_resize', True)}, resample={resample}")
    scale = round(1 / processor.get("rescale_factor", 1 / 255), 6)
    scale = scale if processor.get("do_rescale", True) else 1.0
    normalise = processor.get("do_normalize", True)
    return Preprocessing(
        size=side,
        crop_pct=crop_pct,
        geometry=geometry,
        interpolation=RESAMPLE[resample],
        mean=channels(processor["image_mean"] if normalise else 0, scale),
        std=channels(processor["image_std"] if normalise else 1, scale),
    )


def _unsupported(what: str) -> UserError:
    return UserError(
        f"its preprocessor_config.json asks for {what}, which is not supported here; name the set "
        "whose preprocessing it takes with `weights_like`"
    )


def _crop(processor: Mapping[str, Any], kind: str) -> int:
    """Returns the side of the square that a processor crops; 0 for none."""
    crop = processor.get("crop_size")
    if crop is None or not processor.get("do_center_crop", kind not in _UNCROPPED):
        return 0
    if isinstance(crop, int):
        return crop
    return crop["height"] if crop["height"] == crop["width"] else -1


def _share(crop: int, shorter: int) -> float:
    """Returns crop_pct such that floor(crop / crop_pct) is the shorter side."""
    share = crop / shorter
    return share if math.floor(crop / share) == shorter else math.nextafter(share, 0)


def channels(values: Any, scale: float) -> tuple[float, float, float]:
    """Returns a value for each channel, or the one value three times, on a scale of 0..255."""
    numbers = [values] * 3 if isinstance(values, int | float) else values
    red, green, blue = (round(float(number) * scale, 6) for number in numbers)
    return red, green, blue
