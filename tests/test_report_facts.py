import json

import pytest

from tests import pages, reported
from tl.report import page


def test_the_headline_is_the_number_with_what_it_rests_on(probe_page):
    folder, shown = probe_page
    assert shown.text.startswith(
        f"Probe {folder.name} 2026-11-25 03:58 UTC Probe of efficientnet_lite0 on digits "
        "96.2 % test top-1 95 % interval 85.0-99.0 % 40 test images 2 seeds "
        "selected on val pooled, logistic, l2 0.01 val top-1 90.0 % of 6 test top-5 100.0 % "
        "mean over classes 96.2 % time 28.5 s "
        "Warning seed 3: pooled, logistic: the best l2 is the grid's lowest"
    )


def test_what_ran_can_be_repeated(probe_page):
    folder, shown = probe_page
    ran = shown.sections["what-ran"]
    assert f"python -m experiments.probe \\ --config=configs/common.py \\ --workdir={folder}" in ran
    for fact in (
        "SHA-256 57934424",
        "images 24 train, 6 val, 40 test",
        "endpoints stage2, pooled; spatial ones pooled: mean",
        "val: 20 % of train, stratified",
        "seeds 3, 4",
        "packages tl 0.1.0, jax 0.10.2 platform",
        "devices 2 x cpu; 2 CPU cores",
        "extract.batch_size 64",
    ):
        assert fact in ran


def test_finetuning(undrawn, tmp_path):
    shown = pages.Page(page.build(reported.write_finetune(tmp_path / "run")))
    assert "96.7 % test top-1 95 % interval 85.0-99.0 % 30 test images 1 seed" in shown.text
    assert "fine-tune, step 20, epoch 2" in shown.text
    assert list(shown.sections) == [
        *pages.EVIDENCE,
        "use-this-model",
        "learning-curves",
        "what-ran",
    ]
    ran = shown.sections["what-ran"]
    assert "12,810 of 3,383,818 trained" in ran
    assert "state of training 1.9 MB of 13.8 MB on each of 8 devices (variables 1.8 MB, opt" in ran
    assert "sgd, learning rate 0.01, cosine, warm-up 0 %, weight decay 0 (decoupled)" in ran
    assert "augmentation none" in ran
    (alt,) = [image["alt"] for image in shown.of("img") if "Loss" in image["alt"]]
    assert "from 30.0\u202f% to 90.0\u202f%" in alt


def with_loss(folder, loss):
    """Writes a fine-tuning run with a loss, or from before the field with None."""
    reported.write_finetune(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["train"]["loss"]
    config["train"] |= {"loss": loss} if loss else {}
    reported.write(folder / "config.json", config)
    return folder


def test_a_run_shows_its_loss(undrawn, tmp_path):
    folder = with_loss(tmp_path / "run", "sigmoid")
    assert "float32 loss sigmoid optimizer" in pages.Page(page.build(folder)).sections["what-ran"]


def test_a_run_from_before_losses_had_names(undrawn, tmp_path):
    folder = with_loss(tmp_path / "run", None)
    assert "float32 loss softmax optimizer" in pages.Page(page.build(folder)).sections["what-ran"]


def test_a_run_from_before_memory_was_counted(undrawn, tmp_path):
    folder = reported.write_finetune(tmp_path / "run", memory=None)
    assert "state of training" not in pages.Page(page.build(folder)).sections["what-ran"]


def test_a_run_by_a_rule_shows_what_ran(undrawn, tmp_path):
    rule = {
        "preprocess.size": 128,
        "augment.mixup": 0.1,
        "train.steps": 500,
        "optim.warmup": 0.2,
        "optim.boundaries": [0.4, 0.6, 0.8],
    }
    folder = reported.write_finetune(tmp_path / "run", rule=rule)
    config = json.loads((folder / "config.json").read_text())
    config["train"] |= {"rule": "bit", "steps": 0, "epochs": 7.0}
    config["optim"] |= {"schedule": "step", "boundaries": [], "warmup": 0.0}
    reported.write(folder / "config.json", config)
    ran = pages.Page(page.build(folder)).sections["what-ran"]
    assert "preprocessing size 128 " in ran
    assert (
        "rule bit: preprocess.size 128, augment.mixup 0.1, train.steps 500, optim.warmup 0.2, "
        "optim.boundaries 0.4, 0.6, 0.8 training 500 steps, batches of" in ran
    )
    assert "step, warm-up 20 %" in ran and "augmentation mixup 0.1" in ran
    assert "7 epochs" not in ran
    assert "train.steps 500, by the rule" in ran and "preprocess.size 128, by the rule" in ran

    result = json.loads((folder / "result.json").read_text())
    reported.write(folder / "result.json", result | {"rule": {}})
    ran = pages.Page(page.build(folder)).sections["what-ran"]
    assert "rule bit: nothing, since every field of it was given" in ran
    del result["rule"]  # as of a run from before it was recorded
    reported.write(folder / "result.json", result)
    ran = pages.Page(page.build(folder)).sections["what-ran"]
    assert "rule bit: what it set was not recorded" in ran


@pytest.mark.parametrize("kind", ["extract", "evaluate"])
def test_runs_without_heads(undrawn, tmp_path, kind):
    result = {
        "data": reported._data(("a", "b")),
        "weights": {"name": "tiny", "sha256": "0"},
        "seconds": {"total": 3.0},
    }
    if kind == "extract":
        result["warnings"] = ["left out: 3 .psd"]
        split = {"path": "features", "count": 30, "widths": {"pooled": 1280}}
        result["features"] = {"train": split, "test": split}
        expected = "60 images, their features stored"
    else:
        result["test"] = reported._test(("a", "b"), 0.75)
        result["published"] = {"top1": 0.76, "top5": None}
        expected = "published on ImageNet, top-1 76.0 %"
    shown = pages.Page(page.build(reported.write_run(tmp_path / "run", kind, result)))
    sections = [name for name in shown.sections if name != "not-shown"]
    assert expected in shown.text and sections == ["what-ran"]
    assert ("left out: 3 .psd" in shown.text) == (kind == "extract")
    # An evaluation from before it saved predictions.
    assert ("Confusion matrix" in shown.text) == (kind == "evaluate")


def test_the_interval_is_over_groups(undrawn, tmp_path):
    folder = reported.write_probe(tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    result["test"]["groups"] = 12
    (folder / "result.json").write_text(json.dumps(result))
    shown = pages.Page(page.build(folder))
    assert "99.0 %, over 12 groups" in shown.text
    assert "a bootstrap over the 12 groups of the test images" in shown.sections["what-ran"]


def test_a_cross_validated_probe_says_so(undrawn, tmp_path):
    folder = reported.write_probe(tmp_path / "run", val={"top1": 0.9, "count": 30, "folds": 5})
    shown = pages.Page(page.build(folder))
    assert "val top-1 90.0 % of 30, held out in 5 folds" in shown.text
    ran = shown.sections["what-ran"]
    assert "images 24 train, 30 test" in ran
    assert "val: each of 5 folds of train in turn, stratified" in ran
    assert "the choice, refitted on all of train, scored once" in ran
    assert "each of 5 folds is held out in turn" in shown.sections["selection-on-val"]
    assert "val images, held out in 5 folds (seed 3)." in shown.sections["reliability"]


def test_a_run_of_a_study_is_used_by_its_own_folder(undrawn, tmp_path):
    folder = reported.write_finetune(tmp_path / "study" / "runs" / "a-seed0")
    (folder / "model.safetensors").touch()
    environment = json.loads((folder / "environment.json").read_text())
    environment["command"] = "python -m experiments.ablate --config=c.py --workdir=mine/study"
    (folder / "environment.json").write_text(json.dumps(environment))
    shown = pages.Page(page.build(folder))
    assert "experiments.predict mine/study/runs/a-seed0 PHOTO" in shown.sections["use-this-model"]


def test_a_run_in_a_bucket_is_used_by_its_address(undrawn, tmp_path):
    folder = reported.write_finetune(tmp_path / "a")
    (folder / "model.safetensors").touch()
    environment = json.loads((folder / "environment.json").read_text())
    environment["command"] = "tl finetune --config=c.py --workdir=s3://bucket/a"
    (folder / "environment.json").write_text(json.dumps(environment))
    use = pages.Page(page.build(folder)).sections["use-this-model"]
    assert "experiments.predict s3://bucket/a PHOTO" in use
    assert "tl.load('s3://bucket/a')" in use
