import pytest

from tests import labels
from tests.reported import curve, study
from tl.report import figures, style

# The themes differ in their colours. `probe_page` has most of these figures in the dark one, too.
DARK = pytest.param(True, marks=pytest.mark.slow, id="dark")


@pytest.fixture(autouse=True, params=[pytest.param(False, id="light"), DARK])
def theme(request):
    with style.theme(request.param):
        yield


def rows(endpoints=("stage1", "pooled"), seeds=(0, 1), solver="logistic"):
    """Val top-1 that is highest at l2 = 0.1, higher for later endpoints, and varies by seed."""
    return [
        {
            "seed": seed, "endpoint": endpoint, "solver": solver, "l2": l2,
            "val_top1": 0.5 + 0.01 * i + 0.1 * (l2 == 0.1) + 0.02 * seed, "val_loss": 1.0,
        }
        for seed in seeds
        for i, endpoint in enumerate(endpoints)
        for l2 in (10.0, 0.1, 0.001)
    ]  # fmt: skip


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_l2_curves_average_seeds_and_mark_the_best():
    figure = figures.l2_curves([*rows(), {"endpoint": "pooled", "solver": "knn", "k": 5}])
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert lines["stage1"].get_xdata().tolist() == [0.001, 0.1, 10.0]
    assert lines["stage1"].get_ydata() == pytest.approx([51, 61, 51])
    best = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert sorted((*line.get_xdata(), *line.get_ydata()) for line in best) == [
        (0.1, pytest.approx(61)),
        (0.1, pytest.approx(62)),
    ]
    assert axes.get_xlabel() == "L2 strength, logistic (large marker: the highest)"
    assert axes.get_ylabel() == "val top-1 accuracy (%)"
    assert texts(figure.legends[0]) == ["pooled", "stage1"]  # the best first


def test_of_equal_accuracies_the_lower_loss_is_the_best():
    grid = [
        {"endpoint": "e", "solver": "logistic", "l2": l2, "val_top1": 0.5, "val_loss": loss}
        for l2, loss in ((0.1, 1.0), (1.0, 0.5), (10.0, 2.0))
    ]
    (axes,) = figures.l2_curves(grid).axes
    (best,) = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert best.get_xdata().tolist() == [1.0]


def test_a_panel_for_each_solver():
    figure = figures.l2_curves(rows() + rows(("pooled",), solver="ridge"))
    assert [axes.get_xlabel().split()[2] for axes in figure.axes] == ["logistic", "ridge"]
    assert texts(figure.legends[0]) == ["pooled", "stage1"]
    assert [len(axes.lines) for axes in figure.axes] == [4, 2]


def test_of_many_endpoints_the_best_are_named():
    names = [f"stage{i}" for i in range(10)]
    figure = figures.l2_curves(rows(names))
    assert texts(figure.legends[0]) == [*names[:2:-1], "3 others"]
    figure.draw_without_rendering()


def test_one_endpoint_is_a_title():
    figure = figures.l2_curves(rows(("pooled",)))
    assert figure.axes[0].get_title(loc="left") == "pooled"
    assert not figure.legends


def test_no_strength_no_figure():
    for grid in ([], [{"endpoint": "pooled", "solver": "knn", "k": 5}]):
        with pytest.raises(ValueError, match="expected a row with an l2"):
            figures.l2_curves(grid)


@pytest.mark.parametrize("steps", [(0,), (0, 10, 20)])
def test_learning_curve(steps):
    figure = figures.learning_curve(curve(steps=steps), 1.0)
    loss, top1 = figure.axes
    assert (loss.get_ylabel(), top1.get_ylabel()) == ("cross-entropy (nats)", "top-1 accuracy (%)")
    train, val, kept = top1.lines
    assert train.get_xdata().tolist() == [step / 10 for step in steps if step]
    assert val.get_ydata() == pytest.approx([10 + 5 * step for step in steps])
    assert list(kept.get_xdata()) == [1.0, 1.0]
    figure.draw_without_rendering()


def test_a_learning_curve_of_another_loss_names_it():
    assert figures.learning_curve(curve(), 1.0, "focal").axes[0].get_ylabel() == "focal loss"


def test_accuracy_over_endpoint():
    figure = figures.accuracy_over_endpoint(study())
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "pixels", "stem", "stage1", "stem+s1",
    ]  # fmt: skip
    about = "(s3+s4: concatenated; bars: range over seeds; dotted: raw pixels)"
    assert axes.get_xlabel().replace("\n", " ") == f"endpoint of the network {about}"
    assert texts(figure.legends[0]) == ["5 examples a class", "100 examples a class"]
    plain = figures.accuracy_over_endpoint([r for r in study((0,)) if r["endpoint"] == "stem"])
    assert plain.axes[0].get_xlabel() == "endpoint of the network (bars: range over seeds)"
    assert texts(plain.legends[0]) == ["all examples"]


@pytest.mark.parametrize("theme", [False], indirect=True, ids=["light"])
@pytest.mark.parametrize("count", [1, 2, 7, 30])
@pytest.mark.parametrize("names", [labels.NAMES, (labels.WIDEST,)], ids=["mixed", "widest"])
def test_no_label_is_cut(names, count):
    endpoints = [f"{name}{i}" for i, name in enumerate(labels.names(count, names))]
    ks = (0, 1, 5, 10, 100, 1000)[:count]
    row = {"test_top1": 0.5, "test_top1_range": [0.4, 0.6]}
    many = [{"endpoint": e, "examples_per_class": k, **row} for k in ks for e in endpoints]
    grid = rows(endpoints) + rows(endpoints, solver="ridge") * (count > 1)
    for figure in (
        figures.accuracy_over_endpoint(many),
        figures.l2_curves(grid),
        figures.learning_curve(curve(steps=range(count)), 1.0),
    ):
        assert labels.faults(figure) == []
        assert min(figure.axes[0].bbox.size / figure.dpi) > 1.8


@pytest.mark.parametrize("theme", [False], indirect=True, ids=["light"])
def test_what_is_below_few_endpoints_is_not_cut():
    figure = figures.accuracy_over_endpoint(study())
    assert labels.faults(figure) == []


def test_offers_the_other_figures():
    assert all(callable(getattr(figures, name)) for name in figures.__all__)
