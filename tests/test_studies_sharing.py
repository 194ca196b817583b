import pytest

from configs import common
from tl.studies import sharing


def changed(**fields):
    config = common.get_config()
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize(
    "fields",
    [
        {"data.examples_per_class": (5,)},
        {"seeds": (3,)},
        {"endpoints": ("stem",)},
        {"probe.solvers": ("ridge",)},
        {"train.norm": "frozen"},
    ],
)
def test_probes_that_share(fields):
    assert sharing.key("probe", changed(**fields)) == sharing.key("probe", common.get_config())


@pytest.mark.parametrize(
    "fields",
    [
        {"weights": "resnet50.tv1"},
        {"preprocess.size": 32},
        {"extract.pooling": "max"},
        {"extract.dtype": "bfloat16"},
        {"data.train": "train[:9]"},
        {"data.name": "cifar10"},
    ],
)
def test_probes_that_do_not(fields):
    assert sharing.key("probe", changed(**fields)) != sharing.key("probe", common.get_config())


def test_fine_tuning_reads_features_for_lp_ft_and_behind_a_frozen_prefix():
    assert sharing.key("finetune", common.get_config()) == ""
    lp_ft = changed(**{"train.head": "probe"})
    assert sharing.key("finetune", lp_ft) not in ("", sharing.key("probe", lp_ft))
    prefix = {"train.cache_prefix": True, "train.freeze": ("stem",)}
    assert sharing.key("finetune", changed(**prefix)) == sharing.key(
        "finetune", changed(**prefix, seeds=(1,))
    )
    # A network that starts at random is another for each seed.
    random = {**prefix, "train.start": "random"}
    assert sharing.key("finetune", changed(**random)) != sharing.key(
        "finetune", changed(**random, seeds=(1,))
    )
