import pytest

from tests.test_models_registry import ALIKE, COUNTS, slow
from tl.models import registry
from tl.weights import convert, naming


@pytest.mark.parametrize("backbone", slow(COUNTS, *ALIKE, "convnextv2_tiny"))
def test_every_leaf_has_a_name_of_its_own(backbone):
    shapes = convert.shapes(registry.build(backbone), registry.get(backbone).multiple * 64)
    for scheme in registry.get(backbone).schemes:
        names = convert.source_names(shapes, scheme)
        assert len(names) == COUNTS[backbone][1]
        assert naming.detect(names) == scheme


def test_every_scheme_is_of_a_network():
    schemes = {scheme for name in registry.names() for scheme in registry.get(name).schemes}
    assert set(naming.SCHEMES) == schemes
