"""The feature store: whole chunks or none, in any order, by any number of writers."""

import concurrent.futures
import json
import resource
from pathlib import Path

import numpy as np
import pytest

from tl import paths
from tl.errors import UserError
from tl.features.fingerprint import fingerprint
from tl.features.store import NO_LABEL, UNWRITTEN, FeatureStore, nearest_store, open_features

WIDTHS = {"stem": 2, "pooled": 3}


def identity(**changes):
    fields = {"data": {"name": "toy", "split": "train"}, "pooling": "mean", "size": 8}
    return fingerprint(**{**fields, **changes})


def open_store(root, num_rows=7, chunk_rows=3, **changes):
    return FeatureStore.open(root, identity(**changes), num_rows, WIDTHS, 6, chunk_rows)


def rows_of(store, chunk):
    """Feature j of row i at width D is 100 D + 10 i + j; its label is i, its id é<i>."""
    i = np.arange(store.num_rows)[store.chunk_slice(chunk)]
    features = {
        name: (100 * d + 10 * i[:, None] + np.arange(d)).astype(np.float32)
        for name, d in WIDTHS.items()
    }
    return features, i.astype(np.int32), [f"é{n}" for n in i]


def filled(root, **options):
    store = open_store(root, **options)
    for chunk in store.missing():
        store.write(chunk, *rows_of(store, chunk))
    return store


@pytest.fixture(params=["disk", "s3", "gs"])
def root(request, tmp_path):
    """A folder of stores: of this machine, or of an object store."""
    return tmp_path if request.param == "disk" else request.getfixturevalue(request.param)


def test_chunks_written_in_any_order_come_back(root):
    store = open_store(root)
    assert store.missing() == [0, 1, 2]
    assert store.chunk_slice(2) == slice(6, 7)
    for chunk in (2, 0):
        store.write(chunk, *rows_of(store, chunk))
    assert store.missing() == [1]
    np.testing.assert_array_equal(store.labels(), [0, 1, 2, UNWRITTEN, UNWRITTEN, UNWRITTEN, 6])
    assert not store.complete
    with pytest.raises(UserError, match=r"expected 7 rows .* 3 are missing, in chunks \[1\]"):
        store.check_complete()

    again = open_store(root)
    again.write(1, *rows_of(again, 1))
    assert store.complete
    store.check_complete()
    np.testing.assert_array_equal(store.labels(), np.arange(7))
    assert "TensorStore" not in repr(store)
    assert store.ids() == ["é0", "é1", "é2", "é3", "é4", "é5", "é6"]
    stem = store.read("stem")
    assert stem.dtype == np.float32
    np.testing.assert_array_equal(stem, [[200 + 10 * i, 201 + 10 * i] for i in range(7)])


def test_rows_come_in_the_order_asked_and_endpoints_concatenate(tmp_path):
    store = filled(tmp_path)
    rows = np.array([6, 0, 3, 0])
    both = [[300 + 10 * i, 301 + 10 * i, 302 + 10 * i, 200 + 10 * i, 201 + 10 * i] for i in rows]
    np.testing.assert_array_equal(store.read("pooled+stem", rows), both)
    np.testing.assert_array_equal(store.read("pooled", rows), np.array(both)[:, :3])
    assert store.read("pooled+stem", np.array([], np.int64)).shape == (0, 5)


def test_bad_questions_name_what_there_is(tmp_path):
    store = filled(tmp_path)
    with pytest.raises(UserError, match="no endpoint 'poled'; the nearest are 'pooled'"):
        store.read("stem+poled")
    for row in (7, -1):
        with pytest.raises(UserError, match=f"expected rows from 0 to 6, got {row} to {row}"):
            store.read("stem", np.array([row]))
    with pytest.raises(UserError, match=r"expected row numbers \[n\], got float64 \[1\]"):
        store._row_numbers(np.array([0.5]))
    with pytest.raises(UserError, match=r"got bool \[7\]; np\.flatnonzero\(mask\) makes them"):
        store._row_numbers(np.ones(7, bool))
    assert store.read("stem", np.array([], np.int64)).shape == (0, store.widths["stem"])


def test_the_way_to_a_store_may_lead_up(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    written = filled(Path("../stores"))
    read = open_features(Path("..") / "stores" / written.path.name)
    np.testing.assert_array_equal(read.read("stem"), written.read("stem"))


def test_one_row_and_a_chunk_larger_than_all(tmp_path):
    store = filled(tmp_path, num_rows=1, chunk_rows=1024)
    assert store.chunk_rows == 1
    np.testing.assert_array_equal(store.read("stem"), [[200, 201]])


def test_an_existing_store_keeps_its_chunks(root):
    filled(root, chunk_rows=3)
    store = open_store(root, chunk_rows=5)
    assert store.chunk_rows == 3
    assert store.complete


def test_skipped_examples_are_rows_too(tmp_path):
    store = open_store(tmp_path, num_rows=2)
    features, _, ids = rows_of(store, 0)
    store.write(0, features, np.array([NO_LABEL, 1], np.int32), ids)
    assert store.complete
    np.testing.assert_array_equal(store.labels(), [NO_LABEL, 1])


def test_what_does_not_belong_is_not_written(tmp_path):
    store = open_store(tmp_path)
    features, labels, ids = rows_of(store, 0)
    with pytest.raises(ValueError, match=r"expected {'stem': \(3, 2\), 'pooled': \(3, 3\)}"):
        store.write(0, {**features, "stem": features["stem"][:1]}, labels, ids)
    with pytest.raises(ValueError, match="for chunk 2"):
        store.write(2, features, labels, ids)
    with pytest.raises(ValueError, match="3 labels and ids"):
        store.write(0, features, labels, ids[:2])
    with pytest.raises(ValueError, match="labels of at least -1, got -2"):
        store.write(0, features, labels - 2, ids)
    with pytest.raises(ValueError, match="ids of at most 6 bytes, got one of 7"):
        store.write(0, features, labels, ["é", "1234567", ""])
    assert store.missing() == [0, 1, 2]


def test_a_chunk_without_its_labels_is_missing(tmp_path):
    """Features are on disk before the labels: a writer killed in between leaves a missing chunk."""
    store = open_store(tmp_path)
    (store.path / "labels" / "c").write_text("in the way")
    with pytest.raises(UserError, match="cannot write the feature store"):
        store.write(0, *rows_of(store, 0))
    (store.path / "labels" / "c").unlink()
    np.testing.assert_array_equal(store.read("stem")[:3], rows_of(store, 0)[0]["stem"])
    assert np.isnan(store.read("stem")[3:]).all()
    assert store.missing() == [0, 1, 2]


def test_a_writer_killed_within_a_chunk_of_an_object_store(s3):
    store = open_store(s3)
    features, _, _ = rows_of(store, 0)
    for name, values in features.items():  # all but the labels
        store._arrays[f"features/{name}"][store.chunk_slice(0)].write(values).result()
    assert open_store(s3).missing() == [0, 1, 2]
    paths.file_system(s3).rm_file(f"{store.path}/meta.json")  # killed before the last write
    again = filled(s3)
    assert again.complete
    np.testing.assert_array_equal(again.read("stem")[:, 0], 200 + 10 * np.arange(7))


def test_a_full_disk_is_one_message_and_the_chunk_stays_missing(tmp_path):
    store = FeatureStore.open(tmp_path, identity(), 4, {"wide": 5000}, 6)
    features = {"wide": np.ones((4, 5000), np.float32)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write the feature store .*disk's space"):
            store.write(0, features, np.zeros(4, np.int32), ["a"] * 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.missing() == [0]


def test_a_place_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create the feature store"):
        open_store(tmp_path / "file")


def test_damaged_files_are_noticed(tmp_path):
    store = filled(tmp_path)
    chunk = store.path / "features" / "stem" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read the feature store .*Digest mismatch"):
        store.read("stem", np.array([1]))
    np.testing.assert_array_equal(store.read("stem", np.array([3])), [[230, 231]])


@pytest.mark.parametrize("array", ["features/stem", "features/pooled", "ids", "labels"])
def test_a_lost_file_is_missed_and_computed_again(root, array):
    store = filled(root)
    lost = store.path / array / "c" / "1" / ("0" if array != "labels" else "")
    lost.unlink()
    assert store.missing() == [1]
    with pytest.raises(UserError, match=r"expected 7 rows .*, 3 are missing, in chunks \[1\]"):
        store.check_complete()
    read = store.ids if array == "ids" else lambda: store.read("pooled+stem", np.array([0, 4]))
    if array != "labels":
        with pytest.raises(UserError, match=r"has lost files of chunks \[1\]; run the extraction"):
            read()
    assert store.read("pooled+stem", np.array([0, 6])).shape == (2, 5)
    store.write(1, *rows_of(store, 1))
    assert store.complete
    assert read() is not None


def test_rows_without_a_number_are_no_lost_ones(tmp_path):
    store = open_store(tmp_path)
    for chunk in store.missing():
        features, labels, ids = rows_of(store, chunk)
        store.write(
            chunk, {name: values * np.nan for name, values in features.items()}, labels, ids
        )
    assert store.complete
    assert np.isnan(store.read("stem")).all()


def test_a_changed_fingerprint_is_another_store(tmp_path):
    assert nearest_store(tmp_path / "none", identity()) is None
    first = filled(tmp_path)
    filled(tmp_path, pooling="max", size=9)
    filled(tmp_path, data={"name": "toy", "split": "test"})
    filled(tmp_path, data={"name": "toy", "split": "train", "version": "2"}, size=10)
    other = identity(size=10)
    path, lines = nearest_store(tmp_path, other)
    assert path == first.path
    assert lines == ["size: asked 10, stored 8"]
    store = FeatureStore.open(tmp_path, other, 7, WIDTHS, 6)
    assert store.path != first.path
    assert store.missing() == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_rows": 8}, "num_rows: asked 7, stored 8"),
        ({"fingerprint": identity(size=9)}, "fingerprint.size: asked 8, stored 9"),
        ({"widths": {"stem": 4, "pooled": 3}}, "widths.stem: asked 2, stored 4"),
    ],
)
def test_a_store_that_is_not_what_its_name_says_is_refused(tmp_path, change, message):
    meta = filled(tmp_path).path / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        open_store(tmp_path)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"fingerprint": 3}'])
def test_a_store_without_a_readable_description_is_refused(tmp_path, text):
    meta = filled(tmp_path).path / "meta.json"
    meta.unlink() if text is None else meta.write_text(text)
    with pytest.raises(UserError, match=r"meta.json cannot be read .*give the folder of a store"):
        open_store(tmp_path)
    # Nor does it disturb another one.
    assert nearest_store(tmp_path, identity(size=9)) is None


# The emulator of gs:// has no preconditions, without which TensorStore's writes disturb each other.
@pytest.mark.parametrize("root", ["disk", "s3"], indirect=True)
def test_many_writers_of_one_new_store(root):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: filled(root), range(16)))
    assert all(store.complete for store in stores)
    assert [path.name for path in root.iterdir()] == [stores[0].path.name]
    np.testing.assert_array_equal(stores[3].read("stem")[:, 0], 200 + 10 * np.arange(7))
