import pytest

from configs import common
from tl.errors import UserError
from tl.probes.solvers import Head, Knn, Logistic, Ridge
from tl.runs import options
from tl.train.loop import Cadence


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
        ({"seeds": ()}, "seeds to be one or more, each once"),
        ({"endpoints": ("stem", "stem")}, "--config.endpoints to be one or more, each once"),
        ({"seeds": (-1,)}, "seeds of at least 0"),
    ],
)
def test_lists_that_cannot_be(fields, message):
    with pytest.raises(UserError, match=message):
        options.check_lists(config(**fields))


def test_a_negative_number_of_threads():
    with pytest.raises(UserError, match=r"extract\.threads >= 0, got -1"):
        options.extraction(config(**{"extract.threads": -1}))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Cadence(31, 3.125, 3)),  # 10 epochs of 100 / 32 steps
        ({"train.epochs": 0.5}, Cadence(2, 3.125, 3)),
        ({"train.steps": 7, "train.batch_size": 400}, Cadence(7, 0.25, 1)),
        ({"train.epochs": 0.0}, Cadence(0, 3.125, 3)),
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
    assert options.cadence(config(**fields), 100) == expected


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, ">= 1, got 0"),
        ("accumulate", 0, ">= 1, got 0"),
        ("epochs", -0.5, ">= 0, got -0.5"),
        ("epochs", float("nan"), ">= 0, got nan"),
        ("steps", -1, ">= 0, got -1"),
        ("eval_every", -1, ">= 0, got -1"),
        ("checkpoint_every", -1, ">= 0, got -1"),
        ("max_to_keep", 0, ">= 1, got 0"),
        ("patience", -1, ">= 0, got -1"),
        ("log_every", 0, ">= 1, got 0"),
        ("label_smoothing", 1.0, r"in \[0, 1\), got 1.0"),
        ("dropout", -0.1, r"in \[0, 1\), got -0.1"),
        ("ema_decay", float("nan"), r"in \[0, 1\), got nan"),
    ],
)
def test_values_that_no_run_can_have(field, value, message):
    with pytest.raises(UserError, match=rf"expected --config\.train\.{field} {message}"):
        options.cadence(config(**{f"train.{field}": value}), 100)


def test_fine_tuning_takes_one_seed_and_one_number_of_examples():
    assert options.seed(config(seeds=(3,))) == 3
    assert options.examples_per_class(config()) == 0
    for values in ((), (0, 1), (-1,)):
        with pytest.raises(UserError, match=r"takes one --config\.seeds of at least 0, got \("):
            options.seed(config(seeds=values))
        fields = {"data.examples_per_class": values}
        with pytest.raises(UserError, match=r"--config\.data\.examples_per_class .* several runs"):
            options.examples_per_class(config(**fields))


def test_the_type_of_compute():
    assert options.compute_dtype(config(**{"train.dtype": "bfloat16"})) == "bfloat16"
    with pytest.raises(UserError, match=r"--config\.train\.dtype to be one of .*, got 'float64'"):
        options.compute_dtype(config(**{"train.dtype": "float64"}))


def test_the_sections_become_objects_of_the_library():
    values = config(**{"augment.mixup": 0.3, "augment.shift": 0.1, "optim.name": "lamb"})
    assert options.mixing(values).mixup == 0.3
    assert options.augmentation(values).shift == 0.1
    assert options.optim(values).name == "lamb"
    assert not options.mixing(config()).active and not options.augmentation(config()).active


def test_a_rule_fills_what_is_left_open_and_nothing_else(monkeypatch):
    def rule(num_examples, image_shape):
        return {"preprocess.size": num_examples // 10, "train.steps": 500, "train.patience": 3}

    monkeypatch.setitem(options.RULES, "bit", rule)
    given = config(**{"train.rule": "bit", "train.steps": 7})
    filled, ruled = options.with_rule(given, 1000, (32, 32, 3))
    assert (filled.preprocess.size, filled.train.steps, filled.train.patience) == (100, 7, 3)
    assert (given.preprocess.size, given.train.patience) == (0, 0)
    assert ruled == {"preprocess.size": 100, "train.patience": 3}
    assert options.with_rule(config(), 1000, (32, 32, 3)) == (config(), {})
    with pytest.raises(UserError, match=r"rule: there is no 'bitt'; the nearest are 'bit'"):
        options.with_rule(config(**{"train.rule": "bitt"}), 1000, None)
