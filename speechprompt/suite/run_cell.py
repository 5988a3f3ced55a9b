"""One cell from its description to its files: the task, few shots of it, the method, the metrics."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from speechprompt.methods import run_method
from speechprompt.methods.base import Job, Outcome
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.suite.cell_files import RUN_FOLDER, Predictions, write_result
from speechprompt.suite.few_shot import few_shot
from speechprompt.suite.plan import Cell
from speechprompt.versions import library_versions
from tasks.base import Task
from tasks.metrics import report
from tasks.registry import get_task


def run_cell(out: Path, cell: Cell, *, device: str = "cpu", command: str = "") -> None:
    """Run a cell and write its files below `out`; a method that was killed continues from its own folder.

    command: noted in the result. Raises what the task, the stack and the method raise.
    """
    task = open_task(cell.source.task, cell.source.data)
    if cell.shots is not None:
        task = few_shot(task, cell.shots, cell.draw or 0)
    stack = load_stack(
        cell.source.stack, device
    )  # anew for every cell: no method can change the next one's model
    folder = out / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(task, stack, folder / RUN_FOLDER, cell.seed, cell.variant.settings)
    outcome = run_method(cell.variant.method, job)
    predictions = {
        split: _predictions(task, split, outcome) for split in task.splits if split in outcome.predictions
    }
    content = {
        "cell": cell.to_dict(),
        "kind": task.kind,
        "metric_names": list(task.metrics),
        "metrics": {
            split: report(
                task, rows.targets, rows.predictions, scores=outcome.scores.get(split), seed=cell.seed
            )
            for split, rows in predictions.items()
        },
        "trainable_parameters": outcome.trainable_parameters,
        "seconds": round(outcome.seconds, 3),
        "history": list(outcome.history),
        "utterances": {split: len(task.splits[split]) for split in task.splits},
        "labels": list(task.labels),
        **about(stack, command),
    }
    write_result(folder, content, predictions)


@lru_cache(maxsize=8)
def open_task(name: str, data: str | None) -> Task:
    """The task, read once per process."""
    return get_task(name, data)


def about(stack: Stack, command: str) -> dict[str, Any]:
    """Where a figure comes from: units, command, date, versions, kind of machine."""
    device = torch.device(stack.device)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "stack": stack.name,
        "spec": stack.spec.to_dict(),
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": library_versions(),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "device": kind or stack.device,
            "threads": torch.get_num_threads(),
        },
    }


def _predictions(task: Task, split: str, outcome: Outcome) -> Predictions:
    utterances, scores = task.utterances(split), outcome.scores.get(split)
    two_labels = scores is not None and scores.ndim == 2 and scores.shape == (len(utterances), 2)
    return Predictions(
        [utterance.id for utterance in utterances],
        [utterance.target for utterance in utterances],
        outcome.predictions[split],
        scores if two_labels else None,
    )
