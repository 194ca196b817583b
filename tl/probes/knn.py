"""Nearest neighbours by cosine similarity with weighted votes, as DINO evaluates features.

Caron et al. 2021 (after Wu et al. 2018): features are L2-normalised, not standardised; each of the
k nearest training rows votes for its class with weight exp(similarity / temperature).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tl.errors import UserError
from tl.probes.heads import Fit

KS = (1, 5, 10, 20, 50, 100, 200)  # DINO's 10, 20, 100, 200 and what few examples a class need
TEMPERATURES = (0.07,)

_CHUNK_ELEMENTS = 1 << 24  # 64 MiB of similarities at a time
_FLOOR = 1e-6  # share of the votes given to a class that none of the neighbours has


@dataclass(frozen=True)
class Bank:
    """The training rows that queries are compared with.

    Attributes:
      directions: float32 [N, D], rows of length 1.
      labels: int [N].
      num_classes: C.
    """

    directions: jax.Array
    labels: np.ndarray
    num_classes: int

    def nearest(self, x, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and labels [M, k] of the k nearest rows to raw features [M, D], best first.

        Where k exceeds N, all N rows are returned.
        """
        n = len(self.labels)
        rows = min(len(x), max(1, _CHUNK_ELEMENTS // n))
        similarities, labels = [], []
        for start in range(0, len(x), rows):
            chunk = np.zeros((rows, x.shape[1]), np.float32)  # one shape, so one program
            real = min(rows, len(x) - start)
            chunk[:real] = x[start : start + real]
            values, indices = _top_k(self.directions, chunk, k=min(k, n))
            similarities.append(np.asarray(values)[:real])
            labels.append(self.labels[np.asarray(indices)[:real]])
        return np.concatenate(similarities), np.concatenate(labels)


@dataclass(frozen=True)
class Vote:
    """The head of one (k, temperature).

    Attributes:
      bank: training rows.
      k: number of neighbours that vote, >= 1.
      temperature: > 0; the lower, the more the nearest count.
    """

    bank: Bank
    k: int
    temperature: float

    def logits(self, x) -> np.ndarray:
        """Log shares of the votes, float32 [M, C], of raw features [M, D]."""
        return self.count(*self.bank.nearest(x, self.k))

    def count(self, similarities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """As `logits` from neighbours [M, >= k] that are already found, best first."""
        similarities, labels = similarities[:, : self.k], labels[:, : self.k]
        # Relative to the best, which keeps low temperatures from overflowing.
        weights = np.exp((similarities - similarities[:, :1]) / self.temperature)
        cells = np.arange(len(labels))[:, None] * self.bank.num_classes + labels
        size = len(labels) * self.bank.num_classes
        votes = np.bincount(cells.ravel(), weights.ravel(), minlength=size)
        votes = votes.reshape(len(labels), self.bank.num_classes)
        shares = votes / votes.sum(axis=1, keepdims=True)
        return np.log(shares + _FLOOR).astype(np.float32)


def fit_path(
    x,
    labels,
    num_classes: int,
    ks: Sequence[int] = KS,
    temperatures: Sequence[float] = TEMPERATURES,
) -> Iterator[Fit]:
    """Heads of every k and temperature, on one shared bank.

    Args:
      x: float [N, D], raw features.
      labels: int [N], 0..num_classes-1.
      num_classes: C.
      ks: numbers of neighbours, >= 1; all rows vote where k exceeds N.
      temperatures: > 0.

    Yields:
      Fit with setting {'k': ..., 'temperature': ...}.

    Raises:
      UserError: a k or a temperature that is not positive.
    """
    if min(ks) < 1 or min(temperatures) <= 0:
        raise UserError(
            f"expected k >= 1 and temperature > 0, got k {tuple(ks)} and temperature "
            f"{tuple(temperatures)}"
        )
    bank = Bank(_unit(jnp.asarray(x, jnp.float32)), np.asarray(labels), num_classes)
    for temperature in temperatures:
        for k in ks:
            yield Fit({"k": k, "temperature": temperature}, Vote(bank, k, temperature))


def path_logits(fits: Sequence[Fit], x) -> Iterator[np.ndarray]:
    """Logits [M, C] of each of `fit_path`'s heads, from one search for neighbours."""
    bank = fits[0].head.bank
    neighbours = bank.nearest(x, max(fit.head.k for fit in fits))
    return (fit.head.count(*neighbours) for fit in fits)


@partial(jax.jit, static_argnames="k")
def _top_k(directions, queries, *, k):
    similarities = jnp.matmul(_unit(queries), directions.T, precision="highest")
    return jax.lax.top_k(similarities, k)


@jax.jit
def _unit(x):
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)
