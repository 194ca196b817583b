"""An advice run, in the order of its calls: sample, measurements, rule, commands."""

import dataclasses
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tl.advice import command, curves, measure, rule, sample, text
from tl.advice.measure import Measured
from tl.data import imagenet, sources
from tl.data.sources import Source
from tl.features.network import Extraction
from tl.files import Log, write_json
from tl.models.backbone import FINAL, LOGITS
from tl.results.run import SCHEMA
from tl.runs import options
from tl.runs.cost import Images
from tl.runs.outcome import describe_data, describe_weights, write_report
from tl.runs.workdir import begin
from tl.weights.load import Pretrained, load

WORTH_REUSING = 5.0  # seconds that extraction would take


def advise(
    fields: Mapping[str, Any],
    base: Mapping[str, Any],
    config_file: str,
    workdir: Path,
    *,
    limit: int = 0,
    log: Log = print,
) -> dict[str, Any]:
    """Says which of the four cases the data are, what to do and expect, and the command for it.

    Args:
      fields: dotted name to value, of the user's config, see `configs/common.py`. Of several
        examples_per_class the largest counts, of several seeds the first. `endpoints` is not read:
        all endpoints of the network are looked at.
      base: the same of the config in config_file, without flags.
      config_file: the file that the command names.
      workdir: the run's folder, which gets `result.json` and the page.
      limit: images to look at; 0 for what half a minute allows, at most 3,000.
      log: takes a line of text.

    Returns:
      What `result.json` holds.

    Raises:
      UserError: weights, data or fields that cannot be used; too few images.
    """
    start = time.perf_counter()
    config = options.config(fields)
    options.check_lists(config)
    data = options.data_to_hold_out(config, "advice")
    weights = options.weights(config)
    network = load(weights.name, **weights.reading)
    preprocessing = options.overrides(config).of(network.spec.preprocessing)
    opened = sources.open_sources(data)
    images = Images.of(opened)
    del opened["test"]  # advice never looks at it
    rows = sample.choose_rows(
        opened["train"].labels(),
        command.max_examples(fields),
        fields["seeds"][0],
        opened["val"].labels() if "val" in opened else None,
        sources.groups(opened["train"]),
    )
    extraction = _extraction(options.extraction(config), network)
    drawn = sample.draw(
        network, opened, rows, preprocessing, extraction, options.feature_root(config),
        limit=limit, log=log,
    )  # fmt: skip
    extracted = time.perf_counter()
    classes = opened["train"].classes
    measured = _measure(drawn, _names(network), len(classes))
    verdict, similarity = _judge(measured, rows.count, rows.count / len(classes))
    has_imagenet_head = LOGITS in drawn.features and not network.spec.classes
    if has_imagenet_head and network.spec.num_classes == len(imagenet.wnids()):
        similarity["head_entropy"] = measure.head_entropy(drawn.features[LOGITS])
    rate = drawn.images_per_second
    # The command names all stored endpoints, so that its run finds them; where that saves little
    # time, a shorter command is better.
    worth = drawn.stored and rows.count / rate > WORTH_REUSING
    stored = extraction.endpoints if worth else ()
    widths = {row.endpoint: row.width for row in measured}

    def carried_out(choice: rule.Choice) -> dict[str, Any]:
        similar = verdict.similarity == "similar"
        changes = command.changes(
            choice, fields, rows.count, similar, stored, network.backbone.batch_stats
        )
        wanted = {**fields, **changes}
        folder = _beside(workdir, choice.method.lower().replace(" ", "-"))
        return {
            "method": choice.method,
            "endpoint": choice.endpoint or None,
            "top1": choice.top1,
            "top1_interval": [choice.low, choice.high],
            "seconds": command.seconds(
                choice,
                wanted,
                images,
                backbone=network.spec.backbone,
                size=preprocessing.size,
                width=widths.get(choice.endpoint, 0),
                images_per_second=rate,
                stored=opened if stored else (),
            ),
            "command": command.command(choice, config_file, base, wanted, folder),
        }

    choices = [carried_out(choice) for choice in (verdict.first, verdict.second)]
    result = {
        "schema": SCHEMA,
        "kind": "advise",
        "data": describe_data(
            opened,
            {
                "images": rows.count,
                "examples_per_class": rows.count / len(classes),
                "looked_at": len(drawn.labels),
            },
        ),
        "weights": describe_weights(network),
        "resolution": _resolution(opened["train"], rows.train, preprocessing.size, network),
        "verdict": {
            "case": f"{verdict.size}_{verdict.similarity}",
            "size": verdict.size,
            "similarity": verdict.similarity,
            "gain_of_fine_tuning": verdict.gain,
        },
        "similarity": similarity,
        "endpoints": [row.as_dict() for row in measured],
        "choices": choices,
        "command": choices[0]["command"],
        "images_per_second": rate,
        "seconds": {
            "extract": extracted - start,
            "fit": time.perf_counter() - extracted,
            "total": time.perf_counter() - start,
        },
    }
    result["verdict"]["sentences"] = text.sentences(result)
    result["headline"] = text.headline(result)
    result["notes"] = text.notes(result, extraction.pooling)
    begin(workdir)
    write_json(workdir / "result.json", result)
    log("\n" + text.console(result))
    log(f"\nwritten: {workdir / 'result.json'}")
    write_report(fields["report"], workdir, log)
    return result


def _names(network: Pretrained) -> tuple[str, ...]:
    return tuple(network.backbone.outputs)


def _extraction(asked: Extraction, network: Pretrained) -> Extraction:
    """Returns how to extract all endpoints of the network, in a form that probes can use."""
    return dataclasses.replace(
        asked,
        endpoints=_names(network) + ((LOGITS,) if network.spec.num_classes else ()),
        pooling="mean" if asked.pooling == "none" else asked.pooling,  # every value is too many
    )


def _measure(drawn: sample.Sample, names: Sequence[str], num_classes: int) -> list[Measured]:
    """Measures every endpoint, in order, and the best one together with its neighbours."""
    measured = [measure.measure(drawn, name, num_classes) for name in names]
    joined = measure.around(names, max(measured, key=_rank).endpoint)
    return [*measured, measure.measure(drawn, joined, num_classes)]


def _rank(row: Measured) -> tuple[float, bool, int]:
    return row.top1, row.endpoint == FINAL, -row.width


def _judge(
    measured: Sequence[Measured], num_train: int, examples_per_class: float
) -> tuple[rule.Verdict, dict[str, Any]]:
    """Returns the verdict, and the numbers it rests on."""
    by_name = {row.endpoint: row for row in measured}
    final = by_name[FINAL]
    single = [row for row in measured if "+" not in row.endpoint]
    earlier = max((row for row in single if row.endpoint != FINAL), key=_rank)
    different = rule.is_different(final.top1, earlier.top1)
    best, _ = measure.choose(measured)
    estimate = curves.estimate(best.correct, num_train, measure.unseen(measured))
    verdict = rule.decide(
        examples_per_class, different=different, endpoint=best.endpoint, probe=estimate
    )
    return verdict, {
        "final_top1": final.top1,
        "earlier_endpoint": earlier.endpoint,
        "earlier_top1": earlier.top1,
        "error_ratio": (1 - earlier.top1) / (1 - final.top1) if final.top1 < 1 else None,
        "final_knn_top1": final.knn_top1,
        "best_by_logme": max(single, key=lambda row: row.logme).endpoint,
        "best_by_h_score": max(single, key=lambda row: row.h_score).endpoint,
        "held_out": len(final.right),
        "exponent": estimate.exponent,
        "head_entropy": None,
    }


def _beside(workdir: Path, name: str) -> Path:
    """Returns a folder that is not there yet, next to the run's."""
    path = workdir if workdir.name not in ("", "..") else Path(os.path.abspath(workdir))
    stem = path.with_name(f"{path.name}-{name}")
    later = (stem.with_name(f"{stem.name}-{count}") for count in itertools.count(2))
    return next(free for free in itertools.chain([stem], later) if not free.exists())


def _resolution(
    source: Source, rows: Int[np.ndarray, " n"], size: int, network: Pretrained
) -> dict[str, int]:
    """Returns the shorter side, in pixels, of the images, as used, and as trained with."""
    if source.image_shape is not None:
        images = min(source.image_shape[:2])
    else:
        some = [source[int(row)]["image"].shape[:2] for row in rows[:9]]
        images = int(np.median([min(shape) for shape in some]))
    return {"images": images, "used": size, "weights": network.spec.preprocessing.size}
