"""The guide's whole job, of a tiny network on noise."""

import dataclasses

import pytest

from experiments.benchmark import guide
from experiments.benchmark.synthetic import NoiseSource
from tests import contests


@pytest.fixture(autouse=True)
def tiny_job(monkeypatch):
    monkeypatch.setattr(guide, "BACKBONE", "resnet_tiny")
    monkeypatch.setattr("tl.report.plots.accuracy_over_endpoint", lambda *arguments: None)

    def noise(data, split, field):
        assert (data.name, data.data_dir) == ("cifar10", "somewhere")
        name, count = split.removesuffix("]").split("[:")
        return dataclasses.replace(NoiseSource(int(count), 32), split=name)

    monkeypatch.setattr("tl.data.sources.open_source", noise)
    with contests.in_this_process():
        yield


def test_our_job_is_the_run_of_the_config(monkeypatch):
    from tl.runs import probe

    results = []
    run = probe.run
    monkeypatch.setattr(probe, "run", lambda *args, **kw: results.append(run(*args, **kw)))
    options = contests.options(guide=True, data_dir="somewhere", guide_images=100)
    options.guide_config.preprocess.size = 16
    lines = []
    row = guide.measure(options, lines.append)
    ((result,),) = [results]
    assert result["selected"]["solver"] == "head" and result["selected"]["endpoint"] == "pooled"
    counts = {part: result["data"][part] for part in ("train", "val", "test")}
    assert counts == {"train": 80, "val": 20, "test": 20}
    assert (row["case"], row["unit"], row["ours"]) == ("guide, 100 images", "s", 0.5)
    assert row["growth_mib"] == {"ours": 2.0}
    assert lines == ["guide: memory grew by ours 2 MiB"]
    assert options.guide_config.weights == "resnet50.keras_notop"  # the caller's is as it was
