import pytest

from configs import common
from tl.errors import UserError
from tl.probes.solvers import Head, Knn, Logistic, Ridge
from tl.runs import options
from tl.train.loop import Cadence
from tl.train.losses import LOSSES
from tl.weights.spec import WeightChoice


def config(**fields):
    values = common.get_config()
    values.update_from_flattened_dict(fields)
    return values


def test_every_endpoint_is_extracted_once_whatever_it_is_joined_with():
    extraction = options.extraction(config(endpoints=("stage2+stage1", "stage1", "pixels")))
    assert extraction.endpoints == ("stage2", "stage1", "pixels")
    assert extraction.batch_size == 64


def test_solvers_get_their_fields():
    fields = {
        "probe.solvers": ("head", "knn", "ridge", "logistic"),
        "probe.l2": (0.5,),
        "probe.k": (3,),
        "probe.temperature": (0.1,),
        "probe.epochs": 2,
    }
    assert options.solvers(config(**fields)) == [
        Head(epochs=2, batch_size=32, learning_rate=1e-3, dropout=0.3),
        Knn((3,), (0.1,)),
        Ridge((0.5,)),
        Logistic((0.5,), 1000, 1e-8, 1e-6),
    ]


def test_the_default_grid_is_simclrs():
    l2 = config().probe.l2
    assert (len(l2), l2[0], l2[-1]) == (45, 1e-6, pytest.approx(1e5))


def test_features_are_kept_beside_the_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TL_CACHE", str(tmp_path))
    assert options.feature_root(config()) == tmp_path / "features"
    assert options.feature_root(config(**{"extract.feature_dir": "elsewhere"})).name == "elsewhere"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": ()}, "^seeds: expected one or more, each once; got"),
        ({"endpoints": ("stem", "stem")}, "^endpoints: expected one or more, each once"),
        ({"probe.k": (3, 3)}, "^probe.k: expected one or more, each once"),
        ({"seeds": (-1,)}, "^seeds: expected seeds of at least 0"),
    ],
)
def test_lists_that_cannot_be(fields, message):
    with pytest.raises(UserError, match=message):
        options.check_lists(config(**fields))


def test_a_negative_number_of_threads():
    with pytest.raises(UserError, match=r"^extract\.threads: expected at least 0, got -1"):
        options.extraction(config(**{"extract.threads": -1}))


def test_a_run_names_what_it_requires_beside_what_it_shares():
    fields = {"extract.endpoints": ("c", "b"), "extract.shared_endpoints": ("d", "a")}
    values = config(endpoints=("a+b", "b"), **fields)
    wanted = options.features(values)
    assert wanted.extraction.endpoints == ("d", "a", "c", "b")
    assert wanted.required == {"endpoints": ("a", "b"), "extract.endpoints": ("c", "b")}
    other = options.features(values, endpoints=("logits",))
    assert other.extraction.endpoints == ("d", "a", "c", "b", "logits")
    assert other.required["endpoints"] == ("logits",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"endpoints": ("a", "b+c+b")}, "^endpoints: expected every part of 'b.c.b' once"),
        (
            {"extract.endpoints": ("a+a",)},
            r"^extract\.endpoints: expected every part of 'a.a'",
        ),
    ],
)
def test_a_joined_endpoint_has_every_part_once(fields, message):
    with pytest.raises(UserError, match=message):
        options.features(config(**fields))


def recipe(num_examples=100, image_shape=(8, 8, 3), **fields):
    return options.recipe(config(**fields), num_examples, image_shape)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Cadence(31, 3.125, 3)),  # 10 epochs of 100 / 32 steps
        ({"train.epochs": 0.5}, Cadence(2, 3.125, 3)),
        ({"train.steps": 7, "train.batch_size": 400}, Cadence(7, 0.25, 1)),
        ({"train.epochs": 0.0}, Cadence(0, 3.125, 3)),
        ({"train.min_steps": 31}, Cadence(31, 3.125, 3)),
        ({"train.min_steps": 50}, Cadence(50, 3.125, 5)),  # ten evaluations, as ten epochs have
        ({"train.min_steps": 50, "train.epochs": 0.5}, Cadence(50, 3.125, 50)),
        ({"train.min_steps": 50, "train.eval_every": 4}, Cadence(50, 3.125, 4)),
        ({"train.min_steps": 50, "train.steps": 7}, Cadence(7, 3.125, 3)),
        (
            {
                "train.eval_every": 5,
                "train.checkpoint_every": 2,
                "train.log_every": 4,
                "train.patience": 6,
            },
            Cadence(31, 3.125, 5, 2, 4, 6),
        ),
    ],
)
def test_cadence(fields, expected):
    assert recipe(**fields).cadence == expected


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, "at least 1, got 0"),
        ("accumulate", 0, "at least 1, got 0"),
        ("epochs", -0.5, "at least 0, got -0.5"),
        ("epochs", float("nan"), "at least 0, got nan"),
        ("steps", -1, "at least 0, got -1"),
        ("min_steps", -1, "at least 0, got -1"),
        ("eval_every", -1, "at least 0, got -1"),
        ("checkpoint_every", -1, "at least 0, got -1"),
        ("max_to_keep", 0, "at least 1, got 0"),
        ("patience", -1, "at least 0, got -1"),
        ("log_every", 0, "at least 1, got 0"),
        ("label_smoothing", 1.0, r"a share in \[0, 1\), got 1.0"),
        ("dropout", -0.1, r"a share in \[0, 1\), got -0.1"),
        ("drop_path", 1.0, r"a share in \[0, 1\), got 1.0"),
        ("ema_decay", float("nan"), r"a share in \[0, 1\), got nan"),
        ("norm_momentum", "x", r"a number in \[0, 1\), 'kornblith', or '' .*, got 'x'"),
        ("norm_momentum", "1", r"a number in \[0, 1\), .* got 1.0"),
        ("norm_momentum", "-0.1", r"a number in \[0, 1\), .* got -0.1"),
        ("norm_momentum", "nan", r"a number in \[0, 1\), .* got nan"),
    ],
)
def test_values_that_no_run_can_have(field, value, message):
    with pytest.raises(UserError, match=rf"^train\.{field}: expected {message}"):
        recipe(**{f"train.{field}": value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("start", "", "there is no ''; there are 'random', 'weights'"),
        ("head", "zeros", "there is no 'zeros'; the nearest are 'zero'"),
        ("norm", "frozn", "there is no 'frozn'; the nearest are 'frozen'"),
        ("dtype", "float64", "there is no 'float64'; the nearest are"),
        ("sharding", "zero", "there is no 'zero'; there are 'fsdp', 'replicated'"),
        ("loss", "sigmoids", "there is no 'sigmoids'; the nearest are 'sigmoid'"),
        ("rule", "bitt", "there is no 'bitt'; the nearest are 'bit'"),
    ],
)
def test_names_that_there_are_not(field, value, message):
    with pytest.raises(UserError, match=rf"^train\.{field}: {message}"):
        recipe(**{f"train.{field}": value})


@pytest.mark.parametrize(
    "fields",
    [
        {"augment.shift": 0.1},
        {"augment.flip": 0.5},
        {"augment.mixup": 0.2},
        {"augment.cutmix": 1.0},
    ],
)
def test_a_cached_prefix_allows_no_change_of_images(fields):
    assert recipe(**{"train.cache_prefix": True}).cache_prefix
    with pytest.raises(UserError, match=r"^train\.cache_prefix: .* must change none; switch off"):
        recipe(**{"train.cache_prefix": True, **fields})


def test_fine_tuning_takes_one_seed_and_one_number_of_examples():
    assert options.seed(config(seeds=(3,))) == 3
    assert options.examples_per_class(config()) == 0
    for values in ((), (0, 1), (-1,)):
        with pytest.raises(UserError, match=r"^seeds: fine-tuning takes one .* at least 0, got \("):
            options.seed(config(seeds=values))
        fields = {"data.examples_per_class": values}
        with pytest.raises(UserError, match=r"^data\.examples_per_class: .* several runs"):
            options.examples_per_class(config(**fields))


def test_folds_are_for_probes():
    folds = config(**{"data.val": "5fold"})
    assert options.data(folds).folds == 5
    message = r"^data\.val: fine-tuning has no folds, .* or a split, got '5fold'$"
    with pytest.raises(UserError, match=message):
        options.data_to_hold_out(folds, "fine-tuning")
    assert options.data_to_hold_out(config(), "fine-tuning") == options.data(config())


def test_the_sections_become_objects_of_the_library():
    fields = {"augment.mixup": 0.3, "augment.shift": 0.1, "optim.name": "lamb"}
    found = recipe(
        weights_like="resnet50.tv1",
        weights_average="ema",
        seeds=(4,),
        **fields,
        **{"train.norm_momentum": "0.75"},
    )
    assert found.mixing.mixup == 0.3
    assert found.augmentation.shift == 0.1
    assert found.optim.name == "lamb"
    assert found.weights == WeightChoice("efficientnet_lite0", like="resnet50.tv1", average="ema")
    assert (found.seed, found.norm_momentum, found.rule, found.ruled) == (4, 0.75, "", {})
    plain = recipe()
    assert plain.loss is LOSSES["softmax"]
    assert recipe(**{"train.loss": "focal"}).loss is LOSSES["focal"]
    assert not plain.mixing.active and not plain.augmentation.active
    assert plain.norm_momentum is None
    assert recipe(**{"train.norm_momentum": "kornblith"}).norm_momentum == "kornblith"


def test_a_rule_fills_what_is_left_open_and_nothing_else(monkeypatch):
    def rule(num_examples, image_shape):
        return {"preprocess.size": num_examples // 10, "train.steps": 500, "train.patience": 3}

    monkeypatch.setitem(options.RULES, "bit", rule)
    given = config(**{"train.rule": "bit", "train.steps": 7})
    found = options.recipe(given, 1000, (32, 32, 3))
    assert (found.overrides.size, found.cadence.steps, found.cadence.patience) == (100, 7, 3)
    assert (given.preprocess.size, given.train.patience) == (0, 0)
    assert (found.rule, found.ruled) == ("bit", {"preprocess.size": 100, "train.patience": 3})
