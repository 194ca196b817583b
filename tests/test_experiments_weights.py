import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT.parent / "shared" / "golden" / "lite0_ref.npz"


def run(*arguments, status=0):
    result = subprocess.run(
        [sys.executable, "-m", "experiments.weights", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == status, result.stderr
    return result.stdout if status == 0 else result.stderr


def test_list_shows_every_set(tmp_path):
    lines = run("list", f"--cache_dir={tmp_path}").splitlines()
    (lite,) = [line for line in lines if line.startswith("efficientnet_lite0 ")]
    assert lite.split() == ["efficientnet_lite0", "224", "75.100", "-", "Apache-2.0", "yes"]
    (swsl,) = [line for line in lines if line.startswith("resnet50.fb_swsl ")]
    assert swsl.split() == ["resnet50.fb_swsl", "224", "81.146", "95.980", "CC-BY-NC-4.0"]


def test_show():
    shown = run("show", "resnet50.tv2")
    assert "https://download.pytorch.org/models/resnet50-11ad3fa6.pth" in shown
    assert "crop_pct=0.965" in shown and "BSD-3-Clause" in shown


def test_fetch_prints_path_and_checksum():
    path, sha256 = run("fetch", "efficientnet_lite0").splitlines()
    assert pathlib.Path(path).is_file() and sha256.startswith("sha256 57934424")


def test_convert_then_verify(tmp_path):
    output = tmp_path / "lite0.safetensors"
    run("convert", "efficientnet_lite0", f"--output={output}", "--scheme=timm_efficientnet_lite")
    arguments = ["verify", output, "--like=efficientnet_lite0"]
    if REFERENCE.is_file():
        arguments.append(f"--reference={REFERENCE}")
    shown = run(*arguments)
    assert "247, 4,652,008 parameters" in shown and "crop_resize" in shown
    if REFERENCE.is_file():
        assert float(re.search(r"largest error +(\S+)", shown)[1]) <= 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command is called ''; there are 'convert', 'fetch'"),
        (["lsit"], "no command is called 'lsit'; the nearest are 'list'"),
        (["show"], "show takes 1 argument(s), got 0"),
        (["show", "resnet50.tv3"], "the nearest are 'resnet50.tv2'"),
        (["convert", "efficientnet_lite0"], "convert needs --output=FILE"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    error = run(*arguments, status=2)
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
