"""The type checker of every function of `tl` while tests run; `conftest` installs it."""

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

# A NumPy scalar may stand for a number, and a whole number for a float.
check = beartype(
    conf=BeartypeConf(
        hint_overrides=FrozenDict(
            {int: int | np.integer, float: float | int | np.floating | np.integer}
        )
    )
)
