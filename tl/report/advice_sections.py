"""What advice shows: the verdict, the choices it weighed, and what it measured."""

from functools import partial
from typing import Any

from tl.report.advice_figure import accuracy_over_images
from tl.report.blocks import (
    Block,
    Cell,
    Command,
    Details,
    Facts,
    Table,
    Text,
    interval,
    percent,
    picture,
    seconds,
)
from tl.report.facts import Headline, by_lines
from tl.results import formats
from tl.results.run import Run

LIKENESS = {  # what `similarity` of the result is called on the page
    "final_top1": "final features, top-1",
    "earlier_endpoint": "best earlier endpoint",
    "earlier_top1": "its top-1",
    "error_ratio": "its errors over those of the final features",
    "final_knn_top1": "final features, kNN top-1",
    "best_by_logme": "best endpoint by LogME",
    "best_by_h_score": "best endpoint by H-score",
    "held_out": "held-out images",
    "exponent": "exponent of the fitted power law",
    "head_entropy": "mean entropy of ImageNet's own head, over log 1,000",
}


def headline(run: Run) -> Headline:
    """Returns what to run next, and what is expected of it."""
    result = run.result
    first = result["choices"][0]
    tiles = {
        "case": result["verdict"]["case"].replace("_", ", "),
        "expected top-1": f"{formats.percent(first['top1'])} "
        f"({formats.interval(first['top1_interval'])})",
        "expected time": formats.seconds(first["seconds"]),
        "time of this advice": formats.seconds(result["seconds"]["total"]),
    }
    title = f"Advice for {result['weights']['name']} on {result['data']['name']}"
    return Headline(title, first["method"], "", [result["headline"]], tiles)


def verdict(run: Run) -> list[Block]:
    """Returns the reasons, the choices and the command to run next."""
    result = run.result
    rows = [
        [
            Cell(c["method"], c["method"], strong=not place),
            c["endpoint"] or formats.NONE,
            percent(c["top1"]),
            interval(c["top1_interval"]),
            seconds(c["seconds"]),
        ]
        for place, c in enumerate(result["choices"])
    ]
    columns = ["method", "endpoint", "expected top-1", "interval", "expected time"]
    return [
        *map(Text, result["verdict"]["sentences"]),
        Text("The command to run next; a click selects it whole:"),
        Command(by_lines(result["command"])),
        Table("Choices, the best first", columns, rows, sortable=False),
        *(
            Details(f"The command for {c['method']}", [Command(by_lines(c["command"]))])
            for c in result["choices"][1:]
        ),
    ]


def curve(run: Run) -> list[Block]:
    """Returns accuracy over the number of images: measured, fitted and expected."""
    result = run.result
    probe = next(c for c in result["choices"] if c["endpoint"])
    similarity, images = result["similarity"], f"{result['data']['images']:,}"
    row = next(row for row in result["endpoints"] if row["endpoint"] == probe["endpoint"])
    shares = ", ".join(f"{formats.percent(v)} with {int(k):,}" for k, v in row["top1"].items())
    expected = "; ".join(
        f"{c['method']} {formats.percent(c['top1'])} ({formats.interval(c['top1_interval'])})"
        for c in result["choices"]
    )
    alt = (
        f"Top-1 accuracy of probes of {probe['endpoint']} by number of images: {shares}. Expected "
        f"with {images}: {expected}."
    )
    caption = (
        f"Measured on {similarity['held_out']:,} held-out images (intervals are Wilson's). The "
        "error falls about as a power of the number n of images. Beyond the images measured, half "
        "of the exponent is expected, and the curve starts lower where the choice of the probe "
        "flattered it."
    )
    return [picture(partial(accuracy_over_images, result), alt, caption)]


def measured(run: Run) -> list[Block]:
    """Returns what was measured: every endpoint, and how alike the data and ImageNet are."""
    rows = run.result["endpoints"]
    counts = list(dict.fromkeys(count for row in rows for count in row["top1"]))
    table = Table(
        "Endpoints: transferability scores, and top-1 of probes by number of training rows",
        [
            *("endpoint", "width", "LogME", "H-score", "kNN top-1", "l2"),
            *(f"{count} rows" for count in counts),
        ],
        [
            [
                row["endpoint"],
                *(_number(row[key]) for key in ("width", "logme", "h_score")),
                percent(row["knn_top1"]),
                _number(row["l2"]),
                *(percent(row["top1"].get(count)) for count in counts),
            ]
            for row in rows
        ],
    )
    shown = {LIKENESS.get(k, k): _fact(k, v) for k, v in run.result["similarity"].items()}
    return [table, Facts("Likeness to ImageNet", shown)]


def _number(value: float | None) -> Cell:
    return Cell(formats.value(value), value)


def _fact(name: str, value: Any) -> str:
    return formats.percent(value) if name.endswith("top1") else formats.value(value)
