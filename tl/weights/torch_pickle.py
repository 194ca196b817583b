"""Reads PyTorch checkpoints without PyTorch, and without running code from the file.

A checkpoint is a pickle, and a pickle is a program. The unpickler here imports nothing. It knows
the few names that tensors need, and builds only descriptions of tensors, which are checked against
the bytes of the file before any array is made. In place of any other object, such as a path or a
NumPy scalar, it puts a placeholder that does nothing. It refuses names that only attacks use.

Format: torch/serialization.py; the zip container (torch >= 1.6) and the legacy stream before it.
"""

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import ml_dtypes
import numpy as np

from tl.weights import readings

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = pickle.dumps(LEGACY_MAGIC, protocol=2)
_PROTOCOL = 1001
_MAX_DEPTH = 16  # of nested dictionaries and lists; an optimizer's state has 5
_MAX_VALUES = 1_000_000  # lists that contain each other expand without limit
_MAX_DIMENSIONS = 64  # as in NumPy and torch

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
        match self.kind, args:
            case "tensor", _:  # storage, offset, size, stride, then values for training alone
                return _Tensor(*args[:4])
            case "subclass", (function, _, tuple(arguments), *_):
                return function(*arguments)
        return args[0]  # the tensor of a parameter


class _Placeholder:
    """Stands for an object that weights do not need: it takes everything and does nothing.

    Attributes:
      is_network: whether the object was a torch module with modules inside.
    """

    __slots__ = ("is_network",)

    is_network: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Placeholder":
        placeholder = object.__new__(cls)
        placeholder.is_network = False  # here, since a pickle may leave __init__ out
        return placeholder

    def __call__(self, *args: Any, **kwargs: Any) -> "_Placeholder":
        return self

    def __setstate__(self, state: Any) -> None:
        self.is_network = isinstance(state, dict) and bool(state.get("_modules"))

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Does nothing, as do the others."""

    extend = add = update = append


class _NumpyArray(_Placeholder):
    """Stands for an array that was not made a tensor."""

    __slots__ = ()


class _Dict(dict[Any, Any]):
    """A dictionary of the file; it takes only keys that have a hash at once."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]] = ()):
        super().__init__()
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        # The hash of nested tuples takes time exponential in their depth.
        parts = key if type(key) is tuple else (key,)
        if not all(type(part) in _KEYS for part in parts):
            raise CheckpointError("a dictionary key that is neither text nor a number")
        super().__setitem__(key, value)

    def __setstate__(self, state: Any) -> None:
        pass  # torch keeps versions of modules in an attribute


class _DefaultDict(_Dict):
    def __init__(self, factory: Any = None, pairs: Iterable[tuple[Any, Any]] = ()):
        super().__init__(pairs)


_KEYS = (str, int, float, bool, bytes, type(None), _Placeholder)
_ALLOWED = {
    ("collections", "OrderedDict"): _Dict,
    ("collections", "defaultdict"): _DefaultDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _Function("tensor"),
    ("torch._utils", "_rebuild_tensor_v2"): _Function("tensor"),
    ("torch._utils", "_rebuild_parameter"): _Function("parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function("parameter"),
    ("torch._tensor", "_rebuild_from_type_v2"): _Function("subclass"),
    ("numpy.core.multiarray", "_reconstruct"): _NumpyArray,
    ("numpy.core.numeric", "_frombuffer"): _NumpyArray,  # pickle's protocol 5
    ("numpy._core.multiarray", "_reconstruct"): _NumpyArray,  # NumPy 2
    ("numpy._core.numeric", "_frombuffer"): _NumpyArray,
}
# Nothing in a file is imported or run, whatever it names. Files that name these are no weights, and
# a user should hear of it.
_ATTACKS = re.compile(
    r"(os|posix|nt|pty|subprocess|commands|sys|shutil|socket|runpy|importlib|imp|ctypes|code|codeop|"
    r"pdb|bdb|timeit|webbrowser|_?pickle|marshal|pkgutil|zipimport)(\..*)?"
)
_BUILTINS = ("builtins", "__builtin__")
_CODE = {"eval", "exec", "execfile", "compile", "open", "file", "input", "apply", "breakpoint"}


def _check_name(module: str, name: str) -> None:
    runs_code = _ATTACKS.fullmatch(module) or (module in _BUILTINS and name in _CODE)
    # A tensor of a kind that is not read here, such as a quantised one, must not vanish.
    tensor = module.startswith("torch.") and name.startswith("_rebuild_")
    if runs_code or tensor or any(part.startswith("__") for part in name.split(".")):
        raise CheckpointError(f"it refers to {module}.{name}, which weights do not need")


class _Unpickler(pickle._Unpickler):
    """The unpickler written in Python, with dictionaries and sets of our own.

    The one written in C fills its dictionaries by itself, and so hashes whatever is a key. Its memo
    is an array, which a file could make as long as it likes; here it is a dictionary.
    """

    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _StorageType(name)
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        _check_name(module, name)
        return _Placeholder

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", _StorageType(kind), str(key), str(), int(numel), *view):
                if view not in ([], [None]):
                    raise CheckpointError(f"storage {key!r} is a view of another one")
            case ("module", type() as placeholder, str(), str()):
                return placeholder  # the class of a whole model, with its source text
            case _:
                raise CheckpointError("a reference to something other than a storage")
        storage = _Storage(key, _DTYPES[kind], numel)
        if numel < 0 or self.storages.setdefault(key, storage) != storage:
            raise CheckpointError(f"storage {key!r} is declared twice or has a negative size")
        return storage

    def load_empty_dictionary(self) -> None:
        self.append(_Dict())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_Dict(zip(items[::2], items[1::2], strict=True)))

    def load_empty_set(self) -> None:
        self.append(_Placeholder())

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.append(_Placeholder())

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.read(size)  # which allocates only what the file has
        self.append(_Placeholder())

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.EMPTY_DICT[0]: load_empty_dictionary,
        pickle.DICT[0]: load_dict,
        pickle.EMPTY_SET[0]: load_empty_set,
        pickle.FROZENSET[0]: load_frozenset,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def read(data: bytes) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint in either container.

    Args:
      data: bytes of a zip file, or of a file that begins with LEGACY_START.

    Returns:
      Name to read-only array; names of nested dictionaries are joined by `/`. Values that are not
      tensors (epochs, flags) are left out.

    Raises:
      CheckpointError: the file is a pickled model or a TorchScript program, or refers to something
        that weights do not need, or its parts contradict each other.
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
        if any(f"{root}constants.pkl" in names for root in roots):
            raise CheckpointError(
                "a TorchScript program (torch.jit.save): save the state_dict() of its module"
            )
        if any(name.endswith("/archive_format") for name in names) and not roots:
            raise CheckpointError("a program of torch.export: save the state_dict() of its module")
        if len(roots) != 1:
            raise CheckpointError(
                f"expected an archive with one data.pkl, got {len(roots)} in {len(names)} members"
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
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not is_list or sorted(keys) != sorted(unpickler.storages):
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
    if len(size) > _MAX_DIMENSIONS:
        raise CheckpointError(f"a tensor of {len(size)} dimensions")
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
    visited = networks = arrays = 0
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
        networks += isinstance(node, _Placeholder) and node.is_network
        arrays += isinstance(node, _NumpyArray)
        children: Iterable[tuple[Any, Any]]
        if isinstance(node, _Dict):
            children = node.items()
        elif type(node) in (list, tuple):
            children = enumerate(node)
        else:
            continue
        for key, child in children:
            if isinstance(key, str | int):  # no weight is called anything else
                pending.append((f"{path}/{key}" if path else str(key), child, depth + 1))
    # Beside a whole model there may be the tensors of an optimizer.
    if networks and all(map(readings.is_training, flat)):
        raise CheckpointError("a whole pickled model: save its state_dict()")
    if arrays and not flat:
        raise CheckpointError(
            f"its {arrays:,} arrays are NumPy's: save torch.from_numpy(array) in place of each"
        )
    return dict(reversed(flat.items()))
