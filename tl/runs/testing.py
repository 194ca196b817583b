"""Scores the best network of a run on test, once, and saves its predictions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tl.data import grouping
from tl.data.sources import Source
from tl.models.backbone import FINAL
from tl.probes.held_out import Score, score_logits
from tl.results import evidence
from tl.results.predictions import Predictions
from tl.results.projection import project, spaced_rows
from tl.train.evaluator import Evaluator
from tl.tree import Tree
from tl.weights.spec import WeightSpec


def score(
    evaluator: Evaluator,
    variables: Tree,
    parts: Mapping[str, tuple[Source, np.ndarray]],
    spec: WeightSpec,
    seed: int,
    workdir: Path,
) -> tuple[Score, float]:
    """Scores a network on the test rows, and saves its predictions for them and for val.

    Args:
      evaluator: of the run.
      variables: of the network, on the devices; val has chosen them but not trained them.
      parts: `val` and `test` to (source, rows): the images, also where the evaluator is fed
        activations.
      spec: of the network, for its classes and its link.
      seed: of the run.
      workdir: the run's folder; see `tl.results.evidence`.

    Returns:
      The score, and the temperature of calibrated probabilities.
    """
    outputs = {part: evaluator.outputs(variables, part) for part in ("val", "test")}
    val, test = outputs["val"], outputs["test"]
    source, rows = parts["test"]
    groups = grouping.names_of(source)
    if groups is not None:
        groups = groups[rows[test.places]]
    predictions = Predictions(
        seeds=np.array([seed]),
        classes=np.array(spec.classes),
        test_ids=np.array(test.ids),
        test_labels=test.labels,
        test_predicted=test.logits.argmax(axis=1)[None],
        test_logits=test.logits,
        val_ids=np.array(val.ids),
        val_labels=val.labels,
        val_logits=val.logits,
        link=spec.link,
        test_groups=groups,
    )
    spaced = spaced_rows(len(test.ids))
    features = evaluator.pooled(variables, "test", test.places[spaced])

    def image(split: str, row: int) -> np.ndarray:
        source, rows = parts[split]
        return source[int(rows[outputs[split].places[row]])]["image"]

    projection = project(features, spaced, FINAL, standardise=False)
    evidence.write(workdir, predictions, projection, image)
    score = score_logits(test.logits, test.labels, len(spec.classes), groups)
    return score, predictions.fit().temperature
