"""Rules that set hyperparameters from the data: BiT-HyperRule, and Kornblith's momentum."""

from typing import Any

SMALL, LARGE = 20_000, 500_000  # examples: below, at least
# By size: steps at which warm-up ends, the rate falls (three times), and the run ends. In the paper
# it falls at 30, 60 and 90 % of every run; in its code at 40, 60 and 80 % of a small one.
POINTS = {
    "small": (100, 200, 300, 400, 500),
    "medium": (500, 3000, 6000, 9000, 10_000),
    "large": (500, 6000, 12_000, 18_000, 20_000),
}


def bit_hyperrule(num_examples: int, image_shape: tuple[int, int, int] | None) -> dict[str, Any]:
    """Returns the fields of a config that BiT-HyperRule derives from the data.

    Source: Kolesnikov et al. 2020, arXiv:1912.11370, section 3.3, with the values of its code
    (google-research/big_transfer, bit_hyperrule.py). Images are resized to a square, and a crop of
    it is trained on: 512 and 480 pixels for large images, where the paper says 448 and 384. Fields
    that are the same for all data sets are in configs/bit_hyperrule.py. In that code warm-up starts
    at 0 and the rate falls one update later; see `tl.train.schedules`.

    Args:
      num_examples: of train.
      image_shape: height, width, channels of every image; None if they vary, which counts as large.

    Returns:
      Dotted name of a field to value, such as 'train.steps': 500.
    """
    size = "small" if num_examples < SMALL else "medium" if num_examples < LARGE else "large"
    warmup, *falls, steps = POINTS[size]
    tiny = image_shape is not None and image_shape[0] * image_shape[1] < 96 * 96
    resize, crop = (160, 128) if tiny else (512, 480)
    return {
        "preprocess.size": crop,
        "augment.resize": resize,
        "augment.mixup": 0.0 if size == "small" else 0.1,
        "train.steps": steps,
        "optim.warmup": warmup / steps,
        "optim.boundaries": tuple(fall / steps for fall in falls),
    }


def kornblith_momentum(steps_per_epoch: float) -> float:
    """Returns the share of old batch statistics kept in an update: max(1 - 10 / s, 0.9).

    After an epoch of more than 100 steps the old statistics weigh e^-10 (Kornblith et al. 2019,
    arXiv:1805.08974; Chen et al. 2020, arXiv:2002.05709, appendix B.8).

    Args:
      steps_per_epoch: s, above 0; up to 100 the result is 0.9.

    >>> kornblith_momentum(0.5), kornblith_momentum(100), kornblith_momentum(1000)
    (0.9, 0.9, 0.99)
    """
    return max(1 - 10 / steps_per_epoch, 0.9)
