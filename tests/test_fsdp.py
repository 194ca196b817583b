"""Runs whose state is divided over devices are those that have it whole, and go on as these."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from tests import tiny
from tl.devices import DataParallel
from tl.errors import Stopped
from tl.runs import finetune
from tl.weights.readers import WeightFile

# SGD, since Adam blows the rounding errors of small gradients up to steps of full length.
SGD = {"optim.name": "sgd", "optim.learning_rate": 0.02}
# Phases, a term of the optimizer that holds parameters, an average, parts of a batch, dropout.
WHOLE = {
    **SGD,
    "train.freeze": ("stem",),
    "train.unfreeze": ("stem@3",),
    "train.ema_decay": 0.5,
    "train.accumulate": 2,
    "train.batch_size": 32,
    "train.dropout": 0.2,
    "optim.decay": "l2sp",
    "optim.weight_decay": 0.1,
    "train.max_to_keep": 2,
}
CASES = {
    "lora": {**SGD, "train.lora": ("stage1",), "train.lora_rank": 2},
    "lp-ft, new statistics, wise_ft": {
        **SGD,
        "optim.learning_rate": 1e-4,
        "train.head": "probe",
        "train.norm": "recalibrate",
        "train.wise_ft": True,
    },
    "lamb, clipped": {"optim.name": "lamb", "optim.clip": 1.0, "train.head": "random"},
    "mixup, affine": {**SGD, "augment.mixup": 0.2, "train.norm": "affine"},
}


@pytest.fixture(scope="module", autouse=True)
def backbone(tmp_path_factory):
    with tiny.registered(), tiny.compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def run(weights, tmp_path_factory):
    features, over = tmp_path_factory.mktemp("features"), DataParallel.over

    def run(path, sharding, count=8, stop=None, **fields):
        """Runs on so many devices; with `stop` it is asked to stop after that step."""

        def ask(line):
            if line.startswith(f"step {stop},"):
                os.kill(os.getpid(), signal.SIGTERM)

        values = tiny.config(weights, features, **fields, **{"train.sharding": sharding})
        with pytest.MonkeyPatch.context() as patch:
            # The probe asks for devices of its own.
            patch.setattr(
                DataParallel,
                "over",
                lambda *asked, **how: over(*asked or (jax.devices()[:count],), **how),
            )
            return tiny.run(values, path, ask)

    return run


@pytest.fixture(scope="module")
def replicated(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("replicated")
    run(path, "replicated", **WHOLE)
    return path


def assert_same(path, expected):
    """Holds losses, evaluations and weights of two runs together, and that they wrote the same."""
    assert len(tiny.losses(expected)) >= 10
    np.testing.assert_allclose(tiny.losses(path), tiny.losses(expected), rtol=1e-5)
    one, other = (json.loads((p / "result.json").read_text()) for p in (path, expected))
    for row, there in zip(one["curve"], other["curve"], strict=True):
        assert row["val_loss"] == pytest.approx(there["val_loss"], rel=1e-5)
    for name in ("selected", "val", "test", "parameters"):
        assert one[name] == other[name]
    one, other = (WeightFile(p / finetune.WEIGHTS).tensors() for p in (path, expected))
    assert one.keys() == other.keys()
    for name, tensor in other.items():
        np.testing.assert_allclose(one[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)
    assert files(path) == files(expected)


def files(path):
    found = (p.relative_to(path) for p in path.rglob("*") if p.is_file())
    return sorted(str(p) for p in found if p.parts[0] not in ("checkpoints", "tensorboard"))


def slow(*values):
    return (pytest.param(*values, marks=pytest.mark.slow),)


@pytest.mark.parametrize("count", [*slow(1), *slow(2), *slow(4), 8])
def test_a_divided_run_is_the_replicated_one(run, replicated, tmp_path, count):
    result, log = run(tmp_path, "fsdp", count, **WHOLE)
    assert_same(tmp_path, replicated)
    memory, whole = result["memory"], json.loads((replicated / "result.json").read_text())["memory"]
    assert (memory["devices"], memory["sharding"]) == (count, "fsdp")
    assert whole["state"] == whole["whole"] == memory["whole"]
    devices = f"each of {count} devices" if count > 1 else "one device"
    assert f" on {devices} (variables" in log
    # The vectors of so small a network are a fifteenth of it.
    assert whole["state"] / count <= memory["state"] <= whole["state"] * (1 / count + 0.07)


@pytest.mark.slow
@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_so_are_others(run, tmp_path, fields):
    for sharding in ("replicated", "fsdp"):
        run(tmp_path / sharding, sharding, **fields)
    assert_same(tmp_path / "fsdp", tmp_path / "replicated")


def test_blocks_computed_again_change_nothing(run, replicated, tmp_path):
    run(tmp_path, "fsdp", 2, **WHOLE, **{"train.remat": True})
    assert_same(tmp_path, replicated)


@pytest.fixture(scope="module")
def stopped(run, tmp_path_factory):
    """Runs that are stopped after step 5 of 12, in the second phase, by how their state lies."""

    def stop(sharding, count):
        path = tmp_path_factory.mktemp("stopped")
        with pytest.raises(Stopped, match="after step 5 of"):
            run(path, sharding, count, stop=5, **WHOLE)
        return path

    return stop


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        (("fsdp", 8), ("replicated", 1)),
        *slow(("replicated", 8), ("fsdp", 2)),
        *slow(("replicated", 1), ("fsdp", 8)),
        *slow(("fsdp", 8), ("fsdp", 2)),
        *slow(("fsdp", 2), ("fsdp", 8)),
        *slow(("fsdp", 1), ("fsdp", 4)),
    ],
)
def test_a_run_goes_on_however_its_state_lies(run, stopped, replicated, tmp_path, begun, goes_on):
    shutil.copytree(stopped(*begun), tmp_path, dirs_exist_ok=True)
    remat = {"train.remat": goes_on[1] == 2}
    result, log = run(tmp_path, *goes_on, **WHOLE, **remat)
    assert "going on after step 5 of" in log
    assert (result["memory"]["sharding"], result["memory"]["devices"]) == goes_on
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["train"]["sharding"] == goes_on[0]
    assert_same(tmp_path, replicated)
