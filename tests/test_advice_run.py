import dataclasses
import json
import shlex
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from configs import common
from tests import tiny
from tests.parsing import parse
from tl.advice import measure, run
from tl.data.digits import Digits
from tl.errors import UserError
from tl.fields import flat
from tl.runs import finetune, options, probe, workdir
from tl.weights.load import load

CONFIG = "configs/common.py"


@pytest.fixture(scope="module", autouse=True)
def network(tmp_path_factory):
    with tiny.registered(), tiny.compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module", autouse=True)
def few_strengths():
    """Probes of two strengths instead of the six that tests/test_advice_measure.py fits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "L2S", (1.0, 0.1))
        patch.setattr(measure, "SOLVER", dataclasses.replace(measure.SOLVER, l2s=measure.L2S))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("advice")
    tiny.write_weights(root / "tiny.safetensors")
    return root


def config(place, **fields):
    values = tiny.config(str(place / "tiny.safetensors"), place / "features")
    values.report = False
    values.seeds = (1, 2)
    values.data.examples_per_class = (3, 10)
    values.update_from_flattened_dict(fields)
    return values


def advise(values, path, **arguments):
    lines = []
    workdir.start(values, str(path), "test")
    arguments = {"limit": 100, **arguments}
    fields, base = flat(values), flat(common.get_config())
    return run.advise(fields, base, CONFIG, path, log=lines.append, **arguments), "\n".join(lines)


@pytest.fixture(scope="module")
def advised(place):
    """What advice returns, what it said, and of which splits it read images."""
    read, splits = Digits.__getitem__, set()

    def noted(self, row):
        splits.add(self.split)
        return read(self, row)

    with mock.patch.object(Digits, "__getitem__", noted):
        return *advise(config(place), place / "run"), splits


def test_it_writes_what_it_returns(advised, place):
    result, log, _ = advised
    assert json.loads((place / "run" / "result.json").read_text()) == json.loads(json.dumps(result))
    assert (result["schema"], result["kind"]) == (1, "advise")
    assert result["data"]["images"] == result["data"]["looked_at"] == 100
    assert result["data"]["examples_per_class"] == 10
    assert result["data"]["splits"] == {"train": "train"}
    assert result["resolution"] == {"images": 8, "used": 16, "weights": 16}
    names = [row["endpoint"] for row in result["endpoints"]]
    assert names == ["stem", "stage1", "pooled", "stem+stage1+pooled"]
    assert all(list(row["top1"]) == ["20", "40", "80"] for row in result["endpoints"])
    assert result["verdict"]["size"] == "small"
    assert result["similarity"]["head_entropy"] is None  # its head has three classes of its own
    assert result["similarity"]["held_out"] == 100
    assert result["headline"].lower().startswith(f"small and {result['verdict']['similarity']}")
    assert log.endswith(f"written: {place / 'run' / 'result.json'}")
    assert result["command"] == result["choices"][0]["command"] in log


def test_the_commands_run(advised, place):
    result, _, _ = advised
    for choice in result["choices"]:
        _, _, module, *flags, folder = shlex.split(choice["command"])
        values = parse(flags)
        assert values.seeds[0] == 1 and values.data.examples_per_class == (10,)
        path = place / folder.removeprefix("--workdir=")
        assert path.parent == place
        workdir.start(values, str(path), "next")
        if module == "experiments.probe":
            assert values.endpoints == (choice["endpoint"],)
            tested = probe.run(values, path, lambda line: None)
            assert choice["top1_interval"][0] < tested["test"]["top1"]
        else:
            values.train.epochs = 1.0
            tested = finetune.run(values, path, lambda line: None)
            assert tested["steps"]["done"] == 5  # 80 images in sixteens
        assert tested["test"]["count"] == 797


def test_weights_without_a_head(place, tmp_path, monkeypatch):
    whole = load(str(place / "tiny.safetensors"))
    bare = dataclasses.replace(
        whole,
        spec=dataclasses.replace(whole.spec, num_classes=0, classes=()),
        model=whole.model.clone(num_classes=0),
        variables={
            kind: {name: leaf for name, leaf in tree.items() if name != "head"}
            for kind, tree in whole.variables.items()
        },
    )
    assert bare.variables["params"].keys() < whole.variables["params"].keys()
    monkeypatch.setattr(run, "load", lambda name, **reading: bare)
    result, log = advise(config(place), tmp_path / "run", limit=60)
    assert result["similarity"]["head_entropy"] is None
    assert "entropy of the ImageNet head not known" in " ".join(log.split())


def test_the_next_run_has_a_folder_of_its_own(tmp_path, monkeypatch):
    assert run._beside(tmp_path / "a", "probe") == tmp_path / "a-probe"
    (tmp_path / "a-probe").mkdir()
    (tmp_path / "a-probe-2").mkdir()
    assert run._beside(tmp_path / "a", "probe") == tmp_path / "a-probe-3"
    monkeypatch.chdir(tmp_path / "a-probe")
    for here, name in ((".", "a-probe-next"), ("..", f"{tmp_path.name}-next")):
        assert run._beside(Path(here), "next").name == name


def test_the_test_rows_are_not_read(advised):
    _, _, splits = advised
    assert splits == {"train"}


def test_a_val_split_is_what_is_held_out(place, tmp_path):
    # Digits have no val of their own; what matters is that rows of both sources are told apart.
    values = config(place, **{"data.train": "test", "data.val": "train", "data.test": "train"})
    with pytest.raises(UserError, match="share"):
        advise(values, tmp_path / "run")
    values = config(place, **{"data.examples_per_class": (0,)})
    data = options.data(values)
    opened = {"train": run.sources.open_source(data, "test")}
    opened["val"] = run.sources.open_source(data, "train")
    rows = run.sample.choose_rows(opened["train"].labels(), 0, 0, opened["val"].labels())
    network = load(values.weights)
    extraction = run._extraction(options.extraction(values), network)
    drawn = run.sample.draw(
        network, opened, rows, network.spec.preprocessing, extraction, tmp_path,
        limit=90, log=lambda line: None,
    )  # fmt: skip
    assert drawn.held.shape == (1, 90) and drawn.held.sum() == 30
    assert drawn.features["pooled"].shape == (90, 16)
    assert not drawn.stored
    assert (drawn.labels[drawn.held[0]] == rows.val_labels[:30]).all()


@pytest.mark.parametrize(
    ("train", "val"),
    [((2, 25), ()), ((1, 1), (1, 2))],
    ids=str,
)
def test_few_images_of_a_class(train, val, place, tmp_path):
    rng = np.random.default_rng(0)
    for split, counts in {"train": train, "test": [1] * len(train), "val": val}.items():
        for label, count in enumerate(counts):
            (tmp_path / split / f"{label}").mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / f"{label}" / f"{i}.png")
    values = config(place, **{"data.name": "folder", "data.examples_per_class": (0,)})
    values.data.data_dir = str(tmp_path)
    if val:
        values.data.val = "val"
    result, _ = advise(values, tmp_path / "run", limit=0)
    assert result["data"]["looked_at"] == sum(train) + sum(val)
    assert result["similarity"]["held_out"] == (sum(val) or sum(train))


@pytest.mark.parametrize(
    ("fields", "limit", "message"),
    [
        ({}, 5, "--images of at least 20, two of each class, or 0"),
        ({"data.val": "5fold", "weights": "no"}, 0, "^data.val: advice has no folds, only a probe"),
        ({"data.examples_per_class": (1,)}, 0, "two images each at least, got 10 images of 10"),
        (
            {"data.examples_per_class": (101,)},
            0,
            "^data.examples_per_class: 101 examples per class",
        ),
        ({"extract.pooling": "grid"}, 0, "^extract.pooling: expected"),
        ({"seeds": ()}, 0, "^seeds: expected one or more"),
    ],
)
def test_mistakes(fields, limit, message, place, tmp_path):
    with pytest.raises(UserError, match=message):
        advise(config(place, **fields), tmp_path / "run", limit=limit)
    assert not (tmp_path / "run" / "result.json").exists()
