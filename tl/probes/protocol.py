"""Which head, how strong, how good: chosen on held-out rows, refitted on all, tested once.

What is held out to choose on is called val: a part of its own, or in cross-validation the rows
that each fold holds out in turn. A setting is then fitted once for each fold, and its val top-1
and loss are those of all held-out rows together.

Between the settings of one solver on one endpoint, the lowest val cross-entropy wins among those
whose val top-1 is the highest, or, for logistic regression, at most one example short of it. On
small val sets many settings are that close and the loss tells them apart better than one example
does. Test accuracy after the refit, against breaking exact ties only, mean of four endpoints (raw
pixels, stages 3 and 5 of EfficientNet-Lite0, pooled) on digits: +0.16 points with 5 examples a
class (val of 10 rows, 16 seeds), +0.42 with 10 and +0.31 with 30 (8 seeds). Choosing by loss alone
gains 0.03 points less.

Between endpoints and solvers the highest val top-1 wins, then the lowest val cross-entropy.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tl import hosts
from tl.data.splits import Fold, chosen_on
from tl.probes.heads import Fit, shared_logits
from tl.probes.held_out import HeldOut, Score
from tl.probes.rows import Features, Rows, kept, take
from tl.probes.solvers import Solver
from tl.results import metrics

_LEAST_WORSE = 3  # settings in a row, of a coarse grid, after which val may have turned


@dataclass(frozen=True)
class Choice:
    """One endpoint's best candidate on val.

    Attributes:
      endpoint: whose features.
      solver: name.
      setting: hyper-parameters, such as {'l2': 1e-3}.
      val_top1: fraction.
      val_loss: mean cross-entropy of softmax(logits), nats.
      fits: the head, once for each fold, fitted without the rows that this fold holds out.
    """

    endpoint: str
    solver: str
    setting: Mapping[str, float]
    val_top1: float
    val_loss: float
    fits: tuple[Fit, ...] = field(repr=False)

    @property
    def fit(self) -> Fit:
        """The only one of `fits`."""
        (fit,) = self.fits
        return fit

    def as_dict(self) -> dict[str, Any]:
        """Returns the candidate as one flat row; iterations are summed over the folds."""
        row = {"endpoint": self.endpoint, "solver": self.solver, **self.setting}
        row |= {"val_top1": self.val_top1, "val_loss": self.val_loss}
        iterations = [fit.iterations for fit in self.fits if fit.iterations is not None]
        return row | {
            "iterations": sum(iterations) if iterations else None,
            "converged": all(fit.converged for fit in self.fits),
        }


@dataclass(frozen=True)
class Tested(Choice):
    """A choice whose only `fit` was made on all rows, see `run`, and tested.

    Attributes:
      test: scores of `fit`.
      warnings: what to know before trusting these scores.
      val_logits: float32 [M, C] on val, fold after fold, of heads that were not fitted on these
        rows; of the selected only.
    """

    test: Score
    warnings: tuple[str, ...] = ()
    val_logits: Float[np.ndarray, "m c"] | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Returns the candidate as one flat row, the test scores under 'test'."""
        return super().as_dict() | {"test": self.test.as_dict()}


@dataclass(frozen=True)
class Result:
    """What a run of the protocol found.

    Attributes:
      selected: the best candidate of all on val; alone it has its logits.
      choices: the best of each endpoint, in the order asked.
      val_count: val rows.
      grid: one row a candidate: endpoint, solver, its setting, val_top1, val_loss, iterations,
        converged.
      folds: how often rows were held out to choose on; above 1 in cross-validation.
      ended: one row a search that ended early, val having turned: endpoint, solver, its last
        setting, and the number of settings that it left `untried`.
    """

    selected: Tested
    choices: Sequence[Tested]
    val_count: int
    grid: Sequence[Mapping[str, Any]]
    folds: int = 1
    ended: Sequence[Mapping[str, Any]] = ()

    @property
    def logits(self) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "m c"]]:
        """Those of the selected head, float32: on test [N, C], and on val [M, C]."""
        test, val = self.selected.test.logits, self.selected.val_logits
        assert test is not None and val is not None  # which `run` keeps of the selected one
        return test, val

    @property
    def warnings(self) -> list[str]:
        """The warnings of all choices."""
        return [warning for choice in self.choices for warning in choice.warnings]

    @property
    def val_counts(self) -> dict[str, int]:
        """The `count` of val rows and, in cross-validation, the number of `folds`."""
        return {"count": self.val_count} | ({"folds": self.folds} if self.folds > 1 else {})

    def as_dict(self) -> dict[str, Any]:
        """The keys selected, val, test, endpoints, grid, ended, warnings of `result.json`."""
        chosen = self.selected
        return {
            "selected": {"endpoint": chosen.endpoint, "solver": chosen.solver, **chosen.setting},
            "val": {"top1": chosen.val_top1, **self.val_counts},
            "test": chosen.test.as_dict(),
            "endpoints": [choice.as_dict() for choice in self.choices],
            "grid": list(self.grid),
            "ended": list(self.ended),
            "warnings": self.warnings,
        }


def run(
    features: Callable[[str], Features],
    labels: Int[np.ndarray, " n"],
    folds: Sequence[Fold],
    endpoints: Sequence[str],
    solvers: Sequence[Solver],
    held_out: HeldOut,
    *,
    num_classes: int,
    test_every_endpoint: bool = False,
) -> Result:
    """Chooses on val, refits on all rows, tests once; the first, most regular, of equals wins.

    With one fold, a solver that keeps its fit (`Solver.keeps_fit`) is not refitted. With several
    it has no one fit to keep, so it is.

    Args:
      features: endpoint -> float [N, D], in memory or on disk; asked for one endpoint at a time.
      labels: int [N], 0..num_classes-1.
      folds: at least one; every row is fitted or chosen on.
      endpoints: names that `features` and `held_out` understand; at least one.
      solvers: at least one.
      held_out: the test rows, not scored before.
      num_classes: C.
      test_every_endpoint: refits and tests the best of each endpoint, for a figure, not only
        the best of all.
    """
    grid: list[dict] = []
    ended: list[dict] = []
    best: list[tuple[Solver, Choice]] = []
    for endpoint in endpoints:
        rows = Rows(features(endpoint), labels)
        found = []
        for solver in solvers:
            choice, choices = choose_setting(endpoint, solver, rows, folds, num_classes)
            grid += [choice.as_dict() for choice in choices]
            if untried := solver.untried(last := choices[-1].setting):
                where = {"endpoint": endpoint, "solver": solver.name}
                ended.append({**where, **last, "untried": untried})
            found.append((solver, choice))
        best.append(min(found, key=_rank))
    winner = min(best, key=_rank)
    refitted: list[tuple[Choice, tuple[str, ...], np.ndarray | None]] = []
    for solver, choice in best if test_every_endpoint else [winner]:
        rows = Rows(features(choice.endpoint), labels)
        # After the refit val is no longer unseen.
        val_logits = _val_logits(choice, rows, folds) if choice is winner[1] else None
        keeps = solver.keeps_fit and len(folds) == 1
        fit = choice.fit if keeps else solver.refit(choice.fits[0], rows, num_classes)
        warnings = tuple(_warnings(choice, fit, grid))
        refitted.append((dataclasses.replace(choice, fits=(fit,)), warnings, val_logits))
    heads = {choice.endpoint: choice.fit.head for choice, *_ in refitted}
    scores = held_out.score(heads, selected=winner[1].endpoint)
    tested = [
        Tested(**vars(choice), test=scores[choice.endpoint], warnings=told, val_logits=val_logits)
        for choice, told, val_logits in refitted
    ]
    (selected,) = [choice for choice in tested if choice.endpoint == winner[1].endpoint]
    return Result(selected, tested, len(chosen_on(folds, len(labels))), grid, len(folds), ended)


def choose_setting(
    endpoint: str, solver: Solver, rows: Rows, folds: Sequence[Fold], num_classes: int
) -> tuple[Choice, Sequence[Choice]]:
    """Returns the setting of one solver that is best on val, and all that were tried.

    Args:
      endpoint: whose features these are.
      solver: gives the settings.
      rows: features [N, D] and labels.
      folds: which rows to fit and which to choose on, at least one of these in all.
      num_classes: C.
    """
    count = len(chosen_on(folds, len(rows.labels)))
    found = _search(endpoint, solver, rows, folds, num_classes, count)
    choices = list(_until_turned(solver, found) if len(folds) == 1 else found)
    return _best_setting(choices, solver.val_slack / count), choices


def _search(
    endpoint: str, solver: Solver, rows: Rows, folds: Sequence[Fold], num_classes: int, count: int
) -> Iterator[Choice]:
    of_folds = [_search_fold(solver, rows, fold, num_classes) for fold in folds]
    if len(folds) > 1:  # one after the other, for each has its rows on the devices: all settings
        of_folds = [iter(list(found)) for found in of_folds]
    for of_setting in zip(*of_folds, strict=True):
        fits, hits, losses = zip(*of_setting, strict=True)
        # Divided in float64: rounded to float32, a top-1 could miss `_best_setting`'s slack.
        top1, loss = sum(hits) / count, sum(losses) / count
        yield Choice(endpoint, solver.name, fits[0].setting, top1, loss, fits)


def _until_turned(solver: Solver, choices: Iterator[Choice]) -> Iterator[Choice]:
    """Yields choices until val has turned for good: its loss and its top-1 are below their best."""
    loss, top1, worse = np.inf, 0.0, 0
    improved: Mapping[str, float] = {}
    for choice in choices:
        yield choice
        if choice.val_loss < loss or choice.val_top1 >= top1:
            improved, worse = choice.setting, 0
        else:
            worse += 1
            if worse >= _LEAST_WORSE and solver.gives_up(choice.setting, improved):
                return
        loss, top1 = min(loss, choice.val_loss), max(top1, choice.val_top1)


def _search_fold(
    solver: Solver, rows: Rows, fold: Fold, num_classes: int
) -> Iterator[tuple[Fit, float, float]]:
    """Yields each setting's fit with the hits and the summed loss of the rows to choose on."""
    val = rows.take(fold.choose)
    val = val.take(hosts.part_of_process(len(val.labels)))
    features = kept(val.features)
    for fit, chunks in solver.search(rows.take(fold.fit), features, num_classes):
        sums, done = np.zeros(2), 0
        for logits in chunks:
            labels = val.labels[done : done + len(logits)]
            sums += metrics.top1(logits, labels)[0], metrics.cross_entropy(logits, labels)[0]
            done += len(logits)
        hits, loss = hosts.total(sums)
        yield fit, float(hits), float(loss)


def _val_logits(choice: Choice, rows: Rows, folds: Sequence[Fold]) -> Float[np.ndarray, "m c"]:
    return np.concatenate(
        [
            shared_logits(fit.head, take(rows.features, fold.choose))
            for fit, fold in zip(choice.fits, folds, strict=True)
        ]
    )


def _best_setting(choices: Sequence[Choice], slack: float) -> Choice:
    top1 = max(choice.val_top1 for choice in choices)
    near = [choice for choice in choices if choice.val_top1 >= top1 - slack - 1e-9]
    return min(near, key=lambda choice: choice.val_loss)


def _rank(pair: tuple[Solver, Choice]) -> tuple[float, float]:
    _, choice = pair
    return -choice.val_top1, choice.val_loss


def _warnings(choice: Choice, fit: Fit, grid: Sequence[Mapping[str, Any]]) -> list[str]:
    where = f"{choice.endpoint}, {choice.solver}"
    warnings = []
    for name in {"l2", "k"} & set(choice.setting):
        val_top1: dict[float, float] = {}
        for row in grid:
            if (row["endpoint"], row["solver"]) == (choice.endpoint, choice.solver):
                val_top1[row[name]] = max(row["val_top1"], val_top1.get(row[name], 0.0))
        tried, value = sorted(val_top1), choice.setting[name]
        # An edge no better than the inside, as on few val rows, is no sign of a narrow grid.
        inside = max((val_top1[v] for v in tried[1:-1]), default=-1.0)
        edges = {tried[0], tried[-1]} - ({1} if name == "k" else set())  # no k is below 1
        if len(tried) > 1 and value in edges and val_top1[value] > inside:
            warnings.append(
                f"{where}: the best {name} = {value:g} lies at the edge of the grid"
                f" {tried[0]:g}..{tried[-1]:g}: widen it"
            )
    if not fit.converged:
        warnings.append(
            f"{where}: the fit for {dict(choice.setting)} stopped after {fit.iterations}"
            " iterations without converging: allow more"
        )
    return warnings
