"""Decides which parameters and batch statistics are frozen, as paths.

Gradient, optimizer, batch normalisation, cached prefix and the printed table must agree, and so all
follow from one `Freezing`.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from tl import tree
from tl.errors import UserError, nearest
from tl.models import lora
from tl.models.backbone import Backbone

NORMS = ("train", "affine", "frozen", "recalibrate")
FREEZE, UNFREEZE = "train.freeze", "train.unfreeze"


@dataclasses.dataclass(frozen=True)
class Freezing:
    """Paths of the leaves that are frozen.

    Attributes:
      params: in `variables['params']`.
      statistics: in `variables['batch_stats']`; mean and var of a module are frozen together.
    """

    params: frozenset[str]
    statistics: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps from `start` up to and excluding `end`, and what is frozen in them."""

    start: int
    end: int
    freezing: Freezing


def make_freezing(
    variables: tree.Tree, freeze: Collection[str], norm: str, unfrozen: Collection[str] = ()
) -> Freezing:
    """Returns what is frozen.

    Args:
      variables: `{'params', 'batch_stats'}`, of arrays or of their shapes.
      freeze: patterns, see `tl.tree.matches`. If one matches the mean or the var of a module, both
        are frozen; so 'stage1' and '*/bn' freeze statistics too, 'stem/bn/scale' does not.
        ('*', '!head') leaves the head alone to train. The matrices of `tl.models.lora` always do.
      norm: `train` freezes nothing more; `affine` all statistics; `frozen` and `recalibrate` all
        statistics and all scales and biases of batch normalisation. Without batch normalisation
        all but `recalibrate` are the same.
      unfrozen: patterns of leaves that `freeze` no longer freezes; `norm` still does.

    Raises:
      UserError: a pattern matches nothing, no parameter is left to train, or norm is unknown or
        needs batch normalisation, which the network does not have.
    """
    if norm not in NORMS:
        raise UserError(f"there is no {norm!r}{nearest(norm, NORMS)}", field="train.norm")
    params, statistics = _paths(variables)
    if norm == "recalibrate" and not statistics:
        raise UserError(
            "the network has no batch normalisation whose statistics could be estimated; expected "
            f"'train', got {norm!r}",
            field="train.norm",
        )
    paths = [*params, *statistics]
    chosen = tree.select(paths, freeze, FREEZE) - tree.select(paths, unfrozen, UNFREEZE)
    chosen = frozenset(path for path in chosen if not lora.is_matrix(path))
    norms = {_module(path) for path in statistics}
    held = {_module(path) for path in chosen.intersection(statistics)} if norm == "train" else norms
    affine = norms if norm in ("frozen", "recalibrate") else ()
    result = Freezing(
        params=frozenset(path for path in params if path in chosen or _module(path) in affine),
        statistics=frozenset(path for path in statistics if _module(path) in held),
    )
    if len(result.params) == len(params):
        raise UserError(
            f"{tuple(freeze)} leaves none of {len(params)} arrays of parameters to train; expected "
            "some to, such as the head's",
            field=FREEZE,
        )
    return result


def phases(
    variables: tree.Tree,
    freeze: Collection[str],
    unfreeze: Sequence[str],
    norm: str,
    steps: int,
) -> list[Phase]:
    """Returns the phases of a run, in order; in each, the same leaves are frozen.

    Args:
      variables, freeze, norm: see `make_freezing`.
      unfreeze: 'PATTERN@STEP', in any order: leaves that match train from that step on.
      steps: updates of the whole run.

    Raises:
      UserError: as `make_freezing`; one of `unfreeze` is malformed, its step is not within the run,
        or it unfreezes nothing.
    """
    changes = sorted((_parse(text, steps) for text in unfreeze), key=lambda change: change[1])
    past, unfrozen = [], []
    phase = Phase(0, steps, make_freezing(variables, freeze, norm))
    for pattern, step in changes:
        unfrozen.append(pattern)
        after = make_freezing(variables, freeze, norm, unfrozen)
        if after == phase.freezing:
            raise UserError(
                f"{pattern!r} unfreezes nothing at step {step}; expected a pattern of leaves that "
                f"`{FREEZE}={tuple(freeze)}` still freezes, and `train.norm={norm}` does not",
                field=UNFREEZE,
            )
        if step > phase.start:
            past.append(dataclasses.replace(phase, end=step))
        phase = Phase(step, steps, after)
    return [*past, phase]


def _parse(text: str, steps: int) -> tuple[str, int]:
    pattern, _, step = text.rpartition("@")
    if not pattern or not step.isdecimal():
        raise UserError(
            f"expected PATTERN@STEP, such as 'stage4@100', got {text!r}", field=UNFREEZE
        )
    if not 0 < int(step) < steps:
        raise UserError(
            f"expected a step from 1 to {steps - 1}, of a run of {steps}, got {text!r}",
            field=UNFREEZE,
        )
    return pattern, int(step)


def train_mode_norms(freezing: Freezing, batch_stats: tree.Tree) -> frozenset[str]:
    """Returns the modules that normalise by the batch's statistics and update the running ones.

    Args:
      freezing: what is frozen.
      batch_stats: `variables['batch_stats']`.

    Returns:
      Paths of the modules that contain `bn`, such as `stem` and `stage1/block1/conv1`.
    """
    updated = tree.leaves(batch_stats).keys() - freezing.statistics
    return frozenset(_module(_module(path)) for path in updated)


def frozen_prefix(variables: tree.Tree, freezing: Freezing, endpoints: Sequence[str]) -> str | None:
    """Returns the last endpoint up to which everything is frozen, or None if the first is not.

    Args:
      variables: `{'params', 'batch_stats'}`, of arrays or of their shapes.
      freezing: what is frozen.
      endpoints: in order of computation, such as `stem`, `stage1`; the parameters of each are in
        the module with its name. One without parameters, such as `pooled`, ends the prefix.
    """
    frozen = freezing.params | freezing.statistics
    last = None
    for endpoint in endpoints:
        inside = [path for paths in _paths(variables) for path in paths if _top(path) == endpoint]
        if not inside or not frozen.issuperset(inside):
            break
        last = endpoint
    return last


def table(
    variables: tree.Tree,
    freezing: Freezing,
    multipliers: Mapping[str, float],
    decayed: Collection[str],
    backbone: Backbone,
) -> str:
    """Returns a table of what trains, with a row for each module in order of computation.

    Args:
      variables: `{'params', 'batch_stats'}`, of arrays or of their shapes.
      freezing: what is frozen.
      multipliers: path of every parameter to the multiplier of its learning rate.
      decayed: paths of the parameters that weight decay acts on; frozen ones do not count.
      backbone: contract of the network.
    """
    params, statistics = _paths(variables)

    def row(name: str, module: str | None) -> list[str]:
        mine = [path for path in params if module in (None, _top(path))]
        trains = [path for path in mine if path not in freezing.params]
        stats = [path for path in statistics if module in (None, _top(path))]
        rates = [f"{rate:.3g}" for rate in sorted(multipliers[path] for path in trains)]
        return [
            name,
            f"{len(trains)} / {len(mine)}",
            f"{_size(params, trains):,} / {_size(params, mine):,}",
            _move(len(stats), len(freezing.statistics.intersection(stats))),
            " - ".join(dict.fromkeys(rates[:1] + rates[-1:])) or "-",
            str(len(set(trains).intersection(decayed))),
        ]

    there = {_top(path) for path in params}
    modules = [m for m in dict.fromkeys(map(_top, backbone.layers)) if m in there]
    return tabulate(
        [*(row(module, module) for module in modules), row("total", None)],
        headers=[
            "module",
            "leaves that train",
            "parameters that train",
            "statistics",
            "learning rate x",
            "leaves decayed",
        ],
        disable_numparse=True,
        colalign=["left", "right", "right", "left", "right", "right"],
    )


def leaf_table(
    variables: tree.Tree,
    freezing: Freezing,
    multipliers: Mapping[str, float],
    decayed: Collection[str],
    backbone: Backbone,
) -> str:
    """Returns the same as `table` with a row for each leaf; see there for the arguments."""
    params, statistics = _paths(variables)

    def row(path: str) -> list[str]:
        if path in statistics:
            shape, state = statistics[path].shape, _move(1, int(path in freezing.statistics))
            return [path, str(list(shape)), state, "-", "-"]
        shape = str(list(params[path].shape))
        if path in freezing.params:
            return [path, shape, "frozen", "-", "-"]
        decay = "decayed" if path in decayed else "-"
        return [path, shape, "train", f"{multipliers[path]:.3g}", decay]

    def place(path: str) -> int:
        return backbone.layers.index(backbone.layer_of(path))

    leaves = [*params, *statistics]
    return tabulate(
        [row(path) for path in sorted(leaves, key=place)],
        headers=["leaf", "shape", "state", "learning rate x", "decay"],
        disable_numparse=True,
        colalign=["left", "left", "left", "right", "left"],
    )


def _move(count: int, frozen: int) -> str:
    if not count:
        return "-"
    return {0: "move", count: "stay"}.get(frozen, "some move")


def _size(leaves: Mapping[str, Any], paths: Iterable[str]) -> int:
    return sum(math.prod(leaves[path].shape) for path in paths)


def _paths(variables: tree.Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    return tree.leaves(variables["params"]), tree.leaves(variables.get("batch_stats", {}))


def _module(path: str) -> str:
    return path.rpartition("/")[0]


def _top(path: str) -> str:
    return path.split("/")[0]
