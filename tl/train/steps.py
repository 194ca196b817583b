"""One update and one evaluation as pure functions; what is static is bound once, by keyword."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from tl import metrics, tree
from tl.models.layers import Train
from tl.train.mixing import Mixing, mix, one_hot_targets
from tl.train.state import TrainState
from tl.tree import Tree

Batch = Mapping[str, jax.Array]
Forward = Callable[..., tuple[jax.Array, Tree]]


def forward(
    variables: Tree,
    inputs: jax.Array,
    key: jax.Array | None = None,
    *,
    model: nn.Module,
    moving: Train = frozenset(),
    start: str = "",
) -> tuple[jax.Array, Tree]:
    """Runs a network to its logits.

    Args:
      variables: `params` and `batch_stats`.
      inputs: normalised images `[N, H, W, 3]` or, with `start`, that endpoint's output.
      key: of the dropout before the head; None drops nothing.
      model: the Flax module.
      moving: modules that normalise by the batch's statistics and update the running ones.
      start: see `tl.models.resnet.ResNet`.

    Returns:
      (logits float32 `[N, C]`, batch_stats after the update).
    """
    rngs = {} if key is None else {"dropout": key}
    if not moving:
        outputs = model.apply(variables, inputs, start=start, rngs=rngs)
        return outputs["logits"], variables["batch_stats"]
    outputs, updated = model.apply(
        variables, inputs, train=moving, start=start, rngs=rngs, mutable=["batch_stats"]
    )
    return outputs["logits"], updated["batch_stats"]


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
    label_smoothing: float = 0.0,
    accumulate: int = 1,
    ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the state after one update, and what was measured on the way.

    With a batch that is divided over devices every sum below is over the whole batch.

    Args:
      state: see `TrainState`.
      batch: image `[N, ...]`, label int32 `[N]`, mask bool `[N]` (False: the example counts for
        nothing, though its zero image takes part in batch statistics).
      forward: (variables, inputs, key) -> (logits, batch_stats), see `forward`.
      prepare: images as loaded -> inputs of the network.
      tx: over the parameters that train.
      schedule: step -> learning rate; only reported here.
      trained: paths of the parameters that train. No gradient is computed for the others.
      num_classes: C.
      mixing: of examples, before the batch is divided into parts.
      label_smoothing: share of the target spread over all classes.
      accumulate: parts of equal size that the batch is computed in; gradients are summed over
        them, so all but batch statistics (those of a part) and dropout is as with 1.
      ema_decay: of `state.ema` where there is one; less in the first steps, (1 + t) / (10 + t).

    Returns:
      The next state, and `loss` (mean over the batch, nats), `top1` (of what was mixed or dropped
      on the way), `grad_norm` (global, before clipping), `update_norm` (of what was added to the
      parameters) and `learning_rate`.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    mixing_key, dropout_key = jax.random.split(key)
    images, targets = mix(
        prepare(batch["image"]),
        one_hot_targets(batch["label"], num_classes, label_smoothing),
        mixing_key,
        mixing,
    )
    count = jnp.maximum(jnp.sum(batch["mask"]), 1)
    trainable, frozen = tree.partition(state.params, trained)

    def loss_of_part(trainable, batch_stats, part):
        variables = {"params": tree.merge(frozen, trainable), "batch_stats": batch_stats}
        part_key = jax.random.fold_in(dropout_key, part["number"])
        logits, batch_stats = forward(variables, part["image"], part_key)
        losses = optax.softmax_cross_entropy(logits, part["target"])
        hits, _ = metrics.top1(logits, part["label"], part["mask"])
        return jnp.sum(losses * part["mask"]) / count, (batch_stats, hits)

    def add_part(carry, part):
        grads, batch_stats, loss, hits = carry
        value_and_grad = jax.value_and_grad(loss_of_part, has_aux=True)
        (part_loss, (batch_stats, part_hits)), part_grads = value_and_grad(
            trainable, batch_stats, part
        )
        grads = jax.tree.map(jnp.add, grads, part_grads)
        return (grads, batch_stats, loss + part_loss, hits + part_hits), None

    examples = {
        "image": images, "target": targets, "label": batch["label"], "mask": batch["mask"]
    }  # fmt: skip
    # Part i takes every accumulate-th example from i on: where the batch is divided over devices,
    # so is each part, and nothing crosses between them.
    parts = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0), examples
    )
    parts["number"] = jnp.arange(accumulate)
    carry = (jax.tree.map(jnp.zeros_like, trainable), state.batch_stats, 0.0, 0.0)
    if accumulate == 1:
        carry, _ = add_part(carry, jax.tree.map(lambda x: x[0], parts))
    else:
        carry, _ = jax.lax.scan(add_part, carry, parts)
    grads, batch_stats, loss, hits = carry

    updates, opt_state = tx.update(grads, state.opt_state, trainable)
    params = tree.merge(state.params, optax.apply_updates(trainable, updates))
    measured = {
        "loss": loss,
        "top1": hits / count,
        "grad_norm": optax.tree.norm(grads),
        "update_norm": optax.tree.norm(updates),
        "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
    }
    averaged = {"params": params, "batch_stats": batch_stats}
    following = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=state.ema and _average(state.ema, averaged, state.step, ema_decay),
    )
    return following, measured


def _average(ema: Tree, new: Tree, step: jax.Array, decay: float) -> Tree:
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # In this form, unlike decay * a + (1 - decay) * b, what does not move does not change by a bit.
    return jax.tree.map(lambda a, b: a + (1.0 - decay) * (b - a), ema, new)


def eval_step(
    variables: Tree,
    batch: Batch,
    *,
    forward: Forward,
    prepare: Callable[[jax.Array], jax.Array],
) -> dict[str, Any]:
    """Returns (sum, count) of each metric over the examples whose mask is True, and the logits.

    Args:
      variables: `params` and `batch_stats`.
      batch: image, label and mask as in `train_step`.
      forward, prepare: as in `train_step`.

    Returns:
      `loss`, `top1` and `top5` to (sum, count), and `logits` `[N, C]`.
    """
    logits, _ = forward(variables, prepare(batch["image"]))
    examples = logits, jnp.maximum(batch["label"], 0), batch["mask"]
    return {
        "loss": metrics.cross_entropy(*examples),
        "top1": metrics.top1(*examples),
        "top5": metrics.top5(*examples),
        "logits": logits,
    }
