"""One function over 1, 2, 4 and 8 fake devices, by pmap and by sharded jit."""

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
    with pytest.raises(UserError, match="got 'pmp'; the nearest are 'pmap'"):
        devices.map_over_devices(affine, VARIABLES, "pmp")


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


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_the_work_whole_and_disjoint(monkeypatch, processes):
    items = [0, 1, 2, 5, 8, 9]
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    shares = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        share = devices.share_of_process(items)
        assert all(item % processes == process for item in share)
        shares += share
    assert sorted(shares) == items
