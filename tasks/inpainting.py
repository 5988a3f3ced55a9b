"""Speech to be inpainted: any recordings (`tasks.recordings`), of which spans are damaged in training."""

from __future__ import annotations

from pathlib import Path

from tasks.base import Task
from tasks.recordings import recordings_task

NAME = "inpainting"


def load(root: Path | None) -> Task:
    """The task of a folder or a CSV; raises as `recordings_task`."""
    return recordings_task(NAME, ("gap_unit_error_rate", "unit_error_rate"), root)
