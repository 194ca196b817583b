import dataclasses
import hashlib
import json
import logging
import pathlib
import stat

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.networks import random_variables, shallow
from tl import tree
from tl.errors import UserError
from tl.models import registry
from tl.weights import catalog, convert, load, tables, trained
from tl.weights.spec import Url

GOLDEN = pathlib.Path(__file__).parent / "golden"
CLASSES = 10


@pytest.fixture(scope="module")
def variables():
    """ResNet-18 with a head of ten classes; each tensor holds its own number."""
    shapes = convert.shapes(registry.build("resnet18", num_classes=CLASSES))
    leaves, structure = jax.tree.flatten(shapes)
    values = [np.full(leaf.shape, i, np.float32) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, values)


@pytest.fixture(scope="module")
def file(variables, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    load.save(variables, path)
    return path


def test_a_saved_file_loads_again(file, variables):
    network = load.load(str(file), like="resnet18.a1")
    assert jax.tree.all(jax.tree.map(np.array_equal, network.variables, variables))
    assert network.model.num_classes == network.spec.num_classes == CLASSES
    assert len(network.sha256) == 64


def test_a_local_file_takes_the_preprocessing_and_not_the_accuracy(file):
    spec = load.load(str(file), like="resnet18.a1").spec
    assert spec.preprocessing == catalog.get("resnet18.a1").preprocessing
    assert (spec.name, spec.top1, spec.licence) == (str(file), None, "")
    assert (catalog.get("resnet18.a1").link, spec.link) == ("sigmoid", "softmax")


def test_a_file_that_does_not_tell_its_preprocessing(file):
    message = (
        r"model\.safetensors: it holds a resnet18 and .*"
        r"`weights_like=resnet18\.tv1`.*resnet18\.gluon"
    )
    with pytest.raises(UserError, match=message):
        load.load(str(file))


def remove_what_is_read(monkeypatch):
    """Makes a file vanish once its bytes were read, so whatever opens it again fails."""
    read_bytes = pathlib.Path.read_bytes

    def read_and_remove(path):
        data = read_bytes(path)
        path.unlink()
        return data

    monkeypatch.setattr(pathlib.Path, "read_bytes", read_and_remove)


def test_a_local_file_is_read_once(variables, tmp_path, monkeypatch):
    remove_what_is_read(monkeypatch)
    path = tmp_path / "plain.safetensors"
    load.save(variables, path)
    network = load.load(str(path), like="resnet18.a1")
    assert jax.tree.all(jax.tree.map(np.array_equal, network.variables, variables))
    path = tmp_path / "own.safetensors"
    trained.save(variables, path, catalog.get("resnet18.a1"), tuple("abcdefghij"))
    assert load.load(str(path)).spec.classes == tuple("abcdefghij")
    assert not any(tmp_path.iterdir())


def test_a_cached_file_is_checked_and_read_once(file, tmp_path, monkeypatch):
    data = file.read_bytes()
    remove_what_is_read(monkeypatch)
    sha256 = hashlib.sha256(data).hexdigest()
    spec = dataclasses.replace(
        catalog.get("resnet18.tv1"), source=Url("http://nowhere.invalid/cached.pth", sha256)
    )
    monkeypatch.setattr(catalog, "get", lambda name: spec)
    cached = tmp_path / "cached.pth"
    cached.write_bytes(data)
    assert load.load("resnet18.tv1", cache_dir=str(tmp_path)).sha256 == sha256
    assert not cached.exists()
    cached.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cached\.pth is not the publisher's file"):
        load.load("resnet18.tv1", cache_dir=str(tmp_path))


def test_a_directory_stands_for_its_model(file):
    assert load.load(str(file.parent), like="resnet18.tv1").spec.name == str(file)


def hub_folder(folder, tensors, id2label=("LABEL_0",)):
    """Writes a folder of transformers, its tensors divided over two files."""
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, own in parts.items():
        safetensors.numpy.save_file({name: tensors[name] for name in own}, folder / part)
    weight_map = {name: part for part, own in parts.items() for name in own}
    config = {
        "model_type": "resnet",
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
        "layer_type": "basic",
        "id2label": dict(enumerate(id2label)),
    }
    processor = {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 96},
        "crop_pct": 0.75,
        "resample": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    for name, content in (
        ("model.safetensors.index.json", {"weight_map": weight_map}),
        ("config.json", config),
        ("preprocessor_config.json", processor),
    ):
        (folder / name).write_text(json.dumps(content))


def test_a_folder_of_transformers_says_all_itself(variables, tmp_path):
    tensors = convert.from_variables(variables, "huggingface")
    hub_folder(tmp_path, tensors, "abcdefghij")
    network = load.load(str(tmp_path))
    assert jax.tree.all(jax.tree.map(np.array_equal, network.variables, variables))
    assert network.spec.classes == tuple("abcdefghij") and network.spec.name == str(tmp_path)
    preprocessing = network.spec.preprocessing
    assert (preprocessing.size, preprocessing.crop_pct) == (96, 0.75)
    assert len(network.sha256) == 64
    load.save(variables, tmp_path / "other.safetensors", scheme="huggingface")
    with pytest.raises(UserError, match="does not say how its images were made"):
        load.load(str(tmp_path / "other.safetensors"))
    (tmp_path / "other.safetensors").rename(tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        spec = load.load(str(path)).spec
        assert (spec.preprocessing, spec.classes) == (preprocessing, tuple("abcdefghij"))
    (tmp_path / "model.safetensors").unlink()
    spec = load.load(str(tmp_path), like="resnet18.tv1").spec
    assert (spec.preprocessing.size, spec.classes) == (224, tuple("abcdefghij"))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weight file at .*b\.safetensors"):
        load.load(str(tmp_path))


def test_a_network_with_the_same_tensors_is_refused_although_a_set_is_named(variables, tmp_path):
    load.save(variables, tmp_path / "model.safetensors")
    config = {"architecture": "resnetblur18", "pretrained_cfg": {"input_size": [3, 224, 224]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json says resnetblur18, .*not known here"):
        load.load(str(tmp_path), like="resnet18.a1")


def test_a_published_file_of_another_network_is_refused(file, monkeypatch):
    start = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(tables, "SAME_TENSORS", f"resnetaa50.a1h_in1k {start}")
    with pytest.raises(
        UserError, match=r"model\.safetensors: it holds timm's resnetaa50\.a1h_in1k"
    ):
        load.load(str(file), like="resnet18.a1")


def test_a_folder_of_a_headless_network_names_no_classes(variables, tmp_path):
    tensors = convert.from_variables(variables, "huggingface")
    headless = {
        name.removeprefix("resnet."): value
        for name, value in tensors.items()
        if not name.startswith("classifier")
    }
    hub_folder(tmp_path, headless, "ab")
    spec = load.load(str(tmp_path)).spec
    assert (spec.num_classes, spec.classes) == (0, ())


def test_a_part_that_holds_what_another_holds(variables, tmp_path):
    hub_folder(tmp_path, convert.from_variables(variables, "huggingface"))
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"b\.safetensors: another part of the model holds 'class"):
        load.load(str(tmp_path))


def test_a_published_file_is_recognised(file, monkeypatch):
    monkeypatch.setattr(catalog, "recognise", lambda sha256, md5: catalog.get("resnet18.a1"))
    assert load.load(str(file)).spec.name == "resnet18.a1"
    assert load.load(str(file), like="resnet18.tv1").spec.preprocessing.crop_pct == 0.875


def test_another_number_of_classes_needs_drop_head(file):
    with pytest.raises(UserError, match=r"has 10 classes, expected 3; drop_head=True"):
        load.load(str(file), like="resnet18.tv1", num_classes=3)
    network = load.load(str(file), like="resnet18.tv1", num_classes=3, drop_head=True)
    head = network.variables["params"]["head"]
    assert head["kernel"].shape == (512, 3) and not head["kernel"].any() and not head["bias"].any()
    assert network.spec.num_classes == network.model.num_classes == 3


def test_drop_head_alone_leaves_none(file):
    network = load.load(str(file), like="resnet18.tv1", drop_head=True)
    assert network.model.num_classes == 0 and "head" not in network.variables["params"]


def test_the_wrong_depth_lists_what_differs(file):
    with pytest.raises(
        UserError, match=r"model\.safetensors: the file's tensors(.|\n)*missing from the file"
    ):
        load.load(str(file), like="resnet34.tv1")


def test_a_self_supervised_checkpoint(file, tmp_path):
    tensors = safetensors.numpy.load_file(file)
    backbone = {k: v for k, v in tensors.items() if not k.startswith("fc.")}
    moco = {f"state_dict/module.encoder_q.{k}": v for k, v in backbone.items()}
    moco["state_dict/module.queue"] = np.zeros((2, 2), np.float32)
    path = tmp_path / "moco.safetensors"
    safetensors.numpy.save_file(moco, path)
    with pytest.raises(UserError, match="needs its prefix rule"):
        load.load(str(path), like="resnet18.tv1")
    network = load.load(str(path), like="resnet18.tv1", prefix="moco")
    assert network.spec.num_classes == 0 and "head" not in network.variables["params"]


def test_a_checkpoint_says_what_was_stripped_and_left_out(file, tmp_path, caplog):
    tensors = safetensors.numpy.load_file(file)
    raw = {f"model/module.{k}": v for k, v in tensors.items()}
    averaged = {f"model_ema/{k}": np.full_like(v, 7) for k, v in tensors.items()}
    path = str(tmp_path / "x.safetensors")
    safetensors.numpy.save_file(raw | averaged, path)
    with caplog.at_level(logging.INFO):
        network = load.load(path, like="resnet18.tv1")
    assert caplog.messages == [
        f"{path}: stripped 'model/module.' from the names; read the raw weights "
        "(`weights_average=ema` takes the averaged, 'model_ema/'); left out model_ema"
    ]
    expected = load.load(str(file), like="resnet18.tv1").variables
    assert jax.tree.all(jax.tree.map(np.array_equal, network.variables, expected))
    ema = load.load(path, like="resnet18.tv1", average="ema")
    assert all((leaf == 7).all() for leaf in jax.tree.leaves(ema.variables))
    assert network.sha256 != ema.sha256 == tree.digest(ema.variables)


def test_averages_that_cannot_be_had(file, tmp_path):
    with pytest.raises(UserError, match=r"^weights_average: expected '' or 'ema', got 'swa'"):
        load.load(str(file), average="swa")
    with pytest.raises(
        UserError, match=r"^weights_average: cannot be given beside `weights_prefix`"
    ):
        load.load(str(file), average="ema", prefix="moco")
    with pytest.raises(UserError, match=r"model\.safetensors: `weights_average=ema` expects"):
        load.load(str(file), like="resnet18.tv1", average="ema")
    with pytest.raises(UserError, match=r"lite0.*: leave `weights_average` out: it holds one"):
        load.load("efficientnet_lite0", average="ema")


def test_one_of_several_networks_by_the_start_of_its_names(file, tmp_path):
    tensors = safetensors.numpy.load_file(file)
    both = {f"{n}.{k}": v for n in ("student", "teacher") for k, v in tensors.items()}
    path = str(tmp_path / "x.safetensors")
    safetensors.numpy.save_file(both, path)
    with pytest.raises(UserError, match=r"such as `weights_prefix=student\.`"):
        load.load(path, like="resnet18.tv1")
    assert load.load(path, like="resnet18.tv1", prefix="teacher.").spec.num_classes == CLASSES


def test_a_foreign_head_does_not_stop_features(file, tmp_path, caplog):
    tensors = safetensors.numpy.load_file(file)
    backbone = {k: v for k, v in tensors.items() if not k.startswith("fc.")}
    linear = {"fc.1.weight": tensors["fc.weight"], "fc.1.bias": tensors["fc.bias"]}
    path = str(tmp_path / "x.safetensors")
    safetensors.numpy.save_file(backbone | linear, path)
    network = load.load(path, like="resnet18.tv1")
    expected = load.load(str(file), like="resnet18.tv1").variables
    assert jax.tree.all(jax.tree.map(np.array_equal, network.variables, expected))
    safetensors.numpy.save_file(backbone | linear | {"fc.3.weight": tensors["fc.weight"]}, path)
    (tmp_path / "classes.txt").write_text("cat\ndog")
    network = load.load(path, like="resnet18.tv1", classes=str(tmp_path / "classes.txt"))
    assert network.spec.num_classes == 0 and "head" not in network.variables["params"]
    assert "left out fc: only one linear layer on the 512 features" in caplog.text
    with pytest.raises(UserError, match="its head has 0 classes, expected 3"):
        load.load(path, like="resnet18.tv1", num_classes=3)


def test_non_commercial_weights_say_so(file, caplog):
    with caplog.at_level(logging.WARNING):
        spec = load.load(str(file), like="resnet18.fb_swsl").spec
    assert "CC-BY-NC-4.0: NOT for commercial use" in caplog.text
    assert spec.non_commercial


def test_a_position_table_says_for_what_size_it_is(tmp_path):
    model = registry.build("vit_tiny_patch16", num_classes=3, grid=6)
    variables = jax.device_get(random_variables(model, size=96))
    path = tmp_path / "model.safetensors"
    load.save(variables, path, "timm_vit")
    network = load.load(str(path), like="vit_tiny_patch16.deit")
    assert (network.model.grid, network.spec.preprocessing.size) == (6, 224)
    assert network.spec.model_args == {"grid": 6}
    for size in (96, 48):
        images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
        outputs = jax.eval_shape(network.model.apply, network.variables, images)
        assert outputs["block12"].shape == (1, (size // 16) ** 2 + 1, 192)
    with pytest.raises(UserError, match=r"such as `weights_like=vit_tiny_patch16\.augreg_in21k`"):
        load.load(str(path))
    tensors = {**convert.from_variables(variables, "timm_vit"), "mask_token": np.ones((1, 192))}
    del tensors["pos_embed"]
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(UserError, match=r"1 missing from the file:\n  pos_embed"):
        load.load(str(path), like="vit_tiny_patch16.deit")


def test_a_head_that_is_no_classifier_is_left_out(tmp_path, monkeypatch):
    """As CLIP's projection in its published file; a file of one's own keeps its head."""
    model = registry.build("vit_tiny_patch16", num_classes=7, grid=2)
    variables = jax.device_get(random_variables(model, size=32))
    path = tmp_path / "model.safetensors"
    load.save(variables, path, "timm_vit")
    public = dataclasses.replace(catalog.get("vit_tiny_patch16.deit"), num_classes=0)
    assert load.load(str(path), like="vit_tiny_patch16.deit").spec.num_classes == 7
    monkeypatch.setattr(catalog, "recognise", lambda sha256, md5: public)
    network = load.load(str(path))
    assert (network.spec.num_classes, network.model.num_classes) == (0, 0)
    assert "head" not in network.variables["params"]


def test_clips_projection_is_no_head(tmp_path):
    name = "vit_base_patch32_clip"

    def loaded(classes, bias):
        model = registry.build(name, num_classes=classes, grid=1)
        shapes = convert.shapes(model, 32)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
        zeros["params"]["head"]["bias"] += bias
        load.save(zeros, tmp_path / "x.safetensors", "timm_vit")
        network = load.load(str(tmp_path / "x.safetensors"), like=f"{name}.openai")
        return network.spec.num_classes

    with shallow(name):
        assert loaded(512, 0) == 0
        assert (loaded(512, 1), loaded(3, 0)) == (512, 3)  # classifiers


def test_the_position_of_the_class_token_goes_into_the_token():
    """Where the network adds none, as transformers' DINOv2 with registers does."""
    spec = catalog.get("vit_small_patch14_reg4.dinov2")
    scheme = "huggingface_dinov2_with_registers"
    spec = dataclasses.replace(spec, scheme=scheme)
    root = "dinov2_with_registers.embeddings"
    cls, table = np.full((1, 1, 2), 3.0), np.arange(10.0).reshape(1, 5, 2)
    file = {f"{root}.cls_token": cls, f"{root}.position_embeddings": table}
    found = load._without_cls_position(spec, file)
    np.testing.assert_array_equal(found[f"{root}.cls_token"], [[[3, 4]]])
    np.testing.assert_array_equal(found[f"{root}.position_embeddings"], table[:, 1:])
    assert load._with_grid(spec, found).model_args == {"grid": 2}
    again = load._without_cls_position(spec, found)  # of timm, which has none
    np.testing.assert_array_equal(again[f"{root}.cls_token"], [[[3, 4]]])
    plain = dataclasses.replace(catalog.get("vit_small_patch14.dinov2"), scheme=scheme)
    assert load._without_cls_position(plain, file) is file


def test_a_file_says_whether_dinov3_has_biases():
    spec = catalog.get("vit_small_patch16_dinov3.lvd1689m")
    tensors = {"blocks.0.attn.q_bias": np.zeros(384)}
    biased = load._with_biases(spec, tensors)
    assert biased.model_args == {"qkv_bias": True}
    assert load._with_biases(biased, {}).model_args == {}
    other = catalog.get("vit_small_patch16.dino")
    assert load._with_biases(other, tensors) is other


def test_a_network_that_is_no_backbone_here():
    with pytest.raises(UserError, match=r"kernels .*are those of no backbone here"):
        load.load(str(GOLDEN / "keras.keras"))


def test_names_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no weight file at ~nobody-here/x"):
        load.load("~nobody-here/x")
    with pytest.raises(UserError, match=r"resnet18\.tv2' and no file or run is there; the near"):
        load.load("resnet18.tv2")
    with pytest.raises(UserError, match=r"no weight file at .*; a folder needs model\.safetensors"):
        load.load(f"{tmp_path}/")
    with pytest.raises(UserError, match=r"no weight file at .*nothing\.pth"):
        load.load(str(tmp_path / "nothing.pth"))
    (tmp_path / "flowers").mkdir()
    with pytest.raises(UserError, match=r"no run and no weight file at .*; the nearest are 'flow"):
        load.load(str(tmp_path / "flower"))
    with pytest.raises(UserError, match=r"/new; nothing there has a name like it$"):
        load.load(str(tmp_path / "new"))
    with pytest.raises(UserError, match=r"there is no folder .*/new either$"):
        load.load(str(tmp_path / "new/run"))


@pytest.mark.parametrize(
    "kind, message",
    [
        ("probe", r"is a run of probe, but its head\.safetensors is not there; restore that file,"),
        ("finetune", r"is a run of finetune, but its model\.safetensors is not there; restore"),
        ("extract", r"is a run of extract, which leaves no weights; give one of probe or finetu"),
    ],
)
def test_a_run_without_its_weights(kind, message, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/result.json").write_text(json.dumps({"kind": kind}))
    monkeypatch.chdir(tmp_path)
    for name in ("run", str(tmp_path / "run")):  # a name without a slash may be a set's, too
        with pytest.raises(UserError, match=message):
            load.load(name)


def test_files_that_may_not_be_read_or_written(file, variables, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        load.save(variables, tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    with pytest.raises(
        UserError, match=r"the weight file .*model\.safetensors cannot be read: Permission denied"
    ):
        load.load(str(file))


def test_saved_files_are_whole_and_readable_by_all(file, variables, tmp_path):
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    with pytest.raises(UserError):
        load.save(variables, tmp_path / "x", scheme="keras")
    load.save(variables, tmp_path / "x", scheme="huggingface")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
