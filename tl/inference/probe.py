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
      width: the number D of features that it takes.
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
    width: int

    def predict(self, features: Arrays) -> Shaped[np.ndarray, " n"]:
        """Returns the most probable class of each row.

        Args:
          features: float [N, D], or endpoint to such arrays, as they were given to `fit_probe`.

        Raises:
          UserError: features of another width or endpoint, or that are not finite.
        """
        return self.classes[self._logits(features).argmax(axis=1)]

    def probabilities(self, features: Arrays) -> Float[np.ndarray, "n c"]:
        """Returns calibrated probabilities, float64 [N, C].

        Args:
          features: as in `predict`.

        Raises:
          UserError: as in `predict`.
        """
        return calibration.probabilities(self._logits(features), self.temperature)

    def _logits(self, features: Arrays) -> Float[np.ndarray, "n c"]:
        values = _like(_by_endpoint(features), {self.endpoint: self.width})[self.endpoint]
        if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
            raise UserError(
                f"expected finite features, but {len(bad)} of {len(values)} rows hold NaN or "
                f"infinity, the first is row {bad[0]}; leave out images that were not decoded"
            )
        return self.head.logits(values) if len(values) else np.zeros((0, len(self.classes)))


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
    classes, numbers = np.unique(_one_each(labels, "label"), return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"expected labels of two classes or more, got {len(classes)}")
    for name, values in by_endpoint.items():
        if values.ndim != 2 or len(values) != len(numbers) or not values.shape[1]:
            raise UserError(
                f"expected features [N, D] of the {len(numbers)} labels, got {list(values.shape)}"
                + (f" for {name!r}" if name else "")
            )
    if not solvers:
        raise UserError(f"expected one solver or more of {', '.join(sorted(SOLVERS))}, got none")
    widths = {name: values.shape[1] for name, values in by_endpoint.items()}
    group_of: np.ndarray | None = None
    if groups is not None:
        named = _one_each(groups, "group")
        if len(named) != len(numbers):
            raise UserError(f"expected {len(numbers)} groups, one for each label, got {len(named)}")
        _, group_of = np.unique(named, return_inverse=True)
    held_rows = np.zeros(0, np.int64)
    test_groups = None
    test = _test_of(test)
    if isinstance(test, tuple):
        tested, test_labels = _like(_by_endpoint(test[0]), widths), _one_each(test[1], "label")
        if counts := {len(values) for values in tested.values()} - {len(test_labels)}:
            raise UserError(
                f"expected a test label for each row, got {len(test_labels)} labels "
                f"and {counts.pop()} rows"
            )
        if unknown := sorted(set(test_labels.tolist()) - set(classes.tolist()), key=str):
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
    _, val_logits = result.logits
    return Probe(
        classes=classes,
        endpoint=selected.endpoint,
        solver=selected.solver,
        setting=dict(selected.setting),
        val_top1=selected.val_top1,
        test=dataclasses.replace(selected.test, logits=None),
        test_rows=held_rows,
        temperature=calibration.fit(val_logits, labels_of["val"]).temperature,
        warnings=(
            *warnings.of_parts(labels_of, classes.tolist(), folds=len(folds)),
            *selected.warnings,
        ),
        head=selected.fit.head,
        width=widths[selected.endpoint],
    )


def _test_of(test: Any) -> Any:
    """Returns what to test on: a share, or a pair of features and labels."""
    if isinstance(test, float | int | np.number):
        return test
    if isinstance(test, Sequence) and not isinstance(test, str) and len(test) == 2:
        return tuple(test)
    raise UserError(f"expected test as a share in (0, 1), or (features, labels), got {test!r}")


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
    """Returns arrays float32 by endpoint, '' for one array without a name."""
    if not isinstance(features, Mapping):
        return {"": _floats(features)}
    if not features:
        raise UserError("expected features of one endpoint or more, got none")
    return {name: _floats(values) for name, values in features.items()}


def _floats(values: object) -> np.ndarray:
    try:
        found = np.asarray(values)
        if found.dtype.kind == "c":
            raise ValueError("complex numbers")
        return found.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"expected features as numbers [N, D], got {type(values).__name__} ({error})"
        ) from error


def _like(given: dict[str, np.ndarray], widths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Returns the arrays of some endpoints, checked to be [N, D] with the D of each."""
    found = {}
    for name, width in widths.items():
        if name not in given:
            wanted = f"the endpoint {name!r}" if name else "one array without an endpoint"
            got = ", ".join(repr(other) if other else "one array" for other in given)
            raise UserError(f"expected features of {wanted}, got {got}")
        found[name] = given[name]
        if found[name].ndim != 2 or found[name].shape[1] != width:
            raise UserError(f"expected features [N, {width}], got {list(found[name].shape)}")
    return found


def _one_each(values: Sequence[Any] | np.ndarray, what: str) -> np.ndarray:
    """Returns labels or groups as an array [N], which can be sorted and has no gaps."""
    found = np.asarray(values)
    if found.ndim != 1:
        hint = "; labels.argmax(axis=1) makes them of one-hot labels" if found.ndim == 2 else ""
        raise UserError(
            f"expected a list with one {what} for each row, got {type(values).__name__} "
            f"{list(found.shape)}{hint}"
        )
    cells = found.tolist()
    for row, cell in enumerate(cells):
        if cell is None or cell != cell:
            raise UserError(f"row {row} has no {what}, but {cell}; give it one, or leave it out")
    if found.dtype == object and len(kinds := {type(cell).__name__ for cell in cells}) > 1:
        raise UserError(f"expected {what}s of one type, got {', '.join(sorted(kinds))}")
    return found


def _solver(named: str | Solver) -> Solver:
    if isinstance(named, Solver):
        return named
    if named not in SOLVERS:
        raise UserError(f"no solver is called {named!r}{nearest(named, SOLVERS)}")
    return SOLVERS[named]()
