"""Finds the network in a file that training code left: strips wrappers, leaves out the rest."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

from tl.errors import UserError
from tl.models.backbone import FINAL
from tl.weights import naming, prefixes

AVERAGES = ("", "ema")

# torch.compile, FSDP and activation checkpointing put these into names, in any place.
_WRAPPERS = re.compile(r"(?<![^./])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_AVERAGED = re.compile(r"(.*_)?(ema|swa|avg|averaged?)(_.*)?", re.IGNORECASE)
# Networks that come in pairs: stripping cannot tell which one is meant.
_TWINS = re.compile(
    r"encoder_[qk]|(base|momentum)_encoder|((.*_)?(online|target|teacher|student)(_.*)?)"
)
# Lightning's WeightAveraging saves the averaged weights in place of the raw ones, and these beside.
_LIGHTNING_RAW, _LIGHTNING_AVERAGED = "current_model_state/", "state_dict/"
_TRAINING = re.compile(
    r"opt(im.*)?|(.*_)?optimizers?(_.*)?|(.*_)?(lr_)?sched(uler)?s?(_.*)?|(grad_?)?scalers?(_.*)?|amp|"
    r"callbacks|loops|(.*_)?(rng|random)(_.*)?|(.*_)?loss(es|_fn)?(_.*)?|(.*_)?criterion|"
    r"(.*_)?metrics?|(.*_)?accuracy|(.*_)?acc[15]?|averaging_state|n_averaged|epoch|history"
)
_COUNTED = "position_ids"  # 0, 1, 2 ..., which older versions of transformers saved
_MAX_STARTS = 32  # parts of a name where a network's own name may begin
_SHOWN = 8  # most groups that a line lists


@dataclasses.dataclass(frozen=True)
class Reading:
    """A network found in a file.

    Attributes:
      prefix: what was stripped from the names of its tensors; names of nested dictionaries are
        joined by `/`.
      scheme: how its tensors are named, a key of `naming.SCHEMES`.
      tensors: name without the prefix to array, of the network and of a head with the scheme's own
        name.
      foreign: name without the prefix to array, of other weights that belong to the same model; a
        head of another name is among them.
      left_out: parts of the file that are not read, foreign weights not included.
      wrappers: names of wrappers that were stripped inside of names.
      average: says whether raw or averaged weights were read; '' if the file has only raw ones.
    """

    prefix: str
    scheme: str
    tensors: dict[str, np.ndarray]
    foreign: dict[str, np.ndarray]
    left_out: tuple[str, ...]
    wrappers: tuple[str, ...] = ()
    average: str = ""


def is_training(name: str) -> bool:
    """Returns whether a tensor is state of the training, such as an optimizer's momentum."""
    return any(_TRAINING.fullmatch(part) for part in _parts(name))


def find(tensors: Mapping[str, np.ndarray], average: str = "", prefix: str = "") -> Reading | None:
    """Returns the one network in a file, or None if no naming scheme is known there.

    Args:
      tensors: name to array, from `WeightFile.tensors`.
      average: 'ema' for the averaged weights of a file that holds raw ones too, else ''.
      prefix: what the names of the network begin with, if the file holds several; else ''.

    Raises:
      UserError: the file holds several networks, or no averaged weights where these are asked for.
    """
    tensors, wrappers = _unwrapped(tensors)
    found = _networks(tensors)
    if prefix:
        if prefix not in found:
            raise UserError(
                f"`weights_prefix={prefix}` expects a network whose names begin so; "
                f"{_described(found)}"
            )
        return dataclasses.replace(_reading(tensors, found, prefix), wrappers=wrappers)
    averaged = [name for name in found if _is_averaged(name, found)]
    raw = [name for name in found if name not in averaged]
    if average and not averaged:
        raise UserError(
            f"`weights_average={average}` expects averaged weights beside the raw ones; "
            f"{_described(found)}"
        )
    chosen = averaged if average else raw or averaged
    if not chosen:
        return None
    if len(chosen) > 1 or any(_TWINS.fullmatch(part) for part in _parts(chosen[0])):
        raise UserError(_which(tensors, chosen))
    said = ""
    if chosen == averaged:
        said = "read the averaged weights"
    elif averaged:
        said = f"read the raw weights (`weights_average=ema` takes the averaged, {averaged[0]!r})"
    reading = _reading(tensors, found, chosen[0])
    return dataclasses.replace(reading, wrappers=wrappers, average=said)


def with_head(reading: Reading, width: int) -> tuple[dict[str, np.ndarray], str]:
    """Returns the tensors of a network with its head, if that is one linear layer.

    Args:
      reading: see `Reading`.
      width: of the features that the head takes.

    Returns:
      (name to array, what was read as the head or left out; '' for a head with the usual name or
      none).
    """
    kernel, bias = (naming.source_name(reading.scheme, "head", leaf) for leaf in ("kernel", "bias"))
    torch, any_head = naming.get(reading.scheme).torch, naming.get(reading.scheme).any_head
    tensors = naming.canonical(reading.scheme, reading.tensors)
    own = {name: tensors.pop(name) for name in (kernel, bias) if name in tensors}
    note, head = "", own
    if reading.foreign:
        head = {}
        if torch and not own and any_head and (layer := _linear(reading.foreign)):
            note = f"read {layer[0]} as the head"
            head = dict(zip((kernel, bias), layer[1], strict=False))
    if kernel in head:
        shape = head[kernel].shape if torch else head[kernel].shape[::-1]
        head = {bias: np.zeros(shape[:1], head[kernel].dtype), **head}
        if shape[1:] == (width,) and head[bias].shape == shape[:1]:
            return tensors | head, note
    if names := _groups([*own, *reading.foreign], ""):
        if not any_head:
            return tensors, f"left out {_listed(names)}: none is a head on {FINAL!r}"
        kind = f"one linear layer on the {width} features" if torch else "Keras' own `predictions`"
        return tensors, f"left out {_listed(names)}: only {kind} is read as a head"
    return tensors, ""


def described(reading: Reading, head: str) -> str:
    """Returns one line on what was stripped and left out; '' if there is nothing to say.

    Args:
      reading: see `Reading`.
      head: of `with_head`.
    """
    stripped = [repr(name) for name in (*reading.wrappers, reading.prefix) if name]
    said = [f"stripped {' and '.join(stripped)} from the names"] if stripped else []
    said += [text for text in (reading.average, head) if text]
    if reading.left_out:
        said.append(f"left out {_listed(reading.left_out)}")
    return "; ".join(said)


def _unwrapped(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns (the tensors without wrappers in their names, the wrappers)."""
    names = {name: _WRAPPERS.sub("", name) for name in tensors}
    if len(set(names.values())) < len(names):
        return dict(tensors), ()
    found = {match[0]: None for name in tensors for match in _WRAPPERS.finditer(name)}
    return {names[name]: value for name, value in tensors.items()}, tuple(found)


def _networks(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns what precedes a network's names, to its scheme, for each network in a file."""
    found: dict[str, str] = {}
    claimed = set()  # a tensor is in one network: some schemes differ in the start of the names
    for scheme in naming.SCHEMES:
        first, *others = naming.landmarks(scheme)
        for name in tensors:
            if name in claimed:
                continue
            # The first start is right: 'resnet.' may be a wrapper or part of a scheme's names.
            starts = [0, *(end + 1 for end in _ends(name)[:-2])][:_MAX_STARTS]
            for start in starts:
                prefix = name[:start]
                if naming.canonical_name(scheme, name[start:]) != first:
                    continue
                inside = {
                    naming.canonical_name(scheme, other[start:])
                    for other in tensors
                    if others and other.startswith(prefix)
                }
                if inside.issuperset(others):
                    found.setdefault(prefix, scheme)
                    claimed.add(name)
                    break
    return dict(sorted(found.items()))  # a safetensors file has its tensors in any order


def _reading(tensors: Mapping[str, np.ndarray], found: Mapping[str, str], prefix: str) -> Reading:
    scheme = found[prefix]
    head = {naming.source_name(scheme, "head", leaf) for leaf in ("kernel", "bias")}
    kept, foreign, left_out = {}, {}, []
    for name, value in tensors.items():
        short = name.removeprefix(prefix)
        inside = name.startswith(prefix)
        usual = naming.canonical_name(scheme, short)
        if inside and (usual in head or naming.in_backbone(scheme, usual)):
            kept[short] = value
        elif _is_foreign(name, value, scheme, found, prefix):
            foreign[short if inside else name] = value
        elif not short.endswith(_COUNTED):
            left_out.append(name)
    return Reading(prefix, scheme, kept, foreign, tuple(_groups(left_out, prefix)))


def _is_foreign(
    name: str, value: np.ndarray, scheme: str, found: Mapping[str, str], prefix: str
) -> bool:
    """Returns whether a tensor may be a part of the model that the network was trained in."""
    if value.dtype.kind in "iub" or is_training(name):
        return False
    nearest = max(found, key=lambda other: (_common(name, other), other == prefix))
    same_dictionary = _dictionary(name) == _dictionary(prefix)
    return nearest == prefix and (same_dictionary or not naming.get(scheme).torch)


def _linear(foreign: Mapping[str, np.ndarray]) -> tuple[str, list[np.ndarray]] | None:
    """Returns (name, [kernel, bias if it has one]) of the one layer that these tensors are."""
    module = next(iter(foreign)).rpartition(".")[0]
    leaves = [f"{module}.{leaf}" for leaf in ("weight", "bias")]
    given = [foreign[leaf] for leaf in leaves if leaf in foreign]
    return (module, given) if leaves[0] in foreign and len(given) == len(foreign) else None


def _is_averaged(prefix: str, found: Iterable[str]) -> bool:
    if prefix.startswith(_LIGHTNING_AVERAGED) and any(
        other.startswith(_LIGHTNING_RAW) for other in found
    ):
        return True
    return any(_AVERAGED.fullmatch(part) for part in _parts(prefix))


def _which(tensors: Mapping[str, np.ndarray], chosen: list[str]) -> str:
    paired = [rule for rule in prefixes.PREFIXES if rule != "checkpoint"]
    rules = [rule for rule in paired if _fits(tensors, rule)]
    if rules:
        return (
            f"{_described(chosen)}; a self-supervised checkpoint needs its prefix rule: "
            + " or ".join(f"`weights_prefix={rule}`" for rule in rules)
        )
    return f"{_described(chosen)}; name the one to read, such as `weights_prefix={chosen[0]}`"


def _fits(tensors: Mapping[str, np.ndarray], rule: str) -> bool:
    try:
        return "" in _networks(prefixes.strip(tensors, rule))
    except UserError:
        return False


def _described(found: Iterable[str]) -> str:
    names = [repr(name) if name else "the file's own names" for name in found]
    return f"there is a network at {' and at '.join(names)}" if names else "there is no network"


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[./]", name) if part]


def _ends(name: str) -> list[int]:
    """Returns where each part of a name ends."""
    return [*(match.start() for match in re.finditer(r"[./]", name)), len(name)]


def _dictionary(name: str) -> str:
    return name.rpartition("/")[0]


def _common(name: str, prefix: str) -> int:
    """Returns how many leading parts two names have in common."""
    pairs = zip(_parts(name), _parts(prefix), strict=False)
    unequal = [number for number, (one, other) in enumerate(pairs) if one != other]
    return unequal[0] if unequal else min(len(_parts(name)), len(_parts(prefix)))


def _groups(names: Iterable[str], prefix: str) -> list[str]:
    """Returns the names, each cut after the first part in which it differs from the prefix."""
    found = set()
    for name in names:
        ends = _ends(name)
        found.add(name[: ends[min(_common(name, prefix), len(ends) - 1)]])
    return sorted(found)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
