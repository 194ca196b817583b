"""The contract of the backbones, held by every one of the registry and by two foreign ones."""

import functools
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import foreign
from tests.networks import random_variables, shallow
from tl import tree
from tl.errors import UserError
from tl.models import registry
from tl.models.backbone import FINAL, LOGITS
from tl.train import freezing
from tl.train.mixing import Mixing
from tl.train.schedules import multipliers
from tl.train.state import TrainState
from tl.train.steps import forward, train_step
from tl.weights import convert

# Trainable values and leaves of the published checkpoints.
COUNTS = {
    "resnet18": (11_689_512, 102),
    "resnet34": (21_797_672, 182),
    "resnet50": (25_557_032, 267),
    "resnet101": (44_549_160, 522),
    "resnet152": (60_192_808, 777),
    "resnext50_32x4d": (25_028_904, 267),
    "resnext101_32x4d": (44_177_704, 522),
    "resnext101_32x8d": (88_791_336, 522),
    "resnext101_64x4d": (83_455_272, 522),
    "wide_resnet50_2": (68_883_240, 267),
    "wide_resnet101_2": (126_886_696, 522),
    "resnet18d": (11_708_744, 112),
    "resnet34d": (21_816_904, 192),
    "resnet50d": (25_576_264, 277),
    "resnet101d": (44_568_392, 532),
    "resnet152d": (60_212_040, 787),
    "resnetv2_50": (25_549_352, 251),
    "resnetv2_101": (44_541_480, 506),
    "resnetv2_50x1_bit": (25_549_352, 153),
    "resnetv2_101x1_bit": (44_541_480, 306),
    "efficientnet_lite0": (4_652_008, 247),
    "efficientnet_lite1": (5_416_680, 322),
    "efficientnet_lite2": (6_092_072, 322),
    "efficientnet_lite3": (8_197_096, 367),
    "efficientnet_lite4": (13_006_568, 457),
    "vit_tiny_patch16": (5_717_416, 152),
    "vit_small_patch16": (22_050_664, 152),
    "vit_base_patch16": (86_567_656, 152),
    "vit_small_patch32": (22_878_952, 152),
    "vit_base_patch32": (88_224_232, 152),
    "vit_small_patch8": (22_055_272, 152),
    "vit_base_patch8": (86_576_872, 152),
    "vit_small_patch14": (22_441_192, 176),
    "vit_base_patch14": (87_348_712, 176),
    "vit_small_patch14_reg4": (22_442_344, 177),
    "vit_base_patch14_reg4": (87_351_016, 177),
    "vit_base_patch16_clip": (86_568_424, 153),
    "vit_base_patch32_clip": (88_225_000, 153),
    "vit_base_patch16_siglip": (93_653_224, 162),
    "vit_small_patch16_dinov3": (21_971_944, 164),
    "vit_small_plus_patch16_dinov3": (29_068_264, 188),
    "vit_base_patch16_dinov3": (86_410_216, 164),
    "convnext_tiny": (28_589_128, 182),
    "convnext_small": (50_223_688, 344),
    "convnext_base": (88_591_464, 344),
    "convnextv2_tiny": (28_635_496, 200),
    "convnextv2_base": (88_717_800, 380),
}
FOREIGN = (foreign.GROUP_NET.name, foreign.VIT.name)
ALL = (*COUNTS, *FOREIGN)
KINDS = ("resnext50_32x4d", "resnet18d", "resnetv2_50", "resnetv2_50x1_bit")
KINDS += ("convnext_tiny", "convnextv2_tiny", "vit_small_patch16_dinov3")
# One of each kind is computed.
RUN = ("resnet18", *KINDS, "efficientnet_lite0", "vit_tiny_patch16", *FOREIGN)


def slow(names, *which):
    """Returns parameters of which some are left out by default."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in which else n for n in names]


# What the others add is their number of blocks or of channels.
DISTINCT = ("resnet50", "wide_resnet50_2", "efficientnet_lite1", "vit_small_patch14_reg4")
DISTINCT += ("vit_base_patch32_clip", "vit_base_patch16_siglip", "vit_small_plus_patch16_dinov3")
# Their counts say so; their endpoints are those of the smaller ones.
WIDER = ("resnet50", "wide_resnet50_2", "efficientnet_lite1")
# V1 of ConvNeXt is V2 without its normalisation; tests/test_models_convnext.py has both.
ALIKE = tuple(n for n in COUNTS if n not in (*RUN, *DISTINCT) or n == "convnext_tiny")


def side(name):
    """Returns the side of the images that a network is tried with."""
    multiple = registry.get(name).multiple
    return 64 // multiple * multiple


@pytest.fixture(scope="module", autouse=True)
def networks():
    with foreign.registered():
        yield


@pytest.fixture(params=["shallow", pytest.param("whole", marks=pytest.mark.slow)])
def depth(request, name):
    """Makes the network shallow; more blocks take longer to compile, and are the same."""
    with shallow(name) if request.param == "shallow" and name in COUNTS else nullcontext():
        yield


def shapes_of(name, **arguments):
    model = registry.build(name, **arguments)
    return {"params": {}, "batch_stats": {}} | convert.shapes(model, side(name))


def test_every_backbone_is_counted():
    assert set(registry.names()) == set(ALL)


@pytest.mark.parametrize("name", slow(COUNTS, *ALIKE))
def test_counts(name):
    variables = shapes_of(name)
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == COUNTS[name][0]
    assert len(jax.tree.leaves(variables)) == COUNTS[name][1]


@pytest.mark.parametrize("name", slow(ALL, *ALIKE, *WIDER, "convnextv2_tiny"))
def test_endpoints_are_what_the_contract_says(name):
    backbone, model = registry.get(name), registry.build(name)
    order = []

    def outputs(variables, images):
        found = model.apply(variables, images)
        order.extend(found)  # which eval_shape sorts
        return found

    size = side(name)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    found = jax.eval_shape(outputs, shapes_of(name), images)
    assert tuple(order) == backbone.endpoints
    assert found["logits"].shape == (2, 1000)
    ranks = {"map": 4, "tokens": 3, "vector": 2}
    for endpoint, output in backbone.outputs.items():
        shape = found[endpoint].shape
        assert (len(shape), shape[0], shape[-1]) == (ranks[output.kind], 2, output.width)
    places = size // backbone.stride
    last = [key for key, output in backbone.outputs.items() if output.kind != "vector"][-1]
    leading = backbone.outputs[last].leading
    assert found[last].shape[1:-1] in ((places, places), (places**2 + leading,))
    assert backbone.endpoints[-2:] == (FINAL, LOGITS)
    assert backbone.outputs[FINAL].kind == "vector"
    assert "head" not in shapes_of(name, num_classes=0)["params"]


@pytest.mark.parametrize("name", slow(ALL, *ALIKE))
def test_layers_divide_the_parameters(name):
    backbone = registry.get(name)
    variables = shapes_of(name)
    paths = [path for kind in variables.values() for path in tree.leaves(kind)]
    assert {backbone.layer_of(path) for path in paths} == set(backbone.layers)
    assert backbone.layers[-1] == "head"
    params = tree.leaves(variables["params"])
    rates = multipliers(params, (), 0.5, backbone)
    depths = [len(backbone.layers) - 1 - i for i in range(len(backbone.layers))]
    assert {backbone.layer_of(path): rate for path, rate in rates.items()} == {
        layer: 0.5**depth for layer, depth in zip(backbone.layers, depths, strict=True)
    }
    assert bool(variables["batch_stats"]) == backbone.batch_stats


@pytest.mark.parametrize("name", slow(RUN, *KINDS))
@pytest.mark.usefixtures("depth")
def test_the_network_ends_and_goes_on_at_every_endpoint(name):
    backbone, model = registry.get(name), registry.build(name, num_classes=5)
    variables = random_variables(model, size=side(name))
    images = jax.random.normal(jax.random.key(1), (2, side(name), side(name), 3))
    at = [backbone.endpoints[0], backbone.endpoints[len(backbone.endpoints) // 2], FINAL]

    @jax.jit  # one program: operation by operation it takes four times as long to compile
    def logits(variables, images):
        found = {"": model.apply(variables, images)["logits"]}
        for endpoint in at:
            before = model.apply(variables, images, stop=endpoint)
            assert list(before)[-1] == endpoint and "logits" not in before
            # What lies before it is not needed to go on, so it may be frozen and cached.
            computed = backbone.endpoints[: backbone.endpoints.index(endpoint) + 1]
            rest = {
                kind: {name: leaves for name, leaves in of_kind.items() if name not in computed}
                for kind, of_kind in variables.items()
            }
            after = model.apply(rest, before[endpoint], start=endpoint)
            assert list(after) == list(backbone.endpoints[len(computed) :])
            found[endpoint] = after["logits"]
        return found

    whole, *others = logits(variables, images).values()
    assert len(others) == len(set(at)) >= 2
    for other in others:
        np.testing.assert_allclose(other, whole, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="expected start and stop to be among"):
        jax.eval_shape(lambda images: model.apply(variables, images, stop="nowhere"), images)
    with pytest.raises(ValueError, match="expected normalised floating-point images"):
        model.apply(variables, jnp.zeros((1, side(name), side(name), 3), jnp.uint8))


@pytest.mark.parametrize("name", slow(RUN, "convnext_tiny", "convnextv2_tiny"))
@pytest.mark.usefixtures("depth")
def test_weights_come_and_go_in_every_scheme_bit_for_bit(name):
    backbone, model = registry.get(name), registry.build(name, num_classes=5)
    variables = jax.device_get(random_variables(model, size=side(name)))
    shapes = shapes_of(name, num_classes=5)
    expected = tree.named_leaves(variables)
    for scheme in backbone.schemes:
        if scheme == "keras":  # which is read only: tests/test_weights_golden.py
            continue
        tensors = convert.from_variables(variables, scheme)
        assert len(tensors) >= len(jax.tree.leaves(shapes))
        again = convert.to_variables(tensors, shapes, scheme)
        assert tree.differences(again, {"batch_stats": {}} | variables) == []
        for path, leaf in tree.named_leaves(again).items():
            np.testing.assert_array_equal(leaf, expected[path])


@pytest.mark.parametrize("name", slow(RUN, *KINDS, "efficientnet_lite0"))
@pytest.mark.usefixtures("depth")
def test_each_layer_can_be_frozen_and_the_rest_takes_a_step(name):
    backbone, model = registry.get(name), registry.build(name, num_classes=5)
    shapes = shapes_of(name, num_classes=5)
    for layer in backbone.layers[:-1]:
        found = freezing.make_freezing(shapes, (layer,), "train")
        assert {backbone.layer_of(path) for path in found.params} == {layer}
    prefix = freezing.frozen_prefix(
        shapes,
        freezing.make_freezing(shapes, (backbone.endpoints[0],), "train"),
        backbone.endpoints,
    )
    assert prefix == backbone.endpoints[0]
    # The gradient of all of EfficientNet takes half a minute to compile.
    stays = {
        "resnet18": ("*",),
        "efficientnet_lite0": ("stem", "stage[1-6]"),
        "vit_tiny_patch16": ("embed", "block1*"),
        **dict.fromkeys(KINDS, ("stem", "stage[1-3]")),
        "vit_small_patch16_dinov3": ("embed", "block1*"),
    }.get(name, ())
    frozen = freezing.make_freezing(shapes, stays, "train", ("head",))
    variables = {"batch_stats": {}} | random_variables(model, size=side(name))
    trained = frozenset(tree.leaves(variables["params"]).keys() - frozen.params)
    tx = optax.sgd(0.1)
    trainable, _ = tree.partition(variables["params"], trained)
    state = TrainState.create(variables, tx.init(trainable), 0, ema=False)
    state = state.replace(ema=dict(variables))  # without a copy, which is a program for each shape
    images = np.random.default_rng(0).normal(size=(4, side(name), side(name), 3))
    batch = {
        "image": images.astype(np.float32),
        "label": np.array([0, 1, 2, 0]),
        "mask": np.ones(4, bool),
    }
    norms = freezing.train_mode_norms(frozen, variables["batch_stats"])

    def run(variables, inputs, key):
        return forward(variables, inputs, key, model=model, train=norms)

    after, measured = jax.jit(
        lambda state, batch: train_step(
            state, batch, forward=run, prepare=lambda x: x, tx=tx, schedule=lambda step: 0.1,
            trained=trained, num_classes=5, mixing=Mixing(), loss=optax.softmax_cross_entropy,
        )
    )(state, batch)  # fmt: skip
    assert np.isfinite(measured["loss"]) and measured["grad_norm"] > 0
    before = tree.leaves(variables["params"])
    moved = {
        path
        for path, leaf in tree.leaves(after.params).items()
        if not np.array_equal(leaf, before[path])
    }
    assert moved <= trained and any(path.startswith("head/") for path in moved)
    before = tree.leaves(variables["batch_stats"])
    for path, leaf in tree.leaves(after.batch_stats).items():
        stays = np.array_equal(leaf, before[path])
        assert stays == (path in frozen.statistics)


# In float64 they are equal; in float32 some convolutions have forms of their own.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-4)])
@pytest.mark.parametrize("name", slow(RUN[:-2], *KINDS, "resnet18", "efficientnet_lite0"))
def test_blocks_that_are_computed_again_give_the_same(name, dtype, tolerance):
    promotion = "standard" if dtype == "float64" else "strict"
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion(promotion), shallow(name):
        backbone = registry.get(name)
        # Stochastic depth leaves out the same in both computations of a block.
        drops = {"drop_path": 0.5} if hasattr(backbone.module, "drop_path") else {}
        types = {"dtype": np.dtype(dtype), "param_dtype": np.dtype(dtype)}
        model = registry.build(name, num_classes=5, dropout=0.2, **drops, **types)
        variables = {"batch_stats": {}} | random_variables(model, size=side(name))
        norms = freezing.train_mode_norms(
            freezing.make_freezing(variables, (), "train"), variables["batch_stats"]
        )
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.normal(size=(4, side(name), side(name), 3)), dtype)

        def loss(params, remat):
            logits, statistics = forward(
                {**variables, "params": params},
                images,
                jax.random.key(1),
                model=model.clone(remat=remat),
                train=norms,
            )
            return jnp.sum(jnp.square(logits)), (logits, statistics)

        def results(remat):
            program = jax.value_and_grad(functools.partial(loss, remat=remat), has_aux=True)
            traced = jax.jit(program).trace(variables["params"])
            # Neither names nor shapes change.
            shapes = jax.eval_shape(model.clone(remat=remat).init, jax.random.key(0), images)
            assert tree.differences(shapes["params"], variables["params"]) == []
            count = str(traced.jaxpr).count("remat")
            return count, *traced.lower().compile()(variables["params"])

        none, (_, values), grads = results(remat=False)
        some, (_, again), grads_again = results(remat=True)
    assert none == 0 and some >= len([layer for layer in backbone.layers if "block" in layer])
    for found, expected in ((again, values), (grads_again, grads)):
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
        for leaf, value in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(leaf, value, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("name", ["group_net", "vit", "resnetv2_50x1_bit"])
def test_without_batch_normalisation_there_is_none_to_hold(name):
    shapes = shapes_of(name)
    with pytest.raises(UserError, match=r"^train.norm: the network has no batch normalisation"):
        freezing.make_freezing(shapes, (), "recalibrate")
    for norm in ("train", "affine", "frozen"):  # so that a config for ResNets does for others
        assert freezing.make_freezing(shapes, (), norm) == freezing.Freezing(
            frozenset(), frozenset()
        )


def test_arguments_reach_the_module():
    model = registry.build("resnet50", num_classes=3, stride_in="1x1", norm_epsilon=1e-3)
    assert (model.num_classes, model.stride_in, model.norm_epsilon) == (3, "1x1", 1e-3)


def test_unknown_name_lists_the_near_ones():
    with pytest.raises(UserError, match=r"'resnet5'; the nearest are .*'resnet50'"):
        registry.get("resnet5")
