import numpy as np
import pytest
from PIL import Image

from tests import labels
from tl.report import study_figures, style


def study(columns, axes, means, seeds=2, claims=()):
    """Returns a study with a mean for each (row, column), seeds a point to either side."""
    row_axis = next(axis for axis in axes if axis not in (columns, "seed"))
    runs, cells = [], []
    for (row, column), mean in means.items():
        levels = {row_axis: row, columns: column}
        for seed in range(seeds):
            top1 = mean + 0.01 * (2 * seed - 1)
            status = {"levels": {**levels, "seed": str(seed)}, "status": "done", "test_top1": top1}
            runs.append(status)
        ci95 = [mean - 0.1, mean + 0.1]
        cells.append({"levels": levels, "mean": mean, "ci95": ci95, "interval": "t over 2 seeds"})
    runs.append({"levels": {**levels, "seed": "9"}, "status": "missing", "test_top1": None})
    cells.append({**cells[0], "levels": {row_axis: "gone", columns: column}, "mean": None})
    return {
        "title": "A study",
        "axes": axes,
        "columns": columns,
        "runs": runs,
        "cells": cells,
        "claims": list(claims),
    }


@pytest.fixture
def cases():
    axes = {"case": ["small", "large"], "method": ["a", "b", "c"], "seed": ["0", "1"]}
    means = {("small", "a"): 0.6, ("small", "b"): 0.7, ("large", "a"): 0.9, ("large", "c"): 0.8}
    claim = {
        "where": {"case": "small"},
        "advised": {"method": "a"},
        "difference": -0.1,
        "ci95": [-0.15, -0.05],
        "over": "seeds and images",
        "verdict": "does not hold",
    }
    undecided = {**claim, "difference": None, "ci95": None, "verdict": "undecided"}
    return study("method", axes, means, claims=[claim, undecided])


def drawn(of_study, name="accuracy"):
    with style.theme(dark=False):
        figure = study_figures.study(of_study)[name]
        figure.draw_without_rendering()
    return figure


def dots(axes):
    """Returns the positions of the means, percent first."""
    return [tuple(c.lines[0].get_xydata()[0]) for c in axes.containers]


def test_named_levels_are_panels_of_dots(cases):
    small, large = drawn(cases).axes
    assert [axes.get_title(loc="left") for axes in (small, large)] == ["small", "large"]
    assert dots(small) == [(pytest.approx(60), 0), (pytest.approx(70), 1)]
    assert dots(large) == [(pytest.approx(90), 0), (pytest.approx(80), 2)]
    assert [label.get_text() for label in small.get_yticklabels()] == ["a", "b", "c"]
    assert small.get_ylabel() == "method"
    assert small.get_xlabel() == large.get_xlabel() == "test top-1 accuracy (%)"
    # a is on top
    assert small.get_ylim()[0] > small.get_ylim()[1]


def test_bars_are_the_intervals_and_strokes_the_seeds(cases):
    small = drawn(cases).axes[0]
    (bar,) = small.containers[0].lines[2][0].get_segments()
    assert bar[:, 0] == pytest.approx([50, 70])
    strokes = [list(line.get_xdata()) for line in small.lines if len(line.get_xdata()) == 2]
    assert strokes == [pytest.approx([59, 61]), pytest.approx([69, 71])]


def test_the_best_of_a_panel_stands_out(cases):
    small = drawn(cases).axes[0]
    first, best = (container.lines[0] for container in small.containers)
    assert first.get_markerfacecolor() == "none"
    assert best.get_markerfacecolor() == best.get_color() != first.get_color()


def test_panels_that_are_left_over_are_not_shown():
    axes = {"case": list("xyz"), "method": ["a"], "seed": ["0"]}
    figure = drawn(study("method", axes, {(case, "a"): 0.5 for case in "xyz"}))
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    # The lowest of each column of panels has the label.
    assert [axes.get_xlabel() != "" for axes in figure.axes] == [False, True, True, False]


def test_numbers_make_lines_over_a_logarithmic_axis():
    axes = {"norm": ["train", "frozen"], "examples": ["5", "20", "100"], "seed": ["0"]}
    means = {("train", "100"): 0.9, ("train", "5"): 0.5, ("frozen", "20"): 0.7}
    figure = drawn(study("examples", axes, means))
    (panel,) = figure.axes
    assert panel.get_xscale() == "log"
    line = panel.containers[0].lines[0]
    assert list(line.get_xdata()) == [5, 100]  # in order, whatever that of the cells
    assert line.get_ydata() == pytest.approx([50, 90])
    assert [label.get_text() for label in panel.get_xticklabels()] == ["5", "20", "100"]
    assert panel.get_xlabel() == "labelled images a class, val among them"
    assert panel.get_ylabel() == "test top-1 accuracy (%)"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["train", "frozen"]
    assert legend.get_title().get_text() == "norm"


def test_numbers_close_together_are_not_logarithmic():
    axes = {"norm": ["train"], "resolution": ["32", "64"], "seed": ["0"]}
    means = {("train", "32"): 0.5, ("train", "64"): 0.7}
    (panel,) = drawn(study("resolution", axes, means)).axes
    assert (panel.get_xscale(), panel.get_xlabel()) == ("linear", "side of the images (px)")


@pytest.mark.parametrize("levels", [["stem", "stage1"], ["stage1", "stem+stage1"]])
def test_endpoints_make_lines_in_their_order(levels):
    axes = {"examples": ["5"], "endpoint": levels, "seed": ["0"]}
    means = {("5", level): 0.5 for level in reversed(levels)}
    (panel,) = drawn(study("endpoint", axes, means)).axes
    assert panel.containers[0].lines[0].get_xdata() == pytest.approx([0, 1])
    assert [label.get_text() for label in panel.get_xticklabels()] == levels


def test_all_examples_are_no_number_but_the_last_level():
    axes = {"norm": ["train"], "examples": ["5", "all"], "seed": ["0"]}
    means = {("train", "5"): 0.5, ("train", "all"): 0.7}
    (panel,) = drawn(study("examples", axes, means)).axes
    assert list(panel.containers[0].lines[0].get_xdata()) == [0, 1]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["5", "all"]


def test_a_wide_interval_leaves_the_means_room(cases):
    for cell in cases["cells"]:
        cell["ci95"] = [0.0, 1.0]
    low, high = drawn(cases).axes[0].get_xlim()
    # Single runs are from 59 to 91 %, and there is 15 % of that room to either side, and a margin.
    assert (low, high) == pytest.approx((59 - 4.8 - 1.664, 91 + 4.8 + 1.664))


def test_claims_lead_or_trail(cases):
    (panel,) = drawn(cases, "claims").axes
    assert dots(panel) == [(pytest.approx(-10), 0)]
    (label,) = panel.get_yticklabels()
    assert label.get_text() == "small, a\ndoes not hold"
    assert "percentage points" in panel.get_xlabel()


@pytest.mark.parametrize(
    ("verdict", "marker", "filled"),
    [("holds", "o", True), ("within noise", "o", False), ("does not hold", "X", True)],
)
def test_verdicts_look_different(cases, verdict, marker, filled):
    cases["claims"] = [{**cases["claims"][0], "verdict": verdict}]
    (panel,) = drawn(cases, "claims").axes
    point = panel.containers[0].lines[0]
    assert point.get_marker() == marker
    assert (point.get_markerfacecolor() != "none") is filled
    (label,) = panel.get_yticklabels()
    assert label.get_text() == f"small, a\n{verdict}"
    assert "interval over seeds and images" in panel.get_xlabel()


def test_a_verdict_on_images_alone_says_so(cases):
    few = {**cases["claims"][0], "over": "images alone"}
    cases["claims"] = [*cases["claims"], few]
    (panel,) = drawn(cases, "claims").axes
    labels = [label.get_text().partition("\n")[2] for label in panel.get_yticklabels()]
    assert labels == ["does not hold", "does not hold, images alone"]
    assert "interval over images alone or seeds and images" in panel.get_xlabel()


def numbered(count, names):
    return [f"{name}{i}" for i, name in enumerate(labels.names(count, names))]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        *(pytest.param(labels.NAMES, n, id=f"mixed-{n}") for n in (1, 2, 7)),
        # The widest name as often needs more room.
        pytest.param(labels.NAMES, 25, marks=pytest.mark.slow, id="mixed-25"),
        *(pytest.param((labels.WIDEST,), n, id=f"widest-{n}") for n in (1, 2, 7, 25)),
    ],
)
def test_no_label_is_cut(names, count):
    levels, rows = numbered(count, names), numbered(min(count, 5), names)
    claim = {"difference": 0.1, "ci95": [0.05, 0.15], "verdict": "does not hold"}
    claims = [{**claim, "where": {"case": r}, "advised": {"method": levels[0]}} for r in rows]
    axes = {"case": rows, labels.WIDEST: levels, "seed": ["0", "1"]}
    means = {(row, level): 0.5 for row in rows for level in levels}
    dots = study(labels.WIDEST, axes, means, claims=claims)
    # As many lines as levels, so that the legend is long.
    axes = {labels.WIDEST: levels, "endpoint": rows, "seed": ["0", "1"]}
    lines = study("endpoint", axes, {(level, row): 0.5 for level in levels for row in rows})
    with style.theme(dark=False):
        figures = [*study_figures.study(dots).values(), *study_figures.study(lines).values()]
        for figure in figures:
            assert labels.faults(figure) == []
            width, height = figure.axes[0].bbox.size / figure.dpi
            assert width > 3 and height > 1


def test_numbers_without_room_are_not_written():
    axes = {"norm": ["train"], "examples": ["1", "10", "500", "501", "1000"], "seed": ["0"]}
    means = {("train", level): 0.5 for level in axes["examples"]}
    (panel,) = drawn(study("examples", axes, means)).axes
    written = [label.get_text() for label in panel.get_xticklabels()]
    assert written == ["1", "10", "500", "1000"]
    assert len(panel.containers[0].lines[0].get_xdata()) == 5


def test_nothing_finished_nothing_drawn(cases):
    cells = [{**cell, "mean": None} for cell in cases["cells"]]
    assert study_figures.study({**cases, "cells": cells, "claims": []}) == {}


def test_a_long_title_is_broken(cases, tmp_path):
    def width(title):
        path = study_figures.save({**cases, "title": title}, tmp_path)[0]
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        return (pixels[:, [0, 1, -2, -1]] < 250).sum()

    assert width("A study") == width("A study of many words " * 10) == 0


def test_files_are_named_after_the_figures(cases, tmp_path):
    paths = study_figures.save(cases, tmp_path)
    assert [path.name for path in paths] == ["accuracy.png", "claims.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
