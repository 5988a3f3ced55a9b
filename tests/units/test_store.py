"""A store gives back what was written, is whole or absent, and holds one inventory."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from units import store as store_module
from units.errors import InputError, UnitSpecMismatch
from units.store import UnitRow, UnitStore, UnitStoreWriter, shard_path, write_shard
from units.types import UnitSequence, UnitSpec

SPEC = UnitSpec(encoder="random", layer=2, n_units=10, frame_rate=50.0, codebook="0123456789ab")
texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@st.composite
def unit_rows(draw: st.DrawFn) -> UnitRow:
    units = np.array(draw(st.lists(st.integers(0, 9), max_size=12)), dtype=np.int64)
    sequence = UnitSequence(units, SPEC)
    if draw(st.booleans()):
        sequence = sequence.deduplicate()
    f0 = np.linspace(0, 300, sequence.n_frames, dtype=np.float32) if draw(st.booleans()) else None
    label, speaker, split, path = (draw(texts) for _ in range(4))
    return UnitRow("x", sequence.units, sequence.durations, f0, label, speaker, split, path)


def same(one: UnitRow, other: UnitRow) -> bool:
    for name in ("units", "durations", "f0"):
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None) or (a is not None and (a.dtype != b.dtype or a.tolist() != b.tolist())):
            return False
    return all(getattr(one, k) == getattr(other, k) for k in ("id", "label", "speaker", "split", "path"))


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(unit_rows(), max_size=9), rows_per_shard=st.integers(1, 4))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[UnitRow], rows_per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("stores") / "store"
    rows = [replace(row, id=str(index)) for index, row in enumerate(rows)]
    with UnitStoreWriter(folder, SPEC, rows_per_shard) as writer:
        for row in rows:
            writer.add(row)
    store = UnitStore(folder)
    assert store.spec == SPEC and len(store) == len(rows)
    assert len(list(folder.iterdir())) == max(1, -(-len(rows) // rows_per_shard))
    for got, row in zip(store, rows, strict=True):
        assert same(got, row)
        assert store.sequence(got).n_frames == UnitSequence(row.units, SPEC, row.durations).n_frames


def test_rows_of_one_split(tmp_path: Path) -> None:
    with UnitStoreWriter(tmp_path / "s", SPEC) as writer:
        for index in range(6):
            writer.add(UnitRow(str(index), np.array([index]), split=("train", "test", None)[index % 3]))
    store = UnitStore(tmp_path / "s")
    assert [row.id for row in store.rows("test")] == ["1", "4"]
    assert [row.id for row in store.rows("dev")] == []
    assert [row.id for row in store.rows()] == list("012345")


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [UnitRow(str(index), np.arange(index)) for index in range(5)]
    for name in ("a", "b"):
        write_shard(tmp_path / name, rows, SPEC)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_error_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(InputError, match="another codebook"),
        UnitStoreWriter(tmp_path / "s", SPEC, 1) as writer,
    ):
        writer.add(UnitRow("0", np.array([1])))
        writer.add(UnitRow("1", np.array([10])))
    assert list(tmp_path.iterdir()) == []

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space"), UnitStoreWriter(tmp_path / "s", SPEC) as writer:
        writer.add(UnitRow("0", np.array([1])))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError, match="expected a new folder"):
        UnitStoreWriter(tmp_path / "s", SPEC)


def test_shards_of_unequal_specs(tmp_path: Path) -> None:
    write_shard(shard_path(tmp_path, 0), [], SPEC)
    write_shard(shard_path(tmp_path, 1), [], replace(SPEC, codebook="ffffffffffff"))
    with pytest.raises(UnitSpecMismatch, match=r"part-00000.*part-00001.*ffffffffffff"):
        UnitStore(tmp_path)


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a unit store"):
        UnitStore(tmp_path / "missing")
    with pytest.raises(InputError, match="expected a unit store"):
        UnitStore(tmp_path)
    shard = shard_path(tmp_path, 0)
    shard.write_text("no parquet at all")
    with pytest.raises(InputError, match="damaged"):
        UnitStore(tmp_path)
    write_shard(shard, [], SPEC)
    pq.write_table(pq.read_table(shard).replace_schema_metadata(None), shard)
    with pytest.raises(InputError, match="UnitSpec"):
        UnitStore(tmp_path)
