"""Full-size networks against the frameworks that defined them, live; needs the `peers` extra."""

import functools
import json

import jax
import numpy as np
import pytest

from tests import make_golden
from tl.models import convnext, dinov3, registry, resnet, resnet_v2
from tl.weights import catalog, convert, identify, load, naming
from tl.weights.readers import WeightFile
from tl.weights.timm_names import OWN_LITE

pytestmark = pytest.mark.peers
TOLERANCE = 1e-5


def assert_parity(path, scheme, backbone, expected, x, exactly=False, **model_args):
    model = registry.build(backbone, **model_args)
    variables = convert.to_variables(WeightFile(path).tensors(), convert.shapes(model), scheme)
    with jax.default_matmul_precision("highest"), jax.enable_x64(exactly):
        if exactly:
            model = model.clone(dtype=np.float64, param_dtype=np.float64)
        wide = jax.tree.map(lambda leaf: leaf.astype(model.param_dtype), variables)
        endpoints = jax.jit(model.apply)(wide, x.astype(model.param_dtype))
    assert endpoints.keys() == expected.keys()
    for name, value in expected.items():
        error = np.max(np.abs(np.asarray(endpoints[name]) - value)) / np.max(np.abs(value))
        assert error <= TOLERANCE, (name, error)
    return variables


def written(path, name, size, modules, endpoints=make_golden.ENDPOINTS, exactly=False):
    """Returns a network of timm with random weights, which it saves, images and its outputs.

    `exactly` is for a network whose rounding in float32 is no smaller than the tolerance: beside
    float64, timm's own BiT-101 with random weights is wrong by 1.6e-5.
    """
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    model = make_golden.randomise_torch(timm.create_model(name, pretrained=False))
    torch.save(model.state_dict(), path)
    x = make_golden.images(2, *size)
    if exactly:
        model, x = model.double(), x.astype(np.float64)
    return model, x, make_golden.torch_endpoints(model, modules, x, endpoints)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("size", [(224, 224), (225, 197)])
def test_timm(tmp_path, backbone, size):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    model, x, expected = written(tmp_path / "x.pth", backbone, size, make_golden.TIMM_MODULES)
    variables = assert_parity(tmp_path / "x.pth", "torchvision", backbone, expected, x)

    load.save(variables, tmp_path / "x.safetensors")
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "x.safetensors")
    fresh = timm.create_model(backbone, pretrained=False)
    fresh.load_state_dict(exported, strict=True)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters()))
    torchvision = pytest.importorskip("torchvision")
    getattr(torchvision.models, backbone)().load_state_dict(exported, strict=True)


GROUPED = (
    "resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d",
    "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
DEEP_STEM = tuple(f"resnet{depth}d" for depth in (18, 34, 50, 101, 152))
V2 = ("resnetv2_50", "resnetv2_101", "resnetv2_50x1_bit", "resnetv2_101x1_bit")
V2_MODULES = ("stem", *(f"stages.{i}" for i in range(4)), "head.global_pool", "head")
# Arguments with which the network is another and still takes the tensors.
WRONG = {
    GROUPED: ({"norm_epsilon": 1e-4}, {"stride_in": "1x1"}),
    DEEP_STEM: ({"norm_epsilon": 1e-4}, {"pooled_shortcut": False}),
    V2: ({"norm_epsilon": 1e-4},),
}


@pytest.mark.parametrize("size", [(64, 64), (65, 98)])
@pytest.mark.parametrize("name", [*GROUPED, *DEEP_STEM, *V2])
def test_relatives_of_the_resnet(tmp_path, name, size):
    timm = pytest.importorskip("timm")
    modules = V2_MODULES if name in V2 else make_golden.TIMM_MODULES
    exactly = name.endswith("_bit")
    model, x, expected = written(tmp_path / "x.pth", name, size, modules, exactly=exactly)
    tensors = WeightFile(tmp_path / "x.pth").tensors()
    scheme = naming.detect(tensors)
    naming.check_shapes(scheme, tensors)
    assert identify._backbone_of(tensors, scheme) == name
    case = (tmp_path / "x.pth", scheme, name, expected, x)
    variables = assert_parity(*case, exactly=exactly)
    deep = len(registry.get(name).layers) > 20  # which take as long as ten of the others
    for wrong in () if deep else next(wrong for names, wrong in WRONG.items() if name in names):
        with pytest.raises(AssertionError):
            assert_parity(*case, exactly=exactly, **wrong)

    load.save(variables, tmp_path / "x.safetensors", scheme=scheme)
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "x.safetensors")
    timm.create_model(name).load_state_dict(exported, strict=True)
    for key, value in model.state_dict().items():
        assert key.endswith("num_batches_tracked") or exported[key].equal(value.float())
    if name in GROUPED and name != "resnext101_32x4d":
        torchvision = pytest.importorskip("torchvision")
        getattr(torchvision.models, name)().load_state_dict(exported, strict=True)


def test_another_pooling_or_epsilon_of_a_relative_fails(tmp_path, monkeypatch):
    case = {}
    for name, modules in (("resnet18d", make_golden.TIMM_MODULES), (V2[-2], V2_MODULES)):
        path = tmp_path / f"{name}.pth"
        _, x, expected = written(path, name, (65, 98), modules, exactly=name in V2)
        scheme = registry.get(name).schemes[0]
        case[name] = functools.partial(
            assert_parity, path, scheme, name, expected, x, exactly=name in V2
        )
        case[name]()

    def fails(name, module, attribute, value):
        with monkeypatch.context() as patch, pytest.raises(AssertionError):
            patch.setattr(module, attribute, value)
            case[name]()

    mean_pool = resnet.mean_pool

    def counting_outside(x, stride):
        pads = [(0, -n % stride) for n in x.shape[1:3]]
        return mean_pool(jax.numpy.pad(x, ((0, 0), *pads, (0, 0))), stride)

    fails("resnet18d", resnet, "mean_pool", counting_outside)
    fails(V2[-2], resnet_v2, "KERNEL_EPSILON", 1e-5)
    fails(V2[-2], resnet_v2, "GROUPS", 16)
    fails(V2[-2], resnet_v2.ResNetV2, "_pool", lambda self, x: resnet_v2.max_pool(
        x, (3, 3), (2, 2), ((1, 1), (1, 1))
    ))  # fmt: skip


LITE_ENDPOINTS = ("stem", *(f"stage{i}" for i in range(1, 8)), "pooled", "logits")
LITE_MODULES = ("bn1", *(f"blocks.{i}" for i in range(7)), "global_pool", "classifier")


@pytest.mark.parametrize("size", [(64, 64), (65, 98)])
@pytest.mark.parametrize(
    "name", [*(f"tf_efficientnet_lite{i}" for i in range(5)), "efficientnet_lite0"]
)
def test_timm_lite(tmp_path, name, size):
    timm = pytest.importorskip("timm")
    _, x, expected = written(tmp_path / "x.pth", name, size, LITE_MODULES, LITE_ENDPOINTS)
    backbone = name.removeprefix("tf_")
    arguments = {} if name.startswith("tf_") else dict(OWN_LITE)
    case = (tmp_path / "x.pth", "timm_efficientnet_lite", backbone, expected, x)
    variables = assert_parity(*case, **arguments)
    assert identify._backbone_of(WeightFile(case[0]).tensors(), case[1]) == backbone
    for wrong in ({"norm_epsilon": 1e-4}, {"padding": "torch" if not arguments else "same"}):
        with pytest.raises(AssertionError):
            assert_parity(*case, **{**arguments, **wrong})

    load.save(variables, tmp_path / "x.safetensors", scheme=case[1])
    from safetensors.torch import load_file

    timm.create_model(name).load_state_dict(load_file(tmp_path / "x.safetensors"), strict=True)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_real_weights_of_lite_in_timm(tmp_path, number):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    name = f"efficientnet_lite{number}"
    network = load.load(name)
    load.save(network.variables, tmp_path / "x.safetensors", scheme="timm_efficientnet_lite")
    from safetensors.torch import load_file

    model = timm.create_model(f"tf_{name}").eval()
    model.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=True)
    size = network.spec.preprocessing.size
    x = np.clip(make_golden.images(2, size, size), -1, 1)
    with torch.no_grad():
        expected = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    with jax.default_matmul_precision("highest"):
        found = jax.jit(network.model.apply)(network.variables, x)["logits"]
    assert np.max(np.abs(found - expected)) <= TOLERANCE * np.max(np.abs(expected))


VIT_ENDPOINTS = ("embed", *(f"block{i + 1}" for i in range(12)), "pooled", "logits")
VIT_MODULES = ("norm_pre", *(f"blocks.{i}" for i in range(12)), "norm", "head")


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("vit_tiny_patch16_224", "vit_tiny_patch16"),
        ("vit_small_patch32_224", "vit_small_patch32"),
        ("vit_small_patch8_224", "vit_small_patch8"),
        ("deit_small_patch16_224", "vit_small_patch16"),
        ("vit_base_patch16_224", "vit_base_patch16"),
        ("vit_small_patch14_dinov2", "vit_small_patch14"),
        ("vit_small_patch14_reg4_dinov2", "vit_small_patch14_reg4"),
        ("vit_base_patch32_clip_224", "vit_base_patch32_clip"),
        ("vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_clip"),
        ("vit_base_patch16_siglip_224", "vit_base_patch16_siglip"),
    ],
)
@pytest.mark.parametrize("shape", [(), (5, 3)])
def test_timm_vit(tmp_path, name, backbone, shape):
    """At the size of the positions, or of other rows and columns of patches."""
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    given = {"num_classes": 1000, "dynamic_img_size": True}
    model = make_golden.randomise_torch(timm.create_model(name, pretrained=False, **given))
    torch.save(model.state_dict(), tmp_path / "x.pth")
    known = registry.get(backbone).arguments
    rows, columns = shape or (known["grid"],) * 2
    x = make_golden.images(1, rows * known["patch"], columns * known["patch"])
    modules = [
        "attn_pool" if m == "norm" and model.attn_pool is not None else m for m in VIT_MODULES
    ]
    expected = make_golden.torch_endpoints(model, modules, x, VIT_ENDPOINTS)
    case = (tmp_path / "x.pth", "timm_vit", backbone, expected, x)
    arguments = {"activation": "quick_gelu"} if "quickgelu" in name else {}
    variables = assert_parity(*case, **arguments)
    assert identify._backbone_of(WeightFile(case[0]).tensors(), case[1]) == backbone
    wrong = [{"norm_epsilon": 1e-4}, {"heads": 2}]
    wrong += [{"activation": "gelu" if arguments else "quick_gelu"}]
    if shape:
        wrong += [{"resize": "plain"}, {"resize": "offset"}]
    for variant in wrong:
        with pytest.raises(AssertionError):
            assert_parity(*case, **{**arguments, **variant})

    load.save(variables, tmp_path / "x.safetensors", scheme="timm_vit")
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "x.safetensors")
    timm.create_model(name, **given).load_state_dict(exported, strict=True)


def test_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = make_golden.randomise_torch(make_golden.hf_resnet(num_labels=1000))
    model.save_pretrained(tmp_path)
    x = make_golden.images(2, 224, 224)
    expected = make_golden.torch_endpoints(model, make_golden.HF_MODULES, x)
    path = tmp_path / "model.safetensors"
    variables = assert_parity(path, "huggingface", "resnet50", expected, x)

    load.save(variables, path, scheme="huggingface")
    from safetensors.torch import load_file

    fresh = make_golden.hf_resnet(num_labels=1000)
    fresh.load_state_dict(load_file(path), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters()))


def test_keras(tmp_path):
    pytest.importorskip("keras")
    from keras import applications

    model = make_golden.randomise_keras(
        applications.ResNet50(weights=None, classifier_activation=None)
    )
    model.save_weights(tmp_path / "x.weights.h5")
    x = make_golden.images(2, 224, 224)
    expected = make_golden.keras_endpoints(model, (3, 4, 6, 3), x)
    args = catalog.get("resnet50.keras").model_args
    assert_parity(tmp_path / "x.weights.h5", "keras", "resnet50", expected, x, **args)
    network = load.load(str(tmp_path / "x.weights.h5"))  # tells by itself what it is
    assert network.spec.notes == "architecture and preprocessing of resnet50.keras"


def test_efficientnet_lite_loads_into_timm():
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    network = load.load("efficientnet_lite0")
    exported = convert.from_variables(network.variables, "timm_efficientnet_lite")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict({k: torch.tensor(v) for k, v in exported.items()}, strict=True)
    x = make_golden.images(1, 225, 197)
    with torch.no_grad():
        expected = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    logits = jax.jit(network.model.apply)(network.variables, x)["logits"]
    assert np.max(np.abs(logits - expected)) <= TOLERANCE * np.max(np.abs(expected))


@pytest.mark.parametrize("name", ["vit_b_16", "vit_b_32"])
def test_torchvision_vit(tmp_path, name):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    model = make_golden.randomise_torch(getattr(torchvision.models, name)())
    torch.save(model.state_dict(), tmp_path / "x.pth")
    x = make_golden.images(2, 224, 224)
    modules = (
        "encoder.dropout",
        *(f"encoder.layers.encoder_layer_{i}" for i in range(12)),
        "encoder.ln",
    )
    expected = make_golden.torch_endpoints(model, (*modules, "heads.head"), x, VIT_ENDPOINTS)
    backbone = f"vit_base_patch{name.rsplit('_', 1)[1]}"
    variables = assert_parity(tmp_path / "x.pth", "torchvision_vit", backbone, expected, x)
    load.save(variables, tmp_path / "x.safetensors", scheme="torchvision_vit")
    from safetensors.torch import load_file

    fresh = getattr(torchvision.models, name)()
    fresh.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=True)


@pytest.mark.parametrize(("kind", "size"), [("ViT", 224), ("Dinov2", 140)])
def test_vision_transformers_of_transformers(tmp_path, kind, size):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(num_labels=1000)
    network = getattr(transformers, f"{kind}ForImageClassification")(config)
    model = make_golden.randomise_torch(network)
    model.save_pretrained(tmp_path)
    processor = {"image_processor_type": "ViTImageProcessor", "size": size, "resample": 2}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    read = load.load(str(tmp_path), drop_head=kind == "Dinov2")
    x = make_golden.images(2, size, size)
    expected = make_golden.hf_vit_outputs(model, x, 12)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(read.model.apply)(read.variables, x)
    for name, value in expected.items():
        assert np.max(np.abs(found[name] - value)) <= TOLERANCE * np.max(np.abs(value)), name


def folder_of_transformers(folder, model, size):
    """Saves a model of transformers with a processor, and returns what is read of the folder."""
    model.save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": size, "resample": 2}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return load.load(str(folder))


def assert_outputs(read, x, expected, **other):
    """Holds a network to outputs; with other arguments of its module it must miss them."""
    model = read.model.clone(**other)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(model.apply)(read.variables, x)
    assert found.keys() - {"logits"} == expected.keys()
    for name, value in expected.items():
        error = np.max(np.abs(found[name] - value)) / np.max(np.abs(value))
        assert error <= TOLERANCE, (name, error)


# Kind of config, class, arguments, side of the images, and arguments that must fail.
OF_TRANSFORMERS = {
    "dinov2_registers": (
        "Dinov2WithRegisters", "Model", {"patch_size": 14, "image_size": 518}, 140,
        ({"resize": "plain"}, {"norm_epsilon": 1e-4}),
    ),
    "dinov2_registers_at_its_size": (
        "Dinov2WithRegisters", "Model", {"patch_size": 14, "image_size": 140}, 140,
        ({"heads": 6},),
    ),
    "clip": (
        "CLIPVision", "ModelWithProjection", {"patch_size": 16}, 224,
        ({"activation": "gelu"}, {"norm_epsilon": 1e-4}),
    ),
    "siglip": (
        "SiglipVision", "Model", {}, 224, ({"activation": "gelu"}, {"norm_epsilon": 1e-4}),
    ),
    "dinov3": (
        "DINOv3ViT", "Model", {"num_register_tokens": 4}, 224,
        ({"heads": 12}, {"norm_epsilon": 1e-4}),
    ),
    "dinov3_plus": (
        "DINOv3ViT", "Model",
        {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"}, 96,
        ({"norm_epsilon": 1e-4},),
    ),
    "siglip_at_another_size": ("SiglipVision", "Model", {}, 160, ({"resize": "antialias"},)),
    "clip_at_another_size": ("CLIPVision", "Model", {}, 160, ({"resize": "antialias"},)),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_TRANSFORMERS)
def test_vision_models_of_transformers(tmp_path, case):
    transformers = pytest.importorskip("transformers")
    kind, ending, arguments, size, wrong = OF_TRANSFORMERS[case]
    config = getattr(transformers, f"{kind}Config")(**arguments)
    model = make_golden.randomise_torch(getattr(transformers, kind + ending)(config))
    read = folder_of_transformers(tmp_path, model, size)
    x = make_golden.images(1, size, size)
    expected = make_golden.hf_vit_outputs(model, x, 12)
    assert_outputs(read, x, expected)
    for other in wrong:
        with pytest.raises(AssertionError):
            assert_outputs(read, x, expected, **other)

    scheme = read.spec.scheme
    load.save(read.variables, tmp_path / "model.safetensors", scheme=scheme)
    again = type(model).from_pretrained(tmp_path)
    found = make_golden.hf_vit_outputs(again.eval(), x, 12)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(256, 256), (80, 48)])
@pytest.mark.parametrize(
    "name",
    [
        "vit_small_patch16_dinov3",
        "vit_small_patch16_dinov3_qkvb",
        "vit_small_plus_patch16_dinov3",
        "vit_base_patch16_dinov3",
    ],
)
def test_timm_dinov3(tmp_path, monkeypatch, name, shape):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    given = {"num_classes": 1000, "global_pool": "token"}
    model = make_golden.randomise_torch(timm.create_model(name, pretrained=False, **given))
    torch.save(model.state_dict(), tmp_path / "x.pth")
    x = make_golden.images(1, *shape)
    expected = make_golden.torch_endpoints(model, VIT_MODULES, x, VIT_ENDPOINTS)
    backbone, arguments = name.removesuffix("_qkvb"), {}
    if backbone != name:
        arguments = {"qkv_bias": True}
    case = (tmp_path / "x.pth", "timm_dinov3", backbone, expected, x)
    variables = assert_parity(*case, **arguments)
    tensors = WeightFile(case[0]).tensors()
    assert naming.detect(tensors) == "timm_dinov3"
    assert identify._backbone_of(tensors, "timm_dinov3") == backbone
    for variant in ({"norm_epsilon": 1e-4}, {"heads": 3}):
        with pytest.raises(AssertionError):
            assert_parity(*case, **{**arguments, **variant})
    angles = dinov3.angles
    monkeypatch.setattr(dinov3, "angles", lambda *grid: angles(*grid)[:, ::-1])
    with pytest.raises(AssertionError):
        assert_parity(*case, **arguments)

    load.save(variables, tmp_path / "x.safetensors", scheme="timm_dinov3")
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "x.safetensors")
    timm.create_model(name, **given).load_state_dict(exported, strict=True)


CONVNEXTS = ("convnext_tiny", "convnext_small", "convnext_base")
CONVNEXTS_V2 = ("convnextv2_tiny", "convnextv2_base")
STAGES = range(4)
TIMM_CONVNEXT = ("stem", *(f"stages.{i}" for i in STAGES), "head.flatten", "head.fc")


@pytest.mark.parametrize("size", [(64, 64), (65, 98)])
@pytest.mark.parametrize("name", [*CONVNEXTS, *CONVNEXTS_V2])
def test_timm_convnext(tmp_path, name, size):
    timm = pytest.importorskip("timm")
    model, x, expected = written(tmp_path / "x.pth", name, size, TIMM_CONVNEXT)
    variables = assert_parity(tmp_path / "x.pth", "timm_convnext", name, expected, x)
    load.save(variables, tmp_path / "x.safetensors", scheme="timm_convnext")
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "x.safetensors")
    timm.create_model(name).load_state_dict(exported, strict=True)
    assert all(exported[key].equal(value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_tiny"])
def test_another_convnext_fails(tmp_path, monkeypatch, name):
    """By its epsilons, its GELU, or the epsilon of the response (of which 1e-5 does not tell)."""
    _, x, expected = written(tmp_path / "x.pth", name, (65, 98), TIMM_CONVNEXT)
    case = (tmp_path / "x.pth", "timm_convnext", name, expected, x)
    for wrong in ({"norm_epsilon": 1e-5}, {"pooled_epsilon": 1e-4}):
        with pytest.raises(AssertionError):
            assert_parity(*case, **wrong)
    gelu = functools.partial(jax.nn.gelu, approximate=True)
    with monkeypatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr(convnext.nn, "gelu", lambda x, approximate: gelu(x))
        assert_parity(*case)
    if name == "convnextv2_tiny":
        monkeypatch.setattr(convnext, "RESPONSE_EPSILON", 1e-3)
        with pytest.raises(AssertionError):
            assert_parity(*case)


@pytest.mark.parametrize("name", CONVNEXTS)
def test_torchvision_convnext(tmp_path, name):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    model = make_golden.randomise_torch(getattr(torchvision.models, name)())
    torch.save(model.state_dict(), tmp_path / "x.pth")
    x = make_golden.images(2, 65, 98)
    modules = ("features.0", *(f"features.{2 * i + 1}" for i in STAGES))
    modules += ("classifier.1", "classifier.2")
    expected = make_golden.torch_endpoints(model, modules, x)
    variables = assert_parity(tmp_path / "x.pth", "torchvision_convnext", name, expected, x)
    load.save(variables, tmp_path / "x.safetensors", scheme="torchvision_convnext")
    from safetensors.torch import load_file

    fresh = getattr(torchvision.models, name)()
    fresh.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=True)


@pytest.mark.parametrize("kind", ["ConvNext", "ConvNextV2"])
def test_convnext_of_transformers(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(num_labels=1000)
    network = getattr(transformers, f"{kind}ForImageClassification")
    model = make_golden.randomise_torch(network(config))
    model.save_pretrained(tmp_path)
    processor = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}
    processor |= {"crop_pct": 0.875, "resample": 3}
    processor |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    read = load.load(str(tmp_path))
    assert read.backbone.name == f"{kind.lower()}_tiny"
    assert read.spec.model_args == {"pooled_epsilon": 1e-12}
    x = make_golden.images(2, 65, 98)
    root = kind.lower()
    modules = (f"{root}.embeddings", *(f"{root}.encoder.stages.{i}" for i in STAGES))
    modules += (f"{root}.layernorm", "classifier")
    expected = make_golden.torch_endpoints(model, modules, x)
    scheme = f"huggingface_{root}"
    path = tmp_path / "model.safetensors"
    variables = assert_parity(path, scheme, read.backbone.name, expected, x, **read.spec.model_args)
    load.save(variables, path, scheme=scheme)
    from safetensors.torch import load_file

    network(config).load_state_dict(load_file(path), strict=True)
