"""The command, and that a probe of a pack is the probe of what was packed."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

from tests import commands, tiny
from tests.lite0 import config, run
from tl.results.predictions import Predictions
from tl.runs import probe

pack = functools.partial(commands.run, "experiments.pack", "--config=configs/folder_probe.py")


def photographs(root):
    """Writes a folder of two classes, bright and dark, of which two JPEGs of each are equal."""
    rng = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        (root / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(low, low + 128, (9 + i % 2, 40 + i, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.jpg")
        (root / name / "copy.jpg").write_bytes((root / name / "3.jpg").read_bytes())
        (root / name / "broken.jpg").write_bytes(b"no image")
    return root


def result_of(folder):
    """Returns a run's result without what differs between any two runs, such as seconds."""
    found = json.loads((folder / "result.json").read_text())
    for name in ("seconds", "environment", "command", "features"):
        found.pop(name, None)
    return found


def test_a_probe_of_a_pack_is_that_of_the_folder(tmp_path):
    root = photographs(tmp_path / "photos")
    said = pack(
        f"--config.data.data_dir={root}",
        "--config.data.skip_corrupt=true",
        f"--output={tmp_path / 'deep/pack'}",
    )
    lines = said.splitlines()
    assert lines[0].startswith("train: 22 images, ") and lines[0].endswith(" MB, 1 files")
    assert lines[1].startswith("test: 6 images, ")
    assert lines[2] == f"written: {tmp_path / 'deep/pack'}"
    fields = {
        "data.name": "folder",
        "data.skip_corrupt": True,
        "data.examples_per_class": (0,),
        "endpoints": ("stem", "pooled"),
        "seeds": (0, 1),
    }
    with tiny.registered():
        fields["weights"] = str(tiny.write_weights(tmp_path / "tiny.safetensors"))
        for name, path in (("folder", root), ("pack", tmp_path / "deep/pack")):
            values = config(str(tmp_path / "features"), **fields, **{"data.data_dir": str(path)})
            _, said = run(probe.run, values, tmp_path / name)
            assert said.count("features reused") == (2 if name == "pack" else 0)
        # And computed from the pack itself they are the same.
        _, said = run(
            probe.run,
            config(str(tmp_path / "others"), **fields, **{"data.data_dir": str(path)}),
            tmp_path / "again",
        )
        assert said.count("features new") == 2
    expected, saved = result_of(tmp_path / "folder"), Predictions.load(tmp_path / "folder")
    assert expected["data"]["left_out"]
    for name in ("pack", "again"):
        assert result_of(tmp_path / name) == expected
        found = Predictions.load(tmp_path / name)
        np.testing.assert_array_equal(found.test_ids, saved.test_ids)
        np.testing.assert_array_equal(found.test_predicted, saved.test_predicted)
        np.testing.assert_array_equal(found.test_logits, saved.test_logits)
    stores = [{p.name for p in (tmp_path / name).iterdir()} for name in ("features", "others")]
    assert stores[0] == stores[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "where to? Give --output=FOLDER"),
        (["--output={}", "--config.data.data_dir={}"], "is there already; give another name"),
        (["--output={}/p", "--config.data.data_dir={}/no"], "there is no directory"),
        (["--outptu={}"], "no flag is called --outptu; the nearest are 'output'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    photographs(tmp_path / "x")
    root = tmp_path / "x"
    error = pack(*(argument.format(root) for argument in arguments), status=2)
    assert message in error.splitlines()[-1] and error.splitlines()[-1].startswith("error: ")
    assert sorted(path.name for path in root.iterdir()) == ["bright", "dark"]
