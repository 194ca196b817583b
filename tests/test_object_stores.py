"""Runs whose folder, features, data and weights lie in an object store."""

import gc
import json
import signal
import time

import jax
import numpy as np
import pytest

from tests import clusters, commands, lite0, stores, tiny
from tests.test_resume import Runs, assert_same_end
from tl import paths
from tl.data.digits import Digits
from tl.errors import UserError
from tl.features.store import open_features
from tl.inference import model as inference
from tl.report import page
from tl.results.predictions import Predictions
from tl.runs import extract, probe, workdir
from tl.storage import lease
from tl.storage.checkpoint import Checkpoints, read
from tl.weights.load import load


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with tiny.registered():
        yield tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def without_time(result):
    kept = json.loads(json.dumps(result))
    kept.pop("seconds")
    return kept


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("store", ["s3", "gs"])
def test_a_probe_is_that_of_a_disk(store, request, tmp_path, lite0_features, monkeypatch):
    remote = request.getfixturevalue(store)
    # The emulator of gs:// has no preconditions, which leases rest on.
    monkeypatch.setattr(workdir, "_lock", workdir._lock if store == "s3" else lambda path: None)
    fields = {"endpoints": ("stage2",), "data.examples_per_class": (5,), "seeds": (3,)}
    found, _ = lite0.run(probe.run, lite0.config(lite0_features, **fields), tmp_path / "run")
    config = lite0.config(f"{remote}/features", report=True, **fields)
    other, said = lite0.run(probe.run, config, remote / "run")
    workdir.leave(remote / "run")
    # The features come from other batches, so they may differ in the last bit.
    assert without_time(other)["selected"] == without_time(found)["selected"]
    assert (other["test"]["top1"], other["val"]["top1"]) == (
        found["test"]["top1"],
        found["val"]["top1"],
    )
    assert f"written: {remote}/run/result.json" in said
    assert json.loads((remote / "run/result.json").read_text()) == json.loads(json.dumps(other))
    here, there = (Predictions.load(folder) for folder in (tmp_path / "run", remote / "run"))
    np.testing.assert_allclose(there.test_logits, here.test_logits, atol=1e-4)
    for name in ("config.json", "environment.json", "head.safetensors", "report.html"):
        assert (remote / "run" / name).is_file(), name
    assert page.build(remote / "run") == remote / "run/report.html"
    # The next run finds the features.
    _, said = lite0.run(extract.run, config, remote / "again")
    assert said.count("features reused") == 2
    workdir.leave(remote / "again")
    model = inference.load(str(remote / "run"))
    image = Digits("test")[0]["image"]
    assert model.predict([image]).top(1)[0][0][0] in {str(n) for n in range(10)}


def test_fine_tuning_is_that_of_a_disk(s3, tmp_path, weights):
    results = []
    for folder in (tmp_path / "run", s3 / "run"):
        result, _ = tiny.run(tiny.config(weights, tmp_path / "features"), folder)
        results.append(without_time(result))
        workdir.leave(folder)
    assert results[0] == results[1]
    assert_same_end(s3 / "run", tmp_path / "run")
    assert sorted(path.name for path in (s3 / "run/tensorboard").iterdir())
    # The weights of the run are read from there.
    loaded = load(str(s3 / "run"))
    assert loaded.sha256 == load(str(tmp_path / "run")).sha256
    assert loaded.spec.name == f"{s3}/run"
    assert load(str(s3 / "run/checkpoints")).sha256


def test_a_stopped_run_goes_on(s3, tmp_path, weights):
    def stop(line):
        if line.startswith("step 5"):
            raise KeyboardInterrupt

    config = tiny.config(weights, tmp_path / "features", **{"train.checkpoint_every": 3})
    with pytest.raises(KeyboardInterrupt):
        tiny.run(config, s3 / "run", log=stop)
    workdir.leave(s3 / "run")
    assert not (s3 / "run/result.json").exists()
    result, said = tiny.run(config, s3 / "run")
    workdir.leave(s3 / "run")
    assert "going on after step" in said
    assert result["steps"]["done"] == 10
    records = [record["step"] for record in tiny.records(s3 / "run") if "train/loss" in record]
    assert records == list(range(1, 11))


def test_a_damaged_checkpoint_is_left_for_the_one_before(s3, tmp_path, weights):
    def stop(line):
        if line.startswith("step 10"):
            raise KeyboardInterrupt

    fields = {"train.checkpoint_every": 2, "train.max_to_keep": 3}
    config = tiny.config(weights, tmp_path / "features", **fields)
    whole, _ = tiny.run(config, tmp_path / "whole")
    workdir.leave(tmp_path / "whole")
    for folder in (tmp_path / "run", s3 / "run"):
        with pytest.raises(KeyboardInterrupt):
            tiny.run(config, folder, log=stop)
        workdir.leave(folder)
        steps = [path for path in (folder / "checkpoints").iterdir() if path.name.isdigit()]
        last = max(steps, key=lambda path: int(path.name))
        assert len(steps) > 1
        (last / "position/metadata").write_text('{"next": 3}')
        result, said = tiny.run(config, folder)
        workdir.leave(folder)
        damage = f"warning: the checkpoint of step {last.name} in {folder}/checkpoints is damaged"
        assert damage in said
        assert "going on after step" in said
        assert without_time(result) == without_time(whole)
        assert read(folder / "checkpoints", int(last.name))


def test_a_finished_run_is_kept_and_replaced_on_demand(s3, tmp_path, weights):
    config = tiny.config(weights, tmp_path / "features")
    tiny.run(config, s3 / "run")
    workdir.leave(s3 / "run")
    with pytest.raises(UserError, match=f"{s3}/run holds a finished run"):
        tiny.run(config, s3 / "run")
    workdir.leave(s3 / "run")
    workdir.start(config, f"{s3}/run", "test", overwrite=True, resumable=True)
    assert (s3 / "run/result.json").exists()
    workdir.begin(s3 / "run")
    assert not (s3 / "run/result.json").exists()
    assert not (s3 / "run/checkpoints").exists()
    assert not (s3 / "run/tensorboard").exists()
    workdir.leave(s3 / "run")


def test_two_processes_do_not_work_in_one_folder(s3, tmp_path, weights, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.2)
    held = workdir.lock(s3 / "run/.lock")
    held.acquire()
    with pytest.raises(UserError, match=r"another process \(.*, process \d+\) is at work in s3://"):
        tiny.run(tiny.config(weights, tmp_path / "features"), s3 / "run")
    held.release()


def test_no_credentials_are_written(s3, tmp_path, weights):
    _, said = tiny.run(tiny.config(weights, f"{s3}/features", report=True), s3 / "run")
    workdir.leave(s3 / "run")
    system = paths.file_system(s3)
    written = b"".join(system.cat_file(name) for name in system.find(str(s3)))
    secrets = (stores._ENVIRONMENT[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    for secret in secrets:
        assert secret.encode() not in written
        assert secret not in said


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_where_it_lies(s3):
    with Checkpoints(s3, max_to_keep=2, metric="top1") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"a": np.ones(3)}, {}, {}, {"top1": 0.5})
    (s3 / "2/state/_METADATA").unlink()
    with pytest.raises(UserError, match=rf"step 2 in {s3} is damaged .* delete {s3}/2 to go on"):
        read(s3)
    paths.remove_tree(s3 / "2")
    gc.collect()  # what Orbax left behind is not to disturb another test
    state, _ = read(s3)
    np.testing.assert_array_equal(state["a"], np.ones(3))


def test_images_of_a_bucket(s3, tmp_path):
    fields = lite0.photographs(tmp_path / "here", {"train": 6, "test": 3})
    paths.file_system(s3).put(str(tmp_path / "here"), f"{s3}/photographs", recursive=True)
    results = []
    for root in (tmp_path / "here", s3 / "photographs"):
        values = fields | {"data.data_dir": str(root), "data.train": "train", "data.test": "test"}
        config = lite0.config(str(tmp_path / "features"), **values)
        result, said = lite0.run(probe.run, config, tmp_path / root.name)
        workdir.leave(tmp_path / root.name)
        results.append(result)
    assert results[0]["test"] == results[1]["test"]
    assert "features new" not in said  # they are the same images, so their features are


def test_features_of_a_bucket_are_opened_by_their_address(s3, tmp_path, weights):
    config = tiny.config(weights, f"{s3}/features", endpoints=("stem",))
    workdir.start(config, str(tmp_path / "run"), "test")
    found = extract.run(config, tmp_path / "run", lambda line: None)
    store = open_features(str(found["test"].path))
    assert str(store.path).startswith(f"{s3}/features/")
    np.testing.assert_array_equal(store.read("stem"), found["test"].read("stem"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_runs_end_as_if_they_had_not_been(seed, s3, tmp_path):
    runs = Runs(tmp_path)
    (tmp_path / "whole").mkdir()
    runs.finish(tmp_path / "whole")
    rng = np.random.default_rng(seed)
    kills = 0
    for _ in range(12):
        process = runs.start(s3 / "run")
        began = tiny.last_step(s3 / "run")
        more = int(rng.integers(1, 6))
        time.sleep(rng.uniform(0.5, 4))
        while process.poll() is None and tiny.last_step(s3 / "run") < began + more:
            time.sleep(rng.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    else:
        runs.finish(s3 / "run")
    print(f"{kills} kills")
    assert kills >= 3
    assert_same_end(s3 / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["replicated", "fsdp"])
def test_several_processes_write_one_run(sharding, s3, tmp_path, weights):
    flags = ["--config=configs/common.py", f"--config.weights={weights}"]
    fields = {"data.examples_per_class": "5,", "train.batch_size": 16, "train.steps": 6}
    fields |= {"train.sharding": sharding, "train.checkpoint_every": 2}
    fields |= {"extract.feature_dir": f"{s3}/features", "report": False}
    flags += [f"--config.{name}={value}" for name, value in fields.items()]
    ended = {}
    for processes, folder in ((1, tmp_path / "one"), (2, s3 / "two")):
        arguments = [*flags, f"--workdir={folder}"]
        statuses, _, errors = clusters.end(
            clusters.start("finetune", arguments, processes, cache=tmp_path / "cache")
        )
        assert statuses == [0] * processes, errors
        ended[processes] = folder
    one, two = (tiny.losses(folder) for folder in ended.values())
    np.testing.assert_allclose(two, one, rtol=1e-5)
    one, two = (json.loads((folder / "result.json").read_text()) for folder in ended.values())
    assert two["test"]["top1"] == one["test"]["top1"]
    assert two["selected"] == one["selected"]
    # What two processes have written, one reads.
    states = [read(folder / "checkpoints", 6)[0]["params"] for folder in ended.values()]
    for leaf, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(other, leaf, atol=1e-5)


@pytest.mark.slow
def test_a_study_in_a_bucket(s3, tmp_path):
    arguments = [
        "--config=study_solvers",
        "--config.base.data.examples_per_class=(5,)",
        f"--workdir={s3}/study",
        f"--config.base.extract.feature_dir={s3}/features",
    ]
    said = commands.run("experiments.ablate", *arguments)
    study = json.loads((s3 / "study/study.json").read_text())
    assert f"written: {s3}/study/study.json" in said
    assert study["cells"]
    for name in ("study.csv", "report.html"):
        assert (s3 / "study" / name).is_file()
    assert all((folder / "log.txt").read_text() for folder in (s3 / "study/runs").iterdir())
