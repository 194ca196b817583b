import dataclasses
import json

from tests import pages, reported
from tl.report import figures, fonts, page, style
from tl.results import calibration
from tl.results.predictions import PREDICTIONS, Predictions


def test_class_numbers(probe_page):
    _, shown = probe_page
    # Both seeds take the first image of class 0 for class 1, one of class 1 for class 2: of 80,
    # 3 are wrong.
    confusion = shown.sections["confusion-matrix"]
    assert "77 of 80 on the diagonal" in confusion
    assert f"{pages.CLASSES[0]} taken for {pages.CLASSES[1]}, 2 times; " in confusion
    assert f"{pages.CLASSES[1]} taken for {pages.CLASSES[2]}, 1 time." in confusion
    # Precision of class 0: 18 of 18; F1: 2 * 18 / (20 + 18).
    row = f"{pages.CLASSES[0]} 10 90.0 % 100.0 % 94.7 % {pages.CLASSES[1]} (10.0 %)"
    assert row in shown.sections["classes"]
    # Precision of class 1: 19 of 21, for the two of class 0.
    assert "10 95.0 % 90.5 % 92.7 %" in shown.sections["classes"]


def test_names_that_no_font_draws_go_by_their_numbers(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "drawable", lambda text: "猫" not in text)
    monkeypatch.setattr(fonts, "_drawable", lambda character: character != "猫")
    draws = []
    monkeypatch.setattr(style, "png", lambda draw, dark, dpi: draws.append(draw) or pages.PIXEL)
    shown = pages.Page(page.build(reported.write_probe(tmp_path / "run", ("cat", "猫", "dog"))))
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


def test_of_many_classes_the_table_has_the_numbers_that_colours_stand_for(undrawn, tmp_path):
    names = tuple(f"breed {'abcdefghijklmnopqrstu'[i]}" for i in range(21))
    many = pages.Page(page.build(reported.write_probe(tmp_path / "many", names)))
    assert "breed u 20 10 100.0 %" in many.sections["classes"]
    few = pages.Page(page.build(reported.write_probe(tmp_path / "few", names[:20])))
    assert "number" not in few.sections["classes"]
    assert "No font" not in few.text


def test_galleries_enlarge_what_is_small(probe_page):
    _, shown = probe_page
    images = [image for image in shown.of("img") if "width" not in image]
    classes = ["small", "small", None, "small", "small", None]  # the last two are near duplicates
    assert [image.get("class") for image in images] == classes
    # A hundred pixels of noise are stored as JPEG, eight as they are.
    assert [image["src"][:15] for image in images] == [
        *["data:image/png;"] * 2,
        "data:image/jpeg",
        *["data:image/png;"] * 2,
        "data:image/jpeg",
    ]
    mistakes = shown.sections["most-confident-mistakes"]
    assert f"true {pages.CLASSES[0]} predicted {pages.CLASSES[1]}, 97.0 %" in mistakes
    assert mistakes.index("test-0") < mistakes.index("test-10")
    assert "of the true class" not in shown.sections["least-certain-right-answers"]


def test_near_duplicates_stand_side_by_side(probe_page):
    _, shown = probe_page
    section = shown.sections["near-duplicates"]
    assert section.startswith(
        "Near duplicates 1 of 30 test images is a near duplicate of training images; 0 of 6 val "
        "images are near duplicates of training images. A near duplicate has a cosine of at least "
        "0.90 between pooled features, and is at most 0.6 times as far away as the third nearest "
        "training image. Test top-1 is 96.2 % on all images; test top-1 on the other 29 is 90.0 % "
        "(95 % interval 75.0-95.0)."
    )
    assert section.endswith(
        "All pairs: first those of test, the most similar first. cosine 0.988 test image test-0 "
        "true cat training image train-7 true dog"
    )
    alts = [image["alt"] for image in shown.of("img")]
    assert {"test image test-0: cat", "training image train-7: dog"} <= set(alts)


def test_many_near_duplicates_and_none(undrawn, tmp_path):
    for count, text in (
        (13, "The first 12 pairs: first those"),
        (0, "0 of 30 test images are near duplicates of training images; 0 of 6 val images"),
    ):
        near = reported.near_duplicates(count)
        run = reported.write_probe(tmp_path / str(count), near_duplicates=near)
        section = pages.Page(page.build(run)).sections["near-duplicates"]
        assert text in section
        assert section.count("training image train-7") == min(count, 12)
        assert ("Test top-1" in section) == (count > 0)


def test_near_duplicates_that_were_not_looked_for(undrawn, tmp_path):
    near = {"not_looked_for": "2.0e+12 multiplications are more than 1e+12"}
    shown = pages.Page(page.build(reported.write_probe(tmp_path / "new", near_duplicates=near)))
    assert shown.sections["near-duplicates"] == (
        "Near duplicates Not looked for: 2.0e+12 multiplications are more than 1e+12."
    )
    old = reported.write_probe(tmp_path / "old")
    result = json.loads((old / "result.json").read_text())
    del result["near_duplicates"]
    reported.write(old / "result.json", result)
    shown = pages.Page(page.build(old))
    assert "near-duplicates" not in shown.sections
    assert "lack 'near_duplicates'; an older run may" in shown.text


def test_probabilities_follow_the_link(undrawn, tmp_path):
    folder = reported.write_finetune(tmp_path / "run")
    before = Predictions.load(folder)
    softmax = pages.Page(page.build(folder)).sections["reliability"]
    dataclasses.replace(before, link="sigmoid").save(folder / PREDICTIONS)
    sigmoid = pages.Page(page.build(folder)).sections["reliability"]
    probabilities = calibration.probabilities(before.test_logits, link="sigmoid")
    found = calibration.reliability(probabilities, before.test_labels)
    sentence = f"error on test: {100 * found.ece:.1f} % before"
    assert sentence in sigmoid and sentence not in softmax
