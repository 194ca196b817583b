"""Contests without processes of their own: networks of this process, and none of their time."""

import contextlib
import tempfile

import pytest

from experiments.benchmark import contest
from experiments.benchmark.contest import Outcome
from experiments.benchmark.options import Options
from tests import tiny


def here(contestants, *, rounds, seconds, log=print, together=()):
    """As `contest.run`, one call a turn; a unit of work takes half a second."""
    outcomes = {}
    for contestant in contestants:
        if error := contest.absent(contestant):
            outcomes[contestant.name] = Outcome(error=error)
            continue
        work = contestant.factory(*contestant.arguments)
        values = [work() for _ in range(rounds)]
        outcomes[contestant.name] = Outcome((2.0,) * rounds, values[-1], 1.0, 3.0)
    return outcomes


@contextlib.contextmanager
def in_this_process():
    """Within it, contests are held here, and there is a network that compiles in a second."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        tiny.compiled_once(folder),
        tiny.registered(),
    ):
        patch.setattr(contest, "run", here)
        yield


def options(**fields):
    """Returns what takes seconds to measure, with nobody beside us."""
    from configs import common, guide_cifar10

    defaults = {
        "backbone": "resnet_tiny",
        "sizes": (16,),
        "train_sizes": (16,),
        "batch_size": 8,
        "peers": (),
        "rounds": 1,
        "seconds": 0.0,
        "limit_side": 8,
        "probe_rows": 60,
        "probe_features": 5,
        "probe_classes": 3,
        "pipeline_size": 16,
        "images": (8, 64),
        "devices": (1, 2),
        "quickstart": "",
        "train_config": common.get_config(),
        "guide_config": guide_cifar10.get_config(),
    }
    return Options(**{**defaults, **fields})
