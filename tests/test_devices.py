"""One function over 1, 2, 4 and 8 fake devices, by pmap and by sharded jit."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl import devices
from tl.errors import UserError

MAPPERS = pytest.mark.parametrize("how", devices.MAPPERS)


def affine(variables, images):
    flat = images.astype(jnp.float32).reshape(len(images), -1)
    return {"sum": flat.sum(axis=1), "affine": flat @ variables["kernel"] + variables["bias"]}


VARIABLES = {"kernel": np.arange(12, dtype=np.float32).reshape(6, 2), "bias": np.float32(1)}


@MAPPERS
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_results_are_those_of_the_function_itself(how, count):
    images = np.arange(16 * 6, dtype=np.uint8).reshape(16, 2, 3)
    mapped = devices.map_over_devices(affine, VARIABLES, how, jax.local_devices()[:count])
    assert mapped.device_count == count
    outputs = mapped.fetch(mapped(images))
    flat = images.reshape(16, 6).astype(np.float32)
    np.testing.assert_array_equal(outputs["sum"], flat.sum(axis=1))
    np.testing.assert_array_equal(outputs["affine"], flat @ VARIABLES["kernel"] + 1)


@MAPPERS
def test_all_local_devices_by_default_and_each_takes_its_share(how):
    mapped = devices.map_over_devices(affine, VARIABLES, how)
    assert mapped.device_count == len(jax.local_devices()) == 8
    outputs = mapped(np.ones((16, 2, 3), np.uint8))
    shards = outputs["sum"].addressable_shards
    assert {shard.device for shard in shards} == set(jax.local_devices())
    assert {shard.data.size for shard in shards} == {2}


@MAPPERS
def test_a_batch_that_does_not_divide_is_refused(how):
    mapped = devices.map_over_devices(affine, VARIABLES, how)
    with pytest.raises(ValueError, match=r"a multiple of 8 images, .* got 12"):
        mapped(np.ones((12, 2, 3), np.uint8))


@MAPPERS
def test_one_shape_is_traced_once_over_calls_and_variables(how):
    traces = []

    def function(variables, images):
        traces.append(images.shape)
        return images * variables

    for factor in (2, 3):
        mapped = devices.map_over_devices(function, np.int32(factor), how)
        for _ in range(3):
            outputs = mapped.fetch(mapped(np.ones((8, 5), np.int32)))
            np.testing.assert_array_equal(outputs, np.full((8, 5), factor))
    assert traces == [(1, 5) if how == "pmap" else (8, 5)]


def test_variables_cross_the_bus_once():
    mapped = devices.map_over_devices(affine, VARIABLES)
    # Implicit transfers are disallowed; that of the images is explicit.
    with jax.transfer_guard_host_to_device("disallow"):
        jax.block_until_ready(mapped(np.ones((8, 2, 3), np.uint8)))


def test_an_unknown_mapper_names_the_two():
    with pytest.raises(
        UserError, match=r"^extract.mapper: there is no 'pmp'; the nearest are 'pmap'"
    ):
        devices.map_over_devices(affine, VARIABLES, "pmp")


def test_full_precision_is_that_of_products_not_of_the_caller():
    def product(x):
        return x @ x

    x = jnp.ones((2, 2))
    plain, precise = (
        jax.jit(f).lower(x).as_text() for f in (product, devices.in_full_precision(product))
    )
    assert "HIGHEST" in precise and "HIGHEST" not in plain
    assert devices.in_full_precision(product).__name__ == "product"
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_prefetch_keeps_the_order_and_runs_ahead_by_size(size, length):
    put = []

    def start(item):
        put.append(item)
        return item * 10

    for i, item in enumerate(devices.prefetch(iter(range(length)), start, size)):
        assert item == i * 10
        assert len(put) == min(length, i + 1 + size)
    assert put == list(range(length))


def example_batch(size=16):
    return {
        "image": np.arange(size * 6, dtype=np.uint8).reshape(size, 2, 3),
        "label": np.arange(size, dtype=np.int32) - 1,
        "mask": np.arange(size) > 0,
        "index": np.arange(size),
        "id": [f"id{i}" for i in range(size)],
    }


@pytest.mark.parametrize("count", [1, 2, 8])
def test_each_device_gets_its_rows_of_a_batch(count):
    parallel = devices.DataParallel.over(jax.devices()[:count])
    assert parallel.device_count == count
    batch = example_batch()
    sent = parallel.put(batch)
    assert sent.keys() == {"image", "label", "mask"}
    for name, array in sent.items():
        assert array.dtype == batch[name].dtype
        np.testing.assert_array_equal(array, batch[name])
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        assert [shard.device for shard in shards] == jax.devices()[:count]
        parts = np.split(batch[name], count)
        for shard, part in zip(shards, parts, strict=True):
            np.testing.assert_array_equal(shard.data, part)


def test_state_lies_whole_on_every_device():
    parallel = devices.DataParallel.over()
    state = parallel.replicate({"a": np.arange(3.0, dtype=np.float32), "b": (jnp.ones(()),)})
    for leaf in jax.tree.leaves(state):
        assert {shard.device for shard in leaf.addressable_shards} == set(jax.devices())
        assert {shard.data.shape for shard in leaf.addressable_shards} == {leaf.shape}


def add_labels(state, batch):
    return {"sum": state["sum"] + jnp.where(batch["mask"], batch["label"], 0).sum()}


@pytest.mark.parametrize("donate", [False, True])
def test_a_compiled_function_sees_the_whole_batch(donate):
    parallel, traces = devices.DataParallel.over(), []

    def traced(state, batch):
        traces.append(batch["image"].shape)
        return add_labels(state, batch)

    compiled = parallel.compile(traced, donate=donate)
    state = parallel.replicate({"sum": jnp.int32(0)})
    for _ in range(3):
        before, state = state, compiled(state, parallel.put(example_batch()))
        assert state["sum"].is_fully_replicated and state["sum"].sharding.num_devices == 8
        # Nobody has read it. On a CPU what was read shares its memory with the host's array, which
        # JAX from 0.11 on leaves alone: it copies then, and does not donate.
        assert before["sum"].is_deleted() == donate
    assert int(state["sum"]) == 3 * sum(range(15))
    assert traces == [(16, 2, 3)]


@pytest.mark.parametrize(
    ("shape", "count", "axis"),
    [
        ((3, 3, 64, 256), 8, 3),
        ((768, 3072), 8, 1),
        ((3072, 768), 8, 0),
        ((768, 768), 8, 0),  # of equal ones the first
        ((1, 197, 768), 8, 2),  # a prime number of positions
        ((1000, 2047), 8, 0),  # the largest does not divide
        ((2048, 10), 3, None),
        ((2049, 10), 3, 0),
        ((7, 7, 3, 64), 7, 0),  # of equal ones the first; 64 does not divide
        ((13, 17), 8, None),
        ((4, 4), 8, None),  # fewer than devices
        ((4096,), 8, None),  # vectors and scalars lie whole
        ((), 8, None),
        ((0, 8), 8, 1),
        ((0, 7), 8, None),
        ((64, 64), 1, None),
    ],
)
def test_the_largest_axis_that_divides_is_divided(shape, count, axis):
    assert devices.axis_to_divide(shape, count) == axis


STATE = {
    "kernel": np.arange(3 * 16, dtype=np.float32).reshape(3, 16),
    "odd": np.arange(15, dtype=np.float32).reshape(3, 5),
    "bias": np.arange(16, dtype=np.float32),
    "steps": (np.int32(4), None),
}


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_divided_state_has_each_part_once(count):
    over = devices.DataParallel.over(jax.devices()[:count])
    parallel = dataclasses.replace(over, sharding="fsdp")
    placed = parallel.place(STATE)
    assert jax.tree.structure(placed) == jax.tree.structure(STATE)
    for leaf, array, lies in zip(
        *map(jax.tree.leaves, (placed, STATE, parallel.layout(STATE))), strict=True
    ):
        np.testing.assert_array_equal(leaf, array, strict=True)
        assert leaf.sharding == lies
    shards = sorted(placed["kernel"].addressable_shards, key=lambda s: s.index[1].start or 0)
    assert [shard.device for shard in shards] == jax.devices()[:count]
    for shard, part in zip(shards, np.split(STATE["kernel"], count, axis=1), strict=True):
        np.testing.assert_array_equal(shard.data, part)
    rest = 4 * (15 + 16 + 1)
    assert parallel.bytes_on_each(STATE) == 4 * 48 // count + rest
    assert parallel.bytes_on_each(placed) == parallel.bytes_on_each(STATE)
    assert over.bytes_on_each(STATE) == 4 * 48 + rest
    on_first = [s.data.nbytes for a in jax.tree.leaves(placed) for s in a.addressable_shards[:1]]
    assert parallel.bytes_on_each(STATE) == sum(on_first)


def test_a_divided_state_is_whole_where_it_is_used_and_its_gradient_is_divided():
    parallel = dataclasses.replace(devices.DataParallel.over(), sharding="fsdp")
    images = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
    batch = {"image": images, "label": np.zeros(16, np.int32), "mask": np.ones(16, bool)}

    def loss(params, batch):
        return jnp.sum(jnp.sin(batch["image"] @ parallel.whole(params)["kernel"]))

    def step(params, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        return jax.tree.map(lambda p, g: p - g, params, grads), {"loss": value}

    params = {"kernel": STATE["kernel"]}
    compiled = parallel.compile(step, state=params, donate=True)
    placed = parallel.place(params)
    program = compiled.lower(placed, parallel.put(batch)).compile().as_text()
    assert "all-gather" in program and "all-to-all" not in program
    after, measured = compiled(placed, parallel.put(batch))
    assert after["kernel"].sharding == parallel.layout(params)["kernel"]
    assert placed["kernel"].is_deleted() and measured["loss"].is_fully_replicated
    product = images.astype(np.float64) @ STATE["kernel"]
    assert float(measured["loss"]) == pytest.approx(np.sin(product).sum(), rel=1e-3)
    expected = STATE["kernel"] - images.T @ np.cos(product)
    np.testing.assert_allclose(after["kernel"], expected, rtol=1e-3, atol=1e-2)


def test_a_function_that_returns_no_state_sees_it_whole():
    parallel = dataclasses.replace(devices.DataParallel.over(), sharding="fsdp")

    def doubled_rows(state, batch):
        return {"sums": state["kernel"].sum(0) * 2, "count": batch["mask"].sum()}

    compiled = parallel.compile(doubled_rows)
    found = compiled(parallel.place(STATE), parallel.put(example_batch()))
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(found))
    np.testing.assert_array_equal(found["sums"], 2 * STATE["kernel"].sum(0))
    assert int(found["count"]) == 15
    assert compiled.__name__ == "doubled_rows"


@pytest.mark.parametrize("count", [1, 8])
def test_what_is_computed_again_is_not_kept(count):
    """Without the compiler's option it takes as much memory as what is kept."""
    parallel = devices.DataParallel.over(jax.devices()[:count])

    def layer(kernel, x):
        return jnp.tanh(jnp.tanh(jnp.tanh(x @ kernel) @ kernel) @ kernel)

    def memory(remat):
        block = jax.checkpoint(layer) if remat else layer

        def loss(params, batch):
            x = batch["image"]
            for kernel in params["kernels"]:
                x = block(kernel, x)
            return jnp.sum(x)

        def step(params, batch):
            return jax.grad(loss)(params, batch), {}

        params = {"kernels": [np.ones((8, 8), np.float32)] * 12}
        batch = {
            "image": jax.ShapeDtypeStruct((4096, 8), np.float32),
            "label": jax.ShapeDtypeStruct((4096,), np.int32),
        }
        compiled = parallel.compile(step, state=params, remat=remat)
        return compiled.lower(params, batch).compile().memory_analysis().temp_size_in_bytes

    assert memory(remat=True) < 0.6 * memory(remat=False)


@pytest.mark.parametrize(("size", "parts"), [(8, 1), (16, 1), (16, 2), (96, 3)])
def test_batch_sizes_that_divide(size, parts):
    devices.DataParallel.over().check_batch_size(size, parts)


@pytest.mark.parametrize(
    ("size", "parts", "text"),
    [
        (20, 1, "8, for 8 device(s), got 20; 16 is near"),
        (3, 1, "8, for 8 device(s), got 3; 8 is near"),
        (30, 1, "8, for 8 device(s), got 30; 32 is near"),
        (
            24,
            2,
            "16, for 8 device(s) and 2 parts (`train.accumulate`), got 24; 32 is near",
        ),
    ],
)
def test_batch_sizes_that_do_not_divide(size, parts, text):
    with pytest.raises(UserError) as caught:
        devices.DataParallel.over().check_batch_size(size, parts)
    assert str(caught.value) == f"train.batch_size: expected a multiple of {text}"
    devices.DataParallel.over().check_batch_size(int(text.split()[-3]), parts)


DIVIDED = """
import os
import subprocess
import sys

import jax
from tl import devices
devices.divide_cpu()
print(len(jax.devices()), devices.DataParallel.over().device_count, devices.is_cpu())
"""


@pytest.mark.parametrize(
    ("flags", "cores", "expected"),
    [
        ("", 3, "3 1 True"),
        ("", 64, "16 1 True"),
        ("--xla_force_host_platform_device_count=2", 3, "2 2 True"),  # said already: all train
    ],
)
def test_each_core_of_a_cpu_extracts_and_one_device_trains(flags, cores, expected):
    program = f"import os\nos.cpu_count = lambda: {cores}" + DIVIDED
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == expected
