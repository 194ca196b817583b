import csv
import io
import json
import shutil

import jax
import numpy as np
import pytest

from tests import commands
from tests.lite0 import config, photographs, run
from tl.results import compare
from tl.runs import probe


@pytest.fixture(scope="module")
def fitted(lite0_features, tmp_path_factory):
    """The folder of a probe that tells bright images from dark ones, and that of its images."""
    root = tmp_path_factory.mktemp("fitted")
    fields = photographs(root / "images", {"train": 6, "test": 3})
    run(probe.run, config(lite0_features, **fields), root / "run")
    return root / "run", root / "images" / "test"


def test_from_a_run_to_rows(fitted, tmp_path):
    folder, images = fitted
    printed = commands.run("experiments.predict", folder, images, "--top_k=1")
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["class_1"] for row in rows] == ["bright"] * 3 + ["dark"] * 3
    assert all(0.5 < float(row["probability_1"]) <= 1 for row in rows)
    output = tmp_path / "p.jsonl"
    assert commands.run("experiments.predict", folder, images, f"--output={output}") == ""
    assert len(output.read_text().splitlines()) == 6


def test_labels_are_scored_and_the_score_compares(fitted, tmp_path):
    folder, images = fitted
    arguments = (folder, images, "--labels", f"--workdir={tmp_path / 'a'}")
    commands.run("experiments.predict", *arguments)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    result = json.loads((tmp_path / "a/result.json").read_text())
    assert result["kind"] == "evaluate" and result["test"]["top1"] == 1.0
    assert result["test"]["count"] == 6
    page = (tmp_path / "a/report.html").read_text()
    assert "Confusion matrix" in page and "Most confident mistakes" in page
    runs = [compare.read(str(tmp_path / name)) for name in ("a", "b")]
    assert compare.compare(runs)[0].difference == 0.0
    error = commands.run("experiments.predict", *arguments, status=2)
    assert "holds a finished run" in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "expected a run and one path or more"),
        (
            ("nowhere", "pyproject.toml"),
            "no weight set is called 'nowhere' and no file or run is there; `python -m "
            "experiments.weights list` lists all sets\n",
        ),
        (("efficientnet_lite0", "nowhere.jpg"), "there is no file or folder nowhere.jpg"),
        (("efficientnet_lite0", "experiments"), "no image is in experiments"),
        (("efficientnet_lite0", "x", "--labels"), "--labels needs --workdir=FOLDER"),
    ],
)
def test_a_mistake_is_one_message(arguments, message):
    error = commands.run("experiments.predict", *arguments, status=2)
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


def test_export(fitted, tmp_path):
    folder, _ = fitted
    printed = commands.run(
        "experiments.export", folder, "--format=torchvision", f"--output={tmp_path}", status=2
    )
    assert "acts on the endpoint 'stem'" in printed
    printed = commands.run(
        "experiments.export", folder, "--format=stablehlo", f"--output={tmp_path}"
    )
    assert printed == f"written: {tmp_path}/model.stablehlo, {tmp_path}/config.json\n"
    function = jax.export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    found = function.call(np.stack([np.full((32, 32, 3), v, np.uint8) for v in (250, 5)]))
    assert np.argmax(found["probabilities"], axis=1).tolist() == [0, 1]
    error = commands.run("experiments.export", folder, "--format=onnx", status=2)
    assert error.startswith("error: expected a run, a format and a folder")
    error = commands.run(
        "experiments.export", folder, "--format=timm", f"--output={tmp_path}",
        "--image_size=3x4", status=2,
    )  # fmt: skip
    assert error == "error: --image_size is for stablehlo and onnx; timm resizes itself\n"
    error = commands.run(
        "experiments.export", folder, "--format=timm", f"--output={tmp_path}",
        "--preprocessing=outside", status=2,
    )  # fmt: skip
    assert error == "error: --preprocessing is for stablehlo and onnx; timm has it outside\n"
    error = commands.run(
        "experiments.export", folder, "--format=onnx", f"--output={tmp_path}",
        "--preprocessing=outside", "--image_size=3x4", status=2,
    )  # fmt: skip
    assert error.startswith("error: --image_size resizes inside; leave it out with --preprocessing")
    again = ("--format=stablehlo", f"--output={tmp_path}", "--preprocessing=outside")
    error = commands.run("experiments.export", folder, *again, status=2)
    assert error == (
        f"error: {tmp_path} holds an export; give another --output, or --overwrite to replace it\n"
    )
    commands.run("experiments.export", folder, *again, "--overwrite")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["input"] == "float32 [batch, 32, 32, 3]"
