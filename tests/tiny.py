"""A network that compiles in a second, its weight file, and fine-tuning runs of it on digits."""

import contextlib
import json
import os
import re
from pathlib import Path
from unittest import mock

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from configs import common
from tests.networks import random_variables
from tl.models import registry
from tl.models.backbone import Backbone, Endpoint
from tl.models.resnet import ResNet
from tl.report import plots
from tl.runs import finetune, preview, workdir
from tl.weights import trained
from tl.weights.spec import LocalFile, Preprocessing, WeightSpec

BACKBONE = Backbone(
    name="resnet_tiny",
    module=ResNet,
    arguments={"stage_sizes": (1,), "block": "basic", "stem_width": 8, "widths": (16,)},
    outputs={
        "stem": Endpoint(8),
        "stage1": Endpoint(16),
        "pooled": Endpoint(16, "vector"),
    },
    layers=("stem", "stage1/block1", "head"),
    schemes=("torchvision",),
    stride=4,
)
CLASSES = ("cat", "dog", "emu")

# Python code: a command, `experiments.{}`, in a process that knows the network.
COMMAND_OF = """
import runpy
from tests import tiny
tiny.register()
runpy.run_module("experiments.{}", run_name="__main__", alter_sys=True)
"""
COMMAND = COMMAND_OF.format("finetune")


def register() -> None:
    """Makes the network known to this process until it ends."""
    registry._BACKBONES[BACKBONE.name] = BACKBONE


@contextlib.contextmanager
def registered():
    """Within it, the network is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BACKBONES, BACKBONE.name, BACKBONE)
        yield


@contextlib.contextmanager
def compiled_once(folder: Path):
    """Within it, what one run compiled serves the others, also those of other modules.

    The folder is for where the suite has none. Programs of any size are kept, beside those of
    commands under test, which read through theirs whenever they add one.
    """
    suite = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    options = {
        "jax_compilation_cache_dir": os.path.join(suite, "small") if suite else str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: jax.config.values[name] for name in options}
    for values in (options, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is options:
            yield


def write_weights(path: str | Path, seed: int = 0) -> str:
    """Writes random weights with a head of three classes, for images of 16 pixels."""
    network = registry.build(BACKBONE.name, num_classes=len(CLASSES))
    spec = WeightSpec(
        name="tiny",
        backbone=BACKBONE.name,
        source=LocalFile("tiny"),
        scheme="torchvision",
        preprocessing=Preprocessing(size=16, geometry="whole"),
        licence="",
        num_classes=len(CLASSES),
    )
    trained.save(jax.device_get(random_variables(network, seed)), path, spec, CLASSES)
    return str(path)


def config(weights: str, features: Path, **fields):
    """Returns ten steps on 8 of each digit, 2 of each to choose on; fields are dotted."""
    values = common.get_config()
    values.weights = weights
    values.extract.feature_dir = str(features)
    values.extract.threads = 0
    values.data.examples_per_class = (10,)
    values.train.batch_size = 40
    values.train.epochs = 5.0
    values.train.eval_every = 5
    values.train.norm_momentum = "0.5"
    values.optim.name = "adam"
    values.optim.learning_rate = 0.05
    values.report = False
    values.update_from_flattened_dict(fields)
    return values


@contextlib.contextmanager
def undrawn():
    """Within it, fine-tuning draws no pictures, which take a second each."""
    with mock.patch.object(preview, "draw"), mock.patch.object(plots, "learning_curve"):
        yield


def run(values, path: Path, log=lambda line: None, pictures=False):
    """Returns what a run in a folder gives, and all it says."""
    lines = []

    def note(line):
        lines.append(line)
        log(line)

    workdir.start(values, str(path), "test", resumable=True)
    with contextlib.nullcontext() if pictures else undrawn():
        result = finetune.run(values, path, note)
    return result, "\n".join(lines)


def records(path: Path) -> list[dict]:
    """Returns a run's `metrics.jsonl`."""
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def losses(path: Path) -> list[float]:
    """Returns the training loss of every step."""
    return [r["train/loss"] for r in records(path) if "train/loss" in r]


def last_step(path):
    """Returns the step of the last whole record."""
    file = path / "metrics.jsonl"
    steps = re.findall(r'^{"step": (\d+),.*}\n', file.read_text(), re.M) if file.exists() else []
    return int(steps[-1]) if steps else 0
