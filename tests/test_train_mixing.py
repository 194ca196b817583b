import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl.errors import UserError
from tl.train import mixing
from tl.train.mixing import Mixing, mix, one_hot_targets

BOTH = Mixing(mixup=1.0, cutmix=1.0)
mix_jitted = jax.jit(mix, static_argnames="mixing")
targets_of = jax.jit(one_hot_targets, static_argnums=(1, 2))


def batch(n=4, height=6, width=5, classes=3):
    images = np.random.default_rng(0).normal(size=(n, height, width, 3)).astype(np.float32)
    return jnp.asarray(images), targets_of(np.arange(n, dtype=np.int32) % classes, classes)


@functools.partial(jax.jit, static_argnames=("how", "count", "shape"))
def black_and_white(how, count, shape=(8, 6)):
    """Returns (images, targets) of many mixed batches of a black and a white image."""
    images = jnp.stack([jnp.zeros((*shape, 1)), jnp.ones((*shape, 1))])
    keys = jax.random.split(jax.random.key(0), count)
    return jax.vmap(lambda key: mix(images, jnp.eye(2), key, how))(keys)


def test_targets_by_hand():
    labels = np.int32([2, 0, -1])
    hard = targets_of(labels, 4, 0.0)
    assert hard.dtype == jnp.float32
    np.testing.assert_array_equal(hard, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    soft = targets_of(labels, 4, 0.2)
    expected = [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05], [0, 0, 0, 0]]
    np.testing.assert_allclose(soft, expected, rtol=1e-6)
    smooth = optax.smooth_labels(np.asarray(hard)[:2], 0.2)
    np.testing.assert_allclose(np.asarray(soft)[:2], smooth, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_smoothing_that_leaves_nothing_is_refused(smoothing):
    with pytest.raises(
        UserError,
        match=r"^train\.label_smoothing: expected a share in \[0, 1\), got " + str(smoothing),
    ):
        one_hot_targets(jnp.array([0]), 2, smoothing)


def test_off_is_nothing_at_all():
    images, targets = batch()
    off = Mixing(0, 0)
    assert not off.active
    assert mix(images, targets, jax.random.key(0), off) == (images, targets)
    jaxpr = jax.make_jaxpr(functools.partial(mix, mixing=off))(images, targets, jax.random.key(0))
    assert not jaxpr.eqns


@pytest.mark.parametrize("n", [1, 5])
def test_mixup_is_one_share_for_images_and_targets(n):
    images, targets = map(np.asarray, batch(n=n, classes=n))
    mixed, soft = map(np.asarray, mix_jitted(images, targets, jax.random.key(3), Mixing(mixup=1.0)))
    share = float(soft[0, 0]) if n > 1 else 0.5
    assert 0.01 < share < 0.99
    for values, out in ((images, mixed), (targets, soft)):
        expected = share * values + (1 - share) * values[::-1]
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.01, 1.0])
def test_mixups_share_is_of_a_beta_distribution(alpha):
    _, targets = black_and_white(Mixing(mixup=alpha), 4000, (1, 1))
    shares = np.asarray(targets)[:, 0, 0]
    assert np.isfinite(shares).all()
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@pytest.mark.parametrize(
    # Beta gives 0.75, so the box is half as high and as wide: 4 and 3 of 8 and 6 pixels. An odd
    # length loses its last pixel, as in the paper's code; a box at the corner is cut off.
    ("centre", "rows", "columns"),
    [((4, 3), (2, 6), (2, 4)), ((0, 0), (0, 2), (0, 1)), ((7, 5), (5, 8), (4, 6))],
)
def test_cutmix_by_hand(monkeypatch, centre, rows, columns):
    draws = iter(centre)
    monkeypatch.setattr(jax.random, "beta", lambda *_: jnp.float32(0.75))
    monkeypatch.setattr(jax.random, "randint", lambda *_: next(draws))
    images, targets = batch(n=2, height=8, width=6, classes=2)
    how = functools.partial(mix, mixing=Mixing(cutmix=1.0))  # drawn anew: not `mix_jitted`
    mixed, soft = jax.jit(how)(images, targets, jax.random.key(0))
    expected = np.array(images)
    box = (slice(None), slice(*rows), slice(*columns))
    expected[box] = images[::-1][box]
    np.testing.assert_array_equal(mixed, expected)
    share = 1 - (rows[1] - rows[0]) * (columns[1] - columns[0]) / 48
    np.testing.assert_allclose(soft, [[share, 1 - share], [1 - share, share]], rtol=1e-6)


def test_cutmix_pastes_one_rectangle_and_its_area_is_the_share():
    images, targets = (np.asarray(x) for x in black_and_white(Mixing(cutmix=1.0), 500))
    areas = []
    for (black, white), soft in zip(images[..., 0], targets):
        rows, columns = np.nonzero(black)
        if rows.size:
            assert black[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        np.testing.assert_array_equal(white, 1 - black)
        areas.append(black.mean())
        expected = [[1 - areas[-1], areas[-1]], [areas[-1], 1 - areas[-1]]]
        np.testing.assert_allclose(soft, expected, atol=1e-6)
    assert len(set(areas)) > 10


def test_cutmixs_areas_are_those_of_the_papers_code():
    _, targets = black_and_white(Mixing(cutmix=1.0), 3000, (32, 32))
    rng, areas = np.random.default_rng(0), []
    for _ in range(3000):
        cut = int(32 * np.sqrt(1 - rng.beta(1, 1)))
        low, high = (np.clip(c, 0, 32) for c in (lambda c: (c - cut // 2, c + cut // 2))(
            rng.integers(32, size=2)))  # fmt: skip
        areas.append(np.prod(high - low) / 32**2)
    pasted = np.asarray(targets)[:, 0, 1]
    assert pasted.mean() == pytest.approx(np.mean(areas), abs=0.02)
    assert pasted.std() == pytest.approx(np.std(areas), abs=0.02)


def test_with_both_a_fair_coin_decides():
    images, _ = black_and_white(BOTH, 1000)
    cut = np.isin(np.asarray(images), (0.0, 1.0)).all(axis=(1, 2, 3, 4))
    assert cut.mean() == pytest.approx(0.5, abs=0.07)


def test_a_batch_over_eight_devices_mixes_the_same_by_the_key_alone():
    images, targets = batch(n=16, height=16, width=16)
    mesh = jax.sharding.Mesh(jax.devices(), ("batch",))
    over = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    over_devices = jax.device_put((images, targets), over)
    seen = []
    for seed in (0, 0, 1, 2, 3, 4):
        outs = mix_jitted(*over_devices, jax.random.key(seed), BOTH)
        for out, expected in zip(outs, mix_jitted(images, targets, jax.random.key(seed), BOTH)):
            assert {shard.data.shape[0] for shard in out.addressable_shards} == {2}
            np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
        seen.append(np.asarray(outs[0]).tobytes())
    assert seen[0] == seen[1]
    assert len(set(seen)) == 5


def test_types_stay():
    images, targets = batch()
    images, key = images.astype(jnp.bfloat16), jax.random.key(0)
    mixed, soft = jax.eval_shape(functools.partial(mix, mixing=BOTH), images, targets, key)
    assert (mixed.dtype, soft.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("field", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_an_alpha_of_no_distribution_is_refused(field, alpha):
    with pytest.raises(
        UserError, match=rf"^augment\.{field}: expected the alpha of a Beta .* got {alpha}$"
    ):
        Mixing(**{field: alpha})


def test_active():
    assert Mixing(mixup=0.1).active
    assert Mixing(cutmix=0.1).active
    assert not mixing.Mixing().active
