"""Pickles made to harm: all are refused, quickly, by name where they ask for something, and nothing happens."""

from __future__ import annotations

import builtins
import functools
import io
import os
import pickle
import struct
import subprocess
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from units.safe_pickle import UnsafePickleError, read_joblib_kmeans, read_torch_file

CANARY = "canary"
SECONDS = 1.0  # of CPU that refusing a file may take at most
MEMORY = 150_000_000  # bytes of Python objects that reading a small file may take at most


class Call:
    """Pickles as a call of `function(*arguments)`, with a state where one is given."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


class WithState:
    """Has a `__setstate__` that leaves a trace."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __getstate__(self) -> str:
        return self.canary

    def __setstate__(self, canary: str) -> None:
        Path(canary).touch()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def storage(n_elements: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number(n_elements) + b"tQ"


def tensor(stored: bytes, offset: int, sizes: list[int], strides: list[int], hooks: bytes = b"}") -> bytes:
    shape, steps = (b"(" + b"".join(map(number, part)) + b"t" for part in (sizes, strides))
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + stored
        + number(offset)
        + shape
        + steps
        + b"\x89"
        + hooks
        + b"tR"
    )


def zipped(
    pickled: bytes, storages: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, raw in (storages or {"0": bytes(40)}).items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def model_of(value: bytes) -> bytes:
    return b"\x80\x02}" + text("model") + value + b"s."


def dumped(value: Any, protocol: int = 2) -> bytes:
    return pickle.dumps({"model": value}, protocol=protocol)


def hostile(canary: str) -> dict[str, tuple[bytes, str]]:
    """File content by what it tries, and what the refusal must name ("" where no class is asked for)."""
    touch = f"touch {canary}"
    write = f"open({canary!r}, 'w').close()"
    system = name(os.system.__module__, "system")
    called = system + text(touch) + b"\x85R"
    array = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    floats = name("numpy", "dtype") + text("f8") + b"\x89\x88\x87R"
    objects = name("numpy", "dtype") + text("O8") + b"\x89\x88\x87R"
    namespace = name("argparse", "Namespace") + b")\x81"
    nested_key = b"K\x01" + b"2\x86" * 60 + b"K\x01"
    cases = {
        "os.system": (dumped(Call(os.system, touch)), f"{os.system.__module__}.system"),
        "os.system protocol 0": (dumped(Call(os.system, touch), 0), "system"),
        "os.system protocol 5": (dumped(Call(os.system, touch), 5), "system"),
        "eval": (dumped(Call(eval, write)), "eval"),
        "exec through functools.partial": (dumped(functools.partial(exec, write)), "functools.partial"),
        "call of a partial": (dumped(Call(functools.partial(exec, write))), "functools.partial"),
        "subprocess": (dumped(Call(subprocess.Popen, ["touch", canary])), "Popen"),
        "import": (dumped(Call(builtins.__import__, "antigravity")), "__import__"),
        "getattr": (model_of(name("builtins", "getattr") + name("os", "path") + text("os") + b"\x86R"), "getattr"),
        "nested reduce": (dumped(OrderedDict([("a", [Call(OrderedDict, [("b", Call(os.system, touch))])])])), "system"),
        "reduce beside tensors": (dumped({"w": torch.zeros(2), "x": Call(os.system, touch)}), "_load_from_bytes"),
        "state of an unknown class": (model_of(name("evil", "Evil") + b")\x81}" + text("a") + b"K\x01sb"), "evil.Evil"),
        "state of a class with __setstate__": (dumped(WithState(canary)), "WithState"),
        "state that calls": (dumped(Call(OrderedDict, state={"f": Call(os.system, touch)})), "system"),
        "state of a name": (model_of(name("argparse", "Namespace") + b"}b"), ""),
        "item of a call": (model_of(namespace + b"}" + text("a") + called + b"sb"), "system"),
        "inst opcode": (b"(" + text(touch) + f"i{os.system.__module__}\nsystem\n.".encode(), "system"),
        "obj opcode": (model_of(b"(" + system + text(touch) + b"o"), "system"),
        "extension opcode": (model_of(b"\x82\x01"), ""),
        "newobj_ex": (model_of(name("collections", "OrderedDict") + b")}" + text("a") + b"K\x01s\x92"), ""),
        "call of a number": (model_of(b"K\x01)R"), ""),
        "call of a mentioned type": (model_of(name("builtins", "int") + text("1") + b"\x85R"), "builtins.int"),
        "operator.getitem": (model_of(name("_operator", "getitem") + b"}" + text("a") + b"\x86R"), "getitem"),
        "methodcaller": (model_of(name("operator", "methodcaller") + text("system") + b"\x85R"), "methodcaller"),
        "torch.load inside": (model_of(name("torch.storage", "_load_from_bytes") + b"C\x01a\x85R"), "_load_from_bytes"),
        "rebuild from type": (model_of(name("torch._tensor", "_rebuild_from_type_v2")), "_rebuild_from_type_v2"),
        "numpy.load": (model_of(name("numpy", "load") + text(canary) + b"\x85R"), "numpy.load"),
        "pickle.loads": (model_of(name("_pickle", "loads") + b"C\x01.\x85R"), "_pickle.loads"),
        "rebuild of a call": (model_of(tensor(called, 0, [1], [1])), "system"),
        "rebuild with hooks": (model_of(tensor(storage(10), 0, [1], [1], b"}K\x01" + called + b"s")), "system"),
        "rebuild of a number": (model_of(tensor(b"K\x01", 0, [1], [1])), ""),
        "offset beyond": (model_of(tensor(storage(10), 10, [1], [1])), ""),
        "negative offset": (model_of(tensor(storage(10), -1, [1], [1])), ""),
        "negative stride": (model_of(tensor(storage(10), 9, [2], [-1])), ""),
        "stride beyond": (model_of(tensor(storage(10), 0, [2], [10])), ""),
        "expanded to 1e12": (model_of(tensor(storage(10), 0, [10**12], [0])), ""),
        "sizes that overflow": (model_of(tensor(storage(10), 0, [2**32, 2**32], [1, 1])), ""),
        "size of text": (model_of(tensor(storage(10), 0, [10**9], [1]).replace(number(10**9), text("a" * 9))), ""),
        "storage of 1e12": (model_of(tensor(storage(10**12), 0, [10**12], [1])), ""),
        "storage that is not there": (model_of(tensor(storage(10, "7"), 0, [1], [1])), ""),
        "storage by another path": (model_of(tensor(storage(10, "../data.pkl"), 0, [1], [1])), ""),
        "storage of another kind": (model_of(tensor(storage(10, kind="ComplexFloatStorage"), 0, [1], [1])), "Complex"),
        "persistent id of a module": (model_of(text("os") + b"Q"), ""),
        "persistent id as text": (b"Pos\n.", ""),
        "array of 1e12": (model_of(array + b"(K\x01" + number(10**12) + b"\x85" + floats + b"\x89C\x01atb"), ""),
        "array of objects": (model_of(array + b"(K\x01K\x01\x85" + objects + b"\x89C\x08aaaaaaaatb"), ""),
        "integer of 2 GB": (model_of(b"\x8b\xff\xff\xff\x7f"), ""),
        "text of 1e18": (model_of(b"\x8d" + struct.pack("<Q", 10**18)), ""),
        "bytes of 1e18": (model_of(b"\x8e" + struct.pack("<Q", 10**18)), ""),
        "memo of 2**31, then a call": (model_of(b"K\x01r\xff\xff\xff\x7f" + called), "system"),
        "digits": (b"I" + b"9" * 1_000_000 + b"\n.", ""),
        "two million lists": (b"\x80\x02" + b"]" * 2_000_000 + b".", ""),
        "list in itself": (model_of(b"]q\x01h\x01a"), ""),
        "deep lists": (model_of(b"]" * 100_000 + b"a" * 99_999), ""),
        "key that is slow to hash": (b"\x80\x02}" + nested_key + b"s.", ""),
        "copies of copies": (
            b"\x80\x02" + b"\x8d" + struct.pack("<Q", 1 << 20) + b"a" * (1 << 20) + b"q\x01"
            + (name("_codecs", "encode") + b"h\x01" + text("latin1") + b"\x86R") * 2000 + b".",
            "",
        ),
        "cut off": (dumped({"w": [1] * 1000, "x": Call(os.system, touch)})[:-40], ""),
        "empty stack": (b"\x80\x02s.", ""),
        "nothing": (b"\x80\x02", ""),
    }  # fmt: skip
    return cases


ALL = hostile("unused")
CASES = sorted(ALL)


def endless() -> dict[str, Callable[[], bytes]]:
    """Larger files, in the layout before the zip one, that would keep a reader busy or fill its memory."""
    begin, ordered = b"\x80\x02", name("collections", "OrderedDict") + b"q\x010"
    rebuild, namespace = name("torch._utils", "_rebuild_tensor_v2"), name("argparse", "Namespace") + b")\x81"
    arguments = tensor(storage(10), 0, [1], [1]).removeprefix(rebuild).removesuffix(b"R")

    def kept(length: int) -> bytes:
        return begin + text("a" * length) + b"q\x000"

    def steps_of(value: int) -> bytes:
        return begin + b"N0" * 140_000 + number(value) + b"."

    thousand = b"}(" + b"".join(number(n) + b"N" for n in range(1000)) + b"uq\x000"
    return {
        "copies of a dict": lambda: (
            kept(10**7) + thousand + ordered + b"(" + b"h\x01h\x00\x85R" * 50_000 + b"t."
        ),
        "paths of long parts": lambda: (
            kept(10**7) + name("pathlib", "PosixPath") + b"(" + b"h\x00" * 64 + b"tR."
        ),
        "devices of long names": lambda: (
            kept(10**6) + name("torch", "device") + b"q\x010(" + b"h\x01h\x00\x85R" * 1000 + b"t."
        ),
        "names": lambda: begin + (rebuild + b"0") * 140_000 + b".",
        "calls": lambda: begin + ordered + b"h\x01)R0" * 74_000 + b".",
        "states": lambda: begin + namespace + b"}b" * 140_000 + b".",
        "tensors": lambda: model_of(
            rebuild + b"q\x010" + arguments + b"q\x020](" + b"h\x01h\x02R" * 70_000 + b"e"
        ),
        "long numbers": lambda: begin + (b"I" + b"9" * 1000 + b"\n0") * 60_000 + b".",
        "dictionary entries": lambda: begin + b"}" + b"K\x01Ns" * 140_000 + b".",
        "five pickles": lambda: b"".join(map(steps_of, (0x1950A86A20F9469CFC6C, 1001, 0, 0, 0))),
    }


def refused(read: Callable[[Path], Any], file: Path, expected: str) -> None:
    """Read a file that must be refused: by name, without effect, soon, in little memory."""
    start = time.process_time()
    with pytest.raises(UnsafePickleError) as caught:
        read(file)
    seconds = time.process_time() - start
    tracemalloc.start()  # makes every allocation several times as slow, so the time was taken without it
    with pytest.raises(UnsafePickleError):
        read(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert expected in str(caught.value) and str(file) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert peak < MEMORY
    assert seconds < SECONDS


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_checkpoint_is_refused(case: str, tmp_path: Path) -> None:
    canary = tmp_path / CANARY
    content, expected = hostile(str(canary))[case]
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(zipped(content))
    refused(read_torch_file, file, expected)
    file.write_bytes(content)  # the layout before the zip one begins with a pickle
    refused(read_torch_file, file, expected if "storage" not in case and "rebuild" not in case else "")
    assert not canary.exists()


@pytest.mark.parametrize("case", sorted(endless()))
def test_a_file_without_end_is_refused(case: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(endless()[case]())
    refused(read_torch_file, file, "")


@pytest.mark.parametrize("case", [case for case in CASES if ALL[case][1]])
def test_a_hostile_codebook_is_refused(case: str, tmp_path: Path) -> None:
    canary = tmp_path / CANARY
    content, _ = hostile(str(canary))[case]
    file = tmp_path / "km.bin"
    file.write_bytes(content)
    refused(read_joblib_kmeans, file, "")
    assert not canary.exists()


def with_records(archive: bytes, like: bytes, n_records: int) -> bytes:
    """A zip file whose directory names one record so many more times, each time as another one."""
    end = archive.rfind(b"PK\x05\x06")
    n_bytes, start = struct.unpack("<II", archive[end + 12 : end + 20])
    directory = archive[start : start + n_bytes]
    record = next(b"PK\x01\x02" + part for part in directory.split(b"PK\x01\x02") if part.endswith(like))
    names = (b"archive/%0*d" % (len(like) - len(b"archive/"), index) for index in range(n_records))
    directory += b"".join(record.replace(like, name) for name in names)
    counts = struct.pack("<HHII", *[directory.count(b"PK\x01\x02")] * 2, len(directory), start)
    return archive[:start] + directory + archive[end : end + 8] + counts + archive[end + 20 :]


def two_ends(archive: bytes) -> bytes:
    """The archive with the end that large files have; inside of it begins another, which tells of a small directory."""
    end = archive.rfind(b"PK\x05\x06")
    n_bytes, start = struct.unpack("<II", archive[end + 12 : end + 20])
    wide = b"PK\x06\x06" + struct.pack("<QHHII8sQQQ", 44, 45, 45, 0, 0, b"PK\x06\x06", 1, n_bytes, start)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, 100, 1)
    small = archive[end : end + 8] + b"\xff" * 4 + struct.pack("<I", 100) + b"\xff" * 4 + archive[end + 20 :]
    return archive[:end] + wide + locator + small


@functools.lru_cache
def broken_zips() -> dict[str, bytes]:
    good = zipped(model_of(tensor(storage(10), 0, [10], [1])))
    n_directory = good.rfind(b"PK\x05\x06")
    doubled = io.BytesIO()
    with zipfile.ZipFile(doubled, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("archive/data.pkl", b"\x80\x02N.")
    many = with_records(good, b"archive/version", 50_000)
    outside = good.replace(b"archive/data.pkl", b"archiv//data.pkl")
    return {
        "compressed": zipped(b"\x80\x02N." + bytes(100_000_000), method=zipfile.ZIP_DEFLATED),
        "cut in the middle": good[: len(good) // 2],
        "cut at the end": good[:-1],
        "only its beginning": good[:4],
        "record longer than the file": good.replace(
            struct.pack("<II", 40, 40), struct.pack("<II", 1 << 30, 1 << 30)
        ),
        "a huge directory": good[: n_directory + 12] + struct.pack("<I", 1 << 30) + good[n_directory + 16 :],
        "a huge directory behind a small one": two_ends(many),
        "many records": many,
        "overlapping records": with_records(
            zipped(b"\x80\x02N.", {"0": bytes(10**6)}), b"archive/data/0", 100
        ),
        "two pickles": doubled.getvalue(),
        "no pickle": outside,
        "big endian": zipped(b"\x80\x02N.", {"../byteorder": b"big"}).replace(
            b"data/../byteorder", b"byteorder"
        ),
    }


ZIPS = sorted(broken_zips())


# What a hostile file is known to try, and the cases here that try it, of pickles and of zip files.
TRIED = {
    "os.system": ["os.system", "os.system protocol 0", "os.system protocol 5"],
    "eval": ["eval"],
    "builtins.exec through functools.partial": ["exec through functools.partial", "call of a partial"],
    "nested reduce": ["nested reduce", "reduce beside tensors"],
    "__setstate__": ["state of a class with __setstate__", "state of an unknown class", "state that calls"],
    "torch's own rebuild functions": [
        "rebuild of a call",
        "rebuild with hooks",
        "rebuild from type",
        "torch.load inside",
    ],
    "truncated": ["cut off", "cut in the middle", "cut at the end"],
    "zip bombs": ["compressed", "overlapping records", "many records"],
    "storages of 1e12 elements": ["storage of 1e12", "expanded to 1e12"],
}


def test_everything_that_hostile_files_are_known_for_is_tried() -> None:
    zips = broken_zips()
    assert all({*CASES, *zips}.issuperset(cases) for cases in TRIED.values())
    contents = {content for content, _ in ALL.values()} | set(zips.values())
    assert len(contents) == len(CASES) + len(zips) >= 20


@pytest.mark.parametrize("case", ZIPS)
def test_a_broken_zip_file_is_refused(case: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(broken_zips()[case])
    refused(read_torch_file, file, "")


def test_a_legacy_file_that_promises_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "legacy.pt"
    torch.save({"w": torch.arange(1000.0)}, file, _use_new_zipfile_serialization=False)
    assert torch.equal(read_torch_file(file)["w"], torch.arange(1000.0))
    whole = file.read_bytes()
    for content in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole.replace(struct.pack("<q", 1000), struct.pack("<q", 10**12)),
    ):
        file.write_bytes(content)
        refused(read_torch_file, file, "")


def checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {"model": OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.zeros(0)), "n": [1, None, "x"]},
        buffer,
    )
    return buffer.getvalue()


GOOD = checkpoint()


@settings(max_examples=300)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 40),
)
def test_changed_bytes_give_a_value_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, edits: Any, cut: int
) -> None:
    content = bytearray(GOOD)
    for place, byte in edits:
        content[place] = byte
    file = tmp_path_factory.getbasetemp() / "changed.pt"
    file.write_bytes(content[: len(content) - cut] if cut < 20 else content)
    try:
        value = read_torch_file(file)
    except UnsafePickleError as error:
        assert "\n" not in str(error)
    else:
        assert value is None or isinstance(
            value, dict | list | str | int | float | tuple | torch.Tensor | np.ndarray
        )


def test_records_before_the_file_s_beginning_are_refused(tmp_path: Path) -> None:
    content = bytearray(GOOD)
    for end, place in ((b"PK\x05\x06", 17), (b"PK\x06\x06", 49)):  # the directory, 256 bytes later than it is
        if end in GOOD:
            content[GOOD.rfind(end) + place] += 1
    (tmp_path / "changed.pt").write_bytes(content)
    with pytest.raises(UnsafePickleError, match="damaged zip"):
        read_torch_file(tmp_path / "changed.pt")


@settings(max_examples=300)
@given(content=st.binary(min_size=4, max_size=60), proto=st.booleans())
def test_random_bytes_are_refused_or_plain(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, proto: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "random.pt"
    file.write_bytes(zipped(b"\x80\x02" + content if proto else content))
    try:
        value = read_torch_file(file)
    except UnsafePickleError:
        return
    assert value is None or isinstance(value, dict | list | str | int | float | bytes | tuple)
