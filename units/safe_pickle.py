"""Reading other people's pickled files without running anything that is in them.

`torch.load` and `joblib.load` unpickle, and unpickling can run any program. Here a pickle is interpreted by
`units.pickle_machine`, which calls nothing but the constructors listed in `units.pickle_allowed` and below; all else
is refused by name. Declared sizes are checked against the bytes that are really there before memory is taken.
"""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from units.errors import InputError
from units.joblib_kmeans import read_joblib_kmeans
from units.pickle_allowed import find_plain, items_of, joined, plain
from units.pickle_machine import Allowed, PickleMachine, UnsafePickleError
from units.torch_storage import STORAGE_DTYPES, StorageFile, StorageRef, TensorRef, zip_places

__all__ = ["UnsafePickleError", "read_joblib_kmeans", "read_torch_file"]

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_PICKLE_BYTES = 1 << 26
_TORCH_DTYPES = (
    "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool float double half long int"
)


def read_torch_file(path: str | Path) -> Any:
    """Read what `torch.save` wrote, in its zip or its older layout, to plain values on the CPU.

    Returns tensors (as stored, tied ones sharing memory), NumPy arrays, dicts, lists, tuples, numbers, text; a
    Namespace or a configuration object is a dict. Large storages are mapped from the file and read when used: keep
    the file in place until the tensors have been copied.
    Raises InputError: no such file; UnsafePickleError: a class that is not allowed (named), or a damaged file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, got no such file; check the path")
    n_bytes = path.stat().st_size
    if n_bytes < 4:
        raise UnsafePickleError(
            f"{path}: expected a file written by torch, got {n_bytes} bytes; download it again"
        )
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
        try:
            return _read_zip(path, file) if is_zip else _read_legacy(path, file, n_bytes)
        except UnsafePickleError as error:
            text = str(error)
            raise UnsafePickleError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _read_zip(path: Path, file: BinaryIO) -> Any:
    places = zip_places(path)
    storages = StorageFile(
        path, {k.removeprefix("data/"): v for k, v in places.items() if k.startswith("data/")}
    )
    if "byteorder" in places and _read(file, *places["byteorder"]) != b"little":
        raise UnsafePickleError(
            "expected little-endian numbers, got others; save it again on a common machine"
        )

    def load(reference: Any) -> StorageRef:
        storage = _storage(reference, 5)
        storages.check(storage, storage.n_elements)
        return storage

    value = PickleMachine(memoryview(_read(file, *places["data.pkl"])), str(path), _find, load).run()
    return plain(value, partial(_resolve, storages))


def _read(file: BinaryIO, offset: int, n_bytes: int) -> bytes:
    if n_bytes > _MAX_PICKLE_BYTES:
        raise UnsafePickleError(f"expected a pickle of at most {_MAX_PICKLE_BYTES} bytes, got {n_bytes}")
    file.seek(offset)
    return file.read(n_bytes)


def _read_legacy(path: Path, file: BinaryIO, n_file_bytes: int) -> Any:
    seen: dict[str, tuple[StorageRef, int]] = {}

    def load(reference: Any) -> StorageRef:
        storage = _storage(reference, 6)
        known = seen.setdefault(storage.key, (storage, storage.n_elements))
        if known[0] != storage:
            raise UnsafePickleError(
                f"expected one description of storage {storage.key[:40]}, got two that differ"
            )
        view = reference[5]
        if view is None:
            return storage
        _, first, n_elements = view
        TensorRef(storage, first, (n_elements,), (1,))
        return StorageRef(storage.key, storage.dtype, n_elements, first)

    head = _read(file, 0, min(n_file_bytes, _MAX_PICKLE_BYTES))
    machine = PickleMachine(memoryview(head), str(path), _find, load)
    try:
        is_torch = machine.run() == _LEGACY_MAGIC and machine.run() == _LEGACY_PROTOCOL
    except UnsafePickleError as error:  # text, audio, safetensors: whatever has another beginning
        reason = str(error).removeprefix(f"{path}: ")
        raise UnsafePickleError(f"expected a file written by torch.save, got another ({reason})") from None
    if not is_torch:
        raise UnsafePickleError("expected a file written by torch.save, got a pickle of something else")
    machine.run()  # about the machine that wrote it
    value = machine.run()
    keys = machine.run()
    position = machine.position
    if type(keys) is not list:
        raise UnsafePickleError("expected a list of storages, got another value")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        if type(key) is not str or key not in seen or key in places or position + 8 > n_file_bytes:
            raise UnsafePickleError(
                "expected storages that the pickle names, one behind the other, got others"
            )
        storage, n_elements = seen[key]
        if struct.unpack("<q", _read(file, position, 8))[0] != n_elements:
            raise UnsafePickleError(
                f"expected {n_elements} elements in storage {key[:40]}, got another count"
            )
        n_bytes = n_elements * storage.dtype.itemsize
        places[key] = (position + 8, n_bytes)
        position += 8 + n_bytes
    if position > n_file_bytes:
        raise UnsafePickleError(
            f"expected {position} bytes, got {n_file_bytes}: the file is cut off; download it again"
        )
    storages = StorageFile(path, places)
    for storage, n_elements in seen.values():
        storages.check(storage, n_elements)
    return plain(value, partial(_resolve, storages))


def _resolve(storages: StorageFile, item: Any) -> Tensor:
    if not isinstance(item, TensorRef):
        raise UnsafePickleError(f"expected tensors over their storages, got a bare {type(item).__name__}")
    return storages.tensor(item)


def _storage(reference: Any, n_parts: int) -> StorageRef:
    if type(reference) is not tuple or len(reference) != n_parts or reference[0] != "storage":
        raise UnsafePickleError("expected a reference to a storage, got another reference")
    _, kind, key, _, n_elements = reference[:5]
    dtype = STORAGE_DTYPES.get(kind.name.removeprefix("torch.")) if isinstance(kind, Allowed) else None
    if dtype is None or type(key) is not str or type(n_elements) is not int or n_elements < 0:
        raise UnsafePickleError("expected a storage with type, key and element count, got another")
    return StorageRef(key, dtype, n_elements)


def _rebuild_tensor(machine: PickleMachine, arguments: tuple[Any, ...]) -> TensorRef:
    """Stand for `_rebuild_tensor(_v2)`: storage, offset, sizes, strides, then what does not change the values."""
    if len(arguments) < 4 or not isinstance(arguments[0], StorageRef):
        raise UnsafePickleError("expected a tensor over a storage, got one over another value")
    storage, offset, sizes, strides = arguments[:4]
    if type(sizes) is not tuple or type(strides) is not tuple or len(sizes) != len(strides):
        raise UnsafePickleError("expected a tensor with a stride for every size, got another")
    if len(arguments) > 5 and arguments[5] not in ({}, None):
        raise UnsafePickleError("expected a tensor without hooks, got one with hooks")
    machine.spend(len(sizes))
    return TensorRef(storage, offset, sizes, strides)


def _rebuild_parameter(machine: PickleMachine, arguments: tuple[Any, ...]) -> TensorRef:
    if len(arguments) < 1 or not isinstance(arguments[0], TensorRef):
        raise UnsafePickleError("expected a parameter made of a tensor, got one made of another value")
    if len(arguments) > 2 and arguments[2] not in ({}, None):
        raise UnsafePickleError("expected a parameter without hooks, got one with hooks")
    return arguments[0]


def _size(machine: PickleMachine, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(items_of(machine, arguments))


def _device(machine: PickleMachine, arguments: tuple[Any, ...]) -> str:
    return joined(machine, ":", [str(part) for part in arguments[:2] if type(part) in (str, int)])


_TORCH_NAMES = {
    **{f"torch.{name}": Allowed(f"torch.{name}") for name in (*STORAGE_DTYPES, *_TORCH_DTYPES.split())},
    "torch.Size": Allowed("torch.Size", _size),
    "torch.device": Allowed("torch.device", _device),
    "torch._utils._rebuild_tensor": Allowed("torch._utils._rebuild_tensor", _rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": Allowed("torch._utils._rebuild_tensor_v2", _rebuild_tensor),
    "torch._utils._rebuild_parameter": Allowed("torch._utils._rebuild_parameter", _rebuild_parameter),
}


def _find(module: str, name: str) -> Allowed | None:
    return _TORCH_NAMES.get(f"{module}.{name}") or find_plain(module, name)
