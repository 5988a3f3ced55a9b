"""A worker process: takes cells that nobody else runs, one after the other, and tells its parent line by line.

Started by `workers` as `python -m speechprompt.suite.worker`; a JSON object on standard input says what to do. A line
on standard output is [event, cell number]: "begin", "done" or "failed". When the parent dies, standard input
ends, and the worker stops at once: what it was doing is continued by the next suite.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from speechprompt.suite.cell_files import CellFailure, read_failure, read_result, write_failure
from speechprompt.suite.claims import claimed
from speechprompt.suite.plan import Cell
from units.atomic import remove_torn_below

# What data, settings, disks and devices cause. Anything else is a bug: it ends the worker with its traceback.
_TROUBLE = (ValueError, OSError, RuntimeError, MemoryError)

Tell = Callable[[str, int], None]


def work(
    cells: Sequence[Cell],
    out: Path,
    tell: Tell,
    *,
    device: str = "cpu",
    command: str = "",
    since: float = 0.0,
) -> None:
    """Run every cell that has no result, is not claimed by another process and has not failed after `since`.

    since: seconds since 1970: failures from before are tried again.
    """
    for number, cell in enumerate(cells):
        if is_settled(out, cell, since):
            continue
        with claimed(out, cell) as mine:
            if not mine or is_settled(out, cell, since):
                continue
            remove_torn_below(out / cell.name)
            tell("begin", number)
            from speechprompt.suite.run_cell import run_cell  # imports torch, which takes seconds

            try:
                run_cell(out, cell, device=device, command=command)
            except _TROUBLE as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                write_failure(out / cell.name, CellFailure(cell, reason, time.time()))
                tell("failed", number)
            else:
                tell("done", number)


def is_settled(out: Path, cell: Cell, since: float) -> bool:
    """Whether a cell has its result, or has failed after `since`."""
    if read_result(out, cell) is not None:
        return True
    failure = read_failure(out, cell)
    return failure is not None and failure.time >= since


def main() -> None:
    """Do what standard input says."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not pass for an answer
    cells = [Cell.from_dict(content) for content in job["cells"]]
    work(
        cells,
        Path(job["out"]),
        lambda event, number: _answer(answers, event, number),
        device=job["device"],
        command=job["command"],
        since=job["since"],
    )


def _answer(answers: TextIO, event: str, number: int) -> None:
    print(json.dumps([event, number]), file=answers, flush=True)


def _stop_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be held when the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
