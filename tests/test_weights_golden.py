"""Tiny files written by transformers, timm and Keras, with every endpoint they compute."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from tl.models import dinov3, resnet
from tl.models.dinov3 import DINOv3
from tl.models.layers import ConvBN
from tl.models.resnet import ResNet
from tl.models.vit import VisionTransformer
from tl.weights import convert, naming, readings
from tl.weights.readers import WeightFile

GOLDEN = pathlib.Path(__file__).parent / "golden"
TOLERANCE = 1e-5
_TINY = functools.partial(
    ResNet, stage_sizes=(2, 1, 1, 1), widths=(4, 6, 8, 10), num_classes=10, stem_width=64
)
# Name of the npz: (files with these weights, arguments of the model).
CASES = {
    "hf_bottleneck": (["hf_bottleneck.safetensors"], {"stem_width": 8}),
    "hf_basic": (
        ["hf_basic.safetensors"],
        {"stem_width": 8, "block": "basic", "widths": (8, 12, 16, 20)},
    ),
    "timm": (["timm_zip.pth", "timm_legacy.pth"], {}),
    "keras": (
        ["keras_legacy.h5", "keras_model.h5", "keras.weights.h5", "keras.keras"],
        {"stride_in": "1x1", "norm_epsilon": 1.001e-5},
    ),
}


@functools.cache
def variables(file):
    case = next(name for name, (files, _) in CASES.items() if file in files)
    tensors = WeightFile(GOLDEN / file).tensors()
    shapes = convert.shapes(_TINY(**CASES[case][1]))
    return convert.to_variables(tensors, shapes, naming.detect(tensors))


def errors(case, **arguments):
    """Returns the largest error of each endpoint, relative to its largest value."""
    files, model_args = CASES[case]
    with np.load(GOLDEN / f"{case}.npz") as golden:
        golden = dict(golden)
    model = _TINY(**{**model_args, **arguments})
    with jax.default_matmul_precision("highest"):
        endpoints = jax.jit(model.apply)(variables(files[0]), golden.pop("x"))
    assert endpoints.keys() == golden.keys()
    return {
        name: np.max(np.abs(np.float32(endpoints[name]) - value)) / np.max(np.abs(value))
        for name, value in golden.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_every_endpoint_equals_the_frameworks(case):
    found = errors(case)
    assert set(found) == {"stem", "stage1", "stage2", "stage3", "stage4", "pooled", "logits"}
    assert max(found.values()) <= TOLERANCE, found


def test_all_files_of_a_network_give_the_same_variables():
    for first, *others in (files for files, _ in CASES.values()):
        for other in others:
            assert jax.tree.all(jax.tree.map(np.array_equal, variables(first), variables(other)))


def test_same_padding_fails_the_comparison(monkeypatch):
    monkeypatch.setattr(resnet, "ConvBN", functools.partial(ConvBN, padding="same"))
    found = errors("timm")
    assert min(found.values()) > 100 * TOLERANCE, found


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        ("timm", {"stride_in": "1x1"}),
        pytest.param("keras", {"stride_in": "3x3"}, marks=pytest.mark.slow),
        pytest.param("hf_bottleneck", {"norm_epsilon": 1e-3}, marks=pytest.mark.slow),
    ],
)
def test_another_architecture_fails_the_comparison(case, arguments):
    found = errors(case, **arguments)
    assert found["logits"] > 100 * TOLERANCE, found
    assert found["stage4"] > 100 * TOLERANCE, found


def test_unfolded_keras_biases_fail_the_comparison(monkeypatch):
    monkeypatch.setattr(
        convert,
        "_fold_conv_biases",
        lambda tensors: {k: v for k, v in tensors.items() if not k.endswith("_conv/bias")},
    )
    variables.cache_clear()
    found = errors("keras")
    variables.cache_clear()
    assert min(found.values()) > 100 * TOLERANCE, found


@pytest.mark.parametrize("file", ["hf_bottleneck.safetensors", "hf_basic.safetensors"])
def test_huggingface_files_export_bit_for_bit(file):
    assert_same(
        convert.from_variables(variables(file), "huggingface"), WeightFile(GOLDEN / file).tensors()
    )


@pytest.mark.parametrize("file", ["timm_zip.pth", "timm_legacy.pth"])
def test_torchvision_files_export_bit_for_bit(file):
    assert_same(
        convert.from_variables(variables(file), "torchvision"), WeightFile(GOLDEN / file).tensors()
    )


def assert_same(exported, original):
    assert exported.keys() == original.keys()
    for name, value in original.items():
        assert exported[name].dtype == value.dtype and exported[name].shape == value.shape, name
        assert np.array_equal(exported[name], value), name
        assert exported[name].flags.c_contiguous


_SIGLIP = {"cls": False, "cls_position": False, "pool": "attention"}
VITS = {
    "timm_vit": {"registers": 2, "cls_position": False, "layer_scale": True},
    "torchvision_vit": {},
    "hf_vit": {"norm_epsilon": 1e-12, "resize": "plain"},
    "hf_dinov2": {"layer_scale": True, "resize": "plain"},
    "hf_dinov2_registers": {"layer_scale": True, "registers": 2},
    "hf_clip": {
        "pre_norm": True,
        "norm_epsilon": 1e-5,
        "activation": "quick_gelu",
        "resize": "plain",
    },
    "hf_siglip": {**_SIGLIP, "activation": "gelu_tanh", "resize": "plain"},
    "timm_siglip": _SIGLIP,
    "timm_dinov3": {"registers": 2},
    "hf_dinov3": {"registers": 2, "gated": True, "qkv_bias": True},
}
# Those of DINOv2 take the mean of the patches beside the class token.
HEADLESS = ("hf_dinov2", "hf_dinov2_registers", "hf_clip", "hf_siglip", "hf_dinov3")


def vit_errors(case, size, **arguments):
    """As `errors`, for a vision transformer and images of the size of its positions, or larger."""
    tensors = readings.find(WeightFile(GOLDEN / f"{case}.safetensors").tensors()).tensors
    scheme = naming.detect(tensors)
    sizes = {"width": 24, "depth": 2, "heads": 3, "patch": 8}
    headless = case in HEADLESS
    kind = DINOv3 if case.endswith("dinov3") else functools.partial(VisionTransformer, grid=4)
    model = kind(**{**sizes, **VITS[case], **arguments}, num_classes=0 if headless else 10)
    network = convert.to_variables(tensors, convert.shapes(model, 32), scheme, drop_head=headless)
    with np.load(GOLDEN / f"{case}.npz") as golden:
        golden = {k.split("/")[1]: v for k, v in golden.items() if k.startswith(size)}
    with jax.default_matmul_precision("highest"):
        found = jax.jit(model.apply)(network, golden.pop("x"))
    return {
        name: np.max(np.abs(found[name] - value)) / np.max(np.abs(value))
        for name, value in golden.items()
    }


@pytest.mark.parametrize(
    ("case", "size"),
    [
        *(
            (case, size)
            for case in VITS
            if case != "torchvision_vit"
            for size in ("small", "large")
        ),
        ("torchvision_vit", "small"),
    ],
)
def test_vision_transformers_equal_the_frameworks(case, size):
    found = vit_errors(case, size)
    every = {"embed", "block1", "block2", "pooled", "logits"}
    assert set(found) == {
        "torchvision_vit": {"logits"}, **dict.fromkeys((*HEADLESS, "hf_vit"), every - {"logits"})
    }.get(case, every)  # fmt: skip
    assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize(
    ("case", "size", "arguments"),
    [
        ("timm_vit", "small", {"heads": 2}),
        ("timm_vit", "large", {"resize": "plain"}),
        ("hf_dinov2_registers", "large", {"resize": "plain"}),
        ("hf_clip", "small", {"activation": "gelu"}),
        ("timm_siglip", "small", {"norm_epsilon": 1e-3}),
        ("hf_dinov3", "large", {"norm_epsilon": 1e-3}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("timm_vit", "small", {"activation": "quick_gelu"}),
                ("timm_vit", "small", {"norm_epsilon": 1e-3}),
                ("hf_vit", "large", {"resize": "offset"}),
                ("hf_dinov2", "large", {"resize": "antialias"}),
                ("hf_clip", "large", {"resize": "antialias"}),
                ("hf_siglip", "small", {"activation": "gelu"}),
                ("timm_siglip", "large", {"resize": "plain"}),
                ("timm_dinov3", "small", {"heads": 6}),
            )
        ),
    ],
)
def test_another_vision_transformer_fails_the_comparison(case, size, arguments):
    assert vit_errors(case, size, **arguments)["pooled"] > 10 * TOLERANCE


@pytest.mark.parametrize("case", ["timm_dinov3", "hf_dinov3"])
def test_other_rotations_fail_the_comparison(case, monkeypatch):
    angles, turned = dinov3.angles, dinov3.turned
    for name, wrong in (
        ("angles", lambda rows, columns, width: -angles(rows, columns, width)),  # backwards
        ("angles", lambda rows, columns, width: angles(rows, columns, width) / 2),
        ("turned", lambda x, by: turned(x, by=np.roll(by, 1, axis=1))),  # the wrong periods
        ("turned", lambda x, by: x),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(dinov3, name, wrong)
            errors = vit_errors(case, "large")
        assert errors["pooled"] > 10 * TOLERANCE and errors["embed"] <= TOLERANCE
