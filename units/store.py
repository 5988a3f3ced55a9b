"""Many utterances' units on disk: Parquet shards whose schema metadata holds their UnitSpec."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from units.atomic import atomic_dir, atomic_path
from units.errors import InputError
from units.types import UnitSequence, UnitSpec

PLAN_FILE = "plan.json"  # in a folder that a corpus job fills: how many shards make it complete
_SPEC_KEY = b"unit_spec"
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("units", pa.list_(pa.int32()), nullable=False),
        pa.field("durations", pa.list_(pa.int32())),
        pa.field("f0", pa.list_(pa.float32())),
        pa.field("label", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("split", pa.string()),
        pa.field("path", pa.string()),
    ]
)


@dataclass(frozen=True, eq=False)
class UnitRow:
    """One utterance of a store.

    id: unique in the store. units: (T,) int64. durations: (T,) int64 frames, or None for one unit per frame.
    f0: (n_frames,) float32 Hz, or None. label, speaker, split, path: as in the corpus, or None.
    """

    id: str
    units: NDArray[np.int64]
    durations: NDArray[np.int64] | None = None
    f0: NDArray[np.float32] | None = None
    label: str | None = None
    speaker: str | None = None
    split: str | None = None
    path: str | None = None


def shard_path(folder: Path, index: int) -> Path:
    """Name shard `index` of a store."""
    return folder / f"part-{index:05d}.parquet"


def write_shard(
    path: Path, rows: Sequence[UnitRow], spec: UnitSpec, metadata: Mapping[bytes, bytes] | None = None
) -> None:
    """Write rows as one shard, atomically; the same rows give the same bytes.

    metadata: further schema metadata. Raises InputError where a row's units or durations do not fit `spec`.
    """
    for row in rows:
        UnitSequence(row.units, spec, row.durations, row.f0)  # checks ranges and shapes
    columns = {field.name: [getattr(row, field.name) for row in rows] for field in _SCHEMA}
    spec_json = json.dumps(spec.to_dict(), sort_keys=True).encode()
    schema = _SCHEMA.with_metadata({_SPEC_KEY: spec_json, **(metadata or {})})
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")


class UnitStoreWriter:
    """Write a whole store at once: a context manager that leaves a complete folder or, on any error, none."""

    def __init__(self, folder: str | Path, spec: UnitSpec, rows_per_shard: int = 2000) -> None:
        """Prepare to write; nothing is on disk before the block begins.

        Raises InputError where `folder` exists already.
        """
        self._target = Path(folder)
        if self._target.exists():
            raise InputError(
                f"{folder}: expected a new folder, got one that exists; remove it or choose another name"
            )
        self._spec = spec
        self._rows_per_shard = rows_per_shard
        self._rows: list[UnitRow] = []
        self._n_shards = 0
        self._stack = ExitStack()

    def __enter__(self) -> UnitStoreWriter:
        self._folder = self._stack.enter_context(atomic_dir(self._target))
        return self

    def add(self, row: UnitRow) -> None:
        """Append one utterance. Raises InputError where it does not fit the spec."""
        UnitSequence(row.units, self._spec, row.durations, row.f0)
        self._rows.append(row)
        if len(self._rows) == self._rows_per_shard:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            with self._stack:
                if self._rows or self._n_shards == 0:
                    self._flush()
        else:
            self._stack.__exit__(kind, error, traceback)

    def _flush(self) -> None:
        write_shard(shard_path(self._folder, self._n_shards), self._rows, self._spec)
        self._n_shards += 1
        self._rows = []


class UnitStore:
    """Read a store row by row; only one record batch is in memory at a time."""

    def __init__(self, folder: str | Path) -> None:
        """Open a store and check that it is whole and of one spec.

        Raises InputError: not a store, or a corpus job that has not finished; UnitSpecMismatch: unequal
        shards.
        """
        self.folder = Path(folder)
        self._shards = sorted(self.folder.glob("part-*.parquet"))
        if not self._shards:
            raise InputError(
                f"{folder}: expected a unit store (part-*.parquet), got none; make one with quantize"
            )
        self._require_complete()
        self._n_rows = 0
        for shard in self._shards:
            spec, n_rows = _read_header(shard)
            if shard == self._shards[0]:
                self.spec = spec
            self.spec.require_equal(spec, str(self._shards[0]), str(shard))
            self._n_rows += n_rows

    def __len__(self) -> int:
        return self._n_rows

    def __iter__(self) -> Iterator[UnitRow]:
        return self.rows()

    def rows(self, split: str | None = None) -> Iterator[UnitRow]:
        """Iterate over the rows in the order written; with `split`, over those of that split."""
        for shard in self._shards:
            with _undamaged(shard), pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(batch_size=1024):
                    for values in batch.to_pylist():
                        if split is None or values["split"] == split:
                            yield _row(values)

    def sequence(self, row: UnitRow) -> UnitSequence:
        """Give a row's units with this store's spec."""
        return UnitSequence(row.units, self.spec, row.durations, row.f0)

    def _require_complete(self) -> None:
        plan = self.folder / PLAN_FILE
        if plan.is_file():
            expected = json.loads(plan.read_text(encoding="utf-8"))["n_shards"]
            if len(self._shards) != expected:
                raise InputError(
                    f"{self.folder}: expected {expected} shards, got {len(self._shards)}; "
                    "the job that fills it was stopped: run the same command again"
                )


def _read_header(shard: Path) -> tuple[UnitSpec, int]:
    metadata = read_shard_metadata(shard)
    if _SPEC_KEY not in metadata:
        raise InputError(
            f"{shard}: expected a UnitSpec in the schema metadata, got none; make it with quantize"
        )
    with _undamaged(shard):
        return UnitSpec.from_dict(json.loads(metadata[_SPEC_KEY])), pq.read_metadata(shard).num_rows


def read_shard_metadata(shard: Path) -> dict[bytes, bytes]:
    """Read a shard's schema metadata. Raises InputError where the file is not Parquet."""
    with _undamaged(shard):
        return dict(pq.read_schema(shard).metadata or {})


@contextmanager
def _undamaged(shard: Path) -> Iterator[None]:
    """Raise InputError where a shard's bytes are not those that `write_shard` wrote."""
    try:
        yield
    except (InputError, FileNotFoundError):
        raise
    # Arrow says OSError where a page is broken, and whatever the numbers that it read lead to.
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{shard}: expected a Parquet shard, got a damaged file ({reason}); make it anew"
        ) from error


def _row(values: dict) -> UnitRow:
    arrays = {"units": np.int64, "durations": np.int64, "f0": np.float32}
    for name, dtype in arrays.items():
        if values[name] is not None:
            values[name] = np.array(values[name], dtype=dtype)
    return UnitRow(**values)
