"""Networks without batch statistics, with tokens and with names of their own, in every kind of run.

What `tests/foreign.py` says of them is all that the code is told: the contract carries them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import foreign, tiny
from tests.networks import random_variables
from tl.errors import UserError
from tl.features import network as features
from tl.features.store import FeatureStore
from tl.models import registry
from tl.runs import extract, probe, workdir
from tl.weights import convert, trained
from tl.weights.load import load
from tl.weights.spec import LocalFile, Preprocessing, WeightSpec

NAMES = (foreign.GROUP_NET.name, foreign.VIT.name)


@pytest.fixture(scope="module", autouse=True)
def networks():
    with foreign.registered():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weight files by network, with a head of three classes, for images of 16 pixels."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name in NAMES:
        model = registry.build(name, num_classes=3)
        spec = WeightSpec(
            name=name,
            backbone=name,
            source=LocalFile(name),
            scheme=name,
            preprocessing=Preprocessing(size=16, geometry="whole"),
            licence="",
            num_classes=3,
        )
        variables = {"batch_stats": {}} | jax.device_get(random_variables(model, size=16))
        paths[name] = str(folder / f"{name}.safetensors")
        trained.save(variables, paths[name], spec, tiny.CLASSES)
    return paths


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_network_is_a_weight_set(name, weights):
    network = load(weights[name])
    assert network.backbone.name == name and network.variables["batch_stats"] == {}
    assert network.spec.classes == tiny.CLASSES
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    found = jax.jit(network.model.apply)(network.variables, images)
    assert found["logits"].shape == (2, 3)


@pytest.mark.parametrize("name", [pytest.param("group_net", marks=pytest.mark.slow), "vit"])
def test_features_of_every_endpoint_and_a_probe_on_them(name, weights, tmp_path):
    outputs = registry.get(name).outputs
    fields = {"extract.pooling": "grid2", "endpoints": (*outputs, "logits"), "probe.l2": (0.1, 1.0)}
    values = tiny.config(weights[name], tmp_path / "features", **fields)
    path = workdir.start(values, str(tmp_path / "run"), "test")
    store: FeatureStore = extract.run(values, path, lambda line: None)["test"]
    expected = {
        key: output.width * (1 if output.kind == "vector" else 4) for key, output in outputs.items()
    }
    assert dict(store.widths) == {**expected, "logits": 3}
    path = workdir.start(values, str(tmp_path / "probe"), "test")
    result = probe.run(values, path, lambda line: None)
    assert result["test"]["count"] == 797 and result["test"]["top1"] > 0.3  # by chance 0.1


@pytest.mark.parametrize("chunk_pixels", [None, 4])
def test_pooled_tokens_are_the_mean_of_the_patches(chunk_pixels, weights):
    network = load(weights["vit"])
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8))
    prepare = features.host_and_device((16, 16, 3), network.spec.preprocessing)[1]
    function = features.feature_function(
        network.model, network.spec.preprocessing, prepare, ("block1", "pooled"), "mean",
        chunk_pixels, tuple(features.leading_tokens(network.backbone).items()),
    )  # fmt: skip
    found = jax.jit(function)(network.variables, images)
    inputs = prepare(images, network.spec.preprocessing)
    tokens = jax.jit(network.model.apply)(network.variables, inputs)["block1"]
    assert tokens.shape == (3, 17, 8)
    np.testing.assert_allclose(found["block1"], tokens[:, 1:].mean(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", [foreign.GROUP_NET.name, pytest.param(foreign.VIT.name, marks=pytest.mark.slow)]
)
def test_fine_tuning_with_the_first_layer_frozen_and_cached(name, weights, tmp_path):
    first = registry.get(name).layers[0]
    fields = {
        "train.freeze": (first,), "train.norm_momentum": "", "train.epochs": 20.0,
        "optim.layer_decay": 0.75,
    }  # fmt: skip
    results = {}
    for cached in (False, True):
        values = tiny.config(
            weights[name], tmp_path / "features", **fields, **{"train.cache_prefix": cached}
        )
        results[cached], _ = tiny.run(values, tmp_path / f"cached{cached}")
    losses = [tiny.losses(tmp_path / f"cached{cached}") for cached in results]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][-1] < losses[0][0]
    assert results[False]["test"]["top1"] > 0.2  # by chance 0.1
    before, after = load(weights[name]), load(str(tmp_path / "cachedFalse"))
    module = first.split("/")[0]
    for old, new in zip(
        jax.tree.leaves(before.variables["params"][module]),
        jax.tree.leaves(after.variables["params"][module]),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)
    assert after.spec.classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.norm": "recalibrate", "train.norm_momentum": ""}, "^train.norm: the network has"),
        ({"train.norm_momentum": "0.5"}, "^train.norm_momentum: .* has no batch statistics"),
        (
            {"preprocess.size": 18, "train.norm_momentum": ""},
            "^preprocess.size: these weights of vit take",
        ),
    ],
)
def test_what_it_does_not_take(fields, message, weights, tmp_path):
    with pytest.raises(UserError, match=message):
        tiny.run(tiny.config(weights["vit"], tmp_path, **fields), tmp_path / "run")


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_file_without_a_set_in_the_catalogue_is_said(name, weights, tmp_path):
    tensors = convert.from_variables(load(weights[name]).variables, name)
    trained.write_safetensors(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match=f"it holds a {name} .*, and the catalogue has no {name};"):
        load(str(tmp_path / "bare.safetensors"))
    (tmp_path / "other.safetensors").write_bytes(b"")
    trained.write_safetensors({"x": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no known naming scheme has these 1 tensors"):
        load(str(tmp_path / "other.safetensors"))
