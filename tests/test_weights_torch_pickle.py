"""Checkpoints made by hand, opcode by opcode: what torch writes, and what an attacker would."""

import io
import os
import pickle
import struct
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
def test_a_memo_without_bounds_is_refused(tmp_path, put):
    archive(tmp_path / "x.pth", b"\x80\x02}" + put + b".", {})
    with pytest.raises(UserError, match="its pickle numbers an object 4294967295 at byte 3"):
        WeightFile(tmp_path / "x.pth").tensors()


def test_a_legacy_stream_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = name("os", "system") + sequence(text("touch ran")) + b"R."
    with pytest.raises(UserError, match=r"refers to os\.system"):
        WeightFile(legacy(tmp_path / "x", b"\x80\x02" + hostile, {})).tensors()
    assert os.listdir(tmp_path) == ["x"]
