import json

import numpy as np
import pytest

from tl.data.splits import Fold, folds_of, one_fold
from tl.probes import seeds
from tl.probes.heads import Fit
from tl.probes.held_out import HeldOut
from tl.probes.protocol import choose_setting, run
from tl.probes.rows import Rows
from tl.probes.solvers import SOLVERS, Head, Knn, Logistic, Ridge, Solver


class Fixed:
    """A head with given logits."""

    def __init__(self, logits):
        self._logits = np.asarray(logits, np.float32)

    def logits(self, x):
        return self._logits[: len(x)]


class Listed(Solver):
    """A solver whose settings have given val logits, and whose refits remember what they saw."""

    name = "listed"

    def __init__(self, logits, val_slack=0):
        self._logits, self.val_slack, self.refitted = logits, val_slack, []

    def path(self, rows, num_classes):
        for l2, logits in self._logits.items():
            yield Fit({"l2": l2}, Fixed(logits))

    def refit(self, fit, rows, num_classes):
        self.refitted.append((fit.setting["l2"], rows))
        return Fit(fit.setting, Fixed(np.eye(3)[[0, 1, 2, 2]]))


def toy(solvers, test_every_endpoint=False, endpoints=("a",), labels=(0, 1)):
    held_out = HeldOut(lambda endpoint: np.zeros((4, 1)), np.array([0, 1, 2, 1]), 4)
    return run(
        lambda endpoint: np.repeat([1.0, 2.0], [2, len(labels)])[:, None],
        np.array([0, 1, *labels]),
        one_fold(2, len(labels)),
        endpoints,
        solvers,
        held_out,
        num_classes=3,
        test_every_endpoint=test_every_endpoint,
    )


SURE = [[5, 0, 0], [0, 5, 0]]
UNSURE = [[1, 0, 0], [0, 1, 0]]
HALF = [[0.1, 0, 0], [0.1, 0, 0]]


def test_highest_top1_then_lowest_loss_then_first():
    listed = Listed({3.0: HALF, 2.0: UNSURE, 1.0: SURE, 0.5: SURE, 0.1: HALF})
    result = toy([listed])
    assert result.selected.setting == {"l2": 1.0}
    assert result.selected.val_top1 == 1.0
    assert [row["val_top1"] for row in result.grid] == [0.5, 1, 1, 1, 0.5]
    assert result.warnings == []


def test_one_example_of_slack_is_decided_by_loss():
    confidently_wrong = [[5, 0, 0], [0, 0, 0.1]]
    unsure_right = [[0.01, 0, 0], [0, 0.01, 0]]
    logits = {2.0: unsure_right, 1.0: confidently_wrong, 0.5: unsure_right}
    assert toy([Listed(logits)]).selected.setting == {"l2": 2.0}
    assert toy([Listed(logits, val_slack=1)]).selected.setting == {"l2": 1.0}


@pytest.mark.parametrize("right", range(1, 10))
def test_the_slack_is_one_example_whatever_the_rounding(right):
    def logits(right, sure):
        return sure * np.eye(3)[[0] * right + [1] * (10 - right)]

    # One more right and very sure of the wrong ones, against one less and unsure of all.
    listed = Listed({2.0: logits(right, 9.0), 1.0: logits(right - 1, 0.01)}, val_slack=1)
    result = toy([listed], labels=[0] * 10)
    assert [row["val_top1"] for row in result.grid] == [right / 10, (right - 1) / 10]
    assert result.selected.setting == {"l2": 2.0 if right == 9 else 1.0}  # 0.9 nats against 1.1


def test_refit_sees_train_and_val_and_test_is_scored_by_it():
    listed = Listed({2.0: HALF, 1.0: SURE, 0.5: HALF})
    result = toy([listed])
    ((l2, rows),) = listed.refitted
    assert l2 == 1.0
    assert rows.features.ravel().tolist() == [1, 1, 2, 2]
    assert rows.labels.tolist() == [0, 1, 0, 1]
    score = result.selected.test
    assert score.correct.tolist() == [1, 1, 1, 0]
    assert (score.top1, score.top5, score.count) == (0.75, None, 4)
    # Classes 0, 1, 2 have 1, 1/2, 1; class 3 has no test row.
    assert score.mean_per_class == pytest.approx(2.5 / 3)
    assert score.absent_classes == 1
    assert score.top1_ci95[0] < 0.75 < score.top1_ci95[1]


def test_only_the_best_endpoint_is_tested_unless_asked():
    listed = Listed({2.0: HALF, 1.0: SURE, 0.5: HALF})
    assert len(toy([listed], endpoints=("a", "b")).choices) == 1
    assert len(listed.refitted) == 1
    result = toy([listed], endpoints=("a", "b"), test_every_endpoint=True)
    assert [choice.endpoint for choice in result.choices] == ["a", "b"]
    assert result.selected.endpoint == "a"  # equal: the first
    assert {row["endpoint"] for row in result.as_dict()["endpoints"]} == {"a", "b"}


def test_grid_edge_and_missing_convergence_are_reported():
    class Slow(Listed):
        def refit(self, fit, rows, num_classes):
            return Fit(fit.setting, Fixed(np.eye(3)[[0, 1, 2, 2]]), 1.0, 7, converged=False)

    edge, slow = toy([Slow({2.0: SURE, 1.0: HALF})]).warnings
    assert edge == "a, listed: the best l2 = 2 lies at the edge of the grid 1..2: widen it"
    assert "stopped after 7 iterations without converging" in slow


def test_an_edge_no_better_than_the_inside_is_no_warning():
    assert toy([Listed({3.0: HALF, 2.0: UNSURE, 1.0: SURE})]).warnings == []


def test_one_neighbour_is_no_edge():
    class Neighbours(Listed):
        def path(self, rows, num_classes):
            for k, logits in self._logits.items():
                yield Fit({"k": k}, Fixed(logits))

        def refit(self, fit, rows, num_classes):
            return Fit(fit.setting, Fixed(np.eye(3)[[0, 1, 2, 2]]))

    assert toy([Neighbours({1: SURE, 5: HALF, 9: HALF})]).warnings == []
    assert len(toy([Neighbours({1: HALF, 5: HALF, 9: SURE})]).warnings) == 1


def test_the_selected_alone_keeps_its_logits():
    solver = Listed({1.0: UNSURE, 0.1: SURE, 0.01: HALF})
    result = toy([solver], test_every_endpoint=True, endpoints=("a", "b"))
    # On val those of the fit that never saw it, on test those of the refit.
    np.testing.assert_array_equal(result.selected.val_logits, SURE)
    np.testing.assert_array_equal(result.selected.test.logits, np.eye(3)[[0, 1, 2, 2]])
    selected, other = result.choices
    assert selected is result.selected
    assert other.val_logits is None and other.test.logits is None
    assert "logits" not in json.dumps(result.as_dict())
    assert "logits" not in json.dumps(seeds.summarise({0: result, 1: result}))
    assert "logits" not in repr(result)


def digits(seed=0):
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, labels = x[order].astype(np.float32), labels[order]

    def features(endpoint, rows=slice(0, 200)):
        images = x[rows].reshape(-1, 8, 8)
        return {"pixels": images, "left": images[:, :, :4]}[endpoint].reshape(len(images), -1)

    held_out = HeldOut(lambda e: features(e, slice(1000, None)), labels[1000:], 10)
    return features, labels[:200], held_out


def test_every_solver_on_digits():
    solvers = [Logistic((10.0, 0.1, 1e-3, 1e-5)), Ridge((10.0, 0.1, 1e-3)), Knn((1, 5, 20)), Head()]
    assert {solver.name for solver in solvers} == set(SOLVERS)
    features, labels, held_out = digits()
    folds = one_fold(160, 40)
    result = run(features, labels, folds, ["pixels"], solvers, held_out, num_classes=10)
    assert len(result.grid) == 4 + 3 + 3 + 10
    assert result.selected.test.top1 > 0.88
    row = json.loads(json.dumps(result.as_dict()))
    assert set(row) == {"selected", "val", "test", "endpoints", "grid", "ended", "warnings"}
    assert row["val"]["count"] == 40
    low, high = row["test"]["top1_ci95"]
    assert low < row["test"]["top1"] < high


def test_seeds_are_averaged():
    results = {}
    for seed in (5, 6, 7):
        features, labels, _ = digits(seed)
        _, _, held_out = digits(0)
        solver = Logistic((1.0, 0.1, 1e-2, 1e-3))
        results[seed] = run(
            features,
            labels,
            one_fold(160, 40),
            ["left", "pixels"],
            [solver],
            held_out,
            num_classes=10,
            test_every_endpoint=True,
        )
    summary = json.loads(json.dumps(seeds.summarise(results)))
    top1 = [result.selected.test.top1 for result in results.values()]
    assert summary["test"]["top1"] == pytest.approx(np.mean(top1))
    assert summary["test"]["top1_seeds"] == top1
    assert [row["test_top1"] for row in summary["seeds"]] == top1
    assert [row["seed"] for row in summary["seeds"]] == [5, 6, 7]
    assert summary["selected"]["endpoint"] == "pixels"
    assert [row["endpoint"] for row in summary["endpoints"]] == ["left", "pixels"]
    assert len(summary["grid"]) == 3 * 2 * 4
    single = results[5].selected.test.top1_ci95
    mean = summary["test"]["top1_ci95"]
    assert mean[0] < summary["test"]["top1"] < mean[1]
    assert mean[1] - mean[0] < 1.2 * (single[1] - single[0])


class Nearest(Solver):
    """Predicts from one feature, which is a row's number; remembers what it was fitted to."""

    name, val_slack = "nearest", 1

    def __init__(self):
        self.fitted, self.refitted = [], []

    def path(self, rows, num_classes):
        self.fitted.append(rows.features.ravel().astype(int).tolist())
        for l2 in (2.0, 1.0, 0.5):
            yield Fit({"l2": l2}, Told(l2), iterations=len(rows.labels), converged=l2 != 0.5)

    def refit(self, fit, rows, num_classes):
        self.refitted.append((fit.setting["l2"], rows.features.ravel().astype(int).tolist()))
        return Fit(fit.setting, Told(1.0), iterations=1)


class Told:
    """A head with logits for the rows 0 to 4, of the right class for l2 = 1 but for row 4."""

    right = np.array([[3, 0], [0, 3], [3, 0], [0, 3], [1, 0]], np.float32)

    def __init__(self, l2):
        self.logits_of = self.right if l2 == 1.0 else -self.right

    def logits(self, x):
        return self.logits_of[np.asarray(x).ravel().astype(int)]


def test_cross_validation_chooses_on_what_every_fold_holds_out_together():
    held = np.array([[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], bool)
    held_out = HeldOut(lambda endpoint: np.arange(2.0)[:, None], np.array([0, 0]), 2)
    solver = Nearest()
    labels = np.array([0, 1, 0, 1, 1])
    result = run(
        lambda endpoint: np.arange(5.0)[:, None],
        labels,
        folds_of(held),
        ["a"],
        [solver],
        held_out,
        num_classes=2,
    )
    assert solver.fitted == [[1, 2, 4], [0, 3, 4], [0, 1, 2, 3]]
    assert solver.refitted == [(1.0, [0, 1, 2, 3, 4])]
    chosen = result.selected
    assert (chosen.setting, chosen.val_top1) == ({"l2": 1.0}, 0.8)  # row 4 is wrong
    assert chosen.val_loss == pytest.approx((4 * np.log1p(np.exp(-3)) + np.log1p(np.e)) / 5)
    np.testing.assert_array_equal(chosen.val_logits, Told.right[[0, 3, 1, 2, 4]])
    assert (chosen.fit.iterations, chosen.test.top1) == (1, 0.5)
    assert [(row["iterations"], row["converged"]) for row in result.grid] == [
        (10, True), (10, True), (10, False),
    ]  # fmt: skip
    assert result.as_dict()["val"] == {"top1": 0.8, "count": 5, "folds": 3}
    assert seeds.summarise({0: result})["val"] == {"top1": 0.8, "count": 5, "folds": 3}


def test_one_fold_is_called_none():
    assert toy([Listed({1.0: SURE})]).as_dict()["val"] == {"top1": 1.0, "count": 2}


@pytest.mark.parametrize("folds", [1, 2])
def test_the_classic_head_is_trained_again_where_no_one_fit_can_be_kept(folds):
    class Kept(Listed):
        keeps_fit = True

    listed = Kept({1.0: SURE, 0.1: HALF})
    rows = [Fold(slice(0, 2), slice(2, 4)), Fold(slice(2, 4), slice(0, 2))][:folds]
    held_out = HeldOut(lambda endpoint: np.zeros((1, 1)), np.array([0]), 3)
    run(
        lambda endpoint: np.zeros((4, 1)), np.array([0, 1, 0, 1]), rows, ["a"], [listed], held_out,
        num_classes=3,
    )  # fmt: skip
    assert len(listed.refitted) == folds - 1


def test_every_solver_in_folds():
    solvers = [Logistic((0.1, 1e-3)), Ridge((0.1, 1e-3)), Knn((1, 5)), Head(epochs=2)]
    features, labels, _ = digits()
    fold_of = np.arange(200) % 4
    for solver in solvers:
        _, _, held_out = digits()
        folds = folds_of(fold_of == np.arange(4)[:, None])
        found = run(features, labels, folds, ["pixels"], [solver], held_out, num_classes=10)
        assert found.val_count == len(found.selected.val_logits) == 200
        order = np.argsort(fold_of, kind="stable")
        right = found.selected.val_logits.argmax(axis=1) == labels[order]
        assert right.mean() == found.selected.val_top1


class Path(Listed):
    """A solver that gives up three settings behind the last that improved."""

    fitted = 0

    def path(self, rows, num_classes):
        for fit in super().path(rows, num_classes):
            self.fitted += 1
            yield fit

    def gives_up(self, at, improved):
        return at["l2"] <= improved["l2"] - 3

    def untried(self, last):
        return sum(l2 < last["l2"] for l2 in self._logits)


def test_a_search_ends_where_neither_loss_nor_accuracy_improves():
    worse = dict.fromkeys((6.0, 5.0, 4.0), HALF)
    solver = Path({9.0: HALF, 8.0: SURE, 7.0: UNSURE, **worse, 3.0: SURE})
    result = toy([solver])
    # At 7 the accuracy was as high as ever, so 6 to 4 are looked at and 3 is not.
    assert [row["l2"] for row in result.grid] == [9, 8, 7, 6, 5, 4] and solver.fitted == 6
    assert result.selected.setting == {"l2": 8.0}
    assert result.ended == [{"endpoint": "a", "solver": "listed", "l2": 4.0, "untried": 1}]
    assert seeds.summarise({3: result})["ended"] == [{"seed": 3, **result.ended[0]}]
    assert toy([Listed({2.0: SURE, 1.0: HALF})]).as_dict()["ended"] == []


def test_a_coarse_grid_is_not_given_up_after_one_worse_setting():
    logits = {9.0: SURE, 5.0: HALF, 1.0: HALF, 0.5: HALF, 0.1: SURE}
    assert [row["l2"] for row in toy([Path(logits)]).grid] == [9, 5, 1, 0.5]


def test_folds_fit_every_setting():
    x, labels = np.random.default_rng(0).normal(size=(60, 30)), np.arange(60) % 2
    x[:, 0] += 1.5 * labels
    held = np.arange(60) // 2 % 4 == np.arange(4)[:, None]
    solver = Logistic(search_tolerance=1e-4, overrun=10.0)
    _, choices = choose_setting("a", solver, Rows(x, labels), folds_of(held), 2)
    assert len(choices) == 45 and {len(choice.fits) for choice in choices} == {4}
    _, choices = choose_setting("a", solver, Rows(x, labels), one_fold(40, 20), 2)
    assert 5 <= len(choices) < 45
