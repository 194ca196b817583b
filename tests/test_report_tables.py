from tests.test_report_plots import study
from tl.report import tables


def test_percent():
    assert tables.percent(0.97649) == "97.6"


def test_study_table():
    lines = tables.study_table(study()).splitlines()
    assert lines[0].split() == ["test", "top-1", "%", "5", "a", "class", "100", "a", "class"]
    assert lines[2].split() == ["pixels", "50.0", "(45.0-55.0)", "50.0", "(45.0-55.0)"]
    assert len(lines) == 2 + 4


def test_missing_cells_are_empty():
    rows = [r for r in study() if (r["endpoint"], r["examples_per_class"]) != ("stem", 100)]
    assert tables.study_table(rows).splitlines()[3].split() == ["stem", "60.0", "(55.0-65.0)"]
