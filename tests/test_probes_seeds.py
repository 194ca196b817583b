import numpy as np

from tl.probes import protocol, seeds
from tl.probes.heads import Fit, Linear
from tl.probes.held_out import score_logits
from tl.results.intervals import accuracy_interval

HEAD = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
SCORE = score_logits(np.eye(2), np.array([0, 1]), 2)


def choice(endpoint, *warnings):
    return protocol.Tested(
        endpoint=endpoint,
        solver="logistic",
        setting={"l2": 1.0},
        val_top1=0.5,
        val_loss=1.0,
        fits=(Fit({"l2": 1.0}, HEAD),),
        test=SCORE,
        warnings=warnings,
    )


def test_warnings_belong_to_an_endpoint_whatever_they_say():
    # One name begins the other, and no text names its endpoint first.
    stem, joined = choice("stem", "too few rows"), choice("stem+stage1", "widen l2", "slow")
    results = {
        3: protocol.Result(stem, [stem, joined], 4, []),
        4: protocol.Result(joined, [stem, joined], 4, []),
    }
    assert results[3].warnings == ["too few rows", "widen l2", "slow"]
    assert seeds.warnings(results, "stem") == ["seed 3: too few rows", "seed 4: too few rows"]
    assert seeds.warnings(results) == seeds.summarise(results)["warnings"] == [
        "seed 3: too few rows", "seed 3: widen l2", "seed 3: slow",
        "seed 4: too few rows", "seed 4: widen l2", "seed 4: slow",
    ]  # fmt: skip


def test_a_mean_keeps_the_groups():
    groups = np.array([5, 5, 9])
    labels = np.array([0, 1, 1])
    scores = [score_logits(np.eye(2)[chosen], labels, 2, groups) for chosen in ([0, 1, 0], [0] * 3)]
    mean = seeds.mean_score(scores)
    assert mean.top1_ci95 == accuracy_interval(np.array([1, 0.5, 0]), groups=groups)
    assert mean.as_dict()["groups"] == 2
