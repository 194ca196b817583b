"""Convolution of NHWC images, with faster forward and backward passes on CPU."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from tl.models.gpu import stem

# Winograd's transforms pay off from this many output pixels and this many channels on.
WINOGRAD_PIXELS = 512
WINOGRAD_CHANNELS = 64
# In bfloat16 a tap's matrix product pays off from this many input channels on.
BFLOAT16_CHANNELS = 16
# Multiply-adds are faster up to this many products for an output value: 3x3 of three colours.
FEW_PRODUCTS = 27

# A convolution of groups is cut into dense ones of whole groups with up to this many channels. 16
# is as fast or up to 1.5 times faster, and has twice as many operations to compile.
GROUPED_CHANNELS = 32

# The kernel gradient of a depthwise convolution adds the products of at most this many pixels in
# one pass. With 8, EfficientNet-Lite0 trained 7 % slower; more pixels lengthen compilation.
PIXELS = 16

Pair = tuple[int, int]


def _traced_once(*static: int) -> Callable[[Callable], Callable]:
    """Makes a function part of its caller's program, traced once for all calls of equal shapes.

    The gradient of EfficientNet-Lite0 took 7 s to trace; so it takes 5, and 3 a second time.

    Args:
      *static: positions of the arguments that are not arrays.
    """
    return functools.partial(jax.jit, static_argnums=static, inline=True)


def conv(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c_per_group features"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    **options: Any,
) -> Float[Array, "n h2 w2 features"]:
    """`lax.conv_general_dilated` of NHWC images; on CPU, sums over taps for some shapes.

    A tap is one position of the kernel. Its weights are multiplied with a shifted, strided view of
    the image, and the convolution is the sum of these products over all taps. XLA's CPU backend
    runs that sum faster than its own convolution where

      - the kernel is 1x1: a matrix product; the gradient of the kernel takes a fifth of the time
        in the early stages of ResNet-50, two thirds in the late ones;
      - a map is smaller than the kernel, such as 2x2 under 3x3: matrix products, 60 times as fast;
      - every channel has its own kernel: shifted multiply-adds, vectorised over channels, 9 times
        as fast forward over EfficientNet-Lite0; `_depthwise` describes the gradient;
      - channels come in groups, as in ResNeXt: dense convolutions of 32 channels each, 2 to 5 times
        as fast, and more than 40 times with the gradients (`_grouped`);
      - an output value has few products, as in an image of three colours: multiply-adds again,
        forward only, 4 times as fast for EfficientNet-Lite0's first layer;
      - the type is bfloat16: products of bfloat16 summed in float32 run on the matrix units, which
        the native convolution does not use, 1.7 to 4.5 times as fast over ResNet-50's 3x3;
      - the kernel is 3x3 at stride 1: `_winograd`, 1.1 to 1.9 times as fast.

    On a GPU a network's first convolution in 16 bits has another form (`tl.models.gpu.stem`). All
    other shapes and platforms keep the native convolution. Sums are at least float32, for
    narrower types too.

    Args:
      x: `[N, h, w, c]`.
      kernel: `[kh, kw, c / feature_group_count, features]`.
      window_strides, padding, lhs_dilation, rhs_dilation, feature_group_count, **options: as
        `lax.conv_general_dilated`.

    Returns:
      `[N, h', w', features]`. Depthwise, Winograd and few-product convolutions are differentiable
      in reverse mode only.
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
    if jax.export.is_symbolic_dim(x.shape[0]):  # as in a file that other programs run
        return native(x, kernel)
    sides, strides = kernel.shape[:2], (window_strides[0], window_strides[1])
    given = padding
    if isinstance(given, str):
        given = lax.padtype_to_pads(x.shape[1:3], sides, strides, given)
    rows, columns = given
    pads = (rows[0], rows[1]), (columns[0], columns[1])

    def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _depthwise(x, kernel, strides, pads)

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        dense = functools.partial(
            lax.conv_general_dilated, window_strides=strides, padding=pads, **options
        )
        return _grouped(x, kernel, feature_group_count, dense)

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
        lowered = grouped
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
    forms = {} if lowered is native else {"cpu": lowered}
    if feature_group_count == 1 and stem.pays_off(kernel, strides):
        forms["cuda"] = functools.partial(stem.space_to_depth, pads=pads)
    if not forms:
        return native(x, kernel)
    return lax.platform_dependent(x, kernel, **forms, default=native)


def out_shape(shape: Sequence[int], sides: Sequence[int], strides: Sequence[int]) -> Pair:
    """Returns the number of positions of a sliding window in an image, by rows and columns."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(shape, sides, strides))
    return rows, columns


def view(
    x: Float[Array, "n h w c"], start: Sequence[int], strides: Sequence[int], shape: Sequence[int]
) -> Float[Array, "n h2 w2 c"]:
    """Returns every pixel that lies at one place of a sliding window, one for each position of it.

    Args:
      x: `[N, h, w, c]`.
      start: row and column of the place.
      strides: of the window.
      shape: number of positions of the window, by rows and columns.
    """
    rows, columns = (
        slice(first, first + (n - 1) * s + 1, s) for first, s, n in zip(start, strides, shape)
    )
    return x[:, rows, columns]


@_traced_once(0, 3)
def _sum_over_taps(product: Callable, x: jax.Array, kernel: jax.Array, strides: Pair) -> jax.Array:
    """Returns the sum over all taps of `product(view, weights)`; `x` is padded already."""
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
    # lax.pad crops if a pad is negative, as a mirrored one may be.
    zero = jnp.zeros((), x.dtype)
    return lax.pad(x, zero, ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, Pair]
) -> jax.Array:
    """The convolution of `[N, h, w, c]` with `[kh, kw, 1, c]`, channel by channel.

    XLA's own gradient of the kernel copies the view of every tap and sums each by itself. Here one
    pass over the images, without copies, adds the products of 16 pixels, and a matrix product with
    ones sums the rest: 20 ms became 4 (50 x 16 x 16 x 144, 3x3, two cores).
    """
    return _sum_over_taps(_multiply, _pad(x, pads), kernel, strides)


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, Pair]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    padded = _pad(x, pads)
    return _sum_over_taps(_multiply, padded, kernel, strides), (padded, kernel)


@_traced_once(0, 1)
def _depthwise_backward(
    strides: Pair, pads: tuple[Pair, Pair], saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    padded, kernel = saved
    sides = kernel.shape[:2]
    if strides == (1, 1):
        # The same convolution, mirrored: for 5x5 it takes half the time of adding 25 padded arrays.
        mirrored = [(k - 1 - low, k - 1 - high) for k, (low, high) in zip(sides, pads)]
        x_grad = _sum_over_taps(_multiply, _pad(grad, mirrored), kernel[::-1, ::-1], strides)
    else:

        def forward(padded: jax.Array) -> jax.Array:
            return _sum_over_taps(_multiply, padded, kernel, strides)

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


def _grouped(x: jax.Array, kernel: jax.Array, groups: int, dense: Callable) -> jax.Array:
    """The convolution of `[N, h, w, c]` with `[kh, kw, c / groups, features]`, in dense blocks.

    A block is as many whole groups as have `GROUPED_CHANNELS`; between groups its kernel is 0. XLA
    computes one dense convolution after the other faster than one of groups, whose gradients it
    computes with loops: at 16 x 56 x 56 x 128, 3x3, 32 groups, forward 330 ms became 60 (PyTorch
    takes 70), with both gradients 37,000 became 310; at 28 x 28 x 256 and as many groups 144 became
    30; at 7 x 7 x 1024 22 became 10 (two cores).

    Args:
      x, kernel: see above.
      groups: of consecutive channels and features.
      dense: the convolution of (x, kernel) with one group.
    """
    channels, features = kernel.shape[2], kernel.shape[3] // groups
    together = _largest_divisor(groups, max(1, GROUPED_CHANNELS // channels))
    sides, blocks = kernel.shape[:2], groups // together
    # From group m of a block to group k there are weights where m is k.
    weights = kernel.reshape(*sides, channels, blocks, together, features)
    own = jnp.eye(together, dtype=kernel.dtype)
    weights = jnp.einsum("hwcbkf,mk->bhwmckf", weights, own)
    weights = weights.reshape(blocks, *sides, together * channels, together * features)
    parts = jnp.split(x, blocks, axis=-1)
    return jnp.concatenate([dense(*pair) for pair in zip(parts, weights)], axis=-1)


def _largest_divisor(number: int, limit: int) -> int:
    return max(n for n in range(1, limit + 1) if number % n == 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _few_products(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: tuple[Pair, Pair]
) -> jax.Array:
    """The convolution of few channels: one multiply-add of all features for each tap and channel.

    18 ms became 4 (16 x 224 x 224 x 3 to 32 features, 3x3 at stride 2, two cores), a sixth of
    EfficientNet-Lite0 at 224 px. The gradients are the native convolution's.
    """

    def product(pixels: jax.Array, weights: jax.Array) -> jax.Array:
        total: Any = sum(_multiply(pixels[..., i, None], row) for i, row in enumerate(weights))
        return total

    # Without the barrier XLA would compute the image again at every tap.
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
@_traced_once(2)
def _winograd(x: jax.Array, kernel: jax.Array, pads: tuple[Pair, Pair]) -> jax.Array:
    """The convolution of `[N, h, w, c]` with `[3, 3, c, features]` at stride 1.

    Each tile of 2x2 output pixels takes 16 products, not 36, of 4x4 input pixels. The products of
    one place, over all tiles, are one matrix product. This is Winograd's F(2x2, 3x3): Lavin and
    Gray 2015, arXiv:1509.09308. Its rounding error is that of the plain sum (7e-7 of the largest
    value). F(4x4, 3x3) was as fast and ten times less exact. Both gradients have 16 products as
    well: the kernel's took 19 ms, the native convolution's 34 (16 x 32 x 32 x 64), and ResNet-50
    trained 7 % faster.
    """
    height, width = (n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads))
    views, (rows, columns) = _input_views(x, pads)
    products = [
        [_matrix_product(values, weights) for values, weights in zip(*pair)]
        for pair in zip(_both_axes(_transform_input, views), _both_axes(_transform_kernel, kernel))
    ]
    pixels = _both_axes(_transform_output, products)
    tiles = jnp.stack([jnp.stack(row, axis=3) for row in pixels], axis=2)
    return tiles.reshape(len(x), 2 * rows, 2 * columns, -1)[:, :height, :width]


def _input_views(x: jax.Array, pads: tuple[Pair, Pair]) -> tuple[list[list[jax.Array]], Pair]:
    """Returns the 4x4 pixels of all tiles, each `[N, rows, columns, c]`, and (rows, columns)."""
    sides = [n + sum(pad) - 2 for n, pad in zip(x.shape[1:3], pads)]
    rows, columns = (-(-n // 2) for n in sides)
    # An odd side of the output is computed with one row or column more.
    padded = _pad(x, [(low, high + n % 2) for (low, high), n in zip(pads, sides)])
    shape = rows, columns
    return [[view(padded, (i, j), (2, 2), shape) for j in range(4)] for i in range(4)], shape


def _both_axes(transform: Callable, grid: Sequence[Sequence[jax.Array]] | jax.Array) -> list[tuple]:
    """Applies a transform to every row of a grid of arrays, then to every column."""
    rows = [transform(*row) for row in grid]
    return list(zip(*(transform(*column) for column in zip(*rows))))


def _transform_input(
    a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array
) -> tuple[jax.Array, ...]:
    return a - c, b + c, c - b, b - d


def _transform_kernel(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, ...]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _transform_output(
    a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array
) -> tuple[jax.Array, ...]:
    return a + b + c, b - c - d


def _transform_output_grad(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    return a, a + b, a - b, -b


def _transform_kernel_grad(
    a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array
) -> tuple[jax.Array, ...]:
    return a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d


def _winograd_forward(
    x: jax.Array, kernel: jax.Array, pads: tuple[Pair, Pair]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _winograd(x, kernel, pads), (x, kernel)


@_traced_once(0)
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
        for pair in zip(
            _both_axes(_transform_input, views), _both_axes(_transform_output_grad, pixels)
        )
    ]
    return x_grad, jnp.stack(
        [jnp.stack(row) for row in _both_axes(_transform_kernel_grad, products)]
    )


_winograd.defvjp(_winograd_forward, _winograd_backward)
