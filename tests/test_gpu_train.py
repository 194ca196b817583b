"""Training on whatever accelerator there is, beside the same training on the CPU."""

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from tests import gpu, tiny
from tests.networks import random_variables
from tests.test_train_steps import MODEL, image_batch, step_of
from tl import tree
from tl.devices import DataParallel
from tl.runs import finetune
from tl.storage import checkpoint
from tl.storage.checkpoint import Checkpoints
from tl.weights.readers import WeightFile

pytestmark = pytest.mark.gpu

# SGD, since Adam blows the rounding errors of small gradients up to steps of full length.
SGD = {"optim.name": "sgd", "optim.learning_rate": 0.02, "train.head": "random"}
RUNS = {
    "20 steps": {"train.epochs": 10.0},
    "norm=train, averaged": {"train.ema_decay": 0.5},
    "norm=affine, accumulated": {
        "train.norm": "affine",
        "train.accumulate": 2,
        "train.batch_size": 32,  # a multiple of 16, for the two parts of eight devices
    },
    "norm=frozen, thawed": {
        "train.norm": "frozen",
        "train.freeze": ("stem", "stage1"),
        "train.unfreeze": ("stage1@4",),
    },
    "norm=recalibrate": {"train.norm": "recalibrate"},
    "divided, computed again": {"train.sharding": "fsdp", "train.remat": True},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with tiny.registered():
        yield tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def run(weights, path, fields):
    """Returns the loss of every step, val's accuracies, and the weights of a whole run."""
    values = tiny.config(weights, path / "features", **SGD, **fields)
    with jax.default_matmul_precision("highest"):
        result, _ = tiny.run(values, path)
    tensors = WeightFile(path / finetune.WEIGHTS).tensors()
    return tiny.losses(path), [row["val_loss"] for row in result["curve"]], tensors


@pytest.mark.parametrize("fields", RUNS.values(), ids=RUNS)
def test_a_run_is_that_of_the_cpu(fields, weights, tmp_path, monkeypatch):
    losses, val, tensors = run(weights, tmp_path / "accelerator", fields)
    on_cpu = DataParallel.over(jax.devices("cpu")[:1])
    monkeypatch.setattr(finetune.DataParallel, "over", lambda: on_cpu)
    with jax.default_device(jax.devices("cpu")[0]):
        expected, expected_val, expected_tensors = run(weights, tmp_path / "cpu", fields)
    assert len(losses) == len(expected) >= 10
    # A share of 1e-6 added to every weight at the start changes a loss by 5e-7 of it at most, and a
    # tensor by 5e-6 of its largest value.
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(val, expected_val, rtol=1e-4)
    assert tensors.keys() == expected_tensors.keys()
    for name, value in expected_tensors.items():
        largest = np.abs(value).max()
        np.testing.assert_allclose(tensors[name], value, 0, 1e-4 * largest, err_msg=name)


@pytest.fixture(scope="module")
def trained():
    """The state after four steps on the accelerator, each of which took the memory of the last."""
    state, step = step_of(random_variables(MODEL), ema_decay=0.9)
    parallel = DataParallel.over(jax.devices()[:1])
    compiled = parallel.compile(step, donate=True)
    state, _ = compiled(parallel.replicate(state), parallel.put(image_batch(0)))
    for number in range(1, 4):
        before = state
        # Only the batch is sent, which is explicit.
        with (
            jax.transfer_guard_host_to_device("disallow"),
            jax.transfer_guard_device_to_device("disallow"),
        ):
            state, _ = compiled(state, parallel.put(image_batch(number)))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    return state


def test_steps_take_the_memory_of_the_state_and_send_only_the_batch(trained):
    assert int(trained.step) == 4
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(trained))


@pytest.mark.parametrize("saved_on", ["accelerator", "cpu"])
def test_a_checkpoint_is_restored_bit_for_bit_on_the_other(trained, saved_on, tmp_path):
    there, here = jax.devices()[0], jax.devices("cpu")[0]
    if saved_on == "cpu":
        there, here = here, there
    state = jax.device_put(trained, there)
    expected = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=SingleDeviceSharding(here)
        ),
        state,
    )
    with Checkpoints(tmp_path, max_to_keep=1, metric="top1") as checkpoints:
        checkpoints.save(4, state, {"next": 3}, {}, None)
        restored, position, _ = checkpoints.restore(4, expected)
    assert position == {"next": 3}
    read, _ = checkpoint.read(tmp_path)
    saved, loaded = tree.named_leaves(state), tree.named_leaves(restored)
    assert saved.keys() == loaded.keys() == tree.named_leaves(read).keys()
    for path, leaf in loaded.items():
        assert leaf.devices() == {here}
        assert np.asarray(leaf).tobytes() == np.asarray(saved[path]).tobytes(), path


def test_the_same_bits_twice_and_no_program_twice(tmp_path):
    environment = {
        "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    processes = [
        gpu.start(f"train({str(tmp_path / name)!r})", **environment) for name in ("one", "other")
    ]
    (one, counts), (other, _) = map(gpu.finish, processes)
    assert one == other
    found, compiled = map(int, counts.split())
    assert (found, compiled > 0) == (0, True)
    # Another process finds the programs of the first, and compiles none.
    again, counts = gpu.finish(gpu.start(f"train({str(tmp_path / 'one')!r})", **environment))
    assert again == one
    assert counts == f"{compiled} 0"
