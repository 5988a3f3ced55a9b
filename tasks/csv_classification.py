"""Any classification data set, described by CSV files: no code needed.

Either a folder with train.csv, test.csv and, where there is one, valid.csv; or one CSV with a column `split`
that says train, valid or test (its path, or a folder that holds it and no other CSV). Columns: path, label
and, where known, speaker. See `tasks.csv_table` for what a table may hold.
"""

from __future__ import annotations

from pathlib import Path

from tasks.base import ManifestError, Task
from tasks.csv_splits import SPLITS, classification_task, read_split_column, read_split_files
from tasks.csv_table import TableRow
from tasks.hold_out import hold_out_tenth
from units.errors import InputError

NAME = "csv_classification"
_OTHER_NAMES = {"val": "valid", "dev": "valid", "validation": "valid", "eval": "test", "training": "train"}


def load(root: Path | None) -> Task:
    """The task described by a folder or a CSV; without a valid split a tenth of train is held out, seeded.

    Raises:
        InputError: no `root`.
        ManifestError: no table, several, or a wrong one, with file, line and remedy.
        LabelError: a label of valid or test that train does not have, or fewer than two labels.
    """
    if root is None:
        raise InputError(f"{NAME}: expected a folder or a CSV, got none; give it with --data")
    root = Path(root)
    rows = _read(root)
    if "valid" not in rows:
        train, valid = hold_out_tenth(rows["train"])
        if not valid:
            raise ManifestError(
                f"{rows['train'][0].table}: expected a label with at least two recordings to hold one out, "
                f"got {len(train)} rows with a label each; add recordings, or a valid split"
            )
        rows = {**rows, "train": train, "valid": valid}
    return classification_task(NAME, {split: rows[split] for split in SPLITS if split in rows}, root)


def _read(root: Path) -> dict[str, list[TableRow]]:
    """Rows per split, from whichever of the layouts is there."""
    if root.is_file():
        return read_split_column(root)
    if not root.is_dir():
        raise ManifestError(f"{root}: expected a folder or a CSV, got nothing there; check the path")
    names = sorted(root.iterdir())
    tables = [path for path in names if path.suffix.lower() == ".csv" and not path.name.startswith(".")]
    stems = [path.stem for path in tables]
    if stems == ["train"] or (len(tables) == 1 and "train" not in stems):
        return read_split_column(tables[0])
    if "train" not in stems or "test" not in stems:
        raise ManifestError(
            f"{root}: expected train.csv, test.csv and perhaps valid.csv, or one CSV with a column 'split', "
            f"got {', '.join(path.name for path in tables) or 'no CSV'}; "
            "write the tables or give the path of one"
        )
    for stem in stems:
        split = _OTHER_NAMES.get(stem.lower())
        if split is not None and split not in stems:
            raise ManifestError(
                f"{root / stem}.csv: expected a table named train, valid or test, got {stem!r}; "
                f"rename it to {split}.csv"
            )
    return read_split_files(root, [split for split in SPLITS if split in stems])
