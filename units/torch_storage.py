"""Storages and tensors inside a torch file: where their bytes lie, checked against the file before anything is read.

Source: the zip layout of `torch.save` since torch 1.6 (one stored record per storage), and the layout before it (four
pickles, then every storage as an element count and its elements).
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from units.pickle_machine import UnsafePickleError

STORAGE_DTYPES: Mapping[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MAPPED_FROM_BYTES = 1 << 20  # smaller storages are read: a mapping each would be many
_MAPPINGS: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()
_MAX_DIRECTORY_BYTES, _MAX_DIMENSIONS = (
    1 << 21,
    16,
)  # of 10,000 storages: as many as a checkpoint may have tensors


@dataclass(frozen=True)
class StorageRef:
    """A storage a pickle refers to: its key in the file, type, and elements; a view starts at `first`."""

    key: str
    dtype: torch.dtype
    n_elements: int
    first: int = 0


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A tensor over a storage: offset, sizes and strides in elements, checked to lie inside of it."""

    storage: StorageRef
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.sizes, *self.strides)
        fits = len(self.sizes) <= _MAX_DIMENSIONS and all(
            type(n) is int and 0 <= n < 1 << 62 for n in numbers
        )
        if fits:
            n_elements = math.prod(self.sizes)
            steps = ((size - 1) * stride for size, stride in zip(self.sizes, self.strides, strict=True))
            fits = n_elements == 0 or self.offset + sum(steps) < self.storage.n_elements
            fits = fits and n_elements <= self.storage.n_elements  # or a small file could ask for much memory
        if not fits:
            raise UnsafePickleError(
                f"expected tensors inside their storage of {self.storage.n_elements} elements, got one beyond it"
            )


class StorageFile:
    """Reads storages from byte ranges of a file; large ones are mapped, so that what is not used is never read.

    path: the file. places: offset and bytes by key.
    """

    def __init__(self, path: Path, places: Mapping[str, tuple[int, int]]) -> None:
        self.path, self.places = path, places
        self._bytes: dict[str, Tensor] = {}

    def check(self, storage: StorageRef, n_elements: int) -> None:
        """Raise UnsafePickleError unless the file holds exactly `n_elements` for this storage."""
        expected = n_elements * storage.dtype.itemsize
        got = self.places.get(storage.key, (0, -1))[1]
        if expected != got:
            raise UnsafePickleError(
                f"expected {expected} bytes for storage {storage.key[:40]}, got "
                f"{'none' if got < 0 else got} in the file"
            )

    def tensor(self, ref: TensorRef) -> Tensor:
        """Make the tensor, sharing memory with others over its storage."""
        key, dtype = ref.storage.key, ref.storage.dtype
        if key not in self._bytes:
            self._bytes[key] = self._read(*self.places[key])
        raw = self._bytes[key]
        flat = raw.view(dtype) if len(raw) else torch.empty(0, dtype=dtype)
        return flat.as_strided(ref.sizes, ref.strides, ref.storage.first + ref.offset)

    def _read(self, offset: int, n_bytes: int) -> Tensor:
        if n_bytes == 0:
            return torch.empty(0, dtype=torch.uint8)
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        with self.path.open("rb") as file:
            if n_bytes >= _MAPPED_FROM_BYTES and offset % 8 == 0:
                # A private mapping: writing to the tensor changes neither the file nor other readers.
                mapped = mmap.mmap(
                    file.fileno(), offset - start + n_bytes, access=mmap.ACCESS_COPY, offset=start
                )
                raw = torch.frombuffer(mapped, dtype=torch.uint8, count=n_bytes, offset=offset - start)
                _MAPPINGS[raw.untyped_storage().data_ptr()] = mapped
                return raw
            file.seek(offset)
            read = np.empty(n_bytes, dtype=np.uint8)
            if file.readinto(read.data) != n_bytes:
                raise UnsafePickleError("expected the whole file, got one that is cut off while it is read")
            return torch.from_numpy(read)


def forget_pages(tensor: Tensor) -> None:
    """Give the memory of a mapped tensor that was read and never written back: its bytes are read again when needed."""
    mapped = _MAPPINGS.get(tensor.untyped_storage().data_ptr())
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def zip_places(path: Path) -> dict[str, tuple[int, int]]:
    """List a torch zip file's records: offset and bytes by name below the archive's root.

    Raises UnsafePickleError: compressed, overlapping or cut-off records, or no data.pkl.
    """
    n_file_bytes = path.stat().st_size
    with path.open("rb") as file:
        _check_directory(file, n_file_bytes)
        try:
            with zipfile.ZipFile(file) as archive:
                records = archive.infolist()
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OSError) as error:
            raise UnsafePickleError(
                f"expected a zip file written by torch, got a damaged one ({error})"
            ) from None
        if any(r.compress_type != zipfile.ZIP_STORED or r.file_size != r.compress_size for r in records):
            raise UnsafePickleError("expected stored records as torch writes them, got compressed ones")
        if sum(r.file_size for r in records) > n_file_bytes:
            raise UnsafePickleError("expected records side by side, got more bytes than the file has")
        roots = [r.filename.removesuffix("/data.pkl") for r in records if r.filename.endswith("/data.pkl")]
        roots = [root for root in roots if "/" not in root]
        if len(roots) != 1:
            raise UnsafePickleError(
                "expected one data.pkl as torch writes it, got a zip file without or with more"
            )
        if f"{roots[0]}/constants.pkl" in {r.filename for r in records}:
            raise UnsafePickleError(
                "expected weights, got a TorchScript program; use the checkpoint it was made from"
            )
        prefix = f"{roots[0]}/"
        places: dict[str, tuple[int, int]] = {}
        for r in records:
            if not r.filename.startswith(prefix):
                continue
            if r.header_offset < 0:  # where the directory says that it lies later than it does
                raise UnsafePickleError("expected records before their table, got a damaged zip file")
            file.seek(r.header_offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise UnsafePickleError("expected a header before every record, got a damaged zip file")
            n_name, n_extra = struct.unpack("<HH", header[26:])
            place = (r.header_offset + 30 + n_name + n_extra, r.file_size)
            if sum(place) > n_file_bytes or r.filename in places:
                raise UnsafePickleError("expected every record once and whole, got a damaged zip file")
            places[r.filename.removeprefix(prefix)] = place
    return places


def _check_directory(file: Any, n_file_bytes: int) -> None:
    """Refuse a directory too large to be one, before Python reads all of it into memory."""
    tail_start = max(0, n_file_bytes - 66_000)
    file.seek(tail_start)
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise UnsafePickleError(
            "expected the end of a zip file, got a file that is cut off; download it again"
        )
    (n_bytes,) = struct.unpack("<I", tail[end + 12 : end + 16])
    if (
        tail[max(0, end - 20) : end][:4] == b"PK\x06\x07"
    ):  # then zipfile looks for a wider record right before this one
        wide = tail[max(0, end - 76) : end - 20]
        if wide[:4] != b"PK\x06\x06":
            raise UnsafePickleError("expected the end of a large zip file, got a damaged one")
        n_bytes = max(struct.unpack("<Q", wide[40:48])[0], n_bytes if n_bytes != 0xFFFFFFFF else 0)
    if n_bytes > _MAX_DIRECTORY_BYTES:
        raise UnsafePickleError(f"expected a small table of records, got one of {n_bytes} bytes")
