"""Model folders as transformers and timm save them: their files, preprocessing and class names."""

import collections
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl.errors import UserError
from tl.models import registry
from tl.weights.spec import Link, LocalFile, Preprocessing, WeightSpec

# In the order in which these libraries look for them. An index lists the files of a divided model.
_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"
_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as Pillow numbers them
# Processors that resize the shorter side or the whole image, and then crop the centre, with how
# they interpolate unless told. ConvNext's is not here: versions of transformers differ.
_PLAIN = {"ViT": 2, "Bit": 3, "CLIP": 3, "MobileNetV1": 2, "MobileNetV2": 2, "Siglip": 3}
_CONVNEXT_WHOLE = 384  # from this size on transformers' ConvNextImageProcessor does not crop
# Arguments of timm's models: values with which a network is the one known here; None for any value.
_TIMM_ARGUMENTS = {
    "num_classes": None,
    "drop_rate": None,
    "drop_path_rate": None,
    "drop_block_rate": None,
    "zero_init_last": None,
    "in_chans": 3,
    "output_stride": 32,
    "img_size": None,  # a position table says it
    "dynamic_img_size": None,
}
# timm's own EfficientNet-Lites, beside those of TensorFlow's weights, which are called `tf_`.
TIMM_OWN_LITE = {"padding": "torch", "norm_epsilon": 1e-5}
_TIMM_NETWORKS = {
    **{name: name for name in registry.names() if "resne" in name},
    **{
        f"{kind}efficientnet_lite{i}": f"efficientnet_lite{i}"
        for kind in ("tf_", "")
        for i in range(5)
    },
    **{
        f"{kind}_{size}_patch{patch}_{pixels}": f"vit_{size}_patch{patch}"
        for kind, sizes, patches in (
            ("vit", ("tiny", "small", "base"), (8, 16, 32)),
            ("deit", ("tiny", "small", "base"), (16,)),
        )
        for size in sizes
        for patch in patches
        for pixels in (224, 384)
        if f"vit_{size}_patch{patch}" in registry.names()
    },
    **{
        f"vit_{size}_patch14{registers}_dinov2": f"vit_{size}_patch14{registers}"
        for size in ("small", "base")
        for registers in ("", "_reg4")
    },
}

# timm's networks that have the tensors of one that is known here, and another arithmetic.
_SAME_TENSORS = re.compile(r"resnet(aa|blur)\d+d?")


def refuse(directory: Path) -> None:
    """Raises UserError if a folder's network has the tensors of one known here and is another.

    Args:
      directory: with a `config.json` of timm, or without.
    """
    architecture = str(_config(directory).get("architecture", ""))
    if _SAME_TENSORS.fullmatch(architecture):
        raise UserError(
            f"its {_CONFIG} says {architecture}, which has the tensors of another network and "
            "other arithmetic: it filters where it strides; it is not known here"
        )


def timm_name(backbone: str, model_args: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns timm's name of a network, ours if it has none, and arguments that it leaves out.

    Args:
      backbone: a name of `tl.models.registry`.
      model_args: arguments of the model that differ from its defaults.
    """
    names = [name for name, ours in _TIMM_NETWORKS.items() if ours == backbone]
    own_lite = [name for name in names if name.startswith("efficientnet_lite")]
    if own_lite and dict(model_args) == TIMM_OWN_LITE:
        return own_lite[0], {}
    return names[0] if names else backbone, dict(model_args)


def weight_files(directory: Path) -> list[Path]:
    """Returns the weight file of a folder, or the parts of it; empty if there is none.

    Raises:
      UserError: an index is damaged or names files elsewhere.
    """
    for name in _FILES:
        if (directory / name).is_file():
            return [directory / name]
        if (directory / f"{name}{_INDEX}").is_file():
            return _parts(directory / f"{name}{_INDEX}")
    return []


def _parts(index: Path) -> list[Path]:
    try:
        names = sorted(set(_json(index)["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("expected the names of files in the same folder")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{index} is damaged ({error!r}); download it anew") from error
    return [index.parent / name for name in names]


def describe(directory: Path, name: str, scheme: str) -> WeightSpec | None:
    """Returns the network in a folder with its preprocessing, or None if the folder does not say.

    Args:
      directory: with a `config.json` of transformers or timm. transformers writes the preprocessing
        into `preprocessor_config.json`.
      name: of the set.
      scheme: of the tensors, a key of `naming.SCHEMES`.

    Raises:
      UserError: a file is damaged, or describes something that is not supported here.
    """
    config = _config(directory)
    if not config:
        return None
    try:
        if "pretrained_cfg" in config:
            return _of_timm(config, name, scheme)
        if not (directory / _PROCESSOR).is_file():
            return None
        return _of_transformers(config, _json(directory / _PROCESSOR), name, scheme)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"its {_CONFIG} or {_PROCESSOR} is damaged ({error!r}); restore it, or name a set with "
            "`weights_like`"
        ) from error


def class_names(directory: Path) -> tuple[str, ...]:
    """Returns the names of the head's outputs in a folder's `config.json`; empty for none.

    A name that several outputs have gets the output's number.

    Raises:
      UserError: the file is damaged.
    """
    config = _config(directory)
    within = config.get("pretrained_cfg") or {}
    names = config.get("id2label") or config.get("label_names") or within.get("label_names") or ()
    if isinstance(names, Mapping):
        numbers = [str(number) for number in range(len(names))]
        if set(map(str, names)) != set(numbers):
            return ()  # numbers without a name
        names = [{str(k): v for k, v in names.items()}[number] for number in numbers]
    if not isinstance(names, list | tuple):
        return ()
    names = [str(name) for name in names]
    if names == [f"LABEL_{number}" for number in range(len(names))]:  # transformers' own numbers
        return ()
    counts = collections.Counter(names)
    return tuple(
        name if counts[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)
    )


def _config(directory: Path) -> dict[str, Any]:
    """Returns the folder's config; empty if it has none of transformers or timm.

    Raises:
      UserError: the file cannot be read, or is no JSON.
    """
    if not (directory / _CONFIG).is_file():
        return {}
    try:
        config = _json(directory / _CONFIG)
    except ValueError as error:
        raise UserError(f"its {_CONFIG} is damaged ({error}); restore it, or remove it") from error
    if not isinstance(config, dict):
        return {}
    if "architecture" in config and "pretrained_cfg" not in config:  # timm's older layout
        named = config.get("label_names", config.get("labels"))
        return {**config, "pretrained_cfg": config, "label_names": named}
    return config if "model_type" in config or "pretrained_cfg" in config else {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _of_timm(config: Mapping[str, Any], name: str, scheme: str) -> WeightSpec:
    architecture, cfg = config["architecture"], config["pretrained_cfg"]
    if architecture not in _TIMM_NETWORKS:
        raise UserError(
            f"it holds timm's {architecture}; expected one of {', '.join(_TIMM_NETWORKS)}"
        )
    pool = "token" if "vit" in _TIMM_NETWORKS[architecture] else "avg"
    arguments = {**_TIMM_ARGUMENTS, "global_pool": pool}
    for argument, value in {
        "global_pool": config.get("global_pool") or pool,
        **config.get("model_args", {}),
    }.items():
        if argument not in arguments or arguments[argument] not in (None, value):
            raise UserError(
                f"it holds a {architecture} with {argument}={value!r}; expected the usual one"
            )
    channels, height, width = cfg["input_size"]
    crop_pct, mode = float(cfg["crop_pct"]), cfg.get("crop_mode", "center")
    interpolation = cfg["interpolation"]
    squashed = mode == "squash" and crop_pct == 1
    if (
        (channels, height) != (3, width)
        or interpolation not in _RESAMPLE.values()
        or not (mode == "center" or squashed)
    ):
        raise UserError(
            f"it wants images of {channels} x {height} x {width}, {interpolation}, crop_mode "
            f"{mode!r}; expected 3 channels, a square, {', '.join(_RESAMPLE.values())}, 'center'. "
            "Name the set whose preprocessing it takes with `weights_like`"
        )
    preprocessing = Preprocessing(
        size=height,
        crop_pct=crop_pct,
        geometry="whole" if squashed else "resize_crop",
        interpolation=interpolation,
        mean=_channels(cfg["mean"], 255),
        std=_channels(cfg["std"], 255),
    )
    licence = str(cfg.get("license", "")).upper()
    return _spec(
        name,
        _TIMM_NETWORKS[architecture],
        scheme,
        preprocessing,
        licence if "-NC" in licence else "",
        model_args=TIMM_OWN_LITE if architecture.startswith("efficientnet_lite") else {},
    )


def _of_transformers(
    config: Mapping[str, Any], processor: Mapping[str, Any], name: str, scheme: str
) -> WeightSpec:
    kind = config["model_type"]
    if kind not in _TRANSFORMERS:
        raise UserError(
            f"it holds a network of the type {kind!r}; expected {', '.join(_TRANSFORMERS)}"
        )
    backbone, model_args = _TRANSFORMERS[kind](config)
    several = config.get("problem_type") == "multi_label_classification"
    return _spec(
        name,
        backbone,
        scheme,
        _preprocessing(processor),
        model_args=model_args,
        link="sigmoid" if several else "softmax",
    )


def _transformers_resnet(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the backbone that transformers' config describes, and its unusual arguments."""
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


def _transformers_vit(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the backbone that transformers' config describes, and its unusual arguments."""
    kind = config["model_type"]
    width = config.get("hidden_size", 768)
    sizes = {
        "width": width,
        "depth": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        "patch": config.get("patch_size", 16 if kind == "vit" else 14),
    }
    backbones = [
        backbone
        for backbone in map(registry.get, registry.names())
        if f"huggingface_{kind}" in backbone.schemes
        and sizes.items() <= dict(backbone.arguments).items()
    ]
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
    if not backbones or unusual:
        raise UserError(
            f"it holds a vision transformer of {', '.join(f'{k} {v}' for k, v in sizes.items())}"
            + "".join(f", {field}={value!r}" for field, value in unusual.items())
            + "; expected one of "
            + ", ".join(
                n for n in registry.names() if f"huggingface_{kind}" in registry.get(n).schemes
            )
        )
    epsilon = config.get("layer_norm_eps", 1e-12 if kind == "vit" else 1e-6)
    return backbones[0].name, {"norm_epsilon": epsilon, "resize": "plain"}


_TRANSFORMERS = {
    "resnet": _transformers_resnet,
    "vit": _transformers_vit,
    "dinov2": _transformers_vit,
}


def _preprocessing(processor: Mapping[str, Any]) -> Preprocessing:
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
    crop = _crop(processor)
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
        raise _unsupported(f"{given} with size {size} and a crop of {crop or 'nothing'}")
    resample = processor.get("resample", _PLAIN.get(kind))
    if not processor.get("do_resize", True) or resample not in _RESAMPLE:
        raise _unsupported(f"do_resize={processor.get('do_resize', True)}, resample={resample}")
    scale = round(1 / processor.get("rescale_factor", 1 / 255), 6)
    scale = scale if processor.get("do_rescale", True) else 1.0
    normalise = processor.get("do_normalize", True)
    return Preprocessing(
        size=side,
        crop_pct=crop_pct,
        geometry=geometry,
        interpolation=_RESAMPLE[resample],
        mean=_channels(processor["image_mean"] if normalise else 0, scale),
        std=_channels(processor["image_std"] if normalise else 1, scale),
    )


def _unsupported(what: str) -> UserError:
    return UserError(
        f"its {_PROCESSOR} asks for {what}, which is not supported here; name the set whose "
        "preprocessing it takes with `weights_like`"
    )


def _crop(processor: Mapping[str, Any]) -> int:
    """Returns the side of the square that a processor crops; 0 for none."""
    crop = processor.get("crop_size")
    if crop is None or not processor.get("do_center_crop", True):
        return 0
    if isinstance(crop, int):
        return crop
    return crop["height"] if crop["height"] == crop["width"] else -1


def _share(crop: int, shorter: int) -> float:
    """Returns crop_pct such that floor(crop / crop_pct) is the shorter side."""
    share = crop / shorter
    return share if math.floor(crop / share) == shorter else math.nextafter(share, 0)


def _channels(values: Any, scale: float) -> tuple[float, float, float]:
    numbers = [values] * 3 if isinstance(values, int | float) else values
    red, green, blue = (round(float(number) * scale, 6) for number in numbers)
    return red, green, blue


def _spec(
    name: str,
    backbone: str,
    scheme: str,
    preprocessing: Preprocessing,
    licence: str = "",
    model_args: Mapping[str, Any] | None = None,
    link: Link = "softmax",
) -> WeightSpec:
    known = registry.get(backbone)
    if scheme not in known.schemes:
        raise UserError(f"its {_CONFIG} says {backbone} and its tensors have {scheme} names")
    return WeightSpec(
        name=name,
        backbone=backbone,
        source=LocalFile(name),
        scheme=scheme,
        preprocessing=preprocessing,
        licence=licence,
        model_args=dict(model_args or {}),
        notes="architecture and preprocessing of its folder",
        link=link,
    )
