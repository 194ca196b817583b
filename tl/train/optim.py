"""The optimizer of fine-tuning: an optax chain over the parameters that train.

gradient -> clip -> l2 or l2sp -> core -> decoupled decay -> rate of the leaf -> -learning rate
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import optax

from tl import tree
from tl.errors import UserError, nearest
from tl.models import lora

P = ParamSpec("P")
T = TypeVar("T")

SCHEDULES = ("constant", "linear", "cosine", "step")
DECAYS = ("decoupled", "l2", "l2sp")


@dataclasses.dataclass(frozen=True)
class Optim:
    """The fields of `config.optim`; `configs/common.py` explains each, with its default.

    sgd, lars and rmsprop use momentum and nesterov; rmsprop and the others use b2 and epsilon, and
    the others b1 too. The defaults suit SGD and Adam: Lion is published with b2 0.99, LAMB with
    epsilon 1e-6, AdaBelief with 1e-16. LARS is published with l2 decay.

    Raises:
      UserError: a name that is unknown, or a value out of its range.
    """

    name: str
    learning_rate: float
    schedule: str
    warmup: float
    boundaries: tuple[float, ...]
    factor: float
    momentum: float
    nesterov: bool
    b1: float
    b2: float
    epsilon: float
    weight_decay: float
    decay: str
    clip: float
    multipliers: tuple[str, ...]
    layer_decay: float

    def __post_init__(self) -> None:
        for field, known in {"name": CORES, "schedule": SCHEDULES, "decay": DECAYS}.items():
            value = getattr(self, field)
            if value not in known:
                raise UserError(
                    f"there is no {value!r}{nearest(value, known)}", field=f"optim.{field}"
                )
        for interval, (contains, fields) in RANGES.items():
            for field in fields:
                if not contains(getattr(self, field)):
                    raise UserError(
                        f"expected a number {interval}, got {getattr(self, field)}",
                        field=f"optim.{field}",
                    )
        edges = (self.warmup, *self.boundaries, 1.0)
        if self.schedule == "step" and not all(a < b for a, b in pairwise(edges)):
            raise UserError(
                f"expected shares that rise, from above `optim.warmup` ({self.warmup}) to below 1; "
                f"got {self.boundaries}",
                field="optim.boundaries",
            )


# Written so that NaN is in no interval.
RANGES: dict[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "above 0 and finite": (lambda x: 0 < x < math.inf, ("learning_rate", "epsilon")),
    "of at least 0 and finite": (lambda x: 0 <= x < math.inf, ("weight_decay", "clip")),
    "in [0, 1)": (lambda x: 0 <= x < 1, ("warmup", "momentum", "b1", "b2")),
    "in (0, 1]": (lambda x: 0 < x <= 1, ("factor", "layer_decay")),
}


def _momentum(optim: Optim) -> optax.GradientTransformation:
    if not optim.momentum:
        return optax.identity()
    return optax.trace(optim.momentum, optim.nesterov)


def _adam(optim: Optim) -> optax.GradientTransformation:
    return optax.scale_by_adam(optim.b1, optim.b2, optim.epsilon)


def _nadam(optim: Optim) -> optax.GradientTransformation:
    return optax.scale_by_adam(optim.b1, optim.b2, optim.epsilon, nesterov=True)


# Names with and without `w` have the same core; the field `decay` says how weights decay.
CORES: dict[str, Callable[[Optim], optax.GradientTransformation]] = {
    "sgd": _momentum,
    "lars": _momentum,  # takes the gradient scaled by the trust ratio
    "adam": _adam,
    "adamw": _adam,
    "lamb": _adam,  # its trust ratio scales the update, decay included
    "nadam": _nadam,
    "nadamw": _nadam,
    "adabelief": lambda optim: optax.scale_by_belief(optim.b1, optim.b2, optim.epsilon),
    "adamax": lambda optim: optax.scale_by_adamax(optim.b1, optim.b2, optim.epsilon),
    "amsgrad": lambda optim: optax.scale_by_amsgrad(optim.b1, optim.b2, optim.epsilon),
    "lion": lambda optim: optax.scale_by_lion(optim.b1, optim.b2),
    "radam": lambda optim: optax.scale_by_radam(optim.b1, optim.b2, optim.epsilon),
    "rmsprop": lambda optim: optax.chain(
        optax.scale_by_rms(optim.b2, optim.epsilon), _momentum(optim)
    ),
    "yogi": lambda optim: optax.scale_by_yogi(optim.b1, optim.b2, optim.epsilon),
}


def make_optimizer(
    optim: Optim, schedule: optax.Schedule, multipliers: Mapping[str, float]
) -> optax.GradientTransformation:
    """Returns the optimizer of a tree of parameters, all of which train.

    With `decoupled` decay (Loshchilov and Hutter 2019, arXiv:1711.05101) a leaf changes by
    `-schedule(step) * multiplier * (core + weight_decay * p)`. `l2` adds `weight_decay * p` to the
    clipped gradient before the core. `l2sp` (Li et al. 2018, arXiv:1802.01483) adds
    `weight_decay * (p - start)`, where start are the parameters given to `init`, which become part
    of the state. A head that starts at zero is thereby pulled to zero, as in that paper.

    LARS (You et al. 2017, arXiv:1708.03888) scales the gradients of kernels alone, as SimCLR does,
    by 0.001 * |p| / |gradient|; LAMB (You et al. 2020, arXiv:1904.00962) every leaf's update by
    |p| / |update|. A leaf that is all zero, such as a new head, is not scaled.

    Args:
      optim: what to build.
      schedule: step, from 0 on -> learning rate.
      multipliers: path of at least every parameter that trains to the multiplier of its rate.
    """
    coupled = optax.identity()
    if optim.weight_decay and optim.decay == "l2":
        coupled = optax.add_decayed_weights(optim.weight_decay, decay_mask)
    if optim.weight_decay and optim.decay == "l2sp":
        coupled = optax.masked(_toward_start(optim.weight_decay), decay_mask)
    decoupled = optim.weight_decay if optim.decay == "decoupled" else 0.0
    lars = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), decay_mask)

    def scale_leaves(updates: tree.Tree, params: Any) -> dict[str, Any]:
        return tree.map_with_path(lambda path, update: multipliers[path] * update, updates)

    chain = optax.named_chain(
        ("clip", optax.clip_by_global_norm(optim.clip) if optim.clip else optax.identity()),
        ("coupled", coupled),
        ("lars", lars if optim.name == "lars" else optax.identity()),
        ("core", _leaf_by_leaf(CORES[optim.name](optim))),
        ("decoupled", optax.add_decayed_weights(decoupled, decay_mask)),
        ("lamb", optax.scale_by_trust_ratio() if optim.name == "lamb" else optax.identity()),
        ("multipliers", optax.stateless(scale_leaves)),
        ("learning_rate", optax.scale_by_learning_rate(schedule)),
    )
    return optax.GradientTransformation(chain.init, with_standard_promotion(chain.update))


def with_standard_promotion(function: Callable[P, T]) -> Callable[P, T]:
    """Returns the function, run with JAX's standard type promotion.

    Optax needs it, since it multiplies integer counts of steps with floats.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return wrapped


def decayed(paths: Iterable[str]) -> frozenset[str]:
    """Returns the paths that weight decay acts on: kernels and what LoRA adds to them.

    Not biases and normalisation.
    """
    return frozenset(p for p in paths if p.split("/")[-1] == "kernel" or lora.is_matrix(p))


def decay_mask(params: tree.Tree) -> dict[str, Any]:
    """Returns a tree like `params` that is True where weight decay acts."""
    chosen = decayed(tree.leaves(params))
    return tree.map_with_path(lambda path, leaf: path in chosen, params)


def extend_opt_state(old_opt_state: Any, new_opt_state: Any) -> Any:
    """Returns the optimizer's state after more leaves were unfrozen.

    Args:
      old_opt_state: state so far.
      new_opt_state: `init` of the same optimizer with the parameters that train from now on.

    Returns:
      `new_opt_state`, with every leaf that `old_opt_state` has too taken from there: counts and
      moments go on, and those of the unfrozen parameters begin.
    """
    old = tree.named_leaves(old_opt_state)
    new = tree.named_leaves(new_opt_state)
    return jax.tree.unflatten(
        jax.tree.structure(new_opt_state), [old.get(path, leaf) for path, leaf in new.items()]
    )


class L2SPState(NamedTuple):
    """State of L2-SP: the parameters that training started from."""

    params: Any


def _toward_start(weight_decay: float) -> optax.GradientTransformation:
    def init(params: Any) -> L2SPState:
        # Copies, since a step that donates parameters and state needs a buffer for each.
        return L2SPState(jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: L2SPState, params: Any = None) -> tuple[Any, L2SPState]:
        pulled = jax.tree.map(
            lambda update, p, start: update + weight_decay * (p - start),
            updates,
            params,
            state.params,
        )
        return pulled, state

    return optax.GradientTransformation(init, update)


def _leaf_by_leaf(core: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs `core` on every leaf separately, so that each leaf has its own count of steps.

    With one count for all, Adam would not correct the bias of the zero moments of a leaf that is
    unfrozen late, and would change it by up to 6.6 times the learning rate:
    (1 - b1^k) / sqrt(1 - b2^k) in step k.
    """

    def init(params: tree.Tree) -> dict[str, Any]:
        return tree.map_with_path(lambda path, leaf: core.init(leaf), params)

    def update(updates: tree.Tree, state: Any, params: Any = None) -> tuple[Any, Any]:
        states, values = tree.leaves(state), tree.leaves(params)
        with jax.numpy_dtype_promotion("standard"):  # optax: a float to the power of the step
            moved = {
                path: core.update(update, states[path], values[path])
                for path, update in tree.leaves(updates).items()
            }
        updates, state = (tree.unflatten({path: m[i] for path, m in moved.items()}) for i in (0, 1))
        return updates, state

    return optax.GradientTransformation(init, update)
