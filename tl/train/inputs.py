"""Batches for training and evaluation, from images or from stored outputs of frozen stages."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator, Mapping

import jax
import numpy as np
from jaxtyping import Int

from tl.data import loader
from tl.data.augment import Augmentation, augment, seen
from tl.data.sources import Examples, Source, drafted
from tl.data.transforms import host_and_device
from tl.weights.spec import Preprocessing

Prepare = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Examples of every part of a run, and how they become inputs of the network.

    Attributes:
      parts: `train`, `val` and `test` to (source, its rows).
      augment: (image, generator) -> image, for training examples, on the host.
      transform: image -> image, for examples to evaluate, on the host; None for no change.
      prepare_train, prepare_eval: a batch of these images -> the network's input, on the device.
      start: endpoint whose outputs the examples are; '' if they are images.
      threads: of the loader.
      drawn: the source of train as training reads it, where its images are decoded otherwise than
        to evaluate; None for that of `parts`.
    """

    parts: Mapping[str, tuple[Examples, Int[np.ndarray, " _"]]]
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    transform: Callable[[np.ndarray], np.ndarray] | None
    prepare_train: Prepare
    prepare_eval: Prepare
    start: str
    threads: int
    drawn: Examples | None = None

    def stream(
        self,
        batch_size: int,
        seed: int,
        position: dict | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> Generator[tuple[dict, dict], None, None]:
        """Yields training batches for ever; see `tl.data.loader.stream`."""
        source, rows = self.parts["train"]
        return loader.stream(
            source if self.drawn is None else self.drawn,
            rows,
            batch_size,
            seed=seed,
            transform=self.augment,
            position=position,
            share=share,
            threads=self.threads,
        )

    def batches(
        self, part: str, batch_size: int, share: tuple[int, int] = (0, 1)
    ) -> Iterator[dict]:
        """Yields each example of a part once; mask is False for padding and corrupt images.

        See `tl.data.loader.batches`.
        """
        source, rows = self.parts[part]
        for batch in loader.batches(
            source,
            batch_size,
            indices=rows,
            transform=self.transform,
            share=share,
            threads=self.threads,
        ):
            yield {**batch, "mask": batch["mask"] & (batch["label"] >= 0)}


def image_inputs(
    parts: Mapping[str, tuple[Source, Int[np.ndarray, " _"]]],
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    threads: int,
) -> Inputs:
    """Returns the inputs of a network that starts from images, not from stored outputs.

    Args:
      parts: see `Inputs`.
      augmentation: of training images; if it is not active, they are prepared as for evaluation.
      preprocessing: how the network's images are prepared. Its `draft` is for all images but those
        of which a `resized` crop is taken.
      threads: of the loader.
    """
    shape = parts["train"][0].image_shape
    transform, prepare = host_and_device(shape, preprocessing)
    if augmentation.active:
        _, prepare_train = host_and_device(None, preprocessing)
        augmented = functools.partial(augment, a=augmentation, p=preprocessing)
    else:
        prepare_train = prepare
        augmented = functools.partial(unchanged, transform=transform)
    decoded = {
        part: (drafted(source, preprocessing), rows) for part, (source, rows) in parts.items()
    }
    train = drafted(parts["train"][0], seen(augmentation, preprocessing))
    return Inputs(
        parts=decoded,
        augment=augmented,
        transform=transform,
        prepare_train=functools.partial(prepare_train, p=preprocessing),
        prepare_eval=functools.partial(prepare, p=preprocessing),
        start="",
        threads=threads,
        drawn=train if preprocessing.draft else None,
    )


def unchanged(
    image: np.ndarray,
    rng: np.random.Generator,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Returns a training image prepared as for evaluation: only `transform`, no augmentation."""
    return image if transform is None else transform(image)
