"""Checkpoints made by hand, opcode by opcode: what torch writes, and what an attacker would."""

import argparse
import collections
import datetime
import decimal
import enum
import io
import os
import pathlib
import pickle
import struct
import tracemalloc
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tl.errors import UserError
from tl.weights.readers import WeightFile

TENSOR = ("torch._utils", "_rebuild_tensor_v2")


def text(value):
    return b"V" + value.encode() + b"\n"


def number(value):
    return f"I{value}\n".encode()


def sequence(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def storage(key="0", numel=6, kind="FloatStorage", tag="storage", extra=()):
    pid = (text(tag), name("torch", kind), text(key), text("cpu"), number(numel), *extra)
    return sequence(*pid) + b"Q"


SIX_FLOATS = storage()


def tensor(storage=SIX_FLOATS, offset=0, size=(2, 3), stride=(3, 1)):
    sizes = sequence(*map(number, size)), sequence(*map(number, stride))
    arguments = (storage, number(offset), *sizes, b"I00\n", name("collections", "OrderedDict"))
    return name(*TENSOR) + sequence(*arguments) + b"R"


def state(**items):
    pairs = b"".join(text(key) + value for key, value in items.items())
    return b"\x80\x02}(" + pairs + b"u."


def six(dtype="<f4"):
    return np.arange(6).astype(dtype).tobytes()


def archive(path, data_pkl, storages, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("any/data.pkl", data_pkl)
        for key, data in storages.items():
            file.writestr(f"any/data/{key}", data)
        for member, data in members.items():
            file.writestr(f"any/{member}", data)
    return path


def legacy(path, data_pkl, storages, system=None):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True} if system is None else system]
    data = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    data += data_pkl + pickle.dumps(list(storages), protocol=2)
    for raw in storages.values():
        data += struct.pack("<q", len(raw) // 4) + raw
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("write", [archive, legacy])
def test_a_plain_checkpoint(tmp_path, write):
    tensors = WeightFile(write(tmp_path / "x", state(w=tensor()), {"0": six()})).tensors()
    assert tensors["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and tensors["w"].dtype == np.float32


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ({"size": (3, 2), "stride": (1, 3)}, [[0, 3], [1, 4], [2, 5]]),
        ({"size": (2,), "stride": (2,), "offset": 3}, [3, 5]),
        ({"size": (), "stride": (), "offset": 4}, 4),
        ({"size": (2, 2), "stride": (0, 1)}, [[0, 1], [0, 1]]),
        ({"size": (0, 5), "stride": (5, 1)}, []),
    ],
)
def test_views(tmp_path, view, expected):
    path = archive(tmp_path / "x", state(w=tensor(**view)), {"0": six()})
    assert WeightFile(path).tensors()["w"].tolist() == expected


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("HalfStorage", np.float16),
        ("BFloat16Storage", ml_dtypes.bfloat16),
        ("DoubleStorage", np.float64),
        ("LongStorage", np.int64),
        ("ByteStorage", np.uint8),
    ],
)
def test_types(tmp_path, kind, dtype):
    path = archive(tmp_path / "x", state(w=tensor(storage(kind=kind))), {"0": six(dtype)})
    array = WeightFile(path).tensors()["w"]
    assert array.dtype == dtype and array.ravel().tolist() == [0, 1, 2, 3, 4, 5]


def test_nested_names_and_other_values(tmp_path):
    flags = name("argparse", "Namespace") + b")\x81}(" + text("lr") + number(1) + b"ub"
    parameter = name("torch._utils", "_rebuild_parameter") + sequence(tensor(), b"I01\n") + b"R"
    model = b"}(" + text("module.w") + tensor() + text("p") + parameter + b"u"
    path = archive(tmp_path / "x", state(epoch=number(3), args=flags, model=model), {"0": six()})
    assert list(WeightFile(path).tensors()) == ["model/module.w", "model/p"]


class Colour(enum.Enum):
    RED = 1


class Flags:
    def __init__(self):
        self.rate = 0.1


class Listing(list):
    pass


# What training scripts save beside weights.
HARMLESS = {
    "NumPy scalar": np.float64(93.2),
    "NumPy array": np.arange(3),
    "NumPy dtype": np.dtype("f4"),
    "path": pathlib.PurePosixPath("/data/x"),
    "set": {1, 2},
    "frozenset": frozenset({(1, 2)}),
    "complex": 1j,
    "bytearray": bytearray(b"abc"),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("aab"),
    "ordered": collections.OrderedDict(a=1),
    "flags": argparse.Namespace(lr=0.1),
    "simple namespace": types.SimpleNamespace(lr=0.1),
    "date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
    "enum": Colour.RED,
    "a class": Flags,
    "an object": Flags(),
    "a list of another class": Listing([1]),
    "decimal": decimal.Decimal("0.1"),
    "exception": ValueError("x"),
    "keys": {(0, 1): 1, None: 2, 0.5: 3, b"x": 4, pathlib.PurePosixPath("a"): 5},
}


def embedded(value, protocol):
    """Returns what pushes a value: its pickle without the frame, the protocol and the end."""
    opcodes = pickle.dumps(value, protocol)[2:-1]
    return opcodes[9:] if opcodes.startswith(pickle.FRAME) else opcodes


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_values_are_left_out(tmp_path, case, protocol):
    data_pkl = state(best=embedded(HARMLESS[case], protocol), w=tensor())
    path = archive(tmp_path / "x", b"\x80" + bytes([protocol]) + data_pkl[2:], {"0": six()})
    assert list(WeightFile(path).tensors()) == ["w"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_weights_that_are_numpy_arrays_do_not_vanish(tmp_path, protocol):
    arrays = {"state_dict": {"a": np.zeros(2), "b": np.ones(3)}, "lr": np.float64(0.1)}
    path = archive(tmp_path / "x", pickle.dumps(arrays, protocol), {})
    with pytest.raises(UserError, match=r"its 2 arrays are NumPy's: save torch\.from_numpy"):
        WeightFile(path).tensors()


@pytest.mark.parametrize(
    "value",
    [
        name("torch", "float32"),
        name("torch", "device") + sequence(text("cuda"), number(0)) + b"R",
        name("torch", "Size") + sequence(sequence(number(1))) + b"R",
        name("torch.nn.modules.loss", "CrossEntropyLoss") + b")\x81}(" + text("_modules") + b"}ub",
        name("lightning.fabric.utilities.data", "AttributeDict") + b")R(" + text("a") + b"I1\nu",
    ],
)
def test_harmless_values_of_torch_are_left_out(tmp_path, value):
    path = archive(tmp_path / "x", state(other=value, w=tensor()), {"0": six()})
    assert list(WeightFile(path).tensors()) == ["w"]


@pytest.mark.parametrize("kind", ["collections.OrderedDict", "collections.defaultdict"])
def test_tensors_in_other_dictionaries(tmp_path, kind):
    module, attribute = kind.split(".")
    model = name(module, attribute) + b")R(" + text("w") + tensor() + b"u"
    path = archive(tmp_path / "x", state(model=model), {"0": six()})
    assert list(WeightFile(path).tensors()) == ["model/w"]


def test_a_tensor_of_a_subclass(tmp_path):
    sizes = sequence(number(2), number(3)), sequence(number(3), number(1))
    arguments = sequence(SIX_FLOATS, number(0), *sizes)
    value = name("torch._tensor", "_rebuild_from_type_v2") + sequence(
        name(*TENSOR), name("mine", "Kernel"), arguments, b"}"
    )
    path = archive(tmp_path / "x", state(w=value + b"R"), {"0": six()})
    assert WeightFile(path).tensors()["w"].shape == (2, 3)


def network(**weights):
    """Returns what pushes a pickled torch module that has a module inside."""
    inside = name("torch.nn.modules.conv", "Conv2d") + b")\x81}(" + text("_parameters") + b"}("
    inside += b"".join(text(key) + value for key, value in weights.items()) + b"uub"
    modules = text("_modules") + b"}(" + text("conv1") + inside + b"u"
    return name("__main__", "Net") + b")\x81}(" + modules + b"ub"


MOMENTUM = b"}(" + text("state") + b"}(" + number(0) + tensor() + b"uu"


@pytest.mark.parametrize(
    "data_pkl",
    [
        b"\x80\x02" + network(weight=tensor()) + b".",
        state(model=network(weight=tensor())),
        state(model=network(weight=tensor()), optimizer=MOMENTUM),
    ],
)
@pytest.mark.parametrize("write", [archive, legacy])
def test_a_whole_pickled_model_says_so(tmp_path, write, data_pkl):
    path = write(tmp_path / "x", data_pkl, {"0": six()})
    with pytest.raises(UserError, match=r"x: a whole pickled model: save its state_dict\(\)"):
        WeightFile(path).tensors()


def test_a_whole_model_of_the_legacy_format_names_its_class_and_source(tmp_path):
    reference = sequence(text("module"), name("mine", "Net"), text("mine.py"), text("...")) + b"Q"
    value = reference + b")\x81}(" + text("_modules") + b"}(" + text("a") + b"Nuub"
    with pytest.raises(UserError, match="a whole pickled model"):
        WeightFile(legacy(tmp_path / "x", b"\x80\x02" + value + b".", {})).tensors()


def test_a_whole_model_beside_its_weights_is_left_out(tmp_path):
    weights = b"}(" + text("w") + tensor() + b"u"
    data_pkl = state(model=network(weight=tensor()), state_dict=weights)
    path = archive(tmp_path / "x", data_pkl, {"0": six()})
    assert list(WeightFile(path).tensors()) == ["state_dict/w"]


# A pair of a pair of ..., each with one object twice: its hash takes 2**200 steps.
PAIRS = b")" + 200 * b"2\x86"
SET = b"\x8f(" + PAIRS + b"\x90"
FROZEN_SET = b"(" + PAIRS + b"\x91"


@pytest.mark.parametrize("value", [PAIRS, SET, FROZEN_SET])
def test_nested_pairs_that_are_no_keys_cost_nothing(tmp_path, value):
    path = archive(tmp_path / "x", b"\x80\x04}(" + text("w") + tensor() + b"u0" + value + b".", {})
    with pytest.raises(UserError, match=r"there is no tensor|storage '0' is missing"):
        WeightFile(path).tensors()


def test_lists_of_storages_are_not_compared_in_depth(tmp_path):
    path = legacy(tmp_path / "x", state(w=tensor()), {"0": six()})
    data = path.read_bytes()
    keys = pickle.dumps(["0"], protocol=2)
    path.write_bytes(data.replace(keys, b"\x80\x02](" + PAIRS + PAIRS + b"e."))
    with pytest.raises(UserError, match="list of storages"):
        WeightFile(path).tensors()


HOSTILE_PICKLES = {
    "runs a command": (
        state(w=name("os", "system") + sequence(text("touch ran")) + b"R"),
        "refers to os.system",
    ),
    "runs a command under another name": (
        state(w=name("posix", "system") + sequence(text("touch ran")) + b"R"),
        "refers to posix.system",
    ),
    "evaluates": (
        state(w=name("builtins", "eval") + sequence(text("1")) + b"R"),
        "refers to builtins.eval",
    ),
    "runs a program": (
        state(w=name("subprocess", "Popen") + sequence(text("touch")) + b"R"),
        "refers to subprocess.Popen",
    ),
    "imports": (
        state(w=name("importlib", "import_module") + sequence(text("os")) + b"R"),
        "refers to importlib.import_module",
    ),
    "imports by the name of Python 2": (
        state(w=name("__builtin__", "__import__") + sequence(text("os")) + b"R"),
        "refers to __builtin__.__import__",
    ),
    "unpickles once more": (
        state(w=name("pickle", "loads") + sequence(text("x")) + b"R"),
        "refers to pickle.loads",
    ),
    "reaches through a placeholder": (
        b"\x80\x04" + b"\x8c\x04mine\x8c\x0aX.__init__\x93.",
        r"refers to mine.X.__init__",
    ),
    "alters a placeholder": (
        state(w=name("mine", "X") + b"N}(" + text("append") + text("x") + b"u\x86b"),
        "cannot read weights",
    ),
    "alters a dictionary": (
        state(w=name("collections", "OrderedDict") + b"N}(" + text("get") + text("x") + b"u\x86b"),
        "cannot read weights",
    ),
    "a quantised tensor": (
        state(w=name("torch._utils", "_rebuild_qtensor") + b")R"),
        "refers to torch._utils._rebuild_qtensor",
    ),
    "too many dimensions": (
        state(w=tensor(size=(1,) * 65, stride=(1,) * 65)),
        "a tensor of 65 dimensions",
    ),
    "nested pairs for a key": (b"\x80\x02}" + PAIRS + b"Ns.", "neither text nor"),
    "nested pairs for keys": (b"\x80\x02}(" + PAIRS + b"Nu.", "neither text nor"),
    "nested pairs in a dictionary at once": (b"\x80\x02(" + PAIRS + b"Nd.", "neither text nor"),
    "nested pairs in a list of items": (
        b"\x80\x02" + name("collections", "OrderedDict") + b"](" + PAIRS + b"N\x86e\x85R.",
        "neither text nor",
    ),
    "nested pairs in a dictionary with defaults": (
        b"\x80\x02" + name("collections", "defaultdict") + b")R" + PAIRS + b"Ns.",
        "neither text nor",
    ),
    "reaches through an allowed name": (
        b"\x80\x04" + b"\x8c\x05torch\x8c\x0eSize.__class__\x93.",
        r"refers to torch.Size.__class__",
    ),
    "alters an allowed function": (
        state(w=name(*TENSOR) + b"}(" + text("kind") + text("x") + b"ub"),
        "cannot read weights",
    ),
    "negative stride": (state(w=tensor(stride=(-3, 1))), r"stride \(-3, 1\)"),
    "negative offset": (state(w=tensor(offset=-1)), "offset -1"),
    "negative size": (state(w=tensor(size=(-2, 3))), r"size \(-2, 3\)"),
    "beyond its storage": (state(w=tensor(offset=1)), "reaches outside its storage of 6"),
    "far beyond its storage": (state(w=tensor(stride=(2**62, 1))), "reaches outside"),
    "expanded without limit": (state(w=tensor(size=(10**9,), stride=(0,))), "reaches outside"),
    "rank of size and stride": (state(w=tensor(size=(6,))), r"size \(6,\), stride \(3, 1\)"),
    "absurd length": (state(w=tensor(storage(numel=2**60))), "elements of float32 were declared"),
    "negative length": (state(w=tensor(storage(numel=-6))), "negative size"),
    "one storage, two lengths": (
        state(w=tensor(), v=tensor(storage(numel=3), size=(3,), stride=(1,))),
        "declared twice",
    ),
    "a view of a storage": (
        state(w=tensor(storage(extra=[sequence(text("1"), number(0), number(2))]))),
        "is a view",
    ),
    "another kind of reference": (state(w=tensor(storage(tag="module"))), "other than a storage"),
    "a storage that is not there": (state(w=tensor(storage("../0"))), "storage '../0' is missing"),
    "another thing for a storage": (state(w=tensor(text("x"))), "malformed tensor"),
    "a dictionary that holds itself": (
        b"\x80\x02}q\x00(" + text("a") + b"h\x00u.",
        "nested beyond reason",
    ),
    "lists that multiply": (
        b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(25)) + b".",
        "nested beyond reason",
    ),
    "a tensor for a key": (b"\x80\x02}(" + tensor() + tensor() + b"u.", "neither text nor"),
    "stops in the middle": (state(w=tensor())[:-20], "cannot read weights"),
    "not a pickle": (b"hello", "cannot read weights"),
}


@pytest.mark.parametrize("case", HOSTILE_PICKLES)
def test_hostile_pickles_are_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    data_pkl, message = HOSTILE_PICKLES[case]
    with pytest.raises(UserError, match=message) as caught:
        WeightFile(archive(tmp_path / "hostile.pth", data_pkl, {"0": six()})).tensors()
    assert "hostile.pth" in str(caught.value)
    assert os.listdir(tmp_path) == ["hostile.pth"]  # nothing ran


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "is compressed"),
        ({"byteorder": b"big"}, "big-endian"),
        ({"constants.pkl": b""}, "TorchScript"),
        ({"nested/data.pkl": b""}, "got 2 in"),
        ({"storages": {"0": six()[:-4]}}, "has 20 bytes; 6 elements of float32"),
        ({"storages": {}}, "storage '0' is missing"),
    ],
)
def test_archives_that_torch_does_not_write(tmp_path, changes, message):
    arguments = {"storages": {"0": six()}, **changes}
    with pytest.raises(UserError, match=message):
        WeightFile(archive(tmp_path / "x", state(w=tensor()), **arguments)).tensors()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path):
    path = archive(tmp_path / "x", state(w=tensor()), {"0": six()})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("any/data/0", six())
    with pytest.raises(UserError, match="two members"):
        WeightFile(path).tensors()


def test_members_that_overlap_to_more_than_the_file(tmp_path):
    inside = io.BytesIO()
    archive(inside, state(w=tensor()), {"0": b"\0" * 4000, "1": b"\0" * 4000})
    data = bytearray(inside.getvalue())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"any/data/1"))
    data[entry + 20 : entry + 28] = struct.pack("<II", 1 << 30, 1 << 30)  # of the directory only
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="larger than the file"):
        WeightFile(tmp_path / "x").tensors()


@pytest.mark.parametrize("cut", [1, 30, 200])
@pytest.mark.parametrize("write", [archive, legacy])
def test_truncated_files(tmp_path, write, cut):
    path = write(tmp_path / "x", state(w=tensor()), {"0": six()})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"cannot read weights|in no format"):
        WeightFile(path).tensors()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"system": {"little_endian": False}}, "big-endian"),
        ({"system": "x"}, "header is not that"),
        ({"storages": {"1": six()}}, "list of storages"),
        ({"storages": {"0": six()[:12]}}, "truncated or not of the declared size"),
    ],
)
def test_legacy_streams_that_torch_does_not_write(tmp_path, arguments, message):
    arguments = {"storages": {"0": six()}, **arguments}
    with pytest.raises(UserError, match=message):
        WeightFile(legacy(tmp_path / "x", state(w=tensor()), **arguments)).tensors()


@pytest.mark.parametrize("put", [b"r" + struct.pack("<I", 2**32 - 1), b"p4294967295\n"])
def test_a_memo_without_bounds_takes_no_memory(tmp_path, put):
    archive(tmp_path / "x.pth", b"\x80\x02}" + put + b".", {})
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="there is no tensor in"):
            WeightFile(tmp_path / "x.pth").tensors()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_legacy_stream_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = name("os", "system") + sequence(text("touch ran")) + b"R."
    with pytest.raises(UserError, match=r"refers to os\.system"):
        WeightFile(legacy(tmp_path / "x", b"\x80\x02" + hostile, {})).tensors()
    assert os.listdir(tmp_path) == ["x"]
