import pytest

from tests import make_costs
from tl.weights import catalog, costs


def test_every_set_has_its_costs():
    for name in catalog.names():
        spec = catalog.get(name)
        assert costs.parameters(spec) > 1e6 and costs.multiply_adds(spec) > 0.1


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [  # as published by torchvision and timm
        ("resnet50.tv2", 25_557_032, 4.09),
        ("vit_base_patch16.augreg_in21k_ft", 86_567_656, 17.58),
        ("vit_base_patch16.augreg_384", 86_859_496, 55.5),
        ("resnet50.keras", 25_557_032, 3.86),
        ("efficientnet_lite0", 4_652_008, 0.385),
        ("vit_small_patch14.dinov2", 22_056_192, 46.76),
    ],
)
def test_costs_that_others_have_counted(name, parameters, multiply_adds):
    spec = catalog.get(name)
    assert costs.parameters(spec) == parameters
    assert costs.multiply_adds(spec) == pytest.approx(multiply_adds, rel=0.015)


@pytest.mark.parametrize("backbone", ["resnet18", "vit_tiny_patch16"])
def test_the_table_is_what_is_counted(backbone):
    assert next(make_costs.rows([backbone])) in costs._COSTS


@pytest.mark.slow
def test_the_whole_table_is_what_is_counted():
    assert list(make_costs.rows()) == costs._COSTS.strip().splitlines()
