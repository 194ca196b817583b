"""Features of a network that compiles in a second, ours and as plain Flax computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark import contest, features, native, peers
from experiments.benchmark.contest import Contestant
from experiments.benchmark.synthetic import random_images, random_network
from tests import contests
from tl.data.transforms import normalise
from tl.models import layers, resnet
from tl.models.cpu import lowering


@pytest.fixture(autouse=True)
def in_this_process():
    with contests.in_this_process():
        yield


def test_a_row_for_each_type():
    lines = []
    limits = {"float32": 1e9}
    options = contests.options(peers=("flax",), rounds=2)
    first, second = features.measure(options, limits, lines.append)
    assert [row["dtype"] for row in (first, second)] == ["float32", "bfloat16"]
    assert {row["section"] for row in (first, second)} == {"features"}
    # Two units of work a second, of 8 images each.
    assert first["ours"] == second["ours"] == 16.0
    assert first["peers"] == second["peers"] == {"flax": 16.0}
    assert first["limit_fraction"] == pytest.approx(
        16 * native.forward_flops("resnet_tiny", 16) / 1e9
    )
    assert second["limit_fraction"] is None
    assert first["error_against_float32"] == 0.0
    assert 1e-5 < second["error_against_float32"] < 3e-2
    assert len(lines) == 1 and lines[0].startswith("features, 16 px: those of bfloat16 are off by")


def test_the_reference_of_an_error_is_measured_though_nobody_asked():
    (row,) = features.measure(contests.options(dtypes=("bfloat16",)), {}, str)
    assert row["dtype"] == "bfloat16" and row["peers"] == {}
    assert 1e-5 < row["error_against_float32"] < 3e-2


def test_ours_and_plain_flax_compute_the_same():
    network, images = random_network("resnet_tiny", 16), random_images(8, 16)
    found = features.ours("resnet_tiny", 16, 8, "float32")()
    expected = network.model.apply(
        network.variables, normalise(jnp.asarray(images), network.spec.preprocessing)
    )["pooled"]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    with native.plain_layers():
        native_ones = jax.jit(network.model.apply)(
            network.variables, normalise(jnp.asarray(images), network.spec.preprocessing)
        )["pooled"]
    assert np.abs(native_ones - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_peer_is_compiled_of_plain_layers_and_ours_are_left_alone(monkeypatch):
    native_ones, lowered = [], []

    def spy(seen, function):
        # One image is what shapes are found with, before anything is compiled.
        return lambda x, *rest, **options: (
            (len(x) > 1 and seen.append(x.shape)) or function(x, *rest, **options)
        )

    class BatchNorm(layers.BatchNorm):
        def __call__(self, x, **options):
            return spy(lowered, super().__call__)(x, **options)

    own = spy(lowered, lowering.conv)
    monkeypatch.setattr(layers, "conv", own)
    monkeypatch.setattr(layers, "BatchNorm", BatchNorm)
    monkeypatch.setattr(resnet, "max_pool", spy(lowered, resnet.max_pool))
    monkeypatch.setattr(
        native.lax, "conv_general_dilated", spy(native_ones, jax.lax.conv_general_dilated)
    )
    work = peers.flax_forward("resnet_tiny", 16, 8, "float32")
    # The stem, the 3x3s of the block, and the 1x1 of its shortcut.
    expected = [(8, 16, 16, 3), (8, 4, 4, 8), (8, 4, 4, 16), (8, 4, 4, 8)]
    assert (native_ones, lowered) == (expected, [])
    assert work().shape == (8, 16) and len(native_ones) == 4
    assert (layers.conv, layers.BatchNorm) == (own, BatchNorm)


@pytest.mark.parametrize(
    ("backbone", "asked", "names"),
    [
        ("resnet50", ("keras", "onnxruntime"), ["keras float32", "onnxruntime float32"]),
        ("efficientnet_lite0", ("keras", "torch"), ["torch float32"]),  # Keras has none
        ("resnet50", ("sklearn",), []),
    ],
)
def test_who_takes_part(monkeypatch, tmp_path, backbone, asked, names):
    monkeypatch.setattr(contest, "absent", lambda contestant: "left out")
    options = contests.options(backbone=backbone, peers=asked, dtypes=("float32",))
    found = features._contestants(options, 64, 8, tmp_path, str)
    assert [contestant.name for contestant in found] == ["ours float32", *names]


def test_a_network_is_exported_where_its_runtime_is_there(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(contest, "absent", lambda contestant: "")
    monkeypatch.setattr(contest, "alone", lambda *arguments, log: calls.append(arguments))
    options = contests.options(peers=("onnxruntime",))
    *_, runtime = features._contestants(options, 64, 8, tmp_path, str)
    path = str(tmp_path / "network.onnx")
    assert calls == [(peers.export_onnx, "resnet_tiny", 64, 8, path)]
    assert runtime == Contestant(
        "onnxruntime float32", peers.onnxruntime_forward, (path, 64, 8), runtime.needs
    )


@pytest.mark.parametrize(
    ("backbone", "products"),
    [
        ("resnet50", 4.09),
        pytest.param("resnetv2_50", 4.09, marks=pytest.mark.slow),  # as many by other names
        ("convnext_tiny", 4.45),
    ],
)
def test_operations_of_a_network_that_others_have_counted(backbone, products):
    # Each product with its sum; XLA leaves out those with the padding, and counts the rest.
    assert native.forward_flops(backbone, 224) == pytest.approx(2e9 * products, rel=0.1)
