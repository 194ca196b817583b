"""Paths of leaves: patterns, parts of a tree, and what differs between two."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tl import tree
from tl.errors import UserError

NETWORK = {
    "stem": {"conv": {"kernel": 1}, "bn": {"scale": 2, "bias": 3}},
    "stage1": {"block1": {"conv1": {"bn": {"scale": 4}}}},
    "stage10": {"conv": {"kernel": 5}},
    "head": {"kernel": 6, "bias": 7},
}
PATHS = [
    "stem/conv/kernel", "stem/bn/scale", "stem/bn/bias", "stage1/block1/conv1/bn/scale",
    "stage10/conv/kernel", "head/kernel", "head/bias",
]  # fmt: skip


def test_leaves_keep_the_order_and_unflatten_brings_them_back():
    assert tree.leaves(NETWORK) == dict(zip(PATHS, range(1, 8)))
    assert list(tree.leaves(NETWORK)) == PATHS
    assert tree.unflatten(tree.leaves(NETWORK)) == NETWORK
    assert tree.leaves({}) == {} == tree.unflatten({})


def test_map_with_path():
    mapped = tree.map_with_path(lambda path, leaf: f"{path}={leaf}", {"a": {"b": 1}, "c": 2})
    assert mapped == {"a": {"b": "a/b=1"}, "c": "c=2"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("stem", ["stem/conv/kernel", "stem/bn/scale", "stem/bn/bias"]),
        ("stem/bn", ["stem/bn/scale", "stem/bn/bias"]),
        ("stem/bn/bias", ["stem/bn/bias"]),
        # A name is a whole one: stage1 is not the beginning of stage10.
        ("stage1", ["stage1/block1/conv1/bn/scale"]),
        ("stage*", ["stage1/block1/conv1/bn/scale", "stage10/conv/kernel"]),
        ("stage?", ["stage1/block1/conv1/bn/scale"]),
        ("stage[0-9]", ["stage1/block1/conv1/bn/scale"]),
        ("stage[2-9]", []),
        ("*/bn", ["stem/bn/scale", "stem/bn/bias", "stage1/block1/conv1/bn/scale"]),
        ("*/bias", ["stem/bn/bias", "head/bias"]),
        ("bn", []),
        ("Stem", []),
        ("", []),
        ("*", PATHS),
    ],
)
def test_patterns(pattern, expected):
    assert [path for path in PATHS if tree.matches(path, pattern)] == expected


def test_select_unites_the_patterns():
    assert tree.select(PATHS, ("head", "*/bias"), "--x") == {
        "head/kernel", "head/bias", "stem/bn/bias",
    }  # fmt: skip
    assert tree.select(PATHS, (), "--x") == frozenset()
    assert tree.select(iter(PATHS), ("head", "stem/conv"), "--x") == {
        "head/kernel", "head/bias", "stem/conv/kernel",
    }  # fmt: skip


def test_a_pattern_of_nothing_is_named_with_what_there_is():
    with pytest.raises(UserError) as caught:
        tree.select(PATHS, ("head", "stage11"), "train.freeze")
    text = str(caught.value)
    assert text.startswith("train.freeze: 'stage11' matches no parameter; the nearest are")
    assert "'stage1'" in text
    assert text.endswith(
        "a stage (stem, stage1, stage10, head) or a path, such as 'stem/conv/kernel' or '*/bn'"
    )


def test_partition_and_merge_are_inverse():
    chosen = {"stem/bn/scale", "head/kernel", "not/there"}
    inside, outside = tree.partition(NETWORK, chosen)
    assert inside == {"stem": {"bn": {"scale": 2}}, "head": {"kernel": 6}}
    assert outside["head"] == {"bias": 7} and "scale" not in outside["stem"]["bn"]
    assert tree.merge(outside, inside) == tree.merge(inside, outside) == NETWORK
    assert tree.partition(NETWORK, ()) == ({}, NETWORK)
    assert tree.partition(NETWORK, PATHS) == (NETWORK, {})


def test_the_second_tree_of_a_merge_wins_and_neither_changes():
    first, second = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}
    assert tree.merge(first, second) == {"a": {"b": 3, "c": 2}, "d": 4}
    assert (first, second) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4})


def test_named_leaves_of_an_optimizers_state():
    state = optax.adam(0.1).init({"head": {"kernel": jnp.zeros(2)}})
    assert sorted(tree.named_leaves(state)) == [
        "0/count", "0/mu/head/kernel", "0/nu/head/kernel",
    ]  # fmt: skip
    assert tree.named_leaves({"a": None, "b": [1, (2,)]}) == {"b/0": 1, "b/1/0": 2}


def test_differences():
    expected = {
        "same": np.zeros((2, 3)),
        "shape": np.zeros((2, 3)),
        "dtype": np.zeros(2, np.float32),
        "gone": np.zeros(1),
        "number": 1,
    }
    found = {
        "same": np.ones((2, 3)),
        "shape": np.zeros((3, 2)),
        "dtype": np.zeros(2, np.float64),
        "new": (np.zeros((), np.int32),),
        "number": 2,
    }
    assert tree.differences(expected, found) == [
        "dtype: expected float32[2], found float64[2]",
        "gone: expected float64[1], found nothing",
        "new/0: expected nothing, found int32[]",
        "shape: expected float64[2, 3], found float64[3, 2]",
    ]
    assert tree.differences(expected, expected) == []


def test_shapes_compare_with_arrays():
    arrays = {"a": jnp.zeros((2, 3)), "b": jnp.zeros((), jnp.int32)}
    assert tree.differences(jax.eval_shape(lambda: arrays), arrays) == []


def test_the_digest_sees_names_types_shapes_and_numbers():
    ones = np.ones((2, 3), np.float32)
    changed = ones.copy()
    changed[1, 2] = np.nextafter(np.float32(1), np.float32(2))
    trees = [
        {"a": ones, "b": ones},
        {"a": ones, "c": ones},
        {"a": ones, "b": ones.T},
        {"a": ones, "b": ones.view(np.int32)},
        {"a": ones, "b": changed},
    ]
    digests = [tree.digest(variables) for variables in trees]
    assert len(set(digests)) == len(trees)
    assert tree.digest({"b": ones.copy(), "a": ones}) == digests[0]
