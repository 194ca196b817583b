"""What a probe or a fine-tuning run shows below its headline, from its files alone."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tl.errors import UserError
from tl.fields import config_fields
from tl.report import figures, fonts
from tl.report.blocks import (
    Block,
    Cell,
    Couples,
    Details,
    Gallery,
    Pair,
    Table,
    Text,
    Thumbnail,
    image_file,
    interval,
    paragraphs,
    percent,
    picture,
    thumbnail,
)
from tl.report.class_figures import LEGEND
from tl.results import calibration, confusion, formats, projection
from tl.results import near_duplicates as near
from tl.results.examples import EXAMPLES, load_examples
from tl.results.projection import FEATURES, load_features
from tl.results.run import Run

GROUPS = {  # of examples.json
    "confident mistake": "Test images that were taken for another class, the highest probability "
    "first.",
    "uncertain and right": "Test images that were right by the smallest lead over the second "
    "class.",
    "likely mislabelled": "Images whose label the classifier contradicts by confident learning "
    "(Northcutt et al., 2021). Some are mistakes of the classifier: look before you believe.",
}


def learning_curves(run: Run) -> list[Block]:
    """Returns loss and accuracy over the epochs of a fine-tuning run."""
    curve, kept = run.result["curve"], run.result["selected"]["epoch"]
    first, last = curve[0], curve[-1]
    alt = (
        f"Loss and top-1 accuracy over {last['epoch']:.1f} epochs, for train and val. Val top-1 "
        f"goes from {formats.percent(first['val_top1'])} to {formats.percent(last['val_top1'])}, "
        f"val loss from {first['val_loss']:.3g} to {last['val_loss']:.3g}."
    )
    caption = f"Kept: the network after epoch {kept:.1f}, the best on val."
    loss = config_fields(run.config)["train.loss"]
    return [picture(partial(figures.learning_curve, curve, kept, loss), alt, caption)]


def augmented(run: Run) -> list[Block]:
    """Returns the first training images as the network saw them; nothing if none were drawn."""
    if not (path := run.path / "augmented.png").exists():
        return []
    alt = "The first batch of training images, augmented."
    return [image_file(path, alt)]


def endpoints(run: Run) -> list[Block]:
    """Returns a probe's test accuracy at each endpoint; nothing if there is one."""
    study, endpoints = (run.result[key] for key in ("study", "endpoints"))
    selected = run.result["selected"]["endpoint"]
    best = next(row for row in endpoints if row["endpoint"] == selected)
    if len({row["endpoint"] for row in study}) > 1:
        low, high = (f(row["test"]["top1"] for row in endpoints) for f in (min, max))
        alt = (
            f"Test top-1 over {len(endpoints)} endpoints, from {formats.percent(low)} to "
            f"{formats.percent(high)} at the largest number of examples a class. Selected on "
            f"val is {best['endpoint']}, with {formats.percent(best['test']['top1'])} on test."
        )
        return [picture(partial(figures.accuracy_over_endpoint, study), alt)]
    return []


def between(run: Run) -> list[Block]:
    """Returns the val accuracy of weights between the start and the end of fine-tuning."""
    rows, chosen = run.result.get("wise_ft"), run.result["selected"].get("wise_ft")
    if not rows:
        return []
    text = (
        "Weights on the straight line from those that training started with (0) to the best that "
        f"it found (1), as WiSE-FT has them. {chosen:g} was kept: it has the lowest loss on val of "
        "those within one val image of the highest accuracy."
    )
    cells: list[list[Cell | str]] = [
        [f"{row['share']:g}", percent(row["val_top1"]), f"{row['val_loss']:.4f}"] for row in rows
    ]
    caption = "Share of the way from the start to the best"
    return [Text(text), Table(caption, ["share", "val top-1", "val loss (nats)"], cells)]


def selection(run: Run) -> list[Block]:
    """Returns what a probe chose from: endpoints and strengths, on val."""
    grid, endpoints = (run.result[key] for key in ("grid", "endpoints"))
    seeds = len(run.result["seeds"])
    pictures = []
    if len({row["l2"] for row in grid if "l2" in row}) > 1:
        alt = (
            f"Val top-1 over the strength of the L2 penalty, a line for each of {len(endpoints)} "
            f"endpoints. Selected: {formats.setting(run.result['selected'])}."
        )
        pictures.append(picture(partial(figures.l2_curves, grid), alt))
    spread = formats.plural(seeds, "seed")
    table = Table(
        f"Endpoints, each with its best setting on val; means over {spread}",
        ["endpoint", "val top-1", "test top-1", "95 % interval"],
        [
            [
                row["endpoint"],
                percent(row["val_top1"]),
                percent(row["test"]["top1"]),
                interval(row["test"]["top1_ci95"]),
            ]
            for row in endpoints
        ],
    )
    about = (
        "For each endpoint and solver the lowest val loss is chosen among the settings with the "
        "highest val top-1; for logistic those with one image less right count too, so a choice "
        "may stand below the highest. Between endpoints the highest val top-1 counts."
    )
    told: list[Block] = [Text(about)]
    if folds := run.result["val"].get("folds"):
        text = f"Val is train itself, cross-validated: each of {folds} folds is held out in turn."
        told.append(Text(text))
    if ended := run.result.get("ended"):
        most = formats.plural(max(row["untried"] for row in ended), "weaker one")
        text = (
            f"{formats.plural(len(ended), 'path')} of strengths ended early, since val had turned "
            f"for good (probe.overrun): up to {most} left untried."
        )
        told.append(Text(text))
    return [*told, *pictures, table, _settings(grid, seeds)]


def _settings(grid: Sequence[Mapping[str, Any]], seeds: int) -> Details:
    """Returns the settings that all seeds tried, as means over them, the best on val first."""
    described = ("seed", "endpoint", "solver", "val_top1", "val_loss", "iterations", "converged")
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in grid:
        chosen = ", ".join(f"{k} {formats.value(v)}" for k, v in row.items() if k not in described)
        groups.setdefault((row["endpoint"], row["solver"], chosen), []).append(row)
    groups = {k: rows for k, rows in groups.items() if len({r.get("seed") for r in rows}) == seeds}
    top1 = {key: np.mean([row["val_top1"] for row in rows]) for key, rows in groups.items()}
    rows: list[list[Cell | str]] = []
    for key in sorted(groups, key=lambda key: -top1[key]):
        rows.append([*key, percent(top1[key]), _mean_loss(groups[key])])
    columns = ["endpoint", "solver", "setting", "val top-1", "val loss (nats)"]
    caption = f"Means over {formats.plural(seeds, 'seed')}"
    return Details(
        f"Settings that every seed tried ({len(rows):,})", [Table(caption, columns, rows)]
    )


def _mean_loss(rows: Sequence[Mapping[str, Any]]) -> Cell:
    losses = [row["val_loss"] for row in rows if row.get("val_loss") is not None]
    return Cell(f"{np.mean(losses):.4f}", float(np.mean(losses))) if losses else Cell(formats.NONE)


def confusions(run: Run) -> list[Block]:
    """Returns the confusion matrix, as counts and row by row as shares."""
    names, labels, about = _tested(run)
    matrix = confusion.confusion(labels, run.predictions.test_predicted.ravel(), len(names))
    order = confusion.order(matrix)
    named = fonts.class_names(names)
    drawn = [named[i] for i in order]
    matrix, names = matrix[np.ix_(order, order)], [names[i] for i in order]
    right, total = int(np.trace(matrix)), int(matrix.sum())
    wrong = matrix - np.diag(np.diag(matrix))
    most = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None)[:3]]
    worst = "; ".join(
        f"{names[i]} taken for {names[j]}, {formats.plural(wrong[i, j], 'time')}"
        for i, j in most
        if wrong[i, j]
    )
    summary = f"{right:,} of {total:,} on the diagonal. " + (
        f"Most frequent confusions: {worst}." if worst else "No confusions."
    )
    ordered = " Classes that are confused stand together." if len(names) > confusion.FEW else ""
    pictures = [
        picture(
            partial(figures.confusion_matrix, matrix, drawn, normalised=normalised),
            f"Confusion matrix of {len(names)} classes, {kind}. {summary}",
            f"{kind[0].upper()}{kind[1:]}.",
        )
        for normalised, kind in ((False, "counts"), (True, "shares of each true class"))
    ]
    text = f"{about}{ordered} {summary}"
    # Beside each other, the names of many classes would be too small to read.
    shown = pictures if len(names) > confusion.FEW else [Pair(pictures)]
    return [*paragraphs(text, fonts.about_classes(names)), *shown]


def classes(run: Run) -> list[Block]:
    """Returns recall and precision class by class; their numbers where pictures go by them."""
    p = run.predictions
    names, labels, about = _tested(run)
    numbered = len(names) > LEGEND or not all(map(fonts.drawable, names))
    seeds = len(p.seeds)
    rows = []
    for i, row in enumerate(confusion.per_class(labels, p.test_predicted.ravel(), len(names))):
        confused = row["most_confused"]
        share = row["most_confused_count"] / max(row["count"], 1)
        rows.append(
            [
                Cell(names[i], names[i]),
                *([Cell(str(i), i)] if numbered else []),
                Cell(f"{row['count'] // seeds:,}", row["count"] // seeds),
                *(percent(row[key]) for key in ("recall", "precision", "f1")),
                Cell(formats.NONE)
                if confused is None
                else Cell(f"{names[confused]} ({formats.percent(share)})", share),
            ]
        )
    columns = ["class", "test images", "recall", "precision", "F1", "most often taken for"]
    if numbered:
        columns.insert(1, "number")
    return [Table(about, columns, rows)]


def _tested(run: Run) -> tuple[list[str], np.ndarray, str]:
    """Returns class names, the labels of the predictions of all seeds, and a sentence on them."""
    p, seeds = run.predictions, len(run.predictions.seeds)
    images = formats.plural(len(p.test_labels), "test image")
    about = f"{images}, summed over {seeds} seeds." if seeds > 1 else f"{images}."
    return list(map(str, p.classes)), np.tile(p.test_labels, seeds), about


def reliability(run: Run) -> list[Block]:
    """Returns accuracy over confidence on test, before and after temperature scaling."""
    p = run.predictions
    found = p.scaling()
    ece = f"{formats.percent(found.before.ece)} before and {formats.percent(found.after.ece)} after"
    text = f"Expected calibration error on test: {ece} temperature scaling. "
    if len(p.val_labels):
        held_out = formats.in_folds(run.result["val"])
        text += (
            f"The temperature, {found.fit.best:.3g}, has the lowest loss on {len(p.val_labels):,} "
            f"val images{held_out}{_seed(run)}."
        )
    else:
        text += f"The temperature, {found.fit.best:.3g}, is the model's own."
    if found.fit.best in calibration.TEMPERATURES:
        text += (
            " It is the bound of the search: these val images are too few or too easy for one. So "
            "it is not applied: probabilities are as they come."
        )
    elif not found.fit.helps:
        text += (
            " A temperature fitted on half of the val images does not lower the loss on the other "
            "half. So it is not applied: probabilities are as they come."
        )
    elif found.after.ece > found.before.ece:
        text += " On test it makes the error larger; test images had no part in the choice."
    alt = f"Accuracy over confidence in bins, beside the diagonal. Calibration error {ece}."
    drawn = partial(figures.reliability, found.before, found.after, found.fit.best)
    return [Text(text), picture(drawn, alt)]


def features(run: Run) -> list[Block]:
    """Returns test features in two dimensions, by PCA and by t-SNE."""
    found = load_features(run.path)
    if found is None:
        raise UserError(f"the run left no {FEATURES}")
    p = run.predictions
    labels, names = p.test_labels[found.rows], list(map(str, p.classes))
    count = formats.plural(len(found.rows), "test image")
    share = formats.percent(float(np.sum(found.explained[:2])))
    views = (
        ("PCA", projection.pca(found.coordinates), "principal component"),
        ("t-SNE", projection.tsne(found.coordinates), "t-SNE dimension"),
    )
    pictures = [
        picture(
            partial(figures.scatter, points, labels, fonts.class_names(names), axes),
            f"{name} of {count} in {len(names)} classes, a colour for each class.",
            f"{name} of {found.endpoint}." + (f" {share} of the variance." * (name == "PCA")),
        )
        for name, points, axes in views
    ]
    text = f"{count}, as the classifier saw them{_seed(run)}, coloured by class."
    return [*paragraphs(text, fonts.about_classes(names)), Pair(pictures)]


def gallery(group: str, run: Run) -> list[Block]:
    """Returns the images of a group of examples, in order of rank."""
    if not (run.path / EXAMPLES).exists():
        raise UserError(f"the run left no {EXAMPLES}")
    examples = [e for e in load_examples(run.path) if group in e["groups"]]
    examples.sort(key=lambda example: example["rank"][group])
    if not examples:
        return [Text("There are none.")]
    helps = run.predictions.fit().helps
    scaled = f" Probabilities {'after' if helps else 'without'} temperature scaling{_seed(run)}."
    return [Text(GROUPS[group] + scaled), Gallery([_image(run, e) for e in examples])]


def near_duplicates(run: Run) -> list[Block]:
    """Returns the test and val images that are near duplicates of training images."""
    found = run.result["near_duplicates"]
    if reason := found.get("not_looked_for"):
        return [Text(f"Not looked for: {reason}.")]
    text = (
        f"{'; '.join(near.counted(found, split) for split in near.splits(found))}. A near "
        f"duplicate has a cosine of at least {found['cosine']:.2f} between {found['endpoint']} "
        f"features, and is at most {found['ratio']:g} times as far away as the third nearest "
        "training image."
    )
    if found["test"]["count"]:
        top1 = formats.in_percent(run.result["test"]["top1"])
        text += f" Test top-1 is {top1} % on all images; {near.accuracy_without(found)}."
    if not found["pairs"]:
        return [Text(text)]
    couples = [
        (
            f"cosine {pair['cosine']:.3f}",
            [
                _one_of_two(run, pair, "", pair["split"]),
                _one_of_two(run, pair, "training_", "training"),
            ],
        )
        for pair in found["pairs"]
    ]
    count = sum(found[split]["count"] for split in near.splits(found))
    shown = f"The first {len(couples)} pairs" if len(couples) < count else "All pairs"
    return [
        Text(text),
        Text(f"{shown}: first those of test, the most similar first."),
        Couples(couples),
    ]


def _one_of_two(run: Run, pair: Mapping[str, Any], prefix: str, kind: str) -> Thumbnail:
    name, label = pair[f"{prefix}id"], pair[f"{prefix}label"]
    lines = {f"{kind} image": name, "true": label}
    return thumbnail(run.path / pair[f"{prefix}file"], f"{kind} image {name}: {label}", lines)


def _image(run: Run, example: Mapping[str, Any]) -> Thumbnail:
    label, predicted = example["label"], example["predicted"]
    confidence = formats.percent(example["confidence"])
    split, lines = example["split"], {"true": label, "predicted": f"{predicted}, {confidence}"}
    if label != predicted:
        lines["of the true class"] = formats.percent(example["label_confidence"])
    lines[f"{split} image"] = example["id"]
    alt = f"{split} image {example['id']}: {label}, predicted {predicted} with {confidence}"
    return thumbnail(run.path / example["file"], alt, lines)


def _seed(run: Run) -> str:
    seeds = run.predictions.seeds
    return f" (seed {seeds[0]})" if len(seeds) > 1 else ""
