"""A training step and an evaluation step, as pure functions to be compiled."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from tl import tree
from tl.models import lora
from tl.models.backbone import LOGITS, Network
from tl.models.layers import Train
from tl.results import metrics
from tl.train.losses import LossFunction
from tl.train.mixing import Mixing, mix, one_hot_targets
from tl.train.state import TrainState
from tl.tree import Tree

Batch = Mapping[str, jax.Array]
# (variables, inputs, key of the dropout or None) -> (logits, batch_stats)
Forward = Callable[[Tree, jax.Array, jax.Array | None], tuple[jax.Array, Tree]]
Sums = tuple[Tree, Tree, jax.Array, jax.Array]  # gradients, batch_stats, loss, hits
# (params, batch_stats, part of the examples, number of the part) -> loss, (batch_stats, hits)
LossOfPart = Callable[[Tree, Tree, Batch, jax.Array], tuple[jax.Array, tuple[Tree, jax.Array]]]


def forward(
    variables: Tree,
    inputs: Float[Array, "n ..."],
    key: Key[Array, ""] | None = None,
    *,
    model: Network,
    train: Train = frozenset(),
    start: str = "",
    whole: Callable[[Tree], Tree] = lambda params: params,
) -> tuple[Float[Array, "n c"], Tree]:
    """Runs a network to its logits.

    Args:
      variables: `params`, also with the matrices of `tl.models.lora`, and `batch_stats`.
      inputs: normalised images `[N, H, W, 3]` or, with `start`, the output of that endpoint.
      key: of the dropout before the head and of stochastic depth; with None nothing is dropped.
      model: the Flax module.
      train: modules that normalise by the batch's statistics and update the running ones.
      start: endpoint to start from, see `tl.models.resnet.ResNet`; '' for the images.
      whole: brings divided parameters together, see `tl.devices.DataParallel.whole`.

    Returns:
      (logits float32 `[N, C]`, batch_stats after the update).
    """
    variables = {**variables, "params": lora.merged(whole(variables["params"]))}
    rngs = {} if key is None else {"dropout": key}
    if not train:
        outputs = model.apply(variables, inputs, start=start, rngs=rngs)
        return outputs[LOGITS], variables["batch_stats"]
    outputs, updated = model.apply(
        variables, inputs, train=train, start=start, rngs=rngs, mutable=["batch_stats"]
    )
    return outputs[LOGITS], updated["batch_stats"]


def accumulated(
    loss_of_part: LossOfPart, params: Tree, batch_stats: Tree, examples: Batch, parts: int
) -> tuple[Tree, Tree, jax.Array, jax.Array]:
    """Returns the gradient of a loss summed over parts of a batch, computed one after the other.

    Only one part's activations are in memory at a time. Part i holds every `parts`-th example from
    example i on. So if the batch is divided over devices, each part is divided in the same way, and
    no example is sent to another device.

    Args:
      loss_of_part: (params, batch_stats, part, number of the part) -> (loss, (batch_stats, hits));
        a part's loss and hits are its share of the sums over the batch.
      params: the loss is differentiated by these.
      batch_stats: of the first part; each part takes those that the one before it returned.
      examples: arrays of N examples; `parts` divides N.
      parts: how many. With 1 there is no loop.

    Returns:
      (gradient of the summed loss by params, batch_stats after the last part, sum of the losses,
      sum of the hits).
    """
    value_and_grad = jax.value_and_grad(loss_of_part, has_aux=True)

    def add_part(sums: Sums, numbered_part: tuple[jax.Array, Batch]) -> tuple[Sums, None]:
        grads, batch_stats, loss, hits = sums
        number, part = numbered_part
        (more_loss, (batch_stats, more_hits)), more_grads = value_and_grad(
            params, batch_stats, part, number
        )
        grads = jax.tree.map(jnp.add, grads, more_grads)
        return (grads, batch_stats, loss + more_loss, hits + more_hits), None

    sums = (jax.tree.map(jnp.zeros_like, params), batch_stats, jnp.zeros(()), jnp.zeros(()))
    if parts == 1:
        return add_part(sums, (jnp.zeros((), jnp.int32), examples))[0]
    strided = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), dict(examples)
    )
    return jax.lax.scan(add_part, sums, (jnp.arange(parts), strided))[0]


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    forward: Forward,
    prepare: Callable[[jax.Array], jax.Array],
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    trained: frozenset[str],
    num_classes: int,
    mixing: Mixing,
    loss: LossFunction = optax.softmax_cross_entropy,
    label_smoothing: float = 0.0,
    accumulate: int = 1,
    ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the state after one update, and the metrics of the batch.

    If the batch is divided over devices, every sum below is still over the whole batch.

    Args:
      state: the state before.
      batch: image `[N, ...]`, label int32 `[N]`, mask bool `[N]`. Rows with mask False are ignored,
        but their zero images count in batch statistics.
      forward: runs the network, see `forward`.
      prepare: images as loaded -> inputs of the network.
      tx: the optimizer, over the parameters that train.
      schedule: step -> learning rate; only reported here.
      trained: paths of the parameters that train. No gradient is computed for the others.
      num_classes: C.
      mixing: of examples, before the batch is divided into parts.
      loss: (logits `[N, C]`, targets `[N, C]`) -> losses `[N]`, see `tl.train.losses`.
      label_smoothing: share of the target to spread over all classes.
      accumulate: number of equal parts that the batch is computed in, see `accumulated`. Each part
        has its own batch statistics and dropout key; all else is as with one part.
      ema_decay: of `state.ema`, if there is one. The first steps use less: (1 + t) / (10 + t).

    Returns:
      The next state, and `loss` (mean over the batch), `top1` (with dropout on; a mixed image
      counts for its own label), `grad_norm` (global, before clipping), `update_norm` (of what was
      added to the parameters) and `learning_rate`.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    mixing_key, dropout_key = jax.random.split(key)
    targets = one_hot_targets(batch["label"], num_classes, label_smoothing)
    images, targets = mix(prepare(batch["image"]), targets, mixing_key, mixing)
    examples = {
        "image": images, "target": targets, "label": batch["label"], "mask": batch["mask"]
    }  # fmt: skip
    count = jnp.maximum(jnp.sum(batch["mask"]), 1).astype(jnp.float32)
    trainable, frozen = tree.partition(state.params, trained)

    def loss_of_part(
        trainable: Tree, batch_stats: Tree, part: Batch, number: jax.Array
    ) -> tuple[jax.Array, tuple[Tree, jax.Array]]:
        variables = {"params": tree.merge(frozen, trainable), "batch_stats": batch_stats}
        part_key = jax.random.fold_in(dropout_key, number)
        logits, batch_stats = forward(variables, part["image"], part_key)
        hits, _ = metrics.top1(logits, part["label"], part["mask"])
        losses = loss(logits, part["target"]) * part["mask"].astype(jnp.float32)
        return jnp.sum(losses) / count, (batch_stats, jnp.asarray(hits))

    grads, batch_stats, total, hits = accumulated(
        loss_of_part, trainable, state.batch_stats, examples, accumulate
    )
    updates, opt_state = tx.update(grads, state.opt_state, trainable)
    params = tree.merge(state.params, optax.apply_updates(trainable, updates))
    variables = {"params": params, "batch_stats": batch_stats}
    following = state.replace(
        step=state.step + 1,
        **variables,
        opt_state=opt_state,
        ema=state.ema and averaged(state.ema, variables, state.step, ema_decay),
    )
    measured = {
        "loss": total,
        "top1": hits / count,
        "grad_norm": optax.tree.norm(grads),
        "update_norm": optax.tree.norm(updates),
        "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
    }
    return following, measured


def averaged(average: Tree, new: Tree, step: Int[Array, ""], decay: float) -> Tree:
    """Returns decay * average + (1 - decay) * new, where decay is at most (1 + step) / (10 + step).

    The bound is TensorFlow's (`tf.train.ExponentialMovingAverage`): without it the values of the
    first step would weigh most for a long time.
    """
    t = step.astype(jnp.float32)
    share = 1.0 - jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    # In this form a value that does not change stays the same to the last bit.
    return jax.tree.map(lambda a, b: a + share * (b - a), average, new)


def eval_step(
    variables: Tree,
    batch: Batch,
    *,
    forward: Forward,
    prepare: Callable[[jax.Array], jax.Array],
    loss: LossFunction = optax.softmax_cross_entropy,
) -> dict[str, Any]:
    """Returns (sum, count) of each metric over the examples whose mask is True, and the logits.

    Args:
      variables: `params` and `batch_stats`.
      batch: image, label and mask as in `train_step`.
      forward, prepare: as in `train_step`.
      loss: as in `train_step`; here of one-hot targets.

    Returns:
      `loss`, `top1` and `top5` to (sum, count), and `logits` `[N, C]`.
    """
    logits, _ = forward(variables, prepare(batch["image"]), None)
    mask, labels = batch["mask"], jnp.maximum(batch["label"], 0)
    losses = loss(logits, one_hot_targets(labels, logits.shape[1]))
    return {
        "loss": (jnp.sum(jnp.where(mask, losses, 0)), jnp.sum(mask.astype(jnp.float32))),
        "top1": metrics.top1(logits, labels, mask),
        "top5": metrics.top5(logits, labels, mask),
        "logits": logits,
    }
