"""Standardised features in their principal axes: the coordinates in which an L2 penalty is simple.

Let Z [N, D] be the standardised features and Z = U diag(s) A^T their thin singular value
decomposition, of rank r <= min(N, D). A linear head enters a loss through Z K only, and a penalty
|K|^2 makes every part of K outside the span of A zero; so K = A w with |K| = |w|, and the problem
in the r coordinates Z A is exactly the original one. There the features' second moment is
diagonal: s^2 / N.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from threadpoolctl import ThreadpoolController

from tl.errors import UserError
from tl.probes.heads import Linear

_CHUNK_ELEMENTS = 1 << 24  # 128 MiB of float64: the working memory beside the features


@dataclass(frozen=True)
class PrincipalAxes:
    """A basis of the standardised features.

    Attributes:
      mean: float64 [D], of the fitted rows.
      scale: float64 [D], standard deviation of the fitted rows; 1 for a constant feature.
      axes: float64 [D, r], orthonormal columns.
      variance: float64 [r], mean square of each coordinate over the fitted rows.
    """

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    axes: Float[np.ndarray, "d r"]
    variance: Float[np.ndarray, " r"]

    def coordinates(self, x: Float[np.ndarray, "n d"], out: Float[np.ndarray, "n r"]) -> None:
        """Writes the coordinates of raw features [N, D] into `out` [N, r], float32."""
        axes = self.axes.astype(np.float32)
        for rows in _chunks(*x.shape):
            standard = (x[rows] - self.mean) / self.scale
            np.matmul(standard.astype(np.float32), axes, out=out[rows])

    def correlation(
        self, x: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n c"]
    ) -> Float[np.ndarray, "r c"]:
        """Returns the mean over rows of coordinate times target, float64."""
        total = np.zeros((x.shape[1], targets.shape[1]))
        for rows in _chunks(*x.shape):
            total += ((x[rows] - self.mean) / self.scale).T @ targets[rows]
        return self.axes.T @ total / len(x)

    def head(self, weights: Float[np.ndarray, "r c"], bias: Float[np.ndarray, " c"]) -> Linear:
        """Returns the head on raw features that equals weights and bias on coordinates."""
        kernel = ((self.axes @ weights) / self.scale[:, None]).astype(np.float32)
        bias = bias - self.mean @ kernel  # of the rounded kernel: its error vanishes at the mean
        return Linear(kernel, bias.astype(np.float32))


def principal_axes(x: Float[np.ndarray, "n d"]) -> PrincipalAxes:
    """Standardises and decomposes features by the eigenvectors of their smaller Gram matrix.

    Everything is float64, in chunks. Squaring the condition number costs nothing that a penalty
    would not hide: what is dropped has a variance below max(N, D) roundings of the largest.

    Args:
      x: float [N, D], finite; N, D >= 1.

    Raises:
      UserError: a feature is NaN or infinite.
    """
    n, d = x.shape
    mean, scale = _standardisation(x)
    if d <= n:
        gram = np.zeros((d, d))
        for rows in _chunks(n, d):
            standard = (x[rows] - mean) / scale
            gram += standard.T @ standard
    else:
        gram = np.zeros((n, n))
        for columns in _chunks(d, n):
            standard = (x[:, columns] - mean[columns]) / scale[columns]
            gram += standard @ standard.T
    with _blas().limit(limits=1):
        squares, vectors = np.linalg.eigh(gram)
    kept = squares > squares[-1] * max(n, d) * np.finfo(np.float64).eps
    squares, vectors = squares[kept], vectors[:, kept]
    if d <= n:
        return PrincipalAxes(mean, scale, vectors, squares / n)
    vectors /= np.sqrt(squares)
    axes = np.empty((d, len(squares)))
    for columns in _chunks(d, n):
        standard = (x[:, columns] - mean[columns]) / scale[columns]
        axes[columns] = standard.T @ vectors
    return PrincipalAxes(mean, scale, axes, squares / n)


@functools.cache
def _blas() -> ThreadpoolController:
    """Returns the handle on BLAS' threads.

    Several gain eigh nothing at these sizes (800 x 800: 0.16 s with two, 0.13 s with one), and
    where another process has their core they wait for each other: 1.5 s.
    """
    return ThreadpoolController().select(user_api="blas")


def _standardisation(
    x: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    n, d = x.shape
    mean = x.mean(axis=0, dtype=np.float64)
    square = np.zeros(d)
    with np.errstate(invalid="ignore"):  # infinity less infinity, which is refused below
        for rows in _chunks(n, d):
            square += np.sum((x[rows] - mean) ** 2, axis=0)
    bad = ~np.isfinite(square)
    if bad.any():
        raise UserError(
            f"expected finite features, but {bad.sum()} of {d} columns hold NaN or infinity, the "
            f"first is column {int(np.argmax(bad))}; extract them with `extract.dtype=float32`"
        )
    # A constant column's deviations are rounding errors, which must not be blown up to unit scale.
    constant = np.max(x, axis=0) == np.min(x, axis=0)
    return mean, np.where(constant, 1.0, np.sqrt(square / n))


def _chunks(length: int, width: int) -> Iterator[slice]:
    step = max(1, _CHUNK_ELEMENTS // width)
    return (slice(start, start + step) for start in range(0, length, step))
