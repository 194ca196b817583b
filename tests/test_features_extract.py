"""Extraction end to end on toy networks: equal on any devices, resumed, reused, verified."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.toy import PLAIN, NoiseSource, Source, resnet, toy
from tl import devices, hosts
from tl.data import transforms
from tl.errors import UserError
from tl.features import extract as features
from tl.features import network as endpoints
from tl.features.extract import extract
from tl.features.network import Extraction

OPTIONS = Extraction(("stem", "stage1", "pooled"), batch_size=8, threads=2)
ROOT = Path(__file__).parent.parent
FEW_DEVICES = (("pmap", 8), ("jit", 2))  # by default


class Slow(NoiseSource):
    """Takes its time, so that it can be killed in the middle."""

    def __getitem__(self, i):
        time.sleep(0.02)
        return super().__getitem__(i)


class Counted(NoiseSource):
    """Remembers the rows that were asked of it."""

    def __getitem__(self, i):
        self.__dict__.setdefault("seen", []).append(i)
        return super().__getitem__(i)


def run(root, source, options=OPTIONS, network=None, **keywords):
    """Returns the store and the lines of the log."""
    lines = []
    keywords = {"chunk_rows": 5, "log": lines.append, **keywords}
    return extract(network or resnet(), source, PLAIN, options, root, **keywords), lines


@functools.cache
def reference(length):
    """Endpoint to features by one plain call of the network, pooled by NumPy."""
    network, source = resnet(), NoiseSource(length)
    images = np.stack([source[i]["image"] for i in range(length)]).astype(np.float32)
    outputs = jax.jit(network.model.apply)(network.variables, images)
    outputs = {name: np.asarray(x) for name, x in outputs.items()}
    return {name: x.mean((1, 2)) if x.ndim == 4 else x for name, x in outputs.items()}


def check_against_reference(store):
    for name in store.widths:
        expected, found = reference(store.num_rows)[name], store.read(name)
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    assert store.labels().tolist() == [i % 3 for i in range(store.num_rows)]
    assert store.ids() == [f"id{i}" for i in range(store.num_rows)]


@pytest.mark.parametrize(
    ("mapper", "count"),
    [
        pytest.param(
            mapper, count, marks=[] if (mapper, count) in FEW_DEVICES else pytest.mark.slow
        )
        for mapper in devices.MAPPERS
        for count in (1, 2, 8)
    ],
)
def test_the_same_features_on_any_devices_for_awkward_numbers(tmp_path, monkeypatch, mapper, count):
    local = jax.local_devices()[:count]
    monkeypatch.setattr(jax, "local_devices", lambda: local)
    options = Extraction(("stem", "stage1", "pooled"), batch_size=8, mapper=mapper, threads=2)
    for length in (1, 7, 13, 33):
        store, _ = run(tmp_path, NoiseSource(length), options)
        check_against_reference(store)


def test_a_second_run_reads_nothing_and_says_so(tmp_path):
    store, lines = run(tmp_path, NoiseSource(13))
    assert lines[0] == f"features new: {store.path}"
    assert lines[1].startswith("features extracted: 13 images in ")
    source = Counted(13)
    # Batch size, threads, mapper and the order of endpoints change no number.
    options = Extraction(("pooled", "stem", "stage1"), batch_size=3, mapper="jit", threads=1)
    again, lines = run(tmp_path, source, options)
    assert lines == [f"features reused: {store.path}"]
    assert "seen" not in vars(source)
    check_against_reference(again)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"options": Extraction(("stem",))}, "endpoints: asked ['stem'], stored ['pooled', 'stag"),
        ({"options": Extraction(OPTIONS.endpoints, "max")}, "pooling: asked 'max', stored 'mean'"),
        (
            {"options": Extraction(OPTIONS.endpoints, dtype="bfloat16")},
            "dtype: asked 'bfloat16', stored 'float32'",
        ),
        (
            {"options": Extraction(OPTIONS.endpoints, fold_batch_norm=False)},
            "folded: asked False, stored True",
        ),
    ],
)
def test_other_features_are_other_stores_and_the_log_says_why(tmp_path, change, field):
    first, _ = run(tmp_path, NoiseSource(13))
    second, lines = run(tmp_path, **{"source": NoiseSource(13), **change})
    assert second.path != first.path
    assert lines[1].startswith(f"the nearest features of the same images, {first.path}, differ in")
    assert lines[1].count("\n") == 1
    assert field in lines[1]


def test_features_of_other_images_are_not_near(tmp_path):
    first, _ = run(tmp_path, NoiseSource(13))
    second, lines = run(tmp_path, NoiseSource(13, version="2"))
    assert second.path != first.path
    assert not any("nearest features" in line for line in lines)


def test_other_weights_code_and_preprocessing_are_other_stores(tmp_path, monkeypatch):
    paths = {run(tmp_path, Source(2), Extraction(("stem",)), resnet())[0].path}
    changed = resnet()
    changed.variables["params"]["head"]["bias"] = changed.variables["params"]["head"]["bias"] + 1
    paths.add(run(tmp_path, Source(2), Extraction(("stem",)), changed)[0].path)
    changed = dataclasses.replace(resnet(), sha256="1" * 64)
    paths.add(run(tmp_path, Source(2), Extraction(("stem",)), changed)[0].path)
    # The extraction's type is computed in, whatever the module's is.
    changed = dataclasses.replace(resnet(), model=resnet().model.clone(dtype="float32"))
    assert extract(changed, Source(2), PLAIN, Extraction(("stem",)), tmp_path).path in paths
    changed = dataclasses.replace(resnet(), model=resnet().model.clone(norm_epsilon=1e-3))
    paths.add(run(tmp_path, Source(2), Extraction(("stem",)), changed)[0].path)
    monkeypatch.setattr(features, "code_version", lambda: "another")
    paths.add(run(tmp_path, Source(2), Extraction(("stem",)))[0].path)
    other = dataclasses.replace(PLAIN, std=(2.0, 2.0, 2.0))
    paths.add(extract(resnet(), Source(2), other, Extraction(("stem",)), tmp_path).path)
    assert len(paths) == 6


def test_drafting_is_in_the_fingerprint_only_where_it_is_on():
    asked = Extraction(("stem",))
    plain, drafted = (
        features._fingerprint(resnet(), Source(2), dataclasses.replace(PLAIN, draft=on), asked)
        for on in (False, True)
    )
    assert sorted(plain["preprocessing"]) == [
        "channels", "crop_pct", "geometry", "interpolation", "mean", "size", "std",
    ]  # fmt: skip
    assert drafted == {**plain, "preprocessing": {**plain["preprocessing"], "draft": True}}


def test_an_image_that_fails_loses_only_what_was_under_way(tmp_path):
    class Broken(NoiseSource):
        def __getitem__(self, i):
            if i == 100:
                raise UserError("image 100 is broken")
            return super().__getitem__(i)

    with pytest.raises(UserError, match="image 100 is broken"):
        run(tmp_path, Broken(120), chunk_rows=10)
    source = Counted(120)
    store, lines = run(tmp_path, source, chunk_rows=10)
    missing = int(lines[0].split()[2])
    # Loaded ahead: 16 rows in a thread's hands and three batches of 8 on the devices.
    assert 2 <= missing <= 6
    assert lines[0] == f"features resumed: {missing} of 12 chunks are missing in {store.path}"
    assert sorted(source.seen) == list(range(120 - 10 * missing, 120))
    check_against_reference(store)


def slow_extraction(root):
    run(root, Slow(120), chunk_rows=10)


def test_killed_in_the_middle_it_resumes_at_the_missing_chunks(tmp_path):
    command = (
        f"import sys; from tests.test_features_extract import *; slow_extraction({str(tmp_path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT, env=os.environ)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("toy*/labels/c/*[0-9]"))) < 3:
            assert process.poll() is None, "the extraction ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    source = Counted(120)
    store, lines = run(tmp_path, source, chunk_rows=10)
    assert lines[0].startswith("features resumed: ")
    missing = int(lines[0].split()[2])
    assert 1 <= missing <= 9
    assert len(source.seen) == len(set(source.seen)) == 10 * missing
    whole, _ = run(tmp_path / "whole", NoiseSource(120), chunk_rows=10)
    for name in whole.widths:
        np.testing.assert_allclose(store.read(name), whole.read(name), rtol=1e-6)
    check_against_reference(store)


def test_processes_compute_disjoint_shares(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "barrier", lambda name: None)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    first = Counted(13)
    with pytest.raises(UserError, match=r"8 are missing, in chunks \[0, 2\]"):
        run(tmp_path, first)
    assert sorted(first.seen) == [5, 6, 7, 8, 9]
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    store, _ = run(tmp_path, NoiseSource(13))
    check_against_reference(store)


def test_skipped_images_are_counted(tmp_path):
    class Corrupt(Source):
        def __getitem__(self, i):
            return {**super().__getitem__(i), **({"label": -1} if i in (2, 5) else {})}

    store, lines = run(tmp_path, Corrupt(7), Extraction(("stem",)))
    assert store.labels().tolist() == [0, 1, -1, 0, 1, -1, 0]
    assert lines[-1] == "2 of 7 images could not be decoded or have no label, and are left out"


@pytest.mark.parametrize("dtype", endpoints.DTYPES)
def test_rows_verify(tmp_path, dtype):
    options = Extraction(OPTIONS.endpoints, dtype=dtype, batch_size=8)
    _, lines = run(tmp_path, NoiseSource(33), options, verify_rows=9)
    assert lines[-1].startswith("features verified: 9 rows computed again, largest difference ")
    _, lines = run(tmp_path, NoiseSource(33), options, verify_rows=1000)
    assert lines[0].startswith("features reused")
    assert lines[1].startswith("features verified: 33 rows")


def test_one_compiled_program_extracts_resumes_and_verifies(tmp_path, monkeypatch):
    traces = []
    original = transforms.device_transform
    monkeypatch.setattr(
        transforms, "device_transform", lambda x, p: traces.append(x.shape) or original(x, p)
    )
    endpoints.feature_function.cache_clear()
    store, _ = run(tmp_path, NoiseSource(33), verify_rows=3)
    (store.path / "labels" / "c" / "2").unlink()
    _, lines = run(tmp_path, NoiseSource(33), verify_rows=3)
    assert lines[0] == f"features resumed: 1 of 7 chunks are missing in {store.path}"
    assert traces == [(1, 4, 4, 3)]


def test_splits_of_any_length_share_one_compiled_program(tmp_path):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    network = resnet()
    endpoints.feature_function.cache_clear()
    first = Extraction(("stem", "pooled"), "max", batch_size=16)
    run(tmp_path, NoiseSource(33, split="train"), first, network)
    assert compiled
    compiled.clear()
    run(tmp_path, NoiseSource(17, split="val"), first, network)
    run(tmp_path, NoiseSource(40, split="test"), first, network, verify_rows=5)
    assert compiled == []


def test_a_row_that_does_not_verify_is_named_with_both_values(tmp_path):
    options = Extraction(("stem", "pooled"), fold_batch_norm=False)
    store, _ = run(tmp_path, Source(7), options, toy())
    values = {name: store.read(name)[5:] for name in ("stem", "pooled")}
    values["pooled"][1, 2] = 97.0
    store.write(1, values, store.labels()[5:], store.ids()[5:])
    expected = (
        r"row 6 of endpoint 'pooled' .* stored 97.0, computed again 96.0 in column 2.*1.0e-02"
    )
    with pytest.raises(UserError, match=expected):
        run(tmp_path, Source(7), options, toy(), verify_rows=7)


def test_a_bad_endpoint_or_value_leaves_no_store_that_looks_whole(tmp_path):
    with pytest.raises(UserError, match="no endpoint 'stage9'"):
        run(tmp_path, Source(3), Extraction(("stage9",)))
    assert list(tmp_path.iterdir()) == []
    options = Extraction(("pooled",), fold_batch_norm=False)
    with pytest.raises(UserError, match="example 'id0' has values that are not finite"):
        run(tmp_path, Source(3), options, toy(np.inf))
    (path,) = tmp_path.iterdir()
    assert json.loads((path / "meta.json").read_text())["num_rows"] == 3
    assert not list(path.glob("labels/c/*"))


def test_wide_endpoints_get_short_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK_BYTES", 4 * 48 * 6)
    store, _ = run(tmp_path, Source(13), Extraction(("pixels",)), chunk_rows=None)
    assert store.chunk_rows == 6
    np.testing.assert_array_equal(store.read("pixels")[:, 7], np.arange(13))


def peak_memory(root, length):
    """Prints the peak resident memory, in MiB, of extracting that many images."""
    import resource

    from tests import toy as small

    small.SIZE = 64
    run(root, Source(length, image_shape=(64, 64, 3)), Extraction(("pixels",)), chunk_rows=256)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Features of 1,000 images are 47 MiB, of 10,000 are 469 MiB."""
    # One arena: glibc otherwise keeps free memory for every thread, a hundred MiB after a while.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    peaks = []
    for length in (1_000, 10_000):
        command = (
            f"from tests.test_features_extract import *; peak_memory({str(tmp_path)!r}, {length})"
        )
        output = subprocess.check_output(
            [sys.executable, "-c", command], cwd=ROOT, env=environment, text=True
        )
        peaks.append(int(output.split()[-1]))
    assert peaks[1] - peaks[0] < 100, peaks
