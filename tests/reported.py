"""Small finished runs and studies, written as the experiments write them, for tests of pages."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from configs import common
from tl.results.predictions import Predictions
from tl.results.projection import Projection, save_features

CLASSES = ("cat", "dog", "emu")
VERSIONS = {"tl": "0.1.0", "jax": "0.10.2", "torch": None}


def write_run(folder: Path, kind: str, result: dict, **config) -> Path:
    """Writes what every run has; config fields are dotted."""
    values = common.get_config()
    values.update_from_flattened_dict(config)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "command": f"python -m experiments.{kind} --config=configs/common.py --workdir='{folder}'",
        "started": "2026-11-25T03:58:18+00:00",
        "git": "237b038b57a2e4658afecd84ade45a5da98bb42e",
        "python": "3.11.7",
        "platform": "Linux",
        "cpus": 2,
        "versions": VERSIONS,
        "devices": [{"kind": "cpu", "count": 2}],
    }
    write(folder / "config.json", values.to_dict())
    write(folder / "environment.json", environment)
    write(folder / "result.json", {"schema": 1, "kind": kind, **result})
    return folder


def write(path: Path, content) -> None:
    path.write_text(json.dumps(content))


def write_probe(folder: Path, classes=CLASSES, seeds=(3, 4), **changes) -> Path:
    """Writes a probe of two endpoints and five strengths, with all its evidence.

    Every class has ten test images. Each seed takes the first one of class 0 for class 1, and the
    first seed takes one of class 1 for class 2 as well.
    """
    predicted = np.tile(_labels(classes), (len(seeds), 1))
    predicted[:, 0] = 1
    predicted[0, 10] = 2
    top1 = float(np.mean(predicted == _labels(classes)))
    test = _test(classes, top1)
    endpoints = [
        {"endpoint": name, "val_top1": v, "test": {**test, "top1": t, "top1_seeds": [t, t]}}
        for name, v, t in (("stage2", 0.8, 0.75), ("pooled", 0.9, top1))
    ]
    strengths = (1e-4, 1e-2, 1.0)
    result = {
        "data": _data(classes),
        "weights": {"name": "efficientnet_lite0", "sha256": "57934424" * 8},
        "selected": {"endpoint": "pooled", "solver": "logistic", "l2": 0.01},
        "val": {"top1": 0.9, "count": 6},
        "test": {**test, "top1_seeds": [top1] * len(seeds)},
        "endpoints": endpoints,
        "seeds": [{"seed": s, "endpoint": "pooled", "test_top1": top1} for s in seeds],
        "grid": [
            {
                "seed": seed,
                "endpoint": row["endpoint"],
                "solver": "logistic",
                "l2": l2,
                "val_top1": row["val_top1"] - 0.01 * i,
                "val_loss": 0.5 + i,
                "iterations": 9,
                "converged": True,
            }
            for seed in seeds
            for row in endpoints
            for i, l2 in enumerate(strengths)
        ],
        "near_duplicates": near_duplicates(),
        "warnings": ["seed 3: pooled, logistic: the best l2 is the grid's lowest"],
        "study": [
            {
                "examples_per_class": k,
                "endpoint": row["endpoint"],
                "val_top1": row["val_top1"],
                "test_top1": row["test"]["top1"] - 1 / k,
                "test_top1_range": [row["test"]["top1"] - 1.2 / k, row["test"]["top1"] - 0.9 / k],
                "test_top1_ci95": [0.5, 0.9],
                "test_top1_seeds": [row["test"]["top1"]] * 2,
            }
            for k in (5, 10)
            for row in endpoints
        ],
        "seconds": {"extract": 4.5, "fit": 23.9, "total": 28.5},
        **changes,
    }
    write_run(folder, "probe", result, endpoints=("stage2", "pooled"), seeds=tuple(seeds))
    (folder / "head.safetensors").touch()
    write_evidence(folder, classes, seeds, predicted)
    return folder


def near_duplicates(count=1):
    """Returns those of a run with 30 test images; the pictures are those of two examples."""
    pair = {
        "cosine": 0.9876,
        "split": "test",
        "id": "test-0",
        "label": "cat",
        "file": "examples/test-0.png",
        "training_id": "train-7",
        "training_label": "dog",
        "training_file": "examples/test-20.png",
    }
    return {
        "endpoint": "pooled",
        "cosine": 0.9,
        "ratio": 0.6,
        "test": {
            "count": count,
            "images": 30,
            "top1_without": 0.9,
            "top1_without_ci95": [0.75, 0.95],
        },
        "val": {"count": 0, "images": 6},
        "pairs": [pair] * min(count, 12),
    }


def write_finetune(folder: Path, classes=CLASSES, **changes) -> Path:
    """Writes a fine-tuning run of two epochs, with all its evidence."""
    predicted = _labels(classes)[None].copy()
    predicted[0, 0] = 1
    top1 = float(np.mean(predicted == _labels(classes)))
    result = {
        "data": _data(classes),
        "weights": {"name": "efficientnet_lite0", "sha256": "57934424" * 8},
        "selected": {"method": "fine-tune", "step": 20, "epoch": 2.0},
        "val": {"top1": 0.9, "count": 6},
        "test": _test(classes, top1),
        "curve": [
            {
                "step": 10 * i,
                "epoch": float(i),
                "train_loss": 1 / i if i else None,
                "train_top1": 0.3 * i if i else None,
                "val_loss": 1 / (i + 1),
                "val_top1": 0.3 + 0.3 * i,
                "val_top5": 1.0,
            }
            for i in range(3)
        ],
        "steps": {"planned": 20, "done": 20},
        "parameters": {"all": 3383818, "trained": 12810},
        "memory": {
            "devices": 8,
            "sharding": "fsdp",
            "variables": 1_750_000,
            "optimizer": 103_000,
            "average": 0,
            "state": 1_853_000,
            "whole": 13_850_000,
        },
        "seeds": [{"seed": 0, "test_top1": top1}],
        "seconds": {"train": 61.0, "waiting_for_data": 6.0, "test": 1.0, "total": 65.0},
        **changes,
    }
    write_run(folder, "finetune", result)
    (folder / "model.safetensors").touch()
    write_evidence(folder, classes, (0,), predicted)
    return folder


def write_study(folder: Path, **changes) -> Path:
    """Writes a study of two endpoints, one of whose runs failed, with one claim."""
    write_run(folder, "ablate", {})
    (folder / "result.json").unlink()
    base = common.get_config().to_dict()
    axes = {"endpoint": ["stage2", "pooled"], "examples": {"5": {"data": {"name": "digits"}}}}
    write(folder / "config.json", {"title": "", "base": base, "axes": axes})
    done = {
        "val_top1": 0.9,
        "test_top1": 0.8,
        "test_top1_ci95": [0.7, 0.9],
        "count": 30,
        "seconds": 12.0,
        "selected": {"endpoint": "stage2", "solver": "logistic", "l2": 0.01},
    }
    runs = [
        {
            "name": f"{endpoint}-{seed}",
            "folder": f"runs/{endpoint}-{seed}",
            "levels": {"endpoint": endpoint, "examples": "5", "seed": str(seed)},
            "status": "done",
            "error": None,
            **done,
        }
        for endpoint in ("stage2", "pooled")
        for seed in (0, 1)
    ]
    runs[-1] |= {"status": "failed", "error": "out of memory", **dict.fromkeys(done)}
    cells = [
        {
            "levels": {"endpoint": endpoint, "examples": "5"},
            "mean": mean,
            "ci95": ends,
            "interval": "t over 2 seeds",
            "seeds": seeds,
            "failed": 2 - seeds,
            "val_mean": 0.9,
        }
        for endpoint, mean, ends, seeds in (
            ("stage2", 0.8, [0.75, 0.85], 2),
            ("pooled", 0.6, [0.5, 0.7], 1),
        )
    ]
    study = {
        "schema": 1,
        "kind": "study",
        "title": "Endpoints with few examples",
        "axes": {"endpoint": ["stage2", "pooled"], "examples": ["5"], "seed": ["0", "1"]},
        "columns": "examples",
        "metric": "test_top1",
        "runs": runs,
        "cells": cells,
        "claims": [
            {
                "text": "small and different: an earlier endpoint",
                "where": {"examples": "5"},
                "advised": {"endpoint": "stage2"},
                "verdict": "holds",
                "best": "stage2",
                "difference": 0.2,
                "ci95": [0.1, 0.3],
                "over": "seeds and images",
                "seeds": 5,
                "p_value": 0.001,
                "why": "stage2 is best.",
            }
        ],
        "seconds": 48.0,
        "warnings": [],
    }
    write(folder / "study.json", study | changes)
    return folder


def write_advice(folder: Path, **changes) -> Path:
    """Writes advice to probe an earlier layer."""
    choice = {
        "method": "earlier-layer probe",
        "endpoint": "stage2",
        "top1": 0.91,
        "top1_interval": [0.88, 0.93],
        "seconds": 30.0,
        "command": "python -m experiments.probe --config=X",
    }
    endpoints = [
        {"endpoint": "stage2", "width": 40, "logme": 1.25, "h_score": 3.5, "knn_top1": 0.8}
        | {"l2": 0.01, "top1": {"50": 0.7, "100": 0.85}},
        {"endpoint": "pooled", "width": 1280, "logme": 1.5, "h_score": None, "knn_top1": 0.6}
        | {"l2": 1.0, "top1": {"50": 0.65}},
    ]
    result = {
        "headline": "An earlier layer: expect 91 %",
        "command": choice["command"],
        "verdict": {"case": "small_different", "sentences": ["Few images.", "Unlike ImageNet."]},
        "choices": [choice, choice | {"method": "fine-tune all", "endpoint": None, "top1": 0.9}],
        "endpoints": endpoints,
        "similarity": {
            "final_top1": 0.65,
            "error_ratio": 2.33,
            "best_by_logme": "stage2",
            "held_out": 1000,
            "exponent": 0.5,
        },
        "data": {
            "name": "digits",
            "version": "1.0.0",
            "splits": {"train": "train"},
            "classes": 10,
            "images": 1000,
            "looked_at": 1000,
        },
        "weights": {"name": "efficientnet_lite0", "sha256": "57934424"},
        "seconds": {"extract": 1.0, "fit": 2.0, "total": 3.0},
        **changes,
    }
    return write_run(folder, "advise", result)


def write_evidence(folder: Path, classes, seeds, predicted) -> None:
    """Writes predictions, features and examples, the logits of predicted[0] being 4 there."""
    labels, count = _labels(classes), len(classes)
    ids = [f"test-{i}" for i in range(len(labels))]
    noise = np.random.default_rng(0).normal(size=(len(labels), count))
    logits = 4 * np.eye(count)[predicted[0]] + 0.3 * noise
    Predictions(
        seeds=np.array(seeds),
        classes=np.array(classes),
        test_ids=np.array(ids),
        test_labels=labels,
        test_predicted=predicted,
        test_logits=logits,
        val_ids=np.array(ids[:15]),
        val_labels=labels[:15],
        val_logits=logits[:15],
    ).save(folder / "predictions.npz")
    save_features(
        folder,
        Projection(
            rows=np.arange(len(labels)),
            coordinates=(np.eye(count)[labels] + 0.1 * noise).astype(np.float32),
            explained=np.full(count, 1 / count, np.float32),
            endpoint="pooled",
        ),
    )
    (folder / "examples").mkdir(exist_ok=True)
    listed = (
        (0, 8, ["confident mistake", "likely mislabelled"]),
        (10, 8, ["confident mistake"]),
        (20, 100, ["uncertain and right"]),
    )
    examples = []
    for place, (row, side, groups) in enumerate(listed):
        file = f"examples/test-{row}.png"
        pixels = np.random.default_rng(row).integers(0, 255, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / file)
        examples.append(
            {
                "file": file,
                "split": "test",
                "row": row,
                "id": ids[row],
                "label": classes[labels[row]],
                "predicted": classes[predicted[0, row]],
                "confidence": 0.97 - 0.1 * place,
                "label_confidence": 0.02,
                "groups": groups,
                "rank": dict.fromkeys(groups, place),
            }
        )
    write(folder / "examples.json", examples)


def _labels(classes) -> np.ndarray:
    return np.repeat(np.arange(len(classes)), 10).astype(np.int32)


def _test(classes, top1: float) -> dict:
    return {
        "top1": top1,
        "top5": 1.0,
        "top1_ci95": [0.85, 0.99],
        "mean_per_class": top1,
        "absent_classes": 0,
        "count": 10 * len(classes),
    }


def _data(classes) -> dict:
    return {
        "name": "digits",
        "version": "1.0.0",
        "splits": {"train": "train", "test": "test"},
        "classes": len(classes),
        "train": 24,
        "val": 6,
        "test": 10 * len(classes),
        "left_out": {"train": 0, "test": 0},
    }


def study(ks=(5, 100)):
    """Returns rows of four endpoints, from 50 to 80 % on test, for each number of examples."""
    return [
        {
            "endpoint": endpoint,
            "examples_per_class": k,
            "test_top1": 0.5 + 0.1 * i,
            "test_top1_range": [0.45 + 0.1 * i, 0.55 + 0.1 * i],
        }
        for k in ks
        for i, endpoint in enumerate(["pixels", "stem", "stage1", "stem+stage1"])
    ]


def curve(*, steps=(0, 10)):
    """Returns the rows of a learning curve, ten steps an epoch."""
    return [
        {
            "epoch": step / 10,
            "train_loss": 1.0 if step else None,
            "train_top1": 0.5 if step else None,
            "val_loss": 2.0 - step / 20,
            "val_top1": 0.1 + step / 20,
        }
        for step in steps
    ]
