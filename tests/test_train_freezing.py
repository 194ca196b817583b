"""What is frozen, as one fact: patterns, batch normalisation, phases, prefix, tables."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from tests.networks import tiny_resnet
from tl import tree
from tl.errors import UserError
from tl.models import lora
from tl.models.backbone import Backbone, blocks
from tl.models.resnet import ResNet
from tl.train import freezing as fr
from tl.train.optim import decayed
from tl.train.schedules import multipliers

ENDPOINTS = ("stem", "stage1", "stage2", "stage3", "stage4")
AFFINE = ("/bn/scale", "/bn/bias")


@pytest.fixture(scope="module")
def variables():
    return jax.eval_shape(tiny_resnet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def under(paths, *modules):
    return {path for path in paths if path.split("/")[0] in modules}


def test_a_stage_takes_its_parameters_and_statistics(variables):
    found = fr.make_freezing(variables, ("stem", "stage1"), "train")
    assert found.params == under(tree.leaves(variables["params"]), "stem", "stage1")
    assert found.statistics == under(tree.leaves(variables["batch_stats"]), "stem", "stage1")
    assert {"stem/bn/mean", "stem/bn/var"} < found.statistics


def test_nothing_is_frozen_without_patterns(variables):
    assert fr.make_freezing(variables, (), "train") == fr.Freezing(frozenset(), frozenset())


@pytest.mark.parametrize("norm", ["affine", "frozen", "recalibrate"])
def test_norm_holds_all_statistics_and_maybe_scale_and_bias(variables, norm):
    found = fr.make_freezing(variables, ("stem/conv",), norm)
    assert found.statistics == tree.leaves(variables["batch_stats"]).keys()
    affine = {path for path in tree.leaves(variables["params"]) if path.endswith(AFFINE)}
    assert len(affine) == len(found.statistics)
    assert found.params == {"stem/conv/kernel"} | (affine if norm != "affine" else set())


@pytest.mark.parametrize("leaf", ["mean", "var"])
def test_mean_and_variance_stay_together(variables, leaf):
    found = fr.make_freezing(variables, (f"stem/bn/{leaf}",), "train")
    assert found == fr.Freezing(frozenset(), frozenset({"stem/bn/mean", "stem/bn/var"}))


def test_patterns_of_normalisation_alone(variables):
    found = fr.make_freezing(variables, ("*/bn",), "train")
    assert found == fr.make_freezing(variables, (), "frozen")
    found = fr.make_freezing(variables, ("stem/bn/scale", "stem/conv"), "train")
    assert found == fr.Freezing(frozenset({"stem/bn/scale", "stem/conv/kernel"}), frozenset())


@pytest.mark.parametrize("statistics", [{}, {"batch_stats": {}}])
def test_a_network_without_batch_statistics(statistics):
    variables = {"params": {"stem": {"a": 1}, "head": {"a": 2}}, **statistics}
    found = fr.make_freezing(variables, ("stem",), "train")
    assert found == fr.Freezing(frozenset({"stem/a"}), frozenset())
    for norm in ("affine", "frozen"):  # so that a config for ResNets does for others
        assert fr.make_freezing(variables, ("stem",), norm) == found
    with pytest.raises(UserError) as caught:
        fr.make_freezing(variables, ("stem",), "recalibrate")
    assert str(caught.value) == (
        "train.norm: the network has no batch normalisation whose statistics could be estimated; "
        "expected 'train', got 'recalibrate'"
    )


@pytest.mark.parametrize(
    "freeze, norm, message",
    [
        (("stage9",), "train", r"^train.freeze: 'stage9' matches no parameter; the near"),
        (
            ("*",),
            "train",
            r"^train.freeze: \('\*',\) leaves none of 62 arrays .* such as the head's",
        ),
        (("*/conv", "head"), "frozen", r"leaves none of 62 arrays"),
        ((), "freeze", r"^train.norm: there is no 'freeze'; the nearest are 'frozen'"),
    ],
)
def test_what_cannot_be_frozen_is_refused(variables, freeze, norm, message):
    with pytest.raises(UserError, match=message):
        fr.make_freezing(variables, freeze, norm)


def test_train_mode_norms_are_the_modules_around_bn(variables):
    statistics = variables["batch_stats"]
    found = fr.train_mode_norms(fr.make_freezing(variables, ("stage*",), "train"), statistics)
    assert found == {"stem"}
    found = fr.train_mode_norms(
        fr.make_freezing(variables, ("stem", "stage[1-3]"), "train"), statistics
    )
    block = "stage4/block1"
    assert found == {f"{block}/{name}" for name in ("conv1", "conv2", "conv3", "downsample")}
    assert fr.train_mode_norms(fr.make_freezing(variables, (), "affine"), statistics) == frozenset()
    assert len(fr.train_mode_norms(fr.make_freezing(variables, (), "train"), statistics)) == 20


def test_phases_unfreeze_from_their_step_on(variables):
    freeze = ("stem", "stage*")
    unfreeze = ("stage3@50", "stage4@10", "stage3/block1/conv1/bn@10", "stage[12]@50")
    found = fr.phases(variables, freeze, unfreeze, "train", 60)
    assert [(phase.start, phase.end) for phase in found] == [(0, 10), (10, 50), (50, 60)]
    params, statistics = (tree.leaves(variables[name]) for name in ("params", "batch_stats"))
    norm = "stage3/block1/conv1/bn/"
    first, second, third = (phase.freezing for phase in found)
    assert first == fr.make_freezing(variables, freeze, "train")
    frozen = under(params, "stem", "stage1", "stage2", "stage3")
    assert second.params == frozen - {norm + "scale", norm + "bias"}
    frozen = under(statistics, "stem", "stage1", "stage2", "stage3")
    assert second.statistics == frozen - {norm + "mean", norm + "var"}
    assert third == fr.make_freezing(variables, ("stem",), "train")


def test_without_unfreeze_there_is_one_phase(variables):
    (phase,) = fr.phases(variables, ("stem",), (), "affine", 7)
    assert phase == fr.Phase(0, 7, fr.make_freezing(variables, ("stem",), "affine"))


def test_norm_holds_what_is_unfrozen(variables):
    *_, last = fr.phases(variables, ("stage*",), ("stage4@3",), "frozen", 7)
    unfrozen = under(tree.leaves(variables["params"]), "stage4") - last.freezing.params
    assert unfrozen and all(path.endswith("/conv/kernel") for path in unfrozen)


@pytest.mark.parametrize(
    "unfreeze, message",
    [
        (("stage4",), r"^train.unfreeze: expected PATTERN@STEP, .* got 'stage4'"),
        (("@3",), r"expected PATTERN@STEP"),
        (("stage4@1.5",), r"expected PATTERN@STEP"),
        (("stage4@-1",), r"expected PATTERN@STEP"),
        (("stage4@0",), r"expected a step from 1 to 6, of a run of 7, got 'stage4@0'"),
        (("stage4@7",), r"expected a step from 1 to 6"),
        (("stage5@3",), r"^train.unfreeze: 'stage5' matches no parameter"),
        (
            ("head@3",),
            r"'head' unfreezes nothing at step 3; .*freeze=\('stage\*',\)` still freezes",
        ),
        (("stage4@3", "stage4@3"), r"'stage4' unfreezes nothing at step 3"),
        (("stage4/*@3", "stage4@5"), r"'stage4' unfreezes nothing at step 5"),
    ],
)
def test_an_unusable_unfreeze_is_refused(variables, unfreeze, message):
    with pytest.raises(UserError, match=message):
        fr.phases(variables, ("stage*",), unfreeze, "train", 7)


def test_unfreezing_what_norm_holds_is_refused(variables):
    with pytest.raises(UserError, match=r"'\*/bn' unfreezes nothing .*norm=recalibrate` does not"):
        fr.phases(variables, ("stage*",), ("*/bn@3",), "recalibrate", 7)


@pytest.mark.parametrize(
    "freeze, norm, prefix",
    [
        ((), "train", None),
        (("stage1",), "train", None),
        (("stem",), "train", "stem"),
        (("stem/*", "stage[12]", "stage4"), "train", "stage2"),
        (("stem", "stage*"), "train", "stage4"),
        (("stem/conv",), "train", None),  # its normalisation still moves
        (("stem/conv", "stage1/*/conv"), "frozen", "stage1"),
        (("stem/conv", "stem/bn/scale", "stem/bn/bias"), "train", None),  # its statistics do
        (("stem/conv", "stem/bn/scale", "stem/bn/bias"), "affine", "stem"),
    ],
)
def test_the_prefix_ends_before_the_first_thing_that_moves(variables, freeze, norm, prefix):
    found = fr.make_freezing(variables, freeze, norm)
    assert fr.frozen_prefix(variables, found, ENDPOINTS) == prefix
    assert fr.frozen_prefix(variables, found, (*ENDPOINTS, "pooled", "head")) == prefix


SMALL = {
    "params": {
        "head": {"bias": jnp.zeros(2), "kernel": jnp.zeros((600, 2))},
        "stage1": {
            "block1": {"conv": {"kernel": jnp.zeros((3, 3, 8, 16))}, "bn": {"scale": jnp.ones(16)}},
            "block2": {
                "conv": {"kernel": jnp.zeros((3, 3, 16, 16))},
                "bn": {"scale": jnp.ones(16)},
            },
        },
        "stem": {"conv": {"kernel": jnp.zeros((3, 3, 3, 8))}},
    },
    "batch_stats": {
        "stage1": {
            block: {"bn": {"mean": jnp.zeros(16), "var": jnp.ones(16)}}
            for block in ("block1", "block2")
        }
    },
}


BACKBONE = Backbone("small", ResNet, {}, {}, ("stem", *blocks((2,)), "head"), ())


def tables(freeze, norm="train"):
    paths = tree.leaves(SMALL["params"])
    found = fr.make_freezing(SMALL, freeze, norm)
    rates = multipliers(paths, ("head=10",), 0.5, BACKBONE)
    arguments = (SMALL, found, rates, decayed(paths), BACKBONE)
    return fr.table(*arguments), fr.leaf_table(*arguments)


def cells(text):
    lines = [line for line in text.splitlines() if not line.startswith("-")]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_table_by_hand():
    table, _ = tables(("stem", "stage1/block1"))
    assert cells(table) == [
        [
            "module",
            "leaves that train",
            "parameters that train",
            "statistics",
            "learning rate x",
            "leaves decayed",
        ],
        ["stem", "0 / 1", "0 / 216", "-", "-", "0"],
        ["stage1", "2 / 4", "2,320 / 3,488", "some move", "0.5", "1"],
        ["head", "2 / 2", "1,202 / 1,202", "-", "10", "1"],
        ["total", "4 / 7", "3,522 / 4,906", "some move", "0.5 - 10", "2"],
    ]
    assert cells(tables(())[0])[2][3:] == ["move", "0.25 - 0.5", "2"]
    assert cells(tables((), "affine")[0])[2][3] == "stay"


def test_leaf_table_by_hand():
    _, table = tables(("stem", "stage1/block1"))
    assert cells(table) == [
        ["leaf", "shape", "state", "learning rate x", "decay"],
        ["stem/conv/kernel", "[3, 3, 3, 8]", "frozen", "-", "-"],
        ["stage1/block1/conv/kernel", "[3, 3, 8, 16]", "frozen", "-", "-"],
        ["stage1/block1/bn/scale", "[16]", "frozen", "-", "-"],
        ["stage1/block1/bn/mean", "[16]", "stay", "-", "-"],
        ["stage1/block1/bn/var", "[16]", "stay", "-", "-"],
        ["stage1/block2/conv/kernel", "[3, 3, 16, 16]", "train", "0.5", "decayed"],
        ["stage1/block2/bn/scale", "[16]", "train", "0.5", "-"],
        ["stage1/block2/bn/mean", "[16]", "move", "-", "-"],
        ["stage1/block2/bn/var", "[16]", "move", "-", "-"],
        ["head/bias", "[2]", "train", "10", "-"],
        ["head/kernel", "[600, 2]", "train", "10", "decayed"],
    ]


def test_table_totals_are_those_of_the_network(variables):
    paths = tree.leaves(variables["params"])
    found = fr.make_freezing(variables, ("stem",), "train")
    backbone = dataclasses.replace(BACKBONE, layers=("stem", *blocks((2, 1, 1, 1)), "head"))
    rates = multipliers(paths, (), 1.0, backbone)
    total = cells(fr.table(variables, found, rates, decayed(paths), backbone))[-1]
    size = sum(leaf.size for leaf in paths.values())
    stem = sum(leaf.size for path, leaf in paths.items() if path.startswith("stem/"))
    assert total[1:3] == [f"{len(paths) - 3} / {len(paths)}", f"{size - stem:,} / {size:,}"]


def test_an_exclamation_mark_takes_out_of_what_is_frozen(variables):
    freezing = fr.make_freezing(variables, ("*", "!head", "!*/bias"), "train")
    params = tree.leaves(variables["params"])
    trains = {path for path in params if path.startswith("head/") or path.endswith("/bias")}
    assert freezing.params == params.keys() - trains
    assert freezing.statistics == tree.leaves(variables["batch_stats"]).keys()
    for freeze, message in (
        (("!head",), r"^train.freeze: '!head' takes nothing out of what the other patterns mean"),
        (("stem", "!head"), r"^train.freeze: '!head' takes nothing out"),
        (("*", "!haed"), r"^train.freeze: '!haed' matches no parameter; the nearest are 'head'"),
    ):
        with pytest.raises(UserError, match=message):
            fr.make_freezing(variables, freeze, "train")


def test_what_is_added_to_a_kernel_always_trains(variables):
    params = lora.added(variables["params"], ("stage1",), 1, seed=0)
    freezing = fr.make_freezing({**variables, "params": params}, ("*", "!head"), "train")
    trains = tree.leaves(params).keys() - freezing.params
    assert {path for path in trains if not path.startswith("head/")} == {
        path for path in tree.leaves(params) if lora.is_matrix(path)
    }
