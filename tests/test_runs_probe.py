import json
import shutil

import numpy as np
import pytest
import skimage.data
from PIL import Image

from configs import common
from tl.data.digits import Digits
from tl.errors import UserError
from tl.report import page
from tl.results.examples import load_examples
from tl.results.predictions import Predictions
from tl.results.projection import load_features
from tl.runs import evaluate, extract, probe, workdir

PHOTOGRAPHS = {"coffee": "espresso", "chelsea": "tiger_cat", "rocket": "n04008634"}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return str(tmp_path_factory.mktemp("features"))


def config(features, **fields):
    values = common.get_config()
    values.preprocess.size = 32
    values.preprocess.geometry = "whole"
    values.endpoints = ("pixels", "stage2", "stage2+stage3")
    values.data.examples_per_class = (5, 10)
    values.seeds = (3, 4)
    values.probe.l2 = (1e-3, 1e-1, 1e1)
    values.extract.feature_dir = features
    values.report = False
    values.update_from_flattened_dict(fields)
    return values


def run(job, values, path):
    lines = []
    workdir.start(values, str(path), "test")
    return job(values, path, lines.append), "\n".join(map(str, lines))


@pytest.fixture(scope="module")
def probed(features, tmp_path_factory):
    path = tmp_path_factory.mktemp("probe")
    result, log = run(probe.run, config(features), path)
    return path, result, log


def test_probe_writes_what_it_returns(probed):
    path, result, _ = probed
    written = json.loads((path / "result.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert written["schema"] == 1
    assert written["kind"] == "probe"
    assert written["data"]["name"] == "digits"
    assert {k: written["data"][k] for k in ("classes", "train", "val", "test")} == {
        "classes": 10,
        "train": 80,
        "val": 20,
        "test": 797,
    }
    assert written["weights"]["name"] == "efficientnet_lite0"
    assert written["weights"]["sha256"].startswith("57934424")
    assert written["selected"]["solver"] == "logistic"
    assert written["selected"]["l2"] in (1e-3, 1e-1, 1e1)
    assert written["val"]["count"] == 20
    low, high = written["test"]["top1_ci95"]
    assert low < written["test"]["top1"] < high < written["test"]["top5"] <= 1
    assert written["test"]["count"] == 797
    assert set(written["seconds"]) == {"extract", "fit", "total"}
    # Three endpoints, three strengths, two seeds.
    assert len(written["grid"]) == 18
    assert {row["seed"] for row in written["grid"]} == {3, 4}


def test_the_study_has_every_cell(probed):
    path, result, log = probed
    cells = {(row["examples_per_class"], row["endpoint"]): row for row in result["study"]}
    assert set(cells) == {(k, e) for k in (5, 10) for e in ("pixels", "stage2", "stage2+stage3")}
    for row in cells.values():
        assert row["test_top1"] == pytest.approx(np.mean(row["test_top1_seeds"]))
        assert row["test_top1_range"] == [
            min(row["test_top1_seeds"]),
            max(row["test_top1_seeds"]),
        ]
    # Ten pixels a class tell digits apart; far above the one in ten of guessing.
    assert cells[10, "pixels"]["test_top1"] > 0.8
    records = [json.loads(line) for line in (path / "metrics.jsonl").open()]
    assert [(r["examples_per_class"], r["seed"]) for r in records] == [
        (5, 3),
        (5, 4),
        (10, 3),
        (10, 4),
    ]
    assert (path / probe.PLOT).stat().st_size > 10_000
    assert "pixels" in log
    assert "797" in log


def test_the_evidence_is_of_the_most_examples(probed):
    path, result, _ = probed
    predictions = Predictions.load(path)
    test = Digits("test")
    assert predictions.seeds.tolist() == [3, 4]
    assert predictions.test_ids.tolist() == [test[row]["id"] for row in range(len(test))]
    np.testing.assert_array_equal(predictions.test_labels, test.labels())
    assert predictions.correct.mean(axis=1).tolist() == result["test"]["top1_seeds"]
    np.testing.assert_array_equal(
        predictions.test_logits.argmax(axis=1), predictions.test_predicted[0]
    )
    # The head that was chosen, before it saw val.
    hits = predictions.val_logits.argmax(axis=1) == predictions.val_labels
    best = max(row["val_top1"] for row in result["grid"] if row["seed"] == 3)
    assert (hits.mean(), len(hits)) == (best, 20)
    features = load_features(path)
    assert features.endpoint == result["seeds"][0]["endpoint"]
    assert features.rows.tolist() == list(range(797))
    assert features.coordinates.shape == (797, 50)
    examples = load_examples(path)
    assert {example["split"] for example in examples} <= {"test", "val"}
    train = Digits("train")
    for example in examples:
        images = test if example["split"] == "test" else train
        (row,) = [row for row in range(len(images)) if images[row]["id"] == example["id"]]
        assert images.classes[images[row]["label"]] == example["label"]
        with Image.open(path / example["file"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), images[row]["image"])


@pytest.mark.parametrize("job", [extract.run, probe.run])
def test_a_report_that_fails_is_a_warning(job, features, tmp_path, monkeypatch):
    def build(path):
        raise ValueError(len((path / "result.json").read_text()) > 0)

    monkeypatch.setattr(page, "build", build)
    values = config(features, report=True, endpoints=("pixels",))
    _, log = run(job, values, tmp_path)
    assert "warning: no report was made (ValueError: True); " in log
    assert log.endswith(f"try again with python -m experiments.report {tmp_path}")
    assert (tmp_path / "result.json").exists()


def test_features_are_reused_and_numbers_repeat(probed, features, tmp_path):
    _, result, first = probed
    again, log = run(probe.run, config(features), tmp_path)
    assert "features new" in first
    assert log.count("features reused") == 2
    assert again["test"] == result["test"]
    assert again["study"] == result["study"]


def test_another_size_is_not_read_from_there(probed, features, tmp_path):
    values = config(features, **{"preprocess.size": 40, "endpoints": ("pixels",)})
    _, log = run(extract.run, values, tmp_path)
    assert "features reused" not in log
    assert "preprocessing.size" in log


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probe.solvers": ("logistics",)}, "no solver is called 'logistics'; the nearest are"),
        ({"endpoints": ("stage99",)}, "^endpoints: the network has no endpoint 'stage99'; the n"),
        (
            {"extract.endpoints": ("stem", "stage1+stage_2")},
            "^extract.endpoints: the network has no endpoint 'stage_2'; the nearest are 'stage2'",
        ),
        ({"weights": "resnet5"}, "no weight set is called 'resnet5'"),
        ({"data.name": "digit"}, "digit"),
        ({"data.examples_per_class": (101,)}, "101 examples per class were asked for"),
        ({"data.val": "1.5"}, "between 0 and 1"),
        ({"preprocess.interpolation": "cubic"}, "no interpolation 'cubic'"),
        ({"extract.pooling": "grid"}, "expected pooling"),
        ({"extract.threads": -1}, "extract.threads: expected at least 0, got -1"),
        ({"extract.verify_rows": -1}, "extract.verify_rows: expected at least 0, got -1"),
        ({"endpoints": ("stem", "stem")}, "^endpoints: expected one or more, each once"),
        ({"seeds": ()}, r"^seeds: expected one or more, each once; got \(\)"),
        ({"seeds": (0, -1)}, "^seeds: expected seeds of at least 0"),
        ({"data.examples_per_class": ()}, "^data.examples_per_class: expected one or more"),
        ({"probe.solvers": ()}, "^probe.solvers: expected one or more"),
        ({"probe.l2": ()}, "^probe.l2: expected one or more"),
    ],
)
def test_mistakes(fields, message, features, tmp_path):
    with pytest.raises(UserError, match=message):
        run(probe.run, config(features, **fields), tmp_path)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probe.solvers": ("logistics",)}, "no solver is called"),
        ({"endpoints": ("stage99",)}, "no endpoint 'stage99'"),
        ({"weights": "resnet5"}, "no weight set is called"),
        ({"data.name": "folder", "data.data_dir": "/missing"}, "/missing"),
        ({"data.examples_per_class": (5, 101)}, "101 examples per class were asked for"),
        ({"probe.l2": (0.1, -1.0)}, "expected l2 > 0, got -1"),
        ({"probe.solvers": ("head",), "probe.dropout": 1.5}, "dropout"),
    ],
)
def test_a_mistake_leaves_the_earlier_run(fields, message, probed, features, tmp_path):
    path = shutil.copytree(probed[0], tmp_path / "run")
    before = contents(path)
    values = config(features, **fields)
    with pytest.raises(UserError, match=message):
        workdir.start(values, str(path), "test", overwrite=True)
        probe.run(values, path, lambda line: None)
    assert contents(path) == before


def test_overwriting_leaves_nothing_of_the_earlier_run_and_what_is_not_its(
    probed, features, tmp_path
):
    path = shutil.copytree(probed[0], tmp_path / "run")
    page.build(path)
    own = ("notes.txt", "examples/mine.txt")
    for name in own:
        (path / name).write_text("my own")
    values = config(features, endpoints=("pixels",))
    workdir.start(values, str(path), "test", overwrite=True)
    extract.run(values, path, lambda line: None)
    assert set(contents(path)) == {*own, "config.json", "environment.json", "result.json"}
    assert json.loads((path / "result.json").read_text())["kind"] == "extract"
    assert json.loads((path / "config.json").read_text())["endpoints"] == ["pixels"]


def contents(path):
    """Returns what the files of a run hold, but for its lock."""
    files = [file for file in path.rglob("*") if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_every_solver(probed, features, tmp_path):
    values = config(
        features,
        **{"probe.solvers": ("ridge", "knn", "head"), "probe.epochs": 2, "seeds": (3,)},
    )
    result, _ = run(probe.run, values, tmp_path)
    assert {row["solver"] for row in result["grid"]} == {"ridge", "knn", "head"}


def photographs(root, splits):
    """Returns the fields of a folder of two classes, bright and dark, n images a class."""
    rng = np.random.default_rng(0)
    for split, n in splits.items():
        for name, low in (("bright", 128), ("dark", 0)):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(low, low + 128, (9, 8 + i, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return {
        "data.name": "folder",
        "data.data_dir": str(root),
        "data.examples_per_class": (0,),
        "endpoints": ("stem",),
        "seeds": (0,),
    }


def test_a_folders_own_val_split_is_the_one_chosen_on(features, tmp_path):
    fields = photographs(tmp_path / "images", {"train": 5, "val": 3, "test": 2})
    result, _ = run(probe.run, config(features, **fields), tmp_path)
    counts = {name: result["data"][name] for name in ("classes", "train", "val", "test")}
    assert counts == {"classes": 2, "train": 10, "val": 6, "test": 4}
    assert result["val"]["count"] == 6
    assert result["test"]["top5"] == 1.0  # of two classes


def test_images_left_out_once_are_not_left_out_silently_later(features, tmp_path):
    fields = photographs(tmp_path / "images", {"train": 5, "test": 2})
    (tmp_path / "images" / "test" / "dark" / "1.png").write_bytes(b"no image")
    values = config(features, **fields, **{"data.skip_corrupt": True})
    result, _ = run(probe.run, values, tmp_path)
    assert result["data"]["left_out"] == {"train": 0, "test": 1}
    assert result["test"]["count"] == 3
    values.data.skip_corrupt = False
    with pytest.raises(UserError, match=r"1 of 4 images of test cannot be .*, the first is test/d"):
        run(probe.run, values, tmp_path / "again")
    for name in ("dark/0", "bright/0", "bright/1"):
        (tmp_path / "images" / "test" / f"{name}.png").write_bytes(b"no image")
    values.data.skip_corrupt = True
    with pytest.raises(UserError, match=r"data\.test: no image of it has a label"):
        run(probe.run, values, tmp_path / "again")


def test_evaluate_on_photographs(features, tmp_path):
    for photograph, folder in PHOTOGRAPHS.items():
        path = tmp_path / "images" / folder / f"{photograph}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(getattr(skimage.data, photograph)()).save(path)
    values = common.get_config()
    values.data.name = "folder"
    values.data.data_dir = str(tmp_path / "images")
    values.data.test = ""
    values.extract.feature_dir = features
    values.report = False
    result, log = run(evaluate.run, values, tmp_path)
    # A rocket is a missile to this network at its own preprocessing; its folder says projectile.
    assert result["kind"] == "evaluate"
    assert result["data"]["test"] == result["test"]["count"] == 3
    assert result["data"]["left_out"] == {"test": 0}
    assert result["test"]["top1"] == 2 / 3
    assert result["test"]["top5"] == 1.0
    assert result["published"]["top1"] == 0.751
    assert "75.10 % top-1" in log


def test_evaluate_needs_imagenets_classes(features, tmp_path):
    with pytest.raises(UserError, match="10 of 10 classes are not ImageNet's: 0, 1, 2"):
        run(evaluate.run, config(features), tmp_path)
