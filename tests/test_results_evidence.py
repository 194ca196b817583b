"""All that a run saves for reports and comparisons, together."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.predictions import predictions
from tl import hosts
from tl.errors import UserError
from tl.results import evidence
from tl.results.examples import load_examples, save_examples, telling_examples
from tl.results.predictions import PREDICTIONS, Predictions
from tl.results.projection import Projection, load_features, project


def image(split, row):
    return np.full((300, 40 + row, 3), 10 * row + (split == "val"), np.uint8)


def test_a_run_without_predictions(tmp_path):
    with pytest.raises(UserError, match=r"has no predictions\.npz: expected a finished run of"):
        Predictions.load(tmp_path)
    assert load_features(tmp_path) is None
    assert load_examples(tmp_path) == []


def test_another_file(tmp_path):
    np.savez(tmp_path / PREDICTIONS, seeds=[1])
    with pytest.raises(UserError, match=r"damaged \(KeyError"):
        Predictions.load(tmp_path)
    np.savez(tmp_path / "features.npz", rows=np.array([object()]))
    with pytest.raises(UserError, match=r"features\.npz is damaged"):
        load_features(tmp_path)
    (tmp_path / "examples.json").write_text('[{"file":')
    with pytest.raises(UserError, match=r"examples\.json is damaged"):
        load_examples(tmp_path)


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
        assert max(picture.size) == 224
        assert picture.size[0] == round(224 * 41 / 300)
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
        monkeypatch.setattr(hosts, "is_first", lambda process=process: process == 0)
        evidence.write(tmp_path, predictions(), projection, image)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"predictions.npz", "features.npz", "examples.json", "examples"}
