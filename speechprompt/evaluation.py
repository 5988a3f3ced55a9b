"""What a trained prompt says: metrics of a split, and labels or texts of audio files.

Shapes: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechprompt.batch import BucketedBatches, LabelledUnits
from speechprompt.label_logits import label_logits
from speechprompt.run import Run, load_run
from speechprompt.run_record import record_metrics
from speechprompt.sequence.answers import inventory_of_run, say
from speechprompt.sequence.decoding import DecodingConfig
from speechprompt.stack import Audio
from speechprompt.task_units import quantize_utterances, rows_as_read, views_of
from speechprompt.views import mean_over_views, offset_views
from tasks.base import LabelError, Task
from tasks.registry import get_task
from units.errors import InputError

_BATCH_TOKENS = 8192
_NOT_RECORDED = ("labels", "confusion")  # long, and to be had again


@dataclass(frozen=True)
class Prediction:
    """What a prompt takes an utterance for.

    path: the audio file, None where a wave was given. label: the most probable one; of a sequence task the text.
    probability: of `label`, in (0, 1], among the run's labels; of a text the geometric mean of its symbols'. top: the
    three most probable labels with their probabilities; the texts of a beam, best first.
    """

    path: Path | None
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]


def evaluate(
    run: Run | str | Path,
    split: str = "test",
    *,
    task: Task | None = None,
    data: str | Path | None = None,
    decoding: DecodingConfig | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a run on a split of its task, and note the metrics in its `run.json`.

    run: a Run or its folder. task: None for the task the run names, whose data lies in `data`, or, for None, where it
    lay in training. decoding: how a sequence task's symbols are chosen; None for greedily. device: where a run given by
    its folder is loaded. progress: bars on a terminal.

    Returns: every metric of the task with its interval, and n (see `tasks.metrics.report`); of a classification task
    also accuracy, macro_f1, interval_95, labels, confusion; of a sequence task unknown_symbols, how many symbols of the
    targets no training text holds, so that none can be right.
    Raises: RunError, StackError: see `load_run`; InputError: an unknown split, or a task of another kind; LabelError:
    data with other labels than the run's; AudioError: recordings that cannot be used.
    """
    # Here: its libraries take two seconds to import, and who predicts needs none of them.
    from tasks.metrics import report

    run = open_run(run, device)
    if task is None:
        task = get_task(run.record.task, data if data is not None else run.record.data)
    _require_same_outputs(run, task)
    utterances = task.utterances(split)
    targets = [utterance.target for utterance in utterances]
    if run.record.symbols:
        units = quantize_utterances(utterances, run.stack, progress=progress)
        texts = [said[0].text for said in say(run, units, decoding)]
        measured = report(task, targets, texts)
        measured["unknown_symbols"] = inventory_of_run(run, task.marks).n_unknown(targets)
    else:
        units_of_view = [
            rows_as_read(utterances, run.stack, view=view, progress=progress)
            for view in views_of(utterances, run.n_offsets)
        ]
        probability_NC = probabilities(run, units_of_view)
        predictions = [run.record.labels[i] for i in probability_NC.argmax(1).tolist()]
        measured = report(task, targets, predictions, scores=probability_NC.numpy())
    record_metrics(
        run.folder, split, {name: value for name, value in measured.items() if name not in _NOT_RECORDED}
    )
    return measured


def _require_same_outputs(run: Run, task: Task) -> None:
    """Raise LabelError or InputError where a task's targets are none that the run can give."""
    if (task.kind == "sequence") != bool(run.record.symbols):
        raise InputError(
            f"{task.root or task.name}: expected the kind of task that run {run.folder} was trained on, got one of "
            f"kind {task.kind}; give the data it was trained on"
        )
    if task.labels != run.record.labels and not run.record.symbols:
        odd = sorted(set(task.labels) ^ set(run.record.labels))
        raise LabelError(
            f"{task.root or task.name}: expected the {len(run.record.labels)} labels of run {run.folder}, got "
            f"{len(task.labels)}{f', {odd[0]!r} in only one of them' if odd else ' in another order'}; "
            "give the data it was trained on"
        )


def predict(
    run: Run | str | Path,
    audio: Audio | Sequence[Audio],
    *,
    decoding: DecodingConfig | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> list[Prediction]:
    """Label one or many audio files, or waves (n_samples,) float32 at the stack's sample rate, in order.

    decoding: how a sequence task's symbols are chosen; None for greedily. device, precision: see `load_stack`; of a run
    given by its folder.
    Raises: RunError, StackError: see `load_run`; AudioError: a recording that cannot be used.
    """
    run = open_run(run, device, precision)
    items: Sequence[Audio] = [audio] if isinstance(audio, str | Path | np.ndarray) else audio
    if not items:
        return []
    units_of_view = run.stack.units_in_views(
        items, offset_views(run.n_offsets), prosody=not run.record.symbols
    )
    tops = top_texts(run, units_of_view[0], decoding) if run.record.symbols else _labels(run, units_of_view)
    return [
        Prediction(None if isinstance(item, np.ndarray) else Path(item), *top[0], top)
        for item, top in zip(items, tops, strict=True)
    ]


def top_texts(
    run: Run, units: Sequence[np.ndarray], decoding: DecodingConfig | None = None
) -> list[tuple[tuple[str, float], ...]]:
    """The texts of a sequence task's run for rows of units, with their probabilities, best first; see `say`."""
    return [tuple((said.text, said.probability) for said in row) for row in say(run, units, decoding)]


def _labels(run: Run, units_of_view: Sequence[Sequence[np.ndarray]]) -> list[tuple[tuple[str, float], ...]]:
    probability_NC = probabilities(run, units_of_view)
    return [top_labels(run.record.labels, probability_C.numpy()) for probability_C in probability_NC]


def top_labels(labels: Sequence[str], probability_C: np.ndarray) -> tuple[tuple[str, float], ...]:
    """The three most probable labels (all, where there are fewer) with their probabilities, likeliest first."""
    values, indices = torch.from_numpy(probability_C).topk(min(3, len(labels)))
    return tuple((labels[i], p) for i, p in zip(indices.tolist(), values.tolist(), strict=True))


def probabilities(run: Run, units_of_view: Sequence[Sequence[np.ndarray]]) -> Tensor:
    """Give every label's probability for recordings: (N, C) float32, rows sum to 1.

    units_of_view: for every view the recordings' rows as the LM reads them; see `read_rows`, `mean_over_views`.
    """
    rows = [LabelledUnits(row) for units in units_of_view for row in units]
    prompted = run.prompted
    batches = BucketedBatches(
        rows, prompted.lm.vocab, batch_tokens=_BATCH_TOKENS, max_positions=prompted.max_tokens
    )
    return mean_over_views(label_logits(prompted, batches), len(units_of_view)).exp()


def open_run(run: Run | str | Path, device: str = "cpu", precision: str = "float32") -> Run:
    """Load a run given by its folder; a Run passes."""
    return run if isinstance(run, Run) else load_run(run, device=device, precision=precision)
