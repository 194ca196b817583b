"""What a few seeds tell about the mean over all seeds."""

import numpy as np
from scipy.stats import t


def seeds_interval(values, level: float = 0.95) -> tuple[float, float, float]:
    """Returns the mean over seeds and Student's t interval of it.

    With two seeds the interval is 12.7 standard errors to either side, with five 2.8: what is wide
    here is not known better.

    >>> [round(v, 3) for v in seeds_interval([0.9, 0.92])]
    [0.91, 0.783, 1.037]

    Args:
      values: float [n], one of each seed; n >= 2.
      level: probability that the interval covers.

    Returns:
      (mean, low, high); the interval is not cut off where a value could not lie.

    Raises:
      ValueError: fewer than two values.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"expected a vector of two values or more, got shape {values.shape}")
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    reach = t.ppf(0.5 + level / 2, len(values) - 1) * error
    return float(mean), float(mean - reach), float(mean + reach)
