"""The rule of advice: which of the guide's four cases the data are, and what to do.

*Similar or different.* Data count as different from ImageNet if activations from earlier in the
network serve better than its final features (features go from general to specific: Yosinski et al.
2014, arXiv:1411.1792). The rule: a single earlier endpoint makes at most two thirds of the final
features' errors, and its accuracy is at least a point higher. Measured with EfficientNet-Lite0, the
share is 0.13 on digits and 0.94 on CIFAR-10. The entropy of the ImageNet head is reported but
decides nothing, for a network may be sure of images like none it saw: as a share of log 1000 it is
0.06 on digits and 0.16 on CIFAR-10.

*Small or large.* Large is from 50 examples per class. It names the case and decides nothing.

*Which probe.* The probes of all endpoints are measured on held-out rows. An earlier endpoint is
advised only if it beats the final features by more than the standard error of the difference (the
one-standard-error rule of Breiman et al. 1984: the plain choice, unless there is evidence).

*Probe or fine-tune.* Either its rows or its features limit a probe. If its error still falls as
n^-1/2, it is the rows, and a network that has more to learn from them gains nothing. If the error
does not fall, it is the features, and fine-tuning changes these. So fine-tuning is taken to remove

    (0.3 + 0.2 log10(k / 20)) (1 - b / 0.5)

of the probe's errors, within [0, 0.6], for k examples per class and an error that falls as n^-b. It
is advised if that is a point or more. The form of the rule is ours, and it is a rule of thumb. Its
two numbers are tuned on CIFAR-10 in an earlier run of configs/four_cases.py. There fine-tuning all
removed 0.15 of the best probe's errors at 20 per class (b = 0.24) and 0.29 at 250 (b = 0.14); in
the run that the config records it removed 0.12 and 0.29. The numbers agree with the published 0.6
of ResNet-50 at 5,000 (Kornblith et al. 2019, arXiv:1805.08974).

The rule departs from the guide twice, as configs/four_cases.py does: small and similar data are
fine-tuned, and large and different data on which a probe is nearly perfect are not. It fails where
pooling hampers the probe: on digits, with endpoints averaged over the image, a probe has 97.5 % and
fine-tuning 99.4 %. LP-FT is not advised, since it had 3 to 7 points less there; with smaller steps
and more images it did better than fine-tuning (configs/lpft.py). The accuracy to expect of
fine-tuning is never below the probe's, though fine-tuning can do harm: with 10 digits per class it
had 92.9 % there, and 89.1 % in an earlier run of the study, where the probe had 94.2 %.
"""

import dataclasses
import math

from tl.advice.curves import Estimate
from tl.models.backbone import FINAL

LARGE = 50  # examples per class
DIFFERENT = 2 / 3  # largest share of the final features' errors
POINT = 0.01

FINAL_PROBE = "final-layer probe"
EARLIER_PROBE = "earlier-layer probe"
FINE_TUNE = "fine-tune all"
PROBES = (FINAL_PROBE, EARLIER_PROBE)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of the things to do.

    Attributes:
      method: FINAL_PROBE, EARLIER_PROBE or FINE_TUNE.
      endpoint: whose features the probe uses; '' for fine-tuning.
      top1: accuracy to expect, a fraction.
      low, high: its interval.
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
      gain: in accuracy, expected from fine-tuning over the best probe; a fraction.
      first, second: the choices, the advised one first.
    """

    size: str
    similarity: str
    gain: float
    first: Choice
    second: Choice


def is_different(final_top1: float, earlier_top1: float) -> bool:
    """Returns whether data are different from what the network was trained on.

    Args:
      final_top1: accuracy of the probe on the final features, on held-out rows.
      earlier_top1: accuracy of the best probe on one earlier endpoint, on the same rows.
    """
    final, earlier = 1 - final_top1, 1 - earlier_top1
    return earlier <= DIFFERENT * final and final - earlier >= POINT


def best_probe(endpoint: str, advantage: float, standard_error: float) -> str:
    """Returns `endpoint`, or FINAL unless it is better by more than a standard error.

    Args:
      endpoint: the most accurate one on held-out rows.
      advantage: its accuracy less that of FINAL.
      standard_error: of the advantage.
    """
    return endpoint if advantage > standard_error else FINAL


def removed_by_fine_tuning(examples_per_class: float, exponent: float) -> float:
    """Returns the share of the probe's errors that fine-tuning is expected to remove, in [0, 0.6].

    Args:
      examples_per_class: to train on, > 0.
      exponent: b of the probe's error a n^-b over n rows, in [0, 1].
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
      probe: the accuracy to expect of that probe with all rows.
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
