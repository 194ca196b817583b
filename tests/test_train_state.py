"""What the state holds before the first step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tl import tree
from tl.train.state import TrainState

VARIABLES = {
    "params": {"head": {"kernel": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(2)}},
    "batch_stats": {"bn": {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([3.0, 4.0])}},
}


def create(seed=0, ema=False):
    tx = optax.sgd(0.1, momentum=0.9)
    variables = jax.tree.map(jnp.array, VARIABLES)
    return TrainState.create(variables, tx.init(variables["params"]), seed, ema=ema)


def test_before_the_first_step():
    state = create(seed=3)
    assert state.step.dtype == jnp.int32 and state.step.shape == () and state.step == 0
    assert state.ema is None
    # Raw numbers, as a checkpoint can hold them.
    assert state.key.dtype == jnp.uint32
    np.testing.assert_array_equal(state.key, jax.random.key_data(jax.random.key(3)))
    assert not np.array_equal(state.key, create(seed=4).key)
    for name in ("params", "batch_stats"):
        for path, leaf in tree.leaves(getattr(state, name)).items():
            np.testing.assert_array_equal(leaf, tree.leaves(VARIABLES[name])[path])


def test_other_collections_stay_behind():
    variables = {**VARIABLES, "cache": {"x": jnp.zeros(1)}}
    state = TrainState.create(variables, (), 0, ema=True)
    assert state.ema.keys() == {"params", "batch_stats"} == state.evaluated.keys()


def test_the_average_begins_as_the_variables_and_is_what_counts():
    state = create(ema=True)
    for path, leaf in tree.named_leaves(state.ema).items():
        np.testing.assert_array_equal(leaf, tree.named_leaves(VARIABLES)[path])
    averaged = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
    assert averaged.evaluated is averaged.ema
    plain = create()
    assert plain.evaluated["params"] is plain.params
    assert plain.evaluated["batch_stats"] is plain.batch_stats


def test_no_buffer_is_in_it_twice_so_that_it_can_be_donated():
    state = create(ema=True)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers) == 3 * 2 + 2 * 2 + 2
    jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
