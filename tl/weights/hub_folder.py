"""Model folders as transformers, timm and our exports have them: files, preprocessing, classes."""

import collections
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tl.errors import UserError
from tl.models import registry
from tl.weights import timm_names, trained, transformers_config
from tl.weights.spec import LINKS, LocalFile, Preprocessing, WeightSpec
from tl.weights.transformers_config import RESAMPLE

# In the order in which these libraries look for them. An index lists the files of a divided model.
_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"
_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
SEVERAL = "multi_label_classification"  # transformers' `problem_type` of a sigmoid for each class
# torchvision's names of networks that have another one here.
TORCHVISION = {"vit_b_16": "vit_base_patch16", "vit_b_32": "vit_base_patch32"}


def refuse(directory: Path) -> None:
    """Raises UserError if a folder's network has the tensors of one known here and is another.

    Args:
      directory: with a `config.json` of timm, or without.
    """
    timm_names.refuse(str(_config(directory).get("architecture", "")))


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


def is_weight_file(path: Path) -> bool:
    """Returns whether a file is one that these libraries write, whole or as a part."""
    return path.name in _FILES or path in weight_files(path.parent)


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
      directory: with a `config.json` of transformers, timm or our torchvision export. transformers
        writes the preprocessing into `preprocessor_config.json`.
      name: of the set.
      scheme: of the tensors, a key of `naming.SCHEMES`.

    Raises:
      UserError: a file is damaged, or describes something that is not supported here.
    """
    config = _config(directory)
    if not config:
        return None
    with _damage():
        if "pretrained_cfg" in config:
            preprocessing = _of_timm(config["pretrained_cfg"])
        elif "model_type" not in config:
            preprocessing = trained.preprocessing(config["preprocessing"])
        elif (directory / _PROCESSOR).is_file():
            preprocessing = transformers_config.preprocessing(_json(directory / _PROCESSOR))
        else:
            return None
        fields = _network(config)
    if scheme not in registry.get(fields["backbone"]).schemes:
        raise UserError(
            f"its {_CONFIG} says {fields['backbone']} and its tensors have {scheme} names"
        )
    return WeightSpec(
        name=name,
        source=LocalFile(name),
        scheme=scheme,
        preprocessing=preprocessing,
        notes="architecture and preprocessing of its folder",
        **fields,
    )


def network(directory: Path) -> dict[str, Any] | None:
    """Returns what a folder's config says of its network, or None if there is no config.

    Args:
      directory: see `describe`.

    Returns:
      `backbone`, `model_args`, `licence` and `link`, as in `WeightSpec`. The licence is '' unless
      it forbids commercial use.

    Raises:
      UserError: the config is damaged, or describes something that is not supported here.
    """
    config = _config(directory)
    if not config:
        return None
    with _damage():
        return _network(config)


def _network(config: Mapping[str, Any]) -> dict[str, Any]:
    licence, link = "", config.get("tl", {}).get("link", "softmax")  # of our exports
    if "pretrained_cfg" in config:
        backbone, model_args = timm_names.network(config)
        licence = str(config["pretrained_cfg"].get("license", "")).upper()
    elif "model_type" in config:
        backbone, model_args = transformers_config.network(config)
        if config.get("problem_type") == SEVERAL:
            link = "sigmoid"
    else:
        name = config["architecture"]
        backbone, model_args = registry.get(TORCHVISION.get(name, name)).name, {}
        licence, link = str(config["licence"]), config["link"]
    if link not in LINKS:
        raise ValueError(f"a link {link!r}")
    return {
        "backbone": backbone,
        "model_args": dict(model_args),
        "licence": licence if "-NC" in licence else "",
        "link": link,
    }


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Turns what the content of a folder's files sets off into a UserError."""
    try:
        yield
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
    with _damage():
        names = config.get("id2label") or config.get("label_names") or within.get("label_names")
    names = names or config.get("classes") or ()
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
    """Returns the folder's config; empty if it has none of transformers, timm or our export.

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
    if {"architecture", "preprocessing"} <= config.keys():
        return config
    if "architecture" in config and "pretrained_cfg" not in config:  # timm's older layout
        named = config.get("label_names", config.get("labels"))
        return {**config, "pretrained_cfg": config, "label_names": named}
    return config if "model_type" in config or "pretrained_cfg" in config else {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _of_timm(cfg: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing of timm's `pretrained_cfg`."""
    channels, height, width = cfg["input_size"]
    crop_pct, mode = float(cfg["crop_pct"]), cfg.get("crop_mode", "center")
    interpolation = cfg["interpolation"]
    squashed = mode == "squash" and crop_pct == 1
    if (
        (channels, height) != (3, width)
        or interpolation not in RESAMPLE.values()
        or not (mode == "center" or squashed)
    ):
        raise UserError(
            f"it wants images of {channels} x {height} x {width}, {interpolation}, crop_mode "
            f"{mode!r}; expected 3 channels, a square, {', '.join(RESAMPLE.values())}, 'center', "
            "or 'squash' with crop_pct 1. Name the set whose preprocessing it takes with "
            "`weights_like`"
        )
    return Preprocessing(
        size=height,
        crop_pct=crop_pct,
        geometry="whole" if squashed else "resize_crop",
        interpolation=interpolation,
        mean=transformers_config.channels(cfg["mean"], 255),
        std=transformers_config.channels(cfg["std"], 255),
    )
