"""What the verb train says at the end, whatever it trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechprompt.cli.boundary import emit

if TYPE_CHECKING:
    from speechprompt.run_record import RunRecord


def emit_trained(folder: Path, record: RunRecord, n_epochs: int, measured: str, *, as_json: bool) -> None:
    """Print a finished run: its validation metrics, epochs, and how much of the model was trained.

    measured: the validation metrics in words.
    """
    n_trained, n_frozen = record.trainable_parameters, record.frozen_parameters
    emit(
        {
            "run": str(folder),
            "valid": dict(record.metrics["valid"]),
            "epochs": n_epochs,
            "trainable_parameters": n_trained,
            "frozen_parameters": n_frozen,
        },
        f"{folder}: {measured} after {n_epochs} epochs; {n_trained:,} of {n_trained + n_frozen:,} parameters trained",
        as_json=as_json,
    )
