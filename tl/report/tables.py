"""Tables for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from tl.results.formats import NONE, in_folds, in_percent, setting, with_interval


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
        top1, (low, high) = row["test_top1"], row["test_top1_range"]
        return with_interval(top1, (low, high)) if high > low else in_percent(top1)

    return tabulate(
        [
            [endpoint, *(cell(cells.get((endpoint, k))) for k in ks)]
            for endpoint in dict.fromkeys(row["endpoint"] for row in study)
        ],
        headers=["test top-1 %", *(f"{k} a class" if k else "all" for k in ks)],
        disable_numparse=True,
        colalign=["left", *["right"] * len(ks)],
    )


def cell_line(cell: Mapping[str, Any]) -> str:
    """Returns what a probe came to for one number of examples and one seed, as it comes.

    Args:
      cell: a line of its `metrics.jsonl`.
    """
    k, selected = cell["examples_per_class"], cell["selected"]
    return (
        f"{f'{k} a class' if k else 'all examples'}, seed {cell['seed']}: "
        f"{selected['endpoint']}, {selected['solver']}: test top-1 "
        f"{in_percent(cell['test']['top1'])} %"
    )


def result_table(result: Mapping[str, Any]) -> str:
    """Returns the headline of a probe's `result.json`, a fact a row."""
    data, selected, val, test = (result[key] for key in ("data", "selected", "val", "test"))
    seconds = result["seconds"]
    counts = [f"{data[part]} {part}" for part in ("train", "val", "test") if data[part]]
    return _facts(
        {
            "data": f"{data['name']}, {data['classes']} classes: {', '.join(counts)}",
            "weights": result["weights"]["name"],
            "selected on val": setting(selected),
            "val top-1": f"{in_percent(val['top1'])} % of {val['count']}{in_folds(val)}",
            **_test_facts(test),
            "seconds": f"{seconds['extract']:.1f} extract, {seconds['fit']:.1f} fit, "
            f"{seconds['total']:.1f} total",
        }
    )


def finetune_table(result: Mapping[str, Any]) -> str:
    """Returns the headline of a fine-tuning run's `result.json`, a fact a row."""
    data, selected, val, seconds = (result[k] for k in ("data", "selected", "val", "seconds"))
    parameters, steps = result["parameters"], result["steps"]
    share = selected.get("wise_ft")
    between = "" if share is None else f", {share:g} of the way from the start"
    return _facts(
        {
            "data": f"{data['name']}, {data['classes']} classes: {data['train']} train, "
            f"{data['val']} val, {data['test']} test",
            "weights": result["weights"]["name"],
            "trained": f"{parameters['trained']:,} of {parameters['all']:,} parameters, "
            f"{steps['done']:,} of {steps['planned']:,} steps",
            "selected on val": f"step {selected['step']}, epoch {selected['epoch']:.1f}{between}",
            "val top-1": f"{in_percent(val['top1'])} % of {val['count']}",
            **_test_facts(result["test"]),
            "seconds": f"{seconds['train']:.1f} train, {seconds['waiting_for_data']:.1f} of it "
            f"waiting for images; {seconds['total']:.1f} total",
        }
    )


def cost_rows(study: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns (columns, rows) of what the runs of a study cost, by the axis that goes across."""
    columns = [study["columns"], "trained parameters", "seconds a run"]
    rows = [
        [
            cost["level"],
            NONE if cost["trained"] is None else f"{cost['trained']:,.0f}",
            f"{cost['seconds']:,.1f}",
        ]
        for cost in study["costs"]
    ]
    return columns, rows


def cost_table(study: Mapping[str, Any]) -> str:
    """Returns `cost_rows` for the console."""
    columns, rows = cost_rows(study)
    align = ["left", "right", "right"]
    return tabulate(rows, headers=columns, disable_numparse=True, colalign=align)


def evaluation_table(result: Mapping[str, Any]) -> str:
    """Returns the headline of an evaluation's `result.json`, beside what was published."""
    facts = {
        "data": f"{result['data']['name']}, {result['data']['classes']} classes",
        "weights": result["weights"]["name"],
        **_test_facts(result["test"]),
    }
    published = result["published"]
    if published["top1"] is not None:
        facts["published, ImageNet"] = (
            f"{100 * published['top1']:.2f} % top-1, {100 * published['top5']:.2f} % top-5"
            if published["top5"] is not None
            else f"{100 * published['top1']:.2f} % top-1"
        )
    return _facts(facts)


def _test_facts(test: Mapping[str, Any]) -> dict[str, str]:
    low, high = test["top1_ci95"]
    over = f" over {test['groups']} groups" if "groups" in test else ""
    return {
        "test top-1": f"{in_percent(test['top1'])} % of {test['count']} "
        f"(95 % interval{over} {in_percent(low)}-{in_percent(high)})",
        **({} if test["top5"] is None else {"test top-5": f"{in_percent(test['top5'])} %"}),
        "test mean per class": f"{in_percent(test['mean_per_class'])} %",
    }


def _facts(facts: Mapping[str, str]) -> str:
    return tabulate(list(facts.items()), tablefmt="plain", disable_numparse=True)
