"""A training step of a tiny network, ours and as plain Flax takes it."""

import jax.numpy as jnp
import pytest

from experiments.benchmark import native, peers, train
from experiments.benchmark.synthetic import random_images, random_network
from tests import contests
from tl.data.transforms import normalise


@pytest.fixture(autouse=True)
def in_this_process():
    with contests.in_this_process():
        yield


def test_a_row_a_size(monkeypatch):
    batch_sizes = []
    monkeypatch.setattr(train, "ours", lambda *arguments: lambda: batch_sizes.append(arguments[2]))
    options = contests.options(train_sizes=(64, 72), batch_size=0)
    found = train.measure(options, {"float32": 1e9}, str)
    assert batch_sizes == [32, 16]
    for row, size, rate in zip(found, (64, 72), (64.0, 32.0), strict=True):
        assert (row["section"], row["size"], row["ours"]) == ("train", size, rate)
        flops = 3 * native.forward_flops("resnet_tiny", size)
        assert row["limit_fraction"] == pytest.approx(rate * flops / 1e9)


def test_our_step_is_that_of_flax_and_learns(monkeypatch):
    preprocessing = random_network("resnet_tiny", 16).spec.preprocessing
    monkeypatch.setattr(
        peers,
        "float_images",
        lambda n, size: normalise(jnp.asarray(random_images(n, size)), preprocessing),
    )
    config = contests.options().train_config
    ours = train.ours("resnet_tiny", 16, 8, config)
    flax = peers.flax_step("resnet_tiny", 16, 8)
    losses = [ours() for _ in range(20)]
    assert [flax() for _ in range(20)] == pytest.approx(losses, rel=1e-3)
    assert losses[-1] < 0.95 * losses[0]
    assert config.optim.learning_rate == 0.01  # the caller's config is as it was
