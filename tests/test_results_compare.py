"""Comparisons of runs whose predictions are few enough to count by hand."""

import json

import numpy as np
import pytest

from tests.predictions import contender, folder, right
from tl.errors import UserError
from tl.results import compare
from tl.results.compare import Comparison
from tl.results.intervals import Lead, McNemar, crossed_interval
from tl.results.predictions import PREDICTIONS


def test_counts_and_differences_by_hand():
    # The run has 90 right, the baseline 60 of them and two more.
    run = contender("run", right(90))
    baseline = contender("base", right(60) | (np.arange(100) >= 98))
    (found,) = compare.compare([baseline, run])
    assert found.difference == pytest.approx(0.28)
    low, high = found.ci95
    assert 0.15 < low < 0.28 < high < 0.40
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (30, 2)
    # Two-sided: twice the chance of at most 2 of 32 tosses.
    assert found.mcnemar.p_value == pytest.approx(2 * (1 + 32 + 496) / 2**32)
    assert found.verdict == "better"
    assert found.sentence().startswith("run is 28.0 points better than base (")
    (other,) = compare.compare([run, baseline])
    assert other.verdict == "worse"
    assert other.difference == -found.difference
    points = f"({100 * -other.ci95[1]:.1f} to {100 * -other.ci95[0]:.1f})"
    assert other.sentence() == f"base is 28.0 points worse than run {points}."


def test_the_same_predictions_are_within_noise():
    (found,) = compare.compare([contender("base", right(60)), contender("run", right(60))])
    assert (found.difference, found.ci95) == (0, (0, 0))
    assert found.mcnemar == McNemar(0, 0, 1.0)
    assert found.verdict == "within noise"
    assert found.sentence() == (
        "run and base are within noise of each other: a difference of +0.0 points (+0.0 to +0.0)."
    )


def test_an_interval_of_few_that_differ_does_not_decide_alone():
    # Five images: the interval, without 0, takes no notice that 0 of 5 comes once in 16.
    (found,) = compare.compare([contender("base", right(60)), contender("run", right(65))])
    assert found.ci95[0] > 0
    assert found.mcnemar.p_value == pytest.approx(2 / 32)
    assert found.verdict == "within noise"
    (found,) = compare.compare([contender("base", right(60)), contender("run", right(66))])
    assert found.mcnemar.p_value == pytest.approx(2 / 64)
    assert found.verdict == "better"


def test_seeds_are_averaged_and_the_exact_test_is_of_the_first():
    run = contender("run", [right(80), right(60)])
    baseline = contender("base", [right(60), right(50), right(40)])
    (found,) = compare.compare([baseline, run])
    assert found.difference == pytest.approx(0.7 - 0.5)
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (20, 0)
    assert not found.one_seed
    # The first seeds alone would say nothing here.
    same_first = contender("same first", [right(60), right(90)])
    (found,) = compare.compare([baseline, same_first])
    assert found.mcnemar.p_value == 1
    assert found.verdict == "better"
    printed = compare.text([found])
    assert "McNemar's test is of the first seed" in printed
    assert "2 seeds: too few to say how much is the luck of training; 5 or more are" in printed
    assert found.as_dict()["difference_over"] == "images alone"


def test_five_seeds_each_have_an_interval_over_seeds_and_images():
    counts = [80, 90, 60, 85, 70]
    many = np.stack([right(n) for n in counts])
    run, baseline = contender("run", many), contender("base", [right(70)] * 5)
    (found,) = compare.compare([baseline, run])
    expected = crossed_interval(many, np.stack([right(70)] * 5), paired=True)
    assert (found.difference, *found.ci95) == expected
    assert found.verdict == "within noise"  # one seed of five is behind, one level
    assert found.as_dict()["difference_over"] == "seeds and images"
    printed = compare.text([found])
    assert "The difference of run has an interval over seeds and images" in printed
    assert "too few" not in printed


def test_rows_are_matched_by_id():
    correct = np.random.default_rng(0).random((2, 40)) < [[0.5], [0.8]]
    ids = np.array([f"photo {n}" for n in range(40)])
    order = np.random.default_rng(1).permutation(40)
    labels = np.arange(40) % 2
    baseline = contender("base", correct[0], ids)
    straight = contender("run", correct[1], ids)
    turned = contender("run", correct[1][order], ids[order], labels[order])
    (found,) = compare.compare([baseline, turned])
    (expected,) = compare.compare([baseline, straight])
    assert (found.difference, found.ci95, found.mcnemar) == (
        expected.difference,
        expected.ci95,
        expected.mcnemar,
    )
    assert expected.mcnemar.only_a > 0


def test_classes_in_another_order_are_the_same_labels():
    baseline = contender("base", right(4, of=6))
    labels = 1 - np.arange(6) % 2
    other = contender("run", right(5, of=6), labels=labels, classes=("dog", "cat"))
    (found,) = compare.compare([baseline, other])
    assert found.difference == pytest.approx(1 / 6)


def test_other_images_are_refused():
    baseline = contender("base", right(3, of=5))
    other = contender("run", right(3, of=4), ids=["i0", "i1", "i3", "x"])
    with pytest.raises(UserError) as refusal:
        compare.compare([baseline, other])
    text = str(refusal.value)
    assert "not tested on the same images" in text
    assert "2 of the 5 of base are not among the 4 of run, and 1 the other way round" in text
    assert "the first is 'i2' of base" in text
    more = contender("run", right(3, of=6))
    with pytest.raises(UserError, match=r"0 of the 5 of base are not .* the first is 'i5' of run"):
        compare.compare([baseline, more])


def test_an_id_that_comes_twice_must_do_so_in_both():
    twice = contender("base", right(2, of=4), ids=["a", "b", "a", "c"])
    compare.compare([twice, contender("run", right(3, of=4), ids=["a", "b", "a", "c"])])
    with pytest.raises(UserError, match=r"1 of the 4 of base .* the first is 'a' of base"):
        compare.compare([twice, contender("run", right(3, of=4), ids=["a", "b", "c", "d"])])


def test_other_labels_are_refused():
    baseline = contender("base", right(3, of=5))
    other = contender("run", right(3, of=5), labels=[0, 1, 0, 0, 1])
    text = "the labels of 2 of 5 .* the first is 'i3', 'dog' in base and 'cat' in run. Run both"
    with pytest.raises(UserError, match=text):
        compare.compare([baseline, other])


def test_one_run_is_none_to_compare():
    with pytest.raises(UserError, match="expected two runs or more to compare, got 1"):
        compare.compare([contender("base", right(3))])


def test_text_and_json():
    runs = [
        contender("base", right(60)),
        contender("good", right(80)),
        contender("same", right(60)),
    ]
    comparisons = compare.compare(runs)
    lines = compare.text(comparisons).splitlines()
    assert lines[2].split()[:5] == ["base", "net:", "pooled", "1", "60.0"]
    assert lines[2].endswith("baseline")
    words = lines[3].split()
    assert words[:5] == ["good", "net:", "pooled", "1", "80.0"]
    assert words[-8::4] == ["+20.0", "20"]
    assert words[-4:] == ["20", ":", "0", "1.9e-06"]
    assert lines[6].startswith("good is 20.0 points better than base (")
    assert lines[7].startswith("same and base are within noise of each other")
    assert any(
        "same 100 test images. 95 % intervals over these images: Wilson" in line for line in lines
    )
    written = json.loads(json.dumps(compare.as_dict(comparisons)))
    assert written["baseline"]["test_top1"] == 0.6
    good, same = written["runs"]
    assert good["difference"] == pytest.approx(0.2)
    assert good["verdict"] == "better" and same["verdict"] == "within noise"
    assert good["mcnemar"] == {
        "seeds": [0, 0],
        "only_run": 20,
        "only_baseline": 0,
        "p_value": 2 / 2**20,
    }


def test_a_run_is_read_from_its_folder(tmp_path):
    path = folder(tmp_path / "run")
    contender("", right(3)).predictions.save(path / PREDICTIONS)
    run = compare.read(str(path))
    assert (run.name, run.what) == (str(path), "net: stage4, ridge, l2 0.1")
    assert run.predictions.correct.sum() == 3


def test_folders_that_hold_nothing_to_compare(tmp_path):
    with pytest.raises(UserError, match="no folder is called"):
        compare.read(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="is no finished run"):
        compare.read(str(tmp_path))
    with pytest.raises(UserError, match=r"has no predictions\.npz"):
        compare.read(str(folder(tmp_path / "before")))
    other = folder(tmp_path / "other")
    (other / "result.json").write_text('{"kind": "probe", "weights": {"name": "net"}}')
    with pytest.raises(UserError, match=r"other/result\.json lacks 'selected', so another ver"):
        compare.read(str(other))
    with pytest.raises(UserError, match="kind 'extract', which saves no predictions; expected ru"):
        compare.read(str(folder(tmp_path / "extracted", "extract")))
    study = {"kind": "study", "runs": [{"folder": "runs/a"}, {"folder": "runs/b"}]}
    (tmp_path / "study.json").write_text(json.dumps(study))
    text = f"a study of 2 runs; .* such as {tmp_path}/runs/a and {tmp_path}/runs/b"
    with pytest.raises(UserError, match=text):
        compare.read(str(tmp_path))


def test_the_verdict_without_an_exact_test_of_all_is_the_intervals():
    one, three = contender("one", right(3)), contender("three", np.tile(right(3), (3, 1)))
    doubtful = McNemar(1, 0, 1.0)
    ahead, level = Lead(0.1, (0.05, 0.15), 1), Lead(0.1, (0.0, 0.15), 1)
    assert Comparison(one, one, ahead, doubtful).verdict == "within noise"
    assert Comparison(three, one, ahead, doubtful).verdict == "better"
    assert Comparison(three, one, level, doubtful).verdict == "within noise"


def test_intervals_are_over_groups():
    ids, groups = [f"i{n}" for n in range(100)], np.arange(100) // 10
    run = contender("run", right(90), groups=groups)
    for baseline in (
        contender("base", right(60)),
        contender("base", right(60), groups=groups),
        contender("base", right(60)[::-1], ids=ids[::-1], labels=1 - np.arange(100) % 2),
    ):
        (found,) = compare.compare([baseline, run])
        assert found.difference == pytest.approx(0.3)
        # Three of ten groups differ, wholly: as of ten images.
        assert found.ci95 == pytest.approx((0.0, 0.6))
    assert "100 test images. 95 % intervals over their 10 groups" in compare.text(
        compare.compare([run, run])
    )
    low, high = compare.as_dict([Comparison(run, run, Lead(0, (0, 0), 1), McNemar(0, 0, 1))])[
        "baseline"
    ]["test_top1_ci95"]
    assert high - low > 0.3
