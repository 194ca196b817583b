"""A network is scored by its predictions, and leaves them."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests import tiny, toy
from tests.networks import random_variables, tiny_resnet
from tl.data.augment import Augmentation
from tl.devices import DataParallel
from tl.results.examples import load_examples
from tl.results.predictions import Predictions
from tl.results.projection import load_features
from tl.runs import testing
from tl.train import inputs
from tl.train.evaluator import Evaluator
from tl.weights.spec import LocalFile, WeightSpec

MODEL = tiny_resnet(stage_sizes=(1,), widths=(4,), block="basic", num_classes=3)
SPEC = WeightSpec(
    name="tiny", backbone="tiny", source=LocalFile("tiny"), scheme="", preprocessing=toy.PLAIN,
    licence="", num_classes=3, classes=tiny.CLASSES,
)  # fmt: skip


class OneCorrupt(toy.NoiseSource):
    """The image of row 4 was left out."""

    def __getitem__(self, i):
        return {**super().__getitem__(i), **({"label": -1} if i == 4 else {})}

    def group_names(self):
        return np.array([f"g{row // 10}" for row in range(len(self))])


SOURCE = OneCorrupt(40)
TEST = np.array([7, 4, 9, 30, 2, 11, 12, 13, 14])
PARTS = {"val": (SOURCE, np.arange(20, 26)), "test": (SOURCE, TEST)}


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fed = inputs.image_inputs(
        {**PARTS, "train": PARTS["val"]}, Augmentation(), toy.PLAIN, threads=0
    )
    evaluator = Evaluator(MODEL, fed, DataParallel.over(jax.devices()[:2]), batch_size=4)
    variables = evaluator.parallel.replicate(random_variables(MODEL))
    return folder, testing.score(evaluator, variables, PARTS, SPEC, seed=5, workdir=folder)


def plain(rows):
    """Returns the outputs of one plain call."""
    images = np.stack([SOURCE[row]["image"] for row in rows.tolist()]).astype(np.float32)
    return jax.jit(MODEL.apply)(random_variables(MODEL), images)


def test_the_score_is_that_of_the_labelled_rows(tested):
    _, (score, _) = tested
    rows = TEST[TEST != 4]
    predicted = np.asarray(plain(rows)["logits"]).argmax(axis=1)
    assert score.count == 8
    assert score.correct.tolist() == (predicted == rows % 3).tolist()


def test_predictions_are_saved(tested):
    folder, (score, temperature) = tested
    saved = Predictions.load(folder)
    rows = TEST[TEST != 4]
    assert saved.seeds.tolist() == [5] and saved.classes.tolist() == list(tiny.CLASSES)
    assert saved.test_ids.tolist() == [f"id{row}" for row in rows]
    assert saved.test_labels.tolist() == (rows % 3).tolist()
    assert saved.correct[0].tolist() == score.correct.tolist()
    assert saved.groups.tolist() == [f"g{row // 10}" for row in rows]
    assert score.as_dict()["groups"] == 3  # of rows 7, 9 and 2; 30; 11 to 14
    assert temperature == saved.fit().temperature
    assert saved.val_ids.tolist() == [f"id{row}" for row in range(20, 26)]
    np.testing.assert_allclose(saved.test_logits, plain(rows)["logits"], rtol=1e-4, atol=1e-5)


def test_pooled_features_are_saved(tested):
    folder, _ = tested
    saved = load_features(folder)
    assert saved.endpoint == "pooled" and saved.rows.tolist() == list(range(8))
    pooled = np.asarray(plain(TEST[TEST != 4])["pooled"], np.float64)
    # Principal coordinates keep distances.
    distances = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (pooled, saved.coordinates)]
    np.testing.assert_allclose(distances[1], distances[0], rtol=1e-2, atol=1e-3)


def test_examples_are_the_images_that_their_ids_name(tested):
    folder, _ = tested
    examples = load_examples(folder)
    assert examples
    for example in examples:
        row = int(example["id"].removeprefix("id"))
        with Image.open(folder / example["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), SOURCE[row]["image"])
