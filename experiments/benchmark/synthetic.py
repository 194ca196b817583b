"""What is measured: any backbone with random weights, and images that are there at once."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from tl import tree
from tl.data.encoded import Example
from tl.models import registry
from tl.weights.load import Pretrained
from tl.weights.spec import LocalFile, Preprocessing, WeightSpec


def random_network(
    backbone: str, size: int, num_classes: int = 0, seed: int = 0, **arguments: Any
) -> Pretrained:
    """Returns a network whose every variable is random, batch statistics too.

    Args:
      backbone: see `tl.models.registry`.
      size: of the images it takes, pixels; they are squashed to it.
      num_classes: of its head; 0 for none.
      seed: the same one gives the same variables.
      **arguments: of the model, as for `tl.models.registry.build`.
    """
    model = registry.build(backbone, num_classes=num_classes, **arguments)
    rng = np.random.default_rng(seed)

    def draw(path: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path.split("/")[-1]
        if name == "kernel":  # activations keep their size, as after He et al. 2015
            value = rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape)
        elif name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:  # bias and mean
            value = rng.normal(0, 0.1, leaf.shape)
        return value.astype(leaf.dtype)

    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    spec = WeightSpec(
        name=f"{backbone}.random",
        backbone=backbone,
        source=LocalFile(f"random {seed}"),
        scheme="",
        preprocessing=Preprocessing(size=size, geometry="whole"),
        licence="",
        model_args=arguments,
        num_classes=num_classes,
    )
    variables = {"batch_stats": {}} | tree.map_with_path(draw, shapes)
    return Pretrained(spec, registry.get(backbone), model, variables, sha256=f"{seed:064x}")


def random_images(count: int, size: int) -> np.ndarray:
    """Returns uint8 `[count, size, size, 3]`, the same every time."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@dataclasses.dataclass(frozen=True)
class NoiseSource:
    """Images of one small size, made on the spot: a source (`tl.data.sources`) with no decoding."""

    length: int
    size: int
    name: str = "noise"
    version: str = "1"
    split: str = "train"
    id_bytes: int = 16
    classes: tuple[str, ...] = tuple("0123456789")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The same for all."""
        return (self.size, self.size, 3)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> Example:
        image = np.random.default_rng(row).integers(0, 256, self.image_shape, np.uint8)
        return {"image": image, "label": row % len(self.classes), "id": str(row)}

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns every class in turn."""
        return np.arange(self.length, dtype=np.int32) % len(self.classes)
