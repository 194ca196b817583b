"""Checks the types of arguments and results of the functions of `tl` while tests run.

jaxtyping's import hook decorates all of them with `jaxtyping.jaxtyped`, which takes as long as to
trace a network with them: it checks arguments twice, and prepares for shapes where there are none,
and for functions inside functions. `install` puts `checked` in its place.
"""

import dataclasses
import functools
import inspect
import typing

import jaxtyping
import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

# A NumPy scalar may stand for a number, and a whole number for a float.
_beartype = beartype(
    conf=BeartypeConf(
        hint_overrides=FrozenDict(
            {int: int | np.integer, float: float | int | np.floating | np.integer}
        ),
        violation_type=jaxtyping.TypeCheckError,
    )
)
_jaxtyped = jaxtyping.jaxtyped


def install(modules):
    """Has all functions and dataclasses of modules checked that are imported from now on."""
    jaxtyping.jaxtyped = lambda typechecker: typechecker
    jaxtyping.install_import_hook(modules, f"{__name__}.{checked.__name__}")


def checked(decorated):
    """Returns a function, or a dataclass whose `__init__` is one, that is checked at every call.

    A function inside another is not: it is made anew at every call of the outer one, and making
    its checker takes long. Those of other functions are made at their first call, since many are
    not called in one worker.
    """
    if inspect.isclass(decorated):
        if dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated):
            decorated.__init__ = checked(decorated.__init__)
        return decorated
    if "<locals>" in decorated.__qualname__:
        return decorated

    @functools.cache
    def checker():
        return _checker(decorated)

    @functools.wraps(decorated)
    def call(*arguments, **named):
        return checker()(*arguments, **named)

    return call


def _checker(function):
    """Returns the checked function, in which each name of an axis stands for one length."""
    whole = functools.partial(_jaxtyped, function, typechecker=_beartype)
    if inspect.isgeneratorfunction(function):  # whose body runs after the call
        return whole()
    try:
        shapes = list(_shapes(typing.get_type_hints(function, include_extras=True)))
    except NameError:  # in optax.OptState, which jaxtyping leaves unchecked
        return whole()
    if not shapes:
        return _beartype(function)
    if any("{" in shape for shape in shapes):  # of an argument, which it has to look up
        return _jaxtyped(_beartype(function), typechecker=None)
    unnamed = _beartype(function)

    def call(*arguments, **named):
        with _jaxtyped("context"):
            return unnamed(*arguments, **named)

    return call


def _shapes(hint):
    """Yields the shapes in a type, or in all of a dictionary."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        yield hint.dim_str
    for part in hint.values() if isinstance(hint, dict) else typing.get_args(hint):
        yield from _shapes(part)
