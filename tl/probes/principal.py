"""Standardised features in their principal axes: the coordinates in which an L2 penalty is simple.

Let Z [N, D] be the standardised features and Z = U diag(s) A^T their thin singular value
decomposition, of rank r <= min(N, D). A linear head enters a loss through Z K only, and a penalty
|K|^2 makes every part of K outside the span of A zero; so K = A w with |K| = |w|, and the problem
in the r coordinates Z A is exactly the original one. There the features' second moment is
diagonal: s^2 / N.

All that is needed of the rows are sums over them, float64, which one pass collects by chunk; the
processes of a run share the chunks. The sums stay on the hosts: float32 sums would hide the axes of
small variance, which weak penalties use. At 1.28 million rows of 2,048 the products of this pass
are a thousandth of those of a logistic regression's path (1,000 classes, 45 strengths).
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import ThreadpoolController

from tl import hosts
from tl.errors import UserError
from tl.probes.heads import Linear
from tl.probes.rows import Features, chunks

_FIRST_ROWS = 1024  # whose mean is taken off before squaring: large means would cost digits


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

    def coordinates(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"]:
        """Returns the coordinates of some raw features, float32."""
        return ((x - self.mean) / self.scale).astype(np.float32) @ self._axes32

    @functools.cached_property
    def _axes32(self) -> Float[np.ndarray, "d r"]:
        return self.axes.astype(np.float32)

    def head(self, weights: Float[np.ndarray, "r c"], bias: Float[np.ndarray, " c"]) -> Linear:
        """Returns the head on raw features that equals weights and bias on coordinates."""
        kernel = ((self.axes @ weights) / self.scale[:, None]).astype(np.float32)
        bias = bias - self.mean @ kernel  # of the rounded kernel: its error vanishes at the mean
        return Linear(kernel, bias.astype(np.float32))


@dataclass(frozen=True)
class Moments:
    """Sums over rows, from which a basis and a least-squares solution follow.

    Attributes:
      count: N.
      mean: float64 [D].
      scale: float64 [D], standard deviation; 1 for a constant feature.
      gram: float64 [D, D], sum over rows of standardised features times themselves; None where
        N < D, for there the rows' products with each other are fewer.
      class_sums: float64 [C, D], standardised features summed over the rows of each class.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    gram: Float[np.ndarray, "d d"] | None
    class_sums: Float[np.ndarray, "c d"]


def moments(x: Features, labels: Int[np.ndarray, " n"], num_classes: int) -> Moments:
    """Returns the moments of all rows, from one pass that the processes of a run share.

    Args:
      x: float [N, D], finite; N, D >= 1.
      labels: int [N], 0..num_classes-1.
      num_classes: C.

    Raises:
      UserError: a feature is NaN or infinite.
    """
    n, d = x.shape
    shift = x[:_FIRST_ROWS].mean(axis=0, dtype=np.float64)
    squares = np.zeros((d, d)) if d <= n else np.zeros(d)
    sums = np.zeros((num_classes, d))
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    parts = list(chunks(n, d))
    with np.errstate(invalid="ignore"):  # of infinity, which is refused below
        for number in hosts.share_of_process(range(len(parts))):
            rows = parts[number]
            shifted = x[rows] - shift
            squares += shifted.T @ shifted if d <= n else np.sum(shifted**2, axis=0)
            _add_by_class(sums, shifted, labels[rows])
            low, high = np.minimum(low, shifted.min(axis=0)), np.maximum(high, shifted.max(axis=0))
        squares, sums = hosts.total(squares), hosts.total(sums)
        off = sums.sum(axis=0) / n  # of the mean, from the shift
        square = (np.diagonal(squares) if d <= n else squares) / n - off**2
    bad = ~np.isfinite(square)
    if bad.any():
        raise UserError(
            f"expected finite features, but {bad.sum()} of {d} columns hold NaN or infinity, the "
            f"first is column {int(np.argmax(bad))}; extract them with `extract.dtype=float32`"
        )
    low, high = np.min(hosts.gather(low), axis=0), np.max(hosts.gather(high), axis=0)
    # A constant column's deviations are rounding errors, which must not be blown up to unit scale.
    constant = low == high
    scale = np.where(constant, 1.0, np.sqrt(np.maximum(square, 0)))
    counts = np.bincount(labels, minlength=num_classes)
    class_sums = np.where(constant, 0.0, (sums - counts[:, None] * off) / scale)
    gram = None
    if d <= n:
        gram = (squares - n * np.outer(off, off)) / scale / scale[:, None]
        gram[constant] = gram[:, constant] = 0
    return Moments(n, shift + off, scale, gram, class_sums)


def principal_axes(x: Features, found: Moments) -> PrincipalAxes:
    """Decomposes standardised features by the eigenvectors of their smaller Gram matrix.

    Squaring the condition number costs nothing that a penalty would not hide: what is dropped has
    a variance below max(N, D) roundings of the largest.

    Args:
      x: float [N, D]; where N < D it is read again, and held whole.
      found: their moments.
    """
    n, d = x.shape
    if found.gram is not None:
        squares, vectors = _eigenvectors(found.gram, d)
        return PrincipalAxes(found.mean, found.scale, vectors, squares / n)
    held, gram = x[:], np.zeros((n, n))
    for columns in chunks(d, n):
        standard = (held[:, columns] - found.mean[columns]) / found.scale[columns]
        gram += standard @ standard.T
    squares, vectors = _eigenvectors(gram, d)
    axes = np.empty((d, len(squares)))
    for columns in chunks(d, n):
        standard = (held[:, columns] - found.mean[columns]) / found.scale[columns]
        axes[columns] = standard.T @ (vectors / np.sqrt(squares))
    return PrincipalAxes(found.mean, found.scale, axes, squares / n)


def _eigenvectors(
    gram: Float[np.ndarray, "n n"], width: int
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "n r"]]:
    """Returns eigenvalues, ascending, and eigenvectors, without those that are rounding errors."""
    with _blas().limit(limits=1):
        squares, vectors = np.linalg.eigh(gram)
    # Other processors may give another sign or order; the processes of a run need one basis.
    squares, vectors = hosts.from_first(squares), hosts.from_first(vectors)
    kept = squares > squares[-1] * max(len(gram), width) * np.finfo(np.float64).eps
    return squares[kept], vectors[:, kept]


@functools.cache
def _blas() -> ThreadpoolController:
    """Returns the handle on BLAS' threads.

    Several gain eigh nothing at these sizes (800 x 800: 0.16 s with two, 0.13 s with one), and
    where another process has their core they wait for each other: 1.5 s.
    """
    return ThreadpoolController().select(user_api="blas")


def _add_by_class(
    sums: Float[np.ndarray, "c d"], x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> None:
    """Adds each row to the sum of its class, in place."""
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    sums[classes] += np.add.reduceat(x[order], starts, axis=0)
