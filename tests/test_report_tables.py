import pytest

from tests.reported import study
from tl.report import tables


def test_study_table():
    lines = tables.study_table(study()).splitlines()
    assert lines[0].split() == ["test", "top-1", "%", "5", "a", "class", "100", "a", "class"]
    assert lines[2].split() == ["pixels", "50.0", "(45.0-55.0)", "50.0", "(45.0-55.0)"]
    assert len(lines) == 2 + 4


@pytest.mark.parametrize(("k", "start"), [(5, "5 a class"), (0, "all examples")])
def test_cell_line(k, start):
    cell = {
        "examples_per_class": k,
        "seed": 2,
        "selected": {"endpoint": "stage2", "solver": "ridge", "l2": 0.1},
        "test": {"top1": 0.4567},
    }
    assert tables.cell_line(cell) == f"{start}, seed 2: stage2, ridge: test top-1 45.7 %"


def test_missing_cells_are_empty():
    rows = [r for r in study() if (r["endpoint"], r["examples_per_class"]) != ("stem", 100)]
    assert tables.study_table(rows).splitlines()[3].split() == ["stem", "60.0", "(55.0-65.0)"]


def test_finetune_table():
    result = {
        "data": {"name": "digits", "classes": 10, "train": 80, "val": 20, "test": 797},
        "weights": {"name": "tiny"},
        "parameters": {"trained": 1234, "all": 5678},
        "steps": {"done": 1500, "planned": 2000},
        "selected": {"step": 1000, "epoch": 12.5},
        "val": {"top1": 0.65, "count": 20},
        "test": {
            "top1": 0.7,
            "top1_ci95": [0.65, 0.75],
            "count": 797,
            "top5": 0.9,
            "mean_per_class": 0.69,
        },
        "seconds": {"train": 12.34, "waiting_for_data": 1.26, "total": 20.0},
    }
    facts = {
        name: rest.strip()
        for name, _, rest in (
            line.partition("  ") for line in tables.finetune_table(result).splitlines()
        )
    }
    assert facts["data"] == "digits, 10 classes: 80 train, 20 val, 797 test"
    assert facts["trained"] == "1,234 of 5,678 parameters, 1,500 of 2,000 steps"
    assert facts["selected on val"] == "step 1000, epoch 12.5"
    assert facts["val top-1"] == "65.0 % of 20"
    assert facts["test top-1"] == "70.0 % of 797 (95 % interval 65.0-75.0)"
    assert facts["test top-5"] == "90.0 %"
    result["test"]["top5"] = None  # five classes or fewer
    assert "top-5" not in tables.finetune_table(result)
    assert facts["seconds"] == "12.3 train, 1.3 of it waiting for images; 20.0 total"


def test_a_cross_validated_probe_has_no_val_of_its_own():
    result = {
        "data": {"name": "digits", "classes": 10, "train": 100, "val": 0, "test": 797},
        "weights": {"name": "tiny"},
        "selected": {"endpoint": "stem", "solver": "ridge", "l2": 0.1},
        "val": {"top1": 0.65, "count": 100, "folds": 5},
        "test": {
            "top1": 0.7,
            "top1_ci95": [0.65, 0.75],
            "count": 797,
            "top5": 0.9,
            "mean_per_class": 0.69,
        },
        "seconds": {"extract": 1.0, "fit": 2.0, "total": 3.0},
    }
    text = tables.result_table(result)
    assert "digits, 10 classes: 100 train, 797 test" in text
    assert "65.0 % of 100, held out in 5 folds" in text
    result["data"] |= {"train": 80, "val": 20}
    result["val"] = {"top1": 0.65, "count": 20}
    text = tables.result_table(result)
    assert "80 train, 20 val, 797 test" in text and text.count("fold") == 0


def test_the_interval_is_over_groups():
    result = {
        "data": {"name": "birds", "classes": 2},
        "weights": {"name": "tiny"},
        "test": {
            "top1": 0.7,
            "top1_ci95": [0.6, 0.8],
            "count": 90,
            "groups": 12,
            "top5": 1.0,
            "mean_per_class": 0.7,
        },
        "published": {"top1": None, "top5": None},
    }
    assert "70.0 % of 90 (95 % interval over 12 groups 60.0-80.0)" in (
        tables.evaluation_table(result)
    )
