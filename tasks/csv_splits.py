"""From tables of recordings to a task: one CSV per split, or one CSV with a split column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.base import LabelError, ManifestError, Task, Utterance, shorten
from tasks.csv_table import TableRow, check_listed_once, read_table

SPLITS = ("train", "valid", "test")


def read_split_files(folder: Path, splits: Sequence[str] = SPLITS) -> dict[str, list[TableRow]]:
    """Read `folder`/<split>.csv for every one of `splits`.

    Raises ManifestError: a table missing or wrong (see `read_table`), a split column that says another split,
    or a recording in two splits.
    """
    rows = {split: read_table(folder / f"{split}.csv") for split in splits}
    for split, table in rows.items():
        for row in table:
            if row.split is not None and row.split != split:
                raise ManifestError(
                    f"{row.place}: expected the split {split!r} in {split}.csv, got {row.split!r}; "
                    "move the line to the other table or mend its column 'split'"
                )
    check_listed_once([row for table in rows.values() for row in table])
    return rows


def read_split_column(table: Path) -> dict[str, list[TableRow]]:
    """Read one CSV whose column `split` says train, valid or test.

    Raises ManifestError: the table is wrong (see `read_table`), has no such column, another word in it, or no
    training row.
    """
    rows: dict[str, list[TableRow]] = defaultdict(list)
    for row in read_table(table, required=("path", "label", "split")):
        if row.split not in SPLITS:
            raise ManifestError(
                f"{row.place}: expected a split out of {', '.join(SPLITS)}, got {row.split or ''!r}; "
                "write one of these into the column 'split'"
            )
        rows[row.split].append(row)
    if "train" not in rows:
        raise ManifestError(
            f"{table}: expected rows with the split 'train', got none; say which rows to learn from"
        )
    return {split: rows[split] for split in SPLITS if split in rows}


def classification_task(name: str, rows: Mapping[str, Sequence[TableRow]], root: Path) -> Task:
    """A classification task whose labels are those of the training rows, sorted.

    Raises LabelError: a label outside the training rows, with file and line; or fewer than two labels.
    """
    labels = tuple(sorted({row.label for row in rows["train"]}))
    known = set(labels)
    for split, table in rows.items():
        for row in table:
            if row.label not in known:
                raise LabelError(
                    f"{row.place}: expected a label of the training split, got {row.label!r} in {split}; "
                    f"add training recordings of it or mend the label; choices: {shorten(labels)}"
                )
    splits = {split: tuple(map(_utterance, table)) for split, table in rows.items()}
    return Task(name, "classification", labels, splits, metrics=("accuracy", "macro_f1"), root=root)


def _utterance(row: TableRow) -> Utterance:
    return Utterance(id=row.relative, target=row.label, path=row.path, speaker=row.speaker)
