"""States saved on one set of devices and restored on another, kept, overwritten and damaged."""

import gc
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tl.errors import UserError
from tl.storage.checkpoint import Checkpoints, Damaged, read

KERNEL = np.arange(32, dtype=np.float32).reshape(8, 4)
METRIC = "val/top1"


def sharding(count, *axes):
    return NamedSharding(Mesh(np.array(jax.devices()[:count]), ("data",)), PartitionSpec(*axes))


def state_on(placement, kernel=KERNEL):
    """A state as training has it: optax's named tuples, an absent average, a raw key."""
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    params = {"head": {"kernel": jnp.asarray(kernel)}}
    opt_state = jax.tree.map(lambda leaf: leaf + 3, tx.init(params))
    state = {
        "step": jnp.int32(7),
        "params": params,
        "batch_stats": {},
        "opt_state": opt_state,
        "ema": None,
        "key": jax.random.key_data(jax.random.key(1)),
    }
    # A count has no axis to be sharded along.
    replicated = NamedSharding(placement.mesh, PartitionSpec())
    return jax.device_put(
        state, jax.tree.map(lambda leaf: placement if leaf.ndim == 2 else replicated, state)
    )


def abstract(state):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


def assert_same(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other)):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)


def open_in(directory, max_to_keep=1):
    return Checkpoints(directory, max_to_keep=max_to_keep, metric=METRIC)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with the best at step 2 and the latest at step 5, of eight devices."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    with open_in(directory) as checkpoints:
        state = state_on(sharding(8, "data"))
        checkpoints.save(2, state, {"epoch": 1}, {"name": "best"}, {METRIC: 0.5})
        checkpoints.save(5, state, {"epoch": 3}, {"name": "latest"}, None)
    return directory


@pytest.mark.parametrize("axes", [(), ("data",)])
@pytest.mark.parametrize("count", [1, 4])
def test_saved_on_eight_devices_restored_on_fewer(tmp_path, axes, count):
    state = state_on(sharding(8, *axes))
    with open_in(tmp_path) as checkpoints:
        checkpoints.save(7, state, {"next": [1, 2]}, {"classes": ["a"]}, None)
        expected = abstract(state_on(sharding(count, *axes)))
        restored, position, metadata = checkpoints.restore(7, expected)
    assert_same(restored, state)
    kernel = restored["params"]["head"]["kernel"]
    assert kernel.sharding == sharding(count, *axes)
    assert (position, metadata) == ({"next": [1, 2]}, {"classes": ["a"]})
    assert isinstance(restored["opt_state"][0], optax.EmptyState) and restored["ema"] is None


def test_arrays_serve_as_the_expected_state(saved):
    state = state_on(sharding(4))
    with open_in(saved) as checkpoints:
        assert_same(checkpoints.restore(2, state)[0], state)


def test_read_gives_numpy_without_knowing_the_tree(saved):
    state, metadata = read(saved)
    assert metadata == {"name": "best"}
    assert {type(leaf) for leaf in jax.tree.leaves(state)} == {np.ndarray}
    np.testing.assert_array_equal(state["params"]["head"]["kernel"], KERNEL, strict=True)
    np.testing.assert_array_equal(state["opt_state"][1][0]["mu"]["head"]["kernel"], KERNEL * 0 + 3)
    assert state["ema"] is None and state["batch_stats"] == {}
    assert read(saved, 5)[1] == {"name": "latest"}


def test_read_on_a_machine_with_one_device(saved):
    program = f"""
import tl.storage.checkpoint, jax
state, metadata = tl.storage.checkpoint.read({str(saved)!r}, 5)
print(jax.device_count(), metadata["name"], state["params"]["head"]["kernel"].sum())
"""
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("1 latest 496.0\n", "")


@pytest.mark.parametrize("axes", [(), ("data",)])
@pytest.mark.parametrize("count", [1, 8])
def test_a_state_may_be_donated_right_after_save(tmp_path, axes, count):
    large = np.arange(2_000_000, dtype=np.float32).reshape(8, -1)
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0, tree), donate_argnums=0)
    warm = jax.device_put({"kernel": large}, sharding(count, *axes))
    overwrite(warm)
    state = jax.device_put({"kernel": large}, sharding(count, *axes))
    expected = abstract(state)
    with open_in(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, {}, None)
        for _ in range(3):
            state = overwrite(state)
        jax.block_until_ready(state)
        restored, *_ = checkpoints.restore(1, expected)
    np.testing.assert_array_equal(np.asarray(restored["kernel"]), large)


def test_numpy_and_json_may_be_changed_right_after_save(tmp_path):
    kernel, position, metadata = KERNEL.copy(), {"next": {"index": 1}}, {"names": ["a"]}
    with open_in(tmp_path) as checkpoints:
        checkpoints.save(1, {"kernel": kernel}, position, metadata, None)
        kernel[:] = 0
        position["next"]["index"] = 2
        metadata["names"].append("b")
        restored = checkpoints.restore(1, {"kernel": KERNEL})
    np.testing.assert_array_equal(restored[0]["kernel"], KERNEL)
    assert restored[1:] == ({"next": {"index": 1}}, {"names": ["a"]})


@pytest.mark.parametrize(
    "max_to_keep, values, kept, best",
    [
        (1, {1: 0.5, 2: 0.7, 3: 0.7, 4: 0.6}, [3, 4], 3),  # the latest of equals, for ever
        (1, {1: 0.5, 2: 0.7, 3: None, 4: None}, [2, 4], 2),  # steps without metrics
        (2, {1: None, 2: None, 3: 0.1, 4: None, 5: None}, [3, 4, 5], 3),
        (1, {1: 0.5, 2: 0.7}, [2], 2),  # the best is the latest
        (1, {1: None, 2: None}, [2], None),
        (1, {1: float("nan"), 2: 0.0, 3: float("nan")}, [2, 3], 2),
    ],
)
def test_the_latest_and_the_best_are_kept(tmp_path, max_to_keep, values, kept, best):
    state = {"kernel": KERNEL}
    for again in (False, True):  # in one process, and in a new one after each save
        directory = tmp_path / str(again)
        checkpoints = open_in(directory, max_to_keep)
        for step, value in values.items():
            metrics = None if value is None else {METRIC: value, "val/loss": 1.0}
            checkpoints.save(step, state, {}, {"step": step}, metrics)
            if again:
                checkpoints.close()
                checkpoints = open_in(directory, max_to_keep)
        with checkpoints:
            checkpoints.wait()
            assert sorted(int(path.name) for path in directory.iterdir()) == kept
            assert (checkpoints.latest_step, checkpoints.best_step) == (kept[-1], best)
        assert read(directory)[1] == {"step": kept[-1] if best is None else best}


def test_an_empty_directory(tmp_path):
    with open_in(tmp_path / "new") as checkpoints:
        assert checkpoints.latest_step is None and checkpoints.best_step is None
    for directory in (tmp_path / "new", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"expected a checkpoint in .*there are: none"):
            read(directory)
    assert not (tmp_path / "nowhere").exists()


def test_a_step_that_is_not_there(saved):
    message = r"a checkpoint of step 3 in .*there are: 2, 5"
    with open_in(saved) as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.restore(3, {})
    with pytest.raises(UserError, match=r"step 3 in .*there are: 2, 5"):
        read(saved, 3)
    assert read(saved, 5)[1] == {"name": "latest"}


def test_another_state_lists_what_differs(saved):
    state = state_on(sharding(1))
    del state["key"]
    state["ema"] = {"params": state["params"]}
    state["params"] = {"head": {"kernel": jnp.zeros((8, 3))}}
    with open_in(saved) as checkpoints, pytest.raises(UserError) as caught:
        checkpoints.restore(5, state)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"the checkpoint of step 5 in {saved} is of another run")
    assert lines[1:] == [
        "  ema/params/head/kernel: expected float32[8, 4], found nothing",
        "  key: expected nothing, found uint32[2]",
        "  params/head/kernel: expected float32[8, 3], found float32[8, 4]",
    ]


# Orbax reads many arrays at a time, and leaves the others' readers behind where one fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "file", ["state/_METADATA", "state/manifest.ocdbt", "metadata/metadata", "position/metadata"]
)
@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_a_damaged_checkpoint_names_its_step(saved, tmp_path, file, how):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    path = directory / "5" / file
    path.unlink() if how == "missing" else path.write_bytes(path.read_bytes()[:-9])
    state = state_on(sharding(1))
    with open_in(directory) as checkpoints:
        with pytest.raises(UserError, match=f"step 5 in {directory} is damaged .*delete .*/5 to"):
            checkpoints.restore(5, state)
        assert_same(checkpoints.restore(2, state)[0], state)
    gc.collect()  # what Orbax left behind is not to disturb another test


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_flipped_bit_changes_what_is_restored(saved, tmp_path):
    """In any file, near its ends and in the middle: it is an error, or without effect."""
    state = state_on(sharding(1))
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    noticed = set()
    with open_in(directory) as checkpoints:
        files = sorted(path for path in (directory / "5").rglob("*") if path.is_file())
        for file in files:
            content = file.read_bytes()
            for place in sorted({0, len(content) // 2, len(content) - 2} - {-1, -2}):
                flipped = bytearray(content)
                flipped[place] ^= 1
                file.write_bytes(flipped)
                try:
                    found, position, metadata = checkpoints.restore(5, state)
                except UserError:
                    noticed.add(file.relative_to(directory / "5").parts[0])
                else:
                    assert_same(found, state)
                    assert (position, metadata) == ({"epoch": 3}, {"name": "latest"}), (file, place)
            file.write_bytes(content)
        assert_same(checkpoints.restore(5, state)[0], state)
    assert noticed >= {"state", "position", "metadata", "digest"}
    gc.collect()  # what Orbax left behind is not to disturb another test


@pytest.mark.parametrize("item", ["position", "metadata"])
def test_what_is_swapped_between_checkpoints_is_noticed(saved, tmp_path, item):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    shutil.copytree(directory / "2" / item, directory / "5" / item, dirs_exist_ok=True)
    with open_in(directory) as checkpoints, pytest.raises(Damaged) as damaged:
        checkpoints.restore(5, state_on(sharding(1)))
    assert damaged.value.brief == (
        f"the checkpoint of step 5 in {directory} is damaged (its {item} is not what was saved)"
    )


def test_a_checkpoint_without_digests_is_read(saved, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    shutil.rmtree(directory / "5" / "digest")
    with open_in(directory) as checkpoints:
        assert_same(checkpoints.restore(5, state_on(sharding(1)))[0], state_on(sharding(1)))
    assert read(directory, 5)[1] == {"name": "latest"}


def test_damaged_metrics_name_their_step(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "x")
    (tmp_path / "x" / "2" / "metrics" / "metrics").write_text('{"value": ')
    for opened in (open_in, read):
        with pytest.raises(UserError, match=r"checkpoint of step 2 in .* is damaged"):
            opened(tmp_path / "x")


def test_what_a_killed_save_has_left_does_not_disturb(saved, tmp_path):
    directory = tmp_path / "x"
    shutil.copytree(saved, directory)
    leftover = directory / "9.orbax-checkpoint-tmp"
    shutil.copytree(directory / "2", leftover)
    (leftover / "metrics" / "metrics").write_text("{")
    assert read(directory)[1] == {"name": "best"}
    state = state_on(sharding(1))
    with open_in(directory) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)
        checkpoints.save(9, state, {}, {}, None)
        assert_same(checkpoints.restore(9, state)[0], state)
    assert sorted(path.name for path in directory.iterdir()) == ["2", "9"]


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write a checkpoint to .*file: "):
        open_in(tmp_path / "file")
    with pytest.raises(UserError, match=r"^train\.max_to_keep: expected at least 1 .*got 0"):
        open_in(tmp_path, max_to_keep=0)
    with open_in(tmp_path) as checkpoints:
        with pytest.raises(KeyError, match=METRIC):
            checkpoints.save(1, {"a": KERNEL}, {}, {}, {"val/loss": 1.0})
        checkpoints.save(1, {"a": KERNEL}, {}, {}, None)
        with pytest.raises(UserError, match=r"cannot write .*step 1 already exists"):
            checkpoints.save(1, {"a": KERNEL}, {}, {}, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failed_save_is_told_at_the_next_wait(tmp_path):
    directory = tmp_path / "x"
    checkpoints = open_in(directory)
    shutil.rmtree(directory)
    directory.write_text("")
    with pytest.raises(UserError, match=f"cannot write a checkpoint to {directory}: "):
        checkpoints.save(1, {"a": KERNEL}, {}, {}, None)
        checkpoints.wait()


def test_an_error_of_the_block_is_not_hidden(tmp_path):
    with pytest.raises(RuntimeError, match="of the block"), open_in(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": KERNEL}, {}, {}, None)
        raise RuntimeError("of the block")
    assert read(tmp_path, 1)[1] == {}


def test_nothing_is_printed(tmp_path):
    program = f"""
import numpy as np
from tl.runs import cli
from tl.storage.checkpoint import Checkpoints, read
def main(arguments):
    state = {{"kernel": np.zeros(3)}}
    for _ in range(2):
        with Checkpoints({str(tmp_path)!r}, max_to_keep=1, metric="m") as checkpoints:
            start = checkpoints.latest_step or 0
            checkpoints.save(start + 1, state, {{}}, {{}}, {{"m": 1.0}})
            checkpoints.save(start + 2, state, {{}}, {{}}, None)
            checkpoints.restore(start + 2, state)
    read({str(tmp_path)!r})
cli.run(main)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[1],
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
