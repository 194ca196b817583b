"""Scores of how well features suit labels, without fitting a classifier: LogME and H-score.

Both need one decomposition of the features and no hyper-parameter, so they take a fraction of a
probe's time; they rank endpoints, and their values mean nothing across data sets.
"""

import warnings

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.covariance import ledoit_wolf_shrinkage

from tl.errors import UserError

MAX_ITERATIONS = 200
TOLERANCE = 1e-9  # of the ratio of the two precisions, relative, between iterations
_TINY = 1e-12


def logme(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """Returns the logarithm of maximum evidence per row: higher is better.

    Each class's 0/1 labels y are modelled as y = F w + noise, w ~ N(0, I / a), noise ~ N(0, I / b).
    The evidence p(y | F, a, b) is maximised over a and b by MacKay's fixed point; the score is the
    mean over classes of its logarithm, divided by N. You et al. 2021 (arXiv:2102.11005, algorithm
    1). As there, features are taken as they are, so the score is invariant to their rotation.

    Args:
      features: float [N, D], finite; computed with in float64.
      labels: int [N]; at least two different ones.

    Raises:
      UserError: fewer than two classes, or features that are not finite.
    """
    features, members = _checked(features, labels)
    n = len(features)
    left, squares = _decomposed(features)
    targets = members.astype(np.float64)
    along = (left.T @ targets) ** 2  # [r, C]: each label's energy along each axis
    outside = np.maximum(np.sum(targets**2, axis=0) - along.sum(axis=0), 0.0)
    squares = squares[:, None]
    a, b = np.ones(targets.shape[1]), np.ones(targets.shape[1])
    for _ in range(MAX_ITERATIONS):
        before = a / b
        effective, weights, residual = _moments(squares, along, outside, a, b)
        a = effective / np.maximum(weights, _TINY)
        b = (n - effective) / np.maximum(residual, _TINY)
        if np.all(np.abs(a / b - before) <= TOLERANCE * before):
            break
    _, weights, residual = _moments(squares, along, outside, a, b)
    # log |a I + b F^T F| over all D axes, less D log a: axes without features cancel.
    determinant = np.sum(np.log1p(squares * b / a), axis=0)
    evidence = n * np.log(b / (2 * np.pi)) - b * residual - a * weights - determinant
    return float(np.mean(evidence / (2 * n)))


def h_score(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """Returns tr(cov(f)^-1 cov(E[f | label])), in [0, C - 1]: higher is better.

    Bao et al. 2019 (An information-theoretic approach to transferability), with the covariance
    shrunk after Ledoit and Wolf, and the second one by the same factor, as Ibrahim et al. 2022
    (arXiv:2110.06893) do: without it the score of few rows is C - 1 whatever the features.

    Args:
      features: float [N, D], finite; computed with in float64.
      labels: int [N]; at least two different ones.

    Raises:
      UserError: as `logme`.
    """
    features, members = _checked(features, labels)
    n, d = features.shape
    features = features - features.mean(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a single feature, whose shrinkage is 0
        shrinkage = float(ledoit_wolf_shrinkage(features, assume_centered=True))
    left, squares = _decomposed(features)
    if not len(squares):
        return 0.0
    # Class means are combinations of rows, so everything happens in the span of the rows.
    means = np.sqrt(squares)[:, None] * (left.T @ members) / members.sum(axis=0)  # [r, C]
    between = np.sum(means**2 * members.mean(axis=0), axis=1)
    within = (1 - shrinkage) * squares / n + shrinkage * squares.sum() / (n * d)
    return float(np.sum((1 - shrinkage) * between / within))


def _moments(
    squares: Float[np.ndarray, "r 1"],
    along: Float[np.ndarray, "r c"],
    outside: Float[np.ndarray, " c"],
    a: Float[np.ndarray, " c"],
    b: Float[np.ndarray, " c"],
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Returns effective number of parameters, |m|^2 and |F m - y|^2 of the posterior mean m."""
    gain = b * squares / (a + b * squares)  # [r, C]
    effective = gain.sum(axis=0)
    weights = np.sum(gain**2 * along / squares, axis=0)
    residual = np.sum((1 - gain) ** 2 * along, axis=0) + outside
    return effective, weights, residual


def _checked(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, "n c"]]:
    """Returns features as float64 and membership bool [N, C] of the classes that have a row."""
    features = np.asarray(features, np.float64)
    present = np.unique(labels)
    if len(present) < 2:
        raise UserError(f"expected rows of at least two classes, got only {present.tolist()}")
    if not np.isfinite(features).all():
        raise UserError("expected finite features; extract them with `extract.dtype=float32`")
    return features, labels[:, None] == present


def _decomposed(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "n r"], Float[np.ndarray, " r"]]:
    """Returns left singular vectors [N, r] and squared singular values [r] of float64 [N, D]."""
    n, d = features.shape
    if n <= d:
        squares, left = np.linalg.eigh(features @ features.T)
    else:
        squares, right = np.linalg.eigh(features.T @ features)
    kept = squares > squares[-1] * max(n, d) * np.finfo(np.float64).eps
    squares = squares[kept]
    if n <= d:
        return left[:, kept], squares
    return features @ (right[:, kept] / np.sqrt(squares)), squares
