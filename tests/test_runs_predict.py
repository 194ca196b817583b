import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

import tl
from tests import tiny
from tl.data.listing import Listed, listed
from tl.errors import UserError
from tl.features.store import FeatureStore
from tl.inference import model as inference
from tl.runs import predict
from tl.runs.predict import Wanted

COUNT = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network of three classes, 8 images a batch."""
    with tiny.registered():
        weights = tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
        yield inference.load(weights, batch_size=8)


@pytest.fixture
def images(tmp_path):
    """Forty images, the fourth damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (20, 16 + i, 3), np.uint8)).save(
            folder / f"{i:02}.png"
        )
    (folder / "03.png").write_bytes(b"damaged")
    return folder


TWO = Wanted(top_k=2)


def run(model, images, output, wanted=TWO, **options):
    lines = []
    predict.run(model, listed([str(images)]), wanted, output, log=lines.append, **options)
    return "\n".join(lines)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_is_a_row_in_order(model, images, tmp_path):
    log = run(model, images, tmp_path / "p.csv")
    found = rows(tmp_path / "p.csv")
    paths = sorted(images.iterdir())
    assert [row["path"] for row in found] == list(map(str, paths))
    assert found[3]["error"].startswith("no image of a type that is read: JPEG, PNG, GIF, BMP, ")
    assert found[3]["class_1"] == ""
    good = [place for place in range(COUNT) if place != 3]
    predicted = model.predict([paths[place] for place in good])
    assert [found[place]["class_1"] for place in good] == predicted.names
    np.testing.assert_allclose(
        [float(found[place]["probability_1"]) for place in good],
        predicted.probabilities.max(axis=1),
        atol=1e-5,
    )
    assert "40 images in" in log and "; 1 could not be decoded" in log
    assert not (tmp_path / "p.csv.parts").exists()


def test_standard_output(model, images, capsys):
    log = run(model, images, None)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "path,class_1,probability_1,class_2,probability_2,error"
    assert len(printed) == COUNT + 1
    assert "written" not in log


def test_the_formats_hold_the_same(model, images, tmp_path):
    for name in ("p.csv", "p.jsonl", "p.parquet"):
        run(model, images, tmp_path / name)
    first = [row["class_1"] for row in rows(tmp_path / "p.csv")]
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line.get("class_1", "") for line in lines] == first
    table = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["class_1"] or "" for row in table] == first


def test_features(model, images, tmp_path):
    wanted = Wanted(features=("stem", "pooled"))
    run(model, images, tmp_path / "f.npz", wanted)
    found = np.load(tmp_path / "f.npz")
    assert found["stem"].shape == (COUNT, 8) and found["pooled"].shape == (COUNT, 16)
    assert np.isnan(found["pooled"][3]).all()
    paths = sorted(images.iterdir())
    direct = model.features([paths[0], paths[39]])["pooled"]
    np.testing.assert_allclose(found["pooled"][[0, 39]], direct, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match=r"a \.npy file holds one endpoint, got stem, pooled"):
        run(model, images, tmp_path / "f.npy", wanted)


def test_features_in_a_store(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "SMALL_CHUNK_IMAGES", 16)  # three parts, the last of 8 images
    wanted, output = Wanted(features=("stem", "pooled")), tmp_path / "store"
    run(model, images, tmp_path / "f.npz", wanted)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            FeatureStore, "write", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        run(model, images, output, wanted)
    assert not output.exists()
    monkeypatch.setattr(predict, "_rows", None)  # nothing is computed again
    run(model, images, output, wanted)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.npz", "images", "store"]
    store, whole = tl.open_features(output), np.load(tmp_path / "f.npz")
    assert store.chunk_rows == 16
    for endpoint in wanted.features:
        np.testing.assert_array_equal(store.read(endpoint), whole[endpoint])
    assert store.ids() == list(map(str, sorted(images.iterdir())))
    assert list(store.errors()) == [3] and store.errors()[3].startswith("no image of a type")


def test_a_folder_that_is_no_store_is_not_replaced(model, images, tmp_path):
    wanted = Wanted(features=("pooled",))
    for output in (images, tmp_path / "f.npz"):
        output.mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f"{output.name} is a folder and no feature store, so"):
            run(model, images, output, wanted, overwrite=True)
        assert not output.with_name(f"{output.name}.parts").exists()
    assert len(list(images.iterdir())) == COUNT
    run(model, images, tmp_path / "store", wanted)
    with pytest.raises(UserError, match="store is there; give another --output, or --overwrite"):
        run(model, images, tmp_path / "store", Wanted(features=("stem",)))
    run(model, images, tmp_path / "store", Wanted(features=("stem",)), overwrite=True)
    assert list(tl.open_features(tmp_path / "store").widths) == ["stem"]


def test_a_killed_run_goes_on(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK_IMAGES", 8)
    whole, resumed = tmp_path / "whole.csv", tmp_path / "p.csv"
    run(model, images, whole)
    computed = []

    def killed(*arguments):
        computed.append(len(arguments[1]))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    original = predict._rows
    monkeypatch.setattr(predict, "_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        run(model, images, resumed)
    assert not resumed.exists()
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(predict, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    log = run(model, images, resumed)
    assert computed == [8, 8, 8, 8, 8, 8]  # two, the killed one, and three that were missing
    assert resumed.read_bytes() == whole.read_bytes()
    assert log.splitlines()[0] == (  # the speed is that of what it computed itself
        "24 images in 2.0 s (12 images/s); 16 more were there from before it was stopped; 1 could "
        "not be decoded"
    )


def test_parts_of_another_prediction_are_not_joined(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predict._Output, "finish", lambda self: None)
    output = tmp_path / "p.csv"
    run(model, images, output)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"p\.csv\.parts holds parts of another prediction; remove"):
        run(model, images, output, Wanted(top_k=1))
    run(model, images, output, Wanted(top_k=1), overwrite=True)
    assert "class_2" not in rows(output)[0]


def test_other_images_do_not_take_the_parts_of_the_first(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predict._Output, "finish", lambda self: None)
    output = tmp_path / "p.csv"
    run(model, images, output)
    monkeypatch.undo()
    (images / "00.png").rename(images / "aa.png")
    run(model, images, output)
    assert [row["path"] for row in rows(output)] == list(map(str, sorted(images.iterdir())))


def test_mistakes(model, images, tmp_path):
    (tmp_path / "p.csv").write_text("mine")
    with pytest.raises(UserError, match=r"p\.csv is there; give another --output, or --overwrite"):
        run(model, images, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == "mine"
    with pytest.raises(UserError, match=r"expected a file that ends in \.csv or \.jsonl or \.parq"):
        run(model, images, tmp_path / "p.txt")
    with pytest.raises(UserError, match="top_k: expected at least 1 class, got 0"):
        run(model, images, None, Wanted(top_k=0))
    with pytest.raises(UserError, match="no endpoint 'stage9'"):
        run(model, images, tmp_path / "f.npz", Wanted(features=("stage9",)))


def test_one_shape_is_compiled(model, images, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK_IMAGES", 8)
    sizes = []
    original = inference.Model.outputs

    def outputs(self, paths, extraction, **options):
        sizes.append((len(paths), options["batch_size"]))
        return original(self, paths, extraction, **options)

    monkeypatch.setattr(inference.Model, "outputs", outputs)
    items = [Listed(str(path)) for path in sorted(images.iterdir())[:13]]
    predict.run(model, iter(items), Wanted(), None, log=lambda line: None)
    assert sizes == [(8, 8), (5, 8)]


def unfinished(model, images, output, monkeypatch):
    """Runs until all parts are written, but not joined."""
    with monkeypatch.context() as patch:
        patch.setattr(predict._Output, "finish", lambda self: None)
        run(model, images, output)


def test_an_image_that_changed_after_a_kill_is_computed_again(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK_IMAGES", 8)
    output = tmp_path / "p.csv"
    unfinished(model, images, output, monkeypatch)
    (images / "01.png").write_bytes((images / "30.png").read_bytes())
    (images / "02.png").unlink()
    (images / "02.png").symlink_to("nowhere")
    computed = []
    original = predict._rows
    monkeypatch.setattr(
        predict, "_rows", lambda *a: (computed.append(a[1][0].path), original(*a))[1]
    )
    run(model, images, output)
    assert computed == [str(images / "00.png")]  # the first part alone
    found = rows(output)
    assert found[1] == {**found[30], "path": found[1]["path"]}
    assert found[2]["error"] == "No such file or directory"


def test_two_at_once(model, images, tmp_path, monkeypatch):
    output = tmp_path / "p.csv"
    said = []

    def during(*arguments):
        with pytest.raises(
            UserError, match=r"another process is writing .*p\.csv; wait until"
        ) as e:
            run(model, images, output)
        said.append(e)
        return original(*arguments)

    original = predict._rows
    monkeypatch.setattr(predict, "_rows", during)
    run(model, images, output)
    assert len(said) == 1 and len(rows(output)) == COUNT
    assert not (tmp_path / "p.csv.parts").exists()


def test_a_kill_before_the_first_part_is_no_other_prediction(model, images, tmp_path):
    (tmp_path / "p.csv.parts").mkdir()
    (tmp_path / "p.csv.parts/.made_by.json.1f").write_text("{")
    run(model, images, tmp_path / "p.csv")
    assert len(rows(tmp_path / "p.csv")) == COUNT


def test_a_disk_that_is_full_is_one_message(model, images, tmp_path, monkeypatch):
    def full(rows, path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(predict.tables, "write_part", full)
        with pytest.raises(UserError, match=r"p\.csv cannot be written: No space left on device;"):
            run(model, images, tmp_path / "p.csv")
    run(model, images, tmp_path / "p.csv")
    assert len(rows(tmp_path / "p.csv")) == COUNT


def test_parts_from_before_drafted_decoding_are_gone_on_with(model):
    preprocessing = predict._identity(model, predict.Wanted())["preprocessing"]
    assert preprocessing and "draft" not in preprocessing
