"""The top of a page: the headline number, and what was run and how to repeat it."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tl.errors import UserError
from tl.fields import config_fields, flat, nested
from tl.paths import as_path
from tl.report.blocks import Block, Command, Details, Facts, Text
from tl.results import formats
from tl.results.run import KINDS, Run


@dataclasses.dataclass(frozen=True)
class Headline:
    """What a reader sees first.

    Attributes:
      title: of the page.
      number: the one that counts; '' for none.
      unit: what it is.
      notes: what it rests on: its interval, the number of images.
      tiles: the figures beside it, name and value.
      warnings: of the run.
    """

    title: str
    number: str
    unit: str
    notes: Sequence[str]
    tiles: Mapping[str, str]
    warnings: Sequence[str] = ()


def headline(run: Run) -> Headline:
    """Returns the headline of a run that tested, or of one that stored features."""
    result, test = run.result, run.result.get("test")
    name = result["weights"]["name"]
    title = f"{KINDS[run.kind]} of {name} on {result['data']['name']}"
    seconds = {"time": formats.seconds(result["seconds"]["total"])}
    if test is None:
        stored = sum(split["count"] for split in result["features"].values())
        warnings = result.get("warnings", ())
        return Headline(
            title, f"{stored:,}", "images, their features stored", [], seconds, warnings
        )
    tiles = {}
    if "val" in result and (selected := result.get("selected")):
        tiles["selected on val"] = formats.setting(selected)
    if val := result.get("val"):
        of = f"{val['count']:,}{formats.in_folds(val)}"
        tiles["val top-1"] = f"{formats.percent(val['top1'])} of {of}"
    if (published := result.get("published", {}).get("top1")) is not None:
        tiles["published on ImageNet, top-1"] = formats.percent(published)
    if test["top5"] is not None:  # there are more than five classes
        tiles["test top-5"] = formats.percent(test["top5"])
    tiles["mean over classes"] = formats.percent(test["mean_per_class"])
    seeds = len(result.get("seeds", ()))
    over = f", over {formats.plural(test['groups'], 'group')}" if "groups" in test else ""
    notes = [
        f"95 % interval {formats.interval(test['top1_ci95'])}{over}",
        formats.plural(test["count"], "test image"),
        *([formats.plural(seeds, "seed")] if seeds else []),
    ]
    return Headline(
        title,
        formats.percent(test["top1"]),
        "test top-1",
        notes,
        tiles | seconds,
        result.get("warnings", ()),
    )


def what_ran(run: Run) -> list[Block]:
    """Returns the command, weights, data, protocol and versions of a run."""
    groups = [
        Facts("Weights", _weights(run)),
        Facts("Data", _data(run)),
        Facts("Protocol", _protocol(run)),
        Facts("Versions", _versions(run.environment)),
    ]
    return [*command(run), *(g for g in groups if g.facts), *config(run)]


def command(run: Run) -> list[Block]:
    """Returns the command that repeats a run, where it is known."""
    text = run.environment.get("command")
    about = Text("The command to repeat it; a click selects it whole:")
    return [about, Command(by_lines(text))] if text else []


def use(run: Run) -> list[Block]:
    """Returns how to predict with the classifier that a run has left.

    Raises:
      UserError: an older run left none.
    """
    if not any((run.path / name).exists() for name in ("head.safetensors", "model.safetensors")):
        raise UserError("the run left no classifier; an older one does not. Make it again for one")
    words = shlex.split(run.environment.get("command") or "")
    given = [word.partition("=")[2] for word in words if word.startswith("--workdir=")]
    folder = as_path(given[-1] if given else f"runs/{run.name}")
    if any(word.endswith("ablate") for word in words[:3]):  # the folder is the study's
        folder = folder / "runs" / run.name
    return [
        Text("On photographs without labels; a click selects it whole:"),
        Command(formats.predict_command(folder)),
        Text("From Python:"),
        Command("\n".join(formats.predict_lines(folder))),
    ]


def by_lines(command: str) -> str:
    """Returns a shell command with every flag on a line of its own."""
    words = shlex.split(command)
    first = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    return " \\\n  ".join([shlex.join(words[:first]), *map(formats.shell_word, words[first:])])


def config(run: Run) -> list[Block]:
    """Returns every field of a run's config."""
    fields = {name: formats.value(item) for name, item in flat(run.config).items()}
    fields |= {name: f"{formats.value(v)}, by the rule" for name, v in _by_rule(run).items()}
    return [Details(f"Every field of the config ({len(fields)})", [Facts("", fields)])]


def study_facts(run: Run) -> list[Block]:
    """Returns the command, axes and versions of a study."""
    axes = {name: ", ".join(levels) for name, levels in run.result["axes"].items()}
    groups = [
        Facts("Axes", axes),
        Facts("The same in all runs", _shared(run.config)),
        Facts("Versions", _versions(run.environment)),
    ]
    return [*command(run), *(g for g in groups if g.facts), *config(run)]


def _shared(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the weights and the data of a study's runs, where no axis changes them."""
    if not config:
        return {}
    axes, base = config["axes"], config["base"]
    levels = [level for axis in axes.values() if isinstance(axis, dict) for level in axis.values()]
    shared = {}
    if "weights" not in axes and not any("weights" in level for level in levels):
        shared["weights"] = base["weights"]
    if "data" not in axes and not any("name" in level.get("data", {}) for level in levels):
        shared["data"] = base["data"]["name"]
    return shared


def _weights(run: Run) -> dict[str, str]:
    weights, facts = run.result["weights"], {}
    facts["name"] = weights["name"]
    facts["SHA-256"] = weights["sha256"]
    if parameters := run.result.get("parameters"):
        facts["parameters"] = f"{parameters['trained']:,} of {parameters['all']:,} trained"
    if memory := run.result.get("memory"):
        facts["state of training"] = formats.memory(memory)
    if features := run.result.get("features"):
        widths = next(iter(features.values()))["widths"]
        facts["stored endpoints"] = ", ".join(f"{name} ({w:,})" for name, w in widths.items())
    return facts


def _data(run: Run) -> dict[str, str]:
    data = run.result["data"]
    splits = ", ".join(f"{part}: {text}" for part, text in data["splits"].items())
    parts = {**{part: part for part in ("train", "val", "test")}, "looked_at": "looked at"}
    if _folds(run):
        del parts["val"]  # which is train's rows, held out in turn
    counts = [f"{data[part]:,} {name}" for part, name in parts.items() if part in data]
    left_out = sum(data.get("left_out", {}).values())
    return {
        "name": f"{data['name']} {data['version'] or ''}".strip(),
        "classes": f"{data['classes']:,}",
        "splits": splits,
        "images": ", ".join(counts) if counts else formats.NONE,
        **({"left out": f"{left_out:,}"} if left_out else {}),
    }


def _protocol(run: Run) -> dict[str, str]:
    """Returns how a run chose and tested, from its config and what a rule filled in it."""
    if not run.config:
        return {}
    c = nested({**config_fields(run.config), **_by_rule(run)})
    changed = [f"{k} {formats.value(v)}" for k, v in c["preprocess"].items() if v]
    facts = {"preprocessing": ", ".join(changed) or "as belongs to the weights"}
    if run.kind == "probe":
        ks, both = c["data"]["examples_per_class"], "train and val together"
        facts |= {
            "endpoints": f"{formats.value(c['endpoints'])}; spatial ones pooled: "
            f"{c['extract']['pooling']}",
            "examples a class": ", ".join(formats.value(k) if k else "all" for k in ks),
            "solvers": formats.value(c["probe"]["solvers"]),
            "selection": f"highest val top-1; val: {_val(run, c)}",
            "test": f"the choice, refitted on {'all of train' if _folds(run) else both}, "
            f"scored once for each seed; {_interval(run, len(c['seeds']))}",
        }
    if run.kind == "finetune":
        train, optim = c["train"], c["optim"]
        length = f"{train['steps']:,} steps" if train["steps"] else f"{train['epochs']:g} epochs"
        if train.get("min_steps") and not train["steps"]:
            length += f", at least {train['min_steps']:,} steps"
        facts |= {
            "start": f"{train['start']}; head: {train['head']}; frozen: "
            f"{formats.value(train['freeze'])}; batch normalisation: {train['norm']}",
            **_rule(run),
            "training": f"{length}, batches of {train['batch_size']}, {train['dtype']}",
            "loss": train["loss"],
            "optimizer": f"{optim['name']}, learning rate {optim['learning_rate']:g}, "
            f"{optim['schedule']}, warm-up {100 * optim['warmup']:g} %, weight decay "
            f"{optim['weight_decay']:g} ({optim['decay']})",
            "augmentation": _augmentation(c["augment"]),
            "selection": f"the evaluation with the highest val top-1; val: {_val(run, c)}",
            "test": "the kept network, scored once; " + _interval(run, 1),
        }
    return facts | {"seeds": formats.value(c["seeds"])}


def _interval(run: Run, seeds: int) -> str:
    """Says how the interval of the test accuracy is made."""
    if groups := run.result.get("test", {}).get("groups"):
        return f"the interval is a bootstrap over the {groups:,} groups of the test images"
    if seeds == 1:
        return "the interval over test images is Wilson's"
    return (
        "the interval is a bootstrap over test images of the mean over seeds, or Wilson's where "
        "all seeds have the same images right"
    )


def _by_rule(run: Run) -> Mapping[str, Any]:
    """Returns the fields that `train.rule` filled, dotted, with their values."""
    return run.result.get("rule") or {}


def _rule(run: Run) -> dict[str, str]:
    """Returns the rule that a run followed, and all that it filled."""
    name = run.config["train"].get("rule")
    filled = ", ".join(f"{field} {formats.value(v)}" for field, v in _by_rule(run).items())
    if "rule" in run.result:
        filled = filled or "nothing, since every field of it was given"
    return {"rule": f"{name}: {filled or 'what it set was not recorded'}"} if name else {}


def _folds(run: Run) -> int:
    """Returns the number of folds of a cross-validated run; 0 of others."""
    return run.result.get("val", {}).get("folds", 0)


def _val(run: Run, config: Mapping[str, Any]) -> str:
    if folds := _folds(run):
        return f"each of {folds} folds of train in turn, stratified"
    if split := run.result["data"]["splits"].get("val"):  # a folder may have one by itself
        return f"the split {split}"
    val = config["data"]["val"]
    try:
        return f"{100 * float(val):g} % of train, stratified"
    except ValueError:
        return f"the split {val}"


def _augmentation(augment: Mapping[str, Any]) -> str:
    """Returns the settings that are on, without those that only say how."""
    on = {
        "crop": augment["crop"] != "none",
        **{k: bool(augment[k]) for k in ("shift", "flip", "policy", "erase", "mixup", "cutmix")},
        "jitter": any(augment["jitter"]),
    }
    return ", ".join(f"{k} {formats.value(augment[k])}" for k in on if on[k]) or "none"


def _versions(environment: Mapping[str, Any]) -> dict[str, str]:
    if not environment:
        return {}
    versions = environment.get("versions", {})
    devices = ", ".join(f"{d['count']} x {d['kind']}" for d in environment.get("devices", ()))
    return {
        "started": f"{formats.date(environment.get('started'))} UTC",
        "commit": environment.get("git") or formats.NONE,
        "Python": environment.get("python", formats.NONE),
        "packages": ", ".join(f"{name} {v}" for name, v in versions.items() if v),
        "platform": environment.get("platform", formats.NONE),
        "devices": f"{devices or formats.NONE}; {formats.value(environment.get('cpus'))} CPU cores",
    }
