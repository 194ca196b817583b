"""Training losses by name; a new loss is one line of `LOSSES`."""

from collections.abc import Callable
from typing import NamedTuple

import optax
from jaxtyping import Array, Float

from tl.errors import UserError, nearest
from tl.weights.spec import Link

LossFunction = Callable[[Float[Array, "n c"], Float[Array, "n c"]], Float[Array, " n"]]


class Loss(NamedTuple):
    """A loss, and how a head that was trained with it gives probabilities.

    Attributes:
      function: (logits [N, C], targets [N, C]) -> losses [N], each at least 0. A target lies in
        [0, 1]; MixUp, CutMix and label smoothing give targets between the two ends.
      link: from logits to probabilities.
    """

    function: LossFunction
    link: Link


def sigmoid(logits: Float[Array, "n c"], targets: Float[Array, "n c"]) -> Float[Array, " n"]:
    """Returns the binary cross-entropy of each class, summed over the classes.

    big_vision's `sigmoid_xent` is the same. The A1 recipe of timm (arXiv:2110.00476) differs in
    two ways. It takes the mean over the classes, which is this loss divided by C: SGD then needs C
    times the learning rate, while Adam and LAMB ignore the scale, except for epsilon and clipping.
    And it sets every mixed target above a threshold to 1; here targets stay as mixed.

    Args:
      logits: float [N, C].
      targets: float [N, C], in [0, 1]; a row need not add up to 1.
    """
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)


def focal(logits: Float[Array, "n c"], targets: Float[Array, "n c"]) -> Float[Array, " n"]:
    """Returns the focal loss of each class with gamma 2, summed over the classes.

    The binary cross-entropy of a class is multiplied by (1 - p)^2, where p is the probability of
    its target. So classes that are already right count for little.

    Source: Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017.

    Args:
      logits: float [N, C].
      targets: float [N, C], in [0, 1]; a row need not add up to 1.
    """
    return optax.sigmoid_focal_loss(logits, targets, gamma=2.0).sum(axis=-1)


LOSSES = {
    "softmax": Loss(optax.softmax_cross_entropy, link="softmax"),
    "sigmoid": Loss(sigmoid, link="sigmoid"),
    "focal": Loss(focal, link="sigmoid"),
}


def by_name(name: str) -> Loss:
    """Returns the loss with this name.

    Raises:
      UserError: no loss has this name.
    """
    if name not in LOSSES:
        raise UserError(f"there is no {name!r}{nearest(name, LOSSES)}", field="train.loss")
    return LOSSES[name]
