"""All sections in a row: what the file holds, and when."""

import json

import pytest

from experiments.benchmark import limit, suite
from tests import contests


@pytest.fixture(autouse=True)
def in_this_process():
    with contests.in_this_process():
        yield


def test_the_file_is_there_after_every_section(monkeypatch, tmp_path):
    def broken(options, limits, log):
        assert limits == {"float32": 2048.0, "bfloat16": 2048.0}  # 2 a second of 2 * 8^3
        raise RuntimeError("the second section")

    monkeypatch.setitem(suite.MEASURES, "train", broken)
    lines = []
    with pytest.raises(RuntimeError, match="the second section"):
        suite.run(contests.options(sections=("probe", "train")), tmp_path, lines.append)
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["case"] for row in written["rows"]] == ["one strength", "45 strengths"]
    assert written["schema"] == 1
    assert written["limit"] == {"float32": 2048.0, "bfloat16": 2048.0}
    environment = written["environment"]
    assert environment["processor"] and {"jax", "torch"} <= set(environment["versions"])
    assert any("45 strengths" in line for line in lines)


def test_the_file_is_there_after_every_row_of_a_section(monkeypatch, tmp_path):
    def broken(options, limits, log):
        yield {"case": "a", "unit": "s"}
        assert json.loads((tmp_path / "benchmark.json").read_text())["rows"][0]["case"] == "a"
        raise RuntimeError("the second row")

    monkeypatch.setitem(suite.MEASURES, "gpu", broken)
    with pytest.raises(RuntimeError, match="the second row"):
        suite.run(contests.options(sections=("gpu",)), tmp_path, str)


def test_no_limit_is_measured_where_none_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr(limit, "measure", None)
    result = suite.run(contests.options(sections=("probe",)), tmp_path, str)
    assert result["limit"] == {}
    assert result == json.loads((tmp_path / "benchmark.json").read_text())
