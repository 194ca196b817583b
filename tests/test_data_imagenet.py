from tl.data import imagenet


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
