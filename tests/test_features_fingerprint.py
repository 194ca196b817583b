"""Fingerprints: what they contain, when they change, how differences read."""

import pytest

from tl.features import fingerprint as fp
from tl.weights.catalog import Preprocessing

DATA = {"name": "digits", "split": "train[:10]"}


def test_a_fingerprint_is_what_json_gives_back():
    made = fp.fingerprint(data=DATA, preprocessing=Preprocessing(size=8), endpoints=("a", "b"))
    assert made["endpoints"] == ["a", "b"]
    assert made["preprocessing"]["size"] == 8
    assert made["preprocessing"]["mean"] == [123.675, 116.28, 103.53]


def test_the_order_of_fields_does_not_matter_and_every_value_does():
    base = fp.digest(fp.fingerprint(a=1, b={"c": [1.5, None], "d": "x"}))
    assert len(base) == 16
    assert fp.digest(fp.fingerprint(b={"d": "x", "c": (1.5, None)}, a=1)) == base
    others = [
        {"a": 2, "b": {"c": [1.5, None], "d": "x"}},
        {"a": 1, "b": {"c": [1.5, 0], "d": "x"}},
        {"a": 1, "b": {"c": [1.5, None], "d": "y"}},
        {"a": 1, "b": {"c": [1.5, None], "d": "x"}, "e": None},
    ]
    assert len({base, *(fp.digest(fp.fingerprint(**other)) for other in others)}) == 5


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("cifar10", "train[:5000]", "cifar10_train_5000"),
        ("my-photos/été", "val", "my_photos_été_val"),
    ],
)
def test_a_store_is_named_after_its_images(name, split, expected):
    made = fp.fingerprint(data={"name": name, "split": split})
    assert fp.directory_name(made) == f"{expected}-{fp.digest(made)}"


def test_the_code_version_covers_the_files_that_make_the_numbers(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "resnet.py").write_text("x = 1\n")
    monkeypatch.setattr(fp, "__file__", str(tmp_path / "features" / "fingerprint.py"))
    before = fp.code_version.__wrapped__()
    (tmp_path / "cli.py").write_text("x = 1\n")
    assert fp.code_version.__wrapped__() == before
    (tmp_path / "models" / "resnet.py").write_text("x = 2\n")
    assert fp.code_version.__wrapped__() != before


def test_every_pattern_of_code_matches_a_file():
    package = fp.Path(fp.__file__).parents[1]
    assert all(list(package.glob(pattern)) for pattern in fp.CODE)
