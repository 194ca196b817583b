import pytest

from tests import reported
from tests.lite0 import config, run
from tl.data.digits import Digits
from tl.report import page
from tl.runs import extract, outcome, probe


@pytest.mark.parametrize("job", [extract.run, probe.run])
def test_a_report_that_fails_is_a_warning(job, lite0_features, tmp_path, monkeypatch):
    def build(path):
        raise ValueError(len((path / "result.json").read_text()) > 0)

    monkeypatch.setattr(page, "build", build)
    values = config(lite0_features, report=True, endpoints=("pixels",))
    _, log = run(job, values, tmp_path)
    assert "warning: no report was made (ValueError: True); " in log
    assert log.endswith(f"try again with python -m experiments.report {tmp_path}")
    assert (tmp_path / "result.json").exists()


def test_a_page_is_made_where_it_is_wanted(undrawn, tmp_path):
    folder, lines = reported.write_finetune(tmp_path / "run"), []
    outcome.write_report(False, folder, lines.append)
    assert not lines and not (folder / page.PAGE).exists()
    outcome.write_report(True, folder, lines.append)
    assert lines == [f"report: {folder / page.PAGE}"] and (folder / page.PAGE).exists()


def test_data_are_described_by_their_splits_and_counts():
    opened = {"train": Digits("train"), "test": Digits("test")}
    assert outcome.describe_data(opened, {"train": 7, "test": 3}) == {
        "name": "digits",
        "version": "1.0.0",
        "splits": {"train": "train", "test": "test"},
        "classes": 10,
        "train": 7,
        "test": 3,
    }
