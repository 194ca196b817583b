"""Starting points of a tiny network: whose backbone, which head, what of the module."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tl import tree
from tl.errors import UserError
from tl.models.vit import VisionTransformer
from tl.runs import options
from tl.train import start
from tl.weights.load import load

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module", autouse=True)
def backbone():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def network(weights, tmp_path):
    def make(classes=DIGITS, num_examples=80, **fields):
        recipe = options.recipe(tiny.config(weights, tmp_path, **fields), num_examples, None)
        return start.initial_network(recipe, classes)

    return make


def split(variables):
    """Returns (leaves of the backbone, the head)."""
    flat = tree.leaves(variables)
    head = {path: leaf for path, leaf in flat.items() if path.startswith("params/head/")}
    return {path: leaf for path, leaf in flat.items() if path not in head}, head


def same(leaves, other):
    return leaves.keys() == other.keys() and all(
        np.asarray(leaves[path]).tobytes() == np.asarray(other[path]).tobytes() for path in leaves
    )


def test_a_new_head_is_zero_over_the_same_backbone(network, weights):
    found = network()
    backbone, head = split(found.variables)
    assert same(backbone, split(load(weights).variables)[0])
    assert {path: leaf.shape for path, leaf in head.items()} == {
        "params/head/kernel": (16, 10),
        "params/head/bias": (10,),
    }
    assert not any(np.any(leaf) for leaf in head.values())
    assert (found.spec.num_classes, found.spec.classes) == (10, DIGITS)
    assert found.model.num_classes == 10


def test_probabilities_follow_the_loss_whatever_the_weights_had(network):
    assert network().spec.link == "softmax"
    assert network(**{"train.loss": "focal"}).spec.link == "sigmoid"


def test_a_random_head_is_lecuns_and_follows_the_seed(network):
    classes = tuple(map(str, range(2000)))
    fields = {"train.head": "random"}
    zero, one = (network(classes, seeds=(seed,), **fields) for seed in (0, 1))
    kernel = zero.variables["params"]["head"]["kernel"]
    assert np.std(kernel) == pytest.approx(np.sqrt(1 / 16), rel=0.03)
    assert not np.any(zero.variables["params"]["head"]["bias"])
    assert same(split(zero.variables)[1], split(network(classes, **fields).variables)[1])
    assert not np.any(kernel == one.variables["params"]["head"]["kernel"])
    assert same(split(zero.variables)[0], split(one.variables)[0])


@pytest.mark.parametrize("head", ["zero", "random"])
def test_from_nothing_nothing_of_the_weights_is_left(head, network, weights):
    found = network(**{"train.start": "random", "train.head": head})
    backbone, new_head = split(found.variables)
    given = split(load(weights).variables)[0]
    assert backbone.keys() == given.keys()
    assert not any(np.any(backbone[path] == given[path]) for path in given)
    assert not np.any(backbone["batch_stats/stem/bn/mean"])
    assert np.any(new_head["params/head/kernel"]) == (head == "random")
    assert found.spec.preprocessing.size == 16


def test_a_head_is_kept_bit_for_bit(network, weights):
    found = network(tiny.CLASSES, **{"train.head": "keep"})
    assert same(tree.leaves(found.variables), tree.leaves(load(weights).variables))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat", "dog"), r"for the 2 classes of this data \(cat, dog, ...\), .* has 3 \(cat, dog"),
        (("dog", "cat", "emu"), r"expected a head for the 3 classes .* has 3 \(cat, dog, emu, "),
        (DIGITS, r"\(0, 1, 2, 3, 4, ...\), .*; start with `train.head=zero`"),
    ],
)
def test_a_head_of_other_classes_is_not_kept(classes, message, network):
    with pytest.raises(UserError, match=message):
        network(classes, **{"train.head": "keep"})


@pytest.mark.parametrize(
    ("text", "num_examples", "momentum"),
    [("", 80, 0.9), ("0", 80, 0.0), ("0.75", 80, 0.75), ("kornblith", 40_000, 0.99)],
)
def test_momentum_of_the_statistics(text, num_examples, momentum, network):
    # Batches of 40, so that 40,000 examples are 1,000 steps an epoch.
    model = network(num_examples=num_examples, **{"train.norm_momentum": text}).model
    assert model.norm_momentum == pytest.approx(momentum)


def test_the_module_and_the_preprocessing_are_the_configs(network):
    found = network(
        **{"train.dropout": 0.25, "train.dtype": "bfloat16", "preprocess.size": 24}
    )  # fmt: skip
    assert (found.model.dropout, found.model.dtype) == (0.25, jnp.bfloat16)
    assert all(leaf.dtype == np.float32 for leaf in tree.leaves(found.variables).values())
    preprocessing = found.spec.preprocessing
    assert (preprocessing.size, preprocessing.geometry) == (24, "whole")


def test_with_head_leaves_the_network_it_is_given_alone(network):
    given = network()
    head = {"kernel": np.ones((16, 10), np.float32), "bias": np.full(10, 2.0, np.float32)}
    changed = given.with_head(head)
    assert same(split(changed.variables)[0], split(given.variables)[0])
    assert changed.variables["params"]["head"]["bias"][3] == 2.0
    assert not np.any(given.variables["params"]["head"]["kernel"])


def test_stochastic_depth_reaches_networks_that_have_it(network, monkeypatch):
    loaded = network()
    vit = dataclasses.replace(loaded, model=VisionTransformer(8, 1, 2, num_classes=10))
    monkeypatch.setattr(start, "load", lambda *_, **__: vit)
    found = network(**{"train.drop_path": 0.1, "train.norm_momentum": ""})
    assert (vit.model.drop_path, found.model.drop_path) == (0.0, 0.1)


def test_stochastic_depth_is_for_networks_that_have_it(network):
    message = r"^train.drop_path: \w+ has no stochastic depth, .*; expected 0, got 0.1"
    with pytest.raises(UserError, match=message):
        network(**{"train.drop_path": 0.1})


def test_stochastic_depth_and_stored_outputs_exclude_each_other(network):
    with pytest.raises(UserError, match=r"^train.cache_prefix: .* `train.drop_path` leaves out"):
        network(**{"train.drop_path": 0.1, "train.cache_prefix": True})
