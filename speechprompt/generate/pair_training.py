"""What every task of a prompted encoder-decoder shares: a prompt trained on pairs of unit rows, and its run opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechprompt.checkpoint import begin_run, load_prompt, require_free
from speechprompt.run_record import RunError, RunRecord, read_record
from speechprompt.seq2seq.batch import Pair
from speechprompt.seq2seq.config import Seq2SeqPromptConfig
from speechprompt.seq2seq.objective import PairObjective
from speechprompt.seq2seq.prompted import PromptedMBart, build_prompted, restore_prompted
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.steered import Steered
from speechprompt.task_units import one_process_first
from speechprompt.train_config import TrainConfig
from speechprompt.trainer import train_module
from tasks.base import Task

TRAINING = TrainConfig(
    lr=1e-2,
    warmup_steps=20,
    max_epochs=20,
    patience=6,
    average_epochs=1,
    label_smoothing=0.0,
    unit_dropout=0.0,
    speed_perturbation=(),
)
# Training pairs, in one or several versions of the split, and validation pairs.
Pairs = tuple[Sequence[Sequence[Pair]], Sequence[Pair]]


def train_on_pairs(
    task: Task,
    stack: Stack,
    out: str | Path,
    make: Callable[[PromptedMBart], Pairs],
    *,
    generation: Mapping[str, Any],
    prompt: Seq2SeqPromptConfig,
    training: TrainConfig,
    marked_weight: float = 1.0,
    progress: bool = False,
) -> PromptedMBart:
    """Train a prompt, or continue where that was interrupted.

    make: gives the pairs; called by one process before the others. generation: the task's settings, for run.json.
    marked_weight: see PairObjective. Other arguments and errors as `train_inpainting`.
    Returns: the model with the best epoch's weights; the run is finished.
    """
    require_free(out)
    prompted = build_prompted(stack.seq2seq, prompt)
    with one_process_first(stack):  # the others then find the units in the cache
        copies, valid = make(prompted)
    objective = PairObjective(prompted, copies, valid, training, marked_weight=marked_weight)
    record = generation_record(
        task,
        stack,
        prompted,
        lm_fingerprint=stack.seq2seq.fingerprint(),
        prompt=prompt.to_dict(),
        generation=generation,
        training=training,
        method="finetune" if prompt.finetune else "prompt",
    )
    with one_process_first(stack):  # the others then find the run begun
        begin_run(out, record)
    train_module(objective, training, out, progress=progress)
    return prompted


def open_pair_run(
    folder: str | Path,
    setting: str,
    task: str,
    *,
    stack: Stack | str | Path | None = None,
    device: str = "cpu",
) -> tuple[RunRecord, Stack, PromptedMBart]:
    """A run's record, its stack, and the model with its weights, in evaluation mode.

    setting: one that `generation` has in runs of this kind alone. task: its name, for the message. stack: None for the
    one the run names. Raises: RunError for another run, or a stack with another encoder-decoder.
    """
    folder = Path(folder)
    record = read_record(folder)
    if setting not in record.generation:
        raise RunError(
            f"{folder}: expected a run of the task {task}, got one of {record.task}; give another, or train one"
        )
    if not isinstance(stack, Stack):
        stack = load_stack(record.stack if stack is None else stack, device)
    record.spec.require_equal(stack.spec, f"run {folder}", f"stack {stack.name}")
    fingerprint = stack.seq2seq.fingerprint()
    if fingerprint != record.lm_fingerprint:
        raise RunError(
            f"{folder}: expected the encoder-decoder {record.lm_fingerprint[:12]} it was trained on, got "
            f"{fingerprint[:12]} in stack {stack.name}; use the stack it was trained with"
        )
    config = Seq2SeqPromptConfig(**record.prompt)
    return record, stack, restore_prompted(stack.seq2seq, config, load_prompt(folder, fingerprint))


def generation_record(
    task: Task,
    stack: Stack,
    model: Steered,
    *,
    lm_fingerprint: str,
    prompt: Mapping[str, Any],
    generation: Mapping[str, Any],
    training: TrainConfig,
    method: str = "prompt",
) -> RunRecord:
    """What `run.json` says of a model that writes units. prompt, generation: settings, as plain values."""
    return RunRecord(
        task=task.name,
        data=None if task.root is None else str(task.root.resolve()),
        labels=(),
        stack=stack.source,
        spec=stack.spec,
        lm_fingerprint=lm_fingerprint,
        prompt=dict(prompt),
        training=training.to_dict(),
        trainable_parameters=model.n_trainable,
        frozen_parameters=model.n_frozen,
        method=method,
        generation=dict(generation),
    )
