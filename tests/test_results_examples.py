import dataclasses

import numpy as np
import pytest

from tests.predictions import predictions
from tl.results import calibration, examples
from tl.results.examples import telling_examples

PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],  # right
        [0.6, 0.4, 0.0],  # wrong
        [0.2, 0.8, 0.0],  # wrong
        [0.1, 0.5, 0.4],  # right, narrowly
        [0.6, 0.2, 0.2],  # wrong, as row 1
        [0.3, 0.1, 0.6],  # right
    ]
)
LABELS = np.array([0, 1, 0, 1, 2, 2])


def test_confident_mistakes_in_order():
    assert examples.confident_mistakes(PROBABILITIES, LABELS, 9).tolist() == [2, 1, 4]
    assert examples.confident_mistakes(PROBABILITIES, LABELS, 2).tolist() == [2, 1]
    assert examples.confident_mistakes(PROBABILITIES, LABELS, 0).tolist() == []


def test_uncertain_right_in_order():
    assert examples.uncertain_right(PROBABILITIES, LABELS, 9).tolist() == [3, 5, 0]
    assert examples.uncertain_right(PROBABILITIES, LABELS, 1).tolist() == [3]


def test_a_tie_has_no_lead():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5]])
    assert examples.uncertain_right(probabilities, np.array([0, 0]), 2).tolist() == [1, 0]
    assert examples.confident_mistakes(probabilities, np.array([0, 1]), 2).tolist() == [1]


def test_mislabelled_by_hand():
    probabilities = np.array(
        [
            [0.9, 0.1],
            [0.7, 0.3],
            [0.2, 0.8],  # label 0, reaches the threshold of class 1: likely wrong
            [0.45, 0.55],  # label 0, predicted 1, but below the threshold of class 1
            [0.1, 0.9],
            [0.3, 0.7],
            [0.4, 0.6],
            [0.6, 0.4],  # label 1, reaches 0.5625 of class 0: likely wrong, by less
        ]
    )
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert probabilities[:4, 0].mean() == pytest.approx(0.5625)
    assert probabilities[4:, 1].mean() == pytest.approx(0.65)
    assert examples.mislabelled(probabilities, labels, 9).tolist() == [2, 7]
    assert examples.mislabelled(probabilities, labels, 1).tolist() == [2]


def test_mislabelled_leaves_out_what_is_predicted_as_labelled():
    # Row 2 misses its own class's threshold 0.8 and reaches that of class 1, yet is predicted 0.
    probabilities = np.array([[0.95, 0.05], [0.9, 0.1], [0.55, 0.45], [0.6, 0.4]])
    labels = np.array([0, 0, 0, 1])
    assert examples.mislabelled(probabilities, labels, 9).tolist() == []


def test_mislabelled_never_suggests_a_class_without_labels():
    probabilities = np.array([[0.6, 0.2, 0.2], [0.1, 0.2, 0.7]])
    assert examples.mislabelled(probabilities, np.array([0, 0]), 9).tolist() == []


def test_mislabelled_finds_planted_errors():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    logits = rng.normal(size=(400, 4)) + 4 * np.eye(4)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    planted = rng.choice(400, 20, replace=False)
    labels[planted] = (truth[planted] + 1) % 4
    found = examples.mislabelled(probabilities, labels, 20)
    assert set(found) <= set(planted)
    assert len(found) >= 15


@pytest.mark.parametrize(
    "function", [examples.confident_mistakes, examples.uncertain_right, examples.mislabelled]
)
def test_awkward_sizes(function):
    assert function(np.zeros((0, 3)), np.zeros(0, int), 5).tolist() == []
    assert len(function(np.ones((2, 1)), np.zeros(2, int), 5)) <= 2
    rows = function(PROBABILITIES.astype(np.float32), LABELS.astype(np.int32), 9)
    assert rows.dtype == np.int64


def applied(monkeypatch):
    """Has the temperature applied, however few val images there are."""
    fit = calibration.fit
    helps = lambda *arguments: dataclasses.replace(fit(*arguments), helps=True)  # noqa: E731
    monkeypatch.setattr(calibration, "fit", helps)


def test_telling_examples(monkeypatch):
    # One seed, the first: it takes t1, a b, for ä, and v2 for ä, and is least sure of t3.
    applied(monkeypatch)
    p = predictions()
    examples = {example["id"]: example for example in telling_examples(p)}
    assert set(examples) == {"t0", "t1", "t2", "long/t3", "v2"}
    scale = calibration.temperature(p.val_logits, p.val_labels)
    assert scale != 1
    wrong = examples["t1"]
    assert wrong["confidence"] == pytest.approx(1 / (1 + np.exp(-3 / scale)))
    assert wrong["label_confidence"] == pytest.approx(1 - wrong["confidence"])
    assert (wrong["label"], wrong["predicted"]) == ("b", "ä")
    assert (wrong["split"], wrong["row"], wrong["file"]) == ("test", 1, "examples/test-1.png")
    assert wrong["groups"] == ["confident mistake", "likely mislabelled"]
    assert wrong["rank"] == {"confident mistake": 0, "likely mislabelled": 1}
    # By 9 to 0 the most likely to have a wrong label.
    doubted = examples["v2"]
    assert (doubted["split"], doubted["row"]) == ("val", 2)
    assert doubted["rank"] == {"likely mislabelled": 0}
    unsure = [examples[name]["rank"]["uncertain and right"] for name in ("long/t3", "t2", "t0")]
    assert unsure == [0, 1, 2]


def test_no_more_than_24_of_a_group():
    logits = np.tile([[0.0, 1.0]], (100, 1))
    p = predictions(
        test_ids=[str(i) for i in range(100)],
        test_labels=np.arange(100) % 2,
        test_predicted=np.ones((2, 100)),
        test_logits=logits,
    )
    ranks = [example["rank"] for example in telling_examples(p)]
    for group in ("confident mistake", "uncertain and right"):
        assert sorted(rank[group] for rank in ranks if group in rank) == list(range(24))


def test_probabilities_of_examples_follow_the_link(monkeypatch):
    applied(monkeypatch)
    p = predictions(link="sigmoid", val_logits=[[2.0, -2.0]] * 3, val_labels=[0, 0, 1])
    scale = calibration.temperature(p.val_logits, p.val_labels, "sigmoid")
    chosen = {(e["split"], e["row"]): e for e in telling_examples(p)}
    example = chosen["test", 1]  # logits 3 and 0, a confident mistake
    assert example["confidence"] == pytest.approx(1 / (1 + np.exp(-3 / scale)))
    assert example["label_confidence"] == pytest.approx(0.5)
