"""Tasks: labelled recordings, their labels and metrics."""

from tasks.base import LabelError, ManifestError, Task, Utterance
from tasks.registry import TASKS, get_task

__all__ = ["TASKS", "LabelError", "ManifestError", "Task", "Utterance", "get_task"]
