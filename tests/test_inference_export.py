import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tl.data.transforms import host_transform, normalise
from tl.errors import UserError
from tl.files import partial_name
from tl.inference import export
from tl.inference import model as inference
from tl.models.backbone import FINAL
from tl.probes.heads import Linear

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network of three classes, for squashed images of 16 pixels."""
    with tiny.registered():
        yield inference.load(
            tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
        )


def probe_of(model, endpoint):
    """Returns the model as a probe of an endpoint with random weights."""
    parts = tuple(endpoint.split("+"))
    width = sum(model.widths(parts).values())
    rng = np.random.default_rng(1)
    head = Linear(
        rng.normal(size=(width, 2)).astype(np.float32), rng.normal(size=2).astype(np.float32)
    )
    return dataclasses.replace(
        model, endpoint=endpoint, head=head, classes=("a", "b"), temperature=2.0,
        extraction=model.extracting(parts, "mean"),
    )  # fmt: skip


@pytest.mark.parametrize("endpoint", ["logits", "stem+stage1"])
def test_stablehlo_computes_what_the_model_predicts(model, endpoint, tmp_path):
    exported = model if endpoint == "logits" else probe_of(model, endpoint)
    files = export.write(exported, "stablehlo", tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["classes"] == list(exported.classes)
    assert described["input"] == "uint8 [batch, 16, 16, 3]"
    assert described["preprocessing_inside"] == ["normalise"]
    assert described["temperature"] == exported.temperature
    function = jax.export.deserialize(files[0].read_bytes())
    assert function.platforms == ("cpu", "cuda", "tpu")
    expected = exported.predict(IMAGES).probabilities
    for count in (1, 2, 5):  # the batch is symbolic
        found = function.call(IMAGES[:count])
        np.testing.assert_allclose(found["probabilities"], expected[:count], rtol=1e-4, atol=1e-6)


def test_stablehlo_resizes_inside(model, tmp_path):
    p = dataclasses.replace(model.preprocessing, geometry="resize_crop", crop_pct=0.8)
    resizing = dataclasses.replace(model, preprocessing=p)
    (file, _) = export.write(resizing, "stablehlo", tmp_path, export.Inputs((24, 30)))
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["input"] == "uint8 [batch, 24, 30, 3]"
    assert described["preprocessing_inside"] == ["resize", "crop", "normalise"]
    images = np.random.default_rng(2).integers(0, 256, (3, 24, 30, 3), np.uint8)
    found = jax.export.deserialize(file.read_bytes()).call(images)
    expected = resizing.predict(images).probabilities
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-4, atol=1e-6)


def test_stablehlo_takes_normalised_images(model, tmp_path):
    p = dataclasses.replace(
        model.preprocessing, mean=(10.0, 20.0, 30.0), std=(4.0, 5.0, 6.0), channels="BGR"
    )
    bgr = dataclasses.replace(model, preprocessing=p)
    (file, _) = export.write(bgr, "stablehlo", tmp_path, export.Inputs(normalised=True))
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["input"] == "float32 [batch, 16, 16, 3]"
    assert described["preprocessing_inside"] == []
    assert described["preprocessing"]["mean"] == [10.0, 20.0, 30.0]
    assert described["preprocessing"]["std"] == [4.0, 5.0, 6.0]
    assert (described["preprocessing"]["size"], described["preprocessing"]["channels"]) == (
        16,
        "BGR",
    )
    images = (IMAGES[..., ::-1] - np.float32([10, 20, 30])) / np.float32([4, 5, 6])
    found = jax.export.deserialize(file.read_bytes()).call(images)
    expected = bgr.predict(IMAGES).probabilities
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-4, atol=1e-6)


def test_normalised_images_are_not_resized():
    with pytest.raises(UserError, match="normalised images are resized already; leave their size"):
        export.Inputs((3, 4), normalised=True)


def test_what_a_format_cannot_hold(model, tmp_path):
    with pytest.raises(UserError, match="acts on the endpoint 'stem'; the formats of torch hold"):
        export.write(probe_of(model, "stem"), "timm", tmp_path / "x")
    with pytest.raises(UserError, match="resnet_tiny cannot be written for transformers; exp"):
        export.write(model, "transformers", tmp_path / "x")
    pixels = dataclasses.replace(probe_of(model, "stem"), image_shape=(8, 8, 3))
    with pytest.raises(UserError, match="a probe of pixels has no network to export"):
        export.write(pixels, "stablehlo", tmp_path / "x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file cannot be written: "):
        export.write(model, "stablehlo", tmp_path / "file")
    with pytest.raises(UserError, match="has no head, so it names no classes"):
        export.write(dataclasses.replace(model, classes=()), "timm", tmp_path / "x")
    processing = dataclasses.replace(model.preprocessing, channels="BGR")
    with pytest.raises(UserError, match="these weights take BGR images; export them as"):
        export.write(dataclasses.replace(model, preprocessing=processing), "timm", tmp_path / "x")
    assert list((tmp_path).iterdir()) == [tmp_path / "file"]


@pytest.mark.peers
def test_timm_and_onnx_runtime_say_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    model = inference.load("efficientnet_lite0")
    images = np.random.default_rng(3).integers(0, 256, (3, 300, 280, 3), np.uint8)
    squares = np.stack([host_transform(image, model.preprocessing) for image in images])
    expected = model.predict([Image.fromarray(image) for image in images]).probabilities
    (file, _) = export.write(model, "onnx", tmp_path / "onnx")
    session = onnxruntime.InferenceSession(file)
    for count in (1, 3):
        _, found = session.run(None, {session.get_inputs()[0].name: squares[:count]})
        np.testing.assert_allclose(found, expected[:count], rtol=1e-4, atol=1e-6)
    export.write(model, "timm", tmp_path / "timm")
    network = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    assert network.pretrained_cfg["label_names"] == list(model.classes)
    inputs = np.asarray(normalise(jnp.asarray(squares), model.preprocessing)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        found = torch.softmax(network(torch.from_numpy(inputs.copy())), 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize(
    "inputs, images",
    [
        (export.Inputs(), IMAGES),
        (export.Inputs((24, 30)), np.random.default_rng(2).integers(0, 256, (3, 24, 30, 3), "u1")),
        (export.Inputs(normalised=True), IMAGES),
    ],
)
def test_onnx_computes_what_the_model_predicts(model, inputs, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    p = dataclasses.replace(model.preprocessing, geometry="resize_crop", crop_pct=0.8)
    resizing = dataclasses.replace(model, preprocessing=p) if inputs.image_size else model
    files = export.write(resizing, "onnx", tmp_path, inputs)
    assert sorted(tmp_path.iterdir()) == sorted(files)  # the weights are in the one file
    session = onnxruntime.InferenceSession(files[0])
    assert [one.name for one in session.get_outputs()] == ["logits", "probabilities"]
    expected = resizing.predict(images).probabilities
    if inputs.normalised:
        images = np.asarray(normalise(jnp.asarray(images), model.preprocessing))
    for count in (1, 3):
        _, found = session.run(None, {"images": images[:count]})
        np.testing.assert_allclose(found, expected[:count], rtol=1e-4, atol=1e-6)


@pytest.mark.peers
def test_an_onnx_file_that_computes_something_else_is_an_error(model, tmp_path):
    pytest.importorskip("jax2onnx")
    (file, _) = export.write(model, "onnx", tmp_path)
    spec = export.Inputs().spec(model, 2)
    export._check_onnx(file, export.classify(model, export.Inputs()), spec)
    wrong = export.classify(
        dataclasses.replace(
            model, preprocessing=dataclasses.replace(model.preprocessing, channels="BGR")
        ),
        export.Inputs(),
    )
    with pytest.raises(UserError, match=r"jax2onnx [\d.]+ wrote a program with other logits: they"):
        export._check_onnx(file, wrong, spec)


@pytest.mark.peers
def test_onnx_holds_a_head_of_zeros(model, tmp_path):
    pytest.importorskip("jax2onnx")
    zeros = Linear(np.zeros((16, 2), np.float32), np.zeros(2, np.float32))
    probed = dataclasses.replace(probe_of(model, FINAL), head=zeros)
    assert export.write(probed, "onnx", tmp_path)[0].exists()


@pytest.mark.parametrize("there", [{"seeds": [0], "weights": "x"}, {"model_type": "resnet"}, []])
def test_no_run_and_no_network_is_replaced(model, there, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(there))
    with pytest.raises(UserError, match=r"holds a config\.json that no export wrote"):
        export.write(model, "stablehlo", tmp_path, overwrite=True)
    assert json.loads((tmp_path / "config.json").read_text()) == there
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_an_earlier_export_is_replaced_where_that_is_asked_for_and_whole(model, tmp_path):
    probed = probe_of(model, FINAL)
    export.write(probed, "torchvision", tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    before = (tmp_path / "config.json").read_text()
    for kind in ("torchvision", "stablehlo"):
        with pytest.raises(UserError, match=r"holds an export; give another --output, or --overwr"):
            export.write(probed, kind, tmp_path)
    with pytest.raises(UserError, match="acts on the endpoint 'stem'"):  # and leaves what is there
        export.write(probe_of(model, "stem"), "timm", tmp_path, overwrite=True)
    assert (tmp_path / "config.json").read_text() == before
    files = export.write(probed, "stablehlo", tmp_path, overwrite=True)
    assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / "notes.txt"])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_no_export_describes_is_not_replaced(model, overwrite, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"holds model\.safetensors and no config\.json"):
        export.write(probe_of(model, FINAL), "torchvision", tmp_path, overwrite=overwrite)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "head.safetensors", "checkpoints"])
def test_no_export_stands_beside_another_network(model, name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"holds {name}, so a run or another network"):
        export.write(probe_of(model, FINAL), "torchvision", tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_exported_is_not_replaced(model, tmp_path):
    export.write(probe_of(model, FINAL), "torchvision", tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    for source in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(UserError, match="holds what is to be exported; give another --output"):
            export.write(inference.load(str(source)), "stablehlo", tmp_path, overwrite=True)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_what_a_killed_export_left_goes_and_nothing_else(model, tmp_path):
    partial_name(tmp_path / "out" / "export").mkdir(parents=True)
    mine = tmp_path / "out" / ".export.mine"
    mine.mkdir()
    files = export.write(probe_of(model, FINAL), "torchvision", tmp_path / "out")
    assert sorted((tmp_path / "out").iterdir()) == sorted([*files, mine])
    with pytest.raises(UserError, match="acts on the endpoint 'stem'"):
        export.write(probe_of(model, "stem"), "timm", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_kill_leaves_no_half_of_a_program(model, tmp_path, monkeypatch):
    export.write(model, "stablehlo", tmp_path)
    whole = (tmp_path / "model.stablehlo").read_bytes()
    write_bytes = Path.write_bytes

    def killed(path, data):
        write_bytes(path, data[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        export.write(model, "stablehlo", tmp_path, overwrite=True)
    assert (tmp_path / "model.stablehlo").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.stablehlo"]
