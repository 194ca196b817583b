"""The section for accelerators on a CPU: a tiny network, torch in its place a stand-in."""

import json

import pytest

from experiments.benchmark import contest, gpu, gpu_host, gpu_ours, gpu_trace, native
from experiments.benchmark.options import GPU_DTYPES
from experiments.benchmark.timing import Timing
from tests import contests
from tl.errors import UserError


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(gpu, "SIZE", 16)
    monkeypatch.setattr(gpu, "PROBE", (60, 5, 3))
    monkeypatch.setattr(gpu_host, "SIDES", {"float32": 8, "tfloat32": 8, "bfloat16": 8})
    monkeypatch.setattr(gpu_host, "COPIED", 64)
    monkeypatch.setattr(gpu_host, "DIFFERENT", 3)
    with contests.in_this_process():
        yield


def options(**fields):
    defaults = {
        "gpu_backbones": ("resnet_tiny",), "gpu_batches": (8, 16), "gpu_train_batches": (8,),
        "gpu_compiled_batches": (16,), "gpu_images": 6, "gpu_modes": ("max-autotune",),
    }  # fmt: skip
    return contests.options(**{**defaults, **fields})


def by_case(found):
    return {(row["case"], row["size"], row["dtype"]): row for row in found}


def test_limits_come_first_and_features_are_held_against_them():
    found = list(gpu.measure(options(gpu_parts=("features",)), {}, str))
    assert [row["case"] for row in found[:4]] == ["float32", "tfloat32", "bfloat16", "copy"]
    assert [row["unit"] for row in found[:4]] == ["TFLOP/s"] * 3 + ["TB/s"]
    rows = by_case(found)
    assert len(rows) == 4 + 3 * 2
    flops = native.forward_flops("resnet_tiny", 16)
    for dtype in GPU_DTYPES:
        limit = 1e12 * rows[dtype, "", ""]["ours"]
        for batch in (8, 16):
            row = rows["resnet_tiny, features", batch, dtype]
            assert row["ours"] > 0 and row["peak_mib"]["ours"] > 0 and not row["peers"]
            assert row["limit_fraction"] == pytest.approx(row["ours"] * flops / limit)


@pytest.mark.slow  # the tests below have the parts
def test_every_part_has_its_rows():
    lines = []
    parts = ("train", "trace", "arrays", "files", "probe")
    found = list(gpu.measure(options(gpu_parts=parts, gpu_dtypes=("bfloat16",)), {}, lines.append))
    rows = by_case(found)
    assert rows["resnet_tiny, training", 8, "bfloat16"]["ours"] > 0
    for kind in ("arrays", "files"):
        row = rows[f"resnet_tiny, from {kind}", 16, "bfloat16"]
        assert row["ours"] and set(row["peers"]) == {"compute alone", "loading alone"}
        assert row["images"] == 6
    assert rows["probe, 45 strengths", "60x5x3", "float32"]["ours"]
    for kind, batch in (("features", 16), ("training", 8)):
        row = rows[f"resnet_tiny, {kind}, kernels", batch, "bfloat16"]
        assert row["operations"] == [] and row["ours"] is None  # a CPU's trace has no device
    json.dumps(found)


def test_torch_takes_part_eager_and_compiled_for_some_batches(monkeypatch):
    asked = []

    def torch_features(backbone, size, settings, seconds, mode):
        asked.append((mode, settings))
        error = "" if mode else "RuntimeError: out of memory"
        return lambda: {s: Timing([0.5, 0.25], 3.0, error if s[1] == 16 else "") for s in settings}

    monkeypatch.setattr(gpu.gpu_torch, "features", torch_features)
    monkeypatch.setattr(contest, "absent", lambda contestant: "")
    lines = []
    chosen = options(gpu_parts=("features",), peers=("torch",), gpu_dtypes=("tfloat32", "bfloat16"))
    rows = by_case(gpu.measure(chosen, {}, lines.append))
    every = tuple((dtype, batch) for dtype in ("tfloat32", "bfloat16") for batch in (8, 16))
    assert asked == [("", every), ("max-autotune", (("bfloat16", 16),))]
    small = rows["resnet_tiny, features", 8, "bfloat16"]
    assert small["peers"] == {"torch": 8 * 3.0} and small["peak_mib"]["torch"] == 3.0
    large = rows["resnet_tiny, features", 16, "bfloat16"]
    assert large["peers"] == {"max-autotune": 16 * 3.0}
    assert large["failed"] == {"torch": "RuntimeError: out of memory"}
    assert "resnet_tiny, features, bfloat16, 16 images, torch: RuntimeError: out of memory" in lines


def test_a_program_that_does_not_compile_is_an_error_of_its_setting():
    class Program:
        def compile(self):
            raise RuntimeError("no such kernel")

    programs, timings = gpu_ours.compile_all({("bfloat16", 1): Program()})
    assert programs == {} and timings["bfloat16", 1].error == "RuntimeError: no such kernel"


def test_tfloat32_leaves_the_precision_to_the_platform():
    full, _ = gpu_ours.lower_features("resnet_tiny", 16, ("float32", 2))
    fast, _ = gpu_ours.lower_features("resnet_tiny", 16, ("tfloat32", 2))
    assert "HIGHEST" in full.as_text() and "HIGHEST" not in fast.as_text()


def test_kernels_are_listed_by_their_time():
    events = [("b", 2e6), ("a", 5e6), ("b", 1e6)] * gpu_trace.CALLS
    found = gpu_trace.largest(events)
    assert [(o["name"], o["milliseconds"], o["count"], o["share"]) for o in found] == [
        ("a", 5.0, 1.0, 0.625), ("b", 3.0, 2.0, 0.375),
    ]  # fmt: skip
    assert gpu_trace.table(found).splitlines()[2].split() == ["a", "5.000", "1", "62.5%"]


def test_unknown_parts_are_named():
    with pytest.raises(UserError, match="--gpu_parts: there is no 'trian'; the nearest"):
        options(gpu_parts=("trian",))
