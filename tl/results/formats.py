"""Numbers as the pages show them: percent, intervals, times; fractions go in."""

import datetime
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl.results.called import as_called

THIN = "\u202f"  # a narrow space that does not break: between a number and its unit
TO = NONE = "\N{EN DASH}"  # between the ends of a range; and in the place of what is not there


def in_percent(fraction: float) -> str:
    """Formats a fraction in percent with one decimal, without the sign.

    >>> in_percent(0.9915)
    '99.2'
    """
    return f"{100 * fraction:.1f}"


def with_interval(fraction: float, ends: Sequence[float]) -> str:
    """Formats a fraction and its interval in percent, without the sign.

    >>> with_interval(0.622, (0.6, 0.6412))
    '62.2 (60.0-64.1)'
    """
    low, high = ends
    return f"{in_percent(fraction)} ({in_percent(low)}-{in_percent(high)})"


def percent(fraction: float | None) -> str:
    """Formats a fraction as a percentage with one decimal; None, which was not measured, as a dash.

    >>> percent(0.9915).replace(THIN, " ")
    '99.2 %'
    """
    return NONE if fraction is None else f"{in_percent(fraction)}{THIN}%"


def interval(ends: Sequence[float] | None) -> str:
    r"""Formats two fractions as an interval in percent.

    >>> interval((0.985, 0.997)).replace(THIN, " ")
    '98.5\u201399.7 %'
    """
    if ends is None or None in ends:
        return NONE
    return f"{in_percent(ends[0])}{TO}{in_percent(ends[1])}{THIN}%"


def points(difference: float | None, ends: Sequence[float] | None = None) -> str:
    """Formats a difference of two fractions, and its interval, in percentage points.

    >>> points(-0.013, (-0.02, 0.001))
    '-1.3 (-2.0 to +0.1)'
    """
    if difference is None:
        return NONE
    text = f"{100 * difference:+.1f}"
    return f"{text} ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else text


def seconds(value: float | None) -> str:
    """Formats a measured time by its two largest units.

    >>> [seconds(v).replace(THIN, " ") for v in (0.84, 28.5, 1115, 7290)]
    ['0.8 s', '28.5 s', '18 min 35 s', '2 h 2 min']
    """
    if value is None:
        return NONE
    if value < 59.95:
        return f"{value:.1f}{THIN}s"
    if value < 3599.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes}{THIN}min {rest}{THIN}s"
    minutes = round(value / 60)
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def size(count: int) -> str:
    """Returns a number of bytes in a unit of a thousand, million or billion of them.

    >>> size(640), size(9_400), size(982_700_000)
    ('640 bytes', '9.4 kB', '982.7 MB')
    """
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if round(count / 1000 ** (power - 1), 1) >= 1000:
            return f"{count / 1000**power:,.1f} {unit}"
    return f"{count} bytes"


def memory(found: Mapping[str, Any]) -> str:
    """Says what the state of training takes on each device.

    >>> found = {"devices": 8, "variables": 2000, "optimizer": 3000, "average": 0, "state": 5012}
    >>> memory({**found, "whole": 40012})
    '5.0 kB of 40.0 kB on each of 8 devices (variables 2.0 kB, optimizer 3.0 kB)'

    Args:
      found: `memory` of `result.json`.
    """
    parts = ("variables", "optimizer", "average")
    named = ", ".join(f"{part} {size(found[part])}" for part in parts if found[part])
    of = f" of {size(found['whole'])}" if found["whole"] > found["state"] else ""
    devices = f"each of {found['devices']:,} devices" if found["devices"] > 1 else "one device"
    return f"{size(found['state'])}{of} on {devices} ({named})"


def duration(value: float) -> str:
    """Formats a time that is roughly known, in seconds, by one unit.

    >>> duration(42), duration(1080), duration(9000)
    ('42 s', '18 min', '2.5 h')
    """
    if value < 90:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def date(iso: str | None) -> str:
    """Formats a time of ISO 8601 as date and minute, in UTC.

    >>> date("2026-11-25T05:58:18+02:00")
    '2026-11-25 03:58'
    """
    if not iso:
        return NONE
    return f"{datetime.datetime.fromisoformat(iso).astimezone(datetime.UTC):%Y-%m-%d %H:%M}"


def in_folds(val: Mapping[str, Any]) -> str:
    """Returns in how many folds the val of a result was held out; '' where it was one part.

    >>> in_folds({"top1": 0.9, "count": 100, "folds": 5}), in_folds({"top1": 0.9, "count": 20})
    (', held out in 5 folds', '')

    Args:
      val: of `result.json`.
    """
    return f", held out in {val['folds']} folds" if "folds" in val else ""


def plural(count: int, noun: str) -> str:
    """Formats a count with its noun.

    >>> plural(1, "seed"), plural(3000, "seed")
    ('1 seed', '3,000 seeds')
    """
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def shell_word(word: str) -> str:
    """Quotes a word for a shell, in double quotes where single ones would be many.

    >>> print(shell_word("--names=('stem',)"), shell_word("a $5"), shell_word("plain"))
    "--names=('stem',)" 'a $5' plain
    """
    plain = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)


def value(item: Any) -> str:
    """Formats a setting of a config or a result.

    >>> value(1e-06), value(0.3333333), value((5, 10)), value(True), value("") == NONE
    ('1e-06', '0.3333', '5, 10', 'yes', True)
    """
    if isinstance(item, bool):
        return "yes" if item else "no"
    if item is None or item == "" or item == [] or item == ():
        return NONE
    if isinstance(item, float):
        return f"{item:.4g}"
    if isinstance(item, list | tuple):
        return ", ".join(map(value, item))
    return f"{item:,}" if isinstance(item, int) else str(item)


def setting(chosen: dict[str, Any]) -> str:
    """Formats what was selected, a name and value after another.

    >>> setting({"endpoint": "stage4", "solver": "logistic", "l2": 10**-2.5})
    'stage4, logistic, l2 0.00316'
    """
    bare = ("endpoint", "solver", "method")

    def text(item: Any) -> str:
        return f"{item:.3g}" if isinstance(item, float) else value(item)

    return ", ".join(v if k in bare else f"{k} {text(v)}" for k, v in chosen.items())


def predict_command(folder: Path) -> str:
    """Returns the command that predicts with the classifier in a run's folder."""
    return as_called("python -m experiments.predict") + f" {shlex.quote(str(folder))} PHOTOGRAPHS"


def predict_lines(folder: Path) -> list[str]:
    """Returns three lines of Python that predict with the classifier in a run's folder."""
    return [
        "import tl",
        f"model = tl.load({str(folder)!r})",
        'print(model.predict(["photograph.jpg"]).top(3))',
    ]
