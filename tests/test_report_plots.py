import numpy as np
import pytest
from PIL import Image

from tests.reported import curve, study
from tl.report import plots


def test_writes_a_picture(tmp_path):
    plots.accuracy_over_endpoint(study(), "title", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        width, height = image.size
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert width > 300
    assert height > 500
    assert {(0, 114, 178), (213, 94, 0)} <= colours  # a line for each number of examples


@pytest.mark.parametrize("towards", [0.0, 1.0])
def test_a_mean_that_rounds_out_of_its_range_is_drawn(tmp_path, towards):
    rows = study((0,))
    for row in rows:
        row["test_top1_range"] = [float(np.nextafter(row["test_top1"], towards))] * 2
    plots.accuracy_over_endpoint(rows, "title", tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_one_endpoint_is_enough(tmp_path):
    rows = [row for row in study((0,)) if row["endpoint"] == "stem"]
    plots.accuracy_over_endpoint(rows, "title", tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("steps", [(0,), (0, 10), (0, 10, 20)])
def test_a_learning_curve_of_any_length(steps, tmp_path):
    plots.learning_curve(curve(steps=steps), 0.0, "title", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        width, height = image.size
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert width > 2 * height
    assert {(0, 114, 178), (213, 94, 0)} <= colours  # train and val, in the legend at least


def test_learning_curves_are_reproduced_to_the_byte(tmp_path):
    for name in ("a.png", "b.png"):
        plots.learning_curve(curve(), 0.0, "title", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
