"""The centroids of a k-means model that scikit-learn fitted and joblib dumped, without scikit-learn or joblib.

Source: joblib's `numpy_pickle`: a pickle in which every array is a `NumpyArrayWrapper` with shape and number format,
followed at once by the array's bytes; since joblib 1.1 after padding, whose length stands in one byte before it.
"""

from __future__ import annotations

import bz2
import lzma
import mmap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from units.errors import InputError
from units.pickle_allowed import NumpyArray, array_of, dtype_of, find_plain, n_bytes_of, plain
from units.pickle_machine import Allowed, PickleMachine, Record, UnsafePickleError

# The two bytes that a compressed file begins with, and what undoes it; lz4 is not in Python's library.
_INFLATE: dict[bytes, Callable[[], Any] | None] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(31),
    **dict.fromkeys((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"), zlib.decompressobj),
    b"BZ": bz2.BZ2Decompressor,
    b"\xfd7": lambda: lzma.LZMADecompressor(memlimit=2 * _MAX_INFLATED_BYTES),
    b"]\x00": lambda: lzma.LZMADecompressor(memlimit=2 * _MAX_INFLATED_BYTES),
    b"\x04\x22": None,
}
_MAX_INFLATED_BYTES = 1 << 26  # a codebook has some megabytes; a small file must not become gigabytes
COMPRESSED = tuple(_INFLATE)


class _WrappedArray(NumpyArray):
    """joblib's `NumpyArrayWrapper`; once its attributes are there, its bytes are read from behind the opcode."""

    def build(self, machine: PickleMachine, state: Any) -> None:
        """Take shape, order and number format, then the bytes that follow in the stream."""
        Record.build(self, machine, state)
        attributes = self.attributes
        if attributes.get("numpy_array_alignment_bytes") is not None:
            machine.take(machine.take(1)[0])
        dtype, shape = dtype_of(attributes["dtype"]), attributes["shape"]
        raw = machine.take(n_bytes_of(dtype, shape))
        attributes["array"] = array_of(raw, dtype, shape, attributes["order"])


def read_joblib_kmeans(path: str | Path) -> np.ndarray:
    """Read the centroids (K, D) float32 of a joblib-dumped KMeans or MiniBatchKMeans of scikit-learn 0.20 or newer.

    It may be compressed by zlib, gzip, bz2, xz or lzma. Raises InputError: no such file; UnsafePickleError: a class
    that is not allowed (named), a damaged file or one that grows too large, or one without centroids.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a k-means model, got no such file; check the path")
    if path.stat().st_size < 2:
        raise UnsafePickleError(
            f"{path}: expected a k-means model, got a file of {path.stat().st_size} bytes (empty); download it again"
        )
    try:
        with path.open("rb") as file:  # mapped: nothing says that a file of this name is small
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = memoryview(mapped)
        compressed = bytes(data[:2]) in _INFLATE
        return _centroids(memoryview(_inflated(data)) if compressed else data, path)
    except UnsafePickleError as error:
        text = str(error)
        raise UnsafePickleError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _inflated(data: memoryview) -> bytes:
    """Undo joblib's compression. Raises UnsafePickleError: damaged, too much, or of a kind that cannot be undone."""
    make = _INFLATE[bytes(data[:2])]
    if make is None:
        raise UnsafePickleError(
            "expected a joblib file without lz4, got one compressed by it; load it where you trust it and dump it with "
            "compress=0"
        )
    inflater = make()
    try:
        inflated: bytes = inflater.decompress(data, _MAX_INFLATED_BYTES)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise UnsafePickleError(
            f"expected a whole compressed file, got trouble: {error}; download it again"
        ) from error
    if not inflater.eof:
        raise UnsafePickleError(
            f"expected a whole compressed file of at most {_MAX_INFLATED_BYTES} bytes, got more, or one cut off"
        )
    return inflated


def _centroids(data: memoryview, path: Path) -> np.ndarray:
    value = PickleMachine(data, str(path), _find).run()
    name = value.name if isinstance(value, Record) else type(value).__name__
    if not isinstance(value, Record) or name not in _KMEANS:
        raise UnsafePickleError(f"expected a KMeans or MiniBatchKMeans of scikit-learn, got a {name}")
    centroids_KD = plain(value.attributes.get("cluster_centers_"), _array)
    if not isinstance(centroids_KD, np.ndarray) or centroids_KD.ndim != 2 or centroids_KD.dtype.kind != "f":
        raise UnsafePickleError(
            "expected a fitted k-means model with centroids, got one without; fit it first"
        )
    return np.array(centroids_KD, dtype=np.float32, order="C")


def _array(item: Any) -> np.ndarray:
    raise UnsafePickleError(f"expected numbers, got a {type(item).__name__}")


class _Opaque(Record):
    """An object kept as an inert record, of whose states only a dict is of interest."""

    def build(self, machine: PickleMachine, state: Any) -> None:
        if isinstance(state, dict):
            super().build(machine, state)


def _opaque(name: str) -> Allowed:
    return Allowed(name, lambda machine, arguments: _Opaque(name))


_MODULES = ("sklearn.cluster.k_means_", "sklearn.cluster._kmeans")
_KMEANS = [f"{module}.{name}" for module in _MODULES for name in ("KMeans", "MiniBatchKMeans")]
_RANDOM = [
    "numpy.random.__RandomState_ctor",
    "numpy.random.mtrand.RandomState",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._pickle.__generator_ctor",
    "numpy.random._mt19937.MT19937",
    "numpy.random._pcg64.PCG64",
    "numpy.random.bit_generator.SeedSequence",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
]
_NAMES = {name: _opaque(name) for name in (*_KMEANS, *_RANDOM)}
for _module in ("joblib", "sklearn.externals.joblib"):
    _name = f"{_module}.numpy_pickle.NumpyArrayWrapper"
    _NAMES[_name] = Allowed(_name, lambda machine, arguments: _WrappedArray("joblib.NumpyArrayWrapper"))


def _find(module: str, name: str) -> Allowed | None:
    return _NAMES.get(f"{module}.{name}") or find_plain(module, name)
