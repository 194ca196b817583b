"""Advice in words, for one screen; lines fit a terminal, except for the command."""

import textwrap
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from tl.advice.rule import DIFFERENT, LARGE, PROBES
from tl.models.backbone import FINAL
from tl.results.formats import duration, in_percent

Result = Mapping[str, Any]

WIDTH = 100


def headline(result: Result) -> str:
    """Returns the advice in one line."""
    first, verdict = result["choices"][0], result["verdict"]
    low, high = first["top1_interval"]
    return (
        f"{verdict['size'].capitalize()} and {verdict['similarity']}: {_named(first)}, about "
        f"{in_percent(first['top1'])} % ({in_percent(low)}-{in_percent(high)}), {_duration(first)}"
    )


def sentences(result: Result) -> list[str]:
    """Returns three texts: the case and why, what to do and why, how the numbers were found."""
    data, verdict, similarity = result["data"], result["verdict"], result["similarity"]
    first, second = result["choices"]
    per_class = data["examples_per_class"]
    case = (
        f"Your data are {verdict['size']} ({int(per_class)} images a class; large is from {LARGE}) "
        f"and {verdict['similarity']} {'to' if verdict['similarity'] == 'similar' else 'from'} "
        f"ImageNet: the best earlier endpoint, {similarity['earlier_endpoint']}, has "
        f"{in_percent(similarity['earlier_top1'])} % of held-out images right, the final features "
        f"{in_percent(similarity['final_top1'])} %."
    )
    gain = in_percent(verdict["gain_of_fine_tuning"])
    if first["method"] in PROBES:
        more = f"gain {gain} points over it" if verdict["gain_of_fine_tuning"] else "do no better"
        what = (
            f"Use {_named(first)}: {_named(second)} is expected to {more} and takes "
            f"{_duration(second)}."
        )
    else:
        what = (
            f"Use {_named(first)}: the probe's error falls as n^-{similarity['exponent']:.2f}: "
            "its features limit it more than the number of images does, and training them is "
            f"expected to gain {gain} points over {_named(second)}."
        )
    how = (
        "The accuracy to expect of a probe was measured on images that neither it nor the choice "
        "of endpoint and strength has seen, and is carried on to all images, with an interval of "
        "about 95 %. What fine-tuning adds is a rule of thumb."
    )
    return [case, what, how]


def resolution(result: Result) -> str:
    """Returns the images' size, the network's, and another size to try."""
    images, used, own = (result["resolution"][key] for key in ("images", "used", "weights"))
    told = f"images of {images} px, seen at {used} px; the weights were trained at {own} px"
    if used < own:
        cost = (own / used) ** 2
        return f"{told}. --config.preprocess.size={own} may give more, at {cost:.1f} times the cost"
    if 2 * images <= used:
        half = max(images, used // 2)
        return f"{told}. --config.preprocess.size={half} costs {(used / half) ** 2:.1f} times less"
    return told


def notes(result: Result, pooling: str) -> list[str]:
    """Returns reasons to be careful with the advice.

    Args:
      result: content of `result.json`, without its notes.
      pooling: of spatial endpoints, as in `extract.pooling`.
    """
    data, told = result["data"], []
    if result["verdict"]["similarity"] == "different" and pooling == "mean":
        told.append(
            "Endpoints were averaged over the image. If it matters where things are in it, advise "
            "again with --config.extract.pooling=grid2 (digits: 99 % where the mean has 97 %)."
        )
    if data["looked_at"] < 10 * data["classes"]:
        more = "; --images=N looks at more" if data["looked_at"] < data["images"] else ""
        told.append(
            f"{data['looked_at']} images of {data['classes']} classes are few to judge by{more}."
        )
    if data["images"] > 4 * data["looked_at"]:
        told.append(
            f"The accuracy with {data['images']:,} images is extrapolated from "
            f"{data['looked_at']:,}."
        )
    return told


def console(result: Result) -> str:
    """Returns the whole advice: facts, a table, sentences, choices, the command."""
    data, similarity = result["data"], result["similarity"]
    entropy = similarity["head_entropy"]
    facts = {
        "data": f"{data['name']}, {data['classes']} classes, {data['images']:,} images to train "
        f"and choose on; {data['looked_at']:,} looked at, none of test",
        "weights": result["weights"]["name"],
        "resolution": resolution(result),
        "like ImageNet?": f"{_ratio(similarity['error_ratio'])}; entropy of the ImageNet head "
        + ("not known" if entropy is None else f"{entropy:.2f} of log 1000"),
    }
    first, second = result["choices"]
    choices = {"first choice": _expected(first), "second choice": _expected(second)}
    notes = "\n".join(_wrapped(f"note: {note}", WIDTH, indent=6) for note in result["notes"])
    parts = (
        _facts(facts),
        _endpoints(result),
        _wrapped(" ".join(result["verdict"]["sentences"]), WIDTH),
        _facts(choices),
        notes,
        f"Run next:\n{first['command']}",
    )
    return "\n\n".join(part for part in parts if part)


def _facts(facts: Mapping[str, str]) -> str:
    room = WIDTH - max(map(len, facts)) - 2
    rows = [(name, _wrapped(value, room)) for name, value in facts.items()]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def _wrapped(text: str, width: int, indent: int = 0) -> str:
    """Returns lines; words are not broken, so that flags can be copied."""
    return textwrap.fill(
        text,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _endpoints(result: Result) -> str:
    """Returns the table of endpoints; the best of each column has a star."""
    rows = result["endpoints"]
    sizes = list(rows[0]["top1"])
    columns = {
        "LogME": [row["logme"] for row in rows],
        "H-score": [row["h_score"] for row in rows],
        "5-NN %": [100 * row["knn_top1"] for row in rows],
        **{f"n={size}": [100 * row["top1"][size] for row in rows] for size in sizes},
    }

    def cells(name: str, values: list[float]) -> list[str]:
        digits = 3 if name == "LogME" else 1
        return [f"{v:.{digits}f}" + ("*" if v == max(values) else " ") for v in values]

    table = {"endpoint": [row["endpoint"] for row in rows]}
    table |= {name: cells(name, values) for name, values in columns.items()}
    return (
        tabulate(
            table,
            headers="keys",
            disable_numparse=True,
            colalign=["left", *["right"] * len(columns)],
        )
        + "\n(n=: top-1 % on held-out images of a probe fitted to n others; *: the best)"
    )


def _named(choice: Mapping[str, Any]) -> str:
    if choice["method"] not in PROBES:
        return "fine-tuning of the whole network"
    return f"a linear classifier on {_features(choice['endpoint'])}"


def _features(endpoint: str) -> str:
    return f"the final features ({FINAL})" if endpoint == FINAL else endpoint


def _expected(choice: Mapping[str, Any]) -> str:
    low, high = choice["top1_interval"]
    return (
        f"{_named(choice)}: about {in_percent(choice['top1'])} % "
        f"({in_percent(low)}-{in_percent(high)}), {_duration(choice)}"
    )


def _duration(choice: Mapping[str, Any]) -> str:
    return f"about {duration(choice['seconds'])}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "the final features make no error"
    return (
        f"best earlier endpoint: {ratio:.2f} of the final features' errors "
        f"(different: up to {DIFFERENT:.2f})"
    )
