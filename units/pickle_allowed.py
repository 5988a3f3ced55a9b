"""What a checkpoint's pickle may ask for, and the plain value that stands for it.

Configurations (argparse, omegaconf, fairseq's dataclasses) become dicts and lists, NumPy's arrays and numbers are
rebuilt from their bytes after checks, classes that are only mentioned become their name. No module is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from units.pickle_machine import Allowed, PickleMachine, Record, UnsafePickleError, checked_key

_MAX_DEPTH = 60
Call = Callable[[PickleMachine, tuple[Any, ...]], Any]


class _NumpyDtype(Record):
    """A number format; its state holds the byte order."""

    def build(self, machine: PickleMachine, state: Any) -> None:
        order, rest = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or rest != (None, None, None):
            raise UnsafePickleError("expected plain numbers in an array, got structured or object values")
        self.attributes["dtype"] = self.dtype.newbyteorder(order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy knows it."""
        dtype: np.dtype[Any] = self.attributes["dtype"]
        return dtype


class NumpyArray(Record):
    """An array; its state holds shape, number format and bytes."""

    def build(self, machine: PickleMachine, state: Any) -> None:
        """Rebuild from (version, shape, dtype, is_fortran, bytes); the version is left out where it is 0."""
        shape, dtype, is_fortran, raw = state[-4:]
        raw = _raw_bytes(machine, raw)
        if not isinstance(dtype, _NumpyDtype) or type(raw) is not bytes:
            raise UnsafePickleError("expected an array of numbers with its bytes, got another state")
        self.attributes["array"] = array_of(raw, dtype.dtype, shape, "F" if is_fortran else "C")


def dtype_of(record: Any) -> np.dtype[Any]:
    """Give the number format that a pickled `numpy.dtype` stands for. Raises UnsafePickleError: something else."""
    if not isinstance(record, _NumpyDtype):
        raise UnsafePickleError(f"expected a number format, got a {type(record).__name__}")
    return record.dtype


def n_bytes_of(dtype: np.dtype[Any], shape: Any) -> int:
    """Count the bytes of an array. Raises UnsafePickleError for a shape that is none."""
    if (
        type(shape) is not tuple
        or len(shape) > 32
        or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape)
    ):
        raise UnsafePickleError("expected a shape of whole numbers, got another")
    return math.prod(shape) * dtype.itemsize


def array_of(raw: bytes | memoryview, dtype: np.dtype[Any], shape: Any, order: Any) -> np.ndarray:
    """View bytes as an array. Raises UnsafePickleError unless the shape takes exactly these bytes."""
    n_bytes = n_bytes_of(dtype, shape)
    if not isinstance(raw, bytes | memoryview) or n_bytes != len(raw) or order not in ("C", "F"):
        raise UnsafePickleError(f"expected {n_bytes} bytes for an array of shape {shape}, got others")
    flat = np.frombuffer(raw, dtype)
    return flat.reshape(shape) if order == "C" else flat.reshape(shape[::-1]).T


def _raw_bytes(machine: PickleMachine, raw: Any) -> Any:
    """Bytes that Python 2 wrote came as text, one character for each."""
    if type(raw) is not str:
        return raw
    machine.spend(0, len(raw))
    return raw.encode("latin-1")


def _record(kind: type[Record], name: str) -> Call:
    return lambda machine, arguments: kind(name)


def _dtype(machine: PickleMachine, arguments: tuple[Any, ...]) -> _NumpyDtype:
    code = arguments[0]
    if type(code) is not str or code[:1] not in tuple("biufc") or not code[1:].isdecimal() or len(code) > 4:
        raise UnsafePickleError(f"expected a number format such as f4, got {str(code)[:20]!r}")
    return _NumpyDtype("numpy.dtype", {"dtype": np.dtype(code)})


def _scalar(machine: PickleMachine, arguments: tuple[Any, ...]) -> Any:
    dtype, raw = arguments
    return array_of(_raw_bytes(machine, raw), dtype_of(dtype), (), "C").item()


def _array_of_buffer(machine: PickleMachine, arguments: tuple[Any, ...]) -> NumpyArray:
    raw, dtype, shape, order = arguments
    return NumpyArray("numpy.ndarray", {"array": array_of(raw, dtype_of(dtype), shape, order)})


def _encode(machine: PickleMachine, arguments: tuple[Any, ...]) -> bytes:
    text, encoding = arguments
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError("expected latin-1 text that holds bytes, got another encoding")
    return _raw_bytes(machine, text)


def _mapping(machine: PickleMachine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    pairs = arguments[0] if arguments else ()
    items = list(pairs.items()) if type(pairs) is dict else pairs
    machine.spend(len(items))
    return {checked_key(key): value for key, value in items}


def _default_mapping(machine: PickleMachine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    return _mapping(machine, arguments[1:])


def items_of(machine: PickleMachine, arguments: tuple[Any, ...]) -> list[Any]:
    """Stand for a set or another collection made of one list or tuple. Raises UnsafePickleError: made of others."""
    items = arguments[0] if arguments else ()
    if type(items) not in (list, tuple):
        raise UnsafePickleError("expected a list of items, got another value")
    machine.spend(len(items))
    return list(items)


def _choice(machine: PickleMachine, arguments: tuple[Any, ...]) -> str:
    if len(arguments) != 1 or type(arguments[0]) is not str:
        raise UnsafePickleError("expected a setting's choice as text, got another value")
    return arguments[0]


def _path(machine: PickleMachine, arguments: tuple[Any, ...]) -> str:
    return joined(machine, "/", [part for part in arguments[:64] if type(part) is str])


def joined(machine: PickleMachine, separator: str, parts: list[str]) -> str:
    """Put text together that the pickle may hold once and name many times."""
    machine.spend(len(parts), sum(map(len, parts)))
    return separator.join(parts)


def _subscript(machine: PickleMachine, arguments: tuple[Any, ...]) -> Allowed:
    """`typing.Optional[int]` and its like, as omegaconf notes them beside a value."""
    generic = arguments[0]
    if not isinstance(generic, Allowed) or not generic.name.startswith("typing."):
        raise UnsafePickleError("expected a type, got a call of operator.getitem")
    return generic


def _named(
    module: str, names: str, call: Call | None = None, kind: type[Record] | None = None
) -> dict[str, Allowed]:
    full = [f"{module}.{name}" for name in names.split()]
    return {name: Allowed(name, _record(kind, name) if kind is not None else call) for name in full}


_BUILTINS = "int float str bool bytes list tuple object long unicode type NoneType complex"
_OMEGACONF_NODES = (
    "AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode BytesNode PathNode ValueNode"
)
PLAIN_NAMES: Mapping[str, Allowed] = {
    **_named("builtins", _BUILTINS),
    **_named("__builtin__", _BUILTINS),
    **_named("builtins", "dict", _mapping),
    **_named("__builtin__", "dict", _mapping),
    **_named("builtins", "set frozenset", items_of),
    **_named("__builtin__", "set frozenset", items_of),
    **_named("collections", "OrderedDict Counter", _mapping),
    **_named("collections", "defaultdict", _default_mapping),
    **_named("typing", "Any Union Optional List Dict Tuple"),
    **_named("operator", "getitem", _subscript),
    **_named("_operator", "getitem", _subscript),
    **_named("pathlib", "PosixPath WindowsPath PurePosixPath PureWindowsPath Path", _path),
    **_named("pathlib._local", "PosixPath WindowsPath PurePosixPath PureWindowsPath Path", _path),
    **_named("_codecs", "encode", _encode),
    **_named("argparse", "Namespace", kind=Record),
    **_named("omegaconf.dictconfig", "DictConfig", kind=Record),
    **_named("omegaconf.listconfig", "ListConfig", kind=Record),
    **_named("omegaconf.base", "Metadata ContainerMetadata", kind=Record),
    **_named("omegaconf.nodes", _OMEGACONF_NODES, kind=Record),
    **_named("fairseq.data.dictionary", "Dictionary TruncatedDictionary", kind=Record),
    **_named("fairseq.meters", "AverageMeter TimeMeter StopwatchMeter SumMeter", kind=Record),
    **_named("fairseq.logging.meters", "AverageMeter TimeMeter StopwatchMeter SumMeter", kind=Record),
    **_named("numpy", "ndarray"),
    **_named("numpy", "dtype", _dtype),
}
for _numpy in ("numpy.core", "numpy._core"):
    PLAIN_NAMES = {
        **PLAIN_NAMES,
        **_named(f"{_numpy}.multiarray", "scalar", _scalar),
        **_named(f"{_numpy}.multiarray", "_reconstruct", kind=NumpyArray),
        **_named(f"{_numpy}.numeric", "_frombuffer", _array_of_buffer),
    }


# Where fairseq keeps the enumerations of its settings, each member of which is a text.
_CHOICES = ("fairseq.dataclass.constants", "fairseq.dataclass.utils")


def find_plain(module: str, name: str) -> Allowed | None:
    """Look a name up in the allow-list of configurations and NumPy values."""
    found = PLAIN_NAMES.get(f"{module}.{name}")
    # Dataclasses of fairseq's configurations, which omegaconf mentions and older files hold: inert whatever they are.
    is_config = module.startswith("fairseq.") and name.endswith("Config") and name.isidentifier()
    if found is None and is_config:
        return Allowed(f"{module}.{name}", _record(Record, f"{module}.{name}"))
    if found is None and module in _CHOICES and name.isidentifier():
        return Allowed(f"{module}.{name}", _choice)
    return found


def plain(value: Any, resolve: Callable[[Any], Any]) -> Any:
    """Turn stand-ins into plain values: dicts, lists, tuples, numbers, text, bytes, arrays, and what `resolve` gives.

    A value that is shared stays shared. resolve: turns stand-ins not known here (those of tensors) into values.
    Raises UnsafePickleError: a value that contains itself, or is nested deeper than 60 levels.
    """
    done: dict[int, Any] = {}
    open_ids: set[int] = set()

    def convert(item: Any, depth: int) -> Any:
        if item is None or type(item) in (str, int, float, bool, bytes):
            return item
        if id(item) in done:
            return done[id(item)]
        if id(item) in open_ids or depth > _MAX_DEPTH:
            raise UnsafePickleError(
                "expected values nested some levels deep, got one inside itself or too deep"
            )
        open_ids.add(id(item))
        done[id(item)] = result = convert_new(item, depth + 1)
        open_ids.discard(id(item))
        return result

    def convert_new(item: Any, depth: int) -> Any:
        if type(item) is dict:
            return {key: convert(part, depth) for key, part in item.items()}
        if type(item) is list:
            return [convert(part, depth) for part in item]
        if type(item) is tuple:
            return tuple(convert(part, depth) for part in item)
        if isinstance(item, NumpyArray):
            return item.attributes.get("array")
        if isinstance(item, _NumpyDtype):
            return item.dtype.str
        if isinstance(item, Allowed):
            return item.name
        if isinstance(item, Record):
            if item.name.startswith("omegaconf."):
                return convert(item.attributes.get("_content", item.attributes.get("_val")), depth)
            return convert(item.attributes, depth)
        return resolve(item)

    return convert(value, 0)
