"""What a user's mistake looks like: one message, no traceback."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Input that cannot be used; the text says what was expected, what came and what to do.

    `tl.runs.cli.run` prints it as one message and exits with status 2, so library code may raise it
    wherever a user's mistake shows, and callers of the library may catch it as a `ValueError`.

    Fields of a config go by their dotted names, for only a command knows its flags: the one at
    fault as `field`, which begins the text, others in backquotes, alone or with a value, such as
    `data.skip_corrupt` and `train.head='zero'`. The command writes both as flags.

    >>> print(UserError("expected at least 1, got 0", field="train.batch_size"))
    train.batch_size: expected at least 1, got 0

    Attributes:
      field: dotted name of the config's field that is at fault; '' where none is.
    """

    def __init__(self, text: str, *, field: str = ""):
        super().__init__(f"{field}: {text}" if field else text)
        self.field = field


class Stopped(Exception):
    """A run that was asked to stop has saved what it did; the text says how it goes on.

    Attributes:
      status: of the process: 128 and the number of the signal, as shells count.
    """

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status


def nearest(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """Returns a clause naming the nearest of `names`, or all of them where none is near.

    >>> nearest("resnet5", ["resnet50", "resnet18"])
    "; the nearest are 'resnet50', 'resnet18'"

    Args:
      name: misspelt.
      names: that there are.
      otherwise: what to say in the place of all names, where they are many.
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "; the nearest are " + ", ".join(map(repr, close))
    return f"; {otherwise}" if otherwise else "; there are " + ", ".join(map(repr, names))


def first_of(names: Sequence[object], most: int = 10) -> str:
    """Returns names joined by commas, at most so many of them; dots stand for the rest.

    >>> first_of(["cat", "dog", "eel"], 2)
    'cat, dog, ...'
    """
    return ", ".join([*map(str, names[:most]), *["..."] * (len(names) > most)])
