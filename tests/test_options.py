import pytest

from configs import common
from tl import options
from tl.errors import UserError
from tl.probes.solvers import Head, Knn, Logistic, Ridge


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
