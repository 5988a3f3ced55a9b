"""Speech to be continued: any recordings (`tasks.recordings`), of which the beginning is heard.

Source: Wu et al. 2023 (SpeechGen), there with a quarter, half and three quarters of the recording heard.
"""

from __future__ import annotations

from pathlib import Path

from tasks.base import Task
from tasks.recordings import recordings_task

NAME = "continuation"


def load(root: Path | None) -> Task:
    """The task of a folder or a CSV; raises as `recordings_task`."""
    return recordings_task(NAME, ("perplexity",), root)
