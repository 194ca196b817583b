import pytest

from tests import studies
from tl.errors import UserError
from tl.studies.plan import make_plan


def test_every_combination_once_and_seeds_change_slowest():
    plan = studies.plan({"method": studies.METHODS, "seed": (0, 1), "examples": (5, 0)})
    assert [run.name for run in plan.runs] == [
        f"{method}-seed{seed}-{examples}"
        for seed in (0, 1)
        for method in ("probe", "tune")
        for examples in ("examples5", "all")
    ]
    assert plan.axes == {
        "method": ("probe", "tune"),
        "seed": ("0", "1"),
        "examples": ("5", "all"),
    }
    first, last = plan.runs[0], plan.runs[-1]
    assert first.levels == {"method": "probe", "seed": "0", "examples": "5"}
    assert (first.kind, last.kind) == ("probe", "finetune")
    assert (first.config.data.examples_per_class, first.config.seeds) == ((5,), (0,))
    assert (last.config.data.examples_per_class, last.config.seeds) == ((0,), (1,))
    assert last.config.train.steps == 4
    assert plan.chosen == {run.name for run in plan.runs}


def test_the_base_is_left_as_it_is():
    config = studies.config()
    make_plan(config)
    assert (config.base.seeds, config.base.train.steps) == ((0,), 0)
    assert config.base.report and not make_plan(config).runs[0].config.report


def test_fields_of_known_axes():
    axes = {
        "weights": ("efficientnet_lite0",),
        "endpoint": ("stem+stage1",),
        "pooling": ("max",),
        "data": ("digits",),
        "solver": ("ridge",),
        "norm": ("frozen",),
        "resolution": (48,),
        "interpolation": ("nearest",),
    }
    (run,) = studies.plan(axes).runs
    assert run.config.endpoints == ("stem+stage1",)
    assert run.config.extract.pooling == "max"
    assert run.config.probe.solvers == ("ridge",)
    assert run.config.train.norm == "frozen"
    assert run.config.preprocess.size == 48
    assert run.config.preprocess.interpolation == "nearest"
    assert run.name == (
        "efficientnet_lite0-stem_stage1-max-digits-ridge-frozen-resolution48-nearest"
    )


def test_later_axes_overrule_earlier_ones():
    axes = {
        "case": {"few": {"train.steps": 3, "train.batch_size": 8}},
        "method": {"short": {"train.steps": 2}},
    }
    (run,) = studies.plan(axes).runs
    assert (run.config.train.steps, run.config.train.batch_size) == (2, 8)


def test_an_integer_serves_as_a_float():
    (run,) = studies.plan({"rate": {"one": {"optim.learning_rate": 1}}}).runs
    assert run.config.optim.learning_rate == 1.0


def test_names_are_those_of_folders():
    axes = {"a/b": {"/x": {}, "日本" * 60: {}, "//": {}}}
    one, long, none = (run.name for run in studies.plan(axes).runs)
    assert (one, none) == ("x", "a_b")
    assert long == "日本" * 25  # 150 bytes
    # Some file systems take these for the same.
    names = [run.name for run in studies.plan({"weights": ("tiny", "Tiny")}).runs]
    assert names == ["tiny", "Tiny-2"]


def test_names_that_would_be_the_same():
    names = [run.name for run in studies.plan({"weights": ("a/b", "a_b", "///")}).runs]
    assert names == ["a_b", "a_b-2", "weights"]


def test_probes_on_the_same_images_store_the_endpoints_of_all():
    axes = {
        "endpoint": ("stem", "stage1+stage2", "pooled"),
        "resolution": (32, 48),
        "examples": (5, 10),
        "seed": (0, 1),
    }
    runs = studies.plan(axes, run="probe").runs
    assert {run.config.extract.shared_endpoints for run in runs} == {
        ("stem", "stage1", "stage2", "pooled")
    }
    assert len({run.extraction for run in runs}) == 2
    by_size = {run.levels["resolution"]: run.extraction for run in runs}
    assert all(run.extraction == by_size[run.levels["resolution"]] for run in runs)


def test_claims_and_the_runs_to_do_now():
    claim = {"text": "few: probe", "where": {"examples": 0}, "advised": {"method": "probe"}}
    config = studies.config(
        {"method": studies.METHODS, "examples": (5, 0), "seed": (0, 1)}, claims=[claim]
    )
    config.only = ("method=probe", "examples=5", "examples=all", "seed=1")
    plan = make_plan(config)
    (judged,) = plan.claims
    assert (judged.where, judged.axis, judged.advised) == ({"examples": "all"}, "method", "probe")
    assert plan.chosen == {"probe-examples5-seed1", "probe-all-seed1"}


@pytest.mark.parametrize(
    ("axes", "arguments", "message"),
    [
        ({}, {"columns": "a"}, "^axes: expected one axis or more"),
        ({"norm": ()}, {}, "^axes.norm: expected one level or more"),
        ({"norm": ("train", "train")}, {}, "^axes.norm: expected every level once, got"),
        (
            {"augmentation": ("a",)},
            {},
            "^axes.augmentation: it is not one field of a run: give it n",
        ),
        ({"a": {"b": {"trian.steps": 1}}}, {}, "axes.a: a run has no field 'trian.steps'; the ne"),
        ({"a": {"b": {"train": 1}}}, {}, "axes.a: a run has no field 'train'"),
        ({"a": {"b": {"train.steps": "1"}}}, {}, "expected train.steps to be such as 0, got '1'"),
        ({"a": {"b": {"train.steps": True}}}, {}, "expected train.steps to be such as 0, got True"),
        ({"a": {"b": {"seeds": ("0",)}}}, {}, r"expected seeds to be such as \(0,\), got \('0',\)"),
        ({"norm": ("train",), "seed": (True,)}, {}, r"expected seeds to be .*, got \(True,\)"),
        ({"a": {"b": {"seeds": 1}}}, {}, r"expected seeds to be such as \(0,\), got 1"),
        ({"norm": ("a",), "seed": ("x",)}, {}, "axes.seed: expected seeds to be"),
        ({"a": {"b": {"run": "tune"}}}, {}, "no kind of run is called 'tune'; the nearest are 'fi"),
        ({"norm": ("train",)}, {"columns": "nrm"}, "^columns: no axis is called 'nrm'"),
        ({"seed": (0,)}, {}, "cells are means over seeds"),
    ],
)
def test_mistakes_in_axes(axes, arguments, message):
    config = studies.config(axes or {"a": {"b": {}}}, **{"columns": "a", **arguments})
    if not axes:
        del config.axes["a"]
    elif "columns" not in arguments:
        config.columns = next(iter(axes))
    with pytest.raises(UserError, match=message):
        make_plan(config)


@pytest.mark.parametrize(
    ("where", "advised", "message"),
    [
        ({"sede": "0"}, {"method": "probe"}, "claim 'c': no axis 'sede'; the nearest are 'seed'"),
        (
            {"seed": 2},
            {"method": "probe"},
            r"claim 'c': seed has no level '2'.*; --config\.claims='\(\)' leaves out",
        ),
        ({}, {"method": "prob"}, "method has no level 'prob'; the nearest are 'probe'"),
        ({}, {}, "claim 'c': expected one axis under advised"),
        ({"method": "tune"}, {"method": "probe"}, "claim 'c': method is under where and under adv"),
    ],
)
def test_mistakes_in_claims(where, advised, message):
    config = studies.config(claims=[{"text": "c", "where": where, "advised": advised}])
    with pytest.raises(UserError, match=message):
        make_plan(config)


@pytest.mark.parametrize("claim", [3, {"text": "c", "advised": {"method": "probe"}}])
def test_claims_that_are_none(claim):
    config = studies.config()
    config.claims = (claim,)
    with pytest.raises(UserError, match=r"^claims: expected each to have text, where and advised"):
        make_plan(config)


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("methd=probe", "no axis is called 'methd'"),
        ("seed=7", "seed has no level '7'"),
        (3, "no axis is called '3'"),
    ],
)
def test_mistakes_in_only(only, message):
    config = studies.config()
    config.only = (only,)
    with pytest.raises(UserError, match=f"^only: {message}"):
        make_plan(config)
