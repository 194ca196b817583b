"""Rows of `benchmark.json`: from outcomes of a contest to numbers, and to a table of them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from experiments.benchmark.contest import Outcome

Row = dict[str, Any]


def make(
    section: str,
    unit: str,
    outcomes: Mapping[str, Outcome],
    *,
    amount: float = 1.0,
    case: str = "",
    size: int | str = "",
    dtype: str = "float32",
    flops: float = 0.0,
    limit: float = 0.0,
    **more: Any,
) -> Row:
    """Returns one row: medians, spread and memory of ours and of every peer.

    Args:
      section, case, size, dtype: what was measured.
      unit: `s`, of one unit of work, or anything a second, such as `images/s`.
      outcomes: of `ours` and the peers, by name.
      amount: how many of these one unit of work is.
      flops: operations of one of them, 0 where that is not known.
      limit: operations a second that the machine can do, 0 where that is not known.
      **more: other fields of the row, JSON values.

    Returns:
      `ours` and `peers` are medians over the turns, `spread` the lowest and highest, `failed` why
      a contestant has none; `limit_fraction` is ours.
    """

    def values(outcome: Outcome) -> list[float]:
        return [1 / rate if unit == "s" else amount * rate for rate in outcome.rates]

    measured = {name: values(outcome) for name, outcome in outcomes.items() if not outcome.error}
    medians = {name: statistics.median(turns) for name, turns in measured.items()}
    ours = medians.pop("ours", None)
    return {
        "section": section,
        "case": case,
        "size": size,
        "dtype": dtype,
        "unit": unit,
        "ours": ours,
        "peers": medians,
        "limit_fraction": ours * flops / limit if ours and flops and limit else None,
        "spread": {name: [min(turns), max(turns)] for name, turns in measured.items()},
        "peak_mib": {name: round(outcomes[name].peak_mib, 1) for name in measured},
        "failed": {name: outcome.error for name, outcome in outcomes.items() if outcome.error},
        **more,
    }


def of_values(
    section: str, unit: str, values: Mapping[str, float], *, case: str, size: int, **more: Any
) -> Row:
    """Returns a row as `make` does, of values that each have been found once.

    Args:
      section, unit, case, size, **more: as for `make`; the unit may be `MiB` too.
      values: of `ours` and of others, by name.
    """
    others = {name: value for name, value in values.items() if name != "ours"}
    row = make(section, unit, {}, case=case, size=size, **more)
    return {**row, "ours": values.get("ours"), "peers": others}


def times_as_good(row: Row, peer: str) -> float:
    """Returns how many times as fast ours is, or as small, above 1 where it is the better."""
    ours, other = row["ours"], row["peers"][peer]
    return other / ours if row["unit"] in ("s", "MiB") else ours / other


def table(rows: Sequence[Row]) -> str:
    """Returns the rows of one section for a person: (lowest-highest), x times as fast as the peer.

    Args:
      rows: of `make`, at least one.
    """
    peers = list(dict.fromkeys(peer for row in rows for peer in row["peers"]))

    def cell(row: Row, name: str) -> str:
        value = row["ours"] if name == "ours" else row["peers"].get(name)
        if value is None:
            return "failed" if name in row["failed"] else ""
        low, high = row["spread"].get(name, (value, value))
        spread = f" ({_number(low)}-{_number(high)})" if high > low else ""
        times = f" x{times_as_good(row, name):.2f}" if name != "ours" and row["ours"] else ""
        return f"{_number(value)}{spread}{times}"

    section = rows[0]["section"]
    columns = [section, "size", "type", "unit", "ours", *peers, "of limit", "peak MiB"]
    lines = [
        [
            row["case"],
            row["size"],
            row["dtype"],
            row["unit"],
            *(cell(row, name) for name in ("ours", *peers)),
            "" if row["limit_fraction"] is None else f"{row['limit_fraction']:.0%}",
            f"{row['peak_mib']['ours']:.0f}" if "ours" in row["peak_mib"] else "",
        ]
        for row in rows
    ]
    filled = [i for i, name in enumerate(columns) if i == 0 or any(line[i] for line in lines)]
    return tabulate(
        [[line[i] for i in filled] for line in lines],
        headers=[columns[i] for i in filled],
        disable_numparse=True,
    )


def _number(value: float) -> str:
    """Returns three digits that count, or all of those before the point.

    >>> _number(1234.5), _number(12.345), _number(0.012345)
    ('1234', '12.3', '0.0123')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
