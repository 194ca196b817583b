"""One update against plain references: by hand, by `jax.grad`, and on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.lowered import operations
from tests.networks import random_variables, tiny_resnet
from tl import tree
from tl.devices import DataParallel
from tl.models.efficientnet_lite import EfficientNetLite
from tl.models.resnet import ResNet
from tl.models.vit import VisionTransformer
from tl.results import metrics
from tl.train import freezing
from tl.train.losses import LOSSES
from tl.train.mixing import Mixing, mix, one_hot_targets
from tl.train.state import TrainState
from tl.train.steps import accumulated, eval_step, forward, train_step

CLASSES = 3
BATCH = 16
MODEL = tiny_resnet(stage_sizes=(1, 1), widths=(4, 5), block="basic", num_classes=CLASSES)
# What is compiled several times.
SMALL = tiny_resnet(stage_sizes=(1,), widths=(4,), block="basic", num_classes=CLASSES)
# Weight decay of everything that it is given; momentum, so that there is a state to compare.
TX = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, momentum=0.9))


@pytest.fixture(scope="module")
def variables():
    return random_variables(MODEL)


@pytest.fixture(scope="module")
def few():
    return random_variables(SMALL)


def image_batch(number=0, size=BATCH, masked=()):
    rng = np.random.default_rng(number)
    label = rng.integers(0, CLASSES, size).astype(np.int32)
    label[list(masked)] = -1
    image = rng.normal(size=(size, 16, 16, 3)).astype(np.float32)
    return {"image": image, "label": label, "mask": label >= 0}


def step_of(variables, *, model=MODEL, freeze=(), norm="train", tx=TX, seed=0, **options):
    """Returns (state, step function) of the tiny network."""
    held = freezing.make_freezing(variables, freeze, norm)
    trained = frozenset(tree.leaves(variables["params"]).keys() - held.params)
    norms = freezing.train_mode_norms(held, variables["batch_stats"])
    options = {"mixing": Mixing(), "schedule": lambda step: 0.1, "prepare": lambda x: x, **options}
    step = functools.partial(
        train_step,
        forward=functools.partial(forward, model=model, train=norms),
        tx=tx,
        trained=trained,
        num_classes=CLASSES,
        **options,
    )
    trainable, _ = tree.partition(variables["params"], trained)
    return initial(variables, jax.jit(tx.init)(trainable), seed, **options), step


def initial(variables, opt_state, seed, ema_decay=0.0, **_):
    """Returns a state that may be donated: copies, made by NumPy, which compiles nothing."""
    copied = jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), variables)
    state = TrainState.create(copied, opt_state, seed, ema=False)
    if not ema_decay:
        return state
    return state.replace(ema=jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), copied))


def run(state, step, steps=1, size=BATCH):
    """Returns the state after some steps, and the metrics of each."""
    curve = []
    for number in range(steps):
        state, measured = step(state, image_batch(number, size))
        curve.append(jax.device_get(measured))
    return state, curve


def assert_close(found, expected, relative, noise=0.0):
    """Holds every leaf to a share of its own largest value, and of `noise`."""
    found, expected = tree.named_leaves(found), tree.named_leaves(expected)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        largest = max(np.abs(value).max(), noise)
        np.testing.assert_allclose(found[path], value, 0, relative * largest, err_msg=path)


def assert_identical(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.fixture(scope="module")
def cheap_beta():
    """A share drawn in one line: compiling the real draw takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "beta", lambda key, a, b: jax.random.uniform(key))
        yield


# Linear: its gradients are worked out in NumPy, and compiling it takes nothing.

FEATURES = 4


def linear_forward(variables, inputs, key):
    params, stats = variables["params"]["head"], variables["batch_stats"]["bn"]
    moved = {"bn": {"mean": 0.5 * stats["mean"] + 0.5 * inputs.mean(0)}}
    return inputs @ params["kernel"] + params["bias"], moved


def linear(seed=0, forward=linear_forward, rate=0.5, **options):
    rng = np.random.default_rng(7)
    params = {
        "head": {
            "kernel": jnp.asarray(rng.normal(size=(FEATURES, CLASSES)), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=CLASSES), jnp.float32),
        }
    }
    tx = optax.sgd(rate)
    mean = jnp.asarray(np.zeros(FEATURES, np.float32))
    variables = {"params": params, "batch_stats": {"bn": {"mean": mean}}}
    state = initial(variables, jax.jit(tx.init)(params), seed, **options)
    fixed = {
        "forward": forward,
        "prepare": lambda x: x,
        "tx": tx,
        "schedule": lambda step: 0.25 / (1.0 + jnp.float32(step)),
        "trained": frozenset(tree.leaves(params)),
        "num_classes": CLASSES,
        "mixing": Mixing(),
    }
    return state, jax.jit(functools.partial(train_step, **{**fixed, **options}))


def linear_batch(masked=()):
    batch = image_batch(3, 8, masked)
    return {**batch, "image": batch["image"].reshape(8, -1)[:, :FEATURES]}


def by_hand(state, inputs, targets, mask, rate=0.5):
    """Returns (loss, parameters after an update) in float64."""
    head = {name: np.float64(value) for name, value in state.params["head"].items()}
    logits = np.float64(inputs) @ head["kernel"] + head["bias"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    weight = np.float64(mask)[:, None] / np.sum(mask)
    loss = -np.sum(targets * log_p * weight)
    error = (np.exp(log_p) * targets.sum(1, keepdims=True) - targets) * weight
    grads = {"kernel": inputs.T @ error, "bias": error.sum(0)}
    norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
    return loss, norm, {name: head[name] - rate * grads[name] for name in head}


@pytest.mark.parametrize("masked", [(), (0, 5, 6)])
def test_loss_gradient_and_metrics_by_hand_and_masked_rows_do_not_count(masked):
    state, step = linear()
    batch = linear_batch(masked)
    after, measured = step(state, batch)
    targets = np.eye(CLASSES)[batch["label"]]
    loss, norm, expected = by_hand(state, batch["image"], targets, batch["mask"])
    assert measured["loss"] == pytest.approx(loss, rel=1e-6)
    assert measured["grad_norm"] == pytest.approx(norm, rel=1e-6)
    for name, value in expected.items():
        np.testing.assert_allclose(after.params["head"][name], value, rtol=1e-6, atol=1e-6)
    head = jax.tree.map(np.asarray, state.params["head"])
    logits = batch["image"] @ head["kernel"] + head["bias"]
    right = (np.argmax(logits, 1) == batch["label"])[batch["mask"]]
    assert 0 < right.mean() < 1
    assert measured["top1"] == pytest.approx(right.mean())
    # What lies in the masked rows does not matter, but to the batch statistics.
    batch["image"][list(masked)] = 1e3
    other, again = step(state, batch)
    assert_identical(again, measured)
    assert_identical(tree.leaves(other.params), tree.leaves(after.params))
    means = (np.asarray(state.batch_stats["bn"]["mean"]) for state in (other, after))
    moved = np.abs(np.subtract(*means)).max()
    assert (moved > 100) == bool(masked)


def test_a_batch_without_a_real_row_changes_no_parameter():
    state, step = linear()
    after, measured = step(state, linear_batch(masked=range(8)))
    assert measured["loss"] == measured["top1"] == measured["grad_norm"] == 0
    assert_identical(tree.leaves(after.params), tree.leaves(state.params))


def test_label_smoothing_by_hand():
    state, step = linear(label_smoothing=0.3)
    batch = linear_batch(masked=(2,))
    _, measured = step(state, batch)
    targets = 0.7 * np.eye(CLASSES)[batch["label"]] + 0.1
    loss, norm, _ = by_hand(state, batch["image"], targets, batch["mask"])
    assert measured["loss"] == pytest.approx(loss, rel=1e-6)
    assert measured["grad_norm"] == pytest.approx(norm, rel=1e-6)


def test_another_loss_by_hand():
    state, step = linear(loss=LOSSES["sigmoid"].function, label_smoothing=0.3)
    batch = linear_batch(masked=(2,))
    after, measured = step(state, batch)
    targets = 0.7 * np.eye(CLASSES)[batch["label"]] + 0.1
    head = {name: np.float64(value) for name, value in state.params["head"].items()}
    p = 1 / (1 + np.exp(-(np.float64(batch["image"]) @ head["kernel"] + head["bias"])))
    weight = batch["mask"][:, None] / 7
    loss = -np.sum((targets * np.log(p) + (1 - targets) * np.log(1 - p)) * weight)
    assert measured["loss"] == pytest.approx(loss, rel=1e-6)
    error = (p - targets) * weight
    kernel, bias = batch["image"].T @ error, error.sum(0)
    norm = np.sqrt(np.sum(kernel**2) + np.sum(bias**2))
    assert measured["grad_norm"] == pytest.approx(norm, rel=1e-6)
    for name, grad in (("kernel", kernel), ("bias", bias)):
        expected = head[name] - 0.5 * grad
        np.testing.assert_allclose(after.params["head"][name], expected, rtol=1e-6, atol=1e-6)


def test_mixup_mixes_images_and_targets_by_the_share_of_the_steps_key(monkeypatch):
    # The share is fixed: every example is 0.75 of itself and 0.25 of its partner.
    monkeypatch.setattr(jax.random, "beta", lambda key, a, b: jnp.float32(0.75))

    def flat(variables, inputs, key):
        return linear_forward(variables, inputs[:, 0, :, 0], key)

    state, step = linear(mixing=Mixing(mixup=0.2), forward=flat)
    batch = linear_batch(masked=(2,))  # whose partner, 5, counts for its own share
    batch["image"] = batch["image"][:, None, :, None]
    _, measured = step(state, batch)
    inputs = batch["image"][:, 0, :, 0]
    targets = np.eye(CLASSES)[batch["label"]] * batch["mask"][:, None]
    loss, norm, _ = by_hand(
        state,
        0.75 * inputs + 0.25 * inputs[::-1],
        0.75 * targets + 0.25 * targets[::-1],
        batch["mask"],
    )
    assert measured["loss"] == pytest.approx(loss, rel=1e-6)
    assert measured["grad_norm"] == pytest.approx(norm, rel=1e-6)


def test_another_step_mixes_otherwise_by_the_same_seed(cheap_beta):
    def flat(variables, inputs, key):
        return linear_forward(variables, inputs[:, 0, :, 0], key)

    state, step = linear(mixing=Mixing(mixup=1.0), forward=flat)
    batch = linear_batch()
    batch["image"] = batch["image"][:, None, :, None]
    losses = {}

    @jax.jit
    def mixed(number):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), number)
        return mix(
            jnp.asarray(batch["image"]),
            one_hot_targets(jnp.asarray(batch["label"]), CLASSES),
            jax.random.split(key)[0],
            Mixing(mixup=1.0),
        )

    for number in (0, 1, 5):
        at = state.replace(step=np.int32(number))
        losses[number] = float(step(at, batch)[1]["loss"])
        assert losses[number] == float(step(at, batch)[1]["loss"])
        images, targets = map(np.asarray, mixed(np.int32(number)))
        expected, _, _ = by_hand(state, images[:, 0, :, 0], targets, batch["mask"])
        assert losses[number] == pytest.approx(expected, rel=1e-5)
    assert len(set(losses.values())) == 3


def test_the_key_follows_from_seed_and_step_and_part_alone():
    def noisy(variables, inputs, key):
        logits, stats = linear_forward(variables, inputs, None)
        return logits + jax.random.uniform(key, logits.shape), stats

    batch = linear_batch()
    losses = []
    for seed, number in ((0, 0), (0, 1), (1, 0)):
        state, step = linear(seed, noisy)
        state = state.replace(step=np.int32(number))
        losses.append(float(step(state, batch)[1]["loss"]))
        assert losses[-1] == float(step(state, batch)[1]["loss"])
    assert len(set(losses)) == 3

    def keyed(variables, inputs, key):
        return jnp.zeros((len(inputs), CLASSES)), {"bn": {"mean": jax.random.uniform(key, (4,))}}

    # The statistics are what the last part drew: no two parts share a key.
    state, _ = linear()
    drawn = [
        linear(forward=keyed, accumulate=n)[1](state, batch)[0].batch_stats["bn"]["mean"]
        for n in (1, 2, 4)
    ]
    assert len({float(np.asarray(values)[0]) for values in drawn}) == 3


def test_the_learning_rate_is_that_of_the_step_and_steps_count():
    state, step = linear()
    for number in range(3):
        state, measured = step(state, linear_batch())
        assert measured["learning_rate"] == pytest.approx(0.25 / (1 + number))
        assert measured["learning_rate"].dtype == jnp.float32
    assert state.step == 3 and state.step.dtype == jnp.int32


def test_average_by_hand_with_its_warm_up():
    state, step = linear(ema_decay=0.2)
    before = np.asarray(state.params["head"]["kernel"], np.float64)
    average, stats = before, np.zeros(FEATURES)
    # (1 + t) / (10 + t) is 1/10, 2/11, 3/12, 4/13: the last two are above 0.2.
    for decay in (1 / 10, 2 / 11, 0.2, 0.2):
        state, _ = step(state, linear_batch())
        average = decay * average + (1 - decay) * np.asarray(state.params["head"]["kernel"])
        stats = decay * stats + (1 - decay) * np.asarray(state.batch_stats["bn"]["mean"])
        np.testing.assert_allclose(state.ema["params"]["head"]["kernel"], average, rtol=1e-5)
        np.testing.assert_allclose(state.ema["batch_stats"]["bn"]["mean"], stats, rtol=1e-5)
    assert np.abs(average - before).max() > 1e-2


# The tiny network.


@pytest.fixture(scope="module")
def exact(variables):
    """Three steps of all parameters on one device: the states before and after, and metrics."""
    state, step = step_of(variables)
    step, taken = jax.jit(step), []
    for number in range(3):
        before = state
        state, measured = step(state, image_batch(number))
        taken.append((before, state, jax.device_get(measured)))
    return taken


def test_an_update_is_that_of_the_mean_loss_over_the_whole_batch(exact):
    @jax.jit
    def plain(params, batch_stats, opt_state, batch):
        def loss_of(params):
            outputs, updated = MODEL.apply(
                {"params": params, "batch_stats": batch_stats},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(
                outputs["logits"], batch["label"]
            )
            return losses.mean(), updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = TX.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, loss

    for number, (before, after, measured) in enumerate(exact):
        params, batch_stats, opt_state, loss = plain(
            before.params, before.batch_stats, before.opt_state, image_batch(number)
        )
        assert measured["loss"] == pytest.approx(float(loss), rel=1e-6)
        assert_close(after.params, params, 1e-6)
        assert_close(after.batch_stats, batch_stats, 1e-6)
        # Gradients are sums that cancel; their rounding depends on how they are compiled.
        assert_close(after.opt_state, opt_state, 5e-6)


STEPS = 5


@pytest.fixture(scope="module")
def on_devices(few, cheap_beta):
    """The same run, with everything switched on, on some devices; each is made once."""

    @functools.cache
    def train(count):
        traces = []

        def prepare(images):
            traces.append(images.shape)
            return images

        state, step = step_of(
            few,
            model=SMALL.clone(dropout=0.3),
            mixing=Mixing(mixup=0.4, cutmix=1.0),
            label_smoothing=0.1,
            ema_decay=0.9,
            tx=optax.sgd(0.05, momentum=0.9),
            prepare=prepare,
        )
        parallel = DataParallel.over(jax.devices()[:count])
        compiled = parallel.compile(step, donate=True)

        def donating(state, batch):
            after = compiled(state, parallel.put(batch))
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
            return after

        return *run(parallel.replicate(state), donating, STEPS), traces

    return train


@pytest.mark.parametrize(
    "count", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (4, 8))]
)
def test_the_number_of_devices_does_not_show(on_devices, count):
    (state, curve, _), (one, expected, _) = on_devices(count), on_devices(1)
    for found, value in zip(curve, expected, strict=True):
        for name in value:
            assert found[name] == pytest.approx(value[name], rel=1e-5), name
    losses = [float(values["loss"]) for values in expected]
    assert len(set(losses)) == STEPS
    for part in ("params", "batch_stats", "opt_state", "ema"):
        assert_close(getattr(state, part), getattr(one, part), 1e-5, noise=0.1)
    assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(state)} == {count}
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))


def test_one_compilation_serves_all_steps_and_takes_the_states_memory(on_devices):
    state, curve, traces = on_devices(2)  # which looked at every state after its step
    assert traces == [(BATCH, 16, 16, 3)]
    assert int(state.step) == len(curve) == STEPS
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.fixture(scope="module")
def whole(few):
    """Two steps without parts, batch normalisation frozen, 32 examples."""
    state, step = step_of(few, model=SMALL, norm="frozen")
    return run(state, jax.jit(step), 2, size=32)


@pytest.mark.parametrize(("accumulate", "count"), [(2, 1), (4, 8)])
def test_parts_add_up_to_the_batch(few, whole, accumulate, count):
    state, step = step_of(few, model=SMALL, norm="frozen", accumulate=accumulate)
    parallel = DataParallel.over(jax.devices()[:count])
    compiled = parallel.compile(step)
    found, curve = run(
        parallel.replicate(state),
        lambda state, batch: compiled(state, parallel.put(batch)),
        2,
        size=32,
    )
    expected, values = whole
    for one, other in zip(curve, values, strict=True):
        for name in other:
            assert one[name] == pytest.approx(other[name], rel=1e-6), name
    assert_close(found.params, expected.params, 1e-6)
    assert_identical(tree.leaves(found.batch_stats), tree.leaves(few["batch_stats"]))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_add_up_to_the_batch_by_any_loss_and_masked_rows_weigh_nothing(name, accumulate):
    # In two parts one has no real example at all, and the other one has several.
    batch = linear_batch(masked=(1, 3, 5, 7, 4))
    options = {"loss": LOSSES[name].function, "label_smoothing": 0.1}
    (state, step), (_, in_parts) = linear(**options), linear(accumulate=accumulate, **options)
    (a, one), (b, other) = step(state, batch), in_parts(state, batch)
    for name in one:
        assert other[name] == pytest.approx(float(one[name]), rel=1e-6), name
    assert_close(b.params, a.params, 1e-6)


def parts_of(examples, parts):
    """Returns (number, examples) of each part, and `accumulated`'s result, of a plain loss."""

    def loss_of_part(params, stats, part, number):
        seen = jnp.roll(stats["seen"], -2).at[-2:].set(part["x"])
        seen = seen.at[-1].add(100.0 * jnp.float32(number))
        hits = jnp.sum(part["x"] > 2.0, dtype=jnp.float32)
        return jnp.sum(params["w"] ** 3 * part["x"]), ({"seen": seen}, hits)

    params, stats = {"w": jnp.float32(2)}, {"seen": jnp.zeros(6)}
    return accumulated(loss_of_part, params, stats, examples, parts)


parts_of_compiled = jax.jit(parts_of, static_argnums=1)


def test_accumulated_by_hand():
    examples = {"x": np.float32([1, 2, 3, 4, 5, 6])}
    grads, stats, loss, hits = jax.device_get(parts_of_compiled(examples, 3))
    assert (grads["w"], loss, hits) == (3 * 2**2 * 21, 2**3 * 21, 4)
    # Part i has every third example from i on, its number, and the statistics of the part before.
    assert stats["seen"].tolist() == [1, 4, 2, 105, 3, 206]
    grads, stats, loss, hits = jax.device_get(parts_of_compiled({"x": examples["x"][:2]}, 1))
    assert (grads["w"], loss, hits) == (3 * 2**2 * 3, 2**3 * 3, 0)
    assert stats["seen"].tolist() == [0, 0, 0, 0, 1, 2]


def test_one_part_needs_no_loop():
    def loops(parts):
        jaxpr = jax.make_jaxpr(lambda x: parts_of({"x": x}, parts))(jnp.ones(2 * parts))
        return [equation.primitive.name for equation in jaxpr.eqns].count("scan")

    assert (loops(1), loops(3)) == (0, 1)


def test_batch_statistics_are_those_of_the_parts_one_after_the_other():
    batch = linear_batch()
    (state, at_once), (_, in_parts) = linear(), linear(accumulate=4)
    mean = np.zeros(FEATURES)
    for number in range(4):
        mean = 0.5 * mean + 0.5 * batch["image"][number::4].mean(0)
    found = in_parts(state, batch)[0].batch_stats["bn"]["mean"]
    np.testing.assert_allclose(found, mean, rtol=1e-5)
    # Documented: it is not what the batch as a whole gives.
    whole = at_once(state, batch)[0].batch_stats["bn"]["mean"]
    np.testing.assert_allclose(whole, 0.5 * batch["image"].mean(0), rtol=1e-5)
    assert np.abs(np.asarray(whole) - mean).max() > 0.01


def test_what_is_frozen_does_not_move_by_a_bit(variables):
    state, step = step_of(
        variables, freeze=("stem", "stage1", "stage2/block1/conv2/bn/mean"), ema_decay=0.9
    )
    after, _ = run(state, jax.jit(step), 4)
    held = freezing.make_freezing(
        variables, ("stem", "stage1", "stage2/block1/conv2/bn/mean"), "train"
    )
    for part, paths in (("params", held.params), ("batch_stats", held.statistics)):
        before, now = tree.leaves(variables[part]), tree.leaves(getattr(after, part))
        average = tree.leaves(after.ema[part])
        assert before.keys() == now.keys() == average.keys()
        for path, value in before.items():
            for leaf in (now[path], average[path]):
                assert np.array_equal(leaf, value) == (path in paths), path
    # Nor is there anything of it in the optimizer's state, whose momentum is one leaf a parameter.
    moments = tree.named_leaves(after.opt_state)
    trained = tree.leaves(variables["params"]).keys() - held.params
    assert len(moments) == len(trained) and trained == {
        path for path in trained if any(name.endswith(path) for name in moments)
    }


def convolutions(jaxpr):
    """Number of convolutions in a program, those of the functions that it calls too."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "conv_general_dilated"
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            count += convolutions(inner) if hasattr(inner, "eqns") else 0
    return count


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        # Forward 6: stem, two of stage1, two and the shortcut of stage2. Backward: one for each
        # kernel that trains, one for each input with something that trains before it.
        ((), 6 + 6 + 5),
        (("stem",), 6 + 5 + 4),
        (("stem", "stage1"), 6 + 3 + 1),
        (("stage2",), 6 + 3 + 5),
        (("stem", "stage1", "stage2"), 6),
    ],
)
def test_no_gradient_is_computed_for_a_frozen_prefix(variables, freeze, expected):
    state, step = step_of(variables, freeze=freeze)
    assert convolutions(jax.make_jaxpr(step)(state, image_batch()).jaxpr) == expected


SHORT = ResNet((1, 1, 1, 1), num_classes=CLASSES)  # has every shape of ResNet-50's convolutions
LITE = EfficientNetLite((1, 2, 1, 0, 0, 0, 0), num_classes=CLASSES)


@pytest.mark.parametrize(
    ("model", "dtype", "convolutions", "depthwise"),
    [
        (SHORT, "float32", 17, 0),
        pytest.param(SHORT, "bfloat16", 17, 0, marks=pytest.mark.slow),
        pytest.param(LITE, "float32", 13, 4, marks=pytest.mark.slow),
    ],
)
def test_elsewhere_than_on_a_cpu_a_step_has_the_native_gradients(
    model, dtype, convolutions, depthwise
):
    state, step = step_of(random_variables(model, size=64), model=model.clone(dtype=dtype))
    batch = image_batch(size=4)
    batch["image"] = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.float32)
    found, groups = operations(step, state, batch)
    # Forward, the gradient of the kernel and, but for the first, that of the input. The gradient of
    # a depthwise kernel is a sum over groups of the batch.
    assert found["convolution"] == 3 * convolutions - 1
    assert len(groups) == 2 * depthwise
    assert found["dot_general"] == 3  # those of the head
    assert found["select_and_scatter"] == isinstance(model, ResNet)  # of the maximum


def test_bfloat16_computes_and_float32_remembers(variables, exact):
    state, step = step_of(variables, model=MODEL.clone(dtype=jnp.bfloat16), ema_decay=0.9)
    after, (measured,) = run(state, jax.jit(step))
    for part in ("params", "batch_stats", "opt_state", "ema"):
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(getattr(after, part))}
        assert dtypes == {jnp.dtype("float32")}, part
    assert {value.dtype for value in measured.values()} == {jnp.dtype("float32")}
    loss = exact[0][2]["loss"]
    assert measured["loss"] != loss
    assert measured["loss"] == pytest.approx(loss, rel=0.02)


def test_evaluation_by_hand_leaves_masked_rows_out():
    state, _ = linear()
    batch = linear_batch(masked=(1, 4))
    arrays = jax.tree.map(jnp.asarray, batch)
    evaluate = functools.partial(eval_step, prepare=lambda x: x, forward=linear_forward)
    result = jax.device_get(jax.jit(evaluate)(state.evaluated, arrays))
    logits = np.float64(result["logits"])
    log_p = (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[batch["mask"]]
    label = batch["label"][batch["mask"]]
    loss, hits = -log_p[np.arange(6), label].sum(), (log_p.argmax(1) == label).sum()
    expected = {"loss": (loss, 6), "top1": (hits, 6), "top5": (6, 6)}
    for name, value in expected.items():
        assert [float(x) for x in result[name]] == pytest.approx(value, rel=1e-6), name


def test_without_moving_statistics_they_come_back_as_they_were(variables):
    def logits_of(images):
        logits, stats = forward(variables, images, model=MODEL)
        assert stats is variables["batch_stats"]
        return logits

    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    assert jax.eval_shape(logits_of, images).shape == (2, CLASSES)


def network_of(logits):
    """Returns what `eval_step` takes for a network of these logits."""
    return {"forward": lambda variables, inputs, key: (logits, {}), "prepare": lambda x: x}


def test_the_loss_on_val_is_the_cross_entropy_to_the_bit():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(5 * rng.normal(size=(500, 1000)), jnp.float32)
    label = jnp.asarray(rng.integers(0, 1000, 500), jnp.int32)
    batch = {"image": jnp.zeros(500), "label": label, "mask": jnp.arange(500) != 7}
    found = jax.jit(lambda logits: eval_step({}, batch, **network_of(logits))["loss"])(logits)
    expected = jax.jit(metrics.cross_entropy)(logits, label, batch["mask"])
    assert_identical(dict(enumerate(found)), dict(enumerate(expected)))


def test_the_loss_on_val_is_the_training_loss_on_labels():
    logits = jnp.asarray(np.float32([[0.0, np.log(3.0)], [np.nan, 1.0], [0.0, 0.0]]))
    batch = {
        "image": np.zeros(3, np.float32),
        "label": np.int32([1, -1, 0]),
        "mask": np.array([True, False, True]),
    }
    evaluate = functools.partial(eval_step, loss=LOSSES["sigmoid"].function, **network_of(logits))
    found = jax.jit(evaluate)({}, batch)["loss"]
    expected = -3 * np.log(0.5) - np.log(0.75)
    assert [float(x) for x in found] == pytest.approx([expected, 2], rel=1e-6)


def test_stochastic_depth_comes_from_the_seed_and_the_step_alone():
    model = VisionTransformer(8, 2, 2, patch=8, grid=2, num_classes=CLASSES, drop_path=0.5)
    variables = {"batch_stats": {}} | random_variables(model, size=16)
    state, step = step_of(variables, model=model, accumulate=2)
    compiled, batch = jax.jit(step), image_batch()
    first, measured = compiled(state, batch)
    second, _ = compiled(first, batch)
    again, _ = compiled(jax.tree.map(jnp.asarray, jax.device_get(first)), batch)  # as restored
    for one, other in zip(jax.tree.leaves(second), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    later = state.replace(step=state.step + 1)
    assert compiled(later, batch)[1]["loss"] != measured["loss"]  # others are left out
