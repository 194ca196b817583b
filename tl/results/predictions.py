"""A run's predictions for its test and val rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tl.errors import UserError
from tl.results import arrays
from tl.weights.spec import LINKS, Link

PREDICTIONS = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """The predictions of a run's selected heads, at its largest number of examples a class.

    The rows are those with a label, in the order of their source. Runs on the same data have the
    same test rows.

    Attributes:
      seeds: int64 [S].
      classes: str [C], names.
      test_ids: str [N].
      test_labels: int32 [N], 0..C-1.
      test_predicted: int32 [S, N], the class that each seed's selected head predicts.
      test_logits: float32 [N, C], of the first seed's selected head.
      val_ids: str [M], of the first seed's val rows.
      val_labels: int32 [M].
      val_logits: float32 [M, C], of a head that was not fitted on these rows, as temperature
        scaling needs.
      link: how the logits become probabilities; files written before this field have softmax.
    """

    seeds: np.ndarray
    classes: np.ndarray
    test_ids: np.ndarray
    test_labels: np.ndarray
    test_predicted: np.ndarray
    test_logits: np.ndarray
    val_ids: np.ndarray
    val_labels: np.ndarray
    val_logits: np.ndarray
    link: Link = "softmax"

    def __post_init__(self) -> None:
        dtypes = {
            "seeds": np.int64,
            **dict.fromkeys(("classes", "test_ids", "val_ids"), np.str_),
            **dict.fromkeys(("test_labels", "test_predicted", "val_labels"), np.int32),
            **dict.fromkeys(("test_logits", "val_logits"), np.float32),
        }
        for name, dtype in dtypes.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        object.__setattr__(self, "link", str(self.link))  # a file gives an array of one string
        if self.link not in LINKS:
            raise ValueError(f"expected a link of {', '.join(LINKS)}, got {self.link!r}")
        seeds, classes = len(self.seeds), len(self.classes)
        tested, chosen_on = len(self.test_ids), len(self.val_ids)
        shapes = {
            "test_labels": (tested,),
            "test_predicted": (seeds, tested),
            "test_logits": (tested, classes),
            "val_labels": (chosen_on,),
            "val_logits": (chosen_on, classes),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"expected {name} {shape}, got {getattr(self, name).shape}")

    @property
    def correct(self) -> np.ndarray:
        """Whether each seed's head was right, bool [S, N]."""
        return self.test_predicted == self.test_labels

    def save(self, path: Path) -> None:
        """Writes the predictions to a file, atomically. A run's folder has them as PREDICTIONS."""
        arrays.save(path, vars(self))

    @classmethod
    def load(cls, workdir: Path) -> "Predictions":
        """Returns the predictions of a run.

        Raises:
          UserError: the run has none, or their file is damaged.
        """
        loaded = arrays.load(workdir / PREDICTIONS, cls)
        if loaded is None:
            raise UserError(
                f"{workdir} has no {PREDICTIONS}: expected a finished run of experiments.probe or "
                "experiments.finetune; one from before they wrote that file must be run again"
            )
        return loaded
