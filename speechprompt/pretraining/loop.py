"""The loop that trains a language model of any family, resumable to the bit on the CPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from speechprompt.batch import shuffled_plan
from speechprompt.pretraining.config import PretrainConfig, PretrainResult, flat_from
from speechprompt.pretraining.objective import Objective
from speechprompt.pretraining.progress import PretrainProgress
from speechprompt.pretraining.run import PretrainRun
from units.atomic import remove_torn_below
from units.errors import InputError


def pretrain(
    objective: Objective[Any, Any],
    out: str | Path,
    config: PretrainConfig | None = None,
    *,
    resume: bool = True,
    half: bool = False,
    progress: bool = False,
) -> PretrainResult:
    """Train a language model and save its folder (config.json, model.safetensors) and log.csv to `out`.

    The saved weights are those with the lowest deciding measure on the valid rows, or the last ones without valid
    rows. Killed at any time, the same call continues from the last check (every `check_every` steps), on the CPU to
    the same bits.

    Args:
        objective: rows, loss and measures of a family; made with the same config.
        out: folder, made where missing.
        config: PretrainConfig, None for its defaults.
        resume: continue from `out`/resume.pt if there; False starts again.
        half: store float16 weights.
        progress: show a bar, if standard error is a terminal.
    Raises: InputError for no rows, or a state of other settings.
    """
    config = config or PretrainConfig()
    out = Path(out)
    if not len(objective.lengths(0)):
        raise InputError(
            "language model: expected unit sequences to train on, got none; check the unit store"
        )
    out.mkdir(parents=True, exist_ok=True)
    remove_torn_below(out)
    torch.manual_seed(config.seed)
    run = PretrainRun(objective, objective.new_model(config.seed).to(config.device), config, out)
    if resume and run.state_file.is_file():
        run.load()
    with PretrainProgress(config, progress=progress) as bar:
        bar.update(run)
        _train(run, bar, half)
    measures = objective.measure(objective.load(out, config.device))
    return PretrainResult(
        run.step,
        run.seconds,
        measures["valid_perplexity"],
        objective.unigram_perplexity(),
        measures,
        flat_from(run.checks),
    )


def _train(run: PretrainRun, bar: PretrainProgress, half: bool) -> None:
    """Train until all steps are done or the time is up."""
    config, objective = run.config, run.objective
    losses: list[float] = []
    started = time.monotonic() - run.seconds
    while not run.finished():
        plan = shuffled_plan(objective.lengths(run.epoch), config.batch_tokens, (config.seed, run.epoch, 0))
        while run.index < len(plan) and not run.finished():
            losses.append(run.update(objective.batch(plan[run.index], run.epoch, run.index)))
            run.index += 1
            run.seconds = time.monotonic() - started
            if run.step % config.check_every == 0 or run.finished():
                run.check(losses, half=half)
                losses = []
            bar.update(run)
        if run.index >= len(plan):
            run.epoch, run.index = run.epoch + 1, 0
