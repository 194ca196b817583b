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
from jaxtyping import Array, Float, Int

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

    directions: Float[Array, "n d"]
    labels: Int[np.ndarray, " n"]
    num_classes: int

    def nearest(
        self, x: Float[np.ndarray, "m d"], k: int
    ) -> tuple[Float[np.ndarray, "m nearest"], Int[np.ndarray, "m nearest"]]:
        """Returns similarities and labels of the k rows nearest to raw features, best first.

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

    def logits(self, x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m c"]:
        """Returns log shares of the votes, float32, of raw features."""
        return self.count(*self.bank.nearest(x, self.k))

    def count(
        self, similarities: Float[np.ndarray, "m nearest"], labels: Int[np.ndarray, "m nearest"]
    ) -> Float[np.ndarray, "m c"]:
        """Returns the same as `logits`, from neighbours found before: at least k, best first."""
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
    x: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    ks: Sequence[int] = KS,
    temperatures: Sequence[float] = TEMPERATURES,
) -> Iterator[Fit[Vote]]:
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
    if min(ks) < 1:
        raise UserError(f"expected at least 1, got {min(ks)}", field="probe.k")
    if min(temperatures) <= 0:
        raise UserError(f"expected above 0, got {min(temperatures)}", field="probe.temperature")
    bank = Bank(_unit(jnp.asarray(x, jnp.float32)), labels, num_classes)
    for temperature in temperatures:
        for k in ks:
            yield Fit({"k": k, "temperature": temperature}, Vote(bank, k, temperature))


def path_logits(
    fits: Sequence[Fit[Vote]], x: Float[np.ndarray, "m d"]
) -> Iterator[Float[np.ndarray, "m c"]]:
    """Returns the logits of each of `fit_path`'s heads, from one search for neighbours."""
    votes = [fit.head for fit in fits]
    neighbours = votes[0].bank.nearest(x, max(vote.k for vote in votes))
    return (vote.count(*neighbours) for vote in votes)


@partial(jax.jit, static_argnames="k")
def _top_k(
    directions: Float[Array, "n d"], queries: Float[Array, "m d"], *, k: int
) -> tuple[Float[Array, "m nearest"], Int[Array, "m nearest"]]:
    similarities = jnp.matmul(_unit(queries), directions.T, precision="highest")
    values, indices = jax.lax.top_k(similarities, k)
    return values, indices


@jax.jit
def _unit(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)
