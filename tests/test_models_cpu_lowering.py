"""Every form of a convolution against `lax.conv_general_dilated`, with both gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.lowered import operations
from tl.models.cpu import lowering

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
CHANNELS = 6
TORCH = {3: [(1, 1), (1, 1)], 5: [(2, 2), (2, 2)], 7: [(3, 3), (3, 3)]}
CASES = [
    # height, width, kernel, strides, padding, depthwise
    (9, 10, 3, (1, 1), "SAME", True),
    (8, 9, 3, (2, 2), "SAME", True),
    (9, 10, 5, (2, 2), "SAME", True),
    (1, 2, 5, (2, 2), "SAME", True),
    (2, 2, 5, (1, 1), "SAME", True),
    (7, 8, 5, (1, 1), TORCH[5], True),
    (6, 7, 3, (2, 2), TORCH[3], True),
    (17, 19, 3, (1, 1), TORCH[3], True),  # no divisor but 1
    (32, 8, 3, (2, 2), TORCH[3], True),  # 16 rows, one column
    (9, 8, 3, (1, 2), "VALID", True),
    (9, 8, 7, (1, 1), [(0, 4), (3, 1)], True),
    (4, 5, 1, (1, 1), [(1, 1), (0, 2)], True),
    (7, 8, 1, (1, 1), "VALID", False),
    (7, 8, 1, (2, 2), "SAME", False),
    (2, 3, 3, (1, 1), TORCH[3], False),
    (1, 1, 3, (1, 1), TORCH[3], False),
    (3, 4, 3, (2, 2), "SAME", False),
    (4, 4, 5, (1, 1), "SAME", False),
    (8, 6, 7, (2, 2), TORCH[7], False),
    (9, 10, 3, (2, 2), TORCH[3], False),
    (14, 15, 7, (1, 1), "SAME", False),
]


def rest_slow(cases, *fast):
    """Returns parameters of which all but these places are left out by default."""
    return [
        case if place in fast else pytest.param(case, marks=pytest.mark.slow)
        for place, case in enumerate(cases)
    ]


WINOGRAD = [
    (8, 8, 3, (1, 1), TORCH[3], False),
    (7, 9, 3, (1, 1), "SAME", False),  # odd outputs
    (3, 3, 3, (1, 1), "SAME", False),
    (6, 5, 3, (1, 1), "VALID", False),
    (9, 8, 3, (1, 1), [(0, 4), (3, 1)], False),  # more padding than the kernel reaches
]


@pytest.fixture
def small(monkeypatch):
    """Lowers small convolutions as otherwise only large ones are."""
    for bound in ("WINOGRAD_PIXELS", "WINOGRAD_CHANNELS", "BFLOAT16_CHANNELS"):
        monkeypatch.setattr(lowering, bound, 1)


@pytest.fixture
def few(monkeypatch):
    """Lowers every dense convolution as otherwise only those of images are."""
    monkeypatch.setattr(lowering, "FEW_PRODUCTS", 10**4)


def arrays(height, width, kernel, strides, padding, depthwise, batch=2, dtype=jnp.float32):
    """Images, a kernel, and a cotangent of their convolution."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, height, width, CHANNELS))
    taps = rng.normal(size=(kernel, kernel, *((1, CHANNELS) if depthwise else (CHANNELS, 4))))
    options = {"feature_group_count": CHANNELS if depthwise else 1, "dimension_numbers": DIMENSIONS}
    native = functools.partial(
        lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    cotangent = rng.normal(size=jax.eval_shape(native, x, taps).shape)
    return tuple(jnp.asarray(array, dtype) for array in (x, taps, cotangent))


def both(strides, padding, depthwise, **options):
    """Our convolution and the native one, each with its gradients."""

    def with_gradients(function):
        function = functools.partial(
            function,
            window_strides=strides,
            padding=padding,
            feature_group_count=CHANNELS if depthwise else 1,
            dimension_numbers=DIMENSIONS,
            **options,
        )

        @jax.jit
        def outputs(x, kernel, cotangent):
            out, pull = jax.vjp(function, x, kernel)
            return out, *pull(cotangent)

        return outputs

    return with_gradients(lowering.conv), with_gradients(lax.conv_general_dilated)


def assert_close(ours, native, tolerance):
    for a, b in zip(ours, native, strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(array, np.float32) for array in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("case", rest_slow(CASES, 0, 2, 3, 9, 12, 13, 14))
def test_equal_to_native_forward_and_backward(case):
    operands = arrays(*case)
    ours, native = both(*case[3:])
    assert_close(ours(*operands), native(*operands), 1e-5)


@pytest.mark.parametrize("case", rest_slow(WINOGRAD, 1, 4))
def test_winograd_is_the_convolution_forward_and_backward(case, small):
    operands = arrays(*case)
    ours, native = both(*case[3:])
    traced = ours.trace(*operands).lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" not in traced
    assert_close(ours(*operands), native(*operands), 1e-5)


@pytest.mark.parametrize(
    "case", rest_slow([c for c in CASES if not c[-1] and c[2] > 1] + WINOGRAD, 2, 5, 7)
)
def test_few_products_are_the_convolution_forward_and_backward(case, few):
    operands = arrays(*case)
    ours, native = both(*case[3:])
    traced = ours.trace(*operands).lower(lowering_platforms=("cpu",)).as_text()
    assert traced.count("stablehlo.convolution") == 2  # the gradients
    assert_close(ours(*operands), native(*operands), 1e-5)


@pytest.mark.parametrize(
    ("channels", "groups", "features", "strides", "padding"),
    [
        (4, 2, 6, (2, 2), TORCH[3]),  # each group by itself
        (4, 3, 9, (1, 1), "SAME"),  # three do not divide into blocks of two
        pytest.param(4, 6, 6, (2, 1), "SAME", marks=pytest.mark.slow),  # two groups in a block
        pytest.param(32, 6, 12, (1, 1), TORCH[3], marks=pytest.mark.slow),  # all in one
    ],
)
def test_groups_are_the_convolution_forward_and_backward(
    channels, groups, features, strides, padding, monkeypatch
):
    monkeypatch.setattr(lowering, "GROUPED_CHANNELS", channels)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 8, 2 * groups)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 2, features)).astype(np.float32)
    options = {"feature_group_count": groups, "dimension_numbers": DIMENSIONS}

    def outputs(conv, x, kernel):
        out, pull = jax.vjp(lambda *both: conv(*both, strides, padding, **options), x, kernel)
        return out, *pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    ours = jax.jit(functools.partial(outputs, lowering.conv))
    native = jax.jit(functools.partial(outputs, lax.conv_general_dilated))
    assert_close(ours(x, kernel), native(x, kernel), 1e-5)
    assert operations(ours, x, kernel, platform="cpu")[1] == []  # no groups are left
    assert operations(ours, x, kernel)[1] != []  # on a GPU they are


def test_few_products_in_bfloat16_sharded_and_mapped(few):
    test_bfloat16_to_its_rounding(CASES[19], None)
    test_a_batch_sharded_over_devices_stays_so(CASES[19], None)
    test_vmap_and_eval_shape(CASES[19], None)


def test_the_first_layer_of_a_network_has_few_products():
    x, kernel = (np.ones(shape, np.float32) for shape in ((2, 9, 9, 3), (3, 3, 3, 32)))
    operands = (x, kernel, (2, 2), "SAME")
    forward = functools.partial(lowering.conv, dimension_numbers=DIMENSIONS)
    traced = jax.jit(forward, static_argnums=(2, 3)).trace(*operands)
    assert "stablehlo.convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_winograd_at_the_size_of_a_network_rounds_as_the_plain_sum_does():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 28, 28, 128)), rng.normal(size=(3, 3, 128, 128))
    options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": DIMENSIONS}
    with jax.enable_x64(True):
        exact = np.asarray(lax.conv_general_dilated(jnp.asarray(x), jnp.asarray(kernel), **options))
    x, kernel = np.float32(x), np.float32(kernel)
    found = jax.jit(functools.partial(lowering.conv, **options))(x, kernel)
    assert 0 < np.max(np.abs(found - exact)) / np.max(np.abs(exact)) < 2e-6


def test_an_output_of_float64_has_its_precision(small):
    case = WINOGRAD[0]
    with jax.enable_x64(True):
        operands = arrays(*case, dtype=jnp.float64)
        ours, native = both(*case[3:])
        for a, b in zip(ours(*operands), native(*operands), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "case",
    rest_slow([CASES[0], CASES[2], CASES[12], CASES[14], *WINOGRAD[:2], CASES[19]], 0, 2, 4),
)
def test_bfloat16_to_its_rounding(case, small):
    # bfloat16 rounds to 2^-9, the sum only once; for the gradients some backends round each term,
    # of up to 25, and such errors grow with the root of their number: 5 * 2^-9 is a hundredth.
    operands = arrays(*case, dtype=jnp.bfloat16)
    ours, native = both(*case[3:])
    found = ours(*operands)
    assert {array.dtype for array in found} == {jnp.dtype(jnp.bfloat16)}
    exact = native(*(np.asarray(operand, np.float32) for operand in operands))
    assert_close([np.asarray(array, np.float32) for array in found], exact, 0.01)


@pytest.mark.parametrize("depthwise", [True, False])
def test_bfloat16_is_summed_in_float32(depthwise, small):
    # 1 + 8 / 512, term by term in bfloat16, would stay 1.
    x = np.full((1, 3, 3, CHANNELS), 1 / 512, jnp.bfloat16)
    x[0, 0, 0] = 1
    kernel = np.ones((3, 3, 1, CHANNELS), jnp.bfloat16)
    if not depthwise:
        kernel = np.eye(CHANNELS, dtype=jnp.bfloat16) * np.ones((3, 3, 1, 1), jnp.bfloat16)
    conv = functools.partial(
        lowering.conv,
        window_strides=(1, 1),
        padding="VALID",
        feature_group_count=CHANNELS if depthwise else 1,
        dimension_numbers=DIMENSIONS,
    )
    out = jax.jit(conv)(x, kernel)
    np.testing.assert_array_equal(
        np.asarray(out, np.float32), np.full((1, 1, 1, CHANNELS), 1 + 8 / 512)
    )


@pytest.mark.parametrize(
    "case",
    rest_slow([CASES[0], CASES[2], CASES[12], CASES[14], CASES[19], WINOGRAD[0]], 0, 2),
)
def test_a_batch_sharded_over_devices_stays_so(case, small):
    x, kernel, cotangent = arrays(*case, batch=16)
    mesh = Mesh(np.array(jax.devices()), "batch")
    spread = NamedSharding(mesh, PartitionSpec("batch"))
    whole = NamedSharding(mesh, PartitionSpec())
    ours, native = both(*case[3:])
    found = ours(*jax.device_put((x, kernel, cotangent), (spread, whole, spread)))
    assert_close(found, native(x, kernel, cotangent), 1e-5)
    out, x_grad, _ = found
    for array in (out, x_grad):
        assert {shard.data.shape[0] for shard in array.addressable_shards} == {2}


@pytest.mark.parametrize("case", rest_slow([CASES[0], CASES[2], CASES[14], WINOGRAD[1]], 0, 2))
def test_vmap_and_eval_shape(case, small):
    x, kernel, cotangent = arrays(*case, batch=4)
    ours, native = both(*case[3:])
    expected = native(x, kernel, cotangent)
    for shape, array in zip(jax.eval_shape(ours, x, kernel, cotangent), expected, strict=True):
        assert (shape.shape, shape.dtype) == (array.shape, array.dtype)
    x, cotangent = (array.reshape(2, 2, *array.shape[1:]) for array in (x, cotangent))
    out, x_grad, kernel_grad = jax.vmap(ours, (0, None, 0))(x, kernel, cotangent)
    mapped = (out.reshape(expected[0].shape), x_grad.reshape(expected[1].shape), kernel_grad.sum(0))
    assert_close(mapped, expected, 1e-5)


@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize("option", ["lhs_dilation", "rhs_dilation"])
def test_dilation_is_respected(depthwise, option):
    pads = [(0, 1), (1, 0)]
    x, kernel, _ = arrays(7, 8, 3 if depthwise else 1, (1, 1), pads, depthwise)
    options = {
        "feature_group_count": CHANNELS if depthwise else 1,
        "dimension_numbers": DIMENSIONS,
        option: (2, 2),
    }

    @jax.jit
    def both(x, kernel):
        return (
            lowering.conv(x, kernel, (1, 1), pads, **options),
            lax.conv_general_dilated(x, kernel, (1, 1), pads, **options),
        )

    found, expected = both(x, kernel)
    assert_close([found], [expected], 1e-5)


@pytest.mark.parametrize(
    ("side", "kernel", "depthwise", "lowered"),
    [
        (8, 3, True, True),
        (8, 1, False, True),
        (2, 3, False, True),
        (8, 3, False, False),  # too small for Winograd
        (8, 5, False, False),
    ],
)
def test_only_on_cpu_and_only_some_shapes_leave_native(side, kernel, depthwise, lowered):
    case = (side, side, kernel, (1, 1), "SAME", depthwise)
    traced = both(*case[3:])[0].trace(*arrays(*case))
    texts = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert ("stablehlo.convolution" in texts["cpu"]) == (not lowered)
    for platform in ("cuda", "tpu"):
        assert texts[platform].count("stablehlo.convolution") == 3
