"""The classic Keras head on pooled features: dropout, then a dense softmax layer, by Adam.

`Dense(classes, activation="softmax")` on `Dropout(0.3)`, compiled with `optimizer="adam"` and
fitted with `batch_size=32, epochs=10`: Glorot-uniform kernel, zero bias, Adam with Keras' epsilon
1e-7, training rows shuffled every epoch. As there, features are not standardised. Every epoch is
one fit of the path, so choosing on val is keeping the best epoch.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from tl.devices import DataParallel, in_full_precision
from tl.errors import UserError
from tl.probes.device_rows import DeviceRows
from tl.probes.heads import Fit, Linear
from tl.probes.rows import Features

Params = dict[str, jax.Array]
Carry = tuple[Params, optax.OptState]


def fit_path(
    x: Features,
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    dropout: float = 0.3,
    seed: int = 0,
) -> Iterator[Fit[Linear]]:
    """Trains one head and gives it as it is after every epoch.

    Args:
      x: float [N, D], raw features.
      labels: int [N], 0..num_classes-1.
      num_classes: C.
      epochs: passes over the rows, >= 1.
      batch_size: rows of an update, >= 1; the last batch of an epoch may have fewer.
      learning_rate: Adam's.
      dropout: probability in [0, 1) that an input is dropped; the others are divided by
        1 - dropout.
      seed: of the initial kernel, the order of the rows and what is dropped.

    Yields:
      Fit with setting {'epoch': 1..epochs}; objective is the epoch's mean training loss
      (with dropout, while the head moved), iterations the updates so far.

    Raises:
      UserError: epochs or batch_size below 1, dropout outside [0, 1).
    """
    for field, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"expected at least 1, got {value}", field=f"probe.{field}")
    if not 0 <= dropout < 1:
        raise UserError(f"expected a share in [0, 1), got {dropout}", field="probe.dropout")
    rows = DeviceRows.place(lambda rows: x[rows], labels, x.shape[1], num_classes, local=True)
    key = jax.random.key(seed)
    shape = (x.shape[1], num_classes)
    params = {
        "kernel": jax.nn.initializers.glorot_uniform()(jax.random.fold_in(key, 0), shape),
        "bias": jnp.zeros(num_classes),
    }
    opt_state = _adam(learning_rate).init(params)
    params, opt_state = DataParallel(rows.mesh).replicate((params, opt_state))
    for epoch in range(1, epochs + 1):
        params, opt_state, loss = _epoch(
            params,
            opt_state,
            rows.features,
            rows.labels,
            jax.random.fold_in(key, epoch),
            count=len(x),
            learning_rate=learning_rate,
            dropout=dropout,
            batch_size=batch_size,
        )
        yield Fit(
            setting={"epoch": epoch},
            head=Linear(np.asarray(params["kernel"]), np.asarray(params["bias"])),
            objective=float(loss),
            iterations=epoch * -(-len(x) // batch_size),
        )


def _adam(learning_rate: float | Float[Array, ""]) -> optax.GradientTransformation:
    return optax.adam(learning_rate, eps=1e-7)


@partial(jax.jit, static_argnames=("count", "batch_size"))
@in_full_precision
def _epoch(
    params: Params,
    opt_state: optax.OptState,
    x: Float[Array, "p d"],
    labels: Int[Array, " p"],
    key: Key[Array, ""],
    *,
    count: int,
    learning_rate: float | Float[Array, ""],
    dropout: float | Float[Array, ""],
    batch_size: int,
) -> tuple[Params, optax.OptState, Float[Array, ""]]:
    """One pass in batches of one shape: rows beyond the last are masked out of its mean.

    Args:
      count: rows of x; what follows them is padding.
    """
    batches = -(-count // batch_size)
    order = jax.random.permutation(jax.random.fold_in(key, 0), count)
    order = jnp.pad(order, (0, batches * batch_size - count), constant_values=-1)

    def step(carry: Carry, batch: tuple[Int[Array, " b"], Int[Array, ""]]) -> tuple[Carry, Array]:
        params, opt_state = carry
        rows, number = batch
        mask = (rows >= 0).astype(jnp.float32)
        kept = jax.random.bernoulli(
            jax.random.fold_in(key, number), 1 - dropout, (batch_size, x.shape[1])
        )
        inputs = jnp.where(kept, x[rows] / (1 - dropout), 0)

        def total_loss(params: Params) -> Float[Array, ""]:
            logits = inputs @ params["kernel"] + params["bias"]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows])
            return jnp.sum(losses * mask)

        real = jnp.sum(mask)
        loss, grads = jax.value_and_grad(lambda params: total_loss(params) / real)(params)
        with jax.numpy_dtype_promotion("standard"):  # optax: a float to the power of the step
            updates, opt_state = _adam(learning_rate).update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss * real

    (params, opt_state), losses = jax.lax.scan(
        step,
        (params, opt_state),
        (order.reshape(batches, batch_size), jnp.arange(1, batches + 1)),
    )
    return params, opt_state, jnp.sum(losses) / count
