"""Pure functions from labels to row numbers: held-out parts, folds and few-shot subsets.

Rows that belong together, such as all images of a patient, are given as groups: an int for each
row. A group is never divided between two parts. Where every row is a group of its own, the results
are those without groups.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64

from tl.errors import UserError

Labels = Int[np.ndarray, " n"]
Groups = Int[np.ndarray, " n"]
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
    labels: Labels, fraction: float, seed: int, groups: Groups | None = None
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Returns a stratified division of the labelled rows.

    Of a class with n rows, round(fraction * n) are held out, but at least one and at most n - 1;
    the only row of a class is kept. With groups the numbers come as near to these as whole groups
    allow; a class keeps all its rows where they are of one group.

    Args:
      labels: int [N]; rows labelled -1 (left-out images) come into neither part.
      fraction: share to hold out, in (0, 1).
      seed: >= 0; the same seed gives the same division.
      groups: int [N]; all labelled rows of a group come into the same part.

    Returns:
      (kept, held): int64 row numbers, sorted, disjoint, together every labelled row.

    Raises:
      UserError: a fraction outside (0, 1), a negative seed, or rows of which no group can be held
        out, since every class would lose its last row.
    """
    if not 0.0 < fraction < 1.0:
        raise UserError(f"expected a share to hold out between 0 and 1, got {fraction}")
    shuffled = _shuffled_rows(labels, seed)
    counts = {
        label: min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        for label, rows in shuffled.items()
    }
    if groups is not None:
        return _divide_groups(labels, groups, shuffled, counts)
    kept, held = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for label, rows in shuffled.items():
        held.append(rows[: counts[label]])
        kept.append(rows[counts[label] :])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def _divide_groups(
    labels: Labels, groups: Groups, shuffled: Mapping[int, np.ndarray], wanted: Mapping[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows to keep and to hold out, whole groups each.

    Args:
      labels, groups: int [N].
      shuffled: class to its rows, in the order in which their groups are tried.
      wanted: class to the number of rows to hold out.

    Raises:
      UserError: rows, but no group that can be held out.
    """
    contents: dict[int, Counter[int]] = {}  # group to its number of rows of each class
    for label, rows in shuffled.items():
        for group in groups[rows].tolist():
            contents.setdefault(group, Counter())[label] += 1
    sizes = {label: len(rows) for label, rows in shuffled.items()}
    count = dict.fromkeys(sizes, 0)  # rows of each class that are held out
    held: set[int] = set()

    def growth(group: int) -> float:
        """Returns by how much the distance from `wanted` grows, in shares of the classes."""
        return sum(
            (abs(count[c] + n - wanted[c]) - abs(count[c] - wanted[c])) / sizes[c]
            for c, n in contents[group].items()
        )

    def is_free(group: int) -> bool:  # every class keeps a row
        rest = all(count[c] + n < sizes[c] for c, n in contents[group].items())
        return rest and group not in held

    def hold(group: int) -> None:
        held.add(group)
        for c, n in contents[group].items():
            count[c] += n

    candidates = {
        label: list(dict.fromkeys(groups[rows].tolist())) for label, rows in shuffled.items()
    }
    # All classes side by side: a group of several classes then serves each that still needs rows.
    in_order = sorted(
        (place / len(found), label, group)
        for label, found in candidates.items()
        for place, group in enumerate(found)
    )
    for _, label, group in in_order:
        if count[label] < wanted[label] and is_free(group) and growth(group) < 0:
            hold(group)
    for label, found in candidates.items():  # large groups, where a class has no small ones
        free = [group for group in found if is_free(group)]
        if free and not count[label]:
            hold(min(free, key=growth))
    if sizes and not held:
        raise UserError(
            f"no group can be held out: the {len(labels[labels >= 0])} images are of "
            f"{len(contents)} groups, and without any one of them a class has no image left; give "
            "more groups, or a split of its own"
        )
    is_held = np.isin(groups, list(held)) & (labels >= 0)
    return np.flatnonzero(~is_held & (labels >= 0)), np.flatnonzero(is_held)


class Fold(NamedTuple):
    """Some rows to fit, and others to choose on.

    Attributes:
      fit, choose: each a slice or the numbers of the rows, int.
    """

    fit: slice | np.ndarray
    choose: slice | np.ndarray


def one_fold(fit: int, choose: int) -> list[Fold]:
    """Returns the one fold of rows to fit that come before the rows to choose on.

    >>> one_fold(8, 2)
    [Fold(fit=slice(0, 8, None), choose=slice(8, 10, None))]
    """
    return [Fold(slice(0, fit), slice(fit, fit + choose))]


def folds_of(held: Bool[np.ndarray, "folds n"]) -> list[Fold]:
    """Returns the folds that choose on the rows that they hold out, and fit all others."""
    return [Fold(np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in held]


def chosen_on(folds: Sequence[Fold], count: int) -> Int64[np.ndarray, " rows"]:
    """Returns the numbers of the rows that folds of `count` rows choose on, fold after fold."""
    return np.concatenate([np.arange(count)[fold.choose] for fold in folds])


def fold_count(val: float | str) -> int | None:
    """Returns the number of folds that a text asks for, or None where it is another text.

    >>> fold_count("5fold"), fold_count("0.2")
    (5, None)

    Raises:
      UserError: fewer than two folds.
    """
    found = re.fullmatch(r"(\d+)fold", str(val))
    if not found:
        return None
    if (count := int(found[1])) < 2:
        raise UserError(f"expected 2fold or more, got {val!r}", field="data.val")
    return count


def folds(labels: Labels, count: int, groups: Groups | None = None) -> Bool[np.ndarray, "folds n"]:
    """Returns which rows each fold holds out, stratified and with groups kept whole.

    Every row is held out once, but for rows of a class or a group whose class would then have no
    row to fit: the only row of a class, or all rows of its only group.

    Without groups a class with n rows has n / count of them in each fold, rounded down or up.
    With groups, folds come as near to that as placing one group after the other allows.

    Args:
      labels: int [N], none below 0, in a random order.
      count: number of folds, >= 2; folds that would hold out nothing are left out.
      groups: int [N].

    Returns:
      bool [folds, N]; no row for no fold.
    """
    if groups is None or len(np.unique(groups)) == len(groups):
        fold_of = np.full(len(labels), -1)
        for number, label in enumerate(np.unique(labels)):
            rows = np.flatnonzero(labels == label)
            if len(rows) > 1:
                fold_of[rows] = (np.arange(len(rows)) + number) % count  # shifted, for equal folds
    else:
        fold_of = _fold_of_groups(labels, groups, count)
    return np.stack([fold_of == fold for fold in range(count)])[np.isin(range(count), fold_of)]


def _fold_of_groups(labels: Labels, groups: Groups, count: int) -> Int[np.ndarray, " n"]:
    """Returns the fold that holds out each row; -1 where none does."""
    _, class_of = np.unique(labels, return_inverse=True)
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    contents = np.zeros((len(first), class_of.max() + 1))  # rows of each group and class
    np.add.at(contents, (group_of, class_of), 1)
    sizes = contents.sum(axis=0)
    fold_of = np.full(len(first), -1)
    load = np.zeros((count, len(sizes)))  # rows of each fold and class
    for group in np.argsort(first):
        own = contents[group] > 0
        is_free = np.all(load[:, own] + contents[group, own] < sizes[own], axis=1)
        if not is_free.any():
            continue
        # Where its classes are rare; of equal folds, the smallest.
        crowded = load / sizes @ contents[group] + 1e-9 * load.sum(axis=1)
        fold_of[group] = np.argmin(np.where(is_free, crowded, np.inf))
        load[fold_of[group]] += contents[group]
    return fold_of[group_of]


def few_shot(labels: Labels, k: int, seed: int, groups: Groups | None = None) -> Rows:
    """Returns k random rows of every class; for one seed, those of a smaller k are among them.

    With groups the rows of a class come from as many groups as possible: a second row of a group
    is chosen only when every group of the class has given one.

    Args:
      labels: int [N]; rows labelled -1 are never chosen.
      k: examples per class, >= 1.
      seed: >= 0.
      groups: int [N].

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
    if groups is not None:
        classes = {label: _in_turns(rows, groups[rows]) for label, rows in classes.items()}
    chosen = [rows[:k] for rows in classes.values()]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def _in_turns(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the rows in the order: the first of each group, the second of each, and so on."""
    by_group = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[by_group], return_index=True, return_counts=True)
    turn = np.empty(len(rows), np.int64)
    turn[by_group] = np.arange(len(rows)) - np.repeat(starts, sizes)
    return rows[np.argsort(turn, kind="stable")]


def train_and_val(
    labels: Labels, k: int, val_fraction: float | None, seed: int, groups: Groups | None = None
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " val"] | None]:
    """Returns the rows to train on and the rows to choose on, sorted.

    Args:
      labels: int [N] of the train split; rows labelled -1 (left-out images) come into neither.
      k: examples of each class, train and val together; 0 for all.
      val_fraction: share of them that becomes val; None where val is a split of its own.
      seed: of the choice and of the division.
      groups: int [N], see `few_shot` and `holdout`.

    Returns:
      (train, val), val None where val_fraction is.

    Raises:
      UserError: see `few_shot` and `holdout`.
    """
    chosen = few_shot(labels, k, seed, groups) if k else np.flatnonzero(labels >= 0)
    if val_fraction is None:
        return chosen, None
    within = None if groups is None else groups[chosen]
    kept, held = holdout(labels[chosen], val_fraction, seed, within)
    return chosen[kept], chosen[held]


def cross_validation(
    labels: Labels, k: int, count: int, seed: int, groups: Groups | None = None
) -> tuple[Int64[np.ndarray, " train"], Bool[np.ndarray, "folds train"]]:
    """Returns the rows to train on, sorted, and which of them each fold holds out to choose on.

    Args:
      labels: int [N] of the train split; rows labelled -1 (left-out images) are never chosen.
      k: examples of each class; 0 for all.
      count: number of folds, >= 2.
      seed: of the choice and of the folds, >= 0.
      groups: int [N], see `few_shot` and `folds`.

    Raises:
      UserError: see `few_shot`; so few rows or groups that a fold would be empty.
    """
    chosen = few_shot(labels, k, seed, groups) if k else np.flatnonzero(labels >= 0)
    order = np.random.default_rng(seed).permutation(len(chosen))
    rows = chosen[order]
    found = folds(labels[rows], count, None if groups is None else groups[rows])
    if len(found) < count:
        kind, there = "rows", len(rows)
        if groups is not None:
            kind, there = "groups", len(np.unique(groups[rows]))
        most = f"at most {len(found)}" if len(found) > 1 else "none"
        raise UserError(
            f"{count} folds were asked for, but {there} {kind} make {most}: every class must keep "
            f"a row to fit. Ask for fewer folds, or give more {kind}"
        )
    held = np.empty_like(found)
    held[:, order] = found
    return chosen, held
