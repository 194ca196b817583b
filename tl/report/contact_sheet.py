"""A grid of images with captions, so that a person sees what a network is trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tl.files import replacing
from tl.report import fonts, lettering

# Inches: the width of an image, the gap between images, the height of a line of text.
_WIDTH, _GAP, _CAPTION_LINE, _TITLE_LINE = 1.6, 0.15, 0.14, 0.2
_CAPTION_SIZE, _TITLE_SIZE = 7.5, 11  # of the font, in points


def contact_sheet(
    images: np.ndarray, captions: Sequence[str], title: str, path: Path, columns: int = 8
) -> None:
    """Draws images row by row, each over its caption.

    Args:
      images: uint8 [N, H, W, 3], RGB, N >= 1; 64 are still legible.
      captions: N texts; long ones are broken into lines.
      title: above the grid.
      path: of the PNG to write.
      columns: images in a row, >= 1.

    Raises:
      ValueError: no images, or another number of captions.
    """
    if not 0 < len(images) == len(captions):
        raise ValueError(
            f"expected at least one image and a caption for each; got {len(images)} images and "
            f"{len(captions)} captions"
        )
    with fonts.fallbacks():
        _draw(images, captions, title, path, min(columns, len(images)))


def _draw(
    images: np.ndarray, captions: Sequence[str], title: str, path: Path, columns: int
) -> None:
    width = columns * (_WIDTH + _GAP) + _GAP
    title = lettering.wrapped(fonts.legible(title), width - 2 * _GAP, _TITLE_SIZE)
    captions = [
        lettering.wrapped(fonts.legible(caption), _WIDTH, _CAPTION_SIZE) for caption in captions
    ]

    image_height = _WIDTH * images.shape[1] / images.shape[2]
    tops = [2 * _GAP + _lines(title) * _TITLE_LINE]
    for start in range(0, len(images), columns):
        lines = max(map(_lines, captions[start : start + columns]))
        tops.append(tops[-1] + image_height + lines * _CAPTION_LINE + _GAP)
    height = tops[-1]

    figure = Figure(figsize=(width, height))
    text: dict[str, Any] = {"va": "top", "parse_math": False}  # a dollar sign in a caption is one
    figure.text(_GAP / width, 1 - _GAP / height, title, fontsize=_TITLE_SIZE, **text)
    for i, (image, caption) in enumerate(zip(images, captions)):
        row, column = divmod(i, columns)
        left, bottom = _GAP + column * (_WIDTH + _GAP), height - tops[row] - image_height
        axes = figure.add_axes(
            (left / width, bottom / height, _WIDTH / width, image_height / height)
        )
        axes.imshow(image)
        axes.set_axis_off()
        figure.text(
            (left + _WIDTH / 2) / width,
            (bottom - 0.03) / height,
            caption,
            ha="center",
            fontsize=_CAPTION_SIZE,
            **text,
        )
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, metadata={"Software": None}, format="png")


def _lines(text: str) -> int:
    return text.count("\n") + 1
