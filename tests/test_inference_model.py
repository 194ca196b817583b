import dataclasses

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests import tiny
from tests.lite0 import config, photographs, run
from tl.data.digits import Digits
from tl.errors import UserError
from tl.inference import model as inference
from tl.results.predictions import Predictions
from tl.runs import probe, workdir
from tl.weights import probe_head
from tl.weights.load import load as load_weights


@pytest.fixture(scope="module")
def photograph_probe(network, lite0_features, tmp_path_factory):
    """The folder of a probe on the last features of photographs, and of these."""
    root = tmp_path_factory.mktemp("photographs")
    fields = photographs(root / "images", {"train": 6, "test": 3})
    fields |= {"weights": network.name, "endpoints": ("pooled",), "seeds": (0, 1)}
    values = config(lite0_features, **fields)
    run(probe.run, values, root / "run")
    return root / "run", root / "images"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network of three classes that compiles in a second."""
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    with tiny.registered():
        yield inference.load(tiny.write_weights(path))


def test_a_probe_predicts_what_it_predicted_in_its_run(probed):
    folder, _, _ = probed
    model, digits, saved = inference.load(folder), Digits("test"), Predictions.load(folder)
    rows = np.arange(0, 797, 40)
    images = [digits[row]["image"] for row in rows]
    outputs = list(model.outputs(images, model.extraction))
    logits = np.concatenate([model.logits(batch.values) for batch in outputs])
    np.testing.assert_allclose(logits, saved.test_logits[rows], rtol=1e-4, atol=1e-4)
    predicted = model.predict(images)
    assert predicted.classes == tuple(saved.classes)
    assert predicted.names == saved.classes[saved.test_predicted[0, rows]].tolist()
    np.testing.assert_allclose(predicted.probabilities.sum(axis=1), 1)


def test_each_seed_has_its_classifier(photograph_probe):
    folder, images = photograph_probe
    saved = Predictions.load(folder)
    test = sorted(images.glob("test/*/*.png"))
    for seed, name in enumerate(("head.safetensors", "head.seed1.safetensors")):
        head = probe_head.read(folder / name)
        assert (head.seed, head.endpoint, head.classes) == (seed, "pooled", ("bright", "dark"))
        predicted = inference.load(folder / name).predict(test)
        assert predicted.names == saved.classes[saved.test_predicted[seed]].tolist()


def test_a_probe_of_the_last_features_is_a_network(photograph_probe):
    folder, images = photograph_probe
    network = load_weights(str(folder))
    assert network.spec.classes == ("bright", "dark")
    assert network.spec.preprocessing.size == 32
    test = sorted(images.glob("test/*/*.png"))
    model = inference.load(folder)
    as_weights = dataclasses.replace(
        model, network=network, endpoint="logits", head=None,
        extraction=model.extracting("logits", "mean"),
    )  # fmt: skip
    np.testing.assert_allclose(
        as_weights.predict(test).probabilities, model.predict(test).probabilities, atol=1e-5
    )
    again = load_weights(str(folder), drop_head=True, num_classes=7)
    assert again.variables["params"]["head"]["bias"].tolist() == [0] * 7


def test_a_probe_of_a_probes_network_is_loaded_again(photograph_probe, lite0_features, tmp_path):
    folder, images = photograph_probe
    fields = {"data.name": "folder", "data.data_dir": str(images), "endpoints": ("stem",)}
    fields |= {"data.examples_per_class": (0,), "seeds": (0,), "weights": str(folder)}
    run(probe.run, config(lite0_features, **fields), tmp_path)
    model = inference.load(tmp_path)
    assert model.network.sha256 == probe_head.read(folder / "head.safetensors").digest()
    saved = Predictions.load(tmp_path)
    test = sorted(images.glob("test/*/*.png"))
    assert model.predict(test).names == saved.classes[saved.test_predicted[0]].tolist()


def test_another_probe_is_not(probed):
    folder, _, _ = probed
    with pytest.raises(UserError, match="cannot be the head of a network: that is linear and acts"):
        load_weights(str(folder))


def test_weights_that_are_not_at_hand(probed, tmp_path):
    head = probe_head.read(probed[0] / "head.safetensors")
    moved = dataclasses.replace(head.weights, name=str(tmp_path / "moved.pth"))
    dataclasses.replace(head, weights=moved).save(tmp_path / "head.safetensors")
    with pytest.raises(UserError, match=r"is a probe of the weights .*moved\.pth \(SHA-256 57934"):
        inference.load(tmp_path)
    assert inference.load(tmp_path, weights="efficientnet_lite0").classes == head.classes
    with pytest.raises(UserError, match="is a probe, which says itself how its weights are read"):
        inference.load(tmp_path, like="efficientnet_lite0")
    dataclasses.replace(head, sha256="0" * 64).save(tmp_path / "head.safetensors")
    with pytest.raises(UserError, match="Give the weights that it was fitted on"):
        inference.load(tmp_path)


def test_nearest_neighbours_are_saved_too(lite0_features, tmp_path):
    fields = photographs(tmp_path / "images", {"train": 6, "test": 3})
    values = config(lite0_features, **fields, **{"probe.solvers": ("knn",)})
    run(probe.run, values, tmp_path / "run")
    saved = Predictions.load(tmp_path / "run")
    test = sorted((tmp_path / "images").glob("test/*/*.png"))
    predicted = inference.load(tmp_path / "run").predict(test)
    assert predicted.names == saved.classes[saved.test_predicted[0]].tolist()


def test_a_fine_tuned_run_predicts_what_it_predicted(tmp_path):
    with tiny.registered(), tiny.compiled_once(tmp_path / "compiled"):
        weights = tiny.write_weights(tmp_path / "tiny.safetensors")
        tiny.run(tiny.config(weights, tmp_path / "features"), tmp_path / "run")
        saved, digits = Predictions.load(tmp_path / "run"), Digits("test")
        model = inference.load(tmp_path / "run")
        images = [digits[row]["image"] for row in range(16)]
        (batch,) = model.outputs(images, model.extraction)
        np.testing.assert_allclose(
            model.logits(batch.values), saved.test_logits[:16], rtol=1e-3, atol=1e-3
        )
        assert model.temperature == saved.fit().temperature


def test_a_probe_of_images_decoded_smaller_predicts_so(network, lite0_features, tmp_path):
    fields = photographs(tmp_path / "images", {"train": 6, "test": 3})
    rng = np.random.default_rng(1)
    for file in sorted((tmp_path / "images").glob("*/*/*.png")):
        low = 128 if file.parent.name == "bright" else 0
        pixels = rng.integers(low, low + 128, (200, 300, 3), np.uint8)
        Image.fromarray(pixels).save(file.with_suffix(".jpg"))
        file.unlink()
    fields |= {"weights": network.name, "preprocess.draft": True}
    run(probe.run, config(lite0_features, **fields), tmp_path / "run")
    saved = Predictions.load(tmp_path / "run")
    model = inference.load(tmp_path / "run")
    assert model.preprocessing.draft
    test = sorted((tmp_path / "images").glob("test/*/*.jpg"))

    def logits(model):
        (batch,) = model.outputs(test, model.extraction)
        return model.logits(batch.values)

    np.testing.assert_allclose(logits(model), saved.test_logits, rtol=1e-4, atol=1e-4)
    undrafted = dataclasses.replace(model.preprocessing, draft=False)
    whole = logits(dataclasses.replace(model, preprocessing=undrafted))
    assert np.abs(whole - saved.test_logits).max() > 1e-2


def test_public_weights_name_photographs():
    model = inference.load("efficientnet_lite0")
    coffee = skimage.data.coffee()
    predicted = model.predict([coffee, Image.fromarray(coffee), coffee[:300]])
    assert predicted.names == ["espresso"] * 3
    np.testing.assert_array_equal(predicted.probabilities[0], predicted.probabilities[1])
    ((best, probability), second) = predicted.top(2)[0]
    assert best == "espresso" and probability == predicted.probabilities[0].max()
    assert second[1] < probability
    assert len(set(model.classes)) == 1000
    # A notebook shows it, so neither the weights nor a thousand names are in it.
    assert repr(model).startswith("Model(name='efficientnet_lite0', ") and len(repr(model)) < 400
    assert len(repr(model.network)) < 10_000
    one = model.predict(coffee)
    np.testing.assert_allclose(one.probabilities[0], predicted.probabilities[0], atol=1e-6)
    generated = model.predict(image for image in [coffee, coffee])
    assert generated.names == ["espresso"] * 2


def test_features_are_by_endpoint(network):
    model = network
    found = model.features(np.zeros((2, 9, 9, 3), np.uint8), ("stem", "pooled"), "grid2")
    assert {name: values.shape for name, values in found.items()} == {
        "stem": (2, 32),
        "pooled": (2, 16),
    }
    assert model.widths(("stem",)) == {"stem": 8}
    assert model.all_endpoints[0] == "stem" and model.all_endpoints[-1] == "logits"
    with pytest.raises(UserError, match="no endpoint 'poled'"):
        model.features(np.zeros((9, 9, 3), np.uint8), "poled")


def test_images_that_cannot_be_decoded(network, tmp_path):
    model = network
    (tmp_path / "a.jpg").write_bytes(b"")
    images = [tmp_path / "a.jpg", np.zeros((9, 9, 3), np.uint8)]
    with pytest.raises(UserError, match=r"a\.jpg cannot be used"):
        model.predict(images)
    predicted = model.predict(images, skip_corrupt=True)
    assert list(predicted.errors) == [0]
    assert predicted.names[0] == "" and predicted.names[1]
    assert np.isnan(predicted.probabilities[0]).all()
    assert predicted.top(1)[0] == [] and len(predicted.top(1)[1]) == 1
    with pytest.raises(UserError, match="expected at least 1 class, got -1"):
        predicted.top(-1)
    with pytest.raises(UserError, match="expected one image or more, got none"):
        model.predict([])


def test_a_model_without_a_head(network):
    headless = dataclasses.replace(network, classes=())
    with pytest.raises(UserError, match="has no head, so it names no classes"):
        headless.predict(np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="is no probe, so it holds its weights itself"):
        inference.load(network.name, weights="elsewhere")


def test_pixels_take_images_of_one_shape(lite0_features, tmp_path):
    values = config(lite0_features, endpoints=("pixels",), seeds=(3,))
    workdir.start(values, str(tmp_path), "test")
    probe.run(values, tmp_path, lambda line: None)
    model, digits, saved = inference.load(tmp_path), Digits("test"), Predictions.load(tmp_path)
    assert model.image_shape == (8, 8, 3)
    predicted = model.predict([digits[row]["image"] for row in range(20)])
    assert predicted.names == saved.classes[saved.test_predicted[0, :20]].tolist()
    with pytest.raises(UserError, match=r"expected an image of shape \(8, 8, 3\)"):
        model.predict(np.zeros((9, 9, 3), np.uint8))
