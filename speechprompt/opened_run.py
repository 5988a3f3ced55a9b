"""What every trained run shares once it is opened, whatever its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechprompt.run_record import RunRecord, read_record
from speechprompt.stack import Stack
from speechprompt.training_log import read_log


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run folder and what was read of it. folder: the run. record: its `run.json`. stack: that it was trained on."""

    folder: Path
    record: RunRecord
    stack: Stack

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Metrics by split: of validation from training, others once the run has been evaluated."""
        return read_record(self.folder).metrics

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch: `training_log.COLUMNS`."""
        return read_log(self.folder)
