import numpy as np

from tl.results import warnings


def of(train, val, test, **fields):
    counts = {"train": train, "val": val, "test": test}
    labels = {part: np.repeat(np.arange(len(n)), n) for part, n in counts.items()}
    return warnings.of_parts(labels, [f"c{i}" for i in range(len(train))], **fields)


def test_enough_images_need_no_word():
    assert of((5, 6), (25, 25), (3, 9), chosen=False) == []


def test_few_images_are_named_with_their_numbers():
    assert of((4, 5, 0), (49, 0, 0), (2, 3, 0), chosen=False) == [
        "1 of 3 classes have fewer than 3 test images: c0 (2)",
        "no training image is of c2",
        "1 of 3 classes have fewer than 5 training images: c0 (4)",
        "val has 49 images, fewer than 50: what is best on them may be chance",
    ]


def test_a_number_of_examples_that_was_asked_for_is_no_surprise():
    assert of((1, 1), (30, 30), (3, 3), chosen=True) == []


def test_at_most_ten_classes_are_named():
    (text,) = warnings.of_labels(np.arange(12), [f"c{i}" for i in range(12)])
    assert text.startswith("12 of 12 classes") and text.endswith(", c9 (1), ...")


def test_few_steps_of_a_head_that_starts_from_nothing():
    assert warnings.of_steps(99, "zero") == [
        "99 steps are few for a head that starts from nothing; start it from the probe with "
        "train.head=probe, or train longer with train.min_steps=100"
    ]
    assert len(warnings.of_steps(1, "random")) == 1
    for steps, head in ((100, "zero"), (0, "random"), (1, "probe"), (1, "keep")):
        assert warnings.of_steps(steps, head) == []


def test_warnings_are_lines_of_the_log():
    lines = []
    warnings.tell(["a", "b"], lines.append)
    assert lines == ["warning: a", "warning: b"]


def test_classes_with_fewer_images_than_folds():
    assert of((5, 4), (45, 5), (3, 3), folds=5) == [
        "1 of 2 classes have fewer than 5 training images: c1 (4); not every one of 5 folds "
        "chooses on them",
    ]
    assert of((2, 2), (30, 10), (3, 3), folds=2, chosen=True) == [
        "2 folds choose on 40 images, fewer than 50: what is best on them may be chance"
    ]
    assert of((2, 5), (30, 30), (3, 3), folds=2) == [
        "1 of 2 classes have fewer than 5 training images: c0 (2)"
    ]
