"""Convolution of NHWC images in the form that each platform runs fast, forward and backward."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# From how many pixels of output on a convolution with as many channels pays for its transforms.
WINOGRAD_PIXELS = 512
WINOGRAD_CHANNELS = 64
# Fewest input channels that make a tap's matrix product in bfloat16 worth while.
BFLOAT16_CHANNELS = 16
# Most products of one output value that are better added one by one, such as those of 3x3 colours.
FEW_PRODUCTS = 27

# Most pixels whose products the kernel gradient of a depthwise convolution adds in one pass; with 8
# EfficientNet-Lite0 trained 7 % slower, and every pixel more lengthens compilation.
PIXELS = 16

Pair = tuple[int, int]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` of NHWC images, some shapes lowered for CPU as sums over taps.

    A tap is one position of the kernel; it meets a shifted, strided view of the image, and the
    convolution is the sum of what every tap makes of its view. XLA's CPU backend runs that sum
    faster than its own convolution where

      - the kernel is 1x1: a matrix product; the gradient of the kernel takes a fifth of the time
        in the early stages of ResNet-50, two thirds in the late ones;
      - a map is smaller than the kernel, as 2x2 under 3x3: matrix products, 60 times as fast;
      - every channel has its own kernel: shifted multiply-adds, vectorised over channels, 9 times
        as fast forward over EfficientNet-Lite0; `_depthwise` has the gradient;
      - an output value has few products, as where the image has three colours: multiply-adds again,
        forward only, 4 times as fast for EfficientNet-Lite0's first layer;
      - the type is bfloat16: products of bfloat16 summed in float32 run on the matrix units that
        the native convolution leaves idle, 1.7 to 4.5 times as fast over ResNet-50's 3x3;
      - the kernel is 3x3 at stride 1: `_winograd`, 1.1 to 1.9 times as fast.

    Everything else, and every other platform, keeps the native convolution. Sums are float32 at
    least, also where the type is narrower.

    Args:
      x: `[N, h, w, c]`.
      kernel: `[kh, kw, c / feature_group_count, features]`.
      window_strides, padding, lhs_dilation, rhs_dilation, feature_group_count, **options: as
        `lax.conv_general_dilated`.

    Returns:
      `[N, h', w', features]`; where depthwise, 3x3 or of few products, differentiable in reverse
      mode only.
    """

    def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            feature_group_count=feature_group_count,
            **options,
        )

    if any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ()))):
        return native(x, kernel)
    sides, strides = kernel.shape[:2], (window_strides[0], window_strides[1])
    given = padding
    if isinstance(given, str):
        given = lax.padtype_to_pads(x.shape[1:3], sides, strides, given)
    rows, columns = given
    pads = (rows[0], rows[1]), (columns[0], columns[1])

    def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _depthwise(x, kernel, strides, pads)

    def few(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _few_products(x, kernel, strides, pads)

    def winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _winograd(x, kernel, pads)

    def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _sum_over_taps(_matrix_product, _pad(x, pads), kernel, strides)

    channels, features = kernel.shape[2:]
    padded = [n + sum(pad) for n, pad in zip(x.shape[1:3], pads)]
    shape = out_shape(padded, sides, strides)
    narrow = x.dtype == jnp.bfloat16 and channels >= BFLOAT16_CHANNELS
    if feature_group_count == x.shape[-1] == features > 1:
        lowered = depthwise
    elif feature_group_count != 1:
        lowered = native
    elif sides != (1, 1) and math.prod(sides) * channels <= FEW_PRODUCTS:
        lowered = few
    elif sides == (1, 1) or narrow or any(n < k for n, k in zip(shape, sides)):
        lowered = dense
    elif (
        (sides, strides, x.dtype) == ((3, 3), (1, 1), jnp.float32)
        and min(channels, features) >= WINOGRAD_CHANNELS
        and len(x) * math.prod(shape) >= WINOGRAD_PIXELS
    ):
        lowered = winograd
    else:
        lowered = native
    if lowered is native:
        return native(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=lowered, default=native)


def out_shape(shape: Sequence[int], sides: Sequence[int], strides: Sequence[int]) -> Pair:
    """Returns the places that a window of such sides takes in an image of this shape."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(shape, sides, strides))
    return rows, columns


def view(
    x: jax.Array, start: Sequence[int], strides: Sequence[int], shape: Sequence[int]
) -> jax.Array:
    """Returns the pixels that one place of a moving window meets, `[N, *shape, c]`."""
    rows, columns = (
        slice(first, first + (n - 1) * s + 1, s) for first, s, n in zip(start, strides, shape)
    )
    return x[:, rows, columns]


def _sum_over_taps(product: Callable, x: jax.Array, kernel: jax.Array, strides: Pair) -> jax.Array:
    """The convolution of `x`, padded already, with `product` of every tap's view and weights."""
    shape = out_shape(x.shape[1:3], kernel.shape[:2], strides)
    total: Any = 0.0  # an array from the first tap on
    for tap in np.ndindex(kernel.shape[:2]):
        total += product(view(x, tap, strides, shape), kernel[tap])
    return total.astype(x.dtype)


def _matrix_product(x: jax.Array, weights: jax.Array) -> jax.Array:
    # Two axes, not four: XLA would copy a four-axis operand of the kernel's gradient transposed,
    # together with the arithmetic that made it (ResNet-50 trained 1.3 times as fast for this).
    flat = jnp.matmul(_columns(x), weights, preferred_element_type=_sum_type(x.dtype))
    return flat.reshape(*x.shape[:-1], weights.shape[-1])


def _columns(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _multiply(x: jax.Array, weights: jax.Array) -> jax.Array:
    dtype = _sum_type(x.dtype)
    return x.astype(dtype) * weights.astype(dtype)


def _sum_type(dtype: Any) -> Any:
    return np.promote_types(dtype, np.float32)


def _pad(x: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    # lax.pad, which crops where a pad is negative: a mirrored one is, where a pad exceeds a kernel.
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, Pair]
) -> jax.Array:
    """The convolution of `[N, h, w, c]` with `[kh, kw, 1, c]`, channel by channel.

    Left to itself the gradient of the kernel copies the view of every tap and reduces each alone.
    Here the products of 16 pixels are added in one pass over the images where they lie, and a
    matrix product with ones sums the rest: 20 ms became 4 (50 x 16 x 16 x 144, 3x3, two cores).
    """
    return _sum_over_taps(_multiply, _pad(x, pads), kernel, strides)


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, Pair]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    padded = _pad(x, pads)
    return _sum_over_taps(_multiply, padded, kernel, strides), (padded, kernel)


def _depthwise_backward(
    strides: Pair, pads: tuple[Pair, Pair], saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    padded, kernel = saved
    sides = kernel.shape[:2]
    if strides == (1, 1):
        # The same convolution, mirrored: for 5x5 half the time of adding up 25 padded arrays.
        mirrored = [(k - 1 - low, k - 1 - high) for k, (low, high) in zip(sides, pads)]
        x_grad = _sum_over_taps(_multiply, _pad(grad, mirrored), kernel[::-1, ::-1], strides)
    else:
        forward = functools.partial(_sum_over_taps, _multiply, kernel=kernel, strides=strides)
        (x_grad,) = jax.linear_transpose(forward, padded)(grad)
        height, width = (n - sum(pad) for n, pad in zip(padded.shape[1:3], pads))
        x_grad = view(x_grad, (pads[0][0], pads[1][0]), (1, 1), (height, width))

    height, width, channels = grad.shape[1:]
    rows = _largest_divisor(height, PIXELS)
    columns = _largest_divisor(width, PIXELS // rows)
    shape = (height // rows, width // columns)
    steps = (rows * strides[0], columns * strides[1])
    kernel_grad = []
    for i, j in np.ndindex(sides):
        total: Any = 0.0  # an array from the first tap on
        for row, column in np.ndindex(rows, columns):
            start = (i + row * strides[0], j + column * strides[1])
            total += view(padded, start, steps, shape) * grad[:, row::rows, column::columns]
        total = total.reshape(-1, channels)
        kernel_grad.append(jnp.ones((1, len(total)), total.dtype) @ total)
    return x_grad, jnp.stack(kernel_grad).reshape(kernel.shape)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _largest_divisor(number: int, limit: int) -> int:
    return max(n for n in range(1, limit + 1) if number % n == 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _few_products(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, Pair]
) -> jax.Array:
    """The convolution of few channels, one multiply-add of all features a tap and channel.

    18 ms became 4 (16 x 224 x 224 x 3 to 32 features, 3x3 at stride 2, two cores), a sixth of
    EfficientNet-Lite0 at 224 px. The gradients are the native convolution's.
    """

    def product(pixels: jax.Array, weights: jax.Array) -> jax.Array:
        total: Any = sum(_multiply(pixels[..., i, None], row) for i, row in enumerate(weights))
        return total

    # The barrier keeps what makes the image from being computed again at every tap.
    return _sum_over_taps(product, lax.optimization_barrier(_pad(x, pads)), kernel, strides)


def _few_products_forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, Pair]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _few_products(x, kernel, strides, pads), (x, kernel)


def _few_products_backward(
    strides: Pair, pads: tuple[Pair, Pair], saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    native = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.vjp(native, *saved)[1](grad)


_few_products.defvjp(_few_products_forward, _few_products_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _winograd(x: jax.Array, kernel: jax.Array, pads: tuple[Pair, Pair]) -> jax.Array:
    """The convolution of `[N, h, w, c]` with `[3, 3, c, features]` at stride 1.

    Every 2x2 pixels of the output come from 4x4 of the input by 16 products instead of 36, all of
    one tap in one matrix product; Winograd's F(2x2, 3x3), Lavin and Gray 2015, arXiv:1509.09308.
    Its rounding error is that of the plain sum (7e-7 of the largest value). F(4x4, 3x3) was as
    fast and ten times less exact. Both gradients have 16 products as well: the kernel's took 19 ms
    where the native convolution's took 34 (16 x 32 x 32 x 64), and ResNet-50 trained 7 % faster.
    """
    height, width = (n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads))
    views, (rows, columns) = _input_views(x, pads)
    products = [
        [_matrix_product(values, weights) for values, weights in zip(*pair)]
        for pair in zip(_both_axes(_of_input, views), _both_axes(_of_kernel, kernel))
    ]
    pixels = _both_axes(_of_output, products)
    tiles = jnp.stack([jnp.stack(row, axis=3) for row in pixels], axis=2)
    return tiles.reshape(len(x), 2 * rows, 2 * columns, -1)[:, :height, :width]


def _input_views(x: jax.Array, pads: tuple[Pair, Pair]) -> tuple[list[list[jax.Array]], Pair]:
    """Returns the 4x4 pixels of every tile, `[N, rows, columns, c]` each, and rows and columns."""
    sides = [n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads)]
    rows, columns = (-(-n // 2) for n in sides)
    # An odd output is computed with one row or column more.
    padded = _pad(x, [(low, high + n % 2) for (low, high), n in zip(pads, sides)])
    shape = rows, columns
    return [[view(padded, (i, j), (2, 2), shape) for j in range(4)] for i in range(4)], shape


def _both_axes(transform: Callable, grid: Sequence[Sequence[jax.Array]] | jax.Array) -> list[tuple]:
    """Applies a transform of one axis to the rows of a grid of arrays, then to its columns."""
    rows = [transform(*row) for row in grid]
    return list(zip(*(transform(*column) for column in zip(*rows))))


def _of_input(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> tuple[jax.Array, ...]:
    return a - c, b + c, c - b, b - d


def _of_kernel(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, ...]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_output(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> tuple[jax.Array, ...]:
    return a + b + c, b - c - d


def _of_output_grad(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    return a, a + b, a - b, -b


def _of_kernel_grad(
    a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array
) -> tuple[jax.Array, ...]:
    return a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d


def _winograd_forward(
    x: jax.Array, kernel: jax.Array, pads: tuple[Pair, Pair]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _winograd(x, kernel, pads), (x, kernel)


def _winograd_backward(
    pads: tuple[Pair, Pair], saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    mirrored = tuple((2 - low, 2 - high) for low, high in pads)
    x_grad = _winograd(grad, kernel[::-1, ::-1].swapaxes(2, 3), mirrored)
    views, shape = _input_views(x, pads)
    spread = _pad(grad, [(0, n % 2) for n in grad.shape[1:3]])
    pixels = [[view(spread, (i, j), (2, 2), shape) for j in range(2)] for i in range(2)]
    # The three transforms, transposed.
    products = [
        [_columns(values).T @ _columns(grads) for values, grads in zip(*pair)]
        for pair in zip(_both_axes(_of_input, views), _both_axes(_of_output_grad, pixels))
    ]
    return x_grad, jnp.stack([jnp.stack(row) for row in _both_axes(_of_kernel_grad, products)])


_winograd.defvjp(_winograd_forward, _winograd_backward)
