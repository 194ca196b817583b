"""Sets of Hugging Face. A stand-in has what is used of `datasets`; it is tested where installed."""

import importlib.util
import io
import sys
import types

import numpy as np
import pytest
from PIL import Image as Pillow

from tl.data import division, hf, sources
from tl.data.division import Wanted
from tl.data.hf import HfSet
from tl.data.tables import Columns
from tl.errors import UserError

NO_NAMES, DEFAULT = Columns(), Wanted()


class Image:
    def __init__(self, decode=True):
        self.decode = decode


class ClassLabel:
    dtype = "int64"

    def __init__(self, *names):
        self.names = list(names)


class Value:
    def __init__(self, dtype):
        self.dtype = dtype

    def __repr__(self):
        return f"Value({self.dtype!r})"


class Table:
    """A `datasets.Dataset` in memory."""

    cache_files = ()

    def __init__(self, features, columns):
        self.features, self._columns = features, columns

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, key):
        rows = range(len(self))[key] if isinstance(key, slice) else key
        images = [name for name, f in self.features.items() if isinstance(f, Image) and f.decode]
        assert not set(images) & set(self._columns), "it decodes"
        return {name: [cells[row] for row in rows] for name, cells in self._columns.items()}

    def cast_column(self, column, feature):
        return Table({**self.features, column: feature}, self._columns)

    def select_columns(self, names):
        return Table(self.features, {name: self._columns[name] for name in names})

    def with_format(self, kind):
        return self


def png(value):
    buffer = io.BytesIO()
    Pillow.new("RGB", (3, 2), (value, value, value)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def table(values, labels, label=None, **more):
    """Returns images of these values; more columns are (type, cells)."""
    features = {"img": Image(), "label": label or ClassLabel("cat", "dog")}
    columns = {"img": [png(value) for value in values], "label": list(labels)}
    for name, (feature, cells) in more.items():
        features[name], columns[name] = feature, cells
    return Table(features, columns)


def of(found, columns=NO_NAMES, wanted=DEFAULT, **options):
    return division.open_parts(HfSet(found, "hf:a/birds", columns, **options), wanted)


def test_splits_labels_and_images():
    found = {"train": table(range(4), [0, 1, 1, 0]), "validation": table([8], [1])}
    opened = of({**found, "test": table([9, 7], [0, None])})
    train = opened["train"]
    assert isinstance(train, sources.Source)
    assert (train.name, train.split, train.classes) == ("hf:a/birds", "train", ("cat", "dog"))
    assert train.labels().tolist() == [0, 1, 1, 0] and train.labels().dtype == np.int32
    first, last = train.examples([3, 1])
    assert (first["image"] == 3).all() and first["image"].shape == (2, 3, 3)
    assert (last["label"], last["id"]) == (1, "train/1")
    assert opened["val"].split == "validation"
    assert opened["test"].labels().tolist() == [0, -1]  # a label that is withheld


def test_a_set_without_splits_and_text_labels():
    labels = ["b", "a"] * 5
    opened = of({"": table(range(10), labels, Value("string"))})
    assert {part: len(source) for part, source in opened.items()} == {"train": 8, "test": 2}
    assert opened["train"].classes == ("a", "b")
    for source in opened.values():
        for example in (source[row] for row in range(len(source))):
            number = int(example["id"].removeprefix("row/"))
            assert (example["image"] == number).all()
            assert example["label"] == (labels[number] == "b")
    assert not set(opened["train"].places()) & set(opened["test"].places())
    assert opened["train"].version != opened["test"].version


def test_minus_one_is_no_label():
    found = {"train": table(range(4), [5, 7, 7, -1], Value("int64")), "test": table([9], [5])}
    found["test"].features["label"] = Value("int64")
    opened = of(found)
    assert opened["train"].classes == ("5", "7")
    assert opened["train"].labels().tolist() == [0, 1, 1, -1]
    assert opened["train"].warnings == ["1 of 4 images of train have no label (-1): left out"]


def test_groups():
    patients = (Value("string"), ["p1", "p1", "", None, "p2", "p2", "p2", "p2"])
    opened = of({"": table(range(8), [0, 1] * 4, patient=patients)})
    names = {part: set(source.group_names()) for part, source in opened.items()}
    assert not names["train"] & names["test"]
    assert names["train"] | names["test"] == {"p1", "p2", "row/2", "row/3"}
    source = HfSet({"": table(range(8), [0, 1] * 4, patient=patients)}, "x", NO_NAMES)
    numbers = sources.groups(source.open({"test": ""})["test"])
    assert numbers[0] == numbers[1] and len(set(numbers.tolist())) == 4


def test_an_image_in_a_file_or_in_none(tmp_path):
    Pillow.new("RGB", (3, 2), (5, 5, 5)).save(tmp_path / "a.png")
    cells = [{"bytes": None, "path": str(tmp_path / "a.png")}, {"bytes": None, "path": "gone.png"}]
    features = {"img": Image(), "label": ClassLabel("a", "b")}
    found = {"": Table(features, {"img": [*cells, None], "label": [0, 1, 1]})}
    source = HfSet(found, "x", NO_NAMES, skip_corrupt=True).open({"test": ""})["test"]
    assert [example["label"] for example in source.examples(range(3))] == [0, -1, -1]
    assert (source[0]["image"] == 5).all()
    source = HfSet(found, "x", NO_NAMES).open({"test": ""})["test"]
    with pytest.raises(UserError, match=r"the image row/1 cannot be decoded \(it cannot be read: "):
        source[1]


def test_columns():
    coarse = (ClassLabel("x", "y"), [0, 1])
    two = {"": table([1, 2], [0, 1], coarse=coarse)}
    assert HfSet(two, "x", NO_NAMES).open({"test": ""})["test"].classes == ("cat", "dog")
    of_coarse = HfSet(two, "x", Columns(label="coarse")).open({"test": ""})["test"]
    assert of_coarse.classes == ("x", "y")
    features = {"i": Image(), "a": ClassLabel("x"), "b": ClassLabel("y")}
    for columns, more, message in [
        (NO_NAMES, features, r"^data\.label_column: x has several columns of classes, 'a', 'b'; g"),
        (NO_NAMES, {"i": Image()}, r"^data\.label_column: x has no column of classes; give one of"),
        (NO_NAMES, {"a": ClassLabel()}, r"^data\.image_column: x has no column of images; its col"),
        (NO_NAMES, {"i": Image(), "j": Image()}, r"^data\.image_column: x has several .*, 'i', 'j"),
        (Columns(image="k"), features, r"^data\.image_column: x has no column 'k'; there are 'a',"),
        (Columns(image="a"), features, r"^data\.image_column: x: 'a' is no column of images"),
        (Columns(group="g"), {"i": Image(), "label": ClassLabel()}, r"^data\.group_column: x has "),
        (NO_NAMES, {"i": Image(), "y": Value("float32")}, r"^data\.label_column: x: 'y' must be a"),
    ]:
        with pytest.raises(UserError, match=message):
            HfSet({"": Table(more, {name: [] for name in more})}, "x", columns)


def test_splits_and_labels_that_are_not_there():
    found = {"fit": table([1, 2], ["a", "b"], Value("string"))}
    with pytest.raises(UserError, match=r"^data\.train: hf:a/birds has no split 'train'; there ar"):
        of(found)
    found |= {"dev": table([3, 4], ["a", "c"], Value("string"))}
    with pytest.raises(UserError, match=r"birds: label of row 1 of test: train has no class 'c'; "):
        of(found, wanted=Wanted("fit", None, "dev"))
    for missing in (None, float("nan")):
        with pytest.raises(UserError, match=r"^hf:a/birds: label of row 1 of train is empty"):
            of({"train": table([1, 2], ["a", missing], Value("string"))})


def test_splits_must_have_the_same_classes_in_the_same_order():
    found = {"train": table([1, 2], [0, 1]), "test": table([3], [0], ClassLabel("dog", "cat"))}
    text = r"^hf:a/birds: the column 'label' must be the same in all splits, but is .* in 'train' "
    with pytest.raises(UserError, match=text):
        of(found)
    found["test"] = table([3], ["dog"], Value("string"))
    with pytest.raises(UserError, match=text):
        of(found)
    found["test"] = Table({"img": Image()}, {"img": [png(3)]})
    with pytest.raises(UserError, match=text + "and None in 'test'$"):
        of(found)


def test_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name, data_dir in (("hf:a/birds", ""), ("hf", str(tmp_path))):
        with pytest.raises(UserError, match=r"need datasets: pip install datasets$"):
            sources.open_sources(sources.Data(name, data_dir=data_dir))


def test_sets_by_name(tmp_path, monkeypatch):
    calls = []

    def load_dataset(*args, **options):
        calls.append((*args, options, module.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        if args[0] == "a/absent":
            raise FileNotFoundError("no such set")
        return {"train": table(range(6), [0, 1] * 3)}

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    module.config = types.SimpleNamespace(HF_HUB_OFFLINE=False)
    constants = types.SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.ModuleType("huggingface_hub"))
    sys.modules["huggingface_hub"].constants = constants
    monkeypatch.setitem(sys.modules, "datasets", module)
    opened = sources.open_sources(sources.Data("hf:a/birds:large", "/cache", download=False))
    assert len(opened["test"]) == 2
    sources.open_sources(sources.Data("hf:a/birds"))
    assert calls == [
        ("a/birds", "large", {"cache_dir": "/cache"}, True, True),  # without the network
        ("a/birds", None, {"cache_dir": None}, False, False),
    ]
    text = r"^data\.name: hf:a/absent cannot be loaded \(FileNotFoundError: no such set\)$"
    with pytest.raises(UserError, match=text):
        sources.open_sources(sources.Data("hf:a/absent"))
    (tmp_path / "a/birds").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^data\.name: a/birds is a path here, which `datasets` w"):
        sources.open_sources(sources.Data("hf:a/birds"))
    assert len(calls) == 3


INSTALLED = importlib.util.find_spec("datasets") is not None


@pytest.mark.skipif(not INSTALLED, reason="datasets is not installed")
class TestSaved:
    """Sets that `datasets` itself wrote."""

    @pytest.fixture
    def whole(self):
        import datasets

        features = datasets.Features(
            {
                "picture": datasets.Image(),
                "kind": datasets.ClassLabel(names=["cat", "dog"]),
                "patient": datasets.Value("string"),
            }
        )
        columns = {
            "picture": [Pillow.new("RGB", (3, 2), (value, value, value)) for value in range(12)],
            "kind": [value % 2 for value in range(12)],
            "patient": [f"p{value // 2}" for value in range(12)],
        }
        return datasets.Dataset.from_dict(columns, features=features)

    def test_splits(self, whole, tmp_path):
        import datasets

        parts = {"train": whole.select(range(8)), "test": whole.select([11, 8])}
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
        opened = sources.open_sources(sources.Data("folder", data_dir=str(tmp_path / "set")))
        assert {part: len(source) for part, source in opened.items()} == {"train": 8, "test": 2}
        first, last = opened["test"].examples([0, 1])
        assert (first["image"] == 11).all() and (first["label"], last["label"]) == (1, 0)
        assert opened["train"].group_names().tolist() == [f"p{n // 2}" for n in range(8)]
        again = sources.open_sources(sources.Data("hf", data_dir=str(tmp_path / "set")))
        assert again["train"].version == opened["train"].version
        assert again["train"].version != again["test"].version

    def test_one_table(self, whole, tmp_path):
        whole.save_to_disk(tmp_path / "set")
        assert hf.is_saved(tmp_path / "set") and not hf.is_saved(tmp_path)
        data = sources.Data("folder", data_dir=str(tmp_path / "set"), test_fraction=0.34)
        opened = sources.open_sources(data)
        assert {part: len(source) for part, source in opened.items()} == {"train": 8, "test": 4}
        for source in opened.values():
            for example in (source[row] for row in range(len(source))):
                assert (example["image"] == int(example["id"].removeprefix("row/"))).all()

    def test_a_folder_that_cannot_be_read(self, tmp_path):
        (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
        with pytest.raises(UserError, match=r"^data\.data_dir: .* cannot be loaded \(FileNotFound"):
            sources.open_sources(sources.Data("folder", data_dir=str(tmp_path)))


def test_the_version_follows_images_and_labels():
    versions = [
        HfSet({"": table(values, labels)}, "x", NO_NAMES).open({"test": ""})["test"].version
        for values, labels in (
            ([1, 2], [0, 1]),
            ([1, 2], [0, 1]),
            ([1, 3], [0, 1]),
            ([1, 2], [1, 0]),
        )
    ]
    assert versions[0] == versions[1] and len(set(versions)) == 3
