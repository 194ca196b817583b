"""Low-rank adaptation: a frozen kernel plus the product of two small matrices that train.

LoRA, Hu et al. 2021, arXiv:2106.09685. The two matrices are leaves beside the kernel. They are
added to it before the network runs, so every network can be adapted, and the result is a plain
network. The scale alpha / rank of the paper is 1; the learning rate takes its place.
"""

import functools
import math
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl import tree
from tl.errors import UserError

A, B = "lora_a", "lora_b"
FIELD, RANK = "train.lora", "train.lora_rank"


def added(params: tree.Tree, patterns: Collection[str], rank: int, seed: int) -> dict[str, Any]:
    """Returns the parameters with two matrices beside each chosen kernel, whose product is zero.

    Args:
      params: of a network. A kernel is [..., in, out], of `rows` = ... x in values per output.
      patterns: of kernels, see `tl.tree.select`; none are added to the head, which trains itself.
      rank: r; `lora_a` is float32 [rows, r], normal with variance 1 / rows, and `lora_b` is
        [r, out], zero.
      seed: of `lora_a`.

    Raises:
      UserError: a pattern matches no kernel, or a kernel has a rank of at most r anyway.
    """
    flat = tree.leaves(params)
    kernels = [p for p in flat if p.endswith("/kernel") and not p.startswith("head/")]
    chosen = sorted(tree.select(kernels, patterns, FIELD))
    # Not the keys of the training's steps, which are folded into that of the seed.
    keys = jax.random.split(jax.random.key(seed), len(chosen))
    for key, path in zip(keys, chosen, strict=True):
        *inner, out = np.shape(flat[path])
        rows = math.prod(inner)
        if rank >= min(rows, out):
            raise UserError(
                f"{path} is a matrix of {rows} x {out}; expected a rank below {min(rows, out)}, "
                f"got {rank}; or leave it out with '!{path}' in `{FIELD}`",
                field=RANK,
            )
        module = path.removesuffix("kernel")
        flat[module + A] = np.asarray(jax.random.normal(key, (rows, rank)) / math.sqrt(rows))
        flat[module + B] = np.zeros((rank, out), np.float32)
    return tree.unflatten(flat)


def is_matrix(path: str) -> bool:
    """Returns whether a leaf is one of the two matrices."""
    return path.rpartition("/")[2] in (A, B)


def merged(params: tree.Tree) -> dict[str, Any]:
    """Returns the parameters of the plain network: each pair of matrices added to its kernel."""
    flat = tree.leaves(params)
    plain = {}
    for path, leaf in flat.items():
        module, _, name = path.rpartition("/")
        if is_matrix(path):
            continue
        if name == "kernel" and f"{module}/{A}" in flat:
            a, b = flat[f"{module}/{A}"], flat[f"{module}/{B}"]
            product = np.matmul if isinstance(a, np.ndarray) else _in_full_precision
            leaf = leaf + product(a, b).reshape(leaf.shape)
        plain[path] = leaf
    return tree.unflatten(plain)


_in_full_precision = functools.partial(jnp.matmul, precision="highest")
