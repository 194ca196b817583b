"""Test rows that can be scored once: the only place in `tl.probes` that sees them."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from tl.errors import UserError
from tl.probes.heads import Classifier, shared_logits
from tl.probes.rows import Features
from tl.results import metrics
from tl.results.intervals import accuracy_interval


@dataclass(frozen=True)
class Score:
    """The accuracy of one classifier on the test rows; every share is in 0..1.

    Attributes:
      correct: float [N], 1 where the highest logit is the label's; averaged over seeds, the
        share of seeds in which it is.
      top1: mean of `correct`.
      top5: share of rows with the label among the five highest logits; None for five classes or
        fewer, of which every row would count.
      top1_ci95: 95 % interval of `top1` over the test rows (`accuracy_interval`): Wilson's for one
        head, a bootstrap for the mean over seeds; a bootstrap over groups where there are some.
      mean_per_class: mean over classes of each class's top-1.
      absent_classes: number of classes without a test row, left out of `mean_per_class`.
      count: the number of test rows N.
      logits: float32 [N, C], where they are kept.
      groups: [N], equal values for rows of one group; None where each stands for itself.
    """

    correct: Float[np.ndarray, " n"] = field(repr=False)
    top1: float
    top5: float | None
    top1_ci95: tuple[float, float]
    mean_per_class: float
    absent_classes: int
    count: int
    logits: Float[np.ndarray, "n c"] | None = field(default=None, repr=False)
    groups: Shaped[np.ndarray, " n"] | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Returns everything but the values of single rows, for JSON.

        Where there are groups, `groups` is their number.
        """
        of_rows = ("correct", "logits", "groups")
        names = [f.name for f in dataclasses.fields(self) if f.name not in of_rows]
        counted = {} if self.groups is None else {"groups": len(np.unique(self.groups))}
        values = {name: getattr(self, name) for name in names}
        return values | {"top1_ci95": list(self.top1_ci95)} | counted


def score_logits(
    logits: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> Score:
    """Returns every test metric of one head, without its logits.

    Args:
      logits: float [N, C]; N >= 1.
      labels: int [N], 0..num_classes-1.
      num_classes: C.
      groups: see `Score`.
    """
    correct = metrics.correct(logits, labels).astype(np.float64)
    sums, counts = metrics.per_class(correct, labels, num_classes)
    mean_per_class, absent = metrics.mean_per_class(sums, counts)
    hits, _ = metrics.top5(logits, labels)
    return Score(
        correct=correct,
        top1=float(correct.mean()),
        top5=float(hits) / len(correct) if num_classes > 5 else None,
        top1_ci95=accuracy_interval(correct, groups=groups),
        mean_per_class=mean_per_class,
        absent_classes=absent,
        count=len(correct),
        groups=groups,
    )


class HeldOut:
    """Test rows that can be scored once."""

    def __init__(
        self,
        features: Callable[[str], Features],
        labels: Int[np.ndarray, " n"],
        num_classes: int,
        groups: Shaped[np.ndarray, " n"] | None = None,
    ):
        """Keeps what is needed to score.

        Args:
          features: endpoint -> test features [N, D]; called for one endpoint at a time.
          labels: int [N], 0..num_classes-1.
          num_classes: C.
          groups: see `Score`.
        """
        self._features, self._labels, self._num_classes = features, labels, num_classes
        self._groups = groups
        self._scored = False

    def score(
        self, heads: Mapping[str, Classifier], selected: str | None = None
    ) -> dict[str, Score]:
        """Scores the chosen head of each endpoint.

        Args:
          heads: endpoint -> head.
          selected: the endpoint whose score keeps the logits.

        Raises:
          UserError: the test rows were already scored.
        """
        if self._scored:
            raise UserError(
                "the test rows were already scored: whatever is chosen after seeing them is not"
                " measured by them. Choose on val, then score all chosen heads in one call"
            )
        self._scored = True
        scores = {}
        for endpoint, head in heads.items():
            logits = shared_logits(head, self._features(endpoint))
            score = score_logits(logits, self._labels, self._num_classes, self._groups)
            scores[endpoint] = (
                dataclasses.replace(score, logits=logits) if endpoint == selected else score
            )
        return scores
