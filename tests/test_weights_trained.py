"""Networks trained here, written and loaded again: from a file, a run's folder, a checkpoint."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from absl.testing import flagsaver

from experiments import weights
from tests.networks import shallow
from tl import tree
from tl.errors import UserError
from tl.models import registry
from tl.storage.checkpoint import Checkpoints
from tl.weights import catalog, convert, load, trained
from tl.weights.readers import WeightFile
from tl.weights.spec import LocalFile

CLASSES = ("cat", "dog", "émeu")
# Each came under other names than those written; Keras' is a v1 network that takes BGR.
SPECS = ("resnet18.microsoft", "resnet50.keras", "efficientnet_lite0.timm")


def random_variables(spec, seed=0):
    """Variables of the spec's model, every one of them another number."""
    model = registry.build(spec.backbone, num_classes=len(CLASSES), **spec.model_args)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32), convert.shapes(model)
    )


def assert_same(variables, other):
    assert jax.tree.structure(variables) == jax.tree.structure(other)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, other))


def rewrite(source, target, description=None, drop=()):
    """Copies a file without some tensors, or with another description."""
    with safetensors.safe_open(source, framework="numpy") as file:
        metadata = file.metadata()
    if description is not None:
        metadata["tl"] = description
    tensors = {k: v for k, v in safetensors.numpy.load_file(source).items() if k not in drop}
    safetensors.numpy.save_file(tensors, target, metadata=metadata)


@pytest.fixture(scope="module")
def spec_and_variables():
    spec = catalog.get("resnet18.a1")
    return spec, random_variables(spec)


@pytest.fixture(scope="module")
def file(spec_and_variables, tmp_path_factory):
    spec, variables = spec_and_variables
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    trained.save(variables, path, spec, CLASSES, "ab" * 32)
    return path


@pytest.fixture(scope="module")
def run(spec_and_variables, tmp_path_factory):
    """A run's folder with checkpoints alone: the best at 2, and one with an average at 4."""
    spec, variables = spec_and_variables
    averaged = jax.tree.map(lambda leaf: leaf + 1, variables)
    folder = tmp_path_factory.mktemp("finetune")
    metadata = {"network": trained.describe(spec, CLASSES, "ab" * 32)}
    with Checkpoints(folder / "checkpoints", max_to_keep=1, metric="val/top1") as checkpoints:
        state = {**variables, "opt_state": (None, {"count": np.int32(3)})}
        checkpoints.save(2, {**state, "ema": None}, {}, metadata, {"val/top1": 0.9})
        checkpoints.save(4, {**state, "ema": averaged}, {}, metadata, {"val/top1": 0.8})
    return folder


@pytest.mark.parametrize("name", SPECS)
def test_what_is_saved_is_what_loads(tmp_path, name):
    spec = catalog.get(name)
    path = tmp_path / "x.safetensors"
    with shallow(spec.backbone):
        variables = random_variables(spec)
        trained.save(variables, path, spec, CLASSES)
        network = load.load(str(path))
        model = registry.build(spec.backbone, num_classes=len(CLASSES), **spec.model_args)
    assert_same(network.variables, variables)
    assert network.model == model
    assert network.spec.preprocessing == spec.preprocessing
    assert network.spec.model_args == spec.model_args
    assert network.spec.licence == spec.licence


def test_the_spec_of_a_file(file):
    network = load.load(str(file))
    spec = network.spec
    assert (spec.name, spec.source, spec.classes) == (str(file), LocalFile(str(file)), CLASSES)
    assert (spec.num_classes, spec.top1, spec.top5, spec.measured) == (3, None, None, "")
    assert spec.notes == "trained from resnet18.a1"
    assert network.sha256 == WeightFile(file).checksum()


def test_the_description_is_json_and_comes_back(spec_and_variables):
    spec, _ = spec_and_variables
    preprocessing = dataclasses.replace(spec.preprocessing, size=96, interpolation="bilinear")
    spec = dataclasses.replace(spec, preprocessing=preprocessing)
    description = trained.describe(spec, CLASSES, "ab" * 32)
    assert description["started_from"] == {"name": "resnet18.a1", "sha256": "ab" * 32}
    again = trained.parse_description(json.loads(json.dumps(description)), "x")
    assert again.preprocessing == preprocessing and again.classes == CLASSES


def test_the_link_is_said_where_it_is_not_softmax(spec_and_variables, tmp_path):
    spec, variables = spec_and_variables
    description = trained.describe(dataclasses.replace(spec, link="softmax"), CLASSES)
    assert "link" not in description
    assert trained.parse_description(description, "x").link == "softmax"
    other = dataclasses.replace(spec, link="sigmoid")
    trained.save(variables, tmp_path / "x.safetensors", other, CLASSES)
    assert load.load(str(tmp_path / "x.safetensors")).spec.link == "sigmoid"
    with pytest.raises(UserError, match=r"description of the network is damaged .*'probit'"):
        trained.parse_description({**description, "link": "probit"}, "x")


def test_a_second_training_starts_from_a_file(file, tmp_path):
    network = load.load(str(file))
    trained.save(network.variables, tmp_path / "x", network.spec, CLASSES, network.sha256)
    again = load.load(str(tmp_path / "x"))
    assert again.spec.notes == f"trained from {file}"
    assert_same(again.variables, network.variables)


def test_a_runs_folder_stands_for_its_file(file):
    for name in (str(file.parent), f"{file.parent}/"):
        network = load.load(name)
        assert (network.spec.name, network.spec.classes) == (name, CLASSES)
        assert network.sha256 == WeightFile(file).checksum()


def test_a_head_may_be_dropped_or_checked(file, run):
    for path in (str(file), str(run)):
        with pytest.raises(UserError, match=r"has 3 classes, expected 5; drop_head=True"):
            load.load(path, num_classes=5)
        network = load.load(path, num_classes=5, drop_head=True)
        assert network.variables["params"]["head"]["kernel"].shape == (512, 5)
        assert (network.spec.num_classes, network.spec.classes) == (5, ())
    assert load.load(str(file), num_classes=3).spec.classes == CLASSES
    assert "head" not in load.load(str(file), drop_head=True).variables["params"]


def test_like_takes_the_place_of_the_description(file):
    spec = load.load(str(file), like="resnet18.tv1").spec
    assert spec.preprocessing == catalog.get("resnet18.tv1").preprocessing
    assert (spec.classes, spec.num_classes) == ((), 3)


def test_the_tensors_are_named_as_torchvision_names_them(file, tmp_path):
    output = tmp_path / "converted.safetensors"
    given = {"output": str(output), "scheme": "torchvision"}
    with flagsaver.as_parsed(cache_dir="", like="", prefix="", average="", **given):
        weights.convert(str(file.parent))
    ours, converted = map(safetensors.numpy.load_file, (file, output))
    assert {"conv1.weight", "layer4.1.bn2.running_var", "fc.bias"} < ours.keys()
    assert ours.keys() == converted.keys()
    assert all(np.array_equal(ours[name], converted[name]) for name in ours)


@pytest.mark.parametrize("path, step", [("", 2), ("checkpoints", 2), ("checkpoints/2", 2)])
def test_a_checkpoint_loads(run, spec_and_variables, path, step):
    _, variables = spec_and_variables
    network = load.load(str(run / path))
    assert_same(network.variables, variables)
    assert network.sha256 == tree.digest(variables)
    assert (network.spec.name, network.spec.classes) == (str(run / path), CLASSES)
    assert network.model.num_classes == network.spec.num_classes == 3


def test_the_average_of_a_checkpoint_counts(run, spec_and_variables):
    _, variables = spec_and_variables
    network = load.load(str(run / "checkpoints" / "4"))
    assert_same(network.variables, jax.tree.map(lambda leaf: leaf + 1, variables))
    # The digest is that of the network, whatever is left out of it.
    assert load.load(str(run / "checkpoints" / "4"), drop_head=True).sha256 == network.sha256


def test_the_file_of_a_run_comes_before_its_checkpoints(run, file, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(file)
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    assert load.load(str(tmp_path)).sha256 == WeightFile(file).checksum()


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(UserError, match=r"no weight file at .*model\.safetensors"):
        load.load(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"expected a checkpoint in .*checkpoints; there are: none"):
        load.load(str(tmp_path))


def test_a_checkpoint_of_something_else(tmp_path):
    with Checkpoints(tmp_path, max_to_keep=1, metric="m") as checkpoints:
        checkpoints.save(1, {"a": np.zeros(3)}, {}, {}, None)
    with pytest.raises(UserError, match=f"^{tmp_path}: expected the checkpoint of a network"):
        load.load(str(tmp_path))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: text[:-20], "NoneType"),
        (lambda text: "[]", "list indices"),
        (lambda text: text.replace("licence", "license"), "KeyError.'licence'"),
        (lambda text: text.replace("crop_pct", "crop"), "unexpected keyword argument 'crop'"),
        (lambda text: text.replace('"resnet18"', '"resnet8"'), "no backbone is called 'resnet8'"),
        (lambda text: text.replace('"dog", ', ""), "3 classes and 2 names"),
        (
            lambda text: text.replace('"model_args": {', '"model_args": {"stride": 1'),
            "unexpected keyword argument 'stride'",
        ),
    ],
)
def test_a_damaged_description(file, tmp_path, damage, message):
    with safetensors.safe_open(file, framework="numpy") as opened:
        text = opened.metadata()["tl"]
    damaged = damage(text)
    assert damaged != text
    path = tmp_path / "x.safetensors"
    rewrite(file, path, description=damaged)
    with pytest.raises(UserError, match=f"^{path}: its description .* is damaged .*{message}"):
        load.load(str(path))
    assert load.load(str(path), like="resnet18.a1").spec.num_classes == 3


def test_tensors_that_do_not_fit_the_description(file, tmp_path):
    path = tmp_path / "x.safetensors"
    rewrite(file, path, drop=("layer1.0.conv1.weight",))
    with pytest.raises(UserError, match=r"x\.safetensors: (.|\n)*missing(.|\n)*layer1\.0\.conv1"):
        load.load(str(path))
    rewrite(file, path, drop=("fc.weight", "fc.bias"))
    with pytest.raises(UserError, match="its head has 0 classes, expected the 3 it names"):
        load.load(str(path))
    deeper = json.dumps(trained.describe(catalog.get("resnet34.a1"), CLASSES))
    rewrite(file, path, description=deeper)
    with pytest.raises(UserError, match=r"are not the model's(.|\n)*missing from the file"):
        load.load(str(path))


def test_names_for_every_class(spec_and_variables, tmp_path):
    spec, variables = spec_and_variables
    with pytest.raises(ValueError, match="each of the head's 3 classes, got"):
        trained.save(variables, tmp_path / "x", spec, CLASSES[:2])
    assert not list(tmp_path.iterdir())


def test_other_files_have_no_description(tmp_path, spec_and_variables):
    load.save(spec_and_variables[1], tmp_path / "x")
    metadata = WeightFile(tmp_path / "x").metadata()
    assert metadata == {"format": "pt"} and trained.parse_metadata(metadata, "x") is None
