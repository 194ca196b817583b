"""EfficientNet-Lite0's real ImageNet weights, from their package."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from tl.data import imagenet, transforms
from tl.weights import convert, load, naming
from tl.weights.fetch import fetch
from tl.weights.readers import WeightFile

REFERENCE = pathlib.Path(__file__).parents[2] / "shared" / "golden" / "lite0_ref.npz"

# ImageNet has no astronaut: the helmet is what it can name of her.
PHOTOGRAPHS = {
    "astronaut": {"football helmet", "crash helmet"},
    "coffee": {"espresso"},
    "cat": {"tiger cat", "tabby", "Egyptian cat"},
    "rocket": {"missile", "projectile", "space shuttle"},
}


@functools.cache
def network():
    return load.load("efficientnet_lite0")


@functools.cache
def compiled():
    return jax.jit(network().model.apply)


def logits(images):
    padding = [(0, len(PHOTOGRAPHS) - len(images)), (0, 0), (0, 0), (0, 0)]  # compile once
    with jax.default_matmul_precision("highest"):
        endpoints = compiled()(network().variables, np.pad(images, padding))
    return np.asarray(endpoints["logits"])[: len(images)]


@pytest.mark.slow  # tests/test_inference_model.py has it by the public door
def test_photographs_get_their_class():
    p = network().spec.preprocessing
    crops = [transforms.host_transform(getattr(skimage.data, n)(), p) for n in PHOTOGRAPHS]
    best = logits(transforms.normalise(jnp.asarray(np.stack(crops)), p)).argmax(axis=1)
    for photograph, i in zip(PHOTOGRAPHS, best, strict=True):
        assert imagenet.names()[i] in PHOTOGRAPHS[photograph], photograph


@pytest.mark.skipif(not REFERENCE.is_file(), reason=f"needs the reference {REFERENCE.name}")
@pytest.mark.parametrize("case", ["noise", "photographs", "odd size"])
def test_logits_equal_the_reference(case):
    with np.load(REFERENCE) as reference:
        x, y = {
            "noise": lambda: (reference["x"].transpose(0, 2, 3, 1), reference["y"]),
            "photographs": lambda: (
                transforms.normalise(jnp.asarray(reference["u8"]), network().spec.preprocessing),
                reference["logits_u8"],
            ),
            "odd size": lambda: (
                reference["xo"].transpose(0, 2, 3, 1),
                reference["y_odd_dynamic"],
            ),
        }[case]()
    assert np.max(np.abs(logits(x) - y)) <= 1e-5 * np.max(np.abs(y))


def test_the_file_exports_bit_for_bit():
    path, _ = fetch(network().spec)
    exported = convert.from_variables(network().variables, "efficientnet_lite")
    original = WeightFile(path).tensors()
    assert exported.keys() == original.keys() and len(original) == 296
    assert all(np.array_equal(exported[name], value) for name, value in original.items())


def test_timm_names_give_the_same_variables():
    exported = convert.from_variables(network().variables, "timm_efficientnet_lite")
    assert naming.detect(exported) == "timm_efficientnet_lite"
    again = convert.to_variables(exported, network().variables, "timm_efficientnet_lite")
    assert jax.tree.all(jax.tree.map(np.array_equal, again, network().variables))
