"""A probe's classifier as a file: its tensors, and all that is needed to apply them to images."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tl import tree
from tl.errors import UserError
from tl.weights import trained
from tl.weights.spec import Preprocessing, WeightChoice

HEAD = "head.safetensors"  # of a run's first seed; others are `name_of_seed`
TENSORS = {"linear": ("kernel", "bias"), "knn": ("directions", "labels")}
_KEY = "tl.probe"  # of the description, in the file's metadata


@dataclasses.dataclass(frozen=True)
class ProbeHead:
    """A classifier of features, and how these features are made.

    Attributes:
      kind: a key of TENSORS.
      tensors: of `linear`: kernel float32 [D, C] and bias float32 [C], which act on raw features
        (standardisation is folded in). Of `knn`: directions float32 [N, D], rows of length 1, and
        labels int64 [N].
      setting: hyper-parameters of the fit, such as {'l2': 1e-3}; of `knn`: k and temperature.
      endpoint: whose features it acts on; 'a+b' are concatenated.
      pooling, dtype, fold_batch_norm: how they were extracted, see `tl.features.network`.
      image_shape: of the images it was fitted on, where all share one small shape, else None.
      preprocessing: of the images.
      weights: of the network; a path is absolute.
      sha256: of these weights.
      classes: names of the outputs.
      temperature: what logits are divided by before they become probabilities, fitted on val.
      seed: of the fit.
    """

    kind: str
    tensors: Mapping[str, np.ndarray]
    setting: Mapping[str, float]
    endpoint: str
    pooling: str
    dtype: str
    fold_batch_norm: bool
    image_shape: tuple[int, int, int] | None
    preprocessing: Preprocessing
    weights: WeightChoice
    sha256: str
    classes: tuple[str, ...]
    temperature: float = 1.0
    seed: int = 0

    def digest(self) -> str:
        """Returns the SHA-256, in hex, of the network's weights and of the classifier's tensors."""
        return tree.digest(
            {"weights": np.frombuffer(self.sha256.encode(), np.uint8), **self.tensors}
        )

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
          UserError: it cannot be written.
        """
        described = {**dataclasses.asdict(self), "preprocessing": self.preprocessing.described()}
        tensors = described.pop("tensors")
        tensors = {name: np.ascontiguousarray(tensors[name]) for name in TENSORS[self.kind]}
        trained.write_safetensors(tensors, path, {_KEY: json.dumps(described)})


def name_of_seed(place: int, seed: int) -> str:
    """Returns the name of the file of a run's seed, which is the run's `place`-th.

    >>> name_of_seed(0, 7), name_of_seed(1, 8)
    ('head.safetensors', 'head.seed8.safetensors')
    """
    return f"head.seed{seed}.safetensors" if place else HEAD


def find(path: Path) -> Path | None:
    """Returns the head's file that a path means, a run's folder or the file; None if it is none."""
    if os.path.isdir(path):
        file = path / HEAD
        return file if file.is_file() else None
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return path if _KEY in (file.metadata() or {}) else None
    except (safetensors.SafetensorError, OSError):
        return None


def read(path: Path) -> ProbeHead:
    """Returns the classifier in a file of `ProbeHead.save`.

    Raises:
      UserError: the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            described: dict[str, Any] = json.loads(file.metadata()[_KEY])
            tensors = {name: file.get_tensor(name) for name in TENSORS[described["kind"]]}
        shape = described["image_shape"]
        described |= {
            "preprocessing": trained.preprocessing(described["preprocessing"]),
            "weights": WeightChoice(**described["weights"]),
            "classes": tuple(described["classes"]),
            "image_shape": tuple(shape) if shape else None,
        }
        head = ProbeHead(tensors=tensors, **described)
        outputs = len(head.classes)
        if head.kind == "linear" and (
            tensors["bias"].shape != (outputs,) or tensors["kernel"].shape[1:] != (outputs,)
        ):
            raise ValueError(f"a kernel {tensors['kernel'].shape} for {outputs} classes")
        return head
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the classifier {path} is damaged ({error!r}); restore it, or make the run again"
        ) from error
