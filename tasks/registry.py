"""The tasks by name. Adding one: a file with `load(root)` that returns a Task, and a line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from tasks import arabic_speech_commands, csv_classification, spoken_digits
from tasks.base import Task
from units.errors import InputError

TASKS: dict[str, Callable[[Path | None], Task]] = {
    arabic_speech_commands.NAME: arabic_speech_commands.load,
    csv_classification.NAME: csv_classification.load,
    spoken_digits.NAME: spoken_digits.load,
}


def get_task(name: str, root: str | Path | None = None) -> Task:
    """The task of that name, from its data.

    Args:
        name: a key of `TASKS`.
        root: folder of the data, or a CSV where the task takes one; None for a task with bundled data.

    Raises InputError on an unknown name, with the choices, and whatever the task raises on its data.
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "for data of your own use csv_classification"
        raise InputError(f"task: expected one of {', '.join(TASKS)}, got {name!r}; {remedy}")
    return TASKS[name](None if root is None else Path(root))
