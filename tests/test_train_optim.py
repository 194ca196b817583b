"""The optimizer against numbers worked by hand, and against optax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from tl import tree
from tl.errors import UserError
from tl.train import optim

NAMES = ("stem/bn/scale", "stem/conv/kernel", "head/bias", "head/kernel")
LIKE_SGD = {"learning_rate": 0.1, "momentum": 0.0, "nesterov": False}


def settings(**fields):
    return optim.Optim(**{**common.get_config().optim, "schedule": "constant", **fields})


def optimizer(multipliers=None, **fields):
    chosen = settings(**fields)
    rates = {**dict.fromkeys(NAMES, 1.0), **(multipliers or {})}
    return optim.make_optimizer(chosen, optax.constant_schedule(chosen.learning_rate), rates)


def random_tree(seed):
    rng = np.random.default_rng(seed)
    return tree.unflatten(
        {path: jnp.asarray(rng.normal(size=(2, 3)), jnp.float32) for path in NAMES}
    )


def run(tx, steps=5):
    """Returns the parameters after updates with gradients that do not depend on the optimizer."""
    params = random_tree(0)
    state = tx.init(params)
    update = jax.numpy_dtype_promotion("standard")(jax.jit(tx.update))  # as optax's own needs
    for step in range(steps):
        updates, state = update(random_tree(step + 1), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_same(params, expected):
    for path, leaf in tree.leaves(params).items():
        np.testing.assert_allclose(leaf, tree.leaves(expected)[path], rtol=1e-5, atol=1e-6)


def one_step(params, grads, state=None, **options):
    """Returns (parameters, state) after one update of trees of plain numbers."""
    tx = optimizer(**options)
    params, grads = (
        tree.unflatten({path: jnp.asarray(value, jnp.float32) for path, value in flat.items()})
        for flat in (params, grads)
    )
    updates, state = tx.update(grads, tx.init(params) if state is None else state, params)
    return tree.leaves(optax.apply_updates(params, updates)), state


RATE, DECAY = 0.01, 0.1
MOMENTUM = {"momentum": 0.9, "nesterov": True}
OPTAX = {
    "sgd": lambda: optax.sgd(RATE, **MOMENTUM),
    "adam": lambda: optax.adam(RATE),
    "nadam": lambda: optax.nadam(RATE),
    "adabelief": lambda: optax.adabelief(RATE, eps=1e-8),
    "adamax": lambda: optax.adamax(RATE),
    "amsgrad": lambda: optax.amsgrad(RATE),
    "lion": lambda: optax.lion(RATE, b2=0.999, weight_decay=0.0),
    "radam": lambda: optax.radam(RATE),
    "rmsprop": lambda: optax.rmsprop(RATE, decay=0.999, **MOMENTUM),
    "yogi": lambda: optax.yogi(RATE, eps=1e-8),
    "lars": lambda: optax.lars(RATE, trust_ratio_mask=optim.decay_mask, **MOMENTUM),
    "lamb": lambda: optax.lamb(RATE, eps=1e-8),
}
WITH_DECAY = {
    "adamw": lambda mask: optax.adamw(RATE, weight_decay=DECAY, mask=mask),
    "nadamw": lambda mask: optax.nadamw(RATE, weight_decay=DECAY, mask=mask),
    "lion": lambda mask: optax.lion(RATE, b2=0.999, weight_decay=DECAY, mask=mask),
    "lamb": lambda mask: optax.lamb(RATE, eps=1e-8, weight_decay=DECAY, mask=mask),
}


def test_every_core_has_its_peer_in_optax():
    assert optim.CORES.keys() == OPTAX.keys() | WITH_DECAY.keys()


@pytest.mark.parametrize("name", OPTAX)
def test_without_decay_it_is_optax(name):
    assert_same(run(optimizer(name=name))[0], run(OPTAX[name]())[0])


@pytest.mark.parametrize("name", WITH_DECAY)
def test_decoupled_decay_is_that_of_optax(name):
    expected, _ = run(WITH_DECAY[name](optim.decay_mask))
    assert_same(run(optimizer(name=name, weight_decay=DECAY))[0], expected)
    undecayed, _ = run(optimizer(name=name))
    assert np.abs(expected["head"]["kernel"] - undecayed["head"]["kernel"]).max() > 1e-4


@pytest.mark.parametrize(
    "name, core",
    [("sgd", lambda: optax.sgd(RATE, **MOMENTUM)), ("adam", lambda: optax.adam(RATE))],
)
def test_l2_is_decay_in_the_gradient(name, core):
    peer = optax.chain(optax.add_decayed_weights(DECAY, optim.decay_mask), core())
    assert_same(run(optimizer(name=name, weight_decay=DECAY, decay="l2"))[0], run(peer)[0])


def test_lars_with_l2_is_that_of_optax():
    peer = optax.lars(RATE, DECAY, optim.decay_mask, trust_ratio_mask=optim.decay_mask, **MOMENTUM)
    assert_same(run(optimizer(name="lars", weight_decay=DECAY, decay="l2"))[0], run(peer)[0])


def test_two_nesterov_steps_by_hand():
    options = {"learning_rate": 0.5, "momentum": 0.8, "nesterov": True}
    params, state = one_step({"head/bias": 1.0}, {"head/bias": 2.0}, **options)
    assert params["head/bias"] == pytest.approx(1 - 0.5 * (2 + 0.8 * 2))
    params, _ = one_step(params, {"head/bias": -1.0}, state, **options)
    trace = -1 + 0.8 * 2
    assert params["head/bias"] == pytest.approx(-0.8 - 0.5 * (-1 + 0.8 * trace))


def test_l2sp_by_hand():
    options = {**LIKE_SGD, "weight_decay": 0.5, "decay": "l2sp"}
    start = {"head/kernel": 3.0, "head/bias": 3.0}
    grads = {"head/kernel": 2.0, "head/bias": 2.0}
    params, state = one_step(start, grads, **options)
    assert params == {"head/kernel": pytest.approx(2.8), "head/bias": pytest.approx(2.8)}
    params, state = one_step(params, grads, state, **options)
    # The kernel is pulled back by 0.1 * 0.5 * (2.8 - 3); a bias never is.
    assert params["head/kernel"] == pytest.approx(2.8 - 0.2 + 0.01)
    assert params["head/bias"] == pytest.approx(2.6)
    assert state["coupled"].inner_state.params["head"]["kernel"] == 3.0


def test_l2sp_keeps_its_start_when_the_parameters_are_donated():
    tx = optimizer(weight_decay=0.5, decay="l2sp")
    params = random_tree(0)
    expected = np.array(params["head"]["kernel"])
    state = tx.init(params)

    def step(params, state):
        updates, state = tx.update(random_tree(1), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(2):
        params, state = step(params, state)
    start = state["coupled"].inner_state.params["head"]["kernel"]
    np.testing.assert_array_equal(start, expected)
    assert not np.allclose(params["head"]["kernel"], expected)


@pytest.mark.parametrize(
    "norm, kernel, bias",
    [(1.0, 0.6, 0.8), (5.0, 3.0, 4.0), (10.0, 3.0, 4.0), (0.0, 3.0, 4.0)],
)
def test_clipping_is_by_the_norm_of_all_leaves_before_decay(norm, kernel, bias):
    params, _ = one_step(
        {"head/kernel": 1.0, "head/bias": 1.0},
        {"head/kernel": 3.0, "head/bias": 4.0},
        **LIKE_SGD,
        clip=norm,
        weight_decay=2.0,
        decay="l2",
    )
    assert params["head/kernel"] == pytest.approx(1 - 0.1 * (kernel + 2.0))
    assert params["head/bias"] == pytest.approx(1 - 0.1 * bias)


def test_a_multiplier_scales_decay_too_and_one_leaf_only():
    params, _ = one_step(
        {"head/kernel": 1.0, "stem/conv/kernel": 1.0},
        {"head/kernel": 3.0, "stem/conv/kernel": 3.0},
        **LIKE_SGD,
        weight_decay=2.0,
        multipliers={"stem/conv/kernel": 0.25},
    )
    assert params["head/kernel"] == pytest.approx(1 - 0.1 * 5)
    assert params["stem/conv/kernel"] == pytest.approx(1 - 0.25 * 0.1 * 5)


def test_the_schedule_is_read_from_step_0():
    def schedule(step):
        return 1.0 + jnp.float32(step)

    tx = optim.make_optimizer(settings(**LIKE_SGD), schedule, {"head/bias": 1.0})
    params = {"head": {"bias": jnp.zeros(())}}
    state = tx.init(params)
    for expected in (-1.0, -2.0, -3.0):
        updates, state = tx.update({"head": {"bias": jnp.ones(())}}, state, params)
        assert updates["head"]["bias"] == expected


def test_decay_is_of_kernels():
    assert optim.decayed(NAMES) == {"stem/conv/kernel", "head/kernel"}


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop", "lamb"])
def test_an_unfrozen_leaf_starts_as_the_others_did_and_they_go_on(name):
    tx = optimizer({"stem/kernel": 1.0}, name=name, weight_decay=0.1, decay="l2sp")
    value, grads = jnp.asarray([1.0, -2.0]), [jnp.asarray([0.5, 3.0]), jnp.asarray([-1.0, 2.0])]

    def steps(params, state, grads):
        for grad in grads:
            updates, state = tx.update({top: {"kernel": grad} for top in params}, state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    alone = {"head": {"kernel": value}}
    settled, old = steps(alone, tx.init(alone), grads)
    unfrozen = {**settled, "stem": {"kernel": value}}
    new = tx.init(unfrozen)
    state = optim.extend_opt_state(old, new)

    assert jax.tree.structure(state) == jax.tree.structure(new)
    before, fresh, after = map(tree.named_leaves, (old, new, state))
    assert before.keys() < after.keys()
    for path, leaf in after.items():
        np.testing.assert_array_equal(leaf, before.get(path, fresh[path]))
    assert after["learning_rate/count"] == 2
    # The head's start is that of the run, not the one at which the stem was unfrozen.
    np.testing.assert_array_equal(after["coupled/inner_state/params/head/kernel"], value)

    late, _ = steps(unfrozen, state, grads)
    np.testing.assert_allclose(late["stem"]["kernel"], settled["head"]["kernel"], rtol=1e-6)
    whole, _ = steps(alone, tx.init(alone), grads + grads)
    np.testing.assert_allclose(late["head"]["kernel"], whole["head"]["kernel"], rtol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"name": "adamv"}, r"^optim.name: there is no 'adamv'; the nearest are 'adam"),
        ({"schedule": "cosin"}, r"optim.schedule: there is no 'cosin'; the nearest are 'cosine'"),
        ({"decay": "l3"}, r"^optim.decay: there is no 'l3'; the nearest are 'l2'"),
        (
            {"learning_rate": 0.0},
            r"^optim.learning_rate: .* above 0 and finite, got 0.0",
        ),
        ({"learning_rate": float("nan")}, r"^optim.learning_rate: .* above 0 and finite, got nan"),
        ({"epsilon": 0.0}, r"^optim.epsilon: expected a number above 0"),
        (
            {"weight_decay": -0.1},
            r"^optim.weight_decay: .* at least 0 and finite, got -0.1",
        ),
        (
            {"clip": float("inf")},
            r"^optim.clip: .* at least 0 and finite, got inf",
        ),
        ({"warmup": 1.0}, r"^optim.warmup: expected a number in \[0, 1\), got 1.0"),
        ({"momentum": 1.0}, r"^optim.momentum: expected a number in \[0, 1\)"),
        ({"b2": -0.5}, r"^optim.b2: expected a number in \[0, 1\)"),
        ({"factor": 10.0}, r"^optim.factor: expected a number in \(0, 1\], got 10.0"),
        ({"layer_decay": 0.0}, r"^optim.layer_decay: expected a number in \(0, 1\]"),
        (
            {"schedule": "step", "warmup": 0.3},
            r"^optim.boundaries: .* rise, from above `optim.warmup` \(0.3\) to below 1; got",
        ),
        ({"schedule": "step", "boundaries": (0.5, 1.0)}, r"below 1; got \(0.5, 1.0\)"),
    ],
)
def test_a_field_that_cannot_be_used_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        settings(**fields)


def test_boundaries_count_for_the_step_schedule_only():
    assert settings(schedule="cosine", warmup=0.5).boundaries == (0.3, 0.6, 0.9)
