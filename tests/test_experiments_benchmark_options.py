"""What cannot be measured is refused before anything runs."""

import pytest

from experiments.benchmark.options import PEERS, SECTIONS, Options
from tl.errors import UserError


def options(**fields):
    return Options(train_config=None, guide_config=None, quickstart="", **fields)


def test_the_defaults_and_nobody_beside_us_are_fine():
    assert options().sections == SECTIONS and options().peers == PEERS
    assert options(peers=(), rounds=1, seconds=0.0, batch_size=0).peers == ()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"sections": ("feature",)},
            "--sections: there is no 'feature'; the nearest are 'features'",
        ),
        ({"sections": ()}, "expected --sections to name one or more, each once, got ''"),
        ({"peers": ("tensorflow",)}, "--peers: there is no 'tensorflow'"),
        ({"peers": ("torch", "torch")}, "--peers to name one or more, each once, got torch,torch"),
        (
            {"dtypes": ("float16",)},
            "--dtypes: there is no 'float16'; the nearest are 'bfloat16', 'float32'",
        ),
        ({"backbone": "resnet5"}, "no backbone is called 'resnet5'"),
        ({"sizes": (64, 0)}, "expected --sizes of at least 1, got 64,0"),
        ({"sizes": ()}, "expected --sizes of at least 1, got ''"),
        ({"rounds": 0}, "expected --rounds of at least 1, got 0"),
        ({"seconds": float("nan")}, "expected --seconds of at least 0, got nan"),
        ({"probe_rows": 99}, "expected --probe_rows of at least 10 a class, 100, got 99"),
        ({"probe_classes": 1}, "expected --probe_classes of at least 2, got 1"),
        ({"memory_batch": 0}, "expected --memory_batch of at least 1, got 0"),
        ({"memory_backbones": ("vit",)}, "--memory_backbones: there is no 'vit'"),
        ({"guide": True}, "--guide needs CIFAR-10: give --data_dir=FOLDER"),
    ],
)
def test_mistakes(fields, text):
    with pytest.raises(UserError) as caught:
        options(**fields)
    assert text in str(caught.value)
