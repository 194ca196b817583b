"""Statistics estimated anew: by hand, against one large batch, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables, tiny_resnet
from tests.toy import PLAIN, NoiseSource, pretrained
from tl import tree
from tl.data.augment import Augmentation
from tl.devices import DataParallel
from tl.errors import UserError
from tl.models import registry
from tl.train import inputs
from tl.train.recalibrate import estimate_statistics, recalibrate

MODEL = tiny_resnet(stage_sizes=(1,), widths=(4,), block="basic", num_classes=3)
LEFT_OUT = 5


class OneLeftOut(NoiseSource):
    def __getitem__(self, row):
        example = super().__getitem__(row)
        return {**example, "label": -1} if row == LEFT_OUT else example


@pytest.fixture(scope="module")
def network():
    variables = jax.tree.map(np.array, random_variables(MODEL))
    # Some running variances of EfficientNet-Lite0 are 0, or so small that they are lost beside the
    # square of the mean.
    variables["batch_stats"]["stem"]["bn"]["var"][:3] = 0.0, 1e-12, 2e-12
    return pretrained(MODEL, variables, registry.get("resnet18"))


def fed(source, rows):
    return inputs.image_inputs({"train": (source, np.asarray(rows))}, Augmentation(), PLAIN, 0)


def of(*layers):
    return tree.unflatten({
        f"{name}/bn/{kind}": np.float32([value])
        for name, *moments in layers for kind, value in zip(("mean", "var"), moments)
    })  # fmt: skip


def test_two_batches_by_hand():
    # Of the inputs 0, 2 and 1, 5: means 1 and 3, variances 1 and 4; all four have mean 2 and
    # variance (4 + 0 + 1 + 9) / 4 = 3.5.
    batches = [np.float32([0, 2]), np.float32([1, 5])]
    found = estimate_statistics(
        lambda variables, x: of(("a", x.mean(), x.var()), ("b", 10.0, 0.0)),
        {"batch_stats": of(("a", 7, 7), ("b", 10, 0))},
        iter(batches),
    )
    assert found["a"]["bn"]["mean"] == pytest.approx(2.0)
    assert found["a"]["bn"]["var"] == pytest.approx(3.5)
    assert {leaf.dtype for leaf in tree.leaves(found).values()} == {np.dtype("float32")}


def test_a_variance_is_never_below_zero():
    value = np.float32(1 / 3)
    found = estimate_statistics(
        lambda variables, batch: of(("a", value, 0.0)),
        {"batch_stats": of(("a", 0, 1))},
        range(7),
    )
    assert found["a"]["bn"]["mean"] == value
    assert 0 <= found["a"]["bn"]["var"] < 1e-15


def test_no_whole_batch_says_what_to_do(network):
    with pytest.raises(UserError, match=r"at least one whole batch.*make it smaller"):
        estimate_statistics(lambda variables, batch: batch, {"batch_stats": {}}, [])
    with pytest.raises(UserError, match="at least one whole batch"):
        recalibrate(network, (), fed(NoiseSource(7), range(7)), 8, DataParallel.over())


@pytest.fixture(scope="module")
def estimated(network):
    """Of three batches of 8 and five images more; one of the 8 in the first is left out."""
    feeding = fed(OneLeftOut(29), range(29))
    return recalibrate(network, (), feeding, 8, DataParallel.over())


def test_the_first_layers_statistics_are_those_of_all_images_of_whole_batches(network, estimated):
    source = OneLeftOut(29)
    images = np.stack([source[row]["image"] for row in range(8, 24)])
    kernel = network.variables["params"]["stem"]["conv"]["kernel"]
    seen = np.float64(jax.lax.conv_general_dilated(
        images.astype(np.float32), kernel, (2, 2), [(3, 3), (3, 3)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
    ))  # fmt: skip
    found = estimated.variables["batch_stats"]["stem"]["bn"]
    np.testing.assert_allclose(found["mean"], seen.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["var"], seen.var((0, 1, 2)), rtol=1e-4)


def test_each_batch_goes_on_normalised_by_its_own_statistics(network, estimated):
    source, moments = OneLeftOut(29), []
    model = MODEL.clone(norm_momentum=0.0)
    run = jax.jit(lambda images: model.apply(
        network.variables, images, train=True, mutable=["batch_stats"]
    )[1]["batch_stats"]["stage1"]["block1"]["conv2"]["bn"])  # fmt: skip
    for start in (8, 16):
        images = np.stack([source[row]["image"] for row in range(start, start + 8)])
        bn = run(jnp.asarray(images, jnp.float32))
        moments.append((bn["mean"], bn["var"] + bn["mean"] ** 2))
    mean, square = np.mean(moments, axis=0)
    found = estimated.variables["batch_stats"]["stage1"]["block1"]["conv2"]["bn"]
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], square - mean**2, rtol=1e-4, atol=1e-5)


def test_nothing_else_changes(network, estimated):
    assert estimated.variables["params"] is network.variables["params"]
    assert estimated.model is network.model
    old, new = (tree.leaves(x.variables["batch_stats"]) for x in (network, estimated))
    assert tree.differences(old, new) == []
    assert not any(np.array_equal(old[path], new[path]) for path in old)


def test_statistics_that_are_held_come_back_as_they_were_bit_for_bit(network):
    feeding = fed(NoiseSource(16), range(16))
    held = recalibrate(network, ("stem",), feeding, 8, DataParallel.over())
    for path, value in tree.leaves(network.variables["batch_stats"]).items():
        found = tree.leaves(held.variables["batch_stats"])[path]
        assert np.array_equal(found, value) == path.startswith("stem/"), path
