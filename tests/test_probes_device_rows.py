import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl.probes import device_rows
from tl.probes.device_rows import DeviceRows, bucket, summed


def test_buckets_are_few():
    assert [bucket(n) for n in (1, 256, 257, 641, 1025, 1281)] == [256, 256, 640, 1024, 1152, 1408]


@pytest.mark.parametrize("few", [0, 1 << 30], ids=["8 devices", "1 device"])
@pytest.mark.parametrize("elements", [200, 1 << 20])
@pytest.mark.parametrize("sent", [150, 1 << 20])
@pytest.mark.parametrize("n", [1, 63, 1000])
def test_rows_lie_in_order_and_are_summed(n, sent, elements, few, monkeypatch):
    monkeypatch.setattr(device_rows, "_FEW", few)
    monkeypatch.setattr(device_rows, "_CPU_CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(device_rows, "_LEAST_ROWS", 1)
    monkeypatch.setattr(device_rows, "CHUNK_ELEMENTS", sent)
    x, labels = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32), np.arange(n) % 3
    asked = []

    def read(rows):
        asked.append(rows)
        return x[rows]

    rows = DeviceRows.place(read, labels, 3, 1)
    assert rows.mesh.size == (1 if few else 8)
    assert len(rows.features) % (rows.mesh.size * rows.chunk) == 0
    shards = {len(shard.data) for shard in rows.features.addressable_shards}
    assert shards == {len(rows.features) // rows.mesh.size}
    np.testing.assert_array_equal(np.asarray(rows.labels)[:n], labels)
    assert (np.asarray(rows.labels)[n:] == -1).all()
    np.testing.assert_array_equal(np.asarray(rows.features)[:n, :2], x)
    assert not np.asarray(rows.features)[n:].any() and not np.asarray(rows.features)[:, 2].any()
    assert sum(part.stop - part.start for part in asked) == n  # each is read once
    # At most `sent` numbers come at once, but for rows that make a chunk even.
    assert max(part.stop - part.start for part in asked) <= max(sent // 3 + 16, rows.chunk)

    def function(features, labels, weight):
        real = (labels >= 0).astype(jnp.float32)
        return {"count": real.sum(), "sum": weight * features.sum(axis=0)}

    found = jax.jit(summed(function, rows.mesh, rows.chunk))(rows.features, rows.labels, 2.0)
    assert found["count"] == n
    np.testing.assert_allclose(found["sum"], [*2 * x.sum(axis=0), 0], rtol=1e-4, atol=1e-4)


def test_what_is_made_of_a_row_bounds_a_chunk(monkeypatch):
    monkeypatch.setattr(device_rows, "_CPU_CHUNK_ELEMENTS", 1 << 15)
    rows = DeviceRows.place(lambda rows: np.ones((5000, 1))[rows], np.zeros(5000, int), 1, 64)
    assert (rows.chunk, len(rows.features)) == (512, 5120)
    monkeypatch.setattr(device_rows, "_CPU_CHUNK_ELEMENTS", 1)  # wide rows still come by 256
    rows = DeviceRows.place(lambda rows: np.ones((5000, 1))[rows], np.zeros(5000, int), 1, 64)
    assert 240 <= rows.chunk <= 256


def test_thousands_of_chunks_are_summed_to_the_last_digit(monkeypatch):
    monkeypatch.setattr(device_rows, "_CPU_CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(device_rows, "_LEAST_ROWS", 1)
    x = np.linspace(0.5, 1.5, 60_000, dtype=np.float32)[:, None] ** 7
    rows = DeviceRows.place(lambda rows: x[rows], np.zeros(len(x), int), 1, 1)
    assert len(rows.features) // rows.chunk > 3000
    found = jax.jit(summed(lambda x, labels: x.sum(), rows.mesh, rows.chunk))
    assert found(rows.features, rows.labels) == np.float32(x.sum(dtype=np.float64))


def test_local_rows_lie_on_devices_of_this_process(monkeypatch):
    monkeypatch.setattr(device_rows, "_FEW", 0)
    rows = DeviceRows.place(
        lambda rows: np.ones((50, 1))[rows], np.zeros(50, int), 1, 1, local=True
    )
    assert set(rows.features.devices()) == set(jax.local_devices())
