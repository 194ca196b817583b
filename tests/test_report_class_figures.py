import io

import numpy as np
import pytest
from PIL import Image

from tests import labels
from tl.report import class_figures, style
from tl.results import calibration

# The themes differ in their colours. `probe_page` has all of these figures in the dark one, too.
DARK = pytest.param(True, marks=pytest.mark.slow, id="dark")


@pytest.fixture(autouse=True, params=[pytest.param(False, id="light"), DARK])
def theme(request):
    with style.theme(request.param):
        yield


def numbers(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_counts_and_shares_are_written_but_for_zero():
    matrix = np.array([[1199, 1, 0], [0, 0, 0], [2, 0, 6]])
    figure = class_figures.confusion_matrix(matrix, ["a", "b", "c"], normalised=False)
    assert numbers(figure) == ["1199", "1", "2", "6"]
    axes = figure.axes[0]
    assert axes.get_xlabel() == "predicted class, test images"
    assert axes.get_ylabel() == "true class"
    figure = class_figures.confusion_matrix(matrix, ["a", "b", "c"], normalised=True)
    assert numbers(figure) == ["99.9", "0.1", "25.0", "75.0"]
    assert figure.axes[0].get_xlabel() == "predicted class, share of the true class (%)"
    figure = class_figures.confusion_matrix(np.eye(2, dtype=int), ["a", "b"], normalised=True)
    assert numbers(figure) == ["100", "100"]


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("count", [1, 2, 12, 13, 41, 251])
def test_any_number_of_classes(count, normalised):
    names = [f"class ${i} of many" for i in range(count)]
    matrix = np.eye(count, dtype=int) * 3
    figure = class_figures.confusion_matrix(matrix, names, normalised)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert len(axes.get_xticks()) <= 40
    assert bool(numbers(figure)) == (count <= 12)
    assert ("named" in axes.get_ylabel()) == (count > 40)
    assert len(figure.axes) == (1 if count <= 12 else 2)  # the bar of colours, with its unit
    assert ("a cell: the highest of 2 x 2" in axes.get_xlabel()) == (count > 250)


def test_a_matrix_without_a_row_is_drawn():
    figure = class_figures.confusion_matrix(np.zeros((3, 3), int), ["a", "b", "c"], False)
    assert numbers(figure) == []
    figure.draw_without_rendering()


def test_cells_that_classes_share_show_the_highest():
    values = np.arange(25).reshape(5, 5)
    assert class_figures._highest(values, 2).tolist() == [[6, 8, 9], [16, 18, 19], [21, 23, 24]]
    assert class_figures._highest(values, 1).tolist() == values.tolist()


def test_a_rare_confusion_of_a_thousand_classes_is_visible():
    matrix = np.eye(1000, dtype=int) * 50
    matrix[700, 100] = 50
    image = class_figures.confusion_matrix(matrix, list("n" * 1000), True).axes[0].images[0]
    assert image.get_array()[175, 25] == 50  # percent
    assert list(image.get_extent()) == [-0.5, 999.5, 999.5, -0.5]


def test_reliability():
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.55, 0.45]] * 2)
    before = calibration.reliability(probabilities, np.array([0, 0, 0, 1, 1, 1]))
    after = calibration.reliability(probabilities, np.array([0, 0, 0, 0, 0, 1]))
    figure = class_figures.reliability(before, after, 1.5)
    left, right, share, _ = figure.axes
    assert left.get_title(loc="left") == f"before scaling: ECE {100 * before.ece:.1f} %"
    assert right.get_title(loc="left") == f"temperature 1.5: ECE {100 * after.ece:.1f} %"
    points = left.lines[1]
    np.testing.assert_allclose(points.get_xdata(), [55, 90])
    np.testing.assert_allclose(points.get_ydata(), [0, 75])
    assert sum(bar.get_height() for bar in share.patches) == pytest.approx(100)
    assert [axes.get_ylabel() for axes in (left, share)] == ["accuracy (%)", "images (%)"]
    assert share.get_xlabel() == "confidence: probability of the predicted class (%)"
    figure.draw_without_rendering()


def test_a_temperature_at_a_bound_says_so():
    found = calibration.reliability(np.array([[1.0, 0.0]]), np.array([0]))
    axes = class_figures.reliability(found, found, calibration.TEMPERATURES[0]).axes[1]
    assert axes.get_title(loc="left") == "temperature 0.05, a bound: ECE 0.0 %"


def test_scatter_has_a_colour_and_a_marker_for_each_of_few_classes():
    labels = np.array([0, 2, 2, 8])
    names = [f"class {i}" for i in range(9)]
    figure = class_figures.scatter(np.eye(4)[:, :2], labels, names, "t-SNE dimension")
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "class 0", "class 2", "class 8",
    ]  # fmt: skip
    assert [len(points.get_offsets()) for points in axes.collections] == [1, 2, 1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("t-SNE dimension 1", "t-SNE dimension 2")


def test_scatter_of_many_classes_says_what_the_colour_is():
    labels = np.arange(30)
    points = np.random.default_rng(0).normal(size=(30, 2))
    figure = class_figures.scatter(points, labels, [f"class {i}" for i in labels], "component")
    assert not figure.legends
    about = "component 1\ncolour: number of the class, 0 dark to 29 light"
    assert figure.axes[0].get_xlabel() == about


def test_twenty_long_names_leave_room_for_the_points():
    labels = np.arange(20)
    points = np.random.default_rng(0).normal(size=(20, 2))
    figure = class_figures.scatter(points, labels, ["a long name of a breed"] * 20, "component")
    figure.draw_without_rendering()
    width, height = figure.axes[0].bbox.size / figure.dpi
    assert min(width, height) > 3.5


@pytest.mark.parametrize("theme", [False], indirect=True, ids=["light"])
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow), 12, 13, 20, 200])
@pytest.mark.parametrize("names", [labels.NAMES, (labels.WIDEST,)], ids=["mixed", "widest"])
def test_no_label_is_cut(names, count):
    names = labels.names(count, names)
    matrix = np.full((count, count), 1000)
    points = np.random.default_rng(0).normal(size=(count, 2))
    for figure in (
        class_figures.confusion_matrix(matrix, names, normalised=count in (1, 13)),
        class_figures.scatter(points, np.arange(count), names, "principal component"),
    ):
        assert labels.faults(figure) == []
        assert min(figure.axes[0].bbox.size / figure.dpi) > 2.8


def test_labels_stand_upright_where_they_would_meet():
    def upright(*names):
        matrix = np.eye(len(names), dtype=int)
        axes = class_figures.confusion_matrix(matrix, names, False).axes[0]
        return {label.get_rotation() for label in axes.get_xticklabels()} == {90}

    assert not upright("i" * 20, "i" * 20)
    assert not upright(*"abcdefghij")
    assert upright(labels.WIDEST, labels.WIDEST, labels.WIDEST)
    assert upright(*["bird"] * 10)


def test_one_point():
    def draw():
        return class_figures.scatter(np.ones((1, 2)), np.zeros(1, int), ["a"], "c")

    with Image.open(io.BytesIO(style.png(draw, dark=False, dpi=50))) as image:
        assert image.width == 260
