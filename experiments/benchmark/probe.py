"""Seconds of a linear probe: one strength and the whole grid, ours against scikit-learn's.

Both minimise the same objective (`tl.probes.logistic`), and each row says how far above the better
of the two either ends, so that nobody is the faster for having stopped early.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmark import contest, rows
from experiments.benchmark.contest import Contestant, Outcome
from experiments.benchmark.options import Options

ROUNDS = 3
LARGEST_GRID = 10_000_000  # numbers of the features; above, scikit-learn's grid takes many minutes
MAX_ITERATIONS = 1000
# Of problems of several sizes: one iteration each, which is one evaluation or two.
STEPS = tuple(float(l2) for l2 in np.logspace(1, -3, 12))
BLOCK = 8192  # rows that are made at a time
INFORMATIVE = 10  # components that tell classes apart

# Strength to kernel [D, C] and bias [C], of raw features.
Heads = Mapping[float, tuple[np.ndarray, np.ndarray]]


class _Case(NamedTuple):
    """What is fitted: its name, (N, D, C), strengths, and when a fit ends."""

    name: str
    shape: tuple[int, int, int]
    l2s: tuple[float, ...]
    tolerance: float
    max_iterations: int = MAX_ITERATIONS


def measure(options: Options, limits: Mapping[str, float], log: contest.Log) -> list[rows.Row]:
    """Returns a row for one strength, and as asked for the whole grid and for doubled sizes."""
    shape = options.probe_rows, options.probe_features, options.probe_classes
    settings = options.train_config.probe
    one = (options.probe_strength,)
    cases = [_Case("one strength", shape, one, settings.tolerance)]
    if options.probe_grid:
        grid = tuple(settings.l2)
        cases.append(_Case(f"{len(grid)} strengths", shape, grid, settings.search_tolerance))
    if options.probe_doublings:
        cases += _doubled(shape, options.probe_doublings)
    found = []
    for case, size, l2s, tolerance, max_iterations in cases:
        fit = (size, l2s, tolerance, max_iterations)
        contestants = [Contestant("ours", ours, fit)]
        small = len(l2s) == 1 or size[0] * size[1] <= LARGEST_GRID
        if "sklearn" in options.peers and small and max_iterations == MAX_ITERATIONS:
            contestants.append(Contestant("sklearn", sklearn_fit, (size, l2s), ("sklearn",)))
        outcomes = contest.run(contestants, rounds=min(ROUNDS, options.rounds), seconds=0, log=log)
        excess = _excess(outcomes, *problem(*size)) if len(contestants) > 1 else {}
        row = rows.make(
            "probe", "s", outcomes, case=case, size="x".join(map(str, size)), excess=excess
        )
        found.append(row)
    for row in found:
        told = [f"{name} {value:.1e}" for name, value in row["excess"].items()]
        if told:
            log(f"probe, {row['case']}: furthest above the better objective: {', '.join(told)}")
    if options.probe_grid and (single := found[0]["ours"]) and (grid := found[1]["ours"]):
        found[1]["single_fits"] = grid / single
        log(f"probe: the grid takes as long as {grid / single:.1f} single fits")
    return found


def _doubled(shape: tuple[int, int, int], doublings: int) -> list[_Case]:
    """Returns cases in which rows, features or classes alone are doubled, none to several times."""
    cases = []
    for axis, name in enumerate(("rows", "features", "classes")):
        for times in (1 << i for i in range(doublings + 1)):
            n, d, c = (size * times if i == axis else size for i, size in enumerate(shape))
            cases.append(_Case(f"{times} x {name}", (n, d, c), STEPS, 0.0, 1))
    return cases


def problem(num_rows: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns features as of a network, float32 [N, D], and labels, int32 [N].

    Rectified mixtures of components whose variance falls as 1 / k, of which the first tell the
    classes apart: non-negative, correlated, and about as hard as CIFAR-10's pooled features.

    Args:
      num_rows: N.
      width: D.
      classes: C; every one has rows.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(num_rows, dtype=np.int32) % classes
    scales = np.arange(1, width + 1, dtype=np.float32) ** -0.5
    centres = rng.standard_normal((classes, width), np.float32)
    centres[:, INFORMATIVE:] = 0
    mixing = rng.standard_normal((width, width), np.float32) / np.sqrt(np.sum(scales**2))
    x = np.empty((num_rows, width), np.float32)
    for start in range(0, num_rows, BLOCK):  # beside x, a block's working memory is small
        block = slice(start, start + BLOCK)
        noise = rng.standard_normal(x[block].shape, np.float32)
        np.maximum((noise + centres[labels[block]]) * scales @ mixing, 0, out=x[block])
    return x, labels


def ours(
    shape: tuple[int, int, int],
    l2s: tuple[float, ...],
    tolerance: float,
    max_iterations: int = MAX_ITERATIONS,
) -> Callable:
    """Ours: the path over all strengths, as the protocol follows it."""
    from tl.probes.logistic import fit_path

    x, labels = problem(*shape)

    def work() -> Heads:
        path = fit_path(
            x, labels, shape[2], l2s, max_iterations=max_iterations, tolerance=tolerance
        )
        return {fit.setting["l2"]: (fit.head.kernel, fit.head.bias) for fit in path}

    work()
    return work


def sklearn_fit(shape: tuple[int, int, int], l2s: tuple[float, ...]) -> Callable:
    """scikit-learn's logistic regression, each strength started from the one before."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, labels = problem(*shape)

    def work() -> Heads:
        scaler = StandardScaler()
        z = scaler.fit_transform(x)
        model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
        heads = {}
        for l2 in sorted(l2s, reverse=True):
            model.set_params(C=1 / (len(z) * l2)).fit(z, labels)
            kernel = model.coef_.T / scaler.scale_[:, None]
            heads[l2] = kernel, model.intercept_ - scaler.mean_ @ kernel
        return heads

    return work


def objective(
    x: np.ndarray, deviation: np.ndarray, labels: np.ndarray, head: tuple[Any, Any], l2: float
) -> float:
    """Returns mean cross-entropy + l2 / 2 |kernel of standardised features|^2, in float64.

    Args:
      x: raw features, float64 [N, D].
      deviation: standard deviation of each, float64 [D].
      labels: int [N].
      head: kernel [D, C] and bias [C], of raw features.
      l2: strength.
    """
    kernel, bias = (np.asarray(part, np.float64) for part in head)
    logits = x @ kernel + bias
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(x)), labels]
    loss = np.mean(np.log(np.sum(np.exp(logits), axis=1)) - own)
    return float(loss + l2 / 2 * np.sum((kernel * deviation[:, None]) ** 2))


def _excess(outcomes: Mapping[str, Outcome], x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns how far above the better objective each is, relative, at its worst strength."""
    x = x.astype(np.float64)
    deviation = x.std(axis=0)
    values = {
        name: {l2: objective(x, deviation, labels, head, l2) for l2, head in outcome.value.items()}
        for name, outcome in outcomes.items()
        if not outcome.error
    }
    best = {
        l2: min(of_name[l2] for of_name in values.values())
        for l2 in next(iter(values.values()), {})
    }
    return {
        name: max(value / best[l2] - 1 for l2, value in of_name.items())
        for name, of_name in values.items()
    }
