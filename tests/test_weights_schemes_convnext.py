import functools

import jax
import numpy as np
import pytest

from tests.networks import random_variables
from tl.errors import UserError
from tl.models import registry
from tl.models.convnext import ConvNeXt
from tl.weights import catalog, convert, identify, load, naming

HF = "convnext.encoder.stages"
TABLE = [
    ("stem/conv", "kernel", "stem.0.weight", "features.0.0.weight",
     "convnext.embeddings.patch_embeddings.weight"),
    ("stem/norm", "scale", "stem.1.weight", "features.0.1.weight",
     "convnext.embeddings.layernorm.weight"),
    ("stage1/block1/depthwise", "bias", "stages.0.blocks.0.conv_dw.bias",
     "features.1.0.block.0.bias", f"{HF}.0.layers.0.dwconv.bias"),
    ("stage2/block1/downsample/norm", "bias", "stages.1.downsample.0.bias", "features.2.0.bias",
     f"{HF}.1.downsampling_layer.0.bias"),
    ("stage4/block1/downsample/conv", "kernel", "stages.3.downsample.1.weight",
     "features.6.1.weight", f"{HF}.3.downsampling_layer.1.weight"),
    ("stage3/block27/norm", "scale", "stages.2.blocks.26.norm.weight",
     "features.5.26.block.2.weight", f"{HF}.2.layers.26.layernorm.weight"),
    ("stage3/block2/fc1", "kernel", "stages.2.blocks.1.mlp.fc1.weight",
     "features.5.1.block.3.weight", f"{HF}.2.layers.1.pwconv1.weight"),
    ("stage4/block3/fc2", "bias", "stages.3.blocks.2.mlp.fc2.bias", "features.7.2.block.5.bias",
     f"{HF}.3.layers.2.pwconv2.bias"),
    ("stage4/block3", "gamma", "stages.3.blocks.2.gamma", "features.7.2.layer_scale",
     f"{HF}.3.layers.2.layer_scale_parameter"),
    ("pooled/norm", "bias", "head.norm.bias", "classifier.0.bias", "convnext.layernorm.bias"),
    ("head", "kernel", "head.fc.weight", "classifier.2.weight", "classifier.weight"),
]  # fmt: skip
V1 = ("timm_convnext", "torchvision_convnext", "huggingface_convnext")
V2 = ("timm_convnext", "huggingface_convnextv2")


@pytest.mark.parametrize("row", TABLE)
def test_names(row):
    module, leaf, *names = row
    assert [naming.source_name(scheme, module, leaf) for scheme in V1] == names
    for scheme, name in zip(V1, names, strict=True):
        assert naming.in_backbone(scheme, name) == (module != "head")
    if leaf != "gamma":
        v2 = naming.source_name("huggingface_convnextv2", module, leaf)
        assert v2 == names[-1].replace("convnext.", "convnextv2.")


def test_names_of_a_response_norm():
    module = "stage2/block3/grn"
    assert (
        naming.source_name("timm_convnext", module, "scale") == "stages.1.blocks.2.mlp.grn.weight"
    )
    name = naming.source_name("huggingface_convnextv2", module, "bias")
    assert name == "convnextv2.encoder.stages.1.layers.2.grn.bias"


@functools.cache
def tiny(grn):
    model = ConvNeXt((1, 1), (4, 6), grn=grn, num_classes=3)
    return model, jax.device_get(random_variables(model))


@pytest.mark.parametrize(
    ("grn", "scheme"), [*((False, scheme) for scheme in V1), *((True, scheme) for scheme in V2)]
)
def test_scales_have_the_shapes_of_their_libraries_and_come_back(grn, scheme):
    model, variables = tiny(grn)
    tensors = convert.from_variables(variables, scheme)
    assert naming.detect(tensors) == scheme
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    expected = {
        "timm_convnext": {"stages.1.blocks.0.mlp.grn.weight" if grn else "stages.1.blocks.0.gamma":
                          (24,) if grn else (6,)},
        "torchvision_convnext": {"features.3.0.layer_scale": (6, 1, 1)},
        "huggingface_convnext": {f"{HF}.1.layers.0.layer_scale_parameter": (6,)},
        "huggingface_convnextv2": {"convnextv2.encoder.stages.1.layers.0.grn.bias": (1, 1, 1, 24)},
    }[scheme]  # fmt: skip
    assert shapes.items() >= expected.items()
    assert convert.source_shapes(convert.shapes(model), scheme) == shapes
    again = convert.to_variables(tensors, convert.shapes(model), scheme)
    jax.tree.map(np.testing.assert_array_equal, again["params"], variables["params"])


@pytest.mark.parametrize("scheme", ["huggingface_convnext", "huggingface_convnextv2"])
def test_files_of_transformers_without_a_head_tell_their_version(scheme):
    model, variables = tiny(grn=scheme.endswith("v2"))
    root = scheme.removeprefix("huggingface_")
    headless = {
        name.removeprefix(f"{root}."): tensor
        for name, tensor in convert.from_variables(variables, scheme).items()
        if not name.startswith("classifier")
    }
    assert naming.detect(headless) == scheme
    shapes = convert.shapes(model.clone(num_classes=0))
    convert.to_variables(headless, shapes, scheme)


def zeros(backbone, scheme="timm_convnext", num_classes=0):
    """Returns the tensors of a network as zeros, which take no memory."""
    model = registry.build(backbone, num_classes=num_classes)
    shapes = convert.source_shapes(convert.shapes(model), scheme)
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stem.0.weight": (96, 3, 3, 3)}, "whose first convolution is 3 x 3, not 4 x 4; expected"),
        (
            {"stages.0.blocks.0.mlp.fc1.weight": (384, 96, 1, 1)},
            "whose MLPs are convolutions, as timm's from Atto to Nano and timm's tiny_hnf; expect",
        ),
        ({"stem.0.weight": (192, 3, 4, 4)}, "of 192 channels in the first stage; Tiny and Small"),
        ({"stem.0.weight": (96, 1, 4, 4)}, "for images of 1 channels; expected 3 channels"),
    ],
)
def test_other_convnexts_are_named(changed, message):
    tensors = {
        "stem.0.weight": np.zeros((96, 3, 4, 4)),
        "stages.0.blocks.0.conv_dw.weight": np.zeros((96, 1, 7, 7)),
        "stages.0.blocks.0.mlp.fc1.weight": np.zeros((384, 96)),
    }
    naming.check_shapes("timm_convnext", tensors)
    changed = {name: np.zeros(shape) for name, shape in changed.items()}
    with pytest.raises(UserError, match=message):
        naming.check_shapes(naming.detect(tensors), {**tensors, **changed})


@pytest.mark.slow
def test_depths_widths_and_kinds_of_scales_tell_the_network():
    for name in ("convnext_small", "convnextv2_tiny"):
        tensors = zeros(name)
        assert identify._backbone_of(tensors, naming.detect(tensors)) == name


def test_a_file_of_v2_before_its_fine_tuning_has_no_last_norm():
    spec, tensors = catalog.get("convnextv2_tiny.fcmae"), {"stem.0.bias": np.zeros(96, np.float32)}
    norm = {"head.norm.weight": np.ones(768), "head.norm.bias": np.zeros(768)}
    found = load._with_last_norm(spec, tensors)
    assert found.keys() == {*tensors, *norm}
    for name, expected in norm.items():
        np.testing.assert_array_equal(found[name], expected)
    cut = {**tensors, "head.fc.bias": np.zeros(3, np.float32)}  # of a damaged file
    assert load._with_last_norm(spec, cut) is cut
    fine_tuned = catalog.get("convnextv2_tiny.fcmae_ft")
    assert load._with_last_norm(fine_tuned, tensors) is tensors
    v1 = catalog.get("convnext_tiny.fb")
    assert load._with_last_norm(v1, tensors) is tensors


def test_the_projection_of_clip_is_no_head():
    spec = catalog.get("convnext_base.fb")
    names = ("head.fc.weight", "head.fc.bias", "head.norm.bias")
    tensors = {name: np.zeros(640, np.float32) for name in names}
    assert load._without_projection(spec, tensors).keys() == {names[2]}
    tensors[names[1]] = np.ones(640, np.float32)  # of a classifier
    assert load._without_projection(spec, tensors).keys() == set(names)
