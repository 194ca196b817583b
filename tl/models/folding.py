"""Folds batch normalisation by the running statistics into the convolution before it, if any.

y = scale * (conv(x) - mean) / sqrt(var + epsilon) + bias is itself a convolution, since mean and
var are fixed: kernel' = kernel * s along the output channels and bias' = bias - mean * s, where
s = scale / sqrt(var + epsilon). Without a convolution it is one product and one sum.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def fold_batch_norm(
    variables: Mapping[str, Any], epsilon: float, dtype: Any = np.float32
) -> dict[str, Any]:
    """Returns the variables of the same module with `folded=True`.

    Args:
      variables: `params` and `batch_stats` of a backbone whose normalisations are called `bn`.
      epsilon: the module's `norm_epsilon`.
      dtype: that the module computes in; it need not round the kernels in every call then.

    Returns:
      `{'params': ...}`: every `conv` has a kernel and a bias, computed in float64 and rounded to
      the kernel's type, then to `dtype`; no `bn` is left, and a `bn` without a `conv` beside it is
      a scale and a bias of its own type; other leaves are the same objects.
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
    offset = bias - mean * gain
    if "conv" not in params:
        own = np.asarray(params["bn"]["scale"]).dtype
        return {"scale": gain.astype(own), "bias": offset.astype(own)}
    kernel = np.asarray(params["conv"]["kernel"])
    return {
        "conv": {
            "kernel": (kernel * gain).astype(kernel.dtype).astype(dtype),
            "bias": offset.astype(kernel.dtype).astype(dtype),
        }
    }
