import pytest

from tl.data import imagenet
from tl.errors import UserError


def test_a_thousand_classes_in_the_order_of_the_logits():
    names, wnids = imagenet.names(), imagenet.wnids()
    assert len(names) == len(wnids) == 1000
    assert list(wnids) == sorted(set(wnids))
    assert (wnids[0], names[0]) == ("n01440764", "tench")
    assert [names[i] for i in (282, 967, 985, 999)] == [
        "tiger cat", "espresso", "daisy", "toilet tissue",
    ]  # fmt: skip


def test_the_two_names_that_stand_for_two_classes():
    names = imagenet.names()
    assert {name for name in names if names.count(name) > 1} == {"crane", "maillot"}


def test_classes_are_found_by_id_or_name():
    found = imagenet.indices(["n02123159", "Tiger cat", "tiger_cat", "espresso", "daisy"])
    assert found.tolist() == [282, 282, 282, 967, 985]


def test_other_classes_and_shared_names_are_named():
    with pytest.raises(UserError, match=r"2 of 3 classes are not ImageNet's: frog prince, crane;"):
        imagenet.indices(["tench", "frog prince", "crane"])
