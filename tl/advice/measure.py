"""What a sample tells of each endpoint: probes at three sizes, neighbours, LogME, H-score."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tl import metrics
from tl.advice.sample import Sample, stratified_order
from tl.probes import solvers
from tl.probes.transferability import h_score, logme

FRACTIONS = (0.25, 0.5, 1.0)  # of a fold's training rows
SUBSETS = 2  # of each size below the largest
L2S = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
SOLVER = solvers.Logistic(L2S, max_iterations=200, search_tolerance=1e-5)
KNN = solvers.Knn((5,), (0.07,))


@dataclasses.dataclass(frozen=True)
class Measured:
    """One endpoint.

    Attributes:
      endpoint: its name; 'a+b' is a concatenation.
      width: features D.
      logme, h_score: see `tl.probes.transferability`.
      knn_top1: of the 5 nearest neighbours by cosine, on held-out rows.
      l2: strength that the largest probes liked best, the same for all folds.
      correct: number of training rows to float [subsets, N], 1 where the probe has a held-out row
        right; rows in the same order for every endpoint and size.
    """

    endpoint: str
    width: int
    logme: float
    h_score: float
    knn_top1: float
    l2: float
    correct: Mapping[int, np.ndarray] = dataclasses.field(repr=False)

    @property
    def top1(self) -> float:
        """Of the largest probes, on held-out rows."""
        return float(self.right.mean())

    @property
    def right(self) -> np.ndarray:
        """float [N]: which held-out rows the largest probes have right."""
        return self.correct[max(self.correct)].mean(axis=0)

    def as_dict(self) -> dict:
        """As JSON, accuracy under the number of training rows."""
        row = {field: getattr(self, field) for field in _SCALARS}
        return row | {"top1": {str(size): float(c.mean()) for size, c in self.correct.items()}}


_SCALARS = ("endpoint", "width", "logme", "h_score", "knn_top1", "l2")


def measure(sample: Sample, endpoint: str, num_classes: int) -> Measured:
    """Measures one endpoint, or several joined by '+'."""
    x = np.concatenate([sample.features[name] for name in endpoint.split("+")], axis=1)
    correct, l2 = {}, 0.0
    for size, subsets in _subsets(sample).items():
        correct[size], l2 = _probe(x, sample, subsets, num_classes)
    return Measured(
        endpoint=endpoint,
        width=x.shape[1],
        logme=logme(x, sample.labels),
        h_score=h_score(x, sample.labels),
        knn_top1=_neighbours(x, sample, num_classes),
        l2=l2,
        correct=correct,
    )


def around(endpoints: Sequence[str], best: str) -> str:
    """Returns the concatenation of an endpoint and its neighbours, three where there are as many.

    >>> around(("stem", "stage1", "stage2", "pooled"), "pooled")
    'stage1+stage2+pooled'
    """
    at = min(endpoints.index(best), len(endpoints) - 2)
    return "+".join(endpoints[max(0, at - 1) : at + 2])


def paired_error(a: Measured, b: Measured) -> float:
    """Returns the standard error of the difference between two endpoints' accuracies."""
    difference = a.right - b.right
    return float(difference.std() / np.sqrt(len(difference)))


def head_entropy(logits: np.ndarray) -> float:
    """Returns the mean entropy of softmax(logits [N, C]) as a share of log C, in [0, 1]."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-np.sum(np.exp(logs) * logs, axis=1).mean() / np.log(z.shape[1]))


def _subsets(sample: Sample) -> dict[int, list[list[np.ndarray]]]:
    """Returns size to subsets, each the training rows of every fold; the size is their mean."""
    training = [np.flatnonzero(~held) for held in sample.held]
    subsets: dict[int, list[list[np.ndarray]]] = {}
    for fraction in FRACTIONS:
        chosen = []
        for seed in range(SUBSETS if fraction < 1 else 1):
            rows_of_folds = []
            for rows in training:
                order = rows[stratified_order(sample.labels[rows], seed)]
                classes = len(np.unique(sample.labels[rows]))
                count = max(classes, round(fraction * len(rows)))  # a row of each at least
                rows_of_folds.append(order[:count])
            chosen.append(rows_of_folds)
        subsets[round(np.mean([len(rows) for rows in chosen[0]]))] = chosen
    return subsets


def _probe(x, sample: Sample, subsets, num_classes: int) -> tuple[np.ndarray, float]:
    """Returns correctness [subsets, N] of one strength for all, the best over them, and it."""
    hits: dict[float, list[np.ndarray]] = {l2: [] for l2 in L2S}
    losses = dict.fromkeys(L2S, 0.0)
    for rows_of_folds in subsets:
        parts: dict[float, list[np.ndarray]] = {l2: [] for l2 in L2S}
        for rows, held in zip(rows_of_folds, sample.held, strict=True):
            train = solvers.Rows(x[rows], sample.labels[rows])
            for fit, logits in SOLVER.search(train, x[held], num_classes):
                labels = sample.labels[held]
                parts[fit.setting["l2"]].append(metrics.correct(logits, labels).astype(float))
                losses[fit.setting["l2"]] += float(metrics.cross_entropy(logits, labels)[0])
        for l2, chunks in parts.items():
            hits[l2].append(np.concatenate(chunks))
    correct = {l2: np.stack(rows) for l2, rows in hits.items()}
    # As in `tl.probes.protocol`: the lowest loss of those at most one example short of the best.
    enough = max(c.sum() for c in correct.values()) - len(subsets) - 1e-9
    l2 = min((l2 for l2 in L2S if correct[l2].sum() >= enough), key=losses.__getitem__)
    return correct[l2], l2


def _neighbours(x, sample: Sample, num_classes: int) -> float:
    hits = []
    for held in sample.held:
        train = solvers.Rows(x[~held], sample.labels[~held])
        ((_, logits),) = KNN.search(train, x[held], num_classes)
        hits.append(metrics.correct(logits, sample.labels[held]))
    return float(np.concatenate(hits).mean())
