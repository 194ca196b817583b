"""Metrics as (sum, count) over a mask, so that padded rows and uneven batches cannot bias a mean.

They work on NumPy arrays and, inside or outside `jit`, on JAX arrays.
"""

from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array = TypeVar("Array", np.ndarray, jax.Array)
Scalar = np.floating | jax.Array


def correct(logits: Float[Array, "n c"], labels: Int[Array, " n"], k: int = 1) -> Bool[Array, " n"]:
    """Whether the label is among the k highest logits, example by example.

    Equal logits rank by class number, and a NaN label logit is never correct.

    Args:
      logits: float [N, C].
      labels: int [N], 0..C-1; what a row with another label gives is meaningless (mask it).
      k: 1..C.

    Returns:
      bool [N].
    """
    xp = logits.__array_namespace__()
    own = xp.take_along_axis(logits, labels[:, None], axis=1)
    later = xp.arange(logits.shape[1])[None, :] > labels[:, None]
    below = (logits < own) | ((logits == own) & later)
    return xp.sum(below, axis=1) >= logits.shape[1] - k


def top1(
    logits: Float[Array, "n c"], labels: Int[Array, " n"], mask: Bool[Array, " n"] | None = None
) -> tuple[Scalar, Scalar]:
    """Number of examples whose highest logit is the label's, and number of examples.

    >>> hits, count = top1(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    >>> float(hits), float(count)
    (1.0, 2.0)

    Args:
      logits: float [N, C].
      labels: int [N].
      mask: bool [N], True for real examples; None where all are.

    Returns:
      (sum, count), each a scalar; their ratio is a fraction in [0, 1].
    """
    return _masked(correct(logits, labels), mask)


def top5(
    logits: Float[Array, "n c"], labels: Int[Array, " n"], mask: Bool[Array, " n"] | None = None
) -> tuple[Scalar, Scalar]:
    """As `top1` for the five highest logits, or all of them where there are fewer classes."""
    return _masked(correct(logits, labels, min(5, logits.shape[1])), mask)


def cross_entropy(
    logits: Float[Array, "n c"], labels: Int[Array, " n"], mask: Bool[Array, " n"] | None = None
) -> tuple[Scalar, Scalar]:
    """Sum over examples of -log softmax(logits)[label], in nats, and number of examples.

    Args:
      logits: float [N, C].
      labels: int [N].
      mask: bool [N], True for real examples; None where all are.
    """
    xp = logits.__array_namespace__()
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    own = xp.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return _masked(xp.log(xp.sum(xp.exp(shifted), axis=1)) - own, mask)


def per_class(
    values: Bool[Array, " n"] | Float[Array, " n"],
    labels: Int[Array, " n"],
    num_classes: int,
    mask: Bool[Array, " n"] | None = None,
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Sums and counts of `values` for every class, to be added over batches.

    Args:
      values: bool or float [N], such as `correct(...)`.
      labels: int [N], 0..num_classes-1 where the mask is True.
      num_classes: C.
      mask: bool [N], True for real examples; None where all are.

    Returns:
      (sums [C], counts [C]), float.
    """
    xp = values.__array_namespace__()
    member = (labels[:, None] == xp.arange(num_classes)[None, :]).astype(xp.float32)
    if mask is not None:
        member = member * mask[:, None].astype(xp.float32)
    return xp.sum(values.astype(xp.float32)[:, None] * member, axis=0), xp.sum(member, axis=0)


def mean_per_class(sums: Float[Array, " c"], counts: Float[Array, " c"]) -> tuple[float, int]:
    """Mean of the classes' means, each class weighing the same, and the number of absent classes.

    A class without an example has no mean: it is left out, and counted.

    >>> mean_per_class(np.array([1.0, 3.0, 0.0]), np.array([2.0, 3.0, 0.0]))
    (0.75, 1)
    """
    present = np.asarray(counts) > 0
    means = np.asarray(sums, np.float64)[present] / np.asarray(counts, np.float64)[present]
    return float(np.mean(means)), int(np.sum(~present))


def _masked(
    values: Bool[Array, " n"] | Float[Array, " n"], mask: Bool[Array, " n"] | None
) -> tuple[Scalar, Scalar]:
    xp = values.__array_namespace__()
    values = values.astype(xp.float32)
    if mask is None:
        return xp.sum(values), xp.sum(xp.ones_like(values))
    return xp.sum(xp.where(mask, values, 0)), xp.sum(mask.astype(xp.float32))
