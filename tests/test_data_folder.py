import gc
import logging
import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tl.data import folder, loader, sources
from tl.errors import UserError


def add(path, value=0, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def root(tmp_path):
    """Two classes, three splits, with all that a real folder holds beside its images."""
    add(tmp_path / "train/dog/b.jpg", 10)
    add(tmp_path / "train/dog/deep/er/a.JPEG", 20)
    add(tmp_path / "train/cat/c.Png", 30)
    add(tmp_path / "train/cat/.hidden.jpg")
    add(tmp_path / "train/cat/.thumbnails/t.jpg")
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    (tmp_path / "train/.DS_Store").write_text("")
    add(tmp_path / "validation/cat/v.webp")
    add(tmp_path / "validation/dog/v.bmp")
    add(tmp_path / "test/cat/t.gif", 40)
    add(tmp_path / "test/dog/t.jpg", 50)
    return tmp_path


def of(path, **fields):
    return sources.open_sources(sources.Data("folder", data_dir=str(path), **fields))


def ids(source):
    return [source[row]["id"] for row in range(len(source))]


def test_splits_classes_ids_and_labels(root, caplog):
    with caplog.at_level(logging.INFO):
        opened = of(root)
    assert list(opened) == ["train", "test", "val"]
    train = opened["train"]
    assert train.classes == ("cat", "dog")
    assert ids(train) == ["train/cat/c.Png", "train/dog/b.jpg", "train/dog/deep/er/a.JPEG"]
    assert train.labels().tolist() == [0, 1, 1] and train.labels().dtype == np.int32
    assert [train[row]["image"][0, 0, 0] for row in range(3)] == [30, 10, 20]
    assert train[0]["image"].shape == (5, 6, 3) and train.image_shape is None
    assert train.id_bytes == len("train/dog/deep/er/a.JPEG")
    assert train.name == root.name and train.split == "train"
    assert ids(opened["val"]) == ["validation/cat/v.webp", "validation/dog/v.bmp"]
    assert "train: 3 images of 2 classes; left out: 1 .txt, 3 hidden" in caplog.text


def test_paths_from_here_and_splits_with_dots(root, monkeypatch):
    monkeypatch.chdir(root)
    for path in (".", "./", "../" + root.name, str(root)):
        opened = of(path, train="./train/", test="test/")
        assert (
            ids(opened["train"])[0] == "train/cat/c.Png" and ids(opened["test"])[0][:5] == "test/"
        )
        assert len(folder.open_folder(path, "train")) == 3


def test_named_split_directories(root):
    (root / "validation").rename(root / "dev")
    assert "val" not in of(root)
    assert ids(of(root, val="dev")["val"]) == ["dev/cat/v.webp", "dev/dog/v.bmp"]
    opened = of(root, test="dev")
    assert ids(opened["test"])[0] == "dev/cat/v.webp" and "val" not in opened
    for split, missing in {"val": "devv", "test": "tset"}.items():
        with pytest.raises(UserError, match=rf"^data.{split}: there is no directory .*{missing}"):
            of(root, **{split: missing})
    assert len(sources.open_source(sources.Data("folder", data_dir=str(root)), "dev")) == 2


def test_a_valid_directory_is_val(root):
    (root / "validation").rename(root / "valid")
    assert ids(of(root)["val"]) == ["valid/cat/v.webp", "valid/dog/v.bmp"]


def test_one_level_is_divided_by_a_seeded_stratified_rule(tmp_path):
    for i in range(20):
        add(tmp_path / f"a/{i}.png", i)
        add(tmp_path / f"b/{i}.png", i)
    opened = of(tmp_path, test_fraction=0.25)
    assert [len(opened[key]) for key in ("train", "test")] == [30, 10]
    assert np.bincount(opened["test"].labels()).tolist() == [5, 5]
    everything = set(ids(opened["train"])) | set(ids(opened["test"]))
    assert len(everything) == 40
    assert ids(of(tmp_path, test_fraction=0.25)["test"]) == ids(opened["test"])
    assert ids(of(tmp_path, test_fraction=0.25, seed=1)["test"]) != ids(opened["test"])
    assert len({source.version for source in opened.values()}) == 2


def test_without_a_test_directory_a_share_of_train_is_held_out(root):
    for i in range(9):
        add(root / f"train/cat/{i}.png", 100 + i)
    shutil.rmtree(root / "test")
    opened = of(root)
    assert list(opened) == ["train", "val", "test"]
    assert (len(opened["train"]), len(opened["test"])) == (9, 3)  # of 10 cats 2, of 2 dogs 1


def test_the_version_follows_the_content_and_not_the_place(root, tmp_path_factory):
    first = of(root)["train"]
    os.utime(root / "train/dog/b.jpg", ns=(0, 0))
    moved = tmp_path_factory.mktemp("elsewhere") / "renamed"
    shutil.copytree(root, moved)
    for path in (root, moved):
        assert of(path)["train"].version == first.version
    assert sources.identity(of(moved)["train"]) == sources.identity(first)
    assert sources.identity(first)["name"] == "folder" and first.name == root.name
    add(root / "train/dog/b.jpg", 11)
    changed = of(root)["train"].version
    add(root / "train/dog/new.jpg")
    (moved / "train/dog/b.jpg").rename(moved / "train/dog/c.jpg")
    versions = [first.version, changed, of(root)["train"].version, of(moved)["train"].version]
    assert len({*versions, first.version, of(root)["test"].version}) == 5


def test_ids_that_are_no_utf8(tmp_path):
    add(tmp_path / "a/é.png")
    add(tmp_path / "b/1.png")
    try:
        os.rename(tmp_path / "b/1.png", os.fsencode(tmp_path / "b") + b"/\xff.png")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    source = folder.open_folder(str(tmp_path), "")
    assert ids(source) == ["a/é.png", "b/\\xff.png"]
    assert source.id_bytes == 10


def test_a_name_that_is_no_utf8(tmp_path):
    try:
        add(tmp_path / os.fsdecode(b"r\xff/a\xff/1.png"))
    except OSError:
        pytest.skip("this file system wants UTF-8")
    add(tmp_path / os.fsdecode(b"r\xff/b/1.png"))
    source = folder.open_folder(str(tmp_path / os.fsdecode(b"r\xff")), "")
    assert (source.name, source.classes) == ("r\\xff", ("a\\xff", "b"))


class TestMistakes:
    def test_no_root(self, tmp_path):
        with pytest.raises(
            UserError, match=r"^data.data_dir: there is no directory .*absent; expect"
        ):
            of(tmp_path / "absent")
        with pytest.raises(
            UserError, match=r"^data.data_dir: name the folder of images; expected ROOT/<"
        ):
            sources.open_sources(sources.Data("folder"))

    def test_no_class_folders(self, tmp_path):
        add(tmp_path / "loose.jpg")
        with pytest.raises(UserError, match=">= 2 classes; found 1 images that lie in none"):
            of(tmp_path)

    def test_a_single_class(self, tmp_path):
        add(tmp_path / "only/1.jpg")
        with pytest.raises(UserError, match="found the one folder 'only'"):
            of(tmp_path)

    def test_empty_classes_are_listed(self, root):
        for name in ("ant", "bee"):
            (root / "train" / name).mkdir()
        (root / "train/bee/readme.md").write_text("")
        with pytest.raises(UserError, match=r"no images \(\.avif.*train: ant, bee; fill or remove"):
            of(root)

    def test_a_split_with_other_classes(self, root):
        (root / "validation/dog").rename(root / "validation/wolf")
        text = "^validation/ has classes that train/ lacks: wolf; of the classes of train/ it lack"
        with pytest.raises(UserError, match=text):
            of(root)

    def test_splits_without_train(self, root):
        shutil.rmtree(root / "train")
        with pytest.raises(UserError, match="has 'test', 'validation' but no 'train'"):
            of(root)

    def test_splits_of_other_names_are_no_classes(self, root):
        shutil.rmtree(root / "validation")
        (root / "train").rename(root / "Training")
        (root / "test").rename(root / "Testing")
        with pytest.raises(
            UserError, match=r"has 'Testing', 'Training' but no 'train'.*data\.test"
        ):
            of(root)
        assert [len(s) for s in of(root, train="Training", test="Testing").values()] == [3, 2]

    def test_a_chosen_train_must_be_there(self, root):
        with pytest.raises(UserError, match="but no 'trian'"):
            of(root, train="trian")
        with pytest.raises(UserError, match="has no 'trian'"):
            of(root / "train", train="trian")

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"test_fraction": 0.0},
                "data.test_fraction: expected a share between 0 and 1, got 0.0",
            ),
            (
                {"test_fraction": 1.0},
                "data.test_fraction: expected a share between 0 and 1, got 1.0",
            ),
            ({"seed": -1}, "data.seed: expected at least 0, got -1"),
        ],
    )
    def test_how_a_test_split_is_divided_off(self, root, fields, message):
        assert len(of(root, **fields)["test"]) == 2  # a directory, so nothing is divided
        shutil.rmtree(root / "test")
        with pytest.raises(UserError, match=f"^{message}$"):
            of(root, **fields)

    @pytest.mark.parametrize("split", ["/elsewhere/val", "../val"])
    def test_a_split_outside_the_root(self, root, split):
        with pytest.raises(UserError, match=r"^data.val: a split is a directory in ROOT, got"):
            of(root, val=split)

    @pytest.mark.parametrize("fields", [{"val": "train"}, {"val": "test"}, {"test": "train"}])
    def test_splits_that_share_images(self, root, fields):
        with pytest.raises(UserError, match=r"^`data\.\w+` .* share \d images of .*do not overlap"):
            of(root, **fields)

    def test_a_directory_that_may_not_be_listed(self, root, monkeypatch):
        def refuse(path):
            if str(path).endswith("deep"):
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        listed = os.scandir
        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(UserError, match="dog/deep cannot be read: Permission denied"):
            of(root)


BROKEN = {"empty": b"", "text": b"this is no JPEG", "truncated": None}


@pytest.mark.parametrize("kind", BROKEN)
class TestCorruptImages:
    @pytest.fixture
    def broken(self, root, kind):
        path = root / "train/dog/b.jpg"
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:700] if BROKEN[kind] is None else BROKEN[kind])
        return root

    def test_it_is_named_with_the_field(self, broken):
        text = r"the image train/dog/b.jpg cannot be decoded .*out with `data.skip_corrupt=True`$"
        with pytest.raises(UserError, match=text):
            of(broken)["train"][1]
        with pytest.raises(UserError, match=text):
            list(loader.batches(of(broken)["train"], 2))

    def test_it_is_left_out_where_the_config_says_so(self, broken, caplog):
        train = of(broken, skip_corrupt=True)["train"]
        example = train[1]
        assert example["label"] == -1 and example["id"] == "train/dog/b.jpg"
        assert example["image"].shape == (1, 1, 3) and not example["image"].any()
        assert caplog.text.count("left out train/dog/b.jpg") == 1
        (batch,) = loader.batches(train, 4, transform=lambda image: image[:1, :1])
        assert batch["label"].tolist() == [0, -1, 1, -1]
        assert batch["mask"].tolist() == [True, True, True, False]


def test_an_image_that_went_away(root):
    train = of(root)["train"]
    (root / "train/dog/b.jpg").unlink()
    with pytest.raises(UserError, match=r"b.jpg cannot be read: No such file"):
        train[1]
    (root / "train/dog/b.jpg").symlink_to(root / "nowhere.jpg")
    with pytest.raises(UserError, match=r"b.jpg cannot be read: No such file"):
        of(root)


class TestAsTheyLieOnDisks:
    def test_links_thumbnails_and_other_endings(self, tmp_path, caplog):
        for name in ("ant/0.jpg", "ant/1.JFIF.tif", "bee/0.png", "elsewhere/2.avif"):
            add(tmp_path / "root" / name, len(name))
        (tmp_path / "root/elsewhere").rename(tmp_path / "elsewhere")
        (tmp_path / "root/ant/more").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "root/ant/all").symlink_to(tmp_path / "root")
        (tmp_path / "root/bee/other").symlink_to("../bee")
        add(tmp_path / "root/bee/@eaDir/0.png/SYNO.jpg")
        add(tmp_path / "root/lost+found/1.jpg")
        os.mkfifo(tmp_path / "root/bee/pipe.jpg")
        shutil.copy(tmp_path / "root/ant/0.jpg", tmp_path / "root/bee/IMG_0001")
        with Image.open(tmp_path / "root/ant/0.jpg") as image:
            image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "root/bee/IMG_0001", "PNG")
        (tmp_path / "root/bee/x.psd").touch()
        with caplog.at_level(logging.INFO):
            source = folder.open_folder(str(tmp_path / "root"), "")
        assert source.classes == ("ant", "bee")
        assert ids(source) == [
            "ant/0.jpg", "ant/1.JFIF.tif", "ant/more/2.avif", "bee/0.png", "bee/IMG_0001",
        ]  # fmt: skip
        assert (
            "left out: 1 .psd, 1 folder @eaDir, 1 folder lost+found, 1 that are no regular files, "
            "2 links back to a folder above them" in caplog.text
        )
        assert source.warnings == [
            "left out, though they may be or hold images: 1 .psd; convert them to JPEG, PNG or "
            "TIFF to have them read"
        ]

    def test_class_names_are_equal_composed_or_not(self, root):
        for split, form in (("train", "NFD"), ("test", "NFC")):
            (root / split / "cat").rename(root / split / unicodedata.normalize(form, "Käfer"))
        shutil.rmtree(root / "validation")
        opened = of(root)
        assert opened["train"].classes == opened["test"].classes == ("Käfer", "dog")
        assert ids(opened["train"])[0] == "train/Käfer/c.Png"
        assert np.unique(opened["test"].labels()).tolist() == [0, 1]

    def test_two_files_of_one_composed_name_are_refused(self, root):
        for form in ("NFC", "NFD"):
            name = unicodedata.normalize(form, "é") + ".png"
            shutil.copy(next((root / "train/dog").iterdir()), root / "train/dog" / name)
        message = (
            r"two files in .* have one name once accents are composed, train/dog/é\.png: "
            r"'train/dog/(\\xe9|e\\u0301)\.png' and 'train/dog/(\\xe9|e\\u0301)\.png'; rename one"
        )
        with pytest.raises(UserError, match=message):
            of(root)

    def test_what_cannot_be_read_is_an_error_or_left_out(self, root, caplog):
        (root / "train/dog/gone").symlink_to(root / "nowhere")
        (root / "train/dog/gone.jpg").symlink_to("gone.jpg")
        text = r"dog/gone cannot be read: No such file or directory, nor can 1 other files; repair"
        with pytest.raises(UserError, match=text):
            of(root)
        train = of(root, skip_corrupt=True)["train"]
        assert "gone cannot be read: No such file or directory, nor can 1 other" in caplog.text
        assert [train[row]["label"] for row in range(len(train))] == [0, 1, 1, -1, -1]
        assert "left out train/dog/gone, which cannot be decoded (it cannot be read: No" in (
            caplog.text
        )

    def test_images_beside_the_class_folders(self, root):
        add(root / "train/loose.jpg")
        (train_warning,) = of(root)["train"].warnings
        assert train_warning.startswith("1 images beside the class folders of ")


class TestTrainDecidesTheClasses:
    def test_a_class_without_test_or_val_images_is_reported(self, root, caplog):
        shutil.rmtree(root / "test/cat")
        (root / "validation/dog/v.bmp").unlink()
        opened = of(root)
        assert opened["test"].classes == opened["val"].classes == ("cat", "dog")
        assert opened["test"].labels().tolist() == [1]
        assert opened["test"].warnings == ["test has no image of 1 of 2 classes: cat"]
        assert "val has no image of 1 of 2 classes: dog" in sources.warnings(opened)
        assert "test has no image of 1 of 2 classes: cat" in caplog.text

    def test_an_empty_folder_that_train_lacks_is_no_class(self, root):
        (root / "test/wolf").mkdir()
        assert of(root)["test"].classes == ("cat", "dog")

    def test_a_split_without_images(self, root):
        shutil.rmtree(root / "test")
        (root / "test/cat").mkdir(parents=True)
        with pytest.raises(UserError, match=r"no images of train/'s classes are in .*test$"):
            of(root)

    def test_a_test_directory_without_class_folders(self, root):
        shutil.rmtree(root / "test")
        add(root / "test/1.jpg")
        with pytest.raises(
            UserError, match=r"1 images that lie in none. .* `data.data_dir=.*train"
        ):
            of(root)

    def test_train_and_val_alone(self, root, caplog):
        shutil.rmtree(root / "test")
        opened = of(root)
        (warning,) = opened["test"].warnings
        assert warning == (
            "there is no test/: 1 of the 3 images of train/ are held out for testing (seed 0). "
            "To test on validation/ instead, give `data.test=validation`"
        )
        assert f"{root.name}: {warning}" in caplog.text
        opened = of(root, test="validation")
        assert list(opened) == ["train", "test"] and len(opened["test"]) == 2
        assert not sources.warnings(opened)

    def test_one_image_a_class_cannot_be_divided(self, tmp_path):
        for name in ("ant", "bee"):
            add(tmp_path / name / "0.jpg", len(name))
        with pytest.raises(UserError, match="no class has a second image, unlike the first, to"):
            of(tmp_path)
        shutil.copy(tmp_path / "ant/0.jpg", tmp_path / "ant/1.jpg")
        with pytest.raises(UserError, match="no class has a second image, unlike the first, to"):
            of(tmp_path)
        assert list(open_unlabelled(tmp_path)) == ["train"]

    def test_one_class_or_none_has_features(self, tmp_path):
        for row in range(4):
            add(tmp_path / f"one/ant/{row}.jpg", 60 * row)
            add(tmp_path / f"flat/{row}.jpg", 60 * row)
            add(tmp_path / f"both/train/{row}.jpg", 60 * row)
        add(tmp_path / "both/test/0.jpg", 200)
        one = open_unlabelled(tmp_path / "one")
        assert {part: len(source) for part, source in one.items()} == {"train": 3, "test": 1}
        flat = open_unlabelled(tmp_path / "flat")
        assert list(flat) == ["train"] and flat["train"].classes == ()
        assert flat["train"].labels().tolist() == [0] * 4 and ids(flat["train"])[0] == "0.jpg"
        assert ids(open_unlabelled(tmp_path / "both")["test"]) == ["test/0.jpg"]
        with pytest.raises(UserError, match="extract and predict take it as it is"):
            of(tmp_path / "flat")

    def test_a_folder_too_high_names_the_one_below(self, tmp_path):
        for name in ("ant", "bee"):
            add(tmp_path / "photos" / name / "0.jpg")
        with pytest.raises(
            UserError, match=r"one folder 'photos', which holds 2 folders; if those"
        ):
            of(tmp_path)


def open_unlabelled(path):
    return sources.open_sources(sources.Data("folder", data_dir=str(path)), labelled=False)


class TestCopies:
    def test_splits_that_share_content_are_refused(self, root, caplog):
        shutil.copy(root / "train/cat/c.Png", root / "test/cat/copy.png")
        os.link(root / "train/dog/b.jpg", root / "test/dog/hard.jpg")
        (root / "test/dog/soft.jpg").symlink_to(root / "train/dog/b.jpg")
        text = (
            r"^3 of 5 images of test are in train too, byte for byte: test/cat/copy.png = "
            r"train/cat/c.Png, test/dog/hard.jpg = train/dog/b.jpg, test/dog/soft.jpg = "
            r"train/dog/b.jpg; remove them .* `data.allow_duplicates=True`$"
        )
        with pytest.raises(UserError, match=text):
            of(root)
        opened = of(root, allow_duplicates=True)
        (warning,) = opened["test"].warnings
        assert warning.startswith("3 of 5 images of test are in train too")

    def test_copies_stay_on_one_side_of_a_division(self, tmp_path):
        for name in ("ant", "bee"):
            for row in range(6):
                add(tmp_path / f"{name}/{row}.png", 10 * row + len(name) + ord(name[0]))
                shutil.copy(tmp_path / f"{name}/{row}.png", tmp_path / f"{name}/{row} copy.png")
        for seed in range(5):
            opened = of(tmp_path, test_fraction=0.4, seed=seed)
            train, test = (set(opened[part].contents()) for part in ("train", "test"))
            assert len(train) + len(test) == 12 and not train & test and len(test) >= 4
            assert len(np.unique(sources.groups(opened["train"]))) == len(train)

    def test_one_image_in_two_classes_is_reported(self, root):
        shutil.copy(root / "train/cat/c.Png", root / "train/dog/c.png")
        assert of(root)["train"].warnings == [
            "1 images are in several classes, byte for byte: train/cat/c.Png = train/dog/c.png"
        ]


def test_a_pattern_names_groups_that_are_not_divided(tmp_path):
    for patient in range(10):
        for number in range(4):
            add(tmp_path / f"{'ab'[patient % 2]}/p{patient}_{number}.png", 10 * patient + number)
    opened = of(tmp_path, group_pattern=r"(p\d+)_")
    names = {part: set(source.group_names()) for part, source in opened.items()}
    assert not names["train"] & names["test"] and len(names["train"] | names["test"]) == 10
    assert len(opened["test"]) == 8
    assert of(tmp_path)["train"].group_names() is None
    # Equal files of two groups bind them together.
    shutil.copy(tmp_path / "a/p0_0.png", tmp_path / "a/p2_9.png")
    source = folder.open_folder(str(tmp_path), "", group_pattern=r"(p\d+)_")
    assert len(np.unique(sources.groups(source))) == 9
    assert len(np.unique(source.group_names())) == 10
    assert source.version == folder.open_folder(str(tmp_path), "").version


def test_a_group_in_two_directories_is_refused(root):
    for name in ("train/cat/p1_a", "test/cat/p1_b", "train/dog/p2_c", "test/dog/p3_c"):
        add(root / f"{name}.png", len(name))
    with pytest.raises(UserError, match=r"^1 group has images in train and in test: p1; put"):
        of(root, group_pattern=r".*?(p\d+)_|.*")
    with pytest.raises(UserError, match=r"^data.group_pattern: .* finds nothing in \d of \d+ path"):
        of(root, group_pattern=r"(p\d+)_")


def test_the_collector_of_circles_works_again_after_a_folder_was_opened(root):
    of(root)
    assert gc.isenabled()
    with pytest.raises(UserError):
        of(root / "no")
    assert gc.isenabled()
    gc.disable()
    try:
        of(root)
        assert not gc.isenabled()  # as it was
    finally:
        gc.enable()
