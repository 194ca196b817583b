"""A run's predictions for its test and val images."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from tl.errors import UserError
from tl.results import arrays, calibration
from tl.weights.spec import LINKS, Link

PREDICTIONS = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """The predictions of a run's selected heads, at its largest number of examples per class.

    The rows are the images with a label, in the order of their source. Runs on the same data have
    the same test rows. Values are converted to the dtypes below.

    Attributes:
      seeds: int64 [S].
      classes: str [C], names.
      test_ids: str [N].
      test_labels: int32 [N], 0..C-1.
      test_predicted: int32 [S, N], the class that each seed's selected head predicts.
      test_logits: float32 [N, C], from the first seed's selected head.
      val_ids: str [M], the first seed's val rows; in cross-validation all rows of train that a
        fold held out.
      val_labels: int32 [M].
      val_logits: float32 [M, C], from a head that was not fitted on these rows, as temperature
        scaling needs.
      link: how the logits become probabilities; files written before this field have softmax.
      temperature: of an evaluated model, which has no val rows; NaN where val decides.
      test_groups: str [N], the group of each test image, over which intervals are; None, which
        becomes an empty array, where each image stands for itself.
    """

    seeds: Int[np.ndarray, " s"]
    classes: Shaped[np.ndarray, " c"]
    test_ids: Shaped[np.ndarray, " n"]
    test_labels: Int[np.ndarray, " n"]
    test_predicted: Int[np.ndarray, "s n"]
    test_logits: Float[np.ndarray, "n c"]
    val_ids: Shaped[np.ndarray, " m"]
    val_labels: Int[np.ndarray, " m"]
    val_logits: Float[np.ndarray, "m c"]
    link: Link = "softmax"
    temperature: float = math.nan
    test_groups: Shaped[np.ndarray, " _"] | None = None

    def __post_init__(self) -> None:
        if self.test_groups is None:
            object.__setattr__(self, "test_groups", np.zeros(0, np.str_))
        dtypes = {
            "seeds": np.int64,
            **dict.fromkeys(("classes", "test_ids", "val_ids", "test_groups"), np.str_),
            **dict.fromkeys(("test_labels", "test_predicted", "val_labels"), np.int32),
            **dict.fromkeys(("test_logits", "val_logits"), np.float32),
        }
        for name, dtype in dtypes.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
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
            "test_groups": (0 if self.groups is None else tested,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"expected {name} {shape}, got {getattr(self, name).shape}")

    @property
    def correct(self) -> Bool[np.ndarray, "s n"]:
        """Whether each seed's head was right, bool [S, N]."""
        return self.test_predicted == self.test_labels

    @property
    def groups(self) -> Shaped[np.ndarray, " n"] | None:
        """The group of each test image, or None where each stands for itself."""
        groups = self.test_groups
        return None if groups is None or not len(groups) else groups

    def fit(self) -> calibration.Fit:
        """Returns the temperature of the first seed's probabilities: the model's own, or val's."""
        if not math.isnan(self.temperature):
            return calibration.Fit(self.temperature)
        return calibration.fit(self.val_logits, self.val_labels, self.link)

    def scaling(self) -> calibration.Scaling:
        """Returns what temperature scaling does to the first seed's probabilities on test."""
        return calibration.scaling(self.test_logits, self.test_labels, self.fit(), self.link)

    def save(self, path: Path) -> None:
        """Writes the predictions to a file; the name is PREDICTIONS in a run's folder."""
        arrays.save(path, vars(self))

    @classmethod
    def load(cls, workdir: Path) -> "Predictions":
        """Returns the predictions in a run's folder.

        Raises:
          UserError: there is no such file, or it is damaged.
        """
        loaded = arrays.load(workdir / PREDICTIONS, cls)
        if loaded is None:
            raise UserError(
                f"{workdir} has no {PREDICTIONS}: expected a finished run of experiments.probe or "
                "experiments.finetune; one from before they wrote that file must be run again"
            )
        return loaded
