"""Which test and val images a person should look at first, and their pictures.

`confident_mistakes`, `uncertain_right` and `mislabelled` return row numbers, the most telling
first. Their probabilities should come from a classifier that was not fitted on these examples, and
should be calibrated.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from tl.files import replacing, write_json
from tl.results import arrays, calibration
from tl.results.predictions import Predictions

EXAMPLES = "examples.json"
PICTURES = "examples"
MOST_EXAMPLES = 24  # of a group
LONGEST_SIDE = 224  # px, of a picture


def confident_mistakes(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], k: int
) -> Int[np.ndarray, " m"]:
    """Returns the wrong predictions with the highest probabilities.

    Args:
      probabilities: float [N, C].
      labels: int [N], 0..C-1.
      k: largest number of rows to return.

    Returns:
      int64 [m], m <= k; of equals the earlier row comes first.
    """
    predicted, confidence = _predicted(probabilities)
    return _first(predicted != labels, -confidence, k)


def uncertain_right(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], k: int
) -> Int[np.ndarray, " m"]:
    """Returns the right predictions with the smallest lead over the second class.

    Args:
      probabilities: float [N, C].
      labels: int [N], 0..C-1.
      k: largest number of rows to return.

    Returns:
      int64 [m], m <= k; of equals the earlier row comes first.
    """
    predicted, confidence = _predicted(probabilities)
    others = np.array(probabilities, np.float64)
    others[np.arange(len(others)), predicted] = 0
    return _first(predicted == labels, confidence - others.max(axis=1), k)


def mislabelled(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], k: int
) -> Int[np.ndarray, " m"]:
    """Returns the examples whose label is likely wrong, by confident learning.

    The threshold of a class is its mean probability over the examples with that label. Each
    example is counted for the most probable class of those whose threshold it reaches. If that
    class is not its label, the example lies off the diagonal of the confident joint. Of these
    examples, the ones whose label is not the predicted class are returned, the largest
    p(predicted) - p(label) first.

    Source: Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 70, 2021, section 3.

    Args:
      probabilities: float [N, C], of classifiers that were not fitted on these examples.
      labels: int [N], 0..C-1; a class without a label is never suggested.
      k: largest number of rows to return.

    Returns:
      int64 [m], m <= k; of equals the earlier row comes first.
    """
    probabilities = np.asarray(probabilities, np.float64)
    predicted, confidence = _predicted(probabilities)
    own = probabilities[np.arange(len(labels)), labels]
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=own, minlength=num_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    # Rounding must not keep an example whose probability equals the threshold from reaching it.
    reached = probabilities >= thresholds * (1 - 1e-12)
    counted_for = np.where(reached, probabilities, -1.0).argmax(axis=1)
    off_diagonal = reached.any(axis=1) & (counted_for != labels)
    return _first(off_diagonal & (predicted != labels), own - confidence, k)


def telling_examples(predictions: Predictions) -> list[dict[str, Any]]:
    """Returns the examples that a person should look at, in the form of `examples.json`.

    Confident mistakes and uncertain successes are sought among test images, likely wrong labels
    among test and val images. Probabilities are those of the first seed, after temperature scaling
    (`Predictions.fit`).
    """
    p = predictions
    scale = p.fit().temperature
    test, val = (
        calibration.probabilities(logits, scale, p.link) for logits in (p.test_logits, p.val_logits)
    )
    probabilities = np.concatenate([test, val])
    labels = np.concatenate([p.test_labels, p.val_labels])
    ids = np.concatenate([p.test_ids, p.val_ids])
    groups = {
        "confident mistake": confident_mistakes(test, p.test_labels, MOST_EXAMPLES),
        "uncertain and right": uncertain_right(test, p.test_labels, MOST_EXAMPLES),
        "likely mislabelled": mislabelled(probabilities, labels, MOST_EXAMPLES),
    }
    ranks: dict[int, dict[str, int]] = {}
    for group, rows in groups.items():
        for place, row in enumerate(rows.tolist()):
            ranks.setdefault(row, {})[group] = place
    chosen = []
    for at, rank in ranks.items():
        split, row = ("test", at) if at < len(test) else ("val", at - len(test))
        predicted = probabilities[at].argmax()
        chosen.append(
            {
                "file": f"{PICTURES}/{split}-{row}.png",
                "split": split,
                "row": row,
                "id": str(ids[at]),
                "label": str(p.classes[labels[at]]),
                "predicted": str(p.classes[predicted]),
                "confidence": float(probabilities[at, predicted]),
                "label_confidence": float(probabilities[at, labels[at]]),
                "groups": list(rank),
                "rank": rank,
            }
        )
    return chosen


def save_examples(
    workdir: Path, chosen: Sequence[Mapping[str, Any]], image: Callable[[str, int], np.ndarray]
) -> None:
    """Writes a run's `examples.json` and its pictures, and removes those of an earlier run.

    Args:
      workdir: the run's folder.
      chosen: as `telling_examples` returns them.
      image: (split, row) -> uint8 [H, W, 3].
    """
    for earlier in (workdir / PICTURES).glob("*.png"):
        earlier.unlink()
    (workdir / PICTURES).mkdir(exist_ok=True)
    for example in chosen:
        save_picture(workdir / example["file"], image(example["split"], example["row"]))
    write_json(workdir / EXAMPLES, list(chosen))


def save_picture(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes an image as PNG, made smaller where a side is longer than LONGEST_SIDE."""
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))  # never enlarges
    with replacing(path) as partial:
        picture.save(partial, format="PNG")


def load_examples(workdir: Path) -> list[dict[str, Any]]:
    """Returns what a run's `examples.json` holds; an empty list if there is no such file.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / EXAMPLES
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise arrays.damaged(path, error) from error


def _predicted(
    probabilities: Float[np.ndarray, "n c"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns the class with the highest probability, and that probability."""
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


def _first(
    chosen: Bool[np.ndarray, " n"], key: Float[np.ndarray, " n"], k: int
) -> Int[np.ndarray, " m"]:
    """Returns the k chosen rows with the smallest keys, in order."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(key[rows], kind="stable")][:k]
