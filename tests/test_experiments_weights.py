import functools
import pathlib
import re
import types

import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import weights
from tests import commands
from tl.errors import UserError
from tl.models import registry
from tl.weights import catalog

REFERENCE = commands.ROOT.parent / "shared" / "golden" / "lite0_ref.npz"

run = functools.partial(commands.run, "experiments.weights")


def test_list_shows_every_set(tmp_path):
    lines = run("list", f"--cache_dir={tmp_path}").splitlines()
    (lite,) = [line for line in lines if line.startswith("efficientnet_lite0 ")]
    expected = ["efficientnet_lite0", "224", "4.7", "0.38", "75.100", "-", "Apache-2.0", "yes"]
    assert lite.split() == expected
    (swsl,) = [line for line in lines if line.startswith("resnet50.fb_swsl ")]
    expected = ["resnet50.fb_swsl", "224", "25.6", "4.09", "81.146", "95.980", "CC-BY-NC-4.0"]
    assert swsl.split() == expected
    families = [line for line in lines if line.startswith("---")]
    assert len(families) == len(set(map(registry.family, registry.names())))
    names = [line.split()[0] for line in lines[2:] if not line.startswith("---")]
    assert sorted(names) == sorted(catalog.names())


def test_list_leaves_what_the_flags_ask_for():
    def listed(*flags):
        return [line.split()[0] for line in run("list", *flags).splitlines()[2:]]

    names = listed("--family=DINOv2")
    assert names[0] == "vit_small_patch14.dinov2" and len(names) == 4
    commercial = listed("--family=resnet18", "--licence=commercial")
    assert "resnet18.tv1" in commercial and "resnet18.fb_swsl" not in commercial
    assert listed("--family=resnet18", "--licence=CC-BY-NC-4.0") == [
        "resnet18.fb_swsl", "resnet18.fb_ssl"
    ]  # fmt: skip
    assert "vit_base_patch16.mae" in listed("--family=vit_base_patch16")
    assert "vit_base_patch16.mae" not in listed("--family=vit_base_patch16", "--published")


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


def test_convert_tells_what_the_names_do_not(monkeypatch, tmp_path, capsys):
    v1 = types.SimpleNamespace(
        variables={},
        backbone=registry.get("resnet50"),
        spec=types.SimpleNamespace(model_args={"stride_in": "1x1"}),
    )
    monkeypatch.setattr(weights, "_load", lambda name: v1)
    monkeypatch.setattr("tl.weights.load.save", lambda *arguments: None)
    with flagsaver.as_parsed(output=str(tmp_path / "x"), scheme="torchvision"):
        weights.convert("resnet50.keras")
    assert "only in a network with {'stride_in': '1x1'}" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["missing", "no npz", "other names", "layout", "classes"])
def test_a_reference_that_does_not_fit(tmp_path, content):
    path = tmp_path / "reference.npz"
    x, y = np.zeros((2, 3, 32, 32), np.float32), np.zeros((2, 1000))
    if content == "no npz":
        path.write_text("x")
    elif content == "other names":
        np.savez(path, images=x)
    elif content == "layout":
        np.savez(path, x=x.transpose(0, 2, 3, 1), y=y)
    elif content == "classes":
        np.savez(path, x=x, y=y[:, :10])
    with (
        flagsaver.as_parsed(reference=str(path)),
        pytest.raises(UserError, match=r"--reference(=.* is no npz with x and y| expected x)"),
    ):
        weights._reference(1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command is called ''; there are 'convert', 'fetch'"),
        (["lsit"], "no command is called 'lsit'; the nearest are 'list'"),
        (["list", "--family=swin"], "no set is left; --family takes a part of a set's name"),
        (["list", "--licence=GPL"], "--licence expected commercial, for all that allow it, or one"),
        (["show"], "show takes 1 argument(s), got 0"),
        (["show", "resnet50.tv3"], "the nearest are 'resnet50.tv2'"),
        (["convert", "efficientnet_lite0"], "convert needs --output=FILE"),
        (
            ["convert", "efficientnet_lite0", "--output=x", "--scheme=torchvision"],
            "--scheme=torchvision: efficientnet_lite0 has the names of ",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    error = run(*arguments, status=2)
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
