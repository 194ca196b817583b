import csv
import io
import json

import numpy as np
import pytest
from pyarrow import parquet

from tl.errors import UserError
from tl.features.store import open_features
from tl.inference.rows import check_suffix, join_parts, predicted_row, write_lines, write_part

ROWS = [
    predicted_row("a, b.jpg", ["cat", "dog"], [0.75, 0.25], "", 2),
    predicted_row("c.jpg", [], [], "truncated", 2),
    predicted_row("d.jpg", ["dog", "cat"], [0.9999999, 1e-7], "", 2),
]


def joined(rows, path):
    """Returns the path of rows that were written in two parts and joined."""
    parts = [path.with_name(f"{place}{path.suffix}") for place in range(2)]
    for part, some in zip(parts, (rows[:2], rows[2:])):
        write_part(some, part)
    join_parts(parts, path, {"weights": "sha"})
    return path


def test_csv(tmp_path):
    with joined(ROWS, tmp_path / "p.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["path"] for row in read] == ["a, b.jpg", "c.jpg", "d.jpg"]
    assert read[0]["class_1"] == "cat" and read[0]["probability_1"] == "0.75"
    assert read[1] == {
        "path": "c.jpg", "class_1": "", "probability_1": "", "class_2": "", "probability_2": "",
        "error": "truncated",
    }  # fmt: skip


def test_json_lines_leave_out_what_is_missing(tmp_path):
    read = [
        json.loads(line) for line in joined(ROWS, tmp_path / "p.jsonl").read_text().splitlines()
    ]
    assert read[1] == {"path": "c.jpg", "error": "truncated"}
    assert read[2]["probability_1"] == 1.0


def test_parquet(tmp_path):
    read = parquet.read_table(joined(ROWS, tmp_path / "p.parquet")).to_pylist()
    assert [row["class_1"] for row in read] == ["cat", None, "dog"]
    assert read[1]["probability_1"] is None


FEATURES = [
    {"path": f"{'x' * place}.jpg", "pooled": np.float32([place, 2]), "error": ""}
    for place in range(3)
]


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".npy"])
def test_features(tmp_path, suffix):
    path = joined(FEATURES, tmp_path / f"f{suffix}")
    expected = [[0, 2], [1, 2], [2, 2]]
    names = [".jpg", "x.jpg", "xx.jpg"]
    if suffix == ".npz":
        found = np.load(path)
        assert found["path"].tolist() == names
        assert found["pooled"].tolist() == expected and found["pooled"].dtype == np.float32
    elif suffix == ".npy":
        assert np.load(path).tolist() == expected
        assert (tmp_path / "f.paths.txt").read_text().split() == names
    else:
        assert parquet.read_table(path)["pooled"].to_pylist() == expected
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "tmp"))) == []


def test_a_store_of_features(tmp_path):
    damaged = {"path": "\udcff.jpg", "pooled": np.float32([np.nan, np.nan]), "error": "no image"}
    path = joined([*FEATURES, damaged], tmp_path / "features")
    store = open_features(path)
    assert (store.num_rows, store.complete) == (4, True)
    assert store.ids() == [".jpg", "x.jpg", "xx.jpg", "\\xff.jpg"]
    np.testing.assert_array_equal(store.read("pooled"), [[0, 2], [1, 2], [2, 2], [np.nan, np.nan]])
    assert store.labels().tolist() == [-1, -1, -1, -1]
    assert store.errors() == {3: "no image"}
    assert json.loads((path / "meta.json").read_text())["fingerprint"]["weights"] == "sha"
    joined(FEATURES, path)  # which replaces it
    store = open_features(path)
    assert store.ids() == [".jpg", "x.jpg", "xx.jpg"] and store.errors() == {}


def test_lines_may_come_in_several_calls():
    file = io.StringIO()
    write_lines(ROWS[:1], file, ".csv")
    write_lines(ROWS[1:], file, ".csv", header=False)
    assert file.getvalue().splitlines()[0].startswith("path,class_1,probability_1")
    assert len(file.getvalue().splitlines()) == 4


def test_suffixes(tmp_path):
    with pytest.raises(
        UserError, match=r"expected a file that ends in \.csv or \.jsonl, got .*p\.x"
    ):
        check_suffix(tmp_path / "p.x", (".csv", ".jsonl"))


def test_paths_with_line_breaks_keep_their_rows(tmp_path):
    names = ["a\nb.jpg", "c\rd.jpg", "e.jpg"]
    predicted = [predicted_row(name, ["cat"], [1.0], "", 1) for name in names]
    with joined(predicted, tmp_path / "p.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == names
    features = [{**row, "path": name} for row, name in zip(FEATURES, names)]
    joined(features, tmp_path / "f.npy")
    text = (tmp_path / "f.paths.txt").read_text()
    assert text.splitlines() == [r"a\nb.jpg", r"c\rd.jpg", "e.jpg"]
    assert len(np.load(tmp_path / "f.npy")) == 3
