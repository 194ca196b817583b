"""Extraction end to end, by number of images and of devices."""

import jax
import numpy as np
import pytest

from experiments.benchmark import contest, pipeline
from experiments.benchmark.synthetic import NoiseSource
from tests import contests


@pytest.fixture
def in_this_process():
    with contests.in_this_process():
        yield


def test_the_rows(in_this_process):
    lines = []
    end, first, second, one, two = pipeline.measure(contests.options(), {}, lines.append)
    assert lines[0].endswith("so the images are noise: nothing is decoded")
    assert (end["case"], end["source"], end["images"]) == ("end to end", "noise", 64)
    assert end["ours"] == 2 * 64 and end["peers"] == {"compute alone": 2 * 64}
    assert [(row["unit"], row["images"], row["ours"]) for row in (first, second)] == [
        ("s", 8, 0.5), ("s", 64, 0.5)
    ]  # fmt: skip
    assert second["line_seconds"] == pytest.approx(
        {"each": 0.0, "fixed": 0.5, "largest_deviation": 0.0}, abs=1e-9
    )
    assert second["line_MiB"]["fixed"] == pytest.approx(3.0)
    assert [(row["devices"], row["peers"]) for row in (one, two)] == [
        (1, {}), (2, {"1 device(s)": 128.0})
    ]  # fmt: skip


def test_a_line_through_points_by_hand():
    # 2 + 3 x through three of four points; the least squares of these four are 2.2 + 3.1 x.
    line = pipeline.straight_line([0, 1, 2, 3], [2.0, 5.0, 9.0, 11.0])
    assert line["each"] == pytest.approx(3.1) and line["fixed"] == pytest.approx(2.1)
    assert line["largest_deviation"] == pytest.approx(0.7 / 8.3)


def test_fake_devices_replace_those_that_are_asked_for_already(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1 --xla_force_host_platform_device_count=8")
    environment = pipeline.fake_devices(3)
    assert environment == {"XLA_FLAGS": "--xla_a=1 --xla_force_host_platform_device_count=3"}
    monkeypatch.delenv("XLA_FLAGS")
    outcome = contest.alone(jax.device_count, environment=pipeline.fake_devices(3))
    assert outcome.value == 3


def test_images_of_cifar10_where_there_are_some(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "tl.data.sources.open_source", lambda data, split: asked.append((data, split))
    )
    pipeline.open_source(5, "somewhere")
    ((data, split),) = asked
    assert (data.name, data.data_dir, data.download) == ("cifar10", "somewhere", False)
    assert split == "train[:5]"


def test_noise_is_a_source():
    source = pipeline.open_source(12, "")
    assert isinstance(source, NoiseSource) and len(source) == 12
    assert source.labels().tolist() == [*range(10), 0, 1]
    example = source[11]
    assert (example["label"], example["id"]) == (1, "11")
    assert example["image"].shape == source.image_shape and example["image"].dtype == np.uint8
    assert np.any(example["image"] != source[10]["image"])
