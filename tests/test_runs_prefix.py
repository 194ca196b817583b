"""What may be cached; that it changes no loss is shown in test_finetune.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.toy import PLAIN, NoiseSource, resnet
from tl.data import transforms
from tl.data.augment import Augmentation
from tl.data.digits import Digits
from tl.data.transforms import host_and_device
from tl.errors import UserError
from tl.features.extract import extract
from tl.features.network import Extraction, output_shapes
from tl.runs import options, prefix
from tl.train import inputs
from tl.train.plan import make_plan
from tl.weights.load import load

ROWS = np.arange(3, 16)
ENLARGED = dataclasses.replace(PLAIN, size=16)


class OneCorrupt(NoiseSource):
    def __getitem__(self, row):
        example = super().__getitem__(row)
        return {**example, "label": -1} if row == 5 else example


def first_batches(fed, count=7):
    stream = fed.stream(4, seed=0)
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


@pytest.fixture(scope="module", autouse=True)
def backbone():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def cached(weights, root, parts=None, **fields):
    values = tiny.config(
        weights, root, **{"train.freeze": ("stem",), "train.cache_prefix": True, **fields}
    )
    plan = make_plan(options.recipe(values, 80, None), load(weights))
    lines = []
    extraction = options.extraction(values)
    fed = prefix.cached(plan, parts or {}, extraction, root, lines.append)
    return fed, lines


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.freeze": ()}, r"stages that stay frozen, from the first on, such as .*, got \(\)"),
        ({"train.freeze": ("stage1",)}, r"from the first on, .*, got \('stage1',\)"),
        ({"train.freeze": ("stem/conv",)}, "it needs stages that stay frozen"),  # statistics move
        # Here they do not while it trains, but before.
        (
            {"train.freeze": ("stem/conv",), "train.norm": "recalibrate"},
            "needs stages that stay frozen",
        ),
    ],
)
def test_what_changes_cannot_be_cached(fields, message, weights, tmp_path):
    with pytest.raises(UserError, match=message):
        cached(weights, tmp_path, **fields)


@pytest.mark.parametrize(
    "fields", [{}, {"train.norm": "frozen", "train.freeze": ("stem/conv",)}], ids=["stage", "norm"]
)
def test_the_loader_gives_what_the_stem_gives(fields, weights, tmp_path):
    train, test = Digits("train"), Digits("test")
    rows = np.array([7, 3, 11, 500])
    parts = {
        "train": (train, rows), "val": (train, np.array([0, 2])), "test": (test, np.arange(5))
    }  # fmt: skip
    fed, lines = cached(weights, tmp_path, parts, **fields)
    assert lines[0] == "the network up to stem runs once; training starts from what it gives"
    assert fed.start == "stem"
    (batch,) = fed.batches("train", 8)
    assert batch["image"].shape == (8, 4, 4, 8)
    assert batch["mask"].tolist() == [True] * 4 + [False] * 4
    assert batch["label"][:4].tolist() == train.labels()[rows].tolist()
    assert batch["id"][:4] == [train[row]["id"] for row in rows.tolist()]
    network = load(weights)
    _, prepare = host_and_device(train.image_shape, network.spec.preprocessing)
    images = np.stack([train[row]["image"] for row in rows.tolist()])
    images = prepare(jnp.asarray(images), p=network.spec.preprocessing)
    stem = network.model.apply(network.variables, images)["stem"]
    np.testing.assert_allclose(batch["image"][:4], stem, rtol=1e-5, atol=1e-5)
    assert len(next(iter(fed.batches("test", 5)))["id"]) == 5


@pytest.fixture(scope="module")
def network():
    return resnet()


@pytest.fixture(scope="module")
def store(network, tmp_path_factory):
    extraction = Extraction(("stage1",), pooling="none", batch_size=8, fold_batch_norm=False)
    return extract(
        network, OneCorrupt(20), ENLARGED, extraction, tmp_path_factory.mktemp("features"),
        chunk_rows=6, log=lambda line: None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def activations(network, store):
    shape = output_shapes(network.model, ENLARGED.size)["stage1"].shape[1:]
    assert shape == (4, 4, 8)
    rows = {"train": ROWS, "val": np.array([19, 0, 5])}
    return prefix.of_activations(dict.fromkeys(rows, store), rows, "stage1", shape)


def test_activations_are_the_rows_of_the_store(store, activations):
    assert activations.start == "stage1"
    source, rows = activations.parts["val"]
    assert rows.tolist() == [0, 1, 2] and len(source) == 3 and source.image_shape == (4, 4, 8)
    assert source.labels().tolist() == [1, 0, -1]
    values = store.read("stage1").reshape(-1, 4, 4, 8)
    for i, row in enumerate((19, 0, 5)):
        example = source[i]
        np.testing.assert_array_equal(example["image"], values[row])
        assert (example["id"], example["label"]) == (f"id{row}", source.labels()[i])
    source.labels()[:] = 9
    assert source.labels().tolist() == [1, 0, -1]


def test_the_network_goes_on_from_activations_to_the_logits_of_the_whole(network, activations):
    (batch,) = activations.batches("val", 4)
    assert batch["mask"].tolist() == [True, True, False, False]  # one left out, one padded
    images = np.stack([OneCorrupt(20)[row]["image"] for row in (19, 0, 5)])

    @jax.jit
    def both(images, values):
        apply = network.model.apply
        whole = apply(network.variables, transforms.device_transform(images, ENLARGED))
        return whole["logits"], apply(network.variables, values, start="stage1")["logits"]

    whole, resumed = both(images, activations.prepare_eval(batch["image"][:3]))
    np.testing.assert_allclose(resumed, whole, rtol=1e-5)
    assert np.ptp(whole[:, 0]) > 1e-3 * np.abs(whole).max()


def test_activations_come_in_the_order_that_images_come_in(activations):
    source = OneCorrupt(20)
    parts = {"train": (source, ROWS), "val": (source, np.arange(3))}
    images = inputs.image_inputs(parts, Augmentation(), PLAIN, threads=0)
    for (found, at), (expected, there) in zip(
        first_batches(activations), first_batches(images), strict=True
    ):
        assert at == there
        for name in ("label", "id", "mask"):
            np.testing.assert_array_equal(found[name], expected[name])
        assert ROWS[found["index"]].tolist() == expected["index"].tolist()
        np.testing.assert_array_equal(
            found["image"], activations.parts["train"][0].values[found["index"]]
        )
