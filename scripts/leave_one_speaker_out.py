r"""All methods on speakers whom they have never heard: every speaker of a data set is the test once.

    python -m scripts.leave_one_speaker_out --data DATA/fsdd --out tables/unheard --methods prompt,lora,ngram

DATA is a folder of CSV files path,label,speaker (their splits are not looked at). In a speaker's fold this speaker is
the test, the next one (in order of names) validation, the others training. The folds become tasks of one suite in OUT,
and OUT/unheard.md has a row per method: the accuracy over all recordings, each predicted once per seed by a model that
never heard its speaker. The same command continues where it was stopped.
"""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from scripts.recipe import DeviceName, Out, Seeds, StackName, WorkerCount
from speechprompt.cli.boundary import guarded
from speechprompt.methods import METHODS
from speechprompt.suite.cell_files import CellResult, read_predictions, read_result
from speechprompt.suite.command import cells_of, command_line, run_command
from speechprompt.suite.intervals import pooled_interval
from speechprompt.suite.plan import Cell
from tasks.csv_table import TableRow, check_listed_once, read_table
from units.atomic import atomic_path
from units.errors import InputError

MIN_SPEAKERS = 3  # one to test, one to validate, one to learn from
REPORT = "unheard.md"


def write_folds(data: Path, folder: Path) -> list[str]:
    """Write a CSV with a split column for every speaker, and the audio beside it; returns the tasks' names.

    Raises: InputError: no CSV, a recording without speaker or in two CSV files, fewer than three speakers.
    """
    rows = [row for table in sorted(data.glob("*.csv")) for row in read_table(table)]
    check_listed_once(rows)
    speakers = sorted({row.speaker or "" for row in rows})
    if len(speakers) < MIN_SPEAKERS or not speakers[0]:
        raise InputError(
            f"{data}: expected CSV files that name at least {MIN_SPEAKERS} speakers, one for every recording, got "
            f"{', '.join(map(repr, speakers)) or 'no CSV'}; fill in the column 'speaker'"
        )
    for row in rows:
        target = folder / row.relative
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                shutil.copyfile(row.path, temporary)
    names = []
    for number, speaker in enumerate(speakers):
        splits = {speaker: "test", speakers[(number + 1) % len(speakers)]: "valid"}
        names.append(f"speaker-{number + 1}")
        _write_fold(folder / f"{names[-1]}.csv", rows, splits)
    return names


def _write_fold(file: Path, rows: Sequence[TableRow], splits: Mapping[str, str]) -> None:
    with atomic_path(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines)
        table.writerow(["path", "label", "speaker", "split"])
        for row in rows:
            table.writerow([row.relative, row.label, row.speaker, splits.get(row.speaker or "", "train")])


def right_answers(out: Path, cells: Sequence[Cell]) -> dict[str, list[np.ndarray]]:
    """By method, fold by fold: whether each test recording was named rightly, bool (seeds, recordings)."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for cell in cells:
        result = read_result(out, cell)
        assert result is not None  # `run_command` raises where a cell failed
        found.setdefault(cell.variant.name, {}).setdefault(cell.source.name, []).append(_right(result))
    return {method: [np.stack(seeds) for seeds in folds.values()] for method, folds in found.items()}


def _right(result: CellResult) -> np.ndarray:
    rows = read_predictions(result.folder, "test")
    return np.array(rows.targets, object) == np.array(rows.predictions, object)


def table_text(right: Mapping[str, np.ndarray], lengths: Sequence[int], n_seeds: int) -> str:
    """Markdown: a row per method, best first; lengths: test recordings of each fold."""
    heads = [f"speaker {number + 1}" for number in range(len(lengths))]
    lines = [
        f"{sum(lengths):,} recordings, each predicted {n_seeds} times; means and 95% intervals over recordings and "
        "seeds together, in %.\n",
        f"| method | accuracy | 95% interval | {' | '.join(heads)} |",
        "|" + "---|" * (3 + len(heads)),
    ]
    for method, hits_CN in sorted(right.items(), key=lambda item: -item[1].mean()):
        low, high = pooled_interval(hits_CN.astype(float), np.ones(hits_CN.shape))
        folds = [part.mean() for part in np.split(hits_CN, np.cumsum(lengths)[:-1], axis=1)]
        cells = [f"{100 * value:.1f}" for value in folds]
        lines.append(
            f"| {method} | {100 * hits_CN.mean():.2f} | {100 * low:.2f} to {100 * high:.2f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def main(
    data: Annotated[Path, typer.Option(metavar="DATA", help="Folder of CSV files path,label,speaker.")],
    out: Out = Path("tables"),
    methods: Annotated[str, typer.Option(metavar="A,B", help="As `suite` takes them.")] = ",".join(METHODS),
    settings: Annotated[
        list[str], typer.Option(metavar="METHOD.NAME=VALUE", help="As `suite` takes them.")
    ] = [],  # noqa: B006 (typer copies it)
    stack: StackName = "mini",
    seeds: Seeds = "0,1,2",
    workers: WorkerCount = 1,
    device: DeviceName = "cpu",
) -> None:
    """Measure methods on unheard speakers."""
    folder = out / "folds"
    names = write_folds(data, folder)
    cells = cells_of(
        ",".join(f"{name}=csv_classification" for name in names),
        methods,
        seeds,
        data=[f"{name}={folder / name}.csv" for name in names],
        stack=stack,
        settings=settings,
    )
    run_command(cells, out, n_workers=workers, device=device)
    folds = right_answers(out, cells)
    right = {method: np.concatenate(parts, axis=1) for method, parts in folds.items()}
    sizes = [part.shape for part in next(iter(folds.values()))]
    table = table_text(right, [n_recordings for _, n_recordings in sizes], n_seeds=sizes[0][0])
    text = f"`{command_line()}`\n\n{table}"
    with atomic_path(out / REPORT) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{out / REPORT}: {len(cells)} cells")


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
