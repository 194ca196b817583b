"""Probes: the problem, the objective by hand, and that both solvers reach it."""

import numpy as np
import pytest

from experiments.benchmark import contest, probe
from experiments.benchmark.contest import Outcome
from tests import contests


@pytest.fixture(autouse=True)
def in_this_process():
    with contests.in_this_process():
        yield


def test_the_problem_looks_like_features():
    x, labels = probe.problem(600, 40, 3)
    assert x.shape == (600, 40) and x.dtype == np.float32 and x.min() == 0
    assert np.bincount(labels).tolist() == [200, 200, 200]
    variances = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    assert 4 < variances[0] / variances[10] < 100  # no two directions are alike
    again, _ = probe.problem(600, 40, 3)
    np.testing.assert_array_equal(x, again)


def test_the_objective_by_hand():
    x, labels = np.array([[1.0], [3.0]]), np.array([0, 1])  # deviation 1
    kernel, bias = np.array([[1.0, -1.0]]), np.array([0.0, 2.0])
    # Logits (1, 1) and (3, -1): log 2 and log(1 + e^4).
    expected = (np.log(2) + np.log1p(np.exp(4))) / 2 + 0.5 / 2 * 2
    assert probe.objective(x, x.std(axis=0), labels, (kernel, bias), 0.5) == pytest.approx(expected)


def test_the_excess_is_over_the_better_at_each_strength():
    x, labels = np.array([[1.0], [3.0]]), np.array([0, 1])
    zero, some = (np.zeros((1, 2)), np.zeros(2)), (np.array([[-1.0, 1.0]]), np.array([2.0, -2.0]))
    outcomes = {
        "ours": Outcome((1.0,), {1e-3: some, 10.0: some}),
        "sklearn": Outcome((1.0,), {1e-3: zero, 10.0: zero}),
        "other": Outcome(error="failed"),
    }
    excess = probe._excess(outcomes, x, labels)
    # Zero weights: log 2 at any strength. The others: margins of 2, and a penalty of l2.
    loss = np.log1p(np.exp(-2))
    assert excess == pytest.approx(
        {"ours": (loss + 10) / np.log(2) - 1, "sklearn": np.log(2) / (loss + 1e-3) - 1}
    )


def test_rows_of_one_strength_and_of_the_grid():
    lines = []
    one, grid = probe.measure(contests.options(peers=("sklearn",)), {}, lines.append)
    assert [row["case"] for row in (one, grid)] == ["one strength", "45 strengths"]
    for row in (one, grid):
        assert (row["unit"], row["size"], row["ours"]) == ("s", "60x5x3", 0.5)
        assert row["peers"] == {"sklearn": 0.5}
        # At least one of the two is the better at every strength, and neither is far off.
        assert set(row["excess"]) == {"ours", "sklearn"}
        assert all(0 <= excess < 1e-2 for excess in row["excess"].values())
    assert one["excess"]["ours"] < 1e-5
    assert grid["single_fits"] == 1.0
    assert lines[-1] == "probe: the grid takes as long as 1.0 single fits"


def test_a_large_grid_is_ours_alone(monkeypatch):
    monkeypatch.setattr(probe, "LARGEST_GRID", 60 * 5 - 1)
    one, grid = probe.measure(contests.options(peers=("sklearn",)), {}, str)
    assert list(one["peers"]) == ["sklearn"] and grid["peers"] == {}


def test_ours_that_failed_leaves_rows_of_the_others(monkeypatch):
    monkeypatch.setattr(
        contest,
        "run",
        lambda contestants, **keywords: {
            **contests.here(contestants[1:], **keywords),
            "ours": Outcome(error="failed, X"),
        },
    )
    for row in probe.measure(contests.options(peers=("sklearn",)), {}, str):
        assert row["ours"] is None and row["failed"] == {"ours": "failed, X"}
        assert row["excess"] == {"sklearn": 0.0} and "single_fits" not in row


def test_sizes_are_doubled_one_by_one_with_as_many_iterations(monkeypatch):
    asked = []

    def path(x, labels, classes, l2s, *, max_iterations, tolerance):
        asked.append((*x.shape, classes, max_iterations, tolerance))
        return []

    monkeypatch.setattr("tl.probes.logistic.fit_path", path)
    options = contests.options(probe_grid=False, probe_doublings=1)
    found = probe.measure(options, {}, str)
    assert [row["case"] for row in found] == [
        "one strength",
        *(f"{times} x {name}" for name in ("rows", "features", "classes") for times in (1, 2)),
    ]
    assert list(dict.fromkeys(asked)) == [
        (60, 5, 3, 1000, 1e-8), (60, 5, 3, 1, 0.0), (120, 5, 3, 1, 0.0), (60, 10, 3, 1, 0.0),
        (60, 5, 6, 1, 0.0),
    ]  # fmt: skip
