"""A picture of training images as the network sees them, augmented and mixed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tl.train.inputs import Inputs
from tl.train.mixing import Mixing, mix, one_hot_targets

SHOWN = 40


def draw(
    inputs: Inputs, mixing: Mixing, classes: Sequence[str], batch_size: int, seed: int, path: Path
) -> None:
    """Writes a contact sheet of the run's first batch, augmented and mixed, with its targets.

    Args:
      inputs: gives images (not activations).
      mixing: between the images of the batch.
      classes: names, in the order of the labels.
      batch_size: of training.
      seed: of the run; the mixing is an example of what may come, not that of the first step.
      path: of the PNG to write.
    """
    from tl.report import fonts  # Matplotlib takes a second to import
    from tl.report.contact_sheet import contact_sheet

    stream = dataclasses.replace(inputs, threads=0).stream(batch_size, seed)
    batch, _ = next(stream)
    stream.close()
    classes = fonts.class_names(classes)
    targets = one_hot_targets(jnp.asarray(batch["label"]), len(classes))
    images, targets = mix(
        jnp.asarray(batch["image"], jnp.float32), targets, jax.random.key(seed), mixing
    )
    captions = [
        " + ".join(
            classes[k] if share > 0.995 else f"{share:.2f} {classes[k]}"
            for k, share in enumerate(row)
            if share > 0.005
        )
        for row in np.asarray(targets[:SHOWN])
    ]
    shown = np.asarray(jnp.clip(jnp.round(images[:SHOWN]), 0, 255), np.uint8)
    contact_sheet(shown, captions, "training images, augmented", path)
