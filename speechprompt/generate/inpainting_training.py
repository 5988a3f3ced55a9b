"""From recordings and a stack to a run of inpainting: damage, quantize, train, keep the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechprompt.checkpoint import require_free
from speechprompt.generate.damaged import Damaged, damaged_units
from speechprompt.generate.inpainter import InpaintingConfig
from speechprompt.generate.inpainting_run import TASK, InpaintingRun, load_inpainting_run, reading_of
from speechprompt.generate.pair_training import TRAINING, Pairs, train_on_pairs
from speechprompt.run_record import is_finished, read_record
from speechprompt.seq2seq.batch import Pair
from speechprompt.seq2seq.config import Seq2SeqPromptConfig
from speechprompt.seq2seq.prompted import PromptedMBart
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.train_config import TrainConfig
from tasks.base import Task
from tasks.registry import get_task

FINETUNE_LR = 3e-4  # below what trains such a model from nothing: the prompts' would destroy it
HELD_OUT_VERSION = 1_000_000  # of the damage of what is not trained on: never one of training's


def train_inpainting(
    task: Task | str = TASK,
    stack: Stack | str | Path = "mini",
    out: str | Path = "run",
    *,
    data: str | Path | None = None,
    prompt: Seq2SeqPromptConfig | None = None,
    config: InpaintingConfig | None = None,
    training: TrainConfig | None = None,
    seed: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> InpaintingRun:
    """Train a prompt to write clean units from a damaged recording's, or continue where that was interrupted.

    task: of kind "generation", or the name of one, whose recordings lie in `data`. stack: with a unit mBART.
    out: the run folder to make; an unfinished run of the same settings is continued to the bit.
    prompt, config, training: None for their defaults and `TRAINING`.
    seed: replaces the seeds of prompt and training (not that of the damage, see CorruptionConfig).
    Returns: the finished run, with the best epoch's weights. Raises: as `training.train`.
    """
    require_free(out)
    prompt, config = prompt or Seq2SeqPromptConfig(), config or InpaintingConfig()
    training = training or TRAINING
    if seed is not None:
        prompt, training = replace(prompt, seed=seed), replace(training, seed=seed)
    task = get_task(task, data) if isinstance(task, str) else task
    stack = stack if isinstance(stack, Stack) else load_stack(stack, device)
    prompted = train_on_pairs(
        task,
        stack,
        out,
        lambda model: _pairs(task, model, stack, config, progress),
        generation=config.to_dict(),
        prompt=prompt,
        training=training,
        marked_weight=config.gap_weight,
        progress=progress,
    )
    return InpaintingRun(Path(out), read_record(out), stack, prompted, config)


def finetune_as(
    run: InpaintingRun,
    out: str | Path,
    *,
    data: str | Path | None = None,
    lr: float = FINETUNE_LR,
    progress: bool = False,
) -> InpaintingRun:
    """Train every weight of a copy of the language model, without a prompt, for what `run`'s prompt was trained for.

    Same recordings, gaps, seed and settings, but for the learning rate. out: the run folder; a finished one is opened,
    an unfinished one continued. data: where the recordings have moved. Raises: as `train_inpainting`.
    """
    if is_finished(out):
        return load_inpainting_run(out, stack=run.stack)
    config = Seq2SeqPromptConfig(**run.record.prompt)
    return train_inpainting(
        get_task(run.record.task, data if data is not None else run.record.data),
        run.stack,
        out,
        prompt=replace(config, kind="none", length=0, cross_attention=False, finetune=True),
        config=run.config,
        training=replace(TrainConfig.from_dict(dict(run.record.training)), lr=lr),
        progress=progress,
    )


def _pairs(
    task: Task, prompted: PromptedMBart, stack: Stack, config: InpaintingConfig, progress: bool
) -> Pairs:
    """Training pairs, in every version of their damage, and validation pairs."""
    copies = [
        pairs_of(damaged(task, "train", stack, config, version, progress=progress), prompted, stack, config)
        for version in range(config.versions)
    ]
    return copies, pairs_of(damaged(task, "valid", stack, config, progress=progress), prompted, stack, config)


def damaged(
    task: Task,
    split: str,
    stack: Stack,
    config: InpaintingConfig,
    version: int = HELD_OUT_VERSION,
    *,
    progress: bool = False,
) -> list[Damaged]:
    """A split's recordings with their gaps; without a version those of evaluation, the same in every call."""
    return damaged_units(task.utterances(split), stack, config.corruption, version=version, progress=progress)


def pairs_of(
    rows: Sequence[Damaged], prompted: PromptedMBart, stack: Stack, config: InpaintingConfig
) -> list[Pair]:
    """What is read of each recording and what is to be written."""
    reading = reading_of(stack, prompted, config)
    return [reading.pair(row) for row in rows]
