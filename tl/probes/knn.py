"""Nearest neighbours by cosine similarity with weighted votes, as DINO evaluates features.

Caron et al. 2021 (after Wu et al. 2018): features are L2-normalised, not standardised; each of the
k nearest training rows votes for its class with weight exp(similarity / temperature).
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from tl.errors import UserError
from tl.probes.device_rows import DeviceRows, bucket
from tl.probes.heads import Fit
from tl.probes.rows import Features, chunks

KS = (1, 5, 10, 20, 50, 100, 200)  # DINO's 10, 20, 100, 200 and what few examples a class need
TEMPERATURES = (0.07,)

_QUERIES = 1024  # at a time
_FLOOR = 1e-6  # share of the votes given to a class that none of the neighbours has


@dataclass(frozen=True)
class Bank:
    """The training rows that queries are compared with, divided over this process's devices.

    Attributes:
      rows: features of length 1, padded; labelled by their number.
      labels: int [N].
      num_classes: C.
    """

    rows: DeviceRows
    labels: Int[np.ndarray, " n"]
    num_classes: int

    @classmethod
    def of(cls, x: Features, labels: Int[np.ndarray, " n"], num_classes: int) -> "Bank":
        """Returns the bank of raw features float [N, D], read by chunk."""
        rows = DeviceRows.place(
            lambda rows: _unit(x[rows]), np.arange(len(labels)), x.shape[1], _QUERIES, local=True
        )
        return cls(rows, labels, num_classes)

    @property
    def directions(self) -> Float[np.ndarray, "n d"]:
        """Features of length 1, float32 [N, D]."""
        return np.asarray(self.rows.features)[: len(self.labels)]

    def nearest(
        self, x: Features, k: int
    ) -> tuple[Float[np.ndarray, "m nearest"], Int[np.ndarray, "m nearest"]]:
        """Returns similarities and labels of the k rows nearest to raw features, best first.

        Where k exceeds N, all N rows are returned.
        """
        k = min(k, len(self.labels))
        similarities, labels = [], []
        for start in range(0, max(1, len(x)), _QUERIES):
            queries = _unit(x[start : start + _QUERIES])
            padded = np.pad(queries, ((0, bucket(len(queries)) - len(queries)), (0, 0)))
            values, numbers = _top_k(
                self.rows.features,
                self.rows.labels,
                padded,
                k=k,
                mesh=self.rows.mesh,
                chunk=self.rows.chunk,
            )
            similarities.append(np.asarray(values)[: len(queries)])
            labels.append(self.labels[np.asarray(numbers)[: len(queries)]])
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

    def logits(self, x: Features) -> Float[np.ndarray, "m c"]:
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
    x: Features,
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
    bank = Bank.of(x, labels, num_classes)
    for temperature in temperatures:
        for k in ks:
            yield Fit({"k": k, "temperature": temperature}, Vote(bank, k, temperature))


def path_logits(
    fits: Sequence[Fit[Vote]], x: Features
) -> Iterator[Iterator[Float[np.ndarray, "m c"]]]:
    """Yields the logits of each of `fit_path`'s heads, by chunk, from one search for neighbours."""
    votes = [fit.head for fit in fits]
    similarities, labels = votes[0].bank.nearest(x, max(vote.k for vote in votes))
    for vote in votes:
        parts = chunks(len(labels), vote.bank.num_classes)
        yield (vote.count(similarities[rows], labels[rows]) for rows in parts)


@functools.partial(jax.jit, static_argnames=("k", "mesh", "chunk"))
def _top_k(
    directions: Float[Array, "p d"],
    numbers: Int[Array, " p"],
    queries: Float[Array, "m d"],
    *,
    k: int,
    mesh: Mesh,
    chunk: int,
) -> tuple[Float[Array, "m nearest"], Int[Array, "m nearest"]]:
    """Returns similarities and numbers of the k nearest: of each chunk, of a device, of all."""

    def best(values: Array, numbers: Array) -> tuple[Array, Array]:
        values, places = jax.lax.top_k(values, k)  # of equals the first, whose number is the lowest
        return values, jnp.take_along_axis(numbers, places, axis=1)

    def of_device(directions: Array, numbers: Array, queries: Array) -> tuple[Array, Array]:
        def step(found: tuple[Array, Array], rows: tuple[Array, Array]) -> tuple[Any, None]:
            directions, numbers = rows
            values = jnp.matmul(queries, directions.T, precision="highest")
            values = jnp.where(numbers < 0, -jnp.inf, values)
            numbers = jnp.broadcast_to(numbers, values.shape)
            joined = [jnp.concatenate(pair, axis=1) for pair in zip(found, (values, numbers))]
            return best(*joined), None

        none = jnp.full((len(queries), k), -jnp.inf), jnp.full((len(queries), k), -1, jnp.int32)
        chunks = directions.reshape(-1, chunk, directions.shape[1]), numbers.reshape(-1, chunk)
        found, _ = jax.lax.scan(step, none, chunks)
        gathered = [jax.lax.all_gather(part, "data", axis=1, tiled=True) for part in found]
        return best(*gathered)

    rows, whole = PartitionSpec("data"), PartitionSpec()
    return jax.shard_map(
        of_device, mesh=mesh, in_specs=(rows, rows, whole), out_specs=whole, check_vma=False
    )(directions, numbers, queries)


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
