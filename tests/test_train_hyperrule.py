"""The rules against the numbers of their papers and code."""

import pytest

from configs import bit_hyperrule as bit
from configs import common
from tl.train.hyperrule import bit_hyperrule, kornblith_momentum
from tl.train.optim import Optim
from tl.train.schedules import make_schedule


@pytest.mark.parametrize(
    "examples, steps, mixup",
    [
        (1, 500, 0.0),
        (19_999, 500, 0.0),
        (20_000, 10_000, 0.1),
        (499_999, 10_000, 0.1),
        (500_000, 20_000, 0.1),
    ],
)
def test_length_and_mixup_follow_the_number_of_examples(examples, steps, mixup):
    rule = bit_hyperrule(examples, (32, 32, 3))
    assert (rule["train.steps"], rule["augment.mixup"]) == (steps, mixup)


@pytest.mark.parametrize(
    "shape, resize, crop",
    [
        ((32, 32, 3), 160, 128),
        ((95, 96, 3), 160, 128),
        ((96, 96, 3), 512, 480),
        ((64, 200, 1), 512, 480),
        (None, 512, 480),
    ],
)
def test_resolution_follows_the_area(shape, resize, crop):
    rule = bit_hyperrule(1000, shape)
    assert (rule["augment.resize"], rule["preprocess.size"]) == (resize, crop)


def test_the_fields_exist_and_have_the_types_of_the_config():
    config = common.get_config().lock()
    before = config.copy_and_resolve_references()
    rule = bit_hyperrule(1000, None)
    config.update_from_flattened_dict(rule)
    for field, value in rule.items():
        section, name = field.split(".")
        assert config[section][name] == value
        assert type(config[section][name]) is type(before[section][name])


@pytest.mark.parametrize(
    "examples, warmup, falls",
    [
        (1000, 100, (200, 300, 400)),
        (50_000, 500, (3000, 6000, 9000)),
        (1_281_167, 500, (6000, 12_000, 18_000)),
    ],
)
def test_the_schedule_falls_at_the_steps_of_the_code(examples, warmup, falls):
    config = bit.get_config()
    rule = bit_hyperrule(examples, None)
    config.update_from_flattened_dict(rule)
    schedule = make_schedule(Optim(**config.optim), config.train.steps)
    assert float(schedule(0)) == pytest.approx(0.003 / warmup, rel=1e-4)  # float32
    assert float(schedule(warmup - 2)) == pytest.approx(0.003 * (warmup - 1) / warmup)
    assert float(schedule(warmup - 1)) == pytest.approx(0.003)
    for i, step in enumerate(falls):
        assert float(schedule(step - 1)) == pytest.approx(0.003 * 0.1**i)
        assert float(schedule(step)) == pytest.approx(0.003 * 0.1 ** (i + 1))
    assert float(schedule(config.train.steps - 1)) == pytest.approx(3e-6)


@pytest.mark.parametrize(
    "steps, momentum",
    [(0.01, 0.9), (1, 0.9), (99, 0.9), (100, 0.9), (200, 0.95), (1000, 0.99), (2.5e4, 0.9996)],
)
def test_kornblith_momentum(steps, momentum):
    assert kornblith_momentum(steps) == pytest.approx(momentum)
