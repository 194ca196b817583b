"""A recipe refuses what no run can have; how it is read from a config: test_runs_options.py."""

import dataclasses

import pytest

from configs import common
from tl.data.transforms import Overrides
from tl.errors import UserError
from tl.runs import options

RECIPE = options.recipe(common.get_config(), 100, None)


def test_the_default_recipe_trains_everything_from_the_weights():
    assert (RECIPE.start, RECIPE.head, RECIPE.freeze, RECIPE.norm) == (
        "weights",
        "zero",
        (),
        "train",
    )
    assert RECIPE.overrides == Overrides()
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.seed = 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": "heads"}, "^train.head: there is no 'heads'; there are 'keep', 'probe'"),
        ({"accumulate": 0}, "^train.accumulate: expected at least 1, got 0"),
        ({"ema_decay": 1.0}, r"^train.ema_decay: expected a share in \[0, 1\), got 1.0"),
        ({"norm_momentum": "kornblit"}, "^train.norm_momentum: expected .* got 'kornblit'"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_field(fields, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(RECIPE, **fields)


@pytest.mark.parametrize("momentum", [None, 0.0, 0.999, "kornblith"])
def test_momenta_of_batch_statistics(momentum):
    assert dataclasses.replace(RECIPE, norm_momentum=momentum).norm_momentum == momentum
