import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.folders import contents
from tests.lite0 import config, photographs, run
from tl.data.digits import Digits
from tl.errors import UserError
from tl.results.examples import load_examples
from tl.results.predictions import Predictions
from tl.results.projection import load_features
from tl.runs import near_duplicates, probe, workdir


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
    reason = "that needs features of pooled or logits, which the field extract.endpoints stores"
    assert written["near_duplicates"] == {"not_looked_for": reason}
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
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
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


def test_features_are_reused_and_numbers_repeat(probed, lite0_features, tmp_path):
    _, result, first = probed
    again, log = run(probe.run, config(lite0_features), tmp_path)
    assert "features new" in first
    assert log.count("features reused") == 2
    assert again["test"] == result["test"]
    assert again["study"] == result["study"]


def test_only_the_selected_endpoints_warnings_are_printed(lite0_features, tmp_path):
    fields = {"data.examples_per_class": (10,), "probe.max_iterations": 1}
    result, log = run(probe.run, config(lite0_features, **fields), tmp_path)
    for endpoint in ("pixels", "stage2", "stage2+stage3"):  # none converges
        for seed in (3, 4):
            start = f"seed {seed}: {endpoint}, logistic: the fit for "
            assert any(warning.startswith(start) for warning in result["warnings"])
    start = f": {result['selected']['endpoint']}, logistic: "
    assert [line for line in log.splitlines() if line.startswith("warning: seed ")] == [
        f"warning: {warning}" for warning in result["warnings"] if start in warning
    ]


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
        ({"data.examples_per_class": (101,)}, "^data.examples_per_class: 101 examples per class"),
        ({"data.val": "1.5"}, "between 0 and 1"),
        ({"preprocess.interpolation": "cubic"}, "no interpolation 'cubic'"),
        ({"extract.pooling": "grid"}, "^extract.pooling: expected 'mean'"),
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
def test_mistakes(fields, message, lite0_features, tmp_path):
    with pytest.raises(UserError, match=message):
        run(probe.run, config(lite0_features, **fields), tmp_path)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probe.solvers": ("logistics",)}, "no solver is called"),
        ({"endpoints": ("stage99",)}, "no endpoint 'stage99'"),
        ({"weights": "resnet5"}, "no weight set is called"),
        ({"data.name": "folder", "data.data_dir": "/missing"}, "/missing"),
        ({"data.examples_per_class": (5, 101)}, "101 examples per class were asked for"),
        ({"probe.l2": (0.1, -1.0)}, "^probe.l2: expected above 0, got -1"),
        ({"probe.solvers": ("head",), "probe.dropout": 1.5}, "^probe.dropout: expected"),
    ],
)
def test_a_mistake_leaves_the_earlier_run(fields, message, probed, lite0_features, tmp_path):
    path = shutil.copytree(probed[0], tmp_path / "run")
    before = contents(path)
    values = config(lite0_features, **fields)
    with pytest.raises(UserError, match=message):
        workdir.start(values, str(path), "test", overwrite=True)
        probe.run(values, path, lambda line: None)
    assert contents(path) == before


@pytest.mark.slow  # tests/test_probes_protocol.py has them without a run
def test_every_solver(probed, lite0_features, tmp_path):
    values = config(
        lite0_features,
        **{"probe.solvers": ("ridge", "knn", "head"), "probe.epochs": 2, "seeds": (3,)},
    )
    result, _ = run(probe.run, values, tmp_path)
    assert {row["solver"] for row in result["grid"]} == {"ridge", "knn", "head"}


def test_a_folders_own_val_split_is_the_one_chosen_on(lite0_features, tmp_path):
    fields = photographs(tmp_path / "images", {"train": 5, "val": 3, "test": 2})
    result, log = run(probe.run, config(lite0_features, **fields), tmp_path)
    counts = {name: result["data"][name] for name in ("classes", "train", "val", "test")}
    assert counts == {"classes": 2, "train": 10, "val": 6, "test": 4}
    assert result["val"]["count"] == 6
    assert result["test"]["top5"] is None and "top-5" not in log  # of two classes
    assert (
        "2 of 2 classes have fewer than 3 test images: bright (2), dark (2)" in result["warnings"]
    )
    assert "warning: val has 6 images, fewer than 50" in log


def test_a_training_image_saved_again_is_a_warning(lite0_features, tmp_path, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_ENDPOINTS", ("stem",))  # which these tests compute
    root = tmp_path / "images"
    fields = photographs(root, {"train": 5, "val": 3, "test": 2})
    with Image.open(root / "train" / "dark" / "3.png") as image:
        pixels = np.asarray(image)
        image.save(root / "test" / "dark" / "saved again.bmp")  # the same pixels, other bytes
    result, log = run(probe.run, config(lite0_features, **fields), tmp_path / "run")
    near = result["near_duplicates"]
    (pair,) = (pair for pair in near["pairs"] if pair["id"] == "test/dark/saved again.bmp")
    assert (pair["training_id"], pair["cosine"]) == ("train/dark/3.png", pytest.approx(1))
    for file in (pair["file"], pair["training_file"]):
        with Image.open(tmp_path / "run" / file) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels)
    (warning,) = (text for text in result["warnings"] if "test images" in text and "near" in text)
    assert warning.startswith(f"{near['test']['count']} of 5 test images ")
    assert f"warning: {warning}" in log


def test_folds_keep_no_image_from_train(probed, lite0_features, tmp_path):
    fields = {"data.val": "5fold", "data.examples_per_class": (10,), "seeds": (3,)}
    result, log = run(probe.run, config(lite0_features, **fields), tmp_path)
    assert {part: result["data"][part] for part in ("train", "val")} == {"train": 100, "val": 0}
    assert (result["val"]["count"], result["val"]["folds"]) == (100, 5)
    assert "digits, 10 classes: 100 train, 797 test" in log
    predictions = Predictions.load(tmp_path)
    assert len(set(predictions.val_ids)) == 100
    right = predictions.val_logits.argmax(axis=1) == predictions.val_labels
    assert right.mean() == pytest.approx(result["val"]["top1"])
    held_out = Predictions.load(probed[0])  # of the same images, a fifth of which was val
    assert set(held_out.val_ids) < set(predictions.val_ids)
