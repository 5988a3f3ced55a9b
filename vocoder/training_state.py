"""What a vocoder training run leaves on disk while it runs: its resume state and its log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from units.atomic import atomic_path
from units.errors import InputError
from units.training_state import read_training_state

RESUME_NAME = "resume.pt"
_MAY_CHANGE = {"max_seconds", "log_every", "valid_every", "checkpoint_every"}  # without effect on the weights
COLUMNS = (
    "step",
    "mel",
    "stft",
    "adversarial",
    "feature",
    "discriminator",
    "duration",
    "unit",
    "gradient_norm",
    "lr",
    "seconds",
    "valid_mel",
    "valid_duration_error",
    "valid_unit",
)


def _fingerprint(setting: Mapping[str, Any]) -> dict[str, str]:
    """Flatten dataclasses to name: repr, leaving out what may change between calls."""
    flat = {
        f"{part}.{key}": repr(value)
        for part, fields in setting.items()
        for key, value in asdict(fields).items()
    }
    return {key: value for key, value in flat.items() if key.split(".")[-1] not in _MAY_CHANGE}


def write_state(out_dir: Path, setting: Mapping[str, Any], step: int, state: dict[str, object]) -> None:
    """Write the resume state atomically, with the setting it belongs to."""
    with atomic_path(out_dir / RESUME_NAME) as path:
        torch.save({"setting": _fingerprint(setting), "step": step, "state": state}, path)


def read_state(out_dir: Path, setting: Mapping[str, Any]) -> tuple[int, dict[str, object] | None]:
    """Read the resume state: (steps done, state), or (0, None) where there is none.

    Raises:
        InputError: it belongs to a run of another setting, or is damaged.
    """
    path = out_dir / RESUME_NAME
    if not path.exists():
        return 0, None
    saved = read_training_state(path, "choose another folder")
    expected = _fingerprint(setting)
    if saved["setting"] != expected:
        names = sorted(
            key
            for key in expected.keys() | saved["setting"].keys()
            if expected.get(key) != saved["setting"].get(key)
        )
        raise InputError(
            f"{path}: expected a run of the same setting, got another {', '.join(names)}; "
            "restore the setting or choose another folder"
        )
    return saved["step"], saved["state"]


class TrainingLog:
    """A CSV log that a resumed run continues: rows after the step it resumes from are dropped.

    Args:
        path: of the CSV.
        from_step: steps already done.
    """

    def __init__(self, path: Path, from_step: int) -> None:
        self.path, self.from_step = path, from_step

    def __enter__(self) -> TrainingLog:
        rows = []
        if self.from_step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= self.from_step]
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self._file = self.path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS, restval="")
        return self

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Append a row; columns that it lacks stay empty."""
        self._writer.writerow({"step": step} | {name: f"{value:.6g}" for name, value in row.items()})
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
