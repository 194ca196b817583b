import pytest

from tests import labels
from tl.report import style
from tl.report.cost_figure import accuracy_over_cost


@pytest.fixture(autouse=True, params=[False, True], ids=["light", "dark"])
def theme(request):
    with style.theme(request.param):
        yield


def row(name, top1, seconds, kind="probe", spread=0.02):
    ci95 = None if top1 is None or spread is None else [top1 - spread, top1 + spread]
    return {"name": name, "kind": kind, "top1": top1, "ci95": ci95, "seconds": seconds}


def named(figure):
    return {text.get_text() for text in figure.axes[0].texts}


def test_names_the_runs_that_no_run_as_fast_equals():
    rows = [
        row("quick", 0.6, 10), row("worse", 0.5, 100), row("equal", 0.6, 50),
        row("good", 0.8, 1000, "finetune"), row("slower", 0.7, 5000, "finetune"),
    ]  # fmt: skip
    figure = accuracy_over_cost(rows)
    assert named(figure) == {"quick", "good"}
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "time of the run (seconds)"
    assert axes.get_ylabel() == "test top-1 accuracy (%, 95 % interval)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["probe", "finetune"]


def test_names_hide_nothing_and_stay_inside():
    rows = [row(f"a run with quite a long name {i}", 0.5 + 0.004 * i, 10 + i) for i in range(30)]
    figure = accuracy_over_cost(rows)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 0 < len(boxes) < 30
    for i, box in enumerate(boxes):
        assert axes.bbox.padded(1).contains(box.x0, box.y0)
        assert axes.bbox.padded(1).contains(box.x1, box.y1)
        assert not any(box.overlaps(other) for other in boxes[:i])
        points = axes.transData.transform([(row["seconds"], 100 * row["top1"]) for row in rows])
        assert not any(box.contains(*point) for point in points)


@pytest.mark.parametrize("theme", [False], indirect=True, ids=["light"])
@pytest.mark.parametrize("names", [labels.NAMES, (labels.WIDEST,)], ids=["mixed", "widest"])
def test_no_label_is_cut(names):
    kinds = ("Linear probe", "Fine-tuning", "Evaluation")
    rows = [
        row(name, 0.5 + 0.02 * i, 10 * 3**i, kinds[i % 3])
        for i, name in enumerate(labels.names(8, names))
    ]
    figure = accuracy_over_cost(rows)
    assert named(figure)
    assert labels.faults(figure) == []


def test_rows_without_accuracy_or_time_are_left_out():
    rows = [row("extract", None, 5), row("unknown", 0.5, None), row("one", 0.5, 7, spread=None)]
    figure = accuracy_over_cost(rows)
    assert named(figure) == {"one"}
    assert not figure.legends
    for none in (rows[:2], []):
        with pytest.raises(ValueError, match="expected a row with accuracy and seconds"):
            accuracy_over_cost(none)
