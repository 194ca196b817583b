import json
import logging

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from tl.data import division, sources
from tl.data.division import Wanted
from tl.data.manifest import Manifest
from tl.data.tables import Columns
from tl.errors import UserError

NO_NAMES, DEFAULT = Columns(), Wanted()


@pytest.fixture
def root(tmp_path):
    """Twelve images of two classes in one folder, and one elsewhere."""
    for number in range(12):
        add(tmp_path / f"images/{number}.png", number)
    return tmp_path


def add(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (value, value, value)).save(path)


def csv(root, text, name="labels.csv"):
    (root / name).write_text(text)
    return root / name


def of(file, columns=NO_NAMES, wanted=DEFAULT, **options):
    return division.open_parts(Manifest(file, columns, **options), wanted)


def rows(numbers, label, *more):
    return "".join(",".join([f"images/{n}.png", label, *more]) + "\n" for n in numbers)


def test_splits_labels_and_ids(root, caplog):
    caplog.set_level(logging.INFO)
    table = (
        "file,class,split\n" + rows(range(4), "dog", "Train") + rows(range(4, 8), "cat", "Train")
    )
    table += (
        rows([8, 9], "cat", "Testing") + rows([10], "dog", "valid") + rows([11], "cat", "extra")
    )
    opened = of(csv(root, table))
    assert {part: len(source) for part, source in opened.items()} == {
        "train": 8, "test": 2, "val": 1,
    }  # fmt: skip
    train = opened["train"]
    assert isinstance(train, sources.Source)
    assert train.classes == ("cat", "dog") and train.split == "Train"
    assert train.name == f"{root.name}/labels"
    assert train[0]["id"] == "images/0.png" and train[0]["label"] == 1
    assert (train[3]["image"] == 3).all() and train[3]["image"].shape == (2, 3, 3)
    assert opened["val"].labels().tolist() == [1]
    assert opened["test"].warnings == ["test has no image of 1 of 2 classes: dog"]
    assert f"{root.name}/labels: these splits are not used: extra (1 images)" in caplog.messages


def test_without_splits_a_share_is_held_out_as_of_a_folder(root):
    names = [f"{'ab'[number // 6]}/{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        add(root / "set" / name, number)
    table = "path,label\n" + "".join(f"{name},{name[0]}\n" for name in reversed(names))
    opened = of(csv(root / "set", table), wanted=Wanted(test_fraction=0.34))
    assert np.bincount(opened["test"].labels()).tolist() == [2, 2]
    data = sources.Data("folder", data_dir=str(root / "set"), test_fraction=0.34)
    folders = sources.open_sources(data)
    for part in ("train", "test"):
        assert opened[part].ids() == folders[part].ids()
        assert opened[part].version == folders[part].version  # so they share features


def test_every_kind_of_table_opens_alike(root):
    values = [
        {"path": f"images/{n}.png", "label": n % 2, "split": ["train", "test"][n // 8]}
        for n in range(12)
    ]
    lines = [",".join(map(str, row.values())) for row in values]
    csv(root, "path,label,split\n" + "\n".join(lines))
    csv(
        root, "path,label,split\n".replace(",", "\t") + "\n".join(lines).replace(",", "\t"), "l.tsv"
    )
    csv(root, "\n".join(map(json.dumps, values)), "l.jsonl")
    parquet.write_table(pyarrow.Table.from_pylist(values), root / "l.parquet")
    opened = [of(root / f)["train"] for f in ("labels.csv", "l.tsv", "l.jsonl", "l.parquet")]
    assert len({source.version for source in opened}) == 1
    for source in opened:
        assert source.classes == ("0", "1")
        assert source.labels().tolist() == [n % 2 for n in range(8)]


def test_columns_by_name_and_paths_anywhere(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.png"
    add(elsewhere, 77)
    table = f"where,what,path\n{elsewhere},b,-\n{root}/images/1.png,a,-\n"
    table += f"../{root.name}/images/2.png,b,-"
    source = Manifest(csv(root, table), Columns(image="where", label="what")).open({"test": ""})
    ids = [example["id"] for example in source["test"].examples(range(3))]
    assert ids == [str(elsewhere), "images/1.png", "images/2.png"]
    assert (source["test"][0]["image"] == 77).all()


def test_the_version_follows_labels_and_contents(root):
    table = "path,label\n" + rows(range(6), "a") + rows(range(6, 12), "b")
    first = Manifest(csv(root, table), Columns()).open({"test": ""})["test"].version
    assert (
        Manifest(csv(root, table, "x.csv"), Columns()).open({"test": ""})["test"].version == first
    )
    other = table.replace("images/0.png,a", "images/0.png,b")
    assert Manifest(csv(root, other), Columns()).open({"test": ""})["test"].version != first
    add(root / "images/0.png", 200)
    assert Manifest(csv(root, table), Columns()).open({"test": ""})["test"].version != first


def test_groups_of_a_column_or_a_pattern(root):
    table = "path,label,patient_id\n"
    table += "".join(rows([n], "ab"[n // 6], f"p{n // 2}" if n > 1 else "") for n in range(12))
    opened = of(csv(root, table))
    names = {part: set(source.group_names()) for part, source in opened.items()}
    assert not names["train"] & names["test"]
    assert names["train"] | names["test"] == {
        "images/0.png", "images/1.png", "p1", "p2", "p3", "p4", "p5",
    }  # fmt: skip
    assert len(opened["test"].group_names()) == len(opened["test"])
    by_pattern = of(root / "labels.csv", group_pattern=r"images/\d")
    assert "images/1" in {name for s in by_pattern.values() for name in s.group_names()}
    with pytest.raises(UserError, match=r"^data\.group_pattern: expected a pattern or a column of"):
        of(root / "labels.csv", Columns(group="patient_id"), group_pattern=r"\d")


def test_minus_one_is_no_label(root):
    table = "path,label,split\n" + rows([0, 1, 2], "0", "train") + rows([3, 4], "1", "train")
    table += rows([5], "-1", "train") + rows([6, 7], "1", "test") + rows([8, 9], "-1", "test")
    opened = of(csv(root, table))
    assert opened["train"].classes == ("0", "1")
    assert opened["train"].labels().tolist() == [0, 0, 0, 1, 1, -1]
    assert opened["train"].warnings == ["1 of 6 images of train have no label (-1): left out"]
    assert opened["test"].warnings == [
        "2 of 4 images of test have no label (-1): left out",
        "test has no image of 1 of 2 classes: 0",
    ]
    unlabelled = of(file := root / "labels.csv", wanted=Wanted(labelled=False), labelled=False)
    assert len(unlabelled["test"]) == 4 and not any(s.warnings[1:] for s in unlabelled.values())
    csv(root, "path,label\n" + rows(range(3), "-1"))  # features need no label
    opened = of(file, wanted=Wanted(labelled=False), labelled=False)
    assert opened["train"].classes == () and opened["train"].labels().tolist() == [0, 0, 0]


def test_images_without_labels(root, caplog):
    file = csv(root, "path\n" + "".join(f"images/{n}.png\n" for n in range(3)))
    with pytest.raises(
        UserError, match=r"^data\.label_column: .* has no column 'label'; there are"
    ):
        of(file)
    opened = of(file, wanted=Wanted(labelled=False), labelled=False)
    assert list(opened) == ["train"] and opened["train"].classes == ()
    assert len(opened["train"]) == 3
    file = csv(root, "path,label\n" + rows(range(3), "cat"))
    opened = of(file, wanted=Wanted(labelled=False), labelled=False)
    assert sum(map(len, opened.values())) == 3 and opened["train"].classes == ("cat",)


class TestMistakes:
    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("path,label\n", r"data\.data_dir: \S+labels.csv has no rows"),
            ("where,label\n/a,b\n", r"data\.image_column: \S+ has no column 'path'; there are 'l"),
            ("path,label\nimages/0.png,\n", r"\S+labels\.csv line 2: there is no 'label'"),
            ("path,label\n,a\n", r"\S+labels\.csv line 2: there is no 'path'"),
            ("path,label,split\nimages/0.png,a,\n", r"\S+ line 2: there is no 'split'"),
            ("path,label,split\nimages/0.png,a", r"\S+ line 2: there is no 'split'"),
            (
                "path,label,split\nimages/0.png,a,train\nimages/1.png,b,t\n./images/0.png,a,t",
                r"\S+ line 4: images/0.png is in line 2 too, in the splits 'train' and 't'; ever",
            ),
            (
                "path,label\nimages/0.png,a\nimages/0.png,b",
                r"\S+ line 3: images/0.png is in line 2 too, with the labels 'a' and 'b'; every",
            ),
            ("path,label\nimages/0.png,a\nimages/1.png,a", r"data\.train: expected two classes"),
            (
                "path,label,split\nimages/0.png,cat,train\nimages/1.png,dog,train\n"
                "images/2.png,cta,test",
                r"\S+ line 4: train has no class 'cta'; the classes of 1 images",
            ),
            (
                "path,label\nimages/0.png,a\nimages/1.pgn,b\nx/2.png,b\n",
                r"\S+ line 3: there is no file \S+/images/1\.pgn; the nearest are '1\.png', .*; "
                r"2 of 3 files are not there or cannot be read\. Paths are relative to the table's",
            ),
            (
                "path,label\nx/2.png,b\nimages/1.png,a\n",
                r"\S+ line 2: there is no file \S+/x/2\.png; there is no folder \S+/x either",
            ),
        ],
    )  # fmt: skip
    def test_one_message(self, root, table, message):
        with pytest.raises(UserError, match=f"^{message}"):
            of(csv(root, table))

    def test_a_path_that_no_file_can_have(self, root):
        (root / "labels.jsonl").write_text('{"path": "\\u0000.png", "label": "a"}\n')
        with pytest.raises(UserError, match=r"jsonl line 1: expected a path, got '\\x00\.png', w"):
            of(root / "labels.jsonl")

    def test_images_in_the_place_of_paths(self, root):
        (root / "labels.jsonl").write_text('{"image": {"bytes": "x"}, "label": 0}\n')
        with pytest.raises(
            UserError, match=r"jsonl line 1: expected a path, got dict {'bytes': 'x'}; images in a"
        ):
            of(root / "labels.jsonl")

    def test_a_column_or_split_of_another_name(self, root):
        file = csv(
            root, "path,label,fold\n" + rows(range(6), "a", "fit") + rows(range(6, 9), "b", "t")
        )
        with pytest.raises(UserError, match=r"^data\.split_column: .* no column 'flod'; the near"):
            of(file, Columns(split="flod"))
        with pytest.raises(
            UserError, match=r"^data\.train: .* has no split 'train'; there are 'fit"
        ):
            of(file, Columns(split="fold"))
        with pytest.raises(UserError, match=r"^data\.test: .* has no split 'tset'; there are "):
            of(file, Columns(split="fold"), Wanted("fit", None, "tset"))

    def test_missing_files_are_left_out_where_the_config_says_so(self, root, caplog):
        file = csv(root, "path,label\nimages/0.png,a\nimages/99.png,b\nimages/1.png,b\n")
        source = Manifest(file, Columns(), skip_corrupt=True).open({"test": ""})["test"]
        assert [e["label"] for e in source.examples(range(3))] == [0, 1, -1]
        assert "line 3: there is no file" in caplog.text
        file = csv(root, "path,label\nx/0.png,a\nx/1.png,b\n")
        with pytest.raises(UserError, match="2 of 2 files are not there"):
            Manifest(file, Columns(), skip_corrupt=True).open({"test": ""})


def test_columns_are_logged(root, caplog):
    with caplog.at_level(logging.INFO):
        Manifest(csv(root, "Image,Y,subject\nimages/0.png,a,s1\n"), Columns())
    assert "columns: path Image, label Y, split None, group subject" in caplog.text
