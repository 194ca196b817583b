"""Every config in the repository runs, at a tiny setting and without a network."""

import dataclasses
import json
import re
import runpy
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from tests import tiny as tiny_network
from tests.shapes import TinyShapes
from tl.report import plots
from tl.runs import evaluate, finetune, probe, workdir
from tl.studies import study
from tl.studies.plan import make_plan

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("[!_]*.py"))
STUDIES = [path for path in CONFIGS if "experiments.ablate" in path.read_text()]
RUNS = [path for path in CONFIGS if path not in STUDIES]


def command(path):
    """Returns the entry point that a config's header names."""
    return re.search(r"python -m experiments\.(\w+) --config=", path.read_text())[1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A weight file of the tiny network, a TFDS set and a folder of images."""
    root = tmp_path_factory.mktemp("tiny")
    builder = TinyShapes(data_dir=str(root / "tfds"), file_format="array_record")
    builder.download_and_prepare()
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / "photos" / label).mkdir(parents=True)
        for i in range(8):
            image = rng.integers(0, 256, (40 + i, 50, 3), np.uint8)
            Image.fromarray(image).save(root / "photos" / label / f"{i}.jpg", quality=95)
    with tiny_network.registered(), tiny_network.compiled_once(root / "compiled"):
        tiny_network.write_weights(root / "tiny.safetensors")
        yield root


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_runs(path, tiny, tmp_path):
    config = runpy.run_path(str(path))["get_config"]()
    config.weights = str(tiny / "tiny.safetensors")
    config.preprocess.size = 16
    config.extract.feature_dir = str(tmp_path / "features")
    config.extract.batch_size = 128
    config.seeds = config.seeds[:1]
    if "logits" not in config.endpoints:
        known = {*tiny_network.BACKBONE.endpoints, "pixels", "last"}
        config.endpoints = tuple(e for e in config.endpoints if set(e.split("+")) <= known)
    match config.data.name:
        case "digits":
            config.data.examples_per_class = (2, 3)
        case "folder" | "imagenet2012":
            config.data.name = "folder"
            config.data.data_dir = str(tiny / "photos")
        case _:
            config.data.name = "tiny_shapes"
            config.data.data_dir = str(tiny / "tfds")
    config.probe.solvers = tuple(config.probe.solvers)
    config.probe.l2 = (min(config.probe.l2), max(config.probe.l2))
    config.report = False
    folder = workdir.start(config, str(tmp_path / "run"), path.stem)
    match "probe" if path.stem == "common" else command(path):
        case "evaluate":
            config.data.test = ""
            result = evaluate.run(config, folder)
            assert result["test"]["count"] == 16
        case "finetune":
            config.seeds = (0,)
            config.data.examples_per_class = (0,)
            config.data.val = "0.4"
            config.train.batch_size = 8
            config.train.accumulate = 1
            config.train.steps = 2
            config.augment.resize = 40 if config.augment.crop == "random" else 0
            with mock.patch.object(plots, "learning_curve"):  # the same for every config
                result = finetune.run(config, folder)
            assert result["steps"] == {"planned": 2, "done": 2}
            assert (folder / "augmented.png").exists() != config.train.cache_prefix
        case _:
            result = probe.run(config, folder)
            named = tiny_network.BACKBONE.named_endpoints(config.endpoints)
            assert result["selected"]["endpoint"] in named
    assert 0 <= result["test"]["top1"] <= 1
    assert (folder / "result.json").exists()


def shrunk(run, tiny, features):
    """Returns a run of a study on a network that compiles in a second, two steps long."""
    config = run.config
    config.weights = str(tiny / "tiny.safetensors")
    config.preprocess.size = 16
    config.extract.feature_dir = str(features)
    config.extract.endpoints = config.extract.shared_endpoints = ()
    if config.endpoints != ("pooled",):
        config.endpoints = ("stem", "stage1")
    if config.train.freeze:
        config.train.freeze = ("stem",)
    if config.data.name != "digits":
        config.data.update({"name": "tiny_shapes", "data_dir": str(tiny / "tfds")})
        config.data.update({"train": "train", "test": "test", "examples_per_class": (0,)})
    config.data.val = "0.4"
    config.probe.l2 = (0.1,)
    config.train.update({"batch_size": 8, "steps": 2, "eval_every": 2})
    return run


# Ten methods, of which tests/test_runs_finetune.py has what no other study has.
LONG = [pytest.param(p, marks=pytest.mark.slow) for p in STUDIES if p.stem == "study_methods"]


@pytest.mark.parametrize(
    "path", [*(p for p in STUDIES if p.stem != "study_methods"), *LONG], ids=lambda path: path.stem
)
def test_studies(path, tiny, tmp_path):
    config = runpy.run_path(str(path))["get_config"]()
    plan = make_plan(config)
    # Of named levels each once; those of one field differ in its value alone.
    named = [axis for axis in config.axes if not isinstance(config.axes[axis], tuple)]
    first = {tuple(run.levels[axis] for axis in named): run for run in reversed(plan.runs)}
    count = max((len(plan.axes[axis]) for axis in named), default=1)
    chosen = [
        first[tuple(plan.axes[axis][i % len(plan.axes[axis])] for axis in named)]
        for i in range(count)
    ]
    for run in chosen:
        shrunk(run, tiny, tmp_path / "features")
    names = frozenset(run.name for run in chosen)
    plan = dataclasses.replace(plan, runs=tuple(chosen), chosen=names, report=False)
    with tiny_network.undrawn():
        failed = study.run(plan, tmp_path)
    found = json.loads((tmp_path / "study.json").read_text())
    assert failed == [], [run["error"] for run in found["runs"]]
    assert all(0 <= run["test_top1"] <= 1 for run in found["runs"])
    assert (tmp_path / "accuracy.png").exists()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_header_gives_the_command(path):
    if path.stem != "common":
        name = command(path)
        assert f"python -m experiments.{name} --config=configs/{path.name}" in path.read_text()
        assert (path.parents[1] / "experiments" / f"{name}.py").exists()
