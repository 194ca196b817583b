"""The type checker of the functions of `tl` while tests run; `conftest` installs it."""

import functools
import types

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

# A NumPy scalar may stand for a number, and a whole number for a float.
_check = beartype(
    conf=BeartypeConf(
        hint_overrides=FrozenDict(
            {int: int | np.integer, float: float | int | np.floating | np.integer}
        )
    )
)


def check(function):
    """Returns the checked function; a function inside another is not checked.

    It is made anew at every call of the outer one, and making its checker takes long. Those of
    other functions are made at their first call, since many are not called in one worker.
    """
    if "<locals>" in function.__qualname__:
        return function
    if not isinstance(function, types.FunctionType):
        return _check(function)

    @functools.cache
    def checked():
        return _check(function)

    @functools.wraps(function)
    def call(*arguments, **named):
        return checked()(*arguments, **named)

    return call
