"""The tensors of a PyTorch or safetensors file, by a reader that can build tensors and nothing else, without torch.

A file of `torch.save` is a pickle, which may name any function and have it called. This reader knows the few names that
tensors consist of and refuses every other. What it hands out for them has no attributes that a pickle could set.
"""

import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from keras_inception.errors import WeightsError, imported

# Without the numbers of its tensors, the pickle of a network takes some kilobytes.
_LARGEST_PICKLE = 2**24

# torch.save before version 1.6 began with this number, then came its format's version and the machine's sizes.
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001

# Of torch's storages, and of safetensors' header.
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_SAFETENSORS = {
    "F32": "<f4",
    "F64": "<f8",
    "F16": "<f2",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file: what `torch.save(model.state_dict(), path)` wrote, or a `.safetensors` file.

    Args:
        path: The file; its ending tells the two apart.

    Returns:
        Name to array; bfloat16 becomes float32, other types stay.

    Raises:
        WeightsError: The file is missing or damaged, holds something else, or names a function that is no part of a
            tensor.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {str(path)!r}; give a .pth or .safetensors file")
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    except WeightsError as error:
        raise WeightsError(f"{str(path)!r} {error}") from None


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    safetensors = imported("safetensors", "safetensors")
    try:
        tensors = safetensors.deserialize(path.read_bytes())
        return {name: _array(_SAFETENSORS[of["dtype"]], of["data"]).reshape(of["shape"]) for name, of in tensors}
    except KeyError as error:
        raise WeightsError(f"has a tensor of type {error}, which is not known here") from None
    except (safetensors.SafetensorError, ValueError) as error:
        raise WeightsError(f"is no safetensors file: {error}") from None


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            content, bytes_of = _of_zip(file) if zipped else _of_legacy(file)
        if not isinstance(content, dict):
            raise WeightsError(f"holds {_kind(content)} and no state dict; save model.state_dict()")
        for name, value in content.items():
            if not isinstance(name, str) or not isinstance(value, _Tensor):
                raise WeightsError(
                    f"holds {_kind(value)} under {str(name)[:80]!r}, where a state dict has tensors; save "
                    f"model.state_dict() alone"
                )
        return {name: _materialised(value, bytes_of) for name, value in content.items()}
    except WeightsError:
        raise
    except (Exception, RecursionError) as error:  # a damaged pickle fails in every way that there is
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"is no file of torch.save, or is damaged: {said[:120]}") from None


class _Storage(NamedTuple):
    """A block of numbers somewhere in the file."""

    dtype: str
    key: str
    numbers: int


class _Tensor(NamedTuple):
    """What a tensor is said to be; nothing of it has been checked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Rebuild:
    """Stands for `torch._utils._rebuild_tensor_v2`."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> _Tensor:
        return _Tensor(storage, offset, shape, strides)


class _RebuildParameter:
    """Stands for `torch._utils._rebuild_parameter`: a parameter is its tensor."""

    __slots__ = ()

    def __call__(self, tensor: Any, *unused: Any) -> Any:
        return tensor


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _TensorUnpickler(pickle.Unpickler):
    """Builds tensors, dictionaries, lists and plain values."""

    def find_class(self, module: str, name: str) -> Any:
        if (found := _KNOWN.get((module, name))) is not None:
            return found
        what = f"{module}.{name}"[:120]
        if module.startswith(("torch.nn", "torchvision.")):
            raise WeightsError(
                f"is a whole pickled module ({what}), which only its own code can read, and which may run any other; "
                f"save model.state_dict() in its place"
            )
        raise WeightsError(f"names {what}, which is no part of a tensor: it is refused, and nothing of it was run")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, numbers, *view = pid
        if kind != "storage" or dtype not in _STORAGES.values() or type(numbers) is not int or any(view):
            raise WeightsError("has a storage of a kind that is not known here")
        return _Storage(dtype, str(key), numbers)


def _unpickled(file: IO[bytes]) -> Any:
    return _TensorUnpickler(file, encoding="utf-8").load()


def _of_zip(file: IO[bytes]) -> tuple[Any, Callable[[_Storage], bytes]]:
    """Return what a file of torch 1.6 and later holds, and what reads a storage of it."""
    archive = zipfile.ZipFile(file)
    (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    folder = name.removesuffix("data.pkl")
    # What torch writes is not compressed; what is could be of any size.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise WeightsError("is compressed, as no file of torch.save is")
    if archive.getinfo(name).file_size > _LARGEST_PICKLE:
        raise WeightsError(f"has a pickle of more than {_LARGEST_PICKLE >> 20} MB beside its tensors")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise WeightsError("was written on a big-endian machine; save it anew on another")
    with archive.open(name) as pickled:
        content = _unpickled(pickled)
    blocks = {storage: archive.read(f"{folder}data/{storage.key}") for storage in _storages(content)}
    return content, blocks.__getitem__


def _of_legacy(file: IO[bytes]) -> tuple[Any, Callable[[_Storage], bytes]]:
    """Return what a file of torch before 1.6 holds, and what reads a storage of it.

    Five pickles: a magic number, the format's version, the machine, the tensors without their numbers, and the order of
    the storages; then each storage: the count of its numbers in 8 bytes, and the numbers.
    """
    if _unpickled(file) != _LEGACY_MAGIC or _unpickled(file) != _LEGACY_VERSION:
        raise WeightsError("is no file of torch.save")
    machine = _unpickled(file)
    if not machine.get("little_endian"):
        raise WeightsError("was written on a big-endian machine; save it anew on another")
    content = _unpickled(file)
    known = {storage.key: storage for storage in _storages(content)}
    blocks = {}
    for key in _unpickled(file):
        storage = known[key]
        numbers = int.from_bytes(file.read(8), "little")
        if numbers != storage.numbers:
            raise WeightsError("ends before its tensors do, or holds others than it says")
        blocks[storage] = file.read(numbers * _bytes_of(storage.dtype))
    return content, blocks.__getitem__


def _storages(content: Any) -> list[_Storage]:
    values = content.values() if isinstance(content, dict) else ()
    found = [value.storage for value in values if isinstance(value, _Tensor)]
    return list(dict.fromkeys(storage for storage in found if isinstance(storage, _Storage)))


def _materialised(tensor: _Tensor, bytes_of: Callable[[_Storage], bytes]) -> np.ndarray:
    """Return a tensor's numbers; raises ValueError where they are not all in its storage."""
    block = _array(tensor.storage.dtype, bytes_of(tensor.storage))
    shape, strides = tuple(tensor.shape), tuple(tensor.strides)
    if len(block) != tensor.storage.numbers or int(np.prod(shape, dtype=object)) > len(block):
        raise WeightsError("ends before its tensors do")
    size = block.itemsize
    whole = np.ndarray(shape, block.dtype, block, tensor.offset * size, [stride * size for stride in strides])
    return np.ascontiguousarray(whole).reshape(shape)


def _array(dtype: str, block: bytes) -> np.ndarray:
    if dtype != "bfloat16":
        return np.frombuffer(block, dtype)
    # The upper half of a float32.
    return (np.frombuffer(block, "<u2").astype("<u4") << 16).view("<f4")


def _bytes_of(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _kind(value: Any) -> str:
    return "a tensor" if isinstance(value, _Tensor) else f"a {type(value).__name__}"
