import pyarrow
import pytest
from pyarrow import parquet

from tl.data import tables
from tl.data.tables import Row
from tl.errors import UserError


def test_all_kinds_give_the_same_rows(tmp_path):
    values = [{"path": "a, b.jpg", "label": "cat"}, {"path": "c.jpg", "label": "dog"}]
    (tmp_path / "t.csv").write_text('\ufeffpath,label\n"a, b.jpg",cat\n\nc.jpg,dog\n')
    (tmp_path / "t.TSV").write_text("path\tlabel\na, b.jpg\tcat\nc.jpg\tdog\n")
    (tmp_path / "t.jsonl").write_text(
        '{"path": "a, b.jpg", "label": "cat"}\n\n{"path": "c.jpg", "label": "dog"}\n'
    )
    parquet.write_table(pyarrow.Table.from_pylist(values), tmp_path / "t.parquet")
    places = {
        "t.csv": ["line 2", "line 4"],
        "t.TSV": ["line 2", "line 3"],
        "t.jsonl": ["line 1", "line 3"],
        "t.parquet": ["row 1", "row 2"],
    }
    for name, expected in places.items():
        assert tables.is_table(name)
        assert list(tables.rows(tmp_path / name)) == list(map(Row, expected, values))
    assert not tables.is_table("a.npz") and not tables.is_table("csv")


def test_columns_by_their_usual_names(tmp_path):
    file = tmp_path / "t.csv"
    assert tables.column(file, ["id", "Class", " Image "], "", tables.PATHS) == " Image "
    assert tables.column(file, ["image", "file"], "", tables.PATHS) == "file"  # the earlier one
    assert tables.column(file, ["y", "Class"], "", tables.LABELS) == "Class"
    assert tables.column(file, ["y", "Class"], "y", tables.LABELS) == "y"
    assert tables.column(file, ["a", "b"], "", tables.SPLITS) is None
    with pytest.raises(UserError, match=r"t\.csv has no column 'clas'; the nearest are 'class'"):
        tables.column(file, ["class", "split"], "clas", tables.LABELS)


def test_missing_cells_are_empty_texts():
    cells = (None, float("nan"), " a b ", 3)
    assert [tables.text(cell, "t.csv line 2") for cell in cells] == ["", "", "a b", "3"]


def test_paths_are_what_a_file_can_be_called():
    assert tables.path(" a b.jpg ", "t.csv line 2") == "a b.jpg"
    assert tables.path(None, "t.csv line 2") == ""
    assert tables.path("\udcff.jpg", "t.csv line 2") == "\udcff.jpg"  # a byte that is not UTF-8
    for cell in ("a\0.jpg", "\ud800.jpg"):
        with pytest.raises(UserError) as error:
            tables.path(cell, "t.csv line 2")
        expected = f"t.csv line 2: expected a path, got {cell!r}, which no file can be called"
        assert str(error.value) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.csv", b"path\n\xff.jpg\n", "t.csv cannot be read as CSV in UTF-8: 'utf-8' codec"),
        ("t.tsv", b"path\n\xff.jpg\n", "t.tsv cannot be read as TSV in UTF-8: 'utf-8' codec"),
        ("t.jsonl", b"\xff\n", "t.jsonl cannot be read as JSON lines in UTF-8: 'utf-8' codec"),
        ("t.parquet", b"PAR1", "t.parquet cannot be read as Parquet"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        list(tables.rows(tmp_path / name))


def test_no_such_file(tmp_path):
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        with pytest.raises(UserError, match=r"cannot be read as .*No such file"):
            list(tables.rows(tmp_path / name))


@pytest.mark.parametrize("cell", [["cat", "dog"], {"name": "cat"}, b"cat"])
def test_a_cell_of_several_values_is_no_label_and_no_path(cell):
    with pytest.raises(UserError, match=r"^t line 2: expected one text or number, got .*cat"):
        tables.text(cell, "t line 2")
    with pytest.raises(
        UserError, match=f"^t line 2: expected a path, got {type(cell).__name__} .*cat"
    ):
        tables.path(cell, "t line 2")


def test_home_is_where_the_tilde_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert tables.path("~/a.jpg", "t line 2") == "/home/me/a.jpg"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_two_columns_of_one_name(ending, tmp_path):
    file = tmp_path / f"t.{ending}"
    names, row = ["path", "label", "label"], ["a.jpg", "cat", "dog"]
    if ending == "csv":
        file.write_text(",".join(names) + "\n" + ",".join(row) + "\n")
    else:
        columns = [pyarrow.array([cell]) for cell in row]
        parquet.write_table(pyarrow.Table.from_arrays(columns, names=names), file)
    with pytest.raises(UserError, match=f"t.{ending} has two columns 'label'; rename or remove"):
        list(tables.rows(file))


def test_a_line_with_more_cells_than_columns(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("path,label\na.jpg,cat,\nb.jpg,cat, big\n")
    rows = tables.rows(file)
    assert next(rows) == Row("line 2", {"path": "a.jpg", "label": "cat"})  # a comma too many
    with pytest.raises(UserError, match=r"t\.csv line 3: expected 2 cells, .*, got more: ' big';"):
        next(rows)


def test_a_key_that_comes_twice(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text('{"path": "a.jpg", "label": 1}\n{"path": "b.jpg", "label": 1, "label": 2}\n')
    with pytest.raises(
        UserError, match=r"t\.jsonl line 2: the key 'label' comes twice; rename or remove one$"
    ):
        list(tables.rows(file))


@pytest.mark.parametrize("line", ['{"path": "x",', "[1, 2]", "[" * 100_000])
def test_a_broken_line_is_named(line, tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text('{"path": "a.jpg"}\n' + line + "\n")
    with pytest.raises(
        UserError, match=r"t\.jsonl line 2: expected a JSON object, such as .*, got"
    ):
        list(tables.rows(file))
