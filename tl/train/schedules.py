"""Learning rates: the schedule over the steps of a run, and multipliers for parts of a network."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import optax

from tl import tree
from tl.errors import UserError
from tl.models.backbone import Backbone
from tl.train.optim import Optim, with_standard_promotion

FIELD = "optim.multipliers"


def make_schedule(optim: Optim, steps: int) -> optax.Schedule:
    """Returns the function of a step, 0 to steps - 1, to the learning rate.

    Over the first n = round(warmup * steps) steps the rate rises by `learning_rate / n` each step.
    It starts at `learning_rate / n`, not at 0, so that the first update is not lost, and reaches
    `learning_rate` at step n - 1. Linear and cosine then fall to 0 at `steps`, after the last step.

    Args:
      optim: name, rates and shares.
      steps: updates of the whole run, warm-up included; at least 1.
    """
    peak, rising = optim.learning_rate, round(optim.warmup * steps)
    falling = max(steps - rising, 1)
    # A Counter, since in a short run two boundaries may round to one step, where it falls twice.
    falls = Counter(round(share * steps) - rising for share in optim.boundaries)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, falling),
        "cosine": lambda: optax.cosine_decay_schedule(peak, falling),
        "step": lambda: optax.piecewise_constant_schedule(
            peak, {step: optim.factor**times for step, times in falls.items()}
        ),
    }[optim.schedule]()
    if not rising:
        return with_standard_promotion(after)
    rise = optax.linear_schedule(peak / rising, peak, rising - 1)
    return with_standard_promotion(optax.join_schedules([rise, after], [rising]))


def multipliers(
    paths: Iterable[str], patterns: Sequence[str], layer_decay: float, backbone: Backbone
) -> dict[str, float]:
    """Returns path to the multiplier of the learning rate.

    Args:
      paths: of all parameters, frozen ones too.
      patterns: 'PATTERN=NUMBER', see `tl.tree.matches`; of several that match, the last counts.
      layer_decay: the last layer has multiplier 1, and each other layer `layer_decay` times that of
        the next (Clark et al. 2020, arXiv:2003.10555); the patterns' numbers multiply this.
      backbone: contract of the network, with its layers.

    Raises:
      UserError: a pattern is malformed or matches no parameter, or a number is not above 0.
    """
    paths = list(paths)
    chosen = dict.fromkeys(paths, 1.0)
    for text in patterns:
        pattern, number = _parse(text)
        for path in tree.select(paths, [pattern], FIELD):
            chosen[path] = number
    if layer_decay != 1.0:
        depth = {layer: i for i, layer in enumerate(reversed(backbone.layers))}
        for path in paths:
            chosen[path] *= layer_decay ** depth[backbone.layer_of(path)]
    return chosen


def _parse(text: str) -> tuple[str, float]:
    pattern, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not pattern or not equals or not 0 < value < math.inf:
        raise UserError(
            f"expected PATTERN=NUMBER with a number above 0, such as 'head=10', got {text!r}; "
            "leaves that are not to train go into `train.freeze`",
            field=FIELD,
        )
    return pattern, value
