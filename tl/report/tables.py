"""Tables for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate


def percent(value: float) -> str:
    """Formats a fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def study_table(study: Sequence[Mapping[str, Any]]) -> str:
    """Returns test accuracy in percent, an endpoint a row, a number of examples a column.

    Args:
      study: rows with `endpoint`, `examples_per_class`, `test_top1` and `test_top1_range`.
    """
    ks = list(dict.fromkeys(row["examples_per_class"] for row in study))
    cells = {(row["endpoint"], row["examples_per_class"]): row for row in study}

    def cell(row: Mapping[str, Any] | None) -> str:
        if row is None:
            return ""
        low, high = row["test_top1_range"]
        spread = f" ({percent(low)}-{percent(high)})" if high > low else ""
        return percent(row["test_top1"]) + spread

    return tabulate(
        [
            [endpoint, *(cell(cells.get((endpoint, k))) for k in ks)]
            for endpoint in dict.fromkeys(row["endpoint"] for row in study)
        ],
        headers=["test top-1 %", *(f"{k} a class" if k else "all" for k in ks)],
        disable_numparse=True,
        colalign=["left", *["right"] * len(ks)],
    )
