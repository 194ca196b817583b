"""Pooling by hand, widths, batches computed again when memory runs out, and programs for CUDA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark.synthetic import random_network
from tests.lowered import operations
from tests.networks import random_variables
from tests.toy import PLAIN, RESNET, SIZE, NoiseSource, Source, pretrained, resnet, toy
from tl import devices
from tl.data import transforms
from tl.errors import UserError
from tl.features import network as endpoints
from tl.features.network import Extraction, compute_rows, feature_function, pool, widths
from tl.models import vit
from tl.models.resnet import ResNet
from tl.weights.spec import Preprocessing

SLOW = pytest.mark.slow
# (backbone, convolutions, of which depthwise) -> (platform, dtype) by default.
NETWORKS = {
    ("resnet50", 53, 0): ("gpu", "bfloat16"),
    ("efficientnet_lite0", 49, 16): ("", "float32"),
}


def extraction(*names, **options):
    return Extraction(names, **{"fold_batch_norm": False, "batch_size": 8, **options})


def compute(length, *names, rows=None, log=print, **options):
    rows = np.arange(length) if rows is None else rows
    return compute_rows(toy(), Source(length), PLAIN, extraction(*names, **options), rows, log=log)


def test_pooling_of_a_known_image():
    image = jnp.asarray(np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1))
    np.testing.assert_array_equal(pool(image, "mean"), [[4.0]])
    np.testing.assert_array_equal(pool(image, "max"), [[8.0]])
    np.testing.assert_array_equal(pool(image, "grid1"), [[4.0]])
    # Two cells on three rows share the middle one: rows 0..1 and 1..2, columns likewise.
    np.testing.assert_array_equal(pool(image, "grid2"), [[2.0, 3.0, 5.0, 6.0]])
    np.testing.assert_array_equal(pool(image, "grid3"), [np.arange(9.0)])


def test_a_grid_keeps_channels_innermost_and_repeats_small_maps():
    images = jnp.array([[[[1.0, 2.0]]], [[[3.0, 4.0]]]])
    np.testing.assert_array_equal(pool(images, "grid2"), [[1, 2] * 4, [3, 4] * 4])
    oblong = jnp.arange(4.0).reshape(1, 1, 4, 1)
    np.testing.assert_array_equal(pool(oblong, "grid2"), [[0.5, 2.5, 0.5, 2.5]])


def test_flat_endpoints_stay_as_they_are_in_float32():
    values = jnp.asarray([[1.0, -2.0]], jnp.bfloat16)
    assert pool(values, "max").dtype == jnp.float32
    np.testing.assert_array_equal(pool(values, "max"), [[1.0, -2.0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pooling": "avg"},
            "^extract.pooling: expected 'mean', .*, 'gridN', 'cls' or 'cls_mean', or .*, got 'avg'",
        ),
        ({"pooling": "grid0"}, "got 'grid0'"),
        ({"pooling": "grid"}, "got 'grid'"),
        ({"pooling": "2"}, "got '2'"),
        ({"dtype": "float16"}, "^extract.dtype: expected .* got 'float16'"),
        ({"batch_size": 0}, "^extract.batch_size: expected at least 1, got 0"),
        ({"threads": -1}, "^extract.threads: expected at least 0, got -1"),
        ({"endpoints": ()}, "expected endpoints"),
        ({"endpoints": ("a", "a")}, "each named once"),
    ],
)
def test_an_extraction_that_means_nothing_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Extraction(**{"endpoints": ("stem",), **options})


def test_widths_by_endpoint_and_pooling():
    model = ResNet((1, 1), block="basic", stem_width=4, widths=(4, 6), num_classes=5)
    network = pretrained(model, {}, RESNET)
    names = ("stem", "stage2", "pooled", "logits", "pixels")
    source = Source(1)
    flat = {"pooled": 6, "logits": 5, "pixels": 48}
    for pooling, cells in (("mean", 1), ("max", 1), ("grid3", 9)):
        assert widths(network, 32, Extraction(names, pooling), source) == {
            "stem": 4 * cells,
            "stage2": 6 * cells,
            **flat,
        }


def test_unknown_endpoints_and_pixels_of_varied_sizes_are_refused():
    with pytest.raises(UserError, match=r"'poled'; the nearest are 'pooled'.*: stem, pooled, pix"):
        widths(toy(), SIZE, extraction("stem", "poled"), Source(1))
    with pytest.raises(UserError, match="'pixels' needs images of one small size; those of 'toy'"):
        widths(toy(), SIZE, extraction("pixels"), Source(1, image_shape=None))


def test_the_class_token_and_its_patches():
    tokens = jnp.arange(12.0).reshape(1, 6, 2)  # a class token, a register, and 2 x 2 patches
    np.testing.assert_array_equal(pool(tokens, "cls", 2), [[0.0, 1.0]])
    np.testing.assert_array_equal(pool(tokens, "cls_mean", 2), [[0.0, 1.0, 7.0, 8.0]])
    np.testing.assert_array_equal(pool(tokens, "mean", 2), [[7.0, 8.0]])
    np.testing.assert_array_equal(pool(tokens[:, 0], "cls_mean"), [[0.0, 1.0]])  # a vector


def test_tokens_of_any_block_with_the_last_normalisation_as_dinov2s_probes_take_them():
    model = vit.VisionTransformer(8, 2, 2, patch=4, grid=2, num_classes=0, registers=1)
    variables = random_variables(model, size=8)
    preprocessing, names = Preprocessing(8), ("block1", "block2", "pooled")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    leading = (("block1", 2), ("block2", 2))

    def features(pooling):
        function = feature_function(
            model, preprocessing, lambda x, _: x, names, pooling, None, leading, vit.normed
        )
        return jax.jit(function)(variables, images)

    found, plain = features("normed_cls_mean"), features("none")
    np.testing.assert_allclose(found["block2"][:, :8], plain["pooled"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["pooled"], plain["pooled"])  # a vector stays
    norm = variables["params"]["pooled"]["norm"]
    tokens = np.asarray(plain["block1"]).reshape(2, 6, 8)
    tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    tokens = tokens * norm["scale"] + norm["bias"]
    expected = np.concatenate([tokens[:, 0], tokens[:, 2:].mean(1)], axis=1)
    np.testing.assert_allclose(found["block1"], expected, rtol=1e-4, atol=1e-5)


def test_a_network_without_such_a_normalisation():
    message = (
        r"^extract.pooling: .* has no last normalisation .*; expected 'mean', got 'normed_mean'"
    )
    with pytest.raises(UserError, match=message):
        widths(toy(), SIZE, extraction("stem", pooling="normed_mean"), Source(1))


def test_a_map_has_no_class_token():
    with pytest.raises(UserError, match=r"^extract.pooling: the endpoint 'stem' .* no class token"):
        widths(toy(), SIZE, extraction("stem", "pooled", pooling="cls"), Source(1))
    assert widths(toy(), SIZE, extraction("pooled", pooling="cls"), Source(1)) == {"pooled": 3}


@pytest.mark.parametrize("length", [1, 8, 11])
def test_rows_in_order_with_their_examples(length):
    rows = np.arange(length)[::-2]
    got = {"index": [], "id": [], "label": [], "stem": [], "pooled": [], "pixels": []}
    for batch, features in compute(length, "stem", "pooled", "pixels", rows=rows):
        assert len(batch["mask"]) == len(features["stem"]) <= 16
        for name in got:
            values = features[name] if name in features else np.asarray(batch[name])
            got[name] += values[batch["mask"]].tolist()
    assert got["index"] == rows.tolist()
    assert got["id"] == [f"id{i}" for i in rows]
    assert got["label"] == [i % 3 for i in rows]
    assert got["stem"] == [[i] * 3 for i in rows]
    assert got["pooled"] == [[16 * i] * 3 for i in rows]
    assert got["pixels"] == [[i] * 48 for i in rows]


def test_images_of_varied_sizes_are_made_on_the_host(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        transforms, "host_transform", lambda image, p: shapes.append(image.shape) or image + 1
    )
    source = Source(2, image_shape=None)
    ((batch, features),) = compute_rows(toy(), source, PLAIN, extraction("stem"), np.arange(2))
    np.testing.assert_array_equal(features["stem"][batch["mask"]], [[1, 1, 1], [2, 2, 2]])
    assert shapes == [(4, 4, 3)] * 2


def test_the_network_computes_in_the_dtype_asked():
    third = toy(np.float32(1 / 3))
    ((_, exact),) = compute_rows(third, Source(8), PLAIN, extraction("pooled"), np.arange(8))
    half = extraction("pooled", dtype="bfloat16")
    ((_, rounded),) = compute_rows(third, Source(8), PLAIN, half, np.arange(8))
    assert rounded["pooled"].dtype == np.float32
    np.testing.assert_array_equal(
        rounded["pooled"], np.asarray(jnp.bfloat16(exact["pooled"]), np.float32)
    )
    assert (rounded["pooled"] != exact["pooled"]).any()


def test_folded_or_not_gives_the_same():
    pooled = []
    for fold in (False, True):
        options = extraction("pooled", fold_batch_norm=fold)
        ((_, features),) = compute_rows(resnet(), NoiseSource(8), PLAIN, options, np.arange(8))
        pooled.append(features["pooled"])
    np.testing.assert_allclose(*pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [*(pytest.param(n, marks=SLOW) for n in (1, 12)), 7])
def test_in_chunks_or_whole_gives_the_same(length):
    network = resnet()
    images = np.stack([NoiseSource(length)[i]["image"] for i in range(length)])
    names = (*endpoints.output_shapes(network.model, SIZE), "pixels")
    assert names[0] == "stem" and names[-3:] == ("pooled", "logits", "pixels")
    whole, chunks, last = (
        jax.jit(
            endpoints.feature_function(
                network.model, PLAIN, transforms.device_transform, wanted, "mean", pixels
            )
        )(network.variables, images)
        for wanted, pixels in ((names, None), (names, 4), (("pixels", "stage1"), 4))
    )
    assert list(whole) == list(chunks) and set(last) == {"pixels", "stage1"}
    for name in chunks:
        np.testing.assert_allclose(chunks[name], whole[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "pixels", "sizes"),
    [(12, 8, 2), (12, 4, 1), (12, 20, 4), (12, 48, 12), (7, 12, 7), (7, 8, 1), (6, 1, 1)],
)
def test_chunks_are_equal_parts_near_the_size_wanted(length, pixels, sizes):
    seen = []

    def unit(x):
        seen.append(len(x))
        return x + 1

    x = jnp.arange(length * 4.0).reshape(length, 2, 2, 1)
    found = endpoints._map_chunks(unit, x, (1, 2, 2, 1), pixels)
    np.testing.assert_array_equal(found, x + 1)
    assert set(seen) == {sizes}


def test_splits_share_what_is_compiled(monkeypatch):
    traces = []
    original = transforms.device_transform
    monkeypatch.setattr(
        transforms, "device_transform", lambda x, p: traces.append(x.shape) or original(x, p)
    )
    endpoints.feature_function.cache_clear()
    for length in (33, 9):
        assert sum(batch["mask"].sum() for batch, _ in compute(length, "stem")) == length
    assert traces == [(1, 4, 4, 3)]


class OutOfMemory:
    """Wraps `devices.Mapped.__call__`: batches above a size fail as a device's allocator does."""

    def __init__(self, limit, error=jax.errors.JaxRuntimeError):
        self.limit = limit
        self.error = error
        self.sizes = []
        self.call = devices.Mapped.__call__

    def __get__(self, mapped, _):
        return lambda images: self.run(mapped, images)

    def run(self, mapped, images):
        self.sizes.append(len(images))
        if len(images) > self.limit:
            raise self.error("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return self.call(mapped, images)


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError, MemoryError])
def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch, error):
    wrapped = OutOfMemory(20, error)
    monkeypatch.setattr(devices.Mapped, "__call__", wrapped)
    lines = []
    computed = list(compute(100, "stem", batch_size=56, log=lines.append))
    assert wrapped.sizes[:3] == [56, 24, 8]  # 28 is no multiple of the 8 devices: 24
    assert set(wrapped.sizes[3:]) == {8}
    index = np.concatenate([batch["index"][batch["mask"]] for batch, _ in computed])
    np.testing.assert_array_equal(index, np.arange(100))
    assert lines == [
        "out of memory with batches of 56 images; going on with 24",
        "out of memory with batches of 24 images; going on with 8",
    ]


def test_out_of_memory_in_the_middle_loses_and_repeats_no_row(monkeypatch):
    wrapped = OutOfMemory(64)
    monkeypatch.setattr(devices.Mapped, "__call__", wrapped)
    index = []
    for batch, _ in compute(100, "stem", batch_size=16):
        index += batch["index"][batch["mask"]].tolist()
        wrapped.limit = 8
    assert index == list(range(100))
    assert {16, 8} == set(wrapped.sizes)


def test_out_of_memory_with_one_image_a_device_is_the_users_to_solve(monkeypatch):
    monkeypatch.setattr(devices.Mapped, "__call__", OutOfMemory(0))
    with pytest.raises(UserError, match=r"8 device\(s\) have too little memory for 8 image\(s\)"):
        list(compute(100, "stem", batch_size=16))


def test_other_errors_of_the_device_pass(monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(devices.Mapped, "__call__", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        list(compute(9, "stem"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_endpoint_and_example(value):
    broken = compute_rows(toy(value), Source(3), PLAIN, extraction("stem", "pooled"), np.array([2]))
    with pytest.raises(UserError, match="endpoint 'pooled' of example 'id2' has values"):
        list(broken)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=SLOW), "bfloat16"])
def test_kernels_of_another_order_give_the_same_features(dtype):
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    extraction = Extraction(("stem", "pooled"), dtype=dtype)
    arguments = resnet(), PLAIN, extraction, transforms.device_transform
    function, variables = endpoints.computing_function(*arguments)
    expected = jax.jit(function)(variables, images)
    on_gpu, reordered = endpoints.computing_function(*arguments, "gpu")
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    assert kernel.dtype == dtype
    np.testing.assert_array_equal(
        reordered["params"]["stem"]["conv"]["kernel"], kernel.transpose(3, 0, 1, 2)
    )
    found = jax.jit(on_gpu)(reordered, images)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert endpoints.computing_function(*arguments, "gpu")[0] is on_gpu  # compiled once


@pytest.mark.parametrize(
    ("backbone", "convolutions", "depthwise", "platform", "dtype"),
    [
        pytest.param(*network, platform, dtype, marks=[] if (platform, dtype) == only else SLOW)
        for network, only in NETWORKS.items()
        for platform in ("", "gpu")
        for dtype in endpoints.DTYPES
    ],
)
def test_elsewhere_than_on_a_cpu_a_network_is_its_convolutions(
    backbone, convolutions, depthwise, platform, dtype
):
    network = random_network(backbone, 64)
    preprocessing = network.spec.preprocessing
    function, variables = endpoints.computing_function(
        network,
        preprocessing,
        Extraction(tuple(network.backbone.outputs), dtype=dtype),
        transforms.device_transform,
        platform,
    )
    images = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.uint8)
    found, groups = operations(function, variables, images)
    assert (found["convolution"], len(groups)) == (convolutions, depthwise)
    # What a CPU's forms are made of.
    assert not found.keys() & {"dot_general", "gather", "optimization_barrier"}
    # In 16 bits the first convolution pads its images and its kernel (`tl.models.gpu.stem`).
    assert found.get("pad", 0) == (2 if dtype == "bfloat16" else 0)
