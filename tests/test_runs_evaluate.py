import numpy as np
import pytest
import skimage.data
from PIL import Image

from configs import common
from tests import tiny
from tests.lite0 import config, photographs, run
from tl.errors import UserError
from tl.results import compare
from tl.results.predictions import Predictions
from tl.runs import evaluate

PHOTOGRAPHS = {"coffee": "espresso", "chelsea": "tiger_cat", "rocket": "n04008634"}


def test_evaluate_on_photographs(lite0_features, tmp_path):
    for photograph, folder in PHOTOGRAPHS.items():
        path = tmp_path / "images" / folder / f"{photograph}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(getattr(skimage.data, photograph)()).save(path)
    values = common.get_config()
    values.data.name = "folder"
    values.data.data_dir = str(tmp_path / "images")
    values.data.test = ""
    values.extract.feature_dir = lite0_features
    values.report = False
    result, log = run(evaluate.run, values, tmp_path)
    # A rocket is a missile to this network at its own preprocessing; its folder says projectile.
    assert result["kind"] == "evaluate"
    assert result["data"]["test"] == result["test"]["count"] == 3
    assert result["data"]["left_out"] == {"test": 0}
    assert result["test"]["top1"] == 2 / 3
    assert result["test"]["top5"] == 1.0
    assert result["published"]["top1"] == 0.751
    assert "75.10 % top-1" in log


def test_evaluate_needs_imagenets_classes(lite0_features, tmp_path):
    with pytest.raises(UserError, match="10 of 10 classes are not ImageNet's: 0, 1, 2"):
        run(evaluate.run, config(lite0_features), tmp_path)


def test_a_probe_is_evaluated_as_it_predicted(probed, lite0_features, tmp_path):
    folder, _, _ = probed
    values = config(lite0_features, weights=str(folder))
    result, log = run(evaluate.run, values, tmp_path)
    saved, found = Predictions.load(folder), Predictions.load(tmp_path)
    np.testing.assert_array_equal(found.test_predicted[0], saved.test_predicted[0])
    assert result["test"]["top1"] == np.mean(saved.correct[0])
    # What was published is the accuracy of the network's own head, on ImageNet.
    assert result["published"] == {"top1": None, "top5": None} and "published" not in log
    assert found.classes.tolist() == saved.classes.tolist() and len(found.val_ids) == 0
    (comparison,) = compare.compare([compare.read(str(path)) for path in (folder, tmp_path)])
    assert abs(comparison.difference) < 0.1


def test_names_of_a_classifier_of_your_own(tmp_path):
    with tiny.registered():
        weights = tiny.write_weights(tmp_path / "tiny.safetensors")
        (tmp_path / "names.json").write_text('{"fox": 1, "bright": 0, "dark": 2}')
        fields = photographs(tmp_path / "images", {"test": 3})
        fields["data.group_pattern"] = r"\d"  # of 0.png, 1.png and 2.png of both classes
        values = tiny.config(weights, tmp_path / "features", **fields)
        with pytest.raises(UserError, match=r"2 of 2 classes are not .*: bright, dark; exp"):
            run(evaluate.run, values, tmp_path / "run")
        values.weights_classes = str(tmp_path / "names.json")
        result, _ = run(evaluate.run, values, tmp_path / "run")
        assert (result["test"]["count"], result["test"]["groups"]) == (6, 3)
        found = Predictions.load(tmp_path / "run")
        assert found.classes[found.test_labels].tolist() == ["bright"] * 3 + ["dark"] * 3
        assert found.groups.tolist() == ["0", "1", "2"] * 2
        (tmp_path / "names.json").write_text('["bright", "dark"]')
        with pytest.raises(UserError, match=r"^weights_classes: .* names 2 classes, the head of"):
            run(evaluate.run, values, tmp_path / "other")
