"""Ridge regression on one-hot targets: the whole path of strengths from one decomposition.

With Z [N, D] standardised features, Y [N, C] centred one-hot labels and Z = U diag(s) A^T, the
minimum over kernels K of

    |Y - Z K|^2 / (2 N) + l2/2 |K|^2      is      K = A diag(1 / (s^2 / N + l2)) A^T Z^T Y / N,

and the free intercept is the mean of the one-hot labels, because the columns of Z have mean zero.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from tl.errors import UserError
from tl.probes.heads import Fit, Linear
from tl.probes.logistic import L2_GRID
from tl.probes.principal import moments, principal_axes
from tl.probes.rows import Features


def fit_path(
    x: Features,
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    l2s: Sequence[float] = L2_GRID,
) -> Iterator[Fit[Linear]]:
    """Fits every strength, strongest first.

    Args:
      x: float [N, D], raw features.
      labels: int [N], 0..num_classes-1.
      num_classes: C.
      l2s: strengths, > 0, in any order.

    Yields:
      Fit with setting {'l2': ...}; objective as above.

    Raises:
      UserError: a strength that is not positive, non-finite features.
    """
    if min(l2s) <= 0:
        raise UserError(
            f"expected above 0, got {min(l2s)}; give a small one, such as 1e-6", field="probe.l2"
        )
    found = moments(x, labels, num_classes)
    basis = principal_axes(x, found)
    prior = np.bincount(labels, minlength=num_classes) / len(x)
    correlation = basis.axes.T @ found.class_sums.T / len(x)
    energy = 1 - np.sum(prior**2)  # mean square of the centred targets, summed over the classes
    for l2 in sorted(set(l2s), reverse=True):
        weights = correlation / (basis.variance + l2)[:, None]
        yield Fit(
            setting={"l2": l2},
            head=basis.head(weights, prior),
            # At the minimum the penalty and the quadratic term are half the linear one.
            objective=float(energy - np.sum(correlation * weights)) / 2,
        )
