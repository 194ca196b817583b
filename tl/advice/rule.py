"""Which of the guide's four cases it is, and what to do: a rule of four numbers, stated here.

*Similar or different.* Different from ImageNet means, where it matters, that activations from
earlier in the network serve better than its final features (Yosinski et al. 2014, arXiv:1411.1792:
features go from general to specific): a single earlier endpoint leaves at most two thirds of the
final features' errors, and a point less. Measured with EfficientNet-Lite0: digits 0.13 of them,
CIFAR-10 0.94. The entropy of the ImageNet head is reported and decides nothing: as a share of log
1000 it is 0.06 on digits and 0.16 on CIFAR-10, for a network may well be sure of what it never saw.

*Small or large.* 50 examples a class; it names the case and decides nothing.

*Which probe.* Each endpoint's is measured on held-out rows. The final features are left only for
one that beats them by more than the standard error of the difference (the one-standard-error rule
of Breiman et al. 1984: the plain choice, unless there is evidence).

*Probe or fine-tune.* What limits a probe is its rows or its features. Where its error still falls
as n^-1/2, it is rows, and a network with more to learn from them gains nothing; where the error
stays, it is features, and these fine-tuning changes. So it is taken to remove of the errors

    (0.3 + 0.2 log10(k / 20)) (1 - b / 0.5)    k examples a class, b the exponent of those errors,

in [0, 0.6], and is advised where that is a point or more. The form is ours. Its two numbers are
tuned on CIFAR-10 of configs/four_cases.py, where fine-tuning all removed 0.15 of the best probe's
errors at 20 a class (b = 0.24) and 0.29 at 250 (b = 0.14), and agree with ResNet-50's published 0.6
at 5,000 (Kornblith et al. 2019, arXiv:1805.08974): a rule of thumb, not a law. It departs
from the guide twice, as that study does: small and similar data are fine-tuned, and large and
different data on which a probe is nearly perfect are not. It is known to fail where the probe is
hampered by its pooling: on digits whose endpoints are averaged over the image a probe has 97.5 %,
fine-tuning 99.4. LP-FT, which kept 3 to 7 points less there, is not advised; with gentler steps and
more images it did better than fine-tuning (configs/lpft.py). What to expect of fine-tuning is never
below the probe, though it can do harm: with 10 digits a class it came to 92.9 % there, and in an
earlier run of the study to 89.1, the probe to 94.2.
"""

import dataclasses
import math

from tl.advice.curves import Estimate

LARGE = 50  # examples a class
DIFFERENT = 2 / 3  # of the final features' errors
POINT = 0.01
FINAL = "pooled"

FINAL_PROBE = "final-layer probe"
EARLIER_PROBE = "earlier-layer probe"
FINE_TUNE = "fine-tune all"
PROBES = (FINAL_PROBE, EARLIER_PROBE)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to go.

    Attributes:
      method: FINAL_PROBE, EARLIER_PROBE or FINE_TUNE.
      endpoint: whose features a probe uses; '' where the network trains.
      top1, low, high: accuracy to expect, with an interval.
    """

    method: str
    endpoint: str
    top1: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The case and what to do.

    Attributes:
      size: 'small' or 'large'.
      similarity: 'similar' or 'different'.
      gain: expected of fine-tuning over the best probe, a fraction.
      first, second: choices.
    """

    size: str
    similarity: str
    gain: float
    first: Choice
    second: Choice


def is_different(final_top1: float, earlier_top1: float) -> bool:
    """Returns whether data are different from what the network was trained on.

    Args:
      final_top1: of the probe on the final features, on held-out rows.
      earlier_top1: of the best probe on one earlier endpoint, on the same rows.
    """
    final, earlier = 1 - final_top1, 1 - earlier_top1
    return earlier <= DIFFERENT * final and final - earlier >= POINT


def best_probe(endpoint: str, advantage: float, standard_error: float) -> str:
    """Returns `endpoint`, or FINAL unless it is better by more than a standard error.

    Args:
      endpoint: the most accurate on held-out rows.
      advantage: of its accuracy over that of FINAL.
      standard_error: of the advantage.
    """
    return endpoint if advantage > standard_error else FINAL


def removed_by_fine_tuning(examples_per_class: float, exponent: float) -> float:
    """Returns the share of the probe's errors that fine-tuning is expected to remove, in [0, 0.6].

    Args:
      examples_per_class: to train on, > 0.
      exponent: b of the probe's error over the number of rows, in [0, 1].
    """
    share = (0.3 + 0.2 * math.log10(examples_per_class / 20)) * (1 - exponent / 0.5)
    return min(max(share, 0.0), 0.6)


def decide(
    examples_per_class: float, *, different: bool, endpoint: str, probe: Estimate
) -> Verdict:
    """Returns the case and the choices.

    Args:
      examples_per_class: mean over classes.
      different: see `is_different`.
      endpoint: of the best probe (`best_probe`).
      probe: what to expect of it with all rows.
    """
    share = removed_by_fine_tuning(examples_per_class, probe.exponent)
    gain = share * (1 - probe.top1)
    probing = Choice(
        FINAL_PROBE if endpoint == FINAL else EARLIER_PROBE,
        endpoint,
        probe.top1,
        probe.low,
        probe.high,
    )
    training = Choice(
        FINE_TUNE,
        "",
        probe.top1 + gain,
        probe.low,  # nothing gained
        1 - (1 - probe.high) * max(0.0, 1 - 2 * share),  # twice what is expected
    )
    choices = (training, probing) if gain >= POINT else (probing, training)
    return Verdict(
        "large" if examples_per_class >= LARGE else "small",
        "different" if different else "similar",
        gain,
        *choices,
    )
