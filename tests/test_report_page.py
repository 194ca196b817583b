import base64
import dataclasses
import io
import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests import commands, reported
from tests.pages import Page, undrawn  # noqa: F401
from tl.errors import UserError
from tl.report import figures, fonts, page, style
from tl.results import calibration
from tl.results.predictions import PREDICTIONS, Predictions

PIXEL = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)

# What users call their folders.
CLASSES = ("<script>alert(1)</script>", "a \"quoted\" & 'plain' one", "кошка", "$x^2$")
EVIDENCE = [
    "confusion-matrix",
    "classes",
    "reliability",
    "features",
    "most-confident-mistakes",
    "least-certain-right-answers",
    "likely-mislabelled",
]


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    folder = reported.write_probe(tmp_path_factory.mktemp("probe"), CLASSES)
    return folder, Page(page.build(folder))


def test_the_headline_is_the_number_with_what_it_rests_on(probe):
    folder, shown = probe
    assert shown.text.startswith(
        f"Probe {folder.name} 2026-11-25 03:58 UTC Probe of efficientnet_lite0 on digits "
        "96.2 % test top-1 95 % interval 85.0-99.0 % 40 test images 2 seeds "
        "selected on val pooled, logistic, l2 0.01 val top-1 90.0 % of 6 test top-5 100.0 % "
        "mean over classes 96.2 % time 28.5 s "
        "Warning seed 3: pooled, logistic: the best l2 is the grid's lowest"
    )


def test_every_part_is_there_in_reading_order(probe):
    _, shown = probe
    assert list(shown.sections) == ["what-ran", "selection-on-val", *EVIDENCE]
    (links,) = [[a["href"] for a in shown.of("a")]]
    assert links == [f"#{name}" for name in shown.sections]


def test_what_ran_can_be_repeated(probe):
    folder, shown = probe
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


def test_class_numbers(probe):
    _, shown = probe
    # Both seeds take the first image of class 0 for class 1, one of class 1 for class 2: of 80,
    # 3 are wrong.
    confusion = shown.sections["confusion-matrix"]
    assert "77 of 80 on the diagonal" in confusion
    assert f"{CLASSES[0]} taken for {CLASSES[1]}, 2 times; " in confusion
    assert f"{CLASSES[1]} taken for {CLASSES[2]}, 1 time." in confusion
    # Precision of class 0: 18 of 18; F1: 2 * 18 / (20 + 18).
    row = f"{CLASSES[0]} 10 90.0 % 100.0 % 94.7 % {CLASSES[1]} (10.0 %)"
    assert row in shown.sections["classes"]
    # Precision of class 1: 19 of 21, for the two of class 0.
    assert "10 95.0 % 90.5 % 92.7 %" in shown.sections["classes"]


def test_names_that_no_font_draws_go_by_their_numbers(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "drawable", lambda text: "猫" not in text)
    monkeypatch.setattr(fonts, "_drawable", lambda character: character != "猫")
    draws = []
    monkeypatch.setattr(style, "png", lambda draw, dark, dpi: draws.append(draw) or PIXEL)
    shown = Page(page.build(reported.write_probe(tmp_path / "run", ("cat", "猫", "dog"))))
    names = [draw.args[1] for draw in draws if draw.func is figures.confusion_matrix]
    assert names == [["cat", "#1", "dog"]] * 4  # counts and shares, light and dark
    named = [draw.args[2] for draw in draws if draw.func is figures.scatter]
    assert named == [["cat", "#1", "dog"]] * 4
    for section in ("confusion-matrix", "features"):
        assert (
            "can draw 猫; in the pictures such a class goes by its number"
            in (shown.sections[section])
        )
    assert "class number test images" in shown.sections["classes"]
    assert "猫 1 10 95.0 %" in shown.sections["classes"]


def test_of_many_classes_the_table_has_the_numbers_that_colours_stand_for(
    undrawn,  # noqa: F811
    tmp_path,
):
    names = tuple(f"breed {'abcdefghijklmnopqrstu'[i]}" for i in range(21))
    many = Page(page.build(reported.write_probe(tmp_path / "many", names)))
    assert "breed u 20 10 100.0 %" in many.sections["classes"]
    few = Page(page.build(reported.write_probe(tmp_path / "few", names[:20])))
    assert "number" not in few.sections["classes"]
    assert "No font" not in few.text


def test_nothing_is_loaded_from_elsewhere(probe):
    folder, shown = probe
    sources = [tag.get("src") or tag.get("srcset") for _, tag in shown.tags]
    sources = [source for source in sources if source]
    assert len(sources) > 15 and all(source.startswith("data:image/") for source in sources)
    hrefs = [a["href"] for tag in ("a", "link") for a in shown.of(tag)]
    assert all(href.startswith(("#", "data:,")) for href in hrefs)
    text = (folder / "report.html").read_text()
    assert "http:" not in text and "https:" not in text and "@import" not in text


def test_pictures_are_for_light_and_dark_and_described(probe):
    _, shown = probe
    pictures = len(shown.of("picture"))
    assert pictures == 7  # endpoints, strengths, two confusions, reliability, PCA, t-SNE
    dark = shown.of("source")
    assert [s["media"] for s in dark] == ["(prefers-color-scheme: dark)"] * pictures
    light = [image for image in shown.of("img") if "width" in image]
    for one, other in zip(light, dark, strict=True):
        assert one["src"] != other["srcset"]
        with Image.open(io.BytesIO(base64.b64decode(one["src"].partition(",")[2]))) as image:
            # 144 pixels an inch, 96 CSS pixels an inch.
            assert image.width / 1.5 == pytest.approx(int(one["width"]), abs=1)
    alts = [image["alt"] for image in shown.of("img")]
    assert all(len(alt) > 20 for alt in alts) and len(set(alts)) >= len(alts) - 1
    assert any(f"{CLASSES[0]} taken for {CLASSES[1]}, 2 times" in alt for alt in alts)


def test_names_are_text_wherever_they_come_from(probe):
    _, shown = probe
    assert len(shown.of("script")) == 1  # the page's own
    for name in CLASSES[:3]:
        assert name in shown.sections["classes"]
    assert CLASSES[2] in shown.sections["least-certain-right-answers"]


def test_galleries_enlarge_what_is_small(probe):
    _, shown = probe
    images = [image for image in shown.of("img") if "width" not in image]
    assert [image.get("class") for image in images] == ["small", "small", None, "small"]
    # A hundred pixels of noise are stored as JPEG, eight as they are.
    assert [image["src"][:15] for image in images] == [
        *["data:image/png;"] * 2,
        "data:image/jpeg",
        "data:image/png;",
    ]
    mistakes = shown.sections["most-confident-mistakes"]
    assert f"true {CLASSES[0]} predicted {CLASSES[1]}, 97.0 %" in mistakes
    assert mistakes.index("test-0") < mistakes.index("test-10")
    assert "of the true class" not in shown.sections["least-certain-right-answers"]


def test_the_same_files_make_the_same_page_anywhere(probe, undrawn, tmp_path):  # noqa: F811
    folder, _ = probe
    copy = shutil.copytree(folder, tmp_path / folder.name)
    (copy / page.PAGE).unlink()
    page.build(folder)
    assert page.build(copy).read_bytes() == (folder / page.PAGE).read_bytes()
    assert not list(copy.glob(".*"))  # no half of a page


def test_finetuning(undrawn, tmp_path):  # noqa: F811
    shown = Page(page.build(reported.write_finetune(tmp_path / "run")))
    assert "96.7 % test top-1 95 % interval 85.0-99.0 % 30 test images 1 seed" in shown.text
    assert "fine-tune, step 20, epoch 2" in shown.text
    assert list(shown.sections) == ["what-ran", "learning-curves", *EVIDENCE]
    ran = shown.sections["what-ran"]
    assert "12,810 of 3,383,818 trained" in ran
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


def test_a_run_shows_its_loss_and_probabilities_follow_it(undrawn, tmp_path):  # noqa: F811
    folder = with_loss(tmp_path / "run", "sigmoid")
    before = Predictions.load(folder)
    softmax = Page(page.build(folder)).sections["reliability"]
    dataclasses.replace(before, link="sigmoid").save(folder / PREDICTIONS)
    shown = Page(page.build(folder)).sections
    assert "float32 loss sigmoid optimizer" in shown["what-ran"]
    logits, labels = before.test_logits, before.test_labels
    found = calibration.reliability(calibration.probabilities(logits, link="sigmoid"), labels)
    sentence = f"error on test: {100 * found.ece:.1f} % before"
    assert sentence in shown["reliability"] and sentence not in softmax


def test_a_run_from_before_losses_had_names(undrawn, tmp_path):  # noqa: F811
    folder = with_loss(tmp_path / "run", None)
    assert "float32 loss softmax optimizer" in Page(page.build(folder)).sections["what-ran"]


def test_a_run_by_a_rule_shows_what_ran(undrawn, tmp_path):  # noqa: F811
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
    ran = Page(page.build(folder)).sections["what-ran"]
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
    ran = Page(page.build(folder)).sections["what-ran"]
    assert "rule bit: nothing, since every field of it was given" in ran
    del result["rule"]  # as of a run from before it was recorded
    reported.write(folder / "result.json", result)
    ran = Page(page.build(folder)).sections["what-ran"]
    assert "rule bit: what it set was not recorded" in ran


@pytest.mark.parametrize("kind", ["page", "command"])
def test_pages_do_without_jax(kind, tmp_path):
    """Its import takes a second, and reading a run's files needs nothing of it."""
    folder = reported.write_finetune(tmp_path / "run")
    code = {
        "page": "from pathlib import Path; from tl.report import page\n"
        "page.build(Path(sys.argv[1])); page.index(Path(sys.argv[1]))",
        "command": "runpy.run_module('experiments.report', run_name='__main__', alter_sys=True)",
    }[kind]
    said = "atexit.register(lambda: print('jax' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import atexit, runpy, sys; {said}\n{code}", folder],
        cwd=commands.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1] == "False", done.stderr
    assert (folder / page.PAGE).exists()


def test_a_study(undrawn, tmp_path):  # noqa: F811
    folder = reported.write_study(tmp_path / "study")
    page_of_run = folder / "runs" / "stage2-0" / "report.html"
    page_of_run.parent.mkdir(parents=True)
    page_of_run.touch()
    shown = Page(page.build(folder))
    assert "Endpoints with few examples 1 of 1 claims hold runs done 3 of 4" in shown.text
    assert "Warning pooled-1: out of memory" in shown.text
    assert list(shown.sections) == ["advice", "accuracy", "plots", "what-ran", "runs"]
    advice = shown.sections["advice"]
    assert "5 stage2 holds stage2 +20.0 (+10.0 to +30.0) 0.001" in advice
    assert "Why 5: small and different: an earlier endpoint stage2 is best." in advice
    assert "stage2 80.0 (75.0-85.0) pooled 60.0 (50.0-70.0), 1 failed" in shown.sections["accuracy"]
    # The axis of examples may change the data.
    assert "The same in all runs weights efficientnet_lite0 Versions" in shown.sections["what-ran"]
    assert "runs/stage2-0/report.html" in [a["href"] for a in shown.of("a")]
    assert shown.sections["runs"].count("failed") == 1


def test_a_study_without_claims(undrawn, tmp_path):  # noqa: F811
    shown = Page(
        page.build(reported.write_study(tmp_path / "study", claims=[], columns="endpoint"))
    )
    assert "Endpoints with few examples 3 of 4 runs done axes" in shown.text
    assert next(iter(shown.sections)) == "accuracy"
    # Levels are compared along the columns, and the best stands out.
    strong = [cell for cell in shown.of("td") if "strong" in cell["class"]]
    assert [cell["data-value"] for cell in strong] == ["0.8"]


@pytest.mark.parametrize(
    ("verdicts", "notes"),
    [
        (["does not hold", "holds"], "1 of 2 claims hold 1 does not hold runs"),
        (
            ["does not hold", "undecided", "does not hold"],
            "0 of 3 claims hold 2 do not hold 1 undec",
        ),
        (["within noise", "holds", "within noise"], "1 of 3 claims hold 2 within noise runs"),
    ],
)
def test_the_headline_of_a_study_counts_verdicts(undrawn, tmp_path, verdicts, notes):  # noqa: F811
    folder = reported.write_study(tmp_path / "study")
    study = json.loads((folder / "study.json").read_text())
    (claim,) = study["claims"]
    reported.write_study(folder, claims=[claim | {"verdict": verdict} for verdict in verdicts])
    assert notes in Page(page.build(folder)).text


def test_advice(undrawn, tmp_path):  # noqa: F811
    shown = Page(page.build(reported.write_advice(tmp_path / "advice")))
    assert "Advice for efficientnet_lite0 on digits earlier-layer probe" in shown.text
    assert "expected top-1 91.0 % (88.0-93.0 %) expected time 30.0 s" in shown.text
    assert list(shown.sections) == ["verdict", "measured", "what-ran"]
    assert shown.sections["verdict"].count("experiments.probe \\ --config=X") == 2
    assert "The command for fine-tune all" in shown.sections["verdict"]
    assert "stage2 40 1.25 3.5 80.0 % 0.01 70.0 % 85.0 %" in shown.sections["measured"]
    # Fewer rows than others had are not measured.
    assert "pooled 1,280 1.5 - 60.0 % 1 65.0 % -" in shown.sections["measured"]
    assert (
        "final features, top-1 65.0 % its errors over those of the final features 2.33"
        in shown.sections["measured"]
    )
    assert "images 1,000 looked at" in shown.sections["what-ran"]


@pytest.mark.parametrize("kind", ["extract", "evaluate"])
def test_runs_without_heads(undrawn, tmp_path, kind):  # noqa: F811
    result = {
        "data": reported._data(("a", "b")),
        "weights": {"name": "tiny", "sha256": "0"},
        "seconds": {"total": 3.0},
    }
    if kind == "extract":
        split = {"path": "features", "count": 30, "widths": {"pooled": 1280}}
        result["features"] = {"train": split, "test": split}
        expected = "60 images, their features stored"
    else:
        result["test"] = reported._test(("a", "b"), 0.75)
        result["published"] = {"top1": 0.76, "top5": None}
        expected = "published on ImageNet, top-1 76.0 %"
    shown = Page(page.build(reported.write_run(tmp_path / "run", kind, result)))
    assert expected in shown.text and list(shown.sections) == ["what-ran"]


def test_what_a_run_lacks_is_named(undrawn, tmp_path):  # noqa: F811
    folder = reported.write_probe(tmp_path / "run")
    for file in ("predictions.npz", "config.json", "environment.json"):
        (folder / file).unlink()
    (folder / "examples.json").write_text("[")
    result = json.loads((folder / "result.json").read_text())
    del result["kind"], result["grid"], result["warnings"]
    reported.write(folder / "result.json", {**result, "grid": []})
    shown = Page(page.build(folder))
    assert list(shown.sections) == ["what-ran", "selection-on-val", "not-shown"]
    missing = shown.sections["not-shown"]
    assert f"Confusion matrix, Classes, Reliability, Features: {folder} has no predictions.npz"
    assert "examples.json is damaged" in missing
    assert missing.count("predictions.npz:") == 1  # one line for all that need it


def test_an_older_result_lacks_fields(undrawn, tmp_path):  # noqa: F811
    folder = reported.write_finetune(tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    del result["curve"]
    reported.write(folder / "result.json", result)
    missing = Page(page.build(folder)).sections["not-shown"]
    assert missing.startswith(f"Not shown Learning curves: the files of {folder} lack 'curve'")


def test_no_run(tmp_path):
    with pytest.raises(
        UserError, match=r"no folder is called .*nowhere; give one that a run wrote"
    ):
        page.build(tmp_path / "nowhere")
    (tmp_path / "metrics.jsonl").touch()
    expected = r"expected result\.json or study\.json.*found metrics\.jsonl.*--index="
    with pytest.raises(UserError, match=expected):
        page.build(tmp_path)
    for text, message in (
        ('{"schema', r"result\.json is damaged"),
        ("[1]", r"expected names with values, got \[1\]"),
        ('{"kind": "prob"}', "of the kind 'prob'; expected one of extract, probe"),
        ("{}", "of the kind None"),
        ('{"kind": "probe"}', "lack 'weights'"),
    ):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(UserError, match=message):
            page.build(tmp_path)
    assert not (tmp_path / page.PAGE).exists()
