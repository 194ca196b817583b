import json

import numpy as np
import pytest

from tests import labels, reported
from tl.report import style
from tl.report.advice_figure import accuracy_over_images
from tl.results.intervals import wilson_interval


@pytest.fixture
def result(tmp_path):
    return json.loads((reported.write_advice(tmp_path) / "result.json").read_text())


@pytest.fixture(autouse=True, params=[False, True], ids=["light", "dark"])
def theme(request):
    with style.theme(request.param):
        yield


def drawn(result):
    """Returns the axes, and what is drawn by its label: lines, and bars with their points."""
    (axes,) = accuracy_over_images(result).axes
    lines = {line.get_label(): line for line in axes.lines}
    return axes, lines | {bars.get_label(): bars for bars in axes.containers}


def bar(bars):
    (segments,) = [lines.get_segments() for lines in bars.lines[2]]
    return np.array(segments)[:, :, 1]


def test_measured_points_have_the_intervals_of_the_held_out_images(result):
    axes, found = drawn(result)
    points = found["stage2, measured"]
    assert points.lines[0].get_xdata().tolist() == [50, 100]
    assert points.lines[0].get_ydata() == pytest.approx([70, 85])
    expected = 100 * np.array([wilson_interval(700, 1000), wilson_interval(850, 1000)])
    np.testing.assert_allclose(bar(points), expected)
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "images to train on"
    assert axes.get_ylabel() == "top-1 accuracy (%, 95 % interval)"
    assert found["other endpoints"].get_xdata().tolist() == [50]


def test_the_fit_is_a_power_with_the_exponent_of_the_result(result):
    _, found = drawn(result)
    line = found["fitted: error a n^-0.5"]
    assert line.get_xdata()[[0, -1]] == pytest.approx([50, 100])
    errors = 1 - line.get_ydata() / 100
    assert errors[0] / errors[-1] == pytest.approx(2**0.5)
    # On logarithms it leaves as much above as below; half an example is added to 300 and 150.
    assert errors[0] * errors[-1] == pytest.approx(300.5 * 150.5 / 1001**2)


def test_beyond_what_was_measured_half_the_exponent_leads_to_what_is_expected(result):
    _, found = drawn(result)
    line = found["expected: n^-0.25"]
    assert line.get_xdata()[[0, -1]] == pytest.approx([100, 1000])
    assert line.get_ydata()[[0, -1]] == pytest.approx([100 - 9 * 10**0.25, 91])
    probe, other = found["expected of earlier-layer probe"], found["expected of fine-tune all"]
    assert probe.lines[0].get_xydata().tolist() == [[1000, pytest.approx(91)]]
    assert other.lines[0].get_ydata() == pytest.approx([90])
    assert other.lines[0].get_xdata()[0] > 1000
    np.testing.assert_allclose(bar(probe), [[88, 93]])


def test_without_more_images_nothing_is_extrapolated(result):
    result["data"]["images"] = 100
    _, found = drawn(result)
    assert not [label for label in found if label.startswith("expected: ")]


def test_a_probe_without_errors(result):
    result["endpoints"][0]["top1"] = {"50": 1.0, "100": 1.0}
    result["similarity"]["exponent"] = 0.0
    _, found = drawn(result)
    assert found["fitted: error a n^-0"].get_ydata() == pytest.approx(100 - 50 / 1001)


@pytest.mark.parametrize("theme", [False], indirect=True, ids=["light"])
def test_no_label_is_cut(result):
    result["endpoints"][0]["endpoint"] = labels.WIDEST
    for choice in result["choices"][:1]:
        choice["endpoint"] = labels.WIDEST
    assert labels.faults(accuracy_over_images(result)) == []
