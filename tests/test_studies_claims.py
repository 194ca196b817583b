import numpy as np
import pytest

from tests import studies
from tl.results.intervals import Lead, paired_interval
from tl.studies import claims
from tl.studies.claims import judge
from tl.studies.plan import Claim

CLAIM = Claim("a is best", {"case": "x"}, "method", "a")


def study(tmp_path, right, status=None):
    """Returns rows of runs, one for each (method, seed) of `right`, with their predictions."""
    rows = []
    for (method, seed), values in right.items():
        name = f"x-{method}-{seed}"
        levels = {"case": "x", "method": method, "seed": seed}
        rows.append(
            {
                "name": name,
                "folder": f"runs/{name}",
                "levels": levels,
                "status": (status or {}).get(name, "done"),
            }
        )
        studies.predict(tmp_path / "runs" / name, np.asarray(values, int), seeds=[int(seed)])
    elsewhere = {"case": "y", "method": "b", "seed": "0"}
    return [*rows, {"name": "y", "folder": "runs/y", "levels": elsewhere, "status": "missing"}]


def first(count, of=200):
    """Returns that the first `count` of the test images are right."""
    return np.arange(of) < count


def test_the_best_holds(tmp_path):
    rows = study(tmp_path, {("a", "0"): first(160), ("b", "0"): first(120), ("c", "0"): first(10)})
    verdict = judge(CLAIM, rows, tmp_path)
    assert verdict["text"] == "a is best"
    assert (verdict["where"], verdict["advised"]) == ({"case": "x"}, {"method": "a"})
    assert (verdict["verdict"], verdict["best"]) == ("holds", "a")
    assert verdict["difference"] == pytest.approx(0.2)
    # 40 of 200 differ: sqrt(0.2 * 0.8 / 200) * 1.96 to either side.
    assert verdict["ci95"] == pytest.approx([0.2 - 0.055, 0.2 + 0.055], abs=0.006)
    assert verdict["p_value"] == pytest.approx(2 * 0.5**40)
    assert verdict["why"].startswith("a has 80.0 %, the best of the others, b, 60.0 %: +20.0 point")
    assert (verdict["over"], verdict["seeds"]) == ("images alone", 1)
    assert verdict["why"].endswith(
        "paired over 200 test images alone; 1 seed: too few to say how much is the luck of "
        "training; 5 or more are needed)."
    )


def test_another_is_clearly_better(tmp_path):
    rows = study(tmp_path, {("a", "0"): first(100), ("b", "0"): first(150)})
    verdict = judge(CLAIM, rows, tmp_path)
    assert (verdict["verdict"], verdict["best"]) == ("does not hold", "b")
    assert verdict["difference"] == pytest.approx(-0.25)
    assert verdict["ci95"][0] < -0.25 < verdict["ci95"][1] < 0
    assert verdict["why"].startswith("a has 50.0 %, the best, b, 75.0 %: -25.0 points")


@pytest.mark.parametrize(("ahead", "sign"), [("a", 1), ("b", -1)])
def test_one_is_better_within_noise(tmp_path, ahead, sign):
    less, more = first(100), first(100)
    more[:3], more[150:154] = False, True  # one more, of seven that differ
    right = {("a", "0"): more, ("b", "0"): less}
    if ahead == "b":
        right = {("a", "0"): less, ("b", "0"): more}
    verdict = judge(CLAIM, study(tmp_path, right), tmp_path)
    assert (verdict["verdict"], verdict["best"]) == ("within noise", ahead)
    assert verdict["difference"] == pytest.approx(sign * 0.005)
    assert verdict["ci95"][0] < 0 < verdict["ci95"][1]
    assert verdict["p_value"] == 1.0
    assert verdict["why"].endswith("; within noise.")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.001, 0.2), "holds"),
        ((0.0, 0.2), "within noise"),
        ((-0.2, 0.0), "within noise"),
        ((-0.2, -0.001), "does not hold"),
    ],
)
def test_an_interval_that_ends_at_0_includes_it(monkeypatch, tmp_path, ends, expected):
    monkeypatch.setattr(claims, "lead", lambda *arguments: Lead(0.0, ends, 5))
    rows = study(tmp_path, {("a", "0"): first(50), ("b", "0"): first(50)})
    assert judge(CLAIM, rows, tmp_path)["verdict"] == expected


def test_seeds_are_averaged_first(tmp_path):
    right = {
        ("a", "0"): first(200),
        ("a", "1"): first(0),
        ("b", "0"): first(90),
        ("b", "1"): first(90),
    }
    verdict = judge(CLAIM, study(tmp_path, right), tmp_path)
    assert verdict["difference"] == pytest.approx(0.5 - 0.45)
    # Of a, half of the seeds have each image; of b, all have the first 90.
    assert verdict["p_value"] == pytest.approx(0.179, abs=0.002)
    assert verdict["ci95"] == list(paired_interval(np.full(200, 0.5), first(90))[1:])
    assert "200 test images alone; 2 seeds: too few to say" in verdict["why"]


def seeds(tmp_path, a, b, where="seed"):
    """Returns the verdict where each seed of the two levels has that many of 200 images right."""
    of_levels = {"a": a, "b": b}
    right = {(m, str(s)): first(n) for m, of in of_levels.items() for s, n in enumerate(of)}
    return judge(CLAIM, study(tmp_path, right), tmp_path)


def test_five_seeds_that_agree_say_what_one_says(tmp_path):
    one, five = seeds(tmp_path, [120], [100]), seeds(tmp_path, [120] * 5, [100] * 5)
    assert five["ci95"] == pytest.approx(one["ci95"], abs=0.006)
    assert (five["over"], five["seeds"], five["verdict"]) == ("seeds and images", 5, "holds")
    assert five["why"].endswith("paired over 5 seeds and 200 test images).")


def test_the_luck_of_training_can_undo_a_claim(tmp_path):
    # Two seeds of five are behind; their leads have a mean of 0.08 and a deviation of 0.14.
    luck = seeds(tmp_path, [150, 140, 80, 140, 70], [100] * 5)
    assert luck["difference"] == pytest.approx(0.08)
    assert luck["verdict"] == "within noise"
    # Student's interval over the seeds alone ends at 0.08 - 2.776 * 0.192 / sqrt(5).
    assert luck["ci95"][0] < -0.1
    few = seeds(tmp_path, [150, 140, 80, 110], [100] * 4)
    assert (few["verdict"], few["over"], few["seeds"]) == ("holds", "images alone", 4)


def test_seeds_within_a_run_count_too(tmp_path):
    right = np.stack([first(n) for n in (150, 140, 80, 140, 70)])
    rows = study(tmp_path, {("a", "0"): right[0], ("b", "0"): first(100)})
    studies.predict(tmp_path / "runs/x-a-0", right)
    studies.predict(tmp_path / "runs/x-b-0", np.tile(first(100), (5, 1)))
    within = judge(CLAIM, rows, tmp_path)
    assert within == seeds(tmp_path / "other", [150, 140, 80, 140, 70], [100] * 5)


def test_runs_of_one_seed_are_averaged(tmp_path):
    # Two sizes, which the claim leaves open: five seeds each, no ten seeds.
    rows = []
    for size, more in (("s", 0), ("l", 20)):
        of_size = {("a", str(s)): first(120 + more) for s in range(5)}
        of_size |= {("b", str(s)): first(100 + more) for s in range(5)}
        found = study(tmp_path / size, of_size)[:-1]
        rows += [{**row, "folder": f"{size}/{row['folder']}"} for row in found]
    verdict = judge(CLAIM, rows, tmp_path)
    assert (verdict["seeds"], verdict["difference"]) == (5, pytest.approx(0.1))


def test_all_the_same(tmp_path):
    rows = study(tmp_path, {("a", "0"): first(50), ("b", "0"): first(50)})
    verdict = judge(CLAIM, rows, tmp_path)
    assert (verdict["verdict"], verdict["best"]) == ("within noise", "a")
    assert (verdict["p_value"], verdict["ci95"]) == (1.0, [0.0, 0.0])


@pytest.mark.parametrize("status", ["failed", "missing"])
def test_undecided_while_a_run_lacks(tmp_path, status):
    right = {("a", "0"): first(50), ("b", "0"): first(50)}
    verdict = judge(CLAIM, study(tmp_path, right, {"x-b-0": status}), tmp_path)
    assert (verdict["verdict"], verdict["best"], verdict["ci95"]) == ("undecided", None, None)
    assert verdict["why"] == "1 of 2 runs are not finished, such as x-b-0"


def test_undecided_without_another_level_or_predictions_or_on_other_images(tmp_path):
    rows = study(tmp_path, {("a", "0"): first(50)})
    assert judge(CLAIM, rows, tmp_path)["why"] == "there is no other method to compare with"
    rows = study(tmp_path, {("a", "0"): first(50), ("b", "0"): first(50)})
    studies.predict(tmp_path / "runs" / "x-b-0", first(50), [f"other {i}" for i in range(200)])
    verdict = judge(CLAIM, rows, tmp_path)
    assert verdict["verdict"] == "undecided"
    assert verdict["why"] == "x-a-0 and x-b-0 were tested on different images"
    studies.predict(tmp_path / "runs" / "x-b-0", first(50), labels=np.arange(200) % 2)
    verdict = judge(CLAIM, rows, tmp_path)
    assert verdict["why"] == "x-a-0 and x-b-0 were tested on different labels"
    (tmp_path / "runs" / "x-b-0" / "predictions.npz").unlink()
    assert "x-b-0 has no predictions.npz" in judge(CLAIM, rows, tmp_path)["why"]


def test_the_interval_is_over_groups(tmp_path):
    rows = study(tmp_path, {("a", "0"): first(160), ("b", "0"): first(120)})
    for row in rows[:2]:
        values = first(160 if row["levels"]["method"] == "a" else 120).astype(int)
        studies.predict(tmp_path / row["folder"], values, groups=np.arange(200) // 40)
    verdict = judge(CLAIM, rows, tmp_path)
    assert verdict["difference"] == pytest.approx(0.2)
    assert verdict["ci95"] == pytest.approx([0.0, 0.6])  # one of five groups differs
    assert verdict["verdict"] == "within noise"
    assert "paired over 200 test images of 5 groups alone; 1 seed: too few" in verdict["why"]
