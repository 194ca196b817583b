"""Evaluation over awkward numbers of examples equals NumPy on all of them at once."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.networks import random_variables, tiny_resnet
from tests.toy import PLAIN, NoiseSource
from tl.data.augment import Augmentation
from tl.devices import DataParallel
from tl.errors import UserError
from tl.train import inputs
from tl.train.evaluator import Evaluator
from tl.train.losses import LOSSES

CLASSES = 7
MODEL = tiny_resnet(stage_sizes=(1,), widths=(4,), block="basic", num_classes=CLASSES)
SIZES = (1, 7, 8, 9, 33)
CORRUPT = (0, 3, 12)


class SomeCorrupt(NoiseSource):
    """Labels are 0 to 6; those of three images are -1."""

    def __getitem__(self, row):
        label = -1 if row in CORRUPT else (5 * row + 2) % CLASSES
        return {**super().__getitem__(row), "label": label}


SOURCE = SomeCorrupt(64)
GOOD = np.flatnonzero([row not in CORRUPT for row in range(64)])
PARTS = {str(size): (SOURCE, GOOD[:size]) for size in SIZES}
PARTS["mixed"] = (SOURCE, np.arange(20))
PARTS["bad"] = (SOURCE, np.array(CORRUPT))
PARTS["none"] = (SOURCE, np.array([], np.int64))


@pytest.fixture(scope="module")
def variables():
    return random_variables(MODEL)


@pytest.fixture(scope="module")
def evaluator():
    fed = inputs.image_inputs({**PARTS, "train": (SOURCE, GOOD)}, Augmentation(), PLAIN, 2)

    @functools.cache
    def on(count):
        # On eight devices five become eight.
        batch_size = 8 if count == 1 else 5
        return Evaluator(MODEL, fed, DataParallel.over(jax.devices()[:count]), batch_size)

    return on


@pytest.fixture(scope="module")
def logits(variables):
    """Of all images in one plain call, float64 [64, 7]."""
    images = np.stack([SOURCE[row]["image"] for row in range(64)]).astype(np.float32)
    return np.float64(jax.jit(MODEL.apply)(variables, images)["logits"])


def by_hand(logits, rows):
    chosen, label = logits[rows], np.array([SOURCE[row]["label"] for row in rows])
    log_p = chosen - np.log(np.exp(chosen).sum(1, keepdims=True))
    best = np.argsort(-chosen, axis=1)
    return {
        "loss": -log_p[np.arange(len(rows)), label].mean(),
        "top1": (best[:, 0] == label).mean(),
        "top5": (best[:, :5] == label[:, None]).any(1).mean(),
    }


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("size", SIZES)
def test_metrics_are_means_over_exactly_these_examples(evaluator, variables, logits, size, count):
    found = evaluator(count).metrics(variables, str(size))
    expected = by_hand(logits, GOOD[:size])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_the_loss_is_that_of_training(evaluator, variables, logits):
    binary = dataclasses.replace(evaluator(8), loss=LOSSES["sigmoid"].function)
    found = binary.metrics(variables, "9")
    rows = GOOD[:9]
    own = np.array([SOURCE[row]["label"] for row in rows])[:, None] == np.arange(CLASSES)
    # -log sigmoid(z) of the label's logit, -log(1 - sigmoid(z)) of the others.
    margins = np.where(own, -logits[rows], logits[rows])
    expected = np.logaddexp(0, margins).sum(1).mean()
    assert found == pytest.approx({**by_hand(logits, rows), "loss": expected}, rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_outputs_are_of_every_example_once_in_order(evaluator, variables, logits, size):
    outputs = evaluator(8).outputs(variables, str(size))
    examples = [SOURCE[row] for row in GOOD[:size]]
    np.testing.assert_array_equal(outputs.places, np.arange(size))
    assert outputs.ids == [example["id"] for example in examples]
    np.testing.assert_array_equal(outputs.labels, [example["label"] for example in examples])
    np.testing.assert_allclose(outputs.logits, logits[GOOD[:size]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 8])
def test_images_that_do_not_decode_are_left_out(evaluator, variables, logits, count):
    good = [row for row in range(20) if row not in CORRUPT]
    expected = by_hand(logits, good)
    found = evaluator(count).metrics(variables, "mixed")
    assert found == pytest.approx(expected, rel=1e-5)
    outputs = evaluator(count).outputs(variables, "mixed")
    assert outputs.places.tolist() == good
    assert outputs.ids == [SOURCE[row]["id"] for row in good]
    assert np.mean(outputs.logits.argmax(1) == outputs.labels) == pytest.approx(expected["top1"])


@pytest.mark.parametrize("count", [1, 8])
def test_pooled_is_what_the_head_takes(evaluator, variables, logits, count):
    places = np.array([1, 5, 9, 19])
    pooled = evaluator(count).pooled(variables, "mixed", places)
    head = variables["params"]["head"]
    found = pooled @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(found, logits[places], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["bad", "none"])
def test_where_none_is_left_it_says_of_which_part(evaluator, variables, part):
    text = f"^no image of {part} can be decoded$"
    with pytest.raises(UserError, match=text):
        evaluator(8).metrics(variables, part)
    with pytest.raises(UserError, match=text):
        evaluator(8).outputs(variables, part)


def test_all_parts_share_one_compiled_program_of_the_rounded_batch(variables):
    traces = []

    def prepare(images):
        traces.append(images.shape)
        return images.astype(np.float32)

    fed = inputs.Inputs(PARTS, None, None, None, prepare, "", 0)
    evaluator = Evaluator(MODEL, fed, DataParallel.over(), 5)
    for part in ("1", "33", "mixed"):
        evaluator.metrics(variables, part)
    evaluator.outputs(variables, "9")
    assert traces == [(8, 4, 4, 3)]


def test_what_is_reported_is_in_full_precision(evaluator, variables):
    batch = evaluator(1).parallel.put(next(evaluator(1).inputs.batches("8", 8)))
    for step in (evaluator(1)._step, evaluator(1)._pool):
        text = step.lower(variables, batch).as_text()
        products = text.count("stablehlo.convolution") + text.count("stablehlo.dot_general")
        assert text.count("precision = [HIGHEST, HIGHEST]") == products > 0
