"""Fits the head that LP-FT starts with: a linear probe on the frozen network's features."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tl.data import splits
from tl.data.sources import Source
from tl.features.extract import extract_parts
from tl.features.network import Extraction
from tl.files import Log
from tl.models.backbone import FINAL
from tl.probes import protocol
from tl.probes.heads import Linear
from tl.probes.rows import Rows
from tl.probes.solvers import Logistic
from tl.runs.parts import labels_of, stored
from tl.weights.load import Pretrained


def fit_head(
    network: Pretrained,
    parts: Mapping[str, tuple[Source, np.ndarray]],
    extraction: Extraction,
    root: Path,
    solver: Logistic,
    log: Log,
) -> dict[str, np.ndarray]:
    """Returns a linear probe's solution as a head (LP-FT; Kumar et al. 2022, arXiv:2202.10054).

    Logistic regression on the pooled features of train, its strength chosen on val; val is not
    fitted, for training chooses on it too. Before its first step the network then predicts what
    the probe does.

    Args:
      network: whose features.
      parts: `train` and `val` to (source, rows).
      extraction: how features are computed; of which endpoint is decided here.
      root: directory of all feature stores.
      solver: with the strengths to choose from.
      log: takes a line of text.

    Returns:
      `kernel` float32 [D, C] and `bias` float32 [C].
    """
    stores = extract_parts(
        network,
        {part: parts[part] for part in ("train", "val")},
        network.spec.preprocessing,
        dataclasses.replace(extraction, endpoints=(FINAL,), pooling="mean"),
        root,
        log=log,
    )
    chosen = {}
    for part, store in stores.items():
        _, rows = parts[part]
        chosen[part] = store, rows[store.labels()[rows] >= 0]
    labels = labels_of(chosen)
    choice, _ = protocol.choose_setting(
        FINAL,
        solver,
        Rows(stored(list(chosen.values()), FINAL), np.concatenate(list(labels.values()))),
        splits.one_fold(*map(len, labels.values())),
        network.spec.num_classes,
    )
    log(
        f"head: linear probe with l2 {choice.setting['l2']:.3g}, val top-1 "
        f"{100 * choice.val_top1:.2f} % of {len(labels['val'])}"
    )
    head = choice.fit.head
    assert isinstance(head, Linear)  # as logistic regression's is
    return {"kernel": head.kernel, "bias": head.bias}
