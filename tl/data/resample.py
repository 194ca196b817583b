"""Pillow's resampling as integer matrices, so that a device can repeat it bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

# Pillow resamples 8-bit images in 32-bit fixed point: 8 bits hold the pixel, 2 the overshoot of
# bicubic and Lanczos, and the remaining 22 the fraction (PRECISION_BITS in its Resample.c).
PRECISION_BITS = 22
_HALF_BITS = PRECISION_BITS // 2


def _bilinear(x: Float[np.ndarray, "length resized"]) -> Float[np.ndarray, "length resized"]:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _bicubic(x: Float[np.ndarray, "length resized"]) -> Float[np.ndarray, "length resized"]:
    """Keys' cubic with a = -0.5, Pillow's choice (torch and OpenCV take -0.75)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: Float[np.ndarray, "length resized"]) -> Float[np.ndarray, "length resized"]:
    return np.where(np.abs(x) < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


_KERNELS = {"bilinear": (_bilinear, 1.0), "bicubic": (_bicubic, 2.0), "lanczos": (_lanczos, 3.0)}


def weights(
    length: int, resized: int, interpolation: str
) -> Int32[np.ndarray, "{length} {resized}"]:
    """Returns the matrix by which Pillow resizes one axis of an 8-bit image.

    Source: `precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow's Resample.c, and
    `ImagingScaleAffine` in its Geometry.c for `nearest`. When shrinking, the kernel is stretched
    by the scale, which is the antialias.

    Args:
      length: pixels along the axis before, >= 1.
      resized: pixels along the axis after, >= 1.
      interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`.

    Returns:
      In units of 2**-PRECISION_BITS; each column adds up to 1.
    """
    scale = length / resized
    if interpolation == "nearest":
        # Pillow steps by adding the scale up, and so do we: a product rounds differently.
        centres = np.cumsum(np.r_[0.5 * scale, np.full(resized - 1, scale)])
        exact = np.arange(length)[:, None] == np.floor(centres)
        return (exact * (1 << PRECISION_BITS)).astype(np.int32)
    kernel, support = _KERNELS[interpolation]
    stretch = max(scale, 1.0)
    support *= stretch
    centres = (np.arange(resized) + 0.5) * scale
    first = np.floor(np.maximum(centres - support + 0.5, 0.0))
    end = np.floor(np.minimum(centres + support + 0.5, length))
    positions = np.arange(length)[:, None]
    real = kernel((positions - centres + 0.5) * (1.0 / stretch))
    real = np.where((first <= positions) & (positions < end), real, 0.0)
    real /= real.sum(axis=0)
    fixed = real * (1 << PRECISION_BITS)
    return np.trunc(fixed + np.copysign(0.5, fixed)).astype(np.int32)


def resample(
    images: Float32[Array, "n h w c"], matrix: Int32[np.ndarray, "length resized"], axis: int
) -> Float32[Array, "n h2 w2 c"]:
    """Returns `images` resampled along one axis, rounded and clipped as Pillow does after a pass.

    Exact in float32: the matrix is split into a high and a low half of 11 bits, so that products
    with 8-bit pixels and their sums stay below 2**24 (for kernels of up to 64 pixels; beyond that
    one grey level may be off).

    Args:
      images: whole numbers in [0, 255].
      matrix: from `weights`, its length H or W.
      axis: 1 for H, 2 for W.

    Returns:
      Whole numbers in [0, 255].
    """
    subscripts = {1: "nhwc,ho->nowc", 2: "nhwc,wo->nhoc"}[axis]

    def product(half: Int32[np.ndarray, "length resized"]) -> Int32[Array, "n h2 w2 c"]:
        # HIGHEST: the default on GPU and TPU would round the factors to 8 or 11 bits.
        factors = half.astype(np.float32)
        summed = jnp.einsum(subscripts, images, factors, precision=jax.lax.Precision.HIGHEST)
        return summed.astype(jnp.int32)

    high = (matrix + (1 << _HALF_BITS - 1)) >> _HALF_BITS
    low = matrix - (high << _HALF_BITS)
    # Not shifted: ONNX Runtime cannot shift signed numbers. Clipped first, so division rounds down.
    total = product(high) * (1 << _HALF_BITS) + product(low) + (1 << PRECISION_BITS - 1)
    clipped = jnp.clip(total, 0, (1 << PRECISION_BITS + 8) - 1)
    return jax.lax.div(clipped, jnp.int32(1 << PRECISION_BITS)).astype(jnp.float32)
