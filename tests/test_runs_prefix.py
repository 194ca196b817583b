"""What may be cached; that it changes no loss is shown in test_finetune.py."""

import numpy as np
import pytest

from tests import tiny
from tl.data.digits import Digits
from tl.data.transforms import host_and_device
from tl.errors import UserError
from tl.runs import prefix
from tl.train import freezing
from tl.weights.load import load


@pytest.fixture(scope="module", autouse=True)
def backbone():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def cached(weights, root, parts=None, **fields):
    values = tiny.config(weights, root, **{"train.freeze": ("stem",), **fields})
    network = load(weights)
    train = values.train
    frozen = freezing.freezing(network.variables, train.freeze, train.norm)
    lines = []
    return prefix.cached(values, network, frozen, parts or {}, lines.append), lines


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"augment.shift": 0.1}, "needs --config.augment to change none; switch off one of the"),
        ({"augment.flip": 0.5}, "needs --config.augment to change none"),
        ({"augment.mixup": 0.2}, "needs --config.augment to change none"),
        ({"augment.cutmix": 1.0}, "needs --config.augment to change none"),
        ({"train.freeze": ()}, r"stages that stay frozen, from the first on, such as .*, got \(\)"),
        ({"train.freeze": ("stage1",)}, r"from the first on, .*, got \('stage1',\)"),
        ({"train.freeze": ("stem/conv",)}, "needs stages that stay frozen"),  # statistics move
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
    assert batch["id"][:4] == [train[row]["id"] for row in rows]
    network = load(weights)
    _, prepare = host_and_device(train.image_shape, network.spec.preprocessing)
    images = np.stack([train[row]["image"] for row in rows])
    images = prepare(images, p=network.spec.preprocessing)
    stem = network.model.apply(network.variables, images)["stem"]
    np.testing.assert_allclose(batch["image"][:4], stem, rtol=1e-5, atol=1e-5)
    assert len(next(iter(fed.batches("test", 5)))["id"]) == 5
