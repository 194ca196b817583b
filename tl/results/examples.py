"""The examples of a run that a person should look at, and their pictures."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tl.files import write_json
from tl.results import arrays, calibration
from tl.results import telling as examples
from tl.results.predictions import Predictions

EXAMPLES = "examples.json"
PICTURES = "examples"
MOST_EXAMPLES = 24  # of a group
LONGEST_SIDE = 128  # px, of a picture


def telling_examples(predictions: Predictions) -> list[dict[str, Any]]:
    """Returns the examples a person should look at, as `examples.json` has them.

    Mistakes and doubts are of test, likely wrong labels of test and val; probabilities are those
    of the first seed after temperature scaling on val.
    """
    p = predictions
    scale = calibration.temperature(p.val_logits, p.val_labels, p.link)
    test, val = (
        calibration.probabilities(logits, scale, p.link) for logits in (p.test_logits, p.val_logits)
    )
    probabilities = np.concatenate([test, val])
    labels = np.concatenate([p.test_labels, p.val_labels])
    ids = np.concatenate([p.test_ids, p.val_ids])
    groups = {
        "confident mistake": examples.confident_mistakes(test, p.test_labels, MOST_EXAMPLES),
        "uncertain and right": examples.uncertain_right(test, p.test_labels, MOST_EXAMPLES),
        "likely mislabelled": examples.mislabelled(probabilities, labels, MOST_EXAMPLES),
    }
    ranks: dict[int, dict[str, int]] = {}
    for group, rows in groups.items():
        for rank, row in enumerate(rows.tolist()):
            ranks.setdefault(row, {})[group] = rank
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
    """Writes a run's `examples.json` and its pictures, in the place of earlier ones.

    Args:
      workdir: the run's folder.
      chosen: see `telling_examples`.
      image: (split, row) -> uint8 [H, W, 3].
    """
    shutil.rmtree(workdir / PICTURES, ignore_errors=True)
    (workdir / PICTURES).mkdir()
    for example in chosen:
        picture = Image.fromarray(image(example["split"], example["row"]))
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))  # which never enlarges
        picture.save(workdir / example["file"])
    write_json(workdir / EXAMPLES, list(chosen))


def load_examples(workdir: Path) -> list[dict[str, Any]]:
    """Returns what a run's `examples.json` says; nothing where it has none.

    Raises:
      UserError: it is damaged.
    """
    path = workdir / EXAMPLES
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise arrays.damaged(path, error) from error
