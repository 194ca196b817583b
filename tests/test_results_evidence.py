"""Predictions, features and examples: what is written is what is read, and damage is said."""

import json

import numpy as np
import pytest
from PIL import Image

from tl import devices
from tl.errors import UserError
from tl.results import calibration, evidence
from tl.results.examples import load_examples, save_examples, telling_examples
from tl.results.predictions import PREDICTIONS, Predictions
from tl.results.projection import Projection, load_features, project, save_features, spaced_rows


def predictions(**fields):
    """Returns those of four test rows, three val rows and classes `ä` and `b`; two seeds."""
    arrays = {
        "seeds": [3, 4],
        "classes": ["ä", "b"],
        "test_ids": ["t0", "t1", "t2", "long/t3"],
        "test_labels": [0, 1, 1, 0],
        "test_predicted": [[0, 0, 1, 0], [0, 1, 1, 1]],
        "test_logits": [[2.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.5, 0.0]],
        "val_ids": ["v0", "v1", "v2"],
        "val_labels": [0, 1, 1],
        "val_logits": [[2.0, 0.0], [0.0, 2.0], [9.0, 0.0]],
    }
    return Predictions(**{**arrays, **fields})


def image(split, row):
    return np.full((300, 40 + row, 3), 10 * row + (split == "val"), np.uint8)


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
    with pytest.raises(UserError, match=r"predictions\.npz is damaged \(ValueError\)"):
        Predictions.load(tmp_path)
    with pytest.raises(ValueError, match="expected a link of softmax, sigmoid, got 'probit'"):
        predictions(link="probit")


def test_probabilities_of_examples_follow_the_link():
    p = predictions(link="sigmoid", val_logits=[[2.0, -2.0]] * 3, val_labels=[0, 0, 1])
    scale = calibration.temperature(p.val_logits, p.val_labels, "sigmoid")
    chosen = {(e["split"], e["row"]): e for e in telling_examples(p)}
    example = chosen["test", 1]  # logits 3 and 0, a confident mistake
    assert example["confidence"] == pytest.approx(1 / (1 + np.exp(-3 / scale)))
    assert example["label_confidence"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("test_labels", [0, 1, 1]),
        ("test_predicted", [[0, 0, 1, 0]]),
        ("test_logits", [[2.0], [3.0], [0.0], [0.5]]),
        ("val_logits", [[2.0, 0.0]]),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(name, values):
    with pytest.raises(ValueError, match=f"^expected {name} "):
        predictions(**{name: values})


def test_a_run_without_predictions(tmp_path):
    with pytest.raises(UserError, match=r"has no predictions\.npz: expected a finished run of"):
        Predictions.load(tmp_path)
    assert load_features(tmp_path) is None
    assert load_examples(tmp_path) == []


@pytest.mark.parametrize("kept", [0, 3, 100, -200])
def test_half_a_file(kept, tmp_path):
    path = tmp_path / PREDICTIONS
    predictions().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    text = r"predictions\.npz is damaged \(\w+\); restore it, or make the run again with --over"
    with pytest.raises(UserError, match=text):
        Predictions.load(tmp_path)


def test_another_file(tmp_path):
    np.savez(tmp_path / PREDICTIONS, seeds=[1])
    with pytest.raises(UserError, match=r"damaged \(KeyError\)"):
        Predictions.load(tmp_path)
    np.savez(tmp_path / "features.npz", rows=np.array([object()]))
    with pytest.raises(UserError, match=r"features\.npz is damaged"):
        load_features(tmp_path)
    (tmp_path / "examples.json").write_text('[{"file":')
    with pytest.raises(UserError, match=r"examples\.json is damaged"):
        load_examples(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 10_000])
def test_spaced_rows(count):
    rows = spaced_rows(count)
    assert rows.dtype == np.int64
    assert len(rows) == min(count, 1000)
    assert (rows[0], rows[-1]) == (0, count - 1)
    steps = np.diff(rows)
    assert all(count // 1000 <= step <= count // 1000 + 1 for step in steps)
    assert (steps > 0).all()


def test_features_on_a_line(tmp_path):
    # Along (3, 4), at -2, 0 and 2 from the middle: one coordinate has it all.
    features = np.array([[4.0, 7.0], [7.0, 11.0], [10.0, 15.0]])
    rows = np.array([0, 5, 10])
    projection = project(features, rows, "stage4", standardise=False)
    assert np.abs(projection.coordinates[:, 0]).tolist() == pytest.approx([5, 0, 5], abs=1e-5)
    assert projection.explained.tolist() == pytest.approx([1, 0], abs=1e-6)
    save_features(tmp_path, projection)
    read = load_features(tmp_path)
    assert read.endpoint == "stage4"
    assert read.rows.tolist() == [0, 5, 10]
    assert read.coordinates.dtype == read.explained.dtype == np.float32
    np.testing.assert_array_equal(read.coordinates, projection.coordinates)


def test_standardised_features_weigh_the_same():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 2)) * [1000.0, 1.0]
    plain = project(features, np.arange(200), "e", standardise=False)
    standardised = project(features, np.arange(200), "e", standardise=True)
    assert plain.explained[0] > 0.99
    assert standardised.explained[0] < 0.6


@pytest.mark.parametrize(
    ("rows", "width", "count"), [(1, 3, 1), (2, 3, 1), (4, 3, 3), (70, 80, 50)]
)
def test_features_of_awkward_sizes(rows, width, count):
    features = np.random.default_rng(0).normal(size=(rows, width))
    projection = project(features, np.arange(rows), "e", standardise=True)
    assert projection.coordinates.shape == (rows, count)
    assert projection.explained.shape == (count,)
    assert np.isfinite(projection.coordinates).all()
    assert (np.diff(projection.explained) <= 1e-6).all()


def test_features_that_do_not_vary():
    projection = project(np.ones((5, 4)), np.arange(5), "e", standardise=True)
    assert projection.coordinates.tolist() == [[0.0]] * 5
    assert projection.explained.tolist() == [0.0]


def test_telling_examples():
    # One seed, the first: it takes t1, a b, for ä, and v2 for ä, and is least sure of t3.
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


def test_pictures_are_small_and_never_enlarged(tmp_path):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "test-99.png").write_bytes(b"of an earlier run")
    p = predictions()
    projection = project(np.eye(4), np.arange(4), "pooled", standardise=False)
    evidence.write(tmp_path, p, projection, image)
    written = json.loads((tmp_path / "examples.json").read_text())
    assert written == load_examples(tmp_path) == telling_examples(p)
    files = {str(path.relative_to(tmp_path)) for path in (tmp_path / "examples").iterdir()}
    assert files == {example["file"] for example in written}
    with Image.open(tmp_path / "examples" / "test-1.png") as picture:
        assert max(picture.size) == 128
        assert picture.size[0] == round(128 * 41 / 300)
        assert np.unique(np.asarray(picture)).tolist() == [10]
    with Image.open(tmp_path / "examples" / "val-2.png") as picture:
        assert np.unique(np.asarray(picture)).tolist() == [21]
    save_examples(tmp_path, written[:1], lambda split, row: image(split, row)[:9, :8])
    with Image.open(tmp_path / written[0]["file"]) as picture:
        assert picture.size == (8, 9)
    assert len(list((tmp_path / "examples").iterdir())) == 1


def test_of_several_processes_the_first_writes(tmp_path, monkeypatch):
    projection = Projection(np.arange(4), np.zeros((4, 1)), np.zeros(1), "pooled")
    for process in (1, 0):
        assert not list(tmp_path.iterdir())
        monkeypatch.setattr(devices, "process_share", lambda process=process: (process, 2))
        evidence.write(tmp_path, predictions(), projection, image)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"predictions.npz", "features.npz", "examples.json", "examples"}
