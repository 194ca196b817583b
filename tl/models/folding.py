"""Folds batch normalisation by the running statistics into the convolution before it.

y = scale * (conv(x) - mean) / sqrt(var + epsilon) + bias is itself a convolution, since mean and
var are fixed: kernel' = kernel * s along the output channels and bias' = bias - mean * s, where
s = scale / sqrt(var + epsilon).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def fold_batch_norm(
    variables: Mapping[str, Any], epsilon: float, dtype: Any = np.float32
) -> dict[str, Any]:
    """Returns the variables of the same module with `folded=True`.

    Args:
      variables: `params` and `batch_stats` of a backbone built of `ConvBN`.
      epsilon: the module's `norm_epsilon`.
      dtype: that the module computes in; it need not round the kernels in every call then.

    Returns:
      `{'params': ...}`: every `conv` has a kernel and a bias, computed in float64 and rounded to
      the kernel's type, then to `dtype`; no `bn` is left; other leaves are the same objects.
    """
    return {"params": _fold(variables["params"], variables["batch_stats"], epsilon, dtype)}


def _fold(
    params: Mapping[str, Any], stats: Mapping[str, Any], epsilon: float, dtype: Any
) -> dict[str, Any]:
    if "bn" not in params:
        return {
            name: _fold(child, stats[name], epsilon, dtype) if name in stats else child
            for name, child in params.items()
        }
    kernel = np.asarray(params["conv"]["kernel"])
    scale, bias, mean, var = (
        np.asarray(v, np.float64)
        for v in (
            params["bn"]["scale"],
            params["bn"]["bias"],
            stats["bn"]["mean"],
            stats["bn"]["var"],
        )
    )
    gain = scale / np.sqrt(var + epsilon)
    return {
        "conv": {
            "kernel": (kernel * gain).astype(kernel.dtype).astype(dtype),
            "bias": (bias - mean * gain).astype(kernel.dtype).astype(dtype),
        }
    }
