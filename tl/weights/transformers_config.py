"""Which network and which preprocessing the configs of transformers describe."""

import math
from collections.abc import Mapping
from typing import Any

from tl.errors import UserError
from tl.models import registry
from tl.models.convnext import ConvNeXt
from tl.models.vit import VisionTransformer
from tl.weights.spec import Preprocessing

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as Pillow numbers them
# Processors that resize the shorter side or the whole image, and then crop the centre, with how
# they interpolate unless told. ConvNext's is not here: versions of transformers differ.
_PLAIN = {"ViT": 2, "Bit": 3, "CLIP": 3, "MobileNetV1": 2, "MobileNetV2": 2, "Siglip": 3}
_UNCROPPED = ("ViT", "Siglip")  # unless `do_center_crop` says so
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
    sizes = {
        "width": width,
        "depth": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        "patch": config.get("patch_size", 16 if kind == "vit" else 14),
    }
    scheme = f"huggingface_{kind}"
    known = [name for name in registry.names() if scheme in registry.get(name).schemes]
    found = [n for n in known if sizes.items() <= dict(registry.get(n).arguments).items()]
    mlp = ("intermediate_size", 4 * width) if kind == "vit" else ("mlp_ratio", 4)
    unusual = {
        field: config[field]
        for field, usual in (
            ("num_channels", 3),
            ("hidden_act", "gelu"),
            ("qkv_bias", True),
            ("use_swiglu_ffn", False),
            mlp,
        )
        if config.get(field, usual) != usual
    }
    if not found or unusual:
        raise UserError(
            f"it holds a vision transformer of {', '.join(f'{k} {v}' for k, v in sizes.items())}"
            + "".join(f", {field}={value!r}" for field, value in unusual.items())
            + f"; expected one of {', '.join(known)}"
        )
    epsilon = _epsilon(config, 1e-12 if kind == "vit" else 1e-6)
    usual_epsilon = VisionTransformer.norm_epsilon
    return found[0], {
        **({} if epsilon == usual_epsilon else {"norm_epsilon": epsilon}),
        "resize": "plain",
    }


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
        square = kind in ("ViT", "Siglip")
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
