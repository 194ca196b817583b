import numpy as np
import pytest

from tl.errors import UserError
from tl.inference import probe as probe_module
from tl.inference.probe import fit_probe
from tl.probes.solvers import Logistic


def blobs(count, seed=0, noise=0.3):
    """Returns features [N, 2] and labels of two clouds, the second shifted by 2 along both axes."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(count) % 2
    return rng.normal(2.0 * numbers[:, None], noise, (count, 2)), np.array(["a", "b"])[numbers]


def test_separable_rows():
    features, labels = blobs(50)
    probe = fit_probe(features, labels)
    assert probe.classes.tolist() == ["a", "b"]
    assert probe.test.top1 == 1.0 and probe.test.count == len(probe.test_rows) == 10
    assert "val has 8 images, fewer than 50" in probe.warnings[0]
    assert probe.predict([[0.0, 0.0], [2.0, 2.0]]).tolist() == ["a", "b"]
    p = probe.probabilities([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    assert p[0, 0] > 0.9 and p[2, 1] > 0.9
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_the_best_endpoint_is_chosen_on_val():
    features, labels = blobs(60)
    noise = np.random.default_rng(1).normal(size=(60, 3))
    probe = fit_probe({"noise": noise, "blobs": features}, labels, solvers=("ridge", "knn"))
    assert probe.endpoint == "blobs" and probe.solver in ("ridge", "knn")
    assert probe.predict({"blobs": features[:2]}).tolist() == ["a", "b"]


def test_test_rows_of_your_own_are_not_fitted():
    features, labels = blobs(40)
    other, flipped = blobs(20, seed=5)
    probe = fit_probe(features, labels, test=(other, flipped[::-1]), solvers=(Logistic((0.1,)),))
    assert probe.test.top1 == 0.0 and probe.test.count == 20 and len(probe.test_rows) == 0
    assert probe.setting == {"l2": 0.1}


def test_labels_may_be_numbers():
    features, labels = blobs(40)
    assert fit_probe(features, np.where(labels == "a", 7, 3)).predict(features[:2]).tolist() == [
        7,
        3,
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": ["a"] * 40}, "expected labels of two classes or more, got 1"),
        ({"labels": ["a", "b"]}, r"expected features \[N, D\] of the 2 labels, got \[40, 2\]"),
        ({"solvers": ("svm",)}, "no solver is called 'svm'"),
        ({"test": ([[0.0, 0.0]], ["c"])}, r"expected test labels that train has, got \['c'\]"),
        ({"groups": [1, 2]}, "expected 40 groups, one for each label, got 2"),
        (
            {"val": "0.2"},
            r"expected val as a share in \(0, 1\), or folds such as '5fold', got '0.2'",
        ),
        ({"val": "50fold"}, "50 folds were asked for, but 32 rows make at most 17"),
        ({"test": 1.5}, "expected a share to hold out between 0 and 1, got 1.5"),
        ({"solvers": ()}, "expected one solver or more of .*logistic.*, got none"),
        (
            {"labels": np.eye(2)[np.arange(40) % 2]},
            r"a list with one label .* \[40, 2\]; labels.arg",
        ),
        ({"labels": [0.0, 1.0] * 19 + [0.0, np.nan]}, "row 39 has no label, but nan; give it one"),
        ({"labels": [None] + ["a"] * 39}, "row 0 has no label, but None"),
        ({"groups": [None] + ["a"] * 39}, "row 0 has no group, but None"),
        ({"features": {}}, "expected features of one endpoint or more, got none"),
        (
            {"features": np.zeros((40, 0))},
            r"expected features \[N, D\] of the 40 .*, got \[40, 0\]",
        ),
        ({"test": ([[0.0]], ["a"])}, r"expected features \[N, 2\], got \[1, 1\]"),
        ({"test": ([[0.0, 0.0]], ["a", "b"])}, "test label for each row, got 2 labels and 1 rows"),
        ({"test": ({"stem": [[0.0, 0.0]]}, ["a"])}, "one array without an endpoint, got 'stem'"),
    ],
)
def test_mistakes(change, message):
    features, labels = blobs(40)
    with pytest.raises(UserError, match=message):
        fit_probe(**{"features": features, "labels": labels, **change})


def test_what_is_no_number_is_no_feature():
    for values in (["a"], np.ones((1, 2)) * 1j, (row for row in [])):
        with pytest.raises(UserError, match=r"expected features as numbers \[N, D\], got "):
            probe_module._floats(values)


def test_a_share_that_is_none():
    with pytest.raises(UserError, match=r"expected test as a share .*, got '0\.2'"):
        probe_module._test_of("0.2")


def test_predicting_what_does_not_fit():
    features, labels = blobs(40)
    probe = fit_probe(features, labels)
    assert probe.width == 2 and probe.predict(np.zeros((0, 2))).tolist() == []
    with pytest.raises(UserError, match=r"expected features \[N, 2\], got \[1, 3\]"):
        probe.predict(np.zeros((1, 3)))
    with pytest.raises(UserError, match="1 of 3 rows hold NaN or infinity, the first is row 1"):
        probe.probabilities([[0.0, 0.0], [np.nan, 0.0], [1.0, 1.0]])
    named = fit_probe({"stem": features}, labels)
    with pytest.raises(UserError, match="expected features of the endpoint 'stem', got 'pooled'"):
        named.predict({"pooled": features})
    with pytest.raises(UserError, match=r"of the endpoint 'stem', got one array$"):
        named.predict(features)
    with pytest.raises(UserError, match=r"of one array without an endpoint, got 'stem'$"):
        probe.predict({"stem": features})


def test_too_few_rows():
    with pytest.raises(UserError, match="no row is left for val; give more rows of each class"):
        fit_probe(np.zeros((4, 2)), ["a", "a", "b", "b"])


def test_folds_choose_on_every_row_that_is_not_tested():
    features, labels = blobs(50)
    probe = fit_probe(features, labels, val="5fold", solvers=(Logistic((1.0, 0.1)),))
    assert probe.test.top1 == probe.val_top1 == 1.0 and probe.test.count == 10
    assert probe.warnings[0] == (
        "5 folds choose on 40 images, fewer than 50: what is best on them may be chance"
    )
    again = fit_probe(features, labels, solvers=(Logistic((1.0, 0.1)),))
    assert again.test_rows.tolist() == probe.test_rows.tolist()


@pytest.mark.parametrize("val", [0.25, "4fold"])
def test_groups_are_kept_whole(val):
    groups = np.array([f"p{row // 6}" for row in range(120)])
    # Features that tell nothing but the group: only a parted group could be recognised.
    alike = np.random.default_rng(0).normal(size=(20, 8))[np.arange(120) // 6]
    labels = np.where(np.random.default_rng(1).integers(0, 2, 20)[np.arange(120) // 6], "a", "b")
    probe = fit_probe(alike, labels, val=val, solvers=("knn",), groups=groups)
    tested = set(groups[probe.test_rows])
    assert len(probe.test_rows) == 6 * len(tested)
    assert probe.test.as_dict()["groups"] == len(tested)
    assert probe.val_top1 < 0.9
    parted = fit_probe(alike, labels, val=val, solvers=("knn",))
    assert parted.val_top1 == 1.0 and parted.test.groups is None


def test_groups_of_test_rows_of_your_own_are_not_asked_for():
    features, labels = blobs(40)
    probe = fit_probe(features, labels, test=blobs(20, seed=5), groups=np.arange(40) // 4)
    assert probe.test.groups is None and probe.test.count == 20
