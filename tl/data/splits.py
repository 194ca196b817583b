"""Pure functions from labels to row numbers: held-out parts and few-shot subsets."""

import numpy as np
from jaxtyping import Int, Int64

from tl.errors import UserError

Labels = Int[np.ndarray, " n"]
Rows = Int64[np.ndarray, " rows"]


def _shuffled_rows(labels: Labels, seed: int) -> dict[int, np.ndarray]:
    """Returns each class's rows in a random order of their own; rows labelled -1 belong to none."""
    if seed < 0:
        raise UserError(f"expected a seed of at least 0, got {seed}")
    return {
        int(label): np.random.default_rng((seed, label)).permutation(
            np.flatnonzero(labels == label)
        )
        for label in np.unique(labels[labels >= 0])
    }


def holdout(
    labels: Labels, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Returns a stratified division of the labelled rows.

    Of a class with n rows, round(fraction * n) are held out, but at least one and at most n - 1;
    the only row of a class is kept.

    Args:
      labels: int [N]; rows labelled -1 (left-out images) come into neither part.
      fraction: share to hold out, in (0, 1).
      seed: >= 0; the same seed gives the same division.

    Returns:
      (kept, held): int64 row numbers, sorted, disjoint, together every labelled row.

    Raises:
      UserError: a fraction outside (0, 1), or a negative seed.
    """
    if not 0.0 < fraction < 1.0:
        raise UserError(f"expected a share to hold out between 0 and 1, got {fraction}")
    kept, held = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for rows in _shuffled_rows(labels, seed).values():
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        held.append(rows[:count])
        kept.append(rows[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def few_shot(labels: Labels, k: int, seed: int) -> Rows:
    """Returns k random rows of every class; for one seed, those of a smaller k are among them.

    Args:
      labels: int [N]; rows labelled -1 are never chosen.
      k: examples per class, >= 1.
      seed: >= 0.

    Returns:
      int64 [k * classes], sorted.

    Raises:
      UserError: k < 1, a negative seed, or classes with fewer than k rows, listed.
    """
    if k < 1:
        raise UserError(f"expected at least 1, got {k}", field="data.examples_per_class")
    classes = _shuffled_rows(labels, seed)
    short = [f"class {label} has {len(rows)}" for label, rows in classes.items() if len(rows) < k]
    if short:
        raise UserError(
            f"{k} examples per class were asked for, but {', '.join(short[:10])}"
            + (f" and {len(short) - 10} more classes have too few" if len(short) > 10 else "")
            + "; ask for fewer, or leave these classes out",
            field="data.examples_per_class",
        )
    chosen = [rows[:k] for rows in classes.values()]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def train_and_val(
    labels: Labels, k: int, val_fraction: float | None, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " val"] | None]:
    """Returns the rows to train on and the rows to choose on, sorted.

    Args:
      labels: int [N] of the train split; rows labelled -1 (left-out images) come into neither.
      k: examples of each class, train and val together; 0 for all.
      val_fraction: share of them that becomes val; None where val is a split of its own.
      seed: of the choice and of the division.

    Returns:
      (train, val), val None where val_fraction is.

    Raises:
      UserError: see `few_shot` and `holdout`.
    """
    chosen = few_shot(labels, k, seed) if k else np.flatnonzero(labels >= 0)
    if val_fraction is None:
        return chosen, None
    kept, held = holdout(labels[chosen], val_fraction, seed)
    return chosen[kept], chosen[held]
