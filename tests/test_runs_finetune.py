"""Whole fine-tuning runs of a tiny network on digits, over eight fake devices."""

import collections
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import common
from tests import lite0, tiny
from tests.folders import contents
from tl import tree
from tl.data.digits import Digits
from tl.devices import DataParallel
from tl.errors import Stopped, UserError
from tl.report import page
from tl.results.examples import load_examples
from tl.results.predictions import Predictions
from tl.results.projection import load_features
from tl.runs import extract, finetune, options, probe, workdir
from tl.storage import checkpoint
from tl.train import wise_ft
from tl.train.losses import LOSSES
from tl.weights.load import load

AVERAGED = {"train.ema_decay": 0.5}


@pytest.fixture(scope="module", autouse=True)
def backbone(tmp_path_factory):
    with tiny.registered(), tiny.compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def config(weights, tmp_path_factory):
    features = tmp_path_factory.mktemp("features")
    return lambda **fields: tiny.config(**{"weights": weights, "features": features, **fields})


@pytest.fixture(scope="module")
def compiled():
    """How often the run of `trained` compiled each function."""
    return collections.Counter()


@pytest.fixture(scope="module")
def trained(config, compiled, tmp_path_factory):
    running = True
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, fun_name="", **_: (
            compiled.update([fun_name]) if running and "backend_compile" in event else None
        )
    )
    path = tmp_path_factory.mktemp("trained")
    result, log = tiny.run(config(**AVERAGED), path, pictures=True)
    running = False
    return path, result, log


@pytest.fixture(scope="module")
def stopped(config, tmp_path_factory):
    """A run of the same config, stopped in its middle."""

    def ask(line):
        if line.startswith("step 5,"):
            os.kill(os.getpid(), signal.SIGTERM)

    path = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 5 of 10, which is") as stop:
        tiny.run(config(**AVERAGED), path, ask)
    assert stop.value.status == 143
    assert f"the same command with --workdir={path} goes on" in str(stop.value)
    return path


def test_a_whole_run_compiles_each_step_once(trained, compiled):
    steps = {name: n for name, n in compiled.items() if "_step" in name or "first_state" in name}
    assert steps == {"jit(first_state)": 1, "jit(train_step)": 1, "jit(labelled_eval_step)": 1}


def kept(path, step=None):
    """Returns the leaves of a checkpoint's averaged variables, or of those it has."""
    state, _ = checkpoint.read(path / "checkpoints", step)
    return tree.leaves(state["ema"] or {name: state[name] for name in ("params", "batch_stats")})


def begun(weights):
    return tree.leaves(load(weights).variables)


def moved(before, after):
    """Returns the paths below the head of leaves that are not bit for bit the same."""
    assert before.keys() == after.keys()
    return {
        path
        for path in before
        if "head/" not in path and np.asarray(before[path]).tobytes() != after[path].tobytes()
    }


def test_result_json(trained):
    path, result, log = trained
    written = json.loads((path / "result.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert set(written) == {
        *("schema", "kind", "data", "weights", "selected", "val", "test", "curve", "steps"),
        *("rule", "parameters", "memory", "warnings", "seeds", "seconds"),
    }  # fmt: skip
    assert written["schema"] == 1
    assert written["kind"] == "finetune"
    assert "10 steps are few for a head that starts from nothing" in written["warnings"][-1]
    assert written["data"] == {
        "name": "digits",
        "version": "1.0.0",
        "splits": {"train": "train", "test": "test"},
        "classes": 10,
        "train": 80,
        "val": 20,
        "test": 797,
    }
    assert len(written["weights"]["sha256"]) == 64
    rows = {row["step"]: row for row in written["curve"]}
    best = max(rows.values(), key=lambda row: (row["val_top1"], row["step"]))
    assert list(rows) == [0, 5, 10]
    assert best["step"] > 0  # it learns, or what follows would say little
    assert written["selected"] == {
        "method": "fine-tune",
        "step": best["step"],
        "epoch": best["step"] / 2,
    }
    assert written["val"] == {"top1": best["val_top1"], "count": 20}
    assert written["test"]["count"] == 797
    assert written["seeds"] == [{"seed": 0, "test_top1": written["test"]["top1"]}]
    assert written["steps"] == {"planned": 10, "done": 10}
    assert written["rule"] == {}
    assert written["parameters"] == {"all": 5042, "trained": 5042}
    # Parameters, and 112 batch statistics; two moments and a count for each of 14 arrays.
    variables, optimizer = 4 * (5042 + 112), 4 * (2 * 5042 + 14)
    assert written["memory"] == {
        "devices": 8,
        "sharding": "replicated",
        "variables": variables,
        "optimizer": optimizer + 4,  # the schedule counts too
        "average": variables,
        "state": 2 * variables + optimizer + 16,  # the step, and a key of two numbers
        "whole": 2 * variables + optimizer + 16,
    }
    assert "state of training: 81.6 kB on each of 8 devices (variables 20.6 kB, opt" in log
    seconds = written["seconds"]
    assert 0 < seconds["train"] + seconds["test"] < seconds["total"]
    assert f"{100 * best['val_top1']:.1f} % of 20" in log


def test_every_step_is_recorded(trained):
    path, result, _ = trained
    records = tiny.records(path)
    assert [r["step"] for r in records if "train/loss" in r] == list(range(1, 11))
    losses = tiny.losses(path)
    assert result["curve"][1]["train_loss"] == pytest.approx(np.mean(losses[:5]), rel=1e-12)
    assert losses[0] == pytest.approx(np.log(10), rel=1e-6)  # a head of zeros guesses
    assert [r["val/top1"] for r in records if "val/top1" in r] == [
        row["val_top1"] for row in result["curve"]
    ]


def test_what_else_it_writes(trained):
    path, _, _ = trained
    for name in ("config.json", "environment.json", "learning_curve.png", "augmented.png"):
        assert (path / name).stat().st_size > 0
    leaves = (path / "parameters.txt").read_text().splitlines()
    assert len(leaves) == 2 + len(kept(path))
    assert len(list((path / "tensorboard").iterdir())) == 1


def test_the_evidence_is_of_what_was_kept(trained):
    path, result, _ = trained
    predictions = Predictions.load(path)
    test = Digits("test")
    assert predictions.seeds.tolist() == [0]
    assert predictions.classes.tolist() == list(test.classes)
    assert predictions.test_ids.tolist() == [test[row]["id"] for row in range(len(test))]
    np.testing.assert_array_equal(predictions.test_labels, test.labels())
    np.testing.assert_array_equal(
        predictions.test_predicted[0], predictions.test_logits.argmax(axis=1)
    )
    assert predictions.correct.mean() == result["test"]["top1"]
    found = predictions.val_logits.argmax(axis=1) == predictions.val_labels
    assert (found.mean(), len(found)) == (result["val"]["top1"], result["val"]["count"])
    train = Digits("train")
    ids = {train[row]["id"]: train[row]["label"] for row in range(len(train))}
    assert [ids[name] for name in predictions.val_ids] == predictions.val_labels.tolist()
    features = load_features(path)
    assert features.endpoint == "pooled"
    assert features.coordinates.shape == (797, 16)
    for example in load_examples(path):
        images = test if example["split"] == "test" else train
        (row,) = [row for row in range(len(images)) if images[row]["id"] == example["id"]]
        with Image.open(path / example["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), images[row]["image"])


def test_the_report_is_of_the_finished_run(config, tmp_path, monkeypatch):
    built = []

    def build(path):
        built.append((path / "result.json").exists())
        return path / "report.html"

    monkeypatch.setattr(page, "build", build)
    values = config(**{"train.epochs": 0.0, "report": True})
    _, log = tiny.run(values, tmp_path)
    assert built == [True]
    assert f"report: {tmp_path / 'report.html'}" in log


def test_the_same_network_is_the_same_file(tmp_path):
    files = [tiny.write_weights(tmp_path / f"{i}.safetensors") for i in range(8)]
    assert len({Path(file).read_bytes() for file in files}) == 1


@pytest.mark.parametrize("part", ["", "checkpoints", "model.safetensors"])
def test_the_folder_is_a_weight_set(trained, part):
    path, result, _ = trained
    network = load(str(path / part))
    assert network.spec.classes == tuple("0123456789")
    assert network.spec.preprocessing.size == 16
    assert not moved(kept(path), tree.leaves(network.variables))
    state, _ = checkpoint.read(path / "checkpoints", result["selected"]["step"])
    averaged, last = tree.leaves(state["ema"]["params"]), tree.leaves(state["params"])
    assert np.any(averaged["stem/conv/kernel"] != last["stem/conv/kernel"])
    head = network.variables["params"]["head"]["kernel"]
    assert head.tobytes() == averaged["head/kernel"].tobytes()


def test_test_is_the_accuracy_of_what_was_kept(trained, config, tmp_path):
    path, result, _ = trained
    values = config(weights=str(path), endpoints=("logits",))
    values.extract.fold_batch_norm = False
    store = extract.run(values, tmp_path, lambda line: None)["test"]
    rows = np.arange(len(store.labels()))
    logits = store.read("logits", rows)
    assert np.mean(logits.argmax(-1) == store.labels()) == result["test"]["top1"]


def test_a_probe_of_the_folder(trained, config, tmp_path):
    path, _, _ = trained
    values = config(weights=str(path))
    values.probe.l2 = (1e-3, 1e-1)
    probed = probe.run(values, tmp_path, lambda line: None)
    assert probed["weights"]["name"] == str(path)
    assert probed["test"]["count"] == 797
    assert probed["test"]["top1"] > 0.3
    # A fine-tuning run and a probe can be compared image by image.
    ours, theirs = map(Predictions.load, (tmp_path, path))
    np.testing.assert_array_equal(ours.test_ids, theirs.test_ids)
    np.testing.assert_array_equal(ours.test_labels, theirs.test_labels)


def test_a_second_training_keeps_the_head(trained, config, tmp_path):
    path, result, _ = trained
    fields = {"weights": str(path), "train.head": "keep", "train.epochs": 0.0}
    again, _ = tiny.run(config(**fields), tmp_path)
    assert [row["step"] for row in again["curve"]] == [0]
    assert again["curve"][0]["val_top1"] == result["val"]["top1"]
    assert again["test"] == result["test"]
    assert again["steps"] == {"planned": 0, "done": 0}
    assert not moved(kept(path), kept(tmp_path))


def test_a_head_of_other_classes_is_not_kept(config, tmp_path):
    with pytest.raises(UserError, match=r"head for the 10 classes .*has 3 \(cat, dog, emu, "):
        tiny.run(config(**{"train.head": "keep"}), tmp_path)


def test_a_probe_as_the_head_begins_where_the_probe_ended(config, weights, tmp_path):
    fields = {"train.head": "probe", "train.epochs": 0.0}
    result, log = tiny.run(config(**fields), tmp_path)
    said = re.search(r"head: linear probe with l2 \S+, val top-1 (\S+) % of 20", log)
    assert float(said[1]) == pytest.approx(100 * result["curve"][0]["val_top1"], abs=1e-9)
    assert result["curve"][0]["val_top1"] > 0.3
    after = kept(tmp_path)
    assert not moved(begun(weights), after)
    assert np.any(after["params/head/kernel"])


@pytest.mark.parametrize("name", ["sigmoid", pytest.param("focal", marks=pytest.mark.slow)])
def test_every_loss_trains(name, config, undrawn, tmp_path):
    fields = {
        "train.loss": name,
        "data.examples_per_class": (40,),
        "train.epochs": 20.0,
        "train.eval_every": 80,
        "optim.learning_rate": 0.02,
        "report": True,
    }
    result, _ = tiny.run(config(**fields), tmp_path)
    # A head of zeros gives every example the same loss.
    first = float(LOSSES[name].function(jnp.zeros((1, 10)), jnp.eye(10)[:1])[0])
    assert tiny.losses(tmp_path)[0] == pytest.approx(first, rel=1e-6)
    assert result["curve"][0]["val_loss"] == pytest.approx(first, rel=1e-6)
    assert result["curve"][-1]["val_loss"] < first
    assert result["val"]["top1"] > 0.5 and result["test"]["top1"] > 0.5  # chance is 0.1
    link = LOSSES[name].link
    assert Predictions.load(tmp_path).link == load(str(tmp_path)).spec.link == link
    assert load(str(tmp_path / finetune.WEIGHTS)).spec.link == link
    assert (tmp_path / "report.html").stat().st_size > 0


def test_from_nothing(config, weights, tmp_path):
    fields = {"train.start": "random", "train.epochs": 0.0, "train.head": "random"}
    result, _ = tiny.run(config(**fields), tmp_path)
    before = begun(weights)
    assert moved(before, kept(tmp_path)) == {path for path in before if "head/" not in path}
    assert result["curve"][0]["val_loss"] != pytest.approx(np.log(10), rel=1e-3)


def test_a_cached_prefix_changes_no_loss(config, tmp_path):
    fields = {"train.freeze": ("stem",), "train.dropout": 0.2}
    whole, _ = tiny.run(config(**fields), tmp_path / "whole")
    cached, log = tiny.run(config(**fields, **{"train.cache_prefix": True}), tmp_path / "cached")
    assert "the network up to stem runs once" in log
    assert not (tmp_path / "cached" / "augmented.png").exists()
    losses = tiny.losses(tmp_path / "whole")
    assert len(set(losses)) == 10
    np.testing.assert_allclose(tiny.losses(tmp_path / "cached"), losses, rtol=1e-5)
    for row, other in zip(whole["curve"], cached["curve"], strict=True):
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-5)
    assert whole["test"]["top1"] == pytest.approx(cached["test"]["top1"], abs=2 / 797)
    ours, theirs = (Predictions.load(tmp_path / name) for name in ("whole", "cached"))
    assert ours.test_ids.tolist() == theirs.test_ids.tolist()
    assert ours.val_ids.tolist() == theirs.val_ids.tolist()
    np.testing.assert_allclose(ours.test_logits, theirs.test_logits, rtol=1e-3, atol=1e-3)
    ours, theirs = (load_features(tmp_path / name) for name in ("whole", "cached"))
    np.testing.assert_allclose(ours.explained, theirs.explained, atol=1e-3)
    # The pictures are the images, not the activations.
    example = load_examples(tmp_path / "cached")[0]
    with Image.open(tmp_path / "cached" / example["file"]) as picture:
        assert picture.size == (8, 8)
    # What is written is a whole network again.
    assert load(str(tmp_path / "cached")).spec.num_classes == 10


def test_a_cached_prefix_must_not_be_recalibrated_away(config, tmp_path):
    fields = {
        "train.freeze": ("stem/conv",),
        "train.norm": "recalibrate",
        "train.epochs": 0.0,
    }
    tiny.run(config(**fields), tmp_path / "whole")
    with pytest.raises(UserError, match="needs stages that stay frozen"):
        tiny.run(config(**fields, **{"train.cache_prefix": True}), tmp_path / "cached")


@pytest.mark.parametrize(
    "norm",
    [
        pytest.param("train", marks=pytest.mark.slow),
        pytest.param("affine", marks=pytest.mark.slow),
        pytest.param("frozen", marks=pytest.mark.slow),
        "recalibrate",
    ],
)
def test_what_moves_under_each_treatment_of_normalisation(norm, config, weights, tmp_path):
    fields = {"train.norm": norm, "train.freeze": ("stage1/block1/conv1",), "train.steps": 2}
    fields["train.max_to_keep"] = 2  # the start, too
    tiny.run(config(**fields), tmp_path)
    before = begun(weights)
    paths = {path for path in before if "/conv1/" not in path and "head/" not in path}
    statistics = {path for path in paths if path.startswith("batch_stats/")}
    affine = {path for path in paths if path.endswith(("bn/scale", "bn/bias"))}
    stays = {
        "train": set(), "affine": statistics, "frozen": statistics | affine, "recalibrate": affine
    }[norm]  # fmt: skip
    assert moved(before, kept(tmp_path, 2)) == paths - stays
    begin = kept(tmp_path, 0)
    assert moved(before, begin) == (statistics if norm == "recalibrate" else set())
    assert not statistics & moved(begin, kept(tmp_path, 2)) or norm == "train"


def test_statistics_of_new_images_and_nothing_else(config, weights, tmp_path):
    fields = {"train.norm": "recalibrate", "train.epochs": 0.0}
    result, log = tiny.run(config(**fields), tmp_path)
    assert "batch statistics estimated anew" in log
    before = begun(weights)
    statistics = {path for path in before if path.startswith("batch_stats/")}
    assert moved(before, kept(tmp_path)) == statistics
    assert not np.any(kept(tmp_path)["params/head/kernel"])
    assert result["steps"] == {"planned": 0, "done": 0}


def test_low_rank_matrices_and_the_head_alone_train(config, weights, tmp_path):
    """They become part of the kernels wherever the run is read."""
    fields = {"train.lora": ("stage1",), "train.lora_rank": 2, "train.max_to_keep": 2}
    result, _ = tiny.run(config(**fields), tmp_path)
    before, state = begun(weights), kept(tmp_path)
    head = {"params/head/kernel", "params/head/bias"}
    kernels = {p for p in before if p.startswith("params/stage1") and p.endswith("/kernel")}
    matrices = {p.replace("kernel", name) for p in kernels for name in ("lora_a", "lora_b")}
    assert kernels and state.keys() - before.keys() == matrices
    assert not moved(before, {path: state[path] for path in before})
    assert moved(before, tree.leaves(load(str(tmp_path)).variables)) == kernels
    sizes = sum(state[path].size for path in (*matrices, *head))
    assert result["parameters"]["trained"] == sizes
    again, _ = tiny.run(
        config(weights=str(tmp_path), **{"train.head": "keep", "train.epochs": 0.0}), tmp_path / "x"
    )
    assert again["test"]["top1"] == result["test"]["top1"]


def test_weights_between_start_and_end(undrawn, config, weights, tmp_path, monkeypatch):
    """Here with LoRA and an average, whose matrices are part of the kernels by then."""
    fields = {"train.wise_ft": True, "train.head": "probe", "train.norm": "frozen", **AVERAGED}
    lora = {"train.lora": ("stage1",), "train.lora_rank": 2}
    best = wise_ft.best
    chosen = []

    def half(rows, count):
        chosen.append((best(rows, count), count))
        return 5

    monkeypatch.setattr(wise_ft, "best", half)
    result, log = tiny.run(config(**fields, **lora), tmp_path)
    rows = result["wise_ft"]
    assert [row["share"] for row in rows] == [i / 10 for i in range(11)]
    assert rows[10]["val_top1"] == max(row["val_top1"] for row in result["curve"])
    assert chosen[0][1] == result["val"]["count"] == 20
    assert result["selected"]["wise_ft"] == 0.5 and result["val"]["top1"] == rows[5]["val_top1"]
    assert "0.5 of the way from the start" in log
    # The file holds what was chosen, half of what training added to the kernel.
    read = load(str(tmp_path / "model.safetensors")).variables
    start, end = begun(weights), kept(tmp_path)
    path = "params/stage1/block1/conv1/conv/"
    added = (end[path + "lora_a"] @ end[path + "lora_b"]).reshape(end[path + "kernel"].shape)
    expected = start[path + "kernel"] + added / 2
    np.testing.assert_allclose(tree.leaves(read)[path + "kernel"], expected, atol=1e-6)
    built = page.build(tmp_path).read_text()
    assert "Between start and end" in built and "as WiSE-FT" in built


def test_statistics_that_are_all_frozen_are_not_estimated(config, tmp_path):
    with pytest.raises(UserError, match=r"^train.norm: `train.freeze=.* holds all statistics"):
        tiny.run(config(**{"train.norm": "recalibrate", "train.freeze": ("*", "!head")}), tmp_path)


def test_early_stopping(config, tmp_path):
    fields = {
        "train.norm": "frozen",
        "optim.learning_rate": 1e-12,
        "train.steps": 50,
        "train.eval_every": 2,
        "train.patience": 3,
    }
    result, _ = tiny.run(config(**fields), tmp_path)
    assert [row["step"] for row in result["curve"]] == [0, 2, 4, 6]
    assert result["steps"] == {"planned": 50, "done": 6}
    assert result["selected"]["step"] == 6  # the latest of equals
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["6"]


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        pytest.param(1e38, "step 1 is not finite: update_norm inf", marks=pytest.mark.slow),
        (1e18, "step 2 is not finite: .*update_norm inf"),  # the first one is large and finite
    ],
)
def test_a_run_that_diverges_leaves_its_last_good_checkpoint(
    rate, message, config, weights, tmp_path
):
    fields = {"optim.name": "sgd", "optim.learning_rate": rate, "train.eval_every": 5}
    for _ in range(2):  # it can be gone on from, and comes to the same
        with pytest.raises(UserError, match=message):
            tiny.run(config(**fields), tmp_path)
    assert not (tmp_path / "result.json").exists()
    assert not moved(begun(weights), tree.leaves(load(str(tmp_path)).variables))


@pytest.fixture(scope="module")
def gone_on(stopped, config, tmp_path_factory):
    """A copy of it that went on in another process, so to say; its seconds by our clock, too."""
    path = shutil.copytree(stopped, tmp_path_factory.mktemp("gone_on") / "run")
    clock = time.perf_counter  # that of another process counts from another moment
    with mock.patch("time.perf_counter", lambda: clock() - 1e6):
        start = clock()
        result, log = tiny.run(config(**AVERAGED), path)
        taken = clock() - start
    return path, result, log, taken


def test_a_stopped_run_goes_on_to_the_same_end(gone_on, trained):
    path, again, log, _ = gone_on
    whole, result, _ = trained
    assert "going on after step 5 of 10" in log
    assert tiny.records(path) == tiny.records(whole)
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in result.items() if k != "seconds"
    }
    weights = "model.safetensors"
    assert (path / weights).read_bytes() == (whole / weights).read_bytes()


def test_a_run_goes_on_where_its_folder_of_images_was_moved(config, tmp_path):
    fields = lite0.photographs(tmp_path / "images", {"train": 25, "test": 5})
    del fields["endpoints"]

    def ask(line):
        if line.startswith("step 5,"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="after step 5 of 10"):
        tiny.run(config(**fields, **{"train.steps": 10}), tmp_path / "run", ask)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    (tmp_path / "images").rename(tmp_path / "renamed")
    for file in (tmp_path / "renamed").rglob("*.png"):
        os.utime(file, ns=(0, 0))
    fields["data.data_dir"] = str(tmp_path / "renamed")
    result, log = tiny.run(config(**fields, **{"train.steps": 10}), tmp_path / "run")
    assert "going on after step 5 of 10" in log and result["steps"]["done"] == 10
    assert result["data"]["name"] == "renamed"
    (tmp_path / "renamed/train/dark/0.png").unlink()
    shutil.copy(tmp_path / "renamed/train/dark/1.png", tmp_path / "renamed/train/dark/0.png")
    with pytest.raises(UserError, match=r"not those that the interrupted run began with"):
        tiny.run(config(**fields, **{"train.steps": 10}), tmp_path / "other")


def test_a_probe_finds_the_features_of_a_folder_that_was_moved(config, tmp_path):
    fields = lite0.photographs(tmp_path / "images", {"train": 5, "test": 2})
    shutil.copytree(tmp_path / "images", tmp_path / "elsewhere/copied")
    for run, images in {"first": "images", "second": "elsewhere/copied"}.items():
        fields["data.data_dir"] = str(tmp_path / images)
        values, log = config(**fields), []
        probe.run(values, workdir.start(values, str(tmp_path / run), "test"), log.append)
    assert sum(line.startswith("features reused: ") for line in log) == 2


def test_the_seconds_of_all_processes_add_up(stopped, gone_on):
    _, about = checkpoint.read(stopped / "checkpoints", 5)
    before = about["progress"]
    assert 0 < before["seconds"] < before["total"]
    path, result, _, taken = gone_on
    seconds = result["seconds"]
    assert before["total"] < seconds["total"] < before["total"] + taken
    assert before["seconds"] < seconds["train"] < seconds["total"] - seconds["test"]
    _, about = checkpoint.read(path / "checkpoints", 10)
    assert before["total"] < about["progress"]["total"] < seconds["total"] - seconds["test"]


def test_what_a_rule_set_is_recorded(config, tmp_path, monkeypatch):
    ruled = {"train.steps": 4, "augment.flip": 0.5, "optim.warmup": 0.5, "preprocess.size": 12}
    monkeypatch.setitem(options.RULES, "bit", lambda num_examples, image_shape: ruled)
    result, log = tiny.run(config(**{"train.rule": "bit", "preprocess.size": 16}), tmp_path)
    assert result["rule"] == {"train.steps": 4, "augment.flip": 0.5, "optim.warmup": 0.5}
    assert result["steps"] == {"planned": 4, "done": 4}
    asked = json.loads((tmp_path / "config.json").read_text())
    assert asked["train"]["steps"] == 0  # as it must be for the run to go on
    assert "the rule 'bit': 4 steps" in log


def test_an_earlier_run_is_whole_until_the_new_one_is_found_valid(trained, config, tmp_path):
    path = shutil.copytree(trained[0], tmp_path / "run")
    (path / "notes.txt").write_text("my own")
    before = contents(path)
    for fields, message in (
        ({"train.head": "head"}, "there is no 'head'"),
        ({"optim.name": "adamm"}, "adamm"),
        ({"data.name": "digit"}, "digit"),
        ({"augment.mixup": -1.0}, "mixup"),
        ({"extract.batch_size": 0}, "^extract.batch_size: expected at least 1, got 0"),
        ({"train.head": "probe", "probe.l2": (-1.0,)}, "^probe.l2: expected above 0"),
        ({"weights": str(tmp_path / "missing.safetensors")}, "missing"),
        ({"weights": str(path)}, "lies in the run that --overwrite would replace"),
    ):
        values = config(**fields)
        with pytest.raises(UserError, match=message):
            workdir.start(values, str(path), "test", resumable=True, overwrite=True)
            finetune.run(values, path, lambda line: None)
        assert contents(path) == before
    values = config(**{"train.steps": 2, "train.eval_every": 1, "train.freeze": ("stem",)})
    began = time.time_ns()
    workdir.start(values, str(path), "test", resumable=True, overwrite=True)
    finetune.run(values, path, lambda line: None)
    files = [file for file in path.rglob("*") if file.is_file() and file.name != ".lock"]
    assert [file.name for file in files if file.stat().st_mtime_ns < began] == ["notes.txt"]
    steps = {int(step.name) for step in (path / "checkpoints").iterdir()}
    assert max(steps) == 2  # the latest, and the best


def test_a_run_of_another_kind_removes_all_that_this_one_wrote(trained, tmp_path):
    path = shutil.copytree(trained[0], tmp_path / "run")
    (path / "report.html").touch()
    values = common.get_config()
    workdir.start(values, str(path), "test", overwrite=True)
    workdir.begin(path)
    left = {str(p.relative_to(path)) for p in path.rglob("*")}
    assert left == {"config.json", "environment.json", ".lock"}


@pytest.mark.slow  # others here go on from a later step
def test_a_run_that_was_stopped_before_its_first_step_keeps_that_evaluation(
    trained, config, tmp_path
):
    def ask(line):
        if line.startswith("step 0,"):
            os.kill(os.getpid(), signal.SIGTERM)

    whole, _, _ = trained
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 0 of 10"):
        tiny.run(config(**AVERAGED), tmp_path, ask)
    tiny.run(config(**AVERAGED), tmp_path)
    assert tiny.records(tmp_path) == tiny.records(whole)


def test_a_stopped_run_is_a_weight_set_too(stopped):
    network = load(str(stopped))
    assert not moved(kept(stopped), tree.leaves(network.variables))


def test_another_config_does_not_go_on(stopped, config, tmp_path):
    path = shutil.copytree(stopped, tmp_path / "run")
    with pytest.raises(UserError) as error:
        tiny.run(config(**AVERAGED, **{"optim.learning_rate": 0.5, "seeds": (1,)}), path)
    text = str(error.value)
    assert "holds a run of another config" in text
    assert "\n  optim.learning_rate: asked 0.5, stored 0.05" in text
    assert "\n  seeds: asked [1], stored [0]" in text
    assert len(text.splitlines()) == 3


def test_other_data_do_not_go_on(stopped, config, tmp_path, monkeypatch):
    path = shutil.copytree(stopped, tmp_path / "run")
    monkeypatch.setattr(Digits, "version", "1.0.1")
    monkeypatch.setattr(
        Digits, "labels", lambda self, labels=Digits.labels: np.roll(labels(self), 1)
    )
    with pytest.raises(UserError) as error:
        tiny.run(config(**AVERAGED), path)
    text = str(error.value)
    assert "not those that the interrupted run began with" in text
    assert "data.train.version: asked '1.0.1', stored '1.0.0'" in text
    assert "data.train.rows: asked " in text
    assert "weights" not in text.partition(":\n")[2]
    assert (path / "checkpoints" / "5").is_dir()


def test_other_weights_do_not_go_on(stopped, config, weights, tmp_path):
    path = shutil.copytree(stopped, tmp_path / "run")
    there = shutil.copy(weights, tmp_path)
    try:
        tiny.write_weights(weights, seed=1)
        with pytest.raises(UserError, match=r"--workdir:\n  weights: asked '\w{64}', stored '\w"):
            tiny.run(config(**AVERAGED), path)
    finally:
        shutil.copy(there, weights)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"train.batch_size": 12},
            "^train.batch_size: .* of 8, for 8 device.*, got 12; 16 is near",
        ),
        ({"train.accumulate": 4}, "of 32, for 8 device.* and 4 parts .*, got 40; 32 is near"),
        ({"seeds": (0, 1)}, r"^seeds: fine-tuning takes one .* got \(0, 1\); for several"),
        ({"data.examples_per_class": (5, 10)}, r"^data.examples_per_class: fine-tuning takes one"),
        ({"data.examples_per_class": (1,)}, "no image is left for val; give more examples a class"),
        ({"data.examples_per_class": (101,)}, "^data.examples_per_class: 101 examples per class"),
        ({"train.start": "weight"}, "train.start: there is no 'weight'; the nearest are 'weights'"),
        ({"train.head": "prob"}, "train.head: there is no 'prob'; the nearest are 'probe'"),
        ({"train.norm": "freeze"}, "train.norm: there is no 'freeze'; the nearest are"),
        ({"train.dtype": "float16"}, "train.dtype: there is no 'float16'; the nearest are"),
        ({"train.rule": "bits"}, "train.rule: there is no 'bits'; the nearest are 'bit'"),
        ({"optim.name": "adamx"}, "optim.name: there is no 'adamx'"),
        ({"optim.schedule": "cos"}, "optim.schedule: there is no 'cos'"),
        ({"augment.policy": "autoaugment"}, "augment.policy"),
        ({"augment.mixup": -0.2}, "augment.mixup: expected the alpha of a Beta distribution"),
        ({"train.freeze": ("stage9",)}, "train.freeze: 'stage9' matches no parameter"),
        ({"train.freeze": ("*",)}, "leaves none of 14 arrays of parameters to train"),
        ({"train.norm_momentum": "1.5"}, r"a number in \[0, 1\), 'kornblith', or ''"),
        ({"train.epochs": -1.0}, "train.epochs: expected at least 0, got -1"),
        ({"train.norm": "recalibrate", "train.batch_size": 88}, "at least one whole batch"),
        ({"weights": "resnet5"}, "no weight set is called 'resnet5'"),
        ({"data.val": "5fold", "data.name": "no"}, "^data.val: fine-tuning has no folds, only a p"),
    ],
)
def test_mistakes(fields, message, config, tmp_path):
    with pytest.raises(UserError, match=message):
        tiny.run(config(**fields), tmp_path)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.slow  # tests/test_train_steps.py has it of a step
def test_the_devices_do_not_show(config, tmp_path, monkeypatch):
    values = config(**{"optim.learning_rate": 1e-3, "train.dropout": 0.2})
    over = DataParallel.over
    runs_ = {}
    for count in (1, 8):
        monkeypatch.setattr(DataParallel, "over", lambda: over(jax.devices()[:count]))  # noqa: B023
        result, _ = tiny.run(values, tmp_path / str(count))
        runs_[count] = result["curve"], tiny.losses(tmp_path / str(count))
    curve, losses = runs_[1]
    assert len(set(losses)) == 10
    for other_curve, other in runs_.values():
        np.testing.assert_allclose(other, losses, rtol=1e-5)
        for row, expected in zip(other_curve, curve, strict=True):
            assert row["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
