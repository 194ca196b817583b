import numpy as np
import pytest
from sklearn.datasets import load_digits

from tl.errors import UserError
from tl.probes.heads import Fit, Linear
from tl.probes.rows import Rows
from tl.probes.solvers import SOLVERS, Head, Knn, Logistic, Ridge

FIELDS = {
    "l2": (1.0, 0.1),
    "max_iterations": 7,
    "tolerance": 1e-5,
    "search_tolerance": 1e-4,
    "overrun": 5.0,
    "k": (3,),
    "temperature": (0.2,),
    "epochs": 4,
    "batch_size": 5,
    "learning_rate": 0.5,
    "dropout": 0.25,
}


@pytest.mark.parametrize(
    "solver",
    [
        Logistic((1.0, 0.1), max_iterations=7, tolerance=1e-5, search_tolerance=1e-4, overrun=5.0),
        Ridge((1.0, 0.1)),
        Knn((3,), (0.2,)),
        Head(epochs=4, batch_size=5, learning_rate=0.5, dropout=0.25),
    ],
)
def test_a_solver_is_made_from_a_configs_fields(solver):
    assert SOLVERS[solver.name].from_fields(FIELDS) == solver


def test_only_what_is_random_takes_a_seed():
    assert Head().with_seed(3) == Head(seed=3)
    for solver in (Logistic(), Ridge(), Knn()):
        assert solver.with_seed(3) is solver


def digits():
    x, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:200]
    x, labels = x[order].astype(np.float32), labels[order]
    return Rows(x[:160], labels[:160]), Rows(x[160:], labels[160:])


@pytest.mark.parametrize(
    "solver", [Logistic((1.0, 1e-2), search_tolerance=1e-8), Ridge((1.0, 1e-2)), Knn((3, 5))]
)
def test_refit_equals_a_fit_of_all_rows(solver):
    train, val = digits()
    rows = Rows(*map(np.concatenate, zip(train, val)))
    fits = [fit for fit, _ in solver.search(train, val.features, 10)]
    again = solver.refit(fits[-1], rows, 10)
    *_, whole = solver.path(rows, 10)
    assert again.setting == whole.setting
    np.testing.assert_allclose(
        again.head.logits(val.features), whole.head.logits(val.features), atol=0.02
    )


def test_head_trains_again_for_as_many_epochs():
    fit = Fit({"epoch": 3}, Linear(np.eye(2), np.zeros(2)))
    rows, _ = digits()
    again = Head(epochs=5).refit(fit, rows, 10)
    *_, third = Head(epochs=3).path(rows, 10)
    assert again.setting == {"epoch": 3} and again.objective == third.objective
    np.testing.assert_array_equal(again.head.kernel, third.head.kernel)


def test_a_path_gives_up_a_factor_behind_what_improved():
    solver = Logistic((1e-1, 1e-2, 1e-3, 1e-4, 1e-4), overrun=100.0)
    assert not solver.gives_up({"l2": 1e-2}, {"l2": 1e-1})
    assert solver.gives_up({"l2": 1e-3}, {"l2": 1e-1})
    assert (solver.untried({"l2": 1e-3}), solver.untried({"l2": 1e-4})) == (1, 0)
    assert not Logistic(overrun=float("inf")).gives_up({"l2": 1e-9}, {"l2": 1e9})
    assert Knn().untried({"k": 1}) == 0 and not Ridge().gives_up({"l2": 1e-9}, {"l2": 1.0})


@pytest.mark.parametrize("overrun", [1.0, 0.0, -3.0, float("nan")])
def test_an_overrun_that_ends_at_once_is_refused(overrun):
    with pytest.raises(UserError, match=r"^probe\.overrun: expected a factor above 1, or inf"):
        Logistic(overrun=overrun)
