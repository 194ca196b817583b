"""Predictions: what is written is what is read, and damage is said."""

import numpy as np
import pytest

from tests.predictions import predictions
from tl.errors import UserError
from tl.results.predictions import PREDICTIONS, Predictions


def test_predictions_come_back_as_they_were(tmp_path):
    written = predictions()
    written.save(tmp_path / PREDICTIONS)
    read = Predictions.load(tmp_path)
    for name, values in vars(written).items():
        np.testing.assert_array_equal(getattr(read, name), values)
        assert type(getattr(read, name)) is type(values)
        assert np.asarray(getattr(read, name)).dtype == np.asarray(values).dtype
    assert read.seeds.dtype == np.int64
    assert read.test_predicted.dtype == read.val_labels.dtype == np.int32
    assert read.val_logits.dtype == np.float32
    assert read.correct.tolist() == [[True, False, True, True], [True, True, True, False]]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


def test_the_link_is_kept_and_older_files_have_softmax(tmp_path):
    written = predictions(link="sigmoid")
    written.save(tmp_path / PREDICTIONS)
    assert Predictions.load(tmp_path).link == "sigmoid"
    before = {name: values for name, values in vars(written).items() if name != "link"}
    np.savez_compressed(tmp_path / PREDICTIONS, **before)
    assert Predictions.load(tmp_path).link == "softmax"
    np.savez_compressed(tmp_path / PREDICTIONS, **before, link="probit")
    with pytest.raises(UserError, match=r"predictions\.npz is damaged \(ValueError: expected a"):
        Predictions.load(tmp_path)
    with pytest.raises(ValueError, match="expected a link of softmax, sigmoid, got 'probit'"):
        predictions(link="probit")


def test_groups_are_kept_and_older_files_have_none(tmp_path):
    assert predictions().groups is None
    written = predictions(test_groups=["p1", "p1", "p2", "p2"])
    written.save(tmp_path / PREDICTIONS)
    assert Predictions.load(tmp_path).groups.tolist() == ["p1", "p1", "p2", "p2"]
    before = {name: values for name, values in vars(written).items() if name != "test_groups"}
    np.savez_compressed(tmp_path / PREDICTIONS, **before)
    assert Predictions.load(tmp_path).groups is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("test_labels", [0, 1, 1]),
        ("test_predicted", [[0, 0, 1, 0]]),
        ("test_logits", [[2.0], [3.0], [0.0], [0.5]]),
        ("val_logits", [[2.0, 0.0]]),
        ("test_groups", ["p1", "p2"]),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(name, values):
    with pytest.raises(ValueError, match=f"^expected {name} "):
        predictions(**{name: values})


@pytest.mark.parametrize("kept", [0, 3, 100, -200])
def test_half_a_file(kept, tmp_path):
    path = tmp_path / PREDICTIONS
    predictions().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    text = r"predictions\.npz is damaged \(\w+: .*; restore it, or make the run again with --over"
    with pytest.raises(UserError, match=text):
        Predictions.load(tmp_path)
