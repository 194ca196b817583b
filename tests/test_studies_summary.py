import csv
import json

import pytest

from tests import studies
from tl import files
from tl.results.formats import NONE
from tl.studies import folder as study_folder
from tl.studies import summary


@pytest.fixture
def study(tmp_path):
    """Two seeds of one method, one seed and a failure of another, nothing of the third."""
    methods = {"a": {"run": "probe"}, "b": {}, "c": {}}
    plan = studies.plan(
        {"method": methods, "examples": (5,), "seed": (0, 1)},
        claims=[{"text": "a", "where": {}, "advised": {"method": "a"}}],
    )
    results = {("a", "0"): 0.90, ("a", "1"): 0.92, ("b", "0"): 0.5}
    for run in plan.runs:
        key = run.levels["method"], run.levels["seed"]
        if key in results:
            studies.finished(tmp_path, run, top1=results[key])
        elif key == ("b", "1"):
            path = study_folder.place(tmp_path, run)
            path.mkdir(parents=True)
            files.write_json(path / study_folder.ERROR, {"error": "no luck", "type": "E"})
    return tmp_path, summary.write(plan, tmp_path)


def test_the_runs(study):
    folder, found = study
    assert found == json.loads((folder / "study.json").read_text())
    assert (found["schema"], found["kind"], found["metric"]) == (1, "study", "test_top1")
    assert (found["title"], found["columns"], found["seconds"]) == ("A study", "method", 6.0)
    assert found["axes"] == {"method": ["a", "b", "c"], "examples": ["5"], "seed": ["0", "1"]}
    rows = {row["name"]: row for row in found["runs"]}
    assert rows["a-examples5-seed1"] == {
        "name": "a-examples5-seed1",
        "folder": "runs/a-examples5-seed1",
        "kind": "probe",
        "levels": {"method": "a", "examples": "5", "seed": "1"},
        "status": "done",
        "error": None,
        "val_top1": 0.75,
        "test_top1": 0.92,
        "test_top1_ci95": [0.92 - 0.1, 0.92 + 0.1],
        "count": 100,
        "trained": None,
        "seconds": 2.0,
        "selected": {"endpoint": "stem"},
    }
    failed, missing = rows["b-examples5-seed1"], rows["c-examples5-seed0"]
    assert (failed["status"], failed["error"]) == ("failed", "no luck")
    assert (missing["status"], missing["error"]) == ("missing", None)
    assert failed["test_top1"] is missing["test_top1"] is None
    assert found["warnings"] == [
        f"{name}: odd" for name in ("a-examples5-seed0", "b-examples5-seed0", "a-examples5-seed1")
    ]
    assert [claim["verdict"] for claim in found["claims"]] == ["undecided"]


def test_the_cells(study):
    two, one, none = study[1]["cells"]
    assert two["levels"] == {"method": "a", "examples": "5"}
    assert (two["seeds"], two["failed"], two["interval"]) == (2, 0, "t over 2 seeds")
    assert (two["mean"], two["val_mean"]) == pytest.approx((0.91, 0.75))
    # 12.706 standard errors of 0.01; no accuracy is above 1.
    assert two["ci95"] == pytest.approx([0.91 - 0.12706, 1.0], abs=1e-4)
    assert (one["seeds"], one["failed"], one["mean"]) == (1, 1, 0.5)
    assert (one["interval"], one["ci95"]) == ("over test images", [0.4, 0.6])
    assert (none["seeds"], none["failed"], none["mean"], none["ci95"]) == (0, 0, None, None)


def test_the_costs_are_means_over_finished_runs(study):
    folder, found = study
    assert found["costs"] == [
        {"level": "a", "trained": None, "seconds": 2.0},
        {"level": "b", "trained": None, "seconds": 2.0},
    ]
    result = folder / "runs" / "b-examples5-seed0" / "result.json"
    files.write_json(result, {**json.loads(result.read_text()), "parameters": {"trained": 1234}})
    methods = {"a": {"run": "probe"}, "b": {}, "c": {}}
    plan = studies.plan({"method": methods, "examples": (5,), "seed": (0, 1)})
    again = summary.summarise(plan, folder)
    assert again["costs"][1]["trained"] == 1234
    costs = summary.tables(again).split("\n\n")[2].splitlines()
    assert costs[0].split() == ["method", "trained", "parameters", "seconds", "a", "run"]
    assert [line.split() for line in costs[2:]] == [["a", NONE, "2.0"], ["b", "1,234", "2.0"]]


def test_seeds_that_do_not_differ_tell_nothing(tmp_path):
    plan = studies.plan({"norm": ("train",), "seed": (0, 1)})
    for run in plan.runs:
        studies.finished(tmp_path, run)
    (cell,) = summary.summarise(plan, tmp_path)["cells"]
    assert (cell["seeds"], cell["interval"]) == (2, "over test images")
    assert cell["ci95"] == [0.4, 0.6]


def test_the_csv(study):
    with (study[0] / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert list(rows[0])[:5] == ["method", "examples", "seed", "name", "kind"]
    assert (rows[0]["test_top1"], rows[0]["test_top1_low"]) == ("0.9", "0.8")
    assert json.loads(rows[0]["selected"]) == {"endpoint": "stem"}
    (failed,) = (row for row in rows if row["status"] == "failed")
    assert (failed["error"], failed["test_top1"]) == ("no luck", "")


def test_results_of_another_config_do_not_count(study):
    folder, _ = study
    methods = {"a": {"run": "probe"}, "b": {"train.steps": 9}, "c": {}}
    plan = studies.plan({"method": methods, "examples": (5,), "seed": (0, 1)})
    found = summary.summarise(plan, folder)
    status = {row["name"]: (row["status"], row["test_top1"]) for row in found["runs"]}
    assert status["a-examples5-seed0"] == ("done", 0.90)
    assert status["b-examples5-seed0"] == ("missing", None)
    assert [cell["seeds"] for cell in found["cells"]] == [2, 0, 0]


def test_an_axis_may_have_the_name_of_a_column_and_a_level_commas(tmp_path):
    axes = {"kind": {'one, or "two"': {}}, "status": {"x": {}}}
    plan = studies.plan(axes)
    (run,) = plan.runs
    studies.finished(tmp_path, run)
    summary.write(plan, tmp_path)
    with (tmp_path / "study.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["axis kind"], row["axis status"]) == ('one, or "two"', "x")
    assert (row["kind"], row["status"]) == ("finetune", "done")


def test_the_table(study):
    text = summary.tables(study[1])
    assert "t over 2 seeds; over test images" in text
    head, _, row = text.split("\n\n")[1].splitlines()
    assert head.split() == ["examples", "a", "b", "c"]
    assert row.split() == ["5", "91.0", "(78.3-100.0)", "50.0", "(40.0-60.0),", "1", "failed"]
    assert text.endswith("a: undecided. 3 of 6 runs are not finished, such as c-examples5-seed0")


def test_the_table_says_where_all_failed(study):
    found = study[1]
    for cell in found["cells"]:
        cell.update(mean=None, ci95=None, interval=None, failed=1)
    assert summary.tables(found).startswith("test top-1 %\n\n")
    assert summary.tables(found).split("\n\n")[1].splitlines()[2].split() == [
        "5",
        *["failed"] * 3,
    ]
