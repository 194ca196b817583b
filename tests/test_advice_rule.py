import pytest

from tl.advice import rule
from tl.advice.curves import Estimate


def decide(examples_per_class, top1, exponent, different=False, endpoint="stage5"):
    probe = Estimate(top1, top1 - 0.02, top1 + 0.005, exponent, 10 * examples_per_class)
    return rule.decide(examples_per_class, different=different, endpoint=endpoint, probe=probe)


def test_different_is_two_thirds_of_the_errors_and_a_point():
    assert rule.is_different(0.905, 0.987)  # digits
    assert not rule.is_different(0.699, 0.716)  # CIFAR-10
    assert rule.is_different(0.70, 0.801)
    assert not rule.is_different(0.70, 0.799)
    assert not rule.is_different(0.988, 0.996)  # a third, but of next to nothing
    assert not rule.is_different(1.0, 1.0)


def test_final_features_unless_another_is_better_by_a_standard_error():
    assert rule.best_probe("stage5", 0.03, 0.02) == "stage5"
    assert rule.best_probe("stage5", 0.02, 0.02) == "pooled"
    assert rule.best_probe("pooled", 0.0, 0.0) == "pooled"


def test_what_fine_tuning_removes():
    removed = rule.removed_by_fine_tuning
    assert removed(20, 0.0) == pytest.approx(0.3)
    assert removed(200, 0.0) == pytest.approx(0.5)
    assert removed(200, 0.25) == pytest.approx(0.25)
    assert removed(200, 0.5) == removed(200, 0.9) == removed(0.1, 0.0) == 0.0
    assert removed(1e6, 0.0) == 0.6


@pytest.mark.parametrize(
    ("arguments", "case", "first", "second"),
    [
        ((20, 0.62, 0.24, False, "pooled"), "small similar", rule.FINE_TUNE, rule.FINAL_PROBE),
        ((10, 0.95, 0.6, True), "small different", rule.EARLIER_PROBE, rule.FINE_TUNE),
        ((450, 0.77, 0.1), "large similar", rule.FINE_TUNE, rule.EARLIER_PROBE),
        ((100, 0.99, 0.7, True), "large different", rule.EARLIER_PROBE, rule.FINE_TUNE),
        ((1000, 0.8, 0.1, True), "large different", rule.FINE_TUNE, rule.EARLIER_PROBE),
    ],
)
def test_the_four_cases(arguments, case, first, second):
    verdict = decide(*arguments)
    assert f"{verdict.size} {verdict.similarity}" == case
    assert (verdict.first.method, verdict.second.method) == (first, second)
    probe = verdict.first if first in rule.PROBES else verdict.second
    assert probe.endpoint == (arguments[4] if len(arguments) == 5 else "stage5")


def test_what_to_expect_of_fine_tuning():
    verdict = decide(200, 0.8, 0.25)
    assert verdict.gain == pytest.approx(0.25 * 0.2)
    assert verdict.first.top1 == pytest.approx(0.85)
    assert verdict.first.low == pytest.approx(0.78)
    assert verdict.first.high == pytest.approx(1 - 0.195 * 0.5)
    assert verdict.first.endpoint == ""


def test_less_than_a_point_is_not_worth_training():
    assert decide(200, 0.8, 0.44).first.method == rule.FINE_TUNE  # 0.06 of 20 points
    assert decide(200, 0.8, 0.46).first.method == rule.EARLIER_PROBE  # 0.04 of them
