import io

import numpy as np
import pytest

from tl.data import division, loader, sources
from tl.data.arrays import Arrays, is_folder_of_arrays
from tl.data.division import Wanted
from tl.data.tables import Columns
from tl.errors import UserError

NO_NAMES, DEFAULT = Columns(), Wanted()


def images(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def npz(folder, **arrays):
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


def of(path, columns=NO_NAMES, wanted=DEFAULT):
    return division.open_parts(Arrays(path, columns), wanted)


def test_keras_names(tmp_path):
    x, y = images(10, 28, 28), np.arange(10, dtype=np.uint8)[:, None] % 2
    opened = of(npz(tmp_path, x_train=x, y_train=y, x_test=x[:4] // 2, y_test=y[:4]))
    train, test = opened["train"], opened["test"]
    assert isinstance(train, sources.Source)
    assert (len(train), len(test)) == (10, 4)
    assert (train.name, train.split, train.classes) == ("set", "train", ("0", "1"))
    assert train.image_shape == (28, 28, 3)
    example = train[3]
    assert (example["image"] == x[3][:, :, None]).all() and example["image"].shape == (28, 28, 3)
    assert example["image"].dtype == np.uint8
    assert (example["label"], example["id"]) == (1, "train/3")
    assert train.labels().tolist() == y[:, 0].tolist() and train.labels().dtype == np.int32
    assert train.id_bytes == len("train/9")
    (batch,) = loader.batches(train, 10)
    assert (batch["image"][:, :, :, 1] == x).all() and batch["id"][-1] == "train/9"


def test_minus_one_is_no_label(tmp_path):
    y = np.array([0, -1, 3, 3, 0, -1, 0, 3])
    opened = of(npz(tmp_path, images=images(8, 9, 9), labels=y), wanted=Wanted(test_fraction=0.34))
    assert opened["train"].classes == ("0", "3")
    assert {part: len(source) for part, source in opened.items()} == {"train": 4, "test": 2}
    assert opened["train"].warnings == ["2 of 8 images have no label (-1): left out"]
    data = sources.Data("arrays", data_dir=str(tmp_path / "set.npz"))
    (warning,) = sources.open_source(data, "").warnings
    assert warning == "2 of 8 images have no label (-1): left out"


def test_medmnist_names_and_text(tmp_path):
    x = images(6, 70, 8, 3)
    names = np.array(["cat", "dog", "cat", "dog", "cat", "cat"])
    path = npz(
        tmp_path, train_images=x[:4], train_labels=names[:4], val_images=x[4:5],
        val_labels=names[4:5], test_images=x[5:], test_labels=names[5:].astype("S"),
    )  # fmt: skip
    opened = of(path)
    assert {part: source.split for part, source in opened.items()} == {
        "train": "train", "val": "val", "test": "test",
    }  # fmt: skip
    assert opened["train"].classes == ("cat", "dog") and opened["train"].image_shape is None
    assert (opened["train"][2]["image"] == x[2]).all()
    assert opened["test"].labels().tolist() == [0]
    assert opened["val"].warnings == ["val has no image of 1 of 2 classes: dog"]


def test_npy_files_are_mapped(tmp_path):
    x, y = images(20, 4, 5, 1), np.arange(20) % 2 + 9
    np.save(tmp_path / "images.npy", x)
    np.save(tmp_path / "labels.npy", y)
    for path in (tmp_path, tmp_path / "images.npy"):
        opened = of(path)
        assert (len(opened["train"]), len(opened["test"])) == (16, 4)
        assert opened["train"].classes == ("9", "10") and opened["test"].split == "test"
        assert not set(opened["train"].places()) & set(opened["test"].places())
        for source in opened.values():
            assert isinstance(source._images, np.memmap)
            for example in (source[row] for row in range(len(source))):
                number = int(example["id"].removeprefix("row/"))
                assert (example["image"] == x[number]).all()
                assert example["label"] == number % 2
    data = sources.Data("folder", data_dir=str(tmp_path))
    assert sources.open_source(data, "").name == tmp_path.name
    assert sources.open_sources(data)["test"].version == of(tmp_path)["test"].version


def test_a_folder_of_photographs_may_hold_an_array(tmp_path):
    np.save(tmp_path / "features.npy", np.zeros(3))
    assert is_folder_of_arrays(tmp_path)
    (tmp_path / "a.jpg").touch()
    assert not is_folder_of_arrays(tmp_path)


def test_a_folder_of_arrays_has_no_folders(tmp_path):
    assert not is_folder_of_arrays(tmp_path)
    np.save(tmp_path / "notes.npy", np.zeros(3))
    (tmp_path / ".hidden").mkdir()
    assert is_folder_of_arrays(tmp_path)
    (tmp_path / "cat").mkdir()
    assert not is_folder_of_arrays(tmp_path)


def test_the_version_follows_pixels_and_labels(tmp_path):
    x, y = images(4, 3, 3), np.array([0, 1, 0, 1])
    other = x.copy()
    other[2, 1, 1] ^= 1
    assert {
        len({Arrays(npz(tmp_path, **a), NO_NAMES).open({"test": ""})["test"].version for a in many})
        for many in (
            [{"images": x, "labels": y}, {"x": x, "y": y}],  # the same data by other names
        )
    } == {1}
    versions = [
        Arrays(npz(tmp_path, images=a, labels=b), NO_NAMES).open({"test": ""})["test"].version
        for a, b in ((x, y), (other, y), (x, 1 - y), (x.reshape(4, 1, 9), y))
    ]
    assert len(set(versions)) == 4


def test_groups(tmp_path):
    x, y = images(12, 3, 3), np.arange(12) % 2
    path = npz(tmp_path, images=x, labels=y, groups=np.arange(12) // 4)
    opened = of(path)
    names = {part: set(source.group_names()) for part, source in opened.items()}
    assert sorted(names["train"] | names["test"]) == ["0", "1", "2"]
    assert not names["train"] & names["test"] and len(opened["test"]) == 4
    text = np.array(["p", "", "p", ""] * 3)
    source = Arrays(npz(tmp_path, images=x, labels=y, groups=text), NO_NAMES).open({"test": ""})[
        "test"
    ]
    assert source.group_names()[:4].tolist() == ["p", "row/1", "p", "row/3"]
    x[7] = x[5]  # equal images stay together, too
    source = Arrays(npz(tmp_path, images=x, labels=y), NO_NAMES).open({"test": ""})["test"]
    assert source.group_names() is None and len(np.unique(source.groups())) == 11


def test_arrays_and_splits_by_name(tmp_path):
    x, y = images(6, 3, 3), np.array([0, 1] * 3)
    path = npz(tmp_path, fit_pixels=x[:4], fit_kind=y[:4], dev_pixels=x[4:], dev_kind=y[4:], note=y)
    opened = of(path, Columns(image="pixels", label="kind"), Wanted("fit", None, "dev"))
    assert {part: source.split for part, source in opened.items()} == {
        "train": "fit",
        "test": "dev",
    }
    with pytest.raises(UserError, match=r"^data\.test: .*set\.npz has no split 'dve'; the nearest"):
        of(path, Columns(image="pixels", label="kind"), Wanted("fit", None, "dve"))
    with pytest.raises(
        UserError, match=r"has no images with labels; .*; the nearest are 'fit_pixels"
    ):
        of(path, Columns(image="pixel", label="kind"))
    with pytest.raises(
        UserError, match=r"has no images with labels; .*; there are fit_pixels, fit_k"
    ):
        of(path)


def test_integers_in_range_are_pixels(tmp_path):
    x = images(4, 3, 3)
    opened = Arrays(npz(tmp_path, x=x.astype(np.int64), y=np.arange(4)), NO_NAMES)
    example = opened.open({"test": ""})["test"][2]
    assert example["image"].dtype == np.uint8 and (example["image"] == x[2][:, :, None]).all()


GREY = images(4, 5, 5)
GREY[0, 0, :2] = 0, 255


class TestMistakes:
    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (GREY / np.float32(255), r"float32 .* from 0 to 1; .*: np\.rint\(images \* 255\)\.ast"),
            (GREY.astype(float), r"float64 .* from 0 to 255; .*: np\.rint\(images\)\.astype"),
            (GREY - 100.0, r"float64 .* from -100 to 155; .*: undo the normalisation, then np"),
            (GREY * np.uint16(257), r"uint16 .* from 0 to 65535; .*: \(images // 257\)\.astype\(n"),
            (GREY > 9, r"bool .*: images\.astype\(np\.uint8\) \* 255$"),
            (images(4, 3, 8, 8), r"uint8 \[4, 3, 8, 8\]; expected .*: images\.transpose\(0, 2, 3,"),
            (images(4, 8, 8, 4), r"uint8 \[4, 8, 8, 4\]; .*: images\[\.\.\., :3\] leaves out the "),
            (images(4, 64), r"uint8 \[4, 64\]; .*: images\.reshape\(-1, H, W\) makes images of ro"),
            (GREY[:0], r"uint8 \[0, 5, 5\]; expected uint8 \[N, H, W\]"),
            (GREY[:, :0], r"uint8 \[4, 0, 5\]; expected uint8 \[N, H, W\]"),
            (np.uint8(3), r"uint8 \[\]; expected uint8 \[N, H, W\]"),
            (GREY[:3], r"has 3 images, but labels 4 values"),
        ],
    )  # fmt: skip
    def test_images(self, tmp_path, array, message):
        with pytest.raises(UserError, match=rf"set\.npz: images (is )?{message}"):
            of(npz(tmp_path, images=array, labels=np.array([0, 1, 0, 1])))

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.eye(4), r"labels is float64 \[4, 4\]; expected \[N\], .*: labels\.argmax\(axis=1"),
            (np.ones((4, 2), int), r"labels is int64 \[4, 2\]; expected \[N\], an integer or a te"),
            (np.zeros(4), r"labels is float64 \[4\]; .*: labels\.astype\(int\), if they are whole"),
            (np.array(["a", "", "b", "a"]), r"labels\[1\] is empty; expected a label"),
        ],
    )  # fmt: skip
    def test_labels(self, tmp_path, labels, message):
        with pytest.raises(UserError, match=rf"set\.npz: {message}"):
            of(npz(tmp_path, images=GREY, labels=labels))

    def test_python_objects_are_not_read(self, tmp_path):
        objects = np.array([GREY[0], GREY[1], None, None], object)
        path = npz(tmp_path, images=objects, labels=np.arange(4))
        text = r"images holds Python objects, which are not read, since they can run code; save one"
        with pytest.raises(UserError, match=text):
            of(path)
        np.save(tmp_path / "images.npy", objects)
        np.save(tmp_path / "labels.npy", np.arange(4))
        with pytest.raises(UserError, match=text):
            of(tmp_path)

    def test_a_class_that_train_lacks(self, tmp_path):
        y = np.array([1, 2, 1, 2])
        path = npz(
            tmp_path, x_train=GREY, y_train=y, x_test=GREY // 2, y_test=np.array([1, 1, 3, 1])
        )
        with pytest.raises(
            UserError, match=r"set\.npz: y_test\[2\]: train has no class '3'; the class"
        ):
            of(path)
        with pytest.raises(UserError, match=r"^data\.train: expected two classes or more, got '7'"):
            of(npz(tmp_path, images=GREY, labels=np.full(4, 7)))

    def test_files_that_hold_nothing(self, tmp_path):
        (tmp_path / "set.npz").write_bytes(b"no zip")
        with pytest.raises(UserError, match=r"set\.npz cannot be read as NumPy's arrays: "):
            Arrays(tmp_path / "set.npz", NO_NAMES)
        with pytest.raises(UserError, match=r"absent\.npz cannot be read .*No such file"):
            Arrays(tmp_path / "absent.npz", NO_NAMES)
        with pytest.raises(UserError, match=r"^data\.data_dir: .* has no arrays; expected arrays"):
            Arrays(tmp_path / "absent.npy", NO_NAMES)
        with pytest.raises(UserError, match="both images and x are images; rename one"):
            Arrays(npz(tmp_path, images=GREY, x=GREY, y=np.arange(4)), NO_NAMES)

    def test_an_npz_that_is_cut_short(self, tmp_path):
        buffer = io.BytesIO()
        np.savez(buffer, images=images(9, 40, 40), labels=np.arange(9))
        (tmp_path / "set.npz").write_bytes(buffer.getvalue()[:9000])
        with pytest.raises(UserError, match="cannot be read as NumPy's arrays"):
            of(tmp_path / "set.npz")

    def test_splits_that_share_images(self, tmp_path):
        y = np.array([0, 1, 0, 1])
        path = npz(tmp_path, x_train=GREY, y_train=y, x_test=GREY[::-1], y_test=y[::-1])
        data = sources.Data("folder", data_dir=str(path))
        with pytest.raises(
            UserError, match="4 of 4 images of test are in train too, byte for byte"
        ):
            sources.open_sources(data)
        path = npz(tmp_path, x_train=GREY, y_train=y, x_test=GREY.astype(np.int64), y_test=y)
        with pytest.raises(UserError, match="4 of 4 images of test are in train too"):
            sources.open_sources(data)
        data = sources.Data("arrays", data_dir=str(path), val="train")
        with pytest.raises(UserError, match=r"`data\.train` .* and `data\.val` .* share 4 images"):
            sources.open_sources(data)
