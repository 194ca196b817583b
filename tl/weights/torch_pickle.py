"""Reads PyTorch checkpoints without PyTorch, and without running code from the file.

A checkpoint is a pickle, and a pickle is a program. The unpickler here knows the few names that
tensors need and refuses all others. It builds only descriptions of tensors, which are checked
against the bytes of the file before any array is made.

Format: torch/serialization.py; the zip container (torch >= 1.6) and the legacy stream before it.
"""

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = pickle.dumps(LEGACY_MAGIC, protocol=2)
_PROTOCOL = 1001
_MAX_DEPTH = 16  # of nested dictionaries and lists; an optimizer's state has 5
_MAX_VALUES = 1_000_000  # lists that contain each other expand without limit

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class CheckpointError(Exception):
    """The file is not a checkpoint of weights; the text says why."""


class _StorageType(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Function(NamedTuple):
    """A callable that a pickle cannot change: a tuple has no attributes to set."""

    kind: str

    def __call__(self, *args: Any) -> Any:
        if self.kind == "tensor":  # storage, offset, size, stride, then values for training alone
            return _Tensor(*args[:4])
        return args[0]  # the tensor of a parameter


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _Function("tensor"),
    ("torch._utils", "_rebuild_tensor_v2"): _Function("tensor"),
    ("torch._utils", "_rebuild_parameter"): _Function("parameter"),
}


def _check_memo(file: io.BytesIO) -> None:
    """Refuses a memo index larger than the bytes read so far, since it sizes the memo."""
    start = file.tell()
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name not in ("PUT", "LONG_BINPUT") or argument is None or position is None:
            continue
        if argument > position - start:
            raise CheckpointError(f"its pickle numbers an object {argument} at byte {position}")
    file.seek(start)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO):
        _check_memo(file)
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _StorageType(name)
        if (module, name) == ("argparse", "Namespace"):
            # Training scripts save their flags. A new class each time keeps files apart.
            return type("Namespace", (), {})
        if (module, name) not in _ALLOWED:
            raise CheckpointError(f"it refers to {module}.{name}, which weights do not need")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(kind), str(key), str(), int(numel), *view):
                if view not in ([], [None]):
                    raise CheckpointError(f"storage {key!r} is a view of another one")
            case _:
                raise CheckpointError("a reference to something other than a storage")
        storage = _Storage(key, _DTYPES[kind], numel)
        if numel < 0 or self.storages.setdefault(key, storage) != storage:
            raise CheckpointError(f"storage {key!r} is declared twice or has a negative size")
        return storage


def read(data: bytes) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint in either container.

    Args:
      data: bytes of a zip file, or of a file that begins with LEGACY_START.

    Returns:
      Name to read-only array; names of nested dictionaries are joined by `/`. Values that are not
      tensors (epochs, flags) are left out.

    Raises:
      CheckpointError: the file refers to something that weights do not need, or its parts
        contradict each other.
      pickle.UnpicklingError, zipfile.BadZipFile and others: the file is damaged.
    """
    read_container = _read_legacy if data.startswith(LEGACY_START) else _read_zip
    tree, buffers = read_container(io.BytesIO(data), len(data))
    return {name: _array(tensor, buffers) for name, tensor in _flatten(tree).items()}


def _read_zip(file: io.BytesIO, size: int) -> tuple[Any, dict[str, np.ndarray]]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise CheckpointError("two members of the archive have one name")
        roots = [n.removesuffix("data.pkl") for n in names if n.endswith("/data.pkl")]
        if len(roots) != 1 or f"{roots[0]}constants.pkl" in names:
            raise CheckpointError(
                f"expected an archive with one data.pkl (a TorchScript program has more), "
                f"got {len(roots)} in {len(names)} members"
            )
        # torch never compresses. Members larger than the file would be a zip bomb.
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise CheckpointError("a member of the archive is compressed, which torch never does")
        if sum(m.file_size for m in members) > size:
            raise CheckpointError("the archive's members are larger than the file")
        order = f"{roots[0]}byteorder"
        if order in names and archive.read(order) != b"little":
            raise CheckpointError("it was written on a big-endian machine")
        unpickler = _Unpickler(io.BytesIO(archive.read(f"{roots[0]}data.pkl")))
        tree = unpickler.load()
        buffers = {}
        for key, storage in unpickler.storages.items():
            member = f"{roots[0]}data/{key}"
            if member not in names:
                raise CheckpointError(f"storage {key!r} is missing")
            buffers[key] = _buffer(storage, archive.read(member))
    return tree, buffers


def _read_legacy(file: io.BytesIO, size: int) -> tuple[Any, dict[str, np.ndarray]]:
    # Five pickles: magic, protocol, system, object, storage keys; then length and data of each key.
    magic, protocol, system = (_Unpickler(file).load() for _ in range(3))
    if magic != LEGACY_MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
        raise CheckpointError("its header is not that of a torch checkpoint")
    if not system.get("little_endian", True):
        raise CheckpointError("it was written on a big-endian machine")
    unpickler = _Unpickler(file)
    tree = unpickler.load()
    keys = _Unpickler(file).load()
    if not isinstance(keys, list) or sorted(keys) != sorted(unpickler.storages):
        raise CheckpointError("its list of storages is not that of its tensors")
    buffers = {}
    for key in keys:
        storage = unpickler.storages[key]
        (numel,) = struct.unpack("<q", file.read(8))
        nbytes = storage.numel * storage.dtype.itemsize
        if numel != storage.numel or nbytes > size - file.tell():
            raise CheckpointError(f"storage {key!r} is truncated or not of the declared size")
        buffers[key] = _buffer(storage, file.read(nbytes))
    return tree, buffers


def _buffer(storage: _Storage, data: bytes) -> np.ndarray:
    if len(data) != storage.numel * storage.dtype.itemsize:
        raise CheckpointError(
            f"storage {storage.key!r} has {len(data)} bytes; {storage.numel} elements of "
            f"{storage.dtype} were declared"
        )
    return np.frombuffer(data, storage.dtype)


def _array(tensor: _Tensor, buffers: dict[str, np.ndarray]) -> np.ndarray:
    match tensor:
        case _Tensor(_Storage(), int(offset), tuple(size), tuple(stride)):
            pass
        case _:
            raise CheckpointError("a malformed tensor")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise CheckpointError(f"a tensor with size {size}, stride {stride}, offset {offset}")
    buffer = buffers[tensor.storage.key]
    if 0 in size:
        return np.empty(size, buffer.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    # as_strided checks neither. With stride 0 a tensor could take any amount of memory.
    if last >= buffer.size or math.prod(size) > buffer.size:
        raise CheckpointError(
            f"a tensor of size {size}, stride {stride}, offset {offset} reaches outside its "
            f"storage of {buffer.size} elements"
        )
    strides = [step * buffer.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(buffer[offset:], size, strides, writeable=False)


def _flatten(tree: Any) -> dict[str, _Tensor]:
    flat: dict[str, _Tensor] = {}
    visited = 0
    pending = [("", tree, 0)]
    while pending:
        path, node, depth = pending.pop()
        visited += 1
        if visited > _MAX_VALUES or depth > _MAX_DEPTH:
            raise CheckpointError("its dictionaries are nested beyond reason")
        if isinstance(node, _Tensor):
            if path in flat:
                raise CheckpointError(f"two tensors are called {path!r}")
            flat[path] = node
            continue
        children: Iterable[tuple[Any, Any]]
        if type(node) in (dict, collections.OrderedDict):
            children = dict.items(node)
        elif type(node) in (list, tuple):
            children = enumerate(node)
        else:
            continue
        for key, child in children:
            if not isinstance(key, str | int):
                raise CheckpointError("a dictionary key that is neither text nor a number")
            pending.append((f"{path}/{key}" if path else str(key), child, depth + 1))
    return dict(reversed(flat.items()))
