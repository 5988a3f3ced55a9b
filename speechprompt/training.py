"""From a task and a stack to a run: quantize, build the prompt, train, keep the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechprompt.batch import LabelledUnits
from speechprompt.checkpoint import begin_run, require_free
from speechprompt.classifier import build_classifier, label_objective
from speechprompt.lm.base import UnitLM
from speechprompt.prompt_config import PromptConfig
from speechprompt.read_rows import unit_numbers
from speechprompt.run import Run
from speechprompt.run_record import RunRecord, read_record
from speechprompt.sequence.objective import SequenceObjective
from speechprompt.sequence.training import prepare_sequence
from speechprompt.slots.prompted import slots_of
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.task_units import labelled_units, one_process_first, views_of
from speechprompt.train_config import TrainConfig
from speechprompt.train_prompt import LabelObjective
from speechprompt.trainer import train_module
from speechprompt.views import View
from tasks.base import Task
from tasks.registry import get_task


def train(
    task: Task | str,
    stack: Stack | str | Path = "mini",
    out: str | Path = "run",
    *,
    data: str | Path | None = None,
    prompt: str = "deep",
    prompt_length: int = 5,
    verbalizer: str = "learnable",
    read: str = "hidden",
    seed: int | None = None,
    config: TrainConfig | None = None,
    prompt_config: PromptConfig | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Run:
    """Train a prompt for a task on a frozen unit LM, or continue where such a training was interrupted.

    task: a Task, or the name of one, whose data lies in `data`. stack: a Stack, or its name or folder.
    out: the run folder to make; an unfinished run of the same settings is continued to the bit.
    prompt, prompt_length, verbalizer, read: see PromptConfig, which `prompt_config` gives in full instead; with
    read="logits" SpeechPrompt v2's own code can use the exported prompt.
    seed: replaces the seeds of `config` and `prompt_config`; None keeps them (0 by default).
    config: everything else about training. device: where a stack given by name is put. progress: bars on a terminal.

    Returns: the finished run, with the best epoch's weights.
    Raises: RunExistsError: `out` holds anything but an unfinished run of these settings; AudioError: recordings that
    cannot be used; LabelError, ManifestError: data that cannot be used; RunError: training diverged.
    """
    require_free(out)
    config = config or TrainConfig()
    trained = prompt_config or PromptConfig(
        kind=prompt, length=prompt_length, verbalizer=verbalizer, read=read
    )
    if seed is not None:
        config, trained = replace(config, seed=seed), replace(trained, seed=seed)
    data_root = None if data is None else str(Path(data).resolve())
    if isinstance(task, str):
        task = get_task(task, data)
    elif task.root is not None:
        data_root = str(task.root.resolve())
    if not isinstance(stack, Stack):
        stack = load_stack(stack, device)
    prepared = prepare(task, stack, stack.lm, trained, config, progress=progress)
    record = new_record(task, stack, prepared, trained.to_dict(), config, data=data_root)
    with one_process_first(stack):  # the others then find the run begun
        begin_run(out, record)
    train_module(prepared.objective, config, out, progress=progress)
    return Run(Path(out), read_record(out), stack, prepared.objective.module)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model before training.

    objective: the model, its rows, and what it is trained for. outputs: the fields of RunRecord that say what the
    model of a sequence task can say; empty for a classifier, whose task's labels say it.
    """

    objective: LabelObjective | SequenceObjective
    outputs: Mapping[str, Any] = field(default_factory=dict)


def prepare(
    task: Task,
    stack: Stack,
    lm: UnitLM,
    trained: PromptConfig,
    config: TrainConfig,
    *,
    progress: bool = False,
) -> Prepared:
    """Quantize a task's recordings and build the model that fits it, a classifier or one that says symbols.

    lm: the stack's, or a copy of it. Raises: AudioError: recordings that cannot be used; InputError: a task or options
    that do not fit.
    """
    if task.kind == "sequence":
        with one_process_first(stack):  # the others then find the units in the cache
            objective, inventory, longest = prepare_sequence(
                task, stack, lm, trained, config, views=training_views(task, config), progress=progress
            )
        said = {"symbols": inventory.symbols, "tokens": inventory.tokens, "longest_target": longest}
        return Prepared(objective, said)
    if trained.slots != "joint":
        slots_of(lm, task.labels, trained)  # raises before any work is done
    train_rows, valid_rows = classification_rows(
        task, stack, config, n_offsets=trained.n_offsets, progress=progress
    )
    counts = unit_counts(train_rows, stack.spec.n_units)
    n_views = len(views_of(task.utterances("valid"), trained.n_offsets))
    prompted = build_classifier(lm, task.labels, trained, unit_counts=counts)
    return Prepared(label_objective(prompted, train_rows, valid_rows, config, n_views))


def classification_rows(
    task: Task,
    stack: Stack,
    config: TrainConfig,
    *,
    n_offsets: int = 1,
    prosody: bool = True,
    progress: bool = False,
) -> tuple[list[LabelledUnits], list[LabelledUnits]]:
    """Training rows in all views that `config` asks for, and validation rows at `n_offsets` places of the frame grid.

    Rows that are given as units have one view only: they are not repeated. prosody: as of `labelled_units`, which also
    tells what is raised.
    """
    views, heard = training_views(task, config), views_of(task.utterances("valid"), n_offsets)
    with one_process_first(stack):  # the others then find the units in the cache
        train_rows = labelled_units(task, "train", stack, views=views, prosody=prosody, progress=progress)
        valid_rows = labelled_units(task, "valid", stack, views=heard, prosody=prosody, progress=progress)
    return train_rows, valid_rows


def unit_counts(rows: Sequence[LabelledUnits], n_units: int) -> np.ndarray:
    """How often each unit occurs in the rows: (n_units,) int64."""
    return np.bincount(np.concatenate([unit_numbers(row.units) for row in rows]), minlength=n_units)


def new_record(
    task: Task,
    stack: Stack,
    prepared: Prepared,
    settings: Mapping[str, Any],
    config: TrainConfig,
    *,
    data: str | None = None,
    method: str = "prompt",
) -> RunRecord:
    """The record of a run that is about to begin. settings: the fields of PromptConfig, and what else is trained."""
    return RunRecord(
        task=task.name,
        data=data,
        labels=task.labels,
        stack=stack.source,
        spec=stack.spec,
        lm_fingerprint=stack.lm_fingerprint,
        prompt=settings,
        training=config.to_dict(),
        trainable_parameters=prepared.objective.module.n_trainable,
        frozen_parameters=prepared.objective.module.n_frozen,
        method=method,
        **prepared.outputs,
    )


def training_views(task: Task, config: TrainConfig) -> tuple[View, ...]:
    """The views in which training recordings are quantized."""
    return views_of(task.utterances("train"), config.offset_perturbation, config.speed_perturbation)
