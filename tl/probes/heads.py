"""What every probe gives: a fitted head that acts on raw features, and how it was fitted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from tl import hosts
from tl.probes.rows import Features, chunks, take


@runtime_checkable
class Classifier(Protocol):
    """A fitted head."""

    def logits(self, x: Features) -> Float[np.ndarray, "n c"]:
        """Returns logits float32 [N, C] of raw features [N, D]."""


@dataclass(frozen=True)
class Linear:
    """An affine classifier; any standardisation of the features is folded into it.

    Attributes:
      kernel: float32 [D, C].
      bias: float32 [C].
    """

    kernel: Float[np.ndarray, "d c"]
    bias: Float[np.ndarray, " c"]

    def logits(self, x: Features) -> Float[np.ndarray, "n c"]:
        """Logits float32 [N, C] of raw features [N, D], read in chunks of rows."""
        logits = [
            np.asarray(x[rows], np.float32) @ self.kernel + self.bias for rows in chunks(*x.shape)
        ]
        return np.concatenate(logits)


def by_chunk(head: Classifier, x: Features) -> Iterator[Float[np.ndarray, "n c"]]:
    """Yields the logits of all rows, some at a time."""
    return (head.logits(x[rows]) for rows in chunks(*x.shape))


def shared_logits(head: Classifier, x: Features) -> Float[np.ndarray, "n c"]:
    """Returns the logits of all rows, of which each process of a run computes a part."""
    own = head.logits(take(x, hosts.part_of_process(len(x))))
    return np.concatenate(hosts.gather_large(own))


Head = TypeVar("Head", bound=Classifier, covariant=True)


@dataclass(frozen=True)
class Fit(Generic[Head]):
    """One fitted head.

    Attributes:
      setting: the hyper-parameters that made it, such as {'l2': 1e-3}.
      head: acts on raw features.
      objective: value that was minimised, at its minimum; None where nothing is minimised.
      iterations: of the solver; None for closed forms.
      converged: whether the solver met its tolerance.
    """

    setting: Mapping[str, float]
    head: Head
    objective: float | None = None
    iterations: int | None = None
    converged: bool = True
