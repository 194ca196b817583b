"""A linear probe on features in memory, chosen on held-out rows and tested once."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from tl.data import splits
from tl.errors import UserError, nearest
from tl.probes import protocol
from tl.probes.heads import Classifier
from tl.probes.held_out import HeldOut, Score
from tl.probes.solvers import SOLVERS, Solver
from tl.results import calibration, warnings

Arrays = Float[np.ndarray, "n d"] | Mapping[str, Float[np.ndarray, "n d"]]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted classifier of features, and its scores on rows that were held out.

    Attributes:
      classes: the C values of the labels, sorted: the order of the columns of `probabilities`.
      endpoint: the endpoint that was chosen on val; '' where `features` was one array.
      solver: name of the solver that was chosen on val.
      setting: the solver's setting that was chosen on val.
      val_top1: accuracy on val, in 0..1, before the refit on train and val together; with folds,
        on all rows that a fold held out.
      test: scores on the test rows, which are looked at once.
      test_rows: int64 [T], the test rows among those of `features`; empty for test rows of your
        own.
      temperature: logits are divided by it before they become probabilities.
      warnings: what to know before trusting the scores.
      head: the classifier itself, which acts on features as they were given.
    """

    classes: Shaped[np.ndarray, " c"]
    endpoint: str
    solver: str
    setting: Mapping[str, float]
    val_top1: float
    test: Score
    test_rows: np.ndarray
    temperature: float
    warnings: tuple[str, ...]
    head: Classifier = dataclasses.field(repr=False)

    def predict(self, features: Arrays) -> Shaped[np.ndarray, " n"]:
        """Returns the most probable class of each row.

        Args:
          features: float [N, D], or endpoint to such arrays, as they were given to `fit_probe`.
        """
        return self.classes[self._logits(features).argmax(axis=1)]

    def probabilities(self, features: Arrays) -> Float[np.ndarray, "n c"]:
        """Returns calibrated probabilities, float64 [N, C].

        Args:
          features: as in `predict`.
        """
        return calibration.probabilities(self._logits(features), self.temperature)

    def _logits(self, features: Arrays) -> Float[np.ndarray, "n c"]:
        by_endpoint = _by_endpoint(features)
        if self.endpoint not in by_endpoint:
            wanted = (
                f"of {self.endpoint!r}, by endpoint" if self.endpoint else "as one array [N, D]"
            )
            got = ", ".join(map(repr, by_endpoint)) if isinstance(features, Mapping) else "an array"
            raise UserError(f"expected features {wanted}, as they were fitted; got {got}")
        return self.head.logits(by_endpoint[self.endpoint])


def fit_probe(
    features: Arrays,
    labels: Sequence[Any] | np.ndarray,
    *,
    test: float | tuple[Arrays, Sequence[Any] | np.ndarray] = 0.2,
    val: float | str = 0.2,
    solvers: Sequence[str | Solver] = ("logistic",),
    seed: int = 0,
    groups: Sequence[Any] | np.ndarray | None = None,
) -> Probe:
    """Fits a probe as a run does: chosen on val, refitted on train and val, tested once.

    Args:
      features: an array [N, D]; or several by endpoint, such as `Model.features` returns, of which
        the best on val is taken.
      labels: N names or numbers, one for each row.
      test: share of each class to test on, in (0, 1); or (features, labels) of test rows of your
        own.
      val: share of the remaining rows of each class to choose on, in (0, 1); or folds of them,
        such as '5fold', each of which is chosen on once (cross-validation).
      solvers: to choose from: names of `tl.probes.solvers.SOLVERS`, or solvers with settings of
        your own, such as `tl.probes.solvers.Logistic(l2s=(1e-3, 1e-1))`.
      seed: decides which rows are held out, and starts solvers that use random numbers.
      groups: N names or numbers, equal for rows that belong together, such as images of one
        patient. No division parts a group, and the interval of the test accuracy is over groups.
        Test rows of your own are not looked at for groups.

    Raises:
      UserError: there are too few rows or groups, features that are not finite, labels in test
        that train lacks, or no such solver.
    """
    by_endpoint = _by_endpoint(features)
    classes, numbers = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"expected labels of two classes or more, got {len(classes)}")
    for name, values in by_endpoint.items():
        if values.ndim != 2 or len(values) != len(numbers):
            raise UserError(
                f"expected features [N, D] of the {len(numbers)} labels, got {list(values.shape)}"
                + (f" for {name!r}" if name else "")
            )
    group_of: np.ndarray | None = None
    if groups is not None:
        if len(groups) != len(numbers):
            raise UserError(
                f"expected {len(numbers)} groups, one for each label, got {len(groups)}"
            )
        _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    held_rows = np.zeros(0, np.int64)
    test_groups = None
    if isinstance(test, tuple):
        tested, test_labels = _by_endpoint(test[0]), np.asarray(test[1])
        if unknown := sorted(set(test_labels.tolist()) - set(classes.tolist())):
            raise UserError(f"expected test labels that train has, got {unknown[:5]}")
        test_numbers = np.searchsorted(classes, test_labels)
        rest = np.arange(len(numbers))
    else:
        rest, held_rows = splits.holdout(numbers, test, seed, group_of)
        test_groups = None if group_of is None else group_of[held_rows]
        tested = {name: values[held_rows] for name, values in by_endpoint.items()}
        test_numbers = numbers[held_rows]
    rows, folds = _divided(numbers[rest], val, seed, None if group_of is None else group_of[rest])
    rows = rest[rows]
    val_rows = rows[splits.chosen_on(folds, len(rows))]
    train_rows = rows if len(folds) > 1 else rows[folds[0].fit]
    labels_of = {"train": numbers[train_rows], "val": numbers[val_rows], "test": test_numbers}
    for part, of_part in labels_of.items():
        if not len(of_part):
            raise UserError(f"no row is left for {part}; give more rows of each class")
    chosen = [_solver(named).with_seed(seed) for named in solvers]
    result = protocol.run(
        lambda endpoint: by_endpoint[endpoint][rows],
        numbers[rows],
        folds,
        list(by_endpoint),
        chosen,
        HeldOut(lambda endpoint: tested[endpoint], test_numbers, len(classes), test_groups),
        num_classes=len(classes),
    )
    selected = result.selected
    test_logits, val_logits = result.logits
    fitted = calibration.temperature(val_logits, labels_of["val"])
    return Probe(
        classes=classes,
        endpoint=selected.endpoint,
        solver=selected.solver,
        setting=dict(selected.setting),
        val_top1=selected.val_top1,
        test=dataclasses.replace(selected.test, logits=None),
        test_rows=held_rows,
        temperature=calibration.scaling(test_logits, test_numbers, fitted).temperature,
        warnings=(
            *warnings.of_parts(labels_of, classes.tolist(), folds=len(folds)),
            *selected.warnings,
        ),
        head=selected.fit.head,
    )


def _divided(
    labels: np.ndarray, val: float | str, seed: int, groups: np.ndarray | None
) -> tuple[np.ndarray, list[splits.Fold]]:
    """Returns the rows to train and to choose on, train before val, and their folds."""
    if count := splits.fold_count(val):
        rows, held = splits.cross_validation(labels, 0, count, seed, groups)
        return rows, splits.folds_of(held)
    if isinstance(val, str):
        raise UserError(f"expected val as a share in (0, 1), or folds such as '5fold', got {val!r}")
    kept, held = splits.holdout(labels, val, seed, groups)
    return np.concatenate([kept, held]), splits.one_fold(len(kept), len(held))


def _by_endpoint(features: Arrays) -> dict[str, np.ndarray]:
    if isinstance(features, Mapping):
        return {name: np.asarray(values, np.float32) for name, values in features.items()}
    return {"": np.asarray(features, np.float32)}


def _solver(named: str | Solver) -> Solver:
    if isinstance(named, Solver):
        return named
    if named not in SOLVERS:
        raise UserError(f"no solver is called {named!r}{nearest(named, SOLVERS)}")
    return SOLVERS[named]()
