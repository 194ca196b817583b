import pytest

from configs import common
from tl.fields import flat
from tl.studies import sharing


def changed(**fields):
    return flat(common.get_config()) | fields


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
    assert sharing.key("probe", changed(**fields)) == sharing.key("probe", changed())


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
    assert sharing.key("probe", changed(**fields)) != sharing.key("probe", changed())


def test_fine_tuning_reads_features_for_lp_ft_and_behind_a_frozen_prefix():
    assert sharing.key("finetune", changed()) == ""
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


def test_probes_of_the_same_features_share_endpoints_in_the_order_they_come():
    probes = [
        changed(endpoints=("stem",)),
        changed(endpoints=("stem+pooled", "stage1")),
        changed(endpoints=("stage2",), weights="resnet50.tv1"),
        changed(endpoints=("stage3",), **{"extract.endpoints": ("stem", "logits")}),
    ]
    three = ("stem", "pooled", "stage1", "logits", "stage3")
    assert sharing.shared_endpoints(probes) == [three, three, ("stage2",), three]
