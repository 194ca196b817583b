"""Converts {name: array} to Flax variables and back; every name, shape and type must match."""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tl.errors import UserError
from tl.models.backbone import Network
from tl.weights import naming
from tl.weights.schemes.scheme import COUNTER

_EXACT_IN_FLOAT32 = ("float32", "float16", "bfloat16")
POSITIONS = ("embed", "positions")  # path of a vision transformer's table
_SHOWN = 8  # most names of each kind that an error lists


@functools.lru_cache(maxsize=64)  # a run asks several times, and a network takes a second
def shapes(model: Network, size: int = 64) -> dict[str, Any]:
    """Returns the variables of a model as `jax.ShapeDtypeStruct`, without computing them.

    They are shared with other callers, and not to be changed.

    Args:
      model: the network.
      size: side of its images in pixels, on which the shape of a position table depends.
    """
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def source_names(
    variables: Mapping[str, Any], scheme: str
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Returns the name of each leaf in a scheme, to (Flax path, leaf).

    Raises:
      UserError: the scheme is unknown, or belongs to another kind of network.
    """
    return {
        naming.source_name(scheme, "/".join(path[1:-1]), path[-1]): (path, leaf)
        for path, leaf in flatten_dict(variables).items()
    }


def source_shapes(shapes: Mapping[str, Any], scheme: str) -> dict[str, tuple[int, ...]]:
    """Returns the name of each leaf in a scheme, to its shape in a file of that scheme.

    Args:
      shapes: variables as arrays or ShapeDtypeStruct, see `shapes`.
      scheme: a key of `naming.SCHEMES`.
    """
    torch = naming.get(scheme).torch
    return {
        name: (*leaf.shape[:-3:-1], *leaf.shape[:-2])
        if torch and path[-1] == "kernel"
        else _tensor_shape(scheme, path, leaf.shape)
        for name, (path, leaf) in source_names(shapes, scheme).items()
    }


def _tensor_shape(scheme: str, path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return naming.tensor_shape(scheme, "/".join(path[1:-1]), path[-1], shape)


def to_variables(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, Any],
    scheme: str,
    *,
    drop_head: bool = False,
) -> dict[str, Any]:
    """Returns a file's tensors as the variables of a model.

    Args:
      tensors: name to array, from `WeightFile.tensors`; torch's `num_batches_tracked` are ignored.
      shapes: the model's variables as arrays or ShapeDtypeStruct, see `shapes`.
      scheme: a key of `naming.SCHEMES`.
      drop_head: ignore the head of both the file and the model.

    Returns:
      `{'params': ..., 'batch_stats': ...}`, contiguous float32 arrays.

    Raises:
      UserError: a name, a shape or a type differs; the text lists both sides.
    """
    torch = naming.get(scheme).torch
    tensors = naming.canonical(scheme, tensors)
    if torch:
        tensors = {k: v for k, v in tensors.items() if k.rsplit(".", 1)[-1] != COUNTER}
    else:
        tensors = _fold_conv_biases(tensors)
    wanted = source_names(shapes, scheme)
    if drop_head:
        head = {naming.source_name(scheme, "head", leaf) for leaf in ("kernel", "bias")}
        tensors = {k: v for k, v in tensors.items() if k not in head}
        wanted = {k: v for k, v in wanted.items() if k not in head}

    tensors = joined(tensors, wanted)
    values, mismatched = {}, []
    for name in sorted(wanted.keys() & tensors.keys()):
        path, leaf = wanted[name]
        value = _to_flax(path[-1], tensors[name]) if torch else tensors[name]
        if value.shape == _tensor_shape(scheme, path, leaf.shape):
            value = value.reshape(leaf.shape)
        if value.shape != leaf.shape or value.dtype.name not in _EXACT_IN_FLOAT32:
            mismatched.append(
                f"{name}: the file's {value.dtype}{list(value.shape)} for the model's "
                f"{'/'.join(path)} float32{list(leaf.shape)}"
            )
            continue
        values[path] = np.ascontiguousarray(value, dtype=np.float32)
    _report(
        {
            "missing from the file": sorted(wanted.keys() - tensors.keys()),
            "in the file and not in the model": sorted(tensors.keys() - wanted.keys()),
            "of another shape or type (kernels in Flax's layout)": mismatched,
        },
        scheme,
    )
    return {"params": {}, "batch_stats": {}} | unflatten_dict(values)


def joined(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns `tensors`, in which the parts of a leaf (`naming.shares`) are one tensor.

    Args:
      tensors: name to array, in torch's layouts.
      names: of all leaves. Parts are left as they are if one is missing or has another shape.
    """
    tensors = dict(tensors)
    for name in names:
        shares = naming.shares(name)
        present = {part: tensors[part] for part in shares if part in tensors}
        shapes = {(len(v) / shares[part], *v.shape[1:]) for part, v in present.items() if v.ndim}
        if len(shares) == len(present) > 1 and len(shapes) == 1:
            tensors[name] = np.concatenate(list(present.values()))
            for part in shares:
                del tensors[part]
    return tensors


def from_variables(variables: Mapping[str, Any], scheme: str) -> dict[str, np.ndarray]:
    """Returns variables under the names and in the layout of a torch scheme.

    The inverse of `to_variables`, bit for bit. `num_batches_tracked`, which
    `load_state_dict(strict=True)` expects, are zeros.

    Args:
      variables: `{'params': ..., 'batch_stats': ...}` of a backbone.
      scheme: a key of `naming.SCHEMES` other than `keras`, whose convolutions have biases; here
        those are folded into the statistics.

    Returns:
      Name to contiguous float32 array (int64 scalars for the counters).

    Raises:
      UserError: the scheme is unknown, is Keras', or belongs to another kind of network.
    """
    if not naming.get(scheme).torch:
        raise UserError(f"weights are written in torch's layouts only, not in {scheme!r}")
    tensors = {}
    found = naming.get(scheme)
    conv_head = ("params", "head", "kernel") if found.head_is_conv else None
    for name, (path, value) in source_names(variables, scheme).items():
        # safetensors writes the buffer of a view without its strides, so copy it in order.
        whole = _to_torch(path[-1], np.asarray(value, np.float32))
        whole = whole.reshape(_tensor_shape(scheme, path, whole.shape))
        if path == conv_head:
            whole = whole[..., None, None]
        if found.cls_position and path[1:] == POSITIONS:
            whole = _with_cls_position(whole)
        if "/".join(path[1:]) in found.flat:
            whole = whole.reshape(whole.shape[1:] if whole.shape[1] > 1 else whole.shape[2:])
        for part, values in _divided(whole, naming.shares(name)).items():
            tensors[part] = np.ascontiguousarray(values)
        if path[0] == "batch_stats" and path[-1] == "mean":
            counter = naming.source_name(scheme, "/".join(path[1:-1]), COUNTER)
            tensors[counter] = np.zeros((), np.int64)
    return tensors


def _divided(whole: np.ndarray, shares: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Returns the parts of a leaf, one after the other along its first axis."""
    if len(shares) == 1:
        return dict.fromkeys(shares, whole)
    bounds = np.cumsum(list(shares.values())) * len(whole) // sum(shares.values())
    return dict(zip(shares, np.split(whole, bounds[:-1]), strict=True))


def _with_cls_position(table: np.ndarray) -> np.ndarray:
    """Returns a position table with an entry for the class token.

    Args:
      table: `[1, g * g, D]`, or with that entry already.
    """
    if math.isqrt(table.shape[1]) ** 2 != table.shape[1]:
        return table
    return np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)


def _to_flax(leaf: str, value: np.ndarray) -> np.ndarray:
    # A kernel is (out, in, ...) in torch and (..., in, out) in Flax; in is 1 if it is depthwise.
    return np.moveaxis(value, (0, 1), (-1, -2)) if leaf == "kernel" else value


def _to_torch(leaf: str, value: np.ndarray) -> np.ndarray:
    return np.moveaxis(value, (-1, -2), (0, 1)) if leaf == "kernel" else value


def _fold_conv_biases(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Keras' convolutions have biases before the normalisation. BN(conv(x) + b) with mean m is
    # BN(conv(x)) with mean m - b.
    folded = dict(tensors)
    for name in tensors:
        mean = name.replace("_conv/bias", "_bn/moving_mean")
        if name.endswith("_conv/bias") and mean in tensors:
            folded[mean] = tensors[mean] - folded.pop(name)
    return folded


def _report(problems: Mapping[str, list[str]], scheme: str) -> None:
    if not any(problems.values()):
        return
    lines = [f"the file's tensors ({scheme} names) are not the model's"]
    for problem, names in problems.items():
        if names:
            lines.append(f"{len(names)} {problem}:")
            lines += [f"  {name}" for name in names[:_SHOWN]]
            if len(names) > _SHOWN:
                lines.append(f"  ... and {len(names) - _SHOWN} more")
    raise UserError("\n".join(lines))
