import pytest

from tests.test_models_registry import COUNTS
from tl.models import registry
from tl.weights import convert, naming


@pytest.mark.parametrize("scheme", naming.SCHEMES)
def test_every_leaf_has_a_name_of_its_own(scheme):
    of_scheme = [name for name in registry.names() if scheme in registry.get(name).schemes]
    for backbone in of_scheme:
        leaves = COUNTS[backbone][1]
        names = convert.source_names(convert.shapes(registry.build(backbone)), scheme)
        assert len(names) == leaves
        assert naming.detect(names) == scheme
