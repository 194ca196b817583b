"""Measures each endpoint on a sample: probes of three sizes, neighbours, LogME and H-score."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax

from tl.advice.rule import best_probe
from tl.advice.sample import Sample, stratified_order
from tl.models.backbone import FINAL
from tl.probes import solvers
from tl.probes.rows import Rows
from tl.probes.transferability import h_score, logme
from tl.results import metrics

FRACTIONS = (0.25, 0.5, 1.0)  # of a fold's training rows
SUBSETS = 2  # of each size below the largest
PARTS = 10  # of the held-out rows, see `unseen`
L2S = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
SOLVER = solvers.Logistic(L2S, max_iterations=200, search_tolerance=1e-5)
KNN = solvers.Knn((5,), (0.07,))

Subset = list[Int[np.ndarray, " _"]]  # the training rows of every fold


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured on one endpoint.

    Attributes:
      endpoint: its name; 'a+b' is a concatenation.
      width: number of features D.
      logme, h_score: see `tl.probes.transferability`.
      knn_top1: on held-out rows, by weighted votes of the 5 nearest neighbours by cosine.
      l2: the best strength of the largest probes, the same for all folds.
      correct: number of training rows to float [subsets, N], 1 where the probe is right on a
        held-out row; the rows have the same order for every endpoint and size.
      tried: all strengths of the largest probes.
    """

    endpoint: str
    width: int
    logme: float
    h_score: float
    knn_top1: float
    l2: float
    correct: Mapping[int, Float[np.ndarray, "_ n"]] = dataclasses.field(repr=False)
    tried: "Tried" = dataclasses.field(repr=False)

    @property
    def top1(self) -> float:
        """Accuracy of the largest probes on held-out rows."""
        return float(self.right.mean())

    @property
    def right(self) -> Float[np.ndarray, " n"]:
        """On which held-out rows the largest probes are right, float [N]."""
        return self.correct[max(self.correct)].mean(axis=0)

    def as_dict(self) -> dict[str, Any]:
        """Returns the numbers as JSON; `top1` has accuracies by number of training rows."""
        row = {field: getattr(self, field) for field in _SCALARS}
        return row | {"top1": {str(size): float(c.mean()) for size, c in self.correct.items()}}


_SCALARS = ("endpoint", "width", "logme", "h_score", "knn_top1", "l2")


class Tried(NamedTuple):
    """Probes of every strength in L2S, on subsets of one size.

    Attributes:
      correct: float [L, subsets, N], 1 where the probe is right on a held-out row.
      losses: float [L, subsets, N], the cross-entropy of that row, in nats.
    """

    correct: Float[np.ndarray, "strengths subsets n"]
    losses: Float[np.ndarray, "strengths subsets n"]

    def best(self, rows: Bool[np.ndarray, " n"] | slice = slice(None)) -> int:
        """Returns the number of the strength that is best on some of the held-out rows.

        As in `tl.probes.protocol`, it is the one with the lowest loss among those that have at most
        one example less right than the best.
        """
        correct = self.correct[..., rows].sum(axis=(1, 2))
        enough = correct >= correct.max() - self.correct.shape[1] - 1e-9
        return int(np.argmin(np.where(enough, self.losses[..., rows].sum(axis=(1, 2)), np.inf)))


def measure(sample: Sample, endpoint: str, num_classes: int) -> Measured:
    """Measures one endpoint.

    Args:
      sample: features of N rows, and the folds of them.
      endpoint: a name in `sample.features`, or several joined by '+'.
      num_classes: number of classes that labels may have.
    """
    x = np.concatenate([sample.features[name] for name in endpoint.split("+")], axis=1)
    tried = {
        size: _probe(x, sample, subsets, num_classes) for size, subsets in _subsets(sample).items()
    }
    largest = tried[max(tried)]
    return Measured(
        endpoint=endpoint,
        width=x.shape[1],
        logme=logme(x, sample.labels),
        h_score=h_score(x, sample.labels),
        knn_top1=_neighbours(x, sample, num_classes),
        l2=L2S[largest.best()],
        correct={size: of.correct[of.best()] for size, of in tried.items()},
        tried=largest,
    )


def around(endpoints: Sequence[str], best: str) -> str:
    """Returns the concatenation of an endpoint and its neighbours, three where there are as many.

    >>> around(("stem", "stage1", "stage2", "pooled"), "pooled")
    'stage1+stage2+pooled'
    """
    at = min(endpoints.index(best), len(endpoints) - 2)
    return "+".join(endpoints[max(0, at - 1) : at + 2])


def choose(
    measured: Sequence[Measured], rows: Bool[np.ndarray, " n"] | slice = slice(None)
) -> tuple[Measured, Float[np.ndarray, " n"]]:
    """Returns the endpoint to probe, and on which of all held-out rows its probe is right.

    Args:
      measured: of the same sample, FINAL among them.
      rows: bool [N], the held-out rows to choose by.
    """
    rights = [row.tried.correct[row.tried.best(rows)].mean(axis=0) for row in measured]

    def rank(i: int) -> tuple[float, bool, int]:
        return rights[i][rows].mean(), measured[i].endpoint == FINAL, -measured[i].width

    best = max(range(len(measured)), key=rank)
    final = [row.endpoint for row in measured].index(FINAL)
    difference = rights[best][rows] - rights[final][rows]
    endpoint = best_probe(measured[best].endpoint, difference.mean(), standard_error(difference))
    chosen = final if endpoint == FINAL else best
    return measured[chosen], rights[chosen]


def unseen(measured: Sequence[Measured]) -> Float[np.ndarray, " n"]:
    """Returns on which held-out rows the probe is right that other held-out rows choose.

    The best of many probes does better on the rows that chose it than it will on new rows. So each
    tenth of the rows is left out in turn, and the other rows choose endpoint and strength for it
    (Varma and Simon 2006, doi 10.1186/1471-2105-7-91).

    Returns:
      float [N].
    """
    count = len(measured[0].right)
    if count == 1:
        return choose(measured)[1]
    part = np.random.default_rng(0).permutation(count) % PARTS
    right = np.empty(count)
    for number in np.unique(part):
        own = part == number
        right[own] = choose(measured, ~own)[1][own]
    return right


def standard_error(values: Float[np.ndarray, " n"]) -> float:
    """Returns the standard error of the mean of values [N]."""
    return float(np.std(values) / np.sqrt(len(values)))


def head_entropy(logits: Float[np.ndarray, "n c"]) -> float:
    """Returns the mean entropy of softmax(logits [N, C]) as a share of log C, in [0, 1]."""
    logs = log_softmax(np.asarray(logits, np.float64), axis=1)
    return float(-np.sum(np.exp(logs) * logs, axis=1).mean() / np.log(logs.shape[1]))


def _subsets(sample: Sample) -> dict[int, list[Subset]]:
    """Returns size to subsets; the size is the mean over folds."""
    training = [np.flatnonzero(~held) for held in sample.held]
    subsets: dict[int, list[Subset]] = {}
    for fraction in FRACTIONS:
        chosen = []
        for seed in range(SUBSETS if fraction < 1 else 1):
            rows_of_folds = []
            for rows in training:
                order = rows[stratified_order(sample.labels[rows], seed)]
                classes = len(np.unique(sample.labels[rows]))
                count = max(classes, round(fraction * len(rows)))  # at least a row of each class
                rows_of_folds.append(order[:count])
            chosen.append(rows_of_folds)
        subsets[round(np.mean([len(rows) for rows in chosen[0]]))] = chosen
    return subsets


def _probe(
    x: Float[np.ndarray, "n d"], sample: Sample, subsets: Sequence[Subset], num_classes: int
) -> Tried:
    """Returns probes of every strength; held-out rows are in the order of the folds."""
    correct, losses = (np.empty((len(L2S), len(subsets), sample.held.sum())) for _ in range(2))
    for subset, rows_of_folds in enumerate(subsets):
        end = 0
        for rows, held in zip(rows_of_folds, sample.held, strict=True):
            start, end = end, end + held.sum()
            train = Rows(x[rows], sample.labels[rows])
            for fit, chunks in SOLVER.search(train, x[held], num_classes):
                logits = np.concatenate(list(chunks))
                at = L2S.index(fit.setting["l2"]), subset, slice(start, end)
                correct[at] = metrics.correct(logits, sample.labels[held])
                own = np.arange(end - start), sample.labels[held]
                losses[at] = -log_softmax(logits, axis=1)[own]
    return Tried(correct, losses)


def _neighbours(x: Float[np.ndarray, "n d"], sample: Sample, num_classes: int) -> float:
    """Returns the accuracy of nearest neighbours on held-out rows."""
    hits = []
    for held in sample.held:
        train = Rows(x[~held], sample.labels[~held])
        ((_, chunks),) = KNN.search(train, x[held], num_classes)
        hits.append(metrics.correct(np.concatenate(list(chunks)), sample.labels[held]))
    return float(np.concatenate(hits).mean())
