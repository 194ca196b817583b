import json
import shutil

import numpy as np
import pytest

from tests.folders import contents
from tests.lite0 import config, photographs, run
from tl.errors import UserError
from tl.report import page
from tl.runs import extract, probe, workdir


def test_another_size_is_not_read_from_there(probed, lite0_features, tmp_path):
    values = config(lite0_features, **{"preprocess.size": 40, "endpoints": ("pixels",)})
    _, log = run(extract.run, values, tmp_path)
    assert "features reused" not in log
    assert "preprocessing.size" in log


def test_overwriting_leaves_nothing_of_the_earlier_run_and_what_is_not_its(
    probed, lite0_features, undrawn, tmp_path
):
    path = shutil.copytree(probed[0], tmp_path / "run")
    page.build(path)
    own = ("notes.txt", "examples/mine.txt")
    for name in own:
        (path / name).write_text("my own")
    values = config(lite0_features, endpoints=("pixels",))
    workdir.start(values, str(path), "test", overwrite=True)
    extract.run(values, path, lambda line: None)
    assert set(contents(path)) == {*own, "config.json", "environment.json", "result.json"}
    assert json.loads((path / "result.json").read_text())["kind"] == "extract"
    assert json.loads((path / "config.json").read_text())["endpoints"] == ["pixels"]


def test_images_left_out_once_are_not_left_out_silently_later(lite0_features, tmp_path):
    fields = photographs(tmp_path / "images", {"train": 5, "test": 2})
    (tmp_path / "images" / "test" / "dark" / "1.png").write_bytes(b"no image")
    values = config(lite0_features, **fields, **{"data.skip_corrupt": True})
    result, _ = run(probe.run, values, tmp_path)
    assert result["data"]["left_out"] == {"train": 0, "test": 1}
    assert result["test"]["count"] == 3
    values.data.skip_corrupt = False
    with pytest.raises(UserError, match=r"1 of 4 images of test cannot be .*, the first is test/d"):
        run(probe.run, values, tmp_path / "again")
    for name in ("dark/0", "bright/0", "bright/1"):
        (tmp_path / "images" / "test" / f"{name}.png").write_bytes(b"no image")
    values.data.skip_corrupt = True
    with pytest.raises(UserError, match=r"data\.test: no image of it has a label"):
        run(probe.run, values, tmp_path / "again")


def test_images_whose_label_is_withheld_are_left_out(lite0_features, tmp_path):
    rng = np.random.default_rng(0)
    y = np.array([0, 1] * 6)
    np.savez(
        tmp_path / "set.npz", x_train=rng.integers(0, 256, (12, 8, 8), np.uint8), y_train=y,
        x_test=rng.integers(0, 256, (4, 8, 8), np.uint8), y_test=[0, -1, 1, -1],
    )  # fmt: skip
    fields = {"data.name": "arrays", "data.data_dir": str(tmp_path / "set.npz")}
    fields["data.examples_per_class"] = (0,)
    result, _ = run(probe.run, config(lite0_features, **fields), tmp_path / "run")
    assert result["test"]["count"] == 2 and result["data"]["left_out"] == {"train": 0, "test": 2}
    assert "2 of 4 images of test have no label (-1): left out" in result["warnings"]
