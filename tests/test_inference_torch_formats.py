import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.networks import random_variables, shallow
from tests.test_inference_export import probe_of
from tl.data.transforms import host_transform, normalise
from tl.errors import UserError
from tl.inference import export, torch_formats
from tl.inference import model as inference
from tl.models import registry
from tl.models.backbone import FINAL
from tl.weights import catalog, load, trained, transformers_config
from tl.weights.load import load as load_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network of three classes."""
    with tiny.registered():
        yield inference.load(
            tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
        )


def test_torchvision_loads_again_here(model, tmp_path):
    probed = probe_of(model, FINAL)
    files = export.write(probed, "torchvision", tmp_path)
    assert [file.name for file in files] == ["model.safetensors", "config.json"]
    described = json.loads(files[1].read_text())
    assert described["classes"] == ["a", "b"]
    from safetensors.numpy import load_file

    tensors = load_file(files[0])
    np.testing.assert_array_equal(tensors["fc.weight"], probed.head.kernel.T / 2)  # temperature 2
    np.testing.assert_array_equal(tensors["fc.bias"], probed.head.bias / 2)
    assert described["temperature"] == 1
    again = inference.load(str(tmp_path))
    assert (again.classes, again.preprocessing) == (probed.classes, probed.preprocessing)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_allclose(
        again.predict(image).probabilities, probed.predict(image).probabilities, atol=1e-6
    )


def test_timms_config_has_classes_and_preprocessing(tmp_path):
    model = inference.load("efficientnet_lite0")
    export.write(model, "timm", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "tf_efficientnet_lite0" and config["num_classes"] == 1000
    pretrained = config["pretrained_cfg"]
    assert pretrained["label_names"] == list(model.classes)
    assert pretrained["input_size"] == [3, 224, 224] and pretrained["crop_mode"] == "center"
    assert pretrained["mean"] == [127 / 255] * 3
    again = load_weights(str(tmp_path / "model.safetensors"), like="efficientnet_lite0")
    for ours, theirs in zip(
        jax.tree.leaves(again.variables), jax.tree.leaves(model.network.variables), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_transformers_config_describes_the_network(tmp_path):
    model = registry.build("resnet18", num_classes=3)
    variables = jax.device_get(random_variables(model))
    load.save(variables, tmp_path / "r.safetensors")
    (tmp_path / "c.txt").write_text("cat\ndog\nemu")
    loaded = inference.load(
        tmp_path / "r.safetensors", like="resnet18.tv1", classes=str(tmp_path / "c.txt")
    )
    export.write(loaded, "transformers", tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["id2label"] == {"0": "cat", "1": "dog", "2": "emu"}
    assert config["depths"] == [2, 2, 2, 2] and config["hidden_sizes"] == [64, 128, 256, 512]
    processor = json.loads((tmp_path / "out/preprocessor_config.json").read_text())
    assert processor["size"] == {"shortest_edge": 256} and processor["resample"] == 2
    assert processor["crop_size"] == {"height": 224, "width": 224}
    again = load_weights(str(tmp_path / "out/model.safetensors"), like="resnet18.tv1")
    np.testing.assert_array_equal(
        again.variables["params"]["head"]["bias"], variables["params"]["head"]["bias"]
    )


@pytest.mark.parametrize(
    ("geometry", "size", "crop_pct"),
    [
        ("whole", 224, 1.0),
        ("whole", 384, 1.0),
        ("resize_crop", 224, 0.9),
        ("resize_crop", 384, 1.0),
    ],
)
def test_the_processor_of_transformers_prepares_the_same_images(geometry, size, crop_pct, model):
    p = dataclasses.replace(model.preprocessing, geometry=geometry, size=size, crop_pct=crop_pct)
    written = torch_formats._image_processor(dataclasses.replace(model, preprocessing=p))
    read = transformers_config.preprocessing(written)
    assert (read.geometry, read.size) == (geometry, size)
    assert math.floor(size / read.crop_pct) == math.floor(size / crop_pct)
    assert read.interpolation == p.interpolation
    np.testing.assert_allclose((read.mean, read.std), (p.mean, p.std), rtol=1e-6)


@pytest.fixture(scope="module")
def vision_transformer(tmp_path_factory):
    """ViT-Ti/16 with random weights and positions for 96 px, which takes images of 64 px."""
    return positioned(tmp_path_factory.mktemp("vit"))


def positioned(folder):
    network = registry.build("vit_tiny_patch16", num_classes=3, grid=6)
    variables = jax.device_get(random_variables(network, size=96))
    load.save(variables, folder / "vit.safetensors", "timm_vit")
    (folder / "classes.txt").write_text("cat\ndog\nemu")
    loaded = inference.load(
        folder / "vit.safetensors",
        like="vit_tiny_patch16.deit",
        classes=str(folder / "classes.txt"),
    )
    p = dataclasses.replace(loaded.preprocessing, size=64)
    return dataclasses.replace(loaded, preprocessing=p)


@pytest.fixture
def two_blocks(tmp_path):
    """The same with two blocks."""
    with shallow("vit_tiny_patch16"):
        yield positioned(tmp_path)


def test_a_vision_transformer_is_written_with_positions_of_its_images(two_blocks, tmp_path):
    pixels = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    network = two_blocks.network
    expected = jax.jit(network.model.apply)(network.variables, pixels)["logits"]
    for kind, config in (
        (
            "timm",
            {
                "architecture": "vit_tiny_patch16_224",
                "model_args": {"img_size": 64, "global_pool": "token"},
            },
        ),
        ("transformers", {"model_type": "vit", "image_size": 64, "layer_norm_eps": 1e-6}),
    ):
        export.write(two_blocks, kind, tmp_path / kind)
        written = json.loads((tmp_path / kind / "config.json").read_text())
        assert written.items() >= config.items()
        again = load_weights(str(tmp_path / kind))
        assert (again.model.grid, again.spec.classes) == (4, ("cat", "dog", "emu"))
        found = jax.jit(again.model.apply)(again.variables, pixels)["logits"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="vit_tiny_patch16 cannot be written for torchvision; exp"):
        export.write(two_blocks, "torchvision", tmp_path / "torchvision")


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["timm", "transformers"])
def test_other_libraries_load_a_vision_transformer(vision_transformer, tmp_path, kind):
    torch = pytest.importorskip("torch")
    export.write(vision_transformer, kind, tmp_path)
    pixels = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    network = vision_transformer.network
    expected = jax.jit(network.model.apply)(network.variables, pixels)["logits"]
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        if kind == "timm":
            timm = pytest.importorskip("timm")
            theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
            found = theirs(inputs).numpy()
        else:
            transformers = pytest.importorskip("transformers")
            theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path).eval()
            assert theirs.config.id2label == {0: "cat", 1: "dog", 2: "emu"}
            found = theirs(inputs).logits.numpy()
            transformers.AutoImageProcessor.from_pretrained(tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vit_base_patch16_siglip.webli", {"grid": 6}),
        ("vit_small_plus_patch16_dinov3.lvd1689m", {}),
        ("vit_small_patch16_dinov3.lvd1689m", {"qkv_bias": True}),
    ],
)
def test_timm_loads_siglip_and_dinov3(name, arguments, tmp_path):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    backbone, file = name.split(".")[0], tmp_path / "x.safetensors"
    network = registry.build(backbone, num_classes=3, **arguments)
    variables = jax.device_get(random_variables(network, size=96))
    load.save(variables, file, registry.get(backbone).schemes[0])
    (tmp_path / "classes.txt").write_text("cat\ndog\nemu")
    loaded = inference.load(file, like=name, classes=str(tmp_path / "classes.txt"))
    p = dataclasses.replace(loaded.preprocessing, size=64)
    export.write(dataclasses.replace(loaded, preprocessing=p), "timm", tmp_path / "timm")
    pixels = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    expected = jax.jit(loaded.network.model.apply)(loaded.network.variables, pixels)["logits"]
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    with torch.no_grad():
        found = theirs(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    again = load_weights(str(tmp_path / "timm"))
    assert again.backbone.name == backbone and again.spec.classes == ("cat", "dog", "emu")
    with pytest.raises(UserError, match=f"{backbone}.* cannot be written for transformers; exp"):
        export.write(loaded, "transformers", tmp_path / "transformers")


@pytest.mark.parametrize("name", ["convnext_base", "convnextv2_tiny"])
def test_the_config_of_a_convnext_says_all_of_it(name):
    module = registry.build(name, pooled_epsilon=1e-12)
    config = torch_formats._transformers_convnext(module, 224)
    assert transformers_config.network(config) == (name, {"pooled_epsilon": 1e-12})


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("convnext_tiny.fb", "torchvision"),
        ("convnextv2_tiny.fcmae_ft", "timm"),
        ("convnextv2_tiny.fcmae_ft", "transformers"),
    ],
)
def test_other_libraries_load_a_convnext(name, kind, tmp_path):
    torch = pytest.importorskip("torch")
    backbone = name.split(".")[0]
    network = registry.build(backbone, num_classes=3)
    variables = jax.device_get(random_variables(network))
    load.save(variables, tmp_path / "x.safetensors", "timm_convnext")
    (tmp_path / "classes.txt").write_text("cat\ndog\nemu")
    classes = str(tmp_path / "classes.txt")
    model = inference.load(tmp_path / "x.safetensors", like=name, classes=classes)
    pixels = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    expected = jax.jit(network.apply)(variables, pixels)["logits"]
    folder = tmp_path / kind
    export.write(model, kind, folder)
    if kind != "torchvision":
        again = load_weights(str(folder))
        assert (again.backbone.name, again.spec.classes) == (backbone, ("cat", "dog", "emu"))
        assert again.spec.model_args == {}
    match kind:
        case "timm":
            timm = pytest.importorskip("timm")
            theirs = timm.create_model(f"local-dir:{folder}", pretrained=True)
        case "transformers":
            transformers = pytest.importorskip("transformers")
            theirs = transformers.ConvNextV2ForImageClassification.from_pretrained(folder)
        case _:
            torchvision = pytest.importorskip("torchvision")
            from safetensors.torch import load_file

            theirs = torchvision.models.convnext_tiny(num_classes=3)
            theirs.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    with torch.no_grad():
        found = theirs.eval()(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    found = getattr(found, "logits", found).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if backbone == "convnextv2_tiny":
        with pytest.raises(UserError, match="convnextv2_tiny cannot be written for torchvision"):
            export.write(model, "torchvision", tmp_path / "torchvision")


@pytest.mark.peers
def test_timm_reads_a_fine_tuned_lite0_and_transformers_has_none(tmp_path):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    public = load_weights("efficientnet_lite0")
    params = {**public.variables["params"]}
    rng = np.random.default_rng(4)
    params["head"] = {
        "kernel": rng.normal(0, 0.05, (1280, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
    }
    variables = {**public.variables, "params": params}
    classes, file = ("cat", "dög", "emu"), tmp_path / "model.safetensors"
    spec = dataclasses.replace(public.spec, num_classes=3)
    trained.save(jax.device_get(variables), file, spec, classes, public.sha256, 1.5)
    model = inference.load(file)
    images = rng.integers(0, 256, (3, 300, 280, 3), np.uint8)
    squares = np.stack([host_transform(image, model.preprocessing) for image in images])
    expected = model.predict([Image.fromarray(image) for image in images]).probabilities
    export.write(model, "timm", tmp_path / "timm")
    network = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    assert network.pretrained_cfg["label_names"] == list(classes)
    inputs = np.asarray(normalise(jnp.asarray(squares), model.preprocessing)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        found = torch.softmax(network(torch.from_numpy(inputs.copy())), 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="efficientnet_lite0 cannot be written for transformers"):
        export.write(model, "transformers", tmp_path / "transformers")
    assert not (tmp_path / "transformers").exists()


def test_a_sigmoid_is_read_again(tmp_path):
    network = registry.build("resnet18", num_classes=3)
    spec = dataclasses.replace(catalog.get("resnet18.tv1"), link="sigmoid", num_classes=3)
    variables = jax.device_get(random_variables(network, size=32))
    trained.save(variables, tmp_path / "x.safetensors", spec, ("a", "b", "c"))
    model = inference.load(str(tmp_path / "x.safetensors"))
    for kind in torch_formats.FORMATS:
        export.write(model, kind, tmp_path / kind)
        assert inference.load(str(tmp_path / kind)).network.spec.link == "sigmoid"
