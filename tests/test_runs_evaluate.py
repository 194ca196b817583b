import pytest
import skimage.data
from PIL import Image

from configs import common
from tests.lite0 import config, run
from tl.errors import UserError
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
