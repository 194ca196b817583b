"""Runs in several processes, as on the hosts of a cluster: what they compute, and how they end."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests import clusters, commands, tiny
from tl.features.store import open_features

pytestmark = pytest.mark.slow
SPLIT = pytest.mark.parametrize("processes", [2, 4])
GONE = (
    "error: process {} has ended, or not answered for the seconds of --heartbeat, so this process "
    "has ended too; what it printed there says why. Once that is mended, the same command on every "
    "host goes on from what is saved\n"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts")
    with tiny.registered():
        tiny.write_weights(path / "tiny.safetensors")
    return path


def run(root, command, workdir, processes, *more, status=0, **fields):
    """Returns what each process prints; the files of a run are in `workdir`."""
    statuses, out, errors = clusters.end(start(root, command, workdir, processes, *more, **fields))
    assert statuses == [status] * processes, errors
    assert not any(out[1:]), "only the first process speaks"
    return out[0] if status == 0 else errors


def start(root, command, workdir, processes, *more, slurm=False, devices=4, **fields):
    flags = {
        "weights": root / "tiny.safetensors",
        "data.examples_per_class": "5,",
        "extract.feature_dir": workdir / "features",
        "report": False,
    }
    arguments = ["--config=configs/common.py", f"--workdir={workdir / 'run'}"]
    arguments += [f"--config.{name}={value}" for name, value in {**flags, **fields}.items()]
    return clusters.start(
        command, [*arguments, *more], processes, devices=devices, cache=root / "cache", slurm=slurm
    )


def result(workdir):
    return json.loads((workdir / "run" / "result.json").read_text())


def files(workdir):
    found = (path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if "tensorboard" not in str(path))


PROBE = {"endpoints": "('stage1', 'pooled')", "probe.solvers": "('logistic', 'ridge', 'knn')"}


# Small problems, divided as large ones are: by rows over all devices, in several chunks of each.
DIVIDED = """
import json, sys
import jax, numpy as np
from tl import hosts
number, count, port = map(int, sys.argv[1:4])
if count > 1:
    hosts.join(f"localhost:{port}", count, number, 10)
from sklearn.datasets import load_digits
from tl.data.splits import one_fold
from tl.probes import device_rows, protocol, rows
from tl.probes.held_out import HeldOut
from tl.probes.solvers import Head, Knn, Logistic, Ridge
device_rows._FEW, device_rows._CPU_CHUNK_ELEMENTS, device_rows._LEAST_ROWS = 0, 1 << 11, 1
device_rows.CHUNK_ELEMENTS = 1 << 12
rows.CHUNK_ELEMENTS, rows._KEPT_BYTES, hosts._BLOCK = 7000, 0, 999
x, labels = load_digits(return_X_y=True)
x = x.astype(np.float32)
for solver in (Logistic((1e-3, 1e-1)), Ridge((1e-2, 1.0)), Knn((1, 5)), Head(epochs=2)):
    view = rows.View(lambda numbers: x[numbers], np.arange(1300), 64)
    tested = HeldOut(lambda endpoint: rows.View(lambda n: x[n], np.arange(1300, 1797), 64),
                     labels[1300:], 10)
    found = protocol.run(lambda endpoint: view, labels[:1300], one_fold(1000, 300), ["a"], [solver],
                         tested, num_classes=10)
    test, val = found.logits
    line = [len(jax.devices()), found.as_dict(), float(np.abs(test).sum()),
            float(np.abs(val).sum())]
    with open(sys.argv[4], "a") as file:
        print(json.dumps(line), file=file)
"""


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_divided_probes_are_those_of_one_device(processes, tmp_path):
    one, *_ = fitted(1, 1, tmp_path)
    for of_process in fitted(processes, 8, tmp_path):
        for (_, expected, *sums), (devices, found, *theirs) in zip(one, of_process, strict=True):
            assert devices == 8
            for part in ("selected", "val", "test"):
                assert found[part] == expected[part]
            np.testing.assert_allclose(theirs, sums, rtol=2e-3)
            for a, b in zip(found["grid"], expected["grid"], strict=True):
                assert abs(a["val_loss"] - b["val_loss"]) <= 1e-4 * b["val_loss"]


def fitted(processes, devices, folder):
    """Returns what each process of `DIVIDED` writes, line by line."""
    port = clusters.free_port()
    files = [folder / f"{devices}.{number}" for number in range(processes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", DIVIDED, *map(str, (number, processes, port, files[number]))],
            cwd=commands.ROOT,
            env={
                **os.environ,
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // processes}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    statuses, _, errors = clusters.end(started)
    assert statuses == [0] * processes, errors
    return [list(map(json.loads, file.read_text().splitlines())) for file in files]


@pytest.fixture(scope="module")
def probed(root, tmp_path_factory):
    """A probe of one process."""
    workdir = tmp_path_factory.mktemp("one")
    run(root, "probe", workdir, 1, **PROBE)
    return workdir


@SPLIT
def test_a_probe_is_that_of_one_process(root, probed, tmp_path, processes):
    run(root, "probe", tmp_path, processes, **PROBE)
    assert files(tmp_path) == files(probed)
    for store in (probed / "features").iterdir():
        one, several = open_features(store), open_features(tmp_path / "features" / store.name)
        assert several.ids() == one.ids()
        np.testing.assert_array_equal(several.labels(), one.labels())
        for endpoint in one.widths:
            np.testing.assert_allclose(
                several.read(endpoint), one.read(endpoint), rtol=1e-6, atol=1e-6
            )
    one, several = result(probed), result(tmp_path)
    for name in ("data", "selected", "test", "near_duplicates", "warnings"):
        assert several[name] == one[name]
    assert several["study"] == one["study"]


@SPLIT
def test_an_extraction_is_that_of_one_process(root, probed, tmp_path, processes):
    fields = {"extract.endpoints": "('stage1', 'pooled')", "extract.verify_rows": 20}
    out = run(root, "extract", tmp_path, processes, **fields)
    assert out.count("features extracted") == 2
    assert files(tmp_path / "run") == [".lock", "config.json", "environment.json", "result.json"]
    for store in result(tmp_path)["features"].values():
        one = open_features(probed / "features" / os.path.basename(store["path"]))
        several = open_features(store["path"])
        np.testing.assert_allclose(several.read("pooled"), one.read("pooled"), atol=1e-6)


@SPLIT
def test_an_evaluation_is_that_of_one_process(root, probed, tmp_path, processes):
    fields = {"weights": probed / "run"}
    run(root, "evaluate", tmp_path / "one", 1, **fields)
    run(root, "evaluate", tmp_path / "several", processes, **fields)
    one, several = result(tmp_path / "one"), result(tmp_path / "several")
    assert several["test"] == one["test"]
    assert files(tmp_path / "several") == files(tmp_path / "one")


FINETUNE = {
    "train.batch_size": 16,
    "train.steps": 12,
    "train.eval_every": 4,
    "train.dropout": 0.2,
    "augment.shift": 0.1,
    "extract.batch_size": 64,  # of 797 images of test the last batch has 29, and of 10 of val all
}


@pytest.fixture(scope="module")
def finetuned(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finetuned")
    run(root, "finetune", workdir, 1, **FINETUNE)
    return workdir


@SPLIT
def test_fine_tuning_is_that_of_one_process(root, finetuned, tmp_path, processes):
    run(root, "finetune", tmp_path, processes, **FINETUNE)
    records = [tiny.records(path / "run") for path in (finetuned, tmp_path)]
    assert [r.keys() for r in records[0]] == [r.keys() for r in records[1]]
    for name in ("train/loss", "train/grad_norm", "val/loss", "val/top1"):
        one, several = ([r[name] for r in of_run if name in r] for of_run in records)
        np.testing.assert_allclose(several, one, rtol=1e-5)
    one, several = result(finetuned), result(tmp_path)
    for name in ("data", "selected", "test", "warnings", "parameters"):
        assert several[name] == one[name]
    predictions = [np.load(path / "run" / "predictions.npz") for path in (finetuned, tmp_path)]
    for name in ("test_ids", "test_labels", "val_ids", "val_labels"):
        np.testing.assert_array_equal(predictions[1][name], predictions[0][name])
    logits = [of_run["test_logits"] for of_run in predictions]
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-5, atol=1e-6)
    stable = [name for name in files(finetuned) if "checkpoints" not in name]
    assert [name for name in files(tmp_path) if "checkpoints" not in name] == stable


DIVIDED_STATE = {
    **FINETUNE,
    "train.batch_size": 32,
    "train.accumulate": 2,
    "train.ema_decay": 0.5,
    "train.freeze": "('stem',)",
    "train.unfreeze": "('stem@2',)",
    "train.max_to_keep": 5,
}


def losses(workdir):
    records = tiny.records(workdir / "run")
    return {
        name: [r[name] for r in records if name in r]
        for name in ("train/loss", "train/grad_norm", "val/loss", "val/top1")
    }


def test_a_state_divided_over_processes_is_the_replicated_one_and_goes_on_anywhere(root, tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    run(root, "finetune", one, 1, devices=1, **DIVIDED_STATE)
    out = run(
        root, "finetune", several, 2, devices=8, **{**DIVIDED_STATE, "train.sharding": "fsdp"}
    )
    assert " on each of 8 devices (variables " in out
    expected = losses(one)
    for name, values in losses(several).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, err_msg=name)
    assert result(several)["test"] == result(one)["test"]
    kept = [name for name in files(one) if "checkpoints" not in name]
    assert [name for name in files(several) if "checkpoints" not in name] == kept
    for sharding, processes, devices in (("replicated", 1, 1), ("fsdp", 1, 2), ("fsdp", 4, 4)):
        again = tmp_path / f"{sharding}-{processes}-{devices}"
        shutil.copytree(several, again)
        (again / "run" / "result.json").unlink()
        for step in (8, 12):
            shutil.rmtree(again / "run" / "checkpoints" / str(step))
        fields = {**DIVIDED_STATE, "train.sharding": sharding}
        fields["extract.feature_dir"] = several / "features"  # as the run that it goes on with
        out = run(root, "finetune", again, processes, devices=devices, **fields)
        assert "going on after step 4 of 12" in out
        for name, values in losses(again).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, err_msg=name)
        assert result(again)["memory"]["sharding"] == sharding


@SPLIT
def test_lp_ft_with_new_statistics_is_that_of_one_process(root, tmp_path, processes):
    fields = {**FINETUNE, "train.head": "probe", "train.norm": "recalibrate"}
    fields["optim.learning_rate"] = 1e-4
    for name, count in (("one", 1), ("several", processes)):
        run(root, "finetune", tmp_path / name, count, **fields)
    records = [tiny.records(tmp_path / name / "run") for name in ("one", "several")]
    one, several = ([r["val/loss"] for r in of_run if "val/loss" in r] for of_run in records)
    np.testing.assert_allclose(several, one, rtol=1e-4)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of 5,000 photographs, of which a few hundred cannot be decoded."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"no picture")
    rows = [(f"{number % 40}.png", number % 40 % 10) for number in range(5000)]
    with (folder / "photographs.csv").open("w") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return folder / "photographs.csv"


@SPLIT
def test_predictions_are_those_of_one_process(root, probed, table, tmp_path, processes):
    texts = []
    for count in (1, processes):
        file = tmp_path / f"{count}.csv"
        arguments = [probed / "run", table, f"--output={file}"]
        ended = clusters.end(clusters.start("predict", arguments, count, cache=root / "cache"))
        assert ended[0] == [0] * count, ended
        assert "5,000 images in" in ended[2][0] and "125 could not be decoded" in ended[2][0]
        assert not any(ended[2][1:])
        assert not (tmp_path / f"{count}.csv.parts").exists()
        texts.append(file.read_text())
    rows = [list(csv.reader(text.splitlines())) for text in texts]
    assert len(rows[0]) == 5001
    assert [row[:2] for row in rows[1]] == [row[:2] for row in rows[0]]
    numbers = [[float(row[2] or 0) for row in of_file[1:]] for of_file in rows]
    np.testing.assert_allclose(numbers[1], numbers[0], atol=2e-6)


def test_the_score_of_predictions_is_that_of_one_process(root, probed, table, tmp_path):
    linked = tmp_path / "photographs.csv"  # with labels an image may come but once
    names = [f"{number}.png" for number in range(1300)]
    for number, name in enumerate(names):
        (tmp_path / name).hardlink_to(table.parent / f"{number % 40}.png")
    with linked.open("w") as file:
        rows = [(name, number % 10) for number, name in enumerate(names)]
        csv.writer(file).writerows([("path", "label"), *rows])
    found = []
    for count in (1, 2):
        arguments = [
            probed / "run",
            linked,
            "--labels",
            f"--workdir={tmp_path / str(count) / 'run'}",
            f"--output={tmp_path / str(count)}.csv",
        ]
        ended = clusters.end(clusters.start("predict", arguments, count, cache=root / "cache"))
        assert ended[0] == [0] * count, ended
        found.append(result(tmp_path / str(count)))
    assert found[1]["test"] == found[0]["test"]
    assert found[1]["data"] == found[0]["data"]
    assert found[0]["data"]["left_out"] == {"test": 33}


def test_several_processes_predict_into_a_file(root, tmp_path):
    arguments = [root / "tiny.safetensors", table_of_nothing(tmp_path)]
    started = clusters.start("predict", arguments, 2, cache=root / "cache")
    statuses, _, errors = clusters.end(started)
    assert statuses[0] == 2
    assert "error: several processes write parts of a file: give --output=FILE" in errors[0]


def table_of_nothing(folder):
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    return folder / "a.png"


def test_a_study_is_that_of_one_process_and_outlives_a_run_that_fails(root, tmp_path):
    config = tmp_path / "both.py"
    config.write_text(STUDY)
    found = []
    for count in (1, 2):
        workdir = tmp_path / str(count)
        fields = {"weights": root / "tiny.safetensors", "extract.feature_dir": workdir / "features"}
        arguments = [f"--config={config}", f"--workdir={workdir / 'study'}"]
        arguments += [f"--config.base.{name}={value}" for name, value in fields.items()]
        started = clusters.start("ablate", arguments, count, cache=root / "cache")
        statuses, _, errors = clusters.end(started)
        assert statuses[0] == 1 and not any(statuses[1:]) and not any(errors[1:]), errors
        assert "2 of 6 runs failed: bad-seed0, bad-seed1" in errors[0]
        study = json.loads((workdir / "study" / "study.json").read_text())
        found.append([(run["name"], run.get("test_top1")) for run in study["runs"]])
        failure = json.loads((workdir / "study" / "runs" / "bad-seed1" / "error.json").read_text())
        assert "no endpoint 'stage7'" in failure["error"]
    assert found[1] == found[0] and len(found[0]) == 6


STUDY = """
from configs import common
from tl.studies.config import study

def get_config():
    base = common.get_config()
    base.update_from_flattened_dict({
        "data.examples_per_class": (5,),
        "train.batch_size": 16,
        "train.steps": 4,
        "report": False,
    })
    methods = {
        "probe": {"run": "probe", "endpoints": ("pooled",)},
        "bad": {"run": "probe", "endpoints": ("stage7",)},
        "tune": {},
    }
    return study("two of each", base, {"method": methods, "seed": (0, 1)}, columns="method")
"""
KILLS = [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGSTOP, 0), (signal.SIGSTOP, 2)]


@pytest.mark.parametrize(("sent", "number"), KILLS)
def test_a_process_that_is_gone_ends_the_others_and_another_number_goes_on(
    root, tmp_path, sent, number
):
    fields = {**FINETUNE, "train.batch_size": 12, "train.steps": 150, "train.eval_every": 10}
    started = start(root, "finetune", tmp_path, 3, **fields)
    while tiny.last_step(tmp_path / "run") < 25 and all(p.poll() is None for p in started):
        time.sleep(0.05)
    worker = clusters.child(started[number])
    os.kill(worker, sent)
    began = time.monotonic()
    others = [process for process in started if process is not started[number]]
    statuses, _, errors = clusters.end(others)
    assert time.monotonic() - began < 3 * clusters.HEARTBEAT
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    started[number].communicate(timeout=60)
    assert statuses == [1, 1]
    for error in errors:
        assert error.endswith(GONE.format(number)), error
        assert "Traceback" not in error
    out = run(root, "finetune", tmp_path, 2, **fields)
    assert "going on after step" in out
    steps = [r["step"] for r in tiny.records(tmp_path / "run") if "train/loss" in r]
    assert steps == list(range(1, 151))


def test_a_signal_to_one_process_stops_both_and_one_alone_goes_on(root, tmp_path):
    # Long enough for the signal to come in time; evaluations would take longer than the steps.
    fields = {**FINETUNE, "train.steps": 1000, "train.eval_every": 500}
    started = start(root, "finetune", tmp_path, 2, slurm=True, **fields)
    while tiny.last_step(tmp_path / "run") < 40 and all(p.poll() is None for p in started):
        time.sleep(0.05)
    started[1].send_signal(signal.SIGTERM)
    statuses, _, errors = clusters.end(started)
    assert statuses == [143, 143]
    step = tiny.last_step(tmp_path / "run")
    for error in errors:
        assert f"stopped by SIGTERM after step {step} of 1000, which is saved" in error
        assert "Traceback" not in error
    out = run(root, "finetune", tmp_path, 1, **fields)
    assert f"going on after step {step} of 1000" in out
    steps = [r["step"] for r in tiny.records(tmp_path / "run") if "train/loss" in r]
    assert steps == list(range(1, 1001))


def test_a_mistake_in_one_command_is_its_message_and_no_hang(root, tmp_path):
    errors = run(root, "probe", tmp_path, 2, status=2, endpoints="('stage7',)")
    for error in errors:
        assert "--config.endpoints: the network has no endpoint 'stage7'" in error
        assert "Traceback" not in error


def test_without_a_cluster_there_is_a_message():
    command = [sys.executable, "-m", "experiments.probe", "--config=quickstart"]
    command += ["--multihost", "--workdir=/tmp/never", "--config.report=False"]
    ended = subprocess.run(command, cwd=commands.ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --multihost expected a cluster that JAX knows")
